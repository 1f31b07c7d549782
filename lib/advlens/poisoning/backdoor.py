"""The backdoor's trigger, as ART's `PoisoningAttackBackdoor` puts it on images."""

import numpy as np
from art.attacks.poisoning import PoisoningAttackBackdoor
from art.attacks.poisoning.perturbations import add_pattern_bd

from advlens.arrays import Array, checked_images

SMALLEST_SIDE = 5  # pixels, so that the pattern fits


def trigger(images: Array) -> Array:
    """Images with four white pixels of a checkerboard in the bottom right corner, two pixels from the edges.

    Args:
        images: (n, h, w, channels) in [0, 1], left as they are.
    Returns:
        (n, h, w, channels) float32 in [0, 1].
    Raises:
        ValueError: for bad images, or too small ones.
    Source: Gu et al. 2017, in ART's form.
    """
    images = checked_images(images)
    if min(images.shape[1:3]) < SMALLEST_SIDE:
        raise ValueError(f"images must have {SMALLEST_SIDE}×{SMALLEST_SIDE} pixels or more, got {images.shape[1:3]}")
    given = np.zeros((len(images), 1))  # ART passes labels on: whoever relabels does that
    return PoisoningAttackBackdoor(add_pattern_bd).poison(images, given)[0]
