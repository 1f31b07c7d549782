"""The binarisation test: strong attacks pass it, and attacks weakened on purpose do not."""

import numpy as np
import pytest
import tensorflow as tf

from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.benchmark import binarisation_test
from advlens.benchmark.binarisation import MARGIN, binarised, inverted
from advlens.detectors import Detector, Logistic, Sign, create
from advlens.lenses import Closeness, Outputs
from tests.weakened import WEAKENED


@pytest.fixture(scope="module")
def detectors(max_pooling_classifier, mnist):
    """Name → a calibrated detector."""
    classifier, (images, labels) = max_pooling_classifier, mnist
    density = Detector(Closeness(classifier, bandwidth=3.0), Sign("KDE", -1), columns=("KDE",), name="density")
    made = {"energy": create("energy", classifier), "kernel density": density}
    return {name: each.fit(images[:200], labels[:200]).calibrate(images[200:]) for name, each in made.items()}


@pytest.fixture
def attack(request, max_pooling_classifier, detectors):
    """On the detector of that name."""
    about = {"eps": 77 / 255, "max_iter": 40, "strategies": ("selective",)}
    return DetectorAwareAttack(max_pooling_classifier, detectors[request.param], **about)


@pytest.mark.parametrize(("norm", "eps"), [("inf", 77 / 255), (2, 5.0)])
@pytest.mark.parametrize("attack", ["energy"], indirect=True)
def test_an_image_of_class_1_lies_in_the_ball_and_its_readout_separates_it(norm, eps, attack, mnist):
    images = mnist[0][-12:]
    attack = attack.changed(norm=norm, eps=eps)
    for flagged, test in enumerate(binarised(attack, images, n_inner=100, seed=0)):
        rows = np.flatnonzero(test.exists)
        assert len(rows) >= 6
        known, x = test.known[rows], images[rows]
        lengths = np.linalg.norm((known - x).reshape(len(x), -1), ord=np.inf if norm == "inf" else 2, axis=1)
        assert 0.5 * eps < lengths.min() <= lengths.max() <= eps + 1e-6
        np.testing.assert_allclose(known * 255, np.rint(known * 255), atol=1e-4)
        assert (attack.detector.detect(known)[1] == flagged).all()
        np.testing.assert_allclose(test.classifier.predict(known)[range(len(x)), rows], 2 * MARGIN, atol=MARGIN / 2)
        assert test.classifier.predict(x)[range(len(x)), rows].max() <= -1 + 3 * MARGIN
        assert not test.random[~test.exists].any()


@pytest.mark.parametrize("attack", ["energy", "kernel density"], indirect=True)
def test_a_strong_attack_passes_and_one_weakened_on_purpose_does_not(attack, mnist):
    images = mnist[0][-20:]
    rows = binarisation_test(attack, images, n_inner=600)
    assert list(rows.columns[:4]) == ["check", "found", "wanted", "passed"]
    assert rows["passed"].all(), rows.to_string()
    assert (rows["lacking"] <= 15).all(), rows.to_string()
    for name, weaken in WEAKENED.items():
        weak = binarisation_test(weaken(attack), images, n_inner=600)
        assert weak["found"].min() < 0.9, f"{name}: {weak.to_string()}"
        assert not weak["passed"].all()


@pytest.mark.parametrize("attack", ["energy"], indirect=True)
def test_a_detector_that_flags_nothing_has_no_inverted_test_which_is_said(attack, max_pooling_classifier, mnist):
    silent = Detector(attack.detector.lens, attack.detector.head, columns=attack.detector.columns, name="silent")
    silent.threshold_, silent.observed_fpr_ = 1e9, 0.0
    rows = binarisation_test(attack.changed(detector=silent, max_iter=5), mnist[0][-1:], n_inner=20)
    assert list(rows["lacking"]) == [0, 1]
    assert not rows["passed"][1]
    assert "no test of 1 of 1 images" in rows["wanted"][1]


@pytest.mark.parametrize("head", [Sign("energy", -1), Logistic()])
def test_an_inverted_detector_flags_what_the_other_does_not(head, max_pooling_classifier, mnist):
    images = mnist[0][:60]
    detector = Detector(Outputs(max_pooling_classifier), head, name="made")
    if isinstance(head, Logistic):
        detector.learn(images, np.arange(60) % 2)
    turned = inverted(detector.calibrate(images, fpr=0.3))
    np.testing.assert_array_equal(turned.detect(images)[1], ~detector.detect(images)[1])
    np.testing.assert_allclose(turned.differentiable_scores(tf.constant(images)), turned.scores(images), rtol=1e-5)
