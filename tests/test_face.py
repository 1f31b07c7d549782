"""The names that `import advlens` offers, the examples in its docstrings, and what it says that it needs."""

import ast
import doctest
import graphlib
import importlib
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import advlens

DOCTESTED = (
    *("advlens", "advlens.random", "advlens.classifier", "advlens.detectors.catalogue", "advlens.store.makers"),
    *("advlens.explanations.explain", "advlens.explanations.similarity"),
    *("advlens.metrics.estimates", "advlens.metrics.intervals", "advlens.metrics.verdicts"),
    *("advlens.paths", "advlens.folders", "advlens.benchmark.hard_negatives", "advlens.suite", "advlens.entries"),
)


def test_names_are_listed_and_lead_to_their_stage():
    assert {"Classifier", "craft", "explain", "evaluate", "detectors", "attacks", "datasets"} <= set(dir(advlens))
    assert not [name for name in dir(advlens) if name.startswith("_") and name != "__version__"]
    assert advlens.Classifier.__module__ == "advlens.classifier"
    assert advlens.craft.__module__.startswith("advlens.attacks")
    assert "deep_knn" in advlens.detectors.names()
    assert "guided_backprop" in advlens.explain.methods()
    modules = {path.stem for path in Path(advlens.__file__).parent.iterdir()}
    named = {name for name, (_, member) in advlens._NAMES.items() if member}
    assert not named & modules  # importing a module of that name would take the function's place
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


def test_what_the_package_imports_are_its_dependencies():
    imported = set()
    for path in Path(advlens.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    forbidden = {"innvestigate"}  # by its metadata, beside this TensorFlow
    imported -= {*sys.stdlib_module_names, "advlens", *forbidden}
    providers = importlib.metadata.packages_distributions()
    wanted = {re.sub(r"[-_.]+", "-", providers[name][0]).lower() for name in imported}
    said = {re.match(r"[\w.-]+", each).group().lower() for each in importlib.metadata.requires("advlens")}
    assert wanted <= said


def test_modules_import_each_other_one_way():
    lib = Path(advlens.__file__).parents[1]
    known = {".".join(path.relative_to(lib).with_suffix("").parts): path for path in lib.rglob("*.py")}
    known = {name.removesuffix(".__init__"): path for name, path in known.items()}
    graph = {}
    for name, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
            elif isinstance(node, ast.Import):
                found |= {each.name for each in node.names}
        # A package stands for its parts, which it takes names from; a part of it may not need the whole.
        graph[name] = {each for each in found if each in known and not name.startswith(f"{each}.")} - {name}
    assert len(graph) > 100
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle
