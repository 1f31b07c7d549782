"""Metrics of decisions and trivial baselines for studies on the way to `Benchmark`; it goes with the last of them."""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.closeness import ClassDensity, ClassDivergence
from advlens.detectors.baselines import trivial_baselines
from advlens.detectors.decision_metrics import DecisionMetrics
from advlens.store import artifact

CONVERSIONS = ("softmax", "share")
# Which way a metric points: its sign where higher is more adversarial.
SIGNS = {
    "variance": 1,
    "entropy": 1,
    "mutual information": 1,
    "confidence": -1,
    "aleatoric": 1,
    "epistemic": 1,
    "KDE": -1,
    "KL divergence": 1,
}


def kde_column(bandwidth: float) -> str:
    """The name of the log density's column at a bandwidth in scikit-learn's convention."""
    return f"KDE, h = {bandwidth:.3g}"


def kl_column(conversion: str) -> str:
    """The name of the divergence's column under a conversion."""
    return f"KL divergence, {conversion}"


@artifact(version=1)
def reference_features(network: keras.Model, images: Array) -> dict[str, Array]:
    """The training images' features, (n, d), computed once for all that is measured against them."""
    return {"features": Classifier(network).features(images)}


@artifact(version=1)
def measure(
    network: keras.Model,
    images: Array,
    *,
    features: Array,
    labels: Array,
    bandwidths: Sequence[float],
    passes: int,
    seed: int,
) -> pd.DataFrame:
    """Everything that the study says of (n, h, w, channels) images, a row an image.

    Args:
        features, labels: (m, d) and (m,), of the training images.
        bandwidths, passes, seed: of the densities and of the Monte-Carlo dropout.
    Returns:
        The columns of `DecisionMetrics.measure`, a log density for each bandwidth and a divergence for each
        conversion, and the trivial baselines, as they come: none is turned around.
    """
    classifier = Classifier(network)
    closeness = {kde_column(bandwidth): ClassDensity(bandwidth=bandwidth) for bandwidth in bandwidths}
    closeness |= {kl_column(conversion): ClassDivergence(conversion=conversion) for conversion in CONVERSIONS}
    metrics = DecisionMetrics(classifier, closeness=closeness, passes=passes, seed=seed)
    measured = metrics.fit_features(features, labels).measure(images)
    return measured.assign(**{name: scorer.scores(images) for name, scorer in trivial_baselines(classifier).items()})


def text_bandwidth(bandwidth: float) -> float:
    """The h of scikit-learn's exp(−d²/2h²) that gives the text's kernel exp(−d²/σ²) of that σ."""
    return bandwidth / float(np.sqrt(2))
