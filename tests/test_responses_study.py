"""The feature-response study: its two protocols on made-up measurements, and its measures on real images."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score

from advlens.detectors.baselines import MaxSoftmax
from advlens.detectors.decision_metrics import SIX
from advlens.detectors.entropy import SpatialEntropy
from advlens.studies.responses import PUBLISHED_RESPONSE, protocols, report, results
from advlens.studies.responses.measures import decisions, entropies
from advlens.studies.responses.protocols import BASELINES, CENTRED, CHOSEN, EIGHT_BIT, ENTROPY, NETWORKS
from advlens.studies.responses.settings import COMPARED, OF_RESPONSES, OF_WINDOWS, ResponseEntropy, settings

N = 100
OTHER = ResponseEntropy(window=5)


def made_up(seed: int, *, attacked: float, noisy: float, on_test: float | None = None) -> pd.DataFrame:
    """Measured rows of N images whose published entropy shifts by so much under attack and under noise."""
    rng = np.random.default_rng(seed)
    part = np.select([np.arange(N) < 60, np.arange(N) < 80], ["train", "validation"], "test")
    frames = []
    for role, shift in (("clean", 0.0), ("noisy", noisy), ("adversarial", attacked)):
        shifts = np.where((part == "test") & (role == "adversarial"), attacked if on_test is None else on_test, shift)
        base = np.random.default_rng(0).normal(size=N) if role == "clean" else rng.normal(size=N)
        columns = {PUBLISHED_RESPONSE.name: base + shifts, OTHER.name: rng.normal(size=N)}
        columns |= {name: rng.normal(size=N) for name in (*SIX, *BASELINES, *NETWORKS)}
        about = {"role": role, "source": np.arange(N), "part": part, "l2": 1.0, "predicted": np.arange(N) % 4}
        about |= {"softmax": rng.uniform(0.3, 1, N), "truth_softmax": rng.uniform(0, 0.5, N)}
        success = (np.arange(N) % 5 > 0) & (role == "adversarial")
        frames.append(pd.DataFrame({**columns, **about, "success": success}))
    rows = pd.concat(frames, ignore_index=True)
    rounded = rows[rows["part"] == "test"].assign(part=EIGHT_BIT)
    return pd.concat([rows, rounded], ignore_index=True)


@pytest.fixture(scope="module")
def measured():
    return {"strong": made_up(1, attacked=3.0, noisy=0.0), "weak": made_up(2, attacked=1.0, noisy=2.0)}


@pytest.fixture(scope="module")
def calibration():
    rows = made_up(3, attacked=0, noisy=0)
    rows = rows[(rows["role"] == "clean") & (rows["part"] != EIGHT_BIT)]
    return rows.assign(source=rows["source"] + 1000, **{PUBLISHED_RESPONSE.name: np.linspace(-2, 2, N)})


@pytest.fixture(scope="module")
def scores(measured, calibration):
    choice, _ = protocols.choose(measured, compared=[PUBLISHED_RESPONSE, OTHER])
    return protocols.scored(measured, calibration, choice=choice)


def test_published_rows_are_successful_attacks_and_their_own_originals(measured):
    rows = protocols.published_rows(measured["strong"])
    assert set(rows["role"]) == {"clean", "adversarial"}
    assert rows["role"].value_counts().tolist() == [80, 80]
    assert set(rows["source"]) == set(np.flatnonzero(np.arange(N) % 5))
    assert EIGHT_BIT not in set(rows["part"])


def test_direction_and_setting_are_chosen_on_validation_groups_alone():
    turned = {"turned": made_up(1, attacked=3.0, noisy=0.0, on_test=-9.0)}
    choice, tried = protocols.choose(turned, compared=[PUBLISHED_RESPONSE, OTHER])
    assert (choice.setting, choice.direction, choice.chosen_direction) == (PUBLISHED_RESPONSE, 1, 1)
    part = turned["turned"]
    part = part[(part["part"] == "validation") & ((part["role"] != "adversarial") | part["success"])]
    assert tried["auc"][0] == roc_auc_score(part["role"] == "adversarial", part[PUBLISHED_RESPONSE.name])
    lower = {"lower": made_up(1, attacked=-3.0, noisy=0.0)}
    choice, _ = protocols.choose(lower, compared=[OTHER, PUBLISHED_RESPONSE])
    assert (choice.setting, choice.direction, choice.chosen_direction) == (PUBLISHED_RESPONSE, -1, -1)


def test_without_a_successful_attack_nothing_can_be_chosen(measured):
    failed = {"failed": measured["strong"].assign(success=False)}
    with pytest.raises(ValueError, match="no attack succeeds on the validation groups"):
        protocols.choose(failed, compared=[PUBLISHED_RESPONSE])


def test_pooled_rows_hold_each_clean_image_once_and_no_failed_attack(measured):
    rows = protocols.pooled(measured)
    counts = rows[rows["part"] != EIGHT_BIT]["role"].value_counts()
    assert counts.to_dict() == {"clean": N, "noisy": 2 * N, "adversarial": 160}


def test_scores_turn_with_the_direction_and_class_means_come_from_calibration(measured, calibration):
    choice = protocols.Choice(OTHER, direction=-1, chosen_direction=1)
    made, clean = protocols.scored(measured, calibration, choice=choice)
    frame = measured["strong"]
    np.testing.assert_allclose(made["strong"][ENTROPY], -frame[PUBLISHED_RESPONSE.name])
    np.testing.assert_allclose(made["strong"][CHOSEN], frame[OTHER.name])
    centres = calibration.groupby("predicted")[PUBLISHED_RESPONSE.name].mean()
    expected = -(frame[PUBLISHED_RESPONSE.name] - frame["predicted"].map(centres))
    np.testing.assert_allclose(made["strong"][CENTRED], expected)
    assert clean.groupby("predicted")[CENTRED].mean().abs().max() < 1e-9


def test_regressions_and_signs_do_not_see_the_test_groups(measured, calibration):
    choice = protocols.Choice(OTHER, direction=1, chosen_direction=1)
    spoilt = {}
    for name, frame in measured.items():
        test = frame["part"].isin(["test", EIGHT_BIT])
        metrics = [*SIX, *BASELINES]
        spoilt[name] = frame.copy()
        spoilt[name].loc[test, metrics] = -1e3 * frame.loc[test, metrics]
    (one, _), (other, _) = (protocols.scored(each, calibration, choice=choice) for each in (measured, spoilt))
    for name, frame in measured.items():
        kept = ~frame["part"].isin(["test", EIGHT_BIT]).to_numpy()
        for detector in ("all six", "baselines, all", *BASELINES):
            np.testing.assert_array_equal(one[name][detector][kept], other[name][detector][kept])


def test_published_figures_take_every_image_and_read_thresholds_off_them(measured):
    table = results.published_results(measured, seed=0).set_index(["attack", "detector", "figure"])["estimate"]
    rows = protocols.published_rows(measured["weak"])
    truth, values = rows["role"] == "adversarial", rows[PUBLISHED_RESPONSE.name]
    assert table["weak", ENTROPY, "roc_auc"] == pytest.approx(roc_auc_score(truth, values))
    precision, recall, _ = precision_recall_curve(truth, values)
    best = np.argmax(2 * precision * recall / (precision + recall))
    assert table["weak", ENTROPY, "recall"] == pytest.approx(recall[best])
    assert table["weak", ENTROPY, "precision"] == pytest.approx(precision[best])  # as many attacked as clean images
    both = pd.concat([protocols.published_rows(frame) for frame in measured.values()])
    expected = roc_auc_score(both["role"] == "adversarial", both[PUBLISHED_RESPONSE.name])
    assert table[results.ALL_ATTACKS, ENTROPY, "roc_auc"] == pytest.approx(expected)


def test_corrected_figures_are_of_test_groups_at_thresholds_from_calibration(scores):
    frames, calibration = scores
    table = results.corrected_results(frames, calibration, seed=0)
    table = table.set_index(["attack", "detector", "figure"]).sort_index()
    test = frames["weak"]
    test = test[test["part"] == "test"]
    won = test[test["success"]]
    normal = test[test["role"] != "adversarial"]
    threshold = np.sort(calibration[ENTROPY])[-6]  # 5 of 100 clean images lie above it
    found = table.loc[("weak", ENTROPY)]
    assert found.loc["committed_tpr_0.05", "estimate"] == (won[ENTROPY] > threshold).mean()
    assert found.loc["observed_fpr_0.05", "estimate"] == (normal[ENTROPY] > threshold).mean()
    noisy = normal[normal["role"] == "noisy"]
    assert found.loc["observed_fpr_0.05 on noisy", "estimate"] == (noisy[ENTROPY] > threshold).mean()
    truth = np.repeat([1, 0], [len(won), len(normal)])
    expected = roc_auc_score(truth, np.concatenate([won[ENTROPY], normal[ENTROPY]]))
    assert found.loc["roc_auc", "estimate"] == pytest.approx(expected)
    true, false = (won[ENTROPY] > threshold).mean(), (normal[ENTROPY] > threshold).mean()
    assert found.loc["precision", "estimate"] == pytest.approx(true / (true + false))
    assert (found["n_positive"].iloc[0], found["n_negative"].iloc[0]) == (16, 40)
    assert table.loc[(results.ALL_ATTACKS, ENTROPY, "roc_auc"), "n_negative"] == 60  # 20 clean, 2 × 20 noisy


def test_noise_is_told_from_attacks_by_pairs(scores):
    table = results.against_noise(scores[0], seed=0).set_index(["attack", "detector", "pair"])["estimate"]
    assert table["weak", ENTROPY, "noisy / clean"] > 0.8
    assert table["weak", ENTROPY, "attacked / noisy"] < 0.4
    assert table["strong", ENTROPY, "attacked / noisy"] > 0.9
    assert abs(table["strong", ENTROPY, "noisy / clean"] - 0.5) < 0.25
    assert 0.55 < table["weak", ENTROPY, "attacked / clean"] < 0.95


def test_too_few_attacks_get_no_figure(measured, calibration):
    few = {"few": measured["strong"].assign(success=lambda rows: rows["success"] & (rows["source"] % 25 == 1))}
    choice, _ = protocols.choose(few, compared=[PUBLISHED_RESPONSE])
    made, clean = protocols.scored(few, calibration, choice=choice)
    assert len(results.corrected_results(made, clean, seed=0)) == 0
    assert len(results.published_results(few, seed=0)) == 0
    assert len(results.against_noise(made, seed=0)) == 0


def test_sensitivity_leaves_the_test_groups_out(measured):
    turned = {"turned": made_up(1, attacked=3.0, noisy=0.0, on_test=-9.0)}
    table = results.sensitivity(turned, compared=[PUBLISHED_RESPONSE, OTHER]).set_index(["window", "negatives"])
    assert table.loc[(3, "clean"), "auc"] > 0.9
    assert table.loc[(3, "clean"), "n"] == 64
    assert abs(table.loc[(5, "clean"), "auc"] - 0.5) < 0.2


def test_eight_bit_figures_are_of_the_rounded_rows(scores):
    frames = {
        name: frame.assign(**{ENTROPY: np.where(frame["part"] == EIGHT_BIT, -frame[ENTROPY], frame[ENTROPY])})
        for name, frame in scores[0].items()
    }
    table = results.eight_bit(frames, seed=0).set_index(["attack", "detector", "format"])["estimate"]
    assert table["strong", ENTROPY, "float"] > 0.9
    assert table["strong", ENTROPY, "8-bit"] == pytest.approx(1 - table["strong", ENTROPY, "float"])


def test_classes_and_confidences_are_told_apart(scores):
    _, calibration = scores
    classes = results.by_class(calibration, seed=0).set_index(["predicted", "figure"])
    rows = calibration[calibration["predicted"] == 2]
    assert classes.loc[(2, "mean"), "estimate"] == pytest.approx(rows[ENTROPY].mean())
    flagged = (rows[ENTROPY] > np.sort(calibration[ENTROPY])[-6]).mean()
    assert classes.loc[(2, "observed_fpr_0.05"), "estimate"] == pytest.approx(flagged)
    sorted_ = calibration.assign(softmax=np.linspace(0.3, 1, N), **{ENTROPY: np.linspace(1, 0, N)})
    table = results.by_confidence({"clean": sorted_}, seed=0)
    assert table["rank_correlation"].iloc[0] == pytest.approx(-1)
    assert table["window"].tolist()[:2] == ["to 0.5", "to 0.9"]
    assert table["estimate"].is_monotonic_decreasing


def test_decision_changes_are_of_successful_attacks(measured):
    rows = measured["strong"]
    attacked = rows[(rows["role"] == "adversarial") & (rows["part"] != EIGHT_BIT)]
    alone = results.decision_changes({"strong": attacked}, seed=0).set_index(["attack", "figure"])
    assert alone.loc[("strong", "success"), "estimate"] == 0.8
    won = attacked[attacked["success"]]
    assert alone.loc[("strong", "truth"), "estimate"] == pytest.approx(won["truth_softmax"].mean())
    assert alone.loc[("strong", "target"), "estimate"] == pytest.approx(won["softmax"].mean())


def test_entropies_are_those_of_the_detector(max_pooling_classifier, real_images):
    images = real_images[:5]
    compared = [PUBLISHED_RESPONSE, ResponseEntropy("gradient", "predicted class", 5, 32, 2, "absolute")]
    table = entropies(max_pooling_classifier.model, images, compared=compared)
    for setting in compared:
        options = {name: getattr(setting, name) for name in ("method", "of", "window", "bins", "stride")}
        detector = SpatialEntropy(max_pooling_classifier, normalisation=setting.normalisation, direction=1, **options)
        np.testing.assert_array_equal(table[setting.name], detector.scores(images))


def test_decisions_are_softmax_outputs(max_pooling_classifier, real_images, real_labels):
    said = decisions(max_pooling_classifier, real_images[:20], real_labels[:20])
    np.testing.assert_allclose(1 - said["softmax"], MaxSoftmax(max_pooling_classifier).scores(real_images[:20]))
    right = said["predicted"] == real_labels[:20]
    np.testing.assert_array_equal(said["softmax"][right], said["truth_softmax"][right])


def test_every_comparison_has_a_name_of_its_own():
    assert len({setting.name for setting in COMPARED}) == len(COMPARED)
    assert set(OF_WINDOWS) | set(OF_RESPONSES) | {PUBLISHED_RESPONSE} <= set(COMPARED)
    assert [each.attack for each in settings(eps=0.1, generations=2, steps=3)].count("one_pixel") == 2


def test_tables_hold_what_the_results_say(measured, scores):
    frames, calibration = scores
    published = results.published_results(measured, seed=0)
    corrected = results.corrected_results(frames, calibration, seed=0)
    noise = results.against_noise(frames, seed=0)
    table, bold = report.methods_table(published, corrected)
    assert table["method"].tolist().count(ENTROPY) == 2
    for place in bold:
        above = corrected[
            (corrected["figure"] == results.ABOVE_BASELINE) & (corrected["attack"] == results.ALL_ATTACKS)
        ]
        assert above.set_index("detector").loc[table["method"][place], "low"] > 0
    sentence = report.carries_over(published, corrected, noise)
    assert "does not carry over" in sentence
    reached = published.set_index(["attack", "detector", "figure"]).sort_index()
    assert f"{reached.loc[(results.ALL_ATTACKS, ENTROPY, 'roc_auc'), 'estimate']:.3f}" in sentence


def test_an_idea_carries_over_only_above_noise_and_baseline(measured, scores):
    frames, calibration = scores
    published = results.published_results(measured, seed=0)
    corrected = results.corrected_results(frames, calibration, seed=0)
    noise = results.against_noise(frames, seed=0).assign(low=0.6)
    above = corrected["figure"] == results.ABOVE_BASELINE
    better, worse = corrected.copy(), corrected.copy()
    better.loc[above, "low"], worse.loc[above, "low"] = 0.01, -0.01
    assert "The idea carries over" in report.carries_over(published, better, noise)
    assert "does not carry over" in report.carries_over(published, worse, noise)
    assert "does not carry over" in report.carries_over(published, better, noise.assign(low=0.4))
