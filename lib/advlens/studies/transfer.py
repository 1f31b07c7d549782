"""The transfer part of the Deep kNN report: intermediate level attacks (ILA), which the report could not get to work.

Attacks are made on one network; the others, which they never saw, are the victims. Each network's own Deep kNN then
judges the images that fool it.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.attacks.intermediate import STEPS
from advlens.benchmark import BEST_BASELINE, Benchmark
from advlens.benchmark.judging import with_verdicts
from advlens.classifier import Classifier
from advlens.datasets import split_groups
from advlens.detectors import Detector, Sign
from advlens.lenses import DeepNeighbours
from advlens.lenses.neighbours import CREDIBILITY
from advlens.metrics import MIN_POSITIVES, proportion, proportion_difference
from advlens.progress import progress
from advlens.random import stream, stream_seed
from advlens.store import artifact
from advlens.workbench import Workbench

SOURCES = ("deep_knn_cnn", "fashion_dropout_cnn")  # the networks that are attacked: the report's, and a deeper one
VICTIMS = ("two_conv_cnn", "average_pooling_cnn", "digits_dropout_cnn")
LAYERS = {
    "deep_knn_cnn": ("conv1", "conv2", "conv3", "logits"),
    "fashion_dropout_cnn": ("conv2", "conv4", "hidden1", "logits"),
}
REPORT_EPS = 4 / 255  # the report's 0.03 on a scale from −1 to 1, on the 8-bit grid; its rate is a fifth of it
# Digits are black and white and bear more; the first is the report's, settings are chosen at the second.
STRENGTHS = {"mnist": (REPORT_EPS, 26 / 255, 51 / 255)}
OTHER_STRENGTHS = (REPORT_EPS, 8 / 255, 15 / 255)

FGSM, BIM, LONGER_BIM, MOMENTUM = "fgsm", "bim", "bim, twice the steps", "mi_fgsm"
ILAP, ILAF, CONTROL = "ilap", "ilaf", "random guide"
VARIANTS = (ILAP, ILAF)
STEP_SHARES = (1 / 10, 1 / 5, 2 / 5)  # of ε, of which validation images choose one
RIVALS = (BIM, LONGER_BIM, MOMENTUM, CONTROL)  # the base attack, and three with as many gradient steps as ILA after it
METHODS = (FGSM, *RIVALS[:3], *VARIANTS, CONTROL)
ALL_VICTIMS = "all victims"
MARGIN = 0.02  # of the share misclassified: a smaller difference means nothing in practice


@dataclasses.dataclass(frozen=True)
class Method:
    """One attack at one strength.

    Attributes:
        method: one of `METHODS`; eps: the largest change of a pixel; attack: the catalogue's name.
        layer: that ILA turns to, "" where it turns to none; parameters: of the attack, beside ε.
    """

    method: str
    eps: float
    attack: str
    layer: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """As the store lists it."""
        return " ".join(filter(None, (self.method, self.layer, f"{self.eps:.3g}")))


@dataclasses.dataclass(frozen=True)
class Choice:
    """ILA's settings that fool most victims on validation images."""

    variant: str
    layer: str
    step_share: float


def plain(method: str, eps: float, *, iterations: int) -> Method:
    """FGSM, BIM, BIM with twice the steps, or MI-FGSM (Dong et al. 2018) with as many as that."""
    if method == FGSM:
        return Method(method, eps, "fgsm")
    steps = iterations if method == BIM else 2 * iterations
    return Method(method, eps, "mi_fgsm" if method == MOMENTUM else "bim", parameters={"max_iter": steps})


def intermediate(choice: Choice, eps: float, *, iterations: int, method: str | None = None, **given: Any) -> Method:
    """ILA after BIM with as many steps; `given` overrides its parameters, such as `guide="random"`."""
    steps = {"max_iter": iterations, "base_steps": iterations, "eps_step": float(choice.step_share * eps)}
    return Method(method or choice.variant, eps, choice.variant, choice.layer, {"layer": choice.layer} | steps | given)


@artifact(version=1)
def find_misclassified(networks: Mapping[str, keras.Model], images: Array, labels: Array) -> pd.DataFrame:
    """Whether each network gives (n, h, w, channels) images another class than their (n,) true one.

    Returns:
        (n rows) of bools, one column per network.
    """
    return pd.DataFrame(
        {name: Classifier(network).predict(images).argmax(axis=1) != labels for name, network in networks.items()}
    )


class Study:
    """ILA on one network, against three victims and as many plain steps.

    Args:
        bench: the notebook's workbench.
        source: the attacked network, one of `SOURCES`; the victims are `VICTIMS`.
        deep_knn_epochs: of the report's network; task_epochs, dropout_epochs: of networks without and with dropout.
        transfer_images: how many test images, which all networks classify correctly, are attacked.
        iterations: steps of BIM, and of ILA after it; 5 or more.
        strengths: ε, rising; empty for the data set's own. Settings are chosen at the middle one.
        threshold_images: further images, which all networks classify correctly, for thresholds.
        neighbours: of each victim's Deep kNN, in each layer; held_out: training images that calibrate its p-values.

    Attributes:
        classifiers: the attacked network, then the victims, by their names.
        attacked: indices of the attacked images in the test set; for_thresholds: of the others.
    Raises:
        ValueError: for more images than there are, or strengths that do not rise in (0, 1].
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        source: str = SOURCES[0],
        deep_knn_epochs: int,
        task_epochs: int,
        dropout_epochs: int,
        transfer_images: int,
        iterations: int,
        threshold_images: int,
        neighbours: int,
        held_out: int,
        strengths: Sequence[float] = (),
    ) -> None:
        if source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}")
        checked_whole(iterations, name="transfer_iterations", least=STEPS)  # fewer would not reach the ball's edge
        checked_whole(transfer_images, name="transfer_images", least=2 * MIN_POSITIVES)
        checked_whole(threshold_images, name="threshold_images")
        self.bench, self.source, self.iterations = bench, source, iterations
        self.neighbours = checked_whole(neighbours, name="neighbours")
        self.held_out = checked_whole(held_out, name="deep_knn_calibration")
        known = STRENGTHS.get(bench.data.name, OTHER_STRENGTHS)
        self.strengths = _check_strengths(strengths) or known
        self.middle = self.strengths[len(self.strengths) // 2]
        epochs = {SOURCES[0]: deep_knn_epochs, VICTIMS[0]: task_epochs, VICTIMS[1]: task_epochs}
        self.classifiers: dict[str, Classifier] = {
            name: bench.classifier(name, epochs=epochs.get(name, dropout_epochs)) for name in (source, *VICTIMS)
        }
        self.attacked, self.for_thresholds = self._draw(transfer_images, threshold_images)
        seed = stream_seed(bench.seed, "transfer/validation")
        self.is_test = split_groups(self.attacked, fractions=(0.0, 0.2, 0.8), seed=seed).test

    def _draw(self, attacked: int, thresholds: int) -> tuple[Array, Array]:
        """Indices of the test images that are attacked, and that commit thresholds."""
        data = self.bench.data
        order = stream(self.bench.seed, "transfer/attacked").permutation(len(data.test_labels))
        correct = ~self._misclassified(data.test_images[order], data.test_labels[order]).any(axis=1)
        free = order[correct.to_numpy()]
        if attacked + thresholds > len(free):
            raise ValueError(
                f"transfer_images and threshold_images must be at most {len(free)} together, the test images that all "
                f"networks classify correctly, got {attacked} and {thresholds}"
            )
        return free[:attacked], free[attacked : attacked + thresholds]

    def _misclassified(self, images: Array, labels: Array) -> pd.DataFrame:
        networks = {name: classifier.model for name, classifier in self.classifiers.items()}
        return self.bench.store.keep(
            "misclassified", find_misclassified, networks=networks, images=images, labels=labels
        )

    def attack_set(self, method: Method) -> AttackSet:
        """The attacked images of a method, aimed at the attacked network alone."""
        about = {"title": method.name, "eps": method.eps, **method.parameters}
        return self.bench.attack_on(self.attacked, method.attack, self.classifiers[self.source], **about)

    def methods(self, eps: float) -> list[Method]:
        """All methods that are compared at a strength, ILA with the settings that were chosen for it."""
        steps: dict[str, Any] = {"iterations": self.iterations}
        ila = [intermediate(self._choice_of(variant), eps, **steps) for variant in VARIANTS]
        control = intermediate(self.choice, eps, **steps, method=CONTROL, guide="random")
        return [*(plain(name, eps, **steps) for name in METHODS[:4]), *ila, control]

    @cached_property
    def tried(self) -> pd.DataFrame:
        """`fooled` by both variants at every layer and step, at the middle strength."""
        choices = list(itertools.starmap(Choice, itertools.product(VARIANTS, LAYERS[self.source], STEP_SHARES)))
        methods = [intermediate(each, self.middle, iterations=self.iterations) for each in choices]
        step_share = np.repeat([each.step_share for each in choices], len(self.attacked))
        return self._attack(methods).assign(step_share=step_share)

    @cached_property
    def choices(self) -> pd.DataFrame:
        """Each variant's layer and step that fool most victims on validation images: layer, step_share, share, n."""
        validation = self.tried[self.tried["part"] == "validation"]
        validation = validation.assign(share=validation[list(VICTIMS)].mean(axis=1))
        shares = validation.groupby(["method", "layer", "step_share"], sort=False)["share"]
        table = shares.agg(share="mean", n="size").reset_index()
        return table.loc[table.groupby("method", sort=False)["share"].idxmax()].set_index("method")

    @property
    def choice(self) -> Choice:
        """The better of the two."""
        return self._choice_of(str(self.choices["share"].idxmax()))

    def _choice_of(self, variant: str) -> Choice:
        return Choice(variant, *self.choices.loc[variant, ["layer", "step_share"]])  # pyright: ignore[reportArgumentType]

    @cached_property
    def fooled(self) -> pd.DataFrame:
        """One row per image, method and strength: method, layer, eps, source, part, one column of bools per network."""
        return self._attack([method for eps in self.strengths for method in self.methods(eps)])

    def _attack(self, methods: Sequence[Method]) -> pd.DataFrame:
        sets = [self.attack_set(method) for method in progress(methods, description="attacking", unit="attack")]
        images, labels = (np.concatenate([getattr(made, what) for made in sets]) for what in ("adversarial", "label"))
        about = pd.DataFrame([{"method": each.method, "layer": each.layer, "eps": each.eps} for each in methods])
        about = about.loc[about.index.repeat(len(self.attacked))].reset_index(drop=True)
        part = np.tile(np.where(self.is_test, "test", "validation"), len(methods))
        source = np.tile(self.attacked, len(methods))
        return self._misclassified(images, labels).join(about).assign(source=source, part=part)

    # ------------------------------------------------------------ does the victim's Deep kNN notice?

    def benchmark(self, victim: str) -> Benchmark:
        """BIM, BIM with as many steps and ILA at the largest ε for a victim, on the images that chose nothing."""
        eps = self.strengths[-1]
        wanted = (BIM, LONGER_BIM, self.choice.variant)
        methods = [each for each in self.methods(eps) if each.method in wanted]
        sets = {each.method: self.attack_set(each).select(self.is_test) for each in methods}
        source = np.concatenate([self.attacked, self.for_thresholds])
        return self.bench.benchmark(self.classifiers[victim], sets, source=source)

    @property
    def detection(self) -> pd.DataFrame:
        """The long table of each victim's Deep kNN on the images that fool it, with the victim's name in front."""
        return self._detection[0]

    @property
    def detection_compared(self) -> pd.DataFrame:
        """`Benchmark.compare` of each victim's Deep kNN with the best trivial score, in AUC (Holm over all)."""
        return self._detection[1]

    @cached_property
    def _detection(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        tables, compared = [], []
        for victim in VICTIMS:
            about: dict[str, Any] = {"k": self.neighbours, "conformal_images": self.held_out, "seed": self.bench.seed}
            lens = DeepNeighbours(self.classifiers[victim], **about).fit(*self.bench.training)
            detector = Detector(lens, Sign(CREDIBILITY, 1), columns=(CREDIBILITY,), name="Deep kNN")
            benchmark = self.benchmark(victim)
            table = benchmark.run([detector], wanted=("roc_auc", "committed_tpr_0.05"))
            table.insert(0, "victim", victim)
            tables.append(table)
            compared.append(benchmark.compare([(detector, BEST_BASELINE)]).assign(victim=victim))
        told = pd.concat(compared, ignore_index=True)
        return pd.concat(tables, ignore_index=True), with_verdicts(told, told["margin"].iloc[0])


# ---------------------------------------------------------------- tables: estimate, low, high, n


def success(fooled: pd.DataFrame, *, by: Sequence[str] = ("method", "eps")) -> pd.DataFrame:
    """The share of attacked images that each network misclassifies, of those that chose nothing.

    Args:
        fooled: `Study.fooled`, or `Study.tried` with by=("method", "layer", "step_share").
    Returns:
        The columns `by`, network (the attacked one, the victims, `ALL_VICTIMS`: their mean), estimate, low, high, n.
    """
    rows = []
    for key, frame in fooled[fooled["part"] == "test"].groupby(list(by), sort=False):
        for network, values in _by_network(frame).items():
            share = proportion(values, frame["source"].to_numpy())
            rows.append(share.row(**dict(zip(by, key, strict=True)), network=network, n=len(frame)))
    return pd.DataFrame(rows)


def differences(fooled: pd.DataFrame, variant: str) -> pd.DataFrame:
    """The share of victims that ILA fools minus that of each rival, on the same images.

    Args:
        fooled: `Study.fooled`; variant: of ILA.
    Returns:
        rival, eps, estimate, low, high, n, verdict (Holm-adjusted over the table, with a margin of `MARGIN`).
    """
    judged, found = fooled[fooled["part"] == "test"], []
    for rival, (eps, ours) in itertools.product(RIVALS, judged[judged["method"] == variant].groupby("eps")):
        theirs = judged[(judged["method"] == rival) & (judged["eps"] == eps)].set_index("source")
        a, b = (_by_network(frame)[ALL_VICTIMS] for frame in (ours, theirs.loc[ours["source"]]))
        gained = proportion_difference(a, b, ours["source"].to_numpy())
        found.append(gained.row(rival=rival, eps=eps, n_positive=len(ours)))
    table = with_verdicts(pd.DataFrame(found), MARGIN)
    return table.rename(columns={"n_positive": "n"})[["rival", "eps", "estimate", "low", "high", "n", "verdict"]]


def _by_network(frame: pd.DataFrame) -> dict[str, Array]:
    """(n,) 0 or 1 per network, and the mean of the victims."""
    networks = [name for name in (*SOURCES, *VICTIMS) if name in frame]
    values = {name: frame[name].to_numpy(np.float64) for name in networks}
    return values | {ALL_VICTIMS: frame[list(VICTIMS)].to_numpy(np.float64).mean(axis=1)}


def _check_strengths(strengths: Sequence[float]) -> tuple[float, ...]:
    numeric = isinstance(strengths, Sequence) and all(type(eps) in (int, float) for eps in strengths)
    if not numeric or any(not 0 < eps <= 1 for eps in strengths) or list(strengths) != sorted(set(strengths)):
        raise ValueError(f"transfer_strengths must be a list of numbers that rise in (0, 1], got {strengths!r}")
    return tuple(map(float, strengths))
