"""Attackers who know a detector, at growing radii, on one run's data set: see `advlens.suite` for others.

Each detector has learnt from attacks that don't know it, and has committed its threshold, before it is attacked. What
evades it in a ball evades it in every larger one, so that only the others are attacked again there. All is kept in the
run's store, a ball at a time: a run that was stopped goes on where it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advlens import metrics
from advlens.arrays import Array, checked_whole
from advlens.attacks.attack_set import UNTARGETED
from advlens.attacks.crafting import judged
from advlens.attacks.detector_aware import STRATEGIES, DetectorAwareAttack
from advlens.attacks.detector_aware_boundary import DetectorAwareBoundary
from advlens.benchmark import CORRECTED, LONG_TABLE, Benchmark, Condition, Knowledge, Negatives, Stratum, TrainedOn
from advlens.benchmark.adaptive import NEARLY_ALL, evades, strength_checks
from advlens.benchmark.binarisation import TESTS, binarisation_test
from advlens.benchmark.fitting import columns_of
from advlens.benchmark.judging import scores_of
from advlens.benchmark.measuring import Once
from advlens.benchmark.vocabulary import EVASION, NOMINAL_FPR
from advlens.classifier import Classifier
from advlens.detectors import Averaged, Boosting, Detector, Deviations, Head, Logistic, create
from advlens.entries import update_entries, with_adaptive
from advlens.image_files import through
from advlens.paths import plain_name
from advlens.progress import progress
from advlens.random import stream, stream_seed
from advlens.store import artifact
from advlens.suite import ALL, EPSILONS, JOINED_BY, OF_A_FAMILY, ONE_OF_EACH, OTHER_EPSILONS, Suite, write_tables

LEARNT = ("pgd", "pgd_l2", "ddn")  # the attacks, at all their strengths, that heads learn from
DETECTORS = (
    *("relevancy_classifier", "local_entropy", "entropy", "density", "all_six", "deep_knn"),
    *("input_classifier", "feature_squeezing", "max_softmax"),
)
FUSIONS = ("one lens a family, logistic",)  # slow to attack: not among the default ones, but on fewer images
L2_RADII = (2.0, 3.0)
BINARISED = 50  # images of the binarisation test
OBLIVIOUS = {"inf": "pgd", 2: "pgd_l2"}
FOLLOWED: Mapping[type[Head], type[Head]] = {Boosting: Logistic, Averaged: Deviations}  # trees have no gradient
ASKING = {"max_iter": 10, "queries": 25}  # of `DetectorAwareBoundary`: 570 questions an image
WITHOUT_GRADIENTS = "evasion without gradients"


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        images: attacked in each ball; checked: how many of them show the attack's strength.
        asked: how many of them somebody attacks who asks the detector for decisions alone; 0 for none.
        radii: in L∞, 1 to 3, and at most 2 in L2; max_iter: steps of each walk; weights: strategies besides the two
            without one.
        norms: of the balls, "inf" among them; twins: whether those who know a twin attack as well.
    """

    images: int = 500
    checked: int = 50
    asked: int = 0
    radii: int = 3
    max_iter: int = 100
    weights: tuple[float, ...] = (1.0,)
    norms: tuple[int | str, ...] = ("inf", 2)
    twins: bool = True

    def __post_init__(self) -> None:
        for name in ("images", "checked", "radii", "max_iter"):
            checked_whole(getattr(self, name), name=name)
        checked_whole(self.asked, name="asked", least=0)
        if self.asked > self.images:
            raise ValueError(f"asked must be at most images, {self.images}, got {self.asked}")
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

    def attack(left: Array) -> Array:
        walk = DetectorAwareAttack(classifier, detector, until_unflagged=True, **parameters)
        return walk.generate(images[left], labels[left])

    return _others_first(detector, classifier, images, labels, others, attack)


@artifact(version=1, libraries=("tensorflow",))
def asked_images(
    detector: Detector,
    classifier: Classifier,
    images: Array,
    labels: Array,
    *,
    others: Array,
    starts: Array,
    **parameters: Any,
) -> dict[str, Array]:
    """Images attacked by somebody who asks a detector for decisions alone; where one of others evades it, that one.

    Args:
        detector, images, labels, others: as in `evading_images`, but none of others was made against this detector.
        starts: (m, n, h, w, channels) of other attacks, in larger balls; it starts from these, and from clean images.
        parameters: of `DetectorAwareBoundary`.
    """

    def attack(left: Array) -> Array:
        pool = np.concatenate([images, *starts[:, left]])
        return DetectorAwareBoundary(classifier, detector, starts=pool, **parameters).generate(
            images[left], labels[left]
        )

    return _others_first(detector, classifier, images, labels, others, attack)


def _others_first(
    detector: Detector,
    classifier: Classifier,
    images: Array,
    labels: Array,
    others: Array,
    attack: Callable[[Array], Array],
) -> dict[str, Array]:
    """The first of others that evades, or what an attack makes of the images left, given as (n,) bool.

    The last of others is kept where nothing else is misclassified.
    """
    made, left = images.copy(), np.ones(len(images), bool)
    for each in others:
        rows = np.flatnonzero(left)
        found = rows[evades(classifier, detector, each[rows], labels[rows])]
        made[found], left[found] = each[found], False
        if not left.any():
            break
    if left.any():
        found = attack(left)
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
        effort: how much is done; detectors: names of the catalogue or of `Suite.fusions`; of trees
            the gradient of a regression on the same columns is followed.
    Raises:
        ValueError: where too few correctly classified test images are left to attack.
    """

    def __init__(self, suite: Suite, effort: Effort, *, detectors: Sequence[str] = DETECTORS) -> None:
        self.suite, self.effort, self.names = suite, effort, list(detectors)
        self.bench, self.classifier, self._once = suite.bench, suite.classifier, Once()
        self._stand_ins: dict[Detector, Detector] = {}
        free = np.setdiff1d(self.bench.correct_sources(self.classifier), suite.benchmark.clean_source)
        if len(free) < effort.images:
            raise ValueError(f"{effort.images} images are to be attacked, and {len(free)} are left: attack fewer")
        order = stream(self.bench.seed, "adaptive suite").permutation(free)[: effort.images]
        self.source = np.sort(order)
        self.asked_rows = np.flatnonzero(np.isin(self.source, order[: effort.asked]))  # drawn, not the first in order
        self.images, self.labels = self.bench.data.test_images[self.source], self.bench.data.test_labels[self.source]

    @cached_property
    def balls(self) -> list[Ball]:
        """The balls, the smallest first: those in L∞, and those in L2."""
        radii = {"inf": EPSILONS.get(self.bench.data.name, OTHER_EPSILONS), 2: L2_RADII}
        return [Ball(norm, eps) for norm in self.effort.norms for eps in sorted(radii[norm][: self.effort.radii])]

    @property
    def middle(self) -> Ball:
        """The ball in which attacks show their strength, and detectors meet attacks on others."""
        own = [ball for ball in self.balls if ball.norm == "inf"]
        return own[(len(own) - 1) // 2]

    # ------------------------------------------------------------ detectors

    @cached_property
    def defenders(self) -> dict[str, Defender]:
        """Detectors by their names; those whose head lacked images to learn from are left out."""
        made = [self.defender(self._named(name)) for name in self.names]
        return {each.detector.name: each for each in made if each}

    def _named(self, name: str) -> Detector:
        """A detector of the catalogue, or a joined one; those of one lens a family need no other lens."""
        title, comma, head = name.partition(", ")
        if not comma:
            return self.suite.single(name)
        if title not in (ONE_OF_EACH, ALL) or head not in JOINED_BY:
            known = ", ".join(f"{title}, {head}" for title in (ONE_OF_EACH, ALL) for head in JOINED_BY)
            raise ValueError(f"no joined detector is called {name!r}: choose among {known}")
        joined = self.suite.fusions if title == ALL else self.suite.fused(OF_A_FAMILY, title="all of these")
        return joined[name]

    def _followed(self, detector: Detector) -> dict[str, Detector]:
        """The attack's parameter where trees have no gradient: that of a regression on the same columns and rows."""
        return {"stand_in": self._stand_ins[detector]} if detector in self._stand_ins else {}

    def defender(self, detector: Detector, benchmark: Benchmark | None = None) -> Defender | None:
        """A detector with a head fitted to all attacks of a benchmark, the suite's own, and a threshold."""
        benchmark = benchmark or self.suite.benchmark
        heads = benchmark.heads_from_all(detector)
        if not heads:
            return None
        clean = benchmark.clean_rows(detector, Condition.EIGHT_BIT, benchmark.threshold_source)
        made, thresholds = [], []
        for head in heads[:2]:
            scores = scores_of([head], clean, name=detector.name, said=benchmark.said)[0]
            thresholds.append({fpr: metrics.threshold_at_fpr(scores, fpr) for fpr in EVASION})
            about = {"columns": detector.columns, "name": detector.name, "family": detector.family}
            made.append(Detector(detector.lens, head, **about).commit(scores, fpr=NOMINAL_FPR))
        if follow := FOLLOWED.get(type(detector.head)):
            about = {"columns": detector.columns, "name": f"regression beside {detector.name}"}
            beside = self.defender(Detector(detector.lens, follow(), **about), benchmark)
            self._stand_ins |= {own: beside.detector for own in made} if beside else {}
        twin = made[1] if len(made) > 1 and self.effort.twins else None
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
            about = {"others": others, **self.effort.parameters, **self._followed(detector)}
            made[rows] = self._made("adaptive", evading_images, detector, ball, source[rows], **about)
        return made

    def _reached(self, ball: Ball, source: Array) -> Array:
        """What PGD, a smaller ball, or the same walk without a detector misclassifies."""
        smaller = self._smaller(ball)
        others = [*([self._reached(smaller, source)] if smaller else []), self.oblivious(ball, source)]
        about = {"others": others, **self.effort.parameters}
        make = lambda: self._made("adaptive", evading_images, self._no_detector, ball, source, **about)  # noqa: E731
        return self._once(("reached", ball, source.tobytes()), make)

    def asked(self, detector: Detector) -> Array:
        """(asked, h, w, channels) of `asked_rows` in the middle ball, by somebody who asks for decisions alone.

        What others made in this ball is tried first; what they made in larger ones is where it starts.
        """
        return self._once(("asked", detector), lambda: self._asked(detector))

    def _asked(self, detector: Detector) -> Array:
        """Only what is misclassified where there is no detector is attacked, as in `_evading`."""
        ball, strangers = self.middle, [each.detector for each in self.defenders.values()]
        strangers.remove(detector)
        made = self._reached(ball, self.source)[self.asked_rows]
        fooled = self._fooled(made, self.asked_rows)
        rows = self.asked_rows[fooled]
        if len(rows):
            larger = [each for each in self.balls if each.norm == ball.norm and each.eps > ball.eps]
            here, there = (
                [self.oblivious(each)[rows] for each in balls]
                + [self.attacked(other, each)[rows] for each in balls for other in strangers]
                for balls in ([ball], larger)
            )
            starts = np.array(there, np.float32).reshape(-1, *self.images[rows].shape)
            about = {"others": [*here, made[fooled]], "starts": starts, **ASKING}
            made[fooled] = self._made("asked", asked_images, detector, ball, self.source[rows], **about)
        return made

    def _made(
        self,
        word: str,
        make: Callable[..., dict[str, Array]],
        detector: Detector,
        ball: Ball,
        source: Array,
        *,
        others: Sequence[Array],
        **parameters: Any,
    ) -> Array:
        about = {"detector": detector, "classifier": self.classifier, "others": np.stack(others), **parameters}
        about |= {"images": self.bench.data.test_images[source], "labels": self.bench.data.test_labels[source]}
        about |= {"seed": stream_seed(self.bench.seed, f"{word}/{ball}"), "eps": ball.eps, "norm": ball.norm}
        return self.bench.store.keep(plain_name(f"{word}.{detector.name}.{ball}"), make, **about)["images"]

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

        An attack is called "knows <detector>, <ball>", "asks <detector>, <ball>" or "pgd, <ball>".
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
        asked = self.defenders if self.effort.asked else {}
        for name, own in progress(asked.items(), description="attackers who ask", unit="detector"):
            about = f"asks {name}, {self.middle}", self.middle, self.asked(own.detector), Knowledge.DECISIONS
            rows += self._rows(own, *about, self.asked_rows)
        return LONG_TABLE.validate(pd.DataFrame(rows, columns=list(LONG_TABLE.columns)))

    def _rows(
        self,
        own: Defender,
        attack: str,
        ball: Ball,
        attacked: Array,
        knowledge: Knowledge = Knowledge.OBLIVIOUS,
        rows: Array | slice = slice(None),
    ) -> Iterator[dict[str, Any]]:
        """Of an attack on all images, or on some rows of them."""
        detector, scores, fooled = own.detector, self._scores(own, attack, attacked), self._fooled(attacked, rows)
        source = self.source[rows]
        row = {
            **{"attack": attack, "strength": ball.eps, "detector": detector.name, "family": str(detector.family)},
            **{"protocol": CORRECTED.name, "condition": Condition.EIGHT_BIT.value, "negatives": Negatives.CLEAN.value},
            "trained_on": (TrainedOn.ALL if own.learns else TrainedOn.NOTHING).value,
            **{"knowledge": knowledge.value, "seeds": 1, "n_negative": own.n_clean, "baseline": ""},
        }
        for fpr, threshold in own.thresholds.items():
            flagged = scores > threshold
            caught = metrics.proportion(flagged[fooled], source[fooled]) if fooled.any() else metrics.MISSING
            found = (
                (EVASION[fpr], Stratum.ALL, metrics.proportion(fooled & ~flagged, source), len(fooled)),
                (f"committed_tpr_{fpr:g}", Stratum.SUCCESS, caught, int(fooled.sum())),
            )
            for metric, stratum, estimate, n in found:
                yield estimate.row(**row, metric=metric, stratum=stratum.value, n_positive=n, n_sources=n)

    def _scores(self, own: Defender, attack: str, attacked: Array) -> Array:
        """(n,) of attacked images, whose measurements are kept under the attack's name."""
        benchmark, detector = self.suite.benchmark, own.detector
        measured = benchmark.measurements.of_others(detector.lens, attack, attacked)[columns_of(detector)]
        return scores_of([detector.head], measured, name=detector.name, said=benchmark.said)[0]

    def _fooled(self, attacked: Array, rows: Array | slice = slice(None)) -> Array:
        return self.classifier.predict(attacked).argmax(axis=1) != self.labels[rows]

    def _unflagged(self, own: Defender, attack: str, attacked: Array) -> Array:
        return self._scores(own, attack, attacked) <= own.thresholds[NOMINAL_FPR]

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """How many images of an attack on one detector evade it and a second one, in the middle ball.

        Returns:
            A row a pair: known, judge (the same for what evades the known one), estimate, low, high.
        """
        rows = []
        for name, own in self.defenders.items():
            attacked, title = self.attacked(own.detector, self.middle), f"knows {name}, {self.middle}"
            left = {judge: self._unflagged(each, title, attacked) for judge, each in self.defenders.items()}
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
            latter that random search solves too; and whether who only asks evades on no more of the same images than
            who knows (Carlini et al. 2019).
        """
        frames = []
        ball, n = self.middle, self.effort.checked
        for name, own in progress(self.defenders.items(), description="strength of attacks", unit="detector"):
            about = {"detector": own.detector, "classifier": self.classifier, "seed": self.bench.seed}
            about |= {"images": self.images[:n], "labels": self.labels[:n], "eps": ball.eps, "norm": ball.norm}
            about |= {"max_iter": self.effort.max_iter, "strategies": STRATEGIES[:1], **self._followed(own.detector)}
            checks = self.bench.store.keep(plain_name(f"strength.{name}"), checked_strength, **about)
            asked = pd.DataFrame([self._without_gradients(own)] if self.effort.asked else [], columns=checks.columns)
            frames += [each.astype({"passed": bool}).assign(detector=name) for each in (checks, asked)]
        rows = pd.concat(frames, ignore_index=True)[["detector", "check", "found", "wanted", "passed"]]
        too_easy = rows["check"].isin(TESTS) & ~rows["passed"] & (rows["found"] >= NEARLY_ALL)
        return rows[~too_easy].reset_index(drop=True)

    def _without_gradients(self, own: Defender) -> dict[str, Any]:
        """The check of strength, a row of `strength`."""
        rows, name = self.asked_rows, own.detector.name
        asked, known = self.asked(own.detector), self.attacked(own.detector, self.middle)
        asks, knows = (f"{word} {name}, {self.middle}" for word in ("asks", "knows"))
        found = (self._fooled(asked, rows) & self._unflagged(own, asks, asked)).mean()
        wanted = (self._fooled(known) & self._unflagged(own, knows, known))[rows].mean()
        about = {"check": WITHOUT_GRADIENTS, "found": found, "passed": found <= wanted}
        return about | {"wanted": f"at most {wanted:.3g}, of {len(rows)} images"}

    @property
    def failed(self) -> dict[str, str]:
        """Detector → the checks of its attack's strength that fail, where any do."""
        rows = self.strength[~self.strength["passed"]]
        return {str(name): "; ".join(own) for name, own in rows.groupby("detector", sort=False)["check"]}

    def write(self, *others: "AdaptiveSuite") -> Path:
        """Writes the tables as Parquet, adds the results to the run's leaderboard entries; returns the table's file.

        Args:
            others: suites of the same run, whose rows stand below.
        """
        folder, suites = self.bench.folder / "benchmark", (self, *others)
        tables = {"adaptive": [each.table for each in suites], "strength": [each.strength for each in suites]}
        write_tables(folder, **{name: pd.concat(each, ignore_index=True) for name, each in tables.items()})
        for each in suites:
            about = {"dataset": self.bench.data.name, "settings": asdict(each.effort) | {"seed": self.bench.seed}}
            update_entries(folder / "entries", partial(with_adaptive, table=each.table, failed=each.failed, **about))
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
