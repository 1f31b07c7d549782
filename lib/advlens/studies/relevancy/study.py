"""The study on a workbench: every network trained once, every figure computed once, all of it kept in the store."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.detectors.base import Detector
from advlens.detectors.baselines import trivial_baselines
from advlens.explanations import colour_map, explain
from advlens.image_files import CODECS, export, export_names
from advlens.metrics import Estimate, Stratum
from advlens.progress import progress
from advlens.studies.relevancy.ladder import baseline_rung, corrected_rung, format_effect, misread
from advlens.studies.relevancy.lenses import CORRECTED_LENSES, PUBLISHED_LENSES, STUDY_MAP, Lens
from advlens.studies.relevancy.protocols import (
    Scores,
    fit_corrected,
    fit_published,
    judge_corrected,
    judge_published,
    judge_published_baseline,
)
from advlens.studies.relevancy.published import published_value
from advlens.studies.relevancy.results import corrected_results
from advlens.training import Trained
from advlens.workbench import Workbench

ATTACKS = ("lbfgs", "deepfool", "gradient")
LADDER_LENSES = {"input": "input", "relevancy": "Deep Taylor"}


@dataclasses.dataclass(frozen=True)
class Training:
    """How detector networks are trained under a protocol: from how many attacked images, and how long at most."""

    images: int
    epochs: int
    patience: int


class Study:
    """The relevancy-map study of one run and data set.

    Args:
        bench: the notebook's workbench.
        network, task_epochs: the task network.
        attacked_images, attack_parameters: the attack sets, as for `Workbench.attack_sets`.
        published, corrected: how each protocol trains.
        calibration_images: how many clean, unattacked, correctly classified test images thresholds are committed from.
        variants: whether the VGG-like and last-layer variants are trained as well.

    Attributes:
        published_lenses, corrected_lenses: what the detector networks of each protocol look at, by name.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        network: str,
        task_epochs: int,
        attacked_images: int,
        attack_parameters: Mapping[str, Mapping[str, Any]],
        published: Training,
        corrected: Training,
        calibration_images: int,
        variants: bool = True,
    ) -> None:
        for name, value in (("published", published.images), ("calibration", calibration_images)):
            if value < 1:
                raise ValueError(f"{name}_images must be at least 1, got {value}")
        self.bench = bench
        self.published = published
        self.corrected = corrected
        self.classifier = bench.classifier(network, epochs=task_epochs)
        left = len(bench.correct_sources(self.classifier)) - attacked_images
        if left < calibration_images:
            raise ValueError(
                f"calibration_images is {calibration_images}, but attacked_images leaves only {left} correct test "
                "images: lower one of them"
            )
        self.attack_sets = bench.attack_sets(ATTACKS, self.classifier, n=attacked_images, parameters=attack_parameters)
        for name, made in self.attack_sets.items():
            if not made.success.any():
                raise ValueError(f"{name} never succeeded on {len(made)} images: give it other attack_parameters")
        self.calibration_images = calibration_images
        self.published_lenses, self.corrected_lenses = (
            {name: lens for name, lens in lenses.items() if variants or not lens.is_variant}
            for lenses in (PUBLISHED_LENSES, CORRECTED_LENSES)
        )

    @cached_property
    def calibration(self) -> Array:
        """(m, h, w, channels) clean test images that the task network gets right and that no attack used."""
        attacked = next(iter(self.attack_sets.values())).source
        correct = self.bench.correct_sources(self.classifier)
        unattacked = correct[~np.isin(correct, attacked)]
        return self.bench.data.test_images[unattacked[: self.calibration_images]]

    # ------------------------------------------------------------ as published

    def export(self, folder: Path) -> dict[str, dict[str, list[str]]]:
        """Writes the study's JPEGs: for each attack, normal and adversarial images and their coloured maps.

        Returns:
            attack → kind of file → the names of all its files, which lie in `folder / attack`.
        """
        return {attack: self._export(folder / attack, self._published_set(attack)) for attack in ATTACKS}

    def _export(self, folder: Path, attack_set: AttackSet) -> dict[str, list[str]]:
        won = attack_set.select(attack_set.success)
        names, pictures = {}, {}
        for role, images, predicted in (
            ("original", won.clean, None),
            ("adversarial", won.adversarial, won.predicted),
        ):
            for kind, made in ((role, images), (f"{role}, map", self._study_maps(images))):
                names[kind] = export_names(won.source, won.label, predicted, maps=kind != role)
                pictures |= zip(names[kind], made, strict=True)
        export(folder, pictures)
        return names

    def published_detector(self, attack: str, lens: Lens) -> Trained:
        """The detector network behind a lens, trained as published."""
        return self.bench.store.keep(
            f"published.{attack}",
            fit_published,
            network=self.classifier.model,
            attack_set=self._published_set(attack),
            lens=lens,
            epochs=self.published.epochs,
            patience=self.published.patience,
            seed=self.bench.seed,
        )

    def published_results(self) -> pd.DataFrame:
        """What the study reports, and what the trivial baselines reach under its protocol.

        Pixel baselines see the same wrapped JPEGs as the input classifier; max softmax is of the float images that
        the maps are made of as well.

        Returns:
            A row an attack and lens or baseline: attack, lens, published (as text), accuracy (an `Estimate`),
            confusion (2, 2), n_train, n_test.
        """
        rows = []
        for attack in progress(ATTACKS, description="as published", unit="attack"):
            rows += [self._published_row(attack, name, lens) for name, lens in self.published_lenses.items()]
            for name, baseline in trivial_baselines(self.classifier).items():
                codec = "float" if name == "max softmax" else "wrapped jpeg"
                judged = judge_published_baseline(
                    baseline, self._published_set(attack), codec=codec, seed=self.bench.seed
                )
                rows.append(self._published_figures(attack, name, *judged))
        return pd.DataFrame(rows)

    def _published_row(self, attack: str, name: str, lens: Lens) -> dict[str, Any]:
        judged = judge_published(self._as_published(attack, lens), self._published_set(attack), seed=self.bench.seed)
        return self._published_figures(attack, name, *judged)

    def _as_published(self, attack: str, lens: Lens) -> Detector:
        return lens.detector(self.classifier).adopt(self.published_detector(attack, lens))

    def _published_figures(self, attack: str, name: str, accuracy: Estimate, confusion: Array) -> dict[str, Any]:
        made = self._published_set(attack)
        n_test = int(confusion.sum())
        sizes = {"n_train": 2 * int(made.success.sum()) - n_test, "n_test": n_test}
        published = published_value(self.bench.data.name, name, attack)
        figures = {"published": published, "accuracy": accuracy, "confusion": confusion}
        return {"attack": attack, "lens": name, **figures, **sizes}

    def _published_set(self, attack: str) -> AttackSet:
        return self.attack_sets[attack].select(np.arange(min(self.published.images, len(self.attack_sets[attack]))))

    def _study_maps(self, images: Array) -> Array:
        return colour_map(explain(self.classifier.model, images, **STUDY_MAP))

    # ------------------------------------------------------------ corrected

    def corrected_detector(self, attack: str, lens: Lens) -> Trained:
        """The detector network behind a lens, trained under the corrected protocol."""
        return self.bench.store.keep(
            f"corrected.{attack}",
            fit_corrected,
            network=self.classifier.model,
            attack_set=self._corrected_set(attack),
            lens=lens,
            epochs=self.corrected.epochs,
            patience=self.corrected.patience,
            seed=self.bench.seed,
        )

    @cached_property
    def corrected_scores(self) -> dict[str, Scores]:
        """What every detector says of every attack's validation and test groups, by attack."""
        return {attack: self._scores(attack) for attack in progress(ATTACKS, description="corrected", unit="attack")}

    def _scores(self, attack: str) -> Scores:
        return self.bench.store.keep(
            f"scores.{attack}",
            judge_corrected,
            network=self.classifier.model,
            attack_set=self._corrected_set(attack),
            calibration=self.calibration,
            trained={name: self.corrected_detector(attack, lens) for name, lens in self.corrected_lenses.items()},
            seed=self.bench.seed,
        )

    def corrected_results(self, *, stratum: Stratum = Stratum.SUCCESS) -> pd.DataFrame:
        """`results.corrected_results` of all attacks in one stratum."""
        return self.bench.store.keep(
            f"results.{stratum.value}",
            corrected_results,
            scores=self.corrected_scores,
            stratum=stratum.value,
            seed=self.bench.seed,
        )

    def _corrected_set(self, attack: str) -> AttackSet:
        return self.attack_sets[attack].select(np.arange(min(self.corrected.images, len(self.attack_sets[attack]))))

    # ------------------------------------------------------------ the ladder of file formats

    def ladder(self, codecs: Sequence[str] = tuple(CODECS)) -> pd.DataFrame:
        """Both classifiers under both protocols behind each codec.

        Returns:
            Columns protocol, attack, lens, codec, figure, estimate, low, high, n. The lens "best baseline" is the
            trivial baseline with the highest AUC on the validation groups' same pixels; the protocol "task network"
            has the shares of attacks and of their originals that the task network misreads after the codec.
        """
        unknown = sorted(set(codecs) - set(CODECS))
        if unknown or not {"float", "wrapped jpeg"} <= set(codecs):
            raise ValueError(f"codecs must be of {', '.join(CODECS)}, float and wrapped jpeg among them, got {codecs}")
        rungs = [(attack, codec) for attack in ATTACKS for codec in codecs]
        rows = []
        for attack, codec in progress(rungs, description="file formats", unit="codec"):
            rows += [{"attack": attack, "codec": codec} | row for row in self._rungs(attack, codec)]
        return pd.DataFrame(rows)

    def format_effects(self) -> pd.DataFrame:
        """What the wrapped JPEG adds to the accuracy as published: attack, lens, effect (an `Estimate`)."""
        rows = []
        for attack in ATTACKS:
            for name in LADDER_LENSES:
                lenses = [PUBLISHED_LENSES[name].through(codec) for codec in ("wrapped jpeg", "float")]
                pair = [self._as_published(attack, lens) for lens in lenses]
                effect = format_effect(*pair, self._published_set(attack), seed=self.bench.seed)
                rows.append({"attack": attack, "lens": name, "effect": effect})
        return pd.DataFrame(rows)

    def _rungs(self, attack: str, codec: str) -> list[dict[str, Any]]:
        rows, seed = [], self.bench.seed
        for lens, corrected_name in LADDER_LENSES.items():
            published = self._published_row(attack, lens, PUBLISHED_LENSES[lens].through(codec))
            rows.append({"protocol": "as published", "lens": lens, "figure": "accuracy"})
            rows[-1] |= dataclasses.asdict(published["accuracy"]) | {"n": published["n_test"]}
            behind = CORRECTED_LENSES[corrected_name].through(codec)
            trained = self.corrected_detector(attack, behind)
            detector = behind.detector(self.classifier).adopt(trained)
            rung = corrected_rung(detector, self._corrected_set(attack), seed=seed)
            rows.append({"protocol": "corrected", "lens": lens, "figure": "roc_auc"} | rung)
        best = baseline_rung(self.classifier, self._corrected_set(attack), codec=codec, seed=seed)
        row = {"protocol": "corrected", "lens": "best baseline", "figure": "roc_auc"}
        rows.append(row | best)
        for role, lens in (("adversarial", "attacks"), ("clean", "their originals")):
            share = misread(self.classifier, self._corrected_set(attack), role=role, codec=codec, seed=seed)
            rows.append({"protocol": "task network", "lens": lens, "figure": "share misread"} | share)
        return rows
