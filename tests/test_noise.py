"""Noisy twins: as far from the image as the attack, in no particular direction."""

import numpy as np
import pytest

from advlens.attacks.noise import gaussian_noise, gaussian_twin


@pytest.fixture(scope="module")
def images(real_images):
    return real_images[:50]


def test_a_twin_s_norm_after_clipping_is_the_one_asked_for(images):
    norms = np.linspace(0, 6, len(images))
    twins = gaussian_twin(images, norms, rng=np.random.default_rng(0))
    measured = np.sqrt(np.square(twins - images, dtype=np.float64).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(measured, norms, atol=2e-3)
    assert 0 <= twins.min() <= twins.max() <= 1


def test_the_noise_is_gaussian_where_nothing_clips():
    grey = np.full((40, 28, 28, 1), 0.5, np.float32)
    noise = (gaussian_twin(grey, np.full(40, 2.8), rng=np.random.default_rng(0)) - grey) * 10
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(noise) < 1).mean() == pytest.approx(0.6827, abs=0.01)


def test_twins_follow_the_generator_and_only_it(images):
    first, again, other = (gaussian_twin(images, np.ones(50), rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_an_unreachable_norm_gives_the_strongest_noise(images):
    twins = gaussian_twin(images, np.full(50, 100.0), rng=np.random.default_rng(0))
    assert ((twins == 0) | (twins == 1)).mean() > 0.99


@pytest.mark.parametrize("norms", [[1.0], [-1.0] * 50, [np.nan] * 50])
def test_bad_norms_are_named(images, norms):
    with pytest.raises(ValueError, match="norms must be 50 finite numbers"):
        gaussian_twin(images, np.array(norms), rng=np.random.default_rng(0))


def test_noise_of_one_sigma_has_it_where_nothing_is_clipped():
    grey = np.full((20, 28, 28, 1), 0.5, np.float32)
    noise = gaussian_noise(grey, 0.1, rng=np.random.default_rng(0)) - grey
    assert noise.std() == pytest.approx(0.1, rel=0.02)
    assert abs(noise.mean()) < 0.002
    np.testing.assert_array_equal(gaussian_noise(grey, 0, rng=np.random.default_rng(0)), grey)
    with pytest.raises(ValueError, match="sigma must be a finite number ≥ 0, got -1"):
        gaussian_noise(grey, -1, rng=np.random.default_rng(0))
