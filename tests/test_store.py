"""The artifact store: what is computed once, what makes a new key, and what a killed process leaves behind."""

import ast
import functools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import keras
import numpy as np
import pandas as pd
import pytest
from art.attacks.evasion import FastGradientMethod

from advlens import networks, store
from advlens.attacks import AttackSet
from advlens.attacks.deepfool import DeepFool
from advlens.store import Store, code_digest, digest
from advlens.training import Trained


def example_attack_set(shift: float = 0.25) -> AttackSet:
    clean = np.random.default_rng(0).random((3, 4, 4, 1), dtype=np.float32) / 2
    return AttackSet(
        attack="shift",
        parameters={"amount": shift},
        source=np.array([5, 7, 9]),
        clean=clean,
        noisy=clean,
        adversarial=clean + np.float32(shift),
        label=np.array([0, 1, 2]),
        target=np.array([3, 4, 5]),
        predicted=np.array([0, 2, 1]),
        success=np.array([False, True, True]),
        l2=np.full(3, 4 * shift, np.float32),
        linf=np.full(3, shift, np.float32),
    )


def made_by_package(make):
    """The function as if it stood in the package."""

    def two_conv_cnn(**parameters):
        return make(**parameters)

    two_conv_cnn.__module__, two_conv_cnn.__qualname__ = networks.__name__, "two_conv_cnn"
    return two_conv_cnn


@pytest.fixture
def counted(monkeypatch):
    """The number of times that `networks.two_conv_cnn` was really called."""
    calls = []
    original = networks.two_conv_cnn

    def make(**parameters):
        calls.append(parameters)
        return original(**parameters)

    monkeypatch.setattr(networks, "two_conv_cnn", made_by_package(make))
    return calls


def test_an_artifact_is_computed_once_and_read_back_equal(tmp_path, counted):
    first = Store(tmp_path).keep("network", networks.two_conv_cnn, num_classes=3)
    again = Store(tmp_path).keep("network", networks.two_conv_cnn, num_classes=3)
    assert len(counted) == 1
    assert digest(first) == digest(again)
    images = np.random.default_rng(0).random((2, 28, 28, 1), dtype=np.float32)
    np.testing.assert_array_equal(first.predict(images, verbose=0), again.predict(images, verbose=0))


def test_another_parameter_is_another_artifact(tmp_path, counted):
    kept = Store(tmp_path)
    three = kept.keep("network", networks.two_conv_cnn, num_classes=3)
    four = kept.keep("network", networks.two_conv_cnn, num_classes=4)
    assert (three.output_shape[1], four.output_shape[1], len(counted)) == (3, 4, 2)


@pytest.mark.parametrize("changed", ["code_digest", "_library_versions"])
def test_changed_code_or_libraries_make_a_new_artifact(tmp_path, counted, monkeypatch, changed):
    for version in ("a", "b", "b"):
        monkeypatch.setattr(store, changed, lambda *_, version=version: {"of": version})
        Store(tmp_path).keep("network", networks.two_conv_cnn, num_classes=3)
    assert len(counted) == 2


def test_weights_are_part_of_a_network_s_digest():
    network = networks.two_conv_cnn()
    weights, before = network.get_weights(), digest(network)
    network.set_weights([2 * weight for weight in weights])
    assert digest(network) != before
    network.set_weights(weights)
    assert digest(network) == before


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="an artifact's name must be letters"):
        Store(tmp_path).keep(name, networks.two_conv_cnn)


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "another record", "unknown kind", "file"])
def test_a_damaged_artifact_is_reported_and_computed_again(tmp_path, counted, damage):
    kept = Store(tmp_path)
    kept.keep("network", networks.two_conv_cnn, num_classes=3)
    (file,) = tmp_path.glob("network-*/value.keras")
    content = file.read_bytes()
    record = file.with_name("artifact.json")
    if damage == "delete":
        file.unlink()
    elif damage == "another record":
        record.write_text("[]")
    elif damage == "unknown kind":
        record.write_text(record.read_text().replace('"kind": "value"', '"kind": "no.such.Class"'))
    elif damage == "file":
        shutil.rmtree(file.parent)
        file.parent.write_text("in the way")
    else:
        file.write_bytes(content[:-9] if damage == "truncate" else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match=r"the artifact network-\w+ .*computing it again"):
        kept.keep("network", networks.two_conv_cnn, num_classes=3)
    assert len(counted) == 2


def test_a_failing_computation_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        Store(tmp_path).keep("network", networks.two_conv_cnn, no_such_parameter=1)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_artifact_and_the_next_one_cleans_up(tmp_path):
    script = f"""
        import os, signal
        from advlens import networks, store
        original = store._write_synced
        store._write_synced = lambda *_: os.kill(os.getpid(), signal.SIGKILL)   # just before artifact.json
        store.Store({str(tmp_path)!r}).keep("network", networks.two_conv_cnn, num_classes=3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name.startswith(".partial-") for path in tmp_path.iterdir()] == [True]
    Store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_live_processes_folders_are_left_alone(tmp_path):
    (tmp_path / f".partial-{os.getpid()}-network-0").mkdir()
    Store(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_attack_sets_and_histories_survive_exactly(tmp_path):
    made = example_attack_set()
    store._write_parts(tmp_path, made)
    parts = {path.stem: store._read_part(path) for path in tmp_path.iterdir()}
    assert digest(AttackSet.from_parts(parts)) == digest(made)
    history = pd.DataFrame({"epoch": [1, 2], "loss": np.array([1 / 3, 2e-17])})
    trained = Trained(networks.two_conv_cnn(), history)
    folder = tmp_path / "trained"
    folder.mkdir()
    store._write_parts(folder, trained)
    pd.testing.assert_frame_equal(store._read_part(folder / "history.csv"), history, check_exact=True)


FRAMES = {
    "small floats": pd.DataFrame({"a": np.ones(2, np.float32)}),
    "digits as text": pd.DataFrame({"a": ["01", "02"]}),
    "empty text": pd.DataFrame({"a": ["", "x"]}),
    "no columns": pd.DataFrame(),
}


@pytest.mark.parametrize(
    "value",
    [{1: "a"}, [(1, 2)], {"objects": np.array([None])}, *FRAMES.values()],
    ids=["integer key", "tuple", "objects", *FRAMES],
)
def test_what_would_come_back_changed_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.setattr(networks, "two_conv_cnn", made_by_package(lambda: value))
    with pytest.raises(TypeError, match="can't be stored"):
        Store(tmp_path).keep("value", networks.two_conv_cnn)
    assert list(tmp_path.iterdir()) == []


def test_a_table_comes_back_as_it_was(tmp_path, monkeypatch):
    table = pd.DataFrame({"x": [0.1 + 0.2, np.nan], "n": [1, 2], "ok": [True, False], "name": ["a", "b"]})
    monkeypatch.setattr(networks, "two_conv_cnn", made_by_package(lambda: table))
    pd.testing.assert_frame_equal(Store(tmp_path).keep("table", networks.two_conv_cnn), table, check_exact=True)


def test_code_that_the_key_would_not_see_is_refused(tmp_path):
    for make in (example_attack_set, lambda: 1, functools.partial(networks.two_conv_cnn)):
        with pytest.raises(TypeError, match="a function or class of the package advlens"):
            Store(tmp_path).keep("value", make)


def test_the_key_follows_content_not_identity():
    assert digest(example_attack_set()) == digest(example_attack_set())
    assert digest(example_attack_set()) != digest(example_attack_set(shift=0.125))
    assert digest(np.arange(4)) != digest(np.arange(4).reshape(2, 2))
    assert digest(np.arange(4)) != digest(np.arange(4.0))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([[1], 2]) != digest([1, [2]])
    assert digest(1) != digest(True)
    with pytest.raises(TypeError, match="cannot be part of an artifact's key"):
        digest(open)


def test_a_class_s_key_is_its_code_here_and_its_name_in_a_library(monkeypatch):
    classes = (DeepFool, FastGradientMethod, networks.two_conv_cnn)
    before = [digest(one) for one in classes]
    assert len(set(before)) == 3
    monkeypatch.setattr(store, "code_digest", lambda module: "changed")
    after = [digest(one) for one in classes]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False]
    with pytest.raises(TypeError, match="a function or class of the package advlens"):
        digest(example_attack_set)


def test_a_network_has_one_digest_before_and_after_the_disk(tmp_path):
    keras.utils.set_random_seed(0)
    network = networks.slide_detector_cnn()
    network.save(tmp_path / "network.keras")
    assert digest(keras.models.load_model(tmp_path / "network.keras", compile=False)) == digest(network)


def test_the_code_digest_sees_code_but_not_comments(tmp_path, monkeypatch):
    file = tmp_path / "made_up.py"
    monkeypatch.setattr(store, "_source_file", lambda name: str(file) if name == "advlens.made_up" else None)
    monkeypatch.setattr(store, "_parsed", store._parsed.__wrapped__)

    def digest_of(text: str) -> str:
        file.write_text(text)
        return code_digest.__wrapped__("advlens.made_up")

    base = digest_of('"""About."""\n\ndef f(x):\n    """Doc."""\n    return x + 1\n')
    assert digest_of('"""Other."""\ndef f(x):\n    # why\n    return x+1\n') == base
    assert digest_of("def f(x):\n    return x - 1\n") != base


def test_the_code_digest_covers_what_a_module_imports():
    closure = store._closure("advlens.attacks.catalogue")
    assert {"advlens.attacks.catalogue", "advlens.attacks.lbfgs", "advlens.classifier"} <= closure
    assert {"advlens.explanations.worker", "advlens.explanations.rebuild"} <= store._closure("advlens.explanations")


def test_a_name_that_a_package_passes_on_brings_its_own_module_and_no_sibling():
    (found,) = store.imported_modules(ast.parse("from advlens.attacks import AttackSet"))
    assert found == "advlens.attacks.attack_set"
    (found,) = store.imported_modules(ast.parse("from advlens.attacks import noise"))
    assert found == "advlens.attacks.noise"
    closure = store._closure("advlens.attacks.crafting")
    assert "advlens.attacks.noise" in closure
    assert not closure & {"advlens.attacks", "advlens.attacks.catalogue", "advlens.attacks.deepfool"}


def test_how_long_an_artifact_took_is_known_once_it_is_stored(tmp_path):
    kept = Store(tmp_path)
    with pytest.raises(KeyError, match="network is not stored with these parameters"):
        kept.seconds("network", networks.two_conv_cnn, num_classes=3)
    started = time.perf_counter()
    kept.keep("network", networks.two_conv_cnn, num_classes=3)
    assert 0 <= kept.seconds("network", networks.two_conv_cnn, num_classes=3) <= time.perf_counter() - started + 0.01
    with pytest.raises(KeyError):
        kept.seconds("network", networks.two_conv_cnn, num_classes=4)
