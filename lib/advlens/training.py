"""Training of networks: one loop for task networks and detectors, seeded, with a progress bar and early stopping."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.networks.building import Builder, built
from advlens.progress import progress
from advlens.store import artifact, storable

STEPS_A_CALL = 16  # with the same results: a call of several steps takes longer to trace and less time to run
SHORT = 500  # steps of a training that is not worth that


@storable
@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network and how its training went.

    Attributes:
        network: the weights of the best epoch where there was early stopping, else of the last.
        history: a row an epoch: epoch, loss, accuracy and, with validation, val_loss, val_accuracy.
    """

    network: keras.Model
    history: pd.DataFrame

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store."""
        return {"network": self.network, "history": self.history}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "Trained":
        """The trained network that `to_parts` took apart."""
        return cls(**parts)


@artifact(version=1)
def train_task_network(
    images: Array, labels: Array, *, builder: Builder, num_classes: int, epochs: int, seed: int
) -> Trained:
    """Trains a task network with Adam, rate 1e-3 falling to 0 as a cosine, in batches of 128.

    Args:
        images: (n, h, w, channels) float32 in [0, 1].
        labels: (n,) classes.
        builder: makes the untrained network, one of `networks.NETWORKS`.
    """
    keras.utils.set_random_seed(seed)
    model = built(builder, input_shape=images.shape[1:], num_classes=num_classes)
    steps = epochs * -(-len(images) // 128)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps))
    return train(model, images, labels, optimizer=optimizer, epochs=epochs, batch_size=128, seed=seed)


def train(
    model: keras.Model,
    inputs: Array,
    labels: Array,
    *,
    optimizer: keras.optimizers.Optimizer,
    epochs: int,
    batch_size: int,
    seed: int,
    validation: tuple[Array, Array] | None = None,
    patience: int | None = None,
) -> Trained:
    """Fits a network that ends in logits, by cross-entropy.

    Args:
        inputs: (n, …) float32; labels: (n,) classes.
        validation: inputs and labels whose loss decides which epoch is best.
        patience: epochs without a better validation loss after which training stops; needs `validation`.
    Raises:
        ValueError: for `patience` without `validation`, or fewer than one epoch.
    """
    if patience is not None and validation is None:
        raise ValueError("patience needs validation data to watch: pass validation=(inputs, labels)")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    keras.utils.set_random_seed(seed)
    steps = -(-len(inputs) // batch_size)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=min(STEPS_A_CALL, steps) if epochs * steps > SHORT else 1,
    )
    with progress(description=f"training {model.name}", unit="epoch", total=epochs) as bar:
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: bar.update())]
        if patience is not None:
            callbacks.append(keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True))
        history = model.fit(
            inputs,
            labels,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=validation,
            callbacks=callbacks,
            verbose=0,
        ).history
    table = pd.DataFrame(history)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return Trained(model, table)
