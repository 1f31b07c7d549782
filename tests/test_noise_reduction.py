"""Adaptive noise reduction, pixel by pixel as the paper describes it."""

import numpy as np
import pytest
from scipy.special import softmax
from skimage.measure import shannon_entropy

from advlens.lenses import NoiseReduction
from advlens.lenses.noise_reduction import cross_mean, entropies, reduce_noise


@pytest.fixture(scope="module")
def images(real_images):
    """A clean digit, one of medium entropy and a noisy one, in grey levels."""
    rng = np.random.default_rng(0)
    digit = np.rint(real_images[0] * 255)
    medium = np.where(rng.random(digit.shape) < 0.5, rng.integers(0, 60, digit.shape), digit)
    noisy = rng.integers(0, 256, digit.shape)
    return (np.stack([digit, medium, noisy]) / 255).astype(np.float32)


def by_hand(image):
    levels = np.rint(image[..., 0].astype(float) * 255)
    bits = shannon_entropy(levels)
    interval = 128 if bits < 4 else 64 if bits < 5 else 43
    quantised = levels // interval * interval
    if bits < 5:
        return quantised / 255
    smooth, rows, columns = quantised.copy(), *levels.shape
    for row in range(3, rows - 3):
        for column in range(3, columns - 3):
            cross = [quantised[row, column]]
            for step in (1, 2, 3):
                cross += [quantised[row - step, column], quantised[row + step, column]]
                cross += [quantised[row, column - step], quantised[row, column + step]]
            smooth[row, column] = np.mean(cross)
    return np.where(np.abs(quantised - levels) < np.abs(smooth - levels), quantised, smooth) / 255


def test_entropies_are_those_of_scikit_image_and_averaged_over_channels(images):
    levels = np.rint(images * 255).astype(int)
    wanted = [shannon_entropy(each) for each in levels]
    np.testing.assert_allclose(entropies(levels), wanted)
    assert wanted[0] < 4 < wanted[1] < 5 < wanted[2]
    coloured = np.concatenate([levels[:1], levels[2:]], axis=3)
    np.testing.assert_allclose(entropies(coloured), [(wanted[0] + wanted[2]) / 2])


def test_noise_is_reduced_as_by_hand(images):
    np.testing.assert_allclose(reduce_noise(images)[..., 0], [by_hand(each) for each in images], atol=1e-6)


def test_a_single_bright_pixel_is_spread_over_its_cross():
    image = np.zeros((1, 9, 9, 1))
    image[0, 4, 4, 0] = 13
    found = cross_mean(image)[0, :, :, 0]
    assert found.sum() == pytest.approx(5)  # of 13 pixels of the cross, those within 3 of the edge are left alone
    assert (found[4, 3:6] == 1).all()
    assert (found[3:6, 4] == 1).all()


def test_the_lens_by_hand(max_pooling_classifier, images):
    lens = NoiseReduction(max_pooling_classifier)
    reduced = np.stack([by_hand(each) for each in images])[..., None].astype(np.float32)
    p, q = (softmax(max_pooling_classifier.logits(each).astype(float), axis=1) for each in (images, reduced))
    found = lens.measure(images)
    np.testing.assert_allclose(found["softmax distance"], np.abs(p - q).sum(axis=1), atol=1e-5)
    np.testing.assert_array_equal(found["decision under noise reduction"], p.argmax(axis=1) != q.argmax(axis=1))
    alone = lens.measure(images[2:])
    np.testing.assert_allclose(alone, found.iloc[2:], atol=1e-5)


def test_changed_decisions_are_marked_by_1(max_pooling_classifier, real_images):
    noise = np.random.default_rng(1).choice([-0.3, 0.3], real_images.shape)
    found = NoiseReduction(max_pooling_classifier).measure(np.clip(real_images + noise, 0, 1))
    changed = found["decision under noise reduction"] == 1
    assert 0 < changed.mean() < 1
    assert found["softmax distance"][changed].min() > 0
    assert found["softmax distance"][changed].mean() > found["softmax distance"][~changed].mean()
