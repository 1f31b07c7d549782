"""Deep kNN against brute force in NumPy and against scikit-learn, and the promise of its p-values."""

import faiss
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from advlens.classifier import Classifier
from advlens.detectors import DeepKNNDetector
from advlens.neighbours import DeepKNN, search
from advlens.neighbours.conformal import nonconformity, p_values
from advlens.neighbours.search import ApproximateSearch, ExactSearch, Projection, recall, row_search
from advlens.networks import build, deep_knn_cnn
from advlens.training import train_task_network

LAYERS = ("conv1", "conv3", "logits")
K = 7


@pytest.fixture(scope="module")
def classifier():
    return Classifier(build("deep_knn_cnn"))


@pytest.fixture(scope="module")
def data(mnist):
    images, labels = mnist[0], mnist[1].astype(np.int64)
    return images[:300], labels[:300], images[300:400], labels[300:400]


@pytest.fixture(scope="module")
def deep_knn(classifier, data):
    train, labels, held_out, truth = data
    return DeepKNN(classifier, layers=LAYERS, k=K).fit(train, labels).calibrate(held_out[:60], truth[:60])


def brute_force_neighbours(classifier, train, queries, layer, k):
    """All cosines in float64, layer by layer."""
    rows, asked = (
        classifier.layer_activations(images, [layer])[layer].reshape(len(images), -1).astype(np.float64)
        for images in (train, queries)
    )
    cosines = (asked @ rows.T) / np.linalg.norm(asked, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
    return np.argsort(-cosines, axis=1)[:, :k], cosines


# ---------------------------------------------------------------- search


def clustered_rows(n, d, seed):
    """Rows on a curved sheet with noise, so that a projection tells some of the distances and not all."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((n, 12))
    return (np.maximum(hidden @ rng.standard_normal((12, d)), 0) + 0.3 * rng.standard_normal((n, d))).astype(np.float32)


@pytest.fixture
def projects(monkeypatch):
    """So that small test data goes the way that large data goes."""
    monkeypatch.setattr(search, "MANY", 100)
    monkeypatch.setattr(search, "AXES", 40)


@pytest.mark.usefixtures("projects")
@pytest.mark.parametrize("d", [16, 1200])
def test_the_exact_search_finds_what_scikit_learn_finds(d):
    rows, queries = np.split(clustered_rows(3100, d, seed=1), [3000])
    found = row_search(rows).nearest(queries, 20)
    assert (ExactSearch(rows)._projection is not None) == (d == 1200)
    expected = NearestNeighbors(n_neighbors=20, algorithm="brute").fit(rows).kneighbors(queries)[1]
    assert recall(found, expected) > 0.9999
    assert (found[:, 0] == expected[:, 0]).all()


@pytest.mark.usefixtures("projects")
def test_the_exact_search_stays_exact_where_its_projection_is_of_no_use():
    """White noise in many dimensions: the bound certifies next to nothing in the first round."""
    rng = np.random.default_rng(0)
    rows, queries = (rng.standard_normal((n, 2000)).astype(np.float32) for n in (2500, 30))
    exact = ExactSearch(rows)
    _, is_certain = exact._among_candidates(queries, 5, 80)
    assert not is_certain.all()
    assert (exact.nearest(queries, 5) == faiss.knn(queries, rows, 5)[1]).all()


@pytest.mark.usefixtures("projects")
def test_the_projection_never_moves_rows_apart():
    rows = clustered_rows(400, 1200, seed=2)
    short = Projection(rows)(rows)
    for true, projected in zip(
        faiss.pairwise_distances(rows, rows), faiss.pairwise_distances(short, short), strict=True
    ):
        assert (projected <= true + 1e-4 * true.max()).all()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
@pytest.mark.parametrize("d", [16, 1200])
def test_an_approximate_search_finds_most_neighbours(kind, d):
    rows, queries = np.split(clustered_rows(3100, d, seed=3), [3000])
    truth = row_search(rows).nearest(queries, 10)
    approximate = row_search(rows, kind=kind)
    assert isinstance(approximate, ApproximateSearch)
    assert 0.5 < recall(approximate.nearest(queries, 10), truth) <= 1
    assert recall(truth, truth) == 1
    assert recall(truth + len(rows), truth) == 0


# ---------------------------------------------------------------- conformal p-values


def test_nonconformity_counts_the_neighbours_with_another_label():
    labels = np.array([[[0, 1, 1], [2, 1, 1]], [[0, 0, 0], [0, 0, 0]]])
    assert nonconformity(labels, 3).tolist() == [[5, 2, 5], [0, 6, 6]]


def test_p_values_against_a_count_in_a_loop():
    rng = np.random.default_rng(0)
    alpha, calibration = rng.integers(0, 9, (40, 4)), rng.integers(0, 9, 30)
    kept = calibration[calibration > 0]
    for i, j in np.ndindex(alpha.shape):
        at_least = sum(value >= alpha[i, j] for value in calibration)
        assert p_values(alpha, calibration)[i, j] == pytest.approx((1 + at_least) / 31)
        published = sum(value >= alpha[i, j] for value in kept) / len(kept)
        assert p_values(alpha, calibration, convention="published")[i, j] == pytest.approx(published)


def test_the_conformal_p_value_of_the_true_label_is_super_uniform_and_the_published_one_is_not():
    """Over many draws of calibration and test scores from one distribution with ties and many zeros."""
    rng = np.random.default_rng(0)
    conformal, published = [], []
    for _ in range(2000):
        scores = rng.poisson(0.7, 20 + 1)
        calibration, new = scores[:20], scores[20:].reshape(1, 1)
        if (calibration > 0).any():
            conformal.append(p_values(new, calibration)[0, 0])
            published.append(p_values(new, calibration, convention="published")[0, 0])
    for level in (0.05, 0.1, 0.2, 0.5):
        slack = 3 * np.sqrt(level * (1 - level) / len(conformal))
        assert np.mean(np.array(conformal) <= level) <= level + slack
    assert np.mean(np.array(published) <= 0.0) > 0.005  # impossible for a valid p-value


def test_nothing_left_to_calibrate_with_is_said():
    with pytest.raises(ValueError, match="no calibration image is left"):
        p_values(np.zeros((1, 2), int), np.zeros(5, int), convention="published")


# ---------------------------------------------------------------- Deep kNN


def test_neighbours_are_those_of_brute_force_in_every_layer(deep_knn, classifier, data):
    train, labels, held_out, _ = data
    hoods = deep_knn.neighbours(held_out)
    assert hoods.layers == LAYERS
    for place, layer in enumerate(LAYERS):
        expected, cosines = brute_force_neighbours(classifier, train, held_out, layer, K)
        found = np.take_along_axis(cosines, hoods.indices[:, place], axis=1)
        assert np.allclose(found, np.take_along_axis(cosines, expected, axis=1), atol=1e-5)
        assert (hoods.labels[:, place] == labels[hoods.indices[:, place]]).all()


def test_the_judgement_is_that_of_a_brute_force_version(deep_knn, classifier, data):
    train, labels, held_out, truth = data
    judged = deep_knn.judge(held_out[60:])
    α = np.zeros((len(held_out), 10))
    for layer in LAYERS:
        nearest, _ = brute_force_neighbours(classifier, train, held_out, layer, K)
        for j in range(10):
            α[:, j] += (labels[nearest] != j).sum(axis=1)
    calibration = α[np.arange(60), truth[:60]]
    p = np.array([[(1 + (calibration >= α[i, j]).sum()) / 61 for j in range(10)] for i in range(60, len(held_out))])
    assert np.allclose(judged.p_values, p)
    assert np.allclose(judged.credibility, p.max(axis=1))
    assert np.allclose(judged.confidence, 1 - np.sort(p, axis=1)[:, -2])
    assert (p[np.arange(len(p)), judged.predicted] == judged.credibility).all()


def test_an_image_of_the_training_set_is_its_own_nearest_neighbour_unless_left_out(deep_knn, data):
    rows = np.arange(20, 60)
    assert (deep_knn.neighbours(data[0][rows]).indices[:, :, 0] == rows[:, None]).mean() > 0.99
    left_out = deep_knn.neighbours(data[0][rows], own=rows)
    assert left_out.indices.shape == (40, len(LAYERS), K)
    assert not (left_out.indices == rows[:, None, None]).any()


def test_a_judgement_does_not_depend_on_the_batch(deep_knn, data):
    together = deep_knn.judge(data[2])
    alone = deep_knn.judge(data[2][5:6])
    assert np.allclose(together.p_values[5], alone.p_values[0])


def test_a_layer_in_which_nothing_is_active_is_survived(classifier, data):
    black = np.zeros((3, 28, 28, 1), np.float32)
    knn = DeepKNN(classifier, layers=["conv1"], k=3).fit(np.concatenate([black, data[0][:20]]), np.zeros(23, int))
    assert np.isfinite(knn.calibrate(data[2], np.zeros(100, int)).judge(black).p_values).all()


def test_the_detector_scores_one_minus_the_credibility_and_plugs_into_art(deep_knn, data):
    detector = DeepKNNDetector(deep_knn)
    assert np.array_equal(detector.scores(data[2]), 1 - deep_knn.judge(data[2]).credibility)
    detector.calibrate(data[2][60:], fpr=0.1)
    assert detector.detect(data[2][60:])[1].mean() <= 0.1


def test_noise_is_less_credible_than_digits(data):
    train, labels, held_out, truth = data
    trained = train_task_network(train, labels, builder=deep_knn_cnn, num_classes=10, epochs=8, seed=0)
    knn = DeepKNN(Classifier(trained.network), k=10).fit(train, labels).calibrate(held_out[:60], truth[:60])
    noise = np.random.default_rng(0).random((40, 28, 28, 1), dtype=np.float32)
    scores = DeepKNNDetector(knn).scores
    assert np.mean(scores(noise)) > np.mean(scores(held_out[60:])) + 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["conv9"]}, "no layer is called 'conv9'"),
        ({"layers": "conv1"}, "list of different names"),
        ({"layers": []}, "list of different names"),
        ({"layers": ["conv1", "conv1"]}, "list of different names"),
        ({"k": 0}, "k must be a whole number"),
        ({"calibration": "none"}, "calibration must be one of"),
        ({"search": "lsh"}, "search must be one of"),
    ],
)
def test_bad_parameters_are_refused(classifier, arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepKNN(classifier, **arguments)


def test_what_is_missing_or_wrong_is_said(classifier, deep_knn, data):
    train, labels, held_out, _ = data
    with pytest.raises(RuntimeError, match="call fit"):
        DeepKNN(classifier).neighbours(held_out)
    with pytest.raises(RuntimeError, match="call calibrate"):
        DeepKNN(classifier, k=5).fit(train, labels).judge(held_out)
    with pytest.raises(ValueError, match="k must be less than the 5 training images"):
        DeepKNN(classifier, k=5).fit(train[:5], labels[:5])
    with pytest.raises(ValueError, match="labels must have shape"):
        deep_knn.calibrate(held_out, labels[:3])
    with pytest.raises(ValueError, match="images must have shape"):
        deep_knn.judge(held_out[:, :20])
    with pytest.raises(ValueError, match="own must"):
        deep_knn.judge(held_out, own=np.arange(3))
    with pytest.raises(TypeError, match="must be a DeepKNN"):
        DeepKNNDetector(classifier)
