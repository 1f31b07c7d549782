"""Named streams: the same seed and name draw the same, any other pair draws something else."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import advlens
from advlens.random import stream, stream_seed

LIB = Path(advlens.__file__).parent
NAME = re.compile(r"\bstream(?:_seed)?\(\s*[\w.]+,\s*f?\"([^\"]+)\"")


def code():
    return {path.relative_to(LIB).as_posix(): path.read_text() for path in LIB.rglob("*.py")}


def test_a_stream_is_the_same_in_another_process():
    ask = "from advlens.random import stream; print(stream(3, 'a/b').integers(2**62))"
    other = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout
    assert int(other) == stream(3, "a/b").integers(2**62)


def test_no_two_streams_of_the_package_are_equal():
    names = sorted(name for path, text in code().items() if path != "random.py" for name in NAME.findall(text))
    assert len(names) > 10
    assert len(set(names)) == len(names), "each name belongs to one call"
    drawn = [stream(seed, name).integers(2**62, size=2).tobytes() for seed in (0, 1, 11) for name in names]
    drawn += [np.random.default_rng(words).integers(2**62, size=2).tobytes() for words in (0, 1, 11, [0, 11], [1, 11])]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("draw", [stream_seed, lambda seed, name: tuple(stream(seed, name).permutation(40).tolist())])
def test_names_that_differ_little_draw_apart(draw):
    names = ["a", "b", "ab", "a/b", "a b", "A", "a ", "", "seed 1", "seed 11", "1", "11"]
    drawn = [draw(seed, name) for seed, name in itertools.product((0, 1, 2**32 - 1), names)]
    assert len(set(drawn)) == len(drawn)


def test_a_seed_that_is_none_is_named():
    with pytest.raises(ValueError, match="seed must be a whole number"):
        stream(None, "a")


def test_no_stream_of_the_package_has_a_number_for_a_name():
    assert not {path for path, text in code().items() if re.search(r"default_rng\(\s*\[", text)}


def test_a_run_s_seed_governs_through_names_alone():
    of_runs = {path: text for path, text in code().items() if path.startswith(("studies/", "workbench"))}
    assert not {path for path, text in of_runs.items() if re.search(r"default_rng\((self\.)?(bench\.)?seed\)", text)}
