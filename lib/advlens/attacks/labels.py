"""The classes that an attack leaves or seeks, checked and in one form."""

import numpy as np

from advlens.arrays import Array, checked_labels


def attacked_labels(classifier, x: Array, y: Array | None) -> Array:
    """(n,) int64 class numbers from (n,) class numbers, (n, c) one-hot labels, or None for the decisions on x.

    Raises:
        ValueError: for labels of another form or range.
    """
    if y is None:
        return classifier.predict(x).argmax(axis=1)
    y = np.asarray(y)
    if y.ndim == 2:
        one_hot = ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all()
        if y.shape[1] != classifier.nb_classes or not one_hot:
            raise ValueError(f"two-dimensional labels must be (n, {classifier.nb_classes}) one-hot, got {y.shape}")
        y = y.argmax(axis=1)
    return checked_labels(y, n=len(x), num_classes=classifier.nb_classes)
