"""ART's own detectors as lenses and heads of this package: the same scores as ART gives."""

import keras
import numpy as np
import pytest
from art.defences.detector.evasion import BinaryActivationDetector, BinaryInputDetector, SubsetScanningDetector
from art.estimators.classification import TensorFlowV2Classifier

from advlens import detectors
from advlens.classifier import Classifier
from advlens.detectors.art_head import _network
from advlens.lenses import Pixels, SubsetScanning
from advlens.metrics import roc_auc

pytestmark = pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")  # in ART's get_activations
NOISE = 0.25


@pytest.fixture(scope="module")
def attacked(real_images):
    """200 images, every other one with salt and pepper noise, and which."""
    truth = np.arange(200) % 2 == 1
    noise = np.random.default_rng(0).choice([-NOISE, NOISE], (200, 28, 28, 1)) * truth[:, None, None, None]
    return np.clip(real_images[:200] + noise, 0, 1).astype(np.float32), truth


@pytest.fixture(scope="module")
def subset_lens(max_pooling_classifier, real_images, real_labels):
    return SubsetScanning(max_pooling_classifier, layer="hidden", reference=150).fit(
        real_images[200:], real_labels[200:]
    )


def art_network(shape, seed):
    """What ART's user would make: a network for its detectors to train."""
    keras.utils.set_random_seed(seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adam = keras.optimizers.Adam(1e-3)
    return TensorFlowV2Classifier(_network(shape), nb_classes=2, input_shape=shape, loss_object=loss, optimizer=adam)


@pytest.mark.parametrize("name", ["art_input", "art_activation"])
def test_the_scores_are_those_of_arts_own_detectors(name, max_pooling_classifier, attacked):
    images, truth = attacked
    ours = detectors.create(name, max_pooling_classifier, epochs=3).learn(images, truth, seed=5)
    if name == "art_input":
        theirs = BinaryInputDetector(art_network((28, 28, 1), seed=5))
    else:
        theirs = BinaryActivationDetector(max_pooling_classifier, art_network((64,), seed=5), "hidden")
    theirs.fit(images, truth.astype(int), batch_size=128, nb_epochs=3)
    report, flags = theirs.detect(images)
    np.testing.assert_allclose(ours.scores(images), np.diff(report["predictions"])[:, 0], rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(ours.scores(images) > 0, flags)


@pytest.mark.parametrize("name", ["art_input", "art_activation"])
def test_they_learn_which_images_are_attacked_and_are_saved_and_loaded(
    name, max_pooling_classifier, attacked, tmp_path
):
    images, truth = attacked
    detector = detectors.create(name, max_pooling_classifier, batch_size=16).learn(images[:150], truth[:150])
    scores = detector.scores(images[150:])
    assert roc_auc(scores, truth[150:]) > 0.8
    measured = detector.lens.measure(images[150:])
    chances = detector.head.probability(measured)
    assert chances is not None
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-scores)), rtol=1e-6)
    detector.calibrate(images[:150][~truth[:150]])
    again = detectors.load(detector.save(tmp_path / "saved"), max_pooling_classifier)
    np.testing.assert_allclose(again.scores(images[150:]), scores, rtol=1e-5)


def test_the_head_says_that_it_has_not_learnt(real_images):
    head = detectors.ArtBinary((28, 28, 1), prefix="pixel")
    with pytest.raises(RuntimeError, match="call learn"):
        head.score(Pixels((28, 28, 1)).measure(real_images[:2]))


@pytest.mark.parametrize("layer", ["hidden", "conv1"])
def test_subset_scores_are_those_of_arts_detector_and_the_closed_form(layer, max_pooling_classifier, attacked):
    images = attacked[0]
    theirs = SubsetScanningDetector(max_pooling_classifier, images[:100], layer, verbose=False)
    ours = SubsetScanning(max_pooling_classifier, layer=layer).fit(images[:100], np.zeros(100, int))
    found = ours.measure(images[100:])["Berk–Jones score"]
    np.testing.assert_allclose(found, theirs.detect(images[100:])[0]["scores"])
    features = ours._activations(images[:101])
    p = (1 + (features[:100] >= features[100]).sum(axis=0)) / 101
    by_hand = max((p <= alpha).sum() * np.log(1 / alpha) for alpha in p if alpha <= 0.5)
    assert found[0] == pytest.approx(by_hand)


def test_unusual_activations_score_high_and_images_without_any_score_0(subset_lens, real_images):
    lens = SubsetScanning(subset_lens.classifier, layer="hidden")
    zeros = np.zeros((1, 28, 28, 1), np.float32)
    lens.sorted_ = np.full((50, 64), 1e6, np.float32)  # activations that no image reaches
    assert lens.measure(zeros)["Berk–Jones score"].tolist() == [0]
    lens.sorted_ = np.full((50, 64), -1.0, np.float32)  # that every image exceeds
    assert lens.measure(zeros)["Berk–Jones score"][0] == pytest.approx(64 * np.log(51))
    with pytest.raises(RuntimeError, match="call fit"):
        SubsetScanning(subset_lens.classifier).measure(real_images[:2])


def test_networks_with_branches_are_scanned_too(real_images, real_labels):
    image = keras.layers.Input((28, 28, 1))
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(image))
    network = keras.Model(image, keras.layers.Dense(10)(keras.layers.Concatenate()([hidden, hidden])))
    lens = SubsetScanning(Classifier(network)).fit(real_images[:100], real_labels[:100])
    assert (lens.measure(real_images[100:120])["Berk–Jones score"] >= 0).all()
