"""The corrected protocol's figures, from scores: all of them with intervals, and what one lens adds to another."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from scipy.special import expit

from advlens.metrics import Stratum, committed_thresholds, compare, evaluate, proportion, tpr_at_fpr
from advlens.store import artifact
from advlens.studies.relevancy.lenses import family_of
from advlens.studies.relevancy.protocols import MAPS, Scores, joined

NOMINAL_FPR = 0.05
BASES = (("input",), ("input", "max softmax"))
ABOVE_BASELINE = "tpr_at_fpr_0.05 above the best baseline"
COLUMNS = [
    *("attack", "detector", "family", "figure", "estimate", "low", "high"),
    *("n_positive", "n_negative", "n_sources", "baseline"),
]


@artifact(version=1)
def corrected_results(scores: Mapping[str, Scores], *, stratum: str, seed: int) -> pd.DataFrame:
    """The protocol's figures of every detector on every attack.

    Args:
        scores: by attack.
        stratum: which attacks are positives: "success", "failed" or "all".
    Returns:
        Long form, columns attack, detector, family, figure, estimate, low, high, n_positive, n_negative, n_sources,
        baseline.
        Figures are `evaluate`'s, and `observed_fpr_0.05 on clean` and `… on noisy` with these negatives alone.
        `ABOVE_BASELINE` is the paired difference to the trivial baseline that is best on the validation groups, whose
        name stands under baseline.
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
            values, truth = test[detector].to_numpy(), (test["role"] == "adversarial").to_numpy()
            found = evaluate(
                values,
                truth,
                test["source"].to_numpy(),
                seed=seed,
                threshold_scores=scores.calibration[detector].to_numpy(),
                probabilities=None if family_of(detector) == "baseline" else expit(values),
            )
            counts = {"n_positive": int(truth.sum()), "n_negative": int((~truth).sum())}
            for figure, estimate in found.items():
                yield (
                    about
                    | {"figure": figure + suffix}
                    | dataclasses.asdict(estimate)
                    | counts
                    | {"n_sources": test["source"].nunique()}
                )
        yield about | _above_baseline(scores, detector, stratum=stratum, seed=seed)


def best_baseline(scores: Scores) -> str:
    """The trivial baseline with the highest TPR at 5 % FPR on the validation groups."""
    rows = scores.judged[scores.judged["part"] == "validation"]
    rows = rows[(rows["role"] != "adversarial") | rows["success"]]
    truth = (rows["role"] == "adversarial").to_numpy()
    names = [name for name in scores.detectors if family_of(name) == "baseline"]
    return max(names, key=lambda name: tpr_at_fpr(rows[name].to_numpy(), truth, fpr=NOMINAL_FPR))


def _above_baseline(scores: Scores, detector: str, *, stratum: Stratum, seed: int) -> dict[str, Any]:
    """The paired difference that decides whether a detector beats the best trivial baseline."""
    test = scores.test(stratum=stratum)
    truth = (test["role"] == "adversarial").to_numpy()
    baseline = best_baseline(scores)
    pair = (test[name].to_numpy() for name in (detector, baseline))
    difference = compare(*pair, truth, test["source"].to_numpy(), seed=seed)["tpr_at_fpr_0.05"]
    return {
        "figure": ABOVE_BASELINE,
        **{"estimate": difference.estimate, "low": difference.low, "high": difference.high},
        **{"n_positive": int(truth.sum()), "n_negative": int((~truth).sum()), "n_sources": test["source"].nunique()},
        "baseline": baseline,
    }


def beyond_input(scores: Mapping[str, Scores], *, seed: int) -> pd.DataFrame:
    """Do maps show anything that the input classifier, or it and max softmax together, don't see?

    Returns:
        A row an attack, map and base ("input" or "input + max softmax"): gain, low, high, p_value: AUC of base and
        map joined minus that of the base, paired; n_positive; missed: how many attacks the base misses at 5 % FPR;
        caught: how many of these the map's detector flags at its own 5 %; false_alarms (an `Estimate`): the share of
        normal images that it flags there among the `passed` ones that the base does not flag.
    """
    return pd.DataFrame(
        [
            {"attack": attack, "map": lens, "base": joined(*base)} | _beyond(made, base=base, lens=lens, seed=seed)
            for attack, made in scores.items()
            for base in BASES
            for lens in MAPS
        ]
    )


def _beyond(scores: Scores, *, base: tuple[str, ...], lens: str, seed: int) -> dict[str, Any]:
    test = scores.test()
    truth = (test["role"] == "adversarial").to_numpy()
    both, alone = test[joined(*base, lens)].to_numpy(), test[joined(*base)].to_numpy()
    gain = compare(both, alone, truth, test["source"].to_numpy(), seed=seed)["roc_auc"]
    by_base, by_map = (
        (test[name] > committed_thresholds(scores.calibration[name].to_numpy())[NOMINAL_FPR]).to_numpy()
        for name in (joined(*base), lens)
    )
    missed, passed = truth & ~by_base, ~truth & ~by_base
    return {
        **{"gain": gain.estimate, "low": gain.low, "high": gain.high, "p_value": gain.p_value},
        **{"n_positive": int(truth.sum()), "missed": int(missed.sum()), "caught": int((missed & by_map).sum())},
        "false_alarms": proportion(by_map[passed], test["source"].to_numpy()[passed]),
        "passed": int(passed.sum()),
    }
