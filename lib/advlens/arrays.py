"""The array type that all stages share, and the checks of what comes in at their public boundaries."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray


def checked_images(images: Array, *, shape: tuple[int, ...] | None = None) -> Array:
    """Validate (n, h, w, channels) images, floats in [0, 1], and return them as float32, the same memory where it can.

    Args:
        shape: (h, w, channels) that they must have, or None for any.
    Raises:
        ValueError: for another rank or shape, no images, integers, NaNs, or values outside [0, 1].
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, h, w, channels), got {images.shape}: {_axes_missing(images)}")
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(
            f"images must have shape (n, {', '.join(map(str, shape))}), got {images.shape}{_other_shape(images, shape)}"
        )
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got none")
    if images.dtype == bool:
        raise ValueError("images must be floats in [0, 1], got bool: pass images.astype(numpy.float32)")
    if not np.issubdtype(images.dtype, np.floating):
        remedy = f"divide by {largest_value(images)}" if images.dtype.kind in "iu" else "pass arrays of numbers"
        raise ValueError(f"images must be floats in [0, 1], got {images.dtype}: {remedy}")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite(low + high):
        raise ValueError("images must be finite, got NaN or infinity: drop or repair those images")
    if low < 0 or high > 1:
        remedy = "divide by 255" if high > 2 else "clip or rescale them"
        raise ValueError(f"images must lie in [0, 1], got [{low:g}, {high:g}]: {remedy}")
    return images.astype(np.float32, copy=False)


def largest_value(images: Array) -> int:
    """What is white in images of bool or whole numbers, by their type and range: 1, 255 or 65,535.

    Raises:
        ValueError: for numbers below 0 or beyond 16 bits.
    """
    low, high = int(images.min(initial=0)), int(images.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(
            f"whole numbers must lie in [0, 255] or [0, 65535], got [{low}, {high}]: rescale them to [0, 1]"
        )
    return next(white for white in (1, 255, 65535) if high <= white)


def _axes_missing(images: Array) -> str:
    side = int(np.sqrt(images.shape[-1])) if images.ndim == 2 else 0
    if side > 1 and side**2 == images.shape[-1]:
        return f"pass images.reshape(-1, {side}, {side}, 1)"
    return "pass images[None]" if images.ndim == 3 and images.shape[-1] in (1, 3) else "add the missing axes"


def _other_shape(images: Array, shape: tuple[int, ...]) -> str:
    if images.shape[2:] + images.shape[1:2] == tuple(shape):
        return ": pass images.transpose(0, 2, 3, 1)"
    grey = images.shape[1:3] == tuple(shape[:2]) and (images.shape[3], shape[2]) == (3, 1)
    return ": pass images.mean(axis=-1, keepdims=True)" if grey else ""


def checked_seed(seed: int) -> int:
    """Validate a random seed.

    Raises:
        ValueError: for anything but a whole number from 0 to 2³² − 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - 1, got {seed!r}")
    return int(seed)


def checked_whole(value: Any, *, name: str, least: int = 1) -> int:
    """Validate a whole number.

    Raises:
        ValueError: for anything but a whole number, `least` or more, naming it under `name`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name} must be a whole number, {least} or more, got {value!r}")
    return int(value)


def checked_indices(indices: Array, *, n: int, name: str) -> Array:
    """Validate (n,) integers, and return them as int64.

    Raises:
        ValueError: for another shape or type, naming them under `name`.
    """
    indices = np.asarray(indices)
    if indices.shape != (n,) or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"{name} must have shape ({n},) and be integers, got {indices.dtype} {indices.shape}")
    return indices.astype(np.int64)


def checked_labels(labels: Array, *, n: int, num_classes: int) -> Array:
    """Validate labels of n images, as `class_numbers` takes them, in [0, num_classes), and return them as (n,) int64.

    Raises:
        ValueError: for another shape, type or range.
    """
    labels = class_numbers(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one class number an image, got {labels.shape}")
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        remedy = ": count classes from 0" if labels.min() == 1 and labels.max() == num_classes else ""
        raise ValueError(f"labels must lie in [0, {num_classes - 1}], got [{labels.min()}, {labels.max()}]{remedy}")
    return labels


def class_numbers(labels: Array) -> Array:
    """(n,) int64 from whole numbers of any type, (n,) or (n, 1), or (n, c) one-hot rows; other shapes as they are.

    Raises:
        ValueError: for shares of classes, and for anything else that is no whole number.

    >>> class_numbers([[0.0, 1.0], [1.0, 0.0]])
    array([1, 0])
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf" or (labels.dtype.kind == "f" and not (labels == np.rint(labels)).all()):
        raise ValueError(
            f"labels must be integers, got {'names' if labels.dtype.kind in 'US' else labels.dtype}: pass class "
            "numbers, not names or probabilities"
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and len(labels):
        if not ((labels == 0) | (labels == 1)).all() or not (labels.sum(axis=1) == 1).all():
            raise ValueError(f"labels of shape {labels.shape} must have a single 1 in each row: pass one-hot rows")
        labels = labels.argmax(axis=1)
    return labels.astype(np.int64, copy=False)
