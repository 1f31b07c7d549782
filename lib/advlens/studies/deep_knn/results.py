"""The figures of Deep kNN on clean images: accuracy, the promise of its p-values, and how reliable they are."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.metrics import Estimate, calibration_error, proportion
from advlens.neighbours.conformal import CONVENTIONS, p_values
from advlens.studies.detection import FEWEST

FLOAT_PARTS = ("validation", "test")
LEVELS = (0.001, 0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90)
BINS = 10
SPLITS = 500  # draws of the held-out images
# What is taken for the probability of being right → the column and who decides.
PROBABILITIES = {
    "credibility": ("credibility", "label"),
    "credibility, as published": ("credibility, as published", "label"),
    "confidence": ("confidence", "label"),
    "softmax": ("softmax", "predicted"),
}


def accuracies(clean: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """How often the network and Deep kNN are right on clean images, and how often they agree.

    Args:
        clean: `measures.measure`'s columns, truth and source.
    Returns:
        A row a figure ("network", "Deep kNN", "agreement", "either"): figure, estimate, low, high, n.
    """
    right = {name: (clean[column] == clean["truth"]).to_numpy() for name, column in OF_WHOM.items()}
    figures = right | {
        "agreement": (clean["predicted"] == clean["label"]).to_numpy(),
        "either": right["network"] | right["Deep kNN"],
    }
    source = clean["source"].to_numpy()
    return pd.DataFrame([_row(name, proportion(values, source), values) for name, values in figures.items()])


OF_WHOM = {"network": "predicted", "Deep kNN": "label"}


def promise(alpha: Array, *, held_out: int, seed: int) -> pd.DataFrame:
    """How often the true label's p-value is at most a level: valid p-values keep to that level on average.

    The promise is about drawing the held-out images as well, so they are drawn anew many times.

    Args:
        alpha: (n,) nonconformity of clean images to their true labels.
        held_out: how many of them calibrate in each draw; the others are judged.
    Returns:
        A row a convention and level: convention, level, estimate (the mean over draws), low, high (what the middle 95 %
        of draws have), n (images judged in each).
    """
    rng, rows = np.random.default_rng(seed), []
    drawn = [np.split(rng.permutation(alpha), [held_out]) for _ in range(SPLITS)]
    for convention in CONVENTIONS:
        p = [p_values(judged, calibration, convention=convention) for calibration, judged in drawn]
        for level in LEVELS:
            shares = np.array([np.mean(each <= level) for each in p])
            estimate = Estimate(float(shares.mean()), *map(float, np.quantile(shares, [0.025, 0.975])))
            about = {"convention": convention, "level": level, "n": len(alpha) - held_out}
            rows.append(about | dataclasses.asdict(estimate))
    return pd.DataFrame(rows)


def reliability(clean: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """How often a decision is right, by what is taken for its probability of being right.

    Returns:
        A row a probability of `PROBABILITIES` and tenth of [0, 1] that holds images: probability, centre, mean (of the
        probability), estimate, low, high, n.
    """
    rows = []
    for name, (column, decision) in PROBABILITIES.items():
        values, right = clean[column].to_numpy(), (clean[decision] == clean["truth"]).to_numpy()
        number = np.minimum((values * BINS).astype(int), BINS - 1)
        for tenth in np.unique(number):
            inside = number == tenth
            share = proportion(right[inside], clean["source"].to_numpy()[inside])
            about = {"probability": name, "centre": (tenth + 0.5) / BINS, "mean": float(values[inside].mean())}
            rows.append(about | dataclasses.asdict(share) | {"n": int(inside.sum())})
    return pd.DataFrame(rows)


def calibration_errors(clean: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """The expected calibration error of each of `PROBABILITIES`: probability, estimate, low, high, n."""
    rows, source = [], clean["source"].to_numpy()
    for name, (column, decision) in PROBABILITIES.items():
        values, right = clean[column].to_numpy(), (clean[decision] == clean["truth"]).to_numpy()
        error = calibration_error(values, right, source, bins=BINS, seed=seed)
        rows.append({"probability": name, **dataclasses.asdict(error), "n": len(clean)})
    return pd.DataFrame(rows)


def recovered(measured: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """How often Deep kNN gives an attacked image its true label where the network does not, and noisy ones theirs.

    Args:
        measured: attack → rows with role, source, part, success, truth and label.
    Returns:
        A row an attack and kind ("attacked", where the attack succeeded, and "noisy"), with `FEWEST` rows: attack,
        kind, estimate, low, high, n.
    """
    rows = []
    for attack, frame in measured.items():
        floats = frame[frame["part"].isin(FLOAT_PARTS)]
        for kind, role in (("attacked", "adversarial"), ("noisy", "noisy")):
            judged = floats[(floats["role"] == role) & (floats["success"].to_numpy(bool) | (role == "noisy"))]
            if len(judged) >= FEWEST:
                right = (judged["label"] == judged["truth"]).to_numpy()
                share = proportion(right, judged["source"].to_numpy())
                rows.append({"attack": attack, "kind": kind, **dataclasses.asdict(share), "n": len(judged)})
    return pd.DataFrame(rows, columns=["attack", "kind", "estimate", "low", "high", "n"])


def _row(name: str, estimate: Estimate, values: Array) -> dict:
    return {"figure": name, **dataclasses.asdict(estimate), "n": len(values)}
