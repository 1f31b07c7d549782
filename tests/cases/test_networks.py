"""Networks as users have them: heads, ranges, nesting, files. Each is compared with what Keras itself makes of it."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.special import expit, softmax

from advlens import guard
from advlens.attacks import craft
from advlens.classifier import Classifier
from advlens.detectors import create
from advlens.explanations import explain
from advlens.explanations.activation import grad_cam
from advlens.explanations.describe import describe
from advlens.explanations.responses import up_to
from advlens.lenses import DeepNeighbours, LeaveOneOut, Mahalanobis, SubsetScanning
from advlens.networks.unfolding import unfolded
from advlens.store.keys import digest
from advlens.uncertainty import MonteCarloDropout

SHAPE, CLOSE = (8, 8, 3), {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((40, *SHAPE), np.float32)


def hidden():
    """A small network up to its last hidden layer."""
    return [
        layers.Conv2D(4, 3, activation="relu", name="conv1"),
        layers.Dropout(0.3, name="drop1"),
        layers.Conv2D(3, 3, activation="relu", name="conv2"),
        layers.Flatten(name="flat"),
        layers.Dense(6, activation="relu", name="hidden"),
    ]


def network(*head, first=(), dtype="float32"):
    keras.utils.set_random_seed(1)
    return keras.Sequential([layers.Input(SHAPE, dtype=dtype), *first, *hidden(), *head], name="mine")


def by_operators(end):
    """A functional network from Keras' operators, with a softmax that is one."""
    keras.utils.set_random_seed(1)
    x = image = keras.Input(SHAPE)
    for layer in (*hidden(), layers.Dense(5)):
        x = layer(x)
    return keras.Model(image, end(x))


HEADS = {
    "fused": lambda: network(layers.Dense(5, activation="softmax")),
    "layer": lambda: network(layers.Dense(5), layers.Softmax()),
    "activation": lambda: network(layers.Dense(5), layers.Activation("softmax")),
    "then dropout": lambda: network(layers.Dense(5, activation="softmax"), layers.Dropout(0.5)),
    "operator": lambda: by_operators(keras.ops.softmax),
    "inside": lambda: keras.Sequential([network(layers.Dense(5, activation="softmax"))]),
    "in a mapping": lambda: by_operators(lambda x: {"out": keras.ops.softmax(x)}),
    "by hand": lambda: by_operators(lambda x: keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), -1, keepdims=True)),
}


def keras_outputs(network, images):
    outputs = network(images, training=False)
    return np.asarray(outputs["out"] if isinstance(outputs, dict) else outputs)


@pytest.mark.parametrize("head", HEADS)
def test_a_softmax_is_cut_off_whatever_it_is_made_of(head, images):
    given = HEADS[head]()
    with pytest.warns(UserWarning, match="ends in") as said:
        classifier = Classifier(given)
    assert len(said) == 1
    logits, expected = classifier.predict(images), keras_outputs(given, images)
    np.testing.assert_allclose(softmax(logits, axis=1), expected, **CLOSE)
    assert classifier.features(images).shape == (40, 6)
    assert craft("fgsm", classifier, images, expected.argmax(axis=1), eps=0.1).linf.min() > 0.05
    assert grad_cam(classifier.model, images[:2]).max() > 0


@pytest.mark.parametrize(
    "head", [[layers.Dense(1, activation="sigmoid")], [layers.Dense(1), layers.Activation("sigmoid")]]
)
def test_one_sigmoid_is_two_logits(head, images):
    given = network(*head)
    with pytest.warns(UserWarning, match=r"ends in a sigmoid.*\(0, z\)"):
        classifier = Classifier(given)
    probability = keras_outputs(given, images)[:, 0]
    np.testing.assert_allclose(softmax(classifier.predict(images), axis=1)[:, 1], probability, **CLOSE)
    assert classifier.features(images).shape == (40, 6)


@pytest.mark.parametrize(
    "head", [[layers.Dense(5, activation="sigmoid")], [layers.Dense(5), layers.Activation("sigmoid")]]
)
def test_a_sigmoid_for_each_class_is_cut_off(head, images):
    given = network(*head)
    with pytest.warns(UserWarning, match="ends in a sigmoid: it is cut off"):
        logits = Classifier(given).predict(images)
    np.testing.assert_allclose(expit(logits), keras_outputs(given, images), **CLOSE)


MEANS = np.array([103.9, 116.8, 123.7])
RANGES = {  # what is passed, and what the network then takes of images in [0, 1]
    "0 to 255": ({"input_range": (0, 255)}, lambda x: x * 255),
    "-1 to 1": ({"input_range": (-1, 1)}, lambda x: x * 2 - 1),
    "means": ({"input_range": (-MEANS, 255 - MEANS)}, lambda x: x * 255 - MEANS),
    "means of BGR": ({"input_range": (-MEANS, 255 - MEANS), "bgr": True}, lambda x: x[..., ::-1] * 255 - MEANS),
    "BGR": ({"bgr": True}, lambda x: x[..., ::-1]),
}
FIRST = {
    "nothing": [],
    "padding": [layers.ZeroPadding2D(1)],
    "rescaling": [layers.Rescaling(1 / 127.5, -1)],
    "depthwise": [layers.DepthwiseConv2D(3)],
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("given", RANGES)
def test_a_stated_range_is_exact(given, first, images):
    options, into = RANGES[given]
    mine = network(layers.Dense(5), first=FIRST[first])
    classifier = Classifier(mine, **options)
    expected = keras_outputs(mine, into(images).astype(np.float32))
    np.testing.assert_allclose(classifier.predict(images), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert list(Mahalanobis(classifier).layers)[-4:] == ["conv1", "conv2", "hidden", mine.layers[-1].name]


def test_a_network_of_8_bit_images_has_gradients(images):
    mine = network(layers.Dense(5), first=[layers.Rescaling(1 / 255)], dtype="uint8")
    classifier = Classifier(mine, input_range=(0, 255))
    levels = np.rint(images * 255)
    np.testing.assert_allclose(
        classifier.predict((levels / 255).astype(np.float32)), keras_outputs(mine, levels.astype(np.uint8)), **CLOSE
    )
    assert np.abs(classifier.loss_gradient(images, np.zeros(40, int))).max() > 0


@pytest.mark.parametrize("first", [[layers.BatchNormalization(momentum=0.8)], [layers.Rescaling(1 / 127.5, -1)]])
def test_labelled_images_at_chance_stop_and_the_range_is_named(first, real_images, real_labels):
    keras.utils.set_random_seed(0)
    mine = keras.Sequential([layers.Input((28, 28, 1)), *first, layers.Flatten(), layers.Dense(10)])
    mine.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    mine.fit(real_images * 255, real_labels, epochs=5, batch_size=20, verbose=0)
    about = (real_images, real_labels)
    for call in (lambda: craft("fgsm", mine, *about), lambda: create("max_softmax", mine).fit(*about)):
        with pytest.raises(ValueError, match=r"images in \[0, 1\] correctly and 3\d\d in .*input_range=\(0, 255\)"):
            call()
    with pytest.warns(UserWarning, match="misclassified"):
        assert craft("fgsm", Classifier(mine, input_range=(0, 255)), *about).success.any()


@pytest.mark.parametrize("range_", [(255, 0), (0, 0), 255, ((0, 0), (1, 1)), (0, np.inf), "grey"])
def test_what_is_no_range_is_refused(range_):
    with pytest.raises(ValueError, match="input_range must be what the network takes for black and for white"):
        Classifier(network(layers.Dense(5)), input_range=range_)


# ---------------------------------------------------------------- one view of nested networks


def nested(depth):
    """The same network with its convolutions in a network inside, once more for each of `depth`."""
    keras.utils.set_random_seed(1)
    convolutions, dense = hidden()[:3], hidden()[3:]
    backbone = keras.Sequential([layers.Input(SHAPE), *convolutions], name="backbone")
    for number in range(depth - 1):
        backbone = keras.Sequential([layers.Input(SHAPE), backbone], name=f"outer{number}")
    image = keras.Input(SHAPE)
    x = image
    for layer in ([backbone] if depth else convolutions) + dense + [layers.Dropout(0.4, name="drop2")]:
        x = layer(x)
    made = keras.Model(image, layers.Dense(5, name="logits")(x))
    weights = np.random.default_rng(3)
    made.set_weights([weights.normal(size=each.shape) / 4 for each in made.get_weights()])
    return made


MEASURED = {
    "features": lambda c, x: c.features(x),
    "layers": lambda c, x: [a.sum() for a in c.layer_activations(x, DeepNeighbours(c, k=3).knn.layers).values()],
    "neighbours": lambda c, x: DeepNeighbours(c, k=3, conformal_images=10).fit(x, np.arange(40) % 5).measure(x[:9]),
    "mahalanobis": lambda c, x: Mahalanobis(c).fit(x, np.arange(40) % 5).measure(x[:9]),
    "leave one out": lambda c, x: LeaveOneOut(c).measure(x[:3]),
    "subset scanning": lambda c, x: SubsetScanning(c, reference=20).fit(x, np.zeros(40)).measure(x[:9]),
    "dropout": lambda c, x: MonteCarloDropout(c.model, passes=5).probabilities(x[:5]),
    "grad-cam": lambda c, x: grad_cam(c.model, x[:5]),
    "ilap": lambda c, x: craft("ilap", c, x[:8], c.predict(x[:8]).argmax(axis=1), eps=0.1, max_iter=3).adversarial,
    "threshold": lambda c, x: create("energy", c).fit(x, np.arange(40) % 5).calibrate(x[:20]).threshold_,
}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_each_lens_measures_the_same_of_a_network_nested_once_more(saved, images, tmp_path):
    found = {}
    for depth in (0, 1, 2):
        mine = nested(depth)
        if saved:
            mine.save(tmp_path / "mine.keras")
        classifier = Classifier(tmp_path / "mine.keras" if saved else mine)
        np.testing.assert_allclose(classifier.predict(images), keras_outputs(mine, images), **CLOSE)
        found[depth] = {name: np.asarray(measure(classifier, images)) for name, measure in MEASURED.items()}
    for depth in (1, 2):
        for name in MEASURED:
            np.testing.assert_allclose(found[depth][name], found[0][name], **CLOSE, err_msg=name)


def test_layers_of_networks_inside_are_found_by_their_names(images):
    classifier = Classifier(nested(2))
    inner = "outer0/backbone/conv2"
    assert DeepNeighbours(classifier).knn.layers == ("outer0/backbone/conv1", inner, "hidden", "logits")
    assert classifier.layer_activations(images, [inner])[inner].shape == (40, 4, 4, 3)
    np.testing.assert_array_equal(grad_cam(nested(2), images, layer=inner), grad_cam(classifier.model, images))
    assert [each.name for each in describe(up_to(classifier.model, inner)).layers][:2] == [
        "outer0/backbone/conv1",
        inner,
    ]
    with pytest.raises(ValueError, match=r"no layer is called 'conv9': choose one of .*outer0/backbone/conv1"):
        classifier.layer_activations(images, ["conv9"])
    one, two = (MonteCarloDropout(nested(1), layers=each) for each in (None, ["drop2"]))
    assert np.abs(one.probabilities(images) - two.probabilities(images)).max() > 1e-3


def scaled(kind):
    """A network of 0 to 255 as users wrap it."""
    inner = network(layers.Dense(5, activation="softmax"))
    if kind == "operators":
        image = keras.Input(SHAPE)
        return inner, keras.Model(image, inner(image * 255.0))
    parts = inner.layers if kind == "its layers" else [inner]
    return inner, keras.Sequential([layers.Input(SHAPE), layers.Rescaling(255.0), *parts])


@pytest.mark.parametrize("kind", ["its layers", "itself", "operators"])
def test_a_wrapped_network_has_the_inner_one_s_features(kind, images):
    inner, given = scaled(kind)
    with pytest.warns(UserWarning, match="ends in a softmax"):
        classifier = Classifier(given)
    np.testing.assert_allclose(
        softmax(classifier.predict(images), axis=1), keras_outputs(inner, images * 255), atol=1e-5
    )
    expected = keras.Model(inner.inputs[0], inner.get_layer("hidden").output)(images * 255)
    np.testing.assert_allclose(classifier.features(images), expected, rtol=1e-5)
    assert len(DeepNeighbours(classifier).knn.layers) == 4
    assert MonteCarloDropout(classifier.model, passes=3).probabilities(images).std(axis=0).max() > 0


def test_operators_and_normalisations_become_layers(images):
    keras.utils.set_random_seed(1)
    image = keras.Input(SHAPE)
    x = layers.Conv2D(3, 3, padding="same", name="conv")((image - np.float32([0.5, 0.4, 0.3])) / 0.25)
    x = keras.ops.relu(x + (1.0 - image))
    logits = layers.Dense(5)(layers.Dropout(0.5)(layers.Flatten()(x)))
    given = keras.Model(image, logits)
    classifier = Classifier(given)
    np.testing.assert_allclose(classifier.predict(images), keras_outputs(given, images), **CLOSE)
    assert all(isinstance(each, layers.Layer) for each in classifier.model.operations)
    assert MonteCarloDropout(given, passes=3).probabilities(images).shape == (3, 40, 5)
    normalised = layers.Normalization()
    normalised.adapt(images * 3)
    given = network(layers.Dense(5), first=[layers.RandomFlip(), normalised])
    with pytest.warns(UserWarning, match="is taken without random_flip.*, which act in training alone"):
        classifier = Classifier(given)
    np.testing.assert_allclose(classifier.predict(images), keras_outputs(given, images), **CLOSE)
    assert describe(classifier.model).scale.shape == (3,)
    assert DeepNeighbours(classifier).knn.layers[0] == "conv1"
    with pytest.raises(ValueError, match=r"'resizing.*' \(Resizing\) can't be explained"):
        explain(network(layers.Dense(5), first=[layers.Resizing(9, 9)]), images)


@pytest.mark.parametrize("about", [{"axis": (1, 2, 3)}, {"invert": True}, {}])
def test_a_normalisation_inside_a_network_keeps_its_numbers(about, images):
    normalised = layers.Normalization(**about)
    normalised.adapt(images * 3)
    inner = network(layers.Dense(5), first=[normalised])
    given = keras.Sequential([layers.Input(SHAPE), inner])
    np.testing.assert_allclose(Classifier(given).predict(images), keras_outputs(given, images), **CLOSE)


class Forgetful(layers.Layer):
    """Its configuration does not hold its factor, and it is no weight."""

    def __init__(self, factor=1.0, **about):
        super().__init__(**about)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {"name": self.name}


class Tripled(keras.Sequential):
    """Computes more than its layers do."""

    def call(self, x, training=None):
        return 3 * super().call(x, training=training)


def test_a_layer_inside_whose_copy_would_be_another_is_not_copied(images):
    inner = network(layers.Dense(5), first=[Forgetful(0.3, name="factor")])
    given = keras.Sequential([layers.Input(SHAPE), inner])
    classifier = Classifier(given)
    np.testing.assert_allclose(classifier.predict(images), keras_outputs(given, images), **CLOSE)
    assert list(classifier.layer_activations(images, ["factor", "mine/conv1"])) == ["factor", "mine/conv1"]


@pytest.mark.parametrize("options", [{}, {"input_range": (0, 255)}, {"bgr": True}])
def test_a_network_that_can_t_be_unfolded_truly_is_refused(options, images):
    inner = Tripled([layers.Input(SHAPE), layers.Conv2D(3, 3)], name="inner")
    given = keras.Sequential([layers.Input(SHAPE), inner, layers.Flatten(), layers.Dense(5)], name="outer")
    with pytest.raises(ValueError, match="'outer' gives other outputs than its layers do"):
        Classifier(given, **options)


@pytest.fixture
def half_precision():
    """Layers that are made here compute in 16 bits."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("first", [[], [layers.Rescaling(2.0, dtype="mixed_float16")]])
def test_a_network_in_half_precision_gives_float32_and_is_guarded(first, images, half_precision):
    given = network(layers.Dense(5), first=first)
    classifier = Classifier(given, input_range=(0, 2))
    activations = classifier.layer_activations(images, ["conv1", "hidden"])
    logits = classifier.predict(images)
    for found in (logits, classifier.logits(images), classifier.features(images), *activations.values()):
        assert found.dtype == np.float32
    np.testing.assert_allclose(logits, keras_outputs(given, 2 * images), atol=0.01)
    labels = logits.argmax(axis=1)
    assert np.abs(craft("pgd", classifier, images[:4], labels[:4], eps=0.1).adversarial - images[:4]).max() > 0.05
    assert np.abs(explain(classifier, images[:2], method="lrp.epsilon", engine="native")).max() > 0
    probabilities = MonteCarloDropout(classifier.model, passes=3).probabilities(images)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    made = guard.fit(classifier, np.concatenate([images, images[:, ::-1], 1 - images]), fpr=0.2)
    assert made.card["lenses_left_out"] == {}
    assert np.isfinite(made.screen(images[:4])["score"]).all()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.flat, self.dense = layers.Flatten(), layers.Dense(5, activation="softmax")

    def call(self, x):
        return self.dense(self.flat(x))


class AlwaysDropout(layers.Dropout):
    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def test_a_subclassed_model_is_taken_without_its_layers(images):
    with pytest.raises(ValueError, match="'subclassed' must be built: call it once"):
        Classifier(Subclassed())
    given = Subclassed()
    expected = np.asarray(given(images))
    with pytest.warns(UserWarning, match="ends in probabilities: logits are their logarithms"):
        classifier = Classifier(given)
    np.testing.assert_allclose(softmax(classifier.predict(images), axis=1), expected, **CLOSE)
    assert craft("fgsm", classifier, images, expected.argmax(axis=1), eps=0.2).success.any()
    create("total_variation", classifier).calibrate(images).detect(images)
    for call in (
        lambda: classifier.features(images),
        lambda: DeepNeighbours(classifier),
        lambda: MonteCarloDropout(classifier.model),
        lambda: grad_cam(classifier.model, images),
    ):
        with pytest.raises(ValueError, match="the layers of 'subclassed', a Subclassed, can't be seen"):
            call()


@pytest.mark.filterwarnings("ignore:network 'subclassed' ends in probabilities")
def test_a_subclassed_model_is_explained_by_plain_gradients(images):
    given, pixels = Subclassed(), tf.constant(images)
    with pytest.raises(ValueError, match="call it once on a batch of images"):
        explain(given, images, method="gradient")
    given(images)
    with tf.GradientTape() as tape:
        tape.watch(pixels)
        largest = tf.reduce_max(given(pixels), axis=1)
    expected = tape.gradient(largest, pixels).numpy()
    np.testing.assert_allclose(explain(given, images, method="gradient"), expected, **CLOSE)
    np.testing.assert_allclose(explain(given, images, method="input_t_gradient"), images * expected, **CLOSE)
    for method, options, said in (
        (
            "deep_taylor",
            {},
            "layers of 'subclassed' can't be seen, and 'deep_taylor' needs them: choose gradient",
        ),
        ("lrp.z", {"engine": "native"}, r"'lrp.z' does not take 'subclassed' \(Subclassed\): choose gradient"),
        (
            "grad_cam",
            {"engine": "native"},
            "Grad-CAM needs a convolution before the logits, and none can be seen",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            explain(given, images, method=method, **options)


@pytest.mark.filterwarnings("ignore:network 'subclassed' ends in probabilities")
def test_a_guard_of_a_subclassed_model_leaves_out_what_needs_layers(images):
    given = Subclassed()
    given(images)
    made = guard.fit(given, images, fpr=0.15)
    assert made.card["lenses"] == ["max_softmax", "feature_squeezing", "augmentation", "total_variation"]
    for name in ("deep_knn", "first_layer_distance", "local_entropy"):
        assert "the layers of 'subclassed', a Subclassed, can't be seen" in made.card["lenses_left_out"][name]
    assert made.screen(images[:5])["p-value"].between(0, 1).all()


def test_a_guard_whose_network_runs_code_is_read_with_the_network(images, tmp_path):
    made = guard.fit(network(layers.Lambda(lambda x: x + 1), layers.Dense(5)), images, lenses=["energy"], fpr=0.15)
    folder = made.save(tmp_path / "guard")
    with pytest.raises(ValueError, match=r"holds Lambda.* whose code opening it would run.* and pass the network"):
        guard.Guard.load(folder)
    opened = keras.models.load_model(folder / "network.keras", safe_mode=False)
    again = guard.Guard.load(folder, network=opened)
    np.testing.assert_allclose(again(images), made(images))


def test_dropout_that_can_t_be_seen_is_named(images):
    class Block(keras.Model):
        def __init__(self):
            super().__init__(name="block")
            self.drop = layers.Dropout(0.5)

        def call(self, x):
            return self.drop(x)

    with pytest.warns(UserWarning, match="dropout in block, whose layers can't be seen, stays off"):
        MonteCarloDropout(network(layers.Dense(5), first=[Block()]), passes=2).probabilities(images)


REFUSED = {
    "random": (
        lambda: network(AlwaysDropout(0.5), layers.Dense(5)),
        "that differ by .* for the same images: pass passes=20 .--passes 20. to average as many, or let what is",
    ),
    "channels first": (
        lambda: keras.Sequential(
            [
                layers.Input((3, 8, 8)),
                layers.Conv2D(2, 3, data_format="channels_first", name="c"),
                layers.Flatten(),
                layers.Dense(5),
            ]
        ),
        "layers c take the channels first: build them with channels_last",
    ),
    "two outputs": (lambda: by_operators(lambda x: {"a": x, "b": 2 * x}), "one input and one output, got 1 and 2"),
    "any size": (
        lambda: keras.Sequential(
            [
                layers.Input((None, None, 3)),
                keras.Sequential([layers.Conv2D(2, 3)]),
                layers.GlobalAveragePooling2D(),
                layers.Dense(5),
            ]
        ),
        r"must take images of a fixed \(h, w, channels\), got \(None, None, 3\)",
    ),
    "no shape": (
        lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)], name="raw"),
        "'raw' must be built: call it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_t_be_judged_is_refused_in_a_sentence(case):
    make, said = REFUSED[case]
    with pytest.raises(ValueError, match=said):
        Classifier(make())


@pytest.mark.parametrize("passes", [4, 16])
def test_passes_of_a_random_network_are_averaged(passes, images):
    keras.utils.set_random_seed(1)
    given = keras.Sequential([layers.Input(SHAPE), layers.Flatten(), AlwaysDropout(0.5), layers.Dense(5)])
    classifier, kernel = Classifier(given, passes=passes), given.layers[-1].kernel.numpy()
    assert Classifier(classifier.model).is_random  # as a guard opens what it has saved
    expected = images.reshape(40, -1) @ kernel
    drawn = np.stack([classifier.predict(images) for _ in range(60)])
    spread = np.sqrt((images.reshape(40, -1) ** 2) @ kernel**2 / passes)  # of values that are dropped or doubled
    np.testing.assert_allclose(drawn.std(axis=0).mean(), spread.mean(), rtol=0.05)
    assert (np.abs(drawn.mean(axis=0) - expected) < 5 * spread / np.sqrt(60)).all()
    gradients = classifier.class_gradient(images, label=2).reshape(40, -1) / kernel[:, 2]
    kept = gradients * passes / 2  # of so many passes' masks
    np.testing.assert_allclose(kept, kept.round(), atol=1e-3)
    assert abs(kept.mean() - passes / 2) < 0.1
    assert classifier.features(images).shape == (40, 192)
    labels = classifier.predict(images).argmax(axis=1)
    labels[:4] = (labels[:4] + 2) % 5
    with pytest.warns(UserWarning, match="of 40 images are misclassified: left out"):
        assert craft("pgd", classifier, images, labels, eps=0.1).success.mean() > 0.5


def test_passes_go_into_what_the_store_knows_a_network_by(images):
    given = network(AlwaysDropout(0.5), layers.Dense(5, activation="softmax"))
    with pytest.warns(UserWarning, match="ends in a softmax"):
        digests = [digest(Classifier(given, passes=passes).model) for passes in (2, 3, 3)]
    assert digests[0] != digests[1] == digests[2]
    with pytest.raises(ValueError, match="passes must be"):
        Classifier(given, passes=0)
    mine = network(layers.Dense(5))
    assert Classifier(mine, passes=1).model is mine


# ---------------------------------------------------------------- files


def changed(path, name, change):
    """The .keras file with one of its JSON members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    members[name] = json.dumps(change(json.loads(members[name]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)


def written(kind, folder):
    """A file of that kind, and its path."""
    mine, path = network(layers.Dense(5)), folder / "mine.keras"
    if kind == "weights":
        mine.save_weights(path := folder / "mine.weights.h5")
    elif kind == "hdf5":
        mine.save(path := folder / "mine.h5")
    elif kind == "saved model":
        tf.saved_model.save(tf.Module(), str(path := folder / "saved"))
    elif kind == "lambda":
        network(layers.Lambda(lambda x: x), layers.Dense(5)).save(path)
    elif kind == "foreign":
        network(AlwaysDropout(0.5), layers.Dense(5)).save(path)
    elif kind == "damaged":
        path.write_bytes(b"PK\x03\x04 and then nothing")
    elif kind != "missing":
        mine.save(path)
    if kind == "keras 2":
        changed(path, "metadata.json", lambda about: about | {"keras_version": "2.15.0"})
    if kind == "function":

        def call_a_function(config):
            config["config"]["layers"][-1]["config"]["kernel_initializer"] = {
                "module": "os",
                "class_name": "function",
                "config": "system",
                "registered_name": "system",
            }
            return config

        changed(path, "config.json", call_a_function)
    return path


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "weights",
            r"holds weights alone: build .* and pass that file \(--model mine.keras\)",
        ),
        ("hdf5", "holds a network in Keras' former format: network = keras.models.load_model.*--model mine.keras"),
        (
            "saved model",
            "is a SavedModel, which has functions and no layers: .* pass that file .--model mine.keras",
        ),
        ("keras 2", "was written by Keras 2.15.0, whose layers Keras 3 can't take: in the Keras that wrote it"),
        ("lambda", "holds Lambda.*, whose code opening it would run: if you trust it"),
        ("foreign", "holds AlwaysDropout, whose code opening it would run"),
        ("function", "holds system, whose code opening it would run"),
        ("damaged", "is no .keras file, or a damaged one"),
        ("missing", "there is no such file"),
    ],
)
def test_a_file_of_another_kind_is_named_and_runs_no_code(kind, said, tmp_path, monkeypatch):
    path = written(kind, tmp_path)
    monkeypatch.setattr(keras.models, "load_model", lambda *given, **options: pytest.fail("it was opened"))
    with pytest.raises(ValueError, match=said) as raised:
        Classifier(path)
    assert "\n" not in str(raised.value)


def test_a_path_opens_and_a_prepared_network_is_saved_as_it_is(images, tmp_path):
    given = nested(1)
    given.save(tmp_path / "mine.keras")
    classifier = Classifier(str(tmp_path / "mine.keras"), input_range=(-1, 1))
    np.testing.assert_allclose(classifier.predict(images), keras_outputs(given, 2 * images - 1), **CLOSE)
    classifier.model.save(tmp_path / "prepared.keras")
    np.testing.assert_allclose(
        Classifier(tmp_path / "prepared.keras").predict(images), classifier.predict(images), **CLOSE
    )


def test_a_network_that_is_flat_already_stays_the_same_object():
    mine = network(layers.Dense(5))
    assert unfolded(mine) is mine
    assert Classifier(mine).model is mine
