"""The relevancy-map study: can a network tell attacks from normal images by its relevance maps?

Here are its published accuracies, its protocol as a value, its files, and the experiments that only it has: how maps
agree, how they move under attacks, and what they add to the image. Detection is `Benchmark`'s business.

Source: "Interpretability for Detecting Adversarial Attacks" (slides), and its public code where the slides are silent.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from advlens import metrics
from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.benchmark import Benchmark, Scored, Stratum
from advlens.benchmark.judging import BAR, count_rows, difference, with_verdicts
from advlens.benchmark.protocol import CORRECTED, Protocol, Split, Stopping, Threshold
from advlens.benchmark.samples import chosen_rows, is_adversarial
from advlens.benchmark.vocabulary import COMMITTED_ACCURACY, Condition, Negatives, Part, TrainedOn
from advlens.classifier import Classifier
from advlens.detectors import Detector, Logistic, Network, Sign
from advlens.explanations import colour_map, explain
from advlens.explanations.similarity import rank_correlation
from advlens.image_files import export, export_names
from advlens.lenses import BASELINES, MAX_SOFTMAX, Baselines, InFile, Lens, Pixels, Relevancy
from advlens.random import stream_seed
from advlens.store import artifact
from advlens.workbench import Workbench

ATTACKS = ("lbfgs", "deepfool", "gradient")
MARGINS = (2.0, 5.0)  # of logits, at which each attack stops as well
FOLLOWED = ("input", "Deep Taylor")  # the detectors of which more than the detection is shown
JUDGED: dict[str, Any] = {"stratum": Stratum.SUCCESS, "negatives": Negatives.MATCHED}
TINY = 1e-30  # keeps logarithms finite

# ---------------------------------------------------------------- what the study published

PUBLISHED_ACCURACY = {
    "input": {"lbfgs": 0.944, "deepfool": 0.9816, "gradient": 0.97},
    "relevancy": {"lbfgs": 0.608, "deepfool": 0.7029, "gradient": 0.792},
}
"""Detector → attack → accuracy, on MNIST."""
VARIANT_ACCURACY = {"relevancy, VGG-like": 0.79, "relevancy, last layer": 0.50}
"""Detector → accuracy; the slides do not say of which attack."""
FILE = Condition.WRAPPED_JPEG.value  # what the study's code saved, and trained on
STUDY_MAP: dict[str, Any] = {"method": "lrp.z", "neuron": "all"}  # what its code computes under the name Deep Taylor

AS_PUBLISHED = Protocol(
    "as published",
    split=Split.BY_ROW,
    negatives=Negatives.CLEAN,
    threshold=Threshold.FIXED,
    condition=Condition.FLOAT,
    stopping=Stopping.EVALUATED,
)
DEFECTS = (
    CORRECTED,
    Protocol("split by row, not by image", split=Split.BY_ROW),
    Protocol("stopped by the evaluated images", stopping=Stopping.EVALUATED),
    Protocol("no noisy twins", negatives=Negatives.CLEAN),
    Protocol("floats, not 8 bits", condition=Condition.FLOAT),
    Protocol("wrapped JPEG", condition=Condition.WRAPPED_JPEG),
)
"""The corrected protocol, and it with one of the published defects each."""


def published_accuracy(dataset: str, detector: str, attack: str) -> float:
    """What the slides say, which is of MNIST alone; NaN where they say nothing."""
    if dataset != "mnist":
        return float("nan")
    return PUBLISHED_ACCURACY.get(detector, {}).get(attack, VARIANT_ACCURACY.get(detector, float("nan")))


# ---------------------------------------------------------------- detectors


@dataclasses.dataclass(frozen=True)
class Training:
    """How detector networks are trained.

    Attributes:
        epochs: at most; patience: epochs without a better validation loss; batch_size: of which the study says nothing.
    """

    epochs: int
    patience: int
    batch_size: int = 128


def network_detector(lens: Lens, training: Training, *, name: str, network: str = "slide_detector_cnn") -> Detector:
    """The study's detector network on a lens of pictures; relevances as they are, which are tiny, are scaled."""
    inner = lens.lens if isinstance(lens, InFile) else lens
    tiny = isinstance(inner, Relevancy) and not inner.coloured
    about = {"network": network, "unit_scale": tiny, **dataclasses.asdict(training)}
    return Detector(lens, Network(inner.shape, **about), name=name)  # type: ignore[attr-defined]


def published_detectors(classifier: Classifier, training: Training) -> dict[str, Detector]:
    """What the study trained, on its files, and trivial scores of the same files, by name."""
    study_map = Relevancy(classifier, **STUDY_MAP, coloured=True, codec=FILE)
    last_layer = Relevancy(classifier, **STUDY_MAP, last_layer=True, coloured=True, codec=FILE)
    lenses: dict[str, Lens] = {"input": InFile(Pixels(classifier.input_shape), FILE), "relevancy": study_map}  # pyright: ignore[reportArgumentType]
    lenses |= {"relevancy, VGG-like": study_map, "relevancy, last layer": last_layer}
    networks = {"relevancy, VGG-like": "vgg_like_detector_cnn"}
    made = {
        name: network_detector(lens, training, name=name, network=networks.get(name, "slide_detector_cnn"))
        for name, lens in lenses.items()
    }
    scores = InFile(Baselines(classifier), FILE)
    trivial = {"non-black background of the file": BASELINES[:1], "trivial scores of the file": BASELINES}
    for name, columns in trivial.items():
        made[name] = Detector(scores, Logistic(), columns=columns, name=name)
    return made


def corrected_detectors(classifier: Classifier, training: Training) -> dict[str, Detector]:
    """The same network on images, on Deep Taylor maps and on maps by the z-rule, as floats, by name."""
    lenses: dict[str, Lens] = {"input": Pixels(classifier.input_shape)}  # pyright: ignore[reportArgumentType]
    lenses |= {"Deep Taylor": Relevancy(classifier), "z-rule": Relevancy(classifier, method="lrp.z")}
    return {name: network_detector(lens, training, name=name) for name, lens in lenses.items()}


# ---------------------------------------------------------------- the study


class Study:
    """The relevancy-map study of one run and data set.

    Args:
        bench: the notebook's workbench.
        network, task_epochs: the task network.
        attacked_images: how many correctly classified test images each attack is run on.
        published, corrected: how detector networks are trained under each protocol.
        training_seeds: how many times each detector is trained, on a split of its own each time.
    Raises:
        ValueError: for more images than the network classifies correctly, or an attack that never succeeds.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        network: str,
        task_epochs: int,
        attacked_images: int,
        published: Training,
        corrected: Training,
        training_seeds: int = 5,
    ) -> None:
        self.bench, self.training_seeds = bench, checked_whole(training_seeds, name="training_seeds")
        self.classifier = bench.classifier(network, epochs=task_epochs)
        self.attack_sets = bench.attack_sets(ATTACKS, self.classifier, n=attacked_images)
        for name, made in self.attack_sets.items():
            if not made.success.any():
                raise ValueError(
                    f"{name} never succeeded on {len(made)} images: attack more, or train the network longer"
                )
        self.published_detectors = published_detectors(self.classifier, published)
        self.detectors = corrected_detectors(self.classifier, corrected)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The study's attacks."""
        return self.bench.benchmark(self.classifier, self.attack_sets, n_seeds=self.training_seeds)

    @cached_property
    def margin_benchmark(self) -> Benchmark:
        """The study's attacks, and each stopped at `MARGINS` too, by names such as "deepfool, margin 2"."""
        sets, n = self.attack_sets, len(self.attack_sets[ATTACKS[0]])
        for attack in ATTACKS:
            sets = sets | self.bench.stopped_at(MARGINS, attack, self.classifier, n=n)
        return self.bench.benchmark(self.classifier, sets, n_seeds=self.training_seeds)

    # ------------------------------------------------------------ detection

    def as_published(self) -> pd.DataFrame:
        """The long table of the study's detectors on its files: accuracy where the log odds are above 0, and AUC."""
        own, wanted = list(self.published_detectors.values()), (COMMITTED_ACCURACY, "roc_auc")
        return self.benchmark.run(own, protocols=(AS_PUBLISHED,), wanted=wanted)

    def corrected(self) -> pd.DataFrame:
        """The long table of the corrected protocol, with the hard-image control."""
        both = (Negatives.MATCHED, Negatives.HARD_IMAGES)
        return self.benchmark.run(list(self.detectors.values()), negatives=both)

    @property
    def _followed(self) -> list[Detector]:
        return [self.detectors[name] for name in FOLLOWED]

    def defects(self) -> pd.DataFrame:
        """The long table of the corrected protocol with one defect at a time: ROC-AUC."""
        return self.benchmark.run(self._followed, protocols=DEFECTS, wanted=("roc_auc",))

    def margins(self) -> pd.DataFrame:
        """The long table of the attacks stopped at several margins: ROC-AUC by how sure the attack is."""
        return self.margin_benchmark.run(self._followed, wanted=("roc_auc",))

    def unseen(self) -> pd.DataFrame:
        """The long table of detectors that learnt from the attack itself, and from the two others alone.

        The three are one family, so there is no other to learn from.
        """
        learnt = (TrainedOn.ATTACK, TrainedOn.OTHER_ATTACKS)
        return self.benchmark.run(self._followed, trained_on=learnt, wanted=("roc_auc", "tpr_at_fpr_0.05"))

    def unseen_differences(self) -> pd.DataFrame:
        """The TPR at 5 % FPR of learning from the two other attacks minus that of learning from the attack, paired.

        Returns:
            A row an attack and detector: attack, detector, metric, estimate, low, high, p_value, p_adjusted (Holm's,
            over the table), margin, verdict (of learning from the others), n_positive, n_negative, n_sources.
        """
        rows = []
        for attack, detector in itertools.product(ATTACKS, self._followed):
            others, own = (
                self.benchmark.scores(detector, attack, trained_on=learnt)
                for learnt in (TrainedOn.OTHER_ATTACKS, TrainedOn.ATTACK)
            )
            about = {"attack": attack, "detector": detector.name, "metric": BAR}
            rows.append(about | self._minus(others, own, BAR, draws="relevancy/unseen"))
        return with_verdicts(pd.DataFrame(rows), metrics.MARGINS[BAR])

    def _minus(self, a: Scored | None, b: Scored | None, metric: str, *, draws: str) -> dict[str, Any]:
        """A row's numbers: the difference of a metric, paired, and how many rows are judged."""
        about = {**JUDGED, "threshold": CORRECTED.threshold, "seed": stream_seed(self.bench.seed, draws)}
        return difference(a, b, metric, **about).row(**count_rows(a and a.judged(**JUDGED)))

    def beyond(self) -> pd.DataFrame:
        """Do maps show anything that the image and the largest softmax output do not?

        A logistic regression, fitted on each seed's validation part, joins the log odds of the input classifier, the
        log of max softmax and the log odds of a map's classifier; the difference is its AUC minus that of the same
        without the map, Holm-adjusted within the table.

        Returns:
            The columns of `Benchmark.compare`, a row an attack and map.
        """
        softmax = Detector(self.benchmark.baselines[0].lens, Sign(MAX_SOFTMAX, 1), name=MAX_SOFTMAX)
        rows = []
        for attack, name in itertools.product(ATTACKS, ("Deep Taylor", "z-rule")):
            image, of_map = (self.benchmark.scores(self.detectors[each], attack) for each in ("input", name))
            sure, both, alone = self.benchmark.scores(softmax, attack), None, None
            if image is not None and of_map is not None and sure is not None:
                base = [image.scores, np.log(np.maximum(sure.scores, TINY)).repeat(len(image.scores), axis=0)]
                both, alone = (
                    dataclasses.replace(image, scores=join(each, image)) for each in ([*base, of_map.scores], base)
                )
            about = {"attack": attack, "a": f"image + softmax + {name}", "b": "image + softmax", "metric": "roc_auc"}
            rows.append(about | self._minus(both, alone, "roc_auc", draws="relevancy/beyond"))
        return with_verdicts(pd.DataFrame(rows), metrics.MARGINS["roc_auc"])

    # ------------------------------------------------------------ files and maps

    def export(self, folder: Path, *, images: int = 100) -> dict[str, dict[str, list[str]]]:
        """Writes the study's JPEGs of up to that many successes an attack: images and coloured maps.

        Returns:
            attack → kind of file → the names of its files, which lie in `folder / attack`.
        """
        return {attack: self._export(folder / attack, made, images) for attack, made in self.attack_sets.items()}

    def _export(self, folder: Path, made: AttackSet, images: int) -> dict[str, list[str]]:
        won = made.select(np.flatnonzero(made.success)[:images])
        names, pictures = {}, {}
        for role, shown, predicted in (("original", won.clean, None), ("adversarial", won.adversarial, won.predicted)):
            maps = colour_map(explain(self.classifier.model, shown, **STUDY_MAP))
            for kind, files in ((role, shown), (f"{role}, map", maps)):
                names[kind] = export_names(won.source, won.label, predicted, maps=kind != role)
                pictures |= zip(names[kind], files, strict=True)
        export(folder, pictures)
        return names


def join(scores: Sequence[Array], scored: Scored) -> Array:
    """(s, n) log odds of a logistic regression of several (s, n) scores, fitted on each seed's validation part."""
    joined = np.empty_like(scores[0])
    truth = is_adversarial(scored.about)
    for number, parts in enumerate(scored.parts[: len(joined)]):
        rows = chosen_rows(scored.about, parts[Part.VALIDATION], **JUDGED)
        values = pd.DataFrame({str(i): own[number] for i, own in enumerate(scores)})
        scaled = (values - values[rows].mean()) / values[rows].std().replace(0, 1)
        model = LogisticRegression(max_iter=1000).fit(scaled[rows].to_numpy(), truth[rows])
        joined[number] = model.decision_function(scaled.to_numpy())
    return joined


# ---------------------------------------------------------------- maps

AGREEING: dict[str, dict[str, Any]] = {
    "z-rule, all logits (the study's)": STUDY_MAP,
    "z-rule": {"method": "lrp.z"},
    "guided backprop": {"method": "guided_backprop"},
}
MOVING = {"Deep Taylor": "deep_taylor", "z-rule": "lrp.z", "guided backprop": "guided_backprop"}
DIFFERENCE = "noisy − attacked"
ONE_CLASS: dict[str, dict[str, Any]] = {
    "the study's map": STUDY_MAP,
    **{name: {"method": method} for name, method in MOVING.items()},
}


def map_agreement(classifier: Classifier, attack_set: AttackSet, *, seed: int) -> pd.DataFrame:
    """How the study's map and others rank the pixels of clean images, against true Deep Taylor.

    Returns:
        A row a map: map, estimate, low, high (mean rank correlation over images), n (those with a map that is not
        empty).
    """
    images, rows = attack_set.clean, []
    reference = explain(classifier.model, images, method="deep_taylor")
    for name, options in AGREEING.items():
        found = _correlation(explain(classifier.model, images, **options), reference)
        rows.append({"map": name, **_mean_of(found, attack_set.source, seed=seed)})
    return pd.DataFrame(rows)


@artifact(version=2)
def map_movement(classifier: Classifier, attack_sets: Mapping[str, AttackSet], *, seed: int) -> pd.DataFrame:
    """Rank correlation of clean images' maps, for their class, with other maps, over successful attacks.

    Compared are the map of the attacked image for its new class ("attacked") and for the class before ("attacked,
    first class"), the clean image's map for that new class ("clean, other class"), and the noisy twin's ("noisy");
    `DIFFERENCE` is the noisy twin's correlation minus the attacked image's, paired. Deep Taylor's map of a negative
    logit is empty: it ranks nothing, so pairs with an empty map are left out, and counted.

    Returns:
        A row an attack, method and comparison: attack, method, compared, estimate, low, high, n (pairs without an
        empty map), empty (the share of pairs with one). Where all are empty there is no row.
    """
    rows = []
    for (attack, made), (name, method) in itertools.product(attack_sets.items(), MOVING.items()):
        won = made.select(made.success)
        before = explain(classifier.model, won.clean, method=method)
        correlations = {}
        for compared, (images, neuron) in _comparisons(won).items():
            after = explain(classifier.model, images, method=method, neuron=neuron)
            correlations[compared] = _correlation(after, before)
        correlations[DIFFERENCE] = correlations["noisy"] - correlations["attacked"]
        for compared, values in correlations.items():
            if np.isfinite(values).any():
                about = {"attack": attack, "method": name, "compared": compared}
                empty = float(np.isnan(values).mean())
                rows.append({**about, **_mean_of(values, won.source, seed=seed), "empty": empty})
    return pd.DataFrame(rows)


@artifact(version=1)
def one_class_movement(classifier: Classifier, attack_sets: Mapping[str, AttackSet], *, seed: int) -> pd.DataFrame:
    """How much more attacks move a map than noise does, the class before the attack being explained throughout.

    The study's map explains the sum of all logits, whatever the class.

    Returns:
        A row an attack and map: attack, map, estimate, low, high (the noisy twin's rank correlation with the clean
        image's map minus the attacked image's, paired, over successful attacks), n (pairs without an empty map), empty
        (the share of pairs with one). Where all are empty there is no row.
    """
    rows = []
    for (attack, made), (name, options) in itertools.product(attack_sets.items(), ONE_CLASS.items()):
        won = made.select(made.success)
        before, attacked, noisy = (
            explain(classifier.model, images, **{"neuron": won.label, **options})
            for images in (won.clean, won.adversarial, won.noisy)
        )
        values = _correlation(noisy, before) - _correlation(attacked, before)
        if np.isfinite(values).any():
            found = _mean_of(values, won.source, seed=seed)
            rows.append({"attack": attack, "map": name, **found, "empty": float(np.isnan(values).mean())})
    return pd.DataFrame(rows)


def _comparisons(won: AttackSet) -> dict[str, tuple[Array, str | Array]]:
    """Name → images, explained class. The middle two keep apart what the image and what the class changes."""
    return {
        "attacked": (won.adversarial, "predicted"),
        "attacked, first class": (won.adversarial, won.label),
        "clean, other class": (won.clean, won.predicted),
        "noisy": (won.noisy, "predicted"),
    }


def _correlation(maps: Array, others: Array) -> Array:
    """(n,) rank correlations, NaN where a map is empty."""
    there = maps.any(axis=(1, 2, 3)) & others.any(axis=(1, 2, 3))
    return np.where(there, rank_correlation(maps, others), np.nan)


def _mean_of(values: Array, source: Array, *, seed: int) -> dict[str, float]:
    there = np.isfinite(values)
    return metrics.mean(values[there], source[there], seed=seed).row(n=int(there.sum()))
