"""Feature responses and their local entropy, against scikit-image, brute force, and TensorFlow's own gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from skimage.filters.rank import entropy as rank_entropy

from advlens import networks
from advlens.explanations import explain
from advlens.explanations.entropy import average_local_entropy, grey_levels, local_entropy
from advlens.explanations.responses import PREDICTED, responses, up_to


@pytest.fixture(scope="module")
def levels():
    return np.random.default_rng(0).integers(0, 6, (5, 20, 23)).astype(np.uint8)


def by_hand(picture, *, window, stride):
    rows = range(0, picture.shape[0] - window + 1, stride)
    columns = range(0, picture.shape[1] - window + 1, stride)
    made = np.empty((len(rows), len(columns)))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            shares = np.unique(picture[i : i + window, j : j + window], return_counts=True)[1] / window**2
            made[a, b] = -(shares * np.log2(shares)).sum()
    return made


@pytest.mark.parametrize("window", [3, 5])
def test_local_entropy_is_scikit_image_s_where_the_window_lies_inside(levels, window):
    inside = slice(window // 2, -(window // 2))
    expected = [rank_entropy(picture, np.ones((window, window)))[inside, inside] for picture in levels]
    np.testing.assert_allclose(local_entropy(levels, window=window), expected, atol=1e-5)


@pytest.mark.parametrize(("window", "stride"), [(2, 1), (3, 3), (4, 2), (17, 1), (20, 1)])
def test_local_entropy_is_what_the_definition_says(levels, window, stride):
    expected = [by_hand(picture, window=window, stride=stride) for picture in levels]
    np.testing.assert_allclose(local_entropy(levels, window=window, stride=stride), expected, atol=1e-5)


def test_local_entropy_lies_between_its_bounds():
    flat, distinct = np.zeros((1, 9, 9), np.uint8), np.arange(81, dtype=np.uint8).reshape(1, 9, 9)
    np.testing.assert_array_equal(local_entropy(flat), 0)
    np.testing.assert_allclose(local_entropy(distinct), np.log2(9), rtol=1e-6)


def test_an_entropy_does_not_depend_on_the_maps_around_it(monkeypatch):
    maps = np.random.default_rng(1).normal(size=(7, 12, 12, 1))
    together = average_local_entropy(maps)
    monkeypatch.setattr("advlens.explanations.entropy.CHUNK", 2000)  # two maps at a time
    np.testing.assert_array_equal(average_local_entropy(maps), together)
    np.testing.assert_array_equal([average_local_entropy(each[None])[0] for each in maps], together)


def test_grey_levels_span_each_map_as_the_normalisation_says():
    maps = np.array([-1.0, 0.0, 1.0, 3.0]).reshape(1, 2, 2, 1) * np.array([1, 10]).reshape(2, 1, 1, 1)
    expected = {"minmax": [0, 2, 4, 7], "absolute": [2, 0, 2, 7], "symmetric": [2, 4, 5, 7]}
    for normalisation, values in expected.items():
        made = grey_levels(maps, bins=8, normalisation=normalisation)
        np.testing.assert_array_equal(made.reshape(2, 4), [values, values])
    np.testing.assert_array_equal(
        grey_levels(-maps, bins=8, normalisation="symmetric").reshape(2, 4), [[5, 4, 2, 0]] * 2
    )
    np.testing.assert_array_equal(grey_levels(-1 - maps[:1] * 0.1, normalisation="absolute").max(), 255)
    np.testing.assert_array_equal(grey_levels(np.full((1, 3, 3, 1), 7.0)), 0)
    colours = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    np.testing.assert_array_equal(grey_levels(colours), grey_levels(colours.mean(axis=-1, keepdims=True)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 40}, "window must be at most 28"),
        ({"window": 0}, "window must be a whole number, 1 or more"),
        ({"stride": 1.5}, "stride must be a whole number"),
        ({"bins": 1}, "bins must be a whole number, 2 or more"),
        ({"bins": 300}, "bins must be at most 256"),
        ({"normalisation": "z-score"}, "no normalisation is called 'z-score'"),
    ],
)
def test_wrong_options_of_the_entropy_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        average_local_entropy(np.zeros((2, 28, 28, 1)), **given)


def test_wrong_maps_are_named():
    with pytest.raises(ValueError, match="maps must be floats with a pixel and a channel at least"):
        average_local_entropy(np.zeros((2, 28, 28, 1), int))
    with pytest.raises(ValueError, match="maps must be floats with a pixel and a channel at least"):
        average_local_entropy(np.zeros((2, 28, 28, 0)))
    with pytest.raises(ValueError, match="maps must have shape"):
        average_local_entropy(np.zeros((2, 28, 28)))
    with pytest.raises(ValueError, match="maps must be finite"):
        average_local_entropy(np.full((2, 28, 28, 1), np.nan))
    with pytest.raises(ValueError, match="levels must be"):
        local_entropy(np.zeros((2, 28, 28)))


def test_responses_of_a_layer_are_its_back_projection(max_pooling_classifier, real_images):
    network, images = max_pooling_classifier.model, real_images[:6]
    layer = keras.Model(network.inputs, network.get_layer("conv2").output)
    with tf.GradientTape() as tape:
        x = tf.Variable(images)
        total = tf.reduce_sum(layer(x))
    np.testing.assert_allclose(responses(network, images, method="gradient"), tape.gradient(total, x), atol=1e-5)

    @tf.custom_gradient
    def guided_relu(z):
        return tf.nn.relu(z), lambda g: g * tf.cast(z > 0, g.dtype) * tf.cast(g > 0, g.dtype)

    with tf.GradientTape() as tape:
        first, second = network.get_layer("conv1"), network.get_layer("conv2")
        hidden = guided_relu(tf.nn.conv2d(x, first.kernel, 1, "VALID") + first.bias)
        outputs = guided_relu(
            tf.nn.conv2d(tf.nn.max_pool2d(hidden, 2, 2, "VALID"), second.kernel, 1, "VALID") + second.bias
        )
        activations = tf.stop_gradient(outputs)
        total = tf.reduce_sum(outputs * activations)
    np.testing.assert_allclose(responses(network, images), tape.gradient(total, x), atol=2e-4, rtol=1e-4)


def test_responses_of_a_named_layer_are_of_that_layer(max_pooling_classifier, real_images):
    network, images = max_pooling_classifier.model, real_images[:3]
    named, last = (responses(network, images, of=layer) for layer in ("conv1", "last convolution"))
    expected = explain(up_to(network, "conv1"), images, method="guided_backprop", neuron="all")
    np.testing.assert_array_equal(named, expected)
    assert np.abs(named - last).max() > 0.01


def test_responses_of_the_class_are_those_of_the_decision(max_pooling_classifier, real_images):
    network, images = max_pooling_classifier.model, real_images[:4]
    np.testing.assert_array_equal(
        responses(network, images, method="deconvnet", of=PREDICTED), explain(network, images, method="deconvnet")
    )


def test_the_last_convolution_is_never_the_one_that_makes_the_logits():
    assert networks.last_convolution(networks.build("average_pooling_cnn")).name == "conv3"
    assert networks.last_convolution(networks.build("two_conv_cnn")).name == "conv2"
    dense = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="network 'plain' has no convolution before its logits"):
        networks.last_convolution(dense)


def test_wrong_methods_and_layers_of_responses_are_named(max_pooling_classifier, real_images):
    with pytest.raises(TypeError, match="network must be a Keras model, got Classifier: of a Classifier pass"):
        responses(max_pooling_classifier, real_images[:1])
    with pytest.raises(ValueError, match="no response method is called 'deep_taylor'"):
        responses(max_pooling_classifier.model, real_images[:1], method="deep_taylor")
    with pytest.raises(ValueError, match="no layer is called 'conv9': choose one of conv1, pool1"):
        up_to(max_pooling_classifier.model, "conv9")
