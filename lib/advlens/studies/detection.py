"""Detection as the protocol has it: the figures of one detector, and of those that learn from no attack together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.metrics import (
    Estimate,
    Stratum,
    compare,
    evaluate,
    flagged_share,
    positives,
    roc_aucs,
    tpr_at_fpr,
)
from advlens.store import artifact
from advlens.studies.rows import BASELINES, successful, truth_of

NOMINAL_FPR = 0.05
ABOVE_BASELINE = f"tpr_at_fpr_{NOMINAL_FPR:g} above the best baseline"
FEWEST = 10  # attacks under which no figure is given
COLUMNS = ("attack", "detector", "figure", "estimate", "low", "high", "n_positive", "n_negative", "baseline")


@artifact(version=1)
def detection(
    measured: Mapping[str, pd.DataFrame], thresholds_from: pd.DataFrame, *, detectors: Sequence[str], seed: int
) -> pd.DataFrame:
    """The protocol's figures of detectors and trivial baselines on successful attacks.

    Args:
        measured: attack → rows with role ("clean", "noisy", "adversarial"), source, part ("validation", "test"),
            success, and a column a detector and baseline, higher = more adversarial.
        thresholds_from: the same columns of clean images that are in none of these.
    Returns:
        A row an attack (with `FEWEST` successes in the test part), detector and figure: those of `evaluate`,
        `observed_fpr_0.05 on clean` and `on noisy`, and `ABOVE_BASELINE`, paired. The best baseline is the one with
        the highest TPR at 5 % FPR on the validation part.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.items():
        validation, test = (successful(frame[frame["part"] == part]) for part in ("validation", "test"))
        if truth_of(test).sum() < FEWEST or not truth_of(validation).any():
            continue
        baseline = best_baseline(validation)
        for detector in (*detectors, *BASELINES):
            figures = figures_of(
                test,
                detector,
                baseline=baseline,
                threshold_scores=thresholds_from[detector].to_numpy(np.float64),
                seed=seed,
            )
            about = {"attack": attack, "detector": detector, "baseline": baseline}
            rows += [about | row for row in _rows(figures, truth_of(test))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def best_baseline(validation: pd.DataFrame) -> str:
    """The trivial baseline with the highest TPR at 5 % FPR on these rows."""
    truth = truth_of(validation)
    return max(BASELINES, key=lambda name: tpr_at_fpr(validation[name].to_numpy(np.float64), truth, fpr=NOMINAL_FPR))


def figures_of(
    test: pd.DataFrame,
    detector: str,
    *,
    baseline: str,
    threshold_scores: Array,
    seed: int,
    probabilities: Array | None = None,
) -> dict[str, Estimate]:
    """The figures of one detector on some rows, by the names that `detection` lists.

    Args:
        test: rows without failed attacks.
        baseline: the column of the best trivial baseline.
        threshold_scores: (m,) of clean images, from which thresholds are committed.
        probabilities: (n,) that each row is adversarial, where the detector gives them.
    """
    values, truth, source = test[detector].to_numpy(np.float64), truth_of(test), test["source"].to_numpy()
    figures = evaluate(values, truth, source, seed=seed, threshold_scores=threshold_scores, probabilities=probabilities)
    for role in ("clean", "noisy"):
        negatives = test[test["role"] == role]
        if len(negatives):
            figures[f"observed_fpr_{NOMINAL_FPR:g} on {role}"] = flagged_share(
                negatives[detector].to_numpy(np.float64),
                negatives["source"].to_numpy(),
                threshold_scores=threshold_scores,
                fpr=NOMINAL_FPR,
                seed=seed,
            )
    bar = test[baseline].to_numpy(np.float64)
    above = compare(values, bar, truth, source, seed=seed, fprs=(NOMINAL_FPR,))
    return figures | {ABOVE_BASELINE: above[f"tpr_at_fpr_{NOMINAL_FPR:g}"]}


def aucs(
    measured: Mapping[str, pd.DataFrame],
    *,
    detectors: Sequence[str],
    seed: int,
    part: str = "test",
    stratum: Stratum = Stratum.SUCCESS,
) -> pd.DataFrame:
    """ROC-AUCs alone, of the attacks of a stratum of one part.

    Returns:
        A row an attack with `FEWEST` of them and detector: attack, detector, figure, estimate, low, high, n_positive,
        n_negative.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.items():
        judged = frame[frame["part"] == part]
        judged = judged[~truth_of(judged) | positives(judged["success"].to_numpy(bool), stratum=stratum)]
        truth = truth_of(judged)
        if truth.sum() < FEWEST:
            continue
        scores = {name: judged[name].to_numpy(np.float64) for name in detectors}
        found = roc_aucs(scores, truth, judged["source"].to_numpy(), seed=seed)
        for name, auc in found.items():
            rows += [{"attack": attack, "detector": name} | row for row in _rows({"roc_auc": auc}, truth)]
    return pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "baseline"])


def _rows(figures: Mapping[str, Estimate], truth: Array) -> list[dict[str, Any]]:
    counts = {"n_positive": int(truth.sum()), "n_negative": int((~truth).sum())}
    return [
        {"figure": name, "estimate": each.estimate, "low": each.low, "high": each.high} | counts
        for name, each in figures.items()
    ]
