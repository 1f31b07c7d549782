"""The closeness-and-uncertainty study on a workbench: everything measured once, kept in the store."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet, find_attack
from advlens.attacks.noise import gaussian_noise
from advlens.datasets import split_groups
from advlens.detectors.decision_metrics import UNCERTAINTY
from advlens.image_files import CODECS
from advlens.metrics import mean, proportion
from advlens.progress import progress
from advlens.studies.closeness.measures import kde_column, measure, reference_features, text_bandwidth
from advlens.studies.closeness.protocols import (
    EIGHT_BIT,
    PARTS,
    Choice,
    choose,
    corrected_scores,
    judgeable,
    published_scores,
    successful,
)
from advlens.studies.closeness.results import (
    claims,
    corrected_results,
    defects,
    eight_bit,
    published_results,
    roc_curves,
    strata,
    windows,
)
from advlens.studies.closeness.settings import Publication, Setting, published_of, settings
from advlens.studies.closeness.walks import STEP_ATTACKS, attacked, checked_strengths, success_by_strength, walk
from advlens.workbench import Workbench


class Study:
    """The closeness-and-uncertainty study of one run and data set.

    Args:
        bench: the notebook's workbench.
        task_epochs: of the task network, which is the study's for this data set.
        attacked_images: how many correctly classified test images FGSM, BIM and PGD attack; 0 for all, as the study.
        searched_images: how many of these DeepFool and Carlini-L2 attack, which search for long; at most all of them.
        passes: t, of the Monte-Carlo dropout.
        bandwidths: shares of the published bandwidth that are tried on the validation groups, beside that one and
            the one by which the text's kernel differs from scikit-learn's.

    Attributes:
        published: what the study says of this data set: `settings.published_of`.
        source: the attacked images' places in the test set.
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
    ) -> None:
        if not isinstance(bandwidths, (list, tuple)) or not all(_is_positive(share) for share in bandwidths):
            raise ValueError(f"bandwidths must be a list of positive shares of the published one, got {bandwidths!r}")
        checked_whole(attacked_images, name="attacked_images", least=0)
        checked_whole(searched_images, name="searched_images")
        checked_whole(passes, name="passes", least=2)
        self.bench = bench
        self.published: Publication = published_of(bench.data.name)
        self.trained = bench.task_network(self.published.network, epochs=task_epochs)
        self.classifier = bench.classifier(self.published.network, epochs=task_epochs)
        correct = bench.correct_sources(self.classifier)
        if attacked_images > len(correct):
            raise ValueError(f"attacked_images must be at most {len(correct)}, the correct ones, got {attacked_images}")
        self.source = correct[: attacked_images or None]
        self._part = self._parts()
        self.searched_images = min(searched_images, len(self.source))
        self.passes = passes
        published = self.published.bandwidth
        tried = [*(share * published for share in bandwidths), text_bandwidth(published), published]
        self.bandwidths = sorted({kde_column(h): h for h in tried}.values())  # of two that look alike, the study's
        self.settings: list[Setting] = settings(self.published.strengths)

    # ------------------------------------------------------------ metrics

    def right_and_wrong(self) -> pd.DataFrame:
        """Means of the metrics over all test images, those classified rightly in evaluation mode and the others.

        Returns:
            A row a metric and outcome: metric, outcome ("right", "wrong"), published, mean (an `Estimate`), n.
        """
        data = self.bench.data
        measured = self._of_test_set
        wrong = measured["predicted"].to_numpy() != data.test_labels
        rows = []
        for metric in UNCERTAINTY:
            for place, (outcome, mask) in enumerate((("wrong", wrong), ("right", ~wrong))):
                values = measured[metric].to_numpy()[mask]
                average = mean(values, np.flatnonzero(mask), seed=self.bench.seed)
                known = self.published.means.get(metric)
                rows.append(
                    {"metric": metric, "outcome": outcome, "published": known[place] if known else np.nan}
                    | {"mean": average, "n": int(mask.sum())}
                )
        return pd.DataFrame(rows)

    # ------------------------------------------------------------ attacks

    def success_by_strength(self, strengths: Sequence[float], *, images: int) -> pd.DataFrame:
        """`walks.success_by_strength` of the first images that are attacked, or of all where there are fewer."""
        chosen = self._first(images)
        return self.bench.store.keep(
            "success_by_strength",
            success_by_strength,
            network=self.classifier.model,
            images=self.bench.data.test_images[chosen],
            labels=self.bench.data.test_labels[chosen],
            source=chosen,
            attacks={name: find_attack(name) for name in STEP_ATTACKS},
            strengths=checked_strengths(strengths),
            seed=self.bench.seed,
        )

    def walk(self, attack: str, strengths: Sequence[float], *, images: int) -> pd.DataFrame:
        """`walks.walk` of the first images that are attacked, with the published bandwidth."""
        chosen = self._first(images)
        return self.bench.store.keep(
            f"walk.{attack}",
            walk,
            network=self.classifier.model,
            images=self.bench.data.test_images[chosen],
            classes=self.bench.data.test_labels[chosen],
            **self._reference,
            bandwidth=self.published.bandwidth,
            passes=self.passes,
            attack=find_attack(attack),
            strengths=checked_strengths(strengths),
            seed=self.bench.seed,
        )

    def _first(self, images: int) -> Array:
        checked_whole(images, name="images")
        return self.source[:images]

    def moved(self, attack: str, strengths: Sequence[float], *, image: int) -> dict[float, Array]:
        """Strength → (h, w, channels), what a `walk` makes of its image of that number.

        Raises:
            ValueError: for "pgd", whose random start depends on the images beside, or a number that no image has.
        """
        if attack == "pgd" or not 0 <= image < len(self.source):
            raise ValueError(
                f"moved follows fgsm or bim, of an image from 0 to {len(self.source) - 1}, got {attack} and {image}"
            )
        chosen = self.source[[image]]
        images, labels = self.bench.data.test_images[chosen], self.bench.data.test_labels[chosen]
        return {
            eps: attacked(find_attack(attack), self.classifier, images, labels, eps=eps, seed=self.bench.seed)[0]
            for eps in strengths
        }

    def attack_set(self, setting: Setting) -> AttackSet:
        """The images attacked in one setting."""
        n = self.searched_images if setting.eps is None else len(self.source)
        return self.bench.attack_set(setting.attack, self.classifier, n=n, **setting.parameters)

    @property
    def step_settings(self) -> list[str]:
        """Names of the settings of a given strength."""
        return [setting.name for setting in self.settings if setting.eps is not None]

    # ------------------------------------------------------------ detection

    @cached_property
    def measured(self) -> dict[str, pd.DataFrame]:
        """By setting: role, source, part, success and all that `measures.measure` says, a row an image.

        Roles are "clean", "noisy" (the same L2 norm as the perturbation), "adversarial", and "noisy as published"
        (σ = ε for every pixel; the same as "noisy" for attacks without ε). An image is in the same part, "train",
        "validation" or "test", under every attack; images of the test part are there a second time, rounded, as part
        `protocols.EIGHT_BIT`.
        """
        measuring = progress(self.settings, description="measuring", unit="attack")
        return {setting.name: self._of_setting(setting) for setting in measuring}

    def _parts(self) -> pd.Series:
        """Source → part."""
        # With a seed of its own: by the run's, the images that come first would all fall on one side, since that seed's
        # permutation put them first.
        split = split_groups(self.source, seed=int(np.random.default_rng([self.bench.seed, 1]).integers(2**32)))
        return pd.Series(np.select([getattr(split, part) for part in PARTS], PARTS, default=""), index=self.source)

    def _of_setting(self, setting: Setting) -> pd.DataFrame:
        made = self.attack_set(setting)
        noisy = self._measure(f"{setting.name}.noisy", made.noisy)
        if setting.eps is None:
            published = noisy
        else:
            rng = np.random.default_rng(self.bench.seed)
            published = self._measure(f"noise.{setting.eps:g}", gaussian_noise(made.clean, setting.eps, rng=rng))
        roles = {
            "clean": self._of_test_set.iloc[made.source].reset_index(drop=True),
            "noisy": noisy,
            "noisy as published": published,
            "adversarial": self._measure(setting.name, made.adversarial),
        }
        about = {"source": made.source, "part": self._part[made.source].to_numpy()}
        frames = [
            frame.assign(role=role, **about, success=made.success & (role == "adversarial"))
            for role, frame in roles.items()
        ]
        return pd.concat([*frames, *self._rounded(setting, made)], ignore_index=True)

    def _rounded(self, setting: Setting, made: AttackSet) -> Iterator[pd.DataFrame]:
        """The test part's images as an 8-bit file would keep them."""
        test = made.select((self._part[made.source] == "test").to_numpy())
        frames = {
            "clean": self._rounded_test_set.iloc[test.source],
            "noisy": self._measure(f"{setting.name}.noisy.8bit", CODECS["8-bit"](test.noisy)),
            "adversarial": self._measure(f"{setting.name}.adversarial.8bit", CODECS["8-bit"](test.adversarial)),
        }
        for role, frame in frames.items():
            misread = frame["predicted"].to_numpy() != test.label
            success = misread & (role == "adversarial")
            yield frame.assign(role=role, source=test.source, part=EIGHT_BIT, success=success)

    @cached_property
    def judged(self) -> dict[str, pd.DataFrame]:
        """Those of `measured` that the corrected protocol can judge: see `protocols.judgeable`.

        Raises:
            ValueError: where there is none.
        """
        judged = judgeable(self.measured)
        if not judged:
            raise ValueError(f"no attack succeeds on these {len(self.source)} images in all parts: attack more")
        return judged

    @cached_property
    def choice(self) -> tuple[Choice, pd.DataFrame]:
        """Bandwidth and conversion chosen on the validation groups, and what each choice reached there."""
        return choose(self.judged, bandwidths=self.bandwidths)

    @cached_property
    def scores(self) -> dict[str, pd.DataFrame]:
        """`protocols.corrected_scores` of each setting."""
        sources = self._part.index[self._part == "validation"]
        clean = self._of_test_set.iloc[sources].assign(role="clean", source=sources, success=False)
        return {
            attack: corrected_scores(frame, choice=self.choice[0], calibration=clean)
            for attack, frame in self.judged.items()
        }

    @cached_property
    def published_scores(self) -> dict[str, pd.DataFrame]:
        """`protocols.published_scores` of each setting."""
        bandwidth = self.published.bandwidth
        return {attack: published_scores(frame, bandwidth=bandwidth) for attack, frame in self.measured.items()}

    def _corrected(self, part: str) -> dict[str, pd.DataFrame]:
        """The scores of one part, without failed attacks."""
        return {attack: successful(frame[frame["part"] == part]) for attack, frame in self.scores.items()}

    def success_rates(self) -> pd.DataFrame:
        """How often each setting succeeds, and what it changes.

        Returns:
            A row a setting: attack, estimate, low, high, n, l2 (the median of its successful attacks), on_black (the
            part of all squared changes that lies on pixels that were 0).
        """
        rows = []
        for setting in self.settings:
            made = self.attack_set(setting)
            rate = proportion(made.success, made.source)
            changes = np.square(made.adversarial - made.clean, dtype=np.float64)
            what = {
                "l2": float(np.median(made.l2[made.success])) if made.success.any() else np.nan,
                "on_black": changes[made.clean == 0].sum() / changes.sum(),
            }
            rows.append({"attack": setting.name, **dataclasses.asdict(rate), "n": len(made), **what})
        return pd.DataFrame(rows)

    def published_results(self) -> pd.DataFrame:
        """`results.published_results` of all settings."""
        return self._kept("published_results", published_results, scores=self.published_scores)

    def defects(self) -> pd.DataFrame:
        """`results.defects` of the study's own settings."""
        own = {attack: frame for attack, frame in self.judged.items() if attack in self.step_settings}
        bandwidth = self.published.bandwidth
        return self._kept(
            "defects",
            defects,
            measured=own,
            bandwidth=bandwidth,
            text_bandwidth=text_bandwidth(bandwidth),
            choice=self.choice[0],
        )

    def corrected_results(self) -> pd.DataFrame:
        """`results.corrected_results` of all settings."""
        return self._kept("corrected_results", corrected_results, scores=self.scores)

    def strata(self) -> pd.DataFrame:
        """`results.strata` of all settings."""
        return self._kept("strata", strata, scores=self.scores)

    def eight_bit(self) -> pd.DataFrame:
        """`results.eight_bit` of all settings."""
        return self._kept("eight_bit", eight_bit, scores=self.scores)

    def roc_curves(self, protocol: str) -> pd.DataFrame:
        """`results.roc_curves` of all settings under a protocol, "as published" or "corrected"."""
        judged = {"as published": lambda: self.published_scores, "corrected": lambda: self._corrected("test")}
        if protocol not in judged:
            raise ValueError(f"protocol must be one of {', '.join(judged)}, got {protocol!r}")
        return roc_curves(judged[protocol]())

    def claims(self) -> pd.DataFrame:
        """`results.claims` of all settings under both protocols, with a column protocol."""
        both = {
            "as published": (self.published_scores, self.published_scores),
            "corrected": (self._corrected("test"), self._corrected("validation")),
        }
        frames = [
            self._kept("claims", claims, judged=judged, chosen_on=chosen_on).assign(protocol=protocol)
            for protocol, (judged, chosen_on) in both.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def windows(self) -> pd.DataFrame:
        """`results.windows`, all settings pooled."""
        return self._kept("windows", windows, measured=self.judged, choice=self.choice[0])

    def _kept(self, name: str, make: Callable[..., pd.DataFrame], **parameters: Any) -> pd.DataFrame:
        return self.bench.store.keep(name, make, **parameters, seed=self.bench.seed)

    @cached_property
    def _reference(self) -> dict[str, Array]:
        """The training images' features and labels."""
        data, n = self.bench.data, self.bench.train_images
        kept = self.bench.store.keep(
            "reference_features", reference_features, network=self.classifier.model, images=data.train_images[:n]
        )
        return {"features": kept["features"], "labels": data.train_labels[:n]}

    @cached_property
    def _of_test_set(self) -> pd.DataFrame:
        return self._measure("test", self.bench.data.test_images)

    @cached_property
    def _rounded_test_set(self) -> pd.DataFrame:
        # The same artifact where the images are of 8 bits already.
        return self._measure("test", CODECS["8-bit"](self.bench.data.test_images))

    def _measure(self, what: str, images: Array) -> pd.DataFrame:
        return self._kept(
            f"measured.{what.replace(' ', '.')}",
            measure,
            network=self.classifier.model,
            images=images,
            **self._reference,
            bandwidths=self.bandwidths,
            passes=self.passes,
        )


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0 < value < np.inf
