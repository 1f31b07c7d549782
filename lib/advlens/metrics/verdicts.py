"""Verdicts in words: what a comparison shows, and what it says of a published claim."""

from collections.abc import Sequence
from enum import Enum

import numpy as np
from statsmodels.stats.multitest import multipletests

from advlens.arrays import Array
from advlens.metrics.intervals import LEVEL, Difference

MIN_POSITIVES = 20
MARGINS = {
    "roc_auc": 0.01,
    "average_precision": 0.01,
    **{f"{name}_{fpr}": 0.02 for name in ("tpr_at_fpr", "committed_tpr") for fpr in ("0.01", "0.05", "0.1")},
}
"""The largest difference of each metric that means nothing in practice."""


class Verdict(str, Enum):
    """What a comparison of a with b shows of a."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUAL = "no meaningful difference"
    UNDECIDED = "undecided"


class ClaimVerdict(str, Enum):
    """What a comparison shows of a published claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


def holm(p_values: Sequence[float] | Array) -> Array:
    """(k,) p-values, Holm-adjusted within their table; NaNs stay NaN and don't count."""
    p_values = np.asarray(p_values, np.float64)
    adjusted, known = np.full(p_values.shape, np.nan), np.isfinite(p_values)
    if known.any():
        adjusted[known] = multipletests(p_values[known], method="holm")[1]
    return adjusted


def verdict(difference: Difference, *, margin: float, n_positive: int, p_adjusted: float | None = None) -> Verdict:
    """Equal where the whole interval is within ± margin; else higher or lower where the p-value says so.

    Args:
        n_positive: adversarial images compared; fewer than `MIN_POSITIVES` decide nothing.
        p_adjusted: the p-value after `holm`; the difference's own without it.
    Raises:
        ValueError: for a margin that is not positive.

    >>> verdict(Difference(0.03, 0.02, 0.04, 0.001), margin=0.01, n_positive=200).value
    'higher'
    """
    if not margin > 0:
        raise ValueError(f"margin must be more than 0, got {margin:g}: see MARGINS")
    p_value = difference.p_value if p_adjusted is None else p_adjusted
    if n_positive < MIN_POSITIVES:
        return Verdict.UNDECIDED
    if -margin <= difference.low and difference.high <= margin:
        return Verdict.EQUAL
    if p_value < 1 - LEVEL:
        return Verdict.HIGHER if difference.estimate > 0 else Verdict.LOWER
    return Verdict.UNDECIDED


def claim_verdict(found: Verdict, claimed: Verdict) -> ClaimVerdict:
    """Supported where the comparison found what was claimed, contradicted where it found something else.

    Raises:
        ValueError: for a claim that is `UNDECIDED`.
    """
    if claimed == Verdict.UNDECIDED:
        raise ValueError(f"claimed must be a claim, got {claimed.value!r}: pass higher, lower or equal")
    if found == Verdict.UNDECIDED:
        return ClaimVerdict.UNDECIDED
    return ClaimVerdict.SUPPORTED if found == claimed else ClaimVerdict.CONTRADICTED
