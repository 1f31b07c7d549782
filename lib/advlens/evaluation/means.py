"""Means of a value an image, with the same bootstrap intervals as every other figure."""

import numpy as np

from advlens.arrays import Array
from advlens.evaluation.bootstrap import DRAWS, Estimate, bootstrap_weights, percentile_interval
from advlens.evaluation.checks import checked_scores, checked_source


def mean_estimate(values: Array, source: Array, *, seed: int, draws: int = DRAWS) -> Estimate:
    """The mean with its 95 % interval by bootstrap over source images.

    Args:
        values: (n,) finite; booleans give a rate.
        source: (n,) integers, the index of the image that each row was made of.
    Raises:
        ValueError: for other shapes, or values that are not finite.
    """
    values = checked_scores(np.asarray(values, np.float64), name="values")
    weights = bootstrap_weights(checked_source(source, n=len(values)), draws=draws, seed=seed)
    totals = weights.sum(axis=1, dtype=np.float64)
    return Estimate(float(values.mean()), *percentile_interval((weights @ values) / totals))
