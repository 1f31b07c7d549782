"""The closeness-and-uncertainty detectors: metrics of how a decision was made, and a logistic regression of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.closeness import ClassReference
from advlens.detectors.base import Detector
from advlens.detectors.regression import regression
from advlens.uncertainty import METRICS, MonteCarloDropout

UNCERTAINTY = ("variance", "entropy", "mutual information", "confidence")
CLOSENESS = ("KDE", "KL divergence")
SIX = (*UNCERTAINTY, *CLOSENESS)


class DecisionMetrics:
    """Uncertainty and closeness of a network's decisions, by name.

    Args:
        classifier: the task network, with dropout layers.
        closeness: name → measure of closeness, such as `{"KDE": ClassDensity(bandwidth=1.7)}`.
        passes, seed: of the Monte-Carlo dropout.
    Raises:
        TypeError: for a classifier or a measure of closeness that is none.
        ValueError: for a network without dropout, passes and seeds that `MonteCarloDropout` refuses, or a name that an
            uncertainty metric has.
    """

    def __init__(
        self, classifier: Classifier, *, closeness: Mapping[str, ClassReference], passes: int = 50, seed: int = 0
    ) -> None:
        if not isinstance(closeness, Mapping):
            raise TypeError(
                f"closeness must map names to measures, got {type(closeness).__name__}: as {{'KDE': ClassDensity(...)}}"
            )
        if taken := sorted(set(closeness) & {"predicted", *METRICS}):
            raise ValueError(f"closeness can't be called {', '.join(taken)}, which is measured anyway: rename it")
        for name, measure in closeness.items():
            if not isinstance(measure, ClassReference):
                raise TypeError(
                    f"closeness {name!r} must be a ClassDensity or ClassDivergence, got {type(measure).__name__}"
                )
        self.classifier = checked_classifier(classifier)
        self.dropout = MonteCarloDropout(classifier.model, passes=passes, seed=seed)
        self.closeness = dict(closeness)

    def fit(self, images: Array, labels: Array) -> "DecisionMetrics":
        """Takes over the task network's training images, (n, h, w, channels), and classes, (n,)."""
        return self.fit_features(self.classifier.features(images), labels)

    def fit_features(self, features: Array, labels: Array) -> "DecisionMetrics":
        """As `fit`, of training images whose (n, d) `Classifier.features` are known already."""
        for measure in self.closeness.values():
            measure.fit(features, labels)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """All metrics of (n, h, w, channels) images for the class that the network decides on, a column each.

        Columns: predicted (that class), those of `uncertainty.METRICS`, and those of `closeness`.

        Raises:
            RuntimeError: before `fit`.
            ValueError: for anything that is not images of the network's shape.
        """
        images = checked_images(images, shape=self.classifier.input_shape)
        decided = self.classifier.predict(images).argmax(axis=1)
        return pd.DataFrame(
            {"predicted": decided, **self.dropout.metrics(images), **self.closeness_to(images, decided)}
        )

    def closeness_to(self, images: Array, classes: Array) -> dict[str, Array]:
        """Name → (n,) closeness of (n, h, w, channels) images to the (n,) classes given.

        Raises:
            RuntimeError: before `fit`.
            ValueError: for other images or classes.
        """
        features = self.classifier.features(images)
        return {name: measure.by_class(features, classes) for name, measure in self.closeness.items()}


class MetricRegression(Detector):
    """A logistic regression of standardised metrics; of one metric it only chooses sign and scale.

    Args:
        metrics: fitted `DecisionMetrics`.
        columns: the metrics that it sees.
    Raises:
        TypeError: for metrics that are none, or columns that are no list of names.
        ValueError: for columns that are not measured.

    Attributes:
        model_: scaler and regression, after `fit`.

    Source: Feinman et al. 2017, section 6; Tuna et al. 2020, section 5.3.
    """

    defence_params = ("metrics", "columns")

    def __init__(self, metrics: DecisionMetrics, *, columns: Sequence[str] = SIX) -> None:
        super().__init__()
        if not isinstance(metrics, DecisionMetrics):
            raise TypeError(f"metrics must be DecisionMetrics, got {type(metrics).__name__}: see its docstring")
        known = (*METRICS, *metrics.closeness)
        if isinstance(columns, str) or not isinstance(columns, Sequence) or len(columns) == 0:
            raise TypeError(f"columns must be a list of metrics, got {columns!r}: columns are {', '.join(known)}")
        unknown = [str(name) for name in columns if name not in known]
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is not measured: columns are {', '.join(known)}")
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
