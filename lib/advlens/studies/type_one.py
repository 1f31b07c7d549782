"""The Type I study: attacks that change the class and not the decision, seen through class activation maps.

Here are its walks through a generator's latent space, judged by networks that are independent of the attacked one, and
what maps follow on the way. Detection is `Benchmark`'s business.

Source: "Type I attack and class activation maps" (slides) and its public code; Tang et al. 2019; Zhou et al. 2016.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet, build_attack, generate, strengths_of
from advlens.attacks.type_one import TypeOneAttack, Walk
from advlens.attacks.type_one_set import type_one_set
from advlens.benchmark import Benchmark
from advlens.classifier import Classifier
from advlens.detectors import Detector, Sign
from advlens.explanations import explain
from advlens.explanations.activation import class_activation_maps, grad_cam
from advlens.explanations.similarity import rank_correlation, top_overlap
from advlens.generative import Generator, train_generator
from advlens.lenses import DeepNeighbours
from advlens.lenses.neighbours import CREDIBILITY, OF_DECISION
from advlens.metrics import Difference, mean, proportion, proportion_difference
from advlens.networks import dropout_network, find_builder
from advlens.random import stream, stream_seed
from advlens.store import artifact
from advlens.training import train_task_network
from advlens.workbench import Workbench

NETWORK = "global_pooling_cnn"  # the attacked one
SHOWN = ((7, 9), (7, 0))  # the study's two transitions
BINARISED = ("mnist",)  # data sets whose images the generator takes as black and white, as the study does
STOPS = 9  # places along a walk where maps are compared, its two ends among them
WALK: dict[str, Any] = {"learning_rate": 0.02, "tolerance": 1e-3}  # the study's: the attack's defaults
WEIGHTS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)  # k at most, tried on training images; the study's is 0.001
TYPE_TWO_STEPS = 40  # of BIM towards the same class, at the larger ε of the closeness study
MIN_SHOWN = 10  # images of which a mean or a share is given

ATTACK, TRANSITION, PUBLISHED = "Type I attack", "transition", "Type I attack, as published"
THE_SAME = f"{ATTACK}, the same pairs"  # as those of the published walks
SUCCESS, DECISION_LOST = "target class, decision kept", "target class, decision lost"
NO_AIM, NEITHER = "not the target, decision kept", "not the target, decision lost"
CAUSES = (SUCCESS, DECISION_LOST, NO_AIM, NEITHER)
TYPE_I, TYPE_II = "Type I", "Type II"
ASKED, LOST = "Type I, target class explained", "transition, decision lost"
LOST_ASKED = "same, source class explained"

# ---------------------------------------------------------------- maps

Neuron = str | Array  # which class is explained: "predicted", or (n,) class numbers
CAM, CAM_AS_PUBLISHED, GRAD_CAM = "CAM", "CAM, as published", "Grad-CAM"
GUIDED, DEEP_TAYLOR, IMAGE = "guided backprop", "Deep Taylor", "image"
MAPS: dict[str, Callable[..., Array]] = {
    CAM: class_activation_maps,
    CAM_AS_PUBLISHED: partial(class_activation_maps, as_published=True),
    GRAD_CAM: grad_cam,
    GUIDED: partial(explain, method="guided_backprop"),
    DEEP_TAYLOR: partial(explain, method="deep_taylor"),
    IMAGE: lambda network, images, *, neuron: images,
}
"""Kind of map → what makes it of a network, images and `neuron`; the image stands for no network."""
SIGNED = (CAM, CAM_AS_PUBLISHED, GUIDED)  # maps of values for and against
MEASURES: dict[str, Callable[[Array, Array], Array]] = {
    "rank correlation": rank_correlation,
    "overlap of the top 20 %": top_overlap,
}


@artifact(version=2)
def likeness(
    network: keras.Model, ways: Array, starts: Array, targets: Array, *, neuron: Neuron = "predicted"
) -> pd.DataFrame:
    """How alike the maps along ways from image to image are to those of what was, and of what is aimed at.

    Args:
        ways: (t, n, h, w, channels) images, t to a way; neuron: what is explained of them.
        starts: (n, …) the images before; targets: (n, …) real images of the classes aimed at; the decision is
            explained of both.
    Returns:
        A row an image, stop, map and measure: stop (0 to t − 1), place (0 to n − 1), map, measure, start and target
        (in [−1, 1]).
    """
    frames = []
    for name, make in MAPS.items():
        theirs, real = (make(network, each, neuron="predicted") for each in (starts, targets))
        for stop, images in enumerate(ways):
            ours = make(network, images, neuron=neuron)
            for measure, alike in MEASURES.items():
                columns = {"start": alike(ours, theirs), "target": alike(ours, real)}
                about = {"stop": stop, "place": np.arange(len(images)), "map": name, "measure": measure}
                frames.append(pd.DataFrame(about | columns))
    return pd.concat(frames, ignore_index=True)


# ---------------------------------------------------------------- walks and attacks of the other type


@artifact(version=1)
def walked(network: keras.Model, generator: Generator, images: Array, aims: Array, **parameters: Any) -> Walk:
    """`TypeOneAttack.walk` of (n, h, w, channels) images to (n,) classes, n ways; `parameters` are the attack's."""
    return TypeOneAttack(Classifier(network), generator, **parameters).walk(images, aims)


@artifact(version=1)
def type_two(network: keras.Model, images: Array, aims: Array, *, seed: int, **parameters: Any) -> dict[str, Array]:
    """What BIM makes of (n, h, w, channels) images to have them predicted as (n,) other classes: "adversarial"."""
    attack = build_attack("bim_targeted", Classifier(network), **parameters)
    return {"adversarial": generate(attack, images, aims, seed=seed)}


def nearest_of_class(images: Array, aims: Array, *, candidates: Array, classes: Array) -> Array:
    """(n,) indices among the (m, …) candidates of its aim's class, of the one nearest to each image, in pixels."""
    flat, others = (part.reshape(len(part), -1) for part in (images, candidates))
    nearest = np.empty(len(images), np.int64)
    for aim in np.unique(aims):
        rows, members = np.flatnonzero(aims == aim), np.flatnonzero(classes == aim)
        of_class = others[members]
        distances = np.square(of_class).sum(axis=1) - 2 * flat[rows] @ of_class.T
        nearest[rows] = members[distances.argmin(axis=1)]
    return nearest


def ended(kept: Array, judged: Mapping[str, Array], *, labels: Array, aims: Array) -> pd.DataFrame:
    """What became of each image.

    Args:
        kept: (n,) bool, whether the attacked network's decision is the label; judged: judge → (n,) predicted classes.
    Returns:
        A row an image: label, aim, kept, became (most judges predict the aim), cause (of `CAUSES`), and a column a
        judge: whether it predicts the aim.
    """
    seen = {name: predicted == aims for name, predicted in judged.items()}
    became = np.mean(list(seen.values()), axis=0) > 0.5
    cause = np.select([kept & became, became, kept], CAUSES[:3], CAUSES[3])
    return pd.DataFrame({"label": labels, "aim": aims, "kept": kept, "became": became, "cause": cause, **seen})


def rates(ends: Mapping[str, pd.DataFrame], judges: Sequence[str], *, seed: int) -> pd.DataFrame:
    """How often walks do what they are meant to.

    Args:
        ends: kind of walk → `ended`'s rows, with source, steps, has_ended and distance.
    Returns:
        A row a kind and metric ("became", "kept", "has_ended", each of `CAUSES`, each judge: shares; of successes alone
        "distance", "steps": means): kind, metric, estimate, low, high, n.
    """
    rows = []
    for kind, frame in ends.items():
        shares = {name: frame[name].to_numpy(bool) for name in ("became", "kept", "has_ended", *judges)}
        shares |= {cause: (frame["cause"] == cause).to_numpy() for cause in CAUSES}
        found = {name: (proportion(flags, frame["source"].to_numpy()), len(frame)) for name, flags in shares.items()}
        won = frame[frame["cause"] == SUCCESS]
        for name in ("distance", "steps") if len(won) else ():
            found[name] = mean(won[name].to_numpy(float), won["source"].to_numpy(), seed=seed), len(won)
        rows += [each.row(kind=kind, metric=name, n=n) for name, (each, n) in found.items()]
    return pd.DataFrame(rows)


def nearer(rows: pd.DataFrame, *, of: str = "") -> Array:
    """(n,) 1 where the map is more like the start's than the target's, one half where it is as like."""
    start, target = rows["start" + of].to_numpy(), rows["target" + of].to_numpy()
    return (start > target) + 0.5 * (start == target)


# ---------------------------------------------------------------- the study


class Study:
    """Type I attacks on one network, judged by others.

    Args:
        bench: the notebook's workbench.
        epochs: of the attacked network; task_epochs, dropout_epochs: of the judges, as in notebooks 1 and 5.
        generator_epochs: at most; generator_patience: epochs without a better held-out loss after which it stops.
        pair_images: how many test images of each class are attacked towards each other class.
        steps: of each walk, at most; published_steps: of those with the study's settings, between the shown classes.
        tuning_images: training images on which the weight of the decision is chosen.
        neighbours: of Deep kNN, in each layer; held_out: training images that calibrate its p-values.

    Attributes:
        classifier: the attacked network; judges: name → network that says what an image shows.
        source: (n,) the attacked images' indices in the test set; aims: (n,) what each is to become.
    Raises:
        ValueError: for numbers that are none, or more images than all networks classify correctly.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        epochs: int,
        task_epochs: int,
        dropout_epochs: int,
        generator_epochs: int,
        generator_patience: int,
        pair_images: int,
        steps: int,
        published_steps: int,
        tuning_images: int,
        neighbours: int,
        held_out: int,
    ) -> None:
        given = {"generator_epochs": generator_epochs, "generator_patience": generator_patience}
        given |= {"pair_images": pair_images, "type_one_steps": steps, "published_steps": published_steps}
        given |= {"tuning_images": tuning_images, "neighbours": neighbours, "deep_knn_calibration": held_out}
        for name, value in given.items():
            checked_whole(value, name=name)
        training = len(bench.training[1])
        if neighbours + held_out >= training:
            raise ValueError(
                f"neighbours and deep_knn_calibration must be fewer than the {training} training images together, got "
                f"{neighbours} and {held_out}"
            )
        self.bench, self.steps, self.published_steps = bench, steps, published_steps
        self.generator_epochs, self.generator_patience = generator_epochs, generator_patience
        self.tuning_images, self.neighbours, self.held_out = tuning_images, neighbours, held_out
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.judges = self._judges(task_epochs, dropout_epochs)
        self.source, self.aims = self._draw(pair_images)
        self.labels, self.images = bench.data.test_labels[self.source], bench.data.test_images[self.source]

    def _judges(self, task_epochs: int, dropout_epochs: int) -> dict[str, Classifier]:
        """Three networks of other architectures, trained from seeds of their own."""
        data, (images, labels) = self.bench.data, self.bench.training
        about = {"images": images, "labels": labels, "num_classes": data.num_classes, "epochs": task_epochs}
        about |= {"builder": find_builder("two_conv_cnn"), "seed": stream_seed(self.bench.seed, "type one/judge")}
        trained = self.bench.store.keep("judge.two_conv_cnn", train_task_network, **about)
        dropout = dropout_network(data.name)
        return {
            "two_conv_cnn": Classifier(trained.network),
            "average_pooling_cnn": self.bench.classifier("average_pooling_cnn", epochs=task_epochs),
            dropout: self.bench.classifier(dropout, epochs=dropout_epochs),
        }

    def _correct(self, images: Array, labels: Array) -> Array:
        """(n,) bool, which images the attacked network and all judges classify correctly."""
        networks = (self.classifier, *self.judges.values())
        return np.all([each.predict(images).argmax(axis=1) == labels for each in networks], axis=0)

    def _draw(self, pair_images: int) -> tuple[Array, Array]:
        """Indices of correct test images, of each class as many for each other class, and these classes."""
        labels, classes = self.bench.data.test_labels, np.arange(self.bench.data.num_classes)
        correct = np.flatnonzero(self._correct(self.bench.data.test_images, labels))
        correct = stream(self.bench.seed, "type one/sources").permutation(correct)
        sources, aims = [], []
        for label in classes:
            others = classes[classes != label]
            own, wanted = correct[labels[correct] == label], pair_images * len(others)
            if wanted > len(own):
                raise ValueError(
                    f"pair_images must be at most {len(own) // len(others)}, of class {label} the networks classify "
                    f"{len(own)} images correctly, got {pair_images}"
                )
            sources.append(own[:wanted])
            aims.append(np.tile(others, pair_images))
        return np.concatenate(sources), np.concatenate(aims)

    @cached_property
    def generator(self) -> Generator:
        """The supervised variational autoencoder and its discriminator."""
        data, (images, labels) = self.bench.data, self.bench.training
        about = {"images": images, "labels": labels, "num_classes": data.num_classes}
        about |= {"epochs": self.generator_epochs, "patience": self.generator_patience}
        about |= {"binarised": data.name in BINARISED, "seed": stream_seed(self.bench.seed, "type_one/generator")}
        return self.bench.store.keep("generator", train_generator, **about)

    # ------------------------------------------------------------ walks

    @property
    def shown(self) -> tuple[tuple[int, int], ...]:
        """The study's two transitions, or the first and last classes' where there are fewer."""
        last = self.bench.data.num_classes - 1
        return SHOWN if max(map(max, SHOWN)) <= last else ((0, last), (last, 0))

    @cached_property
    def tried(self) -> pd.DataFrame:
        """Each of `WEIGHTS` on training images that all networks classify correctly: weight, success, n."""
        data, (images, labels) = self.bench.data, self.bench.training
        order = stream(self.bench.seed, "type one/tuning").permutation(len(labels))[: 4 * self.tuning_images]
        chosen = order[self._correct(images[order], labels[order])][: self.tuning_images]
        away = stream(self.bench.seed, "type one/aims").integers(1, data.num_classes, len(chosen))
        images, labels, aims = images[chosen], labels[chosen], (labels[chosen] + away) % data.num_classes
        rows = []
        for weight in WEIGHTS:
            walk = self._walk(images, aims, WALK | {"largest_weight": weight, "max_iter": self.steps})
            last = self.end(self.generator.decode(walk.path[-1]), labels, aims)
            rows.append({"weight": weight, "success": float((last["cause"] == SUCCESS).mean()), "n": len(chosen)})
        return pd.DataFrame(rows)

    @cached_property
    def weight(self) -> float:
        """The weight with the most successes on training images."""
        return float(self.tried.loc[self.tried["success"].idxmax(), "weight"])  # pyright: ignore[reportArgumentType, reportCallIssue]

    @cached_property
    def walks(self) -> dict[str, Walk]:
        """The attack's walks, the plain transitions of the same images, and, of `shown` alone, the study's attack."""
        settings = {
            TRANSITION: WALK | {"keeps_decision": False, "max_iter": self.steps},
            ATTACK: WALK | {"largest_weight": self.weight, "max_iter": self.steps},
            PUBLISHED: {"max_iter": self.published_steps},
        }
        rows = self.rows_of
        return {kind: self._walk(self.images[rows[kind]], self.aims[rows[kind]], own) for kind, own in settings.items()}

    @cached_property
    def rows_of(self) -> dict[str, Array]:
        """Kind of walk → the rows of the attacked images that walk."""
        shown = np.flatnonzero([pair in self.shown for pair in zip(self.labels, self.aims, strict=True)])
        return dict.fromkeys((TRANSITION, ATTACK), np.arange(len(self.labels))) | {PUBLISHED: shown}

    def _walk(self, images: Array, aims: Array, settings: Mapping[str, Any]) -> Walk:
        about = {"network": self.classifier.model, "generator": self.generator, "images": images, "aims": aims}
        return self.bench.store.keep("walk", walked, **about, **settings)

    def end(self, images: Array, labels: Array, aims: Array) -> pd.DataFrame:
        """`ended` of what became of images of those labels."""
        kept = self.classifier.predict(images).argmax(axis=1) == labels
        judged = {name: judge.predict(images).argmax(axis=1) for name, judge in self.judges.items()}
        return ended(kept, judged, labels=labels, aims=aims)

    @cached_property
    def ends(self) -> dict[str, pd.DataFrame]:
        """Kind of walk → `ended`, with source, steps, has_ended and distance (in latent space)."""
        found = {}
        for kind, walk in self.walks.items():
            rows = self.rows_of[kind]
            last = self.end(self.generator.decode(walk.path[-1]), self.labels[rows], self.aims[rows])
            distance = np.linalg.norm(walk.path[-1].astype(np.float64) - walk.path[0], axis=1)
            about = {"source": self.source[rows], "steps": walk.steps, "has_ended": walk.has_ended}
            found[kind] = last.assign(**about, distance=distance)
        return found

    def rates(self) -> pd.DataFrame:
        """`rates` of all kinds of walk, and of the attack on the images of the published ones."""
        same = {THE_SAME: self.ends[ATTACK].iloc[self.rows_of[PUBLISHED]]}
        return rates(self.ends | same, list(self.judges), seed=self.bench.seed)

    def gained(self) -> Difference:
        """The share of successes of attacks less that of the plain transitions of the same images."""
        both = ((self.ends[kind]["cause"] == SUCCESS).to_numpy() for kind in (ATTACK, TRANSITION))
        return proportion_difference(*both, self.source)  # pyright: ignore[reportCallIssue]

    @cached_property
    def example(self) -> int:
        """The row to show: a success that is not of the target class when redrawn, of `shown` where there is one."""
        redrawn = self.end(self.generator.decode(self.walks[ATTACK].path[0]), self.labels, self.aims)
        won, unchanged = (self.ends[ATTACK]["cause"] == SUCCESS).to_numpy(), (redrawn["cause"] == NO_AIM).to_numpy()
        is_shown = np.isin(np.arange(len(won)), self.rows_of[PUBLISHED])
        return int(np.argmax(4 * won + 2 * unchanged + is_shown))

    def strip(self, row: int, *, frames: int = 7) -> tuple[Array, dict[str, Array], list[str]]:
        """The attack's walk from one of the images.

        Returns:
            (frames, h, w, channels) images; kind of map → (frames, h, w, 1), of the decision; texts of what the
            attacked network predicts, and how many judges predict the target class.
        """
        images = self.generator.decode(self.walks[ATTACK].stops(frames)[:, row])
        network, names = self.classifier.model, self.bench.data.class_names
        maps = {name: make(network, images, neuron="predicted") for name, make in MAPS.items() if name != IMAGE}
        said = softmax(self.classifier.logits(images).astype(np.float64), axis=1)
        judged = np.stack([judge.predict(images).argmax(axis=1) for judge in self.judges.values()], axis=1)
        texts = [
            f"{names[each.argmax()]}\n({each.max():.2f})\njudges: {(votes == self.aims[row]).sum()} of {len(votes)}"
            for each, votes in zip(said, judged, strict=True)
        ]
        return images, {name: each.sum(axis=-1, keepdims=True) for name, each in maps.items()}, texts

    # ------------------------------------------------------------ what maps follow

    @cached_property
    def attack_set(self) -> AttackSet:
        """The attack's images; success: the decision is kept and most judges predict the aim."""
        judge, last = next(iter(self.judges.values())), self.generator.decode(self.walks[ATTACK].path[-1])
        about = {"source": self.source, "seed": stream_seed(self.bench.seed, "type_one/twins")}
        about |= {"max_iter": self.steps, "largest_weight": self.weight, **WALK}
        made = type_one_set(self.classifier, judge, self.images, self.labels, last, self.aims, **about)
        return dataclasses.replace(made, success=(self.ends[ATTACK]["cause"] == SUCCESS).to_numpy())

    @cached_property
    def type_two(self) -> Array:
        """(n, h, w, channels) attacks of the other type: the same images and aims, and the network predicts the aim."""
        about = {"max_iter": TYPE_TWO_STEPS, "eps": max(strengths_of(self.bench.data.name))}
        about |= {"network": self.classifier.model, "images": self.images, "aims": self.aims, "seed": self.bench.seed}
        return self.bench.store.keep("type_two", type_two, **about)["adversarial"]

    @cached_property
    def likenesses(self) -> pd.DataFrame:
        """`likeness`'s rows with type and source, of images on which attacks of both types succeed.

        Of Type I at stops along the whole walk; `ASKED` explains the class aimed at in its last images. `LOST` are
        plain transitions that lose the decision while the judges predict the aim, `LOST_ASKED` explains their start's.
        """
        won = self.attack_set.success & (self.classifier.predict(self.type_two).argmax(axis=1) == self.aims)
        lost = won & (self.ends[TRANSITION]["cause"] == DECISION_LOST).to_numpy()
        stops, last = self.walks[ATTACK].stops(STOPS), self.walks[TRANSITION].path[-1:]
        ways: dict[str, tuple[Array, Array, Neuron]] = {
            TYPE_I: (self._decoded(stops[:, won]), won, "predicted"),
            TYPE_II: (self.type_two[None, won], won, "predicted"),
            ASKED: (self._decoded(stops[-1:, won]), won, self.aims[won]),
            LOST: (self._decoded(last[:, lost]), lost, "predicted"),
            LOST_ASKED: (self._decoded(last[:, lost]), lost, self.labels[lost]),
        }
        frames = []
        for kind, (images, rows, neuron) in ways.items():
            if rows.any():
                about = {"starts": self.images[rows], "targets": self._targets[rows], "neuron": neuron}
                found = self.bench.store.keep("likeness", likeness, network=self.classifier.model, ways=images, **about)
                frames.append(found.assign(type=kind, source=self.source[rows][found["place"]]))
        columns = ["stop", "place", "map", "measure", "start", "target", "type", "source"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    def _decoded(self, ways: Array) -> Array:
        """(t, n, h, w, channels) of (t, n, d); n may be 0."""
        if ways.shape[1] == 0:
            return np.empty((len(ways), 0, *self.images.shape[1:]), np.float32)
        images = self.generator.decode(ways.reshape(-1, ways.shape[-1]))
        return images.reshape(*ways.shape[:2], *images.shape[1:])

    @cached_property
    def _targets(self) -> Array:
        """For each image the correctly classified training image of its aim nearest to where its attack ended."""
        images, labels = self.bench.training
        correct = np.flatnonzero(self.classifier.predict(images).argmax(axis=1) == labels)
        about = {"candidates": images[correct], "classes": labels[correct]}
        return images[correct][nearest_of_class(self.attack_set.adversarial, self.aims, **about)]

    def nearer_shares(self) -> pd.DataFrame:
        """The share of maps nearer to the start's than to the target's at the end of each way.

        Returns:
            A row a type (with `MIN_SHOWN` images), map and measure: type, map, measure, estimate, low, high, n.
        """
        rows = []
        for (kind, name, measure), own in self._last.groupby(["type", "map", "measure"], sort=False):
            if len(own) >= MIN_SHOWN:
                share = proportion(nearer(own), own["source"].to_numpy())
                rows.append(share.row(type=kind, map=name, measure=measure, n=len(own)))
        return pd.DataFrame(rows, columns=["type", "map", "measure", "estimate", "low", "high", "n"])

    def nearer_differences(self) -> pd.DataFrame:
        """That share after Type I less that of each control, on the images that both have.

        Returns:
            A row a control (with `MIN_SHOWN` images), map and measure: less, map, measure, n, estimate, low, high.
        """
        rows, keys = [], ["source", "map", "measure"]
        for rival in (LOST, LOST_ASKED, ASKED):
            ours, theirs = (self._last[self._last["type"] == kind] for kind in (TYPE_I, rival))
            both = ours.merge(theirs, on=keys, suffixes=("", " of the rival"))
            for (name, measure), own in both.groupby(["map", "measure"], sort=False):
                if len(own) >= MIN_SHOWN:
                    gap = proportion_difference(nearer(own), nearer(own, of=" of the rival"), own["source"].to_numpy())
                    rows.append(gap.row(less=rival, map=name, measure=measure, n=len(own)))
        return pd.DataFrame(rows, columns=["less", "map", "measure", "n", "estimate", "low", "high"])

    @property
    def _last(self) -> pd.DataFrame:
        last = self.likenesses.groupby("type")["stop"].transform("max")
        return self.likenesses[self.likenesses["stop"] == last]

    def along_the_way(self) -> pd.DataFrame:
        """Mean likeness of Type I's maps at each stop of the walk: stop, map, measure, to, estimate, low, high, n."""
        rows, own = [], self.likenesses[self.likenesses["type"] == TYPE_I]
        for (stop, name, measure), part in own.groupby(["stop", "map", "measure"], sort=False):
            for to in ("start", "target") if len(part) >= MIN_SHOWN else ():
                average = mean(part[to].to_numpy(float), part["source"].to_numpy(), seed=self.bench.seed)
                rows.append(average.row(stop=stop, map=name, measure=measure, to=to, n=len(part)))
        return pd.DataFrame(rows, columns=["stop", "map", "measure", "to", "estimate", "low", "high", "n"])

    # ------------------------------------------------------------ detection

    @cached_property
    def benchmark(self) -> Benchmark:
        """The attack, with the clean images as the generator redraws them in the place of noisy twins.

        A perturbation as large as the image has no noisy twin: noise of its norm is no normal image.
        """
        redrawn = self.generator.decode(self.generator.encode(self.images))

        def succeeded(images: Array) -> Array:
            return (self.end(images, self.labels, self.aims)["cause"] == SUCCESS).to_numpy()

        sets = {"type_one": dataclasses.replace(self.attack_set, noisy=redrawn)}
        return self.bench.benchmark(self.classifier, sets, succeeded={"type_one": succeeded})

    @cached_property
    def detectors(self) -> dict[str, Detector]:
        """Deep kNN by its credibility, and by the p-value of the network's decision."""
        about: dict[str, Any] = {"k": self.neighbours, "conformal_images": self.held_out, "seed": self.bench.seed}
        lens = DeepNeighbours(self.classifier, **about).fit(*self.bench.training)
        named = {"Deep kNN": CREDIBILITY, "Deep kNN, of the decision": OF_DECISION}
        return {name: Detector(lens, Sign(column, 1), columns=(column,), name=name) for name, column in named.items()}

    def detection(self) -> pd.DataFrame:
        """The long table: "noisy" negatives are the redrawn images."""
        negatives = ("matched", "clean", "noisy", "hard images")
        return self.benchmark.run(list(self.detectors.values()), negatives=negatives)
