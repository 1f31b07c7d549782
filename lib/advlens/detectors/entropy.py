"""The feature-response study's detector: one threshold on the average local entropy of a feature response."""

from typing import Any

import numpy as np

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.detectors.base import Detector, checked_truth
from advlens.explanations.entropy import average_local_entropy
from advlens.explanations.responses import LAST_CONVOLUTION, METHODS, responses
from advlens.metrics import roc_auc


class SpatialEntropy(Detector):
    """Scores images by how mixed the grey levels of their feature response are, patch by patch.

    Args:
        classifier: the task network.
        method, of: which response, see `explanations.responses.responses`.
        window, bins, stride, normalisation: see `explanations.entropy.average_local_entropy`.
        direction: 1 where adversarial responses are thought to have the higher entropy, -1 for the lower, None to let
            `fit` find out.
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for another method or direction, or an entropy that the network's images do not allow.

    Attributes:
        direction_: 1 or -1, after `fit`, where none was given.

    Source: Amirian et al. 2018.
    """

    defence_params = ("classifier", "method", "of", "window", "bins", "stride", "normalisation", "direction")

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: str = "guided_backprop",
        of: str = LAST_CONVOLUTION,
        window: int = 3,
        bins: int = 256,
        stride: int = 1,
        normalisation: str = "minmax",
        direction: int | None = None,
    ) -> None:
        super().__init__()
        self.classifier = checked_classifier(classifier)
        self.method = method
        self.of = of
        self.window = window
        self.bins = bins
        self.stride = stride
        self.normalisation = normalisation
        self.direction = direction
        self._check_params()

    def _check_params(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"no response method is called {self.method!r}: choose one of {', '.join(METHODS)}")
        if self.direction is not None and (isinstance(self.direction, bool) or self.direction not in (1, -1)):
            raise ValueError(f"direction must be 1, -1 or None, got {self.direction!r}")
        self._entropies(np.zeros((1, *self.classifier.input_shape), np.float32))  # refuses what does not fit

    def fit(self, x: Array, y: Array, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> "SpatialEntropy":
        """Chooses the direction by the ROC-AUC on validation images.

        Args:
            x: (n, h, w, channels) images in [0, 1]; y: (n,) truths, 1 where adversarial.
        Raises:
            ValueError: for bad images, or truths other than 0 and 1 or of one kind only.
        """
        truth = checked_truth(y, n=len(x))
        self.direction_ = direction_of(self.entropies(x), truth)
        return self

    def entropies(self, images: Array) -> Array:
        """(n,) average local entropies in bits, of (n, h, w, channels) images in [0, 1]."""
        images = checked_images(images, shape=self.classifier.input_shape)
        return self._entropies(responses(self.classifier.model, images, method=self.method, of=self.of))

    def _entropies(self, maps: Array) -> Array:
        return average_local_entropy(
            maps, window=self.window, bins=self.bins, stride=self.stride, normalisation=self.normalisation
        )

    def scores(self, images: Array) -> Array:
        """(n,) the entropies, turned around where the direction is -1.

        Raises:
            RuntimeError: before `fit`, where no direction was given.
        """
        direction = self._trained("direction_") if self.direction is None else self.direction
        return direction * self.entropies(images)


def direction_of(entropies: Array, is_adversarial: Array) -> int:
    """1 where (n,) adversarial images have the higher entropies, by the ROC-AUC, else -1."""
    return 1 if roc_auc(entropies, is_adversarial.astype(bool)) >= 0.5 else -1
