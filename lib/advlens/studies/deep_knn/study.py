"""The first half of the deep-k-nearest-neighbours study on a workbench: everything measured once, kept in the store."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens.arrays import Array, checked_whole
from advlens.attacks import AttackSet
from advlens.datasets import split_groups
from advlens.image_files import CODECS
from advlens.metrics import Estimate, Stratum, proportion
from advlens.studies.closeness.protocols import BASELINES, EIGHT_BIT
from advlens.studies.deep_knn.measures import DEEP_KNN, OF_DEEP_KNN, k_column, layer_column, measure, nearest, searches
from advlens.studies.deep_knn.report import examples, gallery
from advlens.studies.deep_knn.results import accuracies, calibration_errors, promise, recovered, reliability
from advlens.studies.deep_knn.settings import FEWER_NEIGHBOURS, checked_sizes, settings
from advlens.studies.detection import FEWEST, aucs, detection
from advlens.workbench import Workbench

NETWORK = "deep_knn_cnn"
ATTACKED_ROLES = ("noisy", "adversarial")
LEAST_IMAGES = 5 * FEWEST


class Study:
    """Deep kNN on the study's network: what it says of clean test images and of attacked ones.

    Args:
        bench: the notebook's workbench.
        epochs: of the network.
        neighbours: k, in each layer.
        test_images: how many test images are looked at in all, 0 for all there are.
        held_out: how many of these calibrate Deep kNN, right or wrong; nothing else uses them.
        attacked_images: how many of the others, correctly classified, the attacks attack.
        calibration_images: how many further correct ones, which no attack uses, commit thresholds.

    Attributes:
        source: the attacked images' places in the test set.
    Raises:
        ValueError: for numbers of images that the test set does not have.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        epochs: int,
        neighbours: int,
        held_out: int,
        test_images: int,
        attacked_images: int,
        calibration_images: int,
    ) -> None:
        counts = {"deep_knn_calibration": held_out, "calibration_images": calibration_images}
        for name, value in (counts | {"neighbours": neighbours}).items():
            checked_whole(value, name=name)
        if checked_whole(attacked_images, name="deep_knn_images") < LEAST_IMAGES:
            raise ValueError(f"deep_knn_images must be at least {LEAST_IMAGES}, got {attacked_images}")
        checked_whole(test_images, name="test_images", least=0)
        checked_sizes(bench, neighbours=neighbours, held_out=held_out, test_images=test_images)
        self.bench = bench
        self.k = neighbours
        self.classifier = bench.classifier(NETWORK, epochs=epochs)
        self.settings = settings(bench.data.name)
        # A seed of its own, so that this is another order than that of the attacked images in other studies.
        order = np.random.default_rng([bench.seed, 9]).permutation(len(bench.data.test_labels))
        self.looked_at = order[: test_images or None]
        self.held_out, free = np.split(self.looked_at, [held_out])
        free = free[np.isin(free, bench.correct_sources(self.classifier))]
        if attacked_images + calibration_images > len(free):
            raise ValueError(
                f"deep_knn_images and calibration_images must be at most {len(free)} together, the correct ones that "
                f"do not calibrate Deep kNN, got {attacked_images} and {calibration_images}"
            )
        self.source = free[:attacked_images]
        self.calibration_source = free[attacked_images : attacked_images + calibration_images]

    # ------------------------------------------------------------ measuring

    @cached_property
    def attack_sets(self) -> dict[str, AttackSet]:
        """All settings' attack sets, by their names."""
        return {
            setting.name: self.bench.attack_on(
                self.source, setting.attack, self.classifier, title=setting.name, **setting.parameters
            )
            for setting in self.settings
        }

    @cached_property
    def clean(self) -> pd.DataFrame:
        """All that is measured of the clean test images that do not calibrate, right or wrong; truth and source."""
        source, labels = self._clean_source, self.bench.data.test_labels
        return self._all_rows["clean"].assign(role="clean", source=source, truth=labels[source], success=False)

    @cached_property
    def thresholds_from(self) -> pd.DataFrame:
        """The rows of `clean` that commit thresholds."""
        return self.clean[self.clean["source"].isin(self.calibration_source)]

    @cached_property
    def measured(self) -> dict[str, pd.DataFrame]:
        """By setting: role, source, part, truth, success and all that is measured, a row an image.

        Roles are "clean", "noisy" and "adversarial"; the noisy twin of an image that an attack left as it was is the
        image itself and is left out. A fifth of the images is the validation part, which chooses the best baseline; the
        others are judged, and are there once more, rounded, as part `protocols.EIGHT_BIT`.
        """
        return {name: self._of_attack(name, made) for name, made in self.attack_sets.items()}

    def _of_attack(self, name: str, made: AttackSet) -> pd.DataFrame:
        clean = self.clean.set_index("source").loc[made.source].reset_index()  # images of 8 bits as they are
        frames = []
        for part, kept in (("test", self._is_test), ("validation", ~self._is_test), (EIGHT_BIT, self._is_test)):
            about = {"part": part, "l2": made.l2[kept]}
            frames.append(clean[kept].assign(**about))
            for role in ATTACKED_ROLES:
                rows = self._all_rows[_kind(name, role, eight_bit=part == EIGHT_BIT)]
                rows = rows if part == EIGHT_BIT else rows[kept]
                won = (rows["predicted"].to_numpy() != made.label[kept]) & (role == "adversarial")
                about |= {"role": role, "source": made.source[kept], "truth": made.label[kept], "success": won}
                frames.append(rows.assign(**about))
        rows = pd.concat(frames, ignore_index=True)
        return rows[(rows["role"] != "noisy") | (rows["l2"] > 0)].reset_index(drop=True)

    @cached_property
    def _all_rows(self) -> dict[str, pd.DataFrame]:
        """All that is measured, by the kind of image: one artifact, since taking over the training set costs most."""
        data, fewer = self.bench.data, [k for k in FEWER_NEIGHBOURS if k < self.k]
        images = {"clean": data.test_images[self._clean_source]}
        labels = {"clean": data.test_labels[self._clean_source]}
        for name, made in self.attack_sets.items():
            for role, attacked in zip(ATTACKED_ROLES, (made.noisy, made.adversarial), strict=True):
                images[_kind(name, role)], labels[_kind(name, role)] = attacked, made.label
                kind = _kind(name, role, eight_bit=True)
                images[kind], labels[kind] = CODECS["8-bit"](attacked[self._is_test]), made.label[self._is_test]
        measured = self._kept(
            "neighbours",
            measure,
            images=np.concatenate(list(images.values())),
            labels=np.concatenate(list(labels.values())),
            calibration_images=data.test_images[self.held_out],
            calibration_labels=data.test_labels[self.held_out],
            ks=fewer,
        )
        ends = np.cumsum([len(each) for each in images.values()])
        return {
            kind: measured.iloc[end - len(images[kind]) : end].reset_index(drop=True)
            for kind, end in zip(images, ends, strict=True)
        }

    @cached_property
    def _clean_source(self) -> Array:
        return np.setdiff1d(self.looked_at, self.held_out)

    @cached_property
    def _is_test(self) -> Array:
        seed = int(np.random.default_rng([self.bench.seed, 3]).integers(2**32))
        return split_groups(self.source, fractions=(0.0, 0.2, 0.8), seed=seed).test

    def _kept(self, name: str, make: Callable[..., Any], **parameters: Any) -> Any:
        data, n = self.bench.data, self.bench.train_images
        return self.bench.store.keep(
            name,
            make,
            network=self.classifier.model,
            train_images=data.train_images[:n],
            train_labels=data.train_labels[:n],
            k=self.k,
            **parameters,
        )

    def gallery(self, name: str) -> Figure | None:
        """`report.gallery` of one of `report.examples`, None where there is no such decision."""
        if name not in self._examples:
            return None
        layers = [column.removeprefix(layer_column("")) for column in self._layer_columns]
        place, judged = list(self._examples).index(name), self._examples[name]
        indices = self._nearest[place]
        return gallery(self._image(judged), indices, layers=layers, data=self.bench.data, judged=judged)

    @cached_property
    def _examples(self) -> dict[str, pd.Series]:
        return examples(self.clean, self.measured)

    @cached_property
    def _nearest(self) -> Array:
        """(e, l, k) training rows nearest to each example."""
        images = np.stack([self._image(row) for row in self._examples.values()])
        return self._kept("nearest", nearest, images=images)["indices"]

    def _image(self, row: pd.Series) -> Array:
        if not row["attack"]:
            return self.bench.data.test_images[row["source"]]
        made = self.attack_sets[row["attack"]]
        return made.adversarial[made.source == row["source"]][0]

    @property
    def _layer_columns(self) -> list[str]:
        return [column for column in self.clean if column.startswith(layer_column(""))]

    def searches(self, n: int) -> pd.DataFrame:
        """`measures.searches` of n clean test images."""
        checked_whole(n, name="search_images")
        return self._kept("searches", searches, images=self.bench.data.test_images[:n])

    # ------------------------------------------------------------ results

    def success_rates(self) -> dict[str, Estimate]:
        """Attack → the share of attacked images whose decision changes."""
        return {name: proportion(made.success, made.source) for name, made in self.attack_sets.items()}

    def accuracies(self) -> pd.DataFrame:
        """`results.accuracies` of the clean test images."""
        return accuracies(self.clean, seed=self.bench.seed)

    def promise(self) -> pd.DataFrame:
        """`results.promise` of the clean test images."""
        return promise(self.clean["true α"].to_numpy(), held_out=len(self.held_out), seed=self.bench.seed)

    def reliability(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`results.reliability` and `results.calibration_errors` of the clean test images."""
        return reliability(self.clean, seed=self.bench.seed), calibration_errors(self.clean, seed=self.bench.seed)

    def recovered(self) -> pd.DataFrame:
        """`results.recovered` of all attacks."""
        return recovered(self.measured, seed=self.bench.seed)

    def detection(self) -> pd.DataFrame:
        """`studies.detection.detection` of all attacks."""
        return self.bench.store.keep(
            "deep_knn_detection",
            detection,
            measured=self.measured,
            thresholds_from=self.thresholds_from,
            detectors=OF_DEEP_KNN,
            seed=self.bench.seed,
        )

    def eight_bit(self) -> pd.DataFrame:
        """ROC-AUCs of images as an 8-bit file keeps them."""
        detectors = [*OF_DEEP_KNN, *BASELINES]
        return aucs(self.measured, detectors=detectors, seed=self.bench.seed, part=EIGHT_BIT)

    def strata(self) -> pd.DataFrame:
        """ROC-AUCs of successful, failed and all attacks, with a column stratum."""
        frames = [
            aucs(self.measured, detectors=[DEEP_KNN, "max softmax"], seed=self.bench.seed, stratum=stratum).assign(
                stratum=stratum.value
            )
            for stratum in Stratum
        ]
        return pd.concat(frames, ignore_index=True)

    def by_layer(self) -> pd.DataFrame:
        """ROC-AUCs of each layer's neighbours alone."""
        return aucs(self.measured, detectors=self._layer_columns, seed=self.bench.seed)

    def by_k(self) -> pd.DataFrame:
        """ROC-AUCs of the credibility with fewer neighbours."""
        fewer = [k_column(k) for k in FEWER_NEIGHBOURS if k < self.k]
        return aucs(self.measured, detectors=[*fewer, DEEP_KNN], seed=self.bench.seed)


def _kind(attack: str, role: str, *, eight_bit: bool = False) -> str:
    return f"{attack}, {role}{', 8-bit' if eight_bit else ''}"
