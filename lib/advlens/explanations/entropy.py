"""Local spatial entropy: how mixed the grey levels are in each small patch of a map."""

import itertools

import numpy as np

from advlens.arrays import Array, checked_whole

NORMALISATIONS = ("minmax", "absolute", "symmetric")
MOST_BINS = 256
CHUNK = 2**23  # cells that are counted at once: bounds the memory, and stays in the cache


def average_local_entropy(
    maps: Array, *, window: int = 3, bins: int = 256, stride: int = 1, normalisation: str = "minmax"
) -> Array:
    """The mean of `local_entropy` over each map's patches.

    Args:
        maps: (n, h, w, channels) finite values of any scale.
        window, stride: see `local_entropy`; bins, normalisation: see `grey_levels`.
    Returns:
        (n,) float64 in bits, from 0 to log2 min(bins, window²).
    Raises:
        ValueError: as these two.
    Source: Amirian et al. 2018, S̄.
    """
    levels = grey_levels(maps, bins=bins, normalisation=normalisation)
    return local_entropy(levels, window=window, stride=stride).mean(axis=(1, 2), dtype=np.float64)


def grey_levels(maps: Array, *, bins: int = 256, normalisation: str = "minmax") -> Array:
    """Maps as pictures of a few grey levels, each to its own scale.

    Args:
        maps: (n, h, w, channels) finite values; channels are averaged.
        bins: how many levels, 2 to 256.
        normalisation: "minmax" spreads each map over all levels, "symmetric" puts 0 on the middle one and the largest
            absolute value on an end, "absolute" drops the sign first.
    Returns:
        (n, h, w) uint8; a constant map has one level.
    Raises:
        ValueError: for another rank or type, values that are not finite, or another number or name.
    """
    maps = np.asarray(maps)
    if maps.ndim != 4:
        raise ValueError(f"maps must have shape (n, h, w, channels), got {maps.shape}: add the missing axes")
    if not np.issubdtype(maps.dtype, np.floating) or 0 in maps.shape[1:]:
        raise ValueError(f"maps must be floats with a pixel and a channel at least, got {maps.dtype} {maps.shape}")
    if not np.isfinite(maps).all():
        raise ValueError("maps must be finite, got NaN or infinity: look at the network's weights and images")
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"no normalisation is called {normalisation!r}: choose one of {', '.join(NORMALISATIONS)}")
    if checked_whole(bins, name="bins", least=2) > MOST_BINS:
        raise ValueError(f"bins must be at most {MOST_BINS}, the levels of an 8-bit picture, got {bins}")
    grey = maps.mean(axis=-1, dtype=np.float64)
    if normalisation == "absolute":
        grey = np.abs(grey)
    low, high = grey.min(axis=(1, 2), keepdims=True), grey.max(axis=(1, 2), keepdims=True)
    if normalisation != "minmax":
        high = np.maximum(high, -low)
        low = -high if normalisation == "symmetric" else np.zeros_like(high)
    scaled = np.divide(grey - low, high - low, out=np.zeros_like(grey), where=high > low)
    return np.minimum(scaled * bins, bins - 1).astype(np.uint8)


def local_entropy(levels: Array, *, window: int = 3, stride: int = 1) -> Array:
    """S_k = −Σ h_k log2 h_k of each patch k, with h_k the normalised histogram of its grey levels.

    A patch of m = window² pixels has S = −(1/m) Σ_i log2(c_i / m), where c_i counts the pixels of the level of pixel
    i: so no histogram is made, and all patches of all maps are counted together, pair of pixels by pair.

    Args:
        levels: (n, h, w) integers.
        window: side of the square patches; stride: pixels from one to the next.
    Returns:
        (n, ⌊(h − window) / stride⌋ + 1, …) float32 in bits.
    Raises:
        ValueError: for another rank or type, a window that the maps do not hold, or numbers that are not whole.
    Source: Amirian et al. 2018.
    """
    levels = np.asarray(levels)
    if levels.ndim != 3 or not np.issubdtype(levels.dtype, np.integer):
        raise ValueError(f"levels must be (n, h, w) integers, got {levels.dtype} {levels.shape}: see grey_levels")
    window, stride = checked_whole(window, name="window"), checked_whole(stride, name="stride")
    n, h, w = levels.shape
    if window > min(h, w):
        raise ValueError(f"window must be at most {min(h, w)}, the side of the maps, got {window}")
    rows, columns = (np.arange(0, side - window + 1, stride).size for side in (h, w))
    entropies = np.empty((n, rows, columns), np.float32)
    size = max(1, CHUNK // (window**2 * rows * columns))
    for start in range(0, n, size):
        part = slice(start, start + size)
        entropies[part] = _patch_entropies(levels[part], window=window, stride=stride)
    return entropies


def _patch_entropies(levels: Array, *, window: int, stride: int) -> Array:
    _, h, w = levels.shape
    # All patches' pixel at one place in the patch, for each of the places.
    pixels = [
        np.ascontiguousarray(levels[:, i : h - window + i + 1 : stride, j : w - window + j + 1 : stride])
        for i, j in itertools.product(range(window), repeat=2)
    ]
    m = window**2
    counts = np.ones((m, *pixels[0].shape), np.min_scalar_type(m))
    for a, b in itertools.combinations(range(m), 2):
        same = pixels[a] == pixels[b]
        counts[a] += same
        counts[b] += same
    shares = np.arange(1, m + 1) / m
    information = np.concatenate([[0], -np.log2(shares) / m]).astype(np.float32)
    return sum(information[count] for count in counts)  # pyright: ignore[reportReturnType]
