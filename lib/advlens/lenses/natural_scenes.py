"""The lens of natural scene statistics: the distribution of locally normalised pixels, without any network."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from scipy.special import gamma

from advlens.arrays import Array, checked_images
from advlens.lenses.base import Lens
from advlens.store import versioned

SIGMA = 7 / 6  # of the Gaussian window of 7×7
SHAPES = np.arange(0.2, 10.001, 0.001)
NEIGHBOURS = {"right": (0, 1), "below": (1, 0), "below right": (1, 1), "below left": (1, -1)}
TINY = 1e-12


def normalised(images: Array) -> Array:
    """(n, h, w) locally normalised luminance, (I − μ) / (σ + 1), of (n, h, w, channels) images on a scale of 0 to 255.

    Source: Mittal et al. 2012, equation 1.
    """
    grey = images.mean(axis=3, dtype=np.float64) * 255
    window = {"sigma": (0, SIGMA, SIGMA), "truncate": 3 / SIGMA, "mode": "nearest"}
    mean = gaussian_filter(grey, **window)
    spread = np.sqrt(np.maximum(gaussian_filter(grey**2, **window) - mean**2, 0))
    return (grey - mean) / (spread + 1)


def spread_ratios() -> Array:
    """Of a generalised Gaussian's variance and squared mean deviation, at `SHAPES`: falling."""
    return gamma(1 / SHAPES) * gamma(3 / SHAPES) / gamma(2 / SHAPES) ** 2


def moment_ratios() -> Array:
    """The same the other way round: rising."""
    return gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))


def symmetric_fit(values: Array) -> tuple[Array, Array]:
    """(n,) shapes and variances of generalised Gaussians with the moments of (n, m) values."""
    variance = (values**2).mean(axis=1)
    ratio = variance / np.maximum(np.abs(values).mean(axis=1), TINY) ** 2
    place = np.searchsorted(-spread_ratios(), -ratio).clip(0, len(SHAPES) - 1)
    return SHAPES[place], variance


def asymmetric_fit(values: Array) -> tuple[Array, Array, Array, Array]:
    """(n,) shapes, means, left and right variances of asymmetric generalised Gaussians of (n, m) values."""
    left, right = (
        np.sqrt((np.where(side, values, 0) ** 2).sum(axis=1) / np.maximum(side.sum(axis=1), 1))
        for side in (values < 0, values > 0)
    )
    share = np.maximum(left, TINY) / np.maximum(right, TINY)
    moments = np.abs(values).mean(axis=1) ** 2 / np.maximum((values**2).mean(axis=1), TINY)
    ratio = moments * (share**3 + 1) * (share + 1) / (share**2 + 1) ** 2
    shape = SHAPES[np.searchsorted(moment_ratios(), ratio).clip(0, len(SHAPES) - 1)]
    mean = (right - left) * gamma(2 / shape) / np.sqrt(gamma(1 / shape) * gamma(3 / shape))
    return shape, mean, left**2, right**2


@versioned(1)
class NaturalScenes(Lens):
    """Shape and variance of the locally normalised pixels, and of products of neighbours in four directions.

    Args:
        shape: (h, w, channels) of the images.

    Source: Kherchouche et al. 2020 (NSS), with the 18 features of Mittal et al. 2012 (BRISQUE) at one scale.
    """

    name, family = "natural scenes", "image"
    columns = (
        *("shape", "variance"),
        *(f"{what} {where}" for where in NEIGHBOURS for what in ("shape", "mean", "left variance", "right variance")),
    )

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = tuple(shape)

    def measure(self, images: Array) -> pd.DataFrame:
        """Of 18 columns."""
        pixels = normalised(checked_images(images, shape=self.shape))
        values = [*symmetric_fit(pixels.reshape(len(pixels), -1))]
        for down, right in NEIGHBOURS.values():
            moved = np.roll(pixels, (-down, -right), axis=(1, 2))
            values += asymmetric_fit((pixels * moved).reshape(len(pixels), -1))
        return pd.DataFrame(dict(zip(self.columns, values, strict=True)))

    def to_parts(self) -> dict[str, Any]:
        """The shape."""
        return {"shape": list(self.shape)}
