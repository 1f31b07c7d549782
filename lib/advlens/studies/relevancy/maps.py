"""How explanation maps agree with each other, and how they move under attacks and under noise."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.explanations import explain
from advlens.explanations.similarity import rank_correlation
from advlens.metrics import mean
from advlens.store import artifact

AGREEING = {
    "Deep Taylor": {"method": "deep_taylor"},
    "z-rule, all logits": {"method": "lrp.z", "neuron": "all"},
    "z-rule": {"method": "lrp.z"},
    "guided backprop": {"method": "guided_backprop"},
}
DIFFERENCE = "noisy − attacked"
FAMILIES = {
    **dict.fromkeys(("attacked", "attacked, first class"), "relevancy"),
    **dict.fromkeys(("clean, wrong class", "noisy", DIFFERENCE), "baseline"),
}
MOVING = {"Deep Taylor": "deep_taylor", "z-rule": "lrp.z", "guided backprop": "guided_backprop"}


def map_agreement(classifier: Classifier, attack_set: AttackSet, *, seed: int) -> pd.DataFrame:
    """How the study's map and others rank the pixels of clean images, against true Deep Taylor.

    Returns:
        A row a map: map, correlation (an `Estimate`), the medians of the map's sum and of the output that it
        explains, and n, the images of which neither map is empty.
    """
    images = attack_set.clean
    logits = classifier.logits(images)
    made = {name: explain(classifier.model, images, **options) for name, options in AGREEING.items()}
    rows = []
    for name, maps in made.items():
        explained = logits.sum(axis=1) if AGREEING[name].get("neuron") == "all" else logits.max(axis=1)
        correlation = _correlation(maps, made["Deep Taylor"])
        there = np.isfinite(correlation)
        rows.append(
            {"map": name, "correlation": mean(correlation[there], attack_set.source[there], seed=seed)}
            | {"sum": np.median(maps.sum(axis=(1, 2, 3), dtype=np.float64)), "output": np.median(explained)}
            | {"n": int(there.sum())}
        )
    return pd.DataFrame(rows)


@artifact(version=1)
def map_movement(network: keras.Model, attack_sets: Mapping[str, AttackSet], *, seed: int) -> pd.DataFrame:
    """Rank correlation of clean images' maps, for their class, with other maps.

    Compared are the map of the attacked image for its new class ("attacked") and for the class before ("attacked,
    first class"), the clean image's map for that new class ("clean, wrong class"), and the noisy twin's ("noisy");
    `DIFFERENCE` is the noisy twin's correlation minus the attacked image's, paired. Deep Taylor's map of a negative
    logit is empty: it ranks nothing, so pairs with an empty map are left out, and counted.

    Returns:
        A row an attack, method and comparison, over successful attacks: attack, method, compared, family, estimate,
        low, high, n (pairs without an empty map), empty (the share of pairs with one). Where all are empty there is
        no row.
    """
    rows = []
    for attack, attack_set in attack_sets.items():
        won = attack_set.select(attack_set.success)
        for name, method in MOVING.items() if len(won) else ():
            correlations = _correlations(network, won, method=method)
            correlations[DIFFERENCE] = correlations["noisy"] - correlations["attacked"]
            for compared, values in correlations.items():
                there = np.isfinite(values)
                if there.any():
                    rows.append(
                        {"attack": attack, "method": name, "compared": compared, "family": FAMILIES[compared]}
                        | dataclasses.asdict(mean(values[there], won.source[there], seed=seed))
                        | {"n": int(there.sum()), "empty": float(1 - there.mean())}
                    )
    return pd.DataFrame(rows)


def _correlations(network: keras.Model, won: AttackSet, *, method: str) -> dict[str, Array]:
    """(n,) rank correlations of each comparison's maps with the clean images', NaN where a map is empty."""
    before = explain(network, won.clean, method=method)
    correlations = {}
    for compared, (images, neuron) in _comparisons(won).items():
        correlations[compared] = _correlation(before, explain(network, images, method=method, neuron=neuron))
    return correlations


def _correlation(maps: Array, others: Array) -> Array:
    """(n,) rank correlations, NaN where a map is empty."""
    there = maps.any(axis=(1, 2, 3)) & others.any(axis=(1, 2, 3))
    return np.where(there, rank_correlation(maps, others), np.nan)


def _comparisons(won: AttackSet) -> dict[str, tuple[Array, str | Array]]:
    """Name → images, explained class. The middle two keep apart what the image and what the class changes."""
    return {
        "attacked": (won.adversarial, "predicted"),
        "attacked, first class": (won.adversarial, won.label),
        "clean, wrong class": (won.clean, won.predicted),
        "noisy": (won.noisy, "predicted"),
    }
