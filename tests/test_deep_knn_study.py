"""The Deep kNN study: its tables on made-up measurements, its measurements on real images, and all of it once."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from advlens.classifier import Classifier
from advlens.metrics import MIN_POSITIVES
from advlens.neighbours import DeepKNN
from advlens.networks import deep_knn_cnn
from advlens.studies import deep_knn
from advlens.studies.deep_knn import DEEP_KNN, MAX_SOFTMAX, SCORES, NeighbourScores, Study
from advlens.training import train_task_network
from advlens.workbench import Workbench


def clean_rows(n: int = 100) -> pd.DataFrame:
    """n images: the network errs on the first 40 %, of which Deep kNN gives the first half their true class."""
    index = np.arange(n)
    predicted, label = np.where(index < 0.4 * n, 1, 0), np.where((0.2 * n <= index) & (index < 0.4 * n), 1, 0)
    columns = {"credibility": (index + 0.5) / n, "softmax": np.full(n, 0.5), MAX_SOFTMAX: np.full(n, 0.5)}
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
    assert (found[DEEP_KNN].estimate, found[MAX_SOFTMAX].estimate) == (1.0, 0.5)
    assert above.low > 0
    found, above = deep_knn.errors_found(clean_rows().assign(predicted=0), seed=0)
    assert np.isnan([found[DEEP_KNN].estimate, above.estimate]).all()


def test_the_promise_is_kept_by_the_conformal_count_alone_and_by_nothing_where_the_images_differ():
    rng = np.random.default_rng(0)
    alike = deep_knn.promise(rng.poisson(1.0, 3000), rng.poisson(1.0, 600), seed=0)
    conformal, published = (alike[alike["convention"] == name] for name in ("conformal", "published"))
    assert (conformal["low"] <= conformal["level"]).all()
    assert published.iloc[0]["estimate"] > published.iloc[0]["level"]  # p = 0 happens
    assert (alike["n"] == 3000).all()
    stranger = deep_knn.promise(rng.poisson(3.0, 3000), rng.poisson(1.0, 600), seed=0)
    broken = stranger[(stranger["convention"] == "conformal") & (stranger["level"] == 0.05)].iloc[0]
    assert broken["low"] > 0.05


def test_measurements_are_those_of_deep_knn_on_the_same_images(mnist):
    images, labels = mnist[0], mnist[1].astype(np.int64)
    train, held_out, (x, truth) = ((images[rows], labels[rows]) for rows in np.split(np.arange(400), [240, 320]))
    network = train_task_network(*train, builder=deep_knn_cnn, num_classes=10, epochs=6, seed=0).network
    classifier = Classifier(network)

    def judge(**options):
        return DeepKNN(classifier, **options).fit(*train).calibrate(*held_out).judge(x)

    rows = NeighbourScores(classifier, k=9, fewer=[3], training=train, held_out=held_out).measure(x)
    alpha = rows[[deep_knn.nonconformity_column(label) for label in range(10)]].to_numpy()[np.arange(80), truth]
    np.testing.assert_array_equal(
        alpha, (DeepKNN(classifier, k=9).fit(*train).neighbours(x).labels != truth[:, None, None]).sum(axis=(1, 2))
    )
    judged, hoods, logits = judge(k=9), DeepKNN(classifier, k=9).fit(*train).neighbours(x), classifier.predict(x)
    predicted = logits.argmax(axis=1)
    expected = {
        "predicted": predicted,
        "softmax": softmax(logits, axis=1).max(axis=1),
        "label": judged.predicted,
        "credibility": judged.credibility,
        DEEP_KNN: 1 - judged.credibility,
        deep_knn.CONFIDENCE: 1 - judged.confidence,
        deep_knn.NETWORKS_LABEL: 1 - judged.p_values[np.arange(80), predicted],
        deep_knn.PUBLISHED: 1 - judge(k=9, calibration="published").credibility,
        deep_knn.k_column(3): 1 - judge(k=3).credibility,
        MAX_SOFTMAX: 1 - softmax(logits, axis=1).max(axis=1),
    }
    expected |= {
        deep_knn.layer_column(layer): (hoods.labels[:, index] != predicted[:, None]).mean(axis=1)
        for index, layer in enumerate(deep_knn.LAYERS)
    }
    for name, values in expected.items():
        np.testing.assert_allclose(rows[name], values, rtol=1e-5, err_msg=name)
    assert {*SCORES} < {*rows}


SIZES = {"epochs": 6, "neighbours": 9, "held_out": 80, "test_images": 0, "attacked_images": 60}
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
    uses = np.concatenate([study.source, study.held_out, study.benchmark.threshold_source])
    assert len(np.unique(uses)) == len(uses)
    np.testing.assert_array_equal(study.clean["source"], np.setdiff1d(np.arange(800), study.held_out))
    np.testing.assert_array_equal(study.clean["truth"], study.data.test_labels[study.clean["source"]])


def test_detection_is_by_the_scores_as_they_are_on_rounded_images(study):
    table = study.detection()
    scored = study.benchmark.scores(study.detectors[DEEP_KNN], ATTACK)
    judged = scored.judged(stratum="success", negatives="matched")
    own = table[(table["attack"] == ATTACK) & (table["detector"] == DEEP_KNN) & (table["condition"] == "8-bit")]
    own = own[(own["metric"] == "roc_auc") & (own["negatives"] == "matched")]
    assert own["estimate"].item() == pytest.approx(roc_auc_score(judged["is_adversarial"], judged["scores"][0]))
    images = study.benchmark.samples(ATTACK, "8-bit").images
    np.testing.assert_allclose(scored.scores[0], study.lens.measure(images)[DEEP_KNN], atol=1e-6)
    assert set(study.parts()["detector"]) >= {"k = 1", DEEP_KNN, "conv1 alone", "logits alone"}
    assert set(study.above_baselines()["a"]) == set(SCORES)


def test_examples_are_the_most_and_the_least_credible_decisions(study):
    attacked = []
    for name in study.attack_sets:
        won = study.benchmark.samples(name, "8-bit").about["success"].to_numpy()
        attacked.append(study.benchmark.measured(study.lens, name, deep_knn.DEFAULT)["credibility"][won].max())
    wrong = study.clean[study.clean["predicted"] != study.clean["truth"]]
    assert study.examples.loc["misclassified", "credibility"] == wrong["credibility"].min()
    assert study.examples.loc["missed", "credibility"] == max(attacked)
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
        ({"attacked_images": 20}, f"deep_knn_images must be a whole number, {2 * MIN_POSITIVES} or more"),
        ({"attacked_images": 5000}, "deep_knn_images must be at most"),
        ({"neighbours": 60_000}, "neighbours must be fewer than the .* training images"),
        ({"held_out": 60_000}, "deep_knn_calibration must be fewer than the .* test images"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(study.bench, **{**SIZES, **sizes})
