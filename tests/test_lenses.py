"""Lenses and the detectors made of them: what is measured, how it is scored, saved and loaded."""

import pickle

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import median_filter
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from advlens import detectors, networks
from advlens.classifier import Classifier
from advlens.closeness import ClassDensity
from advlens.detectors import BASELINES, Averaged, Boosting, Detector, Deviations, Logistic, Network, Sign, create
from advlens.detectors.heads import HEADS
from advlens.explanations import explain
from advlens.explanations.entropy import average_local_entropy
from advlens.explanations.responses import responses
from advlens.lenses import (
    Baselines,
    Closeness,
    DeepNeighbours,
    Features,
    Joined,
    LocalEntropy,
    Pixels,
    Relevancy,
    Uncertainty,
)
from advlens.neighbours import DeepKNN
from advlens.store import digest
from advlens.uncertainty import MonteCarloDropout


@pytest.fixture(scope="module")
def dropout_classifier() -> Classifier:
    keras.utils.set_random_seed(3)
    return Classifier(networks.build("digits_dropout_cnn"))


@pytest.fixture(scope="module")
def lenses(dropout_classifier, max_pooling_classifier, real_images, real_labels):
    """Every lens, fitted to the first 300 images."""
    made = [
        Baselines(max_pooling_classifier),
        Uncertainty(dropout_classifier, passes=5),
        Closeness(max_pooling_classifier, bandwidth=2.0),
        Features(max_pooling_classifier),
        DeepNeighbours(max_pooling_classifier, k=10, conformal_images=60),
        Pixels((28, 28, 1)),
        Relevancy(max_pooling_classifier, method="gradient"),
        LocalEntropy(max_pooling_classifier),
    ]
    return {lens.name: lens.fit(real_images[:300], real_labels[:300]) for lens in made}


def test_every_lens_gives_a_finite_row_per_image_whatever_the_batch(lenses, real_images):
    images = real_images[300:337]
    for lens in lenses.values():
        together = lens.measure(images)
        assert list(together.columns) == list(lens.columns)
        assert len(together) == 37
        assert np.isfinite(together.to_numpy()).all()
        alone = pd.concat([lens.measure(images[i : i + 1]) for i in (0, 20)], ignore_index=True)
        np.testing.assert_allclose(alone, together.iloc[[0, 20]], rtol=2e-4, atol=2e-5, err_msg=lens.name)


def test_lenses_measure_what_their_references_do(lenses, max_pooling_classifier, real_images, real_labels):
    images, network = real_images[300:320], max_pooling_classifier.model
    logits = max_pooling_classifier.predict(images)
    baselines = lenses["baselines"].measure(images)
    np.testing.assert_allclose(
        baselines["max softmax"], 1 - softmax(logits.astype(float), axis=1).max(axis=1), atol=1e-7
    )
    steps = sum(np.abs(np.diff(images.astype(float), axis=axis)).sum(axis=(1, 2, 3)) for axis in (1, 2))
    np.testing.assert_allclose(baselines["total variation"], steps, rtol=1e-5)
    assert (baselines["off grey levels"] == 0).all()
    density = ClassDensity(bandwidth=2.0).fit(max_pooling_classifier.features(real_images[:300]), real_labels[:300])
    expected = density.log_density(max_pooling_classifier.features(images), logits.argmax(axis=1))
    np.testing.assert_allclose(lenses["closeness"].measure(images)["KDE"], expected)
    np.testing.assert_array_equal(lenses["pixels"].measure(images).to_numpy(), images.reshape(20, -1))
    maps = explain(network, images, method="gradient")
    np.testing.assert_allclose(lenses["relevancy"].measure(images).to_numpy(), maps.reshape(20, -1), atol=1e-6)
    entropy = average_local_entropy(responses(network, images))
    np.testing.assert_allclose(lenses["local entropy"].measure(images)["local entropy"], entropy, rtol=1e-5)
    features = lenses["features"].measure(images)
    np.testing.assert_array_equal(features["predicted"], logits.argmax(axis=1))
    np.testing.assert_array_equal(features.to_numpy()[:, 1:], max_pooling_classifier.features(images))


def test_every_baseline_rates_a_veil_of_noise_above_the_clean_image(lenses, real_images):
    noise = np.random.default_rng(0).normal(0, 0.2, real_images.shape)
    noisy = np.clip(real_images + noise, 0, 1).astype(np.float32)
    higher = (lenses["baselines"].measure(noisy) > lenses["baselines"].measure(real_images)).mean()
    assert (higher > 0.75).all(), higher


def test_pixel_baselines_equal_their_definitions(lenses, real_images):
    image = np.clip(real_images[:1] + np.random.default_rng(1).normal(0, 0.05, real_images[:1].shape), 0, 1)
    pixels = image[0, :, :, 0].astype(np.float32)
    filtered = median_filter(pixels, size=3, mode="nearest")
    scores = lenses["baselines"].measure(image.astype(np.float32)).iloc[0]
    assert scores["median-filter distance"] == pytest.approx(np.linalg.norm(pixels - filtered), rel=1e-5)
    assert scores["non-zero background"] == ((pixels > 0) & (filtered < 0.1)).sum()
    shifted = real_images[:1].copy()
    shifted[0, :7, :, 0] = 0.5 / 255
    assert lenses["baselines"].measure(shifted)["off grey levels"][0] == pytest.approx(0.25)


def test_max_softmax_keeps_its_digits_where_the_network_is_sure(lenses, real_images):
    scores = lenses["baselines"].measure(real_images)["max softmax"]
    assert len(np.unique(scores)) > 0.95 * len(scores)
    assert scores.min() < 1e-6


def test_uncertainty_is_that_of_the_dropout_passes(dropout_classifier, lenses, real_images):
    expected = MonteCarloDropout(dropout_classifier.model, passes=5, seed=0).metrics(real_images[:10])
    measured = lenses["uncertainty"].measure(real_images[:10])
    for name, values in expected.items():
        np.testing.assert_allclose(measured[name], values)


def test_deep_neighbours_hold_out_what_calibrates_them(lenses, max_pooling_classifier, real_images, real_labels):
    lens = lenses["neighbours"]
    training, conformal = lens.training_, lens.conformal_
    assert (len(training[0]), len(conformal[0])) == (240, 60)
    both = np.concatenate([training[0], conformal[0]])
    assert sorted(map(bytes, both)) == sorted(map(bytes, real_images[:300]))
    knn = DeepKNN(max_pooling_classifier, k=10).fit(*training).calibrate(*conformal)
    images = real_images[300:310]
    np.testing.assert_allclose(lens.measure(images)["1 − credibility"], 1 - knn.judge(images).credibility)
    with pytest.raises(ValueError, match="images must be more than k \\+ conformal_images = 70, got 50"):
        DeepNeighbours(max_pooling_classifier, k=10, conformal_images=60).fit(real_images[:50], real_labels[:50])


def test_the_store_knows_a_lens_by_all_that_its_measurements_depend_on(lenses, max_pooling_classifier, real_images):
    seen = {digest(lens) for lens in lenses.values()}
    seen |= {
        digest(Closeness(max_pooling_classifier, bandwidth=3.0)),
        digest(LocalEntropy(max_pooling_classifier, window=5)),
    }
    seen |= {digest(Relevancy(max_pooling_classifier, method=method)) for method in ("gradient", "deep_taylor")}
    assert len(seen) == len(lenses) + 3  # one Relevancy is there twice


def test_joined_lenses_have_all_columns_and_no_two_of_a_name(lenses):
    joined = Joined([lenses["baselines"], lenses["closeness"]])
    assert joined.columns == (*BASELINES, "KDE", "KL divergence")
    with pytest.raises(ValueError, match="different columns, got KDE, KL divergence"):
        Joined([lenses["closeness"], lenses["closeness"]])


# ---------------------------------------------------------------- heads


@pytest.fixture(scope="module")
def rows():
    """300 rows of which the first column tells a little and the second nothing."""
    rng = np.random.default_rng(0)
    truth = np.arange(300) % 2 == 0
    return pd.DataFrame({"tells": rng.normal(size=300) + 1.5 * truth, "noise": rng.normal(size=300)}), truth


def test_regression_and_boosting_are_scikit_learn_s(rows):
    measured, truth = rows
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(measured.to_numpy(), truth)
    ours = Logistic().fit(measured, truth)
    np.testing.assert_allclose(ours.score(measured), theirs.decision_function(measured.to_numpy()), rtol=1e-9)
    np.testing.assert_allclose(ours.probability(measured), theirs.predict_proba(measured.to_numpy())[:, 1])
    trees = HistGradientBoostingClassifier(max_iter=100, random_state=5).fit(measured.to_numpy(), truth)
    np.testing.assert_array_equal(
        Boosting().fit(measured, truth, seed=5).score(measured), trees.decision_function(measured.to_numpy())
    )


def test_deviations_count_ranges_of_normal_images_in_logarithms(rows):
    measured, truth = rows
    normal = measured[~truth]
    z = (measured - normal.median()) / (normal.quantile(0.75) - normal.quantile(0.25))
    seen = np.hstack([np.sign(z) * np.log1p(z.abs()), np.log1p(z.abs())])
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(seen, truth)
    ours = Deviations().fit(measured.assign(constant=3.0), truth)
    np.testing.assert_allclose(ours.score(measured.assign(constant=3.0)), theirs.decision_function(seen), rtol=1e-6)
    with pytest.raises(RuntimeError, match="has not learnt yet"):
        Deviations().score(measured)


def test_deviations_see_an_attack_that_goes_to_either_side():
    truth, sides = np.arange(300) >= 200, np.where(np.arange(300) % 2, 6, -6)
    rows = pd.DataFrame({"one": np.random.default_rng(0).normal(size=300) + truth * sides})
    linear, deviations = (roc_auc_score(truth, kind().fit(rows, truth).score(rows)) for kind in (Logistic, Deviations))
    assert linear < 0.6
    assert deviations > 0.95


def test_averaged_heads_have_the_mean_of_their_bounded_log_odds(rows):
    measured, truth = rows
    head = Averaged().fit(measured, truth, seed=5)
    far = measured * 1e30
    both = [Deviations().fit(measured, truth), Boosting().fit(measured, truth, seed=5)]
    for shown in (measured, far):
        np.testing.assert_array_equal(
            head.score(shown), np.mean([np.clip(h.score(shown), -30, 30) for h in both], axis=0)
        )
    assert np.abs(both[0].score(far)).max() > 30


def test_a_sign_is_found_on_the_rows_given_or_taken_as_given(rows):
    measured, truth = rows
    assert roc_auc_score(truth, Sign("tells").fit(measured, truth).score(measured)) > 0.7
    assert roc_auc_score(truth, Sign("tells").fit(measured, ~truth).score(measured)) < 0.3
    assert Sign("tells", -1).fit(measured, truth).sign == -1
    with pytest.raises(RuntimeError, match="the direction of 'tells' is not known yet"):
        Sign("tells").score(measured)
    with pytest.raises(ValueError, match="sign must be 1, -1 or None"):
        Sign("tells", 2)


def test_a_network_learns_pictures_and_stops_by_the_validation_rows(real_images):
    images = np.concatenate([real_images[:60], 1 - real_images[:60]])
    truth, frame = np.repeat([False, True], 60), Pixels((28, 28, 1)).measure(images)
    head = Network((28, 28, 1), epochs=6, patience=1).fit(frame, truth, seed=1)
    assert roc_auc_score(truth, head.score(frame)) > 0.95
    stopped = Network((28, 28, 1), epochs=50, patience=2).fit(frame, truth, seed=1, validation=(frame, ~truth))
    assert len(stopped.history_) < 50
    np.testing.assert_allclose(head.probability(frame), 1 / (1 + np.exp(-head.score(frame))))
    with pytest.raises(RuntimeError, match="has not learnt yet"):
        Network((28, 28, 1)).score(frame)


@pytest.mark.parametrize("name", ["Sign", "Logistic", "Fisher", "Boosting", "Deviations", "Averaged", "Network"])
def test_a_head_is_restored_from_plain_parts(name, rows, real_images):
    if name == "Network":
        measured, truth = Pixels((28, 28, 1)).measure(real_images[:40]), np.arange(40) % 2 == 0
        head = Network((28, 28, 1), epochs=1)
    else:
        measured, truth = rows
        head = HEADS[name](*(["tells"] if name == "Sign" else []))
    head.fit(measured, truth, seed=2)
    again = HEADS[name](**head.parameters()).restore(head.fitted())
    np.testing.assert_array_equal(again.score(measured), head.score(measured))


# ---------------------------------------------------------------- detectors


@pytest.mark.parametrize(
    "name", ["deep_knn", "local_entropy", "baselines_logistic", "baselines_boosting", "max_softmax"]
)
def test_a_detector_of_the_catalogue_is_fitted_saved_and_loaded(
    name, max_pooling_classifier, real_images, real_labels, tmp_path
):
    about = {"k": 10, "conformal_images": 60} if name == "deep_knn" else {}
    detector = create(name, max_pooling_classifier, **about).fit(real_images[:300], real_labels[:300])
    truth = np.arange(60) % 2
    if name not in ("deep_knn", "max_softmax"):
        detector.learn(real_images[300:360], truth)
    detector.calibrate(real_images[300:360])
    again = detectors.load(detector.save(tmp_path / "saved"), max_pooling_classifier)
    np.testing.assert_array_equal(again.scores(real_images[360:]), detector.scores(real_images[360:]))
    assert again.threshold_ == detector.threshold_
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} <= {".json", ".npz", ".keras"}
    with pytest.raises(TypeError, match=r"save\(folder\) writes plain files"):
        pickle.dumps(detector)
    with pytest.raises(ValueError, match="holds no detector"):
        detectors.load(tmp_path, max_pooling_classifier)


class Given:
    """A lens of given scores."""

    name, family, columns = "given", "input", ("score",)

    def __init__(self, values):
        self.values = np.asarray(values, float)

    def measure(self, images):
        return pd.DataFrame({"score": self.values[: len(images)]})


def detector_of(values) -> Detector:
    return Detector(Given(values), Sign("score", 1), name="given")


def test_thresholds_are_committed_from_enough_clean_images(real_images):
    detector = detector_of(np.arange(100))
    detector.calibrate(real_images[:100], fpr=0.05)
    assert (detector.threshold_, detector.observed_fpr_) == (94, 0.05)
    report, flags = detector.detect(real_images[:100])
    assert flags.sum() == 5
    assert report["observed_fpr"] == 0.05
    with pytest.raises(ValueError, match=r"clean_images must be 19 or more .* of 0\.05, got 18"):
        detector.calibrate(real_images[:18])
    with pytest.raises(RuntimeError, match="has no threshold yet"):
        detector_of([1.0]).detect(real_images[:1])


def test_ties_and_nans_and_training_images_are_said(real_images, real_labels):
    tied = detector_of(np.r_[np.zeros(80), np.ones(20)])
    with pytest.warns(UserWarning, match="20 of 100 clean images score exactly the threshold: .* is 0.000, not 0.05"):
        tied.calibrate(real_images[:100])
    broken = detector_of([np.nan, 0.0, 1.0])
    broken.threshold_, broken.observed_fpr_ = 0.5, 0.05
    with pytest.warns(UserWarning, match="1 of 3 scores are NaN or infinite: these images are flagged"):
        assert broken.detect(real_images[:3])[1].tolist() == [True, False, True]
    fitted = detector_of(np.arange(100))
    fitted.lens.fit = lambda images, labels: None
    fitted.fit(real_images[:100], real_labels[:100])
    with pytest.warns(UserWarning, match="the detector was fitted to 100 of these 100 images"):
        fitted.calibrate(real_images[:100])


def test_wrong_input_is_named(max_pooling_classifier, real_images):
    with pytest.raises(ValueError, match="no detector is called 'magic': choose one of all_six"):
        create("magic", max_pooling_classifier)
    detector = create("max_softmax", max_pooling_classifier)
    with pytest.raises(ValueError, match=r"got \(28, 28, 1\): pass images\[None\]"):
        detector.scores(real_images[0])
    with pytest.raises(ValueError, match="is_adversarial must hold both 0 and 1"):
        detector.learn(real_images[:3], np.ones(3))
    with pytest.raises(ValueError, match="KDE is not measured"):
        Detector(Baselines(max_pooling_classifier), Logistic(), columns=["KDE"], name="x")


def test_trivial_baselines_are_five_alone_and_all_of_them_combined_twice(max_pooling_classifier):
    made = detectors.trivial_baselines(max_pooling_classifier)
    assert [each.name for each in made] == [*BASELINES, "baselines, logistic", "baselines, boosting"]
    assert {each.family for each in made} == {"baseline"}
    assert len({id(each.lens) for each in made}) == 1
