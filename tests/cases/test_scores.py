"""Scores, thresholds and attacks as users meet them: broken scores, few images, ties, leaks, ART's own classes."""

import copy
import pickle

import keras
import numpy as np
import pytest
from art.defences.detector.evasion import BinaryInputDetector
from keras import layers

from advlens.attacks import craft
from advlens.benchmark.evaluation import as_detector
from advlens.classifier import Classifier
from advlens.detectors import create, load

LEVELS = np.linspace(0.99, 1, 600, dtype=np.float32)[:, None, None, None]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((60, 6, 6, 1), np.float32)


@pytest.fixture
def classifier():
    keras.utils.set_random_seed(0)
    return Classifier(keras.Sequential([layers.Input((6, 6, 1)), layers.Flatten(), layers.Dense(2)]))


def detector_of(scores):
    return as_detector(lambda images: np.resize(scores, len(images)), name="mine")


def test_broken_scores_are_flagged_counted_and_said(images):
    detector = detector_of([np.nan, -np.inf, 0.0, np.inf])
    detector.threshold_, detector.observed_fpr_ = 0.5, 0.05
    with pytest.warns(UserWarning, match="3 of 4 scores are NaN or infinite: these images are flagged"):
        assert detector.detect(images[:4])[1].tolist() == [True, True, False, True]


@pytest.mark.parametrize("scores", [np.zeros((60, 2)), np.float64(1), np.array(["high"] * 60)])
def test_what_is_no_score_an_image_is_refused(scores, images):
    with pytest.raises(ValueError, match="mine must give one score for each of 60 images"):
        as_detector(lambda images: scores, name="mine").scores(images)


@pytest.mark.parametrize(("fpr", "fewest"), [(0.05, 19), (0.1, 9), (0.01, 99)])
def test_too_few_images_give_no_threshold(fpr, fewest, images):
    more = np.tile(images, (2, 1, 1, 1))
    with pytest.raises(ValueError, match=f"clean_images must be {fewest} or more"):
        detector_of(np.arange(200.0)).calibrate(more[: fewest - 1], fpr=fpr)
    detector = detector_of(np.arange(200.0)).calibrate(more[:fewest], fpr=fpr)
    assert detector.threshold_ == fewest - 1
    assert detector.observed_fpr_ == 0


def test_ties_are_said_and_the_observed_rate_kept(images):
    detector = detector_of([1.0])
    with pytest.warns(UserWarning, match="60 of 60 clean images score exactly the threshold: .* is 0.000, not 0.05"):
        detector.calibrate(images)
    assert detector.detect(images)[0]["observed_fpr"] == 0


@pytest.mark.parametrize(
    ("scores", "share"), [([1.0], 0.05), ([0.0, 0, 0, 0, 1], 0.25), ([2.0] + [1] * 19 + [0] * 40, 2 / 19)]
)
def test_ties_are_flagged_by_lot_where_that_is_chosen(scores, share, images):
    detector, many = detector_of(scores), np.random.default_rng(1).random((2400, 6, 6, 1), np.float32)
    with pytest.warns(UserWarning, match="score exactly the threshold: of such images .* are flagged, drawn by lot"):
        detector.calibrate(images, tie_seed=0)
    assert detector.tie_share_ == pytest.approx(share)
    report, flagged = detector.detect(many)
    assert report["observed_fpr"] == pytest.approx(0.05)
    assert abs(flagged.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2400)
    assert set(report["scores"][flagged]) == {score for score in scores if score >= detector.threshold_}
    assert flagged[report["scores"] > detector.threshold_].all()
    np.testing.assert_array_equal(detector.detect(many[-60:])[1], flagged[-60:])
    detector.tie_seed = 1
    assert (detector.detect(many)[1] != flagged).any()


def test_deep_knn_of_few_neighbours_has_one_score_and_keeps_its_lots_in_files(classifier, images, tmp_path):
    bright = np.arange(60) % 2
    classifier.model.layers[-1].set_weights([np.tile([-1.0, 1.0], (36, 1)), np.array([18.0, -18.0])])
    images = ((images + 9 * bright[:, None, None, None]) / 10).astype(np.float32)
    detector = create("deep_knn", classifier, k=5, conformal_images=20).fit(images, bright)
    fresh = np.clip(images[:40] + 1e-3, 0, 1)
    with pytest.warns(UserWarning, match="40 of 40 clean images score exactly the threshold: .* is 0.000, not 0.05"):
        detector.calibrate(fresh)
    assert not detector.detect(fresh)[1].any()
    with pytest.warns(UserWarning, match=r"of such images 5\.0% are flagged"):
        detector.calibrate(fresh, tie_seed=0)
    detector.save(tmp_path / "knn")
    again, many = load(tmp_path / "knn", classifier), np.clip(np.tile(images, (10, 1, 1, 1)) * LEVELS, 0, 1)
    flagged = detector.detect(many)[1]
    assert 0 < flagged.mean() < 0.1
    np.testing.assert_array_equal(again.detect(many)[1], flagged)


def test_training_images_among_those_that_calibrate_are_counted(classifier, images):
    detector = create("max_softmax", classifier).fit(images[:30], np.arange(30) % 2)
    with pytest.warns(UserWarning, match="fitted to 10 of these 40 images"):
        detector.calibrate(images[20:])


def test_one_image_is_refused_and_a_list_is_taken(classifier, images):
    detector = create("max_softmax", classifier).calibrate(images)
    with pytest.raises(ValueError, match=r"pass images\[None\]"):
        detector.detect(images[0])
    np.testing.assert_array_equal(detector.detect(list(images))[0]["scores"], detector.scores(images))


def test_pickling_says_how_to_save(classifier):
    for thing, said in ((classifier, r"model.save\('mine.keras'\)"), (create("energy", classifier), r"save\(folder\)")):
        for call in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match=said):
                call(thing)


def test_art_s_detector_trains_on_a_classifier_as_it_stands(classifier, images):
    attacked = 1 - images
    detector = BinaryInputDetector(classifier)
    detector.fit(np.concatenate([images, attacked]) ** [[[[2]]]], np.repeat([0, 1], 60), batch_size=20, nb_epochs=3)
    assert detector.detect(images)[1].shape == (60,)


def test_one_hot_labels_and_columns_are_those_of_numbers(classifier, images):
    labels = classifier.predict(images).argmax(axis=1)
    expected = craft("fgsm", classifier, images, labels).adversarial
    for given in (np.eye(2)[labels], labels[:, None], labels.astype(float)):
        np.testing.assert_array_equal(craft("fgsm", classifier, images, given).adversarial, expected)
