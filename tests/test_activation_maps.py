"""Class activation maps against what they are defined by, and Grad-CAM against them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from advlens.explanations.activation import class_activation_maps, grad_cam
from advlens.explanations.similarity import rank_correlation, top_overlap
from advlens.networks import global_pooling_cnn, two_conv_cnn


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    network = global_pooling_cnn()
    network.layers[-1].bias.assign(np.linspace(-1, 1, 10))
    return network


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((6, 28, 28, 1)).astype(np.float32)


def small_maps(network, images, neurons):
    """(n, 7, 7, 64) parts of the channels in those logits, before anything is summed or enlarged."""
    channels = images
    for layer in network.layers[:-2]:
        channels = layer(channels)
    return channels.numpy() * network.layers[-1].kernel.numpy().T[neurons][:, None, None]


def test_a_map_s_mean_and_the_bias_are_the_logit(network, images):
    neurons = np.arange(6)
    logits = network.predict(images, verbose=0)[np.arange(6), neurons]
    parts = small_maps(network, images, neurons)
    np.testing.assert_allclose(parts.sum(-1).mean((1, 2)) + network.layers[-1].bias.numpy()[:6], logits, atol=1e-5)
    enlarged = tf.image.resize(parts.sum(-1, keepdims=True), (28, 28)).numpy()
    np.testing.assert_allclose(class_activation_maps(network, images, neuron=neurons), enlarged, atol=1e-5)


def test_as_published_the_last_channel_alone_is_seen(network, images):
    enlarged = tf.image.resize(small_maps(network, images, np.full(6, 3))[..., -1:], (28, 28)).numpy()
    found = class_activation_maps(network, images, neuron=3, as_published=True)
    np.testing.assert_allclose(found, enlarged, atol=1e-6)
    assert np.abs(found - class_activation_maps(network, images, neuron=3)).max() > 1e-3


def test_the_predicted_class_is_explained_unless_told_another(network, images):
    predicted = network.predict(images, verbose=0).argmax(axis=1)
    for maps in (class_activation_maps, grad_cam):
        np.testing.assert_array_equal(maps(network, images), maps(network, images, neuron=predicted))
        assert np.abs(maps(network, images, neuron=(predicted + 1) % 10) - maps(network, images)).max() > 0


def test_before_global_pooling_grad_cam_is_the_positive_part_of_cam(network, images):
    """The gradient of a logit by a channel's place is the weight of its mean over the number of places."""
    parts = small_maps(network, images, np.full(6, 2)).sum(-1, keepdims=True) / 49
    expected = tf.image.resize(np.maximum(parts, 0), (28, 28)).numpy()
    np.testing.assert_allclose(grad_cam(network, images, neuron=2, layer="pool2"), expected, atol=1e-7)


def test_grad_cam_takes_any_network_and_defaults_to_its_last_convolution(images):
    network = two_conv_cnn()
    maps = grad_cam(network, images)
    assert (maps.shape, maps.dtype) == ((6, 28, 28, 1), np.float32)
    assert maps.min() >= 0
    np.testing.assert_array_equal(maps, grad_cam(network, images, layer="conv2"))
    one_by_one = np.concatenate([grad_cam(network, images[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(one_by_one, maps, atol=1e-7)


def test_overlap_counts_the_highest_pixels_that_two_maps_share():
    rng = np.random.default_rng(0)
    maps, others = rng.random((2, 5, 10, 10, 1))
    for row, found in enumerate(top_overlap(maps, others)):
        tops = [set(np.argsort(-part[row].ravel())[:20]) for part in (maps, others)]
        assert found == len(tops[0] & tops[1]) / 20
    np.testing.assert_array_equal(top_overlap(maps, maps), 1)
    np.testing.assert_array_equal(top_overlap(maps, -maps), 0)


@pytest.mark.parametrize("share", [0, -1, 2])
def test_a_share_of_the_pixels_is_one(share):
    with pytest.raises(ValueError, match=f"share must be above 0 and at most 1, got {share}"):
        top_overlap(np.zeros((1, 2, 2, 1)), np.zeros((1, 2, 2, 1)), share=share)


def test_tied_pixels_count_by_their_chance():
    """Most of a digit's map is zero: which of the zeros count must not be what two maps share."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 10, 10, 1))
    np.testing.assert_allclose(top_overlap(np.zeros_like(maps), maps), 0.2)
    sparse = np.where(rng.random(maps.shape) < 0.1, maps**2, 0)
    drawn = [top_overlap(sparse + 1e-9 * rng.random(maps.shape), maps) for _ in range(400)]
    np.testing.assert_allclose(top_overlap(sparse, maps), np.mean(drawn, axis=0), atol=0.02)


def test_bad_input_is_named(network, images):
    with pytest.raises(ValueError, match="must end in global average pooling and a dense layer"):
        class_activation_maps(two_conv_cnn(), images)
    with pytest.raises(ValueError, match="no layer is called 'conv9': choose one of conv1, pool1"):
        grad_cam(network, images, layer="conv9")
    with pytest.raises(ValueError, match="layer 'logits' has no places"):
        grad_cam(network, images, layer="logits")
    for maps in (class_activation_maps, grad_cam):
        with pytest.raises(ValueError, match="labels must lie in"):
            maps(network, images, neuron=12)
        with pytest.raises(ValueError, match='neuron must be "predicted"'):
            maps(network, images, neuron="all")
        with pytest.raises(ValueError, match="images must lie in"):
            maps(network, images * 255)


def test_a_shared_faint_background_makes_no_maps_alike():
    rng = np.random.default_rng(0)
    maps = rng.random((5, 10, 10, 1)) / 100
    others = maps.copy()
    maps[:, 3:7, 3:7], others[:, 3:7, 3:7] = 1 + rng.random((2, 5, 4, 4, 1))
    by_default = rank_correlation(maps, others)
    np.testing.assert_array_equal(by_default, rank_correlation(maps, others, share=0.2))
    assert (by_default < rank_correlation(maps, others, share=1)).all()


def test_a_shared_black_background_makes_no_maps_alike():
    rng = np.random.default_rng(0)
    maps, others = np.zeros((2, 5, 10, 10, 1))
    maps[:, 3:7, 3:7], others[:, 3:7, 3:7] = rng.random((2, 5, 4, 4, 1))
    assert np.abs(rank_correlation(maps, others)).max() < 0.7  # of 16 pixels
    assert rank_correlation(maps, others, share=1).min() > -0.4
    inside = [
        spearmanr(*(each[3:7, 3:7].ravel() for each in pair)).statistic for pair in zip(maps, others, strict=True)
    ]
    np.testing.assert_allclose(rank_correlation(maps, others), inside)
    whole = [spearmanr(*(each.ravel() for each in pair)).statistic for pair in zip(maps, others, strict=True)]
    assert (np.array(whole) > 0.9).all()  # what the background does
