"""What the attacks here share around their algorithms: checked parameters and classes, and the loop over batches."""

import numbers
from collections.abc import Callable

import numpy as np
from art.attacks.attack import EvasionAttack

from advlens.arrays import Array, checked_labels, checked_whole
from advlens.progress import progress

MARGIN = 1e-3  # of logits: float32 products in another batch or thread differ by far less, so a success stays one


def check_whole_number(attack: EvasionAttack, *names: str, lowest: int = 1) -> None:
    """Raises ValueError unless those parameters of the attack are integers, `lowest` or more."""
    for name in names:
        checked_whole(getattr(attack, name), name=name, least=lowest)


def check_number(attack: EvasionAttack, name: str, *, zero: bool = False) -> None:
    """Raises ValueError unless that parameter of the attack is a positive, finite number, or 0 where `zero`."""
    value = getattr(attack, name)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 < value < np.inf or (zero and value == 0)):  # pyright: ignore[reportOperatorIssue]
        raise ValueError(f"{name} must be a positive number{' or 0' if zero else ''}, got {value!r}")


def batch_by_batch(
    attack: Callable[[Array, Array], Array], x: Array, y: Array, *, batch_size: int, description: str
) -> Array:
    """What `attack` makes of (n, h, w, channels) images and (n,) classes, `batch_size` at a time, under a bar."""
    x_adv = np.empty_like(x)
    with progress(description=description, unit="image", total=len(x)) as bar:
        for start in range(0, len(x), batch_size):
            batch = slice(start, start + batch_size)
            x_adv[batch] = attack(x[batch], y[batch])
            bar.update(len(x[batch]))
    return x_adv


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
    return checked_labels(y, n=len(x), num_classes=classifier.nb_classes)  # pyright: ignore[reportArgumentType]
