"""The Deep kNN report's first half: is credibility honest on clean images, and does it fall under attack?

The method itself is `advlens.neighbours`'s business; poisoned training data are `studies.poisoning`'s.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax
from statsmodels.stats.proportion import confint_proportions_2indep, test_proportions_2indep

from advlens import metrics
from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.datasets import split_groups
from advlens.detectors.baselines import trivial_baselines
from advlens.image_files import CODECS
from advlens.metrics import MARGINS, MIN_POSITIVES, Difference, Estimate, calibration_error, holm, proportion, verdict
from advlens.neighbours import DeepKNN, Judgement
from advlens.neighbours.conformal import CONVENTIONS, p_values, true_nonconformity
from advlens.neighbours.search import SEARCHES, recall
from advlens.networks import find_builder
from advlens.random import stream, stream_seed
from advlens.store import artifact
from advlens.training import train_task_network
from advlens.workbench import Workbench

NETWORK = "deep_knn_cnn"
LAYERS = ("conv1", "conv2", "conv3", "logits")
PUBLISHED_RECOVERED, PUBLISHED_MISCLASSIFIED = 213, 364  # labels that Deep kNN recovers, of 10,000 test images
PUBLISHED_ERROR = PUBLISHED_MISCLASSIFIED / 10_000
ALIKE = 0.5  # of the report's error: a network whose error differs by more is not compared with it
TRAINING_SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 1.0)  # of the training images: one epoch on one of these errs alike
FEWER_NEIGHBOURS = (1, 5, 25)  # beside the report's 75

# ε of FGSM, BIM and PGD, which Papernot & McDaniel 2018 attack with as well: digits are black and white and bear more.
STRENGTHS = {"fashion_mnist": (0.03, 0.12)}
OTHER_STRENGTHS = (0.12, 0.30)

DEEP_KNN, NETWORKS_LABEL = "1 − credibility", "1 − p of the network's label"
PUBLISHED, CONFIDENCE = "1 − credibility, published count", "1 − confidence"
SCORES = (DEEP_KNN, NETWORKS_LABEL, PUBLISHED, CONFIDENCE)  # higher = more adversarial
BASELINES = ("non-zero background", "total variation", "off grey levels", "median-filter distance", "max softmax")

LEVELS = (0.001, 0.01, 0.02, 0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80, 0.90)
DRAWS = 500  # of the held-out images, for the conformal promise
BINS = 10
MARGIN = 0.02  # of a share of images: a smaller difference means nothing in practice
FPR = 0.05
ABOVE = " above the best baseline"  # paired differences
AUC_ABOVE = f"roc_auc{ABOVE}"
# What may be taken for the probability of a correct decision → whose decision that is.
PROBABILITIES = {"credibility": "label", "softmax": "predicted"}


def attacks(dataset: str) -> dict[str, tuple[str, dict[str, float]]]:
    """Name in tables → the catalogue's name and parameters."""
    found: dict[str, tuple[str, dict[str, float]]] = {
        f"{attack.upper()} {eps:.2f}": (attack, {"eps": eps})
        for eps in STRENGTHS.get(dataset, OTHER_STRENGTHS)
        for attack in ("fgsm", "bim", "pgd")
    }
    return found | {"DeepFool": ("deepfool", {})}


def k_column(k: int) -> str:
    """The column of one minus the credibility with k neighbours."""
    return f"k = {k}"


def layer_column(layer: str) -> str:
    """The column of the share of neighbours in one layer that have another label than the network gives."""
    return f"{layer} alone"


# ---------------------------------------------------------------- what is measured


@artifact(version=1)
def measure(
    network: keras.Model,
    images: Array,
    labels: Array,
    *,
    train_images: Array,
    train_labels: Array,
    held_out_images: Array,
    held_out_labels: Array,
    k: int,
    fewer: Sequence[int] = (),
) -> pd.DataFrame:
    """What Deep kNN, the network and the trivial baselines say of (n, h, w, channels) images.

    Args:
        labels: (n,) true classes, for the nonconformity to these: no score knows them.
        train_images, train_labels: among which neighbours are searched.
        held_out_images, held_out_labels: for the p-values.
        k: neighbours in each layer; fewer: smaller numbers, whose credibility is given as well.
    Returns:
        One row per image: predicted (by the network), softmax (of that class), label (by Deep kNN), true α
        (nonconformity to the true class), credibility; and scores, higher = more adversarial: `SCORES`, `k_column`,
        `layer_column`, and the trivial baselines.
    """
    classifier = Classifier(network)
    knn = DeepKNN(classifier, k=k).fit(train_images, train_labels)
    held_out, hoods, logits = knn.neighbours(held_out_images), knn.neighbours(images), classifier.predict(images)
    predicted = logits.argmax(axis=1)
    others = (hoods.labels != predicted[:, None, None]).mean(axis=2)

    def judge(k: int = k, convention: str = "conformal") -> Judgement:
        about = {"num_classes": classifier.nb_classes}
        calibration = true_nonconformity(held_out.labels[:, :, :k], held_out_labels, **about)
        return Judgement.of(hoods.labels[:, :, :k], calibration, **about, convention=convention)

    judged = judge()
    columns = {
        "predicted": predicted,
        "softmax": softmax(logits.astype(np.float64), axis=1).max(axis=1),
        "label": judged.predicted,
        "true α": true_nonconformity(hoods.labels, labels, num_classes=classifier.nb_classes),
        "credibility": judged.credibility,
        DEEP_KNN: 1 - judged.credibility,
        NETWORKS_LABEL: 1 - judged.p_values[np.arange(len(images)), predicted],
        PUBLISHED: 1 - judge(convention="published").credibility,
        CONFIDENCE: 1 - judged.confidence,
        **{k_column(each): 1 - judge(each).credibility for each in fewer},
        **{layer_column(layer): others[:, index] for index, layer in enumerate(hoods.layers)},
        **{name: scorer.scores(images) for name, scorer in trivial_baselines(classifier).items()},
    }
    return pd.DataFrame(columns)


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
        fitted = time.perf_counter()
        found[search] = knn.neighbours(images).indices
        seconds = {"fit seconds": fitted - start, "search seconds": time.perf_counter() - fitted}
        shares = {
            layer: recall(found[search][:, index], found["exact"][:, index]) for index, layer in enumerate(knn.layers)
        }
        rows.append({"search": search, **shares, "all": recall(found[search], found["exact"]), **seconds})
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
        threshold_images: how many further correct ones, which no attack uses, give thresholds.

    Attributes:
        held_out, source, threshold_source: indices in the test set of the held-out, attacked and threshold images;
            judged: of all that are not held out.
    Raises:
        ValueError: for numbers of images that the data set does not have.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        epochs: int,
        neighbours: int,
        held_out: int,
        test_images: int,
        attacked_images: int,
        threshold_images: int,
    ) -> None:
        self.bench, self.data, self.k = bench, bench.data, checked_whole(neighbours, name="neighbours")
        checked_whole(attacked_images, name="deep_knn_images", least=2 * MIN_POSITIVES)
        checked_whole(threshold_images, name="threshold_images")
        n = checked_whole(test_images, name="test_images", least=0) or None
        order = stream(bench.seed, "deep_knn/test images").permutation(len(self.data.test_labels))[:n]
        images, labels = (each[: bench.train_images] for each in (self.data.train_images, self.data.train_labels))
        self.train = {"train_images": images, "train_labels": labels}
        for name, value, limit, of in (
            ("neighbours", neighbours, len(labels), "training"),
            ("deep_knn_calibration", checked_whole(held_out, name="deep_knn_calibration"), len(order), "test"),
        ):
            if value >= limit:
                raise ValueError(f"{name} must be fewer than the {limit} {of} images, got {value}")
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.held_out, self.judged = order[:held_out], np.sort(order[held_out:])
        free = order[held_out:][np.isin(order[held_out:], bench.correct_sources(self.classifier))]
        if (wanted := attacked_images + threshold_images) > len(free):
            raise ValueError(
                f"deep_knn_images and threshold_images must be at most {len(free)} together, the correctly classified "
                f"test images that are not held out, got {attacked_images} and {threshold_images}"
            )
        self.source, self.threshold_source = np.split(free[:wanted], [attacked_images])
        seed = stream_seed(bench.seed, "deep_knn/validation")
        self.is_test = split_groups(self.source, fractions=(0.0, 0.2, 0.8), seed=seed).test

    def _keep(self, make: Callable[..., Any], classifier: Classifier, **parameters: Any) -> Any:
        about = {"network": classifier.model, "k": self.k, **self.train}
        return self.bench.store.keep(f"deep_knn.{make.__name__}", make, **about, **parameters)

    def _measure(self, classifier: Classifier, images: Array, labels: Array) -> pd.DataFrame:
        held_out = {"held_out_images": self.data.test_images[self.held_out]}
        held_out["held_out_labels"] = self.data.test_labels[self.held_out]
        fewer = [k for k in FEWER_NEIGHBOURS if k < self.k]
        return self._keep(measure, classifier, images=images, labels=labels, fewer=fewer, **held_out)

    def _measure_clean(self, classifier: Classifier) -> pd.DataFrame:
        truth = self.data.test_labels[self.judged]
        rows = self._measure(classifier, self.data.test_images[self.judged], truth)
        return rows.assign(source=self.judged, truth=truth)

    @cached_property
    def clean(self) -> pd.DataFrame:
        """`measure` of all clean test images that are not held out, with source and truth."""
        return self._measure_clean(self.classifier)

    @cached_property
    def clean_erring(self) -> pd.DataFrame:
        """The same by the network whose error comes nearest to the report's: of one epoch, on `TRAINING_SHARES`."""
        images, labels = self.train.values()
        settings = {"builder": find_builder(NETWORK), "num_classes": self.data.num_classes, "seed": self.bench.seed}
        test, truth, errors = self.data.test_images[self.judged], self.data.test_labels[self.judged], {}
        for n in (round(share * len(labels)) for share in TRAINING_SHARES):
            about = {"images": images[:n], "labels": labels[:n], "epochs": 1, **settings}
            trained = self.bench.store.keep("task_network.erring", train_task_network, **about)
            classifier = Classifier(trained.network)
            errors[classifier] = abs(np.mean(classifier.predict(test).argmax(axis=1) != truth) - PUBLISHED_ERROR)
        return self._measure_clean(min(errors, key=lambda classifier: errors[classifier]))

    @property
    def thresholds_from(self) -> pd.DataFrame:
        """The rows of `clean` that give thresholds."""
        return self.clean[self.clean["source"].isin(self.threshold_source)]

    @cached_property
    def attack_sets(self) -> dict[str, AttackSet]:
        """Name → attack set, of `attacks`."""
        return {
            name: self.bench.attack_on(self.source, attack, self.classifier, title=name, **parameters)
            for name, (attack, parameters) in attacks(self.data.name).items()
        }

    @cached_property
    def measured(self) -> pd.DataFrame:
        """Attacked images with their clean sources and noisy twins, as an 8-bit file keeps them.

        Returns:
            attack, role (clean, noisy, adversarial), part (validation, which chooses; test), source, truth, success,
            and `measure`'s columns. The noisy twin of an image that an attack left as it was is left out.
        """
        sets, truth = self.attack_sets, self.data.test_labels[self.source]
        kinds = [(name, role) for name in sets for role in ("noisy", "adversarial")]
        images = np.concatenate([CODECS["8-bit"](getattr(sets[name], role)) for name, role in kinds])
        rows = self._measure(self.classifier, images, np.tile(truth, len(kinds)))
        clean, frames = self.clean.set_index("source").loc[self.source].reset_index(), []
        part = np.where(self.is_test, "test", "validation")
        for (name, role), own in zip(kinds, np.split(np.arange(len(rows)), len(kinds)), strict=True):
            about = {"attack": name, "part": part, "source": self.source, "truth": truth}
            found = rows.iloc[own].reset_index(drop=True).assign(role=role, success=False, **about)
            if role == "noisy":
                frames += [clean.assign(role="clean", success=False, **about), found[sets[name].l2 > 0]]
            else:
                frames.append(found.assign(success=found["predicted"] != truth))
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def examples(self) -> pd.DataFrame:
        """Decisions to look at: attack ("" for a clean image), source, truth, predicted, label, credibility.

        Rows, where there are any: "misclassified" (clean, of the lowest credibility), "missed" (a successful attack, of
        the highest).
        """
        clean, attacked = self.clean.assign(attack=""), self.measured[self.measured["success"]]
        kinds = {
            "misclassified": clean[clean["predicted"] != clean["truth"]].nsmallest(1, "credibility"),
            "missed": attacked.nlargest(1, "credibility"),
        }
        wanted = ["attack", "source", "truth", "predicted", "label", "credibility"]
        return pd.concat([rows[wanted].assign(kind=kind) for kind, rows in kinds.items()]).set_index("kind")

    def image(self, example: pd.Series) -> Array:
        """The (h, w, channels) image of a row of `examples`."""
        if not example["attack"]:
            return self.data.test_images[example["source"]]
        made = self.attack_sets[example["attack"]]
        return CODECS["8-bit"](made.adversarial[made.source == example["source"]])[0]

    def nearest(self, images: Array) -> Array:
        """(n, l, k) rows of the training images nearest to (n, h, w, channels) images."""
        return self._keep(find_nearest, self.classifier, images=images)["indices"]

    def searches(self, n: int) -> pd.DataFrame:
        """`compare_searches` of the first n test images."""
        return self._keep(compare_searches, self.classifier, images=self.data.test_images[:n])


# ---------------------------------------------------------------- clean images


def promise(alpha: Array, *, held_out: int, seed: int) -> pd.DataFrame:
    """How often the true class's p-value is at most a level: valid p-values keep to the level on average.

    The promise is about drawing the held-out images as well, so they are drawn anew `DRAWS` times.

    Args:
        alpha: (n,) nonconformity of clean images to their true classes; held_out: how many of these each draw takes.
    Returns:
        convention, level, estimate (the mean over draws), low, high (the middle 95 % of draws), n (judged in each).
    """
    rng, rows = stream(seed, "deep_knn/promise"), []
    drawn = [np.split(rng.permutation(alpha), [held_out]) for _ in range(DRAWS)]
    for convention in CONVENTIONS:
        p = [p_values(judged, calibration, convention=convention) for calibration, judged in drawn]
        for level in LEVELS:
            shares = np.array([np.mean(each <= level) for each in p])
            found = Estimate(float(shares.mean()), *map(float, np.quantile(shares, [0.025, 0.975])))
            rows.append(_row(found, convention=convention, level=level, n=len(alpha) - held_out))
    return pd.DataFrame(rows)


def correctness(clean: pd.DataFrame, *, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often a decision is correct, by what may be taken for the probability of that.

    Returns:
        Per tenth of each of `PROBABILITIES` with `MIN_POSITIVES` images: probability, mean (of it), estimate, low,
        high, n. And the expected calibration error of each: probability, estimate, low, high, n.
    """
    rows, errors, source = [], [], clean["source"].to_numpy()
    for name, decision in PROBABILITIES.items():
        values, right = clean[name].to_numpy(), (clean[decision] == clean["truth"]).to_numpy()
        error = calibration_error(values, right, source, bins=BINS, seed=seed)
        errors.append(_row(error, probability=name, n=len(clean)))
        tenth = np.minimum((values * BINS).astype(int), BINS - 1)
        for inside in (tenth == number for number in np.unique(tenth)):
            if inside.sum() >= MIN_POSITIVES:
                about = {"probability": name, "mean": float(values[inside].mean()), "n": int(inside.sum())}
                rows.append(_row(proportion(right[inside], source[inside]), **about))
    return pd.DataFrame(rows), pd.DataFrame(errors)


NO_ESTIMATE, NO_DIFFERENCE = Estimate(np.nan, np.nan, np.nan), Difference(np.nan, np.nan, np.nan, np.nan)


def recovery(clean: pd.DataFrame) -> tuple[Estimate, Difference, int]:
    """The share of misclassified images to which Deep kNN gives their true class, and that minus the report's.

    Returns:
        The share, the difference (of independent samples, Agresti–Caffo; NaN for a network that does not err `ALIKE`),
        and the number of misclassified images.
    """
    wrong = clean[clean["predicted"] != clean["truth"]]
    is_right, n = (wrong["label"] == wrong["truth"]).to_numpy(), len(wrong)
    if not n:
        return NO_ESTIMATE, NO_DIFFERENCE, 0
    share = proportion(is_right, wrong["source"].to_numpy())
    if abs(n / len(clean) - PUBLISHED_ERROR) > ALIKE * PUBLISHED_ERROR:
        return share, NO_DIFFERENCE, n
    counts = (int(is_right.sum()), n, PUBLISHED_RECOVERED, PUBLISHED_MISCLASSIFIED)
    low, high = confint_proportions_2indep(*counts, method="agresti-caffo")
    gained = share.estimate - PUBLISHED_RECOVERED / PUBLISHED_MISCLASSIFIED
    p_value = float(test_proportions_2indep(*counts, method="agresti-caffo").pvalue)
    return share, Difference(gained, low, high, p_value), n


def errors_found(clean: pd.DataFrame, *, seed: int) -> tuple[dict[str, Estimate], Difference]:
    """How well a low credibility, and a low softmax, separate misclassified from correct clean images.

    Returns:
        `DEEP_KNN` and "max softmax" → ROC-AUC, and the paired difference; NaN where there are no errors.
    """
    wrong, source = (clean["predicted"] != clean["truth"]).to_numpy(), clean["source"].to_numpy()
    scores = {name: clean[name].to_numpy(np.float64) for name in (DEEP_KNN, "max softmax")}
    if wrong.all() or not wrong.any():
        return dict.fromkeys(scores, NO_ESTIMATE), NO_DIFFERENCE
    paired = metrics.compare(*scores.values(), wrong, source, seed=seed, metrics=("roc_auc",))
    return metrics.roc_aucs(scores, wrong, source, seed=seed), paired["roc_auc"]


# ---------------------------------------------------------------- attacked images


def _successful(measured: pd.DataFrame, part: str) -> pd.DataFrame:
    return measured[((measured["role"] != "adversarial") | measured["success"]) & (measured["part"] == part)]


def detection(measured: pd.DataFrame, thresholds_from: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Deep kNN's scores and the best trivial baseline on successful attacks of the test part.

    Baselines are oriented, and the best of them (by TPR at 5 % FPR) is chosen, on the validation part.

    Args:
        measured: `Study.measured`; thresholds_from: `Study.thresholds_from`.
    Returns:
        attack, detector, baseline (its name where it is one), n_positive, n_negative, metric (roc_auc;
        committed_tpr_0.05; "flagged, clean" and "flagged, noisy"; paired, `ABOVE` after them, roc_auc and
        tpr_at_fpr_0.05), estimate, low, high, p_value, verdict (of the paired, Holm-adjusted over the table). Attacks
        without a success in either part are left out.
    """
    rows: list[dict[str, Any]] = []
    for attack, frame in measured.groupby("attack", sort=False):
        validation, test = (_successful(frame, part) for part in ("validation", "test"))
        if not (validation["success"].any() and test["success"].any()):
            continue
        bar, sign = best_baseline(validation)
        counts = {"n_positive": int(test["success"].sum()), "n_negative": int((~test["success"]).sum())}
        about = {"is_adversarial": test["success"].to_numpy(bool), "source": test["source"].to_numpy(), "seed": seed}
        for name in (*SCORES, bar):
            values, thresholds = (
                (sign if name == bar else 1) * frame[name].to_numpy(np.float64) for frame in (test, thresholds_from)
            )
            found = _metrics(values, thresholds, test["role"], **about)
            if name != bar:
                wanted = ("roc_auc", f"tpr_at_fpr_{FPR:g}")
                paired = metrics.compare(values, sign * test[bar].to_numpy(np.float64), metrics=wanted, **about)
                found |= {f"{metric}{ABOVE}": each for metric, each in paired.items()}
            named = {"attack": attack, "detector": name, "baseline": bar if name == bar else "", **counts}
            rows += [_row(each, **named, metric=metric) for metric, each in found.items()]
    return _with_verdicts(pd.DataFrame(rows))


def best_baseline(validation: pd.DataFrame) -> tuple[str, int]:
    """The trivial baseline with the highest TPR at 5 % FPR, and the sign that makes higher more adversarial."""
    truth, reached = validation["success"].to_numpy(bool), {}
    for name in BASELINES:
        values = validation[name].to_numpy(np.float64)
        sign = 1 if metrics.roc_auc(values, truth) >= 0.5 else -1
        reached[name, sign] = metrics.tpr_at_fpr(sign * values, truth, fpr=FPR)
    return max(reached, key=lambda key: reached[key])


def _metrics(
    values: Array, thresholds: Array, role: pd.Series, *, is_adversarial: Array, source: Array, seed: int
) -> dict[str, Estimate]:
    wanted, about = ("roc_auc", f"committed_tpr_{FPR:g}"), {"threshold_scores": thresholds, "seed": seed}
    found = metrics.evaluate(values, is_adversarial, source, metrics=wanted, **about)
    for name in ("clean", "noisy"):
        if (rows := (role == name).to_numpy()).any():
            found[f"flagged, {name}"] = metrics.flagged_share(values[rows], source[rows], fpr=FPR, **about)
    return found


def _with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    words = []
    for row, p in zip(table.to_dict("records"), holm(table["p_value"]), strict=True):
        difference = Difference(*(row[name] for name in ("estimate", "low", "high", "p_value")))
        about, metric = {"n_positive": row["n_positive"], "p_adjusted": p}, row["metric"].removesuffix(ABOVE)
        is_paired = metric != row["metric"]
        words.append(verdict(difference, margin=MARGINS[metric], **about).value if is_paired else "")
    return table.assign(verdict=words)


def aucs(measured: pd.DataFrame, columns: Sequence[str], *, seed: int) -> pd.DataFrame:
    """ROC-AUCs of some columns on successful attacks of the test part: attack, column, n, estimate, low, high."""
    rows = []
    for attack, frame in _successful(measured, "test").groupby("attack", sort=False):
        truth, scores = frame["success"].to_numpy(bool), {name: frame[name].to_numpy(np.float64) for name in columns}
        if truth.any():
            found = metrics.roc_aucs(scores, truth, frame["source"].to_numpy(), seed=seed)
            rows += [_row(each, attack=attack, column=name, n=int(truth.sum())) for name, each in found.items()]
    return pd.DataFrame(rows, columns=["attack", "column", "n", "estimate", "low", "high"])


def _row(estimate: Estimate, **about: Any) -> dict[str, Any]:
    return about | dataclasses.asdict(estimate)
