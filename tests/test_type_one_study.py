"""The Type I study: its figures on made-up rows, what it measures on small networks, and a run of small size."""

import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from advlens import networks, plots
from advlens.explanations.activation import class_activation_maps, grad_cam
from advlens.explanations.similarity import rank_correlation
from advlens.studies.rows import EIGHT_BIT
from advlens.studies.type_one import Study, maps, measures, report, results
from advlens.studies.type_one.maps import IMAGE, MAPS, MEASURES, START, TARGET
from advlens.studies.type_one.results import CAUSES, DECISION_LOST, NEARER, NEITHER, NO_AIM, NORMAL, SUCCESS
from advlens.studies.type_one.settings import CONFIRMED, FRAMES, JUDGE, NETWORK, OPEN, REFUTED, STOPS
from advlens.studies.type_one.study import (
    ASKED,
    ATTACK,
    LOST,
    LOST_ASKED,
    PUBLISHED,
    THE_SAME,
    TRANSITION,
    TYPE_I,
    TYPE_II,
)
from advlens.workbench import Workbench

# ---------------------------------------------------------------- figures on made-up rows


def said(predicted: list[int], of_label: list[float], of_aim: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"predicted": predicted, "confidence": 0.9, "of label": of_label, "of aim": of_aim})


@pytest.fixture
def ends():
    """One walk of each outcome, from class 7 to 9."""
    victim = said([7, 9, 7, 9], [0.8, 0.1, 0.7, 0.2], [0.1, 0.8, 0.2, 0.7])
    judge = said([9, 9, 7, 7], [0.3, 0.2, 0.9, 0.9], [0.6, 0.7, 0.05, 0.04])
    found = results.ended(victim, judge, labels=np.full(4, 7), aims=np.full(4, 9))
    return found.assign(source=np.arange(4), steps=[10, 20, 30, 40], has_ended=[True, True, False, False], distance=2.0)


def test_a_success_keeps_the_decision_and_shows_the_aim_to_the_judge(ends):
    assert ends["cause"].tolist() == [SUCCESS, DECISION_LOST, NO_AIM, NEITHER]
    assert ends["kept"].tolist() == [True, False, True, False]
    assert ends["became"].tolist() == [True, True, False, False]
    assert ends["confidence"].tolist() == [0.8, 0.1, 0.7, 0.2]
    assert ends["judge's confidence"].tolist() == [0.6, 0.7, 0.05, 0.04]


def test_rates_are_of_all_walks_and_means_of_successes(ends):
    table = results.rates({ATTACK: ends}, seed=0).set_index("figure")
    assert table.loc[list(CAUSES), "estimate"].tolist() == [0.25] * 4
    assert (table.loc["became", "estimate"], table.loc["has_ended", "estimate"]) == (0.5, 0.5)
    assert (table.loc["steps", "estimate"], table.loc["confidence", "estimate"]) == (10, 0.8)
    assert (table.loc["steps", "n"], table.loc["kept", "n"]) == (1, 4)
    none = results.rates({ATTACK: ends[ends["cause"] != SUCCESS]}, seed=0)
    assert "steps" not in set(none["figure"])
    shown = report.rates_table(pd.concat([results.rates({ATTACK: ends}, seed=0), none.assign(kind=TRANSITION)]))
    assert shown["steps"].tolist() == ["10 [10, 10]", "none"]
    assert shown["n (successes)"].tolist() == ["4 (1)", "3 (0)"]


def test_pairs_count_their_own_walks(ends):
    table = results.by_pair({ATTACK: ends, TRANSITION: ends[:1]}, classes=range(10))
    assert table[["label", "aim", "n"]].to_numpy().tolist() == [[7, 9, 4], [7, 9, 1]]
    assert table["success"].tolist() == [0.25, 1.0]


def likeness_rows(start: float, target: float, *, stops: int = 1, n: int = 12) -> pd.DataFrame:
    """The same likeness for every map and image, but for the image's own map, which is as like to both."""
    rows = [
        {"stop": stop, "place": place, "map": name, "measure": measure, "source": place}
        | {START: start if name != IMAGE else 0.5, TARGET: target if name != IMAGE else 0.5}
        for stop in range(stops)
        for name in MAPS
        for measure in MEASURES
        for place in range(n)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("kept", "lost", "expected"),
    [
        ((0.8, 0.2), (0.2, 0.8), CONFIRMED),  # like the start where it is decided for, else like the target
        ((0.2, 0.8), (0.8, 0.2), REFUTED),
        ((0.2, 0.8), (0.2, 0.8), OPEN),  # like what the image shows, whatever is decided
        ((0.8, 0.2), (0.8, 0.2), OPEN),
    ],
)
def test_a_map_goes_with_the_decision_where_like_images_differ_by_it_alone(kept, lost, expected):
    rows = {TYPE_I: likeness_rows(*kept, stops=3), LOST: likeness_rows(*lost), ASKED: likeness_rows(*lost)}
    table = results.nearer_differences(rows, [(TYPE_I, LOST), (TYPE_I, ASKED)], seed=0)
    assert report.goes_with_the_decision(table, "CAM") == expected
    assert report.goes_with_the_decision(table, IMAGE) == OPEN
    found = table.set_index(["less", "map", "measure"])["estimate"]
    expected_gap = float(kept[0] > kept[1]) - float(lost[0] > lost[1])
    for rival in (LOST, ASKED):
        assert found[(rival, "CAM", "rank correlation")] == expected_gap
    shown = report.difference_table(table).set_index("map")
    assert shown.loc["CAM", "n"] == "12 / too few / 12"


def test_differences_are_of_the_images_that_both_have():
    fewer = likeness_rows(0.2, 0.8)
    fewer = fewer[fewer["source"] < 11]
    table = results.nearer_differences({"a": likeness_rows(0.8, 0.2), "b": fewer}, [("a", "b")], seed=0)
    assert (table["n"] == 11).all()
    too_few = fewer[fewer["source"] < 9]
    assert results.nearer_differences({"a": fewer, "b": too_few}, [("a", "b")], seed=0).empty
    assert results.nearer_differences({"a": fewer, "b": fewer[:0]}, [("a", "b")], seed=0).empty


def test_nearer_counts_equal_likeness_as_half():
    table = results.likenesses({TYPE_I: likeness_rows(0.8, 0.2), TYPE_II: likeness_rows(0.2, 0.8)}, seed=0)
    nearer = results.at_the_end(table).set_index(["type", "map", "measure", "figure"])["estimate"]
    key = ("rank correlation", NEARER)
    assert (nearer[(TYPE_I, "CAM", *key)], nearer[(TYPE_II, "CAM", *key)], nearer[(TYPE_I, IMAGE, *key)]) == (1, 0, 0.5)


def test_the_end_is_each_type_s_last_stop():
    rows = likeness_rows(0.8, 0.2, stops=3)
    rows.loc[rows["stop"] == 2, START] = 0.1
    table = results.likenesses({TYPE_I: rows, TYPE_II: likeness_rows(0.8, 0.2)}, seed=0)
    found = results.at_the_end(table).set_index(["type", "map", "measure", "figure"])["estimate"]
    assert found[(TYPE_I, "CAM", "rank correlation", START)] == pytest.approx(0.1)
    assert found[(TYPE_II, "CAM", "rank correlation", START)] == pytest.approx(0.8)
    way = report.way_panels(table)
    assert set(way["share"]) == {0, 0.5, 1}
    assert set(way["type"]) == {TYPE_I}


def test_too_few_attacks_are_said_to_be():
    few = {TYPE_I: likeness_rows(0.8, 0.2, n=9), TYPE_II: likeness_rows(0.2, 0.8)}
    table = results.likenesses(few, seed=0)
    assert set(table["type"]) == {TYPE_II}
    differences = results.nearer_differences(few, [(TYPE_I, TYPE_II)], seed=0)
    assert report.goes_with_the_decision(differences, "CAM") == OPEN
    assert report._text(report._shares_nearer(table), (TYPE_I, "CAM")) == "too few"
    assert (report.difference_table(differences)["n"] == "too few / too few / too few").all()
    rows = detection_rows().assign(success=False)
    none = results.against(rows, rows, detectors=["score"], seed=0)
    assert none.empty
    assert report.against_table({"test": none}).empty
    assert "too few" in report._detected(pd.DataFrame(), none)


def detection_rows() -> pd.DataFrame:
    """Twenty images of each role: attacks score above clean ones, level with redrawn ones and below noisy ones."""
    scores = {"clean": 0.1, "redrawn": 0.5, "noisy": 0.9, "adversarial": 0.5}
    frames = [pd.DataFrame({"role": role, "source": range(20), "score": value}) for role, value in scores.items()]
    return pd.concat(frames, ignore_index=True).assign(success=lambda rows: rows["source"] < 15)


def test_detection_tells_each_kind_of_normal_image_apart():
    thresholds_from = pd.DataFrame({"score": np.linspace(0, 0.4, 100)})
    found = results.against(detection_rows(), thresholds_from, detectors=["score"], seed=0).set_index("figure")
    assert [found.loc[f"auc, {normal}", "estimate"] for normal in NORMAL] == [1.0, 0.5, 0.0]
    assert [found.loc[f"fpr, {normal}", "estimate"] for normal in NORMAL] == [0.0, 1.0, 1.0]
    assert (found.loc["auc, clean", "n"], found.loc["fpr, clean", "n"]) == (15, 20)
    shown = report.against_table({"test": found.reset_index(), EIGHT_BIT: found.reset_index()})
    assert shown["images"].tolist() == ["float", "8-bit"]


def test_what_attacks_gain_is_paired(ends):
    transition = ends.assign(cause=[DECISION_LOST, SUCCESS, NO_AIM, NEITHER])
    assert results.gained(ends, transition, seed=0).estimate == 0
    assert results.gained(ends, transition.assign(cause=NEITHER), seed=0).estimate == 0.25


# ---------------------------------------------------------------- measures


def test_the_nearest_of_a_class_is_found(real_images, real_labels):
    images, aims = real_images[:5], (real_labels[:5] + 1) % 10
    found = measures.nearest_of_class(images, aims, candidates=real_images[5:], classes=real_labels[5:])["places"]
    for image, aim, place in zip(images, aims, found, strict=True):
        distances = np.square(real_images[5:] - image).sum(axis=(1, 2, 3))
        distances[real_labels[5:] != aim] = np.inf
        assert place == distances.argmin()


def test_reading_says_what_each_network_gives_both_classes(average_pooling_classifier, real_images, real_labels):
    aims = (real_labels[:6] + 1) % 10
    found = measures.read({"a": average_pooling_classifier.model}, real_images[:6], real_labels[:6], aims)
    outputs = average_pooling_classifier.predict(real_images[:6]).astype(float)
    likely = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["of aim"], likely[np.arange(6), aims], rtol=1e-4)
    np.testing.assert_allclose(found["of label"], likely[np.arange(6), real_labels[:6]], rtol=1e-4)
    np.testing.assert_array_equal(found["predicted"], outputs.argmax(axis=1))


@pytest.fixture(scope="module")
def pooling_network(real_images, real_labels):
    keras.utils.set_random_seed(3)
    network = networks.build(NETWORK)
    network.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(real_images, real_labels, batch_size=32, epochs=20, verbose=0)
    return network


def test_likeness_is_of_the_right_maps(pooling_network, real_images):
    ways, starts, targets = np.stack([real_images[:4], real_images[4:8]]), real_images[:4], real_images[4:8]
    found = maps.likeness(pooling_network, ways, starts, targets).set_index(["stop", "map", "measure"])
    assert set(found.index.unique("map")) == set(MAPS)
    for name in ("CAM", "guided backprop", IMAGE):
        same = found.loc[(0, name, "rank correlation")]
        np.testing.assert_allclose(same[START], 1)
        np.testing.assert_allclose(found.loc[(1, name, "rank correlation")][TARGET], 1)
        np.testing.assert_allclose(same[TARGET], found.loc[(1, name, "rank correlation")][START])
        assert (same[TARGET] < 1).all()
    other = maps.likeness(pooling_network, ways[:1], starts, targets, neuron=np.arange(4)).set_index(["map", "measure"])
    explained = maps.CAM, "rank correlation"
    expected = rank_correlation(
        class_activation_maps(pooling_network, starts, neuron=np.arange(4)),
        class_activation_maps(pooling_network, starts),
    )
    np.testing.assert_allclose(other.loc[explained][START], expected)
    films = maps.films(pooling_network, real_images[:3])
    assert set(films) == set(MAPS) - {IMAGE}
    assert {film.shape for film in films.values()} == {(3, 28, 28, 1)}


def test_grad_cam_takes_a_network_from_a_file(pooling_network, real_images, tmp_path):
    pooling_network.save(tmp_path / "network.keras")
    read = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(grad_cam(read, real_images[:3]), grad_cam(pooling_network, real_images[:3]), atol=1e-5)


def test_a_film_has_a_picture_a_text(tmp_path):
    rows = {"image": np.linspace(0, 1, 5 * 16).reshape(5, 4, 4, 1), "map": np.zeros((5, 4, 4, 1))}
    texts = [f"frame {place}" for place in range(5)]
    shown = plots.show_film(plots.film(rows, texts=texts, title="A film", symmetric=["map"]), tmp_path / "film.gif")
    assert Image.open(tmp_path / "film.gif").n_frames == 5
    bundle = shown._repr_mimebundle_()
    assert bundle["image/gif"] == (tmp_path / "film.gif").read_bytes()
    assert bundle["text/plain"].startswith("5 pictures, the last: figure: A film\nframe 4")


def test_a_film_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one picture"):
        plots.show_film([], tmp_path / "none" / "film.gif")
    assert not (tmp_path / "none").exists()


# ---------------------------------------------------------------- the whole on real images

SIZES = {
    **{"epochs": 300, "judge_epochs": 30, "generator_epochs": 60, "generator_patience": 60},
    **{
        "pair_images": 4,
        "steps": 300,
        "published_steps": 100,
        "neighbours": 10,
        "held_out": 20,
        "calibration_images": 30,
    },
}


CLASSES, PAIRS = 3, 6


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of three digits, few images of each."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        x, y = (part[mnist[1] < CLASSES] for part in mnist)
        np.savez(folder / "digits.npz", x=x, y=y, x_test=x, y_test=y)
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, **SIZES)


def test_each_image_has_one_use_and_each_pair_of_classes_as_many(study):
    parts = (study.source, study.held_out, study.calibration_source)
    assert sum(map(len, parts)) == len(np.unique(np.concatenate(parts))) == 4 * PAIRS + 20 + 30
    pairs = pd.DataFrame({"label": study.labels, "aim": study.aims}).value_counts()
    assert len(pairs) == PAIRS
    assert set(pairs) == {4}
    for classifier in (study.classifier, study.judge):
        np.testing.assert_array_equal(classifier.predict(study.images).argmax(axis=1), study.labels)


def test_the_judge_is_another_network(study):
    assert study.judge.model.name != study.classifier.model.name
    same = Workbench(run="try", dataset=str(study.bench.folder.parents[2] / "digits.npz"), seed=0)
    trained = same.classifier(JUDGE, epochs=SIZES["judge_epochs"])
    assert not np.allclose(trained.model.get_weights()[0], study.judge.model.get_weights()[0])


def test_the_whole_study_runs_and_its_tables_hold_it(study):
    names = study.bench.data.class_names
    rates, pairs, likenesses, detections = study.rates(), study.by_pair(), study.likenesses(), study.detections()
    figures, accuracies = study.generator_figures, study.accuracies()
    assert report.generator_table(figures, study.generator.history, accuracies, seed=0)["value"].notna().all()
    assert figures["latent right"].mean() > 0.5
    report.drawn(study.samples, study.ways, names, study.shown)
    frames, said_of, films = study.film(ATTACK, study.shown[0])
    assert len(frames) == FRAMES
    assert len(said_of) == 2 * FRAMES
    report.strip(frames, said_of, films, title="a strip", class_names=names)
    study.bench.show_film(report.film(frames, said_of, films, title="a film", class_names=names), "film")
    assert Image.open(study.bench.folder / "figures" / "film.gif").n_frames > FRAMES / 2  # equal ones are joined
    np.testing.assert_allclose(frames[0], study.film(TRANSITION, study.shown[0])[0][0])  # of the same image
    shares = rates.set_index(["kind", "figure"])["estimate"]
    for kind in (TRANSITION, ATTACK, PUBLISHED, THE_SAME):
        assert sum(shares[(kind, cause)] for cause in CAUSES) == pytest.approx(1)
    assert rates.set_index(["kind", "figure"]).loc[(THE_SAME, "kept"), "n"] == 8
    np.testing.assert_array_equal(study.attack_set.success, study.ends[ATTACK]["cause"] == SUCCESS)
    assert len(pairs) == 2 * PAIRS
    report.pairs_figure(pairs, names)
    differences = study.nearer_differences()
    assert list(report.headline_table(likenesses, differences)["map"]) == list(MAPS)
    report.difference_table(differences)
    report.likeness_table(likenesses)
    report.detection_table(detections)
    assert set(report.against_table(study.against())["images"]) <= {"float", "8-bit"}
    text = report.lessons(rates, study.gained(), likenesses, differences, detections, study.against()["test"])
    assert "nan" not in text


def test_walks_are_told_apart_by_what_they_hold(study):
    first = {kind: walk.path[0] for kind, walk in study.walks.items()}
    last = {kind: walk.path[-1] for kind, walk in study.walks.items()}
    np.testing.assert_array_equal(first[TRANSITION], first[ATTACK])
    assert not np.allclose(last[TRANSITION], last[ATTACK])
    kept = {kind: study.ends[kind]["kept"].mean() for kind in (TRANSITION, ATTACK)}
    assert kept[ATTACK] >= kept[TRANSITION]
    np.testing.assert_allclose(
        study.ends[ATTACK]["distance"], np.linalg.norm(last[ATTACK] - first[ATTACK], axis=1), rtol=1e-5
    )


def test_likeness_is_of_images_on_which_both_types_succeed(study):
    misled = study.classifier.predict(study.type_two).argmax(axis=1) == study.aims
    assert misled.mean() > 0.5
    assert np.abs(study.type_two - study.images).max() <= 0.3 + 1e-5
    rows, won = study.likeness_rows, study.attack_set.success & misled
    assert won.any()
    assert set(rows[TYPE_I]["source"]) == set(rows[TYPE_II]["source"]) == set(study.source[won])
    assert rows[TYPE_I]["stop"].nunique() == STOPS
    lost = (study.ends[TRANSITION]["cause"] == DECISION_LOST).to_numpy()
    assert set(rows[LOST]["source"]) == set(rows[LOST_ASKED]["source"]) == set(study.source[won & lost])


def test_a_study_without_a_success_says_so(study, monkeypatch):
    hopeless = study.attack_set.success & False
    monkeypatch.setattr(study, "attack_set", dataclasses.replace(study.attack_set, success=hopeless))
    for name in ("likeness_rows", "judged"):
        monkeypatch.delitem(vars(study), name, raising=False)
    likenesses, differences = study.likenesses(), study.nearer_differences()
    assert likenesses.empty
    empty = plots.curves(
        report.way_panels(likenesses), x="share", y="estimate", group="group", panel="map", columns=3, x_axis="",
        y_axis="", title="a way",
    )  # fmt: skip
    assert "too few" in empty.get_suptitle()
    bare = plots.intervals(
        report.likeness_panels(likenesses), estimate="estimate", low="low", high="high", label="map", panel="panel",
        family="family", axis="", title="maps",
    )  # fmt: skip
    assert "too few" in bare.get_suptitle()
    assert differences.empty
    assert (report.headline_table(likenesses, differences)["Type I less the transition"] == "too few").all()
    for name in ("likeness_rows", "judged"):
        vars(study).pop(name, None)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"pair_images": 100}, "pair_images must be at most"),
        ({"calibration_images": 400}, "calibration_images must be at most"),
        ({"pair_images": 0}, "pair_images"),
        ({"steps": "many"}, "type_one_steps"),
        ({"generator_patience": 0}, "generator_patience"),
        ({"held_out": 0}, "deep_knn_calibration"),
        ({"held_out": 500}, "deep_knn_calibration must be fewer than the .* test images"),
        ({"neighbours": 5000}, "neighbours must be fewer than the .* training images"),
    ],
)
def test_bad_sizes_are_named_before_any_walk(study, changed, named):
    with pytest.raises((ValueError, TypeError), match=named):
        Study(study.bench, **(SIZES | changed))
