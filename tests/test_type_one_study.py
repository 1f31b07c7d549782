"""The Type I study: its metrics on made-up rows, what it measures on small networks, and a run of small size."""

import keras
import numpy as np
import pandas as pd
import pytest

from advlens import networks
from advlens.explanations.activation import class_activation_maps, grad_cam
from advlens.explanations.similarity import rank_correlation
from advlens.studies import type_one
from advlens.studies.type_one import (
    ATTACK,
    CAUSES,
    IMAGE,
    MAPS,
    NETWORK,
    SUCCESS,
    TRANSITION,
    Study,
    ended,
    likeness,
    nearest_of_class,
    rates,
)
from advlens.workbench import Workbench

# ---------------------------------------------------------------- metrics on made-up rows


@pytest.fixture
def ends():
    """One walk of each outcome, from class 7 to 9."""
    judged = {"a": np.array([9, 9, 7, 7]), "b": np.array([9, 9, 9, 7]), "c": np.array([7, 9, 7, 7])}
    kept = np.array([True, False, True, False])
    found = ended(kept, judged, labels=np.full(4, 7), aims=np.full(4, 9))
    return found.assign(source=np.arange(4), steps=[10, 20, 30, 40], has_ended=[True, True, False, False], distance=2.0)


def test_a_success_keeps_the_decision_and_shows_the_aim_to_most_judges(ends):
    assert ends["cause"].tolist() == list(CAUSES)
    assert ends["became"].tolist() == [True, True, False, False]
    assert ends[["a", "b", "c"]].sum().tolist() == [2, 3, 1]


def test_rates_are_of_all_walks_and_means_of_successes(ends):
    table = rates({ATTACK: ends}, ["a", "b", "c"], seed=0).set_index("metric")
    assert table.loc[list(CAUSES), "estimate"].tolist() == [0.25] * 4
    assert table.loc[["became", "has_ended", "b"], "estimate"].tolist() == [0.5, 0.5, 0.75]
    assert (table.loc["steps", "estimate"], table.loc["steps", "n"], table.loc["kept", "n"]) == (10, 1, 4)
    assert "steps" not in set(rates({ATTACK: ends[ends["cause"] != SUCCESS]}, [], seed=0)["metric"])


def test_nearer_counts_equal_likeness_as_half():
    rows = pd.DataFrame({"start": [0.9, 0.1, 0.5], "target": [0.1, 0.9, 0.5]})
    assert type_one.nearer(rows).tolist() == [1, 0, 0.5]


# ---------------------------------------------------------------- measures


def test_the_nearest_of_a_class_is_found(real_images, real_labels):
    images, aims = real_images[:5], (real_labels[:5] + 1) % 10
    found = nearest_of_class(images, aims, candidates=real_images[5:], classes=real_labels[5:])
    for image, aim, index in zip(images, aims, found, strict=True):
        distances = np.square(real_images[5:] - image).sum(axis=(1, 2, 3))
        distances[real_labels[5:] != aim] = np.inf
        assert index == distances.argmin()


@pytest.fixture(scope="module")
def pooling_network(real_images, real_labels):
    keras.utils.set_random_seed(3)
    network = networks.build(NETWORK)
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(real_images, real_labels, batch_size=32, epochs=20, verbose=0)
    return network


def test_likeness_is_of_the_right_maps(pooling_network, real_images):
    ways, starts, targets = np.stack([real_images[:4], real_images[4:8]]), real_images[:4], real_images[4:8]
    found = likeness(pooling_network, ways, starts, targets).set_index(["stop", "map", "measure"])
    assert set(found.index.unique("map")) == set(MAPS)
    for name in ("CAM", "guided backprop", IMAGE):
        same = found.loc[(0, name, "rank correlation")]
        np.testing.assert_allclose(same["start"], 1)
        np.testing.assert_allclose(found.loc[(1, name, "rank correlation")]["target"], 1)
        np.testing.assert_allclose(same["target"], found.loc[(1, name, "rank correlation")]["start"])
        assert (same["target"] < 1).all()
    other = likeness(pooling_network, ways[:1], starts, targets, neuron=np.arange(4)).set_index(["map", "measure"])
    expected = rank_correlation(
        class_activation_maps(pooling_network, starts, neuron=np.arange(4)),
        class_activation_maps(pooling_network, starts),
    )
    np.testing.assert_allclose(other.loc[("CAM", "rank correlation")]["start"], expected)


def test_grad_cam_takes_a_network_from_a_file(pooling_network, real_images, tmp_path):
    pooling_network.save(tmp_path / "network.keras")
    read = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(grad_cam(read, real_images[:3]), grad_cam(pooling_network, real_images[:3]), atol=1e-5)


# ---------------------------------------------------------------- the whole on real images

SIZES = {
    **{"epochs": 120, "task_epochs": 20, "dropout_epochs": 20, "generator_epochs": 40, "generator_patience": 40},
    **{"pair_images": 4, "steps": 200, "published_steps": 60, "tuning_images": 6, "neighbours": 10, "held_out": 20},
}
CLASSES, PAIRS = 3, 6


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of three digits, few images of each."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        patch.setattr(type_one, "WEIGHTS", (1e-3, 1e-1))
        x, y = (part[mnist[1] < CLASSES] for part in mnist)
        np.savez(folder / "digits.npz", x=x, y=y, x_test=x, y_test=y)
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, **SIZES)


def test_each_image_has_one_use_and_each_pair_of_classes_as_many(study):
    assert len(np.unique(study.source)) == 4 * PAIRS
    pairs = pd.DataFrame({"label": study.labels, "aim": study.aims}).value_counts()
    assert len(pairs) == PAIRS
    assert set(pairs) == {4}
    for classifier in (study.classifier, *study.judges.values()):
        np.testing.assert_array_equal(classifier.predict(study.images).argmax(axis=1), study.labels)


def test_the_judges_are_other_networks(study):
    names = {each.model.name for each in study.judges.values()}
    assert len(names | {study.classifier.model.name}) == 4


def test_the_weight_is_the_best_on_training_images(study):
    tried = study.tried
    assert tried["weight"].tolist() == [1e-3, 1e-1]
    assert study.weight == tried.loc[tried["success"].idxmax(), "weight"]
    assert study.attack_set.parameters["largest_weight"] == study.weight


def test_walks_end_as_their_images_say(study):
    for kind in (TRANSITION, ATTACK):
        images = study.generator.decode(study.walks[kind].path[-1])
        kept = study.classifier.predict(images).argmax(axis=1) == study.labels
        np.testing.assert_array_equal(study.ends[kind]["kept"], kept)
        votes = sum((each.predict(images).argmax(axis=1) == study.aims).astype(int) for each in study.judges.values())
        np.testing.assert_array_equal(study.ends[kind]["became"], votes >= 2)
    assert study.ends[ATTACK]["kept"].mean() >= study.ends[TRANSITION]["kept"].mean()
    gained = (study.ends[ATTACK]["cause"] == SUCCESS).mean() - (study.ends[TRANSITION]["cause"] == SUCCESS).mean()
    assert study.gained().estimate == pytest.approx(gained)
    success = study.ends[ATTACK]["cause"] == SUCCESS
    assert success[study.example] == success.any()
    images, maps, texts = study.strip(study.example, frames=3)
    assert images.shape == (3, 28, 28, 1)
    assert set(maps) == set(MAPS) - {IMAGE}
    votes = sum(each.predict(images[-1:]).argmax() == study.aims[study.example] for each in study.judges.values())
    assert texts[-1].endswith(f"judges: {votes} of 3")


def test_maps_are_compared_on_the_images_that_both_types_win(study, monkeypatch):
    monkeypatch.setattr(type_one, "MIN_SHOWN", 1)
    misled = study.classifier.predict(study.type_two).argmax(axis=1) == study.aims
    won = set(study.source[study.attack_set.success & misled])
    rows = study.likenesses
    assert set(rows.loc[rows["type"] == type_one.TYPE_I, "source"]) == won
    shares = study.nearer_shares().set_index(["type", "map", "measure"])
    assert (shares.loc[type_one.TYPE_I, "n"] == len(won)).all()
    own = rows[(rows["type"] == type_one.TYPE_I) & (rows["stop"] == type_one.STOPS - 1) & (rows["map"] == "CAM")]
    own = own[own["measure"] == "rank correlation"]
    expected = (own["start"] > own["target"]).mean()
    assert shares.loc[(type_one.TYPE_I, "CAM", "rank correlation"), "estimate"] == pytest.approx(expected)
    differences = study.nearer_differences()
    asked = differences[(differences["less"] == type_one.ASKED) & (differences["measure"] == "rank correlation")]
    assert asked.set_index("map").loc[IMAGE, "estimate"] == 0  # images do not depend on what is explained
    assert study.along_the_way()["stop"].max() == type_one.STOPS - 1


def test_detection_is_of_successes_against_clean_and_redrawn_images(study):
    samples = study.benchmark.samples("type_one", "float")
    redrawn = study.generator.decode(study.generator.encode(study.images))
    np.testing.assert_array_equal(samples.images[(samples.about["role"] == "noisy").to_numpy()], redrawn)
    attacked = samples.about[samples.about["role"] == "adversarial"]
    np.testing.assert_array_equal(attacked["success"], study.attack_set.success)
    table = study.detection()
    assert set(table["detector"]) >= {"Deep kNN", "Deep kNN, of the decision", "max softmax"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"pair_images": 100}, "pair_images must be at most"),
        ({"pair_images": 0}, "pair_images"),
        ({"steps": "many"}, "type_one_steps"),
        ({"generator_patience": 0}, "generator_patience"),
        ({"held_out": 0}, "deep_knn_calibration"),
        ({"neighbours": 5000}, "neighbours and deep_knn_calibration must be fewer than the .* training images"),
    ],
)
def test_bad_sizes_are_named_before_any_walk(study, changed, named):
    with pytest.raises((ValueError, TypeError), match=named):
        Study(study.bench, **(SIZES | changed))
