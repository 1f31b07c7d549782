"""The metrics of one detector with their intervals, and the paired comparison of two; single metrics in `curves`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from advlens.arrays import Array, checked_seed, checked_whole
from advlens.metrics.checks import checked_probabilities, checked_rate, checked_scores, checked_source, checked_truth
from advlens.metrics.curves import (
    NOMINAL_FPRS,
    RocCurve,
    expected_calibration_error,
    precision_at_prevalence,
    threshold_at_fpr,
)
from advlens.metrics.intervals import (
    DRAWS,
    Difference,
    Estimate,
    Sample,
    auc_size,
    bootstrap_weights,
    drawn_thresholds,
    over_draws,
    paired_difference,
    seed_weights,
)

Metric = TypeVar("Metric", bound=Estimate)
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
    metrics: Sequence[str] | None = None,
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
        metrics: the names wanted, in place of all.
    Returns:
        `roc_auc`, `average_precision`, for each rate `tpr_at_fpr_0.05` (its threshold from the evaluated negatives);
        with threshold scores `committed_tpr_0.05`, `observed_fpr_0.05`, and `precision_at_prevalence_0.01` and `_0.1`
        at the threshold of 5 %; with probabilities `expected_calibration_error`. A TPR at an FPR for which there are
        fewer than `MIN_NEGATIVES` is NaN.
    Raises:
        ValueError: for lengths that differ, NaNs, a missing class, or a metric that these arguments don't give.

    >>> rng = np.random.default_rng(0)
    >>> truth, source = np.arange(200) >= 100, np.arange(200) % 100
    >>> evaluate(rng.normal(size=200) + 2 * truth, truth, source, seed=0)["roc_auc"].low > 0.8
    True
    """
    samples = _samples(
        *(scores, is_adversarial, source),
        **{"seed": seed, "threshold_scores": threshold_scores, "probabilities": probabilities},
        **{"fprs": fprs, "metrics": metrics, "draws": draws},
    )
    found = {name: sample.interval() for name, sample in samples.items()}
    rates = tuple(f"{name}_{PRECISION_FPR:g}" for name in ("committed_tpr", "observed_fpr"))
    if all(name in found for name in rates):
        tpr, false_alarms = (found[name] for name in rates)
        for each in PREVALENCES:
            found[f"precision_at_prevalence_{each:g}"] = precision_estimate(tpr, false_alarms, prevalence=each)
    return _chosen(found, metrics)


def compare(
    scores_a: Array,
    scores_b: Array,
    is_adversarial: Array,
    source: Array,
    *,
    seed: int,
    threshold_scores_a: Array | None = None,
    threshold_scores_b: Array | None = None,
    fprs: Sequence[float] = (0.05,),
    metrics: Sequence[str] | None = None,
    draws: int = DRAWS,
) -> dict[str, Difference]:
    """What detector a has above detector b on the same rows, both evaluated on the same draws.

    Args:
        scores_a, scores_b: (n,) or (s, n) finite, higher = more adversarial; of the same images, in the same order.
        is_adversarial, source, seed, fprs, metrics, draws: as in `evaluate`.
        threshold_scores_a, threshold_scores_b: as `threshold_scores` in `evaluate`, of the same images.
    Returns:
        The metrics of `evaluate` (without precisions and calibration error) → `Difference`, positive where a is better.
    Raises:
        ValueError: as `evaluate` does.
    """
    about = {"seed": seed, "fprs": fprs, "metrics": metrics, "draws": draws}
    a = _samples(scores_a, is_adversarial, source, threshold_scores=threshold_scores_a, name="scores_a", **about)
    n = np.shape(scores_a)[-1]
    checked_scores(scores_b, name="scores_b", n=n, seeds=True)
    b = _samples(scores_b, is_adversarial, source, threshold_scores=threshold_scores_b, name="scores_b", **about)
    found = {name: paired_difference(a[name], b[name], n_sources=len(np.unique(source))) for name in a if name in b}
    return _chosen(found, metrics)


def roc_aucs(
    scores: Mapping[str, Array], is_adversarial: Array, source: Array, *, seed: int, draws: int = DRAWS
) -> dict[str, Estimate]:
    """The `roc_auc` that `evaluate` gives for each of several detectors: name → `Estimate`.

    Raises:
        TypeError: for scores that are no mapping.
        ValueError: as `evaluate` does.
    """
    if not isinstance(scores, Mapping):
        raise TypeError(f"scores must map names to arrays, got {type(scores).__name__}: pass {{'name': scores}}")
    about = {"seed": seed, "metrics": ("roc_auc",), "draws": draws}
    return {
        name: _samples(each, is_adversarial, source, name=name, **about)["roc_auc"].interval()
        for name, each in scores.items()
    }


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
    source = checked_source(source, n=scores.shape[1])
    weights = bootstrap_weights(source, draws=draws, seed=seed)
    clean = _each_seed(threshold_scores, len(scores), name="threshold_scores")
    observed, drawn = [], []
    for own, own_clean in zip(scores, clean, strict=True):
        anew = drawn_thresholds(own_clean, checked_rate(fpr), draws=draws, seed=seed)

        def measure(counts: Array, chunk: slice, own: Array = own, anew: Array = anew) -> dict[str, Array]:
            return {"share": (counts * (own > anew[chunk, None])).sum(axis=1) / counts.sum(axis=1)}

        observed.append(float(np.mean(own > threshold_at_fpr(own_clean, fpr))))
        drawn.append(over_draws(measure, weights)["share"])
    by_seed, shares = np.array(observed), seed_weights(len(scores), draws=draws, seed=seed)
    values = (np.stack(drawn, axis=1) * shares).sum(axis=1)
    return Sample(float(by_seed.mean()), values, len(np.unique(source)), by_seed).interval()


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
    source = checked_source(source, n=len(happened))

    def measure(weights: Array, _: slice) -> dict[str, Array]:
        error = expected_calibration_error(probabilities, happened, bins=bins, weights=weights)
        return {"error": np.asarray(error)}

    error = measure(np.ones((1, len(source))), slice(None))["error"]
    drawn = over_draws(measure, bootstrap_weights(source, draws=draws, seed=seed))["error"]
    return Sample(float(error[0]), drawn, len(np.unique(source)), error).interval()


def precision_estimate(tpr: Estimate, fpr: Estimate, *, prevalence: float) -> Estimate:
    """`precision_at_prevalence` of both rates, from the worse to the better ends of both intervals."""
    pairs = ((tpr.estimate, fpr.estimate), (tpr.low, fpr.high), (tpr.high, fpr.low))
    return Estimate(*(precision_at_prevalence(*pair, prevalence=prevalence) for pair in pairs))


def chance_level(metric: str, *, n_positive: int, n_negative: int) -> float:
    """What a detector without information reaches: ½ for `roc_auc`, the prevalence for `average_precision`."""
    if metric == "roc_auc":
        return 0.5
    if metric == "average_precision":
        return n_positive / (n_positive + n_negative)
    if metric.startswith(("tpr_at_fpr_", "committed_tpr_", "observed_fpr_", "precision_at_prevalence_")):
        return float(metric.rsplit("_", 1)[1].split(" ")[0])
    raise ValueError(f"metric {metric!r} has no chance level: pass one of those that rank or flag")


def _samples(
    scores: Array,
    is_adversarial: Array,
    source: Array,
    *,
    seed: int,
    threshold_scores: Array | None = None,
    probabilities: Array | None = None,
    fprs: Sequence[float] = NOMINAL_FPRS,
    metrics: Sequence[str] | None = None,
    draws: int = DRAWS,
    name: str = "scores",
) -> dict[str, Sample]:
    """Name → `Sample`: each metric on the rows and in all draws, averaged over training seeds."""
    n = len(np.atleast_1d(source)) if np.ndim(scores) == 0 else np.shape(scores)[-1]
    scores = np.atleast_2d(checked_scores(scores, name=name, n=n, seeds=True))
    truth, source = checked_truth(is_adversarial, n=n), checked_source(source, n=n)
    fprs, seed, draws = [checked_rate(fpr) for fpr in fprs], checked_seed(seed), checked_whole(draws, name="draws")
    clean = chances = None
    if threshold_scores is not None:
        clean = _each_seed(threshold_scores, len(scores), name="threshold_scores")
    if probabilities is not None:
        chances = _each_seed(probabilities, len(scores), name="probabilities", n=n)
    for each in [] if chances is None else chances:
        checked_probabilities(each, n=n)

    weights = bootstrap_weights(source, draws=draws, seed=seed)
    observed, drawn = [], []
    for number, own in enumerate(scores):
        own_clean, own_chances = (None if each is None else each[number] for each in (clean, chances))
        curve = partial(_values, own, truth, probabilities=own_chances, fprs=fprs, wanted=_needed(metrics))
        committed, anew = {}, {}
        if own_clean is not None:
            committed = {fpr: np.array([threshold_at_fpr(own_clean, fpr)]) for fpr in fprs}
            anew = {fpr: drawn_thresholds(own_clean, fpr, draws=draws, seed=seed) for fpr in fprs}
        observed.append(curve(np.ones((1, n)), slice(None), thresholds=committed))
        drawn.append(over_draws(partial(curve, thresholds=anew), weights))
    samples = _over_seeds(observed, drawn, seed=seed, truth=truth, source=source)
    counts = {"tpr_at_fpr": int((~truth).sum()), "committed_tpr": 0 if clean is None else clean.shape[1]}
    few = [f"{name}_{fpr:g}" for name, n in counts.items() for fpr, least in MIN_NEGATIVES.items() if n < least]
    missing = Sample(np.nan, np.full(draws, np.nan), np.nan, np.full(len(scores), np.nan))
    return samples | {name: missing for name in few if name in samples}


def _chosen(found: dict[str, Metric], metrics: Sequence[str] | None) -> dict[str, Metric]:
    """The metrics wanted, in that order."""
    unknown = [name for name in metrics or () if name not in found]
    if unknown:
        raise ValueError(f"metrics must be among those that these arguments give, got {unknown[0]!r}: see evaluate")
    return found if metrics is None else {name: found[name] for name in metrics}


def _needed(metrics: Sequence[str] | None) -> set[str] | None:
    """The metrics wanted and those that a precision is made from; None for all."""
    if metrics is None:
        return None
    if isinstance(metrics, str):
        raise TypeError(f"metrics must be a sequence of names, got {metrics!r}: pass ({metrics!r},)")
    from_precision = {f"{name}_{PRECISION_FPR:g}" for name in ("committed_tpr", "observed_fpr")}
    return set(metrics) | (from_precision if any(name.startswith("precision_") for name in metrics) else set())


def _values(
    scores: Array,
    truth: Array,
    weights: Array,
    chunk: slice,
    *,
    thresholds: Mapping[float, Array],
    probabilities: Array | None,
    fprs: Sequence[float],
    wanted: set[str] | None,
) -> dict[str, Array]:
    """Name → (draws,) values of one training seed; thresholds: nominal FPR → those of all draws."""
    curve = RocCurve.of(scores, truth, weights=weights)
    values: dict[str, Callable[[], Any]] = {"roc_auc": curve.roc_auc, "average_precision": curve.average_precision}
    values |= {f"tpr_at_fpr_{fpr:g}": partial(curve.tpr_at_fpr, fpr) for fpr in fprs}
    for fpr, anew in thresholds.items():
        values[f"committed_tpr_{fpr:g}"] = partial(curve.true_positive_rate, anew[chunk])
        values[f"observed_fpr_{fpr:g}"] = partial(curve.false_positive_rate, anew[chunk])
    if probabilities is not None:
        error = partial(expected_calibration_error, probabilities, truth, weights=weights)
        values["expected_calibration_error"] = error
    return {name: make() for name, make in values.items() if wanted is None or name in wanted}


def _over_seeds(
    observed: Sequence[Mapping[str, Array]],
    drawn: Sequence[Mapping[str, Array]],
    *,
    seed: int,
    truth: Array,
    source: Array,
) -> dict[str, Sample]:
    """Each metric's values of s training seeds, on the rows and in the draws, as one `Sample`."""
    positives, negatives = (len(np.unique(source[rows])) for rows in (truth, ~truth))
    sizes = {"observed_fpr": negatives, "expected_calibration_error": len(np.unique(source))}
    made = {}
    for name in observed[0]:
        by_seed = np.array([each[name][0] for each in observed])
        values = np.stack([each[name] for each in drawn], axis=1)
        shares = seed_weights(len(drawn), draws=len(values), seed=seed)
        estimate = float(by_seed.mean())
        size = next((size for start, size in sizes.items() if name.startswith(start)), positives)
        size = auc_size(estimate, positives, negatives) if name == "roc_auc" else size
        made[name] = Sample(estimate, (values * shares).sum(axis=1), size, by_seed)
    return made


def _each_seed(values: Array, n_seeds: int, *, name: str, n: int | None = None) -> Array:
    """(s, m) of values that may be the same for all seeds."""
    values = np.atleast_2d(checked_scores(values, name=name, n=n, seeds=True))
    if len(values) not in (1, n_seeds):
        raise ValueError(f"{name} must have a row a seed as the scores have ({n_seeds}), got {len(values)} rows")
    return np.broadcast_to(values, (n_seeds, values.shape[1]))
