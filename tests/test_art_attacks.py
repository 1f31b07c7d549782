"""Attacks of ART outside the catalogue: targets, probabilities, packages, and what is said of idle attacks."""

import sys

import keras
import numpy as np
import pytest
import scipy.special

from advlens.attacks import build_attack, craft
from advlens.classifier import Classifier


@pytest.fixture
def few(real_images, real_labels, right):
    rows = right[:4]
    return {"images": real_images[rows], "labels": real_labels[rows], "source": rows, "seed": 0}


def test_an_attack_that_only_knows_targets_reaches_them(average_pooling_classifier, few):
    made = craft("SaliencyMapMethod", average_pooling_classifier, **few)
    np.testing.assert_array_equal(made.target, average_pooling_classifier.predict(few["images"]).argmin(axis=1))
    np.testing.assert_array_equal(made.predicted, made.target)
    assert made.success.all()
    assert not made.unchanged.any()


@pytest.mark.parametrize("name", ["SimBA", "VirtualAdversarialMethod"])
def test_an_attack_on_probabilities_is_given_those_of_the_same_network(name, average_pooling_classifier, few):
    victim = build_attack(name, average_pooling_classifier).estimator
    logits = average_pooling_classifier.predict(few["images"]).astype(float)
    np.testing.assert_allclose(victim.predict(few["images"]), scipy.special.softmax(logits, axis=1), atol=1e-6)
    one_hot = np.eye(10, dtype=np.float32)[few["labels"]]
    np.testing.assert_allclose(
        victim.loss_gradient(few["images"], one_hot),
        average_pooling_classifier.loss_gradient(few["images"], one_hot),
        atol=1e-5,
    )


def test_an_attack_on_probabilities_moves_the_images(average_pooling_classifier, few):
    made = craft("SimBA", average_pooling_classifier, **few, max_iter=400, epsilon=0.5, attack="px")
    clean = average_pooling_classifier.compute_loss(few["images"], few["labels"])
    assert (average_pooling_classifier.compute_loss(made.adversarial, few["labels"]) > clean).all()


@pytest.mark.parametrize(("name", "package"), [("AutoAttack", "multiprocess"), ("ThresholdAttack", "cma")])
def test_a_missing_package_is_named_with_how_to_install_it(name, package, average_pooling_classifier, few, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=f"{name} needs the package '{package}': python -m pip install"):
        craft(name, average_pooling_classifier, **few)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AdversarialPatch", "AdversarialPatch makes one patch for all images"),
        ("MomentumIterativeMethod", "ART's MomentumIterativeMethod can't be run so: NotImplementedError"),
        ("ShadowAttack", "ART's ShadowAttack can't be run so: ValueError: This attack only accepts a single sample"),
        ("LaserAttack", "ART's LaserAttack can't be run so: TypeError: .* missing 2 required"),
    ],
)
def test_an_attack_that_can_t_be_run_is_refused_by_name(name, message, average_pooling_classifier, few):
    with pytest.raises(ValueError, match=message):
        craft(name, average_pooling_classifier, **few)


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_attack_at_work_is_not_warned_of(average_pooling_classifier, few):
    made = craft("fgsm", average_pooling_classifier, **few)
    assert not made.unchanged.any()
    assert not made.zero_gradient.any()


def test_an_attack_that_leaves_images_unchanged_says_so(average_pooling_classifier, few):
    with pytest.warns(UserWarning, match=r"4 of 4 images \(100%\) are left unchanged by SpatialTransformation"):
        made = craft("SpatialTransformation", average_pooling_classifier, **few)  # its own default is no transformation
    assert made.unchanged.all()


def test_images_whose_loss_is_saturated_are_counted(average_pooling_classifier, real_images, real_labels, right):
    steep = Classifier(keras.Sequential([average_pooling_classifier.model, keras.layers.Rescaling(30.0)]))
    images, labels = real_images[right], real_labels[right]
    logits = np.sort(steep.predict(images), axis=1)
    margin = logits[:, -1] - logits[:, -2]
    surely, not_at_all = margin > 104, margin < 80  # e^-104 is 0 in float32, e^-80 is far from it
    assert surely.any()
    assert not_at_all.any()
    with pytest.warns(UserWarning, match="images") as said:
        made = craft("fgsm", steep, images, labels, source=right, seed=0)
    assert made.zero_gradient[surely].all()
    assert not made.zero_gradient[not_at_all].any()
    np.testing.assert_array_equal(made.unchanged, made.zero_gradient)
    first, second = (str(warning.message) for warning in said)
    assert first.startswith(f"{made.zero_gradient.sum()} of {len(right)} images")
    assert "have a loss gradient of zero" in first
    assert "are left unchanged by fgsm" in second
