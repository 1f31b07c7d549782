"""The transfer study: its figures on made-up readings, and the whole of it on a few real images."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from advlens.classifier import Classifier
from advlens.neighbours import DeepKNN
from advlens.networks import build
from advlens.studies.closeness.protocols import BASELINES, EIGHT_BIT
from advlens.studies.deep_knn.measures import DEEP_KNN, NETWORKS_LABEL
from advlens.studies.detection import ABOVE_BASELINE, FEWEST
from advlens.studies.transfer import Study, report, results
from advlens.studies.transfer.measures import misread
from advlens.studies.transfer.results import ALL_VICTIMS, CONFIRMED, OPEN, REFUTED, Choice
from advlens.studies.transfer.settings import (
    BIM,
    CONTROL,
    DETECTED,
    FGSM,
    ILA_OF_BIM,
    ILA_OF_FGSM,
    ILAF,
    ILAP,
    LAYERS,
    LONGER_BIM,
    METHODS,
    MOMENTUM,
    OTHER_STRENGTHS,
    PLAIN,
    REPORT_EPS,
    RIVALS,
    SOURCE,
    VARIANTS,
    intermediate,
    plain,
    strengths_of,
)
from advlens.workbench import Workbench

N = 200
VICTIM, OTHER = "one", "two"
PART = np.where(np.arange(N) < 40, "validation", "test")
# The share that both victims misread after each method, on validation and on test images.
SHARES = {
    (ILAP, "conv1"): (0.3, 0.2),
    (ILAP, "conv2"): (0.9, 0.6),
    (ILAF, "conv1"): (0.5, 0.9),
    (ILAF, "conv2"): (0.2, 0.9),
    (FGSM, ""): (0.1, 0.1),
    (BIM, ""): (0.2, 0.2),
    (LONGER_BIM, ""): (0.9, 0.3),
    (MOMENTUM, ""): (0.1, 0.8),
    (CONTROL, "conv2"): (0.1, 0.6),
}


def readings(eps: float, *, factor: float = 1.0) -> pd.DataFrame:
    """Rows as `Study.misread` has them, of N images; the attacked network misreads all."""
    frames = []
    for (method, layer), shares in SHARES.items():
        share = factor * np.where(PART == "validation", *shares)
        place = np.where(PART == "validation", np.arange(N) / 40, (np.arange(N) - 40) / 160)
        read = {SOURCE: True, VICTIM: place < share, OTHER: place < share / 2}
        about = {"method": method, "layer": layer, "eps": eps, "source": np.arange(N)[::-1], "part": PART}
        frames.append(pd.DataFrame(read | about))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def rows():
    return pd.concat([readings(0.1), readings(0.2, factor=0.1)], ignore_index=True)


@pytest.fixture(scope="module")
def choice(rows):
    return results.choose(rows, eps=0.1)[0]


def test_layers_and_variant_are_chosen_on_validation_images_by_the_victims(rows):
    choice, tried = results.choose(rows, eps=0.1)
    assert (choice.variant, choice.layer) == (ILAP, "conv2")
    assert choice.layers == {ILAP: "conv2", ILAF: "conv1"}
    found = tried.set_index(["method", "layer"])
    assert found.loc[(ILAP, "conv2"), "success"] == pytest.approx((0.9 + 0.45) / 2, abs=0.02)
    assert set(tried["n"]) == {40}
    # The other way around where the parts are swapped: test images would have chosen another variant.
    swapped = rows.assign(part=rows["part"].map({"validation": "test", "test": "validation"}))
    assert results.choose(swapped, eps=0.1)[0].variant == ILAF
    # What the attacked network misreads does not count.
    spoilt = rows.assign(**{SOURCE: rows["layer"] == "conv1"})
    assert results.choose(spoilt, eps=0.1)[0] == choice


def test_success_is_that_of_the_images_that_chose_nothing(rows, choice):
    table = results.success(rows, choice, seed=0)
    assert set(table["n"]) == {160}
    found = table.set_index(["method", "eps", "network"])["estimate"]
    assert found[ILAP, 0.1, VICTIM] == pytest.approx(0.6)
    assert found[ILAF, 0.1, VICTIM] == pytest.approx(0.9)  # at its own best layer
    assert found[MOMENTUM, 0.1, OTHER] == pytest.approx(0.4)
    assert found[CONTROL, 0.1, ALL_VICTIMS] == pytest.approx((0.6 + 0.3) / 2)
    assert found[ILAP, 0.2, VICTIM] == pytest.approx(0.06, abs=0.01)
    assert (found.xs(SOURCE, level="network") == 1).all()
    assert list(dict.fromkeys(table["method"])) == list(METHODS)
    assert ((table["low"] <= table["estimate"]) & (table["estimate"] <= table["high"])).all()


def test_the_sweep_is_of_every_layer_at_one_strength(rows):
    found = results.sweep(rows, eps=0.1, seed=0).set_index(["method", "layer", "network"])
    assert found.loc[(ILAP, "conv1", VICTIM), "estimate"] == pytest.approx(0.2)
    assert found.loc[(ILAP, "conv2", OTHER), "estimate"] == pytest.approx(0.3)
    assert set(found.index.get_level_values("method")) == set(VARIANTS)


def test_differences_are_paired_and_have_a_sign(rows, choice):
    table = results.differences(rows, choice, seed=0).set_index(["rival", "eps", "network"])
    better, worse, same = (table.loc[(rival, 0.1, VICTIM)] for rival in (LONGER_BIM, MOMENTUM, CONTROL))
    assert (better["estimate"], better["verdict"]) == (pytest.approx(0.3), CONFIRMED)
    assert (worse["estimate"], worse["verdict"]) == (pytest.approx(-0.2), REFUTED)
    # The very same images: no difference, and a narrow interval, where unpaired shares would have a wide one.
    assert (same["estimate"], same["verdict"]) == (0, OPEN)
    assert -0.02 < same["low"] < 0 < same["high"] < 0.02
    assert table.loc[(LONGER_BIM, 0.1, ALL_VICTIMS), "estimate"] == pytest.approx(0.225)
    turned = results.differences(rows.assign(method=rows["method"].replace(TURN)), TURNED, seed=0)
    turned = turned.set_index(["rival", "eps", "network"])
    assert turned.loc[(LONGER_BIM, 0.1, VICTIM), "verdict"] == REFUTED


# ILA and its rival, exchanged.
TURN = {ILAP: LONGER_BIM, LONGER_BIM: ILAP}
TURNED = Choice(ILAP, {ILAP: "", ILAF: "conv1"})


def test_images_are_matched_by_their_source(rows, choice):
    shuffled = rows.sample(frac=1, random_state=0)
    one, other = (
        results.differences(each, choice, seed=0).set_index(["rival", "eps", "network"]) for each in (rows, shuffled)
    )
    columns = ["estimate", "low", "high"]
    np.testing.assert_allclose(one[columns], other.loc[one.index, columns], atol=1e-12)


def judged(seed: int, *, credibility: float, won: int = N) -> pd.DataFrame:
    """Rows of N images whose credibility is 0.8 clean, 0.7 noisy and the given one attacked, each give or take.

    In 8 bits the test part's scores are turned around, so that a ROC-AUC there is one less that of the floats.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for role, mean in (("clean", 0.8), ("noisy", 0.7), ("adversarial", credibility)):
        is_attack = role == "adversarial"
        values = np.clip(mean + 0.1 * rng.normal(size=N), 0, 1)
        columns = {"credibility": values, DEEP_KNN: 1 - values, NETWORKS_LABEL: 1 - values}
        columns |= {name: rng.normal(size=N) + 2 * (name == BASELINES[-1]) * is_attack for name in BASELINES}
        about = {"role": role, "source": np.arange(N), "part": PART}
        # Of the attacks, every image's alike, so that some are in each part.
        success = (np.arange(N) % (N // won) == 0) if won else np.zeros(N, bool)
        frames.append(pd.DataFrame(columns | about | {"success": success & is_attack}))
    rows = pd.concat(frames, ignore_index=True)
    scores = [DEEP_KNN, NETWORKS_LABEL, *BASELINES]
    rounded = rows[rows["part"] == "test"].assign(part=EIGHT_BIT, **{name: -rows[name] for name in scores})
    return pd.concat([rows, rounded], ignore_index=True)


@pytest.fixture(scope="module")
def measured():
    low = {FGSM: judged(1, credibility=0.2), BIM: judged(2, credibility=0.3)}
    low |= {ILA_OF_FGSM: judged(3, credibility=0.6), ILA_OF_BIM: judged(4, credibility=0.1)}
    few = {method: judged(5, credibility=0.2, won=10) for method in DETECTED}
    return {SOURCE: {0.1: few, 0.2: low}}


@pytest.fixture(scope="module")
def thresholds_from():
    rows = judged(6, credibility=0.5)
    return {SOURCE: rows[(rows["role"] == "clean") & (rows["part"] != EIGHT_BIT)]}


@pytest.fixture(scope="module")
def table(measured, thresholds_from):
    return results.detections(measured, thresholds_from, detectors=[DEEP_KNN, NETWORKS_LABEL], seed=0)


def test_detection_is_of_each_network_s_own_successes(measured, thresholds_from, table):
    assert set(table["eps"]) == {0.2}  # at the other strength 8 of 160 attacks succeed
    assert set(table["network"]) == {SOURCE}
    found = table.set_index(["attack", "detector", "figure"])
    frame = measured[SOURCE][0.2][ILA_OF_FGSM]
    test = frame[frame["part"] == "test"]
    expected = roc_auc_score(test["role"] == "adversarial", test[DEEP_KNN])
    assert found.loc[(ILA_OF_FGSM, DEEP_KNN, "roc_auc"), "estimate"] == pytest.approx(expected)
    assert found.loc[(ILA_OF_BIM, DEEP_KNN, "roc_auc"), "estimate"] > 0.99
    assert set(found["n_positive"]) == {160}
    assert set(found["n_negative"]) == {320}
    threshold = np.sort(thresholds_from[SOURCE][DEEP_KNN])[-11]
    expected = (test.loc[test["role"] == "adversarial", DEEP_KNN] > threshold).mean()
    assert found.loc[(ILA_OF_FGSM, DEEP_KNN, "committed_tpr_0.05"), "estimate"] == expected
    assert set(found["baseline"]) == {BASELINES[-1]}
    assert found.loc[(ILA_OF_BIM, DEEP_KNN, ABOVE_BASELINE), "low"] > 0
    turned = {SOURCE: {0.2: {BIM: judged(2, credibility=1.0)}}}
    turned = results.detections(turned, thresholds_from, detectors=[DEEP_KNN], seed=0)
    turned = turned.set_index(["attack", "detector", "figure"])
    assert turned.loc[(BIM, DEEP_KNN, "roc_auc"), "estimate"] < 0.2


def test_figures_of_rounded_images_are_of_the_rounded_rows(measured, table):
    rounded = results.eight_bit(measured, detectors=[DEEP_KNN, NETWORKS_LABEL, report.MAX_SOFTMAX], seed=0)
    assert set(rounded["network"]) == {SOURCE}
    assert set(rounded["eps"]) == {0.2}
    assert set(rounded["n_positive"]) == {160}
    aucs = rounded.set_index(["attack", "detector"])["estimate"].astype(float)
    floats = table[table["figure"] == "roc_auc"].set_index(["attack", "detector"])["estimate"]
    np.testing.assert_allclose(aucs, 1 - floats[aucs.index])
    shown = report.detection_table(table, rounded)[0].set_index("attack")
    for title, detector in (("in 8 bits: ROC-AUC", DEEP_KNN), ("max softmax", report.MAX_SOFTMAX)):
        assert shown.loc[ILA_OF_FGSM, title].startswith(f"{aucs[ILA_OF_FGSM, detector]:.3f}")
    shown, _ = report.detection_table(table, rounded[rounded["attack"] != BIM])
    assert shown.set_index("attack").loc[BIM, "in 8 bits: ROC-AUC"] == report.TOO_FEW


def test_without_enough_successes_there_is_no_figure(measured, thresholds_from):
    none = {SOURCE: {0.1: measured[SOURCE][0.1]}}
    table = results.detections(none, thresholds_from, detectors=[DEEP_KNN, NETWORKS_LABEL], seed=0)
    assert len(table) == 0
    assert "network" in table
    rounded = results.eight_bit(none, detectors=[DEEP_KNN, NETWORKS_LABEL], seed=0)
    assert len(rounded) == 0
    shown, bold = report.detection_table(table, rounded)
    assert (len(shown), bold) == (1, [])
    assert len(results.credibility_changes(none, seed=0)) == 0
    kinds = results.credibilities(none, seed=0)["kind"]
    assert set(kinds) == {"clean", "noisy"}


def test_credibilities_are_of_the_test_part_and_of_successes(measured):
    table = results.credibilities(measured, seed=0).set_index(["eps", "attack", "kind"])
    frame = measured[SOURCE][0.2][BIM]
    expected = frame[(frame["part"] == "test") & (frame["role"] == "adversarial")]["credibility"].mean()
    assert table.loc[(0.2, BIM, "attacked"), "estimate"] == pytest.approx(expected)
    assert table.loc[(0.2, BIM, "clean"), "estimate"] > table.loc[(0.2, BIM, "noisy"), "estimate"] > 0.65
    assert table.loc[(0.2, BIM, "clean"), "n"] == 160
    half = {SOURCE: {0.2: {BIM: frame.assign(success=frame["success"] & (frame["source"] % 2 == 0))}}}
    assert results.credibilities(half, seed=0).set_index("kind").loc["attacked", "n"] == 80


def test_changes_of_credibility_are_against_the_own_base_attack(measured):
    table = results.credibility_changes(measured, seed=0).set_index(["eps", "attack"])
    rises, falls = table.loc[(0.2, ILA_OF_FGSM)], table.loc[(0.2, ILA_OF_BIM)]
    assert (rises["verdict"], falls["verdict"]) == (CONFIRMED, REFUTED)
    assert rises["estimate"] == pytest.approx(0.4, abs=0.03)
    assert falls["estimate"] == pytest.approx(-0.2, abs=0.03)
    apart = {method: frame.copy() for method, frame in measured[SOURCE][0.2].items()}
    apart[BIM]["success"] &= apart[BIM]["source"] % 2 == 0
    apart[ILA_OF_BIM]["success"] &= apart[ILA_OF_BIM]["source"] % 2 == 1  # no image fooled by both
    table = results.credibility_changes({SOURCE: {0.2: apart}}, seed=0)
    assert set(table["attack"]) == {ILA_OF_FGSM}


def test_tables_and_sentences_say_what_the_results_say(rows, choice, measured, table):
    success, differences = (make(rows, choice, seed=0) for make in (results.success, results.differences))
    sweep = results.sweep(rows, eps=0.1, seed=0)
    changes = results.credibility_changes(measured, seed=0)
    shown, bold = report.success_table(success)
    assert shown.shape == (2 * len(METHODS), 2 + 4 + 1)
    best = [place for place, network in bold if network == VICTIM and place < len(METHODS)]
    assert shown["method"].iloc[best].tolist() == [ILAF]
    assert report.choice_table(results.choose(rows, eps=0.1)[1], choice)[1] == [(1, choice.variant)]
    assert "refuted" in report.differences_table(differences).set_index(["ε", "rival"]).loc[(0.1, MOMENTUM), VICTIM]
    rounded = results.eight_bit(measured, detectors=[DEEP_KNN, report.MAX_SOFTMAX], seed=0)
    headline = report.headline_table(success, differences, table, rounded, choice, judged=[0.1, 0.2]).set_index("ε")
    not_asked = report.headline_table(success, differences, table, rounded, choice, judged=[0.2]).set_index("ε")
    assert not_asked.loc[0.1, "seen by Deep kNN: ROC-AUC"] == report.NOT_JUDGED
    assert not_asked.loc[0.1, "n (transfer / seen / in 8 bits)"].endswith("not judged / not judged")
    assert headline.loc[0.1, "seen by Deep kNN: ROC-AUC"] == report.TOO_FEW
    assert headline.loc[0.2, "seen by Deep kNN: ROC-AUC"].startswith("1.000")
    assert headline.loc[0.1, "in 8 bits: Deep kNN"] == report.TOO_FEW
    assert headline.loc[0.2, "in 8 bits: Deep kNN"].startswith("0.000")
    max_softmax = rounded[(rounded["attack"] == ILA_OF_BIM) & (rounded["detector"] == report.MAX_SOFTMAX)]
    assert headline.loc[0.2, "in 8 bits: max softmax"].startswith(f"{max_softmax['estimate'].item():.3f}")
    text = report.lessons(success, sweep, differences, changes, table, choice)
    assert "hangs on the rival" in text
    assert "confirmed in 1" in text
    only = differences[differences["rival"] == LONGER_BIM]
    assert "fool more of the other networks" in report.answer(only[only["eps"] == 0.1])
    worse = differences[(differences["rival"] == MOMENTUM) & (differences["eps"] == 0.1)]
    assert "fool fewer of the other networks" in report.answer(worse)
    assert "stays open" in report.answer(differences[differences["verdict"] == OPEN])


def test_rivals_take_as_many_gradients_at_the_same_strength():
    follow = intermediate(ILAP, "conv2", 0.1, iterations=10)
    assert follow.parameters["max_iter"] + follow.parameters["base_steps"] == 20
    for rival in (LONGER_BIM, MOMENTUM):
        assert plain(rival, 0.1, iterations=10).parameters["max_iter"] == 20
    assert intermediate(ILAP, "conv2", 0.1, iterations=10, base_steps=1).parameters["base_steps"] == 1
    names = [plain(method, eps, iterations=10).name for method in PLAIN for eps in strengths_of("mnist")]
    assert len(set(names)) == len(names)
    assert strengths_of("mnist")[0] == OTHER_STRENGTHS[0] == REPORT_EPS == 0.015
    assert set(RIVALS) < set(METHODS)


def test_the_middle_strength_and_those_above_are_judged():
    judged = Study.judged_strengths.fget
    assert judged(SimpleNamespace(strengths=(0.1, 0.2, 0.3))) == (0.2, 0.3)
    assert judged(SimpleNamespace(strengths=(0.1, 0.2))) == (0.2,)


def test_misreading_is_against_the_true_class(average_pooling_classifier, max_pooling_classifier, mnist):
    images, labels = mnist[0][:50], mnist[1][:50]
    networks = {"a": average_pooling_classifier.model, "b": max_pooling_classifier.model}
    found = misread(networks, images, (labels + 1) % 10)
    assert found["a"].mean() > 0.9
    expected = Classifier(networks["b"]).predict(images).argmax(axis=1) != labels
    np.testing.assert_array_equal(misread(networks, images, labels)["b"], expected)


# ---------------------------------------------------------------- the whole on real images

SIZES = {
    **{"deep_knn_epochs": 15, "task_epochs": 15, "dropout_epochs": 15, "transfer_images": 50, "iterations": 5},
    **{"neighbours": 10, "held_out": 30, "calibration_images": 40, "judged_victims": 1, "strengths": (0.05, 0.3)},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of 400 digits, as small as it can be."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, **SIZES)


def test_no_image_has_two_uses_and_all_networks_read_the_attacked_ones(study):
    data = study.bench.data
    uses = [study.held_out, study.source, study.calibration_source]
    assert [len(places) for places in uses] == [30, 50, 40]
    assert len(np.unique(np.concatenate(uses))) == 120
    assert study.is_test.sum() == 40
    assert list(study.classifiers) == [SOURCE, "two_conv_cnn", "average_pooling_cnn", "digits_dropout_cnn"]
    for classifier in study.classifiers.values():
        for places in uses[1:]:
            assert (classifier.predict(data.test_images[places]).argmax(axis=1) == data.test_labels[places]).all()


def test_the_study_reads_what_it_attacked(study):
    assert study.sweep_eps == 0.3
    methods = study.compared(0.3)
    assert [method.method for method in methods] == list(METHODS)
    assert methods[-1].parameters["guide"] == "random"
    assert methods[-1].layer == study.choice.layer
    rows = study.misread
    for method in methods:
        made = study.attack_set(method)
        assert np.abs(made.adversarial - made.clean).max() <= method.eps + 1e-6
        own = rows[(rows["method"] == method.method) & (rows["eps"] == method.eps)]
        np.testing.assert_array_equal(own[SOURCE], made.success)
        np.testing.assert_array_equal(own["source"], study.source)
    assert len(study.layers_tried) == len(VARIANTS) * len(LAYERS) * 50
    parts = rows[["source", "part"]].drop_duplicates()
    assert parts["source"].is_unique
    assert set(parts.loc[parts["part"] == "test", "source"]) == set(study.source[study.is_test])


def test_what_deep_knn_judges_is_what_fools_the_network_that_it_belongs_to(study):
    measured, thresholds_from = study.judged
    assert list(measured) == list(thresholds_from) == [SOURCE, "two_conv_cnn"]
    for network, of_eps in measured.items():
        classifier = study.classifiers[network]
        assert list(of_eps) == [0.3]
        assert len(thresholds_from[network]) == 40
        for method in study.detected(0.3):
            made, frame = study.attack_set(method), of_eps[0.3][method.method]
            frame = frame[frame["part"] != EIGHT_BIT]
            attacked = frame[frame["role"] == "adversarial"]
            expected = classifier.predict(made.adversarial).argmax(axis=1) != made.label
            np.testing.assert_array_equal(attacked["success"], expected)
            np.testing.assert_array_equal(attacked["source"], made.source)
            for role, images in (("clean", made.clean), ("noisy", made.noisy), ("adversarial", made.adversarial)):
                predicted = classifier.predict(images).argmax(axis=1)
                np.testing.assert_array_equal(frame[frame["role"] == role]["predicted"], predicted)
            assert not frame[frame["role"] != "adversarial"]["success"].any()
    follow_up = {method.method: method for method in study.detected(0.3)}
    assert follow_up[ILA_OF_FGSM].parameters["base_steps"] == 1
    assert follow_up[ILA_OF_BIM].parameters["base_steps"] == 5


def test_what_deep_knn_judges_is_there_once_more_in_8_bits(study):
    for network, of_eps in study.judged[0].items():
        for method in study.detected(0.3):
            made, frame = study.attack_set(method), of_eps[0.3][method.method]
            frame = frame[frame["part"] == EIGHT_BIT]
            assert frame["role"].value_counts().to_dict() == {"clean": 40, "noisy": 40, "adversarial": 40}
            for role, images in (("clean", made.clean), ("noisy", made.noisy), ("adversarial", made.adversarial)):
                rows, images = frame[frame["role"] == role], images[study.is_test]
                rounded = (np.round(images * 255) / 255).astype(np.float32)
                logits = study.classifiers[network].predict(rounded)
                np.testing.assert_array_equal(rows["source"], made.source[study.is_test])
                np.testing.assert_allclose(rows["softmax"], softmax(logits, axis=1).max(axis=1), rtol=1e-5)
                won = (logits.argmax(axis=1) != made.label[study.is_test]) & (role == "adversarial")
                np.testing.assert_array_equal(rows["success"], won)
                assert np.abs(images - rounded).max() > (1e-3 if role != "clean" else -1)


def test_each_network_s_deep_knn_looks_at_its_last_four_layers_and_is_calibrated_by_held_out_images(study):
    data, (measured, thresholds_from) = study.bench.data, study.judged
    layers = {SOURCE: LAYERS, "two_conv_cnn": ("conv1", "conv2", "hidden", "logits")}
    for network, names in layers.items():
        knn = DeepKNN(study.classifiers[network], layers=names, k=10).fit(data.train_images, data.train_labels)
        knn.calibrate(data.test_images[study.held_out], data.test_labels[study.held_out])
        said = knn.judge(data.test_images[study.calibration_source])
        np.testing.assert_allclose(thresholds_from[network]["credibility"], said.credibility)
        made, frame = study.attack_set(study.detected(0.3)[0]), measured[network][0.3][FGSM]
        attacked = frame[(frame["role"] == "adversarial") & (frame["part"] != EIGHT_BIT)]
        np.testing.assert_allclose(attacked["credibility"], knn.judge(made.adversarial).credibility)


def test_deep_knn_looks_at_no_more_layers_than_four(study, monkeypatch):
    monkeypatch.setitem(study.classifiers, "deep", Classifier(build("fashion_dropout_cnn")))
    monkeypatch.setattr(study.bench.store, "keep", lambda name, make, **given: given)
    assert study._measure("deep", None, None)["layers"] == ["conv4", "hidden1", "hidden2", "logits"]


def test_each_variant_turns_to_its_own_best_layer_and_what_follows_to_the_choice_s(study, monkeypatch):
    monkeypatch.setitem(vars(study), "choice", Choice(ILAF, {ILAP: "conv1", ILAF: "logits"}))
    found = {method.method: (method.attack, method.layer) for method in [*study.compared(0.3), *study.detected(0.3)]}
    of_choice = (ILAF, "logits")
    assert {name: found[name] for name in (ILAP, ILAF)} == {ILAP: (ILAP, "conv1"), ILAF: of_choice}
    assert {found[name] for name in (CONTROL, ILA_OF_FGSM, ILA_OF_BIM)} == {of_choice}
    assert {layer for name, (_, layer) in found.items() if name in PLAIN} == {""}


def test_the_study_s_results_hang_together(study):
    success, sweep, differences = study.success(), study.sweep(), study.differences()
    detections, changes = study.detections(), study.credibility_changes()
    white_box = success[(success["network"] == SOURCE) & (success["eps"] == 0.3)].set_index("method")["estimate"]
    assert white_box[BIM] > 0.5 > white_box[CONTROL]
    assert SOURCE in set(detections["network"])
    assert (detections["n_positive"] >= FEWEST).all()
    choice, tried = study.chosen_among
    assert len(tried) == len(VARIANTS) * len(LAYERS)
    rounded = study.eight_bit()
    headline = report.headline_table(success, differences, detections, rounded, choice, judged=study.judged_strengths)
    assert len(report.detection_table(detections, rounded)[0]) == len(detections.groupby(["network", "eps", "attack"]))
    assert headline["ε"].tolist() == [0.05, 0.3]
    assert len(report.credibility_table(study.credibilities(), changes)) == 2 * len(DETECTED)
    assert len(report.figures_table(detections)) == detections.groupby(["network", "eps", "attack", "detector"]).ngroups
    assert "all victims" not in report.lessons(success, sweep, differences, changes, detections, choice)
    sets = {method.method: study.attack_set(method) for method in study.detected(0.3)}
    figures = [
        report.gallery(sets, study.bench.data.class_names),
        report.transfer_figure(success, choice),
        report.sweep_figure(sweep, eps=study.sweep_eps),
        report.credibility_figure(study.credibilities()),
    ]
    assert all(len(figure.axes) for figure in figures)


def test_wrong_sizes_are_named_before_work_starts(study):
    for wrong, message in (
        ({"transfer_images": 49}, "transfer_images must be at least 50, got 49"),
        ({"transfer_images": 400}, "transfer_images and calibration_images must be at most"),
        ({"iterations": 4}, "transfer_iterations must be a whole number, 5 or more, got 4"),
        ({"held_out": 0}, "deep_knn_calibration must be a whole number, 1 or more, got 0"),
        ({"judged_victims": -1}, "judged_victims must be a whole number, 0 or more, got -1"),
        ({"judged_victims": 99}, "judged_victims must be at most 3, all there are, got 99"),
        ({"task_epochs": 0}, "task_epochs must be a whole number, 1 or more, got 0"),
        ({"neighbours": 400}, "neighbours must be fewer than the 400 training images, got 400"),
        ({"held_out": 5000}, "deep_knn_calibration must be fewer than the 400 test images, got 5000"),
        ({"strengths": [0.2, 0.1]}, r"transfer_strengths must be .* that rise in \(0, 1\], got \[0.2, 0.1\]"),
        ({"strengths": [1.5]}, "transfer_strengths must be"),
        ({"strengths": 0.1}, "transfer_strengths must be a list of numbers that rise in .*, got 0.1"),
        ({"strengths": ["0.1"]}, "transfer_strengths must be"),
        ({"strengths": "0.1"}, "transfer_strengths must be"),
        ({"strengths": [True]}, "transfer_strengths must be"),
        ({"deep_knn_epochs": 0}, "epochs must be a whole number, 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(study.bench, **(SIZES | wrong))
