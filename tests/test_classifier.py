import keras
import numpy as np
import pytest
import tensorflow as tf
from art.attacks.evasion import CarliniL2Method, FastGradientMethod, ProjectedGradientDescent
from art.attacks.evasion import DeepFool as ArtDeepFool
from art.estimators.classification import TensorFlowV2Classifier

from advlens import networks
from advlens.classifier import Classifier
from advlens.explanations import explain
from advlens.uncertainty import MonteCarloDropout


@pytest.fixture(scope="module")
def stock(max_pooling_classifier):
    return TensorFlowV2Classifier(
        max_pooling_classifier.model,
        10,
        (28, 28, 1),
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
        clip_values=(0, 1),
    )


@pytest.fixture(scope="module")
def images(mnist):
    return mnist[0][:150]  # more than the classifier's batch of 128


def test_predictions_equal_art(max_pooling_classifier, stock, images):
    np.testing.assert_allclose(max_pooling_classifier.predict(images), stock.predict(images), atol=1e-5, rtol=1e-6)
    np.testing.assert_array_equal(max_pooling_classifier.predict(images), max_pooling_classifier.logits(images))


@pytest.mark.parametrize("as_tensor", [False, True])
def test_loss_gradients_equal_art_and_keep_the_kind_of_array(max_pooling_classifier, stock, images, mnist, as_tensor):
    one_hot = np.eye(10, dtype=np.float32)[mnist[1][:150]]
    kind = tf.constant if as_tensor else np.asarray
    ours = max_pooling_classifier.loss_gradient(kind(images), kind(one_hot))
    assert tf.is_tensor(ours) == as_tensor
    np.testing.assert_allclose(ours, stock.loss_gradient(images, one_hot), atol=1e-6)
    assert np.abs(ours).max() > 1e-3


@pytest.mark.parametrize("label", [None, 3, "array", "list"])
def test_class_gradients_equal_art(max_pooling_classifier, stock, images, mnist, label):
    label = {"array": mnist[1][:150], "list": mnist[1][:150].tolist()}.get(label, label)
    ours, arts = (c.class_gradient(images, label=label) for c in (max_pooling_classifier, stock))
    assert ours.shape == arts.shape == (150, 10 if label is None else 1, 28, 28, 1)
    np.testing.assert_allclose(ours, arts, atol=1e-6, rtol=1e-6)


def test_class_gradients_of_more_classes_than_one_call_computes():
    classifier = Classifier(networks.build("two_conv_cnn", num_classes=23))
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    every = classifier.class_gradient(images)
    assert every.shape == (3, 23, 28, 28, 1)
    np.testing.assert_allclose(every[:, 21:22], classifier.class_gradient(images, label=21), atol=1e-7)


@pytest.mark.parametrize(
    "attack",
    [
        lambda c: FastGradientMethod(c, eps=0.2, batch_size=64),
        lambda c: ProjectedGradientDescent(c, eps=0.2, eps_step=0.05, max_iter=3, batch_size=64, verbose=False),
        lambda c: ArtDeepFool(c, max_iter=3, batch_size=16, verbose=False),
        lambda c: CarliniL2Method(
            c, learning_rate=0.5, initial_const=10, max_iter=5, binary_search_steps=1, batch_size=16, verbose=False
        ),
    ],
)
def test_arts_attacks_craft_the_same_images(max_pooling_classifier, stock, images, attack):
    ours, arts = (attack(c).generate(images[:16]) for c in (max_pooling_classifier, stock))
    np.testing.assert_allclose(ours, arts, atol=1e-4)
    assert np.abs(ours - images[:16]).max() > 0.01


def test_loss_falls_against_its_gradient_and_equals_the_closed_form(max_pooling_classifier, images, mnist):
    y = mnist[1][:150]
    losses = max_pooling_classifier.compute_loss(images, y)
    logits = max_pooling_classifier.predict(images).astype(float)
    closed = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(150), y]
    np.testing.assert_allclose(losses, closed, atol=1e-5)
    downhill = images - 0.01 * np.sign(max_pooling_classifier.loss_gradient(images, y))
    assert max_pooling_classifier.compute_loss(downhill, y, reduction="mean") < losses.mean()


def test_features_are_what_enters_the_last_layer(max_pooling_classifier, average_pooling_classifier, images):
    features = max_pooling_classifier.features(images)
    kernel, bias = max_pooling_classifier.model.get_layer("logits").get_weights()
    np.testing.assert_allclose(features @ kernel + bias, max_pooling_classifier.logits(images), atol=1e-4)
    assert average_pooling_classifier.features(images).shape == (150, 100)


def test_layer_activations_are_named_and_in_order(max_pooling_classifier, images):
    activations = max_pooling_classifier.layer_activations(images, ["logits", "conv1"])
    assert activations["conv1"].shape == (150, 26, 26, 16)
    np.testing.assert_allclose(activations["logits"], max_pooling_classifier.logits(images), atol=1e-5)
    alone = max_pooling_classifier.layer_activations(images, ["conv1"])
    np.testing.assert_array_equal(alone["conv1"], activations["conv1"])
    with pytest.raises(ValueError, match="no layer is called 'conv9'"):
        max_pooling_classifier.layer_activations(images, ["conv9"])


def test_dropout_is_off():
    network = keras.Sequential(
        [
            keras.layers.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3),
        ]
    )
    classifier, images = Classifier(network), np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    np.testing.assert_array_equal(classifier.predict(images), classifier.predict(images))


def test_predict_takes_values_a_hair_outside_the_box_but_logits_does_not(max_pooling_classifier, images):
    outside = images - 1e-6
    assert np.isfinite(max_pooling_classifier.predict(outside)).all()
    with pytest.raises(ValueError, match="must lie in"):
        max_pooling_classifier.logits(outside)


def test_broken_weights_are_refused_by_attacks_and_explanations():
    network = networks.build("two_conv_cnn")
    network.set_weights([np.full_like(weight, np.nan) for weight in network.get_weights()])
    with pytest.raises(ValueError, match="'two_conv_cnn' gives NaN or infinity: its weights are broken"):
        Classifier(network)
    with pytest.raises(ValueError, match="has weights that are NaN or infinite"):
        explain(network, np.zeros((1, 28, 28, 1)))


def test_what_is_no_network_is_refused():
    with pytest.raises(TypeError, match="network must be a Keras 3 model, got NoneType"):
        Classifier(None)


def test_a_network_without_a_fixed_image_size_is_refused():
    layers = [keras.layers.Input((None, None, 1)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    with pytest.raises(ValueError, match="fixed"):
        Classifier(keras.Sequential(layers))


@pytest.mark.parametrize("shape", [(32, 32, 3), (27, 27, 1), (12, 12, 1)])
def test_images_of_a_size_that_a_network_is_not_made_for_are_refused(shape):
    with pytest.raises(ValueError, match=r"average_pooling_cnn (is not made for|can't take) images of shape"):
        networks.build("average_pooling_cnn", input_shape=shape)


def test_labels_out_of_range_are_refused(max_pooling_classifier, mnist):
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 9\], got \[-1, -1\]"):
        max_pooling_classifier.loss_gradient(mnist[0][:1], np.array([-1]))


def test_a_softmax_or_a_sigmoid_at_the_end_is_cut_off_and_said(mnist):
    base = [keras.layers.Input((28, 28, 1)), keras.layers.Flatten()]
    for head in ([keras.layers.Dense(10, activation="softmax")], [keras.layers.Dense(10), keras.layers.Softmax()]):
        network = keras.Sequential([*base, *head])
        with pytest.warns(UserWarning, match="ends in a softmax: it is cut off"):
            logits = Classifier(network).predict(mnist[0][:5])
        expected = network.predict(mnist[0][:5], verbose=0)
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), expected, rtol=1e-4)
        assert not np.allclose(logits.sum(axis=1), 1)
    network = keras.Sequential([*base, keras.layers.Dense(1, activation="sigmoid")])
    with pytest.warns(UserWarning, match="ends in a sigmoid"):
        logits = Classifier(network).predict(mnist[0][:5])
    probability = network.predict(mnist[0][:5], verbose=0)[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), probability, rtol=1e-4)


def test_a_path_loads_and_another_file_is_refused(tmp_path, max_pooling_classifier, mnist):
    max_pooling_classifier.model.save(tmp_path / "mine.keras")
    np.testing.assert_array_equal(
        Classifier(tmp_path / "mine.keras").predict(mnist[0][:5]), max_pooling_classifier.predict(mnist[0][:5])
    )
    with pytest.raises(ValueError, match=r"the path of a \.keras file, got '.*mine.h5'"):
        Classifier(str(tmp_path / "mine.h5"))


def test_products_are_full_float32():
    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def short_of_memory(call, limit):
    def small(images, *more):
        if len(images) > limit:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        return call(images, *more)

    return small


def test_half_the_images_are_tried_where_memory_does_not_suffice(max_pooling_classifier, mnist, monkeypatch):
    classifier, images, labels = Classifier(max_pooling_classifier.model, batch_size=16), mnist[0][:10], mnist[1][:10]
    dropout = MonteCarloDropout(networks.build("digits_dropout_cnn"), passes=3, batch_size=16)
    calls = {
        (classifier, "_compiled_logits"): lambda: classifier.predict(images),
        (classifier, "_compiled_loss_gradient"): lambda: classifier.loss_gradient(images, labels),
        (classifier, "_class_gradient_call"): lambda: classifier.class_gradient(images, labels),
        (dropout, "_compiled"): lambda: dropout.metrics(images)["variance"],
    }
    for (owner, name), call in calls.items():
        expected, whole = call(), getattr(owner, name)
        for limit in (3, 0):
            built = name == "_class_gradient_call"  # it gives what is compiled for a number of classes
            small = (lambda k: short_of_memory(whole(k), limit)) if built else short_of_memory(whole, limit)  # noqa: B023
            monkeypatch.setattr(owner, name, small)
            if limit:
                with pytest.warns(UserWarning, match="going on with 3 images at once"):
                    np.testing.assert_allclose(call(), expected, atol=1e-5)
            else:
                with pytest.warns(UserWarning, match="out of memory"), pytest.raises(MemoryError, match="one image of"):
                    call()
