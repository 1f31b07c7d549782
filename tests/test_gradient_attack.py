import numpy as np
import pytest

from advlens.attacks.gradient import GradientAttack


def test_it_finds_the_step_that_trying_every_step_finds(max_pooling_classifier, mnist):
    x = mnist[0][200:212]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    attacked = GradientAttack(max_pooling_classifier, steps=200, fine_steps=5).generate(x)
    g = max_pooling_classifier.loss_gradient(x, y)
    for image, direction, label, found in zip(x, g, y, attacked, strict=True):
        direction = direction / np.sqrt(np.mean(direction**2))
        every = np.clip(image + np.arange(1, 1001, dtype=np.float32)[:, None, None, None] / 1000 * direction, 0, 1)
        fooled = max_pooling_classifier.predict(every).argmax(axis=1) != label
        coarse = np.flatnonzero(fooled[4::5])[0]  # steps of 1/200, then five finer ones
        first = 5 * coarse + np.flatnonzero(fooled[5 * coarse : 5 * coarse + 5])[0]
        np.testing.assert_allclose(found, every[first], atol=1e-5)


def test_finer_steps_bring_images_nearer_and_keep_them_fooled(max_pooling_classifier, mnist):
    x = mnist[0][200:250]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    distances = []
    for fine_steps in (1, 20):
        attacked = GradientAttack(max_pooling_classifier, steps=50, fine_steps=fine_steps).generate(x)
        assert (max_pooling_classifier.predict(attacked).argmax(axis=1) != y).mean() > 0.8
        assert 0 <= attacked.min() <= attacked.max() <= 1
        distances.append(np.linalg.norm((attacked - x).reshape(50, -1), axis=1))
    assert (distances[1] <= distances[0] + 1e-6).all()
    assert distances[1].mean() < distances[0].mean()


def test_images_already_of_another_class_or_out_of_reach_stay(max_pooling_classifier, mnist):
    x = mnist[0][:5]
    decided = max_pooling_classifier.predict(x).argmax(axis=1)
    np.testing.assert_array_equal(GradientAttack(max_pooling_classifier).generate(x, (decided + 1) % 10), x)
    np.testing.assert_array_equal(GradientAttack(max_pooling_classifier, max_epsilon=1e-6).generate(x), x)


def test_bad_input_is_named(max_pooling_classifier, mnist):
    with pytest.raises(ValueError, match="divide by 255"):
        GradientAttack(max_pooling_classifier).generate(mnist[0][:2] * 255)
    with pytest.raises(ValueError, match="labels must lie in"):
        GradientAttack(max_pooling_classifier).generate(mnist[0][:2], np.array([3, 10]))
    with pytest.raises(ValueError, match="steps must be a whole number, 1 or more, got 0"):
        GradientAttack(max_pooling_classifier, steps=0)
