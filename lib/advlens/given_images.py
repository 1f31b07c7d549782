"""Images that a user names on the command line: a data set's name, an .npz, or image files."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from advlens import datasets
from advlens.arrays import Array, class_numbers
from advlens.photographs import MODES, SUFFIXES, opened, pictures_in


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Images as the user named them.

    Attributes:
        images: (n, h, w, channels) float32; names: n file names or numbers; labels: (n,) where they are known.
        class_names: one a class, where labels are names; why_no_labels: what the user should know where there are none.
        changes: what was done to the images to suit the network, in sentences.
    """

    images: Array
    names: list[str]
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    why_no_labels: str = ""
    changes: tuple[str, ...] = ()


def read_images(given: str, *, shape: tuple[int, ...], num_classes: int, part: str = "test") -> GivenImages:
    """Images for a network of (h, w, channels) images.

    Args:
        given: "mnist" or "fashion_mnist", an .npz as `datasets.load` takes it, with or without labels, an image file,
            or a folder of image files, whose labels are its folders, in the order of their names, where it has one a
            class; see `photographs.pictures_in`. Files of another size are cropped to the middle and resized, and
            colours turned grey for a network of one channel, with a warning.
        part: "train" or "test", of what has both.
    Raises:
        ValueError: for what is none of these, and for damaged files.
    """
    path = Path(given).expanduser()
    if given in datasets.CLASS_NAMES:
        data = datasets.load(given)
        images, labels = (getattr(data, f"{part}_{kind}") for kind in ("images", "labels"))
        return GivenImages(images, _numbers(images), labels, data.class_names)
    if path.is_dir():
        paths = pictures_in(path, "**/*")
        if not paths:
            raise ValueError(f"{path} holds no image: expected {', '.join(SUFFIXES)}")
        return _of_files(paths, path, shape=shape, num_classes=num_classes)
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return _of_files([path], path.parent, shape=shape, num_classes=num_classes)
    if path.suffix == ".npz" and path.is_file():
        return _of_npz(path, num_classes=num_classes, part=part)
    raise ValueError(
        f"{given!r} is no data set's name, .npz, image file or folder of images: check it, seen from {Path.cwd()}"
    )


def _of_npz(path: Path, *, num_classes: int, part: str) -> GivenImages:
    arrays = datasets.read_npz(path)
    names = next((names for names in datasets.USER_NAMES if names[0] in arrays), None)
    if names is None:
        known = ", ".join(each[0] for each in datasets.USER_NAMES)
        raise ValueError(f"{path} must hold images as x ({known}), it holds {', '.join(arrays) or 'nothing'}")
    x, y = names[2:] if part == "test" and names[2] in arrays else names[:2]
    if names[2] in arrays:
        warnings.warn(f"{path.name} holds {names[0]} and {names[2]}: {x} is taken", stacklevel=4)
    images, labels = datasets.user_images(arrays[x]), arrays.get(y)
    if labels is None:
        return GivenImages(images, _numbers(images), why_no_labels=f"{path} holds no {y}")
    is_named, classes = labels.dtype.kind in "US", ()
    both = (arrays[name] for name in names[1::2] if name in arrays)
    if is_named or max(class_numbers(each).max(initial=0) for each in both) == num_classes:  # they count from 1
        classes = datasets.with_numbers(arrays, names[1], names[3])
    if is_named and len(classes) != num_classes:
        told = f"{path}: {y} holds {len(classes)} names, and the network has {num_classes} classes"
        raise ValueError(f"{told}: save class numbers from 0")
    return GivenImages(images, _numbers(images), arrays[y], _names(classes))


def _numbers(images: Array) -> list[str]:
    return [str(number) for number in range(len(images))]


def _names(classes: Sequence[str] | Array) -> tuple[str, ...]:
    """The classes' names, where they are more than the classes' numbers."""
    names = tuple(map(str, classes))
    return () if names == tuple(map(str, range(len(names)))) else names


def _of_files(paths: Sequence[Path], folder: Path, *, shape: tuple[int, ...], num_classes: int) -> GivenImages:
    images, changed = np.empty((len(paths), *shape), np.float32), Counter()
    for image, path in zip(images, paths, strict=True):
        picture = opened(path)
        if shape[-1] == 1 and _is_coloured(picture):
            changed["turned grey, as the network takes one channel"] += 1
        picture = picture.convert(MODES.get(shape[-1], "RGB"))
        if picture.size != (shape[1], shape[0]):
            picture = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.BICUBIC)
            changed[f"resized to {shape[0]} × {shape[1]} pixels"] += 1
        image[:] = np.asarray(picture).reshape(shape) / np.float32(255)
    changes = tuple(f"{count} of {len(paths)} images are {what}" for what, count in changed.items())
    changes = tuple(f"{change}: of an attack on the original nothing may be left to see" for change in changes)
    for change in changes:
        warnings.warn(change, stacklevel=4)
    names = [str(path.relative_to(folder)) for path in paths]
    classes, labels = np.unique([str(Path(name).parent) for name in names], return_inverse=True)
    if len(classes) == num_classes:
        return GivenImages(images, names, labels, _names(classes), changes=changes)
    why = f"{len(classes)} folders, {num_classes} classes: labels not used" if len(classes) > 1 else ""
    return GivenImages(images, names, why_no_labels=why or f"{folder} has no folder a class", changes=changes)


def _is_coloured(picture: Image.Image) -> bool:
    """Whether the channels of a picture differ."""
    red, green, blue = (np.asarray(channel) for channel in picture.convert("RGB").split())
    return bool((red != green).any() or (green != blue).any())
