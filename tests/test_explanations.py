"""Explanation maps against iNNvestigate itself, closed forms and eager TensorFlow; and the worker's life."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import keras
import matplotlib
import numpy as np
import psutil
import pytest
import tensorflow as tf
from keras import layers

from advlens import networks
from advlens.classifier import Classifier
from advlens.explanations import METHODS, colour_map, explain, process
from advlens.explanations.arguments import in_batches
from advlens.explanations.process import worker
from tests.make_explanation_reference import seeded_weights

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def images():
    with np.load(DATA / "mnist.npz") as stored:
        return stored["x"][200:264, ..., None].astype(np.float32) / 255


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "explanations_reference.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def reference_images(reference):
    return reference["images"].astype(np.float32) / 255


def build_reference_network(activation="relu"):
    network = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(6, 5, activation=activation, name="conv1"),
            layers.AveragePooling2D(2),
            layers.Dropout(0.5),
            layers.Conv2D(8, 3, activation=activation, name="conv2"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(16, activation=activation, name="hidden"),
            layers.Dense(10, name="logits"),
        ]
    )
    network.set_weights(seeded_weights())
    return network


@pytest.fixture(scope="module")
def network():
    return build_reference_network()


def assert_maps_equal(maps, expected):
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def image_gradient(network, images):
    """Gradient of the largest logit by the image, by Keras 3 in eager mode."""
    watched = tf.Variable(images)
    with tf.GradientTape() as tape:
        logit = tf.reduce_sum(tf.reduce_max(network(watched, training=False), axis=1))
    return tape.gradient(logit, watched).numpy()


# What the maps are


@pytest.mark.parametrize("method", METHODS)
def test_maps_equal_those_of_innvestigate_run_directly(network, reference, reference_images, method):
    expected = reference[method]
    if method in ("gradient", "guided_backprop", "deconvnet"):
        expected = expected * 2  # stored by the rescaled image 2x − 1, wanted by the image
    maps = explain(network, reference_images, method=method)
    assert maps.dtype == np.float32
    assert_maps_equal(maps, expected)


def test_a_wrong_neuron_gives_another_map(network, reference, reference_images):
    chosen = explain(network, reference_images, method="lrp.z", neuron=3)
    assert_maps_equal(chosen, reference["lrp.z of class 3"])
    assert np.abs(chosen - reference["lrp.z"]).max() > 0.1 * np.abs(reference["lrp.z"]).max()


def test_default_neuron_is_the_predicted_class_of_each_image(network, images):
    predicted = np.argmax(network(images), axis=1)
    assert len(np.unique(predicted)) > 1
    for method in ("deep_taylor", "gradient"):
        maps = explain(network, images, method=method)
        assert_maps_equal(maps, explain(network, images, method=method, neuron=predicted))
        wrong = explain(network, images, method=method, neuron=(predicted + 1) % 10)
        assert np.abs(wrong - maps).max() > 0.1 * np.abs(maps).max()


def test_all_neurons_add_up(network, images):
    each = [explain(network, images[:4], method="gradient", neuron=c) for c in range(10)]
    assert_maps_equal(explain(network, images[:4], method="gradient", neuron="all"), np.sum(each, axis=0))


@pytest.mark.parametrize("method", ["lrp.z", "deep_taylor", "deep_taylor.bounded"])
def test_relevance_of_a_network_without_biases_adds_up_to_the_logit(images, method):
    keras.utils.set_random_seed(0)  # weights whose winning logits are all positive
    network = networks.two_conv_cnn()
    network.set_weights([w if w.ndim > 1 else 0 * w for w in network.get_weights()])
    logits = np.max(network(images), axis=1)
    assert logits.min() > 0  # Deep Taylor explains max(0, logit)
    maps = explain(network, images, method=method)
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), logits, rtol=1e-3)


def test_gradient_equals_gradient_tape(network, images):
    assert_maps_equal(explain(network, images, method="gradient"), image_gradient(network, images))


def test_guided_backprop_equals_an_eager_implementation(network, images):
    @tf.custom_gradient
    def guided_relu(x):
        return tf.nn.relu(x), lambda upstream: tf.nn.relu(upstream) * tf.cast(x > 0, x.dtype)

    guided = image_gradient(build_reference_network(activation=guided_relu), images)
    logits = np.max(network(images), axis=1)
    assert logits.min() > 0
    guided *= logits[:, None, None, None]  # iNNvestigate starts from the logit
    assert_maps_equal(explain(network, images, method="guided_backprop"), guided)


def test_relevance_from_a_layer_on_is_that_of_its_inputs(network, images):
    hidden = keras.Model(network.inputs[0], network.get_layer("hidden").output)(images).numpy()
    kernel, _ = network.get_layer("logits").get_weights()
    predicted = np.argmax(network(images), axis=1)
    maps = explain(network, images, method="input_t_gradient", from_layer="logits")
    assert_maps_equal(maps, hidden * kernel.T[predicted])
    pooled = explain(network, images, from_layer="conv2")
    assert pooled.shape == (len(images), 12, 12, 6)


def test_functional_residual_network_equals_gradient_tape(images):
    inputs = keras.Input((28, 28, 1))
    rescaled = layers.Rescaling([0.5], offset=[0.25])(inputs)
    first = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2)(rescaled)))
    block = keras.Sequential([layers.Input((13, 13, 4)), layers.Conv2D(4, 3, padding="same")])
    added = layers.Activation("relu")(layers.Add()([first, block(first)]))
    pooled = layers.GlobalAveragePooling2D()(layers.Concatenate()([added, first]))
    network = keras.Model(inputs, layers.Dense(3)(pooled))
    assert_maps_equal(explain(network, images, method="gradient"), image_gradient(network, images))


def test_weights_changed_in_place_change_the_map(images):
    network = networks.two_conv_cnn()
    explain(network, images, method="gradient")
    network.set_weights([w + 0.01 for w in network.get_weights()])
    assert_maps_equal(explain(network, images, method="gradient"), image_gradient(network, images))


# What is refused, in a sentence


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"method": "deep_tailor"},
            "no explanation method is called 'deep_tailor': choose one of deep_taylor,",
        ),
        ({"neuron": 10}, r"labels must lie in \[0, 9\]"),
        ({"neuron": "best"}, "neuron must be"),
        ({"from_layer": "conv9"}, "no layer to explain is called 'conv9': choose one of conv1,"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"epsilon": 1}, "iNNvestigate refused 'deep_taylor' with options {'epsilon': 1}"),
        ({"method": "deep_taylor.bounded", "from_layer": "max_pooling2d"}, "first is 'max_pooling2d'"),
    ],
)
def test_arguments_that_cannot_be_taken_are_named(images, arguments, message):
    keras.utils.clear_session()  # so that the pooling layer's automatic name is known
    with pytest.raises(ValueError, match=message):
        explain(build_reference_network(), images, **arguments)


@pytest.mark.parametrize(
    ("layer", "method", "message"),
    [
        (layers.LayerNormalization(name="norm"), "gradient", r"layer 'norm' \(LayerNormalization\) can't be"),
        (layers.Activation("tanh", name="t"), "deep_taylor", r"layer 't' \(Activation\) has the activation"),
        (layers.Rescaling(2.0, name="twice"), "gradient", r"layer 'twice' \(Rescaling\) can't be"),
        (layers.Softmax(name="s"), "gradient", "layer 's' is a softmax: explanations want logits"),
    ],
)
def test_layers_that_cannot_be_taken_are_named(images, layer, method, message):
    network = keras.Sequential(
        [layers.Input((28, 28, 1)), layers.Conv2D(2, 3), layer, layers.Flatten(), layers.Dense(10)]
    )
    with pytest.raises(ValueError, match=message):
        explain(network, images, method=method)


def test_a_softmax_at_the_end_is_cut_and_a_classifier_is_taken(images):
    with_head = keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10, "softmax", name="p")])
    bare = keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    bare.set_weights(with_head.get_weights())
    with pytest.warns(UserWarning, match="ends in a softmax: it is cut off"):
        maps = explain(with_head, images)
    np.testing.assert_array_equal(maps, explain(bare, images))
    np.testing.assert_array_equal(maps, explain(Classifier(bare), images))


def drawn(network):
    """The network with weights that are not small, and variances that matter."""
    rng = np.random.default_rng(0)
    for weight in network.weights:
        is_variance = "variance" in weight.path
        weight.assign(rng.uniform(0.05, 3, weight.shape) if is_variance else rng.normal(0, 0.5, weight.shape))
    return network


MIDDLES = {
    "normalised vectors": [layers.Flatten(), layers.Dense(6), layers.BatchNormalization(epsilon=0.1), layers.ReLU()],
    "ε of the normalisation": [layers.Conv2D(3, 3), layers.BatchNormalization(epsilon=0.1), layers.ReLU()],
    "groups": [layers.Conv2D(4, 3, groups=2, activation="relu")],
    "depthwise": [layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")],
    "separable": [layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2, activation="relu")],
    "cropping": [layers.Conv2D(3, 3, activation="relu"), layers.Cropping2D(1)],
    "upsampling": [layers.Conv2D(3, 3, activation="relu"), layers.UpSampling2D(2)],
    "permuted": [layers.Conv2D(3, 3, activation="relu"), layers.Permute((2, 3, 1))],
    "transposed": [layers.Conv2DTranspose(3, 3, strides=2, activation="relu")],
    "leaky": [layers.Conv2D(3, 3), layers.LeakyReLU(negative_slope=0.2)],
}
KEEP_RELEVANCE = ("groups", "depthwise", "cropping", "upsampling", "permuted", "transposed")  # without biases


@pytest.mark.parametrize("middle", MIDDLES)
def test_further_layers_are_explained_as_they_compute(middle):
    network = drawn(keras.Sequential([layers.Input((8, 8, 2)), *MIDDLES[middle], layers.Flatten(), layers.Dense(4)]))
    images = np.random.default_rng(1).random((3, 8, 8, 2), dtype=np.float32)
    assert_maps_equal(explain(network, images, method="gradient"), image_gradient(network, images))
    if middle in KEEP_RELEVANCE:
        for weight in network.weights:
            if "bias" in weight.path:
                weight.assign(np.zeros(weight.shape))
        sums = explain(network, images, method="lrp.z").sum(axis=(1, 2, 3))
        np.testing.assert_allclose(sums, network(images).numpy().max(axis=1), rtol=1e-3)
    if middle == "leaky":
        with pytest.raises(ValueError, match="has the activation 'leaky_relu', but 'deep_taylor' takes ReLU only"):
            explain(network, images)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "input_t_gradient"])
def test_normalised_vectors_are_explained_as_the_dense_layer_that_they_equal(method):
    # Relevance takes iNNvestigate's own rule for the normalisation, which is not that of the folded layer.
    normalised = [layers.Dense(6), layers.BatchNormalization(epsilon=0.1), layers.ReLU()]
    network = drawn(keras.Sequential([layers.Input((8, 8, 2)), layers.Flatten(), *normalised, layers.Dense(4)]))
    kernel, bias, gamma, beta, mean, variance, *last = network.get_weights()
    scale = gamma / np.sqrt(variance + 0.1)
    folded = keras.Sequential([layers.Input((8, 8, 2)), layers.Flatten(), layers.Dense(6, "relu"), layers.Dense(4)])
    folded.set_weights([kernel * scale, (bias - mean) * scale + beta, *last])
    images = np.random.default_rng(1).random((3, 8, 8, 2), dtype=np.float32)
    assert_maps_equal(explain(network, images, method=method), explain(folded, images, method=method))
    assert explain(network, images, method="deep_taylor").any()


def test_a_layer_that_is_used_twice_is_two():
    inputs = keras.Input((8, 8, 2))
    shared = layers.Conv2D(2, 3, padding="same", activation="relu", name="shared")
    outputs = layers.Dense(4)(layers.Flatten()(shared(shared(inputs))))
    network = drawn(keras.Model(inputs, outputs))
    images = np.random.default_rng(1).random((3, 8, 8, 2), dtype=np.float32)
    assert_maps_equal(explain(network, images, method="gradient"), image_gradient(network, images))


@pytest.mark.parametrize("join", [layers.Average, layers.Maximum])
def test_branches_are_joined_as_they_compute(join):
    inputs = keras.Input((8, 8, 2))
    branches = [layers.Conv2D(3, 3, activation="relu")(inputs) for _ in range(2)]
    network = drawn(keras.Model(inputs, layers.Dense(4)(layers.Flatten()(join()(branches)))))
    images = np.random.default_rng(1).random((3, 8, 8, 2), dtype=np.float32)
    assert_maps_equal(explain(network, images, method="gradient"), image_gradient(network, images))


@pytest.mark.parametrize("blocks", [1, 2])
def test_relevance_is_counted_once_a_branch_and_that_is_said(blocks):
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(2, 3, padding="same", activation="relu", use_bias=False)(inputs)
    for number in range(blocks):
        branch = layers.Conv2D(2, 3, padding="same", activation="relu", use_bias=False)(x)
        x = layers.Add(name=f"add{number}")([x, branch])
    network = keras.Model(inputs, layers.Dense(3, use_bias=False)(layers.Flatten()(x)))
    for weight in network.weights:
        weight.assign(np.abs(weight))  # all contributions excite
    images = np.random.default_rng(1).random((2, 6, 6, 1), dtype=np.float32)
    with pytest.warns(UserWarning, match="counts relevance once for each branch of add0"):
        sums = explain(network, images).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sums / network(images).numpy().max(axis=1), 2.0**blocks, rtol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(network, images, from_layer=network.layers[-1].name)  # no Add is left


def test_noise_before_the_first_layer_does_not_take_its_rule():
    convolution = layers.Conv2D(2, 3, activation="relu")
    tail = [convolution, layers.Flatten(), layers.Dense(3)]
    noisy = keras.Sequential([layers.Input((6, 6, 1)), layers.GaussianNoise(0.1), *tail])
    plain = keras.Sequential([layers.Input((6, 6, 1)), *tail])
    images = np.random.default_rng(1).random((2, 6, 6, 1), dtype=np.float32)
    maps = [explain(network, images, method="deep_taylor.bounded") for network in (noisy, plain)]
    np.testing.assert_array_equal(*maps)


def test_where_memory_is_short_smaller_batches_give_the_same_maps(network, images, monkeypatch):
    def analyze(batch, _):
        if len(batch) > 10:
            raise MemoryError
        return 2 * batch

    with pytest.warns(UserWarning, match="out of memory: going on with 8 images at once"):
        made = in_batches(analyze, images, None, 32, "lrp.z")
    np.testing.assert_array_equal(made, 2 * images)
    monkeypatch.setattr(process.WorkerProcess, "_receive", lambda _: ("no memory", None))
    with pytest.raises(MemoryError, match=r"one image of .* needs more memory"):
        explain(network, images[:1])


# The worker's life


def assert_well(network, reference, reference_images):
    assert_maps_equal(explain(network, reference_images), reference["deep_taylor"])


def test_a_killed_worker_is_replaced(network, reference, reference_images):
    explain(network, reference_images)
    killed = worker().pid
    os.kill(killed, signal.SIGKILL)
    assert_well(network, reference, reference_images)
    assert worker().pid != killed


def test_a_worker_killed_in_mid_call_is_replaced_and_the_batch_repeated(network, images):
    many = np.tile(images, (64, 1, 1, 1))
    expected = np.tile(explain(network, images), (64, 1, 1, 1))
    timer = threading.Timer(0.1, os.kill, (worker().pid, signal.SIGKILL))
    timer.start()
    assert_maps_equal(explain(network, many), expected)
    timer.join()


def test_a_worker_that_cannot_start_is_an_error_with_its_last_lines(network, images, monkeypatch):
    worker().close()
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(RuntimeError, match=r"(?s)died twice \(exit code 1, last lines: .*\): where memory"):
        explain(network, images)


def test_an_interrupted_call_leaves_the_next_one_right(monkeypatch, network, images, reference, reference_images):
    explain(network, images)

    def interrupted(self):
        raise KeyboardInterrupt  # as by Ctrl-C, with the request sent and its answer still in the pipe

    with monkeypatch.context() as patch:
        patch.setattr(process.WorkerProcess, "_receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            explain(network, images)
    assert_well(network, reference, reference_images)


def _explain_in_child(network, images, connection):
    connection.send((worker().pid, explain(network, images), worker().pid))


def test_forked_processes_have_workers_of_their_own(network, reference, reference_images):
    explain(network, reference_images)
    context = multiprocessing.get_context("fork")
    children = []
    for _ in range(2):
        ours, theirs = context.Pipe()
        child = context.Process(target=_explain_in_child, args=(network, reference_images, theirs))
        child.start()
        children.append((child, ours))
    pids = {worker().pid}
    assert_well(network, reference, reference_images)
    for child, ours in children:
        assert ours.poll(60), "the child hangs"
        before, maps, pid = ours.recv()
        assert before is None
        assert_maps_equal(maps, reference["deep_taylor"])
        pids.add(pid)
        child.join(10)
    assert len(pids) == 3


def test_threads_take_turns(network, reference, reference_images):
    failures = []

    def call(method):
        try:
            maps = explain(network, reference_images, method=method, batch_size=1)
            assert_maps_equal(maps, reference[method])
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=call, args=(method,)) for method in ("deep_taylor", "lrp.z") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_worker_ends_with_its_parent_even_if_that_is_killed():
    program = (
        "import numpy as np, time\n"
        "from advlens import networks\n"
        "from advlens.explanations import explain\n"
        "from advlens.explanations.process import worker\n"
        "explain(networks.two_conv_cnn(), np.zeros((1, 28, 28, 1), np.float32))\n"
        "print(worker().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, _ = psutil.wait_procs([child], timeout=10)
    assert gone


def test_memory_stays_bounded_over_many_images_and_networks(network, images):
    def worker_megabytes():
        return psutil.Process(worker().pid).memory_info().rss / 2**20

    def explain_small_networks(count):
        for _ in range(count):
            small = keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
            explain(small, images[:1], method="gradient")

    explain(network, np.tile(images, (16, 1, 1, 1)))
    before = worker_megabytes()
    maps = explain(network, np.tile(images, (160, 1, 1, 1))[:10_000])
    assert maps.shape == (10_000, 28, 28, 1)
    assert worker_megabytes() - before < 60  # the images and the maps are 30 MiB each

    explain_small_networks(12)
    before = worker_megabytes()
    explain_small_networks(24)
    assert worker_megabytes() - before < 12


def test_the_worker_says_nothing(capfd, network, images):
    worker().close()
    started = time.monotonic()
    explain(network, images)
    assert time.monotonic() - started < 60
    assert capfd.readouterr().err == ""


# Colours


def test_colours_are_jet_with_green_for_nothing():
    jet = matplotlib.colormaps["jet"]
    relevance = np.random.default_rng(0).normal(size=(3, 5, 5, 2))
    summed = relevance.sum(axis=-1)
    scaled = summed / np.abs(summed).max(axis=(1, 2), keepdims=True)
    colours = colour_map(relevance)
    assert colours.dtype == np.float32
    np.testing.assert_allclose(colours, jet((scaled + 1) / 2)[..., :3], atol=1e-6)
    np.testing.assert_allclose(colour_map(np.zeros((1, 2, 2, 1)))[0, 0, 0], jet(0.5)[:3], atol=1e-6)


def test_red_speaks_for_and_blue_against():
    colours = colour_map(np.array([1.0, 0.0, -1.0]).reshape(1, 1, 3, 1))[0, 0]
    assert [int(np.argmax(colour)) for colour in colours] == [0, 1, 2]


def test_colours_want_finite_maps():
    with pytest.raises(ValueError, match="maps must be finite"):
        colour_map(np.full((1, 2, 2, 1), np.nan))
