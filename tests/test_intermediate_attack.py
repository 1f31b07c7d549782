"""Intermediate level attacks: against a loop over single images, and what they promise."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from art.attacks.evasion import BasicIterativeMethod, CarliniL2Method

from advlens.attacks import craft, find_attack
from advlens.attacks.intermediate import IntermediateLevelAttack, _with_lengths_of
from advlens.classifier import Classifier
from advlens.networks import deep_knn_cnn
from advlens.training import train_task_network

EPS = 0.1


def small_network(*first: keras.Layer) -> keras.Model:
    """A random network of two small convolutions and three classes, whose units are all smooth, after other layers."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            *first,
            layers.Conv2D(3, 3, activation="softplus", name="conv1"),
            layers.Conv2D(4, 3, activation="softplus", name="conv2"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, name="logits"),
        ]
    )


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(small_network())


@pytest.fixture(scope="module")
def deep_knn_classifier(mnist) -> Classifier:
    """The study's network, trained for a few seconds."""
    images, labels = mnist
    trained = train_task_network(images, labels, builder=deep_knn_cnn, num_classes=10, epochs=5, seed=0)
    return Classifier(trained.network)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((12, 6, 6, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def labels(classifier, images) -> np.ndarray:
    return classifier.predict(images).argmax(axis=1)


def moved(classifier: Classifier, layer: str, images: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """(n, d) changes of a layer's activations."""
    before, after = (classifier.layer_activations(each, [layer])[layer] for each in (images, attacked))
    return (after - before).reshape(len(images), -1)


def by_definition(classifier, image, base, *, layer, variant, steps=10, alpha=5.0):
    """One image's ILAP or ILAF, without softening: the paper's losses, but for ILAF's first step, which is ILAP's."""
    part = keras.Model(classifier.model.inputs[0], classifier.model.get_layer(layer).output)
    clean, guide = part(image[None]), part(base[None]) - part(image[None])
    x = tf.identity(image[None])
    for step in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(x)
            change = part(x) - clean
            loss = tf.reduce_sum(change * guide)
            if variant == "flexible" and step > 0:
                ratio = tf.norm(change) / tf.norm(guide)
                loss = loss / (tf.norm(change) * tf.norm(guide)) + alpha * ratio
        x = x + EPS / 5 * tf.sign(tape.gradient(loss, x))
        x = tf.clip_by_value(tf.clip_by_value(x, image - EPS, image + EPS), 0, 1)
    return x[0].numpy()


def bim(classifier, images, labels, **parameters):
    given = {"eps": EPS, "eps_step": EPS / 5, "max_iter": 10, "verbose": False, **parameters}
    return BasicIterativeMethod(classifier, **given).generate(images, np.eye(3)[labels])


@pytest.mark.parametrize("variant", ["projection", "flexible"])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "logits"])
def test_it_is_what_a_loop_over_single_images_finds(classifier, images, labels, layer, variant):
    attacked = IntermediateLevelAttack(classifier, layer=layer, variant=variant, eps=EPS).generate(images, labels)
    bases = bim(classifier, images, labels)
    for image, base, found in zip(images, bases, attacked, strict=True):
        expected = by_definition(classifier, image, base, layer=layer, variant=variant)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_step_of_the_flexible_attack_is_the_projection_s(classifier, images):
    one, other = (
        IntermediateLevelAttack(classifier, layer="conv2", variant=variant, eps=EPS, max_iter=1).generate(images)
        for variant in ("projection", "flexible")
    )
    np.testing.assert_array_equal(one, other)
    assert (one != images).mean() > 0.9
    # Ten steps are not: there is a length to gain as well.
    one, other = (
        IntermediateLevelAttack(classifier, layer="conv2", variant=variant, eps=EPS).generate(images)
        for variant in ("projection", "flexible")
    )
    assert (one != other).any()


@pytest.mark.parametrize("guide", ["attack", "random"])
def test_an_image_s_result_does_not_depend_on_those_beside_it(classifier, images, labels, guide):
    whole = IntermediateLevelAttack(classifier, eps=EPS, guide=guide).generate(images, labels)
    parts = IntermediateLevelAttack(classifier, eps=EPS, guide=guide, batch_size=5).generate(images, labels)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    alone = IntermediateLevelAttack(classifier, eps=EPS, guide=guide, batch_size=1).generate(images, labels)
    np.testing.assert_allclose(alone, whole, atol=1e-6)


def test_an_image_follows_its_own_guide(classifier, images, labels):
    attack = IntermediateLevelAttack(classifier, eps=EPS)
    one = attack.generate(images[:2], labels[:2])
    other = attack.generate(images[[0, 5]], labels[[0, 5]])
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
    # The other image's label changes its guide, and nothing of the first image's.
    relabelled = attack.generate(images[:2], np.array([labels[0], (labels[1] + 1) % 3]))
    np.testing.assert_allclose(relabelled[0], one[0], atol=1e-6)
    assert np.abs(relabelled[1] - one[1]).max() > EPS / 2


@pytest.mark.parametrize("variant", ["projection", "flexible"])
def test_images_stay_in_the_ball_and_in_range(classifier, images, variant):
    images = np.where(images < 0.3, 0, images).astype(np.float32)
    attacked = IntermediateLevelAttack(classifier, variant=variant, eps=EPS, eps_step=0.07).generate(images)
    assert np.abs(attacked - images).max() <= EPS + 1e-6
    assert np.abs(attacked - images).max() > 0.9 * EPS
    assert 0 <= attacked.min() <= attacked.max() <= 1


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "logits"])
def test_the_projection_on_the_guide_grows(deep_knn_classifier, mnist, layer):
    x = mnist[0][:40]
    y = deep_knn_classifier.predict(x).argmax(axis=1)
    base = BasicIterativeMethod(deep_knn_classifier, eps=0.1, eps_step=0.02, max_iter=10, verbose=False, batch_size=64)
    guide = moved(deep_knn_classifier, layer, x, base.generate(x, np.eye(10)[y]))
    attack = IntermediateLevelAttack(deep_knn_classifier, layer=layer, eps=0.1, base=base)
    own = moved(deep_knn_classifier, layer, x, attack.generate(x, y))
    gain = (own * guide).sum(axis=1) / np.square(guide).sum(axis=1)
    assert (gain > 1).mean() > 0.9
    backwards = moved(deep_knn_classifier, layer, x, np.clip(2 * x - attack.generate(x, y), 0, 1))
    assert ((backwards * guide).sum(axis=1) < 0).mean() > 0.9


def test_the_flexible_attack_trades_direction_for_length(deep_knn_classifier, mnist):
    x = mnist[0][:40]
    plain, weighted = (
        moved(
            deep_knn_classifier,
            "conv2",
            x,
            IntermediateLevelAttack(
                deep_knn_classifier, layer="conv2", variant="flexible", eps=0.1, alpha=alpha
            ).generate(x),
        )
        for alpha in (0.0, 50.0)
    )
    assert np.linalg.norm(weighted, axis=1).mean() > 1.1 * np.linalg.norm(plain, axis=1).mean()


def test_random_guides_are_others_and_come_from_the_seed(classifier, images, labels):
    guided = IntermediateLevelAttack(classifier, eps=EPS).generate(images, labels)
    first, again, other = (
        IntermediateLevelAttack(classifier, eps=EPS, guide="random", seed=seed).generate(images, labels)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.1
    assert (first != guided).mean() > 0.1
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    IntermediateLevelAttack(classifier, eps=EPS, guide="random").generate(images)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


def test_the_base_attack_is_art_s_and_a_single_step_of_it_is_fgsm(classifier, images, labels):
    for steps, step in ((10, EPS / 5), (1, EPS)):
        base = BasicIterativeMethod(classifier, eps=EPS, eps_step=step, max_iter=steps, verbose=False)
        given = IntermediateLevelAttack(classifier, eps=EPS, base=base).generate(images, labels)
        own = IntermediateLevelAttack(classifier, eps=EPS, base_steps=steps).generate(images, labels)
        np.testing.assert_array_equal(own, given)
    stronger = IntermediateLevelAttack(classifier, eps=EPS, base=CarliniL2Method(classifier, verbose=False, max_iter=5))
    assert (stronger.generate(images, labels) != own).any()


def test_an_image_that_the_base_attack_leaves_alone_stays(classifier, images, labels):
    class Idle(BasicIterativeMethod):
        def generate(self, x, y=None, **kwargs):
            return x.copy()

    for parameters in ({}, {"guide": "random"}, {"variant": "flexible"}, {"variant": "flexible", "guide": "random"}):
        attack = IntermediateLevelAttack(classifier, eps=EPS, base=Idle(classifier, verbose=False), **parameters)
        np.testing.assert_array_equal(attack.generate(images, labels), images)


def test_the_network_is_attacked_as_it_decides_without_dropout(classifier, images, labels):
    dropping = small_network(keras.layers.Dropout(0.5))
    dropping.set_weights(classifier.model.get_weights())
    for variant in ("projection", "flexible"):
        one, other = (
            IntermediateLevelAttack(attacked, layer="conv2", variant=variant, eps=EPS).generate(images, labels)
            for attacked in (classifier, Classifier(dropping))
        )
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_the_catalogue_s_default_layer_is_the_last_convolution(deep_knn_classifier, average_pooling_classifier, mnist):
    x = mnist[0][:5]
    for classifier, layer in ((deep_knn_classifier, "conv3"), (average_pooling_classifier, "conv3")):
        y = classifier.predict(x).argmax(axis=1)
        for name in ("ilap", "ilaf"):
            made = craft(name, classifier, x, y, source=np.arange(5), seed=0)
            given = craft(name, classifier, x, y, source=np.arange(5), seed=0, layer=layer)
            np.testing.assert_array_equal(made.adversarial, given.adversarial)
            assert json.dumps(dict(made.parameters))
    assert find_attack("ilaf").parameters["variant"] == "flexible"


def test_bad_input_is_named(classifier, images):
    other = Classifier(keras.models.clone_model(classifier.model))
    base = BasicIterativeMethod(classifier, targeted=True, verbose=False)
    for parameters, error, message in (
        ({"layer": "conv9"}, ValueError, "no layer is called 'conv9': choose one of conv1, conv2, flatten, logits"),
        ({"variant": "ilap"}, ValueError, "variant must be one of projection, flexible, got 'ilap'"),
        ({"guide": "none"}, ValueError, "guide must be one of attack, random, got 'none'"),
        ({"eps": 0}, ValueError, "eps must be a positive number, got 0"),
        ({"eps_step": -1}, ValueError, "eps_step must be a positive number, got -1"),
        ({"alpha": -1}, ValueError, "alpha must be a positive number or 0, got -1"),
        ({"max_iter": 0}, ValueError, "max_iter must be a whole number, 1 or more, got 0"),
        ({"base_steps": 1.5}, ValueError, "base_steps must be a whole number"),
        ({"seed": -1}, ValueError, "seed must be a whole number"),
        ({"base": "bim"}, TypeError, "base must be an evasion attack of ART, got str"),
        ({"base": BasicIterativeMethod(other, verbose=False)}, ValueError, "base attacks another classifier"),
        ({"base": base}, ValueError, "base must be untargeted"),
    ):
        with pytest.raises(error, match=message):
            IntermediateLevelAttack(classifier, **parameters)
    attack = IntermediateLevelAttack(classifier)
    with pytest.raises(ValueError, match="divide by 255"):
        attack.generate(images * 255)
    with pytest.raises(ValueError, match="labels must lie in"):
        attack.generate(images, np.full(len(images), 3))


def test_a_fresh_session_attacks_a_layer_behind_the_flattening_one(mnist):
    """Keras names layers by counting: whatever the attack builds must not be called what the network has."""
    keras.backend.clear_session()
    fresh = Classifier(deep_knn_cnn())
    attacked = IntermediateLevelAttack(fresh, layer="logits", eps=EPS, max_iter=2).generate(mnist[0][:2])
    assert attacked.shape == (2, 28, 28, 1)


def test_a_random_guide_is_as_long_as_the_one_that_it_stands_for():
    guides, directions = np.random.default_rng(0).normal(size=(2, 5, 7))
    made = _with_lengths_of(guides, directions)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), np.linalg.norm(guides, axis=1))
    cosines = (made * directions).sum(axis=1) / np.linalg.norm(made, axis=1) / np.linalg.norm(directions, axis=1)
    np.testing.assert_allclose(cosines, 1)
