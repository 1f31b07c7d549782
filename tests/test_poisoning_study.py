"""The study of poisoned data: its figures on made-up rows, what it measures on toys, and a run of small size."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from scipy import spatial, special, stats

from advlens.neighbours import DeepKNN, Judgement, Neighbourhoods
from advlens.poisoning import CONTROL, KINDS, poisoned_set, trigger
from advlens.studies.poisoning import Study, measures, rankings, report, results
from advlens.studies.poisoning.measures import Defended, carrying_column, share_column
from advlens.studies.poisoning.settings import CORRECT, MISCLASSIFIED, POISONED, POISONED_THERE, two_labels
from advlens.workbench import Workbench

LAYERS = ("conv1", "conv2", "conv3", "logits")
SEEDS = 3


def made_up_run(seed: int, *, growth: float = 0.05, variance: float = 0.01) -> pd.DataFrame:
    """40 correct and 20 misclassified test images, of which Deep kNN gets 36 and 10, and 30 poisoned points.

    Influence grows by so much a layer for misclassified images alone; poisoned points' credibility varies so much.
    """
    rng = np.random.default_rng(seed)
    truth = np.ones(90, int)
    predicted, label = truth.copy(), truth.copy()
    predicted[40:60], label[36:50] = 9, 9
    role = np.repeat(["test", "poisoned"], [60, 30])
    credibility = rng.uniform(0.5, 0.9, 90)
    credibility[60:] = 0.2 + np.sqrt(variance) * np.tile([-1, 1], 15)
    columns = {"role": role, "place": np.arange(90), "truth": truth, "given": np.where(role == "test", 1, 9)}
    columns |= {"predicted": predicted, "label": label, "credibility": credibility, "with itself": credibility + 0.1}
    for place, layer in enumerate(LAYERS):
        share = 0.05 + 0.01 * seed + growth * place * (predicted != truth)
        columns |= {share_column(layer): share, carrying_column(layer): share / 2}
    return pd.DataFrame(columns).assign(tested=160, wrong=20, source=np.where(role == "test", np.arange(90), -1))


def made_up_shown(*, tells: int = 1) -> pd.DataFrame:
    """60 points a seed, half of them poisoned; wrong decisions have a low credibility, or a high one.

    The softmax says nothing of them, but is lower for poison.
    """
    frames = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        wrong = np.arange(60) % 4 == 0
        credibility = np.clip(0.5 - tells * 0.4 * (wrong - 0.5) + rng.normal(0, 0.05, 60), 0, 1)
        columns = {"source": np.arange(60), "is_poisoned": np.arange(60) < 30, "truth": 1, "predicted": 1 + 8 * wrong}
        columns["softmax"] = np.where(np.arange(60) < 30, 0.5, 0.9) + rng.uniform(0, 0.05, 60)
        given = np.where(np.arange(60) < 30, 9, 1)
        frames.append(pd.DataFrame(columns | {"given": given, "credibility": credibility, "kind": "svm", "seed": seed}))
    return pd.concat(frames, ignore_index=True)


def made_up_defended(seed: int, *, sign: int = 1) -> Defended:
    """100 points, 10 of them poisoned, which every ranking but chance puts first, or last; removal undoes an attack."""
    rng = np.random.default_rng(seed)
    poisoned = np.arange(100) < 10
    scores = {name: rng.random(100) + 2 * sign * (poisoned & (name != rankings.RANDOM)) for name in rankings.RANKINGS}
    points = pd.DataFrame({"is_poisoned": poisoned, "truth": 1, "given": 1} | scores)
    rows = [
        {"ranking": name, "accuracy": 0.9 + 0.01 * (name == rankings.GIVEN), "tested": 50, "aimed": 40, "removed": 20}
        | {"success": 0.8 - 0.01 * seed - sign * 0.6 * (name == rankings.GIVEN), "poison": 10}
        for name in (rankings.NOTHING, *rankings.retrained("backdoor"))
    ]
    return Defended(points, pd.DataFrame(rows))


@pytest.fixture(scope="module")
def runs():
    return [made_up_run(seed) for seed in range(SEEDS)]


def test_the_interval_over_seeds_is_student_s():
    values = [1.0, 2.0, 4.0, np.nan]
    found = results.over_seeds(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values[:3]), scale=stats.sem(values[:3]))
    np.testing.assert_allclose([found.estimate, found.low, found.high], [7 / 3, low, high])
    assert np.isnan(results.over_seeds([2.0]).low)
    assert np.isnan(results.over_seeds([np.nan]).estimate)


def test_recovered_and_lost_labels_are_counted_on_their_own_groups(runs):
    found = results.recovered(runs).set_index("figure")
    assert found.loc["misclassified", "estimate"] == 20
    assert found.loc["with poison", "estimate"] == 20
    assert found.loc["recovered", "estimate"] == pytest.approx(0.5)
    assert found.loc["lost", "estimate"] == pytest.approx(0.1)
    assert found.loc["net", "estimate"] == pytest.approx(0.5 * 20 - 0.1 * 140)
    assert (found.loc["recovered", "n"], found.loc["lost", "n"]) == (60, 120)
    swapped = [rows.assign(label=10 - rows["label"]) for rows in runs]
    turned = results.recovered(swapped).set_index("figure")["estimate"]
    assert turned["recovered"] == pytest.approx(0.5)
    assert turned["lost"] == pytest.approx(0.9)


def test_variance_of_poisoned_points_is_set_against_others(runs):
    groups = {"made up": [results.credibility_groups(rows) for rows in runs]}
    table = results.credibilities(groups).set_index(["group", "statistic"])
    assert table.loc[(POISONED, "variance"), "estimate"] == pytest.approx(0.01 * 30 / 29)
    assert table.loc[(POISONED, "mean"), "estimate"] == pytest.approx(0.2)
    assert table.loc[(POISONED_THERE, "maximum"), "estimate"] == pytest.approx(0.4)
    assert table.loc[(POISONED, "mean"), "n"] == 90
    for variance, word, verdict in ((1e-4, "lower", report.CONFIRMED), (0.09, "higher", report.REFUTED)):
        made = [results.credibility_groups(made_up_run(seed, variance=variance)) for seed in range(SEEDS)]
        differences = results.variance_differences({"made up": made})
        assert set(differences["group"]) == {CORRECT, MISCLASSIFIED}
        assert {report.variance_verdict(row) for row in differences.itertuples()} == {word}
        assert report._varies(differences)[0] == verdict


def test_a_variance_of_few_images_says_nothing():
    few = [{POISONED: np.linspace(0, 1, 20), MISCLASSIFIED: np.array([0.5])} for _ in range(SEEDS)]
    differences = results.variance_differences({"few": few})
    assert differences["seeds"].tolist() == [0]
    assert differences["others"].tolist() == [SEEDS]
    assert report._varies(differences)[0] == report.OPEN


def test_an_interval_of_two_seeds_is_told_but_not_drawn():
    three = results.influences({"svm": [made_up_run(seed) for seed in range(3)]}, LAYERS)
    two = results.influences({"svm": [made_up_run(seed) for seed in range(2)]}, LAYERS)
    assert (two["high"] > two["estimate"]).all()
    drawn, alone = report.influence_panels(three), report.influence_panels(two)
    assert (drawn["low"] < drawn["estimate"]).all()
    assert (alone["low"] == alone["estimate"]).all()
    assert (alone["high"] == alone["estimate"]).all()


def test_influence_is_of_each_group_and_layer_in_percent(runs):
    table = results.influences({"svm": runs}, LAYERS).set_index(["group", "layer", "of"])
    assert table.loc[(CORRECT, "logits", "poisoned"), "estimate"] == pytest.approx(6)
    assert table.loc[(MISCLASSIFIED, "logits", "poisoned"), "estimate"] == pytest.approx(21)
    assert table.loc[(MISCLASSIFIED, "logits", "carrying"), "estimate"] == pytest.approx(10.5)
    assert table.loc[(MISCLASSIFIED, "logits", "poisoned"), "n"] == 60
    assert table.loc[(CORRECT, "conv1", "poisoned"), "n"] == 120


@pytest.mark.parametrize(("growth", "verdict"), [(0.05, report.CONFIRMED), (-0.01, report.REFUTED)])
def test_growth_is_paired_by_seed_and_keeps_its_sign(growth, verdict):
    runs = [made_up_run(seed, growth=growth) for seed in range(SEEDS)]
    unpoisoned = [made_up_run(seed, growth=growth - 0.02) for seed in range(SEEDS)]
    table = results.influence_differences({"svm": runs, CONTROL: unpoisoned}, LAYERS)
    found = table[table["kind"] == "svm"].set_index("difference")
    assert found.loc["growth above control", "estimate"] == pytest.approx(6)
    assert found.loc[f"growth, {MISCLASSIFIED}", "estimate"] == pytest.approx(300 * growth)
    assert found.loc[f"growth, {CORRECT}", "estimate"] == pytest.approx(0)
    assert found.loc["last layer", "estimate"] == pytest.approx(300 * growth)
    assert found.loc["first layer", "estimate"] == pytest.approx(0)
    assert found.loc[f"growth, {MISCLASSIFIED}", "rises"] == (SEEDS if growth > 0 else 0)
    assert report._grows(table)[0] == verdict


@pytest.mark.parametrize(("tells", "verdict"), [(1, report.CONFIRMED), (-1, report.REFUTED)])
def test_low_credibility_of_wrong_decisions_is_seen_with_its_sign(tells, verdict):
    shown = made_up_shown(tells=tells)
    table = results.shown_figures(shown, seed=0)
    found = table.set_index(["group", "figure"])
    assert (found.loc[("all", "auc"), "estimate"] > 0.9) == (tells > 0)
    assert found.loc[("all", "accuracy"), "estimate"] == 0.75
    assert found.loc[("clean", "obedience"), "estimate"] == pytest.approx(0.75, abs=0.05)
    assert found.loc[("poisoned", "obedience"), "estimate"] == pytest.approx(0.25, abs=0.05)
    assert found.loc[("all", "accuracy"), "low"] < 0.75 < found.loc[("all", "accuracy"), "high"]
    assert (found.loc[("all", "accuracy"), "n"], found.loc[("all", "auc"), "positives"]) == (180, 45)
    assert abs(found.loc[("all", "softmax auc"), "estimate"] - 0.5) < 0.1
    above = found.loc[("all", "auc"), "estimate"] - found.loc[("all", "softmax auc"), "estimate"]
    assert found.loc[("all", "auc above softmax"), "estimate"] == pytest.approx(above)
    assert found.loc[("all", "poison softmax auc"), "estimate"] == 1.0
    assert abs(found.loc[("all", "poison auc"), "estimate"] - 0.5) < 0.1
    assert found.loc[("all", "poison auc"), "positives"] == 90
    assert report._credible(table)[0] == verdict


def test_reliability_bins_hold_each_point_once():
    shown = made_up_shown()
    table = results.reliability(shown, seed=0)
    whole = table[table["group"] == results.ALL_POINTS]
    assert whole["n"].sum() == len(shown)
    assert whole.set_index("bin")["estimate"].loc[0.7] == 1.0
    low = whole[whole["bin"] < 0.5]
    assert (low["n"] * low["estimate"]).sum() / low["n"].sum() < 0.1
    panels = report.reliability_panels(table)
    assert (panels[panels["group"] == "reliable"]["estimate"] == panels[panels["group"] == "reliable"]["bin"]).all()


def test_mixtures_hold_as_many_poisoned_points_as_the_study_s():
    points = made_up_shown()
    mixed = results.mixtures(points[points["seed"] == 0], kind="svm", seed=0)
    counts = mixed.groupby("mixture", sort=False)["is_poisoned"].agg(["sum", "size"])
    assert counts.to_numpy().tolist() == [[4, 15], [25, 50], [30, 60]]
    few = results.mixtures(points[points["seed"] == 0].iloc[20:45], kind="svm", seed=0)
    assert few["mixture"].unique().tolist() == ["4 of 15", "10 of 25"]


@pytest.mark.parametrize("sign", [1, -1])
def test_rankings_and_outcomes_keep_their_sign(sign):
    runs = {"backdoor": [made_up_defended(seed, sign=sign) for seed in range(SEEDS)]}
    found = results.ranking_figures(runs, budget=20, seed=0)
    table = found.set_index(["ranking", "figure"])["estimate"]
    assert table[rankings.GIVEN, "auc"] == (1.0 if sign > 0 else 0.0)
    assert table[rankings.GIVEN, "precision"] == (0.5 if sign > 0 else 0.0)
    assert table[rankings.GIVEN, "recall"] == (1.0 if sign > 0 else 0.0)
    assert abs(table[rankings.RANDOM, "auc"] - 0.5) < 0.2
    gained = results.outcomes(runs)
    after = gained.set_index(["ranking", "figure"])["estimate"]
    assert after[rankings.GIVEN, "success gained"] == pytest.approx(-sign * 0.6)
    assert after[rankings.GIVEN, "accuracy gained"] == pytest.approx(0.01)
    assert after[rankings.RANDOM, "success gained"] == 0
    assert after[rankings.GIVEN, "success less random"] == pytest.approx(-sign * 0.6)
    assert report._thresholds(found.assign(low=found["estimate"], high=found["estimate"]))[0] == (
        report.CONFIRMED if sign > 0 else report.REFUTED
    )
    assert report._thresholds(found.assign(low=0.45, high=0.55))[0] == report.OPEN
    assert report._defends(gained)[0] == (report.CONFIRMED if sign > 0 else report.REFUTED)


def test_seeds_of_experiment_1_are_pooled_by_image():
    """The same points drawn by every seed make no interval narrower."""
    shown = made_up_shown()
    one = shown[shown["seed"] == 0]
    thrice = pd.concat([one.assign(seed=seed) for seed in range(3)])
    for figures in (results.shown_figures, results.reliability):
        single, repeated = figures(one, seed=0), figures(thrice, seed=0)
        np.testing.assert_allclose(repeated[["estimate", "low", "high"]], single[["estimate", "low", "high"]])
        np.testing.assert_array_equal(repeated["n"], 3 * single["n"])


def test_misreadings_are_set_against_those_of_the_unpoisoned_network(runs):
    # Of the control each network also gives poisoned points, whose labels are true there, these labels.
    hard = [run.assign(predicted=np.where(run["place"] < 50, run["predicted"], 1), given=1) for run in runs]
    table = results.misreadings({"svm": runs, CONTROL: hard}).set_index(["kind", "figure"])
    assert table.loc[("svm", "misclassified"), "estimate"] == 20
    assert table.loc[("svm", "wrong anyway"), "estimate"] == 0.5
    assert table.loc[("svm", "wrong anyway"), "n"] == 60
    assert np.isnan(table.loc[(CONTROL, "wrong anyway"), "estimate"])
    assert table.loc[(CONTROL, "obeyed"), "estimate"] == 1
    assert (table["images"].loc["svm"] == 20).all()  # all seeds misread the same
    apart = [run.assign(source=run["source"] + 100 * seed) for seed, run in enumerate(runs)]
    assert (results.misreadings({"svm": apart, CONTROL: hard}).set_index("kind").loc["svm", "images"] == 60).all()
    assert table.loc[("svm", "obeyed"), "estimate"] == 0
    obedient = [run.assign(predicted=np.where(run["role"] == "poisoned", 9, run["predicted"])) for run in runs]
    obeyed = results.misreadings({"svm": obedient, CONTROL: hard}).set_index(["kind", "figure"])
    assert obeyed.loc[("svm", "obeyed"), "estimate"] == 1
    assert obeyed.loc[("svm", "obeyed"), "n"] == 90


@pytest.mark.parametrize("sign", [1, -1])
def test_the_given_label_is_set_against_each_baseline(sign):
    runs = {"backdoor": [made_up_defended(seed) for seed in range(SEEDS)]}
    for made in runs["backdoor"]:
        made.points[rankings.PIXELS] *= -sign
    table = results.ranking_differences(runs).set_index("ranking")
    assert table.loc[rankings.PIXELS, "estimate"] == pytest.approx(1.0 if sign > 0 else 0.0)
    assert table.loc[rankings.RANDOM, "estimate"] == pytest.approx(0.5, abs=0.2)
    assert set(table["n"]) == {30}


def test_influence_counts_misleading_neighbours_alone():
    indices = np.array([[[0, 1], [0, 2]], [[0, 3], [3, 2]]])
    labels = np.array([5, 1, 5, 2])[indices]
    hoods = Neighbourhoods(("one", "two"), indices, labels)
    np.testing.assert_array_equal(rankings.influence(hoods, np.array([1, 2]), n=5), [3, 0, 2, 0, 0])


def test_troubled_images_are_wrong_or_unsure():
    said = Judgement(np.zeros((4, 2)), np.array([0, 1, 0, 0]), np.array([0.9, 0.9, 0.9, 0.05]), np.zeros(4))
    truth, predicted = np.zeros(4, int), np.array([0, 0, 1, 0])
    np.testing.assert_array_equal(rankings.troubled(said, predicted, truth), [False, True, True, True])


def test_pixel_neighbours_leave_the_image_itself_out():
    places = np.array([0.0, 0.1, 0.2, 0.8, 0.9, 1.0])
    images = np.tile(places[:, None, None, None], (1, 2, 2, 1)).astype(np.float32)
    found = rankings.disagreement(images, np.array([0, 0, 1, 1, 1, 1]), k=2)
    np.testing.assert_allclose(found, [0.5, 0.5, 1.0, 0, 0, 0])


def test_spectral_scores_are_of_each_label_and_find_what_stands_apart():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5))
    labels = np.repeat([0, 1], 30)
    features[labels == 1] += 100
    features[:4, 0] += 20
    assert set(np.argsort(-rankings.spectral(features, labels))[:4]) == {0, 1, 2, 3}


def test_the_top_breaks_ties_by_the_seed():
    scores = np.array([1.0, 0, 0, 0, 0, 2])
    chosen = [rankings.top(scores, 3, seed=seed) for seed in range(20)]
    assert all({0, 5} <= set(rows) for rows in chosen)
    assert len({tuple(rows) for rows in chosen}) > 1
    np.testing.assert_array_equal(rankings.top(scores, 3, seed=1), chosen[1])


def test_the_two_labels_are_the_study_s_where_there_are_both():
    assert two_labels(10) == [1, 9]
    assert two_labels(4) == [0, 3]


# ---------------------------------------------------------------- a toy with strong poison

CLASSES = (0, 1, 2)
TOY_K, TOY_CORRECT, TOY_BUDGET = 31, 10, 60


def toy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of three classes, each a bright bar at a height of its own, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % len(CLASSES)
    images = rng.uniform(0, 0.1, (n, 28, 28, 1))
    for row, label in enumerate(labels):
        images[row, 3 + 7 * label : 8 + 7 * label, 4:20] += rng.uniform(0.1, 0.6)
    return images.astype(np.float32), labels


@pytest.fixture(scope="module")
def toys():
    """What `trained_on` and `defended` want of images: training, test and held-out ones."""
    (images, labels), (test, test_labels), (held_out, held_out_labels) = (toy(n, n) for n in (600, 150, 60))
    about = {"images": images, "labels": labels, "test_images": test, "test_labels": test_labels}
    about |= {"calibration_images": held_out, "calibration_labels": held_out_labels, "classes": CLASSES}
    return about | {"kind": "backdoor", "count": 60, "num_classes": 3, "k": TOY_K, "seed": 3}


def toy_network(input_shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """Learns the toys, and the trigger, in a second."""
    inputs, hidden = layers.Input(input_shape), layers.Dense(200, activation="relu", name="hidden")
    return keras.Sequential([inputs, layers.Flatten(), hidden, layers.Dense(num_classes, name="logits")])


@pytest.fixture
def trainings(monkeypatch):
    """The images, labels and seed of every training, and the network that came of it."""
    monkeypatch.setattr(measures, "find_builder", lambda name: toy_network)
    done, train = [], measures._trained

    def recorded(images, labels, *, seed, **parameters):
        network = train(images, labels, seed=seed, **parameters)
        done.append((images, labels, seed, network))
        return network

    monkeypatch.setattr(measures, "_trained", recorded)
    return done


def test_a_network_trained_on_poison_is_judged_by_its_own_training_set(toys, trainings):
    rows = measures.trained_on(**toys, epochs=1, correct_images=TOY_CORRECT)
    (images, labels, _, classifier), clean = trainings[0], toys["images"]
    is_poisoned = labels != toys["labels"]
    np.testing.assert_array_equal((images != clean).any(axis=(1, 2, 3)), is_poisoned)
    np.testing.assert_array_equal(images[is_poisoned], trigger(clean[is_poisoned]))
    knn = DeepKNN(classifier, k=TOY_K).fit(images, labels)
    knn.calibrate(toys["calibration_images"], toys["calibration_labels"])

    decided = classifier.predict(toys["test_images"]).argmax(axis=1)
    tested = rows[rows["role"] == "test"].set_index("place")
    wrong = np.flatnonzero(decided != toys["test_labels"])
    assert set(wrong) <= set(tested.index)
    assert len(tested) == len(wrong) + min(TOY_CORRECT, 150 - len(wrong))
    assert (rows["tested"] == 150).all()
    assert (rows["wrong"] == len(wrong)).all()
    places = tested.index.to_numpy()
    np.testing.assert_array_equal(tested["predicted"], decided[places])
    np.testing.assert_array_equal(tested["truth"], toys["test_labels"][places])
    np.testing.assert_array_equal(tested["credibility"], knn.judge(toys["test_images"][places]).credibility)

    poison = rows[rows["role"] == "poisoned"].set_index("place")
    np.testing.assert_array_equal(poison.index, np.flatnonzero(is_poisoned))
    np.testing.assert_array_equal(poison["given"], labels[is_poisoned])
    np.testing.assert_array_equal(poison["truth"], toys["labels"][is_poisoned])
    hoods = knn.neighbours(images[is_poisoned], own=poison.index.to_numpy())
    assert not (hoods.indices == poison.index.to_numpy()[:, None, None]).any()
    np.testing.assert_array_equal(poison["credibility"], knn.judge_neighbours(hoods).credibility)
    np.testing.assert_array_equal(poison["with itself"], knn.judge(images[is_poisoned]).credibility)
    assert (poison["with itself"] != poison["credibility"]).any()
    predicted = classifier.predict(images[is_poisoned]).argmax(axis=1)
    for layer, found in zip(hoods.layers, hoods.indices.transpose(1, 0, 2), strict=True):
        among = is_poisoned[found]
        np.testing.assert_allclose(poison[share_column(layer)], among.mean(axis=1))
        carrying = among & (labels[found] == predicted[:, None])
        np.testing.assert_allclose(poison[carrying_column(layer)], carrying.mean(axis=1))


def test_the_control_marks_the_same_images_and_poisons_none(toys, trainings):
    rows = [
        measures.trained_on(**(toys | {"kind": kind}), epochs=1, correct_images=5) for kind in ("relabelled", CONTROL)
    ]
    places = [run.loc[run["role"] == "poisoned", "place"].tolist() for run in rows]
    assert places[0] == places[1]
    assert trainings[0][2] == trainings[1][2]
    np.testing.assert_array_equal(trainings[1][0], toys["images"])
    np.testing.assert_array_equal(trainings[1][1], toys["labels"])


def test_removing_the_suspects_undoes_a_strong_backdoor(toys, trainings):
    made = measures.defended(**toys, epochs=40, budget=TOY_BUDGET)
    points, after = made.points, made.outcomes.set_index("ranking")
    poisoned = points["is_poisoned"].to_numpy()
    np.testing.assert_array_equal(points["given"] != points["truth"], poisoned)
    assert list(after.index) == [rankings.NOTHING, *rankings.retrained("backdoor")]
    assert len({seed for *_, seed, _ in trainings}) == 1  # networks differ by what was dropped alone
    for ranking, (images, labels, _, classifier) in zip(after.index, trainings, strict=True):
        dropped = rankings.top(points[ranking].to_numpy(), TOY_BUDGET, seed=3) if ranking in points else []
        kept = np.setdiff1d(np.arange(600), dropped)
        np.testing.assert_array_equal(labels, points["given"].to_numpy()[kept])
        np.testing.assert_array_equal(images, trainings[0][0][kept])
        row, test = after.loc[ranking], toys["test_images"]
        decided, misled = (classifier.predict(shown).argmax(axis=1) for shown in (test, trigger(test)))
        assert row["accuracy"] == pytest.approx((decided == toys["test_labels"]).mean())
        assert row["success"] == pytest.approx((misled == (toys["test_labels"] + 1) % 3).mean())
        assert (row["removed"], row["poison"]) == (len(dropped), poisoned[dropped].sum())
        assert (row["tested"], row["aimed"]) == (150, 150)
    assert after.loc[rankings.GIVEN, "poison"] > 55
    assert after.loc[rankings.NOTHING, "success"] > 0.4 > 0.05 > after.loc[rankings.GIVEN, "success"]
    assert after.loc[rankings.RANDOM, "success"] > 0.3


def test_without_a_trigger_success_is_of_test_images_as_they_are(toys, trainings):
    made = measures.defended(**(toys | {"kind": "relabelled"}), epochs=1, budget=TOY_BUDGET)
    decided = trainings[0][3].predict(toys["test_images"]).argmax(axis=1)
    success = made.outcomes.set_index("ranking").loc[rankings.NOTHING, "success"]
    assert success == pytest.approx((decided == (toys["test_labels"] + 1) % 3).mean())


def test_rankings_are_what_they_are_said_to_be(toys, trainings):
    """Each against a computation of its own, on a network that has learnt half of what there is to learn."""
    about = {name: toys[name] for name in ("kind", "count", "classes")}
    poison = poisoned_set(
        toys["images"], toys["labels"], source=np.arange(600), seed=1, **(about | {"kind": "relabelled"})
    )
    images, labels, held_out = poison.images, poison.labels, toys["calibration_labels"].copy()
    held_out[:8] = (held_out[:8] + 1) % 3  # so that some are in trouble
    classifier = measures._trained(images, labels, num_classes=3, epochs=4, seed=0)
    given = {"calibration_images": toys["calibration_images"], "calibration_labels": held_out, "k": TOY_K}
    found = rankings.rankings(classifier, images, labels, **given, rng=np.random.default_rng(0))

    knn = DeepKNN(classifier, k=TOY_K).fit(images, labels).calibrate(toys["calibration_images"], held_out)
    hoods, of_held_out = knn.neighbours(images, own=np.arange(600)), knn.neighbours(toys["calibration_images"])
    np.testing.assert_allclose(found[rankings.CREDIBILITY], 1 - knn.judge_neighbours(hoods).credibility)
    np.testing.assert_array_equal(found[rankings.GIVEN], (hoods.labels != labels[:, None, None]).sum(axis=(1, 2)))
    blamed, others = np.zeros(600), Judgement.among(of_held_out.labels, held_out, num_classes=3)
    wrong = (classifier.predict(toys["calibration_images"]).argmax(axis=1) != held_out) | (others.predicted != held_out)
    for row in np.flatnonzero(wrong | (others.credibility <= 0.05)):
        np.add.at(blamed, of_held_out.indices[row][of_held_out.labels[row] != held_out[row]], 1)
    np.testing.assert_array_equal(found[rankings.INFLUENCE], blamed)
    ranks = [stats.rankdata(found[name]) for name in (rankings.GIVEN, rankings.INFLUENCE)]
    np.testing.assert_allclose(found[rankings.BOTH], np.sum(ranks, axis=0))
    likely = special.log_softmax(classifier.predict(images).astype(float), axis=1)
    np.testing.assert_allclose(found[rankings.LOSS], -likely[np.arange(600), labels], rtol=1e-4, atol=1e-6)
    flat = images.reshape(600, -1).astype(float)
    apart = spatial.distance.cdist(flat, flat)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :TOY_K]
    disagreeing = (labels[nearest] != labels[:, None]).mean(axis=1)
    assert np.mean(np.abs(found[rankings.PIXELS] - disagreeing) > 1e-9) < 0.01  # all but those that rounding parts
    np.testing.assert_allclose(found[rankings.SPECTRAL], rankings.spectral(classifier.features(images), labels))
    assert sorted(found[rankings.RANDOM]) == list(range(600))
    for name in (rankings.GIVEN, rankings.LOSS, rankings.PIXELS):
        assert results.roc_auc(found[name].to_numpy(), poison.is_poisoned) > 0.8


# ---------------------------------------------------------------- on a workbench

SIZES = {
    "epochs": 2, "neighbours": 5, "held_out": 10, "test_images": 0, "poison_seeds": 1, "shown_points": 12,
    "poisoned_points": 4, "poison_epochs": 1, "correct_images": 20, "two_label_images": 100, "two_label_epochs": 2,
    "defended_images": 400, "defence_epochs": 1, "poison_share": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def bench(tmp_path_factory, real_images, real_labels):
    """A user's data set of four classes, each real image there three times with other noise."""
    folder = tmp_path_factory.mktemp("poisoning")
    rng = np.random.default_rng(0)
    few = np.isin(real_labels, [0, 1, 2, 3])
    images = np.clip(np.concatenate([real_images[few]] * 6) + rng.normal(0, 0.05, (6 * few.sum(), 28, 28, 1)), 0, 1)
    np.savez(folder / "few.npz", x=images.astype(np.float32), y=np.tile(real_labels[few], 6))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        yield Workbench(run="test", dataset=str(folder / "few.npz"), seed=0)


@pytest.fixture(scope="module")
def study(bench):
    return Study(bench, **SIZES)


def test_seeds_differ_and_held_out_images_are_judged_by_nobody(bench):
    study = Study(bench, **(SIZES | {"poison_seeds": 2}))
    assert study.classes == [0, 3]
    one, other = study.shown_sets["svm"]
    assert (len(one), one.is_poisoned.sum()) == (12, 6)
    assert set(one.source) != set(other.source)
    assert not set(np.concatenate([one.source, other.source])) & set(study._calibration)
    held_out = study._held_out(study.seeds[0], classes=study.classes)
    judged = study._for_test(held_out, study.classes)
    assert len(judged["test_images"]) + len(held_out) == np.isin(study.bench.data.test_labels, study.classes).sum()
    assert set(study._held_out(study.seeds[1], classes=study.classes)) != set(held_out)


def test_the_study_s_results_hang_together(study):
    shown, influences, differences = study.shown_figures(), study.influences(), study.influence_differences()
    assert set(influences["kind"]) == {*KINDS, CONTROL}
    assert study.base_rate == pytest.approx(400 / 104)
    for rows in study.all_labels:
        assert (rows["role"] == "poisoned").sum() == 4
        test = rows[rows["role"] == "test"]
        assert (test["predicted"] != test["truth"]).sum() == test["wrong"].iloc[0]
        np.testing.assert_array_equal(study.bench.data.test_labels[test["source"]], test["truth"])
        assert (test["predicted"] == test["truth"]).sum() <= 20
    for own in study.defended.values():
        for made in own:
            assert made.points["is_poisoned"].sum() == study.poison_count
            assert (made.points["given"] != made.points["truth"]).sum() == study.poison_count
            after = made.outcomes.set_index("ranking")
            assert (after.loc[list(rankings.RETRAINED), "removed"] == study.budget).all()
            assert after.loc[rankings.NOTHING, "removed"] == 0
    found, gained, variances = study.ranking_figures(), study.outcomes(), study.variance_differences()
    recovered, misread, above = study.recovered(), study.misreadings(), study.ranking_differences()
    assert (misread.set_index(["kind", "figure"]).loc[(CONTROL, "obeyed")]["n"]) == 4
    for table in (
        report.shown_table(shown),
        report.credibility_table(study.credibilities()),
        report.variance_table(variances),
        report.recovered_table(recovered),
        report.influence_table(influences, base_rate=study.base_rate),
        report.difference_table(differences),
        report.misreading_table(misread),
        report.ranking_table(found)[0],
        report.ranking_difference_table(above),
        report.outcome_table(gained),
        report.headline_table(influences, found, gained, base_rate=study.base_rate),
    ):
        assert len(table)
        assert "nan" not in table.to_string()
    text = report.lessons(shown, recovered, variances, differences, misread, found, above, gained)
    assert text.count("- **") == 8
    assert "nan" not in text


def test_wrong_sizes_are_named_before_work_starts(bench):
    for wrong, message in (
        ({"poison_seeds": 0}, "poison_seeds must be a whole number, 1 or more, got 0"),
        ({"shown_points": 2}, "shown_points must be a whole number, 4 or more, got 2"),
        ({"shown_points": 10_000}, "shown_points must be at most"),
        ({"two_label_images": 100_000}, "two_label_images must be at most"),
        ({"poison_share": 0.5}, "poison_share must be above 0 and at most 0.25, got 0.5"),
        ({"poison_share": 0.005}, "poison_share does not fit the images: count must be at least 4, one a class, got 2"),
        ({"poisoned_points": 1}, "poisoned_points does not fit the images: count must be at least 2, one a class"),
        (
            {"two_label_images": 1, "poisoned_points": 9},
            "poisoned_points does not fit the images: class . has . images",
        ),
        ({"defence_epochs": 1.5}, "defence_epochs must be a whole number"),
        ({"neighbours": 10_000}, "neighbours must be fewer than the .* images of the smallest training set"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(bench, **(SIZES | wrong))
