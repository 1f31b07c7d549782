"""Lenses on where a decision's features lie among those of the training images: distances, dimensions, signatures."""

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
import pandas as pd
from scipy.linalg import pinvh
from scipy.spatial.distance import cdist

from advlens.arrays import Array, checked_images, checked_labels, checked_seed, checked_whole
from advlens.classifier import Classifier, checked_classifier
from advlens.lenses.base import Lens, fit_first, names_of
from advlens.networks.parts import last_layer, weighted_layers
from advlens.random import stream
from advlens.store import versioned

TINY = 1e-12
PROPOSED = 4  # rows proposed for each neighbour that is wanted
AT_ONCE = 2048  # images whose feature maps are held at once


def _pooled(classifier: Classifier, images: Array, names: Sequence[str]) -> dict[str, Array]:
    """Layer → (n, d) float64 activations; those of feature maps averaged over their places."""
    parts = []
    for start in range(0, len(images), AT_ONCE):
        found = classifier.layer_activations(images[start : start + AT_ONCE], names)
        parts.append({name: a.mean(axis=(1, 2)) if a.ndim == 4 else a for name, a in found.items()})
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in names}


@versioned(1)
class Mahalanobis(Lens):
    """The squared Mahalanobis distance to the nearest class's mean, in each layer, with one covariance for all classes.

    Args:
        classifier: the task network; layers: names of its layers, by default those with weights.

    Attributes:
        means_, precisions_: layer → (c, d) and (d, d), after `fit`.

    Source: Lee et al. 2018, equation 2 (without the input noise and the attack-tuned weights: a head learns these).
    """

    name, family = "mahalanobis", "closeness"

    def __init__(self, classifier: Classifier, *, layers: Sequence[str] | None = None) -> None:
        self.classifier = checked_classifier(classifier)
        self.layers = list(layers or weighted_layers(classifier.model))
        self.columns = tuple(f"mahalanobis at {name}" for name in self.layers)

    def fit(self, images: Array, labels: Array) -> "Mahalanobis":
        """Means of the classes and the covariance around them."""
        images = checked_images(images, shape=self.classifier.input_shape)
        labels = checked_labels(labels, n=len(images), num_classes=self.classifier.nb_classes)
        self.means_, self.precisions_ = {}, {}
        for name, own in _pooled(self.classifier, images, self.layers).items():
            present = np.unique(labels)
            means = np.stack([own[labels == each].mean(axis=0) for each in present])
            centred = own - means[np.searchsorted(present, labels)]
            self.means_[name], self.precisions_[name] = means, pinvh(centred.T @ centred / len(own))
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """Squared distances, ≥ 0.

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "means_")
        images, squares = checked_images(images, shape=self.classifier.input_shape), []
        for name, own in _pooled(self.classifier, images, self.layers).items():
            offsets = own[:, None] - self.means_[name]
            squares.append((offsets @ self.precisions_[name] * offsets).sum(axis=2).min(axis=1))
        return pd.DataFrame(dict(zip(self.columns, squares, strict=True)))

    def fitted(self) -> dict[str, Array]:
        """Means and precisions by layer."""
        pairs = (("mean", getattr(self, "means_", {})), ("precision", getattr(self, "precisions_", {})))
        return {f"{kind} {name}": part for kind, parts in pairs for name, part in parts.items()}

    def take_over(self, arrays: dict[str, Array]) -> "Mahalanobis":
        """As `fit`, from what `fitted` gave."""
        self.means_, self.precisions_ = (
            {name: arrays[f"{kind} {name}"] for name in self.layers} for kind in ("mean", "precision")
        )
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network, layers and what was fitted."""
        return {"network": self.classifier.model, "layers": self.layers} | self.fitted()


def _nearest(own: Array, among: Array, k: int) -> Array:
    """(n, k) float64 distances of (n, d) float32 rows to the k nearest of (m, d) others, a row itself left out.

    Products in float32 propose rows, whose distances are then taken in float64; where one that is not proposed may be
    nearer, for all that float32 can err, all are.
    """
    squares, proposed = faiss.knn(own, among, min(PROPOSED * k, len(among)))
    rows = np.stack([cdist(one[None], among[near])[0] for one, near in zip(own, proposed, strict=True)])
    found = _k_smallest(rows, k)
    norms = np.square(own).sum(axis=1) + np.square(among).sum(axis=1).max()
    error = 2 * own.shape[1] * np.finfo(np.float32).eps * norms
    unsure = (squares[:, -1] - error <= found[:, -1] ** 2) & (proposed.shape[1] < len(among))
    if unsure.any():
        found[unsure] = _k_smallest(cdist(own[unsure], among), k)
    return found


def _k_smallest(distances: Array, k: int) -> Array:
    """(n, k) the smallest of (n, m) distances above 0, rising."""
    distances[distances < TINY] = np.inf
    return np.sort(np.partition(distances, k - 1, axis=1)[:, :k], axis=1)


@versioned(1)
class LocalDimensionality(Lens):
    """The local intrinsic dimensionality of a decision's neighbourhood, in each layer.

    −(1/k Σᵢ log(rᵢ / r_k))⁻¹ over the distances rᵢ to the k nearest of some training images. The paper takes other
    images of a mini-batch for neighbours; here they are always the same, so that a row depends on no other image.

    Args:
        classifier: the task network; layers: names of its layers, by default those with weights.
        k: neighbours; reference: how many training images they are among; seed: of which.

    Source: Ma et al. 2018, equation 4.
    """

    name, family = "local dimensionality", "neighbours"

    def __init__(
        self,
        classifier: Classifier,
        *,
        layers: Sequence[str] | None = None,
        k: int = 20,
        reference: int = 1000,
        seed: int = 0,
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.layers = list(layers or weighted_layers(classifier.model))
        self.k, self.reference = checked_whole(k, name="k", least=2), checked_whole(reference, name="reference")
        self.seed = checked_seed(seed)
        self.columns = tuple(f"dimensionality at {name}" for name in self.layers)

    def fit(self, images: Array, labels: Array) -> "LocalDimensionality":
        """Draws the reference images.

        Raises:
            ValueError: for fewer than k + 1 images.
        """
        images = checked_images(images, shape=self.classifier.input_shape)
        if len(images) <= self.k:
            raise ValueError(f"images must be more than k = {self.k}, got {len(images)}")
        order = stream(self.seed, "lenses/dimensionality").permutation(len(images))[: self.reference]
        self.images_ = images[np.sort(order)]
        self._among = self.classifier.layer_activations(self.images_, self.layers)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """Dimensions, above 0; a reference image itself is left out of its neighbours.

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "images_")
        images = checked_images(images, shape=self.classifier.input_shape)
        found, columns = self.classifier.layer_activations(images, self.layers), {}
        for column, name in zip(self.columns, self.layers, strict=True):
            own, among = (each[name].reshape(len(each[name]), -1) for each in (found, self._among))
            nearest = _nearest(own, among, self.k)
            ratios = np.log(nearest / nearest[:, -1:]).mean(axis=1)
            columns[column] = -1 / np.minimum(ratios, -TINY)
        return pd.DataFrame(columns)

    def fitted(self) -> dict[str, Array]:
        """The reference images."""
        return {"images": self.images_} if hasattr(self, "images_") else {}

    def take_over(self, arrays: dict[str, Array]) -> "LocalDimensionality":
        """As `fit`, from what `fitted` gave."""
        self.images_ = arrays["images"]
        self._among = self.classifier.layer_activations(self.images_, self.layers)
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network, parameters and the reference images."""
        return {"network": self.classifier.model, "layers": self.layers, "k": self.k} | self.fitted()


@versioned(2)
class ShapSignature(Lens):
    """Shapley values of the last hidden layer's units for the predicted logit: exact, since the last layer is linear.

    φ = w · (h − mean h of the training images), a column a unit. The paper takes every logit's; with a linear last
    layer these are the same numbers, each unit's times another weight.

    Args:
        classifier: the task network, whose last layer is dense.

    Attributes:
        mean_: (d,) of the training images' features, after `fit`.

    Source: Fidel et al. 2020; Lundberg & Lee 2017, corollary 1, for linear models.
    """

    name, family = "shap signature", "explanation"

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = checked_classifier(classifier)
        kernel = np.asarray(last_layer(classifier.model).kernel)  # type: ignore[attr-defined]
        self.kernel = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
        self.columns = tuple(names_of("φ", len(self.kernel)))

    def fit(self, images: Array, labels: Array) -> "ShapSignature":
        """Takes over the mean features."""
        self.mean_ = self.classifier.features(images).mean(axis=0, dtype=np.float64)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """In logits; the columns sum to the predicted logit minus its mean over the training images.

        Raises:
            RuntimeError: before `fit`.
        """
        fit_first(self, "mean_")
        offsets = self.classifier.features(images) - self.mean_
        values = offsets * self.kernel.T[self.classifier.predict(images).argmax(axis=1)]
        return pd.DataFrame(values.astype(np.float32), columns=list(self.columns))

    def fitted(self) -> dict[str, Array]:
        """The mean features."""
        return {"mean": self.mean_} if hasattr(self, "mean_") else {}

    def take_over(self, arrays: dict[str, Array]) -> "ShapSignature":
        """As `fit`, from what `fitted` gave."""
        self.mean_ = arrays["mean"]
        return self

    def to_parts(self) -> dict[str, Any]:
        """Network and mean."""
        return {"network": self.classifier.model} | self.fitted()
