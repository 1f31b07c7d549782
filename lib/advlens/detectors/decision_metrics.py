"""The closeness-and-uncertainty detectors: metrics of how a decision was made, and a logistic regression of them."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.closeness import ClassDensity, ClassDivergence
from advlens.detectors.base import Detector
from advlens.detectors.regression import regression
from advlens.uncertainty import MonteCarloDropout

UNCERTAINTY = ("variance", "entropy", "mutual information", "confidence")
CLOSENESS = ("KDE", "KL divergence")
SIX = (*UNCERTAINTY, *CLOSENESS)


class DecisionMetrics:
    """Uncertainty and closeness of a network's decisions, by name.

    Args:
        classifier: the task network, with dropout layers.
        bandwidth, convention: of the kernel density, as `closeness.ClassDensity` takes them.
        conversion: of activations for the divergence, as `closeness.ClassDivergence` takes it.
        passes, seed: of the Monte-Carlo dropout.
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for a network without dropout, or parameters that `ClassDensity` and the others refuse.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        bandwidth: float,
        convention: str = "scikit-learn",
        conversion: str = "softmax",
        passes: int = 50,
        seed: int = 0,
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.dropout = MonteCarloDropout(classifier.model, passes=passes, seed=seed)
        self.density = ClassDensity(bandwidth=bandwidth, convention=convention)
        self.divergence = ClassDivergence(conversion=conversion)

    def fit(self, images: Array, labels: Array) -> "DecisionMetrics":
        """Takes over the task network's training images, (n, h, w, channels), and classes, (n,)."""
        features = self.classifier.features(images)
        self.density.fit(features, labels)
        self.divergence.fit(features, labels)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """All metrics of (n, h, w, channels) images for the class that the network decides on, a column each.

        Columns: those of `uncertainty.METRICS`, "KDE" (log density) and "KL divergence" (nats).

        Raises:
            RuntimeError: before `fit`.
            ValueError: for anything that is not images of the network's shape.
        """
        images = checked_images(images, shape=self.classifier.input_shape)
        decided = self.classifier.predict(images).argmax(axis=1)
        features = self.classifier.features(images)
        return pd.DataFrame(
            {
                **self.dropout.metrics(images),
                "KDE": self.density.log_density(features, decided),
                "KL divergence": self.divergence.divergence(features, decided),
            }
        )


class MetricRegression(Detector):
    """A logistic regression of standardised metrics; of one metric it only chooses sign and scale.

    Args:
        metrics: fitted `DecisionMetrics`.
        columns: the metrics that it sees.

    Attributes:
        model_: scaler and regression, after `fit`.

    Source: Feinman et al. 2017, section 6; Tuna et al. 2020, section 5.3.
    """

    defence_params = ("metrics", "columns")

    def __init__(self, metrics: DecisionMetrics, *, columns: Sequence[str] = SIX) -> None:
        super().__init__()
        self.metrics = metrics
        self.columns = tuple(columns)

    def fit(self, x: Array, y: Array, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> "MetricRegression":
        """Fits to (n, h, w, channels) images in [0, 1] and (n,) truths, 1 where adversarial.

        Raises:
            ValueError: for bad images, or truths other than 0 and 1 or of one kind only.
        """
        self.model_ = regression(self._values(x), y)
        return self

    def scores(self, images: Array) -> Array:
        """(n,) log odds that each image is adversarial.

        Raises:
            RuntimeError: before `fit`.
        """
        return self._trained("model_").decision_function(self._values(images))

    def _values(self, images: Array) -> Array:
        return self.metrics.measure(images)[list(self.columns)].to_numpy()
