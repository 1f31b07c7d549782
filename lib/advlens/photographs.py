"""Photographs of any size as a batch for a network: a user's own folder, or a few that scikit-image brings along."""

import warnings
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageOps

from advlens.arrays import Array, checked_whole

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MODES = {1: "L", 3: "RGB"}  # Pillow's, by the channels
EXAMPLES = ("astronaut", "chelsea", "coffee", "rocket")  # all in the public domain


def load_photographs(folder: str | Path = "", *, size: int = 224, channels: int = 3) -> tuple[list[str], Array]:
    """The pictures of a folder, cropped to their middle square and resized.

    Args:
        folder: holds pictures, see `pictures_in`, taken in the order of their names; "" for `EXAMPLES` of scikit-image.
        size: side of the square in pixels; channels: 3 for colours, 1 for grey levels, into which colours are turned.
    Returns:
        Names, and (n, size, size, channels) float32 in [0, 1].
    Raises:
        TypeError: for a folder that is no path.
        FileNotFoundError: for a folder that is none, or holds no picture.
        ValueError: for a size that is no whole number, other channels, or a file that `opened` refuses.
    """
    checked_whole(size, name="size")
    if channels not in MODES:
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    if not isinstance(folder, str | Path):
        raise TypeError(f'folder must be a path, or "" for the examples, got {type(folder).__name__}')
    if not str(folder):
        pictures = {name: Image.fromarray(getattr(skimage.data, name)()) for name in EXAMPLES}
    else:
        path = Path(folder).expanduser()
        files = pictures_in(path)
        if not files:
            raise FileNotFoundError(
                f"{path.absolute()} holds no pictures ({', '.join(SUFFIXES)}): name a folder that does"
            )
        pictures = {file.name: opened(file) for file in files}
    squares = [
        ImageOps.fit(picture.convert(MODES[channels]), (size, size), Image.Resampling.BICUBIC)
        for picture in pictures.values()
    ]
    pixels = np.stack([np.asarray(square, np.float32) / 255 for square in squares])
    return list(pictures), pixels.reshape(len(pixels), size, size, channels)


def pictures_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The files of a folder whose names end in one of `SUFFIXES`, by name; a warning counts the others.

    Names that begin with a dot, as of what macOS adds, are passed over without a word.
    """
    files = [file for file in sorted(folder.glob(pattern)) if file.is_file()]
    files = [file for file in files if not any(name.startswith(".") for name in file.relative_to(folder).parts)]
    found = [file for file in files if file.suffix.lower() in SUFFIXES]
    if found and len(found) < len(files):
        kinds = ", ".join(sorted({file.suffix or file.name for file in files} - {file.suffix for file in found}))
        warnings.warn(
            f"{len(files) - len(found)} of {len(files)} files are passed over ({kinds}): pictures are "
            f"{', '.join(SUFFIXES)}",
            stacklevel=4,
        )
    return found


def opened(file: Path) -> Image.Image:
    """A picture file, turned as its camera says.

    Raises:
        ValueError: for a file that is damaged or no picture, or one of more than 8 bits or so many pixels that Pillow
            warns of them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(file)
            picture.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise ValueError(f"{file.name} has more than {most} million pixels: make it smaller") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{file.name} is no picture, or a damaged one ({error}): remove it from the folder") from error
    if picture.mode[0] in "IF":
        raise ValueError(f"{file.name} has more than 8 bits a channel ({picture.mode}): save it as an 8-bit picture")
    return ImageOps.exif_transpose(picture)
