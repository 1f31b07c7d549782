"""The attacker who knows the detector: stand-ins against the real lenses, and attacks that must lose when weakened."""

import itertools
from dataclasses import dataclass, replace
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy.stats import norm as gaussian
from scipy.stats import spearmanr

from advlens import adaptive_suite, suite
from advlens.attacks import build_attack, craft, generate
from advlens.attacks.detector_aware import DetectorAwareAttack
from advlens.attacks.detector_aware_boundary import DetectorAwareBoundary
from advlens.benchmark import Benchmark, Strength, adaptive_set, evades, strength_checks
from advlens.benchmark.binarisation import inverted
from advlens.classifier import Classifier
from advlens.detectors import Boosting, Detector, Deviations, Fisher, Logistic, Network, Sign, create
from advlens.detectors.differentiable import DifferentiableScore, head_score
from advlens.lenses import (
    Augmented,
    Baselines,
    Closeness,
    DeepNeighbours,
    Features,
    FeatureSqueezing,
    Joined,
    KernelMeans,
    LeaveOneOut,
    LocalDimensionality,
    LocalEntropy,
    MagNet,
    Mahalanobis,
    MapReconstruction,
    MapUnderDenoising,
    NaturalScenes,
    NoiseReduction,
    Outputs,
    Pixels,
    Relevancy,
    Sensitivity,
    ShapSignature,
    SubsetScanning,
    Uncertainty,
)
from advlens.lenses.differentiable import differentiable
from tests.weakened import WEAKENED, without_gradient

EXACT = {"rtol": 1e-6, "atol": 1e-6}


def with_dropout(classifier):
    """Before the logits of a trained network."""
    *layers, last = classifier.model.layers
    return Classifier(keras.Sequential([keras.Input(classifier.input_shape), *layers, keras.layers.Dropout(0.5), last]))


def uncertain(classifier):
    return Uncertainty(with_dropout(classifier), passes=10)


def of_a_smooth_network(classifier):
    """A ReLU that switches moves the attribution by a jump, which no gradient shows."""
    keras.utils.set_random_seed(0)
    flat, *dense = keras.layers.Flatten(), keras.layers.Dense(20, "softplus"), keras.layers.Dense(10)
    return Sensitivity(Classifier(keras.Sequential([keras.Input(classifier.input_shape), flat, *dense])))


LENSES = {  # and how near the stand-in's values are to the lens's
    "outputs": (Outputs, EXACT),
    "max softmax": (Baselines, EXACT),
    "feature squeezing": (FeatureSqueezing, EXACT),
    "feature squeezing of photographs": (partial(FeatureSqueezing, bits=3, median=3), EXACT),
    "noise reduction": (NoiseReduction, EXACT),
    "augmentation": (Augmented, EXACT),
    "sensitivity": (partial(Sensitivity, draws=3, seed=2), {"rtol": 1e-5}),
    "sensitivity of a smooth network": (of_a_smooth_network, {"rtol": 1e-5}),
    "leave one out": (partial(LeaveOneOut, patch=5), {"rtol": 1e-4, "atol": 1e-5}),
    "uncertainty": (uncertain, {"rtol": 1e-4, "atol": 1e-6}),
    "closeness": (partial(Closeness, bandwidth=3.0), {"rtol": 1e-6}),
    "closeness, shares": (partial(Closeness, bandwidth=3.0, conversion="share"), {"rtol": 1e-6}),
    "local dimensionality": (partial(LocalDimensionality, k=10, reference=200), {"rtol": 1e-4}),
    "magnet": (partial(MagNet, images=200, epochs=1), {"rtol": 1e-5, "atol": 1e-6}),
    "map reconstruction": (partial(MapReconstruction, images=200, epochs=1), {"rtol": 1e-3}),
    "mahalanobis": (Mahalanobis, {"rtol": 1e-2}),  # float32 means over places, amplified by the inverse covariance
    "shap signature": (ShapSignature, {"rtol": 1e-4, "atol": 1e-5}),
    "kernel means": (partial(KernelMeans, reference=100), {"rtol": 1e-6}),
    "subset scanning": (partial(SubsetScanning, reference=100), {"rtol": 1e-6}),
    "natural scenes": (lambda classifier: NaturalScenes(classifier.input_shape), {"rtol": 1e-6, "atol": 1e-5}),
    "map under denoising": (MapUnderDenoising, {"atol": 2e-2}),  # a rank may change where iNNvestigate rounds otherwise
    "pixels": (lambda classifier: Pixels(classifier.input_shape), EXACT),
    "local entropy": (LocalEntropy, {"atol": 1e-2}),  # in bits; a level may flip where iNNvestigate rounds otherwise
    "relevancy": (Relevancy, {"rtol": 1e-4, "atol": 1e-6}),
    "relevancy, last layer": (partial(Relevancy, last_layer=True), {"rtol": 1e-4, "atol": 1e-6}),
}


@pytest.fixture(scope="module")
def attacked(max_pooling_classifier, mnist):
    """The last 40 images that the network gets right, and their classes."""
    images, labels = mnist
    right = np.flatnonzero(max_pooling_classifier.predict(images).argmax(axis=1) == labels)[-40:]
    return images[right], labels[right]


@pytest.fixture(scope="module")
def calibrated(max_pooling_classifier, mnist):
    """Name → a detector with a threshold."""
    classifier, (images, labels) = max_pooling_classifier, mnist
    density = Detector(Closeness(classifier, bandwidth=3.0), Sign("KDE", -1), columns=("KDE",), name="density")
    made = {name: create(name, classifier) for name in ("max_softmax", "energy", "first_layer_distance")}
    made["kernel density"] = density
    return {name: each.fit(images[:200], labels[:200]).calibrate(images[200:]) for name, each in made.items()}


@pytest.fixture(scope="module")
def dense_classifier(mnist):
    """One hidden layer, quick to ask."""
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense(64, "relu"), keras.layers.Dense(10)
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), *dense])
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(*mnist, batch_size=32, epochs=15, verbose=0)
    return Classifier(network)


@pytest.fixture(scope="module")
def quick(dense_classifier, mnist):
    """The network, a calibrated detector, 20 images that the network gets right, and their classes."""
    images, labels = mnist
    detector = create("max_softmax", dense_classifier).fit(images[:200], labels[:200]).calibrate(images[200:])
    right = np.flatnonzero(dense_classifier.predict(images).argmax(axis=1) == labels)[-20:]
    return dense_classifier, detector, images[right], labels[right]


def seen(lens, images):
    """The stand-in's measurements of images, and the gradient of their sum."""
    stand_in = differentiable(lens)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        measured = stand_in.measure(x, *stand_in.context(images))
        total = tf.reduce_sum(measured)
    return measured.numpy(), tape.gradient(total, x).numpy(), lens.measure(images)[list(stand_in.columns)].to_numpy()


# Stand-ins


@pytest.mark.parametrize("name", LENSES)
def test_a_stand_in_has_the_lens_s_values_and_a_finite_gradient_everywhere(name, max_pooling_classifier, mnist):
    kind, tolerance = LENSES[name]
    lens = kind(max_pooling_classifier).fit(mnist[0][:300], mnist[1][:300])
    measured, gradient, wanted = seen(lens, mnist[0][300:310])
    np.testing.assert_allclose(measured, wanted, **tolerance)
    assert np.isfinite(gradient).all()
    assert gradient.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize(
    "name",
    [
        *("outputs", "max softmax", "uncertainty", "closeness", "mahalanobis", "local dimensionality"),
        *("augmentation", "sensitivity of a smooth network", "leave one out", "kernel means", "natural scenes"),
    ],
)
def test_an_exact_gradient_is_that_of_the_lens_by_differences(name, max_pooling_classifier, mnist):
    kind, _ = LENSES[name]
    lens = kind(max_pooling_classifier).fit(mnist[0][:300], mnist[1][:300])
    noise = np.random.default_rng(0).random((1, 28, 28, 1), dtype=np.float32)  # or max pooling had ties
    image = 0.8 * mnist[0][300:301] + 0.05 * noise + 0.1
    gradient, columns = seen(lens, image)[1], list(differentiable(lens).columns)
    way = gradient / np.sqrt(np.square(gradient).sum())
    ahead, behind = (lens.measure(image + sign * 3e-3 * way)[columns].to_numpy().sum() for sign in (1, -1))
    near = 0.05 if name == "natural scenes" else 0.02  # shapes come from a table, in steps
    assert (ahead - behind) / 6e-3 == pytest.approx((gradient * way).sum(), rel=near)


@pytest.mark.parametrize("name", ["map under denoising", "subset scanning", "feature squeezing", "local entropy"])
def test_a_step_against_a_stand_in_s_gradient_lowers_what_the_lens_measures(name, max_pooling_classifier, mnist):
    kind, _ = LENSES[name]
    lens = kind(max_pooling_classifier).fit(mnist[0][:300], mnist[1][:300])
    images = np.clip(mnist[0][300:340] + np.random.default_rng(0).normal(0, 0.1, (40, 28, 28, 1)), 0, 1)
    images, column = images.astype(np.float32), -1
    stand_in = differentiable(lens)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        total = tf.reduce_sum(stand_in.measure(x)[:, column])
    stepped = np.clip(images - 0.03 * np.sign(tape.gradient(total, x)), 0, 1)
    before, after = (lens.measure(each).to_numpy()[:, column] for each in (images, stepped))
    assert after.mean() < before.mean()
    assert (after < before).mean() > 0.6


def test_the_soft_share_of_other_neighbours_orders_images_as_deep_knn(max_pooling_classifier, mnist):
    images, labels = mnist
    lens = DeepNeighbours(max_pooling_classifier, k=10, conformal_images=50).fit(images[:300], labels[:300])
    shown = np.concatenate([images[300:330], generate_fgsm(max_pooling_classifier, images[300:330])])
    measured, gradient, wanted = seen(lens, shown)
    assert 0 <= measured.min() <= measured.max() <= 1
    pairs = zip(measured.T, wanted.T, (0.85, 0.85, 0.7), strict=True)  # the confidence has three values here
    assert all(spearmanr(ours, theirs).statistic > least for ours, theirs, least in pairs)
    assert np.isfinite(gradient).all()
    assert gradient.any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", sorted({*suite.DETECTORS, *adaptive_suite.DETECTORS}))
def test_every_lens_of_the_suite_has_a_stand_in(name, max_pooling_classifier):
    lens = create(name, with_dropout(max_pooling_classifier)).lens
    for part in getattr(lens, "lenses", [lens]):
        assert differentiable.dispatch(type(part)) is not differentiable.registry[object]


@pytest.mark.parametrize("name", ["noise reduction", "neighbours"])
def test_a_stand_in_of_several_columns_has_all_of_them(name, max_pooling_classifier, mnist):
    lens = {"noise reduction": NoiseReduction, "neighbours": partial(DeepNeighbours, k=10, conformal_images=50)}[name]
    lens = lens(max_pooling_classifier).fit(mnist[0][:300], mnist[1][:300])
    assert differentiable(lens).columns == lens.columns


def test_joined_lenses_have_what_their_parts_have(max_pooling_classifier, mnist):
    classifier = max_pooling_classifier
    neighbours = DeepNeighbours(classifier, k=10, conformal_images=50)
    parts = [Outputs(classifier), Features(classifier), Joined([neighbours, FeatureSqueezing(classifier)])]
    joined = Joined(parts).fit(mnist[0][:300], mnist[1][:300])
    stand_in, images = differentiable(joined), mnist[0][300:310]
    alone = [differentiable(each) for each in (parts[0], neighbours, parts[2].lenses[1])]
    assert stand_in.columns == tuple(column for each in alone for column in each.columns)
    wanted = [each.measure(tf.constant(images), *each.context(images)) for each in alone]
    found = stand_in.measure(tf.constant(images), *stand_in.context(images))
    np.testing.assert_allclose(found, tf.concat(wanted, axis=1), rtol=1e-6)


def test_smooth_p_values_rise_as_those_of_a_gaussian_and_go_on_where_no_normal_image_is():
    normal = np.random.default_rng(0).standard_normal((5000, 1))
    head = Fisher().fit(pd.DataFrame(np.concatenate([normal, [[9.0]]])), np.arange(5001) == 5000)
    values = tf.constant([[0.0], [1.0], [2.0], [50.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(values)
        scores = head_score(head, values)
    np.testing.assert_allclose(scores, head.score(pd.DataFrame(values.numpy())))
    *slopes, far = tape.gradient(scores, values).numpy()[:, 0]
    wanted = [2 * gaussian.pdf(each) / gaussian.sf(each) for each in (0, 1, 2)]  # of −2 log p
    np.testing.assert_allclose(slopes, wanted, rtol=0.1)
    assert far > slopes[2]


def generate_fgsm(classifier, images):
    return build_attack("fgsm", classifier, eps=31 / 255).generate(images)


@pytest.mark.parametrize("head", [Sign("energy", -1), Logistic(), Deviations(), Fisher(), Network((1, 2, 1), epochs=2)])
def test_a_differentiable_score_is_the_detector_s(head, max_pooling_classifier, mnist):
    if isinstance(head, Network):
        head.model_, head.scale_ = tf.keras.Sequential([tf.keras.Input((1, 2, 1)), tf.keras.layers.Flatten()]), 0.5
    detector = Detector(Outputs(max_pooling_classifier), head, name="made")
    if isinstance(head, Logistic | Fisher):
        detector.learn(mnist[0][:40], np.arange(40) % 2)
    images = mnist[0][300:305]
    np.testing.assert_allclose(detector.differentiable_scores(tf.constant(images)), detector.scores(images), rtol=1e-5)


def test_what_has_no_gradient_is_said_in_one_sentence(max_pooling_classifier):
    score = partial(Detector, name="mine")
    for lens, head, columns, error, said in (
        (Features(max_pooling_classifier), Logistic(), None, ValueError, "features has no differentiable"),
        (Relevancy(max_pooling_classifier, coloured=True), Logistic(), None, ValueError, "coloured=False"),
        (Baselines(max_pooling_classifier), Logistic(), None, ValueError, "mine sees non-zero background"),
        (Outputs(max_pooling_classifier), Boosting(), None, ValueError, "a Boosting head has no gradient"),
        (Outputs(max_pooling_classifier), Logistic(), None, RuntimeError, "has not learnt yet"),
        (Outputs(max_pooling_classifier), Sign("score", 1), None, ValueError, "mine sees score, which"),
        (Mahalanobis(max_pooling_classifier), Logistic(), None, RuntimeError, "seen no training images"),
    ):  # fmt: skip
        with pytest.raises(error, match=said):
            DifferentiableScore(score(lens, head, columns=columns))
    loose = score(Outputs(max_pooling_classifier), Sign("energy", 1))
    with pytest.raises(RuntimeError, match="until_unflagged needs a threshold"):
        DetectorAwareAttack(max_pooling_classifier, loose, eps=0.1, until_unflagged=True)


# The attack


@pytest.mark.parametrize("norm", ["inf", 2])
def test_it_stays_in_the_ball_and_the_box_and_on_the_grid(norm, max_pooling_classifier, calibrated, attacked):
    images, eps = attacked[0][:20], 31 / 255 if norm == "inf" else 2.0
    about = {"eps": eps, "norm": norm, "max_iter": 8, "restarts": 2, "strategies": ("orthogonal", 0.5), "refresh": 3}
    attack = DetectorAwareAttack(max_pooling_classifier, calibrated["energy"], **about)
    made = attack.generate(images)
    lengths = np.linalg.norm((made - images).reshape(20, -1), ord=np.inf if norm == "inf" else 2, axis=1)
    assert 0.5 * eps < lengths.max() <= eps + 1e-6
    assert 0 <= made.min() <= made.max() <= 1
    np.testing.assert_allclose(made * 255, np.rint(made * 255), atol=1e-4)
    np.testing.assert_array_equal(made, attack.generate(images))
    floats = attack.changed(eight_bit=False).generate(images)
    assert np.abs(floats * 255 - np.rint(floats * 255)).max() > 0.1


@pytest.mark.parametrize(("norm", "eps"), [("inf", 0.35 / 255), (2, 0.05)])
def test_from_between_two_levels_it_is_not_rounded_out_of_a_small_ball(norm, eps, quick):
    classifier, detector, x, y = quick
    x = np.clip(x + np.float32(0.4 / 255), 0, 1)
    made = DetectorAwareAttack(classifier, detector, eps, norm=norm, max_iter=8, score_alone=True).generate(x, y)
    lengths = np.linalg.norm((made - x).reshape(20, -1), ord=np.inf if norm == "inf" else 2, axis=1)
    assert lengths.max() <= eps * 1.01


@pytest.mark.parametrize(
    ("name", "eps", "at_most", "at_least"),
    [("max_softmax", 50, 0.6, 0.75), ("energy", 60, 0.8, 0.9), ("first_layer_distance", 77, 0.05, 0.8)],
)
def test_it_evades_where_pgd_does_not(name, eps, at_most, at_least, max_pooling_classifier, calibrated, attacked):
    classifier, detector, (x, y) = max_pooling_classifier, calibrated[name], attacked
    pgd = generate(build_attack("pgd", classifier, eps=eps / 255), x, y, seed=0)
    assert (classifier.predict(pgd).argmax(axis=1) != y).mean() > 0.85
    assert evades(classifier, detector, pgd, y).mean() <= at_most
    made = DetectorAwareAttack(classifier, detector, eps=eps / 255, max_iter=40).generate(x, y)
    assert evades(classifier, detector, made, y).mean() >= at_least


@pytest.mark.parametrize(
    (
        "name",
        "weakness",
    ),  # of a density, the best of all images on the way evades whichever way its gradient is followed
    [
        *itertools.product(["first_layer_distance"], WEAKENED),
        *itertools.product(["kernel density"], list(WEAKENED)[:2]),
    ],
)
def test_weakened_on_purpose_it_evades_less(name, weakness, max_pooling_classifier, calibrated, attacked):
    classifier, detector, (x, y) = max_pooling_classifier, calibrated[name], attacked
    attack = DetectorAwareAttack(classifier, detector, eps=77 / 255, max_iter=20)
    attacks = (attack, WEAKENED[weakness](attack))
    strong, weaker = (evades(classifier, detector, each.generate(x, y), y).mean() for each in attacks)
    assert strong > 0.7
    assert weaker < strong - 0.3


@pytest.mark.parametrize("name", ["first_layer_distance", "energy"])
def test_leaving_alone_what_evades_costs_no_evasion(name, max_pooling_classifier, calibrated, attacked):
    detector, (x, y) = calibrated[name], attacked
    attack = DetectorAwareAttack(max_pooling_classifier, detector, eps=77 / 255, max_iter=20, restarts=2, refresh=2)
    short = attack.changed(until_unflagged=True)
    whole, found = (evades(max_pooling_classifier, detector, each.generate(x, y), y) for each in (attack, short))
    np.testing.assert_array_equal(found, whole)
    assert short._steps < attack._steps / 2


def test_restarts_reach_what_the_first_walk_did_not_misclassify(quick):
    classifier, _, x, y = quick
    silent = create("max_softmax", classifier)
    silent.threshold_, silent.observed_fpr_ = 1.0, 0.0
    about = {"eps": 20 / 255, "eps_step": 20 / 255, "max_iter": 2, "strategies": ("selective",)}

    def found(**more):
        made = DetectorAwareAttack(classifier, silent, **about, **more).generate(x, y)
        return evades(classifier, silent, made, y)

    whole, short = (found(restarts=3, until_unflagged=each) for each in (False, True))
    assert whole.sum() > found(until_unflagged=True).sum()
    np.testing.assert_array_equal(short, whole)


def test_of_the_images_judged_the_one_with_the_lowest_real_score_is_kept(quick, monkeypatch):
    classifier, detector, x, y = quick
    real, judged = detector.scores, []
    monkeypatch.setattr(detector, "scores", lambda images: judged.append(real(images)) or judged[-1])
    about = {"stand_in": inverted(detector), "eps": 77 / 255, "max_iter": 20, "refresh": 2}
    made = DetectorAwareAttack(classifier, detector, **about).generate(x[:1], y[:1])
    scores = np.concatenate(judged)
    assert scores.min() < scores[-1]  # the opposed stand-in leads away from it
    assert real(made)[0] == scores.min()


@pytest.fixture(scope="module")
def trees(max_pooling_classifier, mnist):
    """A calibrated detector without a gradient, and one that has one, of the same lens and images."""
    images, truth = mnist[0][:200], np.arange(200) % 2
    shown = np.where(truth[:, None, None, None] == 1, generate_fgsm(max_pooling_classifier, images), images)
    lens = Mahalanobis(max_pooling_classifier).fit(*(each[:200] for each in mnist))
    made = (Detector(lens, head, name=type(head).__name__).learn(shown, truth) for head in (Boosting(), Logistic()))
    with pytest.warns(UserWarning, match="score exactly the threshold"):  # few trees have few scores
        return [each.calibrate(mnist[0][200:]) for each in made]


def test_a_stand_in_leads_where_a_head_has_no_gradient(max_pooling_classifier, trees, attacked):
    (x, y), (boosting, logistic) = attacked, trees
    with pytest.raises(ValueError, match="stand_in"):
        DetectorAwareAttack(max_pooling_classifier, boosting, eps=77 / 255)
    about = {"stand_in": logistic, "eps": 77 / 255, "max_iter": 20, "refresh": 2}
    made = DetectorAwareAttack(max_pooling_classifier, boosting, **about).generate(x, y)
    pgd = generate(build_attack("pgd", max_pooling_classifier, eps=77 / 255), x, y, seed=0)
    before, after = (evades(max_pooling_classifier, boosting, each, y).mean() for each in (pgd, made))
    assert after > before + 0.7


@pytest.mark.parametrize(("norm", "eps"), [(2, 2.0), ("inf", 0.4)])
def test_decisions_alone_lead_to_images_that_evade(norm, eps, max_pooling_classifier, trees, mnist, attacked):
    detector, (x, y) = trees[0], (each[:20] for each in attacked)
    about = {"starts": mnist[0][:200], "norm": norm, "queries": 60}
    short, long = (DetectorAwareBoundary(max_pooling_classifier, detector, eps, max_iter=n, **about) for n in (1, 10))
    made = short.generate(x, y)
    np.testing.assert_array_equal(made, short.generate(x, y))
    before, made = (made != x).any(axis=(1, 2, 3)).mean(), long.generate(x, y)
    lengths = np.linalg.norm((made - x).reshape(20, -1), ord=np.inf if norm == "inf" else 2, axis=1)
    assert lengths.max() <= eps + 1e-5
    np.testing.assert_allclose(made * 255, np.rint(made * 255), atol=1e-4)
    np.testing.assert_array_equal(evades(max_pooling_classifier, detector, made, y), lengths > 0)
    assert (lengths > 0).mean() > before + 0.1


def test_in_a_slightly_larger_ball_between_two_levels_decisions_lead_no_less_far(quick, mnist):
    classifier, detector, x, y = quick

    def distances(x, eps):
        made = DetectorAwareBoundary(classifier, detector, eps, mnist[0][:200], max_iter=4, queries=20).generate(x, y)
        return evades(classifier, detector, made, y), np.abs(made - x).max(axis=(1, 2, 3))

    (on, near), (between, far) = (distances(x, eps / 255) for eps in (77, 77.6))
    assert on.mean() > 0.3
    assert between.mean() >= on.mean()
    assert max(near.max(), far.max()) <= 77 / 255 + 1e-6
    off_grid = np.clip(x + np.float32(0.4 / 255), 0, 1)
    found, far = distances(off_grid, 77 / 255)
    assert found.mean() >= on.mean() - 0.1
    assert far.max() <= 77 / 255 + 1e-6


def test_starts_that_are_all_flagged_are_refused(max_pooling_classifier, calibrated, attacked):
    noise = np.random.default_rng(0).random((5, 28, 28, 1), dtype=np.float32)
    attack = DetectorAwareBoundary(max_pooling_classifier, calibrated["first_layer_distance"], 0.1, noise)
    with pytest.raises(ValueError, match="all 5 starts are flagged"):
        attack.generate(*attacked)


def test_strength_is_shown_or_what_is_lacking_named(max_pooling_classifier, calibrated, attacked):
    x, y = (each[:25] for each in attacked)
    attack = DetectorAwareAttack(
        max_pooling_classifier, calibrated["energy"], eps=77 / 255, max_iter=40, strategies=("selective",)
    )
    shown = strength_checks(attack, x, y)
    assert shown.potentially_unreliable == ""
    assert shown.evasion > shown.oblivious
    assert len(shown.checks) == 7
    weak = strength_checks(attack.changed(max_iter=2, eps_step=1 / 255), x, y)
    for check in ("evasion with", "evasion: ", "evasion without bounds"):
        assert check in weak.potentially_unreliable


BELOW_PGD, NOT_HIDDEN = "evasion", "flagged images whose score alone is hidden"
MUST_FAIL = {
    "short steps": {BELOW_PGD, NOT_HIDDEN, "evasion without bounds"},
    "one step": {BELOW_PGD, NOT_HIDDEN, "evasion without bounds"},
    "wrong sign": {BELOW_PGD, NOT_HIDDEN},
    "no gradient": {BELOW_PGD, NOT_HIDDEN, "evasion without bounds", "steps without a gradient"},
}


@pytest.mark.parametrize("weakness", MUST_FAIL)
def test_a_weakness_fails_the_checks_of_strength_that_are_made_for_it(weakness, quick):
    classifier, detector, x, y = quick
    attack = DetectorAwareAttack(classifier, detector, eps=20 / 255, max_iter=20, strategies=("selective",))
    weak = (WEAKENED | {"no gradient": without_gradient})[weakness](attack)
    checks = strength_checks(weak, x, y).checks
    assert MUST_FAIL[weakness] <= set(checks.loc[~checks["passed"], "check"])
    assert weak.zero_gradients_ == (weakness == "no gradient")


@dataclass(frozen=True)
class Scripted:
    """In an attack's place: a script says of how many images it finds one that evades, or is not flagged."""

    estimator: Classifier
    detector: Detector
    clean: np.ndarray  # not flagged
    script: dict
    part: str = "evasion"
    eps, norm, eight_bit, seed, max_iter, restarts = 20 / 255, "inf", True, 0, 10, 1

    @property
    def zero_gradients_(self):
        return self.script["lost"]

    def changed(self, **parameters):
        ((part, value),) = parameters.items()
        part = part if part != "eps" else "nearer" if value < self.eps else "unbounded"
        return replace(self, part=part)

    def generate(self, images, labels):
        np.testing.assert_allclose(images * 255, np.rint(images * 255), atol=1e-4)  # PGD's are rounded as well
        classes, made = self.estimator.predict(self.clean).argmax(axis=1), images.copy()
        for place in range(round(self.script[self.part] * len(images))):
            made[place] = self.clean[classes != labels[place]][0]
        return made


SCRIPT = {"evasion": 0.8, "max_iter": 0.85, "restarts": 0.75, "score_alone": 1.0, "nearer": 0.8}
SCRIPT |= {"unbounded": 1.0, "lost": 0.05}


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({}, ""),
        ({"max_iter": 0.9}, "evasion with twice the steps"),
        ({"max_iter": 0.7}, "evasion with twice the steps"),
        ({"restarts": 0.9}, "evasion with a restart"),
        (dict.fromkeys(("evasion", "max_iter", "restarts", "nearer"), 0), "evasion"),
        ({"score_alone": 0.5}, "flagged images whose score alone is hidden"),
        ({"nearer": 0.85}, "evasion at half the ε"),
        ({"unbounded": 0.9}, "evasion without bounds"),
        ({"lost": 0.1}, "steps without a gradient"),
    ],
)
def test_each_check_of_strength_fails_alone(changes, fails, quick, mnist):
    classifier, detector, x, y = quick
    clean = mnist[0][:50][~detector.detect(mnist[0][:50])[1]]
    checks = strength_checks(Scripted(classifier, detector, clean, SCRIPT | changes), x, y).checks
    assert "; ".join(checks.loc[~checks["passed"], "check"]) == fails
    assert ("evasion at half the ε" in set(checks["check"])) == (fails != "evasion")  # 0 of 0 says nothing


def test_a_check_with_nothing_to_compare_is_left_out(quick, mnist):
    classifier, _, x, y = quick
    silent, loud = create("max_softmax", classifier), create("max_softmax", classifier)
    silent.threshold_, loud.threshold_, silent.observed_fpr_, loud.observed_fpr_ = 1.0, -2.0, 0.0, 1.0
    hidden, compared = "flagged images whose score alone is hidden", {"evasion", "evasion at half the ε"}
    found = [
        set(strength_checks(Scripted(classifier, each, mnist[0][:50], SCRIPT), x, y).checks["check"])
        for each in (silent, loud)
    ]
    assert hidden not in found[0]
    assert found[0] >= compared
    assert hidden in found[1]
    assert not found[1] & compared


def test_failed_checks_are_named():
    checks = pd.DataFrame({"check": ["a", "b"], "found": [0.5, 1.0], "wanted": ["0.9", "1"], "passed": [False, True]})
    assert Strength(0.5, 0.6, checks).potentially_unreliable == "a: 0.5, not 0.9"


def test_an_adaptive_set_stands_in_the_long_table_with_its_knowledge(
    max_pooling_classifier, calibrated, mnist, attacked
):
    classifier, (images, labels) = max_pooling_classifier, mnist
    about = {"clean_images": images, "clean_labels": labels, "seed": 1, "n_seeds": 1}
    source = np.flatnonzero(classifier.predict(images).argmax(axis=1) == labels)[:60]
    pgd = craft("pgd", classifier, images[source], labels[source], source=source, eps=77 / 255)
    benchmark = Benchmark(classifier, {"pgd": pgd}, **about)
    detector = calibrated["first_layer_distance"]
    made = adaptive_set(benchmark, detector, like="pgd", max_iter=20)
    assert made.parameters["eps"] == 77 / 255
    np.testing.assert_array_equal(made.source, pgd.source)
    both = Benchmark(classifier, {"pgd": pgd, "adaptive": made}, **about)
    table = both.run([detector, calibrated["energy"]], wanted=("roc_auc",)).set_index(["attack", "detector"])
    assert set(table.loc["pgd", "knowledge"]) == {"oblivious"}
    assert table.loc[("adaptive", detector.name), "knowledge"] == "adaptive"
    assert table.loc[("adaptive", "energy"), "knowledge"] == "transfer"
    found = table["estimate"].xs(detector.name, level="detector")
    assert found["adaptive"] < found["pgd"] - 0.3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"norm": 1}, 'norm must be 2 or "inf"'),
        ({"step": "adam"}, 'step must be "sign" or "l2"'),
        ({"strategies": ("best",)}, "strategies must be of selective, orthogonal or weights"),
        ({"strategies": ()}, "strategies must be of"),
        ({"eps": 0.0}, "eps must be a positive number"),
        ({"refresh": 0}, "refresh"),
    ],
)
def test_bad_parameters_are_named(wrong, said, max_pooling_classifier, calibrated):
    with pytest.raises(ValueError, match=said):
        DetectorAwareAttack(max_pooling_classifier, calibrated["energy"], **{"eps": 0.1, **wrong})
