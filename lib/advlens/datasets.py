"""What a data set is: MNIST, Fashion-MNIST or a user's own .npz, and its splits by source image.

Where the files come from is in `downloads`.
"""

import os
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from advlens.arrays import Array, checked_images, checked_labels, checked_seed, class_numbers, largest_value
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
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
}
USER_NAMES = (  # of the training and the test arrays in a user's file
    *(("x", "y", "x_test", "y_test"), ("x_train", "y_train", "x_test", "y_test")),
    ("images", "labels", "test_images", "test_labels"),
)
USER_TEST_SHARE = 0.2
USER_SPLIT_SEED = 0
USER_MAX_CLASSES = 1000


def data_sets(word: str) -> list[str]:
    """The names or paths that a word stands for: "all" for all that have a name, any other for itself."""
    return list(CLASS_NAMES) if word == "all" else [word]


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
        name_or_path: "mnist", "fashion_mnist", or the path of an .npz file with `x` and `y` (or `x_train` and
            `y_train`, or `images` and `labels`): (n, h, w) or (n, h, w, channels) floats in [0, 1] or whole numbers,
            and (n,) or (n, 1) class numbers or names, or (n, c) one-hot. Its optional `x_test` and `y_test` (or
            `test_images` and `test_labels`) are the test set; else every class gives a fifth of its images to it,
            always the same ones. Warnings say by what whole numbers are divided, and which number a class is given.
        raw_dir: the folder that holds `mnist/` and `fashion_mnist/`; None for `raw` in the data folder.
    Raises:
        TypeError: for what is neither a name nor a path.
        ValueError: for an unknown name, or a file that is not as described.
        FileNotFoundError: where the path leads to no file.
        SourceError, OSError: see `downloads.verified_files`.
    """
    if isinstance(name_or_path, str) and name_or_path in SHA256:
        return _load_named(name_or_path, Path(raw_dir or data_dir() / "raw"))
    if not isinstance(name_or_path, str | os.PathLike):
        raise TypeError(f"a data set is named by a string or a path, got {type(name_or_path).__name__}")
    path = Path(name_or_path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(
            f"data set {str(name_or_path)!r} is unknown: pass 'mnist', 'fashion_mnist' or an .npz file's path"
        )
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
    arrays = read_npz(path)
    names = next((names for names in USER_NAMES if names[0] in arrays), USER_NAMES[0])
    try:
        class_names = with_numbers(arrays, names[1], names[3])
        images, labels = _user_pair(arrays, *names[:2])
        if any(name in arrays for name in names[2:]):
            test_images, test_labels = _user_pair(arrays, *names[2:])
            if test_images.shape[1:] != images.shape[1:]:
                raise ValueError(
                    f"x_test holds images of shape {test_images.shape[1:]}, expected {images.shape[1:]} "
                    "as in x: resize them"
                )
        else:
            test = _user_test_mask(labels)
            test_images, test_labels = images[test], labels[test]
            images, labels = images[~test], labels[~test]
        class_names = class_names or _user_class_names(np.union1d(labels, test_labels))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return DataSet(path.stem, images, labels, test_images, test_labels, class_names)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of a file; pickled objects, which could run code, are never loaded.

    Raises:
        FileNotFoundError: where the path leads to no file.
        ValueError: for a file of another kind, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is no file: check its path, seen from {Path.cwd()}")
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
    checked = images_name
    try:
        images = user_images(arrays[images_name])
        checked = labels_name
        return images, checked_labels(arrays[labels_name], n=len(images), num_classes=USER_MAX_CLASSES)
    except ValueError as error:
        raise ValueError(f"{checked}: {error}") from None


def user_images(images: Array) -> Array:
    """(n, h, w) or (n, h, w, channels) floats in [0, 1], or bool or whole numbers, which are scaled by their range."""
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise ValueError(f"images of shape {images.shape} have their channels first: save x.transpose(0, 2, 3, 1)")
    if images.ndim in (3, 4) and images.dtype.kind in "biu":
        white = largest_value(images)
        if images.dtype != np.uint8 or (white == 1 and images.any()):
            warnings.warn(
                f"images of {images.dtype} have values up to {int(images.max())}: divided by {white}", stacklevel=5
            )
        images = images.astype(np.float32) / np.float32(white)
    return checked_images(images[..., None] if images.ndim == 3 else images)


def with_numbers(arrays: dict[str, Array], *names: str) -> tuple[str, ...]:
    """Puts class numbers from 0 in place of names, or of numbers from 1, and returns the classes' names if it did."""
    found = [arrays[name] for name in names if name in arrays]
    if all(labels.dtype.kind in "US" for labels in found) and found:
        classes = np.unique(np.concatenate([labels.ravel() for labels in found]))
    else:
        classes = np.unique(np.concatenate([class_numbers(labels).ravel() for labels in found] or [[0]]))
        if not np.array_equal(classes, np.arange(1, len(classes) + 1)) or len(classes) < 2:
            return ()
    for name in names:
        if name in arrays:
            labels = arrays[name] if arrays[name].dtype.kind in "US" else class_numbers(arrays[name])
            arrays[name] = np.searchsorted(classes, labels).reshape(len(labels))
    shown = classes.astype(str)
    warnings.warn(
        f"classes are numbered {', '.join(f'{each!s}: {i}' for i, each in enumerate(shown[:20]))}", stacklevel=4
    )
    return tuple(shown.tolist())


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
    """8-bit images, (n, h, w), as (n, h, w, 1) float32 in [0, 1]."""
    return images[..., None] / np.float32(255)


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
