"""The workbench of a notebook: one run's data, store and figures, and the objects that all studies share.

It ties the stages to the store and computes nothing itself.
"""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure

from advlens import plots, tables
from advlens.arrays import Array, checked_seed, checked_whole
from advlens.attacks import AttackSet, attack_images, find_attack
from advlens.benchmark import Benchmark
from advlens.benchmark.measuring import Once
from advlens.benchmark.samples import sources_of
from advlens.classifier import Classifier
from advlens.datasets import CLASS_NAMES, DataSet, load
from advlens.guard import Guard, fit
from advlens.networks import find_builder
from advlens.paths import checked_name, run_folder, store_folder
from advlens.random import stream, stream_seed
from advlens.store import Store
from advlens.store.keys import digest
from advlens.store.makers import read_lock
from advlens.training import Trained, train_task_network

GUARD_CODE = ("advlens.guard.", "advlens.lenses.")  # whose declared versions a kept guard rests on


class Workbench:
    """Everything that a notebook of one run and data set works on.

    Args:
        run: the run's name; its results lie in data/runs/<run>/<dataset>. The cells `sweep/…` of a sweep share a store.
        dataset: "mnist", "fashion_mnist", or the path of a user's .npz.
        seed: governs all randomness.
        train_images: how many training images are used, 0 for all of them; benchmarks then use as large a share of
            the clean test images.
    Raises:
        ValueError: for a run that is no plain name, a seed that is none, or a user's file named as a known data set.
        FileNotFoundError, TypeError, OSError: see `datasets.load`.
    """

    def __init__(self, *, run: str, dataset: str, seed: int, train_images: int = 0) -> None:
        checked_whole(train_images, name="train_images", least=0)
        self.data: DataSet = load(dataset)
        if self.data.name in CLASS_NAMES and dataset != self.data.name:
            raise ValueError(f"{dataset} would share the results of the real {self.data.name}: rename the file")
        checked_name(self.data.name, name="the name of a data set's file")
        self.seed = checked_seed(seed)
        self.train_images = train_images or None
        self.folder = run_folder(run, self.data.name)
        self.store = Store(store_folder(run, self.data.name))
        self._once = Once()

    @property
    def training(self) -> tuple[Array, Array]:
        """The training images and labels that are used: the first `train_images`, or all."""
        return self.data.train_images[: self.train_images], self.data.train_labels[: self.train_images]

    def task_network(self, network: str, *, epochs: int) -> Trained:
        """A task network of this data set by its name, trained once.

        Raises:
            ValueError: for a name that is not in `networks.NETWORKS`, or epochs that are no whole number.
        """
        images, labels = self.training
        return self.store.keep(
            f"task_network.{network}",
            train_task_network,
            images=images,
            labels=labels,
            builder=find_builder(network),
            num_classes=self.data.num_classes,
            epochs=epochs,
            seed=stream_seed(self.seed, f"network/{network}"),
        )

    def classifier(self, network: str, *, epochs: int) -> Classifier:
        """The trained task network as an ART estimator."""
        return Classifier(self.task_network(network, epochs=epochs).network)

    def guard(self, classifier: Classifier, *, images: int, clean: Array) -> Guard:
        """A guard of a classifier, fitted once and kept in the run's folder, as `advlens fit` keeps one.

        It is fitted anew where the declared version of a guard or of a lens is another. Whoever asks meanwhile waits.

        Args:
            images: how many training images its lenses are fitted to; clean: (m, h, w, channels) test images.
        """
        code = {name: each["version"] for name, each in read_lock().items() if name.startswith(GUARD_CODE)}
        folder = self.folder / "guards" / digest([code, classifier.model, images, clean, self.seed])[:12]
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(".lock")):
                for leftover in folder.parent.glob(".partial-*"):  # of a killed process: we hold the lock
                    shutil.rmtree(leftover, ignore_errors=True)
                if not folder.exists():
                    training = (part[:images] for part in self.training)
                    fit(classifier, *training, clean=clean, seed=self.seed).save(folder)
        return Guard.load(folder)

    def attack_set(
        self, attack: str, classifier: Classifier, *, n: int, title: str | None = None, **parameters: Any
    ) -> AttackSet:
        """An attack on n test images that the classifier gets right, crafted once.

        Args:
            attack: a name of the catalogue or of ART; parameters: override the catalogue's.
            title: what tables call it, where that is another name.
        Raises:
            ValueError: for an unknown attack, or where n is not positive, or there are fewer such images.
        """
        find_attack(attack)  # before the test images are classified
        correct = self.correct_sources(classifier)
        if not 1 <= n <= len(correct):
            raise ValueError(f"attacked_images must be 1 to {len(correct)}, the correctly classified ones, got {n}")
        return self.attack_on(correct[:n], attack, classifier, title=title, **parameters)

    def attack_on(
        self, source: Array, attack: str, classifier: Classifier, *, title: str | None = None, **parameters: Any
    ) -> AttackSet:
        """As `attack_set`, on the test images of the (n,) places given, all of which the classifier gets right."""
        about = {
            "name": title or attack,
            "entry": find_attack(attack),
            "classifier": classifier,
            "images": self.data.test_images[source],
            "labels": self.data.test_labels[source],
            "source": source,
            "seed": stream_seed(self.seed, f"attack/{title or attack}"),
            **parameters,
        }
        return self.store.keep(f"attack.{attack}", attack_images, **about)

    def attack_sets(self, attacks: Sequence[str], classifier: Classifier, *, n: int) -> dict[str, AttackSet]:
        """Several attacks on the same images, by their names: see `attack_set`."""
        for name in attacks:
            find_attack(name)
        return {name: self.attack_set(name, classifier, n=n) for name in attacks}

    def stopped_at(
        self, margins: Sequence[float], attack: str, classifier: Classifier, *, n: int, **parameters: Any
    ) -> dict[str, AttackSet]:
        """An attack that goes on until another logit leads by each margin; by names such as "deepfool, margin 2"."""
        names = {f"{attack}, margin {margin:g}": {"margin": margin, **parameters} for margin in margins}
        return {name: self.attack_set(attack, classifier, n=n, title=name, **about) for name, about in names.items()}

    def benchmark(
        self,
        classifier: Classifier,
        attack_sets: Mapping[str, AttackSet],
        *,
        source: Array | None = None,
        clean: int | None = None,
        **parameters: Any,
    ) -> Benchmark:
        """A benchmark of attack sets with this run's seed and store, and its test images as the clean ones.

        Args:
            source: (m,) indices of the test images that are used; by default those attacked and `clean` others.
            clean: how many others; by default as large a share of them as `train_images` is of the training images.
            parameters: of `Benchmark`, such as `n_seeds`; `store=None` keeps no measurements.
        """
        if source is None:
            attacked = sources_of(attack_sets)
            others = np.setdiff1d(np.arange(len(self.data.test_labels)), attacked)
            if clean is None:
                clean = round(len(others) * len(self.training[1]) / len(self.data.train_labels))
            others = stream(self.seed, "suite/clean images").permutation(others)[:clean]
            source = np.sort([*attacked, *others])
        return Benchmark(
            classifier,
            attack_sets,
            clean_images=self.data.test_images[source],
            clean_labels=self.data.test_labels[source],
            clean_source=source,
            seed=self.seed,
            **{"store": self.store, **parameters},
        )

    def correct_sources(self, classifier: Classifier) -> Array:
        """The places of the test images that the classifier gets right, in a random order.

        MNIST's own order is not random: its first half is the harder one.
        """

        def make() -> Array:
            predicted = classifier.predict(self.data.test_images).argmax(axis=1)
            correct = np.flatnonzero(predicted == self.data.test_labels)
            return stream(self.seed, "attacked images").permutation(correct)

        return self._once((classifier,), make)  # asked once, not for each of dozens of attack sets

    def show(self, figure: Figure, name: str) -> plots.Shown:
        """Saves a figure under the run's figures and displays it."""
        return plots.show(figure, self.folder / "figures" / f"{name}.png")

    def show_table(
        self, frame: pd.DataFrame, name: str, *, bold: Sequence[int | tuple[int, str]] = ()
    ) -> tables.ShownTable:
        """Saves a table under the run's figures and displays it."""
        return tables.show_table(frame, self.folder / "figures" / name, bold=bold)
