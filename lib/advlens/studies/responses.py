"""The feature-response study: does the local entropy of what a network answers to give an attack away?

Here are its published numbers, its protocol as a value, and the experiments that only it has: what attacks do to
decisions and to the entropy, and how the score hangs on what the study leaves open. Detection is `Benchmark`'s.

Source: Amirian, "Trace and Detect Adversarial Attacks on CNNs using Feature Response Maps", poster 2018; Amirian,
Schwenker & Stadelmann 2018.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import ttest_1samp

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet, strengths_of
from advlens.benchmark import Benchmark, Condition, Negatives, Protocol, Split, Stratum, Threshold, query
from advlens.benchmark.judging import with_verdicts
from advlens.classifier import Classifier
from advlens.closeness import bandwidth_of
from advlens.detectors import Detector, Head, Logistic, Sign
from advlens.detectors.catalogue import SIX
from advlens.explanations.entropy import NORMALISATIONS, average_local_entropy
from advlens.explanations.responses import LAST_CONVOLUTION, METHODS, PREDICTED, responses
from advlens.lenses import Closeness, Joined, Lens, Uncertainty
from advlens.metrics import MIN_POSITIVES, flagged_share, mean, proportion, roc_auc
from advlens.networks import dropout_network
from advlens.random import stream_seed
from advlens.store import versioned
from advlens.workbench import Workbench

STOPPED = ("gradient", "deepfool", "boundary")  # which end at the decision boundary
MARGINS = (0.0, 2.0, 5.0)  # of logits, at which these stop
MIN_IMAGES = 50  # a fifth of the attacked ones is judged
MARGIN_BITS = 0.01  # a smaller difference of the mean local entropy means nothing in practice

# ---------------------------------------------------------------- what the study published


@dataclasses.dataclass(frozen=True)
class Publication:
    """The study's row of an attack, on ImageNet and VGG-19.

    Attributes:
        success: the share of images whose prediction changes.
        truth, target: mean confidence in the true class and in the reached one after a successful attack.
        tpr: true-positive rates at false-positive rates of 1, 5 and 10 %.
    """

    success: float
    truth: float
    target: float
    tpr: tuple[float, float, float]


PUBLISHED = {
    "fgsm": Publication(0.925, 0.022, 0.588, (0.954, 0.974, 0.983)),
    "gradient": Publication(0.499, 0.052, 0.371, (0.922, 0.954, 0.969)),
    "one pixel": Publication(0.620, 0.037, 0.463, (0.917, 0.951, 0.966)),
    "deepfool": Publication(0.606, 0.041, 0.446, (0.936, 0.963, 0.976)),
    "boundary": Publication(0.940, 0.023, 0.583, (0.934, 0.960, 0.972)),
}
PUBLISHED_METHODS = pd.DataFrame(
    [
        ("uncertainty density estimation", "SVHN, LeNet, FGSM", None, None, 0.890),
        ("adaptive noise reduction", "ImageNet (4 classes), CaffeNet, DeepFool", 0.956, 0.911, None),
        ("feature squeezing", "ImageNet, VGG-19, several", 0.859, 0.917, 0.942),
        ("statistical analysis", "MNIST, FGSM 0.3", 0.999, 0.940, None),
        ("local entropy, the study's own", "ImageNet, VGG-19, several", 0.979, 0.920, 0.990),
    ],
    columns=["method", "on", "recall", "precision", "ROC-AUC"],
)
"""The study's Table 2."""

AS_PUBLISHED = Protocol(
    "as published",
    split=Split.NONE,
    negatives=Negatives.CLEAN,
    threshold=Threshold.EVALUATED,
    condition=Condition.FLOAT,
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """One attack as it is run here.

    Attributes:
        name: as tables list it; attack: the catalogue's name; parameters: what differs from the catalogue's.
        searches: whether it asks the network so often that it attacks fewer images.
        scenario: which of the study's scenarios it stands for, where it is none of its five attacks.
    """

    name: str
    attack: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    searches: bool = False
    scenario: str = ""


def settings(*, eps: float, generations: int, steps: int) -> list[Setting]:
    """The study's five attacks, whose parameters it does not give, and the one-pixel attack with five pixels.

    Args:
        eps: FGSM's strength; generations: of the one-pixel attack's evolution; steps: of the boundary attack.
    """
    pixel = {"max_iter": generations}
    return [
        Setting("fgsm", "fgsm", {"eps": eps}),
        Setting("gradient", "gradient"),
        Setting("deepfool", "deepfool"),
        Setting("one pixel", "one_pixel", pixel, searches=True),
        Setting("five pixels", "one_pixel", {**pixel, "pixels": 5}, searches=True),
        Setting("boundary", "boundary", {"max_iter": steps}, searches=True),
    ]


def scenario_settings(*, eps: float) -> list[Setting]:
    """The scenarios that the study names beside these: a target class, one perturbation for all, a black box."""
    return [
        Setting("bim_targeted", "bim_targeted", {"eps": eps}, searches=True, scenario="targeted, white box"),
        Setting("universal", "universal", {"eps": eps}, searches=True, scenario="universal perturbation"),
        Setting("square", "square", {"eps": eps}, searches=True, scenario="black box, scores"),
    ]


# ---------------------------------------------------------------- lens and head


@dataclasses.dataclass(frozen=True)
class ResponseEntropy:
    """A response and how its entropy is taken; the defaults are how we read the study, which names few of them."""

    method: str = "guided_backprop"
    of: str = LAST_CONVOLUTION
    window: int = 3
    bins: int = 256
    stride: int = 1
    normalisation: str = "minmax"

    @property
    def name(self) -> str:
        """As columns list it."""
        return f"{self.method}, {self.of}, {self.normalisation}, {self.window}/{self.stride}, {self.bins} levels"


PUBLISHED_RESPONSE = ResponseEntropy()
WINDOWS, BINS, STRIDES = (3, 5, 7), (8, 32, 64, 256), (1, 3)
OF_WINDOWS = [
    ResponseEntropy(window=window, bins=bins, stride=stride)
    for stride, window, bins in itertools.product(STRIDES, WINDOWS, BINS)
]
OF_RESPONSES = [
    ResponseEntropy(method=method, of=of, normalisation=normalisation)
    for method, of, normalisation in itertools.product(METHODS, (LAST_CONVOLUTION, PREDICTED), NORMALISATIONS)
]
COMPARED = list(dict.fromkeys([PUBLISHED_RESPONSE, *OF_WINDOWS, *OF_RESPONSES]))
"""What the study leaves open, one thing after the other."""


@versioned(1)
class ResponseEntropies(Lens):
    """The average local entropy of feature responses under several settings, and the predicted class.

    Args:
        classifier: the task network; compared: the settings, a column each.
    """

    name, family = "response_entropies", "explanation"

    def __init__(self, classifier: Classifier, *, compared: Sequence[ResponseEntropy]) -> None:
        self.classifier, self.compared = classifier, list(compared)
        self.columns = ("predicted", *(each.name for each in self.compared))

    def measure(self, images: Array) -> pd.DataFrame:
        """In bits; each response is projected back once."""
        columns = {"predicted": self.classifier.predict(images).argmax(axis=1).astype(np.float64)}
        response = attrgetter("method", "of")
        for (method, of), group in itertools.groupby(sorted(self.compared, key=response), key=response):
            maps = responses(self.classifier.model, images, method=method, of=of)
            for each in group:
                how = {name: getattr(each, name) for name in ("window", "bins", "stride", "normalisation")}
                columns[each.name] = average_local_entropy(maps, **how)
        return pd.DataFrame(columns)[list(self.columns)]

    def to_parts(self) -> dict[str, Any]:
        """Network and settings."""
        return {"network": self.classifier.model, "compared": self.compared}


class ClassCentred(Head):
    """A column less its mean over normal images of the same predicted class, oriented on the rows it is fitted to."""

    def __init__(self, column: str) -> None:
        self.column = column

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "ClassCentred":
        """Takes the means of the normal rows; a class without any has that of all."""
        normal = measured[~is_adversarial]
        self.centres_, self.centre_ = normal.groupby("predicted")[self.column].mean(), normal[self.column].mean()
        self.sign_ = 1 if roc_auc(self._centred(measured), is_adversarial) >= 0.5 else -1
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """(n,) in bits."""
        return self.sign_ * self._centred(measured)

    def _centred(self, measured: pd.DataFrame) -> Array:
        own = measured["predicted"].map(self.centres_).fillna(self.centre_)
        return (measured[self.column] - own).to_numpy(np.float64)


# ---------------------------------------------------------------- the study


class Study:
    """The feature-response study of one run and data set, on the task network of the closeness study.

    Args:
        bench: the notebook's workbench.
        task_epochs: of the task network.
        response_images: how many correctly classified test images FGSM, the gradient attack and DeepFool attack.
        searched_images: how many of these the other attacks do; at most all of them.
        generations, steps: of the one-pixel attack, and of the boundary attack.
        passes: of the Monte-Carlo dropout that one of the other detectors rests on.
        training_seeds: how many times whatever learns is trained, on a split of its own each time.

    Attributes:
        entropies: the lens of all settings; settings: the study's attacks.
    Raises:
        ValueError: for numbers of images that are too few, or that the test set does not have.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        task_epochs: int,
        response_images: int,
        searched_images: int,
        generations: int,
        steps: int,
        passes: int,
        training_seeds: int = 5,
    ) -> None:
        for name, value in (("response_images", response_images), ("searched_images", searched_images)):
            if checked_whole(value, name=name) < MIN_IMAGES:
                raise ValueError(f"{name} must be at least {MIN_IMAGES}, got {value}: a fifth of them is judged")
        checked_whole(generations, name="generations")
        checked_whole(steps, name="steps")
        self.bench, self.training_seeds = bench, checked_whole(training_seeds, name="training_seeds")
        self.passes = checked_whole(passes, name="passes", least=2)
        self.classifier = bench.classifier(dropout_network(bench.data.name), epochs=task_epochs)
        self.response_images, self.searched_images = response_images, min(searched_images, response_images)
        eps = max(strengths_of(bench.data.name))
        self.settings = settings(eps=eps, generations=generations, steps=steps)
        self.scenarios = scenario_settings(eps=eps)
        self.entropies = ResponseEntropies(self.classifier, compared=COMPARED)

    # ------------------------------------------------------------ attacks

    @property
    def attacks(self) -> list[str]:
        """The names of the study's own attacks."""
        return [each.name for each in self.settings]

    def attack_set(self, name: str) -> AttackSet:
        """The images attacked in the setting or scenario of that name."""
        setting = next(each for each in (*self.settings, *self.scenarios) if each.name == name)
        about = {"n": self._count(setting), "title": name, **setting.parameters}
        return self.bench.attack_set(setting.attack, self.classifier, **about)

    def _count(self, setting: Setting) -> int:
        return self.searched_images if setting.searches else self.response_images

    def decision_changes(self, names: Iterable[str]) -> pd.DataFrame:
        """How often each attack succeeds, and how sure the network is after it.

        Returns:
            A row an attack and metric: attack, metric ("success", "unchanged": the share of images that come back as
            they were; "truth", "target": mean softmax of the true and of the reached class over successes), estimate,
            low, high, n.
        """
        rows = []
        for name in names:
            made = self.attack_set(name)
            won = made.select(made.success)
            shares = {"success": made.success, "unchanged": made.unchanged}
            found = {metric: (proportion(flags, made.source), len(made)) for metric, flags in shares.items()}
            if len(won):
                said = softmax(self.classifier.logits(won.adversarial).astype(np.float64), axis=1)
                for metric, classes in (("truth", won.label), ("target", won.predicted)):
                    values = said[np.arange(len(won)), classes]
                    found[metric] = (mean(values, won.source, seed=self.bench.seed), len(won))
            rows += [each.row(attack=name, metric=metric, n=n) for metric, (each, n) in found.items()]
        return pd.DataFrame(rows)

    def entropy_changes(self) -> pd.DataFrame:
        """What successful attacks, and noise of their norm, do to the published entropy of the same images, in floats.

        Returns:
            A row an attack and role: attack, role ("adversarial", "noisy"), estimate, low, high (the mean paired
            difference from the clean image, in bits) and n.
        """
        rows = []
        for name in self.attacks:
            values = self._bits(name)
            for role in ("adversarial", "noisy") if len(values) else ():
                change = (values[role] - values["clean"]).to_numpy()
                found = mean(change, values.index.to_numpy(), seed=self.bench.seed)
                rows.append(found.row(attack=name, role=role, n=len(values)))
        return pd.DataFrame(rows)

    def above_noise(self) -> pd.DataFrame:
        """The published entropy of successful attacks minus that of their noisy twins, paired, in floats.

        Returns:
            A row an attack with `MIN_POSITIVES` successes: attack, estimate, low, high (bits), n_positive, p_value (of
            the paired t-test), p_adjusted (Holm's), margin, verdict.
        """
        rows = []
        for name in self.attacks:
            values = self._bits(name)
            if len(values) >= MIN_POSITIVES:
                more = (values["adversarial"] - values["noisy"]).to_numpy()
                found = mean(more, values.index.to_numpy(), seed=self.bench.seed)
                about = {"n_positive": len(more), "p_value": float(ttest_1samp(more, 0.0).pvalue)}  # pyright: ignore[reportAttributeAccessIssue]
                rows.append(found.row(attack=name) | about)
        columns = ["attack", "estimate", "low", "high", "n_positive", "p_value"]
        return with_verdicts(pd.DataFrame(rows, columns=columns), MARGIN_BITS)

    def _bits(self, name: str) -> pd.DataFrame:
        """The published entropy of a successful attack's images by source, a column a role, in floats."""
        about = self.benchmark.samples(name, Condition.FLOAT).about
        bits = self.benchmark.measured(self.entropies, name, Condition.FLOAT)[PUBLISHED_RESPONSE.name]
        values = about.assign(bits=bits).pivot(index="source", columns="role", values="bits")
        return values.loc[about.loc[about["success"], "source"]]

    # ------------------------------------------------------------ detection

    @cached_property
    def benchmark(self) -> Benchmark:
        """The study's attacks, the other scenarios, and those that end at the boundary stopped at given margins."""
        sets = {each.name: self.attack_set(each.name) for each in (*self.settings, *self.scenarios)}
        return self.bench.benchmark(self.classifier, sets | self.margin_sets, n_seeds=self.training_seeds)

    @cached_property
    def margin_sets(self) -> dict[str, AttackSet]:
        """The attacks that end at the decision boundary, stopped at several logit margins beyond it."""
        sets = {}
        for setting in (each for each in self.settings if each.name in STOPPED):
            about = {"n": self._count(setting), **setting.parameters}
            sets |= self.bench.stopped_at(MARGINS, setting.attack, self.classifier, **about)
        return sets

    @property
    def published_detector(self) -> Detector:
        """The study's: higher entropy means attacked."""
        return self._entropy_detector("local entropy", PUBLISHED_RESPONSE, sign=1)

    def _entropy_detector(self, name: str, setting: ResponseEntropy, *, sign: int | None = None) -> Detector:
        return Detector(self.entropies, Sign(setting.name, sign), columns=(setting.name,), name=name)

    @cached_property
    def tried(self) -> pd.DataFrame:
        """The ROC-AUC of higher entropy on the validation parts, a mean over attacks with successes there.

        Returns:
            A row a setting and kind of normal image: the setting's fields, negatives ("clean", "matched"), auc.
        """
        rows = []
        for setting in COMPARED:
            own = self._entropy_detector(setting.name, setting, sign=1)
            scored = [self.benchmark.scores(own, attack) for attack in self.attacks]
            for negatives in (Negatives.CLEAN, Negatives.MATCHED):
                about = {"stratum": Stratum.SUCCESS, "negatives": negatives}
                aucs = [each.on_validation(roc_auc, **about) for each in scored if each is not None]
                auc = pd.Series(aucs, dtype=float).mean()
                rows.append({**dataclasses.asdict(setting), "negatives": negatives.value, "auc": auc})
        return pd.DataFrame(rows)

    @cached_property
    def choice(self) -> ResponseEntropy:
        """The setting whose AUC against clean and noisy images, whichever way it points, is farthest from ½."""
        against_all = self.tried[self.tried["negatives"] == Negatives.MATCHED.value].reset_index(drop=True)
        return COMPARED[int((against_all["auc"].fillna(0.5) - 0.5).abs().to_numpy().argmax())]

    @cached_property
    def detectors(self) -> dict[str, Detector]:
        """The entropy as published, as chosen and class-centred, and the closeness study's six metrics, by name."""
        closeness = Closeness(self.classifier, bandwidth=bandwidth_of(self.bench.data.name)).fit(*self.bench.training)
        masks = stream_seed(self.bench.seed, "responses/dropout masks")
        six = Joined([Uncertainty(self.classifier, passes=self.passes, seed=masks), closeness])
        columns = ("predicted", PUBLISHED_RESPONSE.name)
        centred = ClassCentred(PUBLISHED_RESPONSE.name)
        made = [
            self._entropy_detector("local entropy", PUBLISHED_RESPONSE, sign=1),
            self._entropy_detector("local entropy, chosen", self.choice),
            Detector(self.entropies, centred, columns=columns, name="local entropy, class-centred"),
            Detector(six, Logistic(), columns=SIX, name="all six"),
        ]
        return {each.name: each for each in made}

    def as_published(self) -> pd.DataFrame:
        """The long table of the study's own protocol: attacks against their originals, without a split."""
        return self._published

    @cached_property
    def _published(self) -> pd.DataFrame:
        return self.benchmark.run([self.published_detector], protocols=(AS_PUBLISHED,), attacks=self.attacks)

    def corrected(self) -> pd.DataFrame:
        """The long table of the corrected protocol, against clean and noisy images, each alone, and the control."""
        return self._corrected

    @cached_property
    def _corrected(self) -> pd.DataFrame:
        negatives = ("matched", "clean", "noisy", "hard images")
        attacks = [each.name for each in (*self.settings, *self.scenarios)]
        return self.benchmark.run(list(self.detectors.values()), negatives=negatives, attacks=attacks)

    def headline(self) -> pd.DataFrame:
        """The study's Table 1, remade and corrected; NaN where fewer than `MIN_POSITIVES` attacks succeed.

        Returns:
            indexed by attack: n (successes), published and remade (TPR at 5 % FPR), committed (TPR at a threshold of
            clean images), clean and noisy (the shares that it flags), chosen (the chosen setting's ROC-AUC), difference
            and verdict (the chosen setting's TPR at 5 % FPR against the best trivial baseline's).
        """
        own = query(self.corrected(), negatives="matched", attack=self.attacks)
        rates = {"committed": "committed_tpr_0.05", "clean": "observed_fpr_0.05 on all clean"}
        rates["noisy"] = "observed_fpr_0.05 on noisy"
        found = {name: query(own, metric=metric, detector="local entropy") for name, metric in rates.items()}
        found["remade"] = query(self.as_published(), metric="tpr_at_fpr_0.05", detector="local entropy")
        found["chosen"] = query(own, metric="roc_auc", detector="local entropy, chosen")
        found = {name: rows.set_index("attack") for name, rows in found.items()}
        enough = {name: rows["estimate"].where(rows["n_positive"] >= MIN_POSITIVES) for name, rows in found.items()}
        table = pd.DataFrame(enough).reindex(self.attacks)
        table.insert(0, "n", found["committed"]["n_positive"])
        table.insert(1, "published", pd.Series({name: row.tpr[1] for name, row in PUBLISHED.items()}))
        pairs = [(self.detectors["local entropy, chosen"], "best baseline")]
        compared = self.benchmark.compare(pairs, metric="tpr_at_fpr_0.05", attacks=self.attacks).set_index("attack")
        return table.assign(difference=compared["estimate"], verdict=compared["verdict"])

    def margins(self) -> pd.DataFrame:
        """The long table of `margin_sets`: ROC-AUC by how sure the attack is."""
        return self.benchmark.run(list(self.detectors.values()), attacks=list(self.margin_sets), wanted=("roc_auc",))

    def recall_and_precision(self) -> pd.Series:
        """The study's Table 2 as published: over all attacks, at the threshold of the largest F1 on the judged rows.

        Returns:
            recall, precision, ROC-AUC and n (successful attacks).
        """
        limits = {"stratum": Stratum.SUCCESS, "negatives": Negatives.CLEAN}
        scored = [self.benchmark.scores(self.published_detector, each, protocol=AS_PUBLISHED) for each in self.attacks]
        judged = [each.judged(**limits) for each in scored if each is not None]
        scores = np.concatenate([each["scores"][0] for each in judged])
        truth = np.concatenate([each["is_adversarial"] for each in judged])
        recall, precision = best_f1(scores, truth)
        auc = roc_auc(scores, truth)
        return pd.Series({"recall": recall, "precision": precision, "ROC-AUC": auc, "n": int(truth.sum())})

    def by_class(self) -> pd.DataFrame:
        """Clean 8-bit test images by predicted class: their entropy, and the share that one threshold flags.

        Returns:
            A row a class and metric: predicted, metric ("bits", "flagged"), n, estimate, low, high.
        """
        scored = self.benchmark.scores(self.detectors["local entropy"], self.attacks[0])
        if scored is None:
            raise ValueError(f"{self.attacks[0]} never succeeds on the validation images: attack more of them")
        measured = self.benchmark.measured_clean(self.entropies, Condition.EIGHT_BIT)
        bits = pd.Series(measured[PUBLISHED_RESPONSE.name].to_numpy(), index=self.benchmark.clean_source)
        seed, rows = stream_seed(self.bench.seed, "responses/by class"), []
        for predicted, about in scored.clean.groupby("predicted"):
            source, scores = about["source"].to_numpy(), scored.clean_scores[:, about.index]
            committed = {"threshold_scores": scored.threshold_scores, "fpr": 0.05}
            found = {"bits": mean(bits.loc[source].to_numpy(), source, seed=seed)}
            found["flagged"] = flagged_share(scores, source, **committed, seed=seed)
            rows += [each.row(predicted=predicted, metric=name, n=len(about)) for name, each in found.items()]
        return pd.DataFrame(rows)


def best_f1(scores: Array, is_adversarial: Array) -> tuple[float, float]:
    """Recall and precision at the threshold with the largest F1 on the very rows that are judged."""
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(is_adversarial[order])
    flagged = np.arange(1, len(scores) + 1)
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    f1 = np.where(last_of_tie, 2 * found / (flagged + is_adversarial.sum()), 0)
    best = int(f1.argmax())
    return float(found[best] / is_adversarial.sum()), float(found[best] / flagged[best])
