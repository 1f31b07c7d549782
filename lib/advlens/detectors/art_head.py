"""The head of ART's detectors that learn from attacks: a network that it trains on pixels or on activations."""

from typing import Any

import keras
import numpy as np
import pandas as pd
from art.defences.detector.evasion import BinaryInputDetector
from art.estimators.classification import TensorFlowV2Classifier
from keras import layers

from advlens.arrays import Array, checked_whole
from advlens.detectors.heads import HEADS, Head
from advlens.lenses.decisions import columns_named
from advlens.networks import build


class ArtBinary(Head):
    """ART's `BinaryInputDetector` on a lens's columns; on those of a layer, it is ART's `BinaryActivationDetector`.

    ART leaves the network to its user: the relevancy study's on pictures, one hidden layer of 64 units on activations.

    Args:
        shape: (h, w, channels) or (d,) that the columns are brought to; prefix: of their names, as "pixel".
        epochs, batch_size, learning_rate: of Adam.

    Source: Gong et al. 2017 for inputs; Metzen et al. 2017 for activations.
    """

    gives_log_odds = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        prefix: str,
        epochs: int = 20,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
    ) -> None:
        self.shape, self.prefix, self.learning_rate = tuple(shape), prefix, learning_rate
        self.epochs = checked_whole(epochs, name="epochs")
        self.batch_size = checked_whole(batch_size, name="batch_size")

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "ArtBinary":
        """Trains a new network, by ART's own loop."""
        keras.utils.set_random_seed(seed % 2**32)
        self.restore({"network": _network(self.shape)})
        truth = np.asarray(is_adversarial).astype(np.int64)
        self.detector_.fit(self._inputs(measured), truth, batch_size=self.batch_size, nb_epochs=self.epochs)
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """Log odds.

        Raises:
            RuntimeError: before `fit`.
        """
        if not hasattr(self, "detector_"):
            raise RuntimeError("this detector has not learnt yet: call learn(images, is_adversarial)")
        logits = self.detector_.detect(self._inputs(measured), batch_size=512)[0]["predictions"]
        return np.diff(logits.astype(np.float64), axis=1)[:, 0]

    def _inputs(self, measured: pd.DataFrame) -> Array:
        own = measured[columns_named(list(measured.columns), self.prefix)]
        return own.to_numpy(np.float32).reshape(len(measured), *self.shape)

    def parameters(self) -> dict[str, Any]:
        """As given."""
        about = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        return {"shape": list(self.shape), "prefix": self.prefix} | about

    def fitted(self) -> dict[str, Any]:
        """The trained network."""
        return {"network": self.detector_.detector.model}  # pyright: ignore[reportAttributeAccessIssue]

    def restore(self, parts: dict[str, Any]) -> "ArtBinary":
        """Makes ART's detector of a network."""
        classifier = TensorFlowV2Classifier(
            parts["network"],
            nb_classes=2,
            input_shape=self.shape,
            loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer=keras.optimizers.Adam(self.learning_rate),  # pyright: ignore[reportArgumentType]
        )
        self.detector_ = BinaryInputDetector(classifier)
        return self


def _network(shape: tuple[int, ...]) -> keras.Model:
    if len(shape) == 3:
        return build("slide_detector_cnn", input_shape=shape, num_classes=2)
    hidden = layers.Dense(64, activation="relu", name="hidden")
    return keras.Sequential([layers.Input(shape), hidden, layers.Dense(2, name="logits")], name="art_activations")


HEADS[ArtBinary.__name__] = ArtBinary
