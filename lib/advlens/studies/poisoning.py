"""The poisoning part of the Deep kNN report: poisoned points shown, trained on, searched for and removed.

Every experiment is repeated over seeds, each of which draws network, poison and held-out images anew. How images are
poisoned, and how training images are ranked by suspicion, is `advlens.poisoning`'s business.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from advlens.arrays import Array, checked_whole
from advlens.classifier import Classifier
from advlens.metrics import average_over_seeds, proportion, roc_auc, share_difference_over_seeds, share_over_seeds
from advlens.neighbours import DeepKNN, Neighbourhoods
from advlens.networks import find_builder
from advlens.networks.parts import weighted_layers
from advlens.poisoning import CONTROL, KINDS, PoisonedSet, poison_shares, poisoned_set, trigger
from advlens.poisoning.rankings import NOTHING, RANKINGS, rank, top
from advlens.progress import progress
from advlens.random import stream, stream_seed
from advlens.store import artifact, storable
from advlens.training import train_task_network
from advlens.workbench import Workbench

NETWORK = "deep_knn_cnn"
LABELS = (1, 9)  # the report's two
MIXTURES = ((4, 15), (25, 50))  # poisoned points, and all that are judged, of its experiment 1
PUBLISHED_POINTS = 50  # poisoned, in experiments 2.1 and 2.2
PUBLISHED_RECOVERED, PUBLISHED_MISCLASSIFIED = 213, 364  # labels that Deep kNN recovers, of 10,000 test images
PUBLISHED_ERROR = PUBLISHED_MISCLASSIFIED / 10_000
CORRECT, MISCLASSIFIED, POISONED = "correct", "misclassified", "poisoned"
PUBLISHED_INFLUENCE = {CORRECT: (25, 29), MISCLASSIFIED: (25, 37)}  # %, in the first and the last layer: its Table 1
BUDGET = 2  # times the poison that is believed to be there: so the precision of a removal is at most a half
MIN_IMAGES = 10  # of a group in one seed, below which its variance is not computed


def two_labels(num_classes: int) -> list[int]:
    """Classes 1 and 9 where there are both, else the first and the last."""
    return list(LABELS) if max(LABELS) < num_classes else [0, num_classes - 1]


# ---------------------------------------------------------------- what is measured, one row per image


@artifact(version=1)
def show_points(
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
        sets: name → what is judged; train_images, train_labels: among which neighbours are searched.
        calibration_images, calibration_labels: held out, for the p-values; k: neighbours in each layer.
    Returns:
        A row a set and image: set, source, is_poisoned, truth, given (the attacker's label), predicted and softmax (of
        the network), label and credibility (of Deep kNN).
    """
    classifier = Classifier(network)
    knn = DeepKNN(classifier, k=k).fit(train_images, train_labels).calibrate(calibration_images, calibration_labels)
    frames = []
    for name, judged in sets.items():
        verdict, logits = knn.judge(judged.images), classifier.predict(judged.images)
        columns = {
            **{"set": name, "source": judged.source, "is_poisoned": judged.is_poisoned},
            **{"truth": judged.true_labels, "given": judged.labels, "predicted": logits.argmax(axis=1)},
            "softmax": softmax(logits.astype(np.float64), axis=1).max(axis=1),
            **{"label": verdict.predicted, "credibility": verdict.credibility},
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


@artifact(version=1)
def train_on_poison(
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
        test_images, test_labels: all misclassified ones are judged, and at most `correct_images` of the others.
        calibration_images, calibration_labels: held out, none of them a test image; k: neighbours in each layer.
    Returns:
        A row an image judged: role ("test", "poisoned"), index (in the test or the training images), truth, given (the
        training label; of a test image the truth), predicted, label (by Deep kNN), credibility, for each layer the
        shares "poisoned in <layer>" and "carrying in <layer>" (poisoned neighbours with the predicted label), tested
        and wrong (how many test images there were, and how many of them are misclassified).
    """
    made = _poison(images, labels, kind=kind, count=count, classes=classes, seed=seed)
    classifier = _train(made.images, made.labels, num_classes=num_classes, epochs=epochs, seed=seed)
    knn = DeepKNN(classifier, k=k).fit(made.images, made.labels).calibrate(calibration_images, calibration_labels)
    decided = classifier.predict(test_images).argmax(axis=1)
    wrong = np.flatnonzero(decided != test_labels)
    right = stream(seed, "poisoning/judged").permutation(np.flatnonzero(decided == test_labels))[:correct_images]
    judged, poisoned = np.sort(np.concatenate([wrong, right])), np.flatnonzero(made.is_poisoned)
    of_poison = classifier.predict(made.images[poisoned]).argmax(axis=1)
    tests = _judge(knn, knn.neighbours(test_images[judged]), decided[judged], is_poisoned=made.is_poisoned)
    hoods = knn.neighbours(made.images[poisoned], own=poisoned)
    poison = _judge(knn, hoods, of_poison, is_poisoned=made.is_poisoned)
    frames = [
        tests.assign(role="test", index=judged, truth=test_labels[judged], given=test_labels[judged]),
        poison.assign(role="poisoned", index=poisoned, truth=made.true_labels[poisoned], given=made.labels[poisoned]),
    ]
    return pd.concat(frames, ignore_index=True).assign(tested=len(test_images), wrong=len(wrong))


def _judge(knn: DeepKNN, hoods: Neighbourhoods, predicted: Array, *, is_poisoned: Array) -> pd.DataFrame:
    """predicted, Deep kNN's label and credibility, and each layer's shares of poisoned neighbours."""
    verdict, among = knn.judge_neighbours(hoods), is_poisoned[hoods.indices]
    carrying = among & (hoods.labels == predicted[:, None, None])
    columns = {"predicted": predicted, "label": verdict.predicted, "credibility": verdict.credibility}
    for depth, layer in enumerate(hoods.layers):
        columns[f"poisoned in {layer}"] = among[:, depth].mean(axis=1)
        columns[f"carrying in {layer}"] = carrying[:, depth].mean(axis=1)
    return pd.DataFrame(columns)


@storable
@dataclasses.dataclass(frozen=True, eq=False)
class Defence:
    """A poisoned training set that was searched for poison, and networks trained on what was left.

    Attributes:
        points: a row a training image: is_poisoned, truth, given, and a score a ranking, higher = removed sooner.
        outcomes: a row for `NOTHING` and for each of `RANKINGS`: ranking, accuracy (on clean test images), tested,
            success (of the attack), attacked (on how many images), removed, poison (how many of these were poisoned).
    """

    points: pd.DataFrame
    outcomes: pd.DataFrame

    def to_parts(self) -> dict[str, Any]:
        """Parts for the artifact store."""
        return {"points": self.points, "outcomes": self.outcomes}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "Defence":
        """What `to_parts` took apart."""
        return cls(**parts)


@artifact(version=1)
def defend(
    images: Array,
    labels: Array,
    *,
    test_images: Array,
    test_labels: Array,
    calibration_images: Array,
    calibration_labels: Array,
    kind: str,
    count: int,
    num_classes: int,
    epochs: int,
    k: int,
    budget: int,
    seed: int,
) -> Defence:
    """Poisons a training set, ranks its images by suspicion, removes the first `budget` of them and trains again.

    A backdoor leads all other classes to class 0, as is usual; the other kinds give each class the label of the next.

    Args:
        images, labels, kind, count, calibration_images, calibration_labels, k: as in `train_on_poison`.
        test_images, test_labels: the attack succeeds where one of a poisoned class, with the trigger if there is one,
            gets the attacker's label.
        budget: how many images are removed, fixed before any is known to be poisoned.
    """
    target = 0 if kind == "backdoor" else None
    classes = [label for label in range(num_classes) if label != target]
    made = _poison(images, labels, kind=kind, count=count, classes=classes, target=target, seed=seed)
    train = {"num_classes": num_classes, "epochs": epochs, "seed": seed}  # one seed: networks differ by the removal
    first = _train(made.images, made.labels, **train)
    scores = rank(
        first, made.images, made.labels, calibration_images=calibration_images,
        calibration_labels=calibration_labels, k=k, rng=stream(seed, "poisoning/random ranking"),
    )  # fmt: skip
    attacked = np.isin(test_labels, classes)
    shown = trigger(test_images[attacked]) if kind == "backdoor" else test_images[attacked]
    aims = np.full(attacked.sum(), target) if target is not None else (test_labels[attacked] + 1) % num_classes

    def judge(ranking: str, classifier: Classifier, removed: Array) -> dict[str, Any]:
        return {
            **{"ranking": ranking, "tested": len(test_images), "attacked": len(aims), "removed": len(removed)},
            "accuracy": float((classifier.predict(test_images).argmax(axis=1) == test_labels).mean()),
            "success": float((classifier.predict(shown).argmax(axis=1) == aims).mean()),
            "poison": int(made.is_poisoned[removed].sum()),
        }

    outcomes = [judge(NOTHING, first, np.array([], int))]
    for ranking in progress(RANKINGS, description=f"removing, {kind}", unit="ranking"):
        removed = top(scores[ranking].to_numpy(), budget, seed=seed)
        kept = np.setdiff1d(np.arange(len(made)), removed)
        outcomes.append(judge(ranking, _train(made.images[kept], made.labels[kept], **train), removed))
    about = {"is_poisoned": made.is_poisoned, "truth": made.true_labels, "given": made.labels}
    return Defence(pd.concat([pd.DataFrame(about), scores], axis=1), pd.DataFrame(outcomes))


def _poison(images: Array, labels: Array, *, seed: int, **how: Any) -> PoisonedSet:
    about = {"source": np.arange(len(images)), "seed": stream_seed(seed, "poisoning/poison"), **how}
    return poisoned_set(images, labels, **about)


def _train(images: Array, labels: Array, *, num_classes: int, epochs: int, seed: int) -> Classifier:
    about = {"builder": find_builder(NETWORK), "seed": stream_seed(seed, "poisoning/network")}
    return Classifier(train_task_network(images, labels, num_classes=num_classes, epochs=epochs, **about).network)


# ---------------------------------------------------------------- the study on one run's data set


class Study:
    """Poisoned data and Deep kNN on one run's data set; every seed of every experiment is kept in the store.

    Args:
        bench: the notebook's workbench.
        epochs: of the network of experiment 1, which sees no poison; neighbours: k, in each layer.
        held_out: test images that calibrate Deep kNN; fewer where the two classes have less than twice as many.
        test_images: how many test images are used in all, 0 for all of them.
        poison_seeds: how often each experiment is repeated.
        shown_points: that experiment 1 judges, half of them poisoned; poisoned_points: of experiments 2.1 and 2.2.
        poison_epochs: of experiment 2.1, on all training images; correct_images: how many correctly classified test
            images it judges beside all misclassified ones.
        two_label_images, two_label_epochs: of experiment 2.2, the poisoned ones not counted.
        defended_images, defence_epochs: of the defence; poison_share: the share of these that is poisoned, which the
            defender knows.
    Raises:
        ValueError: for wrong numbers, or more images than there are.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        epochs: int,
        neighbours: int,
        held_out: int,
        test_images: int,
        poison_seeds: int,
        shown_points: int,
        poison_epochs: int,
        correct_images: int,
        two_label_images: int,
        two_label_epochs: int,
        defended_images: int,
        defence_epochs: int,
        poison_share: float,
        poisoned_points: int = PUBLISHED_POINTS,
    ) -> None:
        counts = {"neighbours": neighbours, "deep_knn_calibration": held_out, "poison_seeds": poison_seeds}
        counts |= {"poison_epochs": poison_epochs, "correct_images": correct_images}
        counts |= {"two_label_images": two_label_images, "two_label_epochs": two_label_epochs}
        counts |= {"defended_images": defended_images, "defence_epochs": defence_epochs}
        for name, value in (counts | {"poisoned_points": poisoned_points}).items():
            checked_whole(value, name=name)
        checked_whole(shown_points, name="shown_points", least=4)
        checked_whole(test_images, name="test_images", least=0)
        if not isinstance(poison_share, float) or not 0 < poison_share <= 1 / (2 * BUDGET):
            raise ValueError(f"poison_share must be above 0 and at most {1 / (2 * BUDGET)}, got {poison_share!r}")
        self.bench, self.k, self.poisoned_points = bench, neighbours, poisoned_points
        self.classes = two_labels(bench.data.num_classes)
        self.every_class = list(range(bench.data.num_classes))
        self.shown_points, self.poison_epochs, self.correct_images = shown_points, poison_epochs, correct_images
        self.two_label_images, self.two_label_epochs = two_label_images, two_label_epochs
        self.defence_epochs, self.poison_share = defence_epochs, poison_share
        self.train_count = len(bench.training[1])
        self.defended_images = min(defended_images, self.train_count)
        order = stream(bench.seed, "poisoning/test images").permutation(len(bench.data.test_labels))
        self.used = np.sort(order[: test_images or None])
        of_two = len(self._test_indices(self.classes))
        self.held_out = min(held_out, of_two // 2)
        self.seeds = [stream_seed(bench.seed, f"poisoning/seed {number}") for number in range(poison_seeds)]
        self._check_sizes(of_two)
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.layers = list(weighted_layers(self.classifier.model))

    def _check_sizes(self, of_two: int) -> None:
        """Whether every experiment has enough images, asked before any is computed."""
        train, test = self.bench.training[1], self.bench.data.test_labels
        if self.shown_points > of_two - self.held_out:
            raise ValueError(
                f"shown_points must be at most {of_two - self.held_out}, the test images of two classes that do not "
                f"calibrate Deep kNN, got {self.shown_points}"
            )
        most = int(np.isin(train, self.classes).sum()) - self.poisoned_points
        if self.two_label_images > most:
            raise ValueError(
                f"two_label_images must be at most {most}, the training images of two classes less "
                f"{self.poisoned_points} poisoned ones, got {self.two_label_images}"
            )
        fewest = min(self.two_label_images + self.poisoned_points, self.defended_images)
        if self.k >= fewest:
            raise ValueError(
                f"neighbours must be fewer than the {fewest} images of the smallest training set, got {self.k}"
            )
        asked = [("shown_points", test[self._shown_indices], self.shown_points // 2, self.classes)]
        asked += [("poisoned_points", train, self.poisoned_points, self.classes)]
        for seed in self.seeds:
            asked.append(("poisoned_points", train[self._of_two(seed)], self.poisoned_points, self.classes))
            asked.append(("poison_share", train[self._of_all(seed)], self.poison_count, self.every_class))
        for name, labels, count, classes in asked:
            try:
                poison_shares(labels, kind="svm", count=count, classes=classes)
            except ValueError as error:
                raise ValueError(f"{name} does not fit the images: {error}") from error

    # ------------------------------------------------------------ which images

    def _test_indices(self, classes: Sequence[int]) -> Array:
        """Indices of the test images of some classes, in their order."""
        return self.used[np.isin(self.bench.data.test_labels[self.used], classes)]

    def _conformal(self, seed: int, classes: Sequence[int]) -> Array:
        """Indices of the test images of some classes that calibrate Deep kNN."""
        return stream(seed, "poisoning/conformal").permutation(self._test_indices(classes))[: self.held_out]

    @cached_property
    def _calibration(self) -> Array:
        """Those of experiment 1."""
        return self._conformal(self.bench.seed, self.every_class)

    @property
    def _shown_indices(self) -> Array:
        """Indices of the test images that experiment 1 draws from."""
        return np.setdiff1d(self._test_indices(self.classes), self._calibration)

    def _of_two(self, seed: int) -> Array:
        """Indices of experiment 2.2's training images, the poisoned ones included."""
        of_two = np.flatnonzero(np.isin(self.bench.training[1], self.classes))
        return stream(seed, "poisoning/two labels").permutation(of_two)[: self.two_label_images + self.poisoned_points]

    def _of_all(self, seed: int) -> Array:
        """Indices of the defence's training images."""
        return stream(seed, "poisoning/defended").permutation(self.train_count)[: self.defended_images]

    def _for_calibration(self, indices: Array) -> dict[str, Array]:
        data = self.bench.data
        return {"calibration_images": data.test_images[indices], "calibration_labels": data.test_labels[indices]}

    def _for_test(self, seed: int, classes: Sequence[int]) -> tuple[Array, dict[str, Array]]:
        """The indices of the test images that are judged, and these with the ones that calibrate."""
        data, conformal = self.bench.data, self._conformal(seed, classes)
        judged = np.setdiff1d(self._test_indices(classes), conformal)
        images = {"test_images": data.test_images[judged], "test_labels": data.test_labels[judged]}
        return judged, images | self._for_calibration(conformal)

    # ------------------------------------------------------------ experiments

    @cached_property
    def shown_sets(self) -> dict[str, list[PoisonedSet]]:
        """Kind → one per seed: test images of two classes, half of them poisoned."""
        seeds = progress(self.seeds, description="poisoning test images", unit="seed")
        by_seed = [{kind: self._show(kind, seed) for kind in KINDS} for seed in seeds]
        return {kind: [sets[kind] for sets in by_seed] for kind in KINDS}

    def _show(self, kind: str, seed: int) -> PoisonedSet:
        data, source = self.bench.data, self._shown_indices
        made = self.bench.store.keep(
            f"poisoned_points.{kind}", poisoned_set, images=data.test_images[source],
            labels=data.test_labels[source], source=source, kind=kind, count=self.shown_points // 2,
            classes=self.classes, seed=stream_seed(seed, "poisoning/shown poison"),
        )  # fmt: skip
        clean = stream(seed, "poisoning/clean points").permutation(np.flatnonzero(~made.is_poisoned))
        shown = [*np.flatnonzero(made.is_poisoned), *clean[: self.shown_points - self.shown_points // 2]]
        return made.select(np.sort(shown))

    @cached_property
    def shown(self) -> pd.DataFrame:
        """`show_points` of all kinds and seeds, with columns kind and seed (its number)."""
        sets = {f"{kind} {i}": made for kind, by_seed in self.shown_sets.items() for i, made in enumerate(by_seed)}
        images, labels = self.bench.training
        about = {"network": self.classifier.model, "sets": sets, "train_images": images, "train_labels": labels}
        about |= {"k": self.k, **self._for_calibration(self._calibration)}
        frame = self.bench.store.keep("poisoning.shown", show_points, **about)
        parts = frame["set"].str.rsplit(" ", n=1)
        return frame.drop(columns="set").assign(kind=parts.str[0], seed=parts.str[1].astype(int))

    def mixture(self, poisoned: int, points: int) -> pd.DataFrame:
        """Some poisoned points among others of the first seed, as in the report's experiment 1, by credibility."""
        drawn, rng = self.shown.query("kind == 'svm' and seed == 0"), stream(self.bench.seed, "poisoning/mixture")
        groups = (drawn[drawn["is_poisoned"]], drawn[~drawn["is_poisoned"]])
        sizes = (poisoned, points - poisoned)
        rows = [group.iloc[rng.permutation(len(group))[:size]] for group, size in zip(groups, sizes, strict=True)]
        return pd.concat(rows).sort_values("credibility", kind="stable", ignore_index=True)

    @cached_property
    def all_labels(self) -> pd.DataFrame:
        """Experiment 2.1: all training images, of which some of two classes are poisoned by the SVM attack."""
        every = np.arange(self.train_count)
        return self._trained("svm", self.every_class, lambda seed: every, self.poison_epochs, self.correct_images)

    @cached_property
    def two_labels(self) -> pd.DataFrame:
        """Experiment 2.2: a few images of two classes, and some more that are poisoned, with a column kind.

        Under `CONTROL`, networks that start alike learn from the same images, none of which is poisoned.
        """
        args = (self.classes, self._of_two, self.two_label_epochs, len(self.used))
        return pd.concat([self._trained(kind, *args) for kind in (*KINDS, CONTROL)], ignore_index=True)

    def _trained(
        self, kind: str, classes: list[int], training: Callable[[int], Array], epochs: int, correct_images: int
    ) -> pd.DataFrame:
        """`train_on_poison` over seeds, with kind, seed (its number) and source (index in the test set, else −1)."""
        data, frames = self.bench.data, []
        for number, seed in enumerate(progress(self.seeds, description=f"training on {kind}", unit="seed")):
            indices, (judged, images) = training(seed), self._for_test(seed, classes)
            rows = self.bench.store.keep(
                f"poisoning.trained.{kind}", train_on_poison, images=data.train_images[indices],
                labels=data.train_labels[indices], kind=kind, count=self.poisoned_points, classes=self.classes,
                num_classes=data.num_classes, epochs=epochs, k=self.k, correct_images=correct_images, seed=seed,
                **images,
            )  # fmt: skip
            is_test = (rows["role"] == "test").to_numpy()
            source = np.where(is_test, judged[np.where(is_test, rows["index"], 0)], -1)
            frames.append(rows.assign(kind=kind, seed=number, source=source))
        return pd.concat(frames, ignore_index=True)

    @property
    def base_rate(self) -> float:
        """The share of poisoned images in experiment 2.2's training sets, in %."""
        return 100 * self.poisoned_points / (self.two_label_images + self.poisoned_points)

    @property
    def poison_count(self) -> int:
        """How many of the defended images are poisoned."""
        return round(self.poison_share * self.defended_images)

    @cached_property
    def defences(self) -> dict[str, list[Defence]]:
        """Kind → one per seed: a training set with poison, searched, cleaned and trained on again."""
        data, runs = self.bench.data, {kind: [] for kind in KINDS}
        for seed in progress(self.seeds, description="defence", unit="seed"):
            indices, (_, images) = self._of_all(seed), self._for_test(seed, self.every_class)
            about = {"images": data.train_images[indices], "labels": data.train_labels[indices], **images, "seed": seed}
            about |= {"count": self.poison_count, "budget": BUDGET * self.poison_count, "k": self.k}
            about |= {"num_classes": data.num_classes, "epochs": self.defence_epochs}
            for kind, made in runs.items():
                made.append(self.bench.store.keep(f"poisoning.defence.{kind}", defend, kind=kind, **about))
        return runs


# ---------------------------------------------------------------- tables: one row per group, estimate, low, high, n


def is_correct(rows: pd.DataFrame, decided: str = "predicted") -> Array:
    """(n,) bool: whether the network (or Deep kNN, by its column "label") gives the true class."""
    return (rows[decided] == rows["truth"]).to_numpy()


def credibility_groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Group → rows of `train_on_poison`: correct and misclassified test images, poisoned training images."""
    test, correct = rows[rows["role"] == "test"], is_correct(rows[rows["role"] == "test"])
    return {CORRECT: test[correct], MISCLASSIFIED: test[~correct], POISONED: rows[rows["role"] == POISONED]}


def variance_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Variance of the poisoned points' credibility minus that of each other group, paired by seed.

    Returns:
        kind, group ("correct" is the report's own comparison), estimate, low, high, n (images of the other group).
    """
    made = []
    for kind, of_kind in rows.groupby("kind", sort=False):
        groups = credibility_groups(of_kind)
        by_seed = {
            group: own.groupby("seed")["credibility"].agg(
                lambda column: column.var() if len(column) >= MIN_IMAGES else np.nan
            )
            for group, own in groups.items()
        }
        for group in (CORRECT, MISCLASSIFIED):
            gap = (by_seed[POISONED] - by_seed[group]).dropna()
            made.append(average_over_seeds(gap).row(kind=kind, group=group, n=len(groups[group])))
    return pd.DataFrame(made)


def recovered(rows: pd.DataFrame) -> pd.DataFrame:
    """Labels that Deep kNN corrects among the misclassified, and that it loses among the others, of experiment 2.1.

    Returns:
        metric ("error" of the network, "recovered", "lost", "net": labels gained, a seed), estimate, low, high, n.
    """
    test = rows[rows["role"] == "test"]
    correct, by_knn = is_correct(test), is_correct(test, "label")
    sizes = test.groupby("seed")[["wrong", "tested"]].first()
    gained = pd.Series(by_knn[~correct]).groupby(test["seed"].to_numpy()[~correct]).mean()
    lost = pd.Series(~by_knn[correct]).groupby(test["seed"].to_numpy()[correct]).mean()
    wrong, right = (test.loc[rows, "source"].nunique() for rows in (~correct, correct))
    net = gained.reindex(sizes.index).fillna(0) * sizes["wrong"] - lost * (sizes["tested"] - sizes["wrong"])
    error = share_over_seeds(sizes["wrong"] / sizes["tested"], trials=sizes["tested"].mean())
    return pd.DataFrame(
        [
            error.row(metric="error", n=int(sizes["tested"].sum())),
            share_over_seeds(gained, trials=max(wrong, 1)).row(metric="recovered", n=int((~correct).sum())),
            share_over_seeds(lost, trials=max(right, 1)).row(metric="lost", n=int(correct.sum())),
            average_over_seeds(net).row(metric="net", n=int(sizes["tested"].sum())),
        ]
    )


def influence(rows: pd.DataFrame, layers: Sequence[str], *, of: str = "poisoned") -> pd.DataFrame:
    """Table 1: the share of poisoned points among the neighbours, in %, over seeds.

    Args:
        rows: of experiment 2.2; of: "poisoned", or "carrying" for those that also bear the predicted label.
    Returns:
        kind, group (correct, misclassified), layer, n (test images), images (distinct ones), estimate, low, high.
    """
    made = []
    for kind, of_kind in rows.groupby("kind", sort=False):
        groups = credibility_groups(of_kind)
        for group, layer in itertools.product((CORRECT, MISCLASSIFIED), layers):
            own = groups[group]
            about = {"kind": kind, "group": group, "layer": layer, "n": len(own), "images": own["source"].nunique()}
            # A share of 75 neighbours, averaged over images: no share of images, which would be far less precise.
            found = average_over_seeds(own.groupby("seed")[f"{of} in {layer}"].mean(), bounds=(0, 1)).row()
            made.append(about | {name: 100 * value for name, value in found.items()})
    return pd.DataFrame(made)


def published_influence(first: str, last: str) -> pd.DataFrame:
    """The report's Table 1, which has no intervals: kind, group, layer, estimate, low, high."""
    return pd.DataFrame(
        [
            {"kind": "svm", "group": group, "layer": layer, **dict.fromkeys(("estimate", "low", "high"), share)}
            for group, shares in PUBLISHED_INFLUENCE.items()
            for layer, share in zip((first, last), shares, strict=True)
        ]
    )


def influence_growth(rows: pd.DataFrame, layers: Sequence[str]) -> pd.DataFrame:
    """Last layer minus first, in percentage points, paired by seed; and the same minus the control's.

    Returns:
        kind, group, growth ("growth", "above control"), estimate, low, high, n, images (distinct ones).
    """
    first, last = f"poisoned in {layers[0]}", f"poisoned in {layers[-1]}"
    growth, about = {}, {}
    for kind, of_kind in rows.groupby("kind", sort=False):
        for group, own in credibility_groups(of_kind).items():
            shares = own.groupby("seed")[[first, last]].mean()
            growth[kind, group] = 100 * (shares[last] - shares[first])
            about[kind, group] = {"kind": kind, "group": group, "n": len(own), "images": own["source"].nunique()}
    made = []
    for (kind, group), own in growth.items():
        if group == POISONED:
            continue
        made.append(average_over_seeds(own).row(growth="growth", **about[kind, group]))
        if kind != CONTROL:
            above = (own - growth[CONTROL, group]).dropna()
            made.append(average_over_seeds(above).row(growth="above control", **about[kind, group]))
    return pd.DataFrame(made)


def obedience(rows: pd.DataFrame) -> pd.DataFrame:
    """How often poisoned training points get the attacker's label, and which test images are misclassified anyway.

    Returns:
        kind, metric ("obeyed", "wrong anyway": of the misclassified test images, those that the unpoisoned network of
        the same seed misclassifies too), estimate, low, high, n.
    """
    control = credibility_groups(rows[rows["kind"] == CONTROL])[MISCLASSIFIED]
    anyway = set(zip(control["seed"], control["source"], strict=True))
    made = []
    for kind, of_kind in rows[rows["kind"] != CONTROL].groupby("kind", sort=False):
        groups = credibility_groups(of_kind)
        poison, wrong = groups[POISONED], groups[MISCLASSIFIED]
        obeyed = (poison["predicted"] == poison["given"]).groupby(poison["seed"]).mean()
        points = len(poison) / len(obeyed)  # of each seed, drawn anew
        made.append(share_over_seeds(obeyed, trials=points).row(kind=kind, metric="obeyed", n=len(poison)))
        if len(wrong):
            both = np.array([pair in anyway for pair in zip(wrong["seed"], wrong["source"], strict=True)])
            share = proportion(both, wrong["source"].to_numpy())
            made.append(share.row(kind=kind, metric="wrong anyway", n=len(wrong)))
    return pd.DataFrame(made)


def ranking_aucs(defences: Mapping[str, Sequence[Defence]]) -> pd.DataFrame:
    """How well each ranking finds the poison: kind, ranking, estimate (ROC-AUC over seeds), low, high, n (poisoned)."""
    made = []
    for (kind, runs), ranking in itertools.product(defences.items(), RANKINGS):
        truths = [run.points["is_poisoned"].to_numpy(bool) for run in runs]
        aucs = [roc_auc(run.points[ranking].to_numpy(), truth) for run, truth in zip(runs, truths, strict=True)]
        n = sum(int(truth.sum()) for truth in truths)
        made.append(average_over_seeds(aucs, bounds=(0, 1)).row(kind=kind, ranking=ranking, n=n))
    return pd.DataFrame(made)


def outcomes(defences: Mapping[str, Sequence[Defence]]) -> pd.DataFrame:
    """What training again without the suspects does.

    Returns:
        kind, ranking (`NOTHING` first), metric ("accuracy", "success", "recall" of the poison, and "accuracy gained",
        "success gained": paired by seed with nothing removed), estimate, low, high, n (images).
    """
    made = []
    for kind, runs in defences.items():
        tables = [
            run.outcomes.assign(seed=number, poisoned=int(run.points["is_poisoned"].sum()))
            for number, run in enumerate(runs)
        ]
        table = pd.concat(tables)
        table["recall"] = table["poison"] / table["poisoned"]
        before = table[table["ranking"] == NOTHING].set_index("seed")
        for ranking, own in table.groupby("ranking", sort=False):
            own = own.set_index("seed")
            about = {"kind": kind, "ranking": ranking}
            for metric, count in (("accuracy", "tested"), ("success", "attacked"), ("recall", "poisoned")):
                n, trials = int(own[count].sum()), float(own[count].mean())
                made.append(share_over_seeds(own[metric], trials=trials).row(metric=metric, n=n, **about))
                if ranking != NOTHING and metric != "recall":
                    gained = share_difference_over_seeds(own[metric], before[metric], trials=trials)
                    made.append(gained.row(metric=f"{metric} gained", n=n, **about))
    return pd.DataFrame(made)


def credibility_of_decisions(rows: pd.DataFrame) -> pd.DataFrame:
    """The report's plot of 2.1 that it does not show: accuracy of Deep kNN's label by credibility, per group.

    Returns:
        group (correct, misclassified), bin (its middle), estimate (share of labels that are right), low, high, n.
    """
    edges, groups, made = np.linspace(0, 1, 6), credibility_groups(rows), []
    for group, own in ((name, groups[name]) for name in (CORRECT, MISCLASSIFIED)):
        number = np.digitize(own["credibility"], edges[1:-1], right=True)
        for each in np.unique(number):
            inside = own[number == each]
            share = proportion(is_correct(inside, "label"), inside["source"].to_numpy())
            made.append(share.row(group=group, bin=float(edges[each : each + 2].mean()), n=len(inside)))
    return pd.DataFrame(made)
