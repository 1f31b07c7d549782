"""The feature-response study on a workbench: everything measured once, kept in the store."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.datasets import split_groups
from advlens.image_files import CODECS
from advlens.progress import progress
from advlens.random import stream_seed
from advlens.studies.closeness import published_of
from advlens.studies.decisions import measure as measure_decisions
from advlens.studies.decisions import reference_features
from advlens.studies.responses.detector_networks import fit_network, network_scores
from advlens.studies.responses.measures import decisions, entropies
from advlens.studies.responses.protocols import (
    NETWORKS,
    Choice,
    choose,
    pooled,
    scored,
)
from advlens.studies.responses.results import (
    FEWEST,
    against_noise,
    by_class,
    by_confidence,
    corrected_results,
    decision_changes,
    eight_bit,
    entropy_changes,
    published_results,
    sensitivity,
    strata,
)
from advlens.studies.responses.settings import COMPARED, Setting, settings
from advlens.studies.rows import EIGHT_BIT, PARTS, published_choice, truth_of
from advlens.training import Trained
from advlens.workbench import Workbench

LEAST_IMAGES = 5 * FEWEST  # so that the test groups can hold enough attacks for a figure


class Study:
    """The feature-response study of one run and data set, on the task network of the closeness study.

    Args:
        bench: the notebook's workbench.
        task_epochs: of the task network.
        response_images: how many correctly classified test images FGSM, the gradient attack and DeepFool attack.
        searched_images: how many of these the one-pixel and the boundary attack do; at most all of them.
        calibration_images: further correct test images, which no attack uses, for thresholds.
        generations, steps: of the one-pixel attack, and of the boundary attack.
        passes: of the Monte-Carlo dropout that one of the other detectors rests on.
        epochs, patience: of the detectors that are networks.

    Attributes:
        source: the attacked images' places in the test set.
    Raises:
        ValueError: for numbers of images that the test set does not have.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        task_epochs: int,
        response_images: int,
        searched_images: int,
        calibration_images: int,
        generations: int,
        steps: int,
        passes: int,
        epochs: int,
        patience: int,
    ) -> None:
        counts = {
            "response_images": response_images,
            "searched_images": searched_images,
            "calibration_images": calibration_images,
        }
        for name in ("response_images", "searched_images"):
            if checked_whole(counts[name], name=name) < LEAST_IMAGES:
                raise ValueError(
                    f"{name} must be at least {LEAST_IMAGES}, got {counts[name]}: a fifth of them is judged"
                )
        others = {"generations": generations, "steps": steps, "epochs": epochs, "patience": patience}
        for name, value in (counts | others).items():
            checked_whole(value, name=name)
        self.passes = checked_whole(passes, name="passes", least=2)
        self.epochs, self.patience = epochs, patience
        self.bench = bench
        published = published_of(bench.data.name)
        self.classifier = bench.classifier(published.network, epochs=task_epochs)
        self.bandwidth = published.bandwidth
        self.settings: list[Setting] = settings(eps=published.strengths[1], generations=generations, steps=steps)
        correct = bench.correct_sources(self.classifier)
        if response_images + calibration_images > len(correct):
            raise ValueError(
                f"response_images and calibration_images must be at most {len(correct)} together, the correct ones, "
                f"got {response_images} and {calibration_images}"
            )
        self.source = correct[:response_images]
        self.calibration_source = correct[response_images : response_images + calibration_images]
        self.searched_images = min(searched_images, response_images)

    # ------------------------------------------------------------ attacks

    def attack_set(self, setting: Setting) -> AttackSet:
        """The images attacked in one setting."""
        return self._attack_sets[setting.name]

    def attack_sets(self) -> dict[str, AttackSet]:
        """All settings' attack sets, by their names."""
        return dict(self._attack_sets)

    @cached_property
    def _attack_sets(self) -> dict[str, AttackSet]:
        return {
            setting.name: self.bench.attack_set(setting.attack, self.classifier, **self._how(setting))
            for setting in self.settings
        }

    def _how(self, setting: Setting) -> dict[str, Any]:
        """What the workbench is told of a setting beside the attack."""
        n = self.searched_images if setting.searches else len(self.source)
        return {"n": n, "title": setting.name, **setting.parameters}

    def seconds(self) -> dict[str, float]:
        """Attack → seconds an image that crafting took, in the run that computed it, on whatever machine that was."""
        return {
            setting.name: self.bench.attack_seconds(setting.attack, self.classifier, **self._how(setting))
            / len(self.attack_set(setting))
            for setting in self.settings
        }

    def decision_changes(self) -> pd.DataFrame:
        """`results.decision_changes` of all settings."""
        measured = {name: self._decided(made) for name, made in self.attack_sets().items()}
        return decision_changes(measured, seed=self.bench.seed)

    def _decided(self, made: AttackSet) -> pd.DataFrame:
        after = decisions(self.classifier, made.adversarial, made.label)
        return after.assign(role="adversarial", source=made.source, success=made.success)

    def entropy_changes(self) -> pd.DataFrame:
        """`results.entropy_changes` of all settings."""
        measured = {}
        for setting in self.settings:
            made = self.attack_set(setting)
            images = {
                "clean": self._clean_entropies.loc[made.source].reset_index(drop=True),
                "noisy": self._entropies(f"{setting.name}.noisy", made.noisy),
                "adversarial": self._entropies(setting.name, made.adversarial),
            }
            measured[setting.name] = pd.concat(
                [frame.assign(role=role, source=made.source, success=made.success) for role, frame in images.items()],
                ignore_index=True,
            )
        return entropy_changes(measured, seed=self.bench.seed)

    @cached_property
    def _clean_entropies(self) -> pd.DataFrame:
        """The entropies of the attacked images as they were, by their source."""
        return self._entropies("clean", self.bench.data.test_images[self.source]).set_index(self.source)

    def _entropies(self, what: str, images: Array) -> pd.DataFrame:
        network = self.classifier.model
        name = f"entropies.{what.replace(' ', '.')}"
        return self.bench.store.keep(name, entropies, network=network, images=images, compared=COMPARED)

    # ------------------------------------------------------------ measuring

    @cached_property
    def measured(self) -> dict[str, pd.DataFrame]:
        """By setting: role, source, part, success, the network's decision and all that is measured, a row an image.

        Roles are "clean", "noisy" and "adversarial"; the noisy twin of an image that an attack left as it was is the
        image itself and is left out. An image is in the same part under every attack; images of the test part are there
        a second time, rounded, as part `protocols.EIGHT_BIT`.
        """
        measuring = progress(self.settings, description="measuring", unit="attack")
        return {setting.name: self._of_setting(setting) for setting in measuring}

    def _of_setting(self, setting: Setting) -> pd.DataFrame:
        made = self.attack_set(setting)
        frames = {
            "clean": self._clean.loc[made.source].reset_index(drop=True),
            "noisy": self._measure(f"{setting.name}.noisy", made.noisy, made.label),
            "adversarial": self._measure(setting.name, made.adversarial, made.label),
        }
        about = {"source": made.source, "part": self._part[made.source].to_numpy(), "l2": made.l2}
        whole = [
            frame.assign(role=role, **about, success=made.success & (role == "adversarial"))
            for role, frame in frames.items()
        ]
        rows = pd.concat([*whole, *self._rounded(setting, made)], ignore_index=True)
        return rows[(rows["role"] != "noisy") | (rows["l2"] > 0)].reset_index(drop=True)

    def _rounded(self, setting: Setting, made: AttackSet) -> Iterator[pd.DataFrame]:
        """The test part's images as an 8-bit file would keep them."""
        test = made.select((self._part[made.source] == "test").to_numpy())
        for role, images in (("clean", test.clean), ("noisy", test.noisy), ("adversarial", test.adversarial)):
            frame = self._measure(f"{setting.name}.{role}.8bit", CODECS["8-bit"](images), test.label)
            misread = frame["predicted"].to_numpy() != test.label
            about = {"role": role, "source": test.source, "part": EIGHT_BIT, "l2": test.l2}
            yield frame.assign(**about, success=misread & (role == "adversarial"))

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """All that is measured of clean images that no attack uses."""
        data, source = self.bench.data, self.calibration_source
        measured = self._measure("calibration", data.test_images[source], data.test_labels[source])
        return measured.assign(role="clean", source=source, success=False)

    @cached_property
    def _part(self) -> pd.Series:
        """Source → part."""
        split = split_groups(self.source, seed=stream_seed(self.bench.seed, "responses/parts"))
        return pd.Series(np.select([getattr(split, part) for part in PARTS], PARTS, default=""), index=self.source)

    @cached_property
    def _clean(self) -> pd.DataFrame:
        """All that is measured of the attacked images as they were, by their source."""
        data = self.bench.data
        frame = self._measure("clean", data.test_images[self.source], data.test_labels[self.source])
        return frame.set_index(self.source)

    def _measure(self, what: str, images: Array, labels: Array) -> pd.DataFrame:
        name, network = what.replace(" ", "."), self.classifier.model
        metrics = self._kept(
            f"measured.{name}",
            measure_decisions,
            network=network,
            images=images,
            **self._reference,
            bandwidths=[self.bandwidth],
            passes=self.passes,
        )
        return pd.concat(
            [
                published_choice(self.bandwidth).of(metrics),
                decisions(self.classifier, images, labels).drop(columns="predicted"),
                self._entropies(what, images),
                self._network_scores(name, images),
            ],
            axis=1,
        )

    def _network_scores(self, name: str, images: Array) -> pd.DataFrame:
        """A column of scores for each of the detectors that are networks."""
        columns = {
            detector: self.bench.store.keep(
                f"scores.{lens}.{name}",
                network_scores,
                network=self.classifier.model,
                images=images,
                lens=lens,
                trained=self.detector_networks[detector],
            )["scores"]
            for detector, lens in NETWORKS.items()
        }
        return pd.DataFrame(columns)

    @cached_property
    def detector_networks(self) -> dict[str, Trained]:
        """The detectors that are networks, trained on all attacks' training groups, stopped by validation groups."""
        images, truth, part = self._images()
        return {
            detector: self._kept(
                f"detector.{lens}",
                fit_network,
                network=self.classifier.model,
                train=images[part == "train"],
                train_truth=truth[part == "train"],
                validation=images[part == "validation"],
                validation_truth=truth[part == "validation"],
                lens=lens,
                epochs=self.epochs,
                patience=self.patience,
            )
            for detector, lens in NETWORKS.items()
        }

    def _images(self) -> tuple[Array, Array, Array]:
        """Clean images once, and all attacks' noisy twins and successful attacks: images, truths and parts."""
        clean = self.bench.data.test_images[self.source]
        stacks = [(clean, np.zeros(len(clean), bool), self.source)]
        for made in self.attack_sets().values():
            changed, won = made.select(made.l2 > 0), made.select(made.success)
            stacks.append((changed.noisy, np.zeros(len(changed), bool), changed.source))
            stacks.append((won.adversarial, np.ones(len(won), bool), won.source))
        images, truth, source = map(np.concatenate, zip(*stacks, strict=True))
        return images, truth, self._part[source].to_numpy()

    @cached_property
    def _reference(self) -> dict[str, Array]:
        """The training images' features and labels."""
        data, n = self.bench.data, self.bench.train_images
        kept = self.bench.store.keep(
            "reference_features", reference_features, network=self.classifier.model, images=data.train_images[:n]
        )
        return {"features": kept["features"], "labels": data.train_labels[:n]}

    # ------------------------------------------------------------ detection

    @cached_property
    def choice(self) -> tuple[Choice, pd.DataFrame]:
        """What the validation groups decided, and how each setting did there: `protocols.choose`."""
        return choose(self.measured, compared=COMPARED, seed=self.bench.seed)

    @cached_property
    def scores(self) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
        """`protocols.scored` of all settings and of the calibration images."""
        return scored(self.measured, self.calibration, choice=self.choice[0])

    def published_results(self) -> pd.DataFrame:
        """`results.published_results` of all settings."""
        return self._kept("published_results", published_results, measured=self.measured)

    def corrected_results(self) -> pd.DataFrame:
        """`results.corrected_results` of all settings."""
        scores, calibration = self.scores
        return self._kept("corrected_results", corrected_results, scores=scores, calibration=calibration)

    def against_noise(self) -> pd.DataFrame:
        """`results.against_noise` of all settings."""
        return self._kept("against_noise", against_noise, scores=self.scores[0])

    def eight_bit(self) -> pd.DataFrame:
        """`results.eight_bit` of all settings."""
        return self._kept("eight_bit", eight_bit, scores=self.scores[0])

    def strata(self) -> pd.DataFrame:
        """`results.strata` of all settings."""
        return self._kept("strata", strata, scores=self.scores[0])

    def sensitivity(self) -> pd.DataFrame:
        """`results.sensitivity` of all settings."""
        return self._kept("sensitivity", sensitivity, measured=self.measured, compared=COMPARED)

    def by_class(self) -> pd.DataFrame:
        """`results.by_class` of the attacked images as they were."""
        scores, calibration = self.scores
        return self._kept("by_class", by_class, scores=scores[self.settings[0].name], calibration=calibration)

    def by_confidence(self) -> pd.DataFrame:
        """`results.by_confidence` of the calibration images and of the test groups' successful attacks."""
        scores, calibration = self.scores
        attacked = pooled(scores)
        attacked = attacked[truth_of(attacked) & (attacked["part"] == "test")]
        return self._kept("by_confidence", by_confidence, frames={"clean": calibration, "attacked": attacked})

    def _kept(self, name: str, make: Callable[..., Any], **parameters: Any) -> Any:
        return self.bench.store.keep(name, make, **parameters, seed=self.bench.seed)
