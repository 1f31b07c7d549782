"""The metrics of a detector, for all bootstrap draws at once.

A metric takes (draws, n) weights, how often each row counts in each draw, and returns (draws,) values;
without weights every row counts once, and it returns one float. A draw that lacks a class gives NaN.
"""

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
from advlens.metrics.thresholds import ROUNDING, ratio, unwrapped


@dataclass(frozen=True, eq=False)
class RocCurve:
    """What is flagged at every distinct score, from the strictest threshold to the most lenient.

    Attributes:
        distinct: (g,) distinct scores, from the highest.
        true_positives, false_positives: (draws, g + 1) cumulative weights over them, from 0.
    """

    distinct: Array
    true_positives: Array
    false_positives: Array

    @classmethod
    def of(cls, scores: Array, is_adversarial: Array, *, weights: Array | None = None) -> "RocCurve":
        """The curve of (n,) scores and (n,) bool truths, sorted once for all draws."""
        scores = checked_scores(scores)
        truth = checked_truth(is_adversarial, n=len(scores))
        weights = checked_weights(weights, n=len(scores))
        order = np.argsort(-scores, kind="stable")
        last_of_tie = np.flatnonzero(np.diff(scores[order], append=np.nan) != 0)
        return cls(
            distinct=scores[order][last_of_tie],
            true_positives=_cumulative(weights, truth, order=order, ends=last_of_tie),
            false_positives=_cumulative(weights, ~truth, order=order, ends=last_of_tie),
        )

    def roc_auc(self) -> Array:
        """(draws,) probability that an adversarial image scores above a clean one, ties counting ½."""
        heights = (self.true_positives[:, 1:] + self.true_positives[:, :-1]) / 2
        area = np.einsum("dg,dg->d", np.diff(self.false_positives, axis=1), heights)
        return ratio(area, self.true_positives[:, -1] * self.false_positives[:, -1])

    def average_precision(self) -> Array:
        """(draws,) Σ (recall step × precision), without interpolation, as scikit-learn has it."""
        found = self.true_positives[:, 1:]
        flagged = found + self.false_positives[:, 1:]
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        area = np.einsum("dg,dg->d", np.diff(self.true_positives, axis=1), precision)
        has_both = (self.true_positives[:, -1] > 0) & (self.false_positives[:, -1] > 0)
        return ratio(area, np.where(has_both, self.true_positives[:, -1], 0))

    def tpr_at_fpr(self, fpr: float) -> Array:
        """(draws,) highest true-positive rate at an FPR of at most `fpr`.

        The threshold comes from the negatives given, by the convention of `threshold_at_fpr`, without
        interpolation between operating points; in a bootstrap it is taken anew in each draw.
        """
        allowed = checked_rate(fpr) * self.false_positives[:, -1] + ROUNDING
        point = np.count_nonzero(self.false_positives <= allowed[:, None], axis=1) - 1
        found = np.take_along_axis(self.true_positives, point[:, None], axis=1)[:, 0]
        has_negatives = self.false_positives[:, -1] > 0
        return ratio(found, np.where(has_negatives, self.true_positives[:, -1], 0))

    def true_positive_rate(self, thresholds: Array) -> Array:
        """(draws,) share of the positives above (draws,) thresholds."""
        return self._share_above(self.true_positives, thresholds)

    def false_positive_rate(self, thresholds: Array) -> Array:
        """(draws,) share of the negatives above (draws,) thresholds."""
        return self._share_above(self.false_positives, thresholds)

    def _share_above(self, cumulative: Array, thresholds: Array) -> Array:
        point = np.searchsorted(-self.distinct, -thresholds, side="left")
        return ratio(np.take_along_axis(cumulative, point[:, None], axis=1)[:, 0], cumulative[:, -1])


def roc_auc(scores: Array, is_adversarial: Array, *, weights: Array | None = None) -> Array | float:
    """`RocCurve.roc_auc` of (n,) scores, higher = more adversarial, and (n,) bool truths."""
    values = RocCurve.of(scores, is_adversarial, weights=weights).roc_auc()
    return unwrapped(values, weights)


def average_precision(scores: Array, is_adversarial: Array, *, weights: Array | None = None) -> Array | float:
    """`RocCurve.average_precision` of (n,) scores, higher = more adversarial, and (n,) bool truths."""
    values = RocCurve.of(scores, is_adversarial, weights=weights).average_precision()
    return unwrapped(values, weights)


def tpr_at_fpr(scores: Array, is_adversarial: Array, *, fpr: float, weights: Array | None = None) -> Array | float:
    """`RocCurve.tpr_at_fpr` of (n,) scores, higher = more adversarial, and (n,) bool truths."""
    values = RocCurve.of(scores, is_adversarial, weights=weights).tpr_at_fpr(fpr)
    return unwrapped(values, weights)


def accuracy(predicted: Array, truth: Array, *, weights: Array | None = None) -> Array | float:
    """Share of the (n,) predictions that equal the (n,) truths."""
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or predicted.ndim != 1 or len(predicted) == 0:
        raise ValueError(f"predicted and truth must both be (n,), got {predicted.shape} and {truth.shape}")
    counts = checked_weights(weights, n=len(truth))
    right = counts @ (predicted == truth).astype(np.float64)
    return unwrapped(ratio(right, counts.sum(axis=1)), weights)


def expected_calibration_error(
    probabilities: Array, happened: Array, *, bins: int = 15, weights: Array | None = None
) -> Array | float:
    """How far probabilities are from frequencies: Σ over bins of |Σ (probability − happened)| / Σ weights.

    Args:
        probabilities: (n,) in [0, 1], that an image is adversarial, or that a prediction is right.
        happened: (n,) bool: whether it was.
        bins: of equal width, each with its upper edge; the first one also holds 0.
    Returns:
        In [0, 1]: (draws,), or a float without weights.
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
    return unwrapped(ratio(np.abs(counts @ gaps).sum(axis=1), counts.sum(axis=1)), weights)


def precision_at_prevalence(tpr: float, fpr: float, *, prevalence: float) -> float:
    """The share of alarms that are right where a share `prevalence` of the images is adversarial; NaN without alarms.

    >>> round(precision_at_prevalence(0.9, 0.05, prevalence=0.01), 3)
    0.154
    """
    alarms = tpr * prevalence + fpr * (1 - checked_rate(prevalence, name="prevalence"))
    return tpr * prevalence / alarms if alarms > 0 else float("nan")


def _cumulative(weights: Array, mask: Array, *, order: Array, ends: Array) -> Array:
    """(draws, g + 1) weights of the masked rows, summed up to the end of each tie in the given order."""
    sums = np.cumsum(weights[:, order] * mask[order], axis=1)[:, ends]
    return np.pad(sums, ((0, 0), (1, 0)))
