"""What is measured of every image: the decision's metrics under each setting compared, and trivial baselines."""

from collections.abc import Sequence

import keras
import pandas as pd

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.closeness import ClassDensity, ClassDivergence
from advlens.detectors import trivial_baselines
from advlens.uncertainty import MonteCarloDropout

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


def measure(
    network: keras.Model,
    images: Array,
    *,
    train_images: Array,
    train_labels: Array,
    bandwidths: Sequence[float],
    passes: int,
    seed: int,
) -> pd.DataFrame:
    """Everything that the study says of (n, h, w, channels) images, a row an image.

    Returns:
        Columns: predicted (the network's decision in evaluation mode), max softmax of that decision, those of
        `uncertainty.METRICS`, a log density for each bandwidth, a divergence for each conversion, and the trivial
        baselines, as they come: none is turned around.
    """
    classifier = Classifier(network)
    decided = classifier.predict(images).argmax(axis=1)
    features, reference = classifier.features(images), classifier.features(train_images)
    measured = {
        "predicted": decided,
        **MonteCarloDropout(network, passes=passes, seed=seed).metrics(images),
    }
    for bandwidth in bandwidths:
        density = ClassDensity(bandwidth=bandwidth).fit(reference, train_labels)
        measured[kde_column(bandwidth)] = density.log_density(features, decided)
    for conversion in CONVERSIONS:
        divergence = ClassDivergence(conversion=conversion).fit(reference, train_labels)
        measured[kl_column(conversion)] = divergence.divergence(features, decided)
    baselines = {name: baseline.scores(images) for name, baseline in trivial_baselines(classifier).items()}
    return pd.DataFrame({**measured, **baselines})
