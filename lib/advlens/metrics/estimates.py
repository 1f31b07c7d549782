"""The metrics of one detector with their intervals, and the paired comparison of two; single metrics in `curves`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advlens.arrays import Array, checked_seed, checked_whole
from advlens.metrics.checks import checked_scores, checked_source, checked_truth
from advlens.metrics.curves import (
    NOMINAL_FPRS,
    calibration_gaps,
    curve_values,
    expected_calibration_error,
    precision_at_prevalence,
    threshold_at_fpr,
)
from advlens.metrics.intervals import DRAWS, Estimate, Sample, auc_size, drawn_thresholds, seed_weights, source_counts

MIN_NEGATIVES = {0.01: 1000}
"""Nominal FPR → the fewest negatives from which a TPR at it is given."""
PREVALENCES = (0.01, 0.1)
PRECISION_FPR = 0.05


def evaluate(
    scores: Array,
    is_adversarial: Array,
    source: Array,
    *,
    seed: int,
    threshold_scores: Array | None = None,
    probabilities: Array | None = None,
    fprs: Sequence[float] = NOMINAL_FPRS,
    draws: int = DRAWS,
) -> dict[str, Estimate]:
    """The metrics of a detector, with 95 % intervals over source images, and over training seeds where there are any.

    Args:
        scores: (n,) or (s, n) finite, higher = more adversarial; s training seeds, whose metrics are averaged.
        is_adversarial: (n,) bool, both classes present.
        source: (n,) integers, the index of the image that each row was made of.
        seed: governs the draws.
        threshold_scores: (m,) or (s, m) scores of clean images from which thresholds are committed; drawn anew too.
        probabilities: (n,) or (s, n) in [0, 1], that an image is adversarial, where the detector gives them.
        fprs: nominal false-positive rates.
    Returns:
        `roc_auc`, `average_precision`, for each rate `tpr_at_fpr_0.05` (its threshold from the evaluated negatives);
        with threshold scores `committed_tpr_0.05`, `observed_fpr_0.05`, and `precision_at_prevalence_0.01` and `_0.1`
        at the threshold of 5 %; with probabilities `expected_calibration_error`. A TPR at an FPR for which there are
        fewer than `MIN_NEGATIVES` is NaN.
    Raises:
        ValueError: for lengths that differ, NaNs, or a missing class.

    >>> rng = np.random.default_rng(0)
    >>> truth, source = np.arange(200) >= 100, np.arange(200) % 100
    >>> evaluate(rng.normal(size=200) + 2 * truth, truth, source, seed=0)["roc_auc"].low > 0.8
    True
    """
    about = {"seed": seed, "threshold_scores": threshold_scores, "fprs": fprs, "draws": draws}
    return intervals_of(samples(scores, is_adversarial, source, probabilities=probabilities, **about))


def intervals_of(made: Mapping[str, Sample]) -> dict[str, Estimate]:
    """Each metric of `samples` with its interval, and the precisions that follow from the rates at 5 %."""
    found = {name: sample.interval() for name, sample in made.items()}
    rates = tuple(f"{name}_{PRECISION_FPR:g}" for name in ("committed_tpr", "observed_fpr"))
    if all(name in found for name in rates):
        tpr, false_alarms = (found[name] for name in rates)
        for each in PREVALENCES:
            found[f"precision_at_prevalence_{each:g}"] = precision_estimate(tpr, false_alarms, prevalence=each)
    return found


def flagged_share(
    scores: Array, source: Array, *, threshold_scores: Array, fpr: float, seed: int, draws: int = DRAWS
) -> Estimate:
    """The share of images of one kind that score above the committed threshold, which is drawn anew too.

    Of clean images (or noisy twins) this is the observed FPR, of adversarial ones the committed TPR.

    Args:
        scores: (n,) or (s, n), of that kind alone.
        source, threshold_scores, seed, draws: as in `evaluate`.
        fpr: the nominal false-positive rate.
    Raises:
        ValueError: as `evaluate` does.
    """
    scores = np.atleast_2d(checked_scores(scores, seeds=True))
    every = np.ones(scores.shape[1], bool)  # as if all were adversarial, so that the TPR is their share
    cluster, counts = _drawn_sources(source, n=scores.shape[1], draws=draws, seed=seed)
    clean = _each_seed(threshold_scores, len(scores), name="threshold_scores")
    observed, drawn = [], []
    for own, own_clean in zip(scores, clean, strict=True):
        anew = {fpr: drawn_thresholds(own_clean, fpr, draws=draws, seed=seed)}
        values = curve_values(own, every, fprs=(), thresholds=anew, cluster=cluster, counts=counts)
        observed.append(float(np.mean(own > threshold_at_fpr(own_clean, fpr))))
        drawn.append(values[f"committed_tpr_{fpr:g}"])
    return _over_seeds(observed, drawn, size=counts.shape[1], n_sources=counts.shape[1], seed=seed).interval()


def calibration_error(
    probabilities: Array, happened: Array, source: Array, *, bins: int = 15, seed: int, draws: int = DRAWS
) -> Estimate:
    """The expected calibration error of any probabilities, whether all, some or none of it happened.

    Args:
        probabilities, happened, bins: as in `expected_calibration_error`.
        source, seed, draws: as in `evaluate`.
    Raises:
        ValueError: for other shapes or ranges.
    """
    about = _drawn_sources(source, n=len(happened), draws=draws, seed=seed)
    observed, drawn = _calibration_errors(probabilities, happened, *about, bins=bins)
    n_sources = about[1].shape[1]
    return _over_seeds([observed], [drawn], size=n_sources, n_sources=n_sources, seed=seed).interval()


def precision_estimate(tpr: Estimate, fpr: Estimate, *, prevalence: float) -> Estimate:
    """`precision_at_prevalence` of both rates, from the worse to the better ends of both intervals."""
    pairs = ((tpr.estimate, fpr.estimate), (tpr.low, fpr.high), (tpr.high, fpr.low))
    return Estimate(*(precision_at_prevalence(*pair, prevalence=prevalence) for pair in pairs))


def samples(
    scores: Array,
    is_adversarial: Array,
    source: Array,
    *,
    seed: int,
    threshold_scores: Array | None = None,
    probabilities: Array | None = None,
    fprs: Sequence[float] = NOMINAL_FPRS,
    draws: int = DRAWS,
) -> dict[str, Sample]:
    """Name → `Sample` of each metric of `evaluate`: on the rows and in all draws, averaged over training seeds."""
    n = len(np.atleast_1d(source)) if np.ndim(scores) == 0 else np.shape(scores)[-1]
    scores = np.atleast_2d(checked_scores(scores, n=n, seeds=True))
    truth, n_seeds = checked_truth(is_adversarial, n=n), len(scores)
    cluster, counts = _drawn_sources(source, n=n, draws=draws, seed=seed)
    clean = _each_seed(threshold_scores, n_seeds, name="threshold_scores")
    chances = _each_seed(probabilities, n_seeds, name="probabilities", n=n)
    observed, drawn = [], []
    for own, own_clean, own_chances in zip(scores, clean, chances, strict=True):
        committed, anew = {}, {}
        if own_clean is not None:
            committed = {fpr: np.array([threshold_at_fpr(own_clean, fpr)]) for fpr in fprs}
            anew = {fpr: drawn_thresholds(own_clean, fpr, draws=draws, seed=seed) for fpr in fprs}
        found = curve_values(own, truth, fprs=fprs, thresholds=committed)
        values = curve_values(own, truth, fprs=fprs, thresholds=anew, cluster=cluster, counts=counts)
        observed.append({metric: float(value[0]) for metric, value in found.items()})
        if own_chances is not None:
            error = _calibration_errors(own_chances, truth, cluster, counts)
            observed[-1]["expected_calibration_error"], values["expected_calibration_error"] = error
        drawn.append(values)
    made = {}
    for metric in observed[0]:
        by_seed = [each[metric] for each in observed]
        about = {"size": _size(metric, float(np.mean(by_seed)), truth, cluster), "n_sources": counts.shape[1]}
        made[metric] = _over_seeds(by_seed, [each[metric] for each in drawn], **about, seed=seed)
    negatives = {"tpr_at_fpr": int((~truth).sum()), "committed_tpr": 0 if clean[0] is None else len(clean[0])}
    few = [f"{name}_{fpr:g}" for name, n in negatives.items() for fpr, least in MIN_NEGATIVES.items() if n < least]
    missing = Sample(np.nan, np.full(draws, np.nan), np.nan, np.full(n_seeds, np.nan), counts.shape[1])
    return made | {name: missing for name in few if name in made}


def _drawn_sources(source: Array, *, n: int, draws: int, seed: int) -> tuple[Array, Array]:
    """Each row's source, numbered, and how often each draw takes each source."""
    distinct, cluster = np.unique(checked_source(source, n=n), return_inverse=True)
    return cluster, source_counts(len(distinct), checked_whole(draws, name="draws"), checked_seed(seed))


def _calibration_errors(
    probabilities: Array, happened: Array, cluster: Array, counts: Array, *, bins: int = 15
) -> tuple[float, Array]:
    """The expected calibration error of all rows, and (draws,) that of each draw of their sources."""
    sums = np.zeros((counts.shape[1], bins + 1))  # of each source: the gaps in each bin, and its rows
    np.add.at(sums[:, :bins], cluster, calibration_gaps(probabilities, happened, bins=bins))
    sums[:, bins] = np.bincount(cluster)
    drawn = counts.astype(np.float64) @ sums
    drawn = np.abs(drawn[:, :bins]).sum(axis=1) / drawn[:, bins]
    return expected_calibration_error(probabilities, happened, bins=bins), drawn


def _size(metric: str, estimate: float, truth: Array, cluster: Array) -> float:
    """How many independent trials a metric is worth."""
    positives, negatives = (len(np.unique(cluster[rows])) for rows in (truth, ~truth))
    if metric == "roc_auc":
        return auc_size(estimate, positives, negatives)
    if metric == "expected_calibration_error":
        return int(cluster.max()) + 1
    return negatives if metric.startswith("observed_fpr") else positives


def _over_seeds(observed: Sequence[float], drawn: Sequence[Array], *, size: float, n_sources: int, seed: int) -> Sample:
    """A metric's values of s training seeds, on the rows and in the draws, as one `Sample`."""
    values = np.stack(drawn, axis=1)
    shares = seed_weights(len(drawn), draws=len(values), seed=seed)
    return Sample(float(np.mean(observed)), (values * shares).sum(axis=1), size, np.array(observed), n_sources)


def _each_seed(values: Array | None, n_seeds: int, *, name: str, n: int | None = None) -> Any:
    """(s, m) of values that may be the same for all seeds; s times None where there are none."""
    if values is None:
        return [None] * n_seeds
    values = np.atleast_2d(checked_scores(values, name=name, n=n, seeds=True))
    if len(values) not in (1, n_seeds):
        raise ValueError(f"{name} must have a row a seed as the scores have ({n_seeds}), got {len(values)} rows")
    return np.broadcast_to(values, (n_seeds, values.shape[1]))
