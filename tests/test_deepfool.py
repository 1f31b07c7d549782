import keras
import numpy as np
import pytest
from art.attacks.evasion import DeepFool as ArtDeepFool

from advlens.attacks.boundary import BoundaryAttack
from advlens.attacks.deepfool import DeepFool
from advlens.attacks.fab import FAB
from advlens.attacks.gradient import GradientAttack
from advlens.attacks.inputs import MARGIN
from advlens.attacks.lbfgs import LBFGS
from advlens.attacks.minimum_norm import DDN
from advlens.classifier import Classifier, logit_margins


def test_one_step_crosses_the_boundary_of_a_linear_network_by_the_overshoot():
    network = keras.Sequential([keras.layers.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    kernel, bias = np.random.default_rng(3).normal(size=(4, 3)), np.array([0.2, 0.0, -0.1])
    network.set_weights([kernel, bias])
    x = np.full((1, 2, 2, 1), 0.5, np.float32)
    f = x.reshape(4) @ kernel + bias
    y = f.argmax()
    for margin in (0.0, 1e-3, 0.3):
        nearest = min((f[y] - f[k] + margin) / np.linalg.norm(kernel[:, k] - kernel[:, y]) for k in range(3) if k != y)
        attacked = DeepFool(Classifier(network), epsilon=0.02, margin=margin).generate(x)
        assert np.linalg.norm(attacked - x) == pytest.approx(1.02 * (nearest + 1e-4), rel=1e-3)


def test_it_succeeds_where_arts_does_and_moves_images_no_further(max_pooling_classifier, mnist):
    x = mnist[0][200:240]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    ours = DeepFool(max_pooling_classifier).generate(x)
    arts = ArtDeepFool(max_pooling_classifier, epsilon=0.02, batch_size=40, verbose=False).generate(x)
    fooled = [max_pooling_classifier.predict(a).argmax(axis=1) != y for a in (ours, arts)]
    assert fooled[0].mean() >= fooled[1].mean() > 0.9
    distances = [np.median(np.linalg.norm((a - x).reshape(40, -1), axis=1)) for a in (ours, arts)]
    assert distances[0] <= distances[1]
    assert 0 <= ours.min() <= ours.max() <= 1


def test_an_images_result_does_not_depend_on_its_batch(max_pooling_classifier, mnist):
    x = mnist[0][200:220]
    together, apart = (DeepFool(max_pooling_classifier, batch_size=b).generate(x) for b in (20, 3))
    np.testing.assert_allclose(together, apart, atol=1e-4)


@pytest.mark.parametrize("attack", [DeepFool, GradientAttack, BoundaryAttack, LBFGS, DDN, FAB])
def test_a_success_stays_one_in_any_batch_and_a_margin_is_kept(attack, max_pooling_classifier, mnist):
    x = mnist[0][200:216]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    few = {BoundaryAttack: {"max_iter": 20}, LBFGS: {"epsilon": 1e-2}}.get(attack, {})
    for margin in (MARGIN, 2.0):
        made = attack(max_pooling_classifier, margin=margin, **few).generate(x)
        margins = logit_margins(max_pooling_classifier.predict(made), y)
        won = margins > 0
        assert won.mean() > 0.7
        assert margins[won].min() >= 0.9 * margin
        for size in (1, 5, 512):
            again = Classifier(max_pooling_classifier.model, batch_size=size).predict(made)
            np.testing.assert_array_equal(again.argmax(axis=1) != y, won)


def test_few_batch_sizes_are_met_while_images_drop_out(max_pooling_classifier, mnist, monkeypatch):
    sizes, ask = [], max_pooling_classifier.logits_and_class_gradients
    monkeypatch.setattr(
        max_pooling_classifier, "logits_and_class_gradients", lambda x, k: (sizes.append(len(x)), ask(x, k))[1]
    )
    DeepFool(max_pooling_classifier).generate(mnist[0][200:221])
    assert set(sizes) <= {1, 2, 4, 8, 16, 32}
    assert sizes[0] == 32


@pytest.mark.parametrize("attack", [DeepFool, FAB])
def test_images_already_of_another_class_stay(attack, max_pooling_classifier, mnist):
    x = mnist[0][:5]
    decided = max_pooling_classifier.predict(x).argmax(axis=1)
    np.testing.assert_array_equal(attack(max_pooling_classifier).generate(x, (decided + 1) % 10), x)


def test_bad_input_is_named(max_pooling_classifier, mnist):
    with pytest.raises(ValueError, match="epsilon must be a positive number or 0"):
        DeepFool(max_pooling_classifier, epsilon=-0.1)
    with pytest.raises(ValueError, match="epsilon must be a positive number or 0, got 'a'"):
        DeepFool(max_pooling_classifier, epsilon="a")
    with pytest.raises(ValueError, match="max_iter must be a whole number, 1 or more, got True"):
        DeepFool(max_pooling_classifier, max_iter=True)
    with pytest.raises(ValueError, match="nb_grads must be a whole number, 2 or more, got 1"):
        DeepFool(max_pooling_classifier, nb_grads=1)
    with pytest.raises(ValueError, match="one-hot"):
        DeepFool(max_pooling_classifier).generate(mnist[0][:2], np.zeros((2, 10)))
