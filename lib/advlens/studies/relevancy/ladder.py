"""The rungs of the file-format ladder: AUCs of a detector and of plain pixels, and what the task network misreads.

A rung is a mapping of estimate, low, high and n, the images that it is of.
"""

import dataclasses
import itertools

import numpy as np

from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.detectors.base import Detector
from advlens.detectors.baselines import MaxSoftmax, pixel_baselines
from advlens.image_files import through
from advlens.metrics import Estimate, evaluate, proportion, proportion_difference, roc_auc
from advlens.studies.relevancy.rows import (
    Rows,
    corrected_rows,
    corrected_split,
    fitting_rows,
    published_rows,
    published_split,
)

Rung = dict[str, float]


def corrected_rung(detector: Detector, attack_set: AttackSet, *, seed: int) -> Rung:
    """ROC-AUC of a trained detector on the test groups, successful attacks against clean and noisy images."""
    rows = _test_rows(attack_set, seed=seed)
    return _auc(detector.scores(rows.images), rows, seed=seed)


def baseline_rung(classifier: Classifier, attack_set: AttackSet, *, codec: str, seed: int) -> Rung:
    """ROC-AUC, on what the codec leaves of the images, of the trivial baseline that is best on the validation groups.

    Pixel baselines may be turned around, where that is what the validation groups say.
    """
    _, validation, test = corrected_split(corrected_rows(attack_set), seed=seed)
    validation, test = (
        dataclasses.replace(rows, images=through(codec, rows.images)) for rows in map(fitting_rows, (validation, test))
    )
    signed = [(1, MaxSoftmax(classifier)), *itertools.product((1, -1), pixel_baselines().values())]

    def validation_auc(candidate: tuple[int, Detector]) -> float:
        sign, baseline = candidate
        return roc_auc(sign * baseline.scores(validation.images), validation.is_adversarial)

    sign, best = max(signed, key=validation_auc)
    return _auc(sign * best.scores(test.images), test, seed=seed)


def format_effect(wrapped: Detector, plain: Detector, attack_set: AttackSet, *, seed: int) -> Estimate:
    """Accuracy of a detector trained as published on wrapped JPEGs minus that of one on floats, on the same rows."""
    _, rest = published_split(published_rows(attack_set), seed=seed)
    right = [(detector.scores(rest.images) > 0) == rest.is_adversarial for detector in (wrapped, plain)]
    return proportion_difference(*right, rest.source)


def misread(classifier: Classifier, attack_set: AttackSet, *, role: str, codec: str, seed: int) -> Rung:
    """The share of the test groups' successful attacks, or of their originals, misclassified after the codec.

    Args:
        role: "adversarial" or "clean".
    """
    rows = _test_rows(attack_set, seed=seed)
    fooled = rows.source[rows.is_adversarial]
    rows = rows.select((rows.role == role) & np.isin(rows.source, fooled))
    label = dict(zip(attack_set.source.tolist(), attack_set.label.tolist(), strict=True))
    predicted = classifier.predict(through(codec, rows.images)).argmax(axis=1)
    wrong = predicted != [label[source] for source in rows.source.tolist()]
    return dataclasses.asdict(proportion(wrong, rows.source)) | {"n": len(wrong)}


def _test_rows(attack_set: AttackSet, *, seed: int) -> Rows:
    return fitting_rows(corrected_split(corrected_rows(attack_set), seed=seed)[2])


def _auc(scores: Array, rows: Rows, *, seed: int) -> Rung:
    auc = evaluate(scores, rows.is_adversarial, rows.source, seed=seed, metrics=("roc_auc",))["roc_auc"]
    return dataclasses.asdict(auc) | {"n": len(scores)}
