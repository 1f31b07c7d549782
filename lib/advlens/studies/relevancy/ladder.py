"""The rungs of the file-format ladder: AUCs of a detector and of plain pixels, and what the task network misreads.

A rung is a mapping of estimate, low, high and n, the images that it is of.
"""

import dataclasses

import numpy as np

from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.detectors import Detector
from advlens.detectors.baselines import pixel_baselines
from advlens.evaluation import evaluate, mean_estimate, roc_auc
from advlens.image_files import through
from advlens.studies.relevancy.rows import Rows, corrected_rows, corrected_split, fitting_rows

Rung = dict[str, float]


def corrected_rung(detector: Detector, attack_set: AttackSet, *, seed: int) -> Rung:
    """ROC-AUC of a trained detector on the test groups, successful attacks against clean and noisy images."""
    return _auc(detector, _test_rows(attack_set, seed=seed), seed=seed)


def pixel_rung(attack_set: AttackSet, *, codec: str, seed: int) -> Rung:
    """ROC-AUC, on what the codec leaves of the images, of the pixel baseline that is best on the validation groups."""
    _, validation, test = corrected_split(corrected_rows(attack_set), seed=seed)
    validation, test = (
        dataclasses.replace(rows, images=through(codec, rows.images)) for rows in map(fitting_rows, (validation, test))
    )
    best = max(
        pixel_baselines().values(), key=lambda one: roc_auc(one.scores(validation.images), validation.is_adversarial)
    )
    return _auc(best, test, seed=seed)


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
    return dataclasses.asdict(mean_estimate(wrong, rows.source, seed=seed)) | {"n": len(wrong)}


def _test_rows(attack_set: AttackSet, *, seed: int) -> Rows:
    return fitting_rows(corrected_split(corrected_rows(attack_set), seed=seed)[2])


def _auc(detector: Detector, rows: Rows, *, seed: int) -> Rung:
    scores = np.asarray(detector.scores(rows.images))
    auc = evaluate(scores, rows.is_adversarial, rows.source, seed=seed)["roc_auc"]
    return dataclasses.asdict(auc) | {"n": len(scores)}
