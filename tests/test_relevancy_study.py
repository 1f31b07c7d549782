"""The relevancy-map study's protocols: who is on which side, who counts as what, and what the tables say."""

import dataclasses
import types

import keras
import numpy as np
import pandas as pd
import pytest

from advlens.attacks import AttackSet
from advlens.detectors.base import Detector
from advlens.metrics import Estimate, Stratum, committed_thresholds
from advlens.studies.relevancy import (
    DIFFERENCE,
    Study,
    Training,
    ladder,
    map_movement,
    maps,
    protocols,
    report,
)
from advlens.studies.relevancy.ladder import baseline_rung, corrected_rung, format_effect, misread
from advlens.studies.relevancy.lenses import CORRECTED_LENSES, PUBLISHED_LENSES
from advlens.studies.relevancy.protocols import Scores
from advlens.studies.relevancy.published import published_value
from advlens.studies.relevancy.results import beyond_input, corrected_results
from advlens.studies.relevancy.rows import (
    corrected_rows,
    corrected_split,
    fitting_rows,
    published_rows,
    published_split,
)

N = 100


@pytest.fixture(scope="module")
def attack_set():
    """100 sources whose images tell what they are: clean 0.1, noisy 0.2, adversarial 0.3; every fourth attack fails."""
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


def test_published_rows_are_pairs_of_clean_and_successful_images(attack_set):
    rows = published_rows(attack_set)
    assert len(rows.images) == 2 * 75
    assert set(rows.role) == {"clean", "adversarial"}
    np.testing.assert_allclose(rows.images[rows.is_adversarial], 0.3)
    np.testing.assert_allclose(rows.images[~rows.is_adversarial], 0.1)


def test_the_published_split_tears_pairs_apart(attack_set):
    train, rest = published_split(published_rows(attack_set), seed=0)
    assert (len(train.source), len(rest.source)) == (120, 30)
    assert len(np.intersect1d(train.source, rest.source)) > 10


def test_corrected_rows_hold_noisy_twins_and_failed_attacks(attack_set):
    rows = corrected_rows(attack_set)
    for role, value in (("clean", 0.1), ("noisy", 0.2), ("adversarial", 0.3)):
        np.testing.assert_allclose(rows.images[rows.role == role], value)
        np.testing.assert_array_equal(rows.source[rows.role == role], attack_set.source)
    np.testing.assert_array_equal(rows.is_adversarial, rows.role == "adversarial")
    assert rows.success.sum() == 75
    assert not rows.success[~rows.is_adversarial].any()


def test_the_corrected_split_keeps_all_that_was_made_of_an_image_together(attack_set):
    parts = corrected_split(corrected_rows(attack_set), seed=0)
    sources = [set(part.source) for part in parts]
    assert [len(part) for part in sources] == [60, 20, 20]
    assert len(set.union(*sources)) == N
    assert all(len(part.source) == 3 * len(set(part.source)) for part in parts)


def test_failed_attacks_are_taught_as_neither(attack_set):
    rows = fitting_rows(corrected_rows(attack_set))
    assert (rows.is_adversarial.sum(), (~rows.is_adversarial).sum()) == (75, 200)
    assert rows.success[rows.is_adversarial].all()


@pytest.fixture(scope="module")
def scores():
    """ "Deep Taylor" sees every attack, "input" sees nothing, "z-rule" is "input" turned around."""
    rng = np.random.default_rng(0)
    frames = []
    for role, shift in (("clean", 0), ("noisy", 0), ("adversarial", 6)):
        frame = pd.DataFrame({"part": "test", "source": np.arange(N), "role": role, "success": False})
        if role == "adversarial":
            frame["success"] = np.arange(N) % 4 != 0
        frame["input"] = rng.normal(size=N)
        frame["Deep Taylor"] = rng.normal(size=N) + shift
        frames += [frame, frame.assign(part="validation", source=np.arange(N) + N)]
    judged = pd.concat(frames, ignore_index=True)
    calibration = pd.DataFrame({"input": rng.normal(size=400), "Deep Taylor": rng.normal(size=400)})
    for frame in (judged, calibration):
        frame["z-rule"] = -frame["input"]
        frame["max softmax"] = frame["Deep Taylor"]
        for base in ("input", "input + max softmax"):
            frame[f"{base} + Deep Taylor"] = frame["Deep Taylor"]
            frame[f"{base} + z-rule"] = frame["input"]
        frame["input + max softmax"] = frame["max softmax"]
    return {"lbfgs": Scores(judged, calibration)}


def test_strata_choose_the_positives_and_nothing_else(scores):
    made = scores["lbfgs"]
    counts = {stratum: (made.test(stratum=stratum)["role"] == "adversarial").sum() for stratum in Stratum}
    assert counts == {Stratum.SUCCESS: 75, Stratum.FAILED: 25, Stratum.ALL: 100}
    assert all((made.test(stratum=stratum)["role"] != "adversarial").sum() == 200 for stratum in Stratum)
    assert set(made.test(negatives=("clean",))["role"]) == {"clean", "adversarial"}
    assert set(made.test()["part"]) == {"test"}


def test_results_tell_a_seeing_detector_from_a_blind_one(scores):
    results = corrected_results(scores, stratum="success", seed=0).set_index(["detector", "figure"])["estimate"]
    assert results["Deep Taylor", "roc_auc"] > 0.99
    assert 0.4 < results["input", "roc_auc"] < 0.6
    assert results["z-rule", "roc_auc"] == pytest.approx(1 - results["input", "roc_auc"])
    assert results["Deep Taylor", "committed_tpr_0.05"] > 0.95
    assert results["Deep Taylor", "observed_fpr_0.05 on clean"] < 0.15
    assert results["Deep Taylor", "observed_fpr_0.05 on noisy"] < 0.15


def test_a_stratum_of_a_few_attacks_has_no_auc_in_the_table(scores):
    results = pd.concat(
        corrected_results(scores, stratum=stratum, seed=0).assign(stratum=stratum) for stratum in ("success", "failed")
    )
    few = results["stratum"] == "failed"
    results["n_positive"] = results["n_positive"].where(~few, 2)
    table = report.strata_table(results).set_index("detector")
    assert table.loc["input", "failed"] == "too few (n = 2)"
    assert table.loc["input", "success"].endswith("(n = 75)")


def test_an_empty_stratum_has_no_rows(scores):
    judged = scores["lbfgs"].judged.assign(success=lambda frame: frame["role"] == "adversarial")
    every = {"lbfgs": dataclasses.replace(scores["lbfgs"], judged=judged)}
    assert len(corrected_results(every, stratum="failed", seed=0)) == 0


def test_what_a_map_adds_is_found_and_what_it_does_not_add_is_not(scores):
    beyond = beyond_input(scores, seed=0).set_index(["base", "map"])
    seeing, blind = beyond.loc[("input", "Deep Taylor")], beyond.loc[("input", "z-rule")]
    assert seeing["low"] > 0.3
    assert seeing["missed"] > 60
    assert seeing["caught"] / seeing["missed"] > 0.95
    assert seeing["false_alarms"].estimate < 0.15
    assert blind["gain"] == 0
    assert blind["caught"] / blind["missed"] < 0.2
    assert beyond.loc[("input + max softmax", "Deep Taylor"), "gain"] == 0
    assert beyond.loc[("input + max softmax", "Deep Taylor"), "missed"] < 5


def test_only_rows_that_beat_the_best_baseline_are_bold(scores):
    results = corrected_results(scores, stratum="success", seed=0)
    table, bold = report.corrected_table(results)
    assert bold == []  # "max softmax" is as good as "Deep Taylor" here
    weaker = {"lbfgs": Scores(*(frame.assign(**{"max softmax": frame["input"]}) for frame in
                                (scores["lbfgs"].judged, scores["lbfgs"].calibration)))}  # fmt: skip
    table, bold = report.corrected_table(corrected_results(weaker, stratum="success", seed=0))
    assert {"Deep Taylor", "input + Deep Taylor"} <= set(table.iloc[bold]["detector"])
    assert not {"input", "z-rule", "input + z-rule", "max softmax"} & set(table.iloc[bold]["detector"])
    assert (table[report.COUNTS] == "75 / 100 / 100").all()


def test_every_lens_builds_its_detector(average_pooling_classifier):
    for lens in CORRECTED_LENSES.values():
        assert lens.detector(average_pooling_classifier, epochs=3).epochs == 3
        assert lens.through("png").detector(average_pooling_classifier).codec == "png"


# ---------------------------------------------------------------- what is fitted and judged on what


class Brightness(Detector):
    """Scores by the mean pixel: above 0 where that is brighter than 0.15."""

    def scores(self, images):
        return images.mean(axis=(1, 2, 3)).astype(np.float64) - 0.15


class Constant(Detector):
    """Calls nothing adversarial."""

    def scores(self, images):
        return np.zeros(len(images))


class Pixel(Detector):
    """Scores by one pixel of the diagonal."""

    def __init__(self, place):
        super().__init__()
        self.place = place

    def scores(self, images):
        return images[:, self.place, self.place, 0].astype(np.float64)


def test_the_published_judgement_counts_what_is_right(attack_set):
    accuracy, confusion = protocols.judge_published(Brightness(), attack_set, seed=0)
    assert accuracy.estimate == 1
    assert confusion[0, 1] == confusion[1, 0] == 0
    assert confusion.sum() == 30


def test_a_published_baseline_learns_its_threshold_and_direction_on_the_training_rows(attack_set):
    darker = dataclasses.replace(attack_set, adversarial=attack_set.clean / 2)
    accuracy, confusion = protocols.judge_published_baseline(Brightness(), darker, codec="float", seed=0)
    assert accuracy.estimate == 1
    assert confusion.sum() == 30
    _, rest = published_split(published_rows(attack_set), seed=0)
    same = dataclasses.replace(attack_set, adversarial=attack_set.clean)
    accuracy, _ = protocols.judge_published_baseline(Brightness(), same, codec="float", seed=0)
    attacked = rest.is_adversarial.mean()
    assert accuracy.estimate in (pytest.approx(attacked), pytest.approx(1 - attacked))


@pytest.mark.parametrize(
    ("fit", "rows", "split"),
    [
        (protocols.fit_published, published_rows, published_split),
        (protocols.fit_corrected, corrected_rows, corrected_split),
    ],
)
def test_training_is_stopped_by_the_protocol_s_own_rows(monkeypatch, attack_set, fit, rows, split):
    seen = {}
    monkeypatch.setattr(
        protocols, "_fit", lambda network, train, watched, **_: seen.update(train=train, watched=watched)
    )
    fit(None, attack_set, lens=None, epochs=1, patience=1, seed=0)
    expected = split(rows(attack_set), seed=0)
    for name, part in zip(("train", "watched"), expected, strict=False):
        assert set(seen[name].source) == set(part.source)
        assert seen[name].success[seen[name].is_adversarial].all()


def test_the_corrected_judgement_is_of_validation_and_test_groups_and_of_its_own_calibration(monkeypatch, attack_set):
    lens = types.SimpleNamespace(
        detector=lambda classifier: types.SimpleNamespace(adopt=lambda trained: Brightness()),
        family="input",
    )
    monkeypatch.setattr(protocols, "CORRECTED_LENSES", dict.fromkeys(("input", "Deep Taylor", "z-rule"), lens))
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    calibration = np.full((7, 4, 4, 1), 0.8, np.float32)
    trained = dict.fromkeys(("input", "Deep Taylor", "z-rule"))
    scores = protocols.judge_corrected(network, attack_set, calibration, trained=trained, seed=5)
    _, validation, test = corrected_split(corrected_rows(attack_set), seed=5)
    for part, rows in (("validation", validation), ("test", test)):
        judged = scores.judged[scores.judged["part"] == part]
        assert judged["source"].tolist() == rows.source.tolist()
        assert judged["role"].tolist() == rows.role.tolist()
        np.testing.assert_allclose(judged["input"], Brightness().scores(rows.images))
    np.testing.assert_allclose(scores.calibration["input"], 0.65)


def test_calibration_images_are_correct_ones_that_no_attack_used(attack_set):
    images = np.linspace(0, 1, 400, dtype=np.float32)[:, None, None, None] * np.ones((1, 4, 4, 1), np.float32)
    correct = np.arange(399, -1, -1)[np.arange(400) % 7 != 0]
    bench = types.SimpleNamespace(
        classifier=lambda network, epochs: None,
        correct_sources=lambda classifier: correct,
        attack_sets=lambda attacks, classifier, n, parameters: dict.fromkeys(attacks, attack_set),
        data=types.SimpleNamespace(test_images=images),
    )
    study = Study(
        bench,
        network="",
        task_epochs=1,
        attacked_images=N,
        attack_parameters={},
        published=Training(N, 1, 1),
        corrected=Training(N, 1, 1),
        calibration_images=200,
    )
    used = np.rint(study.calibration[:, 0, 0, 0] * 399).astype(int)
    assert len(set(used)) == 200
    assert set(used) <= set(correct)
    assert not set(used) & set(attack_set.source)


def test_joins_and_signs_are_fitted_on_validation_alone():
    rng = np.random.default_rng(0)
    truth = np.tile([0, 1], 200)
    frame = pd.DataFrame(
        {"part": np.repeat(["validation", "test"], 200), "role": np.where(truth, "adversarial", "clean")}
    )
    frame["success"] = truth == 1
    sign = np.where(frame["part"] == "validation", 1, -1)
    frame["input"] = sign * (2 * truth - 1) + 0.1 * rng.normal(size=400)
    frame["total variation"] = -frame["input"]
    clean = frame[["input", "total variation"]].copy()
    protocols._orient(frame, clean, baselines=["total variation"])
    protocols._join(frame, clean, columns=["input"])
    validation = frame[frame["part"] == "validation"]
    attacked = validation["role"] == "adversarial"
    for name in ("total variation", protocols.joined("input")):
        assert validation[name][attacked].mean() > validation[name][~attacked].mean()


def test_the_baseline_rung_sees_what_the_codec_leaves(monkeypatch, attack_set):
    monkeypatch.setattr(ladder, "MaxSoftmax", lambda classifier: Constant())
    quarter = np.float32(0.25 / 255)
    grey = np.full_like(attack_set.clean, 10 / 255)
    faint = dataclasses.replace(attack_set, clean=grey, noisy=grey, adversarial=grey + quarter)
    assert baseline_rung(None, faint, codec="float", seed=0)["estimate"] == 1
    assert baseline_rung(None, faint, codec="8-bit", seed=0)["estimate"] == 0.5


def test_the_baseline_rung_may_turn_a_pixel_baseline_around(monkeypatch, attack_set):
    monkeypatch.setattr(ladder, "MaxSoftmax", lambda classifier: Constant())
    monkeypatch.setattr(ladder, "pixel_baselines", lambda: {"darkness": Brightness()})
    darker = dataclasses.replace(attack_set, adversarial=attack_set.clean / 2)
    assert baseline_rung(None, darker, codec="float", seed=0)["estimate"] == 1


def test_the_baseline_rung_chooses_on_validation_groups(monkeypatch, attack_set):
    _, validation, _ = corrected_split(corrected_rows(attack_set), seed=0)
    known = attack_set.source[np.isin(attack_set.source, validation.source)]
    picture = np.ones((N, 4, 4, 1), np.float32)
    first = np.where(np.isin(attack_set.source, known), 0.5, 0.1)[:, None, None, None] * picture
    first[..., 1, 1, :] = 0.9  # elsewhere, the second baseline would be the better choice
    first[np.isin(attack_set.source, known), 1, 1, :] = 0.1
    seen = dataclasses.replace(attack_set, adversarial=first.astype(np.float32))
    monkeypatch.setattr(ladder, "MaxSoftmax", lambda classifier: Constant())
    monkeypatch.setattr(ladder, "pixel_baselines", lambda: {"corner": Pixel(0), "middle": Pixel(1)})
    assert baseline_rung(None, seen, codec="float", seed=0)["estimate"] == 0.25  # the corner: 0.1 against 0.1 and 0.2


def test_a_detector_s_rung_is_of_the_test_groups_successes(attack_set):
    rung = corrected_rung(Brightness(), attack_set, seed=0)
    test = fitting_rows(corrected_split(corrected_rows(attack_set), seed=0)[2])
    assert rung["estimate"] == 1
    assert rung["n"] == len(test.source)


def test_the_effect_of_a_format_is_the_first_accuracy_minus_the_second(attack_set):
    assert format_effect(Brightness(), Constant(), attack_set, seed=0).estimate == pytest.approx(
        published_split(published_rows(attack_set), seed=0)[1].is_adversarial.mean()
    )


def test_what_is_misread_after_a_codec_is_counted_for_fooled_images_and_their_originals(attack_set):
    class Reader:
        """Says 1 of images brighter than a quarter, else 0, the true class of all."""

        def predict(self, images):
            return np.eye(2)[(images.mean(axis=(1, 2, 3)) > 0.25).astype(int)]

    for role, share in (("adversarial", 1), ("clean", 0)):
        assert misread(Reader(), attack_set, role=role, codec="float", seed=0)["estimate"] == share
    half = dataclasses.replace(attack_set, adversarial=np.where(attack_set.source % 2, 0.3, 0.1)[:, None, None, None]
                               * np.ones((1, 4, 4, 1), np.float32))  # fmt: skip
    assert 0 < misread(Reader(), half, role="adversarial", codec="float", seed=0)["estimate"] < 1


def test_misread_counts_originals_of_successful_attacks_alone(attack_set):
    class Reader:
        def predict(self, images):
            return np.eye(2)[(images.mean(axis=(1, 2, 3)) > 0.25).astype(int)]

    bright = np.where(attack_set.success, 0.1, 0.9)[:, None, None, None] * np.ones((1, 4, 4, 1))
    made = dataclasses.replace(attack_set, clean=bright.astype(np.float32))
    assert misread(Reader(), made, role="clean", codec="float", seed=0)["estimate"] == 0


def test_lenses_look_at_what_their_names_say():
    study = {"method": "lrp.z", "neuron": "all", "coloured": True, "codec": "wrapped jpeg"}
    assert PUBLISHED_LENSES["input"].options == {"codec": "wrapped jpeg"}
    assert PUBLISHED_LENSES["relevancy"].options == study
    assert PUBLISHED_LENSES["relevancy, VGG-like"].network == "vgg_like_detector_cnn"
    assert PUBLISHED_LENSES["relevancy, last layer"].options == study | {"from_layer": "last"}
    assert CORRECTED_LENSES["input"].options == {"codec": "float"}
    for name, method in (("Deep Taylor", "deep_taylor"), ("z-rule", "lrp.z")):
        plain = {"method": method, "coloured": False, "codec": "float"}
        assert CORRECTED_LENSES[name].options == plain  # of the predicted class, which is the default
        assert CORRECTED_LENSES[f"{name}, coloured"].options == plain | {"coloured": True}
    through = PUBLISHED_LENSES["relevancy"].through("png")
    assert through.options == study | {"codec": "png"}


def test_fitting_hands_truths_and_the_watched_rows_to_the_detector(attack_set):
    seen = {}

    class Recorder:
        trained_ = "trained"

        def fit(self, images, truth, *, validation):
            seen.update(images=images, truth=truth, validation=validation)

    train, watched = (fitting_rows(part) for part in corrected_split(corrected_rows(attack_set), seed=0)[:2])
    lens = types.SimpleNamespace(detector=lambda classifier, **training: seen.update(training) or Recorder())
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    trained = protocols.fit_corrected(network, attack_set, lens=lens, epochs=3, patience=2, seed=0)
    assert trained == "trained"
    assert (seen["epochs"], seen["patience"], seen["seed"]) == (3, 2, 0)
    for images, truth, rows in ((seen["images"], seen["truth"], train), (*seen["validation"], watched)):
        np.testing.assert_array_equal(images, rows.images)
        np.testing.assert_allclose(images[truth].mean(), 0.3, rtol=1e-5)
        assert images[~truth].max() < 0.25


def test_joins_take_the_log_odds_of_max_softmax():
    frame = pd.DataFrame({"max softmax": [0.2, 0.0], "input": [3.0, -1.0]})
    values = protocols._log_odds(frame, ["max softmax", "input"])
    assert values[0].tolist() == [pytest.approx(np.log(0.25)), 3.0]
    assert np.isfinite(values).all()


def test_false_alarms_are_counted_among_what_the_base_passes(scores):
    made = scores["lbfgs"]
    row = beyond_input({"lbfgs": made}, seed=0).set_index(["base", "map"]).loc[("input", "z-rule")]
    test = made.test()
    normal = (test["role"] != "adversarial").to_numpy()
    flagged = {
        name: (test[name] > committed_thresholds(made.calibration[name].to_numpy())[0.05]).to_numpy()
        for name in ("input", "z-rule")
    }
    passed = normal & ~flagged["input"]
    assert row["passed"] == passed.sum() < normal.sum()
    assert row["false_alarms"].estimate == pytest.approx(flagged["z-rule"][passed].mean())


def test_the_headline_takes_each_figure_from_its_place(scores):
    results = corrected_results(scores, stratum="success", seed=0)
    values = {
        (row.detector, row.figure): report.interval_text(row) for row in results.itertuples() if row.attack == "lbfgs"
    }
    accuracy = Estimate(0.9, 0.8, 1.0)
    published = pd.DataFrame(
        [
            {
                "attack": "lbfgs",
                "lens": lens,
                "accuracy": accuracy,
                "published": published_value("mnist", lens, "lbfgs"),
            }
            for lens in ("input", "relevancy")
        ]
    )
    rungs = pd.DataFrame(
        [
            {"protocol": "as published", "attack": "lbfgs", "lens": lens, "codec": codec}
            | {"estimate": 0.5 if codec == "float" else 0.1, "low": 0, "high": 1}
            for lens in ("input", "relevancy")
            for codec in ("float", "wrapped jpeg")
        ]
    )
    table = report.headline_table(published, rungs, results).set_index("classifier")
    row = table.loc["relevancy, z-rule"]
    assert row["published accuracy"] == "60.8 %"
    assert row["the same on floats"].startswith("0.500")
    assert row["corrected ROC-AUC"] == values["z-rule", "roc_auc"]
    assert row["TPR"] == values["z-rule", "committed_tpr_0.05"]
    assert row["FPR on clean"] == values["z-rule", "observed_fpr_0.05 on clean"]
    assert row["best baseline"] == "max softmax"
    assert row["its FPR on clean"] == values["max softmax", "observed_fpr_0.05 on clean"]
    assert row[report.COUNTS] == "75 / 100 / 100"
    assert table.loc["relevancy, Deep Taylor", "published accuracy"] == "–"


def test_published_values_are_of_mnist_alone():
    assert published_value("mnist", "relevancy", "gradient") == "79.2 %"
    assert published_value("mnist", "max softmax", "gradient") == "–"
    assert published_value("fashion_mnist", "relevancy", "gradient") == "–"


def test_published_values_are_counted_where_they_lie_in_the_interval():
    rows = [
        {"attack": attack, "lens": lens, "accuracy": Estimate(0.95, 0.93, 0.965)}
        | {"published": published_value("mnist", lens, attack)}
        for lens in ("input", "relevancy")
        for attack in ("lbfgs", "deepfool", "gradient")
    ]
    text = report._agreement(pd.DataFrame(rows))  # 94.4 is inside, 98.16 and 97 are not, no map is
    assert "lbfgs 95.0%" in text
    assert "with 1 of 3 published values in the interval; relevancy" in text
    assert "with 0 of 3" in text


def test_map_movement_explains_the_classes_that_it_names(monkeypatch, attack_set):
    asked = []

    def explain(network, images, *, method, neuron="predicted"):
        asked.append((round(float(images.mean()), 3), neuron if isinstance(neuron, str) else neuron.tolist()))
        return np.zeros(images.shape)

    monkeypatch.setattr(maps, "explain", explain)
    monkeypatch.setattr(maps, "MOVING", {"z-rule": "lrp.z"})
    assert len(map_movement(None, {"made up": attack_set}, seed=0)) == 0  # as all maps are empty
    won = attack_set.select(attack_set.success)
    assert asked == [
        (0.1, "predicted"),
        (0.3, "predicted"),
        (0.3, won.label.tolist()),
        (0.1, won.predicted.tolist()),
        (0.2, "predicted"),
    ]


def test_empty_maps_are_left_out_and_counted(monkeypatch, attack_set):
    def explain(network, images, *, method, neuron="predicted"):
        made = np.tile(np.arange(16.0).reshape(1, 4, 4, 1), (len(images), 1, 1, 1))
        made[:15] *= images[:15].mean() < 0.25  # of 75, under attack
        return made

    monkeypatch.setattr(maps, "explain", explain)
    monkeypatch.setattr(maps, "MOVING", {"Deep Taylor": "deep_taylor"})
    moved = map_movement(None, {"made up": attack_set}, seed=0).set_index("compared")
    assert moved.loc["attacked", ["estimate", "n", "empty"]].tolist() == [1, 60, pytest.approx(0.2)]
    assert moved.loc["noisy", ["estimate", "n", "empty"]].tolist() == [1, 75, 0]
    assert moved.loc[DIFFERENCE, ["estimate", "n"]].tolist() == [0, 60]


def test_map_movement_names_its_comparisons_rightly(average_pooling_classifier, real_images):
    images = real_images[:6]
    label = average_pooling_classifier.predict(images).argmax(axis=1)
    moved = AttackSet(
        attack="made up",
        parameters={},
        source=np.arange(6),
        clean=images,
        noisy=images,
        adversarial=images[::-1].copy(),
        label=label,
        target=np.full(len(label), -1),
        predicted=(label + 1) % 10,
        success=np.ones(6, bool),
        margin=np.ones(6, np.float32),
        l2=np.ones(6, np.float32),
        linf=np.ones(6, np.float32),
        zero_gradient=np.zeros(6, bool),
    )
    table = map_movement(average_pooling_classifier.model, {"made up": moved}, seed=0)
    means = table[table["method"] == "z-rule"].set_index("compared")["estimate"]
    assert means["noisy"] == pytest.approx(1)
    assert means["attacked"] < 0.9
    assert means["attacked, first class"] < 0.9
    assert means["clean, wrong class"] < 0.9
