"""The trivial baselines that every detector must beat: five scores of an image that need no training."""

import numpy as np
from scipy.ndimage import median_filter

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.detectors.base import Detector

# A pixel belongs to the background where its 3×3 neighbourhood's median is darker than this.
BACKGROUND_LEVEL = 0.1
# What lies nearer than this to a multiple of 1/255 counts as one: float32 rounds far less.
GREY_LEVEL_TOLERANCE = 1e-4


def _median_filtered(images: Array) -> Array:
    return median_filter(images, size=(1, 3, 3, 1), mode="nearest")


class NonZeroBackground(Detector):
    """The number of background pixels that are not black."""

    def scores(self, images: Array) -> Array:
        """(n,) counts; background is where the 3×3 median is below 0.1."""
        images = checked_images(images)
        background = _median_filtered(images) < BACKGROUND_LEVEL
        return ((images > 0) & background).sum(axis=(1, 2, 3)).astype(np.float64)


class TotalVariation(Detector):
    """The sum of absolute differences of neighbouring pixels (Rudin et al. 1992, anisotropic)."""

    def scores(self, images: Array) -> Array:
        """(n,) ≥ 0, in pixel units."""
        images = checked_images(images)
        vertical = np.abs(np.diff(images, axis=1)).sum(axis=(1, 2, 3), dtype=np.float64)
        horizontal = np.abs(np.diff(images, axis=2)).sum(axis=(1, 2, 3), dtype=np.float64)
        return vertical + horizontal


class OffGreyLevels(Detector):
    """The share of pixels that are no multiple of 1/255: no 8-bit image has any."""

    def scores(self, images: Array) -> Array:
        """(n,) in [0, 1]."""
        levels = checked_images(images).astype(np.float64) * 255
        return (np.abs(levels - np.rint(levels)) > GREY_LEVEL_TOLERANCE * 255).mean(axis=(1, 2, 3))


class MedianFilterDistance(Detector):
    """The L2 distance of an image to its 3×3 median filter (Xu et al. 2018, without the network)."""

    def scores(self, images: Array) -> Array:
        """(n,) ≥ 0, in pixel units."""
        images = checked_images(images)
        return np.sqrt(np.square(images - _median_filtered(images), dtype=np.float64).sum(axis=(1, 2, 3)))


class MaxSoftmax(Detector):
    """One minus the task network's largest softmax output (Hendrycks & Gimpel 2017)."""

    defence_params = ("classifier",)

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = checked_classifier(classifier)

    def scores(self, images: Array) -> Array:
        """(n,) in [0, 1 − 1/c]."""
        logits = self.classifier.logits(checked_images(images)).astype(np.float64)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        # The others' share, summed directly: 1 − max would lose all digits of a confident decision.
        others = np.sort(exponentials, axis=1)[:, :-1].sum(axis=1)
        return others / (others + 1.0)


def pixel_baselines() -> dict[str, Detector]:
    """The four that look at pixels alone, by the names under which tables list them."""
    return {
        "non-zero background": NonZeroBackground(),
        "total variation": TotalVariation(),
        "off grey levels": OffGreyLevels(),
        "median-filter distance": MedianFilterDistance(),
    }


def trivial_baselines(classifier: Classifier) -> dict[str, Detector]:
    """All five by the names under which tables list them."""
    return {**pixel_baselines(), "max softmax": MaxSoftmax(classifier)}
