"""Noisy twins: Gaussian noise as strong as an attack's perturbation, the negatives that tell attack from noise."""

import numpy as np

from advlens.arrays import Array, checked_images

# The norm of clipped noise grows with σ up to a limit; σ = 2^6 saturates every pixel of an image in [0, 1].
LARGEST_EXPONENT = 6.0
SMALLEST_EXPONENT = -30.0
BISECTIONS = 40


def gaussian_twin(images: Array, norms: Array, *, rng: np.random.Generator) -> Array:
    """Images plus Gaussian noise whose L2 norm *after clipping to [0, 1]* is the given one.

    Clipping swallows half of the noise on a black background, so σ is found for each image by bisection over its
    one draw of noise: the clipped noise's norm grows monotonically with σ.

    Args:
        images: (n, h, w, channels) in [0, 1].
        norms: (n,) L2 norms ≥ 0, in pixel units; 0 gives the image itself.
    Returns:
        (n, h, w, channels) float32 in [0, 1]. A norm larger than noise can reach gives the strongest noise.
    Raises:
        ValueError: for images outside [0, 1], or norms that are negative, not finite or not one an image.
    """
    images = checked_images(images)
    norms = np.asarray(norms, np.float64)
    if norms.shape != (len(images),) or not np.isfinite(norms).all() or (norms < 0).any():
        raise ValueError(f"norms must be {len(images)} finite numbers ≥ 0, one an image, got {norms!r}")
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    low = np.full(len(images), SMALLEST_EXPONENT)
    high = np.full(len(images), LARGEST_EXPONENT)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_weak = _norm(_clipped(images, noise, np.exp2(middle)) - images) < norms
        low, high = np.where(too_weak, middle, low), np.where(too_weak, high, middle)
    return _clipped(images, noise, np.where(norms > 0, np.exp2(high), 0.0))


def gaussian_noise(images: Array, sigma: float, *, rng: np.random.Generator) -> Array:
    """Images plus Gaussian noise of one σ for all pixels, clipped to [0, 1].

    Args:
        images: (n, h, w, channels) in [0, 1]; sigma: ≥ 0, in pixel units.
    Returns:
        (n, h, w, channels) float32 in [0, 1].
    Raises:
        ValueError: for images outside [0, 1], or a σ that is negative or not finite.
    """
    images = checked_images(images)
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be a finite number ≥ 0, got {sigma!r}")
    return _clipped(images, rng.standard_normal(images.shape, dtype=np.float32), np.full(len(images), sigma))


def _clipped(images: Array, noise: Array, sigma: Array) -> Array:
    return np.clip(images + sigma.astype(np.float32)[:, None, None, None] * noise, 0.0, 1.0)


def _norm(difference: Array) -> Array:
    return np.sqrt(np.square(difference, dtype=np.float64).sum(axis=(1, 2, 3)))
