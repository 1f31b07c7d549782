"""DDN and Carlini–Wagner L2 against closed forms of linear networks, and against what ART and DeepFool reach."""

import keras
import numpy as np
import pytest

from advlens.attacks.inputs import MARGIN
from advlens.attacks.minimum_norm import DDN, CarliniWagnerL2
from advlens.classifier import Classifier, logit_margins


@pytest.fixture(scope="module")
def linear():
    """A linear classifier of 4×4 images in three classes, and grey images far from the box's sides."""
    rng = np.random.default_rng(0)
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    network.set_weights([rng.normal(size=(16, 3)).astype(np.float32), np.zeros(3, np.float32)])
    return Classifier(network), rng.uniform(0.4, 0.6, size=(20, 4, 4, 1)).astype(np.float32)


def norms(adversarial, images):
    return np.linalg.norm((adversarial - images).reshape(len(images), -1), axis=1)


def to_boundary(classifier, images, labels, *, margin):
    """The L2 distance at which a linear network's lead reaches the margin."""
    kernel, logits = classifier.model.get_weights()[0], classifier.predict(images)
    rows = np.arange(len(images))
    gaps = logits[rows, labels][:, None] - logits + margin
    lengths = np.linalg.norm(kernel.T[None] - kernel.T[labels][:, None], axis=2)
    gaps[rows, labels] = np.inf
    return (gaps / np.where(lengths == 0, 1, lengths)).min(axis=1)


@pytest.mark.parametrize(
    ("make", "excess"),
    [
        (lambda c, **kw: DDN(c, max_iter=200, **kw), 0.02),
        (lambda c, **kw: CarliniWagnerL2(c, max_iter=150, **kw), 0.06),
    ],
)
def test_a_linear_network_is_fooled_at_its_boundary(linear, make, excess):
    classifier, images = linear
    labels = classifier.predict(images).argmax(axis=1)
    adversarial = make(classifier).generate(images, labels)
    assert (logit_margins(classifier.predict(adversarial), labels) >= MARGIN * 0.9).all()
    nearest = to_boundary(classifier, images, labels, margin=MARGIN)
    found = norms(adversarial, images)
    assert (found >= nearest - 1e-4).all()
    assert np.median(found / nearest) < 1 + excess


@pytest.mark.parametrize("attack", [DDN, CarliniWagnerL2])
def test_every_digit_is_fooled_nearby_whatever_its_batch(
    attack, average_pooling_classifier, real_images, real_labels, right
):
    images, labels = real_images[right], real_labels[right]
    adversarial = attack(average_pooling_classifier).generate(images, labels)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    for size in (1, 512):
        logits = Classifier(average_pooling_classifier.model, batch_size=size).predict(adversarial)
        assert (logits.argmax(axis=1) != labels).all()
    one_by_one = attack(average_pooling_classifier, batch_size=16).generate(images, labels)
    assert np.median(norms(one_by_one, images)) == pytest.approx(np.median(norms(adversarial, images)), rel=0.02)


def test_carlini_wagner_is_nearer_than_art_s_and_no_farther_than_a_twentieth_beyond_ddn(
    average_pooling_classifier, real_images, real_labels, right
):
    from art.attacks.evasion import CarliniL2Method

    images, labels = real_images[right], real_labels[right]
    found = {
        "own": CarliniWagnerL2(average_pooling_classifier, max_iter=100),
        "ddn": DDN(average_pooling_classifier, max_iter=200),
        "art": CarliniL2Method(average_pooling_classifier, max_iter=30, binary_search_steps=4, verbose=False),
    }
    lengths = {name: np.median(norms(attack.generate(images, labels), images)) for name, attack in found.items()}
    assert lengths["own"] < 1.05 * lengths["ddn"]
    assert lengths["own"] < lengths["art"]


@pytest.mark.parametrize("attack", [DDN, CarliniWagnerL2])
def test_a_class_is_reached_where_it_is_asked_for(attack, average_pooling_classifier, real_images, real_labels, right):
    images, aims = real_images[right][:10], (real_labels[right][:10] + 1) % 10
    adversarial = attack(average_pooling_classifier, targeted=True).generate(images, aims)
    assert (average_pooling_classifier.predict(adversarial).argmax(axis=1) == aims).mean() >= 0.9
    with pytest.raises(ValueError, match="y must name the classes to reach"):
        attack(average_pooling_classifier, targeted=True).generate(images)


def test_confidence_is_the_lead_that_a_success_has(average_pooling_classifier, real_images, real_labels, right):
    images, labels = real_images[right][:20], real_labels[right][:20]
    near, far = (
        CarliniWagnerL2(average_pooling_classifier, confidence=kappa).generate(images, labels) for kappa in (0.0, 2.0)
    )
    assert (logit_margins(average_pooling_classifier.predict(far), labels) > 1.99).all()
    assert (norms(far, images) > norms(near, images)).all()


@pytest.mark.parametrize(
    ("attack", "wrong", "message"),
    [
        (DDN, {"gamma": 1.0}, "gamma must lie between 0 and 1, got 1"),
        (DDN, {"max_iter": 0}, "max_iter must be a whole number, 1 or more, got 0"),
        (CarliniWagnerL2, {"learning_rate": -1}, "learning_rate must be a positive number, got -1"),
        (CarliniWagnerL2, {"confidence": -1}, "confidence must be a positive number or 0, got -1"),
    ],
)
def test_parameters_out_of_range_are_named(linear, attack, wrong, message):
    with pytest.raises(ValueError, match=message):
        attack(linear[0], **wrong)
