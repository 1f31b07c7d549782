"""A detector: a lens, what is measured of a decision, and a head, what makes a score of it. It is ART's too."""

import json
import warnings
from collections.abc import Sequence
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from art.defences.detector.evasion import EvasionDetector

from advlens.arrays import Array, checked_images, checked_labels, checked_seed
from advlens.classifier import check_range
from advlens.detectors.differentiable import DifferentiableScore
from advlens.detectors.heads import HEADS, Head
from advlens.folders import written_whole
from advlens.lenses import Lens
from advlens.metrics import threshold_at_fpr, tie_share
from advlens.networks.files import open_network
from advlens.random import stream
from advlens.store.files import checksums, read_part, write_part

FILE = "detector.json"


class Detector(EvasionDetector):
    """Scores images: higher means more adversarial. It never sees the labels of what it judges.

    Args:
        lens: what it measures; head: what makes a score of it; columns: those of the lens's that the head sees.
        name: as tables list it; family: one of `benchmark.Family`'s values, the lens's by default.
        recipe: the catalogue's name and parameters, by which `load` builds it again.

    Attributes:
        threshold_: what `calibrate` committed; images that score above it, or whose score is not finite, are called
            adversarial.
        tie_share_: the share of images at the threshold that is called so as well, 0 by default; tie_seed: draws them.
        observed_fpr_: its false-positive rate on the images that it was committed from, expected over draws.
    """

    defence_params = ("lens", "head")  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        lens: Lens,
        head: Head,
        *,
        columns: Sequence[str] | None = None,
        name: str,
        family: str | None = None,
        recipe: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        unknown = [column for column in columns or () if column not in lens.columns]
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is not measured: columns are {', '.join(lens.columns[:20])}")
        self.lens, self.head = lens, head
        self.columns = None if columns is None else list(columns)
        self.name, self.family, self.recipe = name, family or lens.family, recipe
        self.threshold_: float | None = None
        self.tie_seed, self.tie_share_ = 0, 0.0

    def fit(self, x: Array, y: Array, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> "Detector":
        """Fits the lens to the task network's training images, (n, h, w, channels), and classes, (n,)."""
        lenses = getattr(self.lens, "lenses", [self.lens])
        classifier = next((lens.classifier for lens in lenses if hasattr(lens, "classifier")), None)
        if classifier is not None:
            x = checked_images(x, shape=classifier.input_shape)
            check_range(classifier, x, checked_labels(y, n=len(x), num_classes=classifier.nb_classes))
        self.lens.fit(x, y)
        self._fitted_to = digests(x)
        return self

    def learn(self, images: Array, is_adversarial: Array, *, seed: int = 0, **more: Any) -> "Detector":
        """Fits the head to images and (n,) truths, 1 or True where adversarial; a `Sign` head takes its direction.

        Raises:
            ValueError: for truths other than 0 and 1, or of one kind only.
        """
        truth = np.asarray(is_adversarial)
        if truth.shape != (len(images),) or set(np.unique(truth)) != {0, 1}:
            raise ValueError(f"is_adversarial must hold both 0 and 1, one value per image, got {truth.shape}")
        self.head.fit(self._measured(images), truth.astype(bool), seed=seed, **more)
        return self

    def calibrate(self, clean_images: Array, *, fpr: float = 0.05, tie_seed: int | None = None) -> "Detector":
        """Commits the threshold from clean images alone, before any attack is seen.

        Args:
            clean_images: (n, h, w, channels) in [0, 1], none of them used in fitting or in evaluation.
            fpr: the nominal false-positive rate, in (0, 1).
            tie_seed: None calls images that score exactly the threshold clean, so that the false-positive rate is
                `fpr` at most. A seed has a share of them flagged, `metrics.tie_share`, that brings it to `fpr`; an
                image's draw follows from the seed and its pixels, so that it is the same in every batch.
        Raises:
            ValueError: for fewer than ⌈1/fpr⌉ − 1 images, of which no threshold can promise that rate.
        """
        fewest = ceil(1 / fpr) - 1 if 0 < fpr < 1 else 1
        if len(clean_images) < fewest:
            raise ValueError(
                f"clean_images must be {fewest} or more for a false-positive rate of {fpr:g}, got {len(clean_images)}"
            )
        seen = len(digests(clean_images) & getattr(self, "_fitted_to", set()))
        if seen:
            warnings.warn(
                f"the detector was fitted to {seen} of these {len(clean_images)} images: its threshold is too low for "
                "others",
                stacklevel=2,
            )
        return self.commit(self.scores(clean_images), fpr=fpr, tie_seed=tie_seed)

    def commit(self, scores: Array, *, fpr: float = 0.05, tie_seed: int | None = None) -> "Detector":
        """As `calibrate`, from (n,) scores of clean images that are known already."""
        self.threshold_ = threshold_at_fpr(scores, fpr)
        drawn = (0, 0.0) if tie_seed is None else (int(checked_seed(tie_seed)), tie_share(scores, fpr))
        self.tie_seed, self.tie_share_ = drawn
        ties = int((scores == self.threshold_).sum())
        self.observed_fpr_ = float((scores > self.threshold_).mean() + self.tie_share_ * ties / len(scores))
        if ties > max(1, fpr * len(scores)):
            told = f"the observed false-positive rate is {self.observed_fpr_:.3f}, not {fpr:g}: tie_seed=0 draws lots"
            if tie_seed is not None:
                told = f"of such images {self.tie_share_:.1%} are flagged, drawn by lot"
            warnings.warn(
                f"{ties} of {len(scores)} clean images score exactly the threshold: {told}",
                stacklevel=3,
            )
        return self

    def scores(self, images: Array) -> Array:
        """(n,) float64 scores of (n, h, w, channels) images in [0, 1]."""
        return np.asarray(self.head.score(self._measured(images)), np.float64)

    def differentiable_scores(self, images: tf.Tensor) -> tf.Tensor:
        """(n,) float64 of (n, h, w, channels) images, which a `tf.GradientTape` differentiates.

        Stand-ins of what has no gradient are told in `advlens.lenses.differentiable`; whoever asks more than once
        makes a `DifferentiableScore` and asks that.

        Raises:
            ValueError, RuntimeError: as `DifferentiableScore`.
        """
        score = DifferentiableScore(self)
        return score(images, *score.context(images.numpy()))  # pyright: ignore[reportAttributeAccessIssue]

    def detect(self, x: Array, batch_size: int = 128, **kwargs: Any) -> tuple[dict[str, Any], Array]:
        """ART's entry: ({"scores": (n,), "threshold": float, "observed_fpr": float}, (n,) bool, True = adversarial).

        Raises:
            RuntimeError: before `calibrate`.
        """
        if self.threshold_ is None:
            raise RuntimeError("this detector has no threshold yet: call calibrate(clean_images, fpr=...) first")
        scores = self.scores(x)
        flagged = (scores > self.threshold_) | are_broken(scores)
        for row in np.flatnonzero(scores == self.threshold_) if self.tie_share_ else ():
            lot = stream(self.tie_seed, f"detector/tie/{_digest(np.asarray(x[row], np.float32)).hex()}")
            flagged[row] = lot.random() < self.tie_share_
        return {"scores": scores, "threshold": self.threshold_, "observed_fpr": self.observed_fpr_}, flagged

    def _measured(self, images: Array) -> pd.DataFrame:
        measured = self.lens.measure(checked_images(images))
        return measured if self.columns is None else measured[self.columns]

    def to_parts(self) -> dict[str, Any]:
        """What it does, by content, so that the store can tell it from others."""
        head = [type(self.head).__name__, self.head.parameters(), self.head.fitted()]
        about = {"lens": self.lens, "columns": self.columns, "head": head, "threshold": self.threshold_}
        return about | ({"ties": [self.tie_seed, self.tie_share_]} if self.tie_share_ else {})

    # ------------------------------------------------------------ plain files

    def save(self, folder: str | Path) -> Path:
        """Writes the detector as plain files (.json, .npz, .keras) into a new folder; the task network is not in it.

        Raises:
            FileExistsError: where the folder exists.
            ValueError: for a detector that is not of the catalogue, which `load` could not build again.
        """
        if self.recipe is None:
            raise ValueError("only a detector that detectors.create made can be saved: load builds it by its name")
        about = {"recipe": self.recipe, "threshold": self.threshold_, "head": self.head.parameters()}
        about |= {"observed_fpr": getattr(self, "observed_fpr_", None), "head_kind": type(self.head).__name__}
        about |= {"tie_seed": self.tie_seed, "tie_share": self.tie_share_}
        with written_whole(folder) as place:
            if lens := self.lens.fitted():
                write_part(place, "lens", lens)
            for name, part in self.head.fitted().items():
                write_part(place, f"head.{name}", part)
            (place / FILE).write_text(json.dumps(about | {"sha256": checksums(place)}, indent=1))
        return Path(folder)

    def __reduce__(self) -> Any:
        raise TypeError("a detector is not pickled: save(folder) writes plain files, detectors.load reads them")


def are_broken(scores: Array) -> Array:
    """(n,) whether each score is NaN or infinite: such images are flagged, and a warning says how many they are."""
    broken = ~np.isfinite(scores)
    if broken.any():
        what = f"{broken.sum()} of {len(scores)} scores are NaN or infinite"
        warnings.warn(f"{what}: these images are flagged", stacklevel=3)
    return broken


def digests(images: Array) -> set[bytes]:
    """Of each image, by which one is known again."""
    return {_digest(image) for image in np.asarray(images, np.float32)}


def _digest(image: Array) -> bytes:
    return blake2b(image.tobytes(), digest_size=16).digest()


def restore(detector: Detector, folder: Path, about: dict[str, Any]) -> Detector:
    """Puts what `save` wrote, and nothing else that lies there, into a freshly built detector."""
    paths = {name: folder / name for name in about["sha256"]}
    parts = {name: (open_network if path.suffix == ".keras" else read_part)(path) for name, path in paths.items()}
    if "lens.npz" in parts:
        detector.lens.take_over(parts["lens.npz"])
    head = HEADS[about["head_kind"]](**about["head"])
    fitted = {name.split(".")[1]: part for name, part in parts.items() if name.startswith("head.")}
    detector.head = head.restore(fitted) if fitted else head
    detector.threshold_, detector.observed_fpr_ = about["threshold"], about["observed_fpr"]
    detector.tie_seed, detector.tie_share_ = about.get("tie_seed", 0), about.get("tie_share", 0.0)
    return detector
