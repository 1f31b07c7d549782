"""What Deep kNN and the trivial baselines say of images, one row per image."""

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.detectors.baselines import trivial_baselines
from advlens.neighbours import DeepKNN
from advlens.store import artifact
from advlens.workbench import Workbench

DEEP_KNN = "Deep kNN"
NETWORKS_LABEL = f"{DEEP_KNN}, network's label"


@artifact(version=1)
def measure(
    network: keras.Model,
    images: Array,
    *,
    train_images: Array,
    train_labels: Array,
    calibration_images: Array,
    calibration_labels: Array,
    k: int,
) -> pd.DataFrame:
    """Scores of (n, h, w, channels) images, higher = more adversarial.

    Args:
        train_images, train_labels: among which neighbours are searched; k: of these in each layer.
        calibration_images, calibration_labels: held out, for the p-values.
    Returns:
        predicted (by the network), `DEEP_KNN`, `NETWORKS_LABEL` and the trivial baselines.
    """
    classifier = Classifier(network)
    knn = DeepKNN(classifier, k=k).fit(train_images, train_labels).calibrate(calibration_images, calibration_labels)
    judged, predicted = knn.judge(images), classifier.predict(images).argmax(axis=1)
    columns = {
        "predicted": predicted,
        DEEP_KNN: 1 - judged.credibility,
        NETWORKS_LABEL: 1 - judged.p_values[np.arange(len(images)), predicted],
    }
    columns |= {name: scorer.scores(images) for name, scorer in trivial_baselines(classifier).items()}
    return pd.DataFrame(columns)


def check_sizes(bench: Workbench, *, neighbours: int, held_out: int) -> None:
    """Check that the data set has enough images for a Deep kNN, before anything is trained.

    Raises:
        ValueError: for as many neighbours as training images, or as many held-out images as test images.
    """
    training, tested = len(bench.data.train_labels[: bench.train_images]), len(bench.data.test_labels)
    if neighbours >= training:
        raise ValueError(f"neighbours must be fewer than the {training} training images, got {neighbours}")
    if held_out >= tested:
        raise ValueError(f"deep_knn_calibration must be fewer than the {tested} test images, got {held_out}")
