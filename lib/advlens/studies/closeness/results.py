"""The detectors' figures under the two protocols, what each defect is worth, and the study's claims in numbers."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_curve

from advlens.detectors.decision_metrics import CLOSENESS, SIX, UNCERTAINTY
from advlens.evaluation import Estimate, committed_thresholds, compare, evaluate, mean_estimate, roc_auc, tpr_at_fpr
from advlens.evaluation.aucs import auc_estimates
from advlens.studies.closeness.measures import SIGNS
from advlens.studies.closeness.protocols import (
    ALL_SIX,
    BASELINES,
    DETECTORS,
    Choice,
    corrected_rows,
    family_of,
    fitted,
    published_choice,
    published_rows,
    scored,
    truth_of,
)

NOMINAL_FPR = 0.05
MENDED = ("KDE", ALL_SIX)  # the detectors by which the defects' worth is told
ABOVE_BASELINE = "tpr_at_fpr_0.05 above the best baseline"
# The study's comparisons: a detector, and the ones of which the best on the validation groups is held against it.
CLAIMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "KDE − best uncertainty metric": ("KDE", UNCERTAINTY),
    "entropy − variance": ("entropy", ("variance",)),
    "KL divergence − KDE": ("KL divergence", ("KDE",)),
    "all six − best single metric": (ALL_SIX, SIX),
}
ROC_POINTS = 201
# Ends of the bins of an attack's own confidence, as the task network's largest softmax output.
WINDOWS = (0.0, 0.6, 0.9, 0.99, 0.999, 1.0)


def published_results(measured: Mapping[str, pd.DataFrame], *, bandwidth: float, seed: int) -> pd.DataFrame:
    """ROC-AUCs, the study's one figure, fitted and judged on the same rows.

    Returns:
        Columns attack, detector, family, figure ("roc_auc"), estimate, low, high, n_positive, n_negative, n_sources.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.items():
        judged = published_choice(bandwidth).of(published_rows(frame))
        for detector, auc in _aucs(judged, judged, DETECTORS, seed=seed).items():
            rows += _rows(_about(attack, detector), {"roc_auc": auc}, judged)
    return pd.DataFrame(rows)


def corrected_results(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """The protocol's figures of every detector on the test groups.

    Args:
        scores: attack → `protocols.corrected_scores`.
    Returns:
        Columns as `published_results`, and baseline; figures are `evaluate`'s with thresholds committed from the
        validation groups' clean images, `observed_fpr_0.05 on clean` and `… on noisy`, and `ABOVE_BASELINE`: paired,
        the baseline being the one with the highest TPR at 5 % FPR on the validation groups.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in scores.items():
        validation, test = (frame[frame["part"] == part] for part in ("validation", "test"))
        clean = validation[validation["role"] == "clean"]
        baseline = _best(validation, BASELINES)
        for detector in DETECTORS:
            values, source = test[detector].to_numpy(), test["source"].to_numpy()
            thresholds = committed_thresholds(clean[detector].to_numpy())
            evaluation = evaluate(
                values,
                truth_of(test),
                source,
                seed=seed,
                thresholds=thresholds,
                probabilities=None if family_of(detector) == "baseline" else expit(values),
            )
            figures = dict(evaluation.figures)
            for role in ("clean", "noisy"):
                negatives = test[test["role"] == role]
                flagged = negatives[detector].to_numpy() > thresholds[NOMINAL_FPR]
                figures[f"observed_fpr_{NOMINAL_FPR} on {role}"] = mean_estimate(
                    flagged, negatives["source"].to_numpy(), seed=seed
                )
            other = test[baseline].to_numpy()
            figures[ABOVE_BASELINE] = compare(values, other, truth_of(test), source, seed=seed)["tpr_at_fpr_0.05"]
            rows += _rows(_about(attack, detector) | {"baseline": baseline}, figures, test)
    return pd.DataFrame(rows)


def defects(
    measured: Mapping[str, pd.DataFrame], *, bandwidth: float, text_bandwidth: float, choice: Choice, seed: int
) -> pd.DataFrame:
    """What the published AUC of KDE and of all six becomes as its protocol is mended, one step after the other.

    Args:
        measured: attacks that `judgeable` admits.
        bandwidth, text_bandwidth: the published one, and the one that makes scikit-learn's kernel that of the text.
        choice: made on the validation groups.
    Returns:
        Columns attack, detector, step, figure ("roc_auc"), estimate, low, high, n_positive, n_negative, n_sources.
        "the text's kernel" stands alone; every later step holds the ones before it, and the last is the corrected
        protocol.
    """
    as_published = published_choice(bandwidth)
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.items():
        published = published_rows(frame)
        successful = published[~truth_of(published) | published["success"]]
        matched = corrected_rows(frame)
        train, test = (matched[matched["part"] == part] for part in ("train", "test"))
        steps = {
            "as published": (published, published, as_published),
            "the text's kernel": (published, published, published_choice(text_bandwidth)),
            "successful attacks alone": (successful, successful, as_published),
            "+ noise of the same norm": (matched, matched, as_published),
            "+ fitted on other images": (train, test, as_published),
            "+ settings chosen on validation": (train, test, choice),
        }
        for step, (fit, judged, setting) in steps.items():
            detectors = {detector: DETECTORS[detector] for detector in MENDED}
            for detector, auc in _aucs(setting.of(fit), setting.of(judged), detectors, seed=seed).items():
                rows += _rows({"attack": attack, "detector": detector, "step": step}, {"roc_auc": auc}, judged)
    return pd.DataFrame(rows)


def roc_curves(scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The curves of the six metrics and of all together on the test groups.

    Returns:
        A row a point: attack, detector, family, n_positive, false positive rate (on a grid of `ROC_POINTS`), and the
        highest true positive rate there.
    """
    grid = np.linspace(0, 1, ROC_POINTS)
    frames = []
    for attack, frame in scores.items():
        test = frame[frame["part"] == "test"]
        for detector in (*SIX, ALL_SIX):
            false, true, _ = roc_curve(truth_of(test), test[detector])
            reached = true[np.searchsorted(false, grid, side="right") - 1]
            rates = {"false positive rate": grid, "true positive rate": reached}
            about = _about(attack, detector) | {"n_positive": int(truth_of(test).sum())}
            frames.append(pd.DataFrame(rates).assign(**about))
    return pd.concat(frames, ignore_index=True)


def claims(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """The study's comparisons, paired on the test groups.

    Returns:
        A row an attack and one of `CLAIMS`: attack, claim, against (the detector that is best on the validation
        groups), estimate, low, high, p_value, n_positive.
    """
    rows = []
    for attack, frame in scores.items():
        validation, test = (frame[frame["part"] == part] for part in ("validation", "test"))
        truth, source = truth_of(test), test["source"].to_numpy()
        for claim, (detector, others) in CLAIMS.items():
            other = max(others, key=lambda name: roc_auc(validation[name].to_numpy(), truth_of(validation)))
            pair = (test[name].to_numpy() for name in (detector, other))
            difference = compare(*pair, truth, source, seed=seed)["roc_auc"]
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
    rows = choice.of(pd.concat(map(corrected_rows, measured.values())))
    test = rows[rows["part"] == "test"]
    own = 1 - test["max softmax"].to_numpy()  # that baseline is one minus the largest output
    made = []
    for low_end, high_end in itertools.pairwise(WINDOWS):
        part = test[~truth_of(test) | ((own > low_end) & (own <= high_end))]
        if not truth_of(part).any():
            continue
        scores = {metric: sign * part[metric].to_numpy() for metric, sign in SIGNS.items()}
        counts = {"n_positive": int(truth_of(part).sum()), "n_negative": int((~truth_of(part)).sum())}
        for metric, auc in auc_estimates(scores, truth_of(part), part["source"].to_numpy(), seed=seed).items():
            made.append(
                {"metric": metric, "family": "closeness" if metric in CLOSENESS else "uncertainty"}
                | {"low_end": low_end, "high_end": high_end}
                | {"window": f"to {high_end:g}\n(n = {counts['n_positive']})"}
                | dataclasses.asdict(auc)
                | counts
            )
    return pd.DataFrame(made)


def _aucs(
    fit: pd.DataFrame, judged: pd.DataFrame, detectors: Mapping[str, Sequence[str]], *, seed: int
) -> dict[str, Estimate]:
    """The ROC-AUCs on the judged rows of regressions of some columns, fitted to other rows or the same."""
    scores = {name: scored(fitted(fit, columns), judged, columns) for name, columns in detectors.items()}
    return auc_estimates(scores, truth_of(judged), judged["source"].to_numpy(), seed=seed)


def _best(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """The detector among those named with the highest TPR at 5 % FPR on the rows given."""
    return max(names, key=lambda name: tpr_at_fpr(rows[name].to_numpy(), truth_of(rows), fpr=NOMINAL_FPR))


def _about(attack: str, detector: str) -> dict[str, Any]:
    return {"attack": attack, "detector": detector, "family": family_of(detector)}


def _rows(about: Mapping[str, Any], figures: Mapping[str, Estimate], judged: pd.DataFrame) -> Iterator[dict[str, Any]]:
    positive = int(truth_of(judged).sum())
    counts = {"n_positive": positive, "n_negative": len(judged) - positive, "n_sources": judged["source"].nunique()}
    for figure, estimate in figures.items():
        interval = {"estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
        yield {**about, "figure": figure, **interval, **counts}
