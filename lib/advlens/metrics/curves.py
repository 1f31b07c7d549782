"""Scores → numbers: ROC curves, thresholds and what is flagged at them, calibration. Intervals are in `estimates`.

One convention everywhere: higher scores are more adversarial, and an image is flagged where its score is **greater
than** the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advlens.arrays import Array
from advlens.metrics.checks import (
    checked_probabilities,
    checked_rate,
    checked_scores,
    checked_truth,
    checked_weights,
)

NOMINAL_FPRS = (0.01, 0.05, 0.10)
ROUNDING = 1e-9
"""Forgives 0.29 × 100 being 28.999…: far less than one image."""


@dataclass(frozen=True, eq=False)
class RocCurve:
    """What is flagged at every distinct score, from the strictest threshold to the most lenient, in d draws.

    Its methods return (d,) values, NaN where a draw lacks a class.

    Attributes:
        distinct: (g,) distinct scores, from the highest.
        true_positives, false_positives: (d, g + 1) cumulative weights over them, from 0.
    """

    distinct: Array
    true_positives: Array
    false_positives: Array

    @classmethod
    def of(cls, scores: Array, is_adversarial: Array, *, weights: Array | None = None) -> "RocCurve":
        """The curve of (n,) scores and (n,) bool truths, sorted once for all draws.

        Args:
            weights: (d, n), how often each row counts in each draw; without any, one draw of every row once.
        """
        scores = checked_scores(scores)
        truth = checked_truth(is_adversarial, n=len(scores))
        weights = checked_weights(weights, n=len(scores))
        order = np.argsort(-scores, kind="stable")
        last_of_tie = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
        true, false = (
            np.pad(np.cumsum(weights[:, order] * mask[order], axis=1)[:, last_of_tie], ((0, 0), (1, 0)))
            for mask in (truth, ~truth)
        )
        return cls(scores[order][last_of_tie], true, false)

    def roc_auc(self) -> Array:
        """Probability that an adversarial image scores above a clean one, ties counting ½."""
        heights = (self.true_positives[:, 1:] + self.true_positives[:, :-1]) / 2
        area = np.einsum("dg,dg->d", np.diff(self.false_positives, axis=1), heights)
        return _ratio(area, self.true_positives[:, -1] * self.false_positives[:, -1])

    def average_precision(self) -> Array:
        """Σ (recall step × precision), without interpolation, as scikit-learn has it."""
        found = self.true_positives[:, 1:]
        flagged = found + self.false_positives[:, 1:]
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        area = np.einsum("dg,dg->d", np.diff(self.true_positives, axis=1), precision)
        return _ratio(area, np.where(self.false_positives[:, -1] > 0, self.true_positives[:, -1], 0))

    def tpr_at_fpr(self, fpr: float) -> Array:
        """Highest true-positive rate at an FPR of at most `fpr`, without interpolation between operating points.

        The threshold comes from the negatives given, by the convention of `threshold_at_fpr`, anew in each draw.
        """
        allowed = checked_rate(fpr) * self.false_positives[:, -1] + ROUNDING
        point = np.count_nonzero(self.false_positives <= allowed[:, None], axis=1) - 1
        found = np.take_along_axis(self.true_positives, point[:, None], axis=1)[:, 0]
        return _ratio(found, np.where(self.false_positives[:, -1] > 0, self.true_positives[:, -1], 0))

    def true_positive_rate(self, thresholds: Array) -> Array:
        """Share of the positives above each draw's threshold, (d,)."""
        return self._share_above(self.true_positives, thresholds)

    def false_positive_rate(self, thresholds: Array) -> Array:
        """Share of the negatives above each draw's threshold, (d,)."""
        return self._share_above(self.false_positives, thresholds)

    def _share_above(self, cumulative: Array, thresholds: Array) -> Array:
        point = np.searchsorted(-self.distinct, -thresholds, side="left")
        return _ratio(np.take_along_axis(cumulative, point[:, None], axis=1)[:, 0], cumulative[:, -1])


def roc_auc(scores: Array, is_adversarial: Array) -> float:
    """`RocCurve.roc_auc` of (n,) scores, higher = more adversarial, and (n,) bool truths.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    return float(RocCurve.of(scores, is_adversarial).roc_auc()[0])


def average_precision(scores: Array, is_adversarial: Array) -> float:
    """`RocCurve.average_precision` of (n,) scores, higher = more adversarial, and (n,) bool truths."""
    return float(RocCurve.of(scores, is_adversarial).average_precision()[0])


def tpr_at_fpr(scores: Array, is_adversarial: Array, *, fpr: float) -> float:
    """`RocCurve.tpr_at_fpr` of (n,) scores, higher = more adversarial, and (n,) bool truths."""
    return float(RocCurve.of(scores, is_adversarial).tpr_at_fpr(fpr)[0])


def threshold_at_fpr(clean_scores: Array, fpr: float) -> float:
    """Smallest threshold among `clean_scores` whose false-positive rate on them is at most `fpr`.

    It is the (⌊fpr·n⌋ + 1)-th highest clean score; with n < 1/fpr it is their maximum.

    Args:
        clean_scores: (n,) finite scores of clean validation images.
        fpr: the nominal false-positive rate, in (0, 1).
    Raises:
        ValueError: for scores of another shape, NaNs, or a rate outside (0, 1).
    """
    scores = np.sort(checked_scores(clean_scores, name="clean_scores"))
    return float(scores[-threshold_rank(len(scores), fpr)])


def threshold_rank(n: int, fpr: float) -> int:
    """Which of n clean scores, from the highest, is the threshold: ⌊fpr·n⌋ + 1."""
    return int(np.floor(checked_rate(fpr) * n + ROUNDING)) + 1


def committed_thresholds(clean_scores: Array, fprs: Sequence[float] = NOMINAL_FPRS) -> dict[float, float]:
    """Nominal FPR → `threshold_at_fpr`, for each of `fprs`."""
    return {fpr: threshold_at_fpr(clean_scores, fpr) for fpr in fprs}


@dataclass(frozen=True)
class Rates:
    """What a threshold does, each in [0, 1]."""

    true_positive: float
    false_positive: float
    accuracy: float


def rates(scores: Array, is_adversarial: Array, *, threshold: float) -> Rates:
    """The rates of a detector that flags (n,) scores greater than `threshold`, given (n,) bool truths.

    Raises:
        ValueError: for lengths that differ, NaNs, or a missing class.
    """
    scores = checked_scores(scores)
    truth = checked_truth(is_adversarial, n=len(scores))
    if np.isnan(threshold):
        raise ValueError("threshold must be a number, got NaN: see threshold_at_fpr")
    flagged = scores > threshold
    return Rates(float(flagged[truth].mean()), float(flagged[~truth].mean()), accuracy(flagged, truth))


def accuracy(predicted: Array, truth: Array) -> float:
    """Share of the (n,) predictions that equal the (n,) truths."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or predicted.ndim != 1 or len(predicted) == 0:
        raise ValueError(f"predicted and truth must both be (n,), got {predicted.shape} and {truth.shape}")
    return float(np.mean(predicted == truth))


def expected_calibration_error(
    probabilities: Array, happened: Array, *, bins: int = 15, weights: Array | None = None
) -> Array | float:
    """How far probabilities are from frequencies: Σ over bins of |Σ (probability − happened)| / Σ weights.

    Args:
        probabilities: (n,) in [0, 1], that an image is adversarial, or that a prediction is right.
        happened: (n,) bool: whether it was.
        bins: of equal width, each with its upper edge; the first one also holds 0.
    Returns:
        In [0, 1]: (d,), or a float without weights.
    Source: Guo et al. 2017, eq. 3.
    """
    happened = np.asarray(happened)
    if happened.ndim != 1 or happened.dtype != bool:
        raise ValueError(f"happened must be (n,) booleans, got {happened.dtype} of shape {happened.shape}")
    probabilities = checked_probabilities(probabilities, n=len(happened))
    counts = checked_weights(weights, n=len(happened))
    number = np.digitize(probabilities, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.zeros((len(happened), bins))
    gaps[np.arange(len(happened)), number] = probabilities - happened
    errors = _ratio(np.abs(counts @ gaps).sum(axis=1), counts.sum(axis=1))
    return float(errors[0]) if weights is None else errors


def precision_at_prevalence(tpr: float, fpr: float, *, prevalence: float) -> float:
    """The share of alarms that are right where a share `prevalence` of the images is adversarial; NaN without alarms.

    >>> round(precision_at_prevalence(0.9, 0.05, prevalence=0.01), 3)
    0.154
    """
    alarms = tpr * prevalence + fpr * (1 - checked_rate(prevalence, name="prevalence"))
    return tpr * prevalence / alarms if alarms > 0 else float("nan")


def _ratio(part: Array, whole: Array) -> Array:
    """part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
