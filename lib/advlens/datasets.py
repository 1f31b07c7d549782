"""What a data set is: MNIST, Fashion-MNIST or a user's own .npz, and its splits by source image.

Where the files come from is in `downloads`.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advlens.arrays import Array, checked_images, checked_labels, checked_seed
from advlens.downloads import (
    SHA256,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    idx_array,
    stored_file,
    verified_files,
)
from advlens.paths import data_dir

CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}

USER_TEST_SHARE = 0.2
USER_SPLIT_SEED = 0
USER_MAX_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class DataSet:
    """Images and labels to train and to test on.

    Attributes:
        name: "mnist", "fashion_mnist", or the stem of a user's file.
        train_images, test_images: (n, h, w, channels) float32 in [0, 1]; (n, 28, 28, 1) by name.
        train_labels, test_labels: (n,) int64 in [0, num_classes).
        class_names: one a class, in the order of the labels.
    """

    name: str
    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """How many classes the labels tell apart."""
        return len(self.class_names)

    def changes(self, before: Array, after: Array) -> list[str]:
        """Texts such as "7 → 3", from two (n,) arrays of class numbers."""
        return [
            f"{self.class_names[one]} → {self.class_names[other]}" for one, other in zip(before, after, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows are for what: three (n,) bool masks, of which each row is in exactly one."""

    train: Array
    validation: Array
    test: Array


def load(name_or_path: str | os.PathLike, *, raw_dir: str | os.PathLike | None = None) -> DataSet:
    """A data set by name, fetched and verified where need be, or from a user's own file.

    Args:
        name_or_path: "mnist", "fashion_mnist", or the path of an .npz file with `x`, (n, h, w) or
            (n, h, w, channels), uint8 or floats in [0, 1], and `y`, (n,) class numbers from 0. Its optional
            `x_test` and `y_test` are the test set; else every class gives a fifth of its images to it,
            always the same ones.
        raw_dir: the folder that holds `mnist/` and `fashion_mnist/`; None for `raw` in the data folder.
    Raises:
        TypeError: for what is neither a name nor a path.
        ValueError: for an unknown name, or a file that is not as described.
        FileNotFoundError: where the path leads to no file.
        SourceError, OSError: see `downloads.verified_files`.
    """
    if isinstance(name_or_path, str) and name_or_path in SHA256:
        return _load_named(str(name_or_path), Path(raw_dir or data_dir() / "raw"))
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"a data set is named by a string or a path, got {type(name_or_path).__name__}")
    path = Path(name_or_path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(
            f"data set {str(name_or_path)!r} is unknown: pass 'mnist', 'fashion_mnist' or an .npz file's path"
        )
    if not path.is_file():
        raise FileNotFoundError(f"data set {str(path)!r} is no file: check its path, seen from {Path.cwd()}")
    return _load_user(path)


def stored_test_images(name: str) -> Array | None:
    """(n, 28, 28, 1) test images of "mnist" or "fashion_mnist" from the data folder; None where they aren't there."""
    content = stored_file(name, TEST_IMAGES, folder=data_dir() / "raw" / name)
    return None if content is None else _unit_images(idx_array(content))


def split_groups(source: Array, *, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2), seed: int) -> Split:
    """Splits rows by their source image: all that was made of one image is on the same side.

    The sides depend on the seed and on which sources there are, not on the rows' order or number. Sizes are
    exact, up to rounding, over the distinct sources.

    Args:
        source: (n,) integers, the index of the image that each row was made of.
        fractions: of the sources, for train, validation and test; they sum to 1, and a side may be given 0.
        seed: governs which sources go where.
    Raises:
        ValueError: for another shape or type, no fractions, or so few sources that a side is empty.
    """
    source = np.asarray(source)
    if source.ndim != 1 or not np.issubdtype(source.dtype, np.integer):
        raise ValueError(f"source must be (n,) integers, got {source.dtype} of shape {source.shape}: pass indices")
    if len(fractions) != 3 or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be three shares that sum to 1, got {fractions}: as (0.6, 0.2, 0.2)")
    distinct, row = np.unique(source, return_inverse=True)
    ends = np.rint(np.cumsum(fractions) * len(distinct)).astype(int)
    sizes = np.diff(ends, prepend=0)
    if any(size == 0 and fraction > 0 for size, fraction in zip(sizes, fractions, strict=True)):
        raise ValueError(
            f"source holds {len(distinct)} images, too few for {fractions}, got sides of {sizes.tolist()}: "
            "take more images"
        )
    side = np.empty(len(distinct), dtype=int)
    side[np.random.default_rng(checked_seed(seed)).permutation(len(distinct))] = np.repeat([0, 1, 2], sizes)
    return Split(*(side[row] == number for number in range(3)))


def _load_named(name: str, raw_dir: Path) -> DataSet:
    files = verified_files(name, folder=raw_dir / name)
    return DataSet(
        name=name,
        train_images=_unit_images(idx_array(files[TRAIN_IMAGES])),
        train_labels=idx_array(files[TRAIN_LABELS]).astype(np.int64),
        test_images=_unit_images(idx_array(files[TEST_IMAGES])),
        test_labels=idx_array(files[TEST_LABELS]).astype(np.int64),
        class_names=CLASS_NAMES[name],
    )


def _load_user(path: Path) -> DataSet:
    arrays = _read_npz(path)
    try:
        images, labels = _user_pair(arrays, "x", "y")
        if "x_test" in arrays or "y_test" in arrays:
            test_images, test_labels = _user_pair(arrays, "x_test", "y_test")
            if test_images.shape[1:] != images.shape[1:]:
                raise ValueError(
                    f"x_test holds images of shape {test_images.shape[1:]}, expected {images.shape[1:]} "
                    "as in x: resize them"
                )
        else:
            test = _user_test_mask(labels)
            test_images, test_labels = images[test], labels[test]
            images, labels = images[~test], labels[~test]
        class_names = _user_class_names(np.union1d(labels, test_labels))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return DataSet(path.stem, images, labels, test_images, test_labels, class_names)


def _read_npz(path: Path) -> dict[str, Array]:
    """All arrays of a file; pickled objects, which could run code, are never loaded."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is no .npz file, or a truncated one: make it with numpy.savez_compressed(path, x=…, y=…)"
        )
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: np.asarray(archive[name]) for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read ({reason}): make it anew, with plain arrays of numbers, no objects"
        ) from error


def _user_pair(arrays: dict[str, Array], images_name: str, labels_name: str) -> tuple[Array, Array]:
    """The named images and labels, checked, as (n, h, w, channels) float32 and (n,) int64."""
    for name in (images_name, labels_name):
        if name not in arrays:
            raise ValueError(f"array {name!r} is missing, the file holds {sorted(arrays)}: save it under that name")
    images, labels = arrays[images_name], arrays[labels_name]
    try:
        images = _unit_images(images) if images.dtype == np.uint8 else images
        images = checked_images(images[..., None] if images.ndim == 3 else images)
    except ValueError as error:
        raise ValueError(f"{images_name}: {error}") from None
    try:
        labels = checked_labels(labels, n=len(images), num_classes=USER_MAX_CLASSES)
    except ValueError as error:
        raise ValueError(f"{labels_name}: {error}") from None
    return images, labels


def _user_test_mask(labels: Array) -> Array:
    """(n,) bool: a fifth of each class of two images or more, at least one, drawn with a fixed seed."""
    test = np.zeros(len(labels), dtype=bool)
    generator = np.random.default_rng(USER_SPLIT_SEED)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = max(round(USER_TEST_SHARE * len(members)), int(len(members) > 1))
        test[members[:count]] = True
    if not test.any():
        raise ValueError("no class has two images, so none is left to test on: save more, or x_test and y_test")
    return test


def _user_class_names(numbers: Array) -> tuple[str, ...]:
    """The distinct labels as names, once they are known to count from 0 without a gap."""
    if len(numbers) < 2:
        raise ValueError(f"y holds class {numbers[0]} only, expected two classes or more: add images of another")
    if numbers[-1] != len(numbers) - 1:
        raise ValueError(
            f"y holds {len(numbers)} classes numbered up to {numbers[-1]}, expected 0 to {len(numbers) - 1}: "
            "renumber them, as by numpy.unique(y, return_inverse=True)[1]"
        )
    return tuple(str(number) for number in numbers)


def _unit_images(images: Array) -> Array:
    """8-bit images, (n, h, w) or (n, h, w, channels), as (n, h, w, channels) float32 in [0, 1]."""
    images = images[..., None] if images.ndim == 3 else images
    return images / np.float32(255)


def fetch(name: str) -> str:
    """Fetches and verifies a data set, and says in a line what there is now.

    Raises:
        ValueError: for an unknown name.
        SourceError, OSError: see `downloads.verified_files`.
    """
    if name not in SHA256:
        raise ValueError(f"data set {name!r} is unknown: choose among {', '.join(SHA256)}")
    folder = data_dir() / "raw" / name
    files = verified_files(name, folder=folder)
    train, test = len(idx_array(files[TRAIN_LABELS])), len(idx_array(files[TEST_LABELS]))
    return f"{name}: {train:,} training and {test:,} test images, verified, in {folder}"
