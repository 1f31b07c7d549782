"""The figures of one detector with their intervals, and the paired comparison of two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from advlens.arrays import Array
from advlens.evaluation.bootstrap import (
    DRAWS,
    Estimate,
    bootstrap_weights,
    over_draws,
    percentile_interval,
)
from advlens.evaluation.checks import (
    checked_probabilities,
    checked_scores,
    checked_source,
    checked_thresholds,
    checked_truth,
)
from advlens.evaluation.metrics import RocCurve, expected_calibration_error
from advlens.evaluation.operating_points import NOMINAL_FPRS, rates


@dataclass(frozen=True)
class Evaluation:
    """A detector's figures.

    Attributes:
        figures: name → `Estimate`. Always `roc_auc`, `average_precision` and, for each rate,
            `tpr_at_fpr_0.05` (its threshold from the evaluated negatives). With committed thresholds
            `committed_tpr_0.05`, `observed_fpr_0.05` and `committed_accuracy_0.05`; with probabilities
            `expected_calibration_error`.
        n_positive, n_negative: how many rows are adversarial, and how many are not.
        n_sources: how many distinct source images they were made of.
    """

    figures: dict[str, Estimate]
    n_positive: int
    n_negative: int
    n_sources: int

    def __getitem__(self, name: str) -> Estimate:
        return self.figures[name]


@dataclass(frozen=True)
class Difference(Estimate):
    """What the first detector has above the second, with its interval and two-sided bootstrap p-value."""

    p_value: float


def evaluate(
    scores: Array,
    is_adversarial: Array,
    source: Array,
    *,
    seed: int,
    thresholds: Mapping[float, float] | None = None,
    probabilities: Array | None = None,
    fprs: Sequence[float] = NOMINAL_FPRS,
    draws: int = DRAWS,
) -> Evaluation:
    """All figures of a detector, with 95 % intervals by bootstrap over source images.

    Args:
        scores: (n,) finite, higher = more adversarial.
        is_adversarial: (n,) bool, both classes present.
        source: (n,) integers, the index of the image that each row was made of.
        seed: governs the draws.
        thresholds: nominal FPR → threshold, committed beforehand from clean validation images.
        probabilities: (n,) in [0, 1], that an image is adversarial, where the detector gives them.
        fprs: the rates of `tpr_at_fpr_…`.
    Raises:
        TypeError: for thresholds that are no mapping.
        ValueError: for lengths that differ, NaNs, a missing class, or other wrong input.
    """
    scores, truth, source = _checked(scores, is_adversarial, source)
    thresholds = checked_thresholds(thresholds)
    if probabilities is not None:
        probabilities = checked_probabilities(probabilities, n=len(scores))

    def measure(weights: Array) -> dict[str, Array]:
        figures = _ranking(scores, truth, weights=weights, fprs=fprs)
        for fpr, threshold in thresholds.items():
            at_threshold = rates(scores, truth, threshold=threshold, weights=weights)
            figures[f"committed_tpr_{fpr:g}"] = at_threshold.true_positive
            figures[f"observed_fpr_{fpr:g}"] = at_threshold.false_positive
            figures[f"committed_accuracy_{fpr:g}"] = at_threshold.accuracy
        if probabilities is not None:
            figures["expected_calibration_error"] = expected_calibration_error(probabilities, truth, weights=weights)
        return figures

    observed = measure(np.ones((1, len(scores))))
    drawn = over_draws(measure, bootstrap_weights(source, draws=draws, seed=seed))
    return Evaluation(
        figures={name: Estimate(float(observed[name][0]), *percentile_interval(drawn[name])) for name in observed},
        n_positive=int(truth.sum()),
        n_negative=int((~truth).sum()),
        n_sources=len(np.unique(source)),
    )


def compare(
    scores_a: Array,
    scores_b: Array,
    is_adversarial: Array,
    source: Array,
    *,
    seed: int,
    fprs: Sequence[float] = (0.05,),
    draws: int = DRAWS,
) -> dict[str, Difference]:
    """What detector a has above detector b on the same rows, both evaluated on the same draws.

    Args:
        scores_a, scores_b: (n,) finite, higher = more adversarial; of the same images, in the same order.
        is_adversarial, source, seed, draws: as in `evaluate`.
        fprs: the rates of `tpr_at_fpr_…`.
    Returns:
        `roc_auc`, `average_precision` and `tpr_at_fpr_0.05` → `Difference`, positive where a is better.
    Raises:
        ValueError: as `evaluate` does.
    """
    scores_a, truth, source = _checked(scores_a, is_adversarial, source, name="scores_a")
    scores_b = checked_scores(scores_b, name="scores_b", n=len(scores_a))

    def measure(weights: Array) -> dict[str, Array]:
        a, b = (_ranking(scores, truth, weights=weights, fprs=fprs) for scores in (scores_a, scores_b))
        return {name: a[name] - b[name] for name in a}

    observed = measure(np.ones((1, len(scores_a))))
    drawn = over_draws(measure, bootstrap_weights(source, draws=draws, seed=seed))
    return {
        name: Difference(float(observed[name][0]), *percentile_interval(drawn[name]), _p_value(drawn[name]))
        for name in observed
    }


def _ranking(scores: Array, truth: Array, *, weights: Array, fprs: Sequence[float]) -> dict[str, Array]:
    """The figures that need no committed threshold, name → (draws,)."""
    curve = RocCurve.of(scores, truth, weights=weights)
    at_fpr = {f"tpr_at_fpr_{fpr:g}": curve.tpr_at_fpr(fpr) for fpr in fprs}
    return {"roc_auc": curve.roc_auc(), "average_precision": curve.average_precision(), **at_fpr}


def _p_value(differences: Array) -> float:
    """Twice the smaller share of (draws,) differences on one side of 0, the data themselves being a draw."""
    differences = differences[np.isfinite(differences)]
    smaller = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return min(1.0, 2 * (int(smaller) + 1) / (len(differences) + 1))


def _checked(
    scores: Array, is_adversarial: Array, source: Array, *, name: str = "scores"
) -> tuple[Array, Array, Array]:
    scores = checked_scores(scores, name=name)
    truth = checked_truth(is_adversarial, n=len(scores))
    return scores, truth, checked_source(source, n=len(scores))
