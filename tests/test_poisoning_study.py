"""The poisoning study: its tables on made-up rows, what it measures on toys, and a small run."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from scipy import spatial, special, stats

from advlens.metrics import roc_auc
from advlens.neighbours import DeepKNN, Judgement, Neighbourhoods
from advlens.poisoning import CONTROL, poisoned_set, rankings, trigger
from advlens.studies import poisoning
from advlens.studies.poisoning import CORRECT, MISCLASSIFIED, Defence, Study, two_labels
from advlens.workbench import Workbench

LAYERS = ("conv1", "conv2", "conv3", "logits")
SEEDS = 3


def made_up_run(seed: int, *, growth: float = 0.05, variance: float = 0.01, kind: str = "svm") -> pd.DataFrame:
    """40 correct and 20 misclassified test images, of which Deep kNN gets 36 and 10, and 30 poisoned points.

    Influence grows by `growth` per layer for misclassified images alone; poisoned points' credibility has `variance`.
    """
    rng = np.random.default_rng(seed)
    truth = np.ones(90, int)
    predicted, label = truth.copy(), truth.copy()
    predicted[40:60], label[36:50] = 9, 9
    role = np.repeat(["test", "poisoned"], [60, 30])
    credibility = rng.uniform(0.5, 0.9, 90)
    credibility[60:] = 0.2 + np.sqrt(variance) * np.tile([-1, 1], 15)
    columns = {"role": role, "index": np.arange(90), "truth": truth, "given": np.where(role == "test", 1, 9)}
    columns |= {"predicted": predicted, "label": label, "credibility": credibility, "kind": kind, "seed": seed}
    for depth, layer in enumerate(LAYERS):
        share = 0.05 + 0.01 * seed + growth * depth * (predicted != truth)
        columns |= {f"poisoned in {layer}": share, f"carrying in {layer}": share / 2}
    return pd.DataFrame(columns).assign(tested=160, wrong=20, source=np.where(role == "test", np.arange(90), -1))


def made_up_runs(**about) -> pd.DataFrame:
    return pd.concat([made_up_run(seed, **about) for seed in range(SEEDS)], ignore_index=True)


def made_up_defence(seed: int, *, sign: int = 1) -> Defence:
    """100 points, 10 of them poisoned, which every ranking but chance puts first, or last; removal stops an attack."""
    rng = np.random.default_rng(seed)
    poisoned = np.arange(100) < 10
    scores = {name: rng.random(100) + 2 * sign * (poisoned & (name != rankings.RANDOM)) for name in rankings.RANKINGS}
    points = pd.DataFrame({"is_poisoned": poisoned, "truth": 1, "given": 1} | scores)
    rows = [
        {"ranking": name, "accuracy": 0.9 + 0.01 * (name == rankings.GIVEN), "tested": 50, "attacked": 40}
        | {"success": 0.8 - 0.01 * seed - sign * 0.6 * (name == rankings.GIVEN), "removed": 20, "poison": 10}
        for name in (rankings.NOTHING, *rankings.RANKINGS)
    ]
    return Defence(points, pd.DataFrame(rows))


def test_recovered_and_lost_labels_are_counted_on_their_own_groups():
    rows = made_up_runs()
    found = poisoning.recovered(rows).set_index("metric")
    assert found.loc["error", "estimate"] == 20 / 160
    assert found.loc["recovered", "estimate"] == pytest.approx(0.5)
    assert found.loc["lost", "estimate"] == pytest.approx(0.1)
    assert found.loc["net", "estimate"] == pytest.approx(0.5 * 20 - 0.1 * 140)
    assert (found.loc["recovered", "n"], found.loc["lost", "n"]) == (60, 120)
    turned = poisoning.recovered(rows.assign(label=10 - rows["label"])).set_index("metric")["estimate"]
    assert turned["recovered"] == pytest.approx(0.5)
    assert turned["lost"] == pytest.approx(0.9)


@pytest.mark.parametrize(("variance", "is_lower"), [(1e-4, True), (0.09, False)])
def test_variance_of_poisoned_points_is_compared_with_each_group(variance, is_lower):
    rows = made_up_runs(variance=variance)
    differences = poisoning.variance_differences(rows).set_index("group")
    assert set(differences.index) == {CORRECT, MISCLASSIFIED}
    assert ((differences["high"] < 0) == is_lower).all()
    assert ((differences["low"] > 0) != is_lower).all()


def test_the_variance_of_few_images_is_not_computed():
    few = made_up_runs().query("role == 'poisoned' or index < 44")
    assert np.isnan(poisoning.variance_differences(few).set_index("group").loc[MISCLASSIFIED, "estimate"])


def test_influence_is_of_each_group_and_layer_in_percent():
    rows = made_up_runs()
    table = poisoning.influence(rows, LAYERS).set_index(["group", "layer"])
    assert table.loc[(CORRECT, "logits"), "estimate"] == pytest.approx(6)
    assert table.loc[(MISCLASSIFIED, "logits"), "estimate"] == pytest.approx(21)
    carrying = poisoning.influence(rows, LAYERS, of="carrying").set_index(["group", "layer"])
    assert carrying.loc[(MISCLASSIFIED, "logits"), "estimate"] == pytest.approx(10.5)
    assert table.loc[(MISCLASSIFIED, "logits"), ["n", "images"]].tolist() == [60, 20]


@pytest.mark.parametrize("growth", [0.05, -0.01])
def test_growth_is_paired_by_seed_and_keeps_its_sign(growth):
    rows = pd.concat([made_up_runs(growth=growth), made_up_runs(growth=growth - 0.02, kind=CONTROL)])
    table = poisoning.influence_growth(rows, LAYERS).set_index(["kind", "group", "growth"])["estimate"]
    assert table["svm", MISCLASSIFIED, "growth"] == pytest.approx(300 * growth)
    assert table["svm", MISCLASSIFIED, "above control"] == pytest.approx(6)
    assert table["svm", CORRECT, "growth"] == pytest.approx(0)
    assert (CONTROL, MISCLASSIFIED, "above control") not in table.index


def test_misclassified_images_are_matched_with_those_of_the_unpoisoned_network_of_the_same_seed():
    rows, hard = made_up_runs(), made_up_runs(kind=CONTROL)
    hard = hard.assign(predicted=np.where(hard["index"] < 50, hard["predicted"], 1))
    table = poisoning.obedience(pd.concat([rows, hard])).set_index("metric")
    assert table.loc["wrong anyway", ["estimate", "n"]].tolist() == [0.5, 60]
    assert table.loc["obeyed", ["estimate", "n"]].tolist() == [0, 90]
    obedient = rows.assign(predicted=np.where(rows["role"] == "poisoned", 9, rows["predicted"]))
    assert poisoning.obedience(pd.concat([obedient, hard])).set_index("metric").loc["obeyed", "estimate"] == 1
    other_seeds = hard.assign(seed=hard["seed"] + SEEDS)
    assert poisoning.obedience(pd.concat([rows, other_seeds])).set_index("metric").loc["wrong anyway", "estimate"] == 0


def test_labels_by_credibility_hold_each_test_image_once():
    rows = made_up_runs()
    table = poisoning.credibility_of_decisions(rows)
    assert table.groupby("group")["n"].sum().to_dict() == {CORRECT: 120, MISCLASSIFIED: 60}
    right = (table["estimate"] * table["n"]).groupby(table["group"]).sum()
    assert right.to_dict() == pytest.approx({CORRECT: 108, MISCLASSIFIED: 30})


@pytest.mark.parametrize("sign", [1, -1])
def test_rankings_and_outcomes_keep_their_sign(sign):
    runs = {"backdoor": [made_up_defence(seed, sign=sign) for seed in range(SEEDS)]}
    found = poisoning.ranking_aucs(runs).set_index("ranking")["estimate"]
    assert found[rankings.GIVEN] == (1.0 if sign > 0 else 0.0)
    assert abs(found[rankings.RANDOM] - 0.5) < 0.2
    after = poisoning.outcomes(runs).set_index(["ranking", "metric"])["estimate"]
    assert after[rankings.GIVEN, "success gained"] == pytest.approx(-sign * 0.6)
    assert after[rankings.GIVEN, "accuracy gained"] == pytest.approx(0.01)
    assert after[rankings.RANDOM, "success gained"] == 0
    assert after[rankings.GIVEN, "recall"] == 1


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


def test_the_two_labels_are_the_report_s_where_there_are_both():
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
    monkeypatch.setattr(poisoning, "find_builder", lambda name: toy_network)
    done, train = [], poisoning._train

    def record(images, labels, *, seed, **parameters):
        network = train(images, labels, seed=seed, **parameters)
        done.append((images, labels, seed, network))
        return network

    monkeypatch.setattr(poisoning, "_train", record)
    return done


def test_a_network_trained_on_poison_is_judged_by_its_own_training_set(toys, trainings):
    rows = poisoning.train_on_poison(**toys, epochs=1, correct_images=TOY_CORRECT)
    (images, labels, _, classifier), clean = trainings[0], toys["images"]
    is_poisoned = labels != toys["labels"]
    np.testing.assert_array_equal((images != clean).any(axis=(1, 2, 3)), is_poisoned)
    np.testing.assert_array_equal(images[is_poisoned], trigger(clean[is_poisoned]))
    knn = DeepKNN(classifier, k=TOY_K).fit(images, labels)
    knn.calibrate(toys["calibration_images"], toys["calibration_labels"])

    decided = classifier.predict(toys["test_images"]).argmax(axis=1)
    tested = rows[rows["role"] == "test"].set_index("index")
    wrong = np.flatnonzero(decided != toys["test_labels"])
    assert set(wrong) <= set(tested.index)
    assert len(tested) == len(wrong) + min(TOY_CORRECT, 150 - len(wrong))
    assert (rows["tested"] == 150).all()
    assert (rows["wrong"] == len(wrong)).all()
    places = tested.index.to_numpy()
    np.testing.assert_array_equal(tested["predicted"], decided[places])
    np.testing.assert_array_equal(tested["truth"], toys["test_labels"][places])
    np.testing.assert_array_equal(tested["credibility"], knn.judge(toys["test_images"][places]).credibility)

    poison = rows[rows["role"] == "poisoned"].set_index("index")
    np.testing.assert_array_equal(poison.index, np.flatnonzero(is_poisoned))
    np.testing.assert_array_equal(poison["given"], labels[is_poisoned])
    np.testing.assert_array_equal(poison["truth"], toys["labels"][is_poisoned])
    hoods = knn.neighbours(images[is_poisoned], own=poison.index.to_numpy())
    assert not (hoods.indices == poison.index.to_numpy()[:, None, None]).any()
    np.testing.assert_array_equal(poison["credibility"], knn.judge_neighbours(hoods).credibility)
    predicted = classifier.predict(images[is_poisoned]).argmax(axis=1)
    for layer, found in zip(hoods.layers, hoods.indices.transpose(1, 0, 2), strict=True):
        among = is_poisoned[found]
        np.testing.assert_allclose(poison[f"poisoned in {layer}"], among.mean(axis=1))
        carrying = among & (labels[found] == predicted[:, None])
        np.testing.assert_allclose(poison[f"carrying in {layer}"], carrying.mean(axis=1))


def test_the_control_marks_the_same_images_and_poisons_none(toys, trainings):
    rows = [
        poisoning.train_on_poison(**(toys | {"kind": kind}), epochs=1, correct_images=5)
        for kind in ("relabelled", CONTROL)
    ]
    places = [run.loc[run["role"] == "poisoned", "index"].tolist() for run in rows]
    assert places[0] == places[1]
    assert trainings[0][2] == trainings[1][2]
    np.testing.assert_array_equal(trainings[1][0], toys["images"])
    np.testing.assert_array_equal(trainings[1][1], toys["labels"])


def test_removing_the_suspects_stops_a_strong_backdoor(toys, trainings, monkeypatch):
    monkeypatch.setattr(poisoning, "RANKINGS", (rankings.GIVEN, rankings.RANDOM))
    about = {name: value for name, value in toys.items() if name != "classes"}
    made = poisoning.defend(**about, epochs=40, budget=TOY_BUDGET)
    points, after = made.points, made.outcomes.set_index("ranking")
    poisoned, test = points["is_poisoned"].to_numpy(), toys["test_images"]
    np.testing.assert_array_equal(points["given"] != points["truth"], poisoned)
    assert set(points.loc[poisoned, "given"]) == {0}
    assert list(after.index) == [rankings.NOTHING, rankings.GIVEN, rankings.RANDOM]
    assert len({seed for *_, seed, _ in trainings}) == 1  # networks differ by what was removed alone
    others = test[toys["test_labels"] != 0]
    for ranking, (images, labels, _, classifier) in zip(after.index, trainings, strict=True):
        removed = rankings.top(points[ranking].to_numpy(), TOY_BUDGET, seed=3) if ranking in points else []
        kept = np.setdiff1d(np.arange(600), removed)
        np.testing.assert_array_equal(labels, points["given"].to_numpy()[kept])
        np.testing.assert_array_equal(images, trainings[0][0][kept])
        decided, misled = (classifier.predict(shown).argmax(axis=1) for shown in (test, trigger(others)))
        row = after.loc[ranking]
        assert row["accuracy"] == pytest.approx((decided == toys["test_labels"]).mean())
        assert row["success"] == pytest.approx((misled == 0).mean())
        assert (row["removed"], row["poison"]) == (len(removed), poisoned[removed].sum())
        assert (row["tested"], row["attacked"]) == (150, 100)
    assert after.loc[rankings.GIVEN, "poison"] > 50
    assert after.loc[rankings.NOTHING, "success"] > 0.9 > 0.1 > after.loc[rankings.GIVEN, "success"]
    assert after.loc[rankings.RANDOM, "success"] > 0.8


def test_without_a_trigger_success_is_of_test_images_as_they_are(toys, trainings, monkeypatch):
    monkeypatch.setattr(poisoning, "RANKINGS", ())
    about = {name: value for name, value in toys.items() if name != "classes"} | {"kind": "relabelled"}
    made = poisoning.defend(**about, epochs=1, budget=TOY_BUDGET)
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
    classifier = poisoning._train(images, labels, num_classes=3, epochs=4, seed=0)
    given = {"calibration_images": toys["calibration_images"], "calibration_labels": held_out, "k": TOY_K}
    found = rankings.rank(classifier, images, labels, **given, rng=np.random.default_rng(0))

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
        assert roc_auc(found[name].to_numpy(), poison.is_poisoned) > 0.8


# ---------------------------------------------------------------- on a workbench

SIZES = {
    "epochs": 2, "neighbours": 5, "held_out": 10, "test_images": 0, "poison_seeds": 2, "shown_points": 30,
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


def test_images_that_calibrate_are_judged_by_nobody_and_seeds_differ(study):
    assert study.classes == [0, 3]
    one, other = study.shown_sets["svm"]
    assert (len(one), one.is_poisoned.sum()) == (30, 15)
    assert set(one.source) != set(other.source)
    assert not set(np.concatenate([one.source, other.source])) & set(study._calibration)
    for seed in study.seeds:
        judged, images = study._for_test(seed, study.classes)
        conformal = study._conformal(seed, study.classes)
        assert not set(judged) & set(conformal)
        np.testing.assert_array_equal(images["calibration_images"], study.bench.data.test_images[conformal])
        np.testing.assert_array_equal(images["test_labels"], study.bench.data.test_labels[judged])
    assert set(study._conformal(study.seeds[0], study.classes)) != set(conformal)


def test_a_mixture_holds_as_many_poisoned_points_as_asked_by_credibility(study):
    mixed = study.mixture(4, 15)
    assert (len(mixed), mixed["is_poisoned"].sum()) == (15, 4)
    assert mixed["credibility"].is_monotonic_increasing
    assert set(study.shown["seed"]) == {0, 1}


def test_trained_rows_are_of_the_images_that_they_name(study):
    rows = study.all_labels
    test = rows[rows["role"] == "test"]
    np.testing.assert_array_equal(study.bench.data.test_labels[test["source"]], test["truth"])
    assert (rows["role"] == "poisoned").sum() == 4 * 2
    assert (test["predicted"] != test["truth"]).groupby(test["seed"]).sum().tolist() == (
        test.groupby("seed")["wrong"].first().tolist()
    )
    assert study.base_rate == pytest.approx(400 / 104)


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


def test_intervals_over_seeds_are_as_wide_as_the_seeds_differ():
    """4 of 150 points in five seeds are not five trials, and a share of neighbours is no share of images."""
    rows = pd.concat(
        [made_up_run(seed, kind=kind) for kind in ("svm", CONTROL) for seed in range(5)], ignore_index=True
    )
    poison = rows["role"] == "poisoned"
    rows["predicted"] = np.where(poison, 1, rows["predicted"])
    obeying = rows[poison & (rows["kind"] == "svm")].groupby("seed").head(1).index[:4]
    rows.loc[obeying, "predicted"] = 9
    found = poisoning.obedience(rows).set_index(["kind", "metric"]).loc[("svm", "obeyed")]
    assert found["estimate"] == pytest.approx(4 / 150)
    assert 0 < found["low"] < 4 / 150 < found["high"] < 0.2
    shares = poisoning.influence(rows, LAYERS).set_index(["kind", "group", "layer"])
    first = shares.loc[("svm", MISCLASSIFIED, "conv1")]  # 5, 6, 7, 8 and 9 % in the five seeds
    assert 4.5 < first["low"] < 7 < first["high"] < 9.5
