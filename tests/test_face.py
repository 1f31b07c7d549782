"""The names that `import advlens` offers, and the examples in its docstrings."""

import doctest
import importlib
import subprocess
import sys

import pytest

import advlens

DOCTESTED = (
    *("advlens", "advlens.random", "advlens.classifier", "advlens.detectors.catalogue", "advlens.store.makers"),
    *("advlens.explanations.explain", "advlens.explanations.similarity"),
    *("advlens.metrics.estimates", "advlens.metrics.intervals", "advlens.metrics.verdicts"),
)


def test_names_are_listed_and_lead_to_their_stage():
    assert {"Classifier", "craft", "explain", "evaluate", "detectors", "attacks", "datasets"} <= set(dir(advlens))
    assert not [name for name in dir(advlens) if name.startswith("_") and name != "__version__"]
    assert advlens.Classifier.__module__ == "advlens.classifier"
    assert advlens.craft.__module__.startswith("advlens.attacks")
    assert "deep_knn" in advlens.detectors.names()
    assert "guided_backprop" in advlens.explain.methods()
    with pytest.raises(AttributeError, match="advlens has no 'nothing': its names are Classifier"):
        advlens.nothing  # noqa: B018


def test_importing_loads_no_stage_and_prints_nothing():
    script = "import sys, advlens; print([name for name in sys.modules if name.startswith('advlens.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


@pytest.mark.parametrize("name", DOCTESTED)
def test_examples_in_docstrings_are_right(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    assert found.attempted > 0
