"""The feature-response study: its protocol, its lens and head, and its experiments on small real attacks."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import ttest_rel
from sklearn.metrics import precision_recall_curve, roc_auc_score

from advlens.lenses import LocalEntropy
from advlens.metrics import MIN_POSITIVES
from advlens.studies import responses
from advlens.studies.responses import COMPARED, PUBLISHED_RESPONSE, ClassCentred, ResponseEntropies, Study, best_f1
from advlens.workbench import Workbench


@pytest.fixture(scope="module")
def bench(tmp_path_factory, mnist):
    """A workbench of a user's own file of 400 digits."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        yield Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)


SIZES = {"task_epochs": 25, "response_images": 100, "searched_images": 50, "generations": 2, "steps": 15, "passes": 4}


@pytest.fixture(scope="module")
def study(bench):
    return Study(bench, **SIZES, training_seeds=2)


# ---------------------------------------------------------------- pieces


def test_every_setting_compared_has_a_name_of_its_own_and_differs_from_the_study_s_in_few_things():
    assert len({each.name for each in COMPARED}) == len(COMPARED)
    fields = [field.name for field in dataclasses.fields(PUBLISHED_RESPONSE)]
    changes = [[f for f in fields if getattr(each, f) != getattr(PUBLISHED_RESPONSE, f)] for each in COMPARED]
    allowed = ({"window", "bins", "stride"}, {"method", "of", "normalisation"})
    assert all(any(set(change) <= part for part in allowed) for change in changes)


def test_the_lens_measures_what_the_catalogue_s_does(max_pooling_classifier, real_images):
    settings = [PUBLISHED_RESPONSE, responses.ResponseEntropy(method="gradient", window=5, bins=32, stride=2)]
    measured = ResponseEntropies(max_pooling_classifier, compared=settings).measure(real_images[:6])
    assert measured.columns.tolist() == ["predicted", *(each.name for each in settings)]
    for each in settings:
        alone = LocalEntropy(max_pooling_classifier, **dataclasses.asdict(each)).measure(real_images[:6])
        np.testing.assert_allclose(measured[each.name], alone["local entropy"])
    np.testing.assert_array_equal(measured["predicted"], max_pooling_classifier.predict(real_images[:6]).argmax(axis=1))


def test_a_class_centred_score_takes_off_the_normal_rows_mean_of_the_class():
    rows = pd.DataFrame({"bits": [1.0, 3.0, 10.0, 0.0, 9.0], "predicted": [0, 0, 1, 0, 2]})
    head = ClassCentred("bits").fit(rows, np.array([False, False, False, True, True]))
    # Class 0 has mean 2, class 1 has 10, class 2, of which there is no normal row, has that of all, 14/3.
    centred = [-1, 1, 0, -2, 9 - 14 / 3]
    np.testing.assert_allclose(head.score(rows), np.sign(head.score(rows)[1]) * np.array(centred))
    lower = ClassCentred("bits").fit(rows, np.array([True, False, False, True, False]))
    assert lower.sign_ == -1


def test_the_best_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, truth = np.round(rng.normal(size=200), 1), rng.random(200) < 0.4
    scores[truth] += 1
    precision, recall, _ = precision_recall_curve(truth, scores)
    best = np.argmax(2 * precision * recall / np.maximum(precision + recall, 1e-9))
    assert best_f1(scores, truth) == pytest.approx((recall[best], precision[best]))


# ---------------------------------------------------------------- the study


def test_wrong_sizes_are_named_before_work_starts(bench):
    with pytest.raises(ValueError, match="searched_images must be at least 50, got 10: a fifth of them is judged"):
        Study(bench, **{**SIZES, "searched_images": 10})
    with pytest.raises(ValueError, match="passes must be a whole number, 2 or more"):
        Study(bench, **{**SIZES, "passes": 1})


def test_confidences_are_those_after_successful_attacks(study):
    made = study.attack_set("fgsm")
    found = study.decision_changes(["fgsm"]).set_index("metric")
    assert found.loc["success", "estimate"] == pytest.approx(made.success.mean())
    won = made.select(made.success)
    said = softmax(study.classifier.logits(won.adversarial), axis=1)
    rows = np.arange(len(won))
    assert found.loc["truth", "estimate"] == pytest.approx(said[rows, won.label].mean(), rel=1e-4)
    assert found.loc["target", "estimate"] == pytest.approx(said.max(axis=1).mean(), rel=1e-4)
    assert found["n"].tolist() == [len(made), len(made), len(won), len(won)]


def test_entropy_changes_are_paired_and_of_successful_attacks(study):
    made = study.attack_set("deepfool")
    won = made.select(made.success)
    lens = LocalEntropy(study.classifier)
    before, noisy, attacked = (lens.measure(each)["local entropy"] for each in (won.clean, won.noisy, won.adversarial))
    found = study.entropy_changes().set_index(["attack", "role"])
    assert found.loc[("deepfool", "adversarial"), "estimate"] == pytest.approx((attacked - before).mean(), abs=1e-6)
    assert found.loc[("deepfool", "noisy"), "estimate"] == pytest.approx((noisy - before).mean(), abs=1e-6)
    assert found.loc[("deepfool", "noisy"), "n"] == len(won)


def test_the_entropy_above_noise_is_the_paired_difference_of_attacked_and_noisy(study):
    changes = study.entropy_changes().pivot(index="attack", columns="role", values="estimate")
    table = study.above_noise().set_index("attack")
    assert (table["n_positive"] >= MIN_POSITIVES).all()
    expected = (changes["adversarial"] - changes["noisy"])[table.index]
    np.testing.assert_allclose(table["estimate"], expected, atol=1e-6)
    values = study._bits("deepfool")
    p_value = ttest_rel(values["adversarial"], values["noisy"]).pvalue
    assert table.loc["deepfool", "p_value"] == pytest.approx(p_value)


def test_as_published_all_successes_stand_against_their_own_originals(study):
    made = study.attack_set("deepfool")
    won = made.select(made.success)
    scores = LocalEntropy(study.classifier).measure(np.concatenate([won.clean, won.adversarial]))["local entropy"]
    expected = roc_auc_score(np.repeat([0, 1], len(won)), scores)
    table = study.as_published()
    own = table[(table["attack"] == "deepfool") & (table["metric"] == "roc_auc")].set_index("detector")
    assert own.loc["local entropy", "estimate"] == pytest.approx(expected, abs=1e-6)
    assert own.loc["local entropy", ["n_positive", "n_negative"]].tolist() == [len(won), len(won)]


def test_the_setting_is_chosen_by_how_far_its_auc_is_from_chance(study):
    tried = study.tried
    against_all = tried[tried["negatives"] == "matched"].reset_index(drop=True)
    assert len(against_all) == len(COMPARED)
    turned = tried.assign(auc=np.where(np.arange(len(tried)) // 2 == 7, 0.01, 0.6))
    other = Study(study.bench, **SIZES, training_seeds=2)
    other.tried = turned
    assert other.choice == COMPARED[7]
    detectors = other.detectors
    assert detectors["local entropy"].columns == [PUBLISHED_RESPONSE.name]
    assert detectors["local entropy, chosen"].columns == [COMPARED[7].name]


def test_the_share_flagged_is_that_above_the_committed_threshold(study):
    classes = study.by_class()
    assert classes["metric"].value_counts().tolist() == [classes["predicted"].nunique()] * 2
    flagged = classes[classes["metric"] == "flagged"]
    overall = np.average(flagged["estimate"], weights=flagged["n"])
    table = study.benchmark.run([study.detectors["local entropy"]], attacks=["fgsm"])
    all_clean = table[(table["metric"] == "observed_fpr_0.05 on all clean") & (table["detector"] == "local entropy")]
    assert overall == pytest.approx(all_clean["estimate"].item(), abs=1e-9)


def test_over_all_attacks_the_published_rows_are_pooled(study):
    found = study.recall_and_precision()
    assert found["n"] == sum(study.attack_set(name).success.sum() for name in study.attacks)
    assert 0 < found["precision"] <= 1
    assert 0.5 < found["ROC-AUC"] < 1
