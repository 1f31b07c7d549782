"""Native maps against iNNvestigate's, closed forms and finite differences."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from advlens.explanations import METHODS, explain, native
from advlens.explanations.activation import grad_cam
from advlens.explanations.describe import IMAGE, Request, describe
from advlens.explanations.process import worker

FIXED = [name for name in native.METHODS if name not in ("grad_cam", "lrp.alpha_beta")]
KEEPS = ("lrp.z", "lrp.epsilon", "lrp.alpha_1_beta_0", "lrp.z_plus", "deep_taylor", "deep_taylor.bounded")


def explained(network, images, method, **options):
    """Native maps; that biases take up relevance is no matter here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="maps by")
        return explain(network, images, method=method, engine="native", **options)


def uniform(n, *shape, seed=1):
    return np.random.default_rng(seed).random((n, *shape), dtype=np.float32)


def drawn(network, *, seed=0, biases=True):
    """The network with weights of a size that keeps activations, and variances that matter."""
    rng = np.random.default_rng(seed)
    for weight in network.weights:
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.3, 2, weight.shape) if biases else np.ones(weight.shape))
        elif weight.shape.rank > 1:
            weight.assign(rng.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape))
        elif "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(rng.normal(0, 0.1, weight.shape) * biases)
    return network


def functional(make, shape=(8, 8, 2)):
    image = keras.Input(shape)
    return keras.Model(image, layers.Dense(4)(layers.Flatten()(make(image))))


def sequential(*middle, shape=(8, 8, 2)):
    return keras.Sequential([layers.Input(shape), *middle, layers.Flatten(), layers.Dense(4)])


# Against iNNvestigate


def random_network(seed, *, plain):
    """A network of random layers, or (plain) the same function as iNNvestigate's rules want it.

    Batch normalisations are folded there: iNNvestigate takes the variance for a deviation and leaves γ out of the
    shift. ReLU layers are in the layers before them: its Deep Taylor drops at a ReLU layer what averages gave to zeros.
    """
    rng, made = np.random.default_rng(seed), [layers.Input((14, 14, 2))]
    made += [layers.Rescaling(2.0, offset=-1.0)] * int(rng.integers(2))

    def add(kind, *sizes, **options):
        normalised, apart = rng.random(2) < 0.4
        fused = plain or not (normalised or apart)
        made.append(kind(*sizes, activation="relu" if fused else None, **options))
        made.extend([] if fused else [layers.BatchNormalization()] * int(normalised) + [layers.ReLU()])
        made.append(layers.Dropout(0.5))

    for _ in range(2):
        filters, size, strides = (int(rng.integers(*ends)) for ends in ((3, 7), (2, 4), (1, 3)))
        add(layers.Conv2D, filters, size, strides=strides, padding=str(rng.choice(["same", "valid"])))
        pool = [None, layers.MaxPooling2D, layers.AveragePooling2D][rng.integers(3)]
        made.extend([pool(2, padding="same")] if pool else [])
    made.append([layers.Flatten, layers.GlobalAveragePooling2D][rng.integers(2)]())
    add(layers.Dense, 9)
    return keras.Sequential([*made, layers.Dense(4)])


def folded_weights(network):
    weights = []
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            scale = gamma / np.sqrt(variance + layer.epsilon)
            weights[-2:] = weights[-2] * scale, (weights[-1] - mean) * scale + beta
        else:
            weights += layer.get_weights()
    return weights


def innvestigate(network, images, method, **options):
    """Its maps by any of its names."""
    if method in METHODS:
        return explain(network, images, method=method, **options)
    description = describe(network)
    request = Request(description.digest(), method, "max_activation", IMAGE, options)
    return worker().analyze(request, description, images, None)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_maps_equal_those_of_innvestigate_on_random_networks(seed):
    network, plain = drawn(random_network(seed, plain=False), seed=seed), random_network(seed, plain=True)
    plain.set_weights(folded_weights(network))
    images = uniform(4, 14, 14, 2)
    np.testing.assert_allclose(network(images), plain(images), atol=1e-4)
    for method in FIXED:
        expected = innvestigate(plain, images, method)
        assert np.abs(expected).max() > 0
        maps = explained(network, images, method)
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=method)


OPTIONS = (
    {"neuron": 2},
    {"neuron": np.array([3, 0, 1])},
    {"neuron": "all", "method": "gradient"},
    {"from_layer": "middle", "method": "lrp.z"},
    {"method": "lrp.epsilon", "epsilon": 0.5},
    {"method": "deep_taylor.bounded", "low": -1.0, "high": np.array([1.0, 2.0], np.float32)},
    {"batch_size": 2},
)


@pytest.mark.parametrize("options", OPTIONS)
def test_arguments_mean_what_they_mean_for_innvestigate(options):
    inner = [layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(2), layers.Conv2D(3, 2, name="middle")]
    network, images = drawn(sequential(*inner)), uniform(3, 8, 8, 2)
    expected = explain(network, images, **options)
    maps = explained(network, images, **({"method": "deep_taylor"} | options))
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_grad_cam_is_that_of_activation(mnist, max_pooling_classifier):
    for layer in (None, "conv1"):
        expected = grad_cam(max_pooling_classifier.model, mnist[0][:5], layer=layer)
        options = {"layer": layer} if layer else {}
        maps = explained(max_pooling_classifier, mnist[0][:5], "grad_cam", **options)
        np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * expected.max())


# Layers


def conv(filters=3, activation="relu", **options):
    return layers.Conv2D(filters, 3, activation=activation, **options)


def rectified(layer):
    return layer, layers.BatchNormalization(), layers.ReLU()


def residual(*, blocks=2):
    def make(x):
        x = conv(4, padding="same")(x)
        for _ in range(blocks):
            branch = layers.BatchNormalization()(conv(4, None, padding="same")(x))
            x = layers.ReLU()(layers.Add()([x, branch]))
        return layers.GlobalAveragePooling2D()(x)

    return functional(make)


def gated(x):
    gate = layers.Dense(3, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    return layers.Multiply()([conv()(x), layers.Reshape((1, 1, 3))(gate)])


def twice(x):
    shared = conv(2, padding="same", name="shared")
    first, second = keras.ops.split(conv(4)(shared(shared(x))), 2, axis=-1)
    return first + first + second


def adapted():
    layer = layers.Normalization()
    layer.adapt(uniform(50, 8, 8, 2))
    return layer


def nested(x):
    backbone = keras.Sequential([layers.Input((8, 8, 3)), *rectified(conv(activation=None))], name="backbone")
    return backbone(conv(activation=None, padding="same")(x))


def one_dimension():
    return layers.Reshape((16, 8)), layers.Conv1D(4, 3, padding="causal", activation="relu"), layers.MaxPooling1D(2)


LAYERS = {
    "groups": lambda: sequential(conv(4, groups=2)),
    "depthwise": lambda: sequential(*rectified(layers.DepthwiseConv2D(3, depth_multiplier=2))),
    "separable": lambda: sequential(layers.SeparableConv2D(5, 3, strides=2, depth_multiplier=2, activation="relu")),
    "transposed": lambda: sequential(*rectified(layers.Conv2DTranspose(3, 3, strides=2))),
    "one dimension": lambda: sequential(*one_dimension()),
    "padding": lambda: sequential(layers.ZeroPadding2D(2), conv(), layers.Cropping2D(1), layers.SpatialDropout2D(0.2)),
    "resizing": lambda: sequential(conv(), layers.UpSampling2D(2, interpolation="bilinear"), layers.Resizing(7, 7)),
    "ReLU6": lambda: sequential(conv(activation=None), layers.ReLU(6.0), conv(activation="relu6")),
    "used twice": lambda: functional(twice),
    "nested": lambda: functional(nested),
    "residual": residual,
    "differences": lambda: functional(lambda x: layers.ReLU()(layers.Subtract()([conv()(x), conv()(x)]))),
    "joined": lambda: functional(lambda x: layers.Concatenate()([conv()(x), layers.Maximum()([conv()(x), conv()(x)])])),
}
SHIFTED = {  # Deep Taylor does not take them, or a shift takes up relevance
    "gated": lambda: functional(gated),
    "leaky": lambda: sequential(conv(activation=None), layers.LeakyReLU(0.2), conv(activation="leaky_relu")),
    "smooth": lambda: sequential(conv(activation="gelu"), conv(activation="swish"), layers.Activation("tanh")),
    "layer norm": lambda: sequential(conv(), layers.LayerNormalization(), layers.LayerNormalization(axis=[1, 2, 3])),
    "adapted": lambda: sequential(adapted(), conv()),
    "operators": lambda: functional(lambda x: conv()(x / 255.0 * 200 - 0.1) + keras.ops.relu(conv()(x) * 2)),
    "normalised late": lambda: sequential(conv(), layers.BatchNormalization(), layers.MaxPooling2D(2), conv()),
}


@pytest.mark.parametrize("name", LAYERS | SHIFTED)
def test_layers_are_explained_as_they_compute(name):
    network, images = drawn((LAYERS | SHIFTED)[name]()), uniform(3, 8, 8, 2)
    watched = tf.Variable(images)
    with tf.GradientTape() as tape:
        logit = tf.reduce_sum(tf.reduce_max(network(watched, training=False), axis=1))
    expected = tape.gradient(logit, watched).numpy()
    maps = explained(network, images, "gradient")
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert 0 < np.abs(explained(network, images, "lrp.epsilon")).max() < np.abs(network(images)).max()
    if name in LAYERS:
        drawn(network, biases=False)
        assert_kept(network, images, ("lrp.z", "lrp.z_plus", "deep_taylor"))


def assert_kept(network, images, methods, **tolerance):
    logits = network(images, training=False).numpy().max(axis=1)
    for method in methods:
        sums = explained(network, images, method).sum(axis=(1, 2, 3))
        expected = np.maximum(logits, 0) if "taylor" in method else logits
        np.testing.assert_allclose(sums, expected, **({"rtol": 2e-3, "atol": 1e-6} | tolerance), err_msg=method)


PLACES = {
    "before ReLU": lambda norm: [conv(activation=None), norm, layers.ReLU(), layers.MaxPooling2D(2)],
    "after ReLU": lambda norm: [conv(), norm, layers.MaxPooling2D(2), conv()],
    "vectors": lambda norm: [layers.Flatten(), layers.Dense(3), norm, layers.ReLU()],
    "vectors after ReLU": lambda norm: [layers.Flatten(), layers.Dense(3, "relu"), norm, layers.Dense(5, "relu")],
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("gamma", "variance"), [(0.0, 1.0), (1.0, 1e-12)])
def test_relevance_passes_dead_and_constant_normalisations(place, gamma, variance):
    norm = layers.BatchNormalization(epsilon=1e-7)
    network, images = drawn(sequential(*PLACES[place](norm)), biases=False), uniform(4, 8, 8, 2)
    norm.gamma.assign([gamma, 1, 1])
    norm.moving_variance.assign([variance, 1, 1])
    assert_kept(network, images, KEEPS)
    norm.beta.assign([0.3, -0.3, 0.3])  # takes up relevance, but none appears
    logits = network(images).numpy().max(axis=1)
    for method in ("lrp.z", "deep_taylor"):
        assert np.abs(explained(network, images, method).sum(axis=(1, 2, 3))).max() < 3 * np.abs(logits).max()


def test_deep_networks_are_explained():
    options = {"weights": None, "classes": 10, "classifier_activation": None, "alpha": 0.35}
    mobile = keras.applications.MobileNetV2(input_shape=(32, 32, 3), **options)
    for network in (mobile, drawn(residual(blocks=4), biases=False)):
        images = uniform(2, *network.input_shape[1:])
        assert_kept(network, images, ["lrp.z"], rtol=0.01)
        assert_kept(network, images, ["deep_taylor"], rtol=0.3)  # z⁺ loses what a layer without ReLU has below 0


# What is said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "deep_tailor"}, "no native explanation method is called 'deep_tailor': choose one of deep_taylor,"),
        ({"engine": "other"}, "no engine is called 'other': choose one of innvestigate, native"),
        ({"epsilon": 1.0}, r"'deep_taylor' takes the options none, got \{'epsilon': 1.0\}"),
        ({"method": "lrp.alpha_beta"}, "'lrp.alpha_beta' takes the options alpha, beta, bias, got"),
        ({"method": "lrp.alpha_beta", "alpha": 2.0, "beta": 2.0}, "beta alpha − 1, got 2.0 and 2.0"),
        ({"method": "lrp.epsilon", "epsilon": 0.0}, "epsilon must be above 0"),
        ({"neuron": 10}, r"labels must lie in \[0, 3\]"),
        ({"neuron": "best"}, "neuron must be"),
        ({"from_layer": "conv9"}, "no layer to explain is called 'conv9': choose one of conv1, branch, rectified,"),
        ({"from_layer": "rectified"}, "a path around layer"),
        ({"from_layer": "joined"}, "layer 'joined' has 2 inputs"),
        ({"method": "grad_cam", "layer": "flat"}, "layer 'flat' has no places"),
    ],
)
def test_arguments_that_cannot_be_taken_are_named(arguments, message):
    image = keras.Input((8, 8, 2))
    first = conv(padding="same", name="conv1")(image)
    branch = layers.ReLU(name="rectified")(conv(activation=None, padding="same", name="branch")(first))
    joined = layers.Add(name="joined")([first, branch])
    network = keras.Model(image, layers.Dense(4)(layers.Flatten(name="flat")(joined)))
    arguments = {"method": "deep_taylor", "engine": "native"} | arguments
    with pytest.raises(ValueError, match=message):
        explain(network, uniform(2, 8, 8, 2), **arguments)


def test_all_layers_that_a_method_does_not_take_are_named():
    smooth = layers.Activation("gelu", name="a"), layers.GroupNormalization(1, name="b"), layers.LeakyReLU(name="c")
    for method, message in {
        "deep_taylor": r"not take 'a' \(gelu\), 'b' \(GroupNormalization\), 'c' \(LeakyReLU\): choose gradient",
        "lrp.z": r"'lrp.z' does not take 'b' \(GroupNormalization\): choose gradient",
    }.items():
        with pytest.raises(ValueError, match=message):
            explained(sequential(*smooth), uniform(1, 8, 8, 2), method)
    with pytest.raises(ValueError, match=r"first is 'pool' \(AveragePooling2D\): choose another method"):
        explained(sequential(layers.AveragePooling2D(2, name="pool")), uniform(1, 8, 8, 2), "deep_taylor.bounded")
    with pytest.raises(ValueError, match=r"Multiply\) can.t be explained .* or pass engine=\"native\""):
        explain(functional(lambda x: x * x), uniform(1, 8, 8, 2), method="gradient")


def test_what_acts_in_training_alone_is_left_out_and_a_softmax_cut():
    augmented = drawn(sequential(layers.RandomFlip(name="flip"), conv()))
    plain, images = drawn(sequential(conv())), uniform(3, 8, 8, 2)
    with pytest.warns(UserWarning, match="is taken without flip, which act in training alone"):
        np.testing.assert_array_equal(explained(augmented, images, "lrp.z"), explained(plain, images, "lrp.z"))
    headed = keras.Sequential([plain, layers.Softmax()])
    with pytest.warns(UserWarning, match="ends in a softmax: it is cut off"):
        np.testing.assert_array_equal(explained(headed, images, "lrp.z"), explained(plain, images, "lrp.z"))


def test_maps_that_do_not_add_up_to_the_logit_are_said():
    network, images = drawn(sequential(conv()), biases=False), uniform(3, 8, 8, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = explain(network, images, method="lrp.z", engine="native")
    network.layers[-1].bias.assign([9.0] * 4)  # weights are read at each call
    with pytest.warns(UserWarning, match="'lrp.z' add up to .* times the logit on 3 of 3 images checked"):
        np.testing.assert_allclose(explain(network, images, method="lrp.z", engine="native"), kept, rtol=1e-4)


# As a function that can be differentiated


@pytest.fixture(scope="module")
def mixed():
    def make(x):
        x = layers.ReLU(6.0)(layers.BatchNormalization()(conv(4, None)(x)))
        x = layers.Add()([x, layers.BatchNormalization()(conv(4, None, padding="same")(conv(4, padding="same")(x)))])
        x = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(layers.ReLU()(x)))
        return layers.Dense(8, "relu")(layers.Flatten()(x))

    return drawn(functional(make, (8, 8, 1)))


SMOOTH = (
    *("deep_taylor", "deep_taylor.bounded", "gradient", "guided_backprop", "deconvnet", "grad_cam"),
    *("lrp.z", "lrp.epsilon", "lrp.alpha_2_beta_1_IB", "lrp.sequential_preset_a_flat"),
)


@pytest.mark.parametrize("method", SMOOTH)
def test_smooth_maps_have_the_gradient_of_finite_differences(mixed, method):
    explain_batch, image, step = native.explainer(mixed, method=method, softplus=5.0), uniform(1, 8, 8, 1), 3e-3
    weights = np.random.default_rng(2).normal(size=explain_batch(image).shape[1:]).astype(np.float32)
    watched = tf.Variable(image)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(explain_batch(watched) * weights)
    steps = step * np.eye(64, dtype=np.float32).reshape(64, 8, 8, 1)
    up, down = ((explain_batch(image + way * steps) * weights).numpy().sum(axis=(1, 2, 3)) for way in (1, -1))
    expected = ((up - down) / (2 * step)).reshape(8, 8, 1)
    found = tape.gradient(loss, watched).numpy()[0]
    np.testing.assert_allclose(found, expected, atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("method", SMOOTH)
def test_smooth_maps_become_the_exact_ones(mixed, method):
    images = uniform(5, 8, 8, 1)
    exact = native.explainer(mixed, method=method)(images).numpy()
    smooth = (native.explainer(mixed, method=method, softplus=sharpness)(images) for sharpness in (30.0, 300.0, 3e3))
    off = [np.linalg.norm(maps.numpy() - exact) / np.linalg.norm(exact) for maps in smooth]
    assert off[2] < min(off[1], 0.5 * off[0], 0.05)


@pytest.mark.parametrize("softplus", [None, 30.0])
def test_real_images_give_finite_gradients_and_maps_of_explain(mnist, max_pooling_classifier, softplus):
    images, classes = tf.constant(mnist[0][:6]), np.arange(6)
    for method in ("deep_taylor", "lrp.z", "guided_backprop"):
        explain_batch = native.explainer(max_pooling_classifier, method=method, neuron=classes, softplus=softplus)
        with tf.GradientTape() as tape:
            tape.watch(images)
            maps = explain_batch(images)
            loss = tf.reduce_sum(maps**2)
        gradient = tape.gradient(loss, images).numpy()
        assert np.isfinite(gradient).all()
        assert gradient.any()
        if softplus is None:
            expected = explained(max_pooling_classifier, images.numpy(), method, neuron=classes)
            np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_a_sharpness_that_is_none_is_named(mixed):
    with pytest.raises(ValueError, match="softplus must be a sharpness above 0 or None, got 0"):
        native.explainer(mixed, softplus=0)
