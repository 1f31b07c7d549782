"""Training of networks, seeded: Keras's own loop for task networks, and a compiled one for small networks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from advlens.arrays import Array, checked_whole
from advlens.networks.building import Builder, built
from advlens.progress import progress
from advlens.store import artifact, storable

BATCH_SIZE = 128
STEPS_A_CALL = 16  # with the same results: a call of several steps takes longer to trace and less time to run
SHORT = 500  # steps of a training that is not worth that
JUDGED_AT_ONCE = 512


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
    """Trains a task network by cross-entropy with Adam, rate 1e-3 falling to 0 as a cosine, in batches of 128.

    Args:
        images: (n, h, w, channels) float32 in [0, 1].
        labels: (n,) classes.
        builder: makes the untrained network, one of `networks.NETWORKS`.
    Raises:
        ValueError: for epochs that are no whole number, 1 or more.
    """
    checked_whole(epochs, name="epochs")
    keras.utils.set_random_seed(seed)
    model = built(builder, input_shape=images.shape[1:], num_classes=num_classes)
    steps = -(-len(images) // BATCH_SIZE)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * steps)
    keras.utils.set_random_seed(seed)
    model.compile(
        keras.optimizers.Adam(rate),  # pyright: ignore[reportArgumentType]
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=min(STEPS_A_CALL, steps) if epochs * steps > SHORT else 1,
    )
    with progress(description=f"training {model.name}", unit="epoch", total=epochs) as bar:
        shown = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: bar.update())
        about: dict[str, Any] = {"batch_size": BATCH_SIZE, "epochs": epochs, "callbacks": [shown], "verbose": 0}
        table = pd.DataFrame(model.fit(images, labels, **about).history)
    table.insert(0, "epoch", np.arange(1, len(table) + 1))
    return Trained(model, table)


class RepeatedTraining:
    """Trains small networks of one kind again and again: compiled once, an epoch a call, where Keras spends its time
    between the steps. SGD with momentum 0.9, cross-entropy of the logits, batches in a new random order each epoch.

    Args:
        builder: makes the untrained network; input_shape: (h, w, channels).
        num_classes, learning_rate, batch_size: as named.
    """

    def __init__(
        self,
        builder: Builder,
        input_shape: tuple[int, int, int],
        *,
        num_classes: int,
        learning_rate: float,
        batch_size: int,
    ) -> None:
        self.make = lambda: built(builder, input_shape=input_shape, num_classes=num_classes)
        self.batch_size = batch_size
        self.network = self.make()
        self.optimizer = keras.optimizers.SGD(learning_rate, momentum=0.9)
        self.optimizer.build(self.network.trainable_variables)

    def train(
        self,
        inputs: Array,
        labels: Array,
        *,
        epochs: int,
        seed: int,
        validation: tuple[Array, Array] | None = None,
        patience: int | None = None,
    ) -> Trained:
        """Trains a network that is built anew.

        Args:
            inputs: (n, …) float32; labels: (n,) classes.
            validation: inputs and labels whose loss decides which epoch is best.
            patience: epochs without a better validation loss after which training stops.
        """
        rng, trained = np.random.default_rng(seed), self._reset(seed)
        inputs, labels = tf.constant(inputs), tf.constant(labels, tf.int64)  # pyright: ignore[reportAssignmentType]
        watched = None if validation is None else (tf.constant(validation[0]), tf.constant(validation[1], tf.int64))
        rows: list[dict[str, float]] = []
        best, best_epoch, best_weights = np.inf, 0, self.network.get_weights()
        for epoch in progress(range(1, epochs + 1), description=f"training {self.network.name}", unit="epoch"):
            order = tf.constant(rng.permutation(len(inputs)))
            loss, accuracy = (float(each) for each in self._epoch(inputs, labels, order))  # pyright: ignore[reportArgumentType]
            rows.append({"epoch": epoch, "loss": loss, "accuracy": accuracy})
            if watched is None:
                continue
            loss, accuracy = (float(each) for each in self._judge(*watched))
            rows[-1] |= {"val_loss": loss, "val_accuracy": accuracy}
            if loss < best:
                best, best_epoch, best_weights = loss, epoch, self.network.get_weights()
            elif patience is not None and epoch - best_epoch >= patience:
                break
        trained.set_weights(self.network.get_weights() if watched is None or patience is None else best_weights)
        return Trained(trained, pd.DataFrame(rows))

    def _reset(self, seed: int) -> keras.Model:
        """Initial weights, random states of dropout and momenta, as a network that is built with that seed has them.

        Returns:
            That network.
        """
        keras.utils.set_random_seed(seed)
        built_anew = self.make()
        for own, new in zip(self.network.variables, built_anew.variables, strict=True):
            own.assign(new)
        for momentum in self.optimizer.momentums:
            momentum.assign(tf.zeros_like(momentum))  # pyright: ignore[reportAttributeAccessIssue]
        return built_anew

    @tf.function(reduce_retracing=True)
    def _epoch(self, inputs: tf.Tensor, labels: tf.Tensor, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean loss and accuracy of an epoch's batches, each before its step."""
        weights, total, right = self.network.trainable_variables, 0.0, 0.0
        for start in tf.range(0, tf.size(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            batch, truth = tf.gather(inputs, rows), tf.gather(labels, rows)
            with tf.GradientTape() as tape:
                losses, hits = self._losses(batch, truth, training=True)
                loss = tf.reduce_mean(losses)
            self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            total, right = total + tf.reduce_sum(losses), right + hits
        n = tf.cast(tf.size(order), tf.float32)
        return total / n, right / n

    @tf.function(reduce_retracing=True)
    def _judge(self, inputs: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean loss and accuracy, in evaluation mode."""
        total, right = 0.0, 0.0
        for start in tf.range(0, tf.size(labels), JUDGED_AT_ONCE):
            stop = start + JUDGED_AT_ONCE
            losses, hits = self._losses(inputs[start:stop], labels[start:stop], training=False)
            total, right = total + tf.reduce_sum(losses), right + hits
        n = tf.cast(tf.size(labels), tf.float32)
        return total / n, right / n

    def _losses(self, batch: tf.Tensor, truth: tf.Tensor, *, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """(n,) cross-entropies, and how many decisions are right."""
        logits = self.network(batch, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits)
        return losses, tf.reduce_sum(tf.cast(tf.argmax(logits, axis=1) == truth, tf.float32))
