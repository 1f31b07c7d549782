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


def top_overlap(maps: Array, others: Array, *, share: float = 0.2) -> Array:
    """How many of the pixels that a map has highest its counterpart has highest too.

    Args:
        maps, others: (n, h, w, channels); channels are summed first. Of pixels that share the last places each counts
            by its chance of one of them, as if both maps drew among theirs.
        share: of the pixels that count as highest.
    Returns:
        (n,) in [0, 1]; `share` is what chance gives, and what a constant map has with any.
    Raises:
        ValueError: where the shapes differ, or for a share that is none.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    if maps.shape != others.shape:
        raise ValueError(f"maps and others must have one shape, got {maps.shape} and {others.shape}")
    count = max(round(share * np.prod(maps.shape[1:3])), 1)
    ours, theirs = (_chance_of_top(part.sum(axis=-1).reshape(len(part), -1), count) for part in (maps, others))
    return (ours * theirs).sum(axis=1) / count


def _chance_of_top(values: Array, count: int) -> Array:
    """(n, m) in [0, 1]: how likely each value is among the `count` highest of its row, ties broken at random."""
    last = np.partition(values, -count, axis=1)[:, -count, None]
    above, ties = values > last, values == last
    free = count - above.sum(axis=1, keepdims=True)
    return above + ties * free / ties.sum(axis=1, keepdims=True)
