"""Images through image files: the codecs whose artefacts the protocol tells apart, and the study's JPEG export."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from advlens.arrays import Array, checked_images
from advlens.folders import written_whole

# Pillow's own default, which the study's export had too.
JPEG_QUALITY = 75


def eight_bit(images: Array) -> Array:
    """Rounds to the nearest of 256 grey levels; (n, h, w, channels) floats in [0, 1] → uint8."""
    return np.rint(np.asarray(images) * 255.0).astype(np.uint8)


def wrapped_eight_bit(images: Array) -> Array:
    """The study's conversion: 255·(x' + 1) for x' = 2x − 1 runs over 0–510 and wraps around at 256.

    Black stays black, white becomes 254, and mid-grey 0.5 becomes 255: a faint grey perturbation turns glaring.
    """
    return (np.asarray(images) * 510.0).astype(np.int64).astype(np.uint8)


def stretched_eight_bit(images: Array) -> Array:
    """Scales each image's own minimum to 0 and maximum to 255, as SciPy's former `imsave` did; (n, …) → uint8."""
    axes = tuple(range(1, np.ndim(images)))
    low = images.min(axis=axes, keepdims=True)
    span = np.maximum(images.max(axis=axes, keepdims=True) - low, np.finfo(np.float32).tiny)
    return eight_bit((images - low) / span)


def _encode(levels: Array, kind: str) -> bytes:
    file = io.BytesIO()
    pixels = levels[..., 0] if levels.shape[-1] == 1 else levels
    options = {"quality": JPEG_QUALITY} if kind == "jpeg" else {}
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def _decode(content: bytes) -> Array:
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _through_file(levels: Array, kind: str) -> Array:
    return np.stack([_decode(_encode(image, kind)) for image in levels])


CODECS: dict[str, Callable[[Array], Array]] = {
    "float": lambda images: images,
    "8-bit": lambda images: eight_bit(images) / np.float32(255),
    "png": lambda images: _through_file(eight_bit(images), "png") / np.float32(255),
    "jpeg": lambda images: _through_file(eight_bit(images), "jpeg") / np.float32(255),
    "min-max jpeg": lambda images: _through_file(stretched_eight_bit(images), "jpeg") / np.float32(255),
    "wrapped jpeg": lambda images: _through_file(wrapped_eight_bit(images), "jpeg") / np.float32(255),
}


def through(codec: str, images: Array) -> Array:
    """What is left of images after a codec.

    Args:
        codec: a name of `CODECS`, from "float" (nothing happens) to "wrapped jpeg" (the study's export).
        images: (n, h, w, 1 or 3) in [0, 1].
    Returns:
        (n, h, w, 1 or 3) float32 in [0, 1].
    Raises:
        ValueError: for an unknown codec, images outside [0, 1], or other than 1 or 3 channels.
    """
    if codec not in CODECS:
        raise ValueError(f"no codec is called {codec!r}: choose one of {', '.join(CODECS)}")
    return CODECS[codec](_checked_channels(images)).astype(np.float32, copy=False)


def _checked_channels(images: Array) -> Array:
    """Images as float32, once they are known to be grey or coloured: image files hold no others."""
    images = checked_images(images)
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"image files hold 1 or 3 channels, got {images.shape[-1]}")
    return images


def export_names(source: Array, label: Array, predicted: Array | None = None, *, maps: bool = False) -> list[str]:
    """The study's file names: `test_7_2.jpeg`, `adv_test_7_2_3.jpeg`, `rel_test_7_2.jpeg`, `adv_rel_test_7_2_3.jpeg`.

    Args:
        source: (n,) image ids; label: (n,) true classes; predicted: (n,) wrong classes of adversarial images.
        maps: whether the files hold relevance maps.
    """
    kind = "rel_test" if maps else "test"
    if predicted is None:
        return [f"{kind}_{i}_{y}.jpeg" for i, y in zip(source, label, strict=True)]
    return [f"adv_{kind}_{i}_{y}_{z}.jpeg" for i, y, z in zip(source, label, predicted, strict=True)]


def export(folder: Path, pictures: Mapping[str, Array]) -> None:
    """Writes wrapped JPEGs as the study did, replacing the folder as a whole once all are written.

    Args:
        pictures: file name → (h, w, 1 or 3) in [0, 1].
    Raises:
        ValueError: for other pictures, names that are no plain .jpeg names, or a folder that holds anything else.
    """
    folder = Path(folder)
    odd = [name for name in pictures if Path(name).name != name or not name.endswith(".jpeg")]
    if odd:
        raise ValueError(f"pictures must have plain names that end in .jpeg, got {odd[0]!r}")
    if folder.exists() and any(path.suffix != ".jpeg" for path in folder.iterdir()):
        raise ValueError(f"{folder} holds more than an export, which would replace it: choose another folder")
    with written_whole(folder, replace=True) as place:
        for name, picture in pictures.items():
            (place / name).write_bytes(_encode(wrapped_eight_bit(_checked_channels(picture[None]))[0], "jpeg"))


def read_export(folder: Path, names: Sequence[str]) -> Array:
    """Reads exported files back; (n, h, w, 1 or 3) float32 in [0, 1].

    Raises:
        FileNotFoundError: naming the first file that is missing.
    """
    return np.stack([_decode((folder / name).read_bytes()) for name in names]).astype(np.float32) / 255
