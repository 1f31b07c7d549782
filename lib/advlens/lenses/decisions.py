"""Lenses on the decision itself: trivial scores of pixels and outputs, dropout uncertainty, closeness of features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter

from advlens.arrays import Array, checked_images
from advlens.classifier import Classifier, checked_classifier
from advlens.closeness import ClassDensity, ClassDivergence, ClassReference
from advlens.lenses.base import Lens, frame_of, names_of
from advlens.store import versioned
from advlens.uncertainty import METRICS, MonteCarloDropout

BACKGROUND_LEVEL = 0.1  # a pixel is background where its 3×3 neighbourhood's median is darker
GREY_LEVEL_TOLERANCE = 1e-4  # what is nearer to a multiple of 1/255 counts as one: float32 rounds far less
PIXEL_SCORES = ("non-zero background", "total variation", "off grey levels", "median-filter distance")
MAX_SOFTMAX = "max softmax"
BASELINES = (*PIXEL_SCORES, MAX_SOFTMAX)
"""The trivial baselines that every detector must beat."""


def pixel_scores(images: Array) -> dict[str, Array]:
    """Four scores of (n, h, w, channels) images that need no network, each (n,) float64.

    How many background pixels are not black; total variation (Rudin et al. 1992, anisotropic); the share of pixels
    that are no multiple of 1/255; the L2 distance to the 3×3 median filter (Xu et al. 2018, without the network).
    """
    images = checked_images(images)
    filtered = median_filter(images, size=(1, 3, 3, 1), mode="nearest")
    axes, levels = (1, 2, 3), images.astype(np.float64) * 255
    steps = [np.abs(np.diff(images, axis=axis)).sum(axis=axes, dtype=np.float64) for axis in (1, 2)]
    scores = (
        ((images > 0) & (filtered < BACKGROUND_LEVEL)).sum(axis=axes).astype(np.float64),
        steps[0] + steps[1],
        (np.abs(levels - np.rint(levels)) > GREY_LEVEL_TOLERANCE * 255).mean(axis=axes),
        np.sqrt(np.square(images - filtered, dtype=np.float64).sum(axis=axes)),
    )
    return dict(zip(PIXEL_SCORES, scores, strict=True))


def max_softmax(logits: Array) -> Array:
    """(n,) one minus the largest softmax of (n, c) logits (Hendrycks & Gimpel 2017), in [0, 1 − 1/c]."""
    logits = logits.astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    # The others' share, summed directly: 1 − max would lose all digits of a confident decision.
    others = np.sort(exponentials, axis=1)[:, :-1].sum(axis=1)
    return others / (others + 1.0)


@versioned(1)
class Baselines(Lens):
    """The five trivial scores, `BASELINES`."""

    name, family, columns = "baselines", "baseline", BASELINES

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = checked_classifier(classifier)

    def measure(self, images: Array) -> pd.DataFrame:
        """See `pixel_scores` and `max_softmax`."""
        return pd.DataFrame({**pixel_scores(images), MAX_SOFTMAX: max_softmax(self.classifier.logits(images))})

    def to_parts(self) -> dict[str, Any]:
        """The network."""
        return {"network": self.classifier.model}


@versioned(1)
class Uncertainty(Lens):
    """Monte-Carlo dropout: variance, entropy, mutual information, confidence, and the parts of the variance.

    Args:
        classifier: a task network with dropout layers; passes, seed: of the dropout.
    Raises:
        ValueError: for a network without dropout, and what `MonteCarloDropout` refuses.
    """

    name, family, columns = "uncertainty", "uncertainty", tuple(METRICS)

    def __init__(self, classifier: Classifier, *, passes: int = 50, seed: int = 0) -> None:
        self.classifier = checked_classifier(classifier)
        self.passes, self.seed = passes, seed
        self.dropout = MonteCarloDropout(classifier.model, passes=passes, seed=seed)

    def measure(self, images: Array) -> pd.DataFrame:
        """See `uncertainty.METRICS`."""
        return pd.DataFrame(self.dropout.metrics(images))[list(self.columns)]

    def to_parts(self) -> dict[str, Any]:
        """Network, passes and seed."""
        return {"network": self.classifier.model, "passes": self.passes, "seed": self.seed}


@versioned(1)
class Closeness(Lens):
    """How near a decision's features are to the training images of the class decided for.

    Args:
        classifier: the task network.
        bandwidth: of the kernel density, in scikit-learn's convention; conversion: of the KL divergence.

    Attributes:
        features_, labels_: (m, d) and (m,), of the training images, after `fit`.
    """

    name, family, columns = "closeness", "closeness", ("KDE", "KL divergence")

    def __init__(self, classifier: Classifier, *, bandwidth: float = 1.0, conversion: str = "softmax") -> None:
        self.classifier = checked_classifier(classifier)
        self.bandwidth, self.conversion = bandwidth, conversion
        self._measures: dict[str, ClassReference] = {
            "KDE": ClassDensity(bandwidth=bandwidth),
            "KL divergence": ClassDivergence(conversion=conversion),
        }

    def fit(self, images: Array, labels: Array) -> "Closeness":
        """Takes over the features of the training images."""
        return self.fit_features(self.classifier.features(images), labels)

    def fit_features(self, features: Array, labels: Array) -> "Closeness":
        """As `fit`, of (m, d) features that are known already."""
        self.features_, self.labels_ = features, np.asarray(labels)
        for measure in self._measures.values():
            measure.fit(features, self.labels_)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """Log density and divergence (nats), for the class decided for.

        Raises:
            RuntimeError: before `fit`.
        """
        images = checked_images(images, shape=self.classifier.input_shape)
        features, decided = self.classifier.features(images), self.classifier.predict(images).argmax(axis=1)
        return pd.DataFrame({name: each.by_class(features, decided) for name, each in self._measures.items()})

    def to_parts(self) -> dict[str, Any]:
        """Network, parameters and training features."""
        about = {"network": self.classifier.model, "bandwidth": self.bandwidth, "conversion": self.conversion}
        return about | {"features": None, "labels": None} | self.fitted()

    def fitted(self) -> dict[str, Array]:
        """Features and labels of the training images."""
        return {"features": self.features_, "labels": self.labels_} if hasattr(self, "features_") else {}

    def take_over(self, arrays: dict[str, Array]) -> "Closeness":
        """As `fit`, from what `fitted` gave."""
        return self.fit_features(arrays["features"], arrays["labels"])


@versioned(1)
class Features(Lens):
    """The class decided for ("predicted") and the last hidden layer ("feature 0", …)."""

    name, family = "features", "closeness"

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = checked_classifier(classifier)
        width = classifier.features(np.zeros((1, *classifier.input_shape), np.float32)).shape[1]
        self.columns = ("predicted", *names_of("feature", width))

    def measure(self, images: Array) -> pd.DataFrame:
        """The activations as they are."""
        frame = frame_of(self.classifier.features(images), "feature")
        frame.insert(0, "predicted", self.classifier.predict(images).argmax(axis=1).astype(np.float32))
        return frame

    def to_parts(self) -> dict[str, Any]:
        """The network."""
        return {"network": self.classifier.model}


def columns_named(columns: Sequence[str], prefix: str) -> list[str]:
    """Those of the columns that `frame_of` made with that prefix."""
    return [column for column in columns if column.startswith(f"{prefix} ")]
