"""The kernel two-sample test: its statistic by hand, its level where both groups are alike, and its power."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics.pairwise import rbf_kernel

from advlens.lenses import KernelMeans
from advlens.metrics import two_sample_test


def test_the_statistic_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (7, 2, 2, 1)), rng.normal(0.5, 1, (9, 2, 2, 1))
    found = two_sample_test(a, b, permutations=10)
    rows = np.concatenate([a, b]).reshape(16, 4)
    distances = [np.linalg.norm(rows[i] - rows[j]) for i in range(16) for j in range(i)]
    assert found.bandwidth == pytest.approx(np.median(distances))
    k = rbf_kernel(rows, gamma=1 / (2 * np.median(distances) ** 2))
    within = [np.mean([k[i, j] for i in group for j in group if i != j]) for group in (range(7), range(7, 16))]
    assert found.squared_mmd == pytest.approx(sum(within) - 2 * k[:7, 7:].mean())


def test_equal_groups_are_told_apart_as_rarely_as_the_level_says():
    rng, tests = np.random.default_rng(1), 300
    found = [two_sample_test(*rng.normal(0, 1, (2, 12, 3)), permutations=99, seed=i).p_value for i in range(tests)]
    assert binom.ppf(0.001, tests, 0.05) <= np.sum(np.array(found) <= 0.05) <= binom.ppf(0.999, tests, 0.05)
    assert np.mean(found) == pytest.approx(0.5, abs=0.07)
    assert min(found) >= 0.01


def test_groups_that_differ_in_their_mean_or_their_spread_are_told_apart():
    rng = np.random.default_rng(2)
    for b in (rng.normal(1, 1, (30, 3)), rng.normal(0, 3, (30, 3))):
        assert two_sample_test(rng.normal(0, 1, (40, 3)), b, permutations=500).p_value < 0.01


def test_attacked_images_differ_from_clean_ones_as_a_group(real_images):
    noise = np.random.default_rng(3).choice([-0.3, 0.3], real_images[:50].shape)
    clean, attacked = real_images[50:100], np.clip(real_images[:50] + noise, 0, 1)
    assert two_sample_test(clean, attacked, permutations=200).p_value < 0.01
    assert two_sample_test(clean, real_images[:50], permutations=200).p_value > 0.05


def test_what_cannot_be_tested_is_named():
    with pytest.raises(ValueError, match="two or more arrays of one shape"):
        two_sample_test(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="most are the same"):
        two_sample_test(np.zeros((3, 2)), np.zeros((3, 2)))


def test_one_image_against_the_images_of_its_class_by_hand(max_pooling_classifier, real_images, real_labels):
    lens = KernelMeans(max_pooling_classifier, reference=200).fit(real_images[:300], real_labels[:300])
    image = real_images[300:301]
    decided = max_pooling_classifier.predict(image).argmax()
    own = lens.images_[lens.labels_ == decided].reshape(-1, 784)
    gamma = 1 / (2 * lens.bandwidth_**2)
    pairs, within = rbf_kernel(image.reshape(1, 784), own, gamma=gamma), rbf_kernel(own, gamma=gamma)
    found = lens.measure(np.concatenate([image, np.clip(image + 0.5, 0, 1)]))["squared MMD"]
    assert found[0] == pytest.approx(1 - 2 * pairs.mean() + within.mean(), rel=1e-4)
    assert found[1] > found[0]
