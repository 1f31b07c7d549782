"""Scores → numbers: ROC curves, thresholds and what is flagged at them, calibration. Intervals are in `estimates`.

One convention everywhere: higher scores are more adversarial, and an image is flagged where its score is **greater
than** the threshold.
"""

from collections.abc import Mapping, Sequence

import numba
import numpy as np

from advlens.arrays import Array
from advlens.metrics.checks import checked_probabilities, checked_rate, checked_scores, checked_truth

NOMINAL_FPRS = (0.01, 0.05, 0.10)
ROUNDING = 1e-9
"""Forgives 0.29 × 100 being 28.999…: far less than one image."""


def curve_values(
    scores: Array,
    is_adversarial: Array,
    *,
    fprs: Sequence[float] = NOMINAL_FPRS,
    thresholds: Mapping[float, Array] | None = None,
    cluster: Array | None = None,
    counts: Array | None = None,
) -> dict[str, Array]:
    """What one ROC curve says, in each of d draws of its rows: sorted once, walked once a draw.

    Args:
        scores: (n,), higher = more adversarial; is_adversarial: (n,) bool.
        fprs: nominal false-positive rates.
        thresholds: nominal rate → (d,) thresholds, one a draw.
        cluster, counts: the (n,) column of each row in (d, c) whole numbers, how often each draw takes it; without
            them there is one draw, of every row once.
    Returns:
        (d,) each, NaN where a draw lacks a class that the metric needs: `roc_auc`, the probability that an adversarial
        image scores above a clean one, ties counting ½; `average_precision`, Σ (recall step × precision), without
        interpolation; for each of `fprs` `tpr_at_fpr_0.05`, the highest TPR at an FPR of at most that, without
        interpolation; for each threshold `committed_tpr_0.05` and `observed_fpr_0.05`, the shares above it.
    """
    order = np.argsort(-scores, kind="stable")
    scores, thresholds = scores[order], thresholds or {}
    counts = np.ones((1, 1), np.uint16) if counts is None else counts
    columns = np.zeros(len(scores), np.intp) if cluster is None else cluster[order]
    above = [np.searchsorted(-scores, -each, side="left") for each in thresholds.values()]
    above = np.stack(above, axis=1) if above else np.empty((len(counts), 0), np.intp)
    ends_tie = np.diff(scores, append=np.nan) != 0
    fprs = sorted(checked_rate(fpr) for fpr in fprs)
    area, precision, reached, flagged = _walk(
        counts, columns, ends_tie, is_adversarial[order].astype(np.int64), np.array(fprs), above
    )
    found = {"roc_auc": area, "average_precision": precision}
    found |= {f"tpr_at_fpr_{fpr:g}": reached[:, k] for k, fpr in enumerate(fprs)}
    found |= {f"committed_tpr_{fpr:g}": flagged[:, k, 0] for k, fpr in enumerate(thresholds)}
    return found | {f"observed_fpr_{fpr:g}": flagged[:, k, 1] for k, fpr in enumerate(thresholds)}


@numba.njit(cache=True, error_model="numpy")
def _walk(
    counts: Array, columns: Array, ends_tie: Array, truth: Array, rates: Array, above: Array
) -> tuple[Array, Array, Array, Array]:
    """Down the rows, from the highest score, in each draw; above: (d, t) how many rows each threshold flags."""
    draws, n, n_rates, n_thresholds = len(counts), len(columns), len(rates), above.shape[1]
    area, precision = np.empty(draws), np.empty(draws)
    reached, flagged = np.empty((draws, n_rates)), np.empty((draws, n_thresholds, 2))
    ends = np.flatnonzero(ends_tie)
    trues, falses = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)  # among the first rows, by how many these are
    for draw in range(draws):
        own = counts[draw]
        for row in range(n):
            weight = np.int64(own[columns[row]])
            trues[row + 1] = trues[row] + weight * truth[row]
            falses[row + 1] = falses[row] + weight * (1 - truth[row])
        positives, negatives = trues[n], falses[n]
        both = float(positives) if positives > 0 and negatives > 0 else np.nan
        true_before, false_before, twice_area, summed, rate = 0, 0, 0, 0.0, 0
        for end in ends:
            true, false = trues[end + 1], falses[end + 1]
            while rate < n_rates and false > rates[rate] * negatives + ROUNDING:
                reached[draw, rate] = true_before / both
                rate += 1
            twice_area += (false - false_before) * (true + true_before)
            if true > true_before:
                summed += (true - true_before) * (true / (true + false))
            true_before, false_before = true, false
        reached[draw, rate:] = positives / both
        area[draw] = twice_area / (2.0 * positives * negatives)
        precision[draw] = summed / both
        for k in range(n_thresholds):
            flagged[draw, k, 0] = trues[above[draw, k]] / positives
            flagged[draw, k, 1] = falses[above[draw, k]] / negatives
    return area, precision, reached, flagged


def roc_auc(scores: Array, is_adversarial: Array) -> float:
    """The probability that an adversarial image scores above a clean one, ties counting ½.

    Args:
        scores: (n,), higher = more adversarial; is_adversarial: (n,) bool, both classes present.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    return _of(scores, is_adversarial)["roc_auc"]


def average_precision(scores: Array, is_adversarial: Array) -> float:
    """Σ (recall step × precision) of (n,) scores, higher = more adversarial, and (n,) bool truths."""
    return _of(scores, is_adversarial)["average_precision"]


def tpr_at_fpr(scores: Array, is_adversarial: Array, *, fpr: float) -> float:
    """The highest TPR at an FPR of at most `fpr`, of (n,) scores and (n,) bool truths, without interpolation."""
    return _of(scores, is_adversarial, fprs=(fpr,))[f"tpr_at_fpr_{fpr:g}"]


def _of(scores: Array, is_adversarial: Array, fprs: Sequence[float] = ()) -> dict[str, float]:
    scores = checked_scores(scores)
    found = curve_values(scores, checked_truth(is_adversarial, n=len(scores)), fprs=fprs)
    return {name: float(values[0]) for name, values in found.items()}


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


def tie_share(clean_scores: Array, fpr: float) -> float:
    """The share of images at `threshold_at_fpr` that is to be flagged, so that of `clean_scores` just `fpr` are.

    With a of n scores above the threshold and t equal to it, (fpr·n − a) / t, in [0, 1).

    Source: the randomised test of Neyman and Pearson, Lehmann & Romano 2005, theorem 3.2.1.

    >>> round(tie_share(np.array([0.0, 0.0, 0.0, 1.0, 1.0]), 0.1), 6)
    0.25
    """
    scores, threshold = checked_scores(clean_scores, name="clean_scores"), threshold_at_fpr(clean_scores, fpr)
    share = (fpr * len(scores) - (scores > threshold).sum()) / (scores == threshold).sum()
    return float(share) if share > ROUNDING else 0.0


def threshold_rank(n: int, fpr: float) -> int:
    """Which of n clean scores, from the highest, is the threshold: ⌊fpr·n⌋ + 1."""
    return int(np.floor(checked_rate(fpr) * n + ROUNDING)) + 1


def expected_calibration_error(probabilities: Array, happened: Array, *, bins: int = 15) -> float:
    """How far probabilities are from frequencies: Σ over bins of |Σ (probability − happened)| / n, in [0, 1].

    Args:
        probabilities: (n,) in [0, 1], that an image is adversarial, or that a prediction is right.
        happened: (n,) bool: whether it was.
        bins: of equal width, each with its upper edge; the first one also holds 0.
    Source: Guo et al. 2017, eq. 3.
    """
    return float(np.abs(calibration_gaps(probabilities, happened, bins=bins).sum(axis=0)).sum() / len(happened))


def calibration_gaps(probabilities: Array, happened: Array, *, bins: int) -> Array:
    """(n, bins) probability − happened of each row, in the column of its bin: see `expected_calibration_error`."""
    happened = np.asarray(happened)
    if happened.ndim != 1 or happened.dtype != bool:
        raise ValueError(f"happened must be (n,) booleans, got {happened.dtype} of shape {happened.shape}")
    probabilities = checked_probabilities(probabilities, n=len(happened))
    gaps = np.zeros((len(happened), bins))
    number = np.digitize(probabilities, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps[np.arange(len(happened)), number] = probabilities - happened
    return gaps


def precision_at_prevalence(tpr: float, fpr: float, *, prevalence: float) -> float:
    """The share of alarms that are right where a share `prevalence` of the images is adversarial; NaN without alarms.

    >>> round(precision_at_prevalence(0.9, 0.05, prevalence=0.01), 3)
    0.154
    """
    alarms = tpr * prevalence + fpr * (1 - checked_rate(prevalence, name="prevalence"))
    return tpr * prevalence / alarms if alarms > 0 else float("nan")
