"""Attacked and normal images with their roles, under a condition, and which part each source is in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.attacks.noise import gaussian_noise
from advlens.benchmark.protocol import Noise, Split
from advlens.benchmark.vocabulary import Negatives, Part, Role
from advlens.classifier import Classifier, logit_margins
from advlens.image_files import through
from advlens.metrics import Stratum, positives
from advlens.random import stream

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.25  # of what is no test: 60 / 20 / 20 of all


@dataclass(frozen=True, eq=False)
class Samples:
    """Images under a condition, a row each.

    Attributes:
        images: (n, h, w, channels) float32 in [0, 1], as the condition leaves them.
        about: n rows: role, source, label, predicted, success (an attacked image that is predicted as another class
            than its label, under this condition), margin (largest wrong logit − true logit).
    """

    images: Array
    about: pd.DataFrame


def sources_of(attack_sets: Mapping[str, AttackSet]) -> Array:
    """(n,) the numbers of the images that any of the attack sets holds, rising."""
    return np.unique(np.concatenate([made.source for made in attack_sets.values()]))


def build_samples(
    classifier: Classifier,
    images: dict[Role, Array],
    labels: Array,
    source: Array,
    *,
    condition: str,
    succeeded: Callable[[Array], Array] | None = None,
) -> Samples:
    """Puts the images of each role, (n, h, w, channels), through the condition and judges success again.

    Args:
        labels, source: (n,), of each role's images.
        succeeded: attacked images → (n,) bool; None where a success is a changed decision.
    """
    seen = {role: through(condition, each) for role, each in images.items()}
    frames = [_about(classifier, each, labels).assign(role=role.value, source=source) for role, each in seen.items()]
    about = pd.concat(frames, ignore_index=True)
    attacked = is_adversarial(about)
    about["success"] = attacked & (about["predicted"] != about["label"])
    if succeeded is not None and attacked.any():
        about.loc[attacked, "success"] = succeeded(seen[Role.ADVERSARIAL])
    return Samples(np.concatenate(list(seen.values())), about)


def _about(classifier: Classifier, images: Array, labels: Array) -> pd.DataFrame:
    logits = classifier.predict(images)
    predicted, margin = logits.argmax(axis=1), logit_margins(logits, labels)
    return pd.DataFrame({"label": labels, "predicted": predicted, "margin": margin})


def noisy_twins(attack_set: AttackSet, noise: Noise, *, seed: int) -> Array:
    """(n, h, w, channels) noisy twins of a kind; those of the perturbation's norm where the attack has no ε."""
    if noise is Noise.EPSILON and "eps" in attack_set.parameters:
        rng = stream(seed, "benchmark/epsilon noise")
        return gaussian_noise(attack_set.clean, attack_set.parameters["eps"], rng=rng)
    return attack_set.noisy


def part_of_sources(source: Array, *, seed: int, number: int) -> pd.Series:
    """Source → part: 60 / 20 / 20, the test part the same for every seed's number.

    Args:
        source: (n,) distinct integers; seed: of the benchmark; number: which of its training seeds.
    """
    ordered = stream(seed, "benchmark/test part").permutation(np.sort(source))
    n_test = max(1, round(TEST_SHARE * len(ordered)))
    rest = stream(seed, f"benchmark/parts {number}").permutation(np.sort(ordered[n_test:]))
    n_validation = max(1, round(VALIDATION_SHARE * len(rest)))
    parts = pd.Series(Part.TRAIN.value, index=np.sort(source), dtype=object)
    parts[ordered[:n_test]], parts[rest[:n_validation]] = Part.TEST.value, Part.VALIDATION.value
    return parts


def part_masks(about: pd.DataFrame, split: Split, parts: pd.Series, *, seed: int, number: int) -> dict[Part, Array]:
    """Part → (n,) bool, which rows are in it.

    Args:
        parts: source → part; a source that it lacks is in none.
    """
    if split is Split.NONE:
        return {part: np.ones(len(about), bool) for part in Part}
    row = parts if split is Split.GROUPED else part_of_sources(np.arange(len(about)), seed=seed, number=number)
    at = about["source"] if split is Split.GROUPED else np.arange(len(about))
    return {part: (row.reindex(at) == part.value).to_numpy() for part in Part}


def chosen_rows(about: pd.DataFrame, within: Array, *, stratum: Stratum | str, negatives: Negatives) -> Array:
    """(n,) bool: the positives of a stratum and their negatives, among the rows `within`.

    Matched, clean and noisy negatives are of the positives' sources, those of positives that are not `within` included:
    where rows and not sources are divided, an image and its attacked version may stand in different parts.
    """
    role, source = about["role"].to_numpy(), about["source"].to_numpy()
    won = is_adversarial(about) & positives(about["success"].to_numpy(bool), stratum=stratum)
    one = {Negatives.CLEAN: [Role.CLEAN.value], Negatives.NOISY: [Role.NOISY.value]}
    normal = np.isin(role, one.get(negatives, [Role.CLEAN.value, Role.NOISY.value])) & within
    if negatives is not Negatives.ALL_SOURCES:
        normal &= np.isin(source, source[won])
    return (won & within) | normal


def is_adversarial(about: pd.DataFrame) -> Array:
    """(n,) bool, whether a row is an attacked image."""
    return (about["role"] == Role.ADVERSARIAL.value).to_numpy()
