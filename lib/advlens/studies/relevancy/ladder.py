"""The rungs of the file-format ladder under the corrected protocol: AUCs of a detector and of plain pixels."""

import dataclasses

import numpy as np

from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.detectors import Detector
from advlens.detectors.baselines import pixel_baselines
from advlens.evaluation import Estimate, evaluate, mean_estimate, roc_auc
from advlens.image_files import through
from advlens.studies.relevancy.rows import Rows, corrected_rows, corrected_split, fitting_rows


def corrected_rung(detector: Detector, attack_set: AttackSet, *, seed: int) -> Estimate:
    """ROC-AUC of a trained detector on the test groups, successful attacks against clean and noisy images."""
    return _auc(detector, _test_rows(attack_set, seed=seed), seed=seed)


def pixel_rung(attack_set: AttackSet, *, codec: str, seed: int) -> Estimate:
    """ROC-AUC, on what the codec leaves of the images, of the pixel baseline that is best on the validation groups."""
    _, validation, test = corrected_split(corrected_rows(attack_set), seed=seed)
    validation, test = (
        dataclasses.replace(rows, images=through(codec, rows.images)) for rows in map(fitting_rows, (validation, test))
    )
    best = max(
        pixel_baselines().values(), key=lambda one: roc_auc(one.scores(validation.images), validation.is_adversarial)
    )
    return _auc(best, test, seed=seed)


def still_fooling(classifier: Classifier, attack_set: AttackSet, *, codec: str, seed: int) -> Estimate:
    """The share of the test groups' successful attacks that still change the decision after the codec."""
    rows = _test_rows(attack_set, seed=seed)
    rows = rows.select(rows.is_adversarial)
    label = dict(zip(attack_set.source.tolist(), attack_set.label.tolist(), strict=True))
    predicted = classifier.predict(through(codec, rows.images)).argmax(axis=1)
    return mean_estimate(predicted != [label[source] for source in rows.source.tolist()], rows.source, seed=seed)


def _test_rows(attack_set: AttackSet, *, seed: int) -> Rows:
    return fitting_rows(corrected_split(corrected_rows(attack_set), seed=seed)[2])


def _auc(detector: Detector, rows: Rows, *, seed: int) -> Estimate:
    scores = np.asarray(detector.scores(rows.images))
    return evaluate(scores, rows.is_adversarial, rows.source, seed=seed)["roc_auc"]
