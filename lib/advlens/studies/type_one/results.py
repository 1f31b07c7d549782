"""The figures of Type I attacks: how often they succeed, why they fail, and what maps follow."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.metrics import Estimate, committed_thresholds, mean, proportion, proportion_difference, roc_aucs
from advlens.studies.detection import FEWEST, NOMINAL_FPR
from advlens.studies.type_one.maps import START, TARGET
from advlens.studies.type_one.settings import CONFIRMED, OPEN, REFUTED

SUCCESS = "another digit, the same decision"
DECISION_LOST, NO_AIM, NEITHER = "another digit, another decision", "not the other digit", "neither"
CAUSES = (SUCCESS, DECISION_LOST, NO_AIM, NEITHER)
NEARER = "nearer to the start"
NORMAL = ("clean", "redrawn", "noisy")


def ended(victim: pd.DataFrame, judge: pd.DataFrame, *, labels: Array, aims: Array) -> pd.DataFrame:
    """What became of each image.

    Args:
        victim, judge: `measures.read`'s rows of the attacked network and of the independent one, an image each.
    Returns:
        A row an image: place, label, aim, kept (the decision), became (what the judge sees is the aim), cause (one of
        `CAUSES`), confidence (the attacked network's in the label), judge's confidence (in the aim).
    """
    kept, became = victim["predicted"].to_numpy() == labels, judge["predicted"].to_numpy() == aims
    cause = np.select([kept & became, became, kept], CAUSES[:3], CAUSES[3])
    return pd.DataFrame(
        {
            "place": np.arange(len(labels)),
            "label": labels,
            "aim": aims,
            "kept": kept,
            "became": became,
            "cause": cause,
            "confidence": victim["of label"].to_numpy(),
            "judge's confidence": judge["of aim"].to_numpy(),
        }
    )


def rates(ends: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """How often walks do what they are meant to.

    Args:
        ends: kind of walk → `ended`'s rows, with source, steps, has_ended and distance.
    Returns:
        A row a kind and figure ("became", "kept", each of `CAUSES`, "has_ended": shares; of successes alone
        "confidence", "judge's confidence", "distance", "steps": means): kind, figure, estimate, low, high, n.
    """
    rows = []
    for kind, frame in ends.items():
        shares = {name: frame[name].to_numpy(bool) for name in ("became", "kept", "has_ended")}
        shares |= {cause: (frame["cause"] == cause).to_numpy() for cause in CAUSES}
        source = frame["source"].to_numpy()
        found = {name: (proportion(values, source), len(frame)) for name, values in shares.items()}
        won = frame[frame["cause"] == SUCCESS]
        for name in ("confidence", "judge's confidence", "distance", "steps"):
            if len(won):
                found[name] = mean(won[name].to_numpy(float), won["source"].to_numpy(), seed=seed), len(won)
        rows += [{"kind": kind, "figure": name, "n": n} | dataclasses.asdict(each) for name, (each, n) in found.items()]
    return pd.DataFrame(rows)


def by_pair(ends: Mapping[str, pd.DataFrame], *, classes: Sequence[int]) -> pd.DataFrame:
    """The share of successes of each way from a class to another: kind, label, aim, success, n."""
    rows = []
    for (kind, frame), label, aim in itertools.product(ends.items(), classes, classes):
        own = frame[(frame["label"] == label) & (frame["aim"] == aim)]
        if len(own):
            share = float((own["cause"] == SUCCESS).mean())
            rows.append({"kind": kind, "label": label, "aim": aim, "success": share, "n": len(own)})
    return pd.DataFrame(rows)


def likenesses(rows: Mapping[str, pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """How alike maps are to what they were and to those of the other class, and which of the two they are nearer to.

    Args:
        rows: type of attack → `maps.likeness`'s rows of successes, with source.
    Returns:
        A row a type (with `FEWEST` successes), stop, map, measure and figure (`START`, `TARGET`: means; `NEARER`: the
        share whose likeness to the start is the greater, of equal ones half): type, stop, map, measure, figure,
        estimate, low, high, n.
    """
    found = []
    for kind, frame in rows.items():
        if frame["place"].nunique() < FEWEST:
            continue
        for (stop, name, measure), own in frame.groupby(["stop", "map", "measure"], sort=False):
            values_of = {START: own[START].to_numpy(), TARGET: own[TARGET].to_numpy(), NEARER: _nearer(own)}
            for figure, values in values_of.items():
                sources = own["source"].to_numpy()
                found_of = proportion(values, sources) if figure == NEARER else mean(values, sources, seed=seed)
                about = {"type": kind, "stop": stop, "map": name, "measure": measure, "figure": figure, "n": len(own)}
                found.append(about | dataclasses.asdict(found_of))
    return pd.DataFrame(found, columns=["type", "stop", "map", "measure", "figure", "n", "estimate", "low", "high"])


def at_the_end(likenesses: pd.DataFrame) -> pd.DataFrame:
    """The rows of each type's last stop, without its number."""
    last = likenesses.groupby("type")["stop"].transform("max")
    return likenesses[likenesses["stop"] == last].drop(columns="stop")


def nearer_differences(
    rows: Mapping[str, pd.DataFrame], pairs: Sequence[tuple[str, str]], *, seed: int
) -> pd.DataFrame:
    """By how much the share of maps nearer to the start's differs between two types, on the images that both have.

    Args:
        rows: as in `likenesses`; pairs: which type less which.
    Returns:
        A row a pair (with `FEWEST` shared images), map and measure: type, less, map, measure, estimate, low, high, n.
    """
    found = []
    keys = ["source", "map", "measure"]
    for kind, rival in pairs:
        ours, theirs = (rows[each][rows[each]["stop"] == rows[each]["stop"].max()] for each in (kind, rival))
        both = ours.merge(theirs, on=keys, suffixes=("", " of the rival"))
        if both["source"].nunique() < FEWEST:
            continue
        for (name, measure), own in both.groupby(["map", "measure"], sort=False):
            shares = _nearer(own), _nearer(own, of=" of the rival")
            gap = proportion_difference(*shares, own["source"].to_numpy())
            about = {"type": kind, "less": rival, "map": name, "measure": measure, "n": len(own)}
            found.append(about | {"estimate": gap.estimate, "low": gap.low, "high": gap.high})
    return pd.DataFrame(found, columns=["type", "less", "map", "measure", "n", "estimate", "low", "high"])


def _nearer(rows: pd.DataFrame, *, of: str = "") -> Array:
    """(n,) 1 where the map is more like the start's than the target's, one half where it is as like."""
    start, target = rows[START + of].to_numpy(), rows[TARGET + of].to_numpy()
    return (start > target) + 0.5 * (start == target)


def gained(attack: pd.DataFrame, transition: pd.DataFrame, *, seed: int) -> Estimate:
    """The share of successes of attacks less that of the plain transitions of the same images, `ended`'s rows each."""
    both = ((rows["cause"] == SUCCESS).to_numpy() for rows in (attack, transition))
    return proportion_difference(*both, attack["source"].to_numpy())


def against(rows: pd.DataFrame, thresholds_from: pd.DataFrame, *, detectors: Sequence[str], seed: int) -> pd.DataFrame:
    """Whether detectors tell successful Type I attacks from each kind of normal image, by `NORMAL`.

    Args:
        rows: an image each, with role (of `NORMAL`, or "adversarial"), source, success (of the attack), and a column a
            detector, higher = more adversarial.
        thresholds_from: the same columns of clean images that are in none of these.
    Returns:
        A row a detector and figure ("auc, …" against each kind of normal image, and "fpr, …" of each kind, at
        thresholds for `NOMINAL_FPR`), none with fewer than `FEWEST` successes: detector, figure, estimate, low, high,
        n (attacks, for rates images).
    """
    found: list[dict] = []
    attacked = rows[(rows["role"] == "adversarial") & rows["success"]]
    if len(attacked) < FEWEST:
        return pd.DataFrame(columns=["detector", "figure", "n", "estimate", "low", "high"])
    thresholds = {
        name: committed_thresholds(thresholds_from[name].to_numpy(np.float64))[NOMINAL_FPR] for name in detectors
    }
    for normal in NORMAL:
        negatives = rows[rows["role"] == normal]
        both = pd.concat([attacked, negatives])
        truth = np.repeat([True, False], [len(attacked), len(negatives)])
        scores = {name: both[name].to_numpy(np.float64) for name in detectors}
        aucs = roc_aucs(scores, truth, both["source"].to_numpy(), seed=seed)
        for name, auc in aucs.items():
            flagged = negatives[name].to_numpy() > thresholds[name]
            rate = proportion(flagged, negatives["source"].to_numpy())
            for figure, n, each in ((f"auc, {normal}", len(attacked), auc), (f"fpr, {normal}", len(negatives), rate)):
                found.append({"detector": name, "figure": figure, "n": n} | dataclasses.asdict(each))
    return pd.DataFrame(found)


def verdict(estimate: Estimate | pd.Series, *, reference: float) -> str:
    """Whether a figure lies above a reference with its whole interval."""
    if estimate.low > reference:
        return CONFIRMED
    return REFUTED if estimate.high < reference else OPEN
