"""The detectors' figures under the two protocols, what each defect is worth, and the study's claims in numbers."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_curve

from advlens.arrays import Array
from advlens.detectors.decision_metrics import SIX, UNCERTAINTY
from advlens.metrics import (
    Estimate,
    Stratum,
    compare,
    evaluate,
    flagged_share,
    positives,
    roc_auc,
    roc_aucs,
    tpr_at_fpr,
)
from advlens.store import artifact
from advlens.studies.closeness.measures import SIGNS
from advlens.studies.closeness.protocols import (
    ALL_BASELINES,
    ALL_SIX,
    BASELINES,
    CALIBRATION,
    DETECTORS,
    EIGHT_BIT,
    MOST_BASELINES,
    Choice,
    corrected_rows,
    family_of,
    fitted,
    published_choice,
    published_rows,
    scored,
    successful,
    truth_of,
)

NOMINAL_FPR = 0.05
MENDED = ("KDE", ALL_SIX)  # the detectors by which the defects' worth is told
STRATA_OF = (ALL_SIX, "KDE", "max softmax")
EIGHT_BIT_OF = (*SIX, ALL_SIX, *BASELINES, ALL_BASELINES, MOST_BASELINES)
ABOVE_BASELINE = "tpr_at_fpr_0.05 above the best baseline"
# Comparisons: a detector, and the ones of which the best is held against it. All but the last are the study's.
CLAIMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "KDE − best uncertainty metric": ("KDE", UNCERTAINTY),
    "entropy − variance": ("entropy", ("variance",)),
    "confidence − mutual information": ("confidence", ("mutual information",)),
    "KL divergence − KDE": ("KL divergence", ("KDE",)),
    "closeness, all − KDE": ("closeness, all", ("KDE",)),
    "all six − best single metric": (ALL_SIX, SIX),
    "uncertainty, all − max softmax": ("uncertainty, all", ("max softmax",)),
}
FIGURE_COLUMNS = ("figure", "estimate", "low", "high", "n_positive", "n_negative", "n_sources")
ROC_POINTS = 201
# Ends of the bins of an attack's own confidence, as the task network's largest softmax output.
WINDOWS = (0.0, 0.6, 0.9, 0.99, 0.999, 1.0)


@artifact(version=1)
def published_results(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """ROC-AUCs, the study's one figure.

    Args:
        scores: attack → `protocols.published_scores`.
    Returns:
        Columns attack, detector, family, figure ("roc_auc"), estimate, low, high, n_positive, n_negative, n_sources.
    """
    return pd.DataFrame(
        [
            row
            for attack, frame in scores.items()
            for detector, auc in _aucs(frame, tuple(DETECTORS), seed=seed).items()
            for row in _rows(_about(attack, detector), {"roc_auc": auc}, frame)
        ]
    )


@artifact(version=1)
def corrected_results(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """The protocol's figures of every detector on the test groups.

    Args:
        scores: attack → `protocols.corrected_scores`.
    Returns:
        Columns as `published_results`, and baseline; figures are `evaluate`'s with thresholds committed from all clean
        validation images, `observed_fpr_0.05 on clean` and `… on noisy`, and `ABOVE_BASELINE`: paired, the baseline
        being the one with the highest TPR at 5 % FPR on the validation groups.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in scores.items():
        baseline = _best_baseline(successful(frame[frame["part"] == "validation"]))
        test = successful(frame[frame["part"] == "test"])
        clean = frame[frame["part"] == CALIBRATION]
        for detector in DETECTORS:
            committed_from = clean[detector].to_numpy()
            figures = _figures(test, detector, baseline=baseline, threshold_scores=committed_from, seed=seed)
            rows += _rows(_about(attack, detector) | {"baseline": baseline}, figures, test)
    return pd.DataFrame(rows)


def _figures(
    test: pd.DataFrame, detector: str, *, baseline: str, threshold_scores: Array, seed: int
) -> dict[str, Estimate]:
    values, truth, source = test[detector].to_numpy(), truth_of(test), test["source"].to_numpy()
    probabilities = None if detector in BASELINES else expit(values)
    figures = evaluate(values, truth, source, seed=seed, threshold_scores=threshold_scores, probabilities=probabilities)
    for role in ("clean", "noisy"):
        negatives = test[test["role"] == role]
        figures[f"observed_fpr_{NOMINAL_FPR} on {role}"] = flagged_share(
            negatives[detector].to_numpy(),
            negatives["source"].to_numpy(),
            threshold_scores=threshold_scores,
            fpr=NOMINAL_FPR,
            seed=seed,
        )
    bar = test[baseline].to_numpy()
    return figures | {ABOVE_BASELINE: compare(values, bar, truth, source, seed=seed)["tpr_at_fpr_0.05"]}


@artifact(version=1)
def strata(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """ROC-AUC of `STRATA_OF` on successful, failed and all attacks of the test groups.

    Returns:
        Columns attack, detector, family, stratum, figure, estimate, low, high, n_positive, n_negative, n_sources; no
        row for a stratum without an attack.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in scores.items():
        test = frame[frame["part"] == "test"]
        for stratum in Stratum:
            chosen = positives(test["success"].to_numpy(), stratum=stratum)
            judged = test[~truth_of(test) | chosen]
            if truth_of(judged).any():
                for detector, auc in _aucs(judged, STRATA_OF, seed=seed).items():
                    about = _about(attack, detector) | {"stratum": stratum.value}
                    rows += _rows(about, {"roc_auc": auc}, judged)
    return pd.DataFrame(rows)


@artifact(version=1)
def eight_bit(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """ROC-AUC on the test groups as floats and as 8-bit images, of regressions fitted to floats.

    A rounded attack is a positive where the rounded image is misread, whether the float one was or not.

    Returns:
        Columns attack, detector, family, format ("float", "8-bit"), figure, estimate, low, high, n_positive,
        n_negative, n_sources.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in scores.items():
        for name, part in (("float", "test"), ("8-bit", EIGHT_BIT)):
            judged = successful(frame[frame["part"] == part])
            if truth_of(judged).any():
                for detector, auc in _aucs(judged, EIGHT_BIT_OF, seed=seed).items():
                    rows += _rows(_about(attack, detector) | {"format": name}, {"roc_auc": auc}, judged)
    return pd.DataFrame(rows)


@artifact(version=1)
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
        matched = corrected_rows(frame)
        train, test = (matched[matched["part"] == part] for part in ("train", "test"))
        steps = {
            "as published": (published, published, as_published),
            "the text's kernel": (published, published, published_choice(text_bandwidth)),
            "successful attacks alone": (successful(published), successful(published), as_published),
            "+ noise of the same norm": (matched, matched, as_published),
            "+ fitted on other images": (train, test, as_published),
            "+ settings chosen on validation": (train, test, choice),
        }
        for step, (fit, judged, setting) in steps.items():
            scores = {
                detector: scored(fitted(setting.of(fit), DETECTORS[detector]), setting.of(judged), DETECTORS[detector])
                for detector in MENDED
            }
            for detector, auc in _aucs(judged.assign(**scores), MENDED, seed=seed).items():
                rows += _rows({"attack": attack, "detector": detector, "step": step}, {"roc_auc": auc}, judged)
    return pd.DataFrame(rows, columns=["attack", "detector", "step", *FIGURE_COLUMNS])


def roc_curves(judged: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The curves of the six metrics and of all together.

    Args:
        judged: attack → the rows that are judged, with a column a detector.
    Returns:
        A row a point: attack, detector, family, n_positive, false positive rate (on a grid of `ROC_POINTS`), and the
        highest true positive rate there.
    """
    grid = np.linspace(0, 1, ROC_POINTS)
    frames = []
    for attack, rows in judged.items():
        for detector in (*SIX, ALL_SIX):
            false, true, _ = roc_curve(truth_of(rows), rows[detector])
            reached = true[np.searchsorted(false, grid, side="right") - 1]
            rates = {"false positive rate": grid, "true positive rate": reached}
            about = _about(attack, detector) | {"n_positive": int(truth_of(rows).sum())}
            frames.append(pd.DataFrame(rates).assign(**about))
    return pd.concat(frames, ignore_index=True)


@artifact(version=1)
def claims(judged: Mapping[str, pd.DataFrame], *, chosen_on: Mapping[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """The comparisons of `CLAIMS`, as paired differences of ROC-AUC.

    Args:
        judged: attack → the rows that are judged, with a column a detector.
        chosen_on: attack → the rows on which the best of several is chosen; the same ones as published.
    Returns:
        A row an attack and comparison: attack, claim, against, estimate, low, high, n_positive.
    """
    rows = []
    for attack, frame in judged.items():
        before = chosen_on[attack]
        auc = {name: roc_auc(before[name].to_numpy(), truth_of(before)) for name in DETECTORS}
        pairs = [(detector, max(others, key=auc.get)) for detector, others in CLAIMS.values()]
        truth, source = truth_of(frame), frame["source"].to_numpy()
        for claim, pair in zip(CLAIMS, pairs, strict=True):
            values = (frame[name].to_numpy() for name in pair)
            found = compare(*values, truth, source, seed=seed, metrics=("roc_auc",))["roc_auc"]
            about = {"attack": attack, "claim": claim, "against": pair[1]}
            about |= {"estimate": found.estimate, "low": found.low, "high": found.high}
            rows.append(about | {"n_positive": int(truth_of(frame).sum())})
    return pd.DataFrame(rows)


@artifact(version=1)
def windows(measured: Mapping[str, pd.DataFrame], *, choice: Choice, seed: int) -> pd.DataFrame:
    """ROC-AUC of each metric as it is, attacks of all kinds pooled, by the attack's own confidence.

    Test groups alone; negatives are all clean images, once each, and all attacks' noisy twins. Only the sign that a
    metric has by its definition is used, so that nothing is fitted.

    Returns:
        A row a metric and window: metric, family, low_end, high_end, window (a text), estimate, low, high,
        n_positive, n_negative.
    """
    rows = choice.of(pd.concat(map(corrected_rows, measured.values())))
    test = rows[rows["part"] == "test"]
    test = test[(test["role"] != "clean") | ~test.duplicated(["role", "source"])]
    own = 1 - test["max softmax"].to_numpy()  # that baseline is one minus the largest output
    made = []
    for low_end, high_end in itertools.pairwise(WINDOWS):
        part = test[~truth_of(test) | ((own > low_end) & (own <= high_end))]
        if not truth_of(part).any():
            continue
        scores = {metric: sign * part[metric].to_numpy() for metric, sign in SIGNS.items()}
        counts = {"n_positive": int(truth_of(part).sum()), "n_negative": int((~truth_of(part)).sum())}
        for metric, auc in roc_aucs(scores, truth_of(part), part["source"].to_numpy(), seed=seed).items():
            made.append(
                {"metric": metric, "family": family_of(metric)}
                | {"low_end": low_end, "high_end": high_end}
                | {"window": f"to {high_end:g}\n(n = {counts['n_positive']})"}
                | dataclasses.asdict(auc)
                | counts
            )
    return pd.DataFrame(made)


def _aucs(judged: pd.DataFrame, detectors: Sequence[str], *, seed: int) -> dict[str, Estimate]:
    scores = {name: judged[name].to_numpy() for name in detectors}
    return roc_aucs(scores, truth_of(judged), judged["source"].to_numpy(), seed=seed)


def _best_baseline(rows: pd.DataFrame) -> str:
    """The trivial baseline with the highest TPR at 5 % FPR on the rows given."""
    return max(BASELINES, key=lambda name: tpr_at_fpr(rows[name].to_numpy(), truth_of(rows), fpr=NOMINAL_FPR))


def _about(attack: str, detector: str) -> dict[str, Any]:
    return {"attack": attack, "detector": detector, "family": family_of(detector)}


def _rows(about: Mapping[str, Any], figures: Mapping[str, Estimate], judged: pd.DataFrame) -> Iterator[dict[str, Any]]:
    positive = int(truth_of(judged).sum())
    counts = {"n_positive": positive, "n_negative": len(judged) - positive, "n_sources": judged["source"].nunique()}
    for figure, estimate in figures.items():
        interval = {"estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
        yield {**about, "figure": figure, **interval, **counts}
