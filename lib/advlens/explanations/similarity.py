"""How alike two explanation maps of an image are."""

import numpy as np
from scipy.stats import rankdata

from advlens.arrays import Array


def rank_correlation(maps: Array, others: Array, *, share: float = 0.2) -> Array:
    """Spearman's rank correlation of each map with its counterpart, over the pixels where either is strong.

    A black background, on which two maps agree whatever they say of the image, would count for most of it.

    Args:
        maps, others: (n, h, w, channels); channels are summed first.
        share: of each map's pixels, those with the largest absolute value, that count; 1 for all but
            those that are 0 in both.
    Returns:
        (n,) in [−1, 1]; 0 where a map is constant there, as it then says nothing about the other.
    Raises:
        ValueError: where the shapes differ, or for a share that is none.

    >>> maps = np.array([4.0, -3.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).reshape(1, 2, 5, 1)
    >>> round(float(rank_correlation(maps, -maps, share=0.3)[0]), 6)
    -1.0
    """
    both = _flat(maps, others, share=share)
    strong = np.logical_or(*((_chance_of_top(np.abs(each), _count(each, share)) > 0) & (each != 0) for each in both))
    ranks = [np.nan_to_num(rankdata(np.where(strong, each, np.nan), axis=1, nan_policy="omit")) for each in both]
    centre = (strong.sum(axis=1, keepdims=True) + 1) / 2  # the mean of ranks 1 to n
    first, second = (np.where(strong, each - centre, 0) for each in ranks)
    products = (first * second).sum(axis=1)
    norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.divide(products, norms, out=np.zeros(len(products)), where=norms > 0)


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
    ours, theirs = (_chance_of_top(each, _count(each, share)) for each in _flat(maps, others, share=share))
    return (ours * theirs).sum(axis=1) / _count(ours, share)


def _flat(maps: Array, others: Array, *, share: float) -> tuple[Array, Array]:
    """(n, pixels) sums over channels of both, once they are known to match."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    if maps.shape != others.shape:
        raise ValueError(f"maps and others must have one shape, got {maps.shape} and {others.shape}")
    return tuple(each.sum(axis=-1).reshape(len(each), -1) for each in (maps, others))


def _count(flat: Array, share: float) -> int:
    """How many pixels a share is."""
    return max(round(share * flat.shape[1]), 1)


def _chance_of_top(values: Array, count: int) -> Array:
    """(n, m) in [0, 1]: how likely each value is among the `count` highest of its row, ties broken at random."""
    last = np.partition(values, -count, axis=1)[:, -count, None]
    above, ties = values > last, values == last
    free = count - above.sum(axis=1, keepdims=True)
    return above + ties * free / ties.sum(axis=1, keepdims=True)
