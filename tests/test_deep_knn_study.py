"""The Deep kNN study: its tables on made-up measurements, its measurements on real images, and all of it once."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from advlens.classifier import Classifier
from advlens.detectors.baselines import MaxSoftmax
from advlens.neighbours import DeepKNN
from advlens.networks import deep_knn_cnn
from advlens.studies import deep_knn
from advlens.studies.deep_knn import ABOVE, AUC_ABOVE, BASELINES, DEEP_KNN, SCORES, Study
from advlens.training import train_task_network
from advlens.workbench import Workbench

N = 150


def made_up(attack: str, *, seed: int = 1, shift: float, baseline: float) -> pd.DataFrame:
    """N images in three roles; successful attacks raise Deep kNN's scores by `shift`, max softmax by `baseline`."""
    rng, frames = np.random.default_rng(seed), []
    part, won = np.where(np.arange(N) < 50, "validation", "test"), np.arange(N) % 5 > 0
    for role in ("clean", "noisy", "adversarial"):
        success = won & (role == "adversarial")
        columns = {name: rng.normal(size=N) + shift * success for name in SCORES}
        columns |= {name: rng.normal(size=N) for name in BASELINES}
        columns["max softmax"] += baseline * success
        about = {"attack": attack, "role": role, "source": np.arange(N), "part": part, "success": success}
        frames.append(pd.DataFrame(columns | about))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def found():
    rows = [made_up("seen", shift=4.0, baseline=-2.0), made_up("missed", seed=2, shift=0.0, baseline=-4.0)]
    thresholds = made_up("", seed=3, shift=0, baseline=0).query("role == 'clean'")
    return pd.concat(rows), thresholds, deep_knn.detection(pd.concat(rows), thresholds, seed=0)


def one(rows: pd.DataFrame, attack: str, detector: str, metric: str) -> pd.Series:
    kept = rows[(rows["attack"] == attack) & (rows["detector"] == detector) & (rows["metric"] == metric)]
    assert len(kept) == 1
    return kept.iloc[0]


def test_detection_judges_successes_of_the_test_part_against_clean_and_noisy(found):
    measured, thresholds, rows = found
    test = measured[(measured["attack"] == "seen") & (measured["part"] == "test")]
    test = test[(test["role"] != "adversarial") | test["success"]]
    auc = one(rows, "seen", DEEP_KNN, "roc_auc")
    assert auc["estimate"] == pytest.approx(roc_auc_score(test["success"], test[DEEP_KNN]))
    assert (auc["n_positive"], auc["n_negative"]) == (80, 200)
    assert auc["low"] < auc["estimate"] < auc["high"]
    limit = np.sort(thresholds[DEEP_KNN])[-1 - 7]  # 7 of 150 is the most that 5 % allow
    for metric, flagged in {
        "committed_tpr_0.05": test[test["success"]],
        "flagged, clean": test[test["role"] == "clean"],
        "flagged, noisy": test[test["role"] == "noisy"],
    }.items():
        assert one(rows, "seen", DEEP_KNN, metric)["estimate"] == pytest.approx((flagged[DEEP_KNN] > limit).mean())


def test_baselines_are_oriented_and_chosen_on_the_validation_part_alone(found):
    measured, thresholds, rows = found
    assert set(rows["baseline"]) == {"", "max softmax"}
    assert one(rows, "missed", "max softmax", "roc_auc")["estimate"] > 0.95  # though it falls under attack
    spoilt = measured[measured["attack"] == "missed"].copy()
    spoilt.loc[spoilt["part"] == "test", "max softmax"] *= -1
    again = deep_knn.detection(spoilt, thresholds, seed=0)
    assert one(again, "missed", "max softmax", "roc_auc")["estimate"] < 0.05


def test_verdicts_are_signed_and_paired_rows_alone_have_one(found):
    *_, rows = found
    assert one(rows, "seen", DEEP_KNN, AUC_ABOVE)["verdict"] == "higher"
    assert one(rows, "missed", DEEP_KNN, AUC_ABOVE)["verdict"] == "lower"
    assert (rows["verdict"] != "").equals(rows["metric"].str.endswith(ABOVE))


def test_under_twenty_successes_nothing_is_decided(found):
    measured, thresholds, _ = found
    few = measured[measured["attack"] == "seen"].copy()
    few["success"] &= few["source"] < 70
    rows = deep_knn.detection(few, thresholds, seed=0)
    assert set(rows["n_positive"]) == {16}
    assert set(rows["verdict"]) == {"", "undecided"}
    few["success"] &= few["part"] == "validation"
    assert deep_knn.detection(few, thresholds, seed=0).empty
    assert deep_knn.aucs(few, [DEEP_KNN], seed=0).empty


def clean_rows(n: int = 100) -> pd.DataFrame:
    """n images: the network errs on the first 40 %, of which Deep kNN gives the first half their true class."""
    index = np.arange(n)
    predicted, label = np.where(index < 0.4 * n, 1, 0), np.where((0.2 * n <= index) & (index < 0.4 * n), 1, 0)
    columns = {"credibility": (index + 0.5) / n, "softmax": np.full(n, 0.5), "max softmax": np.full(n, 0.5)}
    about = {"predicted": predicted, "label": label, "truth": 0, "source": index, DEEP_KNN: 1 - index / n}
    return pd.DataFrame(columns | about)


def test_correctness_is_counted_by_tenths_that_hold_enough_images():
    tenths, errors = deep_knn.correctness(clean_rows(200), seed=0)
    credibility = tenths[tenths["probability"] == "credibility"]
    np.testing.assert_allclose(credibility["estimate"], [1, 1, 0, 0, *[1] * 6])
    np.testing.assert_allclose(credibility["mean"], np.arange(10) / 10 + 0.05)
    assert tenths.query("probability == 'softmax'")["estimate"].tolist() == [0.6]
    gaps = np.abs(credibility["estimate"] - credibility["mean"]).mean()
    assert errors.set_index("probability")["estimate"].to_dict() == pytest.approx({"credibility": gaps, "softmax": 0.1})
    assert set(deep_knn.correctness(clean_rows(100), seed=0)[0]["probability"]) == {"softmax"}  # 10 in each tenth


def test_recovery_is_of_misclassified_images_and_signed_against_the_report(monkeypatch):
    assert np.isnan(deep_knn.recovery(clean_rows(200))[1].estimate)  # it errs far more often than the report's network
    monkeypatch.setattr(deep_knn, "PUBLISHED_ERROR", 0.3)
    share, difference, n = deep_knn.recovery(clean_rows(200))
    assert (share.estimate, n) == (0.5, 80)
    assert difference.estimate == pytest.approx(0.5 - 213 / 364)
    assert difference.low < difference.estimate < difference.high
    assert deep_knn.recovery(clean_rows().assign(predicted=0))[2] == 0
    found, above = deep_knn.errors_found(clean_rows(), seed=0)  # a low credibility finds errors
    assert (found[DEEP_KNN].estimate, found["max softmax"].estimate) == (1.0, 0.5)
    assert above.low > 0
    found, above = deep_knn.errors_found(clean_rows().assign(predicted=0), seed=0)
    assert np.isnan([found[DEEP_KNN].estimate, above.estimate]).all()


def test_the_promise_is_kept_by_the_conformal_count_alone():
    rows = deep_knn.promise(np.random.default_rng(0).poisson(1.0, 600), held_out=50, seed=0)
    conformal, published = (rows[rows["convention"] == name] for name in ("conformal", "published"))
    assert (conformal["estimate"] <= conformal["level"] + 3 * 0.5 / np.sqrt(deep_knn.DRAWS * 50)).all()
    assert published.iloc[0]["estimate"] > published.iloc[0]["level"]  # p = 0 happens
    assert (rows["n"] == 550).all()


def test_measurements_are_those_of_deep_knn_on_the_same_images(mnist):
    images, labels = mnist[0], mnist[1].astype(np.int64)
    train, held_out, (x, truth) = ((images[rows], labels[rows]) for rows in np.split(np.arange(400), [240, 320]))
    network = train_task_network(*train, builder=deep_knn_cnn, num_classes=10, epochs=6, seed=0).network
    classifier = Classifier(network)

    def judge(**options):
        return DeepKNN(classifier, **options).fit(*train).calibrate(*held_out).judge(x)

    others = ("train_images", "train_labels", "held_out_images", "held_out_labels")
    about = dict(zip(others, (*train, *held_out), strict=True))
    rows = deep_knn.measure(network, x, truth, **about, k=9, fewer=[3])
    judged, hoods, logits = judge(k=9), DeepKNN(classifier, k=9).fit(*train).neighbours(x), classifier.predict(x)
    predicted = logits.argmax(axis=1)
    expected = {
        "predicted": predicted,
        "softmax": softmax(logits, axis=1).max(axis=1),
        "label": judged.predicted,
        "true α": (hoods.labels != truth[:, None, None]).sum(axis=(1, 2)),
        "credibility": judged.credibility,
        DEEP_KNN: 1 - judged.credibility,
        deep_knn.CONFIDENCE: 1 - judged.confidence,
        deep_knn.NETWORKS_LABEL: 1 - judged.p_values[np.arange(80), predicted],
        deep_knn.PUBLISHED: 1 - judge(k=9, calibration="published").credibility,
        deep_knn.k_column(3): 1 - judge(k=3).credibility,
        "max softmax": MaxSoftmax(classifier).scores(x),
    }
    expected |= {
        deep_knn.layer_column(layer): (hoods.labels[:, index] != predicted[:, None]).mean(axis=1)
        for index, layer in enumerate(deep_knn.LAYERS)
    }
    for name, values in expected.items():
        np.testing.assert_allclose(rows[name], values, rtol=1e-5, err_msg=name)
    assert {*BASELINES} < {*rows}


SIZES = {"epochs": 6, "neighbours": 9, "held_out": 80, "test_images": 0, "attacked_images": 60, "threshold_images": 100}
ATTACK = "FGSM 0.30"


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    folder, labels = tmp_path_factory.mktemp("study"), mnist[1].astype(np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        patch.setattr("advlens.neighbours.search.SAMPLE", 100)  # a projection that takes no seconds
        tests = {"x_test": np.tile(mnist[0], (2, 1, 1, 1)), "y_test": np.tile(labels, 2)}
        np.savez(folder / "toy.npz", x=mnist[0], y=labels, **tests)
        yield Study(Workbench(run="toy", dataset=str(folder / "toy.npz"), seed=0), **SIZES)


def test_no_image_has_two_uses_and_held_out_ones_are_not_judged(study):
    uses = np.concatenate([study.source, study.held_out, study.threshold_source])
    assert len(np.unique(uses)) == len(uses) == 60 + 80 + 100
    np.testing.assert_array_equal(study.clean["source"], np.setdiff1d(np.arange(800), study.held_out))
    np.testing.assert_array_equal(study.clean["truth"], study.data.test_labels[study.clean["source"]])
    assert set(study.thresholds_from["source"]) == set(study.threshold_source)


@pytest.mark.parametrize("role", ["noisy", "adversarial"])
def test_rows_are_of_the_rounded_images_that_they_name(study, role):
    rows, made = study.measured.query("attack == @ATTACK and role == @role"), study.attack_sets[ATTACK]
    images = (np.round(getattr(made, role) * 255) / 255).astype(np.float32)
    predicted = study.classifier.predict(images).argmax(axis=1)
    np.testing.assert_array_equal(rows["source"], made.source)
    np.testing.assert_array_equal(rows["predicted"], predicted)
    np.testing.assert_array_equal(rows["success"], (predicted != made.label) & (role == "adversarial"))


def test_examples_are_the_most_and_the_least_credible_decisions(study):
    attacked = study.measured[study.measured["success"]]
    wrong = study.clean[study.clean["predicted"] != study.clean["truth"]]
    assert study.examples.loc["misclassified", "credibility"] == wrong["credibility"].min()
    assert study.examples.loc["missed", "credibility"] == attacked["credibility"].max()
    missed = study.image(study.examples.loc["missed"])[None]
    assert study.classifier.predict(missed).argmax() == study.examples.loc["missed", "predicted"]
    train = study.data.train_images, study.data.train_labels
    knn = DeepKNN(study.classifier, k=9).fit(*train)
    np.testing.assert_array_equal(study.nearest(missed), knn.neighbours(missed).indices)


def test_of_several_networks_the_one_nearest_to_a_wanted_error_is_taken(study, monkeypatch):
    errors = []
    for wanted in (0.0, 1.0):
        monkeypatch.setattr(deep_knn, "PUBLISHED_ERROR", wanted)
        study.__dict__.pop("clean_erring", None)
        errors.append((study.clean_erring["predicted"] != study.clean_erring["truth"]).mean())
    assert errors[0] < errors[1]


def test_every_search_is_measured_and_bad_sizes_are_refused(study):
    searches = study.searches(40).set_index("search")
    assert list(searches.index) == ["exact", "ivf", "hnsw"]
    assert searches.loc["exact", "all"] == 1
    for sizes, message in (
        ({"attacked_images": 20}, "deep_knn_images must be a whole number, 40 or more"),
        ({"attacked_images": 5000}, "deep_knn_images and threshold_images must be at most"),
        ({"neighbours": 60_000}, "neighbours must be fewer than the .* training images"),
        ({"held_out": 60_000}, "deep_knn_calibration must be fewer than the .* test images"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(study.bench, **{**SIZES, **sizes})
