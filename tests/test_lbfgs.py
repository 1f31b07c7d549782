import numpy as np
import pytest

from advlens.attacks.gradient import GradientAttack
from advlens.attacks.lbfgs import LBFGS
from tests.scipy_lbfgs import scipy_lbfgs


def l2(attacked, x):
    return np.linalg.norm((attacked - x).reshape(len(x), -1), axis=1)


def test_it_succeeds_and_moves_images_as_far_as_scipy_does_one_by_one(average_pooling_classifier, mnist):
    x = mnist[0][200:224]
    logits = average_pooling_classifier.predict(x)
    t = np.argsort(logits, axis=1)[:, -2]
    ours = LBFGS(average_pooling_classifier, epsilon=1e-4, targeted=True).generate(x, t)
    scipys = scipy_lbfgs(average_pooling_classifier.model, x, t, epsilon=1e-4, maxiter=40)
    np.testing.assert_array_equal(
        average_pooling_classifier.predict(ours).argmax(axis=1) == t, [image is not None for image in scipys]
    )
    assert np.median(l2(ours, x)) == pytest.approx(np.median(l2(np.array(scipys), x)), rel=0.05)


def test_untargeted_it_leaves_the_class_by_less_than_the_gradient_attack_within_the_box(max_pooling_classifier, mnist):
    x = mnist[0][200:230]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    ours = LBFGS(max_pooling_classifier, batch_size=8).generate(x)
    assert (max_pooling_classifier.predict(ours).argmax(axis=1) != y).all()
    assert 0 <= ours.min() <= ours.max() <= 1
    assert np.median(l2(ours, x)) < np.median(l2(GradientAttack(max_pooling_classifier).generate(x), x))


def test_targeted_it_reaches_the_class_asked_for_and_leaves_images_that_are_of_it(max_pooling_classifier, mnist):
    x = mnist[0][200:206]
    decided = max_pooling_classifier.predict(x).argmax(axis=1)
    t = np.where(np.arange(6) < 2, decided, (decided + 3) % 10)
    attacked = LBFGS(max_pooling_classifier, targeted=True).generate(x, np.eye(10)[t])
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
