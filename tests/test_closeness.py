"""Kernel density against scikit-learn's and against its sum, divergence against SciPy's."""

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import entropy
from sklearn.neighbors import KernelDensity

from advlens import closeness
from advlens.closeness import ClassDensity, ClassDivergence


@pytest.fixture(scope="module")
def features():
    """(300, 16) activations ≥ 0 of three classes, far from the origin, and their labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=300)
    return np.maximum(rng.normal(20 + 3 * labels[:, None], 2, (300, 16)), 0).astype(np.float32), labels


@pytest.mark.parametrize("bandwidth", [0.3, 1.7, 10.0])
def test_log_density_equals_scikit_learns(features, bandwidth, monkeypatch):
    monkeypatch.setattr(closeness.density, "PAIRS_AT_ONCE", 700)  # queries of a class in several parts
    rows, labels = features
    queries, classes = rows[:60] + 0.5, labels[:60]
    ours = ClassDensity(bandwidth=bandwidth).fit(rows, labels).log_density(queries, classes)
    for label in range(3):
        reference = KernelDensity(bandwidth=bandwidth).fit(rows[labels == label].astype(np.float64))
        theirs = reference.score_samples(queries[classes == label].astype(np.float64))
        np.testing.assert_allclose(ours[classes == label], theirs, atol=1e-4)


def test_the_papers_kernel_is_another_one(features):
    rows, labels = features
    queries, classes = rows[:10] + 1, labels[:10]
    paper = ClassDensity(bandwidth=1.7, convention="paper").fit(rows, labels).log_density(queries, classes)
    for query, label, made in zip(queries.astype(np.float64), classes, paper, strict=True):
        distances = ((query - rows[labels == label]) ** 2).sum(axis=1)
        assert made == pytest.approx(logsumexp(-distances / 1.7**2), abs=1e-4)
    same = ClassDensity(bandwidth=1.7 / np.sqrt(2)).fit(rows, labels).log_density(queries, classes)
    shift = paper - same
    counts = np.array([(labels == label).sum() for label in classes])
    np.testing.assert_allclose(shift - np.log(counts), (shift - np.log(counts))[0], atol=1e-6)


def test_density_falls_with_distance_and_never_overflows(features):
    rows, labels = features
    density = ClassDensity(bandwidth=1.0).fit(rows, labels)
    values = [density.log_density(rows[:5] + shift, labels[:5]) for shift in (0, 1, 10, 1000)]
    assert all((nearer > farther).all() for nearer, farther in itertools.pairwise(values))
    assert np.isfinite(values).all()


@pytest.mark.parametrize("conversion", ["softmax", "share"])
def test_divergence_equals_scipys_and_is_least_in_the_own_class(features, conversion):
    rows, labels = features
    rows = rows + 8 * np.eye(16)[labels]  # each class has a unit of its own
    own = ClassDivergence(conversion=conversion).fit(rows, labels).divergence(rows, labels)
    other = ClassDivergence(conversion=conversion).fit(rows, labels).divergence(rows, (labels + 1) % 3)
    assert (own < other).mean() > 0.95
    assert (own >= 0).all()
    mass = np.exp(rows - rows.max(axis=1, keepdims=True)) if conversion == "softmax" else rows
    mass = mass / mass.sum(axis=1, keepdims=True)
    mean = mass[labels == labels[0]].mean(axis=0)
    assert own[0] == pytest.approx(entropy(mass[0], mean), rel=1e-5)


def test_bad_input_is_named(features):
    rows, labels = features
    with pytest.raises(RuntimeError, match="call fit"):
        ClassDensity(bandwidth=1).log_density(rows, labels)
    fitted = ClassDensity(bandwidth=1).fit(rows, labels)
    with pytest.raises(ValueError, match=r"class 7 has no training rows: fit knows \[0, 1, 2\]"):
        fitted.log_density(rows[:1], np.array([7]))
    with pytest.raises(ValueError, match="features must have 16 columns as in fit, got 3"):
        fitted.log_density(rows[:1, :3], labels[:1])
    with pytest.raises(ValueError, match="features must be finite"):
        fitted.log_density(rows[:1] * np.nan, labels[:1])
    with pytest.raises(ValueError, match=r"labels must be \(2,\) integers"):
        fitted.log_density(rows[:2], labels[:3])
    with pytest.raises(ValueError, match="bandwidth must be a positive number, got 0"):
        ClassDensity(bandwidth=0)
    with pytest.raises(ValueError, match="convention must be one of scikit-learn, paper, got 'text'"):
        ClassDensity(bandwidth=1, convention="text")
    with pytest.raises(ValueError, match="activations must be ≥ 0 to be shared out"):
        ClassDivergence(conversion="share").fit(rows - 50, labels).divergence(rows, labels)


def test_scikit_learn_s_default_tree_is_wrong_far_from_all_rows_and_we_are_not():
    rng = np.random.default_rng(0)
    rows = np.maximum(rng.normal(size=(600, 128)), 0)
    near = rows[:20] + 0.05 * rng.normal(size=(20, 128))
    far = np.maximum(rng.normal(size=(20, 128)), 0)
    ours = ClassDensity(bandwidth=0.3).fit(rows, np.zeros(600, int))
    trees = KernelDensity(bandwidth=0.3).fit(rows)
    for queries, is_wrong in ((near, False), (far, True)):
        squares = np.square(queries[:, None] - rows[None]).sum(axis=2)
        direct = logsumexp(-squares / (2 * 0.3**2), axis=1) - np.log(600) - 128 * (np.log(0.3) + np.log(2 * np.pi) / 2)
        np.testing.assert_allclose(ours.log_density(queries, np.zeros(20, int)), direct, rtol=1e-6, atol=1e-6)
        assert (np.abs(trees.score_samples(queries) - direct).max() > 1) == is_wrong
