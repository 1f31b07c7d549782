"""Lenses on how well an autoencoder of clean images, or of their maps, reconstructs what it is given."""

from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import rel_entr, softmax

from advlens.arrays import Array, checked_images, checked_seed, checked_whole
from advlens.classifier import Classifier, checked_classifier
from advlens.explanations.explain import explain
from advlens.lenses.autoencoders import (
    convolutional_autoencoder,
    dense_autoencoder,
    from_weights,
    reconstruct,
    train_autoencoders,
    weights_of,
)
from advlens.lenses.base import Lens, fit_first
from advlens.random import stream, stream_seed
from advlens.store import digest, versioned

TEMPERATURES = (10, 40)
HELD_OUT = 0.1  # share of the training images that p-values are taken of
NAME = "autoencoder"
TINY = 1e-12


def divergence(p: Array, q: Array) -> Array:
    """(n,) Jensen–Shannon divergences of (n, c) distributions, in nats, 0 to ln 2.

    >>> round(float(divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))[0]), 4)
    0.6931
    """
    middle = (p + q) / 2
    return (rel_entr(p, middle) + rel_entr(q, middle)).sum(axis=1) / 2


@versioned(1)
class MagNet(Lens):
    """How far an image is from its reconstruction (L1, L2), and the decisions on the two from each other.

    The divergence is that of the softmax at temperatures 10 and 40. The paper flags an image that exceeds any one of
    its thresholds, set on clean images at one false-positive rate: so the score is the negated logarithm of the
    smallest p-value among held-out training images. One autoencoder here, where the paper has two on digits.

    Args:
        classifier: the task network; images: how many training images are learnt from, at most.
        epochs, seed: of the autoencoder's training.

    Attributes:
        networks_: the autoencoder; normal_: (m, 4) sorted measurements of held-out training images, after `fit`.

    Source: Meng & Chen 2017. Their reformer changes decisions, and is no detector.
    """

    name, family = "magnet", "image"
    columns = (
        *("reconstruction L1", "reconstruction L2"),
        *(f"divergence at T = {temperature}" for temperature in TEMPERATURES),
        "−log smallest p-value",
    )

    def __init__(self, classifier: Classifier, *, images: int = 6000, epochs: int = 10, seed: int = 0) -> None:
        self.classifier = checked_classifier(classifier)
        self.images, self.epochs = checked_whole(images, name="images", least=2), checked_whole(epochs, name="epochs")
        self.seed = checked_seed(seed)

    def fit(self, images: Array, labels: Array) -> "MagNet":
        """Trains the autoencoder, and measures the images that were held out of that."""
        images = checked_images(images, shape=self.classifier.input_shape)
        order = stream(self.seed, "lenses/magnet").permutation(len(images))[: self.images]
        self.source_ = digest(images[order])
        held_out, learnt = np.split(order, [max(round(HELD_OUT * len(order)), 1)])
        about = {"epochs": self.epochs, "seed": stream_seed(self.seed, "lenses/magnet training")}
        self.networks_ = train_autoencoders(convolutional_autoencoder, {NAME: images[learnt]}, **about)
        self.normal_ = np.sort(self._distances(images[held_out]), axis=0)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """Norms of pixels' differences, divergences in nats, and −log p.

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "networks_")
        values = self._distances(checked_images(images, shape=self.classifier.input_shape))
        pairs = zip(self.normal_.T, values.T, strict=True)
        above = len(self.normal_) - np.max([np.searchsorted(*pair) for pair in pairs], axis=0)
        strangeness = -np.log((1 + above) / (1 + len(self.normal_)))
        return pd.DataFrame(np.column_stack([values, strangeness]), columns=list(self.columns))

    def _distances(self, images: Array) -> Array:
        """(n, 4) of all columns but the last."""
        rebuilt = reconstruct(self.networks_[NAME], images)
        off = (images - rebuilt).reshape(len(images), -1).astype(np.float64)
        own, other = (self.classifier.predict(each).astype(np.float64) for each in (images, rebuilt))
        moved = [divergence(softmax(own / t, axis=1), softmax(other / t, axis=1)) for t in TEMPERATURES]
        return np.stack([np.abs(off).sum(axis=1), np.linalg.norm(off, axis=1), *moved], axis=1)

    def fitted(self) -> dict[str, Array]:
        """The autoencoder's weights and the held-out images' measurements."""
        if not hasattr(self, "networks_"):
            return {}
        return weights_of(self.networks_) | {"normal": self.normal_, "source": np.array([self.source_])}

    def take_over(self, arrays: dict[str, Array]) -> "MagNet":
        """As `fit`, from what `fitted` gave."""
        self.networks_ = from_weights(convolutional_autoencoder, self.classifier.input_shape, arrays)  # pyright: ignore[reportArgumentType]
        self.normal_, self.source_ = arrays["normal"], str(arrays["source"][0])
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network, parameters and the images learnt from: weights may differ in their last digits each time."""
        about = {"images": self.images, "epochs": self.epochs, "seed": self.seed}
        return {"network": self.classifier.model, "source": getattr(self, "source_", None)} | about


@versioned(1)
class MapReconstruction(Lens):
    """How badly a decision's map is reconstructed by an autoencoder of clean images' maps of the same class.

    As in the paper there is one autoencoder a class, with a single hidden layer, and the class decided for chooses it.
    The paper's maps are input gradients; here they are Deep Taylor's by default, each scaled to a root mean square of
    1, so that the error says how much of the map's shape is lost, whatever the logit was.

    Args:
        classifier: the task network; method: of `explain`; images: how many training images are learnt from, at most.
        epochs, seed: of the autoencoders' training.

    Attributes:
        networks_: class → autoencoder, after `fit`.

    Source: Ko & Lim 2021.
    """

    name, family, columns = "map reconstruction", "explanation", ("map reconstruction error",)

    def __init__(
        self,
        classifier: Classifier,
        *,
        method: str = "deep_taylor",
        images: int = 6000,
        epochs: int = 10,
        seed: int = 0,
    ) -> None:
        self.classifier, self.method = checked_classifier(classifier), method
        self.images, self.epochs = checked_whole(images, name="images"), checked_whole(epochs, name="epochs")
        self.seed = checked_seed(seed)

    def fit(self, images: Array, labels: Array) -> "MapReconstruction":
        """Trains an autoencoder for each class that some training image is decided for."""
        images = checked_images(images, shape=self.classifier.input_shape)
        images = images[stream(self.seed, "lenses/maps").permutation(len(images))[: self.images]]
        self.source_, (maps, decided) = digest(images), self._maps(images)
        about = {"epochs": self.epochs, "seed": stream_seed(self.seed, "lenses/maps training")}
        by_class = {str(each): maps[decided == each] for each in np.unique(decided)}
        self.networks_ = train_autoencoders(dense_autoencoder, by_class, **about)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """Root mean squares, about 0 to 1; of a class that no training image was decided for, the worst of all.

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "networks_")
        maps, decided = self._maps(checked_images(images, shape=self.classifier.input_shape))
        errors = np.empty(len(maps))
        for each in np.unique(decided):
            own = decided == each
            known = [self.networks_[str(each)]] if str(each) in self.networks_ else list(self.networks_.values())
            errors[own] = np.max([self._errors(network, maps[own]) for network in known], axis=0)
        return pd.DataFrame({self.columns[0]: errors})

    def _maps(self, images: Array) -> tuple[Array, Array]:
        """(n, h, w, channels) scaled maps, and (n,) classes decided for."""
        decided = self.classifier.predict(images).argmax(axis=1)
        maps = explain(self.classifier.model, images, method=self.method, neuron=decided)
        scale = np.sqrt(np.square(maps, dtype=np.float64).mean(axis=(1, 2, 3), keepdims=True))
        return (maps / np.maximum(scale, TINY)).astype(np.float32), decided

    @staticmethod
    def _errors(network: keras.Model, maps: Array) -> Array:
        off = maps - reconstruct(network, maps)
        return np.sqrt(np.square(off, dtype=np.float64).mean(axis=(1, 2, 3)))

    def fitted(self) -> dict[str, Array]:
        """The autoencoders' weights."""
        if not hasattr(self, "networks_"):
            return {}
        return weights_of(self.networks_) | {"source": np.array([self.source_])}

    def take_over(self, arrays: dict[str, Array]) -> "MapReconstruction":
        """As `fit`, from what `fitted` gave."""
        self.networks_ = from_weights(dense_autoencoder, self.classifier.input_shape, arrays)  # pyright: ignore[reportArgumentType]
        self.source_ = str(arrays["source"][0])
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network, parameters and the images learnt from: weights may differ in their last digits each time."""
        about = {"method": self.method, "images": self.images, "epochs": self.epochs, "seed": self.seed}
        return {"network": self.classifier.model, "source": getattr(self, "source_", None)} | about
