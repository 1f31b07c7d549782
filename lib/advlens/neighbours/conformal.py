"""From the labels of neighbours to conformal p-values: how unusual it would be for an image to have a label."""

import numpy as np

from advlens.arrays import Array

CONVENTIONS = ("conformal", "published")


def nonconformity(neighbour_labels: Array, num_classes: int) -> Array:
    """How many of an image's neighbours, over all layers, have another label, for every label.

    Args:
        neighbour_labels: (n, l, k) class numbers of the k neighbours in each of l layers.
    Returns:
        (n, c) int64, 0 ≤ α(x, j) ≤ l·k.
    Source: eq. 3 of Papernot & McDaniel 2018.
    """
    neighbour_labels = np.asarray(neighbour_labels)
    n, layers, k = neighbour_labels.shape
    cell = neighbour_labels.reshape(n, -1) + num_classes * np.arange(n)[:, None]
    same = np.bincount(cell.ravel(), minlength=n * num_classes).reshape(n, num_classes)
    return layers * k - same


def true_nonconformity(neighbour_labels: Array, labels: Array, *, num_classes: int) -> Array:
    """(n,) int64 nonconformity of images to their own labels, (n,)."""
    return nonconformity(neighbour_labels, num_classes)[np.arange(len(labels)), labels]


def p_values(alpha: Array, calibration: Array, *, convention: str = "conformal") -> Array:
    """The share of held-out images that conform to their true labels no better than these images to each label.

    Args:
        alpha: (n, c) nonconformity of the images to every label.
        calibration: (m,) nonconformity of m held-out images to their true labels.
        convention: "conformal" counts the image itself, (1 + #{αᵢ ≥ α}) / (m + 1), which makes the p-value of the true
            label of an exchangeable image super-uniform, P(p ≤ t) ≤ t; "published" is the share #{αᵢ ≥ α} / m among
            the held-out images with α > 0, as the authors' code has it, which guarantees nothing.
    Returns:
        (n, c) float64 in [0, 1].
    Raises:
        ValueError: for an unknown convention, or where nothing is left to calibrate with.
    Source: eq. 4 of Papernot & McDaniel 2018; Vovk et al. 2005, section 2.2.
    """
    alpha, calibration = np.asarray(alpha), np.sort(calibration)
    if convention not in CONVENTIONS:
        raise ValueError(f"calibration must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if convention == "published":
        calibration = calibration[calibration > 0]
    if len(calibration) == 0:
        raise ValueError(
            "no calibration image is left: the published convention drops those whose neighbours all agree, here all "
            "of them: give more images, or use the conformal convention"
        )
    at_least = len(calibration) - np.searchsorted(calibration, alpha, side="left")
    if convention == "published":
        return at_least / len(calibration)
    return (1 + at_least) / (1 + len(calibration))


def p_values_among(alpha: Array, own: Array) -> Array:
    """Conformal p-values of held-out images, each calibrated by all the others.

    Args:
        alpha: (m, c) nonconformity of m held-out images to every label.
        own: (m,) that to their true labels.
    Returns:
        (m, c) float64 in [0, 1]: (1 + #{αⱼ ≥ α, j ≠ i}) / m, one less in number and rank than with itself among them.
    Raises:
        ValueError: for a single image, which nothing calibrates.
    """
    own = np.asarray(own)
    if len(own) < 2:
        raise ValueError(f"held-out images must be two or more to calibrate each other, got {len(own)}")
    with_itself = p_values(alpha, own) * (len(own) + 1)
    return (with_itself - (own[:, None] >= alpha)) / len(own)
