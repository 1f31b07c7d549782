"""The benchmark: attack sets and detectors in, one long table out, under any protocol."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from advlens import metrics
from advlens.arrays import Array, checked_images, checked_seed, checked_whole
from advlens.attacks import AttackSet
from advlens.benchmark.fitting import Case, Heads, columns_of
from advlens.benchmark.judging import (
    BAR,
    Scored,
    count_rows,
    difference,
    estimates,
    has_both,
    scores_of,
    threshold_scores_of,
    ties,
    with_verdicts,
)
from advlens.benchmark.measuring import Measurements, Once
from advlens.benchmark.protocol import CORRECTED, Noise, Protocol, Threshold, checked_word
from advlens.benchmark.samples import TEST_SHARE, Samples, part_of_sources, sources_of
from advlens.benchmark.table import BEST_BASELINE, LONG_TABLE
from advlens.benchmark.vocabulary import (
    ABOVE_BASELINE,
    ATTACK_FAMILIES,
    METRICS,
    NOMINAL_FPR,
    Condition,
    Knowledge,
    Negatives,
    Part,
    TrainedOn,
)
from advlens.classifier import Classifier, checked_classifier
from advlens.detectors import Detector, Head, Network, trivial_baselines
from advlens.detectors.heads import train_head
from advlens.lenses import Lens
from advlens.metrics import Stratum
from advlens.paths import plain_name
from advlens.progress import progress
from advlens.random import stream, stream_seed
from advlens.store import artifact

ROC_POINTS = 61
MAX_THRESHOLD_IMAGES = 2000
MIN_THRESHOLD_IMAGES = 100
THRESHOLD_SHARE = 0.1  # of the attacked sources, where no others are left
RANKING: dict[str, Callable[[Array, Array], float]] = {
    **{"roc_auc": metrics.roc_auc, "average_precision": metrics.average_precision},
    **{f"tpr_at_fpr_{fpr:g}": partial(metrics.tpr_at_fpr, fpr=fpr) for fpr in metrics.NOMINAL_FPRS},
}
"""The metrics by which the best of several detectors can be chosen on the validation parts."""
STRENGTHS = ("eps", "margin", "confidence", "kappa")  # the parameters that say how strong an attack is


@artifact(version=1, libraries=("tensorflow",))
def measure(lens: Lens, images: Array) -> pd.DataFrame:
    """A lens's measurements of images, a row each, all of one type."""
    measured = lens.measure(images)
    return measured if measured.dtypes.nunique() == 1 else measured.astype(np.float64)


class Benchmark:
    """Detectors on attack sets of one task network; each lens measures each image once.

    Args:
        classifier: the task network that was attacked.
        attack_sets: name → attack set; sources index `clean_source`.
        clean_images, clean_labels: (m, h, w, channels) and (m,), test images, misclassified ones included. Those that
            no attack set holds give thresholds (four in five) and false-positive rates (one in five).
        clean_source: (m,) the numbers of these images in the test set; 0 … m − 1 by default.
        seed: governs all; n_seeds: how many times whatever learns is trained, on a split of its own each time.
        baselines: the trivial baselines; `detectors.trivial_baselines` by default.
        knowledge: attack → what it knows of the detectors; by default what its parameter `detector`, the name of the
            one that `adaptive_set` made it against, says, and oblivious without one.
        families: attack → the family left out together with it; `ATTACK_FAMILIES` by default.
        succeeded: attack → function of its attacked images, as a condition leaves them, to (n,) bool; where it has
            none, a success is a changed decision.
        elsewhere: detector's name → heads fitted to another data set, one a training seed, for `TrainedOn.OTHER_DATA`.
        store: keeps measurements, where one is given.
    Raises:
        TypeError: for a classifier that is none.
        ValueError: for attack sets of other images, or of too few.
    """

    def __init__(
        self,
        classifier: Classifier,
        attack_sets: Mapping[str, AttackSet],
        *,
        clean_images: Array,
        clean_labels: Array,
        clean_source: Array | None = None,
        seed: int,
        n_seeds: int = 5,
        baselines: Sequence[Detector] | None = None,
        knowledge: Mapping[str, Knowledge] | None = None,
        families: Mapping[str, str] | None = None,
        succeeded: Mapping[str, Callable[[Array], Array]] | None = None,
        elsewhere: Mapping[str, Sequence[Head]] | None = None,
        store: Any = None,
    ) -> None:
        self.classifier = checked_classifier(classifier)
        self.seed, self.n_seeds = checked_seed(seed), checked_whole(n_seeds, name="n_seeds")
        self.attack_sets, self.store = dict(attack_sets), store
        self.clean_images = checked_images(clean_images, shape=classifier.input_shape)
        self.clean_labels = np.asarray(clean_labels)
        self.clean_source = np.arange(len(clean_images)) if clean_source is None else np.asarray(clean_source)
        self.baselines = list(trivial_baselines(classifier) if baselines is None else baselines)
        self.knowledge = dict(knowledge or {})
        clean = self.clean_images, self.clean_labels, self.clean_source
        about = {"seed": self.seed, "succeeded": dict(succeeded or {}), "keep": self._keep}
        self.measurements = Measurements(self.classifier, self.attack_sets, *clean, **about)
        self._once, self._row = Once(), self.measurements.row_of_source
        self.said: set[str] = set()  # of which detectors: see `scores_of`
        self._draws_seed = stream_seed(self.seed, "benchmark/draws")
        self._check_attack_sets()
        attacked = self._divide_images()
        parts = [part_of_sources(attacked, seed=self.seed, number=number) for number in range(self.n_seeds)]
        families = {**ATTACK_FAMILIES, **(families or {})}
        about = {"seed": self.seed, "train": self._train, "elsewhere": dict(elsewhere or {})}
        self.heads = Heads(self.measurements, families, parts, **about)

    def to_parts(self) -> dict[str, Any]:
        """All that its tables depend on besides detectors and words."""
        names = ("attack_sets", "clean_images", "clean_labels", "clean_source", "seed", "n_seeds", "baselines")
        about = {name: getattr(self, name) for name in names} | {"knowledge": self.knowledge}
        elsewhere = {name: [head.fitted() for head in heads] for name, heads in self.heads.elsewhere.items()}
        about |= {"families": self.heads.families, "succeeded": self.measurements.succeeded, "elsewhere": elsewhere}
        return {"network": self.classifier.model} | about

    def _check_attack_sets(self) -> None:
        if not self.attack_sets:
            raise ValueError("attack_sets must hold at least one attack set: see advlens.attacks.craft")
        for name, made in self.attack_sets.items():
            if not np.isin(made.source, self.clean_source).all():
                raise ValueError(f"attack set {name!r} attacks images that are not in clean_images: pass them too")
            if not np.array_equal(made.clean, self.clean_images[self._row.loc[made.source]]):
                raise ValueError(f"attack set {name!r} holds other images than clean_images has at its sources")

    def _divide_images(self) -> Array:
        """Sets threshold and clean test images aside, and returns the attacked sources that are left.

        Thresholds come from correct images that no attack set holds; where these are fewer than `MIN_THRESHOLD_IMAGES`,
        a tenth of the attacked sources is used for thresholds and for nothing else.
        """
        attacked = sources_of(self.attack_sets)
        unused = stream(self.seed, "benchmark/clean images").permutation(np.setdiff1d(self.clean_source, attacked))
        self._clean_test, others = np.split(unused, [round(TEST_SHARE * len(unused))])
        predicted = self.classifier.predict(self.clean_images).argmax(axis=1)
        correct = pd.Series(predicted == self.clean_labels, index=self.clean_source)
        threshold = others[correct.loc[others]]
        if len(threshold) < MIN_THRESHOLD_IMAGES:
            shuffled = stream(self.seed, "benchmark/threshold images").permutation(attacked)
            reserved, attacked = np.split(shuffled, [round(THRESHOLD_SHARE * len(shuffled))])
            threshold = np.concatenate([threshold, reserved])
        self.threshold_source = threshold[:MAX_THRESHOLD_IMAGES]
        return attacked

    # ------------------------------------------------------------ measurements, kept where there is a store

    def samples(self, attack: str, condition: Condition | str, noise: Noise = Noise.MATCHED_NORM) -> Samples:
        """The images of an attack set with their roles, as a condition leaves them: clean, noisy, adversarial."""
        return self.measurements.samples(attack, condition, noise)

    def measured_clean(self, lens: Lens, condition: Condition) -> pd.DataFrame:
        """What a lens measures of the clean images, a row each."""
        return self.measurements.of_clean(lens, condition)

    def measured(
        self, lens: Lens, attack: str, condition: Condition, noise: Noise = Noise.MATCHED_NORM
    ) -> pd.DataFrame:
        """What a lens measures of `samples`, a row each."""
        return self.measurements.of(lens, attack, condition, noise)

    def _keep(self, name: str, lens: Lens, images: Array) -> pd.DataFrame:
        if self.store is None:
            return measure(lens, images)
        return self.store.keep(plain_name(name), measure, lens=lens, images=images)

    def _train(self, name: str, head: Head, **about: Any) -> Head:
        if self.store is None or not isinstance(head, Network):
            return head.fit(**about)
        return self.store.keep(plain_name(f"head.{name}"), train_head, head=head, **about)

    # ------------------------------------------------------------ scores

    def scores(
        self,
        detector: Detector,
        attack: str,
        *,
        protocol: Protocol = CORRECTED,
        condition: Condition | None = None,
        trained_on: TrainedOn = TrainedOn.ATTACK,
        learnt_from: str = "",
    ) -> Scored | None:
        """A detector's scores of one attack's images; None where there are too few successes to fit it.

        Args:
            learnt_from: the one attack set that a head that learns is fitted to, whatever `trained_on` says.
        """
        if not detector.head.learns:
            trained_on, learnt_from = TrainedOn.NOTHING, ""
        case = Case(attack, protocol, condition or protocol.condition, trained_on, learnt_from)
        return self._once(("scores", id(detector), case), lambda: self._scored(detector, case))

    def _scored(self, detector: Detector, case: Case) -> Scored | None:
        heads = self.heads.of(detector, case)
        if len(heads) < self.heads.count(detector):
            return None
        about = self.samples(case.attack, case.condition, case.protocol.noise).about
        about_clean = self.measurements.clean_samples(case.condition).about
        measured = self.measured(detector.lens, case.attack, case.condition, case.protocol.noise)[columns_of(detector)]
        of_test = self.heads.parts[0].index[self.heads.parts[0] == Part.TEST.value]
        test = np.union1d(self._clean_test, of_test)
        clean = self.clean_rows(detector, case.condition, test)
        threshold = self.clean_rows(detector, case.condition, self.threshold_source)
        told = {"name": detector.name, "said": self.said}
        scores = scores_of(heads, measured, **told)
        return Scored(
            about=about,
            scores=scores,
            probabilities=expit(scores) if detector.head.gives_log_odds else None,
            parts=[self.heads.masks(about, case.protocol, number) for number in range(self.n_seeds)],
            clean=about_clean.iloc[self._row.loc[test]].reset_index(drop=True),
            clean_scores=scores_of(heads, clean, **told),
            threshold_scores=threshold_scores_of(heads, threshold, **told),
        )

    def clean_rows(self, detector: Detector, condition: Condition, source: Array) -> pd.DataFrame:
        """What a detector's head sees of some clean images."""
        return self.measured_clean(detector.lens, condition).iloc[self._row.loc[source]][columns_of(detector)]

    def heads_from_all(self, detector: Detector) -> list[Head]:
        """A detector's heads, fitted to all attacks under the corrected protocol: see `Heads.of`."""
        any_attack = next(iter(self.attack_sets))
        return self.heads.of(detector, Case(any_attack, CORRECTED, CORRECTED.condition, TrainedOn.ALL))

    def best_of(
        self, candidates: Sequence[Detector], attack: str, *, metric: str = "roc_auc", **about: Any
    ) -> Detector | None:
        """The detector with the highest metric on the validation parts; None where there is none.

        Args:
            metric: of `RANKING`; about: protocol, condition and trained_on, as in `scores`.
        """
        protocol = about.get("protocol", CORRECTED)
        judged = {"stratum": protocol.positives, "negatives": protocol.negatives}
        best, highest = None, -1.0
        for detector in candidates:
            scored = self.scores(detector, attack, **about)
            reached = scored.on_validation(RANKING[metric], **judged) if scored else np.nan
            if reached > highest:  # NaN is not
                best, highest = detector, reached
        return best

    def best_baseline(self, attack: str, **about: Any) -> Detector | None:
        """The trivial baseline with the highest TPR at 5 % FPR on the validation parts; None where there is none."""
        return self.best_of(self.baselines, attack, metric=BAR, **about)

    def said_of_ties(
        self,
        detector: Detector,
        *,
        protocols: Sequence[Protocol] = (CORRECTED,),
        trained_on: Sequence[TrainedOn] = (TrainedOn.ATTACK,),
    ) -> str:
        """Where more than 5 % of the normal images score exactly the threshold, in a sentence; "" where nowhere.

        Attacked images that score the same count as missed, which shows no difference. Only the worst case is named;
        where all score the same, attacked images too, it is `doubts`' business.
        """
        found = [(0.0, 0.0, "", "")]
        for protocol, learnt, attack in itertools.product(protocols, trained_on, self.attack_sets):
            scored = self.scores(detector, attack, protocol=protocol, trained_on=learnt)
            judged = scored and scored.judged(stratum=protocol.positives, negatives=protocol.negatives)
            if not scored or not judged or not has_both(judged) or np.ptp(judged["scores"]) == 0:
                continue
            attacked, normal = (judged["scores"][:, judged["is_adversarial"] == truth] for truth in (True, False))
            kinds = {f"the normal images beside {attack!r}": normal}
            if protocol.threshold is Threshold.COMMITTED:
                kinds["the clean images that give it"] = scored.threshold_scores
            found += [(*ties(scores, attacked), kind, attack) for kind, scores in kinds.items()]
        share, same, kind, attack = max(found)
        if not share:
            return ""
        told = f"{100 * share:.0f} % of {kind} score exactly the threshold for {100 * NOMINAL_FPR:.0f} %"
        return f"{told}; so do {100 * same:.0f} % of the images that {attack!r} attacked, and count as missed"

    def forget(self, detector: Detector) -> None:
        """Lets go of a detector's heads and scores, which are made again where they are asked for."""
        for once in (self._once, self.heads.once):
            once.forget(id(detector))

    # ------------------------------------------------------------ tables

    def _entrants(self, detectors: Sequence[Detector], baselines: bool) -> list[Detector]:
        return [*detectors, *(self.baselines if baselines else ())]

    def run(
        self,
        detectors: Sequence[Detector],
        *,
        protocols: Sequence[Protocol] = (CORRECTED,),
        strata: Sequence[Stratum | str] | None = None,
        conditions: Sequence[Condition | str] | None = None,
        negatives: Sequence[Negatives | str] | None = None,
        trained_on: Sequence[TrainedOn | str] = (TrainedOn.ATTACK,),
        attacks: Sequence[str] | None = None,
        wanted: Sequence[str] = METRICS,
        baselines: bool = True,
    ) -> pd.DataFrame:
        """The long table of detectors and trivial baselines: see `LONG_TABLE`.

        Args:
            strata, conditions, negatives: what is judged; each protocol's own by default.
            trained_on: which attacks detectors learn from; those that learn from none have `TrainedOn.NOTHING`.
            attacks: names of attack sets; all of them by default.
            wanted: metrics, of `METRICS`.
            baselines: whether the trivial baselines have rows of their own.
        Raises:
            ValueError: for a word that is none of its vocabulary, or two detectors of one name.
        """
        _check_names([*detectors, *self.baselines])
        trained_on = [checked_word(word, TrainedOn, name="trained_on") for word in trained_on]
        entrants = [
            (detector, learnt)
            for detector in self._entrants(detectors, baselines)
            for learnt in (trained_on if detector.head.learns else trained_on[:1])
        ]
        for name in wanted:
            if name not in METRICS:
                raise ValueError(f"wanted must be of METRICS, got {name!r}: choose among {', '.join(METRICS)}")
        rows: list[dict[str, Any]] = []
        for protocol in protocols:
            words = {
                "stratum": _checked_words(strata, Stratum, protocol.positives, "strata"),
                "negatives": _checked_words(negatives, Negatives, protocol.negatives, "negatives"),
            }
            for condition in _checked_words(conditions, Condition, protocol.condition, "conditions"):
                title = f"{protocol.name}, {condition.value}"
                for attack in progress(attacks or self.attack_sets, description=title, unit="attack"):
                    for detector, learnt in entrants:
                        rows += self._rows(detector, Case(attack, protocol, condition, learnt), words, wanted)
        return LONG_TABLE.validate(pd.DataFrame(rows, columns=list(LONG_TABLE.columns)))

    def cross(
        self,
        detectors: Sequence[Detector],
        *,
        protocol: Protocol = CORRECTED,
        attacks: Sequence[str] | None = None,
        wanted: Sequence[str] = (BAR,),
    ) -> pd.DataFrame:
        """Each detector that learns, fitted to one attack set and judged on another, for every pair of them.

        Strengths of an attack are attack sets of their own. Test images are the same in every cell, so that nothing is
        judged on an image that its head learnt from.

        Args:
            detectors: those that learn from no attack are passed over; attacks, wanted: as in `run`.
        Returns:
            A row a detector, attack learnt from, attack judged and metric: learnt_from, and the columns of
            `LONG_TABLE` without trained_on.
        """
        attacks = list(attacks or self.attack_sets)
        words = {"stratum": [protocol.positives], "negatives": [protocol.negatives]}
        rows = []
        learning = [each for each in detectors if each.head.learns]
        pairs = [*itertools.product(learning, attacks, attacks)]
        for detector, learnt_from, attack in progress(pairs, description="train × test attack", unit="pair"):
            case = Case(attack, protocol, protocol.condition, TrainedOn.ATTACK, learnt_from)
            rows += [{"learnt_from": learnt_from, **row} for row in self._rows(detector, case, words, wanted)]
        columns = ["learnt_from", *LONG_TABLE.columns]
        return pd.DataFrame(rows, columns=columns).drop(columns="trained_on")

    def _rows(
        self, detector: Detector, case: Case, words: Mapping[str, Sequence], wanted: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """The table's rows of one detector in one case."""
        about = {name: getattr(case, name) for name in ("protocol", "condition", "trained_on", "learnt_from")}
        scored, learns = self.scores(detector, case.attack, **about), detector.head.learns
        baseline = self.best_baseline(case.attack, **about) if ABOVE_BASELINE in wanted else None
        bar = None if baseline is None else self.scores(baseline, case.attack, **about)
        row = {
            **{"attack": case.attack, "strength": _strength(self.attack_sets[case.attack])},
            **{"detector": detector.name, "family": str(detector.family), "protocol": case.protocol.name},
            "trained_on": (case.trained_on if learns else TrainedOn.NOTHING).value,
            "condition": case.condition.value,
            "knowledge": str(self.knowledge.get(case.attack) or self._knowledge(detector, case.attack)),
            "seeds": self.heads.count(detector),
            "baseline": "" if baseline is None else baseline.name,
        }
        for stratum, negatives in itertools.product(words["stratum"], words["negatives"]):
            limits = {"stratum": stratum, "negatives": negatives}
            counts = count_rows(None if scored is None else scored.judged(**limits))
            drawn = {"threshold": case.protocol.threshold, "seed": self._draws_seed}
            found = estimates(scored, bar, wanted, **limits, **drawn)
            own = {**row, **counts, "stratum": stratum.value, "negatives": negatives.value}
            yield from (each.row(**own, metric=name) for name, each in found.items())

    def _knowledge(self, detector: Detector, attack: str) -> Knowledge:
        """A head that learns is fitted here anew: an attack on the given one knows its twin."""
        known = self.attack_sets[attack].parameters.get("detector")
        if known is None:
            return Knowledge.OBLIVIOUS
        return Knowledge.ADAPTIVE if known == detector.name and not detector.head.learns else Knowledge.TRANSFER

    def alarms(
        self, detectors: Sequence[Detector], images: Mapping[str, Array], *, baselines: bool = True
    ) -> pd.DataFrame:
        """How many normal images of each kind are flagged at the threshold that clean images give for 5 %.

        Args:
            detectors: those that learn do so from all attacks of the benchmark.
            images: kind → (n, h, w, channels), in which no attack is; baselines: as in `run`.
        Returns:
            A row a kind and detector: kind, detector, family, estimate, low, high, n.
        """
        rows = []
        for detector in progress(self._entrants(detectors, baselines), description="false alarms", unit="detector"):
            heads = self.heads_from_all(detector)
            threshold = self.clean_rows(detector, CORRECTED.condition, self.threshold_source)
            limits = {"fpr": NOMINAL_FPR, "seed": self._draws_seed}
            told = {"name": detector.name, "said": self.said}
            if heads:
                limits["threshold_scores"] = threshold_scores_of(heads, threshold, **told)
            for kind, shown in images.items():
                measured = self.measurements.of_others(detector.lens, kind, shown)[columns_of(detector)]
                found = metrics.MISSING
                if heads:
                    scores = scores_of(heads, measured, **told)
                    found = metrics.flagged_share(scores, np.arange(len(shown)), **limits)
                about = {"kind": kind, "detector": detector.name, "family": str(detector.family), "n": len(shown)}
                rows.append(found.row(**about))
        return pd.DataFrame(rows)[["kind", "detector", "family", "estimate", "low", "high", "n"]]

    def caught(
        self, detectors: Sequence[Detector], *, trained_on: TrainedOn | str, baselines: bool = True
    ) -> pd.DataFrame:
        """Which successful attacks are flagged where 5 % of their clean images and noisy twins are.

        Args:
            trained_on: which attacks detectors learn from; those that learn from none don't mind.
            baselines: as in `run`.
        Returns:
            A row an attacked test image: attack, source, and a column a detector that could be fitted: the share of its
            training seeds that flag the image.
        """
        trained_on, frames = checked_word(trained_on, TrainedOn, name="trained_on"), []
        for attack in self.attack_sets:
            columns = {}
            for detector in self._entrants(detectors, baselines):
                scored = self.scores(detector, attack, trained_on=trained_on)
                rows = scored and scored.judged(stratum=Stratum.SUCCESS, negatives=Negatives.MATCHED)
                if rows and has_both(rows):
                    found = rows["is_adversarial"]
                    at = [[metrics.threshold_at_fpr(normal, NOMINAL_FPR)] for normal in rows["scores"][:, ~found]]
                    flagged = (rows["scores"][:, found] > np.array(at)).mean(axis=0)
                    columns[detector.name] = pd.Series(flagged, index=rows["source"][found])
            frames.append(pd.concat({attack: pd.DataFrame(columns)}, names=["attack", "source"]))
        return pd.concat(frames).reset_index().astype({"source": int})

    def roc_curves(
        self, detectors: Sequence[Detector], attacks: Sequence[str], *, protocols: Sequence[Protocol] = (CORRECTED,)
    ) -> pd.DataFrame:
        """ROC curves of the first training seed on a logarithmic grid of false-positive rates.

        Returns:
            A row a point: attack, protocol, detector, family, n (positives), false positive rate, true positive rate;
            nothing of a detector that could not be fitted.
        """
        grid, frames = np.geomspace(1e-3, 1, ROC_POINTS), []
        for attack, protocol, detector in itertools.product(attacks, protocols, detectors):
            scored = self.scores(detector, attack, protocol=protocol)
            judged = scored and scored.judged(stratum=protocol.positives, negatives=protocol.negatives)
            if not judged or not has_both(judged):
                continue
            rates = [float(rate) for rate in grid[:-1]]
            found = metrics.curve_values(judged["scores"][0], judged["is_adversarial"], fprs=rates)
            reached = [found[f"tpr_at_fpr_{rate:g}"][0] for rate in rates] + [1.0]
            about = {"attack": attack, "protocol": protocol.name, "detector": detector.name}
            about |= {"family": str(detector.family), "n": int(judged["is_adversarial"].sum())}
            frames.append(pd.DataFrame({"false positive rate": grid, "true positive rate": reached}).assign(**about))
        columns = ["attack", "protocol", "detector", "family", "n", "false positive rate", "true positive rate"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    def compare(
        self,
        pairs: Sequence[tuple[Any, Any]],
        *,
        metric: str = "roc_auc",
        protocol: Protocol = CORRECTED,
        condition: Condition | str | None = None,
        stratum: Stratum | str | None = None,
        negatives: Negatives | str | None = None,
        trained_on: TrainedOn | str = TrainedOn.ATTACK,
        attacks: Sequence[str] | None = None,
        margin: float | None = None,
    ) -> pd.DataFrame:
        """Paired differences on the same images and draws, Holm-adjusted within the table, with verdicts.

        Args:
            pairs: (a, b) of detectors; b may be several (the `best_of` them is taken) or `BEST_BASELINE`.
            margin: the largest difference that means nothing; that of `metrics.MARGINS` by default.
        Returns:
            A row a pair and attack: attack, a, b, metric, estimate (a − b), low, high, p_value, p_adjusted, margin,
            verdict (of a), n_positive, n_negative, n_sources.
        """
        about = {
            "protocol": protocol,
            "condition": checked_word(condition or protocol.condition, Condition, name="condition"),
            "trained_on": checked_word(trained_on, TrainedOn, name="trained_on"),
        }
        words = {
            "stratum": checked_word(stratum or protocol.positives, Stratum, name="stratum"),
            "negatives": checked_word(negatives or protocol.negatives, Negatives, name="negatives"),
        }
        limits = {**words, "threshold": protocol.threshold, "seed": self._draws_seed}
        rows = []
        for attack in attacks or self.attack_sets:
            for a, b in pairs:
                if isinstance(b, str) and b == BEST_BASELINE:
                    b = self.baselines
                if isinstance(b, Sequence):
                    b = self.best_of(b, attack, metric=metric, **about)
                first = self.scores(a, attack, **about)
                second = None if b is None else self.scores(b, attack, **about)
                found = difference(first, second, metric, **limits)
                judged = None if first is None else first.judged(**words)
                named = {"attack": attack, "a": a.name, "b": "" if b is None else b.name, "metric": metric}
                rows.append(found.row(**named) | count_rows(judged))
        return with_verdicts(pd.DataFrame(rows), metrics.MARGINS[metric] if margin is None else margin)


def _strength(made: AttackSet) -> float:
    given = [made.parameters[name] for name in STRENGTHS if made.parameters.get(name) is not None]
    return float(given[0]) if given else float("nan")


def _checked_words(words: Sequence[Any] | None, kind: type, default: Any, name: str) -> list[Any]:
    if isinstance(words, str):
        raise ValueError(f"{name} must be a sequence, got {words!r}: pass ({words!r},)")
    return [default] if words is None else [checked_word(word, kind, name=name) for word in words]


def _check_names(entrants: Sequence[Any]) -> None:
    names = [detector.name for detector in entrants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two detectors are called {twice[0]!r}: give each a name of its own")
