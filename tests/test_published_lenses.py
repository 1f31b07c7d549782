"""Lenses that others published, against their formulas computed another way."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.ndimage import median_filter
from scipy.spatial.distance import cdist, mahalanobis
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance

from advlens import detectors, networks
from advlens.classifier import Classifier
from advlens.explanations import explain
from advlens.explanations.similarity import rank_correlation
from advlens.lenses import (
    Augmented,
    FeatureSqueezing,
    LeaveOneOut,
    LocalDimensionality,
    Mahalanobis,
    MapUnderDenoising,
    NaturalScenes,
    Outputs,
    Sensitivity,
    ShapSignature,
)
from advlens.lenses.natural_scenes import asymmetric_fit, normalised, symmetric_fit
from advlens.lenses.training_features import _nearest


@pytest.fixture(scope="module")
def dropout_classifier() -> Classifier:
    keras.utils.set_random_seed(3)
    return Classifier(networks.build("digits_dropout_cnn"))


@pytest.fixture(scope="module")
def lenses(max_pooling_classifier, real_images, real_labels):
    """Every one of them, fitted to the first 300 images."""
    of_networks = [Outputs, FeatureSqueezing, Augmented, Sensitivity, MapUnderDenoising, LeaveOneOut]
    of_networks += [Mahalanobis, LocalDimensionality, ShapSignature]
    made = [kind(max_pooling_classifier) for kind in of_networks] + [NaturalScenes((28, 28, 1))]
    return {lens.name: lens.fit(real_images[:300], real_labels[:300]) for lens in made}


def probabilities(classifier, images):
    return softmax(classifier.logits(images).astype(float), axis=1)


def test_each_gives_a_finite_row_per_image_whatever_the_batch(lenses, real_images):
    images = real_images[300:331]
    for lens in lenses.values():
        together, alone = lens.measure(images), lens.measure(images[5:6])
        assert list(together.columns) == list(lens.columns)
        assert np.isfinite(together.to_numpy()).all()
        np.testing.assert_allclose(alone, together.iloc[5:6], rtol=1e-3, atol=1e-4, err_msg=lens.name)


def test_outputs(lenses, max_pooling_classifier, real_images):
    logits = max_pooling_classifier.logits(real_images[:9]).astype(float)
    found = lenses["outputs"].measure(real_images[:9])
    np.testing.assert_allclose(found["energy"], -logsumexp(logits, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["−max logit"], -logits.max(axis=1), rtol=1e-6)


def test_squeezing_by_hand(lenses, max_pooling_classifier, real_images):
    image = real_images[300:301]
    small = median_filter(image[0, :, :, 0], size=2, mode="reflect")[None, :, :, None]
    p, binary, blurred = (probabilities(max_pooling_classifier, x)[0] for x in (image, np.rint(image), small))
    found = lenses["feature squeezing"].measure(image).iloc[0]
    wanted = [np.abs(p - other).sum() for other in (binary, blurred)]
    np.testing.assert_allclose(found, [*wanted, max(wanted)], atol=1e-6)


def test_moves_by_hand(lenses, max_pooling_classifier, real_images):
    image = real_images[300:301]
    left = np.concatenate([image[:, :, 1:], image[:, :, -1:]], axis=2)
    p, q = (probabilities(max_pooling_classifier, x)[0] for x in (image, left))
    found = lenses["augmentation"].measure(image).iloc[0]
    assert found["left"] == pytest.approx(np.abs(p - q).sum(), abs=1e-6)
    assert found["mean"] == pytest.approx(found.drop("mean").mean())


def test_sensitivity_by_hand(max_pooling_classifier, real_images):
    lens, image = Sensitivity(max_pooling_classifier, draws=1, seed=4), real_images[300:301]
    (noisy,) = lens._noisy(image)
    assert (noisy - image).std() == pytest.approx(0.1, rel=0.1)
    maps, logits = [], []
    for x in (tf.constant(image), tf.constant(noisy)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            logits.append(max_pooling_classifier.model(x, training=False))
            decided = logits[-1][0, int(np.argmax(logits[0]))]
        maps.append((tape.gradient(decided, x) * x).numpy())
    found = lens.measure(image).iloc[0]
    assert found["prediction sensitivity"] == pytest.approx(np.abs(logits[1] - logits[0]).sum(), rel=1e-4)
    assert found["attribution sensitivity"] == pytest.approx(np.abs(maps[1] - maps[0]).sum(), rel=1e-3)


def test_a_map_under_denoising_by_hand(lenses, max_pooling_classifier, real_images):
    images = real_images[300:304]
    smooth = np.stack([median_filter(image[..., 0], size=3, mode="reflect")[..., None] for image in images])
    decided = max_pooling_classifier.predict(images).argmax(axis=1)
    maps = [explain(max_pooling_classifier.model, each, neuron=decided) for each in (images, smooth)]
    found = lenses["map under denoising"].measure(images)["1 − rank correlation"]
    np.testing.assert_allclose(found, 1 - rank_correlation(*maps), atol=1e-4)


def test_leave_one_out_by_hand(max_pooling_classifier, real_images):
    image, lens = real_images[300], LeaveOneOut(max_pooling_classifier, layers=("hidden", "logits"), patch=14)
    for name, found in zip(("hidden", "logits"), lens.measure(image[None]).iloc[0], strict=True):
        model = max_pooling_classifier.model
        network = keras.Model(model.inputs[0], model.get_layer(name).output)
        changes = []
        for row in (0, 14):
            for column in (0, 14):
                blank = image.copy()
                blank[row : row + 14, column : column + 14] = 0
                changes.append(np.linalg.norm(np.subtract(*network(np.stack([image, blank])).numpy())))
        assert found == pytest.approx(stats.iqr(changes), rel=1e-3)


def test_mahalanobis_against_scipy_and_scikit_learn(lenses, max_pooling_classifier, real_images, real_labels):
    hidden = max_pooling_classifier.layer_activations(real_images[:301], ["hidden"])["hidden"].astype(float)
    train, labels = hidden[:300], real_labels[:300]
    means = {each: train[labels == each].mean(axis=0) for each in np.unique(labels)}
    centred = train - np.stack([means[each] for each in labels])
    precision = EmpiricalCovariance(assume_centered=True).fit(centred).precision_
    nearest = min(mahalanobis(hidden[300], mean, precision) ** 2 for mean in means.values())
    found = lenses["mahalanobis"].measure(real_images[300:301])["mahalanobis at hidden"][0]
    assert found == pytest.approx(nearest, rel=1e-3)


@pytest.mark.parametrize("away", [0.0, 1e6])
def test_the_nearest_are_those_of_all_distances_where_float32_sees_none_as_well(away):
    rng = np.random.default_rng(0)
    among = (rng.normal(size=(400, 60)) + away).astype(np.float32)
    own = np.concatenate([(rng.normal(size=(50, 60)) + away).astype(np.float32), among[:20]])
    distances = cdist(own, among)
    distances[distances == 0] = np.inf
    np.testing.assert_array_equal(_nearest(own, among, 5), np.sort(distances, axis=1)[:, :5])


def test_dimensionality_by_hand_and_of_cubes_of_known_dimension(lenses, real_images):
    lens = lenses["local dimensionality"]
    own, among = (
        lens.classifier.layer_activations(each, ["hidden"])["hidden"].astype(float)
        for each in (real_images[300:301], lens.images_)
    )
    r = np.sort(np.linalg.norm(among - own, axis=1))[:20]
    wanted = -1 / np.mean(np.log(r / r[-1]))
    assert lens.measure(real_images[300:301])["dimensionality at hidden"][0] == pytest.approx(wanted, rel=1e-3)
    identity = keras.Sequential([keras.layers.Input((1, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    identity.set_weights([np.eye(5), np.zeros(5)])
    for dimension in (2, 5):
        cube = np.zeros((4000, 1, 5, 1), np.float32)
        cube[:, 0, :dimension, 0] = np.random.default_rng(0).random((4000, dimension))
        lens = LocalDimensionality(Classifier(identity), k=50, reference=3500).fit(cube[:3500], np.zeros(3500, int))
        assert lens.measure(cube[3500:]).to_numpy().mean() == pytest.approx(dimension, rel=0.2)


def test_signatures_sum_to_the_predicted_logit(lenses, max_pooling_classifier, real_images):
    found = lenses["shap signature"].measure(real_images[300:305]).to_numpy().sum(axis=1)
    logits = max_pooling_classifier.logits(real_images)
    offsets, predicted = logits[300:305] - logits[:300].mean(axis=0), logits[300:305].argmax(axis=1)
    np.testing.assert_allclose(found, offsets[np.arange(5), predicted], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("drawn", "shape"), [(stats.norm, 2.0), (stats.laplace, 1.0)])
def test_distributions_of_known_shape_are_fitted(drawn, shape):
    values = drawn.rvs(scale=3.0, size=(4, 20000), random_state=0)
    shapes, variances = symmetric_fit(values)
    np.testing.assert_allclose(shapes, shape, rtol=0.06)
    np.testing.assert_allclose(variances, values.var(axis=1), rtol=0.01)
    bent = np.where(values < 0, values, 2 * values)
    fitted, mean, left, right = asymmetric_fit(bent)
    assert (np.abs(fitted - shape) < 0.4).all()
    np.testing.assert_allclose(right / left, 4, rtol=0.1)
    assert (mean > 0).all()


def test_pixels_are_normalised_locally():
    assert np.abs(normalised(np.full((1, 9, 9, 1), 0.4, np.float32))).max() < 1e-9
    assert 0.3 < normalised(np.random.default_rng(0).random((1, 64, 64, 1), dtype=np.float32)).std() < 1.5


@pytest.mark.parametrize("name", ["energy", "feature_squeezing", "kd_bu", "lid", "mahalanobis", "shap_signature"])
def test_they_are_detectors_that_are_saved_and_loaded(name, dropout_classifier, real_images, real_labels, tmp_path):
    about = {"passes": 3} if name == "kd_bu" else {}
    detector = detectors.create(name, dropout_classifier, **about).fit(real_images[:300], real_labels[:300])
    if detector.head.learns:
        detector.learn(real_images[300:360], np.arange(60) % 2)
    detector.calibrate(real_images[300:360])
    again = detectors.load(detector.save(tmp_path / "saved"), dropout_classifier)
    np.testing.assert_array_equal(again.scores(real_images[360:380]), detector.scores(real_images[360:380]))


@pytest.mark.parametrize("kind", [Mahalanobis, LocalDimensionality, ShapSignature])
def test_what_has_seen_no_training_images_says_so(kind, max_pooling_classifier, real_images):
    with pytest.raises(RuntimeError, match="call fit"):
        kind(max_pooling_classifier).measure(real_images[:2])
