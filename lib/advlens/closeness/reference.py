"""What closeness is measured to: the training set's features, class by class."""

import abc
from typing import TypeVar

import numpy as np

from advlens.arrays import Array

Reference = TypeVar("Reference", bound="ClassReference")


class ClassReference(abc.ABC):
    """Training features by class, and a figure of queries against one class each."""

    def fit(self: Reference, features: Array, labels: Array) -> Reference:
        """Takes over the training rows.

        Args:
            features: (n, d) finite; labels: (n,) class numbers.
        Raises:
            ValueError: for other shapes, values that are not finite, or labels that are no integers.
        """
        features, labels = _checked(features, labels)
        self.rows_ = {int(label): features[labels == label] for label in np.unique(labels)}
        return self

    def by_class(self, features: Array, classes: Array) -> Array:
        """(n,) float64 figures of (n, d) rows, each in the class named for it, of (n,) class numbers.

        Raises:
            RuntimeError: before `fit`.
            ValueError: for other shapes, values that are not finite, or a class without training rows.
        """
        if not hasattr(self, "rows_"):
            raise RuntimeError("the training rows are not known yet: call fit(features, labels) first")
        features, classes = _checked(features, classes)
        width = next(iter(self.rows_.values())).shape[1]
        if features.shape[1] != width:
            raise ValueError(f"features must have {width} columns as in fit, got {features.shape[1]}")
        figures = np.empty(len(features))
        for label in np.unique(classes):
            if label not in self.rows_:
                raise ValueError(f"class {label} has no training rows: fit knows {sorted(self.rows_)}")
            figures[classes == label] = self._of_class(features[classes == label], self.rows_[label])
        return figures

    @abc.abstractmethod
    def _of_class(self, queries: Array, rows: Array) -> Array:
        """(n,) figures of (n, d) queries against the (m, d) training rows of one class, all float64."""


def _checked(features: Array, labels: Array) -> tuple[Array, Array]:
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or len(features) == 0:
        raise ValueError(f"features must have shape (n, d), got {features.shape}: see Classifier.features")
    if not np.isfinite(features).all():
        raise ValueError("features must be finite, got NaN or infinity: check the network")
    if labels.shape != (len(features),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be ({len(features)},) integers, one class number a row, got {labels.dtype} {labels.shape}"
        )
    return features.astype(np.float64), labels
