"""The study of poisoned data on a workbench: every seed of every experiment computed once, kept in the store."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_whole
from advlens.poisoning import CONTROL, KINDS, PoisonedSet, poison_shares, poisoned_set
from advlens.progress import progress
from advlens.studies.poisoning.measures import Defended, defended, shown, trained_on
from advlens.studies.poisoning.results import (
    credibilities,
    credibility_groups,
    defended_groups,
    influence_differences,
    influences,
    misreadings,
    mixtures,
    outcomes,
    ranking_differences,
    ranking_figures,
    recovered,
    reliability,
    shown_figures,
    variance_differences,
)
from advlens.studies.poisoning.settings import NETWORK, PUBLISHED_POINTS, two_labels
from advlens.workbench import Workbench

BUDGET = 2  # times the poison that is believed to be there


class Study:
    """Poisoned data and Deep kNN on one run's data set.

    Args:
        bench: the notebook's workbench.
        epochs: of the network of experiment 1, which sees no poison.
        neighbours: k, in each layer.
        held_out: test images that calibrate Deep kNN, fewer where the two classes have no more than twice as many.
        test_images: how many test images are looked at in all, 0 for all there are.
        poison_seeds: how often each experiment is done, with another network, poison and held-out images.
        shown_points: points that experiment 1 judges, half of them poisoned.
        poison_epochs: of experiment 2.1, on all training images; correct_images: how many correctly classified test
            images it judges beside all misclassified ones.
        two_label_images, two_label_epochs: of experiment 2.2, the poisoned ones not counted.
        poisoned_points: of experiments 2.1 and 2.2.
        defended_images, defence_epochs: of the defence; poison_share: the share of these that is poisoned, in all
            classes; the defender believes in that share and drops twice as many.
    Raises:
        ValueError: for numbers that are none, or more images than there are.
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
        counts = {
            "neighbours": neighbours,
            "deep_knn_calibration": held_out,
            "poison_seeds": poison_seeds,
            "poison_epochs": poison_epochs,
            "correct_images": correct_images,
            "two_label_images": two_label_images,
            "two_label_epochs": two_label_epochs,
            "defended_images": defended_images,
            "defence_epochs": defence_epochs,
            "poisoned_points": poisoned_points,
        }
        for name, value in counts.items():
            checked_whole(value, name=name)
        checked_whole(shown_points, name="shown_points", least=4)
        if not isinstance(poison_share, float) or not 0 < poison_share <= 1 / (2 * BUDGET):
            raise ValueError(f"poison_share must be above 0 and at most {1 / (2 * BUDGET)}, got {poison_share!r}")
        self.bench = bench
        self.k = neighbours
        self.classes = two_labels(bench.data.num_classes)
        self.shown_points = shown_points
        self.poison_epochs, self.correct_images = poison_epochs, correct_images
        self.two_label_images, self.two_label_epochs = two_label_images, two_label_epochs
        self.defence_epochs, self.poison_share = defence_epochs, poison_share
        self.poisoned_points = poisoned_points
        self._n = bench.train_images or len(bench.data.train_labels)
        self.defended_images = min(defended_images, self._n)
        checked_whole(test_images, name="test_images", least=0)
        order = np.random.default_rng([bench.seed, 11]).permutation(len(bench.data.test_labels))
        self.looked_at = np.sort(order[: test_images or None])
        of_two = len(self._test_places(self.classes))
        self.held_out = min(held_out, of_two // 2)
        self.seeds = [
            int(np.random.default_rng([bench.seed, 10, place]).integers(2**32)) for place in range(poison_seeds)
        ]
        if shown_points > of_two - self.held_out:
            raise ValueError(
                f"shown_points must be at most {of_two - self.held_out}, the test images of two classes that do not "
                f"calibrate Deep kNN, got {shown_points}"
            )
        two_in_training = np.isin(bench.data.train_labels[: self._n], self.classes).sum()
        if two_label_images + poisoned_points > two_in_training:
            raise ValueError(
                f"two_label_images must be at most {two_in_training - poisoned_points}, the training images of two "
                f"classes less {poisoned_points} poisoned ones, got {two_label_images}"
            )
        self._check_shares()
        fewest = min(two_label_images + poisoned_points, self.defended_images)
        if neighbours >= fewest:
            raise ValueError(
                f"neighbours must be fewer than the {fewest} images of the smallest training set, got {neighbours}"
            )
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.layers = [layer.name for layer in self.classifier.model.layers if layer.weights]

    def _check_shares(self) -> None:
        """Whether every experiment has enough images of each class to poison, asked before any is computed."""
        train, test = self.bench.data.train_labels, self.bench.data.test_labels
        free = np.setdiff1d(self._test_places(self.classes), self._calibration)
        asked = [("shown_points", test[free], self.shown_points // 2, self.classes)]
        asked += [("poisoned_points", train[: self._n], self.poisoned_points, self.classes)]
        for seed in self.seeds:
            asked.append(("poisoned_points", train[self._of_two(seed)], self.poisoned_points, self.classes))
            asked.append(("poison_share", train[self._of_all(seed)], self.poison_count, self._every_class))
        for name, labels, count, classes in asked:
            try:
                poison_shares(labels, kind="svm", count=count, classes=classes)
            except ValueError as error:
                raise ValueError(f"{name} does not fit the images: {error}") from error

    # ------------------------------------------------------------ experiment 1

    @cached_property
    def shown_sets(self) -> dict[str, list[PoisonedSet]]:
        """Kind → a seed each: test images of two classes, half of them poisoned."""
        poisoning = progress(self.seeds, description="poisoning test images", unit="seed")
        by_seed = [self._shown_of(seed) for seed in poisoning]
        return {kind: [sets[kind] for sets in by_seed] for kind in KINDS}

    def _shown_of(self, seed: int) -> dict[str, PoisonedSet]:
        data = self.bench.data
        source = np.setdiff1d(self._test_places(self.classes), self._calibration)
        sets = {}
        for kind in KINDS:
            made = self.bench.store.keep(
                f"poisoned_points.{kind}",
                poisoned_set,
                images=data.test_images[source],
                labels=data.test_labels[source],
                source=source,
                kind=kind,
                count=self.shown_points // 2,
                classes=self.classes,
                seed=seed,
            )
            clean = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(~made.is_poisoned))
            shown = [*np.flatnonzero(made.is_poisoned), *clean[: self.shown_points - self.shown_points // 2]]
            sets[kind] = made.select(np.sort(shown))
        return sets

    @cached_property
    def _calibration(self) -> Array:
        """Places of the test images that calibrate Deep kNN in experiment 1."""
        return self._held_out(self.bench.seed, classes=self._every_class)

    @cached_property
    def shown(self) -> pd.DataFrame:
        """`measures.shown` of all kinds and seeds, with columns kind and seed."""
        names = {f"{kind} {place}": (kind, place) for kind in KINDS for place in range(len(self.seeds))}
        frame = self.bench.store.keep(
            "poison.shown",
            shown,
            network=self.classifier.model,
            sets={name: self.shown_sets[kind][place] for name, (kind, place) in names.items()},
            train_images=self.bench.data.train_images[: self._n],
            train_labels=self.bench.data.train_labels[: self._n],
            k=self.k,
            **self._for_calibration(self._calibration),
        )
        parts = frame["set"].str.rsplit(" ", n=1)
        return frame.drop(columns="set").assign(kind=parts.str[0], seed=parts.str[1].astype(int))

    def mixtures(self, kind: str) -> pd.DataFrame:
        """`results.mixtures` of the first seed's points of a kind."""
        points = self.shown[(self.shown["kind"] == kind) & (self.shown["seed"] == 0)]
        return mixtures(points, kind=kind, seed=self.bench.seed)

    def reliability(self) -> pd.DataFrame:
        """`results.reliability` of all kinds."""
        return reliability(self.shown, seed=self.bench.seed)

    def shown_figures(self) -> pd.DataFrame:
        """`results.shown_figures` of all kinds."""
        return shown_figures(self.shown, seed=self.bench.seed)

    # ------------------------------------------------------------ experiment 2

    @cached_property
    def all_labels(self) -> list[pd.DataFrame]:
        """Experiment 2.1, a seed each: all training images, of which some of two classes are poisoned by the SVM."""
        training = np.arange(self._n)
        return [
            self._trained_on(seed, training, self._every_class, "svm", self.poison_epochs, self.correct_images)
            for seed in progress(self.seeds, description="experiment 2.1", unit="seed")
        ]

    @cached_property
    def two_labels(self) -> dict[str, list[pd.DataFrame]]:
        """Experiment 2.2, kind → a seed each: a few images of two classes, and some more that are poisoned.

        Under `CONTROL`, networks that start alike learn from the same images, none of which is poisoned.
        """
        runs: dict[str, list[pd.DataFrame]] = {kind: [] for kind in (*KINDS, CONTROL)}
        for seed in progress(self.seeds, description="experiment 2.2", unit="seed"):
            training, every = self._of_two(seed), len(self.looked_at)
            for kind, own in runs.items():
                own.append(self._trained_on(seed, training, self.classes, kind, self.two_label_epochs, every))
        return runs

    def _of_two(self, seed: int) -> Array:
        """Places of experiment 2.2's training images, the poisoned ones included."""
        of_two = np.flatnonzero(np.isin(self.bench.data.train_labels[: self._n], self.classes))
        return np.random.default_rng([seed, 2]).permutation(of_two)[: self.two_label_images + self.poisoned_points]

    def _trained_on(
        self, seed: int, training: Array, classes: Sequence[int], kind: str, epochs: int, correct_images: int
    ) -> pd.DataFrame:
        """`measures.trained_on` of the training images at those places, judged on test images of the classes.

        With source: a test image's place in the test set, −1 of a training image.
        """
        data, held_out = self.bench.data, self._held_out(seed, classes=classes)
        rows = self.bench.store.keep(
            f"poison.trained.{kind}",
            trained_on,
            images=data.train_images[training],
            labels=data.train_labels[training],
            kind=kind,
            count=self.poisoned_points,
            classes=self.classes,
            num_classes=data.num_classes,
            epochs=epochs,
            k=self.k,
            correct_images=correct_images,
            seed=seed,
            **self._for_test(held_out, classes),
        )
        judged, is_test = self._judged(held_out, classes), (rows["role"] == "test").to_numpy()
        source = np.full(len(rows), -1)
        source[is_test] = judged[rows["place"].to_numpy()[is_test]]
        return rows.assign(source=source)

    def recovered(self) -> pd.DataFrame:
        """`results.recovered` of experiment 2.1."""
        return recovered(self.all_labels)

    @cached_property
    def _credibility_runs(self) -> dict[str, list[dict[str, Array]]]:
        many = f"{self.bench.data.num_classes} labels poisoned"
        runs = {"2.1, all images: svm": [credibility_groups(rows) for rows in self.all_labels]}
        runs |= {f"2.2, two labels: {kind}": [*map(credibility_groups, self.two_labels[kind])] for kind in KINDS}
        return runs | {f"{many}: {kind}": [*map(defended_groups, own)] for kind, own in self.defended.items()}

    def credibilities(self) -> pd.DataFrame:
        """`results.credibilities` of all experiments that train on poison."""
        return credibilities(self._credibility_runs)

    def variance_differences(self) -> pd.DataFrame:
        """`results.variance_differences` of all experiments that train on poison."""
        return variance_differences(self._credibility_runs)

    def credibility_rows(self) -> pd.DataFrame:
        """A row an image of experiment 2.1, all seeds together: group, credibility."""
        groups = [credibility_groups(rows) for rows in self.all_labels]
        return pd.DataFrame(
            [{"group": group, "credibility": value} for each in groups for group in each for value in each[group]]
        )

    def misreadings(self) -> pd.DataFrame:
        """`results.misreadings` of experiment 2.2."""
        return misreadings(self.two_labels)

    def influences(self) -> pd.DataFrame:
        """`results.influences` of experiment 2.2."""
        return influences(self.two_labels, self.layers)

    def influence_differences(self) -> pd.DataFrame:
        """`results.influence_differences` of experiment 2.2."""
        return influence_differences(self.two_labels, self.layers)

    @property
    def base_rate(self) -> float:
        """The share of poisoned images in experiment 2.2's training sets, in %."""
        return 100 * self.poisoned_points / (self.two_label_images + self.poisoned_points)

    # ------------------------------------------------------------ defence

    @property
    def poison_count(self) -> int:
        """How many of the defended images are poisoned."""
        return round(self.poison_share * self.defended_images)

    @property
    def budget(self) -> int:
        """How many are dropped."""
        return BUDGET * self.poison_count

    @cached_property
    def defended(self) -> dict[str, list[Defended]]:
        """Kind → a seed each: a training set with poison in all classes, searched, cleaned and trained on anew."""
        data = self.bench.data
        every = self._every_class
        runs: dict[str, list[Defended]] = {kind: [] for kind in KINDS}
        for seed in progress(self.seeds, description="defence", unit="seed"):
            training = self._of_all(seed)
            for kind in KINDS:
                made = self.bench.store.keep(
                    f"poison.defended.{kind}",
                    defended,
                    images=data.train_images[training],
                    labels=data.train_labels[training],
                    kind=kind,
                    count=self.poison_count,
                    classes=every,
                    num_classes=data.num_classes,
                    epochs=self.defence_epochs,
                    k=self.k,
                    budget=self.budget,
                    seed=seed,
                    **self._for_test(self._held_out(seed, classes=every), every),
                )
                runs[kind].append(made)
        return runs

    @property
    def _every_class(self) -> list[int]:
        return list(range(self.bench.data.num_classes))

    def _of_all(self, seed: int) -> Array:
        """Places of the defence's training images."""
        return np.random.default_rng([seed, 3]).permutation(self._n)[: self.defended_images]

    def ranking_figures(self) -> pd.DataFrame:
        """`results.ranking_figures` of all kinds."""
        return ranking_figures(self.defended, budget=self.budget, seed=self.bench.seed)

    def ranking_differences(self) -> pd.DataFrame:
        """`results.ranking_differences` of all kinds."""
        return ranking_differences(self.defended)

    def outcomes(self) -> pd.DataFrame:
        """`results.outcomes` of all kinds."""
        return outcomes(self.defended)

    # ------------------------------------------------------------ who is judged

    def _held_out(self, seed: int, *, classes: Sequence[int]) -> Array:
        """Places of the test images of some classes that calibrate Deep kNN."""
        return np.random.default_rng([seed, 4]).permutation(self._test_places(classes))[: self.held_out]

    def _test_places(self, classes: Sequence[int]) -> Array:
        """Places of the test images of some classes, in their order."""
        return self.looked_at[np.isin(self.bench.data.test_labels[self.looked_at], classes)]

    def _judged(self, held_out: Array, classes: Sequence[int]) -> Array:
        return np.setdiff1d(self._test_places(classes), held_out)

    def _for_calibration(self, places: Array) -> dict[str, Array]:
        data = self.bench.data
        return {"calibration_images": data.test_images[places], "calibration_labels": data.test_labels[places]}

    def _for_test(self, held_out: Array, classes: Sequence[int]) -> dict[str, Any]:
        """The held-out images, and all other test images of those classes."""
        data, judged = self.bench.data, self._judged(held_out, classes)
        return self._for_calibration(held_out) | {
            "test_images": data.test_images[judged],
            "test_labels": data.test_labels[judged],
        }
