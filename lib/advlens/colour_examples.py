"""Colour images with classes that need no download: pieces of photographs, and shapes drawn on such pieces."""

from collections.abc import Callable

import numpy as np
import skimage.data
from matplotlib.colors import hsv_to_rgb
from PIL import Image

from advlens.arrays import Array, checked_whole
from advlens.random import stream

PHOTOGRAPHS = {
    **{"astronaut": "astronaut", "cat": "chelsea", "coffee": "coffee", "rocket": "rocket", "retina": "retina"},
    **{"tissue": "immunohistochemistry", "galaxies": "hubble_deep_field", "bricks": "brick"},
}
"""Class of a piece → scikit-image's name of the photograph; all are free of copyright as far as is known."""
LEARNT_FROM = 0.6  # the left share of each photograph; unseen pieces are of the rest
SIDES = 96, 160  # in pixels of the photograph, of a piece
FINE = 3  # shapes are drawn so many times larger, so that their edges are smooth
SHAPES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": lambda u, v: np.hypot(u, v) < 1,
    "ring": lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u, v) > 0.6),
    "square": lambda u, v: np.maximum(abs(u), abs(v)) < 0.8,
    "triangle": lambda u, v: (v > -0.5) & (np.sqrt(3) * abs(u) + v < 1),
    "star": lambda u, v: np.hypot(u, v) < 0.65 + 0.35 * np.cos(5 * np.arctan2(u, v)),
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
    "crescent": lambda u, v: (np.hypot(u, v) < 1) & (np.hypot(u - 0.5, v) > 0.8),
    "bars": lambda u, v: (abs(abs(u) - 0.5) < 0.25) & (abs(v) < 0.9),
}
"""Class of a shape → whether points belong to it, by coordinates in which it has a radius of about 1."""


def pieces(n: int, *, size: int = 96, unseen: bool = False, seed: int = 0) -> tuple[Array, Array]:
    """Square pieces of eight photographs; the class says which photograph.

    Args:
        n: how many; size: of the pieces' sides, in pixels; seed: of places, scales and mirrorings.
        unseen: pieces of the photographs' right parts, which no piece without it overlaps.
    Returns:
        (n, size, size, 3) float32 in [0, 1] of 8-bit colours, and (n,) numbers of `PHOTOGRAPHS`.

    >>> pieces(4, size=32)[0].shape
    (4, 32, 32, 3)
    """
    rng = stream(seed, f"colour examples/pieces, {'unseen' if unseen else 'learnt from'}")
    photographs = [Image.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in PHOTOGRAPHS.values()]
    images = np.empty((checked_whole(n, name="n"), size, size, 3), np.float32)
    labels = rng.integers(len(photographs), size=n)
    for image, label in zip(images, labels, strict=True):
        width, height = photographs[label].size
        border = round(LEARNT_FROM * width)
        start, stop = (border, width) if unseen else (0, border)
        side = rng.integers(*SIDES, endpoint=True)
        left, top = rng.integers(start, stop - side, endpoint=True), rng.integers(height - side, endpoint=True)
        piece = photographs[label].crop((left, top, left + side, top + side)).resize((size, size))
        image[:] = np.asarray(piece, np.float32)[:, :: rng.choice((1, -1))] / 255
    return images, labels


def shapes(n: int, *, size: int = 32, unseen: bool = False, seed: int = 0) -> tuple[Array, Array]:
    """Shapes in any colour, place and turn, on pieces of photographs; the class says which shape.

    Args:
        As of `pieces`, from which the backgrounds are.
    Returns:
        (n, size, size, 3) float32 in [0, 1] of 8-bit colours, and (n,) numbers of `SHAPES`.

    >>> images, labels = shapes(50)
    >>> bool((images.min() >= 0) & (images.max() <= 1)), int(labels.max()) < len(SHAPES)
    (True, True)
    """
    rng = stream(seed, f"colour examples/shapes, {'unseen' if unseen else 'learnt from'}")
    images = pieces(n, size=size, unseen=unseen, seed=seed)[0]
    labels, drawn = rng.integers(len(SHAPES), size=n), list(SHAPES.values())
    colours = hsv_to_rgb(rng.uniform((0, 0.5, 0.3), 1, size=(n, 3)))
    down, right = np.mgrid[: FINE * size, : FINE * size] / (FINE * size)
    for image, label, colour in zip(images, labels, colours, strict=True):
        radius, turn = rng.uniform(0.25, 0.4), rng.uniform(0, 2 * np.pi)
        x, y = ((each - rng.uniform(radius, 1 - radius)) / radius for each in (right, down))
        u, v = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
        cover = drawn[label](u, v).reshape(size, FINE, size, FINE).mean(axis=(1, 3))[..., None]
        image[:] = np.rint(255 * (cover * colour + (1 - cover) * image)) / 255
    return images, labels
