"""The Deep kNN report's first half: is credibility honest on clean images, and does it fall under attack?

The method itself is `advlens.neighbours`'s business; poisoned training data are `studies.poisoning`'s.
"""

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import pandas as pd
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from advlens import metrics
from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet, strengths_of
from advlens.benchmark import BEST_BASELINE, Benchmark, Condition
from advlens.benchmark.benchmark import measure
from advlens.classifier import Classifier, checked_classifier
from advlens.detectors import Detector, Sign
from advlens.image_files import through
from advlens.lenses import MAX_SOFTMAX, Lens
from advlens.lenses.decisions import max_softmax
from advlens.metrics import MIN_POSITIVES, Difference, Estimate, calibration_error, proportion
from advlens.neighbours import DeepKNN, Judgement
from advlens.neighbours.conformal import CONVENTIONS, nonconformity, p_values, true_nonconformity
from advlens.neighbours.search import SEARCHES, recall
from advlens.networks import find_builder
from advlens.random import stream, stream_seed
from advlens.store import artifact, versioned
from advlens.training import train_task_network
from advlens.workbench import Workbench

NETWORK = "deep_knn_cnn"
LAYERS = ("conv1", "conv2", "conv3", "logits")
PUBLISHED_RECOVERED, PUBLISHED_MISCLASSIFIED = 213, 364  # labels that Deep kNN recovers, of 10,000 test images
PUBLISHED_ERROR = PUBLISHED_MISCLASSIFIED / 10_000
ALIKE = 0.5  # of the report's error: a network whose error differs by more is not compared with it
TRAINING_SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 1.0)  # of the training images: one epoch on one of these errs alike
FEWER_NEIGHBOURS = (1, 5, 25)  # beside the report's 75

DEEP_KNN, NETWORKS_LABEL = "1 − credibility", "1 − p of the network's label"
PUBLISHED, CONFIDENCE = "1 − credibility, published count", "1 − confidence"
SCORES = (DEEP_KNN, NETWORKS_LABEL, PUBLISHED, CONFIDENCE)  # higher = more adversarial
DEFAULT = Condition.EIGHT_BIT

LEVELS = (0.001, 0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90)
DRAWS = 500  # of the held-out images, for the conformal promise
BINS = 10
LOGIT_MARGINS = (2.0, 5.0)  # at which DeepFool stops as well: beyond the decision boundary, it can be sure
MARGIN = 0.02  # of a share of images: a smaller difference means nothing in practice
# What may be taken for the probability of a correct decision → whose decision that is.
PROBABILITIES = {"credibility": "label", "softmax": "predicted"}


def attacks(dataset: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Name in tables → the catalogue's name and parameters."""
    found: dict[str, tuple[str, dict[str, float]]] = {
        f"{attack.upper()} {eps:.2f}": (attack, {"eps": eps})
        for eps in strengths_of(dataset)
        for attack in ("fgsm", "bim", "pgd")
    }
    stopped = {f"DeepFool, margin {margin:g}": ("deepfool", {"margin": margin}) for margin in LOGIT_MARGINS}
    return found | {"DeepFool": ("deepfool", {})} | stopped


def k_column(k: int) -> str:
    """The column of one minus the credibility with k neighbours."""
    return f"k = {k}"


def layer_column(layer: str) -> str:
    """The column of the share of neighbours in one layer that have another label than the network gives."""
    return f"{layer} alone"


# ---------------------------------------------------------------- what is measured


@versioned(2)
class NeighbourScores(Lens):
    """All that Deep kNN says of a decision: with k neighbours and with fewer, in all layers together and in each.

    Args:
        classifier: the task network; k: neighbours in each layer; fewer: smaller numbers, whose credibility is given.
        training: images and labels among which neighbours are searched.
        held_out: images and labels that calibrate the p-values.
    """

    name, family = "neighbour_scores", "neighbours"

    def __init__(
        self,
        classifier: Classifier,
        *,
        k: int,
        fewer: Sequence[int],
        training: tuple[Array, Array],
        held_out: tuple[Array, Array],
    ) -> None:
        self.classifier, self.k, self.fewer = checked_classifier(classifier), k, list(fewer)
        self.training, self.held_out = training, held_out
        self.columns = ("predicted", "softmax", "label", "credibility", *SCORES, MAX_SOFTMAX)
        self.columns += (*map(k_column, self.fewer), *map(layer_column, LAYERS))
        self.columns += tuple(nonconformity_column(label) for label in range(classifier.nb_classes))

    @cached_property
    def _fitted(self) -> tuple[DeepKNN, Array]:
        """The searches, and the (m, l, k) labels of the held-out images' neighbours."""
        knn = DeepKNN(self.classifier, k=self.k).fit(*self.training)
        return knn, knn.neighbours(self.held_out[0]).labels

    def measure(self, images: Array) -> pd.DataFrame:
        """Scores of (n, h, w, channels) images, higher = more adversarial, and what they are made of."""
        knn, held_out = self._fitted
        hoods, logits = knn.neighbours(images), self.classifier.predict(images)
        predicted, classes = logits.argmax(axis=1), {"num_classes": self.classifier.nb_classes}
        others = (hoods.labels != predicted[:, None, None]).mean(axis=2)
        unsure = max_softmax(logits)

        def judge(k: int = self.k, convention: str = "conformal") -> Judgement:
            alpha = true_nonconformity(held_out[:, :, :k], self.held_out[1], **classes)
            return Judgement.of(hoods.labels[:, :, :k], alpha, **classes, convention=convention)

        judged, strange = judge(), nonconformity(hoods.labels, **classes)
        columns = {
            "predicted": predicted,
            "softmax": 1 - unsure,
            "label": judged.predicted,
            "credibility": judged.credibility,
            DEEP_KNN: 1 - judged.credibility,
            NETWORKS_LABEL: 1 - judged.p_values[np.arange(len(images)), predicted],
            PUBLISHED: 1 - judge(convention="published").credibility,
            CONFIDENCE: 1 - judged.confidence,
            MAX_SOFTMAX: unsure,
            **{k_column(each): 1 - judge(each).credibility for each in self.fewer},
            **{layer_column(layer): others[:, index] for index, layer in enumerate(hoods.layers)},
            **{nonconformity_column(label): strange[:, label] for label in range(strange.shape[1])},
        }
        return pd.DataFrame(columns).astype(np.float64)[list(self.columns)]

    def to_parts(self) -> dict[str, Any]:
        """Network, parameters, training and held-out images."""
        about = {"network": self.classifier.model, "k": self.k, "fewer": self.fewer}
        return about | {"training": self.training, "held_out": self.held_out}


def nonconformity_column(label: int) -> str:
    """The column of α(x, label): how many neighbours, over all layers, have another label."""
    return f"nonconformity {label}"


@artifact(version=1)
def find_nearest(
    network: keras.Model, images: Array, *, train_images: Array, train_labels: Array, k: int
) -> dict[str, Array]:
    """The (n, l, k) rows of the training images nearest to (n, h, w, channels) images, as "indices", for display."""
    return {"indices": DeepKNN(Classifier(network), k=k).fit(train_images, train_labels).neighbours(images).indices}


@artifact(version=1)
def compare_searches(
    network: keras.Model, images: Array, *, train_images: Array, train_labels: Array, k: int
) -> pd.DataFrame:
    """Each way to search for neighbours of (n, h, w, channels) images.

    Returns:
        search, recall in each layer and in "all", and the seconds of all layers: "fit seconds", "search seconds".
    """
    classifier, found, rows = Classifier(network), {}, []
    for search in SEARCHES:
        start = time.perf_counter()
        knn = DeepKNN(classifier, k=k, search=search).fit(train_images, train_labels)
        knn.searches_.keys()  # they are made when they are first asked for
        fitted = time.perf_counter()
        found[search] = knn.neighbours(images).indices
        seconds = {"fit seconds": fitted - start, "search seconds": time.perf_counter() - fitted}
        own, exact = found[search], found["exact"]
        shares = {layer: recall(own[:, index], exact[:, index]) for index, layer in enumerate(knn.layers)}
        rows.append({"search": search, **shares, "all": recall(own, exact), **seconds})
    return pd.DataFrame(rows)


class Study:
    """Deep kNN on the report's network: clean test images, attacked ones, and a network that errs as the report's.

    Args:
        bench: the notebook's workbench.
        epochs: of the network.
        neighbours: k, in each layer.
        test_images: how many test images are used in all, 0 for all of them.
        held_out: how many of these give the conformal p-values, misclassified or not; nothing else uses them.
        attacked_images: how many of the others, correctly classified, are attacked.

    Attributes:
        held_out, source, judged: indices in the test set of the images that are held out, attacked, not held out.
    Raises:
        ValueError: for numbers of images that the data set does not have.
    """

    def __init__(
        self, bench: Workbench, *, epochs: int, neighbours: int, held_out: int, test_images: int, attacked_images: int
    ) -> None:
        self.bench, self.data, self.k = bench, bench.data, checked_whole(neighbours, name="neighbours")
        checked_whole(attacked_images, name="deep_knn_images", least=2 * MIN_POSITIVES)
        n = checked_whole(test_images, name="test_images", least=0) or None
        order = stream(bench.seed, "deep_knn/test images").permutation(len(self.data.test_labels))[:n]
        self.training = bench.training
        for name, value, limit, of in (
            ("neighbours", neighbours, len(self.training[1]), "training"),
            ("deep_knn_calibration", checked_whole(held_out, name="deep_knn_calibration"), len(order), "test"),
        ):
            if value >= limit:
                raise ValueError(f"{name} must be fewer than the {limit} {of} images, got {value}")
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.held_out, self.judged = order[:held_out], np.sort(order[held_out:])
        free = order[held_out:][np.isin(order[held_out:], bench.correct_sources(self.classifier))]
        if attacked_images > len(free):
            raise ValueError(
                f"deep_knn_images must be at most {len(free)}, the correctly classified test images that are not held "
                f"out, got {attacked_images}"
            )
        self.source = free[:attacked_images]
        self.calibration = self.data.test_images[self.held_out], self.data.test_labels[self.held_out]
        self.lens = self._lens(self.classifier)

    def _lens(self, classifier: Classifier) -> NeighbourScores:
        about = {"fewer": [k for k in FEWER_NEIGHBOURS if k < self.k], "training": self.training}
        return NeighbourScores(classifier, k=self.k, **about, held_out=self.calibration)

    @cached_property
    def benchmark(self) -> Benchmark:
        """The attack sets, with all test images that are not held out."""
        return self.bench.benchmark(self.classifier, self.attack_sets, source=self.judged)

    def _about_clean(self, measured: pd.DataFrame) -> pd.DataFrame:
        truth = self.data.test_labels[self.judged]
        return measured.assign(**{"source": self.judged, "truth": truth, "true α": self._true_alpha(measured, truth)})

    def _true_alpha(self, measured: pd.DataFrame, truth: Array) -> Array:
        alpha = measured[[nonconformity_column(label) for label in range(self.data.num_classes)]].to_numpy()
        return alpha[np.arange(len(truth)), truth]

    @cached_property
    def clean(self) -> pd.DataFrame:
        """What is measured of all clean test images that are not held out, with source, truth and true α."""
        return self._about_clean(self.benchmark.measured_clean(self.lens, DEFAULT))

    @cached_property
    def held_out_alpha(self) -> Array:
        """(m,) nonconformity of the held-out images, which calibrate the p-values, to their true classes."""
        images, truth = self.calibration
        measured = self.bench.store.keep("measured.held_out", measure, lens=self.lens, images=images)
        return self._true_alpha(measured, truth)

    @cached_property
    def clean_erring(self) -> pd.DataFrame:
        """The same by the network whose error on the held-out images is nearest to the report's: of one epoch, on
        `TRAINING_SHARES`.
        """
        (images, labels), (held_out, y_held_out) = self.training, self.calibration
        settings = {"builder": find_builder(NETWORK), "num_classes": self.data.num_classes, "epochs": 1}
        settings["seed"] = stream_seed(self.bench.seed, "deep_knn/networks")
        errors = {}
        for n in (round(share * len(labels)) for share in TRAINING_SHARES):
            about = {"images": images[:n], "labels": labels[:n], **settings}
            trained = self.bench.store.keep("task_network.erring", train_task_network, **about)
            classifier = Classifier(trained.network)
            error = np.mean(classifier.predict(held_out).argmax(axis=1) != y_held_out)
            errors[classifier] = abs(error - PUBLISHED_ERROR)
        lens, test = self._lens(min(errors, key=errors.__getitem__)), self.data.test_images[self.judged]
        return self._about_clean(self.bench.store.keep("measured.erring", measure, lens=lens, images=test))

    @cached_property
    def attack_sets(self) -> dict[str, AttackSet]:
        """Name → attack set, of `attacks`."""
        return {
            name: self.bench.attack_on(self.source, attack, self.classifier, title=name, **parameters)
            for name, (attack, parameters) in attacks(self.data.name).items()
        }

    # ------------------------------------------------------------ detection

    @cached_property
    def detectors(self) -> dict[str, Detector]:
        """Deep kNN's scores as they are, by name."""
        return {name: self._detector(name) for name in SCORES}

    def _detector(self, column: str) -> Detector:
        return Detector(self.lens, Sign(column, 1), columns=(column,), name=column)

    def detection(self) -> pd.DataFrame:
        """The long table of the corrected protocol, in 8 bits and as floats, with the hard-image control."""
        about = {"conditions": (DEFAULT, Condition.FLOAT), "negatives": ("matched", "hard images")}
        return self.benchmark.run(list(self.detectors.values()), **about)

    def above_baselines(self) -> pd.DataFrame:
        """`Benchmark.compare` of each score with the best trivial baseline, in ROC-AUC."""
        return self.benchmark.compare([(each, BEST_BASELINE) for each in self.detectors.values()])

    def parts(self) -> pd.DataFrame:
        """The long table of the credibility with fewer neighbours, and of each layer alone: ROC-AUC."""
        columns = (*map(k_column, self.lens.fewer), DEEP_KNN, *map(layer_column, LAYERS))
        return self.benchmark.run([self._detector(column) for column in columns], wanted=("roc_auc",))

    def layers_compared(self) -> pd.DataFrame:
        """`Benchmark.compare` of each layer alone with all layers together, in ROC-AUC."""
        together = self.detectors[DEEP_KNN]
        return self.benchmark.compare([(self._detector(layer_column(layer)), together) for layer in LAYERS])

    # ------------------------------------------------------------ decisions to look at

    @cached_property
    def examples(self) -> pd.DataFrame:
        """Decisions to look at: attack ("" for a clean image), source, truth, predicted, label, credibility.

        Rows, where there are any: "misclassified" (clean, of the lowest credibility), "missed" (a successful attack, of
        the highest).
        """
        attacked = []
        for attack in self.attack_sets:
            about = self.benchmark.samples(attack, DEFAULT).about.rename(columns={"label": "truth"})
            measured = self.benchmark.measured(self.lens, attack, DEFAULT)
            rows = pd.concat([about.drop(columns="predicted"), measured], axis=1)
            attacked.append(rows[rows["success"]].assign(attack=attack))
        clean = self.clean.assign(attack="")
        kinds = {
            "misclassified": clean[clean["predicted"] != clean["truth"]].nsmallest(1, "credibility"),
            "missed": pd.concat(attacked).nlargest(1, "credibility"),
        }
        wanted = ["attack", "source", "truth", "predicted", "label", "credibility"]
        found = pd.concat([rows[wanted].assign(kind=kind) for kind, rows in kinds.items()]).set_index("kind")
        return found.astype(dict.fromkeys(wanted[1:5], int))

    def image(self, example: pd.Series) -> Array:
        """The (h, w, channels) image of a row of `examples`."""
        if not example["attack"]:
            return self.data.test_images[example["source"]]
        made = self.attack_sets[example["attack"]]
        return through(DEFAULT.value, made.adversarial[made.source == example["source"]])[0]

    def nearest(self, images: Array) -> Array:
        """(n, l, k) rows of the training images nearest to (n, h, w, channels) images."""
        return self._keep(find_nearest, images)["indices"]

    def searches(self, n: int) -> pd.DataFrame:
        """`compare_searches` of the first n test images."""
        return self._keep(compare_searches, self.data.test_images[:n])

    def _keep(self, make: Callable[..., Any], images: Array) -> Any:
        about = {"network": self.classifier.model, "k": self.k, "images": images}
        about |= dict(zip(("train_images", "train_labels"), self.training, strict=True))
        return self.bench.store.keep(f"deep_knn.{make.__name__}", make, **about)


# ---------------------------------------------------------------- clean images


def promise(alpha: Array, held_out: Array, *, seed: int) -> pd.DataFrame:
    """How often the true class's p-value is at most a level: valid p-values keep to the level, on average over draws.

    The promise is about drawing the held-out images as well, so the intervals draw both anew, `DRAWS` times.

    Args:
        alpha: (n,) nonconformity of clean images to their true classes; held_out: (m,) of those that calibrate.
    Returns:
        convention, level, estimate, low, high (95 % interval by bootstrap), n.
    """
    rng, rows, pairs = stream(seed, "deep_knn/promise"), [], [(alpha, held_out)]
    pairs += [(rng.choice(alpha, len(alpha)), rng.choice(held_out, len(held_out))) for _ in range(DRAWS)]
    for convention in CONVENTIONS:
        p = [p_values(each, calibration, convention=convention) for each, calibration in pairs]
        for level in LEVELS:
            share, *drawn = (float(np.mean(each <= level)) for each in p)
            found = Estimate(share, *map(float, np.quantile(drawn, [0.025, 0.975])))
            rows.append(found.row(convention=convention, level=level, n=len(alpha)))
    return pd.DataFrame(rows)


def correctness(clean: pd.DataFrame, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often a decision is correct, by what may be taken for the probability of that.

    Returns:
        A row a tenth of each of `PROBABILITIES` with `MIN_POSITIVES` images: probability, mean (of it), estimate, low,
        high, n. And a row each, of its expected calibration error: probability, estimate, low, high, n.
    """
    rows, errors, source = [], [], clean["source"].to_numpy()
    for name, decision in PROBABILITIES.items():
        values, right = clean[name].to_numpy(), (clean[decision] == clean["truth"]).to_numpy()
        error = calibration_error(values, right, source, bins=BINS, seed=seed)
        errors.append(error.row(probability=name, n=len(clean)))
        tenth = np.minimum((values * BINS).astype(int), BINS - 1)
        for inside in (tenth == number for number in np.unique(tenth)):
            if inside.sum() >= MIN_POSITIVES:
                about = {"probability": name, "mean": float(values[inside].mean()), "n": int(inside.sum())}
                rows.append(proportion(right[inside], source[inside]).row(**about))
    return pd.DataFrame(rows), pd.DataFrame(errors)


def recovery(clean: pd.DataFrame) -> tuple[Estimate, Difference, int]:
    """The share of misclassified images to which Deep kNN gives their true class, and that minus the report's.

    Returns:
        The share, the difference (of independent samples, Agresti–Caffo; NaN for a network that does not err `ALIKE`),
        and the number of misclassified images.
    """
    wrong = clean[clean["predicted"] != clean["truth"]]
    is_right, n = (wrong["label"] == wrong["truth"]).to_numpy(), len(wrong)
    if not n:
        return metrics.MISSING, metrics.MISSING_DIFFERENCE, 0
    share = proportion(is_right, wrong["source"].to_numpy())
    if abs(n / len(clean) - PUBLISHED_ERROR) > ALIKE * PUBLISHED_ERROR:
        return share, metrics.MISSING_DIFFERENCE, n
    counts = (int(is_right.sum()), n, PUBLISHED_RECOVERED, PUBLISHED_MISCLASSIFIED)
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo")
    gained = share.estimate - PUBLISHED_RECOVERED / PUBLISHED_MISCLASSIFIED
    p_value = float(test_proportions_2indep(*counts, method="agresti-caffo").pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    return share, Difference(gained, low, high, p_value), n


def errors_found(clean: pd.DataFrame, *, seed: int) -> tuple[dict[str, Estimate], Difference]:
    """How well a low credibility, and a low softmax, separate misclassified from correct clean images.

    Returns:
        `DEEP_KNN` and `MAX_SOFTMAX` → ROC-AUC, and the paired difference; NaN where there are no errors.
    """
    wrong, source = (clean["predicted"] != clean["truth"]).to_numpy(), clean["source"].to_numpy()
    scores = {name: clean[name].to_numpy(np.float64) for name in (DEEP_KNN, MAX_SOFTMAX)}
    if wrong.all() or not wrong.any():
        return dict.fromkeys(scores, metrics.MISSING), metrics.MISSING_DIFFERENCE
    both = {name: metrics.samples(each, wrong, source, seed=seed)["roc_auc"] for name, each in scores.items()}
    return {name: sample.interval() for name, sample in both.items()}, both[DEEP_KNN].minus(both[MAX_SOFTMAX])
