"""Thresholds committed from clean images alone, and what is flagged at them.

One convention everywhere: higher scores are more adversarial, and an image is flagged where its score is
**greater than** the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advlens.arrays import Array
from advlens.metrics.checks import checked_rate, checked_scores, checked_truth, checked_weights

NOMINAL_FPRS = (0.01, 0.05, 0.10)

ROUNDING = 1e-9
"""Forgives 0.29 × 100 being 28.999…: far less than one image."""


def threshold_at_fpr(clean_scores: Array, fpr: float) -> float:
    """Smallest threshold whose false-positive rate on `clean_scores` is at most `fpr`.

    It is the (⌊fpr·n⌋ + 1)-th highest clean score: the observed FPR on these scores never exceeds `fpr`, and
    stays below it where scores tie. With n < 1/fpr it is their maximum.

    Args:
        clean_scores: (n,) finite scores of clean validation images.
        fpr: the nominal false-positive rate, in (0, 1).
    Raises:
        ValueError: for scores of another shape, NaNs, or a rate outside (0, 1).
    """
    fpr = checked_rate(fpr)
    scores = np.sort(checked_scores(clean_scores, name="clean_scores"))
    allowed = int(np.floor(fpr * len(scores) + ROUNDING))
    return float(scores[-1 - allowed])


def committed_thresholds(clean_scores: Array, fprs: Sequence[float] = NOMINAL_FPRS) -> dict[float, float]:
    """Nominal FPR → `threshold_at_fpr`, for each of `fprs`."""
    return {fpr: threshold_at_fpr(clean_scores, fpr) for fpr in fprs}


@dataclass(frozen=True)
class Rates:
    """What a threshold does, in [0, 1]: floats, or (draws,) arrays with NaN where a draw lacks the class."""

    true_positive: Array | float
    false_positive: Array | float
    accuracy: Array | float


def rates(scores: Array, is_adversarial: Array, *, threshold: float, weights: Array | None = None) -> Rates:
    """The rates of a detector that flags scores greater than `threshold`.

    Args:
        scores: (n,), higher = more adversarial.
        is_adversarial: (n,) bool.
        weights: (draws, n), how often each row counts in each draw; None where every row counts once.
    Raises:
        ValueError: for lengths that differ, NaNs, or a missing class.
    """
    scores = checked_scores(scores)
    truth = checked_truth(is_adversarial, n=len(scores))
    counts = checked_weights(weights, n=len(scores))
    if np.isnan(threshold):
        raise ValueError("threshold must be a number, got NaN: see threshold_at_fpr")
    flagged = scores > threshold
    true_positives, positives, false_positives, negatives = (
        counts @ mask.astype(np.float64) for mask in (flagged & truth, truth, flagged & ~truth, ~truth)
    )
    correct = true_positives + negatives - false_positives
    return Rates(
        true_positive=unwrapped(ratio(true_positives, positives), weights),
        false_positive=unwrapped(ratio(false_positives, negatives), weights),
        accuracy=unwrapped(ratio(correct, positives + negatives), weights),
    )


def ratio(part: Array, whole: Array) -> Array:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def unwrapped(values: Array, weights: Array | None) -> Array | float:
    """The (draws,) values as they are where weights were given, else the one float in them."""
    return float(values[0]) if weights is None else values
