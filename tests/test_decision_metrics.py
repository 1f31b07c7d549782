"""The closeness-and-uncertainty detectors: what is measured, and what the regression makes of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from advlens.classifier import Classifier
from advlens.closeness import ClassDensity, ClassDivergence
from advlens.detectors.decision_metrics import SIX, DecisionMetrics, MetricRegression
from advlens.networks import build
from advlens.uncertainty import METRICS, MonteCarloDropout


@pytest.fixture(scope="module")
def classifier(mnist):
    keras.utils.set_random_seed(7)
    network = build("digits_dropout_cnn")
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(*mnist, batch_size=32, epochs=12, verbose=0)
    return Classifier(network)


def closeness():
    return {"KDE": ClassDensity(bandwidth=1.7), "KL divergence": ClassDivergence()}


@pytest.fixture(scope="module")
def metrics(classifier, mnist):
    return DecisionMetrics(classifier, closeness=closeness(), passes=10).fit(*mnist)


@pytest.fixture(scope="module")
def noisy(real_images):
    noise = np.random.default_rng(0).normal(0, 0.5, real_images.shape)
    return np.clip(real_images + noise, 0, 1).astype(np.float32)


def test_metrics_are_those_of_the_class_decided_on(classifier, metrics, mnist, noisy):
    images = noisy[:40]
    measured = metrics.measure(images)
    assert list(measured) == ["predicted", *METRICS, "KDE", "KL divergence"]
    decided = classifier.predict(images).argmax(axis=1)
    assert measured["predicted"].tolist() == decided.tolist()
    assert (decided != mnist[1][:40]).any()
    density = ClassDensity(bandwidth=1.7).fit(classifier.features(mnist[0]), mnist[1])
    np.testing.assert_allclose(measured["KDE"], density.log_density(classifier.features(images), decided))
    passes = MonteCarloDropout(classifier.model, passes=10).metrics(images)
    np.testing.assert_allclose(measured["entropy"], passes["entropy"], atol=1e-6)


def test_noise_is_less_sure_and_farther_away(metrics, real_images, noisy):
    clean, far = metrics.measure(real_images[:100]), metrics.measure(noisy[:100])
    for name in ("variance", "entropy", "mutual information", "aleatoric", "epistemic", "KL divergence"):
        assert far[name].mean() > clean[name].mean(), name
    for name in ("confidence", "KDE"):
        assert far[name].mean() < clean[name].mean(), name


@pytest.mark.parametrize("columns", [SIX, ("confidence",)], ids=["six", "one"])
def test_the_regression_ranks_what_it_was_taught_above_the_rest(metrics, real_images, noisy, columns):
    images, truth = np.concatenate([real_images[:150], noisy[:150]]), np.repeat([0, 1], 150)
    detector = MetricRegression(metrics, columns=columns).fit(images, truth)
    scores = detector.scores(np.concatenate([real_images[150:250], noisy[150:250]]))
    assert scores[100:].mean() > scores[:100].mean() + 1
    flagged = detector.calibrate(real_images[250:], fpr=0.1).detect(noisy[150:250])[1]
    assert flagged.mean() > 0.5


def test_an_untrained_regression_and_bad_truths_are_named(metrics, real_images):
    with pytest.raises(RuntimeError, match="call fit"):
        MetricRegression(metrics).scores(real_images[:2])
    with pytest.raises(ValueError, match="is_adversarial must hold both 0 and 1"):
        MetricRegression(metrics).fit(real_images[:2], [1, 1])
    with pytest.raises(TypeError, match="must be an advlens Classifier"):
        DecisionMetrics(metrics.classifier.model, closeness=closeness())
    with pytest.raises(TypeError, match="closeness 'KDE' must be a ClassDensity or ClassDivergence, got float"):
        DecisionMetrics(metrics.classifier, closeness={"KDE": 1.7})
    with pytest.raises(RuntimeError, match="call fit"):
        DecisionMetrics(metrics.classifier, closeness=closeness(), passes=2).measure(real_images[:2])
    with pytest.raises(ValueError, match=r"distance is not measured: columns are variance, .* KL divergence"):
        MetricRegression(metrics, columns=["KDE", "distance"])
    for columns in ("entropy", [], None):
        with pytest.raises(TypeError, match="columns must be a list of metrics, got"):
            MetricRegression(metrics, columns=columns)
    with pytest.raises(TypeError, match="metrics must be DecisionMetrics, got Classifier"):
        MetricRegression(metrics.classifier)
    with pytest.raises(TypeError, match="closeness must map names to measures, got list"):
        DecisionMetrics(metrics.classifier, closeness=[ClassDensity(bandwidth=1.0)])
    with pytest.raises(ValueError, match="closeness can't be called entropy, which is measured anyway"):
        DecisionMetrics(metrics.classifier, closeness={"entropy": ClassDensity(bandwidth=1.0)})
    with pytest.raises(ValueError, match="bandwidth must be a positive number, got '1'"):
        ClassDensity(bandwidth="1")


def test_closeness_is_to_the_classes_asked_for(classifier, metrics, mnist, real_images):
    classes = np.arange(40) % 10
    found = metrics.closeness_to(real_images[:40], classes)["KL divergence"]
    divergence = ClassDivergence().fit(classifier.features(mnist[0]), mnist[1])
    np.testing.assert_allclose(found, divergence.divergence(classifier.features(real_images[:40]), classes))


def test_what_lies_before_the_first_dropout_is_computed_once(classifier, real_images, monkeypatch):
    layer, calls = classifier.model.get_layer("conv1"), []
    original = layer.call
    monkeypatch.setattr(layer, "call", lambda *args, **kwargs: calls.append(len(args[0])) or original(*args, **kwargs))
    MonteCarloDropout(classifier.model, passes=20).tensor(tf.constant(real_images[:4]))
    assert calls[-1:] == [4]
    assert 80 not in calls
