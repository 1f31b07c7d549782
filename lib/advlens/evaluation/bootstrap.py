"""The cluster bootstrap: source images are drawn with replacement, and all rows made of one come with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from advlens.arrays import Array, checked_seed
from advlens.evaluation.checks import checked_source

DRAWS = 1000
LEVEL = 0.95
CHUNK_BYTES = 32 * 2**20
"""Of float64 weights at a time: metrics need some six times that, and smaller chunks stay in the cache."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % percentile interval over the draws."""

    estimate: float
    low: float
    high: float


def bootstrap_weights(source: Array, *, draws: int = DRAWS, seed: int) -> Array:
    """How often each row counts in each draw.

    A draw takes as many sources as there are, with replacement. The same seed and set of sources give the
    same draws, in whatever order the rows come, so that two detectors can be compared on them.

    Args:
        source: (n,) integers, the index of the image that each row was made of.
    Returns:
        (draws, n) uint16.
    Raises:
        ValueError: for another shape or type, or no draws.
    """
    source = checked_source(source)
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws must be a whole number, 1 or more, got {draws}: 1000 give steady intervals")
    distinct, row = np.unique(source, return_inverse=True)
    drawn = np.random.default_rng(checked_seed(seed)).integers(len(distinct), size=(draws, len(distinct)))
    cell = drawn + len(distinct) * np.arange(draws)[:, None]
    counts = np.bincount(cell.ravel(), minlength=draws * len(distinct)).reshape(draws, len(distinct))
    return counts.astype(np.uint16)[:, row]


def over_draws(measure: Callable[[Array], Mapping[str, Array]], weights: Array) -> dict[str, Array]:
    """The figures of all draws, a chunk of draws at a time.

    Args:
        measure: from (draws, n) float64 weights to name → (draws,).
        weights: (draws, n) of any number type.
    """
    size = max(1, CHUNK_BYTES // (8 * weights.shape[1]))
    parts = [measure(weights[start : start + size].astype(np.float64)) for start in range(0, len(weights), size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def percentile_interval(values: Array) -> tuple[float, float]:
    """The middle 95 % of (draws,) values; draws that lacked a class (NaN) don't count."""
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
