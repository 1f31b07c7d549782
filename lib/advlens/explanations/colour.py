"""The colours of relevance maps; nothing here draws."""

import functools

import numpy as np

from advlens.arrays import Array


def colour_map(maps: Array) -> Array:
    """Relevance maps as colours: red speaks for the explained class, blue against it, green is neutral.

    Each map is summed over its channels, divided by its own largest |R|, brought to [0, 1] by (R + 1) / 2 and
    looked up in the 256 colours of matplotlib's "jet". A map of zeros is neutral everywhere.

    Args:
        maps: (n, h, w, channels) finite relevances of any scale.
    Returns:
        (n, h, w, 3) float32 in [0, 1].
    Raises:
        ValueError: for another rank, NaN or infinity.
    """
    maps = np.asarray(maps)
    if maps.ndim != 4:
        raise ValueError(f"maps must have shape (n, h, w, channels), got {maps.shape}: add the missing axes")
    relevance = maps.sum(axis=-1, dtype=np.float64)
    largest = np.abs(relevance).max(axis=(1, 2), keepdims=True, initial=0.0)
    if not np.isfinite(largest).all():
        raise ValueError("maps must be finite, got NaN or infinity: look at the network's weights and images")
    scaled = relevance / np.where(largest == 0, 1.0, largest)
    # As matplotlib does it: 256 equal intervals of [0, 1], the last one closed.
    return _jet()[np.minimum((scaled + 1) / 2 * 256, 255).astype(np.uint8)]


@functools.cache
def _jet() -> Array:
    """The (256, 3) float32 colours of "jet"."""
    import matplotlib  # here, so that the explanations' worker process does not load it

    return matplotlib.colormaps["jet"](np.arange(256))[:, :3].astype(np.float32)
