"""Images and labels as users have them: names, types, ranges and shapes."""

import numpy as np
import pytest
from PIL import Image

from advlens.arrays import checked_images, checked_labels
from advlens.datasets import load
from advlens.given_images import read_images
from advlens.photographs import load_photographs

LEVELS = np.random.default_rng(0).integers(0, 256, (20, 6, 6)).astype(np.uint8)
CLASSES = np.arange(20) % 2
UNIT = (LEVELS / np.float32(255))[..., None]


def loaded(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return load(folder / "mine.npz")


NAMES = {
    "keras": ("x_train", "y_train", "x_test", "y_test"),
    "words": ("images", "labels", "test_images", "test_labels"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_arrays_go_by_several_names(kind, tmp_path):
    x, y, x_test, y_test = NAMES[kind]
    data = loaded(tmp_path, **{x: LEVELS, y: CLASSES, x_test: LEVELS[:4], y_test: CLASSES[:4]})
    np.testing.assert_array_equal(data.train_images, UNIT)
    np.testing.assert_array_equal(data.test_images, UNIT[:4])
    np.testing.assert_array_equal(data.test_labels, CLASSES[:4])


LABELS = {
    "column": (CLASSES[:, None], None),
    "one-hot": (np.eye(2)[CLASSES], None),
    "whole floats": (CLASSES.astype(float), None),
    "bool": (CLASSES.astype(bool), None),
    "names": (np.array(["dog", "cat"])[1 - CLASSES], "classes are numbered cat: 0, dog: 1"),
    "from 1": (CLASSES + 1, "classes are numbered 1: 0, 2: 1"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_several_kinds_are_taken(kind, tmp_path, recwarn):
    labels, said = LABELS[kind]
    data = loaded(tmp_path, x=LEVELS, y=labels, x_test=LEVELS, y_test=labels)
    np.testing.assert_array_equal(data.test_labels, CLASSES)
    assert data.test_labels.dtype == np.int64
    assert [str(each.message) for each in recwarn] == ([said] if said else [])
    assert data.class_names == {"names": ("cat", "dog"), "from 1": ("1", "2")}.get(kind, ("0", "1"))
    if said is None:
        np.testing.assert_array_equal(checked_labels(labels, n=20, num_classes=2), CLASSES)


IMAGES = {
    "int64": (LEVELS.astype(np.int64), UNIT, "images of int64 have values up to 255: divided by 255"),
    "16 bits": (LEVELS.astype(np.uint16) * 257, UNIT, "images of uint16 have values up to 65535: divided by 65535"),
    "bool": (LEVELS > 99, LEVELS[..., None] > 99, "images of bool have values up to 1: divided by 1"),
    "0 and 1 in 8 bits": ((LEVELS > 99).astype(np.uint8), LEVELS[..., None] > 99, "values up to 1: divided by 1"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_whole_numbers_are_scaled_by_their_range_and_it_is_said(kind, tmp_path):
    images, expected, said = IMAGES[kind]
    with pytest.warns(UserWarning, match=said):
        data = loaded(tmp_path, x=images, y=CLASSES, x_test=images, y_test=CLASSES)
    np.testing.assert_allclose(data.test_images, expected, atol=1e-7)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"arr_0": LEVELS, "arr_1": CLASSES}, r"'x' is missing, the file holds \['arr_0', 'arr_1'\]: save it under"),
        ({"x": LEVELS, "y": np.full((20, 2), 0.5)}, "labels must be integers, got float64"),
        ({"x": LEVELS, "y": np.ones((20, 2))}, "a single 1 in each row"),
        ({"x": LEVELS.reshape(20, 36), "y": CLASSES}, r"got \(20, 36\): pass images.reshape\(-1, 6, 6, 1\)"),
        ({"x": np.zeros((20, 3, 6, 6)), "y": CLASSES}, r"channels first: save x.transpose\(0, 2, 3, 1\)"),
        ({"x": LEVELS.astype(int) - 1, "y": CLASSES}, r"must lie in \[0, 255\] or \[0, 65535\], got \[-1, 254\]"),
    ],
)
def test_what_can_t_be_taken_is_refused_with_what_to_do(arrays, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        loaded(tmp_path, **arrays)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (UNIT[0], r"pass images\[None\]"),
        (LEVELS[..., None], "got uint8: divide by 255"),
        (LEVELS[..., None].astype(np.uint16) * 9, "got uint16: divide by 65535"),
        (LEVELS[..., None] > 9, r"got bool: pass images.astype\(numpy.float32\)"),
        (UNIT.reshape(20, 36), r"pass images.reshape\(-1, 6, 6, 1\)"),
        (np.zeros((2, 6, 6, 3)), r"got \(2, 6, 6, 3\): pass images.mean\(axis=-1, keepdims=True\)"),
        (np.zeros((2, 1, 6, 6)), r"pass images.transpose\(0, 2, 3, 1\)"),
    ],
)
def test_advice_on_arrays_fits_them(images, said):
    with pytest.raises(ValueError, match=said):
        checked_images(images, shape=(6, 6, 1))


def test_a_folder_of_grey_pictures_is_read_with_one_channel(tmp_path):
    for number in range(2):
        Image.fromarray(LEVELS[number]).save(tmp_path / f"{number}.png")
    names, images = load_photographs(tmp_path, size=6, channels=1)
    assert names == ["0.png", "1.png"]
    np.testing.assert_allclose(images, UNIT[:2], atol=1e-7)
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 2"):
        load_photographs(tmp_path, channels=2)


READERS = {
    "given": lambda folder: read_images(str(folder), shape=(6, 6, 1), num_classes=2).names,
    "photographs": lambda folder: load_photographs(folder, size=6, channels=1)[0],
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_picture_is_passed_over_and_counted(reader, tmp_path):
    for name in ("a.png", "b.tif", "c.gif"):
        Image.fromarray(LEVELS[0]).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._a.png").write_bytes(b"Mac OS X")
    with pytest.warns(UserWarning, match=r"3 of 4 files are passed over \(.gif, .tif, .txt\): pictures are .jpg"):
        assert READERS[reader](tmp_path) == ["a.png"]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("side", [1100, 1500])  # Pillow warns of more pixels than its limit, and refuses twice as many
def test_a_picture_of_too_many_pixels_is_named(side, reader, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    Image.new("L", (900, 900)).save(tmp_path / "a.png")
    Image.new("L", (side, side)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png has more than 1 million pixels: make it smaller"):
        READERS[reader](tmp_path)
