"""A trained generator: from images to latent vectors, their classes, how real they are, and back to images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from advlens.arrays import Array, checked_images, checked_labels, checked_whole
from advlens.generative.networks import POOLED, decoder, discriminator, encoder, latent_classifier
from advlens.generative.supervised_vae import SupervisedVAE
from advlens.progress import progress
from advlens.random import stream
from advlens.store import artifact, storable

AT_ONCE = 512
LATENT = 32
VALIDATION = 0.05  # share of the training images that early stopping watches
NETWORKS = ("encoder", "decoder", "classifier", "discriminator")


@storable
@dataclasses.dataclass(frozen=True, eq=False)
class Generator:
    """Four networks that know each other.

    Attributes:
        encoder: images → (n, 2, d); decoder: (n, d) → logits of pixels; classifier: (n, d) → logits; discriminator:
            (n, d) → (n, 1), positive where a latent vector looks like an image's.
        binarised: whether images are taken as black or white, as in training.
        history: a row an epoch of the training.
    """

    encoder: keras.Model
    decoder: keras.Model
    classifier: keras.Model
    discriminator: keras.Model
    binarised: bool
    history: pd.DataFrame

    def encode(self, images: Array) -> Array:
        """(n, d) float32 mean latent vectors of (n, h, w, channels) images in [0, 1].

        Raises:
            ValueError: for bad images.
        """
        images = checked_images(images, shape=self.encoder.input_shape[1:])
        return self.encoder.predict(seen(images, binarised=self.binarised), batch_size=AT_ONCE, verbose=0)[:, 0]

    def decode(self, z: Array) -> Array:
        """(n, h, w, channels) float32 images in [0, 1] of (n, d) latent vectors."""
        return tf.sigmoid(self.decoder.predict(z, batch_size=AT_ONCE, verbose=0)).numpy()

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store."""
        return {name: getattr(self, name) for name in NETWORKS} | {
            "history": self.history,
            "about": {"binarised": self.binarised},
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "Generator":
        """The generator that `to_parts` took apart."""
        return cls(**{name: parts[name] for name in (*NETWORKS, "history")}, **parts["about"])


def seen(images: Array, *, binarised: bool) -> Array:
    """(n, h, w, channels) float32 as a generator takes them."""
    return (images > 0.5).astype(np.float32) if binarised else images


@artifact(version=2)
def train_generator(
    images: Array,
    labels: Array,
    *,
    num_classes: int,
    binarised: bool,
    epochs: int,
    patience: int,
    seed: int,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    latent: int = LATENT,
) -> Generator:
    """Trains a supervised variational autoencoder, then a discriminator between its latent vectors and noise.

    Args:
        images: (n, h, w, channels) in [0, 1], h and w multiples of `POOLED`; labels: (n,) classes.
        binarised: whether images are made black or white first.
        epochs: at most; patience: epochs without a better loss of held-out training images after which both stop.
        learning_rate, batch_size: of Adam with β₁ = 0.5; the rate falls to 0 along a cosine over `epochs`.
        latent: d.
    Raises:
        ValueError: for bad images or labels, numbers that are none, or sizes that the decoder can't give.

    Source: the study's code; Tang et al. 2019. There, 600 epochs at a steady rate of 2e-4 with 64 images in a batch.
    """
    images = checked_images(images)
    labels = checked_labels(labels, n=len(images), num_classes=num_classes)
    for name, value in {"epochs": epochs, "patience": patience, "batch_size": batch_size, "latent": latent}.items():
        checked_whole(value, name=name)
    if any(side % POOLED for side in images.shape[1:3]):
        raise ValueError(f"images must have sides that are multiples of {POOLED}, got {images.shape[1:3]}: pad them")
    keras.utils.set_random_seed(seed)
    shape = images.shape[1:]
    vae = SupervisedVAE(
        encoder(shape, latent), decoder(shape, latent), latent_classifier(latent, num_classes), seed=seed
    )
    order = np.random.default_rng(seed).permutation(len(images))
    held_out, fitted = np.split(order, [max(round(VALIDATION * len(images)), 1)])
    inputs = seen(images, binarised=binarised)
    history = _fitted(
        vae, inputs[fitted], labels[fitted], (inputs[held_out], labels[held_out]),
        epochs=epochs, patience=patience, learning_rate=learning_rate, batch_size=batch_size,
    )  # fmt: skip
    moments = vae.encoder.predict(inputs, batch_size=AT_ONCE, verbose=0)  # pyright: ignore[reportArgumentType]
    judge = _discriminator(moments, held_out, fitted, epochs=epochs, patience=patience, seed=seed)
    return Generator(vae.encoder, vae.decoder, vae.classifier, judge, binarised, history)


def _fitted(
    model: keras.Model,
    inputs: Array,
    labels: Array,
    held_out: tuple[Array, Array],
    *,
    epochs: int,
    patience: int,
    learning_rate: float,
    batch_size: int,
) -> pd.DataFrame:
    """A row an epoch; the model keeps the weights of the best one."""
    falling = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * -(-len(inputs) // batch_size))
    model.compile(keras.optimizers.Adam(falling, beta_1=0.5), jit_compile=False)  # pyright: ignore[reportArgumentType]
    with progress(description="training the generator", unit="epoch", total=epochs) as bar:
        watching = [
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: bar.update()),
            keras.callbacks.EarlyStopping(monitor="val_loss", mode="min", patience=patience, restore_best_weights=True),
        ]
        found = model.fit(
            inputs,
            labels,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=held_out,
            callbacks=watching,
            verbose=0,  # pyright: ignore[reportArgumentType]
        )
    history = pd.DataFrame(found.history)
    history.insert(0, "epoch", np.arange(1, len(history) + 1))
    return history


def _discriminator(
    moments: Array, held_out: Array, fitted: Array, *, epochs: int, patience: int, seed: int
) -> keras.Model:
    """Trained to tell latent vectors drawn for images, (n, 2, d) means and spreads, from standard normal ones."""
    rng = stream(seed, "generator/discriminator")
    n, _, latent = moments.shape
    real = moments[:, 0] + moments[:, 1] * rng.standard_normal((n, latent), dtype=np.float32)
    noise = rng.standard_normal((n, latent), dtype=np.float32)

    def both(rows: Array) -> tuple[Array, Array]:
        return np.concatenate([real[rows], noise[rows]]), np.repeat(np.float32([1, 0]), len(rows))[:, None]  # pyright: ignore[reportArgumentType]

    judge = discriminator(latent)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    judge.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), loss)
    stop = keras.callbacks.EarlyStopping(patience=patience, restore_best_weights=True)
    x, y = both(fitted)
    judge.fit(x, y, batch_size=512, epochs=epochs, validation_data=both(held_out), callbacks=[stop], verbose=0)  # pyright: ignore[reportArgumentType]
    return judge
