"""How explanation maps agree with each other, and how they move under attacks and under noise."""

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.evaluation import mean_estimate
from advlens.explanations import explain
from advlens.explanations.similarity import rank_correlation

AGREEING = {
    "Deep Taylor": {"method": "deep_taylor"},
    "z-rule, all logits": {"method": "lrp.z", "neuron": "all"},
    "z-rule": {"method": "lrp.z"},
    "guided backprop": {"method": "guided_backprop"},
}
MOVING = {"Deep Taylor": "deep_taylor", "z-rule": "lrp.z", "guided backprop": "guided_backprop"}


def map_agreement(classifier: Classifier, attack_set: AttackSet, *, seed: int) -> pd.DataFrame:
    """How the study's map and others rank the pixels of clean images, against true Deep Taylor.

    Returns:
        A row a map: map, correlation (an `Estimate`), the medians of the map's sum and of the output that it
        explains, and n.
    """
    images = attack_set.clean
    logits = classifier.logits(images)
    made = {name: explain(classifier.model, images, **options) for name, options in AGREEING.items()}
    rows = []
    for name, maps in made.items():
        explained = logits.sum(axis=1) if AGREEING[name].get("neuron") == "all" else logits.max(axis=1)
        correlation = rank_correlation(maps, made["Deep Taylor"])
        rows.append(
            {"map": name, "correlation": mean_estimate(correlation, attack_set.source, seed=seed)}
            | {"sum": np.median(maps.sum(axis=(1, 2, 3), dtype=np.float64)), "output": np.median(explained)}
            | {"n": len(images)}
        )
    return pd.DataFrame(rows)


def map_movement(network: keras.Model, attack_sets: Mapping[str, AttackSet], *, seed: int) -> pd.DataFrame:
    """Rank correlation of clean images' maps, for their class, with other maps.

    Compared are the map of the attacked image for its new class ("attacked") and for the class before ("attacked,
    first class"), the clean image's map for that new class ("clean, wrong class"), and the noisy twin's ("noisy").

    Returns:
        A row an attack, method and comparison, over successful attacks: attack, method, compared, family, estimate,
        low, high, n.
    """
    rows = []
    for attack, attack_set in attack_sets.items():
        won = attack_set.select(attack_set.success)
        for name, method in MOVING.items() if len(won) else ():
            before = explain(network, won.clean, method=method)
            for compared, (images, neuron, family) in _comparisons(won).items():
                values = rank_correlation(before, explain(network, images, method=method, neuron=neuron))
                rows.append(
                    {"attack": attack, "method": name, "compared": compared, "family": family}
                    | dataclasses.asdict(mean_estimate(values, won.source, seed=seed))
                    | {"n": len(won)}
                )
    return pd.DataFrame(rows)


def _comparisons(won: AttackSet) -> dict[str, tuple[Array, str | Array, str]]:
    """Name → images, explained class, family. The middle two keep apart what the image and what the class changes."""
    return {
        "attacked": (won.adversarial, "predicted", "relevancy"),
        "attacked, first class": (won.adversarial, won.label, "relevancy"),
        "clean, wrong class": (won.clean, won.predicted, "baseline"),
        "noisy": (won.noisy, "predicted", "baseline"),
    }
