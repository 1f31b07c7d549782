"""The detectors of the relevancy-map study, trained on all attacks of this one, to compare with."""

import keras

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.store import artifact
from advlens.studies.relevancy.lenses import CORRECTED_LENSES
from advlens.training import Trained


@artifact(version=1)
def fit_network(
    network: keras.Model,
    train: Array,
    train_truth: Array,
    validation: Array,
    validation_truth: Array,
    *,
    lens: str,
    epochs: int,
    patience: int,
    seed: int,
) -> Trained:
    """A detector network of the relevancy-map study, trained on images of all attacks.

    Args:
        network: the task network.
        train, validation: (n, h, w, channels) images; their truths: (n,) bool, True where adversarial.
        lens: a name of `CORRECTED_LENSES`.
    """
    detector = CORRECTED_LENSES[lens].detector(Classifier(network), epochs=epochs, patience=patience, seed=seed)
    return detector.fit(train, train_truth, validation=(validation, validation_truth)).trained_


@artifact(version=1)
def network_scores(network: keras.Model, images: Array, *, lens: str, trained: Trained) -> dict[str, Array]:
    """{"scores": (n,)} of a trained detector network, its log odds of (n, h, w, channels) images."""
    detector = CORRECTED_LENSES[lens].detector(Classifier(network)).adopt(trained)
    return {"scores": detector.scores(images)}
