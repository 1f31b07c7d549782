"""The kernel two-sample test: whether two sets of images, or of features, come from one distribution."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from advlens.arrays import Array, checked_whole
from advlens.random import stream


@dataclass(frozen=True)
class TwoSamples:
    """The result of a kernel two-sample test.

    Attributes:
        squared_mmd: the unbiased estimate, around 0 where both are alike; p_value: of one-sided permutations.
        bandwidth: of the Gaussian kernel.
    """

    squared_mmd: float
    p_value: float
    bandwidth: float


def gaussian_kernel(a: Array, b: Array, bandwidth: float) -> Array:
    """(n, m) values exp(−‖aᵢ − bⱼ‖² / 2σ²) of (n, …) and (m, …) arrays."""
    one, other = (each.reshape(len(each), -1) for each in (a, b))
    return np.exp(-cdist(one, other, "sqeuclidean") / (2 * bandwidth**2))


def median_distance(a: Array) -> float:
    """The median heuristic: σ is the median distance between (n, …) arrays.

    Raises:
        ValueError: where that is 0, or there is no pair.
    """
    median = float(np.median(pdist(a.reshape(len(a), -1)))) if len(a) > 1 else 0.0
    if median == 0:
        raise ValueError(f"the {len(a)} arrays must differ: most are the same, so that no bandwidth follows from them")
    return median


def two_sample_test(a: Array, b: Array, *, permutations: int = 1000, seed: int = 0) -> TwoSamples:
    """Tests two groups for one distribution by their maximum mean discrepancy. It judges sets, not single images.

    Args:
        a, b: (n, …) and (m, …), two or more of each.
        permutations: of the groups' members; the p-value is at least 1 / (1 + permutations).
    Raises:
        ValueError: for groups of one or of other shapes, or arrays that are mostly the same.

    Source: Gretton et al. 2012, lemma 6; Grosse et al. 2017, who test groups of adversarial images so.

    >>> rng = np.random.default_rng(0)
    >>> two_sample_test(rng.normal(0, 1, (40, 3)), rng.normal(1, 1, (40, 3)), permutations=200).p_value < 0.01
    True
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape[1:] != b.shape[1:] or min(len(a), len(b)) < 2:
        raise ValueError(f"a and b must be two or more arrays of one shape each, got {a.shape} and {b.shape}")
    checked_whole(permutations, name="permutations")
    pooled, n, m = np.concatenate([a, b]), len(a), len(b)
    bandwidth = median_distance(pooled)
    k = gaussian_kernel(pooled, pooled, bandwidth)
    np.fill_diagonal(k, 0)
    in_a = np.tile(np.arange(n + m) < n, (1 + permutations, 1)).astype(np.float64)
    in_a[1:] = stream(seed, "metrics/two samples").permuted(in_a[1:], axis=1)
    rows = in_a @ k
    within_a, between = (rows * in_a).sum(axis=1), (rows * (1 - in_a)).sum(axis=1)
    within_b = k.sum() - within_a - 2 * between
    squared = within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m)
    return TwoSamples(float(squared[0]), float((squared >= squared[0]).mean()), bandwidth)
