"""Scores of one attack's images → metrics, differences and verdicts: what is judged, and against which thresholds."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from advlens import metrics
from advlens.arrays import Array
from advlens.benchmark.protocol import Threshold
from advlens.benchmark.samples import chosen_rows, is_adversarial
from advlens.benchmark.vocabulary import (
    ABOVE_BASELINE,
    COMMITTED_ACCURACY,
    FPR_ON,
    NOMINAL_FPR,
    Negatives,
    Part,
    Role,
)
from advlens.detectors import Head
from advlens.metrics import Estimate, Stratum

BAR = f"tpr_at_fpr_{NOMINAL_FPR:g}"
HIGHEST = 1e300  # stands for a score that is NaN or infinite, which no metric takes


def scores_of(heads: Sequence[Head], measured: pd.DataFrame, *, name: str, said: set[str]) -> Array:
    """(s, n) scores of s heads; what isn't finite counts as the highest, as `Detector.detect` flags it, and is said.

    Args:
        name: the detector's; said: those of which it was said before, as many attacks are judged. It joins them.
    """
    scores = np.stack([head.score(measured) for head in heads])
    broken = ~np.isfinite(scores)
    if not broken.any():
        return scores
    if name not in said:
        said.add(name)
        told = f"{broken.sum()} of {scores.size} scores are NaN or infinite, where that was seen first"
        say(f"{name}: {told}: such images count as flagged")
    return np.where(broken, HIGHEST, scores)


def threshold_scores_of(heads: Sequence[Head], measured: pd.DataFrame, *, name: str, said: set[str]) -> Array:
    """As `scores_of`, for thresholds: all below what a NaN counts as, which so is flagged at any of them."""
    return np.minimum(scores_of(heads, measured, name=name, said=said), HIGHEST / 10)


def say(text: str) -> None:
    """A warning at each call: `warnings.warn` is silent where the same line of code gave the same text before."""
    warnings.warn_explicit(text, UserWarning, __name__, 0)


def ties(scores: Array, attacked: Array) -> tuple[float, float]:
    """The shares of (s, n) normal images' scores, and of (s, m) attacked ones', that are exactly the threshold for 5 %.

    It comes from the normal ones; of training seeds the one with most such. Zeros where these are but one, or 5 %.
    """
    at = [metrics.threshold_at_fpr(own, NOMINAL_FPR) for own in scores]
    shares = [(own == value).mean() for own, value in zip(scores, at, strict=True)]
    seed = int(np.argmax(shares))
    if shares[seed] <= max(1 / scores.shape[1], NOMINAL_FPR):
        return 0.0, 0.0
    return float(shares[seed]), float((attacked[seed] == at[seed]).mean())


@dataclass(frozen=True, eq=False)
class Scored:
    """What a detector says of one attack's images, in each of s training seeds.

    Attributes:
        about: n rows, see `Samples`; scores: (s, n), higher = more adversarial.
        probabilities: (s, n) that an image is adversarial, or None.
        parts: for each seed, part → (n,) bool.
        clean: k rows about the clean test images, attacked or not; clean_scores: (s, k).
        threshold_scores: (s, m), of clean images that are used for nothing else.
    """

    about: pd.DataFrame
    scores: Array
    probabilities: Array | None
    parts: Sequence[Mapping[Part, Array]]
    clean: pd.DataFrame
    clean_scores: Array
    threshold_scores: Array

    def judged(self, *, stratum: Stratum | str, negatives: Negatives | str) -> dict[str, Any]:
        """The judged rows as `metrics.evaluate` takes them: scores, is_adversarial, source, probabilities.

        For `Negatives.HARD_IMAGES`: the positives' clean sources as positives, other correct clean images as negatives.
        """
        test, negatives = self.parts[0][Part.TEST], Negatives(negatives)
        if negatives is Negatives.HARD_IMAGES:
            return self._hard_images(chosen_rows(self.about, test, stratum=stratum, negatives=Negatives.MATCHED))
        rows = chosen_rows(self.about, test, stratum=stratum, negatives=negatives)
        return {
            "scores": self.scores[:, rows],
            "is_adversarial": is_adversarial(self.about)[rows],
            "source": self.about["source"].to_numpy()[rows],
            "probabilities": None if self.probabilities is None else self.probabilities[:, rows],
        }

    def _hard_images(self, rows: Array) -> dict[str, Any]:
        source = self.clean["source"].to_numpy()
        hard = np.isin(source, self.about["source"].to_numpy()[rows])
        kept = hard | (self.clean["predicted"] == self.clean["label"]).to_numpy()
        about = {"is_adversarial": hard[kept], "source": source[kept], "probabilities": None}
        return {"scores": self.clean_scores[:, kept], **about}

    def on_validation(
        self, metric: Callable[[Array, Array], float], *, stratum: Stratum, negatives: Negatives
    ) -> float:
        """A metric of (scores, truths) on the validation parts, averaged over seeds; NaN where they lack a class."""
        found = []
        for own, parts in zip(self.scores, self.parts, strict=False):
            rows = chosen_rows(self.about, parts[Part.VALIDATION], stratum=stratum, negatives=negatives)
            truth = is_adversarial(self.about)[rows]
            if truth.any() and not truth.all():
                found.append(metric(own[rows], truth))
        return float(np.mean(found)) if found else float("nan")


def estimates(
    scored: Scored | None,
    bar: Scored | None,
    wanted: Sequence[str],
    *,
    stratum: Stratum,
    negatives: Negatives,
    threshold: Threshold,
    seed: int,
) -> dict[str, Estimate]:
    """The wanted metrics of a detector on the judged rows; NaN where these lack a class.

    Args:
        bar: the best trivial baseline's scores of the same images.
    """
    control = negatives is Negatives.HARD_IMAGES
    wanted = [name for name in wanted if not control or name == "roc_auc"]
    judged = None if scored is None else scored.judged(stratum=stratum, negatives=negatives)
    if judged is None or scored is None or not has_both(judged):
        return dict.fromkeys(wanted, metrics.MISSING)
    thresholds = threshold_scores(scored, judged, threshold)
    limits: dict[str, Any] = {"stratum": stratum, "negatives": negatives, "threshold": threshold, "seed": seed}
    found: dict[str, Any] = metrics.intervals_of(drawn(scored, **limits))
    noisy = chosen_rows(scored.about, scored.parts[0][Part.TEST], stratum=stratum, negatives=Negatives.NOISY)
    noisy &= (scored.about["role"] == Role.NOISY.value).to_numpy()
    clean = scored.clean
    normal = {
        "correct clean": (clean, scored.clean_scores, (clean["predicted"] == clean["label"]).to_numpy()),
        "all clean": (clean, scored.clean_scores, np.ones(len(clean), bool)),
        "noisy": (scored.about, scored.scores, noisy),
    }
    committed = {"threshold_scores": thresholds, "fpr": NOMINAL_FPR, "seed": seed}
    for name, (about, scores, rows) in normal.items():
        if FPR_ON[name] in wanted and rows.any():
            found[FPR_ON[name]] = metrics.flagged_share(scores[:, rows], about["source"].to_numpy()[rows], **committed)
    if COMMITTED_ACCURACY in wanted:
        at = np.array([[metrics.threshold_at_fpr(own, NOMINAL_FPR)] for own in thresholds])
        right = (judged["scores"] > at) == judged["is_adversarial"]
        found[COMMITTED_ACCURACY] = metrics.proportion(right, judged["source"])
    if ABOVE_BASELINE in wanted:
        found[ABOVE_BASELINE] = difference(scored, bar, BAR, **limits)
    plain = {name: Estimate(each.estimate, each.low, each.high) for name, each in found.items()}
    return {name: plain.get(name, metrics.MISSING) for name in wanted}


def difference(
    a: Scored | None,
    b: Scored | None,
    metric: str,
    *,
    stratum: Stratum,
    negatives: Negatives,
    threshold: Threshold,
    seed: int,
) -> metrics.Difference:
    """What detector a has above detector b in one metric, on the same rows and draws."""
    if a is None or b is None or not has_both(a.judged(stratum=stratum, negatives=negatives)):
        return metrics.MISSING_DIFFERENCE
    limits: dict[str, Any] = {"stratum": stratum, "negatives": negatives, "threshold": threshold, "seed": seed}
    first, second = (drawn(each, **limits)[metric] for each in (a, b))
    return first.minus(second)


@lru_cache(maxsize=512)  # of a detector and of its bar, each on 46 attacks, learnt from in three ways
def drawn(
    scored: Scored, *, stratum: Stratum, negatives: Negatives, threshold: Threshold, seed: int
) -> dict[str, metrics.Sample]:
    """A detector's metrics on the judged rows, on all draws; kept, since the bar is compared with every detector."""
    judged = scored.judged(stratum=stratum, negatives=negatives)
    return metrics.samples(**judged, seed=seed, threshold_scores=threshold_scores(scored, judged, threshold))


def threshold_scores(scored: Scored, judged: Mapping[str, Any], threshold: Threshold) -> Array:
    """(s, m) scores from which thresholds are committed; zeros give the fixed threshold 0."""
    if threshold is Threshold.EVALUATED:
        return judged["scores"][:, ~judged["is_adversarial"]]
    if threshold is Threshold.FIXED:
        return np.zeros_like(scored.threshold_scores)
    return scored.threshold_scores


def with_verdicts(table: pd.DataFrame, margin: float) -> pd.DataFrame:
    """A table of differences with p_adjusted (Holm's, over its rows), margin and verdict; earlier ones are replaced."""
    table = table.drop(columns=["p_adjusted", "margin", "verdict"], errors="ignore")
    decidable = table["n_positive"] >= metrics.MIN_POSITIVES
    adjusted = metrics.holm(table["p_value"].where(decidable).to_numpy())
    verdicts = []
    for row, p_value in zip(table.itertuples(), adjusted, strict=True):
        found = metrics.Difference(row.estimate, row.low, row.high, row.p_value)  # pyright: ignore[reportArgumentType]
        verdicts.append(metrics.verdict(found, margin=margin, n_positive=row.n_positive, p_adjusted=p_value).value)  # pyright: ignore[reportArgumentType]
    place = list(table.columns).index("p_value") + 1
    table.insert(place, "p_adjusted", adjusted)
    table.insert(place + 1, "margin", margin)
    table.insert(place + 2, "verdict", verdicts)
    return table


def has_both(judged: Mapping[str, Any]) -> bool:
    truth = judged["is_adversarial"]
    return bool(truth.any() and not truth.all())


def count_rows(judged: Mapping[str, Any] | None) -> dict[str, int]:
    if judged is None:
        return {"n_positive": 0, "n_negative": 0, "n_sources": 0}
    n, n_positive = len(judged["source"]), int(judged["is_adversarial"].sum())
    return {"n_positive": n_positive, "n_negative": n - n_positive, "n_sources": len(np.unique(judged["source"]))}
