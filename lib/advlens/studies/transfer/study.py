"""The transfer study on a workbench: attacks on one network, read by others, and judged by each one's Deep kNN."""

import itertools
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.attacks.intermediate import STEPS
from advlens.classifier import Classifier
from advlens.datasets import split_groups
from advlens.image_files import CODECS
from advlens.progress import progress
from advlens.studies.closeness.protocols import BASELINES, EIGHT_BIT
from advlens.studies.closeness.settings import published_of
from advlens.studies.deep_knn.measures import DEEP_KNN, NETWORKS_LABEL, measure
from advlens.studies.deep_knn.settings import checked_sizes
from advlens.studies.detection import FEWEST
from advlens.studies.transfer.measures import misread
from advlens.studies.transfer.results import (
    Choice,
    choose,
    credibilities,
    credibility_changes,
    detections,
    differences,
    eight_bit,
    success,
    sweep,
)
from advlens.studies.transfer.settings import (
    BIM,
    CONTROL,
    FGSM,
    ILA_OF_BIM,
    ILA_OF_FGSM,
    LAYERS,
    PLAIN,
    SOURCE,
    VARIANTS,
    VICTIMS,
    Method,
    intermediate,
    plain,
    strengths_of,
)
from advlens.workbench import Workbench

LEAST_IMAGES = 5 * FEWEST
DETECTORS = (DEEP_KNN, NETWORKS_LABEL)


class Study:
    """Intermediate level attacks on the network of the Deep kNN study, against three others and four Deep kNNs.

    Args:
        bench: the notebook's workbench.
        deep_knn_epochs: of the attacked network; task_epochs, dropout_epochs: of the networks without and with dropout.
        transfer_images: how many test images, which all networks read rightly, are attacked.
        iterations: steps of the basic iterative method and of the intermediate level attack after it, 5 or more.
        judged_victims: how many of the victims' own Deep kNNs judge, beside the attacked network's.
        strengths: ε, rising; empty for the data set's own. Layers are compared at the middle one.
        neighbours: of Deep kNN, in each layer.
        held_out: test images that calibrate it, right or wrong; nothing else uses them.
        calibration_images: further ones, which all networks read rightly, that commit thresholds.

    Attributes:
        classifiers: the attacked network, then the others, by their names; judging: those whose Deep kNN judges.
        source: the attacked images' places in the test set.
    Raises:
        ValueError: for numbers of images that the test set does not have, or strengths that do not rise in (0, 1].
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        deep_knn_epochs: int,
        task_epochs: int,
        dropout_epochs: int,
        transfer_images: int,
        iterations: int,
        neighbours: int,
        held_out: int,
        calibration_images: int,
        judged_victims: int = len(VICTIMS) + 1,
        strengths: Sequence[float] = (),
    ) -> None:
        counts = {"deep_knn_calibration": held_out, "calibration_images": calibration_images}
        for name, value in (counts | {"neighbours": neighbours}).items():
            checked_whole(value, name=name)
        checked_whole(iterations, name="transfer_iterations", least=STEPS)  # fewer would not reach the ball's edge
        for name, value in {"task_epochs": task_epochs, "dropout_epochs": dropout_epochs}.items():
            checked_whole(value, name=name)
        if checked_whole(transfer_images, name="transfer_images") < LEAST_IMAGES:
            raise ValueError(f"transfer_images must be at least {LEAST_IMAGES}, got {transfer_images}")
        if checked_whole(judged_victims, name="judged_victims", least=0) > len(VICTIMS) + 1:
            raise ValueError(f"judged_victims must be at most {len(VICTIMS) + 1}, all there are, got {judged_victims}")
        checked_sizes(bench, neighbours=neighbours, held_out=held_out)
        self.bench = bench
        self.iterations, self.k = iterations, neighbours
        self.strengths = _checked_strengths(strengths) or strengths_of(bench.data.name)
        self.sweep_eps = self.strengths[len(self.strengths) // 2]
        with_dropout = published_of(bench.data.name).network
        self.classifiers: dict[str, Classifier] = {
            SOURCE: bench.classifier(SOURCE, epochs=deep_knn_epochs),
            **{name: bench.classifier(name, epochs=task_epochs) for name in VICTIMS},
            with_dropout: bench.classifier(with_dropout, epochs=dropout_epochs),
        }
        self.judging = list(self.classifiers)[: 1 + judged_victims]
        self.held_out, self.source, self.calibration_source = self._drawn(held_out, transfer_images, calibration_images)

    def _drawn(self, held_out: int, attacked: int, thresholds: int) -> tuple[Array, Array, Array]:
        """Places in the test set: of those that calibrate Deep kNN, are attacked, and commit thresholds."""
        data = self.bench.data
        # A seed of its own, so that this is another order than that of the attacked images in other studies.
        order = np.random.default_rng([self.bench.seed, 11]).permutation(len(data.test_labels))
        chosen, free = np.split(order, [held_out])
        right = [
            classifier.predict(data.test_images[free]).argmax(axis=1) == data.test_labels[free]
            for classifier in self.classifiers.values()
        ]
        free = free[np.logical_and.reduce(right)]
        if attacked + thresholds > len(free):
            raise ValueError(
                f"transfer_images and calibration_images must be at most {len(free)} together, those that all networks "
                f"read rightly and that do not calibrate Deep kNN, got {attacked} and {thresholds}"
            )
        return chosen, free[:attacked], free[attacked : attacked + thresholds]

    @cached_property
    def is_test(self) -> Array:
        """(n,) bool, the four fifths of the attacked images that are judged; the others choose."""
        seed = int(np.random.default_rng([self.bench.seed, 12]).integers(2**32))
        return split_groups(self.source, fractions=(0.0, 0.2, 0.8), seed=seed).test

    # ------------------------------------------------------------ attacks

    def attack_set(self, method: Method) -> AttackSet:
        """The attacked images of a method, aimed at the attacked network alone."""
        return self.bench.attack_on(
            self.source,
            method.attack,
            self.classifiers[SOURCE],
            title=method.name,
            eps=method.eps,
            **method.parameters,
        )

    def compared(self, eps: float) -> list[Method]:
        """All methods whose transfer is compared at a strength, at the best layers."""
        of_layers = [self.follow_up(variant, eps) for variant in VARIANTS]
        control = self.follow_up(self.choice.variant, eps, method=CONTROL, guide="random")
        return [*self._plain(eps), *of_layers, control]

    def detected(self, eps: float) -> list[Method]:
        """The methods whose images Deep kNN judges: two attacks and what the choice makes of them."""
        of_fgsm = self.follow_up(self.choice.variant, eps, method=ILA_OF_FGSM, base_steps=1)
        of_bim = self.follow_up(self.choice.variant, eps, method=ILA_OF_BIM)
        return [*(method for method in self._plain(eps) if method.method in (FGSM, BIM)), of_fgsm, of_bim]

    def follow_up(self, variant: str, eps: float, **parameters: str | int) -> Method:
        """A variant at its best layer, see `settings.intermediate`."""
        return intermediate(variant, self.choice.layers[variant], eps, iterations=self.iterations, **parameters)

    def _plain(self, eps: float) -> list[Method]:
        return [plain(method, eps, iterations=self.iterations) for method in PLAIN]

    # ------------------------------------------------------------ transfer

    @cached_property
    def layers_tried(self) -> pd.DataFrame:
        """Which networks misread what both variants make of the images at each layer, at the middle strength."""
        methods = [
            intermediate(variant, layer, self.sweep_eps, iterations=self.iterations)
            for variant in VARIANTS
            for layer in LAYERS
        ]
        return self._misread(methods)

    @cached_property
    def choice(self) -> Choice:
        """The variant and layers that the validation images prefer."""
        return self.chosen_among[0]

    @cached_property
    def chosen_among(self) -> tuple[Choice, pd.DataFrame]:
        """`results.choose`."""
        return choose(self.layers_tried, eps=self.sweep_eps)

    @cached_property
    def misread(self) -> pd.DataFrame:
        """Which networks misread which attacked image, of all strengths, as `results.success` wants it."""
        return self._misread([method for eps in self.strengths for method in self.compared(eps)])

    def _misread(self, methods: Sequence[Method]) -> pd.DataFrame:
        """A row an image and method: method, layer, eps, source, part, and whether each network misreads it."""
        networks = {name: classifier.model for name, classifier in self.classifiers.items()}
        sets = [self.attack_set(method) for method in progress(methods, description="attacking", unit="attack")]
        images, labels = (np.concatenate([getattr(made, what) for made in sets]) for what in ("adversarial", "label"))
        read = self.bench.store.keep("misread", misread, networks=networks, images=images, labels=labels)
        about = pd.DataFrame([{"method": each.method, "layer": each.layer, "eps": each.eps} for each in methods])
        n = len(self.source)
        return read.join(about.loc[about.index.repeat(n)].reset_index(drop=True)).assign(
            source=np.tile(self.source, len(methods)),
            part=np.tile(np.where(self.is_test, "test", "validation"), len(methods)),
        )

    def success(self) -> pd.DataFrame:
        """`results.success` of all methods."""
        return success(self.misread, self.choice, seed=self.bench.seed)

    def sweep(self) -> pd.DataFrame:
        """`results.sweep` of both variants and all layers."""
        return sweep(self.layers_tried, eps=self.sweep_eps, seed=self.bench.seed)

    def differences(self) -> pd.DataFrame:
        """`results.differences` of the choice and its rivals."""
        return differences(self.misread, self.choice, seed=self.bench.seed)

    # ------------------------------------------------------------ Deep kNN

    @property
    def judged_strengths(self) -> tuple[float, ...]:
        """Those at which Deep kNN judges, from the middle one on: few images are misread at the report's own."""
        return self.strengths[len(self.strengths) // 2 :]

    @cached_property
    def judged(self) -> tuple[dict[str, dict[float, dict[str, pd.DataFrame]]], dict[str, pd.DataFrame]]:
        """What each network's Deep kNN, and the baselines, say of attacks, and of the images that commit thresholds."""
        sets = {
            eps: {method.method: self.attack_set(method) for method in self.detected(eps)}
            for eps in self.judged_strengths
        }
        measured, thresholds_from = {}, {}
        for name in progress(self.judging, description="Deep kNN", unit="network"):
            measured[name], thresholds_from[name] = self._of_network(name, sets)
        return measured, thresholds_from

    def _of_network(
        self, name: str, sets: dict[float, dict[str, AttackSet]]
    ) -> tuple[dict[float, dict[str, pd.DataFrame]], pd.DataFrame]:
        """All that one network's Deep kNN judges, measured in one go, since its training images are the same."""
        data = self.bench.data
        sources = [self.calibration_source, self.source]
        stacks = [data.test_images[source] for source in sources]
        for made in (made for of_eps in sets.values() for made in of_eps.values()):
            rounded = [CODECS["8-bit"](images[self.is_test]) for images in _twins(made)]
            stacks += [*_twins(made), *rounded]
            sources += [self.source, self.source, *[self.source[self.is_test]] * 2]
        rows = self._measure(name, np.concatenate(stacks), data.test_labels[np.concatenate(sources)])
        ends = np.cumsum([len(stack) for stack in stacks])[:-1]
        parts = iter([rows.iloc[places] for places in np.split(np.arange(len(rows)), ends)])
        thresholds_from, clean = next(parts), next(parts)
        measured = {
            eps: {method: self._of_attack(clean, *itertools.islice(parts, 4)) for method in of_eps}
            for eps, of_eps in sets.items()
        }
        return measured, thresholds_from

    def _of_attack(
        self,
        clean: pd.DataFrame,
        noisy: pd.DataFrame,
        attacked: pd.DataFrame,
        noisy_rounded: pd.DataFrame,
        attacked_rounded: pd.DataFrame,
    ) -> pd.DataFrame:
        """The rows of one attack, with role, source, part and success: whether the judged network misreads it.

        Those of the test part are there once more, rounded, as part `protocols.EIGHT_BIT`; clean ones as they are.
        """
        part = np.where(self.is_test, "test", "validation")
        floats = {"clean": clean, "noisy": noisy, "adversarial": attacked}
        rounded = {"clean": clean[self.is_test], "noisy": noisy_rounded, "adversarial": attacked_rounded}
        about = ((floats, self.source, part), (rounded, self.source[self.is_test], EIGHT_BIT))
        labels = self.bench.data.test_labels
        rows = [
            frame.assign(
                role=role,
                source=source,
                part=part,
                success=(frame["predicted"].to_numpy() != labels[source]) & (role == "adversarial"),
            )
            for frames, source, part in about
            for role, frame in frames.items()
        ]
        return pd.concat(rows, ignore_index=True)

    def _measure(self, name: str, images: Array, labels: Array) -> pd.DataFrame:
        data, n = self.bench.data, self.bench.train_images
        with_weights = [layer.name for layer in self.classifiers[name].model.layers if layer.weights]
        return self.bench.store.keep(
            f"transfer_neighbours.{name}",
            measure,
            network=self.classifiers[name].model,
            images=images,
            labels=labels,
            train_images=data.train_images[:n],
            train_labels=data.train_labels[:n],
            calibration_images=data.test_images[self.held_out],
            calibration_labels=data.test_labels[self.held_out],
            k=self.k,
            layers=with_weights[-len(LAYERS) :],  # as many as the attacked network has: more take more memory
        )

    def credibilities(self) -> pd.DataFrame:
        """`results.credibilities` of all networks."""
        return credibilities(self.judged[0], seed=self.bench.seed)

    def credibility_changes(self) -> pd.DataFrame:
        """`results.credibility_changes` of all networks."""
        return credibility_changes(self.judged[0], seed=self.bench.seed)

    def detections(self) -> pd.DataFrame:
        """`results.detections` of all networks."""
        measured, thresholds_from = self.judged
        return self.bench.store.keep(
            "transfer_detections",
            detections,
            measured=measured,
            thresholds_from=thresholds_from,
            detectors=DETECTORS,
            seed=self.bench.seed,
        )

    def eight_bit(self) -> pd.DataFrame:
        """`results.eight_bit` of all networks."""
        return eight_bit(self.judged[0], detectors=(*DETECTORS, *BASELINES), seed=self.bench.seed)


def _twins(made: AttackSet) -> tuple[Array, Array]:
    return made.noisy, made.adversarial


def _checked_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    wrong = ValueError(f"transfer_strengths must be a list of numbers that rise in (0, 1], got {strengths!r}")
    if not isinstance(strengths, Sequence) or any(type(eps) not in (int, float) for eps in strengths):
        raise wrong
    if any(not 0 < eps <= 1 for eps in strengths) or list(strengths) != sorted(set(strengths)):
        raise wrong
    return tuple(map(float, strengths))
