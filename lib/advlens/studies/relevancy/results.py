"""The corrected protocol's figures, from scores: all of them with intervals, and what one lens adds to another."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from advlens.evaluation import Stratum, committed_thresholds, compare, evaluate
from advlens.studies.relevancy.lenses import family_of
from advlens.studies.relevancy.protocols import JOINED, Scores, joined

NOMINAL_FPR = 0.05
COLUMNS = [
    *("attack", "detector", "family", "figure", "estimate", "low", "high"),
    *("n_positive", "n_negative", "n_sources"),
]


def corrected_results(scores: Mapping[str, Scores], *, stratum: str, seed: int) -> pd.DataFrame:
    """The protocol's figures of every detector on every attack.

    Args:
        scores: by attack.
        stratum: which attacks are positives: "success", "failed" or "all".
    Returns:
        Long form, columns attack, detector, family, figure, estimate, low, high, n_positive, n_negative, n_sources.
        Figures are `evaluate`'s, and `observed_fpr_0.05 on clean` and `… on noisy` with these negatives alone.
        Attacks without an image in the stratum have no rows.
    """
    rows: list[dict[str, Any]] = []
    for attack, made in scores.items():
        if (made.test(stratum=Stratum(stratum))["role"] == "adversarial").any():
            rows += _attack_results(attack, made, stratum=Stratum(stratum), seed=seed)
    return pd.DataFrame(rows, columns=COLUMNS)


def _attack_results(attack: str, scores: Scores, *, stratum: Stratum, seed: int) -> Iterator[dict[str, Any]]:
    for detector in scores.detectors:
        about = {"attack": attack, "detector": detector, "family": family_of(detector)}
        for suffix, negatives in (
            ("", ("clean", "noisy")),
            (" on clean", ("clean",)),
            (" on noisy", ("noisy",)),
        ):
            test = scores.test(stratum=stratum, negatives=negatives)
            values = test[detector].to_numpy()
            evaluation = evaluate(
                values,
                (test["role"] == "adversarial").to_numpy(),
                test["source"].to_numpy(),
                seed=seed,
                thresholds=committed_thresholds(scores.calibration[detector].to_numpy()),
                probabilities=None if family_of(detector) == "baseline" else expit(values),
            )
            counts = {"n_positive": evaluation.n_positive, "n_negative": evaluation.n_negative}
            for figure, estimate in evaluation.figures.items():
                yield (
                    about
                    | {"figure": figure + suffix}
                    | dataclasses.asdict(estimate)
                    | counts
                    | {"n_sources": evaluation.n_sources}
                )


def beyond_input(scores: Mapping[str, Scores], *, seed: int) -> pd.DataFrame:
    """Do maps show anything that the input classifier doesn't see? A row an attack and map.

    Returns:
        Columns attack, map; gain, low, high, p_value: AUC of both detectors joined minus that of the input classifier
        alone, paired; n_positive; missed: how many attacks the input classifier misses at 5 % FPR; caught: the
        share of these that the map's detector flags at its own 5 % (NaN where none is missed); false_alarms: the
        share of normal images among those that the input classifier passes which it flags there.
    """
    return pd.DataFrame(
        [
            {"attack": attack, "map": lens} | _beyond(made, lens=lens, seed=seed)
            for attack, made in scores.items()
            for lens in JOINED
        ]
    )


def _beyond(scores: Scores, *, lens: str, seed: int) -> dict[str, Any]:
    test = scores.test()
    truth = (test["role"] == "adversarial").to_numpy()
    both, alone = test[joined(lens)].to_numpy(), test["input"].to_numpy()
    gain = compare(both, alone, truth, test["source"].to_numpy(), seed=seed)["roc_auc"]
    by_input, by_map = (
        (test[name] > committed_thresholds(scores.calibration[name].to_numpy())[NOMINAL_FPR]).to_numpy()
        for name in ("input", lens)
    )
    missed, passed = truth & ~by_input, ~truth & ~by_input
    return {
        **{"gain": gain.estimate, "low": gain.low, "high": gain.high, "p_value": gain.p_value},
        **{"n_positive": int(truth.sum()), "missed": int(missed.sum())},
        **{"caught": _share(by_map, missed), "false_alarms": _share(by_map, passed)},
    }


def _share(flagged: np.ndarray, rows: np.ndarray) -> float:
    return float(flagged[rows].mean()) if rows.any() else float("nan")
