"""The nearest image of another class, against geometry, against each other and against ART's."""

import keras
import numpy as np
import pytest
from art.attacks.evasion import CarliniL2Method

from advlens.attacks.minimum_norm import DDN, CarliniWagnerL2
from advlens.classifier import Classifier, logit_margins

BOTH = pytest.mark.parametrize("attack", [DDN, CarliniWagnerL2])


def lengths(attacked, images):
    return np.linalg.norm((attacked - images).reshape(len(images), -1), axis=1)


@pytest.fixture(scope="module")
def linear():
    network = keras.Sequential([keras.layers.Input((3, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    rng = np.random.default_rng(5)
    network.set_weights([rng.normal(size=(9, 4)), 0.1 * rng.normal(size=4)])
    return Classifier(network)


@BOTH
def test_it_comes_near_the_boundary_of_a_linear_network(attack, linear):
    x = (0.5 + 0.1 * np.random.default_rng(6).random((20, 3, 3, 1))).astype(np.float32)
    kernel, bias = linear.model.get_weights()
    logits = x.reshape(20, -1) @ kernel + bias
    y = logits.argmax(axis=1)
    to_others = [
        [(row[own] - row[k]) / np.linalg.norm(kernel[:, k] - kernel[:, own]) for k in range(4) if k != own]
        for row, own in zip(logits, y, strict=True)
    ]
    nearest = np.min(to_others, axis=1)
    settings = (
        {"max_iter": 300} if attack is DDN else {"binary_search_steps": 10, "max_iter": 200, "learning_rate": 0.02}
    )
    found = lengths(attack(linear, **settings).generate(x), x)
    near = nearest > 0.05  # the others' margin of a thousandth is a share of the distance
    assert near.sum() > 10
    assert (found[near] >= 0.999 * nearest[near]).all()
    assert np.median(found[near] / nearest[near]) < 1.08


@BOTH
def test_it_fools_the_network_on_every_image_and_moves_black_pixels(attack, max_pooling_classifier, mnist):
    x = mnist[0][200:240]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    made = attack(max_pooling_classifier).generate(x)
    assert (logit_margins(max_pooling_classifier.predict(made), y) > 0).all()
    assert 0 <= made.min() <= made.max() <= 1
    assert (made[x == 0] > 0.02).mean() > 0.01


def test_the_two_agree_and_arts_carlini_is_farther(max_pooling_classifier, mnist):
    x = mnist[0][200:240]
    ddn, ours = (np.median(lengths(attack(max_pooling_classifier).generate(x), x)) for attack in (DDN, CarliniWagnerL2))
    settings = {"max_iter": 60, "binary_search_steps": 6, "initial_const": 1.0, "learning_rate": 0.1, "batch_size": 40}
    moved = lengths(CarliniL2Method(max_pooling_classifier, **settings, verbose=False).generate(x), x)
    assert (moved > 0).sum() > 20
    assert abs(ours / ddn - 1) < 0.12
    assert max(ours, ddn) < np.median(moved[moved > 0])


@BOTH
def test_it_reaches_a_class_where_told_to(attack, max_pooling_classifier, mnist):
    x = mnist[0][200:210]
    decided = max_pooling_classifier.predict(x).argmax(axis=1)
    wanted = (decided + 1) % 10
    targeted = attack(max_pooling_classifier, targeted=True).generate(x, wanted)
    reached = max_pooling_classifier.predict(targeted).argmax(axis=1) == wanted
    assert reached.mean() >= 0.9
    free = lengths(attack(max_pooling_classifier).generate(x), x)
    assert (lengths(targeted, x)[reached] >= 0.9 * free[reached]).all()
    with pytest.raises(ValueError, match="classes to reach"):
        attack(max_pooling_classifier, targeted=True).generate(x)


def test_confidence_drives_the_image_farther(max_pooling_classifier, mnist):
    x = mnist[0][200:210]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    near, far = (CarliniWagnerL2(max_pooling_classifier, confidence=k).generate(x) for k in (0.0, 3.0))
    assert logit_margins(max_pooling_classifier.predict(far), y).min() >= 2.99
    assert np.median(lengths(far, x)) > 1.1 * np.median(lengths(near, x))


@pytest.mark.parametrize(
    ("attack", "wrong", "said"),
    [
        (DDN, {"gamma": 1.5}, "gamma must lie between 0 and 1"),
        (DDN, {"max_iter": 0}, "max_iter"),
        (CarliniWagnerL2, {"confidence": -1.0}, "confidence"),
        (CarliniWagnerL2, {"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_bad_parameters_are_named(attack, wrong, said, max_pooling_classifier):
    with pytest.raises(ValueError, match=said):
        attack(max_pooling_classifier, **wrong)
