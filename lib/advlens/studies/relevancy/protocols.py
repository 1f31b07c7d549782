"""Training and judging under the two protocols. What the figures are is `results`' business."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.metrics import confusion_matrix
from sklearn.tree import DecisionTreeClassifier

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.detectors.base import Detector
from advlens.detectors.baselines import pixel_baselines, trivial_baselines
from advlens.detectors.regression import regression
from advlens.image_files import through
from advlens.metrics import Estimate, Stratum, positives, proportion, roc_auc
from advlens.store import artifact, storable
from advlens.studies.relevancy.lenses import CORRECTED_LENSES, Lens
from advlens.studies.relevancy.rows import (
    Rows,
    corrected_rows,
    corrected_split,
    fitting_rows,
    published_rows,
    published_split,
)
from advlens.training import Trained

MAPS = ("Deep Taylor", "z-rule")  # the maps whose detectors are joined with others
JOINS = (
    *(("input", lens) for lens in MAPS),
    ("input", "max softmax"),
    *(("input", "max softmax", lens) for lens in MAPS),
)


TINY = 1e-30  # keeps log odds finite


def joined(*detectors: str) -> str:
    """The name of the detector that joins several."""
    return " + ".join(detectors)


@artifact(version=1)
def fit_published(
    network: keras.Model, attack_set: AttackSet, *, lens: Lens, epochs: int, patience: int, seed: int
) -> Trained:
    """A detector network trained as the study did: stopped by the images that it is evaluated on."""
    train, rest = published_split(published_rows(attack_set), seed=seed)
    return _fit(network, train, rest, lens=lens, epochs=epochs, patience=patience, seed=seed)


@artifact(version=1)
def fit_corrected(
    network: keras.Model, attack_set: AttackSet, *, lens: Lens, epochs: int, patience: int, seed: int
) -> Trained:
    """A detector network trained on training groups and stopped early by validation groups."""
    train, validation, _ = map(fitting_rows, corrected_split(corrected_rows(attack_set), seed=seed))
    return _fit(network, train, validation, lens=lens, epochs=epochs, patience=patience, seed=seed)


def _fit(
    network: keras.Model, train: Rows, watched: Rows, *, lens: Lens, epochs: int, patience: int, seed: int
) -> Trained:
    detector = lens.detector(Classifier(network), epochs=epochs, patience=patience, seed=seed)
    detector.fit(train.images, train.is_adversarial, validation=(watched.images, watched.is_adversarial))
    return detector.trained_


def judge_published(detector: Detector, attack_set: AttackSet, *, seed: int) -> tuple[Estimate, Array]:
    """Accuracy on the study's own evaluation set with its interval, and the (2, 2) confusion matrix."""
    _, rest = published_split(published_rows(attack_set), seed=seed)
    return _judgement(detector.scores(rest.images) > 0, rest, seed=seed)


def judge_published_baseline(
    baseline: Detector, attack_set: AttackSet, *, codec: str, seed: int
) -> tuple[Estimate, Array]:
    """The same of a trivial baseline; a decision tree of one level learns its threshold on the training images.

    Args:
        codec: the file that the images go through before they are scored.
    """
    train, rest = published_split(published_rows(attack_set), seed=seed)
    seen, judged = (baseline.scores(through(codec, rows.images))[:, None] for rows in (train, rest))
    stump = DecisionTreeClassifier(max_depth=1, random_state=seed).fit(seen, train.is_adversarial)
    return _judgement(stump.predict(judged), rest, seed=seed)


def _judgement(flagged: Array, rows: Rows, *, seed: int) -> tuple[Estimate, Array]:
    right = proportion(flagged == rows.is_adversarial, rows.source)
    return right, confusion_matrix(rows.is_adversarial, flagged)


@storable
@dataclasses.dataclass(frozen=True)
class Scores:
    """What every detector says of one attack's validation and test groups, and of clean calibration images.

    Attributes:
        judged: a row an image: part, source, role, success, and a column of scores a detector.
        calibration: a column of scores a detector, a row a clean image that no attack used.
    """

    judged: pd.DataFrame
    calibration: pd.DataFrame

    def to_parts(self) -> dict[str, pd.DataFrame]:
        """Parts for the artifact store."""
        return {"judged": self.judged, "calibration": self.calibration}

    @classmethod
    def from_parts(cls, parts: Mapping[str, pd.DataFrame]) -> "Scores":
        """The scores that `to_parts` took apart."""
        return cls(**parts)

    @property
    def detectors(self) -> list[str]:
        """The detectors' names."""
        return list(self.calibration.columns)

    def test(
        self, *, stratum: Stratum = Stratum.SUCCESS, negatives: Sequence[str] = ("clean", "noisy")
    ) -> pd.DataFrame:
        """The test rows of the given negatives and of one stratum of the attacks."""
        rows = self.judged[self.judged["part"] == "test"]
        attacked = (rows["role"] == "adversarial").to_numpy()
        chosen = attacked & positives(rows["success"].to_numpy(bool), stratum=stratum)
        return rows[chosen | rows["role"].isin(negatives).to_numpy()]


@artifact(version=1)
def judge_corrected(
    network: keras.Model,
    attack_set: AttackSet,
    calibration: Array,
    *,
    trained: Mapping[str, Trained],
    seed: int,
) -> Scores:
    """Scores of all detectors, of the trivial baselines (turned around where validation says so), and joins.

    Args:
        calibration: (m, h, w, channels) clean images that no attack set holds.
        trained: the detector networks, by their names in `CORRECTED_LENSES`.
    """
    classifier = Classifier(network)
    _, validation, test = corrected_split(corrected_rows(attack_set), seed=seed)
    detectors: dict[str, Detector] = {
        name: CORRECTED_LENSES[name].detector(classifier).adopt(made) for name, made in trained.items()
    }
    detectors |= trivial_baselines(classifier)
    parts = {"validation": validation, "test": test}
    judged = pd.concat([_judged(part, rows, detectors) for part, rows in parts.items()], ignore_index=True)
    clean = pd.DataFrame({name: detector.scores(calibration) for name, detector in detectors.items()})
    _orient(judged, clean, baselines=list(pixel_baselines()))
    for columns in JOINS:
        _join(judged, clean, columns=columns)
    return Scores(judged, clean)


def _judged(part: str, rows: Rows, detectors: Mapping[str, Detector]) -> pd.DataFrame:
    about = {"part": part, "source": rows.source, "role": rows.role, "success": rows.success}
    return pd.DataFrame(about | {name: detector.scores(rows.images) for name, detector in detectors.items()})


def _fitting(judged: pd.DataFrame) -> pd.DataFrame:
    """The rows on which signs and joins are fitted: validation groups, without failed attacks."""
    return judged[(judged["part"] == "validation") & ((judged["role"] != "adversarial") | judged["success"])]


def _orient(judged: pd.DataFrame, clean: pd.DataFrame, *, baselines: list[str]) -> None:
    """Turns pixel baselines around that rank validation attacks below normal images: a fairer bar to beat."""
    fitting = _fitting(judged)
    for name in baselines:
        if roc_auc(fitting[name].to_numpy(), (fitting["role"] == "adversarial").to_numpy()) < 0.5:
            for frame in (judged, clean):
                frame[name] = -frame[name]


def _join(judged: pd.DataFrame, clean: pd.DataFrame, *, columns: Sequence[str]) -> None:
    """Adds the logistic regression of several detectors' log odds, fitted on the validation groups."""
    fitting = _fitting(judged)
    model = regression(_log_odds(fitting, columns), fitting["role"] == "adversarial")
    for frame in (judged, clean):
        frame[joined(*columns)] = model.decision_function(_log_odds(frame, columns))


def _log_odds(frame: pd.DataFrame, columns: Sequence[str]) -> Array:
    """(n, len(columns)) log odds; the max-softmax score is a probability, the others are log odds already."""
    return np.stack([logit(np.maximum(frame[c], TINY)) if c == "max softmax" else frame[c] for c in columns], axis=1)
