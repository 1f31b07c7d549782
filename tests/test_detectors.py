"""Detectors: the interface that all share, the trivial baselines, and the study's networks."""

import numpy as np
import pandas as pd
import pytest
from art.defences.detector.evasion import EvasionDetector
from scipy.ndimage import median_filter

from advlens.detectors.baselines import (
    MaxSoftmax,
    MedianFilterDistance,
    NonZeroBackground,
    OffGreyLevels,
    TotalVariation,
    trivial_baselines,
)
from advlens.detectors.cnn import InputClassifier, RelevancyClassifier, _as_square
from advlens.explanations import colour_map, explain
from advlens.image_files import through
from advlens.metrics import threshold_at_fpr
from advlens.training import Trained


@pytest.fixture(scope="module")
def brightened(real_images):
    """Images with a grey veil: an "attack" that any detector of pixels should learn."""
    return np.clip(real_images + 0.1, 0, 1)


@pytest.fixture(scope="module")
def fitted(real_images, brightened):
    images, truth = np.concatenate([real_images[:150], brightened[:150]]), np.repeat([0, 1], 150)
    return InputClassifier(epochs=15, batch_size=32).fit(images, truth)


def test_a_fitted_detector_scores_attacks_higher_than_normal_images(fitted, real_images, brightened):
    normal, attacked = fitted.scores(real_images[150:250]), fitted.scores(brightened[150:250])
    assert (attacked > 0).mean() > 0.9
    assert (normal < 0).mean() > 0.9


def test_a_score_does_not_depend_on_the_other_images(fitted, real_images):
    np.testing.assert_allclose(fitted.scores(real_images[:40])[7:8], fitted.scores(real_images[7:8]), atol=1e-4)


def test_calibration_commits_a_threshold_that_detect_uses(fitted, real_images, brightened):
    fitted.calibrate(real_images[150:250], fpr=0.05)
    report, flagged = fitted.detect(real_images[150:250])
    assert flagged.sum() <= 5
    np.testing.assert_array_equal(flagged, report["scores"] > report["threshold"])
    assert fitted.detect(brightened[150:250])[1].mean() > 0.9


def test_detectors_plug_into_art(fitted):
    assert isinstance(fitted, EvasionDetector)
    assert fitted.get_params()["network"] == "slide_detector_cnn"
    fitted.set_params(patience=7)
    assert fitted.get_params()["patience"] == 7


def test_the_same_seed_trains_the_same_detector(real_images, brightened):
    images, truth = np.concatenate([real_images[:40], brightened[:40]]), np.repeat([0, 1], 40)
    scores = [InputClassifier(epochs=2, seed=seed).fit(images, truth).scores(images) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.abs(scores[0] - scores[2]).max() > 1e-3


def test_early_stopping_keeps_the_best_epoch(real_images, brightened):
    images, truth = np.concatenate([real_images[:60], brightened[:60]]), np.repeat([0, 1], 60)
    detector = InputClassifier(epochs=40, patience=2, learning_rate=0.2, batch_size=16)
    detector.fit(images, truth, validation=(images[::3], truth[::3]))
    history = detector.trained_.history
    odds = detector.scores(images[::3])
    loss = np.logaddexp(0, np.where(truth[::3] == 1, -odds, odds)).mean()
    assert len(history) < 40
    assert loss == pytest.approx(history["val_loss"].min(), rel=1e-3)


def test_the_relevancy_classifier_sees_the_maps_of_the_decision(average_pooling_classifier, real_images):
    images = real_images[:12]
    raw = RelevancyClassifier(average_pooling_classifier, method="lrp.z", coloured=False).represent(images)
    maps = explain(average_pooling_classifier.model, images, method="lrp.z")
    np.testing.assert_allclose(raw, maps, atol=1e-6)
    coloured = RelevancyClassifier(average_pooling_classifier, method="lrp.z").represent(images)
    np.testing.assert_allclose(coloured, colour_map(maps), atol=1e-6)
    assert coloured.shape == (12, 28, 28, 3)


def test_last_layer_maps_are_laid_out_as_a_padded_square():
    square = _as_square(np.arange(14, dtype=np.float32).reshape(2, 1, 1, 7))
    assert square.shape == (2, 3, 3, 1)
    assert square[1].ravel().tolist() == [7, 8, 9, 10, 11, 12, 13, 0, 0]


def test_a_relevancy_classifier_trains_on_last_layer_maps(average_pooling_classifier, real_images, brightened):
    images, truth = np.concatenate([real_images[:20], brightened[:20]]), np.repeat([0, 1], 20)
    detector = RelevancyClassifier(average_pooling_classifier, from_layer="last", epochs=1).fit(images, truth)
    assert detector.scores(images).shape == (40,)


# ---------------------------------------------------------------- trivial baselines


def test_every_baseline_rates_a_veil_of_noise_above_the_clean_image(average_pooling_classifier, real_images):
    noisy = np.clip(real_images + np.random.default_rng(0).normal(0, 0.2, real_images.shape), 0, 1).astype(np.float32)
    for name, detector in trivial_baselines(average_pooling_classifier).items():
        higher = (detector.scores(noisy) > detector.scores(real_images)).mean()
        assert higher > 0.8, name


def test_baselines_equal_their_definitions_pixel_by_pixel(real_images):
    image = np.clip(real_images[:1] + np.random.default_rng(1).normal(0, 0.05, real_images[:1].shape), 0, 1)
    image = image.astype(np.float32)
    pixels = image[0, :, :, 0]
    filtered = median_filter(pixels, size=3, mode="nearest")
    assert MedianFilterDistance().scores(image)[0] == pytest.approx(np.linalg.norm(pixels - filtered), rel=1e-5)
    assert NonZeroBackground().scores(image)[0] == ((pixels > 0) & (filtered < 0.1)).sum()
    total = sum(abs(float(pixels[i, j]) - float(pixels[i + 1, j])) for i in range(27) for j in range(28))
    total += sum(abs(float(pixels[i, j]) - float(pixels[i, j + 1])) for i in range(28) for j in range(27))
    assert TotalVariation().scores(image)[0] == pytest.approx(total, rel=1e-5)


def test_off_grey_levels_counts_what_no_8_bit_image_has(real_images):
    assert OffGreyLevels().scores(real_images).max() == 0
    shifted = real_images[:1].copy()
    shifted[0, :7, :, 0] = 0.5 / 255
    assert OffGreyLevels().scores(shifted)[0] == pytest.approx(0.25)


def test_max_softmax_keeps_its_digits_where_the_network_is_sure(average_pooling_classifier, real_images):
    logits = average_pooling_classifier.logits(real_images).astype(np.float64)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    scores = MaxSoftmax(average_pooling_classifier).scores(real_images)
    np.testing.assert_allclose(scores, 1 - probabilities.max(axis=1), atol=1e-6)
    assert len(np.unique(scores)) == len(scores)


# ---------------------------------------------------------------- bad input


def test_bad_input_is_named(average_pooling_classifier, real_images):
    untrained = InputClassifier()
    with pytest.raises(RuntimeError, match="not trained yet: call fit"):
        untrained.scores(real_images)
    with pytest.raises(RuntimeError, match="no threshold yet: call calibrate"):
        TotalVariation().detect(real_images)
    with pytest.raises(ValueError, match="is_adversarial must hold both 0 and 1"):
        untrained.fit(real_images[:4], np.ones(4))
    with pytest.raises(ValueError, match=r"is_adversarial must have shape \(4,\)"):
        untrained.fit(real_images[:4], np.ones(3))
    with pytest.raises(ValueError, match=r"must hold both 0 and 1 and nothing else, got \[0.0, 0.5, 1.0\]"):
        untrained.fit(real_images[:4], [0, 0.5, 1, 1])
    with pytest.raises(ValueError, match=r"validation's is_adversarial must have shape \(3,\)"):
        untrained.fit(real_images[:4], [0, 1, 0, 1], validation=(real_images[:3], [0, 1]))
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        untrained.fit(real_images[:4], [0, 1, 0, 1], nb_epochs=0)
    with pytest.raises(TypeError, match="adopt takes a Trained, as training returns, got int"):
        untrained.adopt(3)
    for detector in (RelevancyClassifier, MaxSoftmax):
        with pytest.raises(TypeError, match="classifier must be an advlens Classifier, got NoneType"):
            detector(None)
    with pytest.raises(ValueError, match=r"needs pixels in .* pass coloured=True"):
        RelevancyClassifier(average_pooling_classifier, coloured=False, codec="png")
    with pytest.raises(ValueError, match="divide by 255"):
        TotalVariation().scores(real_images * 255)


def test_parameters_are_checked_when_they_are_set(average_pooling_classifier):
    maps = RelevancyClassifier(average_pooling_classifier, coloured=False)
    with pytest.raises(ValueError, match="pass coloured=True"):
        maps.set_params(codec="wrapped jpeg")
    with pytest.raises(ValueError, match="InputClassifier has no parameter foo: it takes network, codec"):
        InputClassifier().set_params(foo=1)
    with pytest.raises(ValueError, match="learning_rate must be a positive number, got nan"):
        InputClassifier(learning_rate=np.nan)
    with pytest.raises(ValueError, match="no codec is called 'gif'"):
        InputClassifier(codec="gif")
    with pytest.raises(ValueError, match="seed must be a whole number"):
        InputClassifier(seed=-1)


def test_a_network_of_other_outputs_is_not_adopted(average_pooling_classifier):
    with pytest.raises(ValueError, match=r"a detector's network has 2 outputs, got \(10,\)"):
        InputClassifier().adopt(Trained(average_pooling_classifier.model, pd.DataFrame()))


# ---------------------------------------------------------------- what is looked at


def test_detectors_see_what_the_codec_leaves(average_pooling_classifier, real_images):
    images = real_images[:6]
    seen = InputClassifier(codec="wrapped jpeg").represent(images)
    np.testing.assert_array_equal(seen, through("wrapped jpeg", images))
    assert np.abs(seen - images).max() > 0.1
    coloured = RelevancyClassifier(average_pooling_classifier, codec="jpeg").represent(images)
    plain = RelevancyClassifier(average_pooling_classifier).represent(images)
    np.testing.assert_array_equal(coloured, through("jpeg", plain))
    assert np.abs(coloured - plain).max() > 0.01


def test_last_layer_maps_are_of_what_enters_the_last_layer(average_pooling_classifier, real_images):
    images = real_images[:6]
    last = RelevancyClassifier(average_pooling_classifier, from_layer="last", coloured=False).represent(images)
    maps = explain(average_pooling_classifier.model, images, from_layer="conv4")
    np.testing.assert_allclose(last, maps.reshape(6, 10, 10, 1), atol=1e-6)


@pytest.mark.parametrize("fpr", [0.01, 0.1, 0.3])
def test_calibration_commits_the_threshold_of_its_rate(real_images, fpr):
    detector = TotalVariation().calibrate(real_images[:200], fpr=fpr)
    assert detector.threshold_ == threshold_at_fpr(detector.scores(real_images[:200]), fpr)
    assert detector.detect(real_images[:200])[1].sum() == int(200 * fpr)
