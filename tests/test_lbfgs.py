"""L-BFGS against SciPy's one by one, and against the gradient attack that it starts from."""

import numpy as np
import pytest
import tensorflow as tf

from advlens.attacks.gradient import GradientAttack
from advlens.attacks.lbfgs import LBFGS
from advlens.classifier import logit_margins
from tests.scipy_lbfgs import scipy_lbfgs


def l2(attacked, x):
    return np.linalg.norm((attacked - x).reshape(len(x), -1), axis=1)


def test_it_succeeds_and_moves_images_as_far_as_scipy_does_one_by_one(average_pooling_classifier, mnist):
    x = mnist[0][200:208]
    logits = average_pooling_classifier.predict(x)
    t = np.argsort(logits, axis=1)[:, -2]
    ours = LBFGS(average_pooling_classifier, epsilon=1e-4, targeted=True).generate(x, t)
    scipys = scipy_lbfgs(average_pooling_classifier.model, x, t, epsilon=1e-4, maxiter=40)
    np.testing.assert_array_equal(
        average_pooling_classifier.predict(ours).argmax(axis=1) == t, [image is not None for image in scipys]
    )
    # Chaotic searches: on another processor they end up to 7 % apart.
    assert np.median(l2(ours, x)) == pytest.approx(np.median(l2(np.array(scipys), x)), rel=0.1)


def test_untargeted_it_is_never_farther_than_the_gradient_attack_and_mostly_nearer(max_pooling_classifier, mnist):
    x = mnist[0][200:220]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    ours = LBFGS(max_pooling_classifier, batch_size=8, epsilon=1e-3).generate(x)
    assert (logit_margins(max_pooling_classifier.predict(ours), y) >= 0.9e-3).all()
    assert 0 <= ours.min() <= ours.max() <= 1
    gradient = l2(GradientAttack(max_pooling_classifier).generate(x), x)
    assert (l2(ours, x) <= gradient + 1e-6).all()
    assert np.median(l2(ours, x)) < 0.9 * np.median(gradient)


def test_a_search_that_finds_nothing_nearer_keeps_the_gradient_attack_s_image(max_pooling_classifier, mnist):
    x = mnist[0][200:206]
    attack = LBFGS(max_pooling_classifier, max_iter=1, epsilon=1e3)  # one iteration at one constant, far too large
    t, known = attack._found_classes(x, max_pooling_classifier.predict(x).argmax(axis=1))
    ours = attack._minimise(x, t, known)
    assert (l2(ours, x) <= l2(known, x) + 1e-6).all()
    np.testing.assert_array_equal(max_pooling_classifier.predict(ours).argmax(axis=1), t)


def test_the_image_kept_is_the_nearest_of_all_that_reached_the_class(average_pooling_classifier, mnist, monkeypatch):
    attack, x = LBFGS(average_pooling_classifier, epsilon=1e-2, targeted=True), mnist[0][200:201]
    t = np.argsort(average_pooling_classifier.predict(x), axis=1)[:, -2]
    seen, evaluate = [], attack._cross_entropy

    def recorded(trial, target):
        found = evaluate(trial, target)
        seen.append((np.square(trial.numpy() - x.reshape(1, -1)).sum(), bool(found[2])))
        return found

    monkeypatch.setattr(attack, "_cross_entropy", recorded)
    state = {name: tf.constant(value) for name, value in attack._start(x, t, x).items()}
    while not state["done"].numpy().all():
        state = attack._tick(state)
    reached = [distance for distance, is_reached in seen if is_reached]
    kept = np.square(state["best"].numpy() - x.reshape(1, -1)).sum()
    assert kept == pytest.approx(min(reached), rel=1e-5)
    assert kept < reached[-1] or len(set(reached)) == 1
    assert kept < max(reached)


def test_targeted_it_reaches_the_class_asked_for_and_leaves_images_that_are_of_it(max_pooling_classifier, mnist):
    x = mnist[0][200:206]
    decided = max_pooling_classifier.predict(x).argmax(axis=1)
    t = np.where(np.arange(6) < 2, decided, (decided + 3) % 10)
    attacked = LBFGS(max_pooling_classifier, targeted=True, epsilon=1e-3).generate(x, np.eye(10)[t])
    np.testing.assert_array_equal(max_pooling_classifier.predict(attacked).argmax(axis=1), t)
    np.testing.assert_array_equal(attacked[:2], x[:2])
    assert (l2(attacked[2:], x[2:]) > 0.1).all()


def test_an_images_result_does_not_depend_on_its_batch(average_pooling_classifier, mnist):
    x = mnist[0][200:206]
    together, apart = (LBFGS(average_pooling_classifier, batch_size=b, epsilon=1e-3).generate(x) for b in (6, 2))
    np.testing.assert_allclose(l2(together, x), l2(apart, x), rtol=0.02)


def test_parameters_set_later_take_effect(average_pooling_classifier, mnist):
    attack, x = LBFGS(average_pooling_classifier, epsilon=1e-3), mnist[0][200:204]
    fine = l2(attack.generate(x), x)
    attack.set_params(max_iter=1)
    assert (l2(attack.generate(x), x) > fine).any()


def test_bad_input_is_named(max_pooling_classifier, mnist):
    with pytest.raises(ValueError, match="needs y"):
        LBFGS(max_pooling_classifier, targeted=True).generate(mnist[0][:2])
    with pytest.raises(ValueError, match="epsilon must be a positive number, got 0"):
        LBFGS(max_pooling_classifier, epsilon=0)
    with pytest.raises(ValueError, match="must have shape"):
        LBFGS(max_pooling_classifier).generate(mnist[0][:2, :20])
