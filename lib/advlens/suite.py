"""The benchmark suite: every detector of the catalogue on every attack, on one task network of a run's data set.

What is measured is kept in the run's store, so that a detector added later measures itself alone, and a run that was
stopped goes on where it was.
"""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advlens import metrics, plots
from advlens.arrays import Array, checked_images, checked_indices, checked_whole
from advlens.attacks import AttackSet
from advlens.attacks.appearance import idle
from advlens.attacks.attack_set import UNTARGETED
from advlens.attacks.crafting import judged
from advlens.benchmark import BEST_BASELINE, Benchmark, Family, TrainedOn, hard_negatives
from advlens.benchmark.judging import BAR, with_verdicts
from advlens.benchmark.samples import sources_of
from advlens.benchmark.table import LONG_TABLE, transfer
from advlens.closeness import bandwidth_of
from advlens.datasets import stored_test_images
from advlens.detectors import Averaged, Boosting, Detector, Deviations, Fisher, Head, Logistic, create
from advlens.entries import entries, update_entries, with_attack, with_oblivious
from advlens.lenses import Joined, Lens
from advlens.networks import dropout_network
from advlens.paths import plain_name
from advlens.progress import progress
from advlens.random import stream
from advlens.store import artifact, storable
from advlens.workbench import Workbench

EPSILONS = {"fashion_mnist": (31 / 255, 8 / 255, 4 / 255)}  # the strongest first
OTHER_EPSILONS = (77 / 255, 31 / 255, 15 / 255)  # of digits, which bear more, and of a user's images
LENGTHS = (2.0, 1.0, 3.0)  # of PGD in L2
MARGINS = (1e-3, 5.0, 2.0)  # of logits, of the attacks that look for the nearest image
BY_EPSILON = ("fgsm", "bim", "pgd", "mi_fgsm", "apgd_ce", "apgd_dlr", "square")
BY_MARGIN = {
    **dict.fromkeys(("deepfool", "lbfgs", "gradient", "ddn", "fab", "fab_linf"), "margin"),
    **dict.fromkeys(("carlini_l2", "carlini_linf"), "confidence"),
}
AT_STRONGEST = ("bim_targeted", "universal", "ilap")
WITHOUT_STRENGTH: Mapping[str, Mapping[str, Any]] = {
    **{"boundary": {"max_iter": 150}, "one_pixel": {"pixels": 5, "max_iter": 15}, "jsma": {}, "elastic_net": {}},
    **{"spatial": {}, "hop_skip_jump": {"max_iter": 5, "max_eval": 500, "init_eval": 50}},
}
DETECTORS = (
    *("energy", "max_logit", "feature_squeezing", "augmentation", "natural_scenes", "kd_bu", "lid", "mahalanobis"),
    *("all_six", "deep_knn", "local_entropy", "pasa", "ml_loo", "shap_signature", "map_under_denoising"),
    *("magnet", "noise_reduction", "map_reconstruction", "kernel_means", "subset_scanning"),
)
OF_A_FAMILY = {  # detector → its columns, one lens a family
    "local_entropy": ("local entropy",),
    "all_six": ("entropy", "KDE"),
    "deep_knn": ("1 − credibility",),
    "feature_squeezing": ("largest",),
}
ONE_OF_EACH, ALL = "one lens a family", "all lenses"  # what fusions join
JOINED_BY: Mapping[str, type[Head]] = {
    **{"logistic": Logistic, "boosting": Boosting, "p-values": Fisher},
    **{"deviations": Deviations, "averaged": Averaged},
}
IN_NO_FUSION = ("shap_signature", "kd_bu", "art_input", "art_activation")  # too many columns, or in all six already
NUMBERED = ("shap_signature",)  # columns that are numbers of one network's units, and mean nothing on another's
OTHER_DATA = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}
NONE = "none"  # in a stored table, where another one has an empty text
TIMED = 100  # images by which a lens's cost is measured
LEARNT = (TrainedOn.ATTACK, TrainedOn.OTHER_ATTACKS, TrainedOn.OTHER_FAMILIES)
METRICS_ASKED = (
    *("roc_auc", "tpr_at_fpr_0.05", "committed_tpr_0.05", "observed_fpr_0.05"),
    *("observed_fpr_0.05 on all clean", "observed_fpr_0.05 on noisy", "tpr_at_fpr_0.05 above the best baseline"),
)


@artifact(version=1, libraries=("tensorflow",))
def seconds_of(lens: Lens, images: Array) -> dict[str, float]:
    """Seconds that a lens takes for 1,000 images, the second time that it sees some."""
    lens.measure(images)
    start = time.perf_counter()
    lens.measure(images)
    return {"seconds": 1000 / len(images) * (time.perf_counter() - start)}


@storable
@dataclass(frozen=True)
class Judgement:
    """What the benchmark says of one detector, or of the trivial baselines: `Benchmark`'s tables `run`, `alarms` and
    `caught`, and its comparison with the best trivial score; the last two where it did not learn from an attack's
    family.
    """

    table: pd.DataFrame
    alarms: pd.DataFrame
    caught: pd.DataFrame
    verdicts: pd.DataFrame

    def to_parts(self) -> dict[str, pd.DataFrame]:
        """Those that hold anything; an empty text, which a file would lose, is `NONE`."""
        return {name: table.replace("", NONE) for name, table in vars(self).items() if len(table)}

    @classmethod
    def from_parts(cls, parts: dict[str, pd.DataFrame]) -> "Judgement":
        """The judgement that `to_parts` took apart."""
        names = cls.__dataclass_fields__
        return cls(**{name: parts[name].replace(NONE, "") if name in parts else pd.DataFrame() for name in names})


@artifact(version=1, libraries=("scikit-learn", "tensorflow"))
def judge(benchmark: Benchmark, detectors: Sequence[Detector], *, images: Mapping[str, Array]) -> Judgement:
    """The judgement of detectors; where none are given, of the trivial baselines."""
    alone, learnt = not detectors, TrainedOn.OTHER_FAMILIES
    pairs = [(each, BEST_BASELINE) for each in detectors]
    return Judgement(
        table=benchmark.run(detectors, trained_on=LEARNT, wanted=METRICS_ASKED, baselines=alone),
        alarms=benchmark.alarms(detectors, images, baselines=alone),
        caught=benchmark.caught(detectors, trained_on=learnt, baselines=alone),
        verdicts=benchmark.compare(pairs, metric=BAR, trained_on=learnt) if pairs else pd.DataFrame(),
    )


@artifact(version=1, libraries=("scikit-learn", "tensorflow"))
def cross(benchmark: Benchmark, detectors: Sequence[Detector]) -> pd.DataFrame:
    """`Benchmark.cross`, without its column of baselines, which is empty."""
    return benchmark.cross(detectors).drop(columns="baseline")


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        images: attacked images a set; strengths: 1 to 3 of each attack that has them.
        epochs: of the task network; training_seeds: of each head; alarms: normal images of each hard kind.
        clean: test images that are not attacked, four in five for thresholds, the others for false-positive rates.
    """

    images: int = 300
    strengths: int = 1
    epochs: int = 8
    training_seeds: int = 3
    alarms: int = 500
    clean: int = 2500

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            checked_whole(value, name=name)
        if self.strengths > len(MARGINS):
            raise ValueError(f"strengths must be at most {len(MARGINS)}, got {self.strengths}")


def settings(dataset: str, strengths: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of an attack set → the catalogue's name and its parameters.

    >>> list(settings("mnist", 1))[:2]
    ['fgsm 77/255', 'bim 77/255']
    """
    epsilons = EPSILONS.get(dataset, OTHER_EPSILONS)
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for eps in epsilons[:strengths]:
        found |= {f"{name} {round(255 * eps)}/255": (name, {"eps": eps}) for name in BY_EPSILON}
    found |= {f"pgd_l2 {length:g}": ("pgd_l2", {"eps": length}) for length in LENGTHS[:strengths]}
    for margin in MARGINS[:strengths]:
        at = "" if margin < 1 else f", margin {margin:g}"
        found |= {f"{name}{at}": (name, {word: margin}) for name, word in BY_MARGIN.items()}
    found |= {f"{name} {round(255 * epsilons[0])}/255": (name, {"eps": epsilons[0]}) for name in AT_STRONGEST}
    return found | {name: (name, dict(about)) for name, about in WITHOUT_STRENGTH.items()}


def chosen_settings(dataset: str, strengths: int, attacks: Sequence[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Those of `settings` that are named by title or by the catalogue's name; all of them where none is.

    Raises:
        ValueError: for a name that is none of these.
    """
    found = settings(dataset, strengths)
    names = {*found, *(name for name, _ in found.values())}
    for wanted in attacks:
        if wanted not in names:
            known = ", ".join(dict.fromkeys(name for name, _ in found.values()))
            raise ValueError(f"no attack of the suite is called {wanted!r}: choose among {known}")
    return {title: each for title, each in found.items() if not attacks or {title, each[0]} & set(attacks)}


class Suite:
    """The suite on one run's data set.

    Args:
        bench: the run's workbench; sizes: how much is done.
        attacks: those of `settings` by title or by the catalogue's name; all of them by default.
    Raises:
        ValueError: for attacks that are none of these.
    """

    def __init__(self, bench: Workbench, sizes: Sizes, *, attacks: Sequence[str] = ()) -> None:
        self.bench, self.sizes = bench, sizes
        self.settings = chosen_settings(bench.data.name, sizes.strengths, attacks)
        self.about = asdict(sizes) | {"train_images": len(bench.training[0]), "seed": bench.seed}
        self.about |= {"attacks": list(attacks)} if attacks else {}
        self.classifier = bench.classifier(dropout_network(bench.data.name), epochs=sizes.epochs)
        self._made: dict[str, Detector] = {}

    @cached_property
    def attack_sets(self) -> dict[str, AttackSet]:
        """All attack sets, by name."""
        return {title: self.attack_set(title, *each) for title, each in self.settings.items()}

    def attack_set(self, title: str, attack: str, parameters: Mapping[str, Any]) -> AttackSet:
        """An attack of the catalogue on this network, on as many images as `sizes` says."""
        return self.bench.attack_set(attack, self.classifier, n=self.sizes.images, title=title, **parameters)

    @cached_property
    def benchmark(self) -> Benchmark:
        """All of them on one network."""
        return self.benchmark_of(self.attack_sets)

    def benchmark_of(self, sets: Mapping[str, AttackSet], **about: Any) -> Benchmark:
        """A benchmark of attack sets on this network, with as many other clean images as `sizes` says.

        Args:
            about: of `Benchmark`, where it differs.
        """
        about = {"n_seeds": self.sizes.training_seeds, **about}
        return self.bench.benchmark(self.classifier, sets, clean=self.sizes.clean, **about)

    @cached_property
    def singles(self) -> dict[str, Detector]:
        """The catalogue's detectors that need no network of their own, fitted to the training images."""
        return {name: self.single(name) for name in DETECTORS}

    def single(self, name: str) -> Detector:
        """A detector of the catalogue, its lens fitted to the training images."""
        if name not in self._made:
            self._made[name] = create(name, self.classifier, **self._about(name)).fit(*self.bench.training)
        return self._made[name]

    def _about(self, name: str) -> dict[str, Any]:
        if name in ("all_six", "kd_bu", "density"):
            return {"bandwidth": bandwidth_of(self.bench.data.name)}
        # Its study says that entropy rises: turned around by images of the attack, it would have learnt from it.
        return {"direction": 1} if name == "local_entropy" else {}

    @cached_property
    def fusions(self) -> dict[str, Detector]:
        """One lens a family, and all of them, joined by each head of `JOINED_BY`."""
        return self.fused(DETECTORS, title=ALL)

    def fused(self, names: Collection[str], *, title: str) -> dict[str, Detector]:
        """The fusions of some of the catalogue's detectors; `title` is that of all of them."""
        of_families = {name: columns for name, columns in OF_A_FAMILY.items() if name in names}
        every = {}
        for name in names:
            known = {column for columns in every.values() for column in columns}
            if name not in IN_NO_FUSION and not known & set(self.single(name).lens.columns):
                every[name] = self.single(name).lens.columns
        made = {}
        for each, chosen in ((ONE_OF_EACH, of_families), (title, every)):
            lens = Joined([self.single(name).lens for name in chosen])
            columns = [column for own in chosen.values() for column in own]
            for word, head in JOINED_BY.items():
                name = f"{each}, {word}"
                made[name] = Detector(lens, head(), columns=columns, name=name, family=Family.FUSED.value)
        return made

    @cached_property
    def detectors(self) -> list[Detector]:
        """All detectors; the trivial baselines are the benchmark's own."""
        return [*self.singles.values(), *self.fusions.values()]

    @property
    def entrants(self) -> list[Detector]:
        """All detectors, and the trivial baselines."""
        return [*self.detectors, *self.benchmark.baselines]

    def judgement(self, detector: Detector | None) -> Judgement:
        """What the benchmark says of a detector, or where none is given of the trivial baselines, kept in the store."""
        about = {"benchmark": self.benchmark, "detectors": [detector] if detector else [], "images": self.hard_images}
        name = f"{detector.family}.{detector.name}" if detector else "trivial scores"  # rows hold both
        name = plain_name(f"benchmark.{name}")
        return self.bench.store.keep(name, judge, **about)

    @cached_property
    def _judgements(self) -> list[Judgement]:
        """All of them, the baselines' last; scores, and what a lens keeps at hand, go once a detector is judged."""
        made = []
        for detector in progress(self.detectors, description="detectors", unit="detector"):
            self.cost(detector.lens, self._seconds)
            made.append(self.judgement(detector))
            self.benchmark.forget(detector)
            detector.lens.release()
        return [*made, self.judgement(None)]

    def _joined(self, part: str) -> pd.DataFrame:
        """A part of all judgements, attack by attack."""
        table = pd.concat([getattr(each, part) for each in self._judgements], ignore_index=True)
        order = {name: place for place, name in enumerate(self.attack_sets)}
        return table.sort_values("attack", key=lambda names: names.map(order), kind="stable", ignore_index=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The long table: learnt from the attack, from other attacks, from other families."""
        return LONG_TABLE.validate(self._joined("table"))

    @cached_property
    def crossed(self) -> pd.DataFrame:
        """The regression on one lens a family, fitted to each attack and judged on every other: `Benchmark.cross`."""
        about = {"benchmark": self.benchmark, "detectors": [self.fusions[f"{ONE_OF_EACH}, logistic"]]}
        return self.bench.store.keep("benchmark.crossed", cross, **about)

    @cached_property
    def alarms(self) -> pd.DataFrame:
        """Who flags normal images that are hard."""
        return pd.concat([each.alarms for each in self._judgements], ignore_index=True)

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """Each detector that did not learn from the attack's family, compared with the best trivial score."""
        return with_verdicts(self._joined("verdicts"), metrics.MARGINS[BAR])

    @cached_property
    def hard_images(self) -> dict[str, Array]:
        """Kind → normal images: noisy, blurred, paler, turned, from a JPEG file, misclassified, of the other data set.

        Digits beside clothes and clothes beside digits, where that data set is on the disk.
        """
        data, n = self.bench.data, self.sizes.alarms
        decided = self.classifier.predict(data.test_images).argmax(axis=1)
        taken = [*sources_of(self.attack_sets), *self.benchmark.threshold_source]
        free = np.setdiff1d(np.arange(len(data.test_labels)), taken)
        right, wrong = (free[(decided == data.test_labels)[free] == which] for which in (True, False))
        kinds = hard_negatives(data.test_images[right[:n]], seed=self.bench.seed)
        kinds["misclassified"] = data.test_images[wrong[:n]]
        foreign = stored_test_images(OTHER_DATA[data.name]) if data.name in OTHER_DATA else None
        if foreign is not None:
            kinds["of the other data set"] = stream(self.bench.seed, "suite/other data set").permutation(foreign)[:n]
        return {kind: each for kind, each in kinds.items() if len(each)}

    @cached_property
    def idle(self) -> pd.DataFrame:
        """How often each attack left images unchanged, or had no gradient: see `advlens.attacks.appearance.idle`."""
        return idle(self.attack_sets)

    def evaluate(self, detector: Detector) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The long table and the alarms of a detector of a user's own, and of the trivial baselines.

        Its measurements are not kept: nothing says when its code has changed.
        """
        benchmark = self.benchmark_of(self.attack_sets, store=None)
        table = benchmark.run([detector], trained_on=LEARNT, wanted=METRICS_ASKED)
        if told := benchmark.said_of_ties(detector, trained_on=LEARNT):
            warnings.warn(f"{detector.name}: {told}", stacklevel=2)
        return table, benchmark.alarms([detector], self.hard_images)

    def transferred(self, other: "Suite") -> pd.DataFrame:
        """The long table of detectors that learn, by heads fitted to all attacks here, and to all of another suite.

        Columns are matched by name. Detectors that measure others there, whose columns are numbers of a network's
        units, or that could not be fitted are left out, and named in a warning; "all shared lenses" joins the others.

        Args:
            other: a suite on another data set, with as many training seeds.
        Raises:
            ValueError: for another number of training seeds.
        """
        if other.sizes.training_seeds != self.sizes.training_seeds:
            raise ValueError(
                f"both suites must train each head as often, got {self.sizes.training_seeds} and "
                f"{other.sizes.training_seeds} training seeds: make one again"
            )
        columns = [{name: each.lens.columns for name, each in made.singles.items()} for made in (self, other)]
        shared = [name for name in self.singles if name not in NUMBERED and columns[0][name] == columns[1].get(name)]
        mine, theirs = (
            [*(made.singles[name] for name in shared), *made.fused(shared, title="all shared lenses").values()]
            for made in (self, other)
        )
        learning = [each for each in (*theirs, *other.benchmark.baselines) if each.head.learns]
        heads = {each.name: other.benchmark.heads_from_all(each) for each in learning}
        entrants = [each for each in mine if len(heads.get(each.name, ())) == self.sizes.training_seeds]
        kept = {each.name for each in entrants}
        left_out = [each.name for each in self.singles.values() if each.head.learns and each.name not in kept]
        if left_out:
            warnings.warn(f"{', '.join(left_out)}: left out, since the two data sets share no heads", stacklevel=2)
        benchmark = self.benchmark_of(self.attack_sets, elsewhere=heads)
        return benchmark.run(entrants, trained_on=(TrainedOn.ALL, TrainedOn.OTHER_DATA), wanted=METRICS_ASKED)

    def write_transferred(self, other: "Suite") -> Path:
        """Writes the table of `transferred` as Parquet, and how much of each rate is left as "headline-transfer"."""
        long = self.transferred(other)
        write_tables(self.bench.folder / "benchmark", transferred=long)
        here, there = (plots.title_of(each.bench.data.name) for each in (self, other))
        rates = transfer({f"{there} → {here}": long})
        text = rates.apply(lambda row: f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]", axis=1)
        names = {TrainedOn.ALL.value: f"learnt on {here}", TrainedOn.OTHER_DATA.value: f"learnt on {there}"}
        shown = rates.assign(rate=text).pivot(index=["detector", "family"], columns="trained_on", values="rate")
        order = rates[rates["trained_on"] == TrainedOn.OTHER_DATA.value].set_index(["detector", "family"])["estimate"]
        if order.empty:
            raise ValueError("no attack has enough successes for a head from the other data set: attack more images")
        shown = shown.reindex(order.sort_values(ascending=False).index, columns=list(names)).rename(columns=names)
        self.bench.show_table(shown.reset_index(), "headline-transfer")
        return self.bench.folder / "figures" / "headline-transfer.md"

    @cached_property
    def caught(self) -> pd.DataFrame:
        """By attack and source, which attacks are flagged by detectors that did not learn from their family."""
        found = [each.caught.set_index(["attack", "source"]) for each in self._judgements if len(each.caught)]
        nothing = pd.DataFrame(index=pd.MultiIndex.from_arrays([[], []], names=["attack", "source"]))
        return pd.concat(found or [nothing], axis=1)

    @cached_property
    def seconds(self) -> pd.Series:
        """Seconds for 1,000 images, by detector, on the machine that measured them first."""

        kept = cache(self._seconds)  # fusions join lenses that others have alone
        return pd.Series({each.name: self.cost(each.lens, kept) for each in self.entrants})

    def _seconds(self, lens: Lens) -> float:
        about = {"lens": lens, "images": self.bench.data.test_images[:TIMED]}
        return self.bench.store.keep(plain_name(f"seconds.{lens.name}"), seconds_of, **about)["seconds"]

    def cost(self, lens: Lens, measure: Callable[[Lens], float] | None = None) -> float:
        """Seconds for 1,000 images of a lens, by `seconds_of`; joined ones are measured apart."""
        if isinstance(lens, Joined):
            return sum(self.cost(each, measure) for each in lens.lenses)
        return measure(lens) if measure else seconds_of(lens, self.bench.data.test_images[:TIMED])["seconds"]

    @property
    def margins(self) -> dict[str, float]:
        """Attack → the logit margin that it stops at, of those that look for the nearest image."""
        return {
            title: about[BY_MARGIN[name]]
            for title, (name, about) in self.settings.items()
            if BY_MARGIN.get(name) in about
        }

    @property
    def every_attack(self) -> set[str]:
        """The attacks of suites of all sizes on this data set."""
        return set(settings(self.bench.data.name, len(MARGINS)))

    @property
    def unchanged(self) -> dict[str, float]:
        """Attack → the share of images that it left as they were, in 8 bits."""
        return dict(self.idle.set_index("attack")["unchanged_8_bit"])

    def rescore(self, name: str, attacked: Array, source: Array) -> pd.DataFrame:
        """The long table of images that somebody else attacked, by detectors that did not learn from them.

        Args:
            name: what the table calls the attack; attacked: (n, h, w, channels) in [0, 1].
            source: (n,) the places of their originals among the data set's test images, all classified correctly.
        Raises:
            ValueError: for other images or places, or a name that is taken.
        """
        data, classifier = self.bench.data, self.classifier
        attacked = checked_images(attacked, shape=classifier.input_shape)
        source = checked_indices(source, n=len(attacked), name="source")
        if name in self.every_attack:
            raise ValueError(f"an attack is called {name!r} already: choose another name")
        if source.min() < 0 or source.max() >= len(data.test_labels) or len(np.unique(source)) < len(source):
            raise ValueError(f"source must hold different places of 0 to {len(data.test_labels) - 1}")
        clean, labels = data.test_images[source], data.test_labels[source]
        wrong = int((classifier.predict(clean).argmax(axis=1) != labels).sum())
        if wrong:
            raise ValueError(f"{wrong} of {len(source)} originals are misclassified as they are: leave them out")
        given = judged(
            classifier, clean, attacked, labels, name=name, parameters={}, source=source,
            target=np.full(len(source), UNTARGETED), rng=stream(self.bench.seed, "suite/rescored twins"),
        )  # fmt: skip
        benchmark = self.benchmark_of(self.attack_sets | {name: given})
        learnt = (TrainedOn.OTHER_ATTACKS, TrainedOn.OTHER_FAMILIES)  # the same: it has no family here
        return benchmark.run(self.detectors, attacks=[name], trained_on=learnt, wanted=METRICS_ASKED)

    def add(self, table: pd.DataFrame) -> Path:
        """Adds the attack of a table of `rescore` to the run's leaderboard entries; returns their folder.

        Raises:
            FileNotFoundError: where `write` has made none.
        """
        folder = self.bench.folder / "benchmark" / "entries"
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder: run `advlens benchmark` with the same sizes first")
        update_entries(folder, lambda found: with_attack(found, table, dataset=self.bench.data.name))
        return folder

    def write(self) -> Path:
        """Writes the tables as Parquet, and the leaderboard's entries; returns the long table's file."""
        folder = self.bench.folder / "benchmark"
        own = {"table": self.table, "alarms": self.alarms, "verdicts": self.verdicts, "crossed": self.crossed}
        write_tables(folder, **own, idle=self.idle)
        about = {"dataset": self.bench.data.name, "settings": self.about, "margins": self.margins}
        about |= {"unchanged": self.unchanged, "seconds": dict(self.seconds), "caught": self.caught}
        made = entries(self.table, self.alarms, **about)
        update_entries(folder / "entries", partial(with_oblivious, made, of_suite=self.every_attack))
        return folder / "table.parquet"


def write_tables(folder: Path, **tables: pd.DataFrame) -> None:
    """Writes tables as Parquet into a folder, each under its name, none of them by halves."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        unfinished = folder / f".partial-{name}.parquet"
        table.to_parquet(unfinished, index=False)
        unfinished.rename(folder / f"{name}.parquet")
