"""What poison does: networks trained on it or shown it, and what Deep kNN then says, a row an image."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from advlens.arrays import Array
from advlens.classifier import Classifier
from advlens.neighbours import DeepKNN, Neighbourhoods
from advlens.networks import find_builder
from advlens.poisoning import PoisonedSet, poisoned_set, trigger
from advlens.studies.poisoning.rankings import NOTHING, rankings, retrained, top
from advlens.studies.poisoning.settings import NETWORK
from advlens.training import train_task_network


def share_column(layer: str) -> str:
    """The column of the share of poisoned neighbours in a layer."""
    return f"poisoned in {layer}"


def carrying_column(layer: str) -> str:
    """The column of the share of neighbours in a layer that are poisoned and carry the network's label."""
    return f"carrying in {layer}"


def shown(
    network: keras.Model,
    sets: Mapping[str, PoisonedSet],
    *,
    train_images: Array,
    train_labels: Array,
    calibration_images: Array,
    calibration_labels: Array,
    k: int,
) -> pd.DataFrame:
    """Experiment 1: poisoned sets shown to a network that was trained on clean images.

    Args:
        sets: name → what is judged.
        train_images, train_labels: among whom neighbours are looked for.
        calibration_images, calibration_labels: held out, for the p-values.
        k: neighbours in each layer.
    Returns:
        A row a set and image: set, source, is_poisoned, truth, given (the attacker's label), predicted (by the
        network), softmax (of that), label (by Deep kNN), credibility.
    """
    classifier = Classifier(network)
    knn = DeepKNN(classifier, k=k).fit(train_images, train_labels)
    knn.calibrate(calibration_images, calibration_labels)
    frames = []
    for name, judged in sets.items():
        said, logits = knn.judge(judged.images), classifier.predict(judged.images)
        columns = {
            "set": name,
            "source": judged.source,
            "is_poisoned": judged.is_poisoned,
            "truth": judged.true_labels,
            "given": judged.labels,
            "predicted": logits.argmax(axis=1),
            "softmax": softmax(logits.astype(np.float64), axis=1).max(axis=1),
            "label": said.predicted,
            "credibility": said.credibility,
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def trained_on(
    images: Array,
    labels: Array,
    *,
    test_images: Array,
    test_labels: Array,
    calibration_images: Array,
    calibration_labels: Array,
    kind: str,
    count: int,
    classes: Sequence[int],
    num_classes: int,
    epochs: int,
    k: int,
    correct_images: int,
    seed: int,
) -> pd.DataFrame:
    """Experiment 2: a network trained on a poisoned set, and what Deep kNN says of test images and of the poison.

    Args:
        images, labels: the training set before it is poisoned; kind, count, classes: of `poisoned_set`.
        test_images, test_labels: whom the network is asked about; all those that it misclassifies are judged, and
            correct_images of the others, at most, drawn at random.
        calibration_images, calibration_labels: held out, for the p-values; they are none of the test images.
        k: neighbours in each layer.
    Returns:
        A row an image judged: role ("test", "poisoned"), place (among the test or the training images), truth, given
        (the training set's label; of a test image the truth), predicted, label, credibility, with itself (credibility
        of a poisoned training image that stays among its own neighbours, as published; of a test image the same as
        its credibility), a `share_column` and a `carrying_column` a layer, tested and wrong (how many test images
        there were, and how many of them are misclassified).
    """
    rng = np.random.default_rng(seed)
    made = _poisoned(images, labels, kind=kind, count=count, classes=classes, rng=rng)
    start = int(rng.integers(2**32))
    classifier = _trained(made.images, made.labels, num_classes=num_classes, epochs=epochs, seed=start)
    knn = DeepKNN(classifier, k=k).fit(made.images, made.labels).calibrate(calibration_images, calibration_labels)

    decided = classifier.predict(test_images).argmax(axis=1)
    wrong = np.flatnonzero(decided != test_labels)
    right = rng.permutation(np.flatnonzero(decided == test_labels))[:correct_images]
    judged = np.sort(np.concatenate([wrong, right]))
    poisoned = np.flatnonzero(made.is_poisoned)
    of_test = knn.neighbours(test_images[judged])
    of_poison = knn.neighbours(made.images[poisoned], own=poisoned)
    there = knn.judge(made.images[poisoned]).credibility
    said = [knn.judge_neighbours(hoods) for hoods in (of_test, of_poison)]
    tested = _rows(of_test, decided[judged], is_poisoned=made.is_poisoned).assign(
        role="test",
        place=judged,
        truth=test_labels[judged],
        given=test_labels[judged],
        label=said[0].predicted,
        credibility=said[0].credibility,
    )
    own = _rows(
        of_poison, classifier.predict(made.images[poisoned]).argmax(axis=1), is_poisoned=made.is_poisoned
    ).assign(
        role="poisoned",
        place=poisoned,
        truth=made.true_labels[poisoned],
        given=made.labels[poisoned],
        label=said[1].predicted,
        credibility=said[1].credibility,
    )
    frames = [tested.assign(**{"with itself": said[0].credibility}), own.assign(**{"with itself": there})]
    return pd.concat(frames, ignore_index=True).assign(tested=len(test_images), wrong=len(wrong))


def _rows(hoods: Neighbourhoods, predicted: Array, *, is_poisoned: Array) -> pd.DataFrame:
    """predicted, and each layer's shares of poisoned neighbours."""
    among = is_poisoned[hoods.indices]
    carrying = among & (hoods.labels == predicted[:, None, None])
    columns = {"predicted": predicted}
    for place, layer in enumerate(hoods.layers):
        columns[share_column(layer)] = among[:, place].mean(axis=1)
        columns[carrying_column(layer)] = carrying[:, place].mean(axis=1)
    return pd.DataFrame(columns)


@dataclasses.dataclass(frozen=True, eq=False)
class Defended:
    """A poisoned training set that was searched for poison, and networks trained on what was left.

    Attributes:
        points: a row a training image: is_poisoned, truth, given, and a score a ranking, higher = sooner removed.
        outcomes: a row for `NOTHING` and each of `retrained(kind)`: ranking, accuracy (of clean test images), tested,
            success (of the attack), aimed (of how many images), removed, and poison (how many of them were poisoned).
    """

    points: pd.DataFrame
    outcomes: pd.DataFrame

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store."""
        return {"points": self.points, "outcomes": self.outcomes}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "Defended":
        """What `to_parts` took apart."""
        return cls(**parts)


def defended(
    images: Array,
    labels: Array,
    *,
    test_images: Array,
    test_labels: Array,
    calibration_images: Array,
    calibration_labels: Array,
    kind: str,
    count: int,
    classes: Sequence[int],
    num_classes: int,
    epochs: int,
    k: int,
    budget: int,
    seed: int,
) -> Defended:
    """Poisons a training set, ranks its images by suspicion, drops as many as `budget` says and trains anew.

    Args:
        images, labels, kind, count, classes, calibration_images, calibration_labels, k: as in `trained_on`.
        test_images, test_labels: on whom networks are judged. An attack succeeds on one of the poisoned classes where
            it is taken for the next of these: with the trigger on it where there is one.
        budget: how many images are dropped, fixed before any is known to be poisoned.
    """
    rng = np.random.default_rng(seed)
    made = _poisoned(images, labels, kind=kind, count=count, classes=classes, rng=rng)
    start = int(rng.integers(2**32))  # one seed for all networks, so that they differ by what was dropped alone
    first = _trained(made.images, made.labels, num_classes=num_classes, epochs=epochs, seed=start)
    scores = rankings(
        first, made.images, made.labels, calibration_images=calibration_images, calibration_labels=calibration_labels,
        k=k, rng=rng,
    )  # fmt: skip
    following = dict(zip(classes, [*classes[1:], classes[0]], strict=True))
    attacked = np.flatnonzero(np.isin(test_labels, classes))
    triggered = trigger(test_images[attacked]) if kind == "backdoor" else None
    aims = np.array([following[label] for label in test_labels[attacked]])

    def outcome(ranking: str, classifier: Classifier, dropped: Array) -> dict[str, Any]:
        decided = classifier.predict(test_images).argmax(axis=1)
        under_attack = decided[attacked] if triggered is None else classifier.predict(triggered).argmax(axis=1)
        return {
            "ranking": ranking,
            "accuracy": float((decided == test_labels).mean()),
            "tested": len(test_images),
            "success": float((under_attack == aims).mean()),
            "aimed": len(aims),
            "removed": len(dropped),
            "poison": int(made.is_poisoned[dropped].sum()),
        }

    outcomes = [outcome(NOTHING, first, np.array([], int))]
    for ranking in retrained(kind):
        dropped = top(scores[ranking].to_numpy(), budget, seed=seed)
        kept = np.setdiff1d(np.arange(len(made)), dropped)
        network = _trained(made.images[kept], made.labels[kept], num_classes=num_classes, epochs=epochs, seed=start)
        outcomes.append(outcome(ranking, network, dropped))
    about = {"is_poisoned": made.is_poisoned, "truth": made.true_labels, "given": made.labels}
    points = pd.concat([pd.DataFrame(about), scores], axis=1)
    return Defended(points, pd.DataFrame(outcomes))


def _poisoned(
    images: Array, labels: Array, *, kind: str, count: int, classes: Sequence[int], rng: np.random.Generator
) -> PoisonedSet:
    return poisoned_set(
        images,
        labels,
        source=np.arange(len(images)),
        kind=kind,
        count=count,
        classes=classes,
        seed=int(rng.integers(2**32)),
    )


def _trained(images: Array, labels: Array, *, num_classes: int, epochs: int, seed: int) -> Classifier:
    trained = train_task_network(
        images, labels, builder=find_builder(NETWORK), num_classes=num_classes, epochs=epochs, seed=seed
    )
    return Classifier(trained.network)
