"""The closeness-and-uncertainty study on a workbench: everything measured once, kept in the store."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.attacks.noise import gaussian_noise
from advlens.evaluation import mean_estimate
from advlens.progress import progress
from advlens.studies.closeness.measures import measure
from advlens.studies.closeness.protocols import (
    Choice,
    choose,
    claims,
    corrected_results,
    judgeable,
    published_results,
    roc_curves,
    windows,
)
from advlens.studies.closeness.settings import PUBLISHED, Publication, Setting, settings
from advlens.studies.closeness.walks import success_by_strength, walk
from advlens.workbench import Workbench

MEANS = ("variance", "entropy", "mutual information", "confidence")


class Study:
    """The closeness-and-uncertainty study of one run and data set.

    Args:
        bench: the notebook's workbench.
        task_epochs: of the task network, which is the study's for this data set.
        attacked_images: how many correctly classified test images are attacked; 0 for all of them.
        passes: t, of the Monte-Carlo dropout.
        bandwidths: shares of the published bandwidth that are tried on the validation groups.

    Attributes:
        published: what the study says of this data set; of MNIST for a user's own.
    """

    def __init__(
        self, bench: Workbench, *, task_epochs: int, attacked_images: int, passes: int, bandwidths: Sequence[float]
    ) -> None:
        if 1.0 not in bandwidths:
            raise ValueError(f"bandwidths must hold 1.0, the published one, got {bandwidths}")
        self.bench = bench
        self.published: Publication = PUBLISHED.get(bench.data.name, PUBLISHED["mnist"])
        self.trained = bench.task_network(self.published.network, epochs=task_epochs)
        self.classifier = bench.classifier(self.published.network, epochs=task_epochs)
        correct = bench.correct_sources(self.classifier)
        self.source = correct[: attacked_images or None]
        if len(self.source) < attacked_images:
            raise ValueError(f"attacked_images must be at most {len(correct)}, the correct ones, got {attacked_images}")
        self.passes = passes
        self.bandwidths = [share * self.published.bandwidth for share in bandwidths]
        self.settings: list[Setting] = settings(self.published.strengths)

    # ------------------------------------------------------------ metrics

    def right_and_wrong(self) -> pd.DataFrame:
        """Means of the metrics over all test images, those classified rightly in evaluation mode and the others.

        Returns:
            A row a metric and outcome: metric, outcome ("right", "wrong"), published, mean (an `Estimate`), n.
        """
        data = self.bench.data
        measured = self._measure("test", data.test_images)
        wrong = measured["predicted"].to_numpy() != data.test_labels
        rows = []
        for metric in MEANS:
            for place, (outcome, mask) in enumerate((("wrong", wrong), ("right", ~wrong))):
                values = measured[metric].to_numpy()[mask]
                mean = mean_estimate(values, np.flatnonzero(mask), seed=self.bench.seed)
                known = self.published.means.get(metric)
                rows.append(
                    {"metric": metric, "outcome": outcome, "published": known[place] if known else np.nan}
                    | {"mean": mean, "n": int(mask.sum())}
                )
        return pd.DataFrame(rows)

    # ------------------------------------------------------------ attacks

    def success_by_strength(self, strengths: Sequence[float], *, images: int) -> pd.DataFrame:
        """`walks.success_by_strength` of the first images that are attacked."""
        chosen = self.source[:images]
        return self.bench.store.keep(
            "success_by_strength",
            success_by_strength,
            network=self.classifier.model,
            images=self.bench.data.test_images[chosen],
            labels=self.bench.data.test_labels[chosen],
            source=chosen,
            strengths=list(strengths),
            seed=self.bench.seed,
        )

    def walk(self, attack: str, strengths: Sequence[float], *, images: int) -> pd.DataFrame:
        """`walks.walk` of the first images that are attacked, with the published bandwidth."""
        chosen = self.source[:images]
        train_images, train_labels = self._training()
        return self.bench.store.keep(
            f"walk.{attack}",
            walk,
            network=self.classifier.model,
            images=self.bench.data.test_images[chosen],
            labels=self.bench.data.test_labels[chosen],
            train_images=train_images,
            train_labels=train_labels,
            bandwidth=self.published.bandwidth,
            passes=self.passes,
            attack=attack,
            strengths=list(strengths),
            seed=self.bench.seed,
        )

    def attack_set(self, setting: Setting) -> AttackSet:
        """The images attacked in one setting."""
        return self.bench.attack_set(setting.attack, self.classifier, n=len(self.source), **setting.parameters)

    @property
    def step_settings(self) -> list[str]:
        """Names of the settings of a given strength."""
        return [setting.name for setting in self.settings if setting.eps is not None]

    @property
    def smallest_settings(self) -> list[str]:
        """Names of the settings that look for the smallest perturbation."""
        return [setting.name for setting in self.settings if setting.eps is None]

    # ------------------------------------------------------------ detection

    @cached_property
    def measured(self) -> dict[str, pd.DataFrame]:
        """By setting: role, source, success and all that `measures.measure` says, a row an image.

        Roles are "clean", "noisy" (the same L2 norm as the perturbation), "adversarial", and "noisy as published"
        (σ = ε for every pixel; the same as "noisy" for attacks without ε).
        """
        clean = self._measure("clean", self.bench.data.test_images[self.source])
        return {
            setting.name: self._of_setting(setting, clean)
            for setting in progress(self.settings, description="measuring", unit="attack")
        }

    def _of_setting(self, setting: Setting, clean: pd.DataFrame) -> pd.DataFrame:
        made = self.attack_set(setting)
        adversarial = self._measure(setting.name, made.adversarial)
        noisy = self._measure(f"{setting.name}.noisy", made.noisy)
        if setting.eps is None:
            published = noisy
        else:
            rng = np.random.default_rng(self.bench.seed)
            published = self._measure(f"noise.{setting.eps:g}", gaussian_noise(made.clean, setting.eps, rng=rng))
        roles = {"clean": clean, "noisy": noisy, "noisy as published": published, "adversarial": adversarial}
        frames = [
            frame.assign(role=role, source=made.source, success=made.success & (role == "adversarial"))
            for role, frame in roles.items()
        ]
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def judged(self) -> dict[str, pd.DataFrame]:
        """Those of `measured` that the corrected protocol can judge: see `protocols.judgeable`.

        Raises:
            ValueError: where there is none.
        """
        judged = judgeable(self.measured, seed=self.bench.seed)
        if not judged:
            raise ValueError(f"no attack succeeds on these {len(self.source)} images in all parts: attack more")
        return judged

    @cached_property
    def choice(self) -> tuple[Choice, pd.DataFrame]:
        """Bandwidth and conversion chosen on the validation groups, and what each choice reached there."""
        return choose(self.judged, bandwidths=self.bandwidths, seed=self.bench.seed)

    def published_results(self) -> pd.DataFrame:
        """`protocols.published_results` of all settings."""
        return self.bench.store.keep(
            "published_results",
            published_results,
            measured=self.measured,
            bandwidth=self.published.bandwidth,
            seed=self.bench.seed,
        )

    def corrected_results(self) -> pd.DataFrame:
        """`protocols.corrected_results` of all settings."""
        return self._kept("corrected_results", corrected_results)

    def roc_curves(self) -> pd.DataFrame:
        """`protocols.roc_curves` of all settings."""
        return self._kept("roc_curves", roc_curves)

    def claims(self) -> pd.DataFrame:
        """`protocols.claims` of all settings."""
        return self._kept("claims", claims)

    def windows(self) -> pd.DataFrame:
        """`protocols.windows`, all settings pooled."""
        return self._kept("windows", windows)

    def _kept(self, name: str, make) -> pd.DataFrame:
        return self.bench.store.keep(name, make, measured=self.judged, choice=self.choice[0], seed=self.bench.seed)

    def _training(self) -> tuple[Array, Array]:
        data, n = self.bench.data, self.bench.train_images
        return data.train_images[:n], data.train_labels[:n]

    def _measure(self, what: str, images: Array) -> pd.DataFrame:
        train_images, train_labels = self._training()
        return self.bench.store.keep(
            f"measured.{what.replace(' ', '.')}",
            measure,
            network=self.classifier.model,
            images=images,
            train_images=train_images,
            train_labels=train_labels,
            bandwidths=self.bandwidths,
            passes=self.passes,
            seed=self.bench.seed,
        )
