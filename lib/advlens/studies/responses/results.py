"""The figures of both protocols, and what the entropy depends on beside the attack."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import spearmanr

from advlens.arrays import Array
from advlens.metrics import (
    Estimate,
    Stratum,
    committed_thresholds,
    evaluate,
    mean,
    positives,
    precision_estimate,
    proportion,
    roc_aucs,
    threshold_at_fpr,
)
from advlens.store import artifact
from advlens.studies.detection import FEWEST, NOMINAL_FPR, best_baseline, figures_of
from advlens.studies.responses.protocols import (
    BITS,
    CHOSEN,
    DETECTORS,
    ENTROPY,
    JOINED,
    NETWORKS,
    family_of,
    pooled,
    published_rows,
)
from advlens.studies.responses.settings import PUBLISHED_RESPONSE, RATES, ResponseEntropy
from advlens.studies.rows import BASELINES, EIGHT_BIT, PARTS, successful, truth_of

ALL_ATTACKS = "all attacks"
TOLD = (ENTROPY, CHOSEN, *BASELINES)  # whose comparisons with noise, strata and file formats are told
EIGHT_BIT_OF = (*TOLD, *JOINED, *NETWORKS)
PROBABILISTIC = (*JOINED, *NETWORKS)  # whose scores are log odds
# Pairs of roles: what counts as attacked, and against what.
PAIRS = {
    "attacked / clean": ("adversarial", "clean"),
    "attacked / noisy": ("adversarial", "noisy"),
    "noisy / clean": ("noisy", "clean"),
}
COLUMNS = ("attack", "detector", "family", "figure", "estimate", "low", "high", "n_positive", "n_negative")
CONFIDENCES = (0.0, 0.5, 0.9, 0.99, 0.999, 1.0)


def decision_changes(measured: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """How often each attack succeeds, and how sure the network is after it, before any detection.

    Returns:
        A row an attack and figure ("success", "truth", "target"): attack, figure, estimate, low, high, n. The latter
        two are mean confidences in the true and in the reached class over successful attacks.
    """
    rows = []
    for attack, frame in measured.items():
        attacked = frame[truth_of(frame)]
        won = attacked[attacked["success"].to_numpy(bool)]
        figures = {"success": (attacked["success"], attacked)}
        figures |= {"truth": (won["truth_softmax"], won), "target": (won["softmax"], won)} if len(won) else {}
        for figure, (values, of) in figures.items():
            if figure == "success":
                found = proportion(values.to_numpy(bool), of["source"].to_numpy())
            else:
                found = mean(values.to_numpy(np.float64), of["source"].to_numpy(), seed=seed)
            rows.append({"attack": attack, "figure": figure, **dataclasses.asdict(found), "n": len(of)})
    return pd.DataFrame(rows)


def entropy_changes(measured: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """What successful attacks, and noise of their norm, do to the published entropy of the same images.

    Returns:
        A row an attack and kind ("attacked", "noisy"), where `FEWEST` succeeded: attack, kind, estimate, low, high (of
        the mean paired difference from the clean image, in bits) and n.
    """
    rows = []
    for attack, frame in _enough({name: successful(frame) for name, frame in measured.items()}):
        values = frame.pivot(index="source", columns="role", values=PUBLISHED_RESPONSE.name).dropna()
        for kind, role in (("attacked", "adversarial"), ("noisy", "noisy")):
            change = mean((values[role] - values["clean"]).to_numpy(), values.index.to_numpy(), seed=seed)
            rows.append({"attack": attack, "kind": kind, **dataclasses.asdict(change), "n": len(values)})
    return pd.DataFrame(rows)


@artifact(version=1)
def published_results(measured: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """The study's own figures: thresholds read off the very images that are judged, no noise, no split.

    Scores are taken as they are: higher entropy, and higher trivial scores, as more adversarial.

    Returns:
        A row an attack (and `ALL_ATTACKS`, each with its own originals), detector and figure: roc_auc, the
        tpr_at_fpr_… and, at the threshold of the largest F1, recall and precision. Columns attack, detector, family,
        figure, estimate, low, high, n_positive, n_negative.
    """
    frames = {attack: published_rows(frame) for attack, frame in measured.items()}
    frames[ALL_ATTACKS] = pd.concat(frames.values())
    rows: list[dict[str, Any]] = []
    for attack, frame in _enough(frames):
        truth, source = truth_of(frame), frame["source"].to_numpy()
        for detector in (ENTROPY, *BASELINES):
            values = frame[PUBLISHED_RESPONSE.name if detector == ENTROPY else detector].to_numpy(np.float64)
            figures = evaluate(values, truth, source, seed=seed, fprs=RATES)
            figures |= recall_and_precision(values, frame, threshold=_best_f1(values, truth))
            rows += _rows(attack, detector, figures, truth=truth)
    return pd.DataFrame(rows, columns=list(COLUMNS))


@artifact(version=1)
def corrected_results(scores: Mapping[str, pd.DataFrame], calibration: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The protocol's figures of every detector on the test groups.

    Returns:
        Columns as `published_results`, and baseline. Figures are those of `evaluate` with thresholds committed from
        the calibration images, observed_fpr_0.05 on clean and on noisy images, recall and precision at the committed
        threshold of 5 %, and `detection.ABOVE_BASELINE`: paired, over the baseline with the highest TPR at 5 % FPR on
        the validation groups.
    """
    frames = {**scores, ALL_ATTACKS: pooled(scores)}
    rows: list[dict[str, Any]] = []
    for attack, frame in frames.items():
        validation, test = (successful(frame[frame["part"] == part]) for part in ("validation", "test"))
        if truth_of(test).sum() < FEWEST or not truth_of(validation).any():
            continue
        baseline = best_baseline(validation)
        for detector in DETECTORS:
            committed_from = calibration[detector].to_numpy()
            figures = _figures(test, detector, baseline=baseline, threshold_scores=committed_from, seed=seed)
            rows += [row | {"baseline": baseline} for row in _rows(attack, detector, figures, truth=truth_of(test))]
    return pd.DataFrame(rows, columns=[*COLUMNS, "baseline"])


def _figures(
    test: pd.DataFrame, detector: str, *, baseline: str, threshold_scores: Array, seed: int
) -> dict[str, Estimate]:
    values = test[detector].to_numpy()
    probabilities = expit(values) if detector in PROBABILISTIC else None
    about = {"baseline": baseline, "threshold_scores": threshold_scores, "seed": seed}
    figures = figures_of(test, detector, **about, probabilities=probabilities)
    return figures | recall_and_precision(values, test, threshold=threshold_at_fpr(threshold_scores, NOMINAL_FPR))


def recall_and_precision(values: Array, rows: pd.DataFrame, *, threshold: float) -> dict[str, Estimate]:
    """Recall, and precision as if attacks and normal images were equally many, TPR / (TPR + FPR).

    So the precision does not hang on how many noisy twins stand among the normal images.
    """
    flagged, truth, source = values > threshold, truth_of(rows), rows["source"].to_numpy()
    recall, false_alarms = (proportion(flagged[mask], source[mask]) for mask in (truth, ~truth))
    return {"recall": recall, "precision": precision_estimate(recall, false_alarms, prevalence=0.5)}


def _best_f1(values: Array, truth: Array) -> float:
    """The threshold with the largest F1 on the very rows, half a step below a score."""
    order = np.argsort(-values, kind="stable")
    found = np.cumsum(truth[order])
    f1 = 2 * found / (np.arange(1, len(values) + 1) + truth.sum())
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    return float(np.nextafter(values[order][np.where(last_of_tie, f1, 0).argmax()], -np.inf))


@artifact(version=1)
def against_noise(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """ROC-AUCs of each pair of `PAIRS` on the test groups: successful attacks, their originals and their noisy twins.

    Returns:
        Columns attack, detector, family, pair, figure, estimate, low, high, n_positive, n_negative.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in scores.items():
        test = frame[frame["part"] == "test"]
        won = test.loc[truth_of(test) & test["success"].to_numpy(bool), "source"]
        test = test[test["source"].isin(won)]
        for pair, (positive, negative) in PAIRS.items():
            both = test[test["role"].isin([positive, negative])]
            if len(won) >= FEWEST:
                truth = (both["role"] == positive).to_numpy()
                rows += [row | {"pair": pair} for row in _auc_rows(attack, both, TOLD, truth=truth, seed=seed)]
    return pd.DataFrame(rows, columns=[*COLUMNS, "pair"])


@artifact(version=1)
def eight_bit(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """ROC-AUC of `EIGHT_BIT_OF` on the test groups as floats and as 8-bit images, of detectors fitted to floats.

    A rounded attack is a positive where the rounded image is misread, whether the float one was or not.

    Returns:
        Columns attack, detector, family, format ("float", "8-bit"), figure, estimate, low, high, n_positive,
        n_negative.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in {**scores, ALL_ATTACKS: pooled(scores)}.items():
        for name, part in (("float", "test"), ("8-bit", EIGHT_BIT)):
            judged = successful(frame[frame["part"] == part])
            if truth_of(judged).sum() >= FEWEST:
                found = _auc_rows(attack, judged, EIGHT_BIT_OF, truth=truth_of(judged), seed=seed)
                rows += [row | {"format": name} for row in found]
    return pd.DataFrame(rows, columns=[*COLUMNS, "format"])


@artifact(version=1)
def strata(scores: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """ROC-AUC of `TOLD` on successful, failed and all attacks of the test groups, where there are `FEWEST`.

    An attack that left its image as it was (the one-pixel attack does, where it fails) is none to be seen: left out.

    Returns:
        Columns attack, detector, family, stratum, figure, estimate, low, high, n_positive, n_negative.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in scores.items():
        test = frame[(frame["part"] == "test") & ((frame["l2"] > 0) | ~truth_of(frame))]
        for stratum in Stratum:
            judged = test[~truth_of(test) | positives(test["success"].to_numpy(bool), stratum=stratum)]
            if truth_of(judged).sum() >= FEWEST:
                found = _auc_rows(attack, judged, TOLD, truth=truth_of(judged), seed=seed)
                rows += [row | {"stratum": stratum.value} for row in found]
    return pd.DataFrame(rows, columns=[*COLUMNS, "stratum"])


@artifact(version=1)
def sensitivity(
    measured: Mapping[str, pd.DataFrame], *, compared: Sequence[ResponseEntropy], seed: int
) -> pd.DataFrame:
    """ROC-AUC over all attacks of every setting, higher entropy as more adversarial, without the test groups.

    Returns:
        A row a setting and kind of normal image ("clean", "clean and noisy"): the setting's own fields, negatives,
        estimate, low, high, n_positive, n_negative.
    """
    rows = pooled(measured)
    rows = rows[rows["part"].isin(["train", "validation"])]
    made = []
    for negatives, roles in (("clean", ["clean"]), ("clean and noisy", ["clean", "noisy"])):
        judged = rows[rows["role"].isin([*roles, "adversarial"])]
        truth = truth_of(judged)
        entropies = {each.name: judged[each.name].to_numpy() for each in compared}
        found = roc_aucs(entropies, truth, judged["source"].to_numpy(), seed=seed)
        counts = {"n_positive": int(truth.sum()), "n_negative": int((~truth).sum())}
        for each in compared:
            about = dataclasses.asdict(each) | {"negatives": negatives}
            made.append(about | dataclasses.asdict(found[each.name]) | counts)
    return pd.DataFrame(made)


@artifact(version=1)
def by_class(scores: pd.DataFrame, calibration: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The published entropy of clean images by the class that the network predicts, and whom the threshold flags.

    Args:
        scores: rows of an attack's images, whose clean ones are judged.
        calibration: the other clean images, from which the threshold is committed.
    Returns:
        A row a class and figure ("bits", "observed_fpr_0.05"): predicted, figure, estimate, low,
        high, n.
    """
    threshold = committed_thresholds(calibration[ENTROPY].to_numpy(), (NOMINAL_FPR,))[NOMINAL_FPR]
    clean = scores[(scores["role"] == "clean") & scores["part"].isin(PARTS)]
    rows = []
    for predicted, frame in clean.groupby("predicted"):
        figures = {"bits": frame[BITS].to_numpy(), f"observed_fpr_{NOMINAL_FPR}": frame[ENTROPY].to_numpy() > threshold}
        for figure, values in figures.items():
            source = frame["source"].to_numpy()
            found = mean(values, source, seed=seed) if figure == "bits" else proportion(values, source)
            rows.append({"predicted": predicted, "figure": figure, **dataclasses.asdict(found), "n": len(frame)})
    return pd.DataFrame(rows)


@artifact(version=1)
def by_confidence(frames: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """The published entropy by the network's confidence in its decision.

    Args:
        frames: kind of image, such as "clean" → rows with a column softmax, of the predicted class.
    Returns:
        A row a bin of `CONFIDENCES` and kind: kind, window (a text), high_end, estimate, low, high, n, and
        rank_correlation of entropy and confidence over all images of that kind.
    """
    rows = []
    for kind, frame in frames.items():
        correlation = float(spearmanr(frame[BITS], frame["softmax"]).statistic)
        for low, high in itertools.pairwise(CONFIDENCES):
            part = frame[(frame["softmax"] > low) & (frame["softmax"] <= high)]
            if len(part) >= FEWEST:
                average = mean(part[BITS].to_numpy(), part["source"].to_numpy(), seed=seed)
                about = {"kind": kind, "window": f"to {high:g}", **dataclasses.asdict(average), "n": len(part)}
                rows.append(about | {"rank_correlation": correlation, "high_end": high})
    return pd.DataFrame(rows).sort_values("high_end", kind="stable", ignore_index=True)


def _enough(frames: Mapping[str, pd.DataFrame]) -> Iterable[tuple[str, pd.DataFrame]]:
    """The frames that hold `FEWEST` attacks or more."""
    return ((name, frame) for name, frame in frames.items() if truth_of(frame).sum() >= FEWEST)


def _auc_rows(
    attack: str, judged: pd.DataFrame, detectors: Sequence[str], *, truth: Array, seed: int
) -> list[dict[str, Any]]:
    """A row of `COLUMNS` for each detector's ROC-AUC on the rows given."""
    values = {name: judged[name].to_numpy() for name in detectors}
    aucs = roc_aucs(values, truth, judged["source"].to_numpy(), seed=seed)
    return [row for name, auc in aucs.items() for row in _rows(attack, name, {"roc_auc": auc}, truth=truth)]


def _rows(attack: str, detector: str, figures: Mapping[str, Estimate], *, truth: Array) -> list[dict[str, Any]]:
    about = {"attack": attack, "detector": detector, "family": family_of(detector)}
    counts = {"n_positive": int(truth.sum()), "n_negative": int((~truth).sum())}
    return [
        {**about, "figure": figure, "estimate": found.estimate, "low": found.low, "high": found.high, **counts}
        for figure, found in figures.items()
    ]
