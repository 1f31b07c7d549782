"""Images that a user names on the command line: a data set's name, an .npz, or a folder of image files."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from advlens import datasets
from advlens.arrays import Array
from advlens.photographs import MODES, SUFFIXES, opened


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Images as the user named them.

    Attributes:
        images: (n, h, w, channels) float32; names: n file names or numbers; labels: (n,) where they are known.
    """

    images: Array
    names: list[str]
    labels: Array | None = None


def read_images(given: str, *, shape: tuple[int, ...], num_classes: int, part: str = "test") -> GivenImages:
    """Images for a network of (h, w, channels) images.

    Args:
        given: "mnist" or "fashion_mnist", an .npz with `x` and perhaps `y`, or a folder of image files, whose labels
            are its folders, in order, where it has one a class. Files of another size are cropped to the middle and
            resized, with a warning.
        part: "train" or "test", of a data set by name.
    Raises:
        ValueError: for what is none of these, and for damaged files.
    """
    path = Path(given).expanduser()
    if given in datasets.CLASS_NAMES:
        data = datasets.load(given)
        images, labels = (getattr(data, f"{part}_{kind}") for kind in ("images", "labels"))
    elif path.is_dir():
        return _of_folder(path, shape=shape, num_classes=num_classes)
    elif path.suffix == ".npz" and path.is_file():
        with np.load(path, allow_pickle=False) as arrays:
            if "x" not in arrays:
                raise ValueError(f"{path} must hold images as x, it holds {', '.join(arrays.files) or 'nothing'}")
            images, labels = arrays["x"], arrays.get("y")
        images = datasets.user_images(images)
    else:
        raise ValueError(f"{given!r} is no data set's name, .npz or folder of images: check it, seen from {Path.cwd()}")
    return GivenImages(images, [str(number) for number in range(len(images))], labels)


def _of_folder(folder: Path, *, shape: tuple[int, ...], num_classes: int) -> GivenImages:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} holds no image: expected {', '.join(SUFFIXES)}")
    images, resized = np.empty((len(paths), *shape), np.float32), 0
    for image, path in zip(images, paths, strict=True):
        picture = opened(path).convert(MODES.get(shape[-1], "RGB"))
        if picture.size != (shape[1], shape[0]):
            picture, resized = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.BICUBIC), resized + 1
        image[:] = np.asarray(picture).reshape(shape) / np.float32(255)
    if resized:
        told = f"{resized} of {len(paths)} images are resized to {shape[0]} × {shape[1]} pixels"
        warnings.warn(f"{told}: of an attack on the original nothing may be left to see", stacklevel=3)
    labels = np.unique([str(path.relative_to(folder).parent) for path in paths], return_inverse=True)
    names = [str(path.relative_to(folder)) for path in paths]
    return GivenImages(images, names, labels[1] if len(labels[0]) == num_classes else None)
