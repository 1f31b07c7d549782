"""The figures of transfer, what is better than what, and what Deep kNN says of it."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from advlens.arrays import Array
from advlens.metrics import Estimate, mean, proportion, proportion_difference
from advlens.studies.closeness.protocols import EIGHT_BIT, truth_of
from advlens.studies.detection import COLUMNS, FEWEST, aucs, detection
from advlens.studies.transfer.settings import (
    BIM,
    CONTROL,
    FGSM,
    ILA_OF_BIM,
    ILA_OF_FGSM,
    METHODS,
    RIVALS,
    SOURCE,
    VARIANTS,
)

ALL_VICTIMS = "all victims"
BASE_OF = {ILA_OF_FGSM: FGSM, ILA_OF_BIM: BIM}
KINDS = {"clean": "clean", "noisy": "noisy", "attacked": "adversarial"}  # of image → role
CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"

Measured = Mapping[str, Mapping[float, Mapping[str, pd.DataFrame]]]  # network → strength → method → rows


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the validation images decided.

    Attributes:
        variant: one of `VARIANTS`; layers: each variant's best layer.
    """

    variant: str
    layers: Mapping[str, str]

    @property
    def layer(self) -> str:
        """The chosen variant's."""
        return self.layers[self.variant]


def choose(misread: pd.DataFrame, *, eps: float) -> tuple[Choice, pd.DataFrame]:
    """The variant and layer that fool most other networks on validation images, at one strength.

    Args:
        misread: a row an image, method, layer and strength: method, layer, eps, source, part ("validation", "test"),
            and a column of bools a network.
    Returns:
        The choice, of equals the first; and a row a variant and layer: method, layer, success (the share misread,
        averaged over victims), n (images).
    """
    tried = misread[(misread["part"] == "validation") & (misread["eps"] == eps) & misread["method"].isin(VARIANTS)]
    victims = victims_of(misread)
    rows = [
        {"method": method, "layer": layer, "success": float(frame[victims].to_numpy(float).mean()), "n": len(frame)}
        for (method, layer), frame in tried.groupby(["method", "layer"], sort=False)
    ]
    table = pd.DataFrame(rows)
    best = table.loc[table.groupby("method", sort=False)["success"].idxmax()]
    layers = dict(zip(best["method"], best["layer"], strict=True))
    return Choice(table.loc[table["success"].idxmax(), "method"], layers), table


def victims_of(misread: pd.DataFrame) -> list[str]:
    """The columns of networks that are not the attacked one."""
    about = ("method", "layer", "eps", "source", "part", SOURCE)
    return [name for name in misread if name not in about]


def success(misread: pd.DataFrame, choice: Choice, *, seed: int) -> pd.DataFrame:
    """How many attacked images each network misreads, of those that chose nothing.

    Args:
        misread: as in `choose`.
    Returns:
        A row a method of `METHODS`, network (the attacked one, the victims, `ALL_VICTIMS`: the mean of these) and
        strength: method, network, eps, estimate, low, high, n. Variants are those at their best layers.
    """
    judged = misread[misread["part"] == "test"]
    rows: list[dict[str, Any]] = []
    for method in METHODS:
        of_method = judged[(judged["method"] == method) & (judged["layer"] == choice.layers.get(method, ""))]
        if method == CONTROL:
            of_method = judged[judged["method"] == method]
        for eps, frame in of_method.groupby("eps"):
            rows += [{"method": method, "eps": eps} | row for row in _of_networks(frame)]
    return pd.DataFrame(rows)


def sweep(misread: pd.DataFrame, *, eps: float, seed: int) -> pd.DataFrame:
    """The success of both variants at every layer, at one strength, of the images that chose nothing.

    Returns:
        A row a method of `VARIANTS`, layer and network: method, layer, network, estimate, low, high, n.
    """
    judged = misread[(misread["part"] == "test") & (misread["eps"] == eps) & misread["method"].isin(VARIANTS)]
    rows: list[dict[str, Any]] = []
    for (method, layer), frame in judged.groupby(["method", "layer"], sort=False):
        rows += [{"method": method, "layer": layer} | row for row in _of_networks(frame)]
    return pd.DataFrame(rows)


def differences(misread: pd.DataFrame, choice: Choice, *, seed: int) -> pd.DataFrame:
    """What the choice has above each of `RIVALS`, on the same images.

    Returns:
        A row a rival, network and strength: rival, network, eps, estimate, low, high (of the paired difference of the
        shares misread), n, and verdict on "the choice fools more": `CONFIRMED` or `REFUTED` where 0 lies outside of the
        interval, else `OPEN`.
    """
    judged = misread[misread["part"] == "test"]
    chosen = judged[(judged["method"] == choice.variant) & (judged["layer"] == choice.layer)]
    rows: list[dict[str, Any]] = []
    for rival in RIVALS:
        for eps, frame in chosen.groupby("eps"):
            theirs = judged[(judged["method"] == rival) & (judged["eps"] == eps)].set_index("source")
            shares = _shares(frame), _shares(theirs.loc[frame["source"]].reset_index())
            source = frame["source"].to_numpy()
            gaps = {name: proportion_difference(own, shares[1][name], source) for name, own in shares[0].items()}
            found = [_row(gap, network=name, n=len(frame)) for name, gap in gaps.items()]
            found = [row | {"verdict": verdict(row)} for row in found]
            rows += [{"rival": rival, "eps": eps} | row for row in found]
    return pd.DataFrame(rows)


def _of_networks(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A row a network, and one of all victims: network, estimate, low, high, n."""
    source = frame["source"].to_numpy()
    return [_row(proportion(each, source), network=name, n=len(frame)) for name, each in _shares(frame).items()]


def _shares(frame: pd.DataFrame) -> dict[str, Array]:
    """Network → (n,) whether it misreads; of all victims, which share of them."""
    victims = victims_of(frame)
    values = {name: frame[name].to_numpy(float) for name in (SOURCE, *victims)}
    values[ALL_VICTIMS] = frame[victims].to_numpy(float).mean(axis=1)
    return values


def verdict(found: Mapping[str, Any]) -> str:
    """Of a claim that something is more than nothing."""
    if found["low"] > 0:
        return CONFIRMED
    return REFUTED if found["high"] < 0 else OPEN


def detections(
    measured: Measured, thresholds_from: Mapping[str, pd.DataFrame], *, detectors: Sequence[str], seed: int
) -> pd.DataFrame:
    """`studies.detection.detection` of every network's own Deep kNN and baselines.

    Args:
        measured: network → strength → method of `DETECTED` → rows; success means that this very network is fooled.
        thresholds_from: network → the rows of clean images that are in none of these.
    Returns:
        Network, eps and its columns, of which attack is the method.
    """
    rows = [
        {"network": network, "eps": eps} | row
        for network, of_eps in measured.items()
        for eps, of_method in of_eps.items()
        for row in detection(of_method, thresholds_from[network], detectors=detectors, seed=seed).to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["network", "eps", *COLUMNS])


def eight_bit(measured: Measured, *, detectors: Sequence[str], seed: int) -> pd.DataFrame:
    """The ROC-AUCs of images as an 8-bit file keeps them: `studies.detection.aucs`, with network and eps."""
    rows = [
        {"network": network, "eps": eps} | row
        for network, of_eps in measured.items()
        for eps, of_method in of_eps.items()
        for row in aucs(of_method, detectors=detectors, seed=seed, part=EIGHT_BIT).to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["network", "eps", *(name for name in COLUMNS if name != "baseline")])


def credibilities(measured: Measured, *, seed: int) -> pd.DataFrame:
    """The mean credibility of clean images, their noisy twins and successful attacks, of the test part.

    Returns:
        A row a network, strength, method and kind ("clean", "noisy", "attacked", this with `FEWEST`): network, eps,
        attack, kind, estimate, low, high, n.
    """
    rows = []
    for network, eps, attack, frame in _each(measured):
        test = frame[frame["part"] == "test"]
        for kind, role in KINDS.items():
            chosen = test[(test["role"] == role) & (test["success"].to_numpy(bool) | (kind != "attacked"))]
            if len(chosen) >= FEWEST:
                average = mean(chosen["credibility"].to_numpy(), chosen["source"].to_numpy(), seed=seed)
                rows.append(_row(average, network=network, eps=eps, attack=attack, kind=kind, n=len(chosen)))
    return pd.DataFrame(rows, columns=["network", "eps", "attack", "kind", "estimate", "low", "high", "n"])


def credibility_changes(measured: Measured, *, seed: int) -> pd.DataFrame:
    """What an intermediate level attack makes of the credibility that its base attack leaves.

    Returns:
        A row a network, strength and key of `BASE_OF`, where `FEWEST` images of the test part are misread after both:
        network, eps, attack, estimate, low, high (of the mean paired difference), n, and verdict on "it is higher".
    """
    rows = []
    for network, eps, attack, frame in _each(measured):
        if attack in BASE_OF:
            own, base = _fooling(frame), _fooling(measured[network][eps][BASE_OF[attack]])
            both = own.index.intersection(base.index)
            if len(both) >= FEWEST:
                average = mean((own[both] - base[both]).to_numpy(), both.to_numpy(), seed=seed)
                row = _row(average, network=network, eps=eps, attack=attack, n=len(both))
                rows.append(row | {"verdict": verdict(row)})
    return pd.DataFrame(rows, columns=["network", "eps", "attack", "estimate", "low", "high", "n", "verdict"])


def _each(measured: Measured) -> Iterator[tuple[str, float, str, pd.DataFrame]]:
    for network, of_eps in measured.items():
        for eps, of_method in of_eps.items():
            for method, frame in of_method.items():
                yield network, eps, method, frame


def _fooling(frame: pd.DataFrame) -> pd.Series:
    """The credibility of the test part's successful attacks, by source."""
    rows = frame[(frame["part"] == "test") & truth_of(frame) & frame["success"].to_numpy(bool)]
    return rows.set_index("source")["credibility"]


def _row(estimate: Estimate, **about: Any) -> dict[str, Any]:
    return about | {"estimate": estimate.estimate, "low": estimate.low, "high": estimate.high}
