"""Deep kNN against brute force in NumPy and against scikit-learn, and the promise of its p-values."""

import faiss
import keras
import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from advlens.classifier import Classifier
from advlens.neighbours import DeepKNN, Judgement, Neighbourhoods, search
from advlens.neighbours.conformal import nonconformity, p_values, p_values_among
from advlens.neighbours.search import ApproximateSearch, ExactSearch, Projection, recall, row_search, without_own
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
    monkeypatch.setattr(search, "SAMPLE", 300)


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


def test_candidates_that_are_not_certain_are_not_believed(monkeypatch):
    """Two axes of 60 tell next to nothing: most of the rows that the projection proposes are the wrong ones."""
    for name, value in {"WIDE": 50, "MANY": 100, "AXES": 2}.items():
        monkeypatch.setattr(search, name, value)
    rows, queries = np.split(np.random.default_rng(0).standard_normal((220, 60)).astype(np.float32), [200])
    exact, (_, expected) = ExactSearch(rows), faiss.knn(queries, rows, 3)
    proposed, is_certain = exact._among_candidates(queries, 3, 12)
    assert recall(proposed, expected) < 0.5
    assert (proposed[is_certain] == expected[is_certain]).all()
    np.testing.assert_array_equal(exact.nearest(queries, 3), expected)


@pytest.mark.usefixtures("projects")
def test_the_projection_never_moves_rows_apart():
    rows = clustered_rows(400, 1200, seed=2)
    short = Projection(rows)(rows)
    for true, projected in zip(
        faiss.pairwise_distances(rows, rows), faiss.pairwise_distances(short, short), strict=True
    ):
        assert (projected <= true + 1e-4 * true.max()).all()


@pytest.mark.usefixtures("projects")
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


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_approximate_search_finds_as_many_as_it_is_asked_for(kind):
    """Three heaps of rows far apart, of which FAISS looks at one, and more neighbours wanted than it holds."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(100 * heap, 0.01, (40, 8)) for heap in range(3)]).astype(np.float32)
    approximate = row_search(rows, kind=kind)
    assert (approximate._index.search(rows[::7], 100)[1] < 0).any()
    np.testing.assert_array_equal(approximate.nearest(rows[::7], 100), faiss.knn(rows[::7], rows, 100)[1])


def test_the_own_row_is_left_out_or_the_furthest_where_it_is_not_there():
    found = np.array([[[5, 3, 9], [3, 5, 9]], [[1, 7, 2], [2, 7, 8]]])
    assert without_own(found, np.array([3, 8])).tolist() == [[[5, 9], [5, 9]], [[1, 7], [2, 7]]]


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


def test_held_out_images_are_calibrated_by_all_others():
    rng = np.random.default_rng(0)
    labels, own = rng.integers(0, 4, (30, 2, 5)), rng.integers(0, 4, 30)
    alpha, rows = nonconformity(labels, 4), np.arange(30)
    expected = np.concatenate([p_values(alpha[[i]], np.delete(alpha[rows, own], i)) for i in rows])
    np.testing.assert_allclose(p_values_among(alpha, alpha[rows, own]), expected)
    said = Judgement.among(labels, own, num_classes=4)
    np.testing.assert_allclose(said.p_values, expected)
    np.testing.assert_allclose(said.credibility, expected.max(axis=1))
    np.testing.assert_array_equal(said.predicted, alpha.argmin(axis=1))
    with pytest.raises(ValueError, match="two or more to calibrate each other, got 1"):
        p_values_among(alpha[:1], own[:1])


def test_of_labels_whose_p_values_tie_the_one_with_most_neighbours_is_predicted():
    said = Judgement.of(np.array([[[1, 1, 2]]]), np.array([0, 0, 3]), num_classes=3)
    assert said.p_values.tolist() == [[0.5, 0.5, 0.5]]
    assert said.predicted.tolist() == [1]


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


@pytest.fixture(scope="module")
def tiny():
    """A Deep kNN on the pixels of 60 random images of three classes, uncalibrated, and their labels."""
    rng = np.random.default_rng(0)
    layers = [keras.layers.Input((4, 4, 1)), keras.layers.Flatten(name="flatten"), keras.layers.Dense(3, name="logits")]
    knn = DeepKNN(Classifier(keras.Sequential(layers)), layers=["flatten"], k=4)
    return knn, rng.random((60, 4, 4, 1), dtype=np.float32), rng.integers(0, 3, 60)


def test_images_are_looked_at_in_parts_that_change_nothing(tiny, monkeypatch):
    knn, images, labels = tiny
    asked, own = images[5:30], np.arange(5, 30)

    def found() -> list[np.ndarray]:
        knn.fit(images, labels).calibrate(images[30:], labels[30:])
        return [
            *(knn.neighbours(asked, own=own).indices, knn.judge(asked, own=own).p_values),
            *(knn.neighbours(asked).indices, knn.judge(asked).p_values),
        ]

    whole = found()
    monkeypatch.setattr("advlens.neighbours.deep_knn.AT_ONCE", 7)
    for together, in_parts in zip(whole, found(), strict=True):
        np.testing.assert_array_equal(in_parts, together)
    assert not (whole[0] == own[:, None, None]).any()


def test_another_training_set_forgets_the_calibration(tiny):
    knn, images, labels = tiny
    knn.fit(images, labels).calibrate(images[30:], labels[30:]).judge(images[:2])
    knn.fit(images[:40], labels[:40])
    with pytest.raises(RuntimeError, match="call calibrate"):
        knn.judge(images[:2])


def test_neighbours_of_another_search_are_refused(tiny):
    knn, images, labels = tiny
    hoods = knn.fit(images, labels).calibrate(images[30:], labels[30:]).neighbours(images[:2])
    fewer = Neighbourhoods(hoods.layers, hoods.indices[..., :3], hoods.labels[..., :3])
    elsewhere = Neighbourhoods(("logits",), hoods.indices, hoods.labels)
    for wrong, message in ((fewer, "the 4 nearest in flatten, got 3 in flatten"), (elsewhere, "got 4 in logits")):
        with pytest.raises(ValueError, match=message):
            knn.judge_neighbours(wrong)


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


def test_noise_is_less_credible_than_digits(data):
    train, labels, held_out, truth = data
    trained = train_task_network(train, labels, builder=deep_knn_cnn, num_classes=10, epochs=8, seed=0)
    knn = DeepKNN(Classifier(trained.network), k=10).fit(train, labels).calibrate(held_out[:60], truth[:60])
    noise = np.random.default_rng(0).random((40, 28, 28, 1), dtype=np.float32)
    assert knn.judge(noise).credibility.mean() < knn.judge(held_out[60:]).credibility.mean() - 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": ["conv9"]}, "no layer is called 'conv9'"),
        ({"layers": "conv1"}, "list of different names"),
        ({"layers": 3}, "layers must be a list of different names, got 3"),
        ({"layers": [3]}, r"layers must be a list of different names, got \[3\]"),
        ({"layers": [["conv1"]]}, "layers must be a list of different names"),
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
