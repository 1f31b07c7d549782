"""The array type that all stages share, and the checks of what comes in at their public boundaries."""

import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray


def checked_images(images: Array, *, shape: tuple[int, ...] | None = None) -> Array:
    """Images as float32, once they are known to be images.

    Args:
        images: (n, h, w, channels) floats in [0, 1].
        shape: (h, w, channels) that they must have, or None for any.
    Returns:
        (n, h, w, channels) float32, the same memory where it was float32 already.
    Raises:
        ValueError: for another rank or shape, no images, integers, NaNs, or values outside [0, 1].
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(f"images must have shape (n, h, w, channels), got {images.shape}: add the missing axes")
    if shape is not None and images.shape[1:] != tuple(shape):
        raise ValueError(f"images must have shape (n, {', '.join(map(str, shape))}), got {images.shape}")
    if len(images) == 0:
        raise ValueError("images must hold at least one image, got none")
    if not np.issubdtype(images.dtype, np.floating):
        raise ValueError(f"images must be floats in [0, 1], got {images.dtype}: divide 8-bit images by 255")
    low, high = float(images.min()), float(images.max())
    if not np.isfinite(low + high):
        raise ValueError("images must be finite, got NaN or infinity: drop or repair those images")
    if low < 0 or high > 1:
        remedy = "divide by 255" if high > 2 else "clip or rescale them"
        raise ValueError(f"images must lie in [0, 1], got [{low:g}, {high:g}]: {remedy}")
    return images.astype(np.float32, copy=False)


def checked_seed(seed: int) -> int:
    """A seed, once it is known to be one.

    Raises:
        ValueError: for anything but a whole number from 0 to 2³² − 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2^32 - 1, got {seed!r}")
    return int(seed)


def checked_whole(value: Any, *, name: str, least: int = 1) -> int:
    """A whole number, once it is known to be one.

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
    """Class labels as int64, once they are known to be labels of n images.

    Args:
        labels: (n,) integers in [0, num_classes).
    Raises:
        ValueError: for another shape, type or range.
    """
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape ({n},), one class number an image, got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}: pass class numbers, not probabilities")
    if len(labels) and (labels.min() < 0 or labels.max() >= num_classes):
        raise ValueError(f"labels must lie in [0, {num_classes - 1}], got [{labels.min()}, {labels.max()}]")
    return labels.astype(np.int64, copy=False)
