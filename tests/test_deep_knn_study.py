"""The Deep kNN study: its figures on made-up measurements, its measures on real images, and all of it once."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from advlens.classifier import Classifier
from advlens.detectors.baselines import MaxSoftmax
from advlens.detectors.neighbours import DeepKNNDetector
from advlens.metrics import Stratum
from advlens.neighbours import DeepKNN
from advlens.networks import deep_knn_cnn
from advlens.studies import detection
from advlens.studies.closeness.protocols import BASELINES, EIGHT_BIT
from advlens.studies.deep_knn import Study, measures, report, results
from advlens.studies.deep_knn import study as deep_knn_study
from advlens.studies.deep_knn.measures import CONFIDENCE, DEEP_KNN, NETWORKS_LABEL, OF_DEEP_KNN, PUBLISHED
from advlens.training import train_task_network
from advlens.workbench import Workbench

N = 100


def made_up(seed: int, *, shift: float, baseline: float = 1.0) -> pd.DataFrame:
    """Rows of N images whose Deep kNN scores rise by `shift` under successful attacks, one baseline by `baseline`."""
    rng = np.random.default_rng(seed)
    part, won = np.where(np.arange(N) < 30, "validation", "test"), np.arange(N) % 5 > 0
    frames = []
    for role in ("clean", "noisy", "adversarial"):
        is_attack = role == "adversarial"
        rise = shift * (won & is_attack)
        columns = {name: rng.normal(size=N) + rise for name in OF_DEEP_KNN}
        columns |= {name: rng.normal(size=N) for name in BASELINES}
        columns["max softmax"] += baseline * (won & is_attack)
        about = {"role": role, "source": np.arange(N), "part": part, "truth": 3, "predicted": np.where(won, 5, 3)}
        label = np.where(np.arange(N) % 10 < 5, 3, 5)
        frames.append(pd.DataFrame({**columns, **about, "label": label, "success": won & is_attack}))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def thresholds_from():
    rows = made_up(9, shift=0)
    return rows[rows["role"] == "clean"]


@pytest.fixture(scope="module")
def found(thresholds_from):
    measured = {"strong": made_up(1, shift=4.0), "weak": made_up(2, shift=0.0, baseline=4.0)}
    return measured, detection.detection(measured, thresholds_from, detectors=OF_DEEP_KNN, seed=0)


def figure(rows: pd.DataFrame, attack: str, detector: str, name: str) -> pd.Series:
    return rows[(rows["attack"] == attack) & (rows["detector"] == detector) & (rows["figure"] == name)].iloc[0]


# ---------------------------------------------------------------- detection


def test_detection_judges_successes_of_the_test_part_against_clean_and_noisy(found):
    measured, rows = found
    test = measured["strong"][measured["strong"]["part"] == "test"]
    test = test[(test["role"] != "adversarial") | test["success"]]
    auc = figure(rows, "strong", DEEP_KNN, "roc_auc")
    assert auc["estimate"] == pytest.approx(roc_auc_score(test["role"] == "adversarial", test[DEEP_KNN]))
    assert (auc["n_positive"], auc["n_negative"]) == (56, 140)
    assert auc["low"] < auc["estimate"] < auc["high"]


def test_thresholds_come_from_other_clean_images(found, thresholds_from):
    measured, rows = found
    threshold = np.sort(thresholds_from[DEEP_KNN])[-1 - 5]
    test = measured["strong"][measured["strong"]["part"] == "test"]
    for name, flagged in {
        "committed_tpr_0.05": test[test["success"]],
        "observed_fpr_0.05 on clean": test[test["role"] == "clean"],
        "observed_fpr_0.05 on noisy": test[test["role"] == "noisy"],
    }.items():
        expected = (flagged[DEEP_KNN] > threshold).mean()
        assert figure(rows, "strong", DEEP_KNN, name)["estimate"] == pytest.approx(expected)


def test_the_best_baseline_is_chosen_on_the_validation_part(found):
    measured, rows = found
    assert set(rows["baseline"]) == {"max softmax"}
    validation_only = measured["weak"].copy()
    spoilt = validation_only["part"] == "test"
    validation_only.loc[spoilt, "max softmax"] = 0.0
    again = detection.detection({"weak": validation_only}, measured["weak"], detectors=[DEEP_KNN], seed=0)
    assert set(again["baseline"]) == {"max softmax"}


def test_what_lies_above_the_baseline_is_signed(found):
    _, rows = found
    assert figure(rows, "strong", DEEP_KNN, detection.ABOVE_BASELINE)["low"] > 0
    assert figure(rows, "weak", DEEP_KNN, detection.ABOVE_BASELINE)["high"] < 0
    table, bold = report.detection_table(rows)
    assert set(table.loc[bold, "attack"]) == {"strong"}
    assert len(bold) == len(OF_DEEP_KNN)


def test_too_few_successes_give_no_figure(thresholds_from):
    few = made_up(1, shift=4.0)
    few["success"] &= few["source"] < 38
    assert len(detection.detection({"few": few}, thresholds_from, detectors=[DEEP_KNN], seed=0)) == 0
    assert len(detection.aucs({"few": few}, detectors=[DEEP_KNN], seed=0)) == 0


def test_strata_take_the_attacks_that_they_name():
    measured = {"attack": made_up(1, shift=6.0)}
    aucs = {
        stratum: detection.aucs(measured, detectors=[DEEP_KNN], seed=0, stratum=stratum).iloc[0] for stratum in Stratum
    }
    assert [aucs[each]["n_positive"] for each in (Stratum.SUCCESS, Stratum.FAILED, Stratum.ALL)] == [56, 14, 70]
    assert aucs[Stratum.SUCCESS]["estimate"] > 0.99
    assert 0.3 < aucs[Stratum.FAILED]["estimate"] < 0.7


# ---------------------------------------------------------------- clean images


def clean_rows() -> pd.DataFrame:
    """Ten images: the network right on eight, Deep kNN on six, both wrong on one."""
    truth = np.zeros(10, int)
    predicted, label = truth.copy(), truth.copy()
    predicted[:2], label[1:5] = 1, 1
    columns = {name: np.linspace(0.05, 0.95, 10) for name in ("credibility", "confidence", "softmax")}
    columns["credibility, as published"] = np.full(10, 0.5)
    return pd.DataFrame({"truth": truth, "predicted": predicted, "label": label, "source": np.arange(10), **columns})


def test_accuracies_of_both_and_of_either():
    shares = results.accuracies(clean_rows(), seed=0).set_index("figure")["estimate"]
    assert shares.to_dict() == {"network": 0.8, "Deep kNN": 0.6, "agreement": 0.6, "either": 0.9}


def test_reliability_counts_the_right_ones_in_each_tenth():
    rows = results.reliability(clean_rows(), seed=0)
    credibility = rows[rows["probability"] == "credibility"]
    assert credibility["estimate"].tolist() == [1, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    softmax = rows[rows["probability"] == "softmax"]
    assert softmax["estimate"].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    errors = results.calibration_errors(clean_rows(), seed=0).set_index("probability")["estimate"]
    gaps = np.abs(np.linspace(0.05, 0.95, 10) - credibility["estimate"].to_numpy())
    assert errors["credibility"] == pytest.approx(gaps.mean())
    assert errors["credibility, as published"] == pytest.approx(abs(0.5 - 0.6))


def test_the_promise_is_kept_by_the_conformal_count_alone():
    alpha = np.random.default_rng(0).poisson(1.0, 600)
    rows = results.promise(alpha, held_out=50, seed=0)
    conformal, published = (rows[rows["convention"] == name] for name in ("conformal", "published"))
    slack = 3 * 0.5 / np.sqrt(results.SPLITS * 50)
    assert (conformal["estimate"] <= conformal["level"] + slack).all()
    assert published.iloc[0]["estimate"] > published.iloc[0]["level"]  # p = 0 happens
    assert (rows["n"] == 550).all()
    text = report._promise_text(rows)
    assert f"{conformal.set_index('level')['estimate'][0.05]:.4f}" in text


def test_recovery_is_of_successful_attacks_and_of_all_noisy_images():
    rows = results.recovered({"attack": made_up(1, shift=0)}, seed=0).set_index("kind")
    right = np.arange(N) % 10 < 5
    assert rows.loc["attacked", "estimate"] == pytest.approx(right[np.arange(N) % 5 > 0].mean())
    assert (rows.loc["attacked", "n"], rows.loc["noisy", "n"]) == (80, 100)


def test_the_sentence_on_attacks_follows_the_figures(found):
    _, rows = found
    told = report._seen(rows)
    assert "above the best trivial baseline's on 1 of 2 attacks and below it on 1" in told
    assert "Too few" in report._seen(rows[:0])


# ---------------------------------------------------------------- real images


@pytest.fixture(scope="module")
def network(mnist):
    images, labels = mnist[0][:240], mnist[1][:240].astype(np.int64)
    return train_task_network(images, labels, builder=deep_knn_cnn, num_classes=10, epochs=6, seed=0).network


@pytest.fixture(scope="module")
def judged(mnist):
    """80 images and their labels, which no Deep kNN below knows."""
    return mnist[0][320:], mnist[1][320:].astype(np.int64)


@pytest.fixture(scope="module")
def fitted(network, mnist):
    images, labels, classifier = mnist[0], mnist[1].astype(np.int64), Classifier(network)

    def fit(**options) -> DeepKNN:
        return (
            DeepKNN(classifier, **options).fit(images[:240], labels[:240]).calibrate(images[240:320], labels[240:320])
        )

    return fit


@pytest.fixture(scope="module")
def measured(network, mnist, judged):
    images, labels = mnist[0], mnist[1].astype(np.int64)
    return measures.measure(
        network,
        *judged,
        train_images=images[:240],
        train_labels=labels[:240],
        calibration_images=images[240:320],
        calibration_labels=labels[240:320],
        k=9,
        ks=[3],
    )


def test_measures_are_those_of_the_detectors(network, fitted, judged, measured):
    images, _ = judged
    np.testing.assert_allclose(measured[DEEP_KNN], DeepKNNDetector(fitted(k=9)).scores(images))
    np.testing.assert_allclose(measured[measures.k_column(3)], DeepKNNDetector(fitted(k=3)).scores(images))
    published = DeepKNNDetector(fitted(k=9, calibration="published")).scores(images)
    np.testing.assert_allclose(measured[PUBLISHED], published)
    np.testing.assert_allclose(measured["max softmax"], MaxSoftmax(Classifier(network)).scores(images))


def test_measures_tell_the_network_s_label_deep_knn_s_and_the_true_one_apart(network, fitted, judged, measured):
    images, truth = judged
    said, hoods = fitted(k=9).judge(images), fitted(k=9).neighbours(images)
    logits = Classifier(network).predict(images)
    predicted = logits.argmax(axis=1)
    assert min((predicted != said.predicted).sum(), (predicted != truth).sum(), (said.predicted != truth).sum()) > 5
    np.testing.assert_array_equal(measured["predicted"], predicted)
    np.testing.assert_array_equal(measured["label"], said.predicted)
    np.testing.assert_array_equal(measured["true α"], (hoods.labels != truth[:, None, None]).sum(axis=(1, 2)))
    np.testing.assert_allclose(measured[NETWORKS_LABEL], 1 - said.p_values[np.arange(80), predicted])
    np.testing.assert_allclose(measured["confidence"], said.confidence)
    np.testing.assert_allclose(measured[CONFIDENCE], 1 - said.confidence)
    np.testing.assert_allclose(measured["softmax"], softmax(logits, axis=1).max(axis=1), rtol=1e-5)
    for place, layer in enumerate(("conv1", "conv2", "conv3", "logits")):
        others = (hoods.labels[:, place] != predicted[:, None]).mean(axis=1)
        np.testing.assert_allclose(measured[measures.layer_column(layer)], others)


def test_every_way_to_search_is_measured(network, mnist, monkeypatch):
    monkeypatch.setattr("advlens.neighbours.search.SAMPLE", 100)  # a projection that takes no seconds
    images, labels = mnist[0], mnist[1].astype(np.int64)
    found = measures.searches(network, images[300:], train_images=images[:300], train_labels=labels[:300], k=5)
    assert (found[found["search"] == "exact"]["recall"] == 1).all()
    assert set(found["search"]) == {"exact", "ivf", "hnsw"}
    assert len(report.search_table(found)) == 3


@pytest.fixture(scope="module")
def bench(tmp_path_factory, mnist):
    folder, labels = tmp_path_factory.mktemp("study"), mnist[1].astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        tests = {"x_test": np.tile(mnist[0], (2, 1, 1, 1)), "y_test": np.tile(labels, 2)}
        np.savez(folder / "toy.npz", x=mnist[0], y=labels, **tests)
        yield Workbench(run="toy", dataset=str(folder / "toy.npz"), seed=0)


SIZES = {
    "epochs": 6,
    "neighbours": 9,
    "held_out": 80,
    "test_images": 0,
    "attacked_images": 60,
    "calibration_images": 100,
}
ATTACK = "fgsm 0.30"


@pytest.fixture(scope="module")
def study(bench):
    return Study(bench, **SIZES)


def test_no_image_has_two_uses_and_none_that_calibrates_is_judged(study):
    uses = np.concatenate([study.source, study.held_out, study.calibration_source])
    assert len(np.unique(uses)) == len(uses) == 60 + 80 + 100
    clean, data = study.clean, study.bench.data
    np.testing.assert_array_equal(clean["source"], np.setdiff1d(np.arange(800), study.held_out))
    np.testing.assert_array_equal(clean["truth"], data.test_labels[clean["source"]])
    predicted = study.classifier.predict(data.test_images[clean["source"]]).argmax(axis=1)
    np.testing.assert_array_equal(clean["predicted"], predicted)
    assert set(study.thresholds_from["source"]) == set(study.calibration_source)
    # What calibrates is the held-out images with their own labels.
    knn = DeepKNN(study.classifier, k=9).fit(data.train_images, data.train_labels)
    knn.calibrate(data.test_images[study.held_out], data.test_labels[study.held_out])
    said = knn.judge(data.test_images[clean["source"][:50]])
    np.testing.assert_allclose(clean["credibility"][:50], said.credibility)


@pytest.mark.parametrize("role", ["noisy", "adversarial"])
def test_rows_are_of_the_images_that_they_name_as_they_are_and_rounded(study, role):
    frame, made, is_test = study.measured[ATTACK], study.attack_sets[ATTACK], study._is_test
    images = getattr(made, role)
    rounded = (np.round(images * 255) / 255).astype(np.float32)
    for part, seen, kept in (
        ("validation", images, ~is_test),
        ("test", images, is_test),
        (EIGHT_BIT, rounded, is_test),
    ):
        rows = frame[(frame["part"] == part) & (frame["role"] == role)]
        logits = study.classifier.predict(seen[kept])
        np.testing.assert_array_equal(rows["source"], made.source[kept])
        np.testing.assert_array_equal(rows["truth"], made.label[kept])
        np.testing.assert_allclose(rows["softmax"], softmax(logits, axis=1).max(axis=1), rtol=1e-5)
        won = (logits.argmax(axis=1) != made.label[kept]) & (role == "adversarial")
        np.testing.assert_array_equal(rows["success"], won)
        clean = frame[(frame["part"] == part) & (frame["role"] == "clean")]
        np.testing.assert_array_equal(clean["source"], made.source[kept])
        assert (clean["predicted"] == made.label[kept]).all()
    assert np.abs(study.classifier.predict(images) - study.classifier.predict(rounded)).max() > 1e-3


def test_the_noisy_twin_of_an_image_that_an_attack_left_alone_is_left_out(study):
    made = study.attack_sets[ATTACK]
    idle = dataclasses.replace(made, l2=np.where(np.arange(60) < 30, 0, made.l2))
    rows, whole = study._of_attack(ATTACK, idle), study.measured[ATTACK]
    is_left_out = (whole["role"] == "noisy") & whole["source"].isin(made.source[:30])
    pd.testing.assert_frame_equal(
        rows.drop(columns="l2"), whole[~is_left_out].reset_index(drop=True).drop(columns="l2")
    )
    assert is_left_out.sum() == 30 + study._is_test[:30].sum()


def test_figures_use_the_thresholds_of_their_own_images(study):
    frame = study.measured[ATTACK]
    attacked = frame[(frame["part"] == "test") & frame["success"]]
    threshold = np.sort(study.thresholds_from[DEEP_KNN])[-1 - 5]
    expected = (attacked[DEEP_KNN] > threshold).mean()
    assert figure(study.detection(), ATTACK, DEEP_KNN, "committed_tpr_0.05")["estimate"] == pytest.approx(expected)
    rounded = frame[(frame["part"] == EIGHT_BIT) & ((frame["role"] != "adversarial") | frame["success"])]
    expected = roc_auc_score(rounded["role"] == "adversarial", rounded[DEEP_KNN])
    assert figure(study.eight_bit(), ATTACK, DEEP_KNN, "roc_auc")["estimate"] == pytest.approx(expected)


def test_examples_are_the_most_and_the_least_credible_decisions():
    rng, clean = np.random.default_rng(0), clean_rows()
    attacked = {
        name: made_up(seed, shift=0).assign(credibility=rng.random(3 * N))
        for seed, name in enumerate(("first", "middle", "last"))
    }
    found = report.examples(clean, attacked)
    assert {name: row["attack"] for name, row in found.items()} == {
        "supported": "",
        "wrong": "",
        "seen": "first",
        "missed": "middle",
    }
    assert (found["supported"]["source"], found["wrong"]["source"]) == (9, 0)
    for name, attack, end in (("seen", "first", min), ("missed", "middle", max)):
        rows = attacked[attack]
        won = (rows["part"] == "test") & (rows["role"] == "adversarial") & rows["success"]
        assert found[name]["credibility"] == end(rows.loc[won, "credibility"])
    assert "wrong" not in report.examples(clean[2:], attacked)


def test_the_gallery_shows_the_image_that_it_tells_of_beside_its_own_neighbours(study, monkeypatch):
    monkeypatch.setattr(deep_knn_study, "gallery", lambda *given, **named: (*given, named))
    attack = next(iter(study.attack_sets))
    image, indices, named = study.gallery("seen")
    made, data = study.attack_sets[attack], study.bench.data
    assert named["judged"]["attack"] == attack
    np.testing.assert_array_equal(image, made.adversarial[list(made.source).index(named["judged"]["source"])])
    knn = DeepKNN(study.classifier, k=9).fit(data.train_images, data.train_labels)
    np.testing.assert_array_equal(indices, knn.neighbours(image[None]).indices[0])
    assert tuple(named["layers"]) == knn.layers


def test_the_whole_study_on_a_toy(study):
    found = study.detection()
    assert {ATTACK, "deepfool"} <= set(found["attack"])
    assert set(study.measured[ATTACK]["part"]) == {"validation", "test", EIGHT_BIT}
    assert len(report.headline_table(study.success_rates(), found, study.eight_bit(), study.recovered())) == 7
    assert study.gallery("supported") is not None
    assert study.gallery("nothing") is None
    lessons = report.lessons(study.accuracies(), study.promise(), found, study.recovered(), study.by_layer())
    assert ATTACK in lessons


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"attacked_images": 20}, "deep_knn_images must be at least 50"),
        ({"attacked_images": 5000}, "deep_knn_images and calibration_images must be at most"),
        ({"held_out": 0}, "deep_knn_calibration must be a whole number"),
        ({"neighbours": 2.5}, "neighbours must be a whole number"),
        ({"test_images": -1}, "test_images must be a whole number"),
        ({"neighbours": 60_000}, "neighbours must be fewer than the .* training images"),
        ({"held_out": 60_000}, "deep_knn_calibration must be fewer than the .* test images"),
    ],
)
def test_bad_sizes_are_refused(bench, sizes, message):
    with pytest.raises(ValueError, match=message):
        Study(bench, **{**SIZES, **sizes})
