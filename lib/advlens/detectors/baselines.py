"""The trivial baselines that every detector must beat: five scores of an image that need no training."""

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.detectors.base import Detector
from advlens.lenses.decisions import max_softmax, pixel_scores


class NonZeroBackground(Detector):
    """The number of background pixels that are not black."""

    def scores(self, images: Array) -> Array:
        """(n,) counts; background is where the 3×3 median is below 0.1."""
        return pixel_scores(images)["non-zero background"]


class TotalVariation(Detector):
    """The sum of absolute differences of neighbouring pixels (Rudin et al. 1992, anisotropic)."""

    def scores(self, images: Array) -> Array:
        """(n,) ≥ 0, in pixel units."""
        return pixel_scores(images)["total variation"]


class OffGreyLevels(Detector):
    """The share of pixels that are no multiple of 1/255: no 8-bit image has any."""

    def scores(self, images: Array) -> Array:
        """(n,) in [0, 1]."""
        return pixel_scores(images)["off grey levels"]


class MedianFilterDistance(Detector):
    """The L2 distance of an image to its 3×3 median filter (Xu et al. 2018, without the network)."""

    def scores(self, images: Array) -> Array:
        """(n,) ≥ 0, in pixel units."""
        return pixel_scores(images)["median-filter distance"]


class MaxSoftmax(Detector):
    """One minus the task network's largest softmax output (Hendrycks & Gimpel 2017)."""

    defence_params = ("classifier",)

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = checked_classifier(classifier)

    def scores(self, images: Array) -> Array:
        """(n,) in [0, 1 − 1/c]."""
        return max_softmax(self.classifier.logits(checked_images(images)))


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
