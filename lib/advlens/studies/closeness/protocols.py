"""The detectors' figures under the two protocols, from what was measured of every image."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve
from sklearn.pipeline import Pipeline

from advlens.arrays import Array
from advlens.datasets import split_groups
from advlens.detectors.baselines import pixel_baselines
from advlens.detectors.decision_metrics import CLOSENESS, SIX, UNCERTAINTY
from advlens.detectors.regression import regression
from advlens.evaluation import committed_thresholds, compare, evaluate, roc_auc
from advlens.studies.closeness.measures import CONVERSIONS, SIGNS, kde_column, kl_column

ALL_SIX = "all six"
ABOVE_BASELINE = "roc_auc above the best baseline"
BASELINES = (*pixel_baselines(), "max softmax")
DETECTORS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in SIX},
    "uncertainty, all": UNCERTAINTY,
    "closeness, all": CLOSENESS,
    ALL_SIX: SIX,
    **{name: (name,) for name in BASELINES},
}
# Ends of the bins of an attack's own confidence, as the task network's largest softmax output.
WINDOWS = (0.0, 0.6, 0.9, 0.99, 0.999, 1.0)


def family_of(detector: str) -> str:
    """The family that colours a detector's figures."""
    if detector == ALL_SIX:
        return "combined"
    if detector in BASELINES:
        return "baseline"
    return "closeness" if detector in (*CLOSENESS, "closeness, all") else "uncertainty"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which of the measured columns stand for the density and the divergence."""

    bandwidth: float
    conversion: str

    def of(self, measured: pd.DataFrame) -> pd.DataFrame:
        """The measured rows with columns "KDE" and "KL divergence"."""
        return measured.assign(
            **{"KDE": measured[kde_column(self.bandwidth)], "KL divergence": measured[kl_column(self.conversion)]}
        )


def judgeable(measured: Mapping[str, pd.DataFrame], *, seed: int) -> dict[str, pd.DataFrame]:
    """The attacks that succeeded at least once in each of the corrected protocol's three parts."""
    return {
        name: frame
        for name, frame in measured.items()
        if all(_truth(part).any() for part in corrected_parts(frame, seed=seed).values())
    }


def choose(
    measured: Mapping[str, pd.DataFrame], *, bandwidths: Sequence[float], seed: int
) -> tuple[Choice, pd.DataFrame]:
    """The bandwidth and conversion with the highest mean AUC over all attacks' validation groups, once for all.

    Returns:
        The choice, and a row a setting tried: metric, setting, auc.
    """
    tried = [("KDE", h, kde_column(h)) for h in bandwidths]
    tried += [("KL divergence", conversion, kl_column(conversion)) for conversion in CONVERSIONS]
    rows = []
    for metric, value, column in tried:
        aucs = [
            roc_auc(SIGNS[metric] * part[column].to_numpy(), _truth(part))
            for part in (corrected_parts(frame, seed=seed)["validation"] for frame in measured.values())
        ]
        rows.append({"metric": metric, "setting": value, "auc": float(np.mean(aucs))})
    table = pd.DataFrame(rows)
    best = {metric: part.loc[part["auc"].idxmax(), "setting"] for metric, part in table.groupby("metric")}
    return Choice(best["KDE"], best["KL divergence"]), table


def published_rows(measured: pd.DataFrame) -> pd.DataFrame:
    """Clean images, their noisy counterparts as published, and all attacks, failed ones included, as positives."""
    return measured[measured["role"].isin(["clean", "noisy as published", "adversarial"])]


def corrected_parts(measured: pd.DataFrame, *, seed: int) -> dict[str, pd.DataFrame]:
    """Train, validation and test groups of clean images, noisy twins of the same norm and successful attacks."""
    rows = measured[
        measured["role"].isin(["clean", "noisy"]) | ((measured["role"] == "adversarial") & measured["success"])
    ]
    split = split_groups(rows["source"].to_numpy(), seed=seed)
    return {name: rows[getattr(split, name)] for name in ("train", "validation", "test")}


def published_results(measured: Mapping[str, pd.DataFrame], *, bandwidth: float, seed: int) -> pd.DataFrame:
    """Fitted and judged on the same rows.

    Returns:
        Columns attack, detector, family, figure, estimate, low, high, n_positive, n_negative, n_sources.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.items():
        judged = Choice(bandwidth, CONVERSIONS[0]).of(published_rows(frame))
        for detector, columns in DETECTORS.items():
            scores = _scored(_fitted(judged, columns), judged, columns)
            evaluation = evaluate(scores, _truth(judged), judged["source"].to_numpy(), seed=seed)
            rows += _rows({"attack": attack, "detector": detector, "family": family_of(detector)}, evaluation)
    return pd.DataFrame(rows)


def corrected_results(measured: Mapping[str, pd.DataFrame], *, choice: Choice, seed: int) -> pd.DataFrame:
    """Fitted on training groups, thresholds from validation groups' clean images, judged on test groups.

    Returns:
        Columns as `published_results`; figures are `evaluate`'s, and `ABOVE_BASELINE`, paired, the
        baseline being the one with the highest AUC on the validation groups.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.items():
        scores = corrected_scores(frame, choice=choice, seed=seed)
        test = scores["test"]
        truth, source = _truth(test), test["source"].to_numpy()
        best = best_of(scores["validation"], BASELINES)
        clean = scores["validation"][scores["validation"]["role"] == "clean"]
        for detector in DETECTORS:
            about = {"attack": attack, "detector": detector, "family": family_of(detector)}
            thresholds = committed_thresholds(clean[detector].to_numpy())
            evaluation = evaluate(test[detector].to_numpy(), truth, source, seed=seed, thresholds=thresholds)
            rows += _rows(about, evaluation)
            above = compare(test[detector].to_numpy(), test[best].to_numpy(), truth, source, seed=seed)["roc_auc"]
            counts = {name: rows[-1][name] for name in ("n_positive", "n_negative", "n_sources")}
            rows.append(
                about
                | {"figure": ABOVE_BASELINE}
                | {"estimate": above.estimate, "low": above.low, "high": above.high}
                | counts
            )
    return pd.DataFrame(rows)


def corrected_scores(measured: pd.DataFrame, *, choice: Choice, seed: int) -> dict[str, pd.DataFrame]:
    """Log odds of every detector, fitted on the training groups, for validation and test groups, a column each."""
    parts = {name: choice.of(part) for name, part in corrected_parts(measured, seed=seed).items()}
    fitted = {name: _fitted(parts["train"], columns) for name, columns in DETECTORS.items()}
    return {
        name: parts[name][["role", "source", "success"]].assign(
            **{detector: _scored(model, parts[name], DETECTORS[detector]) for detector, model in fitted.items()}
        )
        for name in ("validation", "test")
    }


def best_of(scores: pd.DataFrame, names: Sequence[str]) -> str:
    """The detector among those named with the highest AUC on the rows given."""
    return max(names, key=lambda name: roc_auc(scores[name].to_numpy(), _truth(scores)))


def roc_curves(measured: Mapping[str, pd.DataFrame], *, choice: Choice, seed: int) -> pd.DataFrame:
    """The curves of the six metrics and of all together on the test groups.

    Returns:
        A row a corner of a curve: attack, detector, false positive rate, true positive rate.
    """
    frames = []
    for attack, frame in measured.items():
        test = corrected_scores(frame, choice=choice, seed=seed)["test"]
        for detector in (*SIX, ALL_SIX):
            false, true, _ = roc_curve(_truth(test), test[detector])
            rates = {"false positive rate": false, "true positive rate": true}
            frames.append(pd.DataFrame(rates).assign(attack=attack, detector=detector))
    return pd.concat(frames, ignore_index=True)


def claims(measured: Mapping[str, pd.DataFrame], *, choice: Choice, seed: int) -> pd.DataFrame:
    """The study's comparisons, paired on the test groups.

    Returns:
        A row an attack and claim: attack, claim ("KDE − best uncertainty metric", "all six − best single metric"),
        against (the metric that is best on the validation groups), estimate, low, high, p_value, n_positive.
    """
    rows = []
    for attack, frame in measured.items():
        scores = corrected_scores(frame, choice=choice, seed=seed)
        test = scores["test"]
        truth, source = _truth(test), test["source"].to_numpy()
        for claim, detector, others in (
            ("KDE − best uncertainty metric", "KDE", UNCERTAINTY),
            ("all six − best single metric", ALL_SIX, SIX),
        ):
            other = best_of(scores["validation"], others)
            difference = compare(test[detector].to_numpy(), test[other].to_numpy(), truth, source, seed=seed)["roc_auc"]
            rows.append(
                {"attack": attack, "claim": claim, "against": other}
                | dataclasses.asdict(difference)
                | {"n_positive": int(truth.sum())}
            )
    return pd.DataFrame(rows)


def windows(measured: Mapping[str, pd.DataFrame], *, choice: Choice, seed: int) -> pd.DataFrame:
    """ROC-AUC of each metric as it is, attacks of all kinds pooled, by the attack's own confidence.

    Test groups alone; negatives are all clean images and noisy twins. Only the sign that a metric has by its
    definition is used, so that nothing is fitted.

    Returns:
        A row a metric and window: metric, family, low_end, high_end, window (a text), estimate, low, high,
        n_positive, n_negative.
    """
    test = pd.concat([choice.of(corrected_parts(frame, seed=seed)["test"]) for frame in measured.values()])
    own = 1 - test["max softmax"].to_numpy()  # that baseline is one minus the largest output
    rows = []
    for low_end, high_end in itertools.pairwise(WINDOWS):
        inside = (own > low_end) & (own <= high_end)
        part = test[~_truth(test) | inside]
        if not _truth(part).any():
            continue
        for metric, sign in SIGNS.items():
            values = sign * part[metric].to_numpy()
            evaluation = evaluate(values, _truth(part), part["source"].to_numpy(), seed=seed)
            rows.append(
                {"metric": metric, "family": family_of(metric)}
                | {"low_end": low_end, "high_end": high_end}
                | {"window": f"to {high_end:g}\n(n = {evaluation.n_positive})"}
                | dataclasses.asdict(evaluation["roc_auc"])
                | {"n_positive": evaluation.n_positive, "n_negative": evaluation.n_negative}
            )
    return pd.DataFrame(rows)


def _fitted(measured: pd.DataFrame, columns: Sequence[str]) -> Pipeline:
    return regression(measured[list(columns)].to_numpy(np.float64), _truth(measured))


def _scored(model: Pipeline, measured: pd.DataFrame, columns: Sequence[str]) -> Array:
    return model.decision_function(measured[list(columns)].to_numpy(np.float64))


def _truth(measured: pd.DataFrame) -> Array:
    return (measured["role"] == "adversarial").to_numpy()


def _rows(about: Mapping[str, Any], evaluation: Any) -> Iterator[dict[str, Any]]:
    counts = {name: getattr(evaluation, name) for name in ("n_positive", "n_negative", "n_sources")}
    for figure, estimate in evaluation.figures.items():
        yield {**about, "figure": figure, **dataclasses.asdict(estimate), **counts}
