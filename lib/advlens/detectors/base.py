"""What every detector offers: ART's interface, scores, and a threshold committed from clean images."""

import abc
from typing import Any

import numpy as np
from art.defences.detector.evasion import EvasionDetector

from advlens.arrays import Array
from advlens.metrics import threshold_at_fpr


class Detector(EvasionDetector):
    """An evasion detector of ART that scores images: higher means more adversarial.

    A subclass stores its parameters untouched in `__init__`, names them in `defence_params`, and implements
    `scores` and, where it learns, `fit`. It sees images and the task network, never the labels of what it judges.

    Attributes:
        threshold_: what `calibrate` committed; images that score above it are called adversarial.
    """

    threshold_: float | None = None

    @abc.abstractmethod
    def scores(self, images: Array) -> Array:
        """(n,) float64 scores of (n, h, w, channels) images in [0, 1]; higher is more adversarial."""

    def fit(self, x: Array, y: Array, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> "Detector":
        """Nothing to learn, unless a subclass says otherwise."""
        return self

    def _trained(self, name: str) -> Any:
        """The attribute that `fit` leaves.

        Raises:
            RuntimeError: before `fit`.
        """
        if not hasattr(self, name):
            raise RuntimeError("this detector is not trained yet: call fit(images, is_adversarial) first")
        return getattr(self, name)

    def set_params(self, **kwargs: Any) -> None:
        """Sets parameters by name, checked.

        Raises:
            ValueError: for a name that the detector does not have, or a value that it does not accept.
        """
        unknown = sorted(set(kwargs) - set(self.defence_params))
        if unknown:
            raise ValueError(
                f"{type(self).__name__} has no parameter {', '.join(unknown)}: it takes "
                f"{', '.join(self.defence_params) or 'none'}"
            )
        super().set_params(**kwargs)

    def calibrate(self, clean_images: Array, *, fpr: float = 0.05) -> "Detector":
        """Commits the threshold from clean validation images alone, before any attack is seen.

        Args:
            clean_images: (n, h, w, channels) in [0, 1], none of them used in fitting or in evaluation.
            fpr: the nominal false-positive rate, in (0, 1).
        """
        self.threshold_ = threshold_at_fpr(self.scores(clean_images), fpr)
        return self

    def detect(self, x: Array, batch_size: int = 128, **kwargs: Any) -> tuple[dict, Array]:
        """ART's entry: ({"scores": (n,), "threshold": float}, (n,) bool, True where adversarial).

        Raises:
            RuntimeError: before `calibrate`.
        """
        if self.threshold_ is None:
            raise RuntimeError("this detector has no threshold yet: call calibrate(clean_images, fpr=...) first")
        scores = np.asarray(self.scores(x))
        return {"scores": scores, "threshold": self.threshold_}, scores > self.threshold_


def checked_truth(values: Array, *, n: int, name: str = "is_adversarial") -> Array:
    """Truths as (n,) int64, 1 where adversarial, once they are known to hold 0 and 1 and nothing else.

    Raises:
        ValueError: for another shape or other values, naming them under `name`.
    """
    truth = np.asarray(values)
    if truth.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), one value an image, got {truth.shape}")
    if set(np.unique(truth)) != {0, 1}:
        raise ValueError(f"{name} must hold both 0 and 1 and nothing else, got {np.unique(truth)[:5].tolist()}")
    return truth.astype(np.int64)
