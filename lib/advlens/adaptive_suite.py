"""Attackers who know a detector, at growing radii, on one run's data set: see `advlens.suite` for others.

Each detector has learnt from attacks that don't know it, and has committed its threshold, before it is attacked. What
evades it in a ball evades it in every larger one, so that only the others are attacked again there. All is kept in the
run's store, a ball at a time: a run that was stopped goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advlens import metrics
from advlens.arrays import Array, checked_whole
from advlens.attacks.attack_set import UNTARGETED
from advlens.attacks.crafting import judged
from advlens.attacks.detector_aware import STRATEGIES, DetectorAwareAttack
from advlens.benchmark import CORRECTED, LONG_TABLE, Benchmark, Condition, Knowledge, Negatives, Stratum, TrainedOn
from advlens.benchmark.adaptive import NEARLY_ALL, evades, strength_checks
from advlens.benchmark.binarisation import TESTS, binarisation_test
from advlens.benchmark.fitting import columns_of
from advlens.benchmark.judging import scores_of
from advlens.benchmark.measuring import Once
from advlens.benchmark.vocabulary import EVASION, NOMINAL_FPR
from advlens.classifier import Classifier
from advlens.detectors import Detector, create
from advlens.entries import update_entries, with_adaptive
from advlens.image_files import through
from advlens.paths import plain_name
from advlens.progress import progress
from advlens.random import stream, stream_seed
from advlens.store import artifact
from advlens.suite import EPSILONS, OF_A_FAMILY, OTHER_EPSILONS, Suite, write_tables

LEARNT = ("pgd", "pgd_l2", "ddn")  # the attacks, at all their strengths, that heads learn from
DETECTORS = (
    *("relevancy_classifier", "local_entropy", "entropy", "density", "all_six", "deep_knn"),
    *("input_classifier", "feature_squeezing", "max_softmax"),
)
FUSIONS = ("one lens a family, logistic",)  # slow to attack, so that they are not among the default ones
L2_RADII = (2.0, 3.0)
BINARISED = 50  # images of the binarisation test
OBLIVIOUS = {"inf": "pgd", 2: "pgd_l2"}


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        images: attacked in each ball; checked: how many of them show the attack's strength.
        radii: in L∞, 1 to 3, and at most 2 in L2; max_iter: steps of each walk; weights: strategies besides the two
            without one.
    """

    images: int = 500
    checked: int = 50
    radii: int = 3
    max_iter: int = 100
    weights: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("images", "checked", "radii", "max_iter"):
            checked_whole(getattr(self, name), name=name)
        if self.radii > len(OTHER_EPSILONS):
            raise ValueError(f"radii must be at most {len(OTHER_EPSILONS)}, got {self.radii}")

    @property
    def parameters(self) -> dict[str, Any]:
        """Of `DetectorAwareAttack`."""
        return {"max_iter": self.max_iter, "strategies": (*STRATEGIES, *self.weights)}


@dataclass(frozen=True)
class Ball:
    """What an attacker may change: at most `eps` in a norm, 2 or "inf"."""

    norm: int | str
    eps: float

    def __str__(self) -> str:
        return f"L2 {self.eps:g}" if self.norm == 2 else f"L∞ {round(255 * self.eps)}/255"


@dataclass(frozen=True, eq=False)
class Defender:
    """A detector as it is attacked.

    Attributes:
        detector: calibrated at 5 %; thresholds: nominal false-positive rate → threshold, from `n_clean` clean images.
        learns: whether its head learnt from attacks; twin: the same detector, whose head learnt from other images.
    """

    detector: Detector
    thresholds: Mapping[float, float]
    n_clean: int
    learns: bool
    twin: Detector | None


@artifact(version=1, libraries=("tensorflow",))
def evading_images(
    detector: Detector, classifier: Classifier, images: Array, labels: Array, *, others: Array, **parameters: Any
) -> dict[str, Array]:
    """Images attacked by somebody who knows the detector; where one of others evades it already, that one.

    Args:
        detector: calibrated; images: (n, h, w, channels); labels: (n,).
        others: (m, n, h, w, channels) of other attacks within the same ball; the last is kept where nothing else is
            misclassified.
        parameters: of `DetectorAwareAttack`.
    """
    made, left = images.copy(), np.ones(len(images), bool)
    for each in others:
        rows = np.flatnonzero(left)
        found = rows[evades(classifier, detector, each[rows], labels[rows])]
        made[found], left[found] = each[found], False
        if not left.any():
            break
    if left.any():
        attack = DetectorAwareAttack(classifier, detector, until_unflagged=True, **parameters)
        found = attack.generate(images[left], labels[left])
        lost = classifier.predict(found).argmax(axis=1) == labels[left]
        made[left] = np.where(lost[:, None, None, None], others[-1][left], found)
    return {"images": made}


@artifact(version=2, libraries=("tensorflow",))
def checked_strength(
    detector: Detector, classifier: Classifier, images: Array, labels: Array, **parameters: Any
) -> pd.DataFrame:
    """`strength_checks` and the binarisation tests of an attack that stops where the detector is evaded."""
    attack = DetectorAwareAttack(classifier, detector, until_unflagged=True, **parameters)
    tests = binarisation_test(attack, images[:BINARISED], seed=attack.seed).dropna(subset="found")
    checks = pd.concat([strength_checks(attack, images, labels).checks, tests.iloc[:, :4]], ignore_index=True)
    return checks.astype({"found": float, "passed": int})


class AdaptiveSuite:
    """The suite of attackers who know.

    Args:
        suite: whose attack sets heads learn from, and whose clean images give thresholds; see `LEARNT`.
        effort: how much is done; detectors: names of the catalogue or of `FUSIONS`.
    Raises:
        ValueError: where too few correctly classified test images are left to attack.
    """

    def __init__(self, suite: Suite, effort: Effort, *, detectors: Sequence[str] = DETECTORS) -> None:
        self.suite, self.effort, self.names = suite, effort, list(detectors)
        self.bench, self.classifier, self._once = suite.bench, suite.classifier, Once()
        free = np.setdiff1d(self.bench.correct_sources(self.classifier), suite.benchmark.clean_source)
        if len(free) < effort.images:
            raise ValueError(f"{effort.images} images are to be attacked, and {len(free)} are left: attack fewer")
        self.source = np.sort(stream(self.bench.seed, "adaptive suite").permutation(free)[: effort.images])
        self.images, self.labels = self.bench.data.test_images[self.source], self.bench.data.test_labels[self.source]

    @cached_property
    def balls(self) -> list[Ball]:
        """The balls, the smallest first: those in L∞, and those in L2."""
        epsilons = EPSILONS.get(self.bench.data.name, OTHER_EPSILONS)[: self.effort.radii]
        return [
            *(Ball("inf", eps) for eps in sorted(epsilons)),
            *(Ball(2, eps) for eps in L2_RADII[: self.effort.radii]),
        ]

    @property
    def middle(self) -> Ball:
        """The ball in which attacks show their strength, and detectors meet attacks on others."""
        own = [ball for ball in self.balls if ball.norm == "inf"]
        return own[(len(own) - 1) // 2]

    # ------------------------------------------------------------ detectors

    @cached_property
    def defenders(self) -> dict[str, Defender]:
        """Detectors by their names; those whose head lacked images to learn from are left out."""
        fused = self.suite.fused(OF_A_FAMILY, title="all of these") if set(self.names) & set(FUSIONS) else {}
        made = (self.defender(fused[name] if name in fused else self.suite.single(name)) for name in self.names)
        return {each.detector.name: each for each in made if each}

    def defender(self, detector: Detector, benchmark: Benchmark | None = None) -> Defender | None:
        """A detector with a head fitted to all attacks of a benchmark, the suite's own, and a threshold."""
        benchmark = benchmark or self.suite.benchmark
        heads = benchmark.heads_from_all(detector)
        if not heads:
            return None
        clean = benchmark.clean_rows(detector, Condition.EIGHT_BIT, benchmark.threshold_source)
        made, thresholds = [], []
        for head in heads[:2]:
            scores = scores_of([head], clean, name=detector.name)[0]
            thresholds.append({fpr: metrics.threshold_at_fpr(scores, fpr) for fpr in EVASION})
            about = {"columns": detector.columns, "name": detector.name, "family": detector.family}
            made.append(Detector(detector.lens, head, **about).commit(scores, fpr=NOMINAL_FPR))
        twin = made[1] if len(made) > 1 else None
        return Defender(made[0], thresholds[0], len(clean), detector.head.learns, twin)

    # ------------------------------------------------------------ attacked images

    def oblivious(self, ball: Ball, source: Array | None = None) -> Array:
        """(n, h, w, channels) by PGD, which knows no detector, on the 1/255 grid; in L2 up to a thousandth too far.

        Args:
            source: the places of the test images attacked; by default the suite's own.
        """
        name, places = OBLIVIOUS[ball.norm], self.source if source is None else source
        about = {"title": f"{name}, {ball}", "eps": ball.eps}
        attack = lambda: self.bench.attack_on(places, name, self.classifier, **about).adversarial  # noqa: E731
        return self._once((ball, places.tobytes()), lambda: through(Condition.EIGHT_BIT.value, attack()))

    def attacked(self, detector: Detector, ball: Ball) -> Array:
        """(n, h, w, channels) by somebody who knows the detector; what evades in a smaller ball is kept."""
        smaller = self._smaller(ball)
        others = [self.attacked(detector, smaller)] if smaller else []
        make = lambda: self._evading(detector, ball, self.source, others=others)  # noqa: E731
        return self._once((detector, ball), make)

    def _smaller(self, ball: Ball) -> Ball | None:
        """The next smaller ball of the same norm."""
        own = [each for each in self.balls if each.norm == ball.norm and each.eps < ball.eps]
        return own[-1] if own else None

    def _evading(self, detector: Detector, ball: Ball, source: Array, *, others: Sequence[Array] = ()) -> Array:
        """Only what is misclassified where there is no detector is attacked: the rest is out of reach."""
        labels, made = self.bench.data.test_labels[source], self._reached(ball, source)
        rows = self.classifier.predict(made).argmax(axis=1) != labels
        if rows.any():
            others = [each[rows] for each in (*others, self.oblivious(ball, source), made)]
            made = made.copy()
            made[rows] = self._made(detector, ball, source[rows], others=others)
        return made

    def _reached(self, ball: Ball, source: Array) -> Array:
        """What PGD, a smaller ball, or the same walk without a detector misclassifies."""
        smaller = self._smaller(ball)
        others = [*([self._reached(smaller, source)] if smaller else []), self.oblivious(ball, source)]
        make = lambda: self._made(self._no_detector, ball, source, others=others)  # noqa: E731
        return self._once(("reached", ball, source.tobytes()), make)

    def _made(self, detector: Detector, ball: Ball, source: Array, *, others: Sequence[Array]) -> Array:
        about = {"detector": detector, "classifier": self.classifier, "others": np.stack(others)}
        about |= {"images": self.bench.data.test_images[source], "labels": self.bench.data.test_labels[source]}
        about |= {"seed": stream_seed(self.bench.seed, f"adaptive/{ball}"), "eps": ball.eps, "norm": ball.norm}
        name = plain_name(f"adaptive.{detector.name}.{ball}")
        return self.bench.store.keep(name, evading_images, **about, **self.effort.parameters)["images"]

    @cached_property
    def _no_detector(self) -> Detector:
        """It flags nothing, so that whoever knows it just leaves the class."""
        made = create("max_softmax", self.classifier)
        made.name, made.threshold_, made.observed_fpr_ = "nothing", 1.0, 0.0  # a score that it never reaches
        return made

    # ------------------------------------------------------------ tables

    @cached_property
    def table(self) -> pd.DataFrame:
        """The long table: each detector against PGD and its own attacker in all balls, and others in the middle one.

        An attack is called "knows <detector>, <ball>" or "pgd, <ball>".
        """
        rows = []
        for name, own in progress(self.defenders.items(), description="attackers who know", unit="detector"):
            for ball in self.balls:
                rows += self._rows(own, f"{OBLIVIOUS[ball.norm]}, {ball}", ball, self.oblivious(ball))
                attacked = self.attacked(own.detector, ball)
                rows += self._rows(own, f"knows {name}, {ball}", ball, attacked, Knowledge.ADAPTIVE)
            if own.twin:
                attacked = self.attacked(own.twin, self.middle)
                title = f"knows a twin of {name}, {self.middle}"
                rows += self._rows(own, title, self.middle, attacked, Knowledge.TRANSFER)
            for other in self.defenders.values():
                if other is not own:
                    attacked = self.attacked(other.detector, self.middle)
                    title = f"knows {other.detector.name}, {self.middle}"
                    rows += self._rows(own, title, self.middle, attacked, Knowledge.TRANSFER)
        return LONG_TABLE.validate(pd.DataFrame(rows, columns=list(LONG_TABLE.columns)))

    def _rows(
        self, own: Defender, attack: str, ball: Ball, attacked: Array, knowledge: Knowledge = Knowledge.OBLIVIOUS
    ) -> Iterator[dict[str, Any]]:
        detector, scores, fooled = own.detector, self._scores(own, attack, attacked), self._fooled(attacked)
        row = {
            **{"attack": attack, "strength": ball.eps, "detector": detector.name, "family": str(detector.family)},
            **{"protocol": CORRECTED.name, "condition": Condition.EIGHT_BIT.value, "negatives": Negatives.CLEAN.value},
            "trained_on": (TrainedOn.ALL if own.learns else TrainedOn.NOTHING).value,
            **{"knowledge": knowledge.value, "seeds": 1, "n_negative": own.n_clean, "baseline": ""},
        }
        for fpr, threshold in own.thresholds.items():
            flagged = scores > threshold
            caught = metrics.proportion(flagged[fooled], self.source[fooled]) if fooled.any() else metrics.MISSING
            found = (
                (EVASION[fpr], Stratum.ALL, metrics.proportion(fooled & ~flagged, self.source), len(fooled)),
                (f"committed_tpr_{fpr:g}", Stratum.SUCCESS, caught, int(fooled.sum())),
            )
            for metric, stratum, estimate, n in found:
                yield estimate.row(**row, metric=metric, stratum=stratum.value, n_positive=n, n_sources=n)

    def _scores(self, own: Defender, attack: str, attacked: Array) -> Array:
        """(n,) of attacked images, whose measurements are kept under the attack's name."""
        measured = self.suite.benchmark.measurements.of_others(own.detector.lens, attack, attacked)
        return scores_of([own.detector.head], measured[columns_of(own.detector)], name=own.detector.name)[0]

    def _fooled(self, attacked: Array) -> Array:
        return self.classifier.predict(attacked).argmax(axis=1) != self.labels

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """How many images of an attack on one detector evade it and a second one, in the middle ball.

        Returns:
            A row a pair: known, judge (the same for what evades the known one), estimate, low, high.
        """
        rows = []
        for name, own in self.defenders.items():
            attacked, title = self.attacked(own.detector, self.middle), f"knows {name}, {self.middle}"
            left = {
                judge: self._scores(each, title, attacked) <= each.thresholds[NOMINAL_FPR]
                for judge, each in self.defenders.items()
            }
            evading = self._fooled(attacked) & left[name]
            rows += [
                metrics.proportion(evading & left[judge], self.source).row(known=name, judge=judge) for judge in left
            ]
        return pd.DataFrame(rows)

    @cached_property
    def strength(self) -> pd.DataFrame:
        """What shows that each attack's first walk is strong, in the middle ball.

        Returns:
            detector, check, found, wanted, passed: see `strength_checks` and `binarisation_test`, without those of the
            latter that random search solves too.
        """
        frames = []
        ball, n = self.middle, self.effort.checked
        for name, own in progress(self.defenders.items(), description="strength of attacks", unit="detector"):
            about = {"detector": own.detector, "classifier": self.classifier, "seed": self.bench.seed}
            about |= {"images": self.images[:n], "labels": self.labels[:n], "eps": ball.eps, "norm": ball.norm}
            about |= {"max_iter": self.effort.max_iter, "strategies": STRATEGIES[:1]}
            checks = self.bench.store.keep(plain_name(f"strength.{name}"), checked_strength, **about)
            frames.append(checks.astype({"passed": bool}).assign(detector=name))
        rows = pd.concat(frames, ignore_index=True)[["detector", "check", "found", "wanted", "passed"]]
        too_easy = rows["check"].isin(TESTS) & ~rows["passed"] & (rows["found"] >= NEARLY_ALL)
        return rows[~too_easy].reset_index(drop=True)

    @property
    def failed(self) -> dict[str, str]:
        """Detector → the checks of its attack's strength that fail, where any do."""
        rows = self.strength[~self.strength["passed"]]
        return {str(name): "; ".join(own) for name, own in rows.groupby("detector", sort=False)["check"]}

    def write(self) -> Path:
        """Writes the tables as Parquet, adds the results to the run's leaderboard entries; returns the table's file."""
        folder = self.bench.folder / "benchmark"
        write_tables(folder, adaptive=self.table, strength=self.strength)
        about = {"dataset": self.bench.data.name, "settings": asdict(self.effort) | {"seed": self.bench.seed}}
        table, failed = self.table, self.failed
        update_entries(folder / "entries", lambda found: with_adaptive(found, table, failed, **about))
        return folder / "adaptive.parquet"

    def hardened(self, name: str) -> pd.DataFrame:
        """One round of hardening in the middle ball: the head learns from the attack that knows it as well.

        Returns:
            The long table's rows of the hardened detector, against the attack that knew it before, and against one
            that knows it now.
        Raises:
            ValueError: for a detector whose head does not learn from attacks.
        """
        own, suite, ball = self.defenders[name], self.suite, self.middle
        if not own.learns:
            raise ValueError(f"{name} does not learn from attacks: choose a detector that does")
        title, like = f"knows {name}, {ball}", next(iter(suite.attack_sets.values()))
        attacked = self._evading(own.detector, ball, like.source)
        made = judged(
            self.classifier, like.clean, attacked, like.label, name=title, parameters={"eps": ball.eps},
            source=like.source, target=np.full(len(like), UNTARGETED), rng=stream(self.bench.seed, f"twins/{title}"),
        )  # fmt: skip
        benchmark = suite.benchmark_of(suite.attack_sets | {title: made}, n_seeds=1)
        old = own.detector
        unfitted = Detector(old.lens, old.head, columns=old.columns, name=f"{name}, hardened", family=old.family)
        found = self.defender(unfitted, benchmark)
        rows = []
        if found:
            rows += self._rows(found, title, ball, self.attacked(old, ball), Knowledge.TRANSFER)
            again, name = self.attacked(found.detector, ball), found.detector.name
            rows += self._rows(found, f"knows {name}, {ball}", ball, again, Knowledge.ADAPTIVE)
        return LONG_TABLE.validate(pd.DataFrame(rows, columns=list(LONG_TABLE.columns)))
