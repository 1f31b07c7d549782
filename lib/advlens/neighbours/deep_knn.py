"""Deep k-nearest neighbours: who stands near an image in each layer, and what their labels say of the decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from advlens.arrays import Array, checked_images, checked_labels, checked_whole
from advlens.classifier import Classifier, checked_classifier
from advlens.neighbours.conformal import CONVENTIONS, true_nonconformity
from advlens.neighbours.judgement import Judgement
from advlens.neighbours.search import SEARCHES, RowSearch, row_search, without_own
from advlens.networks.parts import layer_called, weighted_layers

AT_ONCE = 2048  # images whose activations are held beside those of the training set
SMALLEST_NORM = 1e-12  # so that a layer in which nothing is active divides by no zero


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """The neighbours of n images in l layers, nearest first.

    Attributes:
        layers: the l layers' names.
        indices: (n, l, k) int64, rows of the training set.
        labels: (n, l, k) int64, those rows' labels.
    """

    layers: tuple[str, ...]
    indices: Array
    labels: Array

    def select(self, rows: Array) -> "Neighbourhoods":
        """The same for some of the images; `rows` is a (n,) bool mask or an array of row numbers."""
        return Neighbourhoods(self.layers, self.indices[rows], self.labels[rows])


class DeepKNN:
    """Judges a network's decisions by the training images nearest to them in its layers.

    Args:
        classifier: the task network.
        layers: names of the layers that are looked at; None for all that have weights.
        k: neighbours in each layer.
        calibration: "conformal" or "published", see `conformal.p_values`.
        search: "exact", or FAISS's approximate "ivf" or "hnsw".
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for layers that the network does not have or that are named twice, or another k, calibration or
            search than those.

    Notes:
        A layer's activations are divided by their L2 norm, so that neighbours are those of the smallest angle. The
        authors' code subtracts the training set's mean afterwards, which changes no distance and is left out.
        Nothing is computed before neighbours are asked for; from then on, until `release`, 60,000 images of 28×28 in
        the study's network take 3.8 GB.

    Source: Papernot & McDaniel 2018, algorithm 1.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        layers: Sequence[str] | None = None,
        k: int = 75,
        calibration: str = "conformal",
        search: str = "exact",
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.layers = _checked_layers(classifier, layers)
        self.k = checked_whole(k, name="k")
        for name, value, known in (("calibration", calibration, CONVENTIONS), ("search", search, SEARCHES)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.calibration = calibration
        self.search = search

    def fit(self, images: Array, labels: Array) -> "DeepKNN":
        """Takes over the training set, and forgets what was calibrated on another one.

        Args:
            images: (n, h, w, channels) in [0, 1], more than k of them; labels: (n,) classes.
        Raises:
            ValueError: for bad images or labels, or too few of them.
        """
        images = checked_images(images, shape=self.classifier.input_shape)
        if len(images) <= self.k:
            raise ValueError(f"k must be less than the {len(images)} training images, got {self.k}")
        self.labels_ = checked_labels(labels, n=len(images), num_classes=self.classifier.nb_classes)
        self.images_ = images
        for of_others in ("searches_", "conformal_", "calibration_"):
            self.__dict__.pop(of_others, None)
        return self

    @cached_property
    def searches_(self) -> dict[str, RowSearch]:
        """Layer → the search among the training set's activations."""
        represented = self._representations(self.images_)
        return {layer: row_search(represented.pop(layer), kind=self.search) for layer in self.layers}

    def release(self) -> None:
        """Lets go of the searches, which are made again where they are asked for."""
        self.__dict__.pop("searches_", None)

    def calibrate(self, images: Array, labels: Array) -> "DeepKNN":
        """Takes over held-out images, (m, h, w, channels), and their true classes, (m,).

        Raises:
            RuntimeError: before `fit`.
            ValueError: for bad images or labels.
        """
        self._check_fitted()
        images = checked_images(images, shape=self.classifier.input_shape)
        labels = checked_labels(labels, n=len(images), num_classes=self.classifier.nb_classes)
        self.conformal_ = images, labels
        self.__dict__.pop("calibration_", None)
        return self

    @cached_property
    def calibration_(self) -> Array:
        """(m,) the nonconformity of the held-out images' true classes."""
        images, labels = self.conformal_
        return true_nonconformity(self.neighbours(images).labels, labels, num_classes=self.classifier.nb_classes)

    def _check_fitted(self) -> None:
        if not hasattr(self, "labels_"):
            raise RuntimeError("the training set is not known yet: call fit(images, labels) first")

    def neighbours(self, images: Array, *, own: Array | None = None) -> Neighbourhoods:
        """The k nearest training images in each layer.

        Args:
            images: (n, h, w, channels) in [0, 1].
            own: (n,) rows of the training set that these images are themselves: left out of their own neighbours.
        Raises:
            RuntimeError: before `fit`.
            ValueError: for bad images, or rows that the training set does not have.
        """
        self._check_fitted()
        images = checked_images(images, shape=self.classifier.input_shape)
        if own is not None:
            own = _checked_own(own, n=len(images), rows=len(self.labels_))
        parts = [
            self._nearest(images[i : i + AT_ONCE], None if own is None else own[i : i + AT_ONCE])
            for i in range(0, len(images), AT_ONCE)
        ]
        indices = np.concatenate(parts)
        return Neighbourhoods(self.layers, indices, self.labels_[indices])

    def judge(self, images: Array, *, own: Array | None = None) -> Judgement:
        """The p-values of all labels for (n, h, w, channels) images, and what follows from them; `own` as above.

        Raises:
            RuntimeError: before `fit` and `calibrate`.
            ValueError: as `neighbours` does.
        """
        return self.judge_neighbours(self.neighbours(images, own=own))

    def judge_neighbours(self, hoods: Neighbourhoods) -> Judgement:
        """The same, from neighbours that were searched already.

        Raises:
            RuntimeError: before `calibrate`.
            ValueError: for neighbours in other layers, or another number of them.
        """
        if not hasattr(self, "conformal_"):
            raise RuntimeError("no held-out images are known yet: call calibrate(images, labels) first")
        if hoods.layers != self.layers or hoods.labels.shape[2] != self.k:
            raise ValueError(
                f"neighbours must be the {self.k} nearest in {', '.join(self.layers)}, got {hoods.labels.shape[2]} in "
                f"{', '.join(hoods.layers)}: search them with this DeepKNN"
            )
        return Judgement.of(
            hoods.labels, self.calibration_, num_classes=self.classifier.nb_classes, convention=self.calibration
        )

    def _nearest(self, images: Array, own: Array | None) -> Array:
        """(n, l, k) rows of the training set."""
        represented = self._representations(images)
        wanted = self.k if own is None else self.k + 1
        found = np.stack([self.searches_[layer].nearest(represented[layer], wanted) for layer in self.layers], axis=1)
        return found if own is None else without_own(found, own)

    def _representations(self, images: Array) -> dict[str, Array]:
        """Layer → (n, d) float32 activations of norm 1, of all layers in one pass."""
        rows: dict[str, Array] = {}
        for start in range(0, len(images), AT_ONCE):
            part = self.classifier.layer_activations(images[start : start + AT_ONCE], self.layers)
            for layer, values in part.items():
                values = values.reshape(len(values), -1)
                norms = np.sqrt(np.einsum("nd,nd->n", values, values))[:, None]
                kept = rows.setdefault(layer, np.empty((len(images), values.shape[1]), np.float32))
                np.divide(values, np.maximum(norms, SMALLEST_NORM), out=kept[start : start + len(values)])
        return rows


def _checked_own(own: Array, *, n: int, rows: int) -> Array:
    own = np.asarray(own)
    if own.shape != (n,) or not np.issubdtype(own.dtype, np.integer) or own.min() < 0 or own.max() >= rows:
        raise ValueError(f"own must be {n} rows of the training set, integers from 0 to {rows - 1}, got {own!r}")
    return own


def _checked_layers(classifier: Classifier, layers: Sequence[str] | None) -> tuple[str, ...]:
    if layers is None:
        return tuple(weighted_layers(classifier.model))
    is_named = isinstance(layers, list | tuple) and all(isinstance(name, str) for name in layers)
    if not is_named or len(layers) == 0 or len(set(layers)) < len(layers):
        with_weights = list(weighted_layers(classifier.model))
        raise ValueError(f"layers must be a list of different names, got {layers!r}: such as {with_weights}")
    for name in layers:
        layer_called(classifier.model, name)
    return tuple(layers)
