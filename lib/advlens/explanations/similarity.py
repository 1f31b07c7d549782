"""How alike two explanation maps of an image are."""

import numpy as np
from scipy.stats import rankdata

from advlens.arrays import Array


def rank_correlation(maps: Array, others: Array) -> Array:
    """Spearman's rank correlation of each map with its counterpart, over pixels.

    Args:
        maps, others: (n, h, w, channels); channels are summed first.
    Returns:
        (n,) in [−1, 1]; 0 where a map is constant, as it then says nothing about the other.
    Raises:
        ValueError: where the shapes differ.
    """
    if maps.shape != others.shape:
        raise ValueError(f"maps and others must have one shape, got {maps.shape} and {others.shape}")
    ranks, other_ranks = (
        rankdata(part.sum(axis=-1).reshape(len(part), -1), axis=1) - (np.prod(part.shape[1:3]) + 1) / 2
        for part in (maps, others)
    )
    products = (ranks * other_ranks).sum(axis=1)
    norms = np.sqrt((ranks**2).sum(axis=1) * (other_ranks**2).sum(axis=1))
    return np.divide(products, norms, out=np.zeros(len(maps)), where=norms > 0)
