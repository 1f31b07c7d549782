"""The relevancy-map study: its protocol, what its detectors look at, and what maps do and add."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from advlens.attacks import AttackSet
from advlens.benchmark import CORRECTED, Benchmark, Part, Scored
from advlens.detectors import Detector, Network
from advlens.explanations import colour_map, explain
from advlens.image_files import through
from advlens.lenses import Pixels
from advlens.studies import relevancy
from advlens.studies.relevancy import DIFFERENCE, join, map_movement, one_class_movement

N = 100


@pytest.fixture(scope="module")
def attack_set():
    """100 sources whose images say what they are: clean 0.1, noisy 0.2, adversarial 0.3; every fourth attack fails."""
    success = np.arange(N) % 4 != 0
    picture = np.ones((N, 4, 4, 1), np.float32)
    return AttackSet(
        attack="made up",
        parameters={},
        source=np.arange(N) * 3,
        clean=0.1 * picture,
        noisy=0.2 * picture,
        adversarial=0.3 * picture,
        label=np.zeros(N, int),
        target=np.full(N, -1),
        predicted=success.astype(int),
        success=success,
        margin=np.where(success, 1, -1).astype(np.float32),
        l2=np.full(N, 0.8, np.float32),
        linf=np.full(N, 0.2, np.float32),
        zero_gradient=np.zeros(N, bool),
    )


def test_published_accuracies_are_of_mnist_alone():
    assert relevancy.published_accuracy("mnist", "input", "deepfool") == 0.9816
    assert relevancy.published_accuracy("mnist", "relevancy, last layer", "lbfgs") == 0.5
    assert np.isnan(relevancy.published_accuracy("mnist", "z-rule", "lbfgs"))
    assert np.isnan(relevancy.published_accuracy("fashion_mnist", "input", "deepfool"))


@pytest.mark.parametrize("protocol", relevancy.DEFECTS[1:], ids=lambda each: each.name)
def test_each_defect_is_one_field_of_the_published_protocol(protocol):
    changed = [f.name for f in dataclasses.fields(protocol) if getattr(protocol, f.name) != getattr(CORRECTED, f.name)]
    field = next(name for name in changed if name != "name")
    assert sorted(changed) == sorted(["name", field])
    if protocol.name != "wrapped JPEG":  # which the published detectors read from their files
        assert getattr(protocol, field) == getattr(relevancy.AS_PUBLISHED, field)


@pytest.fixture(scope="module")
def published(average_pooling_classifier):
    return relevancy.published_detectors(average_pooling_classifier, relevancy.Training(2, 1))


@pytest.mark.parametrize("name", ["input", "relevancy"])
def test_published_detectors_see_the_study_s_files(published, average_pooling_classifier, real_images, name):
    images = real_images[:3]
    maps = explain(average_pooling_classifier.model, images, method="lrp.z", neuron="all")
    seen = through("wrapped jpeg", images if name == "input" else colour_map(maps))
    np.testing.assert_allclose(published[name].lens.measure(images).to_numpy().reshape(seen.shape), seen)


def test_the_last_layer_s_map_is_a_square_of_what_the_logits_are_made_of(
    published, average_pooling_classifier, real_images
):
    lens = published["relevancy, last layer"].lens
    maps = lens.maps(real_images[:2])
    assert maps.shape[1:] == (10, 10, 1)
    assert lens.shape == (10, 10, 3)
    expected = explain(average_pooling_classifier.model, real_images[:2], **relevancy.STUDY_MAP, from_layer="conv4")
    np.testing.assert_allclose(np.ravel(maps), np.ravel(expected))


def test_only_relevances_as_they_are_are_scaled(published, average_pooling_classifier):
    corrected = relevancy.corrected_detectors(average_pooling_classifier, relevancy.Training(2, 1))
    scaled = {name: each.head.unit_scale for name, each in corrected.items()}
    assert scaled == {"input": False, "Deep Taylor": True, "z-rule": True}
    assert not published["relevancy"].head.unit_scale


def test_as_published_the_evaluated_rows_stop_the_training_and_all_others_are_learnt_from(
    monkeypatch, average_pooling_classifier, real_images, real_labels, right
):
    made = attacked(average_pooling_classifier, real_images[right], real_labels[right], right)
    about = {"clean_images": real_images, "clean_labels": real_labels, "seed": 0, "n_seeds": 1}
    benchmark = Benchmark(average_pooling_classifier, {"made up": made}, **about)
    seen = {}

    def fit(self, measured, is_adversarial, *, validation, seed):
        seen.update(learnt=measured, watched=validation[0])
        return self

    monkeypatch.setattr(Network, "fit", fit)
    monkeypatch.setattr(Network, "score", lambda self, measured: np.zeros(len(measured)))
    detector = Detector(Pixels((28, 28, 1)), Network((28, 28, 1)), name="input")
    scored = benchmark.scores(detector, "made up", protocol=relevancy.AS_PUBLISHED)
    parts = scored.parts[0]
    clean_or_attacked = scored.about["role"] != "noisy"
    measured = detector.lens.measure(benchmark.samples("made up", "float").images)
    sources = set(scored.about["source"][scored.about["success"]])  # in whichever part the attacked row stands
    for name, rows in (("learnt", parts[Part.TRAIN] | parts[Part.VALIDATION]), ("watched", parts[Part.TEST])):
        normal = clean_or_attacked & rows & scored.about["source"].isin(sources)
        pd.testing.assert_frame_equal(seen[name].reset_index(drop=True), measured[normal].reset_index(drop=True))


def attacked(classifier, images, labels, source):
    """Each image attacked by the next one of another class."""
    other = [next(j for j in range(len(images)) if labels[j] != labels[i]) for i in range(len(images))]
    n = len(images)
    return AttackSet(
        attack="made up",
        parameters={},
        source=source,
        clean=images,
        noisy=images,
        adversarial=images[other],
        label=labels,
        target=np.full(n, -1),
        predicted=labels[other],
        success=np.ones(n, bool),
        margin=np.ones(n, np.float32),
        l2=np.ones(n, np.float32),
        linf=np.ones(n, np.float32),
        zero_gradient=np.zeros(n, bool),
    )


def test_scores_are_joined_on_the_validation_part_alone():
    rng = np.random.default_rng(0)
    role = np.repeat(["clean", "adversarial"], N)
    about = pd.DataFrame({"role": role, "source": np.tile(np.arange(N), 2), "success": role == "adversarial"})
    validation = np.tile(np.arange(N) < 50, 2)
    truth = (role == "adversarial").astype(float)
    # Tells the truth on validation rows and the contrary elsewhere: a join that saw the others would turn it around.
    score = np.where(validation, truth, 1 - truth)[None] + rng.normal(0, 0.1, (1, 2 * N))
    parts = [{Part.TRAIN: ~validation, Part.VALIDATION: validation, Part.TEST: ~validation}]
    scored = Scored(about, score, None, parts, about[:0], score[:, :0], score[:, :0])
    joined = join([score, rng.normal(size=(1, 2 * N))], scored)
    assert joined[0, validation & (truth == 1)].min() > joined[0, validation & (truth == 0)].max()
    assert np.corrcoef(joined[0], score[0])[0, 1] > 0.9


def test_map_movement_explains_the_classes_that_it_names(monkeypatch, attack_set, average_pooling_classifier):
    asked = []

    def explain(network, images, *, method, neuron="predicted"):
        asked.append((round(float(images.mean()), 3), neuron if isinstance(neuron, str) else neuron.tolist()))
        return np.zeros(images.shape)

    monkeypatch.setattr(relevancy, "explain", explain)
    monkeypatch.setattr(relevancy, "MOVING", {"z-rule": "lrp.z"})
    made = {"made up": attack_set}
    assert len(map_movement(average_pooling_classifier, made, seed=0)) == 0  # as all maps are empty
    won = attack_set.select(attack_set.success)
    assert asked == [
        (0.1, "predicted"),
        (0.3, "predicted"),
        (0.3, won.label.tolist()),
        (0.1, won.predicted.tolist()),
        (0.2, "predicted"),
    ]


def test_one_class_movement_explains_the_class_before_the_attack_and_the_study_s_map_all(
    monkeypatch, attack_set, average_pooling_classifier
):
    asked = []

    def explain(network, images, *, method, neuron):
        brightness = float(images.mean())
        asked.append((method, round(brightness, 3), neuron if isinstance(neuron, str) else neuron.tolist()))
        order = -1 if brightness > 0.25 else 1  # the attack turns the order of the pixels around
        return np.tile(order * np.arange(1, 17.0).reshape(1, 4, 4, 1), (len(images), 1, 1, 1))

    monkeypatch.setattr(relevancy, "explain", explain)
    monkeypatch.setattr(relevancy, "ONE_CLASS", {"the study's map": relevancy.STUDY_MAP, "z-rule": {"method": "lrp.z"}})
    table = one_class_movement(average_pooling_classifier, {"made up": attack_set}, seed=0).set_index("map")
    won = attack_set.select(attack_set.success)
    assert asked[:3] == [("lrp.z", 0.1, "all"), ("lrp.z", 0.3, "all"), ("lrp.z", 0.2, "all")]
    assert asked[3:] == [("lrp.z", brightness, won.label.tolist()) for brightness in (0.1, 0.3, 0.2)]
    assert table["estimate"].tolist() == [pytest.approx(2)] * 2
    assert table[["n", "empty"]].to_numpy().tolist() == [[75, 0]] * 2


def test_empty_maps_are_left_out_and_counted(monkeypatch, attack_set, average_pooling_classifier):
    def explain(network, images, *, method, neuron="predicted"):
        made = np.tile(np.arange(16.0).reshape(1, 4, 4, 1), (len(images), 1, 1, 1))
        made[:15] *= images[:15].mean() < 0.25  # of 75, under attack
        return made

    monkeypatch.setattr(relevancy, "explain", explain)
    monkeypatch.setattr(relevancy, "MOVING", {"Deep Taylor": "deep_taylor"})
    moved = map_movement(average_pooling_classifier, {"made up": attack_set}, seed=0).set_index("compared")
    assert moved.loc["attacked", ["estimate", "n", "empty"]].tolist() == [1, 60, pytest.approx(0.2)]
    assert moved.loc["noisy", ["estimate", "n", "empty"]].tolist() == [1, 75, 0]
    assert moved.loc[DIFFERENCE, ["estimate", "n"]].tolist() == [0, 60]


def test_an_image_s_map_is_nearer_to_its_noisy_twin_s_than_to_another_image_s(
    average_pooling_classifier, real_images, real_labels, right
):
    made = attacked(average_pooling_classifier, real_images[right[:6]], real_labels[right[:6]], right[:6])
    table = map_movement(average_pooling_classifier, {"made up": made}, seed=0)
    means = table[table["method"] == "z-rule"].set_index("compared")["estimate"]
    assert means["noisy"] == pytest.approx(1)
    assert max(means["attacked"], means["attacked, first class"], means["clean, other class"]) < 0.9
