"""What happens to images on the way from no attack to a strong one: success, uncertainty and closeness by ε."""

import dataclasses
import itertools
import numbers
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import CatalogueEntry, build, generate
from advlens.classifier import Classifier
from advlens.closeness import ClassDensity, ClassDivergence
from advlens.detectors.decision_metrics import DecisionMetrics
from advlens.metrics import proportion
from advlens.progress import progress
from advlens.store import artifact

STEP_ATTACKS = ("fgsm", "bim", "pgd")


def checked_strengths(strengths: Sequence[float]) -> list[float]:
    """The strengths as they came.

    Raises:
        ValueError: for anything but a list of two or more ascending numbers in [0, 1].
    """
    numeric = isinstance(strengths, Sequence) and all(isinstance(eps, numbers.Real) for eps in strengths)
    ascending = numeric and all(before < after for before, after in itertools.pairwise(strengths))
    if not ascending or len(strengths) < 2 or strengths[0] < 0 or strengths[-1] > 1:
        raise ValueError(f"strengths must be two or more ascending ε in [0, 1], got {strengths}: as [0.0, 0.1, 0.3]")
    return list(strengths)


@artifact(version=1)
def success_by_strength(
    network: keras.Model,
    images: Array,
    labels: Array,
    *,
    source: Array,
    attacks: Mapping[str, CatalogueEntry],
    strengths: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """The share of correctly classified images whose decision each attack changes at each strength.

    Returns:
        A row an attack and strength: attack, eps, estimate, low, high, n.
    """
    classifier = Classifier(network)
    rows = []
    for name, attack in attacks.items():
        for eps in progress(strengths, description=f"{name} by strength", unit="strength"):
            fooled = (
                classifier.predict(attacked(attack, classifier, images, labels, eps=eps, seed=seed)).argmax(1) != labels
            )
            share = proportion(fooled, source)
            rows.append({"attack": name, "eps": eps, **dataclasses.asdict(share), "n": len(images)})
    return pd.DataFrame(rows)


@artifact(version=1)
def walk(
    network: keras.Model,
    images: Array,
    classes: Array,
    *,
    features: Array,
    labels: Array,
    bandwidth: float,
    passes: int,
    attack: CatalogueEntry,
    strengths: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Every metric of every image at every strength, for the classes that it leaves and reaches.

    The target is the class that the strongest attack reaches. KDE and KL divergence stand there for the decision, and
    with "of source" and "of target" for these two classes.

    Args:
        images, classes: (n, h, w, channels) and (n,), what is attacked, with the true classes.
        features, labels: (m, d) and (m,), of the training images.
        bandwidth, passes: of the density and of the Monte-Carlo dropout.
        strengths: ε, ascending.
    Returns:
        A row an image and strength: image, eps, label, target, predicted, and the metrics.
    """
    classifier = Classifier(network)
    closeness = {"KDE": ClassDensity(bandwidth=bandwidth), "KL divergence": ClassDivergence()}
    metrics = DecisionMetrics(classifier, closeness=closeness, passes=passes, seed=seed)
    metrics.fit_features(features, labels)
    moved = {
        eps: attacked(attack, classifier, images, classes, eps=eps, seed=seed)
        for eps in progress(strengths, description=f"{attack.attack.__name__} walk", unit="strength")
    }
    target = classifier.predict(moved[max(strengths)]).argmax(axis=1)
    frames = []
    for eps, adversarial in moved.items():
        ends = {
            f"{metric} of {end}": values
            for end, reached in (("source", classes), ("target", target))
            for metric, values in metrics.closeness_to(adversarial, reached).items()
        }
        about = {"image": np.arange(len(images)), "eps": eps, "label": classes, "target": target}
        frames.append(metrics.measure(adversarial).assign(**about, **ends))
    return pd.concat(frames, ignore_index=True)


def attacked(
    attack: CatalogueEntry, classifier: Classifier, images: Array, labels: Array, *, eps: float, seed: int
) -> Array:
    """The images after an attack of that strength; themselves where it is 0."""
    if eps == 0:
        return images
    return generate(build(attack, classifier, name=attack.attack.__name__, eps=eps), images, labels, seed=seed)
