"""The boundary and the one-pixel attack on whole batches, against ART's on one image at a time, and brute force."""

import itertools

import keras
import numpy as np
import pytest
from art.attacks.evasion import BoundaryAttack as ArtBoundaryAttack
from art.attacks.evasion import PixelAttack as ArtPixelAttack
from scipy.ndimage import rotate, shift

from advlens.attacks import boundary
from advlens.attacks.boundary import BoundaryAttack
from advlens.attacks.pixel import PixelAttack
from advlens.attacks.spatial import SpatialAttack
from advlens.classifier import Classifier, logit_margins


@pytest.fixture
def asked(average_pooling_classifier, monkeypatch):
    """How many images the classifier was asked about, and the classifier."""
    counts = {"images": 0}
    predict = average_pooling_classifier.predict

    def counted(x, *args, **kwargs):
        counts["images"] += len(x)
        return predict(x, *args, **kwargs)

    monkeypatch.setattr(average_pooling_classifier, "predict", counted)
    return counts, average_pooling_classifier


def distances(images, adversarial):
    return np.linalg.norm((adversarial - images).reshape(len(images), -1), axis=1)


def test_the_boundary_attack_gets_as_near_as_art_s_with_as_many_queries(asked, real_images, real_labels, right):
    counts, classifier = asked
    images, labels = real_images[right[:40]], real_labels[right[:40]]
    ours = BoundaryAttack(classifier, max_iter=60).generate(images, labels)
    our_queries, counts["images"] = counts["images"], 0
    np.random.seed(0)  # noqa: NPY002
    reference = ArtBoundaryAttack(classifier, targeted=False, max_iter=60, verbose=False).generate(images, labels)
    for adversarial in (ours, reference):
        assert (classifier.predict(adversarial).argmax(axis=1) != labels).all()
    ratio = np.median(distances(images, ours)) / np.median(distances(images, reference))
    assert 0.85 < ratio < 1.15
    assert our_queries == pytest.approx(counts["images"], rel=0.1)


def test_the_boundary_attack_comes_nearer_with_every_step(average_pooling_classifier, real_images, real_labels, right):
    images, labels = real_images[right[:8]], real_labels[right[:8]]
    medians = [
        np.median(
            distances(images, BoundaryAttack(average_pooling_classifier, max_iter=steps).generate(images, labels))
        )
        for steps in (1, 20, 80)
    ]
    assert medians[0] > 1.5 * medians[1] > 2 * medians[2]


def test_candidates_lie_on_the_sphere_and_at_the_step_s_distance():
    rng = np.random.default_rng(0)
    x, x_adv = np.full((3, 8, 8, 1), 0.5, np.float32), (0.5 + 0.01 * rng.normal(size=(3, 8, 8, 1))).astype(np.float32)
    rows, δ = np.array([2, 0]), np.array([0.1, 0.3])
    candidates = boundary._orthogonal(x, x_adv, rows, δ, n=50, rng=rng).reshape(2, 50, 64)
    way = (x - x_adv)[rows].reshape(2, 1, 64)
    distance = np.linalg.norm(way, axis=2)
    # As far from x as before, but for the part of the noise along the way, which was taken out.
    from_x = np.linalg.norm(candidates - x[rows].reshape(2, 1, 64), axis=2)
    np.testing.assert_allclose(from_x, np.broadcast_to(distance, (2, 50)), rtol=1e-2)
    moved = np.linalg.norm(candidates - x_adv[rows].reshape(2, 1, 64), axis=2).mean(axis=1)
    np.testing.assert_allclose(moved / distance[:, 0], δ, rtol=0.06)


def test_the_nearest_of_the_adversarial_candidates_is_kept():
    x = np.zeros((2, 2, 2, 1), np.float32)
    candidates = np.array([0.3, 0.1, 0.2], np.float32).reshape(1, 3, 1, 1, 1) * np.ones((2, 3, 2, 2, 1), np.float32)
    among = np.array([[True, True, True], [True, False, True]])
    np.testing.assert_allclose(boundary._nearest(x, candidates, among)[:, 0, 0, 0], [0.1, 0.2])


def test_images_that_drop_out_leave_the_others_alone(average_pooling_classifier, real_images, real_labels, right):
    images, labels = real_images[right[:4]], real_labels[right[:4]]
    starts = np.random.default_rng(0).random(images.shape, dtype=np.float32)
    starts[0] = images[0]

    class Started(BoundaryAttack):
        def _starts(self, x, y, *, rng):
            kept = starts[-len(x) :]
            return kept.copy(), (kept != images[-len(x) :]).any(axis=(1, 2, 3))

    all_of_them = Started(average_pooling_classifier, max_iter=25, delta=0.2, epsilon=0.2).generate(images, labels)
    without = Started(average_pooling_classifier, max_iter=25, delta=0.2, epsilon=0.2).generate(images[1:], labels[1:])
    np.testing.assert_array_equal(all_of_them[0], images[0])
    np.testing.assert_array_equal(all_of_them[1:], without)


def test_an_image_without_a_start_stays_as_it_is(real_images):
    network = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network.layers[-1].set_weights([np.zeros((784, 2)), np.array([5.0, -5.0])])  # always the first class
    attack = BoundaryAttack(Classifier(network), init_size=3, max_iter=2)
    np.testing.assert_array_equal(attack.generate(real_images[:3], np.zeros(3, int)), real_images[:3])


@pytest.fixture(scope="module")
def linear():
    """A linear network on 6×6 images, of which some but not all can be moved across its boundary by one pixel."""
    rng = np.random.default_rng(0)
    network = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    network.layers[-1].set_weights([0.3 * rng.normal(size=(36, 3)) * [1, 1, 0.01], np.zeros(3)])
    return Classifier(network), rng.integers(0, 256, (200, 6, 6, 1)).astype(np.float32) / 255


def test_one_pixel_is_found_where_an_exhaustive_search_finds_one(linear):
    classifier, images = linear
    labels = classifier.predict(images).argmax(axis=1)
    # A linear logit is lowest at an end of a pixel's range: both ends of all pixels are all that there is to try.
    tried = np.repeat(images[:, None], 72, axis=1)
    tried.reshape(200, 72, 36)[:, np.arange(72), np.arange(72) % 36] = (np.arange(72) // 36).astype(np.float32)
    logits = classifier.predict(tried.reshape(-1, 6, 6, 1)).reshape(200, 72, 3)
    possible = (logits.argmax(axis=2) != labels[:, None]).any(axis=1)
    # The attack lowers the true class's logit, so what it must find is an image whose best pixel by that fools.
    best = np.take_along_axis(logits, labels[:, None, None], axis=2)[..., 0].argmin(axis=1)
    findable = logits[np.arange(200), best].argmax(axis=1) != labels
    assert 50 < findable.sum() < 150
    adversarial = PixelAttack(classifier, max_iter=40).generate(images, labels)
    fooled = classifier.predict(adversarial).argmax(axis=1) != labels
    assert fooled[findable].mean() > 0.95
    assert not fooled[~possible].any()
    changed = (adversarial != images).reshape(200, -1).sum(axis=1)
    np.testing.assert_array_equal(changed, fooled)


def test_pixels_succeed_as_often_as_art_s_with_as_many_queries(asked, real_images, real_labels, right):
    counts, classifier = asked
    images, labels = real_images[right[:20]], real_labels[right[:20]]
    ours = PixelAttack(classifier, pixels=12, max_iter=12, population=396).generate(images, labels)
    our_queries, counts["images"] = counts["images"], 0
    np.random.seed(0)  # noqa: NPY002
    # ART's population is a multiple of the 36 genes: 11 of each.
    reference = ArtPixelAttack(classifier, th=12, es=1, max_iter=12).generate(images, labels)
    art_queries = counts["images"]
    success = [(classifier.predict(made).argmax(axis=1) != labels).mean() for made in (ours, reference)]
    assert success[0] == pytest.approx(success[1], abs=0.15)
    assert our_queries == pytest.approx(art_queries, rel=0.1)
    assert (np.abs(ours - images).reshape(20, -1) > 0).sum(axis=1).max() <= 12


def test_wrong_parameters_are_named(average_pooling_classifier):
    with pytest.raises(ValueError, match="step_adapt must lie in"):
        BoundaryAttack(average_pooling_classifier, step_adapt=1.5)
    with pytest.raises(ValueError, match="sample_size must be a whole number, 1 or more, got 0"):
        BoundaryAttack(average_pooling_classifier, sample_size=0)
    with pytest.raises(ValueError, match="population must be a whole number, 4 or more, got 3"):
        PixelAttack(average_pooling_classifier, population=3)
    with pytest.raises(ValueError, match="pixels must be a whole number"):
        PixelAttack(average_pooling_classifier, pixels=1.5)


def test_a_boundary_attack_ends_where_no_image_has_an_adversarial_candidate(average_pooling_classifier, monkeypatch):
    images = np.full((3, 28, 28, 1), 0.5, np.float32)
    labels = average_pooling_classifier.predict(images).argmax(axis=1)
    attack = BoundaryAttack(average_pooling_classifier, max_iter=5, num_trial=2, sample_size=3, init_size=2)
    asked = []

    def only_at_the_start(images, leaving):
        asked.append(len(images))
        return np.full(len(images), len(asked) == 1)

    monkeypatch.setattr(attack, "_is_adversarial", only_at_the_start)
    assert attack.generate(images, labels).shape == images.shape
    assert len(asked) == 1 + 2  # the start, and two trials of one step


def test_the_spatial_attack_is_the_worst_of_its_grid_for_each_image(max_pooling_classifier, mnist):
    x = mnist[0][200:212]
    y = max_pooling_classifier.predict(x).argmax(axis=1)
    attack = SpatialAttack(max_pooling_classifier, rotations=3, shifts=3)
    made = attack.generate(x, y)
    margins = logit_margins(max_pooling_classifier.predict(made), y)
    for angle in (-30, 0, 30):
        for down, right in itertools.product((-3, 0, 3), repeat=2):
            for i in (0, 7):
                turned = rotate(x[i, :, :, 0], angle, reshape=False, order=1, mode="nearest")
                moved = np.clip(shift(turned, (down, right), order=1, mode="nearest"), 0, 1)[None, :, :, None]
                assert logit_margins(max_pooling_classifier.predict(moved), y[i : i + 1])[0] <= margins[i] + 1e-3
    still = SpatialAttack(max_pooling_classifier, max_rotation=0, rotations=1, max_shift=0, shifts=1).generate(x, y)
    np.testing.assert_allclose(still, x, atol=1e-6)
    np.testing.assert_allclose(attack.generate(x[4:5], y[4:5]), made[4:5], atol=1e-6)
