"""The artifact store: what is computed once, what makes a new key, and what faults of machines and files leave."""

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from art.attacks.evasion import FastGradientMethod
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import advlens
from advlens import networks
from advlens.attacks import AttackSet
from advlens.attacks.deepfool import DeepFool
from advlens.store import Store, artifact, digest, makers
from advlens.store import store as store_module
from advlens.store.files import RECORD
from advlens.store.store import PARTIAL, READS, collect_garbage, explain_artifacts, list_artifacts
from advlens.training import Trained

MAKER = """
import os
from pathlib import Path
import numpy as np
import pandas as pd
from advlens.store import artifact, storable, versioned

CALLS = Path(os.environ["CALLS"])

@artifact(version=1)
def make(**parameters):
    with CALLS.open("a") as calls:
        calls.write("x")
    return {"value": np.full(3, parameters.get("x", 0) + 1)}
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Where `MAKER` counts its calls."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return lambda: len((tmp_path / "calls").read_text()) if (tmp_path / "calls").exists() else 0


@pytest.fixture
def package(tmp_path, monkeypatch, calls):
    """Writes and loads a module as if it stood in the package."""

    def load(source: str, name: str = "made_up"):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(f"advlens.{name}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def kept(tmp_path) -> Store:
    return Store(tmp_path / "artifacts")


def folder_of(kept: Store, name: str = "value") -> Path:
    (found,) = kept.folder.glob(f"{name}-*")
    return found


def edit_record(folder: Path, **changes) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(record | changes))


# ---------------------------------------------------------------- what makes a new key


def test_an_artifact_is_computed_once_and_read_back_equal(kept, package, calls):
    make = package(MAKER).make
    first, again = kept.keep("value", make, x=1), kept.keep("value", make, x=1)
    np.testing.assert_array_equal(first["value"], again["value"])
    assert (first["value"].tolist(), calls()) == ([2, 2, 2], 1)
    assert kept.keep("value", make, x=2)["value"].tolist() == [3, 3, 3]
    assert calls() == 2


def test_a_new_version_is_computed_again_and_new_code_under_the_old_one_is_not(kept, package, calls):
    kept.keep("value", package(MAKER).make, x=1)
    edited = MAKER.replace("+ 1)", "+ 5)")
    assert kept.keep("value", package(edited).make, x=1)["value"][0] == 2
    bumped = edited.replace("version=1", "version=2")
    assert kept.keep("value", package(bumped).make, x=1)["value"][0] == 6
    assert calls() == 2


LENS = """
import numpy as np
import pandas as pd
from advlens.lenses import Lens

def bright(images):
    return np.mean(images, axis=(1, 2, 3))

class Brightness(Lens):
    name, family, columns = "brightness", "image", ("bright",)

    def measure(self, images):
        return pd.DataFrame({"bright": bright(images)})

    def to_parts(self):
        return {}
"""


@pytest.fixture
def ipython(monkeypatch, tmp_path):
    """Runs cells as a notebook does."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell puts its own there
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))

    def run(cell: str, **names):
        shell.push(names)
        done = shell.run_cell(cell)
        done.raise_error()
        return done.result

    yield run
    run("%autoreload 0")


def test_under_autoreload_edits_are_seen_and_the_store_s_after_a_new_version(
    kept, package, calls, ipython, tmp_path, monkeypatch
):
    monkeypatch.setattr(advlens, "__path__", [*advlens.__path__, str(tmp_path)])
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_lens.py").write_text(LENS)
    package(MAKER)
    ipython("%load_ext autoreload\n%autoreload 2", kept=kept, np=np)
    ipython("from advlens.detectors import Detector, Sign\nfrom advlens.made_up import make")
    ipython("from my_lens import Brightness, bright\nmine = Detector(Brightness(), Sign('bright', 1), name='bright')")
    ask = "images = np.full((1, 4, 4, 1), 0.5)\nimages[0, 0, 0] = 1\n"
    ask += "[*mine.scores(images), *bright(images), kept.keep('value', make, x=1)['value'][0]]"
    assert ipython(ask) == [0.53125, 0.53125, 2]
    time_of_edit = time.time()
    for lens, maker, expected in (
        (LENS.replace("mean", "max"), MAKER.replace("+ 1)", "+ 5)"), [1, 1, 2]),
        (LENS.replace("mean", "min"), MAKER.replace("+ 1)", "+ 5)").replace("version=1", "version=2"), [0.5, 0.5, 6]),
    ):
        time_of_edit += 10  # file systems and compiled files know seconds
        for name, code in (("my_lens", lens), ("made_up", maker)):
            (tmp_path / f"{name}.py").write_text(code)
            os.utime(tmp_path / f"{name}.py", (time_of_edit, time_of_edit))
        assert ipython(ask) == expected
    assert calls() == 2


def test_code_edited_after_its_import_is_never_stored_under_the_new_version(kept, package, calls, tmp_path):
    make = package(MAKER).make
    changed = MAKER.replace("+ 1)", "+ 5)").replace("version=1", "version=2")
    (tmp_path / "made_up.py").write_text(changed)
    assert kept.keep("value", make, x=1)["value"][0] == 2  # what is loaded, as version 1
    assert kept.keep("value", package(changed).make, x=1)["value"][0] == 6  # a fresh process gets the new value
    assert calls() == 2


@pytest.mark.parametrize(("edited", "known"), [(0, True), (60, False)])
def test_a_record_does_not_pass_off_a_later_edit_as_the_code_that_ran(
    kept, package, tmp_path, monkeypatch, edited, known
):
    make, now = package(MAKER).make, time.time()
    monkeypatch.setattr(store_module, "_LOADED", now)
    os.utime(tmp_path / "made_up.py", (now + edited,) * 2)
    kept.keep("value", make, x=1)
    code = json.loads((folder_of(kept) / RECORD).read_text())["code"]
    assert (code == makers.fingerprint(make)) is known
    assert code.startswith("unknown") is not known


def test_a_changed_formula_recomputes_what_depends_on_it_and_equal_content_nothing(kept, package, calls):
    first = package(MAKER, "first").make
    second = package(MAKER.replace('parameters.get("x", 0) + 1', 'parameters["x"]["value"][0]'), "second").make
    kept.keep("second", second, x=kept.keep("first", first, x=1))
    assert calls() == 2
    same = package(MAKER.replace("version=1", "version=2"), "first").make  # recomputed, and equal
    kept.keep("second", second, x=kept.keep("first", same, x=1))
    assert calls() == 3
    other = package(MAKER.replace("version=1", "version=3").replace("+ 1)", "+ 7)"), "first").make
    assert kept.keep("second", second, x=kept.keep("first", other, x=1))["value"][0] == 8
    assert calls() == 5


def test_mappings_keep_their_order_and_keyword_arguments_have_none(kept, package, calls):
    make = package(MAKER).make
    assert digest({"a": 1, "b": 2}) != digest({"b": 2, "a": 1})
    kept.keep("value", make, x=1, y=2)
    kept.keep("value", make, y=2, x=1)
    assert calls() == 1


def test_the_key_follows_content_not_identity():
    assert digest(np.arange(4)) == digest(np.arange(4))
    assert digest(np.arange(4)) != digest(np.arange(4).reshape(2, 2))
    assert digest(np.arange(4)) != digest(np.arange(4.0))
    assert digest([[1], 2]) != digest([1, [2]])
    assert digest(1) != digest(True)
    assert digest(pd.DataFrame({"a": [1]})) != digest(pd.DataFrame({"a": [1]}, dtype="int32"))
    with pytest.raises(TypeError, match="cannot be part of an artifact's key"):
        digest(open)


def test_a_network_s_weights_are_part_of_its_digest_and_the_disk_changes_none(tmp_path):
    network = networks.slide_detector_cnn()
    before = digest(network)
    network.save(tmp_path / "network.keras")
    assert digest(keras.models.load_model(tmp_path / "network.keras", compile=False)) == before
    network.set_weights([2 * weight for weight in network.get_weights()])
    assert digest(network) != before


def test_classes_passed_in_count_by_their_version_and_libraries_by_theirs(package, monkeypatch):
    before = [digest(one) for one in (DeepFool, FastGradientMethod, networks.two_conv_cnn)]
    assert len(set(before)) == 3
    monkeypatch.setattr(DeepFool, makers.VERSION, 99)
    assert digest(DeepFool) != before[0]
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    assert digest(FastGradientMethod) != before[1]
    unversioned = package("class Unversioned:\n    pass").Unversioned
    with pytest.raises(TypeError, match="has no version to be keyed by"):
        digest(unversioned)
    with pytest.raises(TypeError, match="move it into the package"):
        digest(lambda: 1)


def test_declared_libraries_are_part_of_the_key_and_all_are_recorded(kept, package, calls, monkeypatch):
    make = package(MAKER.replace("version=1", 'version=1, libraries=("numpy",)')).make
    kept.keep("value", make)
    record = json.loads((folder_of(kept) / RECORD).read_text())
    assert {"numpy", "pandas", "faiss-cpu", "tensorflow"} <= set(record["libraries"])
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["made_by"] == "advlens.made_up.make"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    kept.keep("value", make)
    assert calls() == 2


def test_makers_that_are_not_declared_are_refused(kept, package):
    with pytest.raises(TypeError, match=r"put @artifact\(version=1\) on it"):
        kept.keep("value", package("def make():\n    return 1").make)
    with pytest.raises(TypeError, match=r"put @artifact\(version=1\) on it"):
        kept.keep("value", artifact(version=1)(lambda: 1).__call__)
    with pytest.raises(ValueError, match="version must be a whole number"):
        artifact(version=0)(lambda: 1)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a b", "x" * 101])
def test_a_name_that_is_no_file_name_is_refused(kept, package, name):
    with pytest.raises(ValueError, match="an artifact's name must be a plain name"):
        kept.keep(name, package(MAKER).make)


# ---------------------------------------------------------------- fingerprints and the lock

USED = """
    from advlens.helper import scaled
    LIMIT = 3
    def make(x):
        \"\"\"About.\"\"\"
        if x > LIMIT:
            raise ValueError(f"x must be small, got {x}")
        total = scaled(x) + 1
        return total
"""
HELPER = "def scaled(x):\n    return 2 * x\n"


@pytest.mark.parametrize(
    ("old", "new", "is_same"),
    [
        ("About.", "Something else.", True),
        ("x must be small", "x is too large", True),
        ("total", "added", True),
        ("        return total", "        # why\n        return total", True),
        ("def make(x)", "def make(x: int) -> int", True),
        ("+ 1", "+ 2", False),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("x > LIMIT", "x < LIMIT", False),
        ("2 * x", "3 * x", False),
        ("from advlens.helper import", "from .helper import", True),
    ],
)
def test_a_fingerprint_sees_what_the_code_does_and_all_that_it_uses(package, old, new, is_same):
    def of(used: str, helper: str) -> str:
        package(helper, "helper")
        return makers.fingerprint(package(used).make)

    assert old in USED + HELPER
    assert (of(USED, HELPER) == of(USED.replace(old, new), HELPER.replace(old, new))) == is_same


def test_the_lock_holds_the_fingerprints_of_all_makers():
    """Where this fails: bump the maker's version, or show that its results are the same; then `advlens store lock`."""
    for each in (makers._dump, makers._references):  # other tests of this process have changed constants meanwhile
        each.cache_clear()
    found, locked = makers.current_lock(), makers.read_lock()
    changed = [name for name in found if name in locked and found[name]["fingerprint"] != locked[name]["fingerprint"]]
    forgotten = [name for name in changed if found[name]["version"] == locked[name]["version"]]
    assert not forgotten, f"changed without a new version: {', '.join(forgotten)}"
    assert found == locked


# ---------------------------------------------------------------- one computation a key


def test_two_threads_get_the_same_computed_once(kept, package, calls):
    slow = MAKER.replace("    return", "    import time; time.sleep(0.3)\n    return")
    make, found = package(slow).make, []
    threads = [threading.Thread(target=lambda: found.append(kept.keep("value", make, x=4))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each["value"][0] for each in found] == [5] * 4
    assert calls() == 1


PROCESS = """
    import sys, time
    from advlens.store import Store, makers
    from advlens import training
    def slow(**parameters):
        with open({calls!r}, "a") as file: file.write("x")
        time.sleep(1.0)
        return {{"a": 1}}
    slow.__module__, slow.__qualname__ = "advlens.training", "slow"
    setattr(slow, makers.VERSION, 1)
    makers_fingerprint = makers.fingerprint
    import advlens.store.store as store
    store.fingerprint = lambda make: ""
    {before}
    Store({folder!r}).keep("value", slow, x=1)
"""


def start(tmp_path, before: str = "") -> subprocess.Popen:
    script = textwrap.dedent(PROCESS).format(calls=str(tmp_path / "calls"), folder=str(tmp_path / "a"), before=before)
    return subprocess.Popen([sys.executable, "-c", script])


def test_two_processes_compute_once_and_a_killed_one_leaves_nothing_in_the_way(tmp_path, calls):
    killed = start(tmp_path, "import os, signal; store.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)")
    assert killed.wait() == -signal.SIGKILL
    assert [path.name.startswith(PARTIAL) for path in (tmp_path / "a").glob("*") if path.name[0] == "."] != []
    both = [start(tmp_path), start(tmp_path)]
    assert [process.wait() for process in both] == [0, 0]
    assert calls() == 2  # the killed one's, and one of both
    assert list((tmp_path / "a").glob(f"{PARTIAL}*")) == []


def test_foreign_and_leftover_folders_are_no_obstacle(kept, package, calls):
    make = package(MAKER).make
    kept.keep("value", make)
    folder = folder_of(kept)
    shutil.rmtree(folder)
    names = [f"{PARTIAL}abc-x", f"{PARTIAL}{10**30}-x", f"{PARTIAL}{os.getpid()}-{folder.name}"]
    names.append(f"{PARTIAL}{folder.name}-leftover")
    for name in names:
        (kept.folder / name).mkdir()
    Store(kept.folder).keep("value", make)
    assert calls() == 2
    assert sorted(path.name for path in kept.folder.glob(f"{PARTIAL}*")) == sorted(names[:3])


# ---------------------------------------------------------------- damaged and foreign files


def test_an_artifact_of_another_key_is_not_served(kept, package, calls):
    make = package(MAKER).make
    kept.keep("value", make, x=1)
    one = folder_of(kept)
    kept.keep("other", make, x=2)
    target = folder_of(kept, "other")
    shutil.rmtree(target)
    shutil.copytree(one, target)
    with pytest.warns(UserWarning, match="is of another key: computing it again"):
        assert kept.keep("other", make, x=2)["value"][0] == 3
    edit_record(one, key="0" * 64)
    with pytest.warns(UserWarning, match="is of another key"):
        kept.keep("value", make, x=1)
    assert calls() == 4


def test_no_code_is_imported_by_a_name_in_a_file(kept, package, calls, tmp_path, monkeypatch):
    make = package(MAKER).make
    kept.keep("value", make)
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\nclass Trap: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit_record(folder_of(kept), kind="trap.Trap")
    with pytest.warns(UserWarning, match="unknown kind"):
        kept.keep("value", make)
    assert not (tmp_path / "sprung").exists()
    assert calls() == 2


@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "delete", "no record", "list", "file", "link", "dangling", "no zip"]
)
def test_a_damaged_artifact_is_reported_and_computed_again(kept, package, calls, damage, tmp_path):
    make = package(MAKER).make
    kept.keep("value", make, x=1)
    folder = folder_of(kept)
    file, content = folder / "value.npz", (folder / "value.npz").read_bytes()
    if damage in ("flip", "truncate"):
        file.write_bytes(content[:-9] if damage == "truncate" else content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "delete":
        file.unlink()
    elif damage == "no zip":
        told = b"PK\x03\x04 as a zip file begins, and no more"
        file.write_bytes(told)
        edit_record(folder, sha256={"value.npz": makers.hashlib.sha256(told).hexdigest()})
    elif damage in ("no record", "list"):
        (folder / RECORD).write_text("{" if damage == "no record" else "[]")
    else:
        moved = tmp_path / "shared"
        shutil.move(folder, moved)
        if damage == "link":
            (moved / "value.npz").write_bytes(b"")
        if damage == "file":
            folder.write_text("in the way")
        else:
            folder.symlink_to(moved if damage == "link" else tmp_path / "nowhere")
    with pytest.warns(UserWarning, match=r"the artifact value-\w+ .*computing it again"):
        assert kept.keep("value", make, x=1)["value"][0] == 2
    assert calls() == 2
    assert kept.keep("value", make, x=1)["value"][0] == 2
    assert calls() == 2
    if damage == "link":
        assert (moved / "value.npz").exists()  # what a link leads to is somebody else's


def test_a_failing_computation_leaves_no_artifact(kept, package):
    with pytest.raises(TypeError):
        kept.keep("value", package(MAKER).make, x="one")
    assert [path.name for path in kept.folder.iterdir()] == [".locks"]


# ---------------------------------------------------------------- what can be stored

RETURNS = """
    from advlens.store import artifact
    IT = []
    @artifact(version=1)
    def make(n):
        return IT[n]
"""
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
def test_what_would_come_back_changed_is_refused(kept, package, value):
    made = package(RETURNS)
    made.IT.append(value)
    with pytest.raises(TypeError, match="can't be stored"):
        kept.keep("value", made.make, n=0)


def test_tables_networks_and_attack_sets_come_back_as_they_were(kept, package):
    clean = np.random.default_rng(0).random((3, 4, 4, 1), dtype=np.float32) / 2
    rows = {"source": [5, 7, 9], "label": [0, 1, 2], "target": [3, 4, 5], "predicted": [0, 2, 1]}
    attack_set = AttackSet(
        attack="shift", parameters={"amount": 0.25}, clean=clean, noisy=clean, adversarial=clean + np.float32(0.25),
        success=np.array([False, True, True]), l2=np.ones(3, np.float32), linf=np.full(3, 0.25, np.float32),
        margin=np.zeros(3, np.float32),
        zero_gradient=np.array([True, False, False]),
        **{name: np.array(values) for name, values in rows.items()},
    )  # fmt: skip
    history = pd.DataFrame({"epoch": [1, 2], "loss": [1 / 3, 2e-17], "ok": [True, False], "name": ["a", "b"]})
    module = package(
        "from advlens.store import artifact\nIT = []\n@artifact(version=1)\ndef make(n):\n    return IT[n]"
    )
    module.IT += [attack_set, Trained(networks.two_conv_cnn(), history), history]
    for n, value in enumerate(module.IT):
        assert digest(kept.keep("value", module.make, n=n)) == digest(value)
    module.IT.append(type("Unregistered", (), {"to_parts": lambda self: {}})())
    with pytest.raises(TypeError, match="put @storable on its class"):
        kept.keep("value", module.make, n=3)


# ---------------------------------------------------------------- for people


def test_the_store_lists_explains_and_collects(kept, package, monkeypatch, tmp_path):
    kept.keep("value", package(MAKER).make, x=1)
    kept.keep("value", package(MAKER).make, x=2)
    kept.keep("value", package(MAKER.replace("version=1", "version=2")).make, x=2)
    assert [row["parameters"]["x"] for row in list_artifacts(kept.folder)].count(2) == 2
    first, second, third = explain_artifacts(kept.folder, "value")
    assert "advlens.made_up.make, version 1" in first
    assert second.endswith("x: 1 → 2")
    assert third.endswith("version: 1 → 2")
    monkeypatch.setattr(makers, "LOCK", tmp_path / "lock")
    (tmp_path / "lock").write_text(json.dumps({"advlens.made_up.make": {"version": 2, "fingerprint": ""}}))
    (kept.folder / f"{PARTIAL}leftover").mkdir()
    assert len(collect_garbage(kept.folder, dry=True)) == 3
    assert len(list_artifacts(kept.folder)) == 3
    collect_garbage(kept.folder)
    assert [row["version"] for row in list_artifacts(kept.folder)] == [2]


def test_whoever_asks_is_told_which_makers_were_read(kept, package, monkeypatch, tmp_path):
    monkeypatch.setenv(READS, str(tmp_path / "reads"))
    make = package(MAKER).make
    kept.keep("value", make)
    kept.keep("value", make)
    assert (tmp_path / "reads").read_text() == "advlens.made_up.make 1\n" * 2


@pytest.mark.parametrize("step", ["write", "FileLock"])
@pytest.mark.parametrize(("code", "said"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "ADVLENS_DATA")])
def test_a_full_or_closed_disk_is_told_with_what_to_do(kept, package, step, code, said, monkeypatch):
    def fails(*_, **__):
        raise OSError(code, "as the system says it")

    monkeypatch.setattr(store_module, step, fails)
    with pytest.raises(OSError, match=said):
        kept.keep("value", package(MAKER).make, x=1)
    assert not list(kept.folder.glob(".partial-*"))
