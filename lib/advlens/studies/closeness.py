"""The closeness-and-uncertainty study: is an attack uncertain, or far from the class that it claims?

Here are its published numbers, its protocol as a value, and the experiments that only it has: above all what happens on
the way from no attack to a strong one. Detection itself is `Benchmark`'s business.

Source: Tuna, Catak & Eskil 2020, "Closeness and Uncertainty Aware Adversarial Examples Detection in Adversarial
Machine Learning", and its public code where the text is silent.
"""

import dataclasses
import itertools
import numbers
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from sklearn.neighbors import KernelDensity

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet, CatalogueEntry, build, find_attack, generate, strengths_of
from advlens.benchmark import METRICS, Benchmark, Condition, Negatives, Stratum, TrainedOn
from advlens.benchmark.protocol import CORRECTED, Noise, Protocol, Split
from advlens.classifier import Classifier
from advlens.closeness import ClassDensity, ClassDivergence, ClassReference, bandwidth_of
from advlens.closeness.divergence import CONVERSIONS
from advlens.detectors import Detector, Logistic
from advlens.lenses import Features, Joined, Lens, Uncertainty
from advlens.lenses.decisions import columns_named
from advlens.metrics import Verdict, claim_verdict, mean, proportion, roc_auc
from advlens.networks import dropout_network
from advlens.progress import progress
from advlens.random import stream_seed
from advlens.store import artifact, versioned
from advlens.workbench import Workbench

UNCERTAINTY = ("variance", "entropy", "mutual information", "confidence")
PARTS_OF_VARIANCE = ("aleatoric", "epistemic")  # which the study's later version measures
STEP_ATTACKS = ("fgsm", "bim", "pgd")
MARGINS = (0.0, 2.0, 5.0, 10.0)  # of logits, at which DeepFool stops

# ---------------------------------------------------------------- what the study published


@dataclasses.dataclass(frozen=True)
class Setting:
    """One attack at one strength.

    Attributes:
        attack: the catalogue's name.
        eps: the L∞ strength, margin: the logit margin at which it stops; None where the attack has none.
        claim: "strong" or "weak" where the study says which metrics detect it better, else "".
    """

    attack: str
    eps: float | None = None
    margin: float | None = None
    claim: str = ""

    @property
    def name(self) -> str:
        """As tables list it, such as "bim 0.30"."""
        if self.margin is not None:
            return f"{self.attack}, margin {self.margin:g}"
        return self.attack if self.eps is None else f"{self.attack} {self.eps:.2f}"

    @property
    def parameters(self) -> dict[str, float]:
        """What `craft` is given beyond the catalogue's parameters."""
        return {name: value for name in ("eps", "margin") if (value := getattr(self, name)) is not None}


@dataclasses.dataclass(frozen=True)
class Publication:
    """What the study says of one data set.

    Attributes:
        network: its task network's name in `networks.NETWORKS`; accuracy: on the test set, NaN where none is published.
        strengths: the weaker and the stronger ε of the attacks.
        bandwidth: of the kernel density.
        means: metric → its mean over wrong and over right predictions; empty where the text lacks the table.
        later: detector → ROC-AUC on BIM at the stronger ε that a later version of the study saved; empty without one.
    """

    network: str
    accuracy: float
    strengths: tuple[float, float]
    bandwidth: float
    means: Mapping[str, tuple[float, float]]
    later: Mapping[str, float]


AWARE, SIX_AND_AWARE = "attack-aware distance", "all six and that distance"
# The text holds one of its two tables of means, above the caption of Fashion-MNIST's; the digits' caption and the other
# table are lost. So either data set may be meant, and it is shown beside both.
MEANS = {
    "variance": (0.02195, 0.00135),
    "entropy": (0.96277, 0.08891),
    "mutual information": (0.42247, 0.04068),
    "confidence": (0.59387, 0.97724),
}
LATER = {"aleatoric": 0.642, "epistemic": 0.599, "entropy": 0.636, AWARE: 0.983, SIX_AND_AWARE: 0.993}

PUBLISHED = {
    dataset: Publication(dropout_network(dataset), accuracy, strengths_of(dataset), bandwidth_of(dataset), MEANS, later)
    for dataset, accuracy, later in (("mnist", 0.9884, LATER), ("fashion_mnist", 0.9203, {}))
}


def published_of(dataset: str) -> Publication:
    """What the study says of a data set; of a user's own, the digits' network, strengths and bandwidth, no results."""
    nothing = dataclasses.replace(PUBLISHED["mnist"], accuracy=float("nan"), means={}, later={})
    return PUBLISHED.get(dataset, nothing)


def settings(strengths: tuple[float, float]) -> list[Setting]:
    """The study's attacks at its two strengths."""
    weak, strong = strengths
    made = [Setting("fgsm", eps, claim="weak") for eps in (weak, strong)]
    made += [Setting(attack, weak, claim="weak") for attack in ("bim", "pgd")]
    return made + [Setting(attack, strong, claim="strong") for attack in ("bim", "pgd")]


AS_PUBLISHED = Protocol(
    "as published", split=Split.NONE, positives=Stratum.ALL, noise=Noise.EPSILON, condition=Condition.FLOAT
)
DEFECTS = (
    CORRECTED,
    Protocol("fitted and judged on the same rows", split=Split.NONE),
    Protocol("failed attacks as positives", positives=Stratum.ALL),
    Protocol("noise of σ = ε", noise=Noise.EPSILON),
    Protocol("floats", condition=Condition.FLOAT),
    Protocol("fitted on floats, judged in 8 bits", fitted_in=Condition.FLOAT),
    Protocol("negatives of all sources", negatives=Negatives.ALL_SOURCES),
)
"""The corrected protocol, and it with one defect each; the last two are those of this project's own first edition."""
# (detector, those of which the best is compared with it, what the study says of it on strong and on weak attacks)
CLAIMS: tuple[tuple[str, tuple[str, ...], dict[str, Verdict]], ...] = (
    ("KDE", UNCERTAINTY, {"strong": Verdict.HIGHER, "weak": Verdict.LOWER}),
    ("entropy", ("variance",), {"weak": Verdict.HIGHER}),
    ("confidence", ("mutual information",), {"weak": Verdict.HIGHER}),
    ("KL divergence", ("KDE",), {"strong": Verdict.LOWER, "weak": Verdict.HIGHER}),
    ("closeness, all", ("KDE",), {"strong": Verdict.HIGHER, "weak": Verdict.HIGHER}),
    ("all six", (*UNCERTAINTY, "KDE", "KL divergence"), {"strong": Verdict.HIGHER, "weak": Verdict.HIGHER}),
)

# ---------------------------------------------------------------- lens and heads


def kde_column(bandwidth: float) -> str:
    """The name of the log density's column at a bandwidth in scikit-learn's convention."""
    return f"KDE, h = {bandwidth:.3g}"


def kl_column(conversion: str) -> str:
    """The name of the divergence's column under a conversion."""
    return f"KL divergence, {conversion}"


def text_bandwidth(bandwidth: float) -> float:
    """The h of scikit-learn's exp(−d²/2h²) that gives the text's kernel exp(−d²/σ²) of that σ."""
    return bandwidth / float(np.sqrt(2))


@versioned(1)
class ClosenessSettings(Lens):
    """Densities and divergences under every setting compared, for the class that the network decides on.

    Args:
        classifier: the task network; bandwidths: of the densities, in scikit-learn's convention.
    """

    name, family = "closeness_settings", "closeness"

    def __init__(self, classifier: Classifier, *, bandwidths: Sequence[float]) -> None:
        self.classifier, self.bandwidths = classifier, list(bandwidths)
        self.measures: dict[str, ClassReference] = {kde_column(h): ClassDensity(bandwidth=h) for h in bandwidths}
        self.measures |= {kl_column(each): ClassDivergence(conversion=each) for each in CONVERSIONS}
        self.columns = tuple(self.measures)

    def fit(self, images: Array, labels: Array) -> "ClosenessSettings":
        """Takes over the features of the training images."""
        self.features, self.labels = self.classifier.features(images), labels
        for measure in self.measures.values():
            measure.fit(self.features, labels)
        return self

    def measure(self, images: Array) -> pd.DataFrame:
        """In nats."""
        return pd.DataFrame(self.to(images, self.classifier.predict(images).argmax(axis=1)))

    def to(self, images: Array, classes: Array) -> dict[str, Array]:
        """Column → (n,) closeness of images to the (n,) classes given."""
        features = self.classifier.features(images)
        return {name: each.by_class(features, classes) for name, each in self.measures.items()}

    def to_parts(self) -> dict[str, Any]:
        """Network, bandwidths and training features."""
        fitted = {"features": self.features, "labels": self.labels}
        return {"network": self.classifier.model, "bandwidths": self.bandwidths, **fitted}


class AttackAware(Logistic):
    """A logistic regression of metrics and of a distance that knows the attack.

    The distance says how much nearer φ(x) is to the mean of the attacked training rows than to that of the normal ones,
    both of the class c that the network decides on: ‖φ(x) − μ_c^normal‖ − ‖φ(x) − μ_c^attacked‖. A class that lacks
    one of them has that of all classes. The study's later version names such a distance, but not its definition.

    Args:
        features: columns of φ; metrics: the columns beside it.
    """

    def __init__(self, features: Sequence[str], metrics: Sequence[str] = ()) -> None:
        self.features, self.metrics = list(features), list(metrics)

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> Logistic:
        """Takes the means of normal and attacked rows, and fits the regression on the same rows."""
        groups = [measured[~is_adversarial], measured[is_adversarial]]
        self.means_ = [rows.groupby("predicted")[self.features].mean() for rows in groups]
        self.means_of_all_ = [rows[self.features].mean() for rows in groups]
        return super().fit(self._joined(measured), is_adversarial, seed=seed)

    def distance(self, measured: pd.DataFrame) -> Array:
        """(n,), positive where an image is nearer to the attacked ones."""
        own = measured[self.features].to_numpy()
        norms = []
        for means, of_all in zip(self.means_, self.means_of_all_, strict=True):
            centres = means.reindex(measured["predicted"]).to_numpy()
            centres = np.where(np.isnan(centres), of_all.to_numpy(), centres)
            norms.append(np.linalg.norm(own - centres, axis=1))
        return norms[0] - norms[1]

    def score(self, measured: pd.DataFrame) -> Array:
        """(n,) log odds."""
        return super().score(self._joined(measured))

    def _joined(self, measured: pd.DataFrame) -> pd.DataFrame:
        return measured[self.metrics].assign(**{AWARE: self.distance(measured)})


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which of the measured columns stand for the density and the divergence."""

    bandwidth: float
    conversion: str


def detectors(lens: Joined, choice: Choice) -> dict[str, Detector]:
    """The study's detectors by name: a logistic regression of each metric, of groups of them, and of all six."""
    closeness = (kde_column(choice.bandwidth), kl_column(choice.conversion))
    six, features = (*UNCERTAINTY, *closeness), columns_named(lens.columns, "feature")
    columns: dict[str, tuple[str, ...]] = {name: (name,) for name in (*UNCERTAINTY, *PARTS_OF_VARIANCE)}
    columns |= {"KDE": closeness[:1], "KL divergence": closeness[1:]}
    columns |= {"uncertainty, all": UNCERTAINTY, "closeness, all": closeness, "all six": six}
    heads: dict[str, Logistic] = {name: Logistic() for name in columns}
    for name, metrics in ((AWARE, ()), (SIX_AND_AWARE, six)):
        columns[name], heads[name] = ("predicted", *features, *metrics), AttackAware(features, metrics)
    return {
        name: Detector(lens, heads[name], columns=columns[name], name=name, family=family_of(name)) for name in columns
    }


def family_of(detector: str) -> str:
    """The family that colours a detector's lines."""
    if detector.startswith("all six"):
        return "fused"
    return "closeness" if detector in ("KDE", "KL divergence", "closeness, all", AWARE) else "uncertainty"


# ---------------------------------------------------------------- the study


class Study:
    """The closeness-and-uncertainty study of one run and data set.

    Args:
        bench: the notebook's workbench.
        task_epochs: of the task network, which is the study's for this data set.
        attacked_images: how many correctly classified test images FGSM, BIM and PGD attack; 0 for all, as the study.
        searched_images: how many of these DeepFool attacks; at most all of them.
        passes: t, of the Monte-Carlo dropout.
        bandwidths: shares of the published bandwidth that are tried beside it and the one of the text's kernel.
        training_seeds: how many times each detector is trained, on a split of its own each time.

    Attributes:
        published: what the study says of this data set; source: the attacked images' indices in the test set.
    Raises:
        ValueError: for numbers of images that the test set does not have, or shares that are not positive.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        task_epochs: int,
        attacked_images: int,
        searched_images: int,
        passes: int,
        bandwidths: Sequence[float],
        training_seeds: int = 5,
    ) -> None:
        is_list = isinstance(bandwidths, (list, tuple))
        if not is_list or not all(isinstance(share, (int, float)) and 0 < share < np.inf for share in bandwidths):
            raise ValueError(f"bandwidths must be a list of positive shares of the published one, got {bandwidths!r}")
        checked_whole(attacked_images, name="attacked_images", least=0)
        checked_whole(searched_images, name="searched_images")
        self.bench, self.training_seeds = bench, training_seeds
        self.published = published_of(bench.data.name)
        self.classifier = bench.classifier(self.published.network, epochs=task_epochs)
        correct = bench.correct_sources(self.classifier)
        if attacked_images > len(correct):
            raise ValueError(f"attacked_images must be at most {len(correct)}, the correct ones, got {attacked_images}")
        self.source = correct[: attacked_images or None]
        self.searched_images = min(searched_images, len(self.source))
        self.passes = checked_whole(passes, name="passes", least=2)
        tried = [share * self.published.bandwidth for share in bandwidths]
        tried += [text_bandwidth(self.published.bandwidth), self.published.bandwidth]
        self.bandwidths = sorted({kde_column(h): h for h in tried}.values())  # of two that look alike, the study's
        self.settings = settings(self.published.strengths)
        self.margin_settings = [Setting("deepfool", margin=margin) for margin in MARGINS]

    @cached_property
    def closeness(self) -> ClosenessSettings:
        """Closeness to the training images of the task network."""
        return ClosenessSettings(self.classifier, bandwidths=self.bandwidths).fit(*self.bench.training)

    @cached_property
    def lens(self) -> Joined:
        """All metrics, and the features."""
        masks = stream_seed(self.bench.seed, "closeness/dropout masks")
        uncertainty = Uncertainty(self.classifier, passes=self.passes, seed=masks)
        return Joined([uncertainty, self.closeness, Features(self.classifier)])

    @cached_property
    def benchmark(self) -> Benchmark:
        """All attack sets of the study, those of given margins included."""
        sets = {each.name: self.attack_set(each) for each in (*self.settings, *self.margin_settings)}
        return self.bench.benchmark(self.classifier, sets, n_seeds=self.training_seeds)

    def attack_set(self, setting: Setting) -> AttackSet:
        """The images attacked in one setting."""
        n = self.searched_images if setting.eps is None else len(self.source)
        return self.bench.attack_set(setting.attack, self.classifier, n=n, title=setting.name, **setting.parameters)

    @property
    def attacks(self) -> list[str]:
        """The names of the study's own settings."""
        return [setting.name for setting in self.settings]

    # ------------------------------------------------------------ detection

    @cached_property
    def tried(self) -> pd.DataFrame:
        """What each bandwidth and conversion reaches: metric, setting, auc, the mean over the validation parts."""
        rows = []
        columns = [("KDE", h, kde_column(h)) for h in self.bandwidths]
        columns += [("KL divergence", each, kl_column(each)) for each in CONVERSIONS]
        for metric, setting, column in columns:
            alone = Detector(self.lens, Logistic(), columns=(column,), name=column)
            scored = [self.benchmark.scores(alone, attack) for attack in self.attacks]
            limits = {"stratum": Stratum.SUCCESS, "negatives": Negatives.MATCHED}
            aucs = [each.on_validation(roc_auc, **limits) for each in scored if each is not None]
            rows.append({"metric": metric, "setting": setting, "auc": pd.Series(aucs, dtype=float).mean()})
        return pd.DataFrame(rows)

    @cached_property
    def choice(self) -> Choice:
        """The bandwidth and conversion with the highest mean AUC over all attacks' validation parts."""
        best = {}
        for metric, rows in self.tried.groupby("metric"):
            best[metric] = rows.loc[rows["auc"].fillna(0).idxmax(), "setting"]  # pyright: ignore[reportArgumentType, reportCallIssue]
        return Choice(best["KDE"], best["KL divergence"])

    @cached_property
    def published_detectors(self) -> dict[str, Detector]:
        """With the published bandwidth in scikit-learn's convention, and softmax: the paper names no conversion."""
        return detectors(self.lens, Choice(self.published.bandwidth, "softmax"))

    @cached_property
    def detectors(self) -> dict[str, Detector]:
        """With the settings chosen on the validation parts."""
        return detectors(self.lens, self.choice)

    def detection(self, *, wanted: Sequence[str] = METRICS) -> pd.DataFrame:
        """The long table of the study's attacks: as published, and corrected in 8 bits and as floats."""
        published, corrected = (list(each.values()) for each in (self.published_detectors, self.detectors))
        about = {"conditions": ("8-bit", "float"), "negatives": ("matched", "hard images"), "wanted": wanted}
        tables = [
            self.benchmark.run(published, protocols=(AS_PUBLISHED,), attacks=self.attacks, wanted=("roc_auc",)),
            self.benchmark.run(corrected, **about, attacks=self.attacks),
        ]
        return pd.concat(tables, ignore_index=True)

    def defects(self) -> pd.DataFrame:
        """The long table of the corrected protocol with one defect at a time."""
        chosen = [self.detectors[name] for name in ("KDE", "all six")]
        return self.benchmark.run(chosen, protocols=DEFECTS, attacks=self.attacks, wanted=("roc_auc",))

    def margins(self) -> pd.DataFrame:
        """The long table of DeepFool stopped at several logit margins: ROC-AUC by how sure the attack is."""
        names = (*UNCERTAINTY, "KDE", "KL divergence", "all six")
        attacks = [setting.name for setting in self.margin_settings]
        return self.benchmark.run([self.detectors[name] for name in names], attacks=attacks, wanted=("roc_auc",))

    def unseen(self) -> pd.DataFrame:
        """The long table of all six metrics, learnt from the attack, from others, and from other families alone."""
        learnt = (TrainedOn.ATTACK, TrainedOn.OTHER_ATTACKS, TrainedOn.OTHER_FAMILIES)
        chosen = [self.detectors["all six"]]
        return self.benchmark.run(chosen, attacks=self.attacks, trained_on=learnt, wanted=("tpr_at_fpr_0.05",))

    def claims(self, protocol: Protocol = CORRECTED) -> pd.DataFrame:
        """The study's comparisons under a protocol, as `Benchmark.compare` gives them, with their verdicts.

        Returns:
            Those columns, and said (what the study says of a), claim (a `ClaimVerdict`, or "" where it says nothing).
        """
        own = self.published_detectors if protocol is AS_PUBLISHED else self.detectors
        pairs = [(own[a], tuple(own[name] for name in against)) for a, against, _ in CLAIMS]
        table = self.benchmark.compare(pairs, protocol=protocol, attacks=self.attacks)
        strength, said = {each.name: each.claim for each in self.settings}, {a: says for a, _, says in CLAIMS}
        columns: dict[str, list[str]] = {"said": [], "claim": []}
        for row in table.itertuples():
            says = said[str(row.a)].get(strength[str(row.attack)])
            columns["said"].append(says.value if says else "")
            columns["claim"].append(claim_verdict(Verdict(row.verdict), says).value if says else "")
        return table.assign(**columns)

    def roc_curves(self, names: Sequence[str], attacks: Sequence[str]) -> pd.DataFrame:
        """`Benchmark.roc_curves` under both protocols."""
        both = ((AS_PUBLISHED, self.published_detectors), (CORRECTED, self.detectors))
        frames = [self.benchmark.roc_curves([own[n] for n in names], attacks, protocols=(p,)) for p, own in both]
        return pd.concat(frames, ignore_index=True)

    def kernels(self, *, images: int) -> pd.DataFrame:
        """`compare_kernels` on BIM at the stronger ε, at the published bandwidth."""
        made = self.attack_set(self.settings[-2]).select(np.arange(min(images, len(self.source))))
        about = {"features": self.closeness.features, "labels": self.closeness.labels}
        about |= {"classifier": self.classifier, "attack_set": made, "bandwidth": self.published.bandwidth}
        return self._kept("kernels", compare_kernels, **about)

    # ------------------------------------------------------------ metrics and walks

    def right_and_wrong(self) -> pd.DataFrame:
        """Means of the uncertainty metrics over the clean test images, misclassified and classified correctly.

        Returns:
            A row a metric and outcome: metric, outcome ("wrong", "right"), published, estimate, low, high, n.
        """
        measured = self.benchmark.measured_clean(self.lens, Condition.FLOAT)
        wrong = measured["predicted"].to_numpy() != self.benchmark.clean_labels
        rows = []
        for metric in UNCERTAINTY:
            published = self.published.means.get(metric, (np.nan, np.nan))
            for outcome, mask, known in zip(("wrong", "right"), (wrong, ~wrong), published, strict=True):
                average = mean(measured[metric].to_numpy()[mask], np.flatnonzero(mask), seed=self.bench.seed)
                rows.append(average.row(metric=metric, outcome=outcome, published=known, n=int(mask.sum())))
        return pd.DataFrame(rows)

    def success_by_strength(self, strengths: Sequence[float], *, images: int) -> pd.DataFrame:
        """`success_by_strength` of the first attacked images, or of all where there are fewer."""
        chosen = self.source[: checked_whole(images, name="images")]
        data, attacks = self.bench.data, {name: find_attack(name) for name in STEP_ATTACKS}
        about = {"images": data.test_images[chosen], "labels": data.test_labels[chosen], "source": chosen}
        about |= {"attacks": attacks, "strengths": checked_strengths(strengths)}
        return self._kept("success_by_strength", success_by_strength, classifier=self.classifier, **about)

    def walk(self, attack: str, strengths: Sequence[float], *, images: int) -> pd.DataFrame:
        """`walk` of the first attacked images, with the published bandwidth and softmax."""
        chosen = self.source[: checked_whole(images, name="images")]
        data, choice = self.bench.data, Choice(self.published.bandwidth, "softmax")
        about = {"images": data.test_images[chosen], "classes": data.test_labels[chosen], "choice": choice}
        about |= {"attack": find_attack(attack), "strengths": checked_strengths(strengths)}
        return self._kept(f"walk.{attack}", walk, lens=self.lens, **about)

    def moved(self, attack: str, eps: float, *, image: int) -> Array:
        """(h, w, channels), what a `walk` by FGSM or BIM makes of its image of that number at one strength."""
        chosen, data = self.source[[image]], self.bench.data
        entry, about = find_attack(attack), {"eps": eps, "seed": self._attack_seed}
        return attacked(entry, self.classifier, data.test_images[chosen], data.test_labels[chosen], **about)[0]

    def _kept(self, name: str, make: Any, **parameters: Any) -> pd.DataFrame:
        return self.bench.store.keep(name, make, **parameters, seed=self._attack_seed)

    @property
    def _attack_seed(self) -> int:
        return stream_seed(self.bench.seed, "closeness/attacks")


@artifact(version=1, libraries=("tensorflow",))
def compare_kernels(
    classifier: Classifier, attack_set: AttackSet, *, features: Array, labels: Array, bandwidth: float, seed: int
) -> pd.DataFrame:
    """The density by hand and by scikit-learn's default tree, and the AUC of each as published.

    Returns:
        A row each: kernel ("exact", "kd_tree"), largest_error (nats, from the exact one), roc_auc, n.
    """
    images = np.concatenate([attack_set.clean, attack_set.noisy, attack_set.adversarial])
    own, classes = classifier.features(images), classifier.predict(images).argmax(axis=1)
    exact = ClassDensity(bandwidth=bandwidth).fit(features, labels).log_density(own, classes)
    tree = np.empty(len(images))
    for each in np.unique(classes):
        density = KernelDensity(bandwidth=bandwidth, algorithm="kd_tree").fit(features[labels == each])
        tree[classes == each] = density.score_samples(own[classes == each])
    attacked = np.arange(len(images)) >= 2 * len(attack_set)
    rows = []
    for name, density in (("exact", exact), ("kd_tree", tree)):
        auc, error = roc_auc(-density, attacked), float(np.abs(density - exact).max())
        rows.append({"kernel": name, "largest_error": error, "roc_auc": max(auc, 1 - auc), "n": len(attack_set)})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- on the way from no attack to a strong one


def checked_strengths(strengths: Sequence[float]) -> list[float]:
    """Validate two or more ascending ε in [0, 1]."""
    numeric = isinstance(strengths, Sequence) and all(isinstance(eps, numbers.Real) for eps in strengths)
    ascending = numeric and all(before < after for before, after in itertools.pairwise(strengths))
    if not ascending or len(strengths) < 2 or strengths[0] < 0 or strengths[-1] > 1:
        raise ValueError(f"strengths must be two or more ascending ε in [0, 1], got {strengths}: as [0.0, 0.1, 0.3]")
    return list(strengths)


def attacked(entry: CatalogueEntry, classifier: Classifier, images: Array, labels: Array, *, eps: float, seed: int):
    """The images after an attack of that strength; themselves where it is 0."""
    if eps == 0:
        return images
    return generate(build(entry, classifier, name=entry.attack.__name__, eps=eps), images, labels, seed=seed)


@artifact(version=1, libraries=("tensorflow",))
def success_by_strength(
    classifier: Classifier,
    images: Array,
    labels: Array,
    *,
    source: Array,
    attacks: Mapping[str, CatalogueEntry],
    strengths: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """The share of correctly classified images whose decision each attack changes at each strength.

    Returns:
        A row an attack and strength: attack, eps, estimate, low, high, n.
    """
    rows = []
    for name, entry in attacks.items():
        for eps in progress(strengths, description=f"{name} by strength", unit="strength"):
            moved = attacked(entry, classifier, images, labels, eps=eps, seed=seed)
            share = proportion(classifier.predict(moved).argmax(axis=1) != labels, source)
            rows.append(share.row(attack=name, eps=eps, n=len(images)))
    return pd.DataFrame(rows)


@artifact(version=1, libraries=("tensorflow",))
def walk(
    lens: Joined,
    images: Array,
    classes: Array,
    *,
    choice: Choice,
    attack: CatalogueEntry,
    strengths: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Every metric of (n, h, w, channels) images of (n,) classes at every strength.

    The target is the class that the strongest attack reaches. KDE and KL divergence are those of the class decided on,
    and with "of source" and "of target" of the true class and of the target.

    Returns:
        A row an image and strength: image, eps, label, target, predicted, and the metrics.
    """
    closeness = next(each for each in lens.lenses if isinstance(each, ClosenessSettings))
    classifier, frames = closeness.classifier, []
    columns = {kde_column(choice.bandwidth): "KDE", kl_column(choice.conversion): "KL divergence"}
    moved = {}
    for eps in progress(strengths, description=f"{attack.attack.__name__} walk", unit="strength"):
        moved[eps] = attacked(attack, classifier, images, classes, eps=eps, seed=seed)
    target = classifier.predict(moved[max(strengths)]).argmax(axis=1)
    for eps, adversarial in moved.items():
        measured = lens.measure(adversarial)[["predicted", *UNCERTAINTY, *columns]].rename(columns=columns)
        for end, reached in (("source", classes), ("target", target)):
            found = closeness.to(adversarial, reached)
            measured = measured.assign(**{f"{name} of {end}": found[column] for column, name in columns.items()})
        frames.append(measured.assign(image=np.arange(len(images)), eps=eps, label=classes, target=target))
    return pd.concat(frames, ignore_index=True).astype({"predicted": int})


def walk_means(walks: Mapping[str, pd.DataFrame], metrics: Sequence[str], *, seed: int) -> pd.DataFrame:
    """Means over the images of each attack's walk: attack, metric, eps, estimate, low, high, n."""
    rows = []
    for (attack, walked), metric in itertools.product(walks.items(), metrics):
        for eps, steps in walked.groupby("eps"):
            average = mean(steps[metric].to_numpy(), steps["image"].to_numpy(), seed=seed)
            rows.append(average.row(attack=attack, metric=metric, eps=eps, n=len(steps)))
    return pd.DataFrame(rows)


def end_differences(walks: Mapping[str, pd.DataFrame], metrics: Sequence[str], *, seed: int) -> pd.DataFrame:
    """The second of two attacks minus the first at the largest strength, over images on which both succeed.

    Returns:
        A row a metric: metric, difference (a text such as "bim − fgsm"), estimate, low, high (paired), n.
    """
    (first, second), ends = walks, [walked[walked["eps"] == walked["eps"].max()] for walked in walks.values()]
    both = sorted(set.intersection(*(set(end.loc[end["predicted"] != end["label"], "image"]) for end in ends)))
    before, after = (end.set_index("image").loc[both] for end in ends)
    rows = []
    for metric in metrics if both else []:
        average = mean((after[metric] - before[metric]).to_numpy(), np.array(both), seed=seed)
        rows.append(average.row(metric=metric, difference=f"{second} − {first}", n=len(both)))
    return pd.DataFrame(rows, columns=["metric", "difference", "estimate", "low", "high", "n"])


def crossings(walked: pd.DataFrame) -> pd.DataFrame:
    """Where the decision changes, where the target comes closer than the source, and where two metrics peak.

    Returns:
        A row an image whose decision changed: image; decision, KDE and KL divergence: the smallest strength at which
        each has changed sides, ∞ where it never does; straight: whether the decision changes to the target at once;
        entropy peak and KL peak: the strength at which the entropy, and the divergence, is largest.
    """
    rows = []
    for image, steps in walked.sort_values("eps").groupby("image"):
        changed = steps["predicted"] != steps["label"]
        if (steps["label"] == steps["target"]).all() or not changed.any():
            continue
        crossed = {
            "decision": changed,
            "KDE": steps["KDE of target"] > steps["KDE of source"],
            "KL divergence": steps["KL divergence of target"] < steps["KL divergence of source"],
        }
        row = {"image": image, **{name: steps["eps"].where(over, np.inf).min() for name, over in crossed.items()}}
        row["straight"] = bool(steps.loc[changed, "predicted"].iloc[0] == steps["target"].iloc[0])
        for peak, metric in (("entropy peak", "entropy"), ("KL peak", "KL divergence")):
            row[peak] = steps["eps"].iloc[int(np.argmax(steps[metric]))]
        rows.append(row)
    columns = ["image", "decision", "KDE", "KL divergence", "straight", "entropy peak", "KL peak"]
    return pd.DataFrame(rows, columns=columns)


def crossing_shares(crossed: Mapping[str, pd.DataFrame], strengths: Sequence[float]) -> pd.DataFrame:
    """How often closeness crosses, and uncertainty peaks, where the decision changes.

    Args:
        crossed: attack → `crossings`.
    Returns:
        A row an attack and share: attack, share, estimate, low, high, n.
    """
    step = {eps: place for place, eps in enumerate(strengths)}
    rows = []
    for attack, table in crossed.items():
        away = (table["entropy peak"].map(step) - table["decision"].map(step)).abs()
        shares = {"the target class only after another": ~table["straight"].astype(bool)}
        for name in ("KDE", "KL divergence"):
            shares[f"{name} crosses on the decision's step"] = table[name] == table["decision"]
            shares[f"{name} never crosses"] = np.isinf(table[name])  # pyright: ignore[reportArgumentType]
        shares["entropy peaks within a step of the decision"] = away <= 1
        shares["KL divergence peaks on the decision's step"] = table["KL peak"] == table["decision"]
        for share, found in shares.items() if len(table) else ():
            estimate = proportion(found.to_numpy(), table["image"].to_numpy())
            rows.append(estimate.row(attack=attack, share=share, n=len(table)))
    return pd.DataFrame(rows, columns=["attack", "share", "estimate", "low", "high", "n"])
