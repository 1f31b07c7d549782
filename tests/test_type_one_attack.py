"""Type I attacks and the generator that they walk in: against a plain loop, and where each part of the loss leads."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from advlens.attacks.type_one import TypeOneAttack, Walk
from advlens.attacks.type_one_set import type_one_set
from advlens.generative import train_generator
from advlens.generative.networks import encoder
from advlens.store import Store


@pytest.fixture(scope="module")
def generator(real_images, real_labels):
    """Of few images and epochs, which tells classes apart and draws blots."""
    return train_generator(
        real_images, real_labels, num_classes=10, binarised=True, epochs=20, patience=20, seed=0,
        learning_rate=2e-3, batch_size=32, latent=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def images(real_images, right):
    return real_images[right[:6]]


@pytest.fixture(scope="module")
def aims(real_labels, right):
    return (real_labels[right[:6]] + 3) % 10


def attack(classifier, generator, **changed):
    given = {"max_iter": 120, "learning_rate": 0.05, "largest_weight": 0.5}
    return TypeOneAttack(classifier, generator, **(given | changed))


def test_the_generator_learns_to_read_and_redraw(generator, real_images, real_labels):
    history = generator.history
    assert history["val_loss"].iloc[-1] < 0.8 * history["val_loss"].iloc[0]
    z = generator.encode(real_images)
    assert z.shape == (400, 8)
    assert (generator.classifier.predict(z, verbose=0).argmax(axis=1) == real_labels).mean() > 0.8
    redrawn = generator.decode(z)
    blurred = np.square(real_images.mean(axis=0) - real_images).mean()
    assert np.square(redrawn - real_images).mean() < 0.8 * blurred
    assert redrawn.dtype == np.float32
    assert 0 <= redrawn.min() <= redrawn.max() <= 1


def test_the_loss_is_the_study_s(real_images, real_labels):
    """KL of a Gaussian from a standard one, cross-entropy, and binary cross-entropy of pixels, each image's summed."""
    from advlens.generative.networks import decoder, latent_classifier
    from advlens.generative.supervised_vae import SMALLEST_SPREAD, SupervisedVAE

    parts = encoder((28, 28, 1), 4), decoder((28, 28, 1), 4), latent_classifier(4, 10)
    model = SupervisedVAE(*parts, seed=0)
    model.compile(keras.optimizers.Adam())
    x, y = real_images[:8], real_labels[:8]
    found = model.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)
    moments = parts[0].predict(x, verbose=0).astype(float)
    mean, spread = moments[:, 0], moments[:, 1] + SMALLEST_SPREAD
    assert found["divergence"] == pytest.approx(
        (0.5 * (mean**2 + spread**2 - 1) - np.log(spread)).sum(axis=1).mean(), rel=1e-4
    )
    logits = parts[2].predict(mean.astype(np.float32), verbose=0)
    likely = tf.nn.log_softmax(logits).numpy()[np.arange(8), y]
    assert found["classification"] == pytest.approx(-likely.mean(), rel=1e-4)
    drawn = 1 / (1 + np.exp(-parts[1].predict(mean.astype(np.float32), verbose=0).astype(float)))
    pixels = -(x * np.log(drawn) + (1 - x) * np.log(1 - drawn)).sum(axis=(1, 2, 3)).mean()
    assert found["reconstruction"] == pytest.approx(pixels, rel=1e-4)
    assert found["loss"] == pytest.approx(found["divergence"] + found["classification"] + pixels, rel=1e-4)


def test_the_discriminator_knows_images_from_noise(generator, real_images):
    z = generator.encode(real_images)
    noise = np.random.default_rng(1).standard_normal(z.shape).astype(np.float32)
    real, drawn = (generator.discriminator.predict(each, verbose=0).mean() for each in (z, noise))
    assert real > drawn


def test_a_generator_is_stored_whole_and_the_seed_settles_it(tmp_path, real_images, real_labels):
    about = {"images": real_images[:64], "labels": real_labels[:64], "num_classes": 10, "binarised": True}
    about |= {"epochs": 1, "patience": 1, "seed": 0}
    kept, again = Store(tmp_path).keep("generator", train_generator, **about), train_generator(**about)
    np.testing.assert_allclose(kept.encode(real_images[:3]), again.encode(real_images[:3]), rtol=1e-4, atol=1e-5)
    assert kept.binarised
    grey = dataclasses.replace(kept, binarised=False)
    assert np.abs(grey.encode(real_images[:3]) - kept.encode(real_images[:3])).max() > 0


@pytest.mark.parametrize(("keeps_decision", "largest"), [(True, 0.5), (True, 1e-4), (False, 0.5)])
def test_steps_are_those_of_a_plain_loop(average_pooling_classifier, generator, images, aims, keeps_decision, largest):
    """One image at a time with Keras' own Adam, every term of the loss and the weight's rule written out."""
    classifier, steps = average_pooling_classifier, 70  # more than one call
    settings = {"max_iter": steps, "keeps_decision": keeps_decision, "largest_weight": largest, "tolerance": 1e-9}
    found = attack(classifier, generator, **settings)
    walk = found.walk(images[:2], aims[:2])
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)
    def slopes(z, aim, kept, weight):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            became = entropy(aim, generator.classifier(z))
            remained = entropy(kept, classifier.model(tf.sigmoid(generator.decoder(z)))) * float(keeps_decision)
            realness = -tf.math.log_sigmoid(generator.discriminator(z))[0, 0]
            loss = became + 0.01 * realness + 0.0005 * tf.norm(z) + weight * remained
        return tape.gradient(loss, z), became, remained

    for row in range(2):
        z = tf.Variable(generator.encode(images[row : row + 1]))
        kept = classifier.predict(images[row : row + 1]).argmax(axis=1)
        optimizer, weight = keras.optimizers.Adam(0.05), 0.0
        for _ in range(steps):
            slope, became, remained = slopes(z, aims[row : row + 1], kept, tf.constant(weight, tf.float32))
            optimizer.apply([slope], [z])
            grown = 1e-3 * remained - became + max(float(remained) - 0.01, 0)
            weight = float(np.clip(weight + 1e-4 * float(grown), 0, largest))
        np.testing.assert_allclose(walk.path[-1, row], z.numpy()[0], rtol=2e-2, atol=2e-3)
    assert walk.steps.tolist() == [steps, steps]
    assert not walk.has_ended.any()


def test_images_walk_as_they_would_alone_and_stop_where_they_arrive(
    average_pooling_classifier, generator, images, aims
):
    together = attack(average_pooling_classifier, generator, tolerance=0.3).walk(images, aims)
    in_parts = attack(average_pooling_classifier, generator, tolerance=0.3, batch_size=4).walk(images, aims)
    np.testing.assert_allclose(in_parts.path[-1], together.path[-1], atol=1e-3)
    np.testing.assert_allclose(together.path[0], generator.encode(images))
    assert together.has_ended.any()
    assert (together.steps[together.has_ended] < 120).all()
    logits = generator.classifier.predict(together.path[-1], verbose=0)
    became = keras.losses.sparse_categorical_crossentropy(aims, logits, from_logits=True).numpy()
    assert (became[together.has_ended] <= 0.3 + 1e-3).all()
    kept = average_pooling_classifier.predict(images).argmax(axis=1)
    said = average_pooling_classifier.predict(generator.decode(together.path[-1]))
    remained = keras.losses.sparse_categorical_crossentropy(kept, said, from_logits=True).numpy()
    assert (remained[together.has_ended] <= 0.3 + 1e-3).all()


def test_a_transition_changes_the_class_and_an_attack_holds_the_decision(
    average_pooling_classifier, generator, images, aims
):
    classifier = average_pooling_classifier
    kept = classifier.predict(images).argmax(axis=1)
    losses = {}
    for keeps_decision in (False, True):
        made = attack(classifier, generator, keeps_decision=keeps_decision, max_iter=200)
        x_adv = made.generate(images, np.eye(10)[aims])
        logits = classifier.predict(x_adv)
        losses[keeps_decision] = keras.losses.sparse_categorical_crossentropy(kept, logits, from_logits=True).numpy()
        z = made.walk(images, aims).path[-1]
        np.testing.assert_allclose(x_adv, generator.decode(z), atol=1e-6)
        if not keeps_decision:
            np.testing.assert_array_equal(generator.classifier.predict(z, verbose=0).argmax(axis=1), aims)
    assert losses[True].mean() < losses[False].mean()


def test_stops_lie_in_equal_shares_of_the_way():
    path = np.array([[0.0, 0], [1, 0], [1, 0], [1, 3]], np.float32)[:, None]
    stops = Walk(path, np.array([3]), np.array([True])).stops(5)
    np.testing.assert_allclose(stops[:, 0], [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]], atol=1e-6)
    still = Walk(np.zeros((2, 1, 2), np.float32), np.array([0]), np.array([True])).stops(3)
    np.testing.assert_array_equal(still, 0)


def test_success_is_another_digit_and_the_same_decision(
    average_pooling_classifier, max_pooling_classifier, real_images, real_labels
):
    """Real images of the aims, and of the labels, in place of attacked ones: the networks are right of nearly all."""
    classifier, judge = average_pooling_classifier, max_pooling_classifier
    said = [network.predict(real_images).argmax(axis=1) for network in (classifier, judge)]
    rows = np.flatnonzero((said[0] == real_labels) & (said[1] == real_labels))[:20]
    labels = real_labels[rows]
    other = np.array([next(row for row in rows if real_labels[row] != label) for label in labels])
    about = {"source": rows, "seed": 0}
    moved = type_one_set(classifier, judge, real_images[rows], labels, real_images[other], real_labels[other], **about)
    assert not moved.success.any()  # another digit, but another decision too
    np.testing.assert_array_equal(moved.predicted, real_labels[other])
    fixed = type_one_set(classifier, judge, real_images[rows], labels, real_images[rows], real_labels[other], **about)
    assert not fixed.success.any()  # the same decision, but of the same digit
    deceived = type_one_set(
        classifier, Always(judge, real_labels[other]), real_images[rows], labels, real_images[rows],
        real_labels[other], **about,
    )  # fmt: skip
    assert deceived.success.all()
    assert deceived.attack == "type_one"
    np.testing.assert_allclose(
        moved.l2, np.linalg.norm((real_images[other] - real_images[rows]).reshape(20, -1), axis=1)
    )


class Always:
    """A judge that sees what it is told to."""

    def __init__(self, classifier, classes):
        self.classes, self.nb_classes = classes, classifier.nb_classes

    def predict(self, images):
        return np.eye(self.nb_classes)[self.classes]


def test_bad_input_is_named(average_pooling_classifier, max_pooling_classifier, generator, images, aims):
    classifier = average_pooling_classifier
    with pytest.raises(TypeError, match=r"generator must be an advlens.generative.Generator, got str"):
        TypeOneAttack(classifier, "generator")
    for wrong, message in (
        ({"max_iter": 0}, "max_iter must be a whole number, 1 or more, got 0"),
        ({"learning_rate": -1}, "learning_rate must be a positive number, got -1"),
        ({"tolerance": 0}, "tolerance must be a positive number"),
        ({"keeps_decision": 1}, "keeps_decision must be True or False, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            attack(classifier, generator, **wrong)
    made = attack(classifier, generator)
    with pytest.raises(ValueError, match="y must say what each image is to become"):
        made.generate(images)
    with pytest.raises(ValueError, match="labels must lie in"):
        made.generate(images, np.full(6, 10))
    with pytest.raises(ValueError, match="images must lie in"):
        made.generate(images * 255, aims)
    with pytest.raises(ValueError, match="sides that are multiples of 4"):
        train_generator(
            np.zeros((4, 30, 30, 1), np.float32), np.zeros(4, int), num_classes=2, binarised=False, epochs=1,
            patience=1, seed=0,
        )  # fmt: skip
    labels = classifier.predict(images).argmax(axis=1)
    with pytest.raises(ValueError, match="no aim its own label"):
        type_one_set(classifier, max_pooling_classifier, images, labels, images, labels, source=np.arange(6), seed=0)


def test_it_is_an_attack_of_art(average_pooling_classifier, generator):
    made = attack(average_pooling_classifier, generator)
    assert made.targeted
    made.set_params(max_iter=7)
    assert made.max_iter == 7
