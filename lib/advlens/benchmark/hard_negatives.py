"""Normal images that a detector may take for attacks: the same ones noisy, blurred, paler, turned, from a JPEG file."""

import numpy as np
from scipy.ndimage import gaussian_filter, rotate

from advlens.arrays import Array, checked_images
from advlens.image_files import through
from advlens.random import stream

NOISE, BLUR, CONTRAST, DEGREES = 0.1, 1.0, 0.5, 15.0  # of pixels in [0, 1], in pixels, a share, to the left


def hard_negatives(images: Array, *, seed: int) -> dict[str, Array]:
    """Name → (n, h, w, channels) normal images in 8 bits, each made of one given.

    Args:
        images: (n, h, w, channels) in [0, 1]; seed: of the noise.

    >>> sorted(hard_negatives(np.full((2, 8, 8, 1), 0.5, np.float32), seed=0))
    ['blurred', 'from a JPEG', 'half the contrast', 'noisy', 'turned']
    """
    images = checked_images(images)
    noise = stream(seed, "benchmark/hard negatives").normal(0, NOISE, images.shape)
    made = {
        "noisy": images + noise,
        "blurred": gaussian_filter(images, (0, BLUR, BLUR, 0)),
        "half the contrast": 0.5 + CONTRAST * (images - 0.5),
        "turned": rotate(images, DEGREES, axes=(1, 2), reshape=False, order=1, mode="nearest"),
    }
    eight_bit = {name: through("8-bit", np.clip(each, 0, 1).astype(np.float32)) for name, each in made.items()}
    return eight_bit | {"from a JPEG": through("jpeg", images)}
