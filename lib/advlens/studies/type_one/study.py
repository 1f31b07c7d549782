"""The Type I study on a workbench: everything walked, read and explained once, kept in the store."""

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.attacks.type_one import Walk
from advlens.attacks.type_one_set import type_one_set
from advlens.classifier import Classifier
from advlens.datasets import split_groups
from advlens.generative import Generator, train_generator
from advlens.image_files import CODECS
from advlens.metrics import Estimate, proportion
from advlens.networks import find_builder
from advlens.random import stream, stream_seed
from advlens.studies.closeness import published_of
from advlens.studies.detection import detection
from advlens.studies.rows import BASELINES, EIGHT_BIT
from advlens.studies.type_one.maps import START, TARGET, Neuron, films, likeness
from advlens.studies.type_one.measures import (
    between,
    generator_figures,
    nearest_of_class,
    read,
    samples,
    type_two,
    walked,
)
from advlens.studies.type_one.neighbours import DEEP_KNN, NETWORKS_LABEL, check_sizes, measure
from advlens.studies.type_one.results import (
    DECISION_LOST,
    SUCCESS,
    against,
    by_pair,
    ended,
    gained,
    likenesses,
    nearer_differences,
    rates,
)
from advlens.studies.type_one.settings import BINARISED, FRAMES, JUDGE, NETWORK, SHOWN, STOPS, TYPE_TWO_STEPS, WALK
from advlens.training import train_task_network
from advlens.workbench import Workbench

ATTACK, TRANSITION, PUBLISHED = "Type I attack", "transition", "Type I attack, as published"
THE_SAME = f"{ATTACK}, the same pairs"  # as those of the published walks
TYPE_I, TYPE_II = "Type I", "Type II"
ASKED, LOST = "Type I, the aim explained", "transition that loses the decision"
LOST_ASKED = "that transition, the start's class explained"
DETECTORS = (DEEP_KNN, NETWORKS_LABEL)


class Study:
    """Type I attacks on one network, judged by another.

    Args:
        bench: the notebook's workbench.
        epochs: of the attacked network; judge_epochs: of the other.
        generator_epochs: at most; generator_patience: epochs without a better held-out loss after which it stops.
        pair_images: how many test images of each class are attacked towards each other class.
        steps: of each walk, at most; published_steps: of those with the study's settings, between the shown classes.
        neighbours: of Deep kNN, in each layer; held_out: test images that calibrate it and that nothing else uses.
        calibration_images: further ones, which both networks read rightly, that commit thresholds.

    Attributes:
        classifier: the attacked network; judge: the one that says what an image shows.
        source: (n,) the attacked images' places in the test set, each attacked once; aims: (n,) what each is to become.
        held_out, calibration_source: places of those that calibrate Deep kNN, and that commit thresholds.
    Raises:
        ValueError: for numbers that are none, or more images than both networks read rightly.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        epochs: int,
        judge_epochs: int,
        generator_epochs: int,
        generator_patience: int,
        pair_images: int,
        steps: int,
        published_steps: int,
        neighbours: int,
        held_out: int,
        calibration_images: int,
    ) -> None:
        given = {"generator_epochs": generator_epochs, "generator_patience": generator_patience}
        given |= {"pair_images": pair_images, "type_one_steps": steps, "neighbours": neighbours}
        given |= {"published_steps": published_steps}
        given |= {"deep_knn_calibration": held_out, "calibration_images": calibration_images}
        for name, value in given.items():
            checked_whole(value, name=name)
        check_sizes(bench, neighbours=neighbours, held_out=held_out)
        self.bench, self.steps, self.published_steps, self.k = bench, steps, published_steps, neighbours
        self.generator_epochs, self.generator_patience = generator_epochs, generator_patience
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.judge = self._judge(judge_epochs)
        self.held_out, free = self._apart(held_out)
        self.source, self.aims = self._drawn(free, pair_images)
        self.calibration_source = self._for_thresholds(free, calibration_images)
        self.labels = bench.data.test_labels[self.source]
        self.images = bench.data.test_images[self.source]

    def _judge(self, epochs: int) -> Classifier:
        data, n = self.bench.data, self.bench.train_images
        trained = self.bench.store.keep(
            f"judge.{JUDGE}",
            train_task_network,
            images=data.train_images[:n],
            labels=data.train_labels[:n],
            builder=find_builder(JUDGE),
            num_classes=data.num_classes,
            epochs=epochs,
            seed=stream_seed(self.bench.seed, "type one/judge"),
        )
        return Classifier(trained.network)

    def _apart(self, held_out: int) -> tuple[Array, Array]:
        """Places in the test set, in random order: of some, and of those of the others that both networks read."""
        data = self.bench.data
        chosen, free = np.split(
            stream(self.bench.seed, "type one/conformal").permutation(len(data.test_labels)), [held_out]
        )
        decided = [each.predict(data.test_images[free]).argmax(axis=1) for each in (self.classifier, self.judge)]
        return chosen, free[(np.array(decided) == data.test_labels[free]).all(axis=0)]

    def _for_thresholds(self, free: Array, count: int) -> Array:
        left = np.setdiff1d(free, self.source)
        if count > len(left):
            raise ValueError(
                f"calibration_images must be at most {len(left)}, those that both networks read rightly and that "
                f"neither are attacked nor calibrate Deep kNN, got {count}"
            )
        return stream(self.bench.seed, "type one/thresholds").permutation(left)[:count]

    def _drawn(self, right: Array, pair_images: int) -> tuple[Array, Array]:
        """Of these places in the test set as many of each class for each other class."""
        data, classes = self.bench.data, range(self.bench.data.num_classes)
        places, aims = [], []
        for label in classes:
            others = np.array([aim for aim in classes if aim != label])
            own, wanted = right[data.test_labels[right] == label], pair_images * len(others)
            if wanted > len(own):
                raise ValueError(
                    f"pair_images must be at most {len(own) // len(others)}, of class {label} both networks read "
                    f"{len(own)} images rightly, got {pair_images}"
                )
            places.append(own[:wanted])
            aims.append(np.repeat(others, pair_images))
        return np.concatenate(places), np.concatenate(aims)

    # ------------------------------------------------------------ the generator

    @cached_property
    def generator(self) -> Generator:
        """The supervised variational autoencoder and its discriminator."""
        data, n = self.bench.data, self.bench.train_images
        return self.bench.store.keep(
            "generator",
            train_generator,
            images=data.train_images[:n],
            labels=data.train_labels[:n],
            num_classes=data.num_classes,
            binarised=data.name in BINARISED,
            epochs=self.generator_epochs,
            patience=self.generator_patience,
            seed=self.bench.seed,
        )

    @cached_property
    def generator_figures(self) -> pd.DataFrame:
        """`measures.generator_figures` of all test images."""
        data = self.bench.data
        return self.bench.store.keep(
            "generator_figures",
            generator_figures,
            generator=self.generator,
            networks=self._networks,
            images=data.test_images,
            labels=data.test_labels,
        )

    @property
    def samples(self) -> Array:
        """(2, `STOPS`, h, w, channels) decoded from random latent vectors."""
        return samples(self.generator, rows=2, columns=STOPS, seed=self.bench.seed)

    @property
    def ways(self) -> Array:
        """(`STOPS`, pairs, h, w, channels) decoded on straight ways between two attacked images of each shown pair."""
        ends = [[np.flatnonzero(self.labels == label)[0] for label in side] for side in zip(*self.shown, strict=True)]
        return between(self.generator, *(self.images[rows] for rows in ends), steps=STOPS)

    @property
    def _networks(self) -> dict:
        return {NETWORK: self.classifier.model, JUDGE: self.judge.model}

    # ------------------------------------------------------------ walks

    @cached_property
    def walks(self) -> dict[str, Walk]:
        """The attack's walks, the plain transitions between the same images and classes, and the study's own attack.

        The last one is of those images alone whose classes are `shown`.
        """
        settings = {
            TRANSITION: WALK | {"keeps_decision": False, "max_iter": self.steps},
            ATTACK: WALK | {"max_iter": self.steps},
            PUBLISHED: {"max_iter": self.published_steps},
        }
        return {kind: self._walk(self._places[kind], chosen) for kind, chosen in settings.items()}

    def _walk(self, places: Array, settings: dict[str, Any]) -> Walk:
        return self.bench.store.keep(
            "walk",
            walked,
            network=self.classifier.model,
            generator=self.generator,
            images=self.images[places],
            aims=self.aims[places],
            **settings,
        )

    @cached_property
    def _places(self) -> dict[str, Array]:
        """Kind of walk → the rows of the attacked images that walk."""
        pairs = zip(self.labels, self.aims, strict=True)
        shown = np.flatnonzero([pair in self.shown for pair in pairs])
        return dict.fromkeys((TRANSITION, ATTACK), np.arange(len(self.labels))) | {PUBLISHED: shown}

    @cached_property
    def ends(self) -> dict[str, pd.DataFrame]:
        """Kind of walk → `results.ended`, with source, steps, has_ended and distance (in latent space)."""
        found = {}
        for kind, walk in self.walks.items():
            places = self._places[kind]
            rows = self._ended(self.generator.decode(walk.path[-1]), places)
            distance = np.linalg.norm(walk.path[-1].astype(np.float64) - walk.path[0], axis=1)
            about = {"source": self.source[places], "steps": walk.steps, "has_ended": walk.has_ended}
            found[kind] = rows.assign(**about, distance=distance)
        return found

    def _ended(self, images: Array, places: Array) -> pd.DataFrame:
        """`results.ended` of what became of the attacked images at those places."""
        said = self._read(images, places)
        return ended(said[NETWORK], said[JUDGE], labels=self.labels[places], aims=self.aims[places])

    def _read(self, images: Array, places: Array) -> dict[str, pd.DataFrame]:
        rows = read(self._networks, images, self.labels[places], self.aims[places])
        return {name: own.reset_index(drop=True) for name, own in rows.groupby("network", sort=False)}

    @cached_property
    def attack_set(self) -> AttackSet:
        """The attack's images as an attack set."""
        return type_one_set(
            self.classifier,
            self.judge,
            self.images,
            self.labels,
            self.generator.decode(self.walks[ATTACK].path[-1]),
            self.aims,
            source=self.source,
            seed=self.bench.seed,
            max_iter=self.steps,
            **WALK,
        )

    def rates(self) -> pd.DataFrame:
        """`results.rates` of all kinds of walk, and of the attack on the images of the published ones."""
        same = {THE_SAME: self.ends[ATTACK].iloc[self._places[PUBLISHED]]}
        return rates(self.ends | same, seed=self.bench.seed)

    def gained(self) -> Estimate:
        """`results.gained` by the attack."""
        return gained(self.ends[ATTACK], self.ends[TRANSITION], seed=self.bench.seed)

    def accuracies(self) -> dict[str, Estimate]:
        """Network → the share of test images that it reads rightly."""
        data, every = self.bench.data, np.arange(len(self.bench.data.test_labels))
        return {
            name: proportion(classifier.predict(data.test_images).argmax(axis=1) == data.test_labels, every)
            for name, classifier in ((NETWORK, self.classifier), (JUDGE, self.judge))
        }

    def by_pair(self) -> pd.DataFrame:
        """`results.by_pair` of transitions and attacks."""
        ends = {kind: self.ends[kind] for kind in (TRANSITION, ATTACK)}
        return by_pair(ends, classes=range(self.bench.data.num_classes))

    # ------------------------------------------------------------ maps

    def film(self, kind: str, pair: tuple[int, int]) -> tuple[Array, pd.DataFrame, dict[str, Array]]:
        """A walk of an image between two classes: its frames, what is said, and its maps.

        The image is the first whose attack succeeds, if one does, whatever the kind of walk.

        Args:
            kind: `ATTACK` or `TRANSITION`.
        Returns:
            (`FRAMES`, h, w, channels) images; a row a frame and network as `measures.read` has it, with place = frame;
            and kind of map → (`FRAMES`, h, w, 1).
        """
        own = np.flatnonzero((self.labels == pair[0]) & (self.aims == pair[1]))
        won = own[self.ends[ATTACK]["cause"].to_numpy()[own] == SUCCESS]
        row = (won if len(won) else own)[0]
        frames = self.generator.decode(self.walks[kind].stops(FRAMES)[:, row])
        labels, aims = (np.full(FRAMES, each) for each in pair)
        said = read(self._networks, frames, labels, aims)
        maps = self.bench.store.keep("films", films, network=self.classifier.model, frames=frames)
        return frames, said, maps

    @property
    def shown(self) -> tuple[tuple[int, int], ...]:
        """The study's two transitions, or the first and last classes' where there are fewer."""
        last = self.bench.data.num_classes - 1
        return SHOWN if max(map(max, SHOWN)) <= last else ((0, last), (last, 0))

    @cached_property
    def type_two(self) -> Array:
        """(n, h, w, channels) attacks of the other type: the same images and aims, and the network sees the aim."""
        return self.bench.store.keep(
            "type_two",
            type_two,
            network=self.classifier.model,
            images=self.images,
            aims=self.aims,
            seed=self.bench.seed,
            max_iter=TYPE_TWO_STEPS,
            eps=max(published_of(self.bench.data.name).strengths),
        )["adversarial"]

    @cached_property
    def likeness_rows(self) -> dict[str, pd.DataFrame]:
        """Type → `maps.likeness`'s rows with source, of images on which attacks of both types succeed.

        Of Type I at stops along the whole walk; `ASKED` explains the class aimed at in its last images; `LOST` are the
        plain transitions of those that lose the decision while the judge sees the aim; `LOST_ASKED` explains in these
        the start's class.
        """
        every = np.arange(len(self.aims))
        misled = self._read(self.type_two, every)[NETWORK]["predicted"].to_numpy() == self.aims
        won = self.attack_set.success & misled
        lost = won & (self.ends[TRANSITION]["cause"] == DECISION_LOST).to_numpy()
        stops, ended = self.walks[ATTACK].stops(STOPS), self._decoded(self.walks[TRANSITION].path[-1:, lost])
        return {
            TYPE_I: self._likeness(self._decoded(stops[:, won]), won),
            TYPE_II: self._likeness(self.type_two[None, won], won),
            ASKED: self._likeness(self._decoded(stops[-1:, won]), won, neuron=self.aims[won]),
            LOST: self._likeness(ended, lost),
            LOST_ASKED: self._likeness(ended, lost, neuron=self.labels[lost]),
        }

    def likenesses(self) -> pd.DataFrame:
        """`results.likenesses` of all types."""
        return likenesses(self.likeness_rows, seed=self.bench.seed)

    def nearer_differences(self) -> pd.DataFrame:
        """`results.nearer_differences` of Type I and its controls."""
        pairs = [(TYPE_I, rival) for rival in (LOST, LOST_ASKED, ASKED)]
        return nearer_differences(self.likeness_rows, pairs, seed=self.bench.seed)

    def _decoded(self, ways: Array) -> Array:
        """(t, n, h, w, channels) of (t, n, d); n may be 0."""
        if ways.shape[1] == 0:
            return np.empty((len(ways), 0, *self.images.shape[1:]), np.float32)
        images = self.generator.decode(ways.reshape(-1, ways.shape[-1]))
        return images.reshape(*ways.shape[:2], *images.shape[1:])

    def _likeness(self, ways: Array, won: Array, *, neuron: Neuron = "predicted") -> pd.DataFrame:
        if not won.any():
            return pd.DataFrame(columns=["stop", "place", "map", "measure", START, TARGET, "source"])
        found = self.bench.store.keep(
            "likeness",
            likeness,
            network=self.classifier.model,
            ways=ways,
            starts=self.images[won],
            targets=self._targets[won],
            neuron=neuron,
        )
        return found.assign(source=self.source[won][found["place"]])

    @cached_property
    def _targets(self) -> Array:
        """For each image the training image of its aim, read rightly, that is nearest to where its attack ended."""
        data, n = self.bench.data, self.bench.train_images
        images, labels = data.train_images[:n], data.train_labels[:n]
        right = np.flatnonzero(self.classifier.predict(images).argmax(axis=1) == labels)
        found = self.bench.store.keep(
            "nearest_of_class",
            nearest_of_class,
            images=self.attack_set.adversarial,
            aims=self.aims,
            candidates=images[right],
            classes=labels[right],
        )
        return images[right][found["places"]]

    # ------------------------------------------------------------ detectors

    @cached_property
    def is_test(self) -> Array:
        """(n,) bool, the four fifths of the attacked images on which detectors are judged; the others choose."""
        seed = stream_seed(self.bench.seed, "type one/parts")
        return split_groups(self.source, fractions=(0.0, 0.2, 0.8), seed=seed).test

    @cached_property
    def judged(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What Deep kNN and the baselines say of every role, and of the images that commit thresholds.

        A row an image, with role, source, success and part: "validation", "test", and once more, in 8 bits, the test
        images as `protocols.EIGHT_BIT`.
        """
        made = self.attack_set
        redrawn = self.generator.decode(self.generator.encode(self.images))
        roles = {"clean": made.clean, "noisy": made.noisy, "redrawn": redrawn, "adversarial": made.adversarial}
        rounded = {role: CODECS["8-bit"](images[self.is_test]) for role, images in roles.items()}
        thresholds = self.bench.data.test_images[self.calibration_source]
        every, tested = np.arange(len(self.source)), np.flatnonzero(self.is_test)
        part = np.where(self.is_test, "test", "validation")
        rows = self._measured(np.concatenate([thresholds, *roles.values(), *rounded.values()]))
        thresholds_from, rows = rows.iloc[: len(thresholds)], rows.iloc[len(thresholds) :]
        won_rounded = (self._ended(rounded["adversarial"], tested)["cause"] == SUCCESS).to_numpy()
        about = [
            pd.DataFrame({"role": role, "part": parts, "source": self.source[places], "success": success})
            for places, parts, success in ((every, part, made.success), (tested, EIGHT_BIT, won_rounded))
            for role in roles
        ]
        return rows.reset_index(drop=True).join(pd.concat(about, ignore_index=True)), thresholds_from

    def detections(self) -> pd.DataFrame:
        """`studies.detection.detection` by Deep kNN and the trivial baselines, redrawn images left out."""
        rows, thresholds_from = self.judged
        measured = {ATTACK: rows[rows["role"] != "redrawn"]}
        return detection(measured, thresholds_from, detectors=DETECTORS, seed=self.bench.seed)

    def against(self) -> dict[str, pd.DataFrame]:
        """Part → `results.against`, of float and of 8-bit test images."""
        rows, thresholds_from = self.judged
        about = {"detectors": (*DETECTORS, *BASELINES), "seed": self.bench.seed}
        return {part: against(rows[rows["part"] == part], thresholds_from, **about) for part in ("test", EIGHT_BIT)}

    def _measured(self, images: Array) -> pd.DataFrame:
        data, n = self.bench.data, self.bench.train_images
        return self.bench.store.keep(
            "type_one_neighbours",
            measure,
            network=self.classifier.model,
            images=images,
            train_images=data.train_images[:n],
            train_labels=data.train_labels[:n],
            calibration_images=data.test_images[self.held_out],
            calibration_labels=data.test_labels[self.held_out],
            k=self.k,
        )
