"""Monte-Carlo dropout against naive passes, and the metrics against their closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from advlens import networks
from advlens.uncertainty import METRICS, MonteCarloDropout
from advlens.uncertainty.metrics import aleatoric, entropy, epistemic, mutual_information, variance


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    return networks.build("digits_dropout_cnn")


def naive(network: keras.Model, images: np.ndarray, *, passes: int) -> np.ndarray:
    keras.utils.set_random_seed(0)
    return np.stack([tf.nn.softmax(network(images, training=True)).numpy() for _ in range(passes)])


@pytest.mark.parametrize("name", ["digits_dropout_cnn", "fashion_dropout_cnn"])
def test_passes_are_distributed_as_naive_ones(name, real_images):
    keras.utils.set_random_seed(3)
    network = networks.build(name)
    images = real_images[:4]
    ours = MonteCarloDropout(network, passes=800, seed=1).probabilities(images)
    theirs = naive(network, images, passes=800)
    spread = theirs.std(axis=0)
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=5 * spread.max() / np.sqrt(800))
    np.testing.assert_allclose(ours.std(axis=0), spread, rtol=0.15)
    correlation = [np.corrcoef(passes[:, 0].T)[0, 1] for passes in (ours, theirs)]
    assert correlation[0] == pytest.approx(correlation[1], abs=0.15)


def test_an_image_s_figures_do_not_depend_on_the_others(network, real_images):
    together = MonteCarloDropout(network, batch_size=7).probabilities(real_images[:20])
    apart = MonteCarloDropout(network, batch_size=64).probabilities(real_images[:20][::-1])
    np.testing.assert_allclose(together, apart[:, ::-1], atol=1e-6)


def test_a_loaded_network_gives_the_same_passes(network, real_images, tmp_path):
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    made, again = (MonteCarloDropout(one).probabilities(real_images[:5]) for one in (network, loaded))
    np.testing.assert_allclose(made, again, atol=1e-6)


def test_the_seed_governs_the_passes(network, real_images):
    first, again, other = (MonteCarloDropout(network, seed=seed).probabilities(real_images[:2]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_only_the_layers_named_are_thinned(network, real_images):
    last = MonteCarloDropout(network, layers=["dropout2"])
    assert last._before.output_shape == (None, 128)
    both, one = (made.probabilities(real_images[:5]).std(axis=0).mean() for made in (MonteCarloDropout(network), last))
    assert 0 < one < both


def test_batch_normalisation_stays_in_evaluation_mode(real_images):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dropout(0.0, name="none"), keras.layers.BatchNormalization(), keras.layers.Flatten()]
    network = keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Dense(3)])
    passes = MonteCarloDropout(network, passes=3).probabilities(real_images[:6])
    expected = tf.nn.softmax(network(real_images[:6], training=False)).numpy()
    for made in passes:
        np.testing.assert_allclose(made, expected, atol=1e-6)


def test_channels_are_dropped_as_wholes(real_images):
    layers = [keras.layers.Conv2D(6, 3), keras.layers.SpatialDropout2D(0.5), keras.layers.Flatten()]
    network = keras.Sequential([keras.Input((28, 28, 1)), *layers, keras.layers.Dense(2)])
    thinned = MonteCarloDropout(network, passes=40)
    mask = next(layer._masks for layer in thinned._after.layers if hasattr(layer, "_masks"))
    assert mask.shape == (40, 1, 1, 6)
    assert set(np.unique(mask)) == {0, 2}


def test_each_dropout_layer_has_masks_of_its_own():
    drops = [keras.layers.Dropout(0.5, name="first"), keras.layers.Dropout(0.5, name="second")]
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), *drops, keras.layers.Dense(2)])
    first, second = (layer._masks for layer in MonteCarloDropout(network)._after.layers if hasattr(layer, "_masks"))
    assert first.shape == second.shape
    assert (first == second).mean() == pytest.approx(0.5, abs=0.05)


def test_scores_have_gradients(network, real_images):
    x = tf.constant(real_images[:2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        spread = tf.reduce_sum(tf.math.reduce_variance(MonteCarloDropout(network).tensor(x), axis=0))
    assert np.abs(tape.gradient(spread, x).numpy()).max() > 0


def test_networks_that_cannot_be_thinned_are_named():
    with pytest.raises(ValueError, match="'two_conv_cnn' has no Dropout layer"):
        MonteCarloDropout(networks.build("two_conv_cnn"))
    with pytest.raises(ValueError, match="no dropout layer is called 'x': choose among dropout1, dropout2"):
        MonteCarloDropout(networks.build("digits_dropout_cnn"), layers=["x"])
    inputs = keras.Input((28, 28, 1))
    flat = keras.layers.Flatten()(inputs)
    around = keras.layers.Add()([flat, keras.layers.Dropout(0.5, name="drop")(keras.layers.Dense(784)(flat))])
    with pytest.raises(ValueError, match="has a path around its first dropout layer 'drop'"):
        MonteCarloDropout(keras.Model(inputs, keras.layers.Dense(2)(around)))
    noisy = keras.layers.Dropout(0.5, noise_shape=(None, 1), name="drop")
    with pytest.raises(ValueError, match="'drop' must be a Dropout without noise_shape or a SpatialDropout2D, got"):
        MonteCarloDropout(keras.Sequential([inputs, keras.layers.Flatten(), noisy, keras.layers.Dense(2)]))


def test_what_is_no_network_number_or_list_is_named(network):
    for wrong, error, message in (
        ({"passes": 1}, ValueError, "passes must be a whole number, 2 or more, got 1"),
        ({"passes": 2.5}, ValueError, "passes must be a whole number, 2 or more, got 2.5"),
        ({"batch_size": None}, ValueError, "batch_size must be a whole number, 1 or more, got None"),
        ({"layers": "dropout2"}, TypeError, "layers must be a list of dropout layers' names, got 'dropout2'"),
        ({"layers": []}, TypeError, "layers must be a list of dropout layers' names, got "),
        ({"network": "digits"}, TypeError, "network must be a Keras model, got str"),
    ):
        with pytest.raises(error, match=message):
            MonteCarloDropout(**({"network": network} | wrong))


def test_metrics_of_agreeing_and_of_quarrelling_passes():
    agreeing = np.full((4, 1, 2), 0.5)
    quarrelling = np.array([[[1.0, 0.0]], [[0.0, 1.0]]] * 2)
    assert entropy(agreeing)[0] == entropy(quarrelling)[0] == pytest.approx(np.log(2))
    assert mutual_information(agreeing)[0] == 0
    assert mutual_information(quarrelling)[0] == pytest.approx(np.log(2))
    assert variance(agreeing)[0] == 0
    assert variance(quarrelling)[0] == pytest.approx(0.25)
    assert (aleatoric(agreeing)[0], epistemic(agreeing)[0]) == (0.5, 0)
    assert (aleatoric(quarrelling)[0], epistemic(quarrelling)[0]) == (0, 0.5)


def test_metrics_equal_their_formulas_and_add_up(network, real_images):
    thinned = MonteCarloDropout(network, passes=20, batch_size=5)
    p = thinned.probabilities(real_images[:12]).astype(np.float64)
    measured = thinned.metrics(real_images[:12])
    assert set(measured) == set(METRICS)
    mean = p.mean(axis=0)
    total = -(mean * np.log(mean)).sum(axis=1)
    within = -(p * np.log(p)).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(measured["confidence"], mean.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(measured["entropy"], total, rtol=1e-6)
    np.testing.assert_allclose(measured["mutual information"], total - within, atol=1e-9)
    np.testing.assert_allclose(measured["variance"], ((p - mean) ** 2).mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(measured["epistemic"], 10 * measured["variance"], rtol=1e-6)
    np.testing.assert_allclose(
        measured["aleatoric"] + measured["epistemic"], (mean * (1 - mean)).sum(axis=1), rtol=1e-6
    )


def test_what_lies_before_the_first_dropout_is_computed_once(network, real_images, monkeypatch):
    layer, calls = network.get_layer("conv1"), []
    original = layer.call
    monkeypatch.setattr(layer, "call", lambda *args, **kwargs: calls.append(len(args[0])) or original(*args, **kwargs))
    MonteCarloDropout(network, passes=20).tensor(tf.constant(real_images[:4]))
    assert calls[-1:] == [4]
    assert 80 not in calls
