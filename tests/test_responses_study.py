"""The feature-response study: its two protocols on made-up measurements, and its measures on real images."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score

from advlens.detectors.baselines import MaxSoftmax
from advlens.detectors.decision_metrics import SIX
from advlens.detectors.entropy import SpatialEntropy
from advlens.image_files import CODECS
from advlens.studies.detection import ABOVE_BASELINE
from advlens.studies.responses import PUBLISHED_RESPONSE, Study, protocols, report, results
from advlens.studies.responses.measures import decisions, entropies
from advlens.studies.responses.protocols import BITS, CENTRED, CHOSEN, ENTROPY, JOINED, NETWORKS
from advlens.studies.responses.settings import COMPARED, OF_RESPONSES, OF_WINDOWS, ResponseEntropy, Setting, settings
from advlens.studies.rows import BASELINES, EIGHT_BIT, PARTS
from advlens.workbench import Workbench

N = 100
OTHER = ResponseEntropy(window=5)


FALLS = dict(zip(BASELINES, (0.8, 0.9, 1.0, 1.1, 5.0), strict=True))


def made_up(seed: int, *, attacked: float, noisy: float, on_test: float | None = None) -> pd.DataFrame:
    """Measured rows of N images whose published entropy shifts by so much under attack and under noise.

    Metrics and networks rise under attack, baselines fall, on the training and validation groups alike; failed attacks
    move nothing.
    """
    rng = np.random.default_rng(seed)
    part = np.select([np.arange(N) < 60, np.arange(N) < 80], ["train", "validation"], "test")
    won = np.arange(N) % 5 > 0
    frames = []
    for role, shift in (("clean", 0.0), ("noisy", noisy), ("adversarial", attacked)):
        is_attack = role == "adversarial"
        shifts = np.where((part == "test") & is_attack, attacked if on_test is None else on_test, shift)
        shifts = np.where(is_attack & ~won, 0, shifts)
        draws = np.random.default_rng(0) if role == "clean" else rng
        columns = {PUBLISHED_RESPONSE.name: draws.normal(size=N) + shifts, OTHER.name: draws.normal(size=N)}
        columns |= {name: draws.normal(size=N) + 2 * (is_attack & won) for name in (*SIX, *NETWORKS)}
        columns |= {name: draws.normal(size=N) - fall * (is_attack & won) for name, fall in FALLS.items()}
        about = {"role": role, "source": np.arange(N), "part": part, "l2": 1.0, "predicted": np.arange(N) % 4}
        about |= {"softmax": draws.uniform(0.3, 1, N), "truth_softmax": draws.uniform(0, 0.5, N)}
        frames.append(pd.DataFrame({**columns, **about, "success": won & is_attack}))
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
    choice, _ = protocols.choose(measured, compared=[PUBLISHED_RESPONSE, OTHER], seed=0)
    return protocols.scored(measured, calibration, choice=choice)


def test_published_rows_are_successful_attacks_and_their_own_originals(measured):
    rows = protocols.published_rows(measured["strong"])
    assert set(rows["role"]) == {"clean", "adversarial"}
    assert rows["role"].value_counts().tolist() == [80, 80]
    assert set(rows["source"]) == set(np.flatnonzero(np.arange(N) % 5))
    assert EIGHT_BIT not in set(rows["part"])


def test_direction_and_setting_are_chosen_on_validation_groups_alone():
    turned = {"turned": made_up(1, attacked=3.0, noisy=0.0, on_test=-9.0)}
    choice, tried = protocols.choose(turned, compared=[PUBLISHED_RESPONSE, OTHER], seed=0)
    assert (choice.setting, choice.direction, choice.chosen_direction) == (PUBLISHED_RESPONSE, 1, 1)
    part = turned["turned"]
    part = part[(part["part"] == "validation") & ((part["role"] != "adversarial") | part["success"])]
    assert tried["estimate"][0] == roc_auc_score(part["role"] == "adversarial", part[PUBLISHED_RESPONSE.name])
    lower = {"lower": made_up(1, attacked=-3.0, noisy=0.0)}
    choice, _ = protocols.choose(lower, compared=[OTHER, PUBLISHED_RESPONSE], seed=0)
    assert (choice.setting, choice.direction, choice.chosen_direction) == (PUBLISHED_RESPONSE, -1, -1)


def test_without_a_successful_attack_nothing_can_be_chosen(measured):
    failed = {"failed": measured["strong"].assign(success=False)}
    with pytest.raises(ValueError, match="no attack succeeds on the validation groups"):
        protocols.choose(failed, compared=[PUBLISHED_RESPONSE], seed=0)


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


def test_regressions_learn_from_training_groups_and_point_at_attacks(measured, calibration):
    choice = protocols.Choice(OTHER, direction=1, chosen_direction=1)
    spoilt = {}
    for name, frame in measured.items():
        rows = frame["part"] == "validation"
        spoilt[name] = frame.copy()
        spoilt[name].loc[rows, [*SIX, *BASELINES]] = -1e3 * frame.loc[rows, [*SIX, *BASELINES]]
    (one, clean), (other, _) = (protocols.scored(each, calibration, choice=choice) for each in (measured, spoilt))
    test = one["strong"]["part"] == "test"
    for detector in JOINED:
        np.testing.assert_array_equal(one["strong"][detector][test], other["strong"][detector][test])
    for detector in (*JOINED, *NETWORKS, *BASELINES):
        won = one["strong"][test & one["strong"]["success"]]
        assert won[detector].mean() > clean[detector].mean() + 0.5, detector
    for detector in BASELINES:  # whose sign the validation groups give
        np.testing.assert_array_equal(one["strong"][detector], -measured["strong"][detector])
        np.testing.assert_array_equal(other["strong"][detector][test], measured["strong"][detector][test])


def test_the_bar_is_the_baseline_that_is_best_on_validation_groups(scores):
    frames, calibration = scores
    table = results.corrected_results(frames, calibration, seed=0)
    assert set(table["baseline"]) == {BASELINES[-1]}  # which falls most under attack
    swapped = {
        name: frame.assign(
            **{
                one: frame[one].where(frame["part"] != "validation", frame[other])
                for one, other in zip(BASELINES, BASELINES[::-1], strict=True)
            }
        )
        for name, frame in frames.items()
    }
    table = results.corrected_results(swapped, calibration, seed=0)
    assert set(table["baseline"]) == {BASELINES[0]}
    above = table[table["figure"] == ABOVE_BASELINE].set_index(["attack", "detector"])["estimate"]
    assert above["strong", BASELINES[-1]] > 0.2  # the best on the test groups is above the bar
    assert above["strong", BASELINES[0]] == 0


def test_probabilities_are_those_of_being_attacked(scores):
    frames, calibration = scores
    table = results.corrected_results(frames, calibration, seed=0).set_index(["attack", "detector", "figure"])
    errors = table.xs("expected_calibration_error", level="figure")["estimate"]
    assert errors["strong", "all six"] < 0.35
    assert set(errors.index.get_level_values("detector")) == {*JOINED, *NETWORKS}


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
    counts = results.against_noise(scores[0], seed=0).query("attack == 'strong'")
    assert set(counts["n_positive"]) == set(counts["n_negative"]) == {16}  # originals and twins of the successful
    assert 0.55 < table["weak", ENTROPY, "attacked / clean"] < 0.95


def test_too_few_attacks_get_no_figure(measured, calibration):
    few = {"few": measured["strong"].assign(success=lambda rows: rows["success"] & (rows["source"] % 25 == 1))}
    choice, _ = protocols.choose(few, compared=[PUBLISHED_RESPONSE], seed=0)
    made, clean = protocols.scored(few, calibration, choice=choice)
    assert len(results.corrected_results(made, clean, seed=0)) == 0
    assert len(results.published_results(few, seed=0)) == 0
    assert len(results.against_noise(made, seed=0)) == 0


def test_sensitivity_leaves_the_test_groups_out(measured):
    turned = {"turned": made_up(1, attacked=3.0, noisy=0.0, on_test=-9.0)}
    table = results.sensitivity(turned, compared=[PUBLISHED_RESPONSE, OTHER], seed=0).set_index(["window", "negatives"])
    assert table.loc[(3, "clean"), "estimate"] > 0.9
    assert tuple(table.loc[(3, "clean"), ["n_positive", "n_negative"]]) == (64, 80)
    assert table.loc[(3, "clean and noisy"), "n_negative"] == 160
    assert abs(table.loc[(5, "clean"), "estimate"] - 0.5) < 0.2


def test_eight_bit_figures_are_of_the_rounded_rows(scores):
    frames = {
        name: frame.assign(**{ENTROPY: np.where(frame["part"] == EIGHT_BIT, -frame[ENTROPY], frame[ENTROPY])})
        for name, frame in scores[0].items()
    }
    table = results.eight_bit(frames, seed=0).set_index(["attack", "detector", "format"])["estimate"]
    assert table["strong", ENTROPY, "float"] > 0.9
    assert table["strong", ENTROPY, "8-bit"] == pytest.approx(1 - table["strong", ENTROPY, "float"])


def test_strata_are_told_apart_without_untouched_images(scores):
    frames = {name: frame.copy() for name, frame in scores[0].items()}
    untouched = (frames["strong"]["role"] == "adversarial") & ~frames["strong"]["success"]
    whole = results.strata({"strong": pd.concat([frames["strong"]] * 4)}, seed=0).set_index(["detector", "stratum"])
    assert whole.loc[(ENTROPY, "success"), "estimate"] > 0.9
    assert abs(whole.loc[(ENTROPY, "failed"), "estimate"] - 0.5) < 0.3
    assert whole.loc[(ENTROPY, "all"), "n_positive"] == 80
    frames["strong"].loc[untouched, "l2"] = 0.0
    left = results.strata({"strong": pd.concat([frames["strong"]] * 4)}, seed=0).set_index(["detector", "stratum"])
    assert (ENTROPY, "failed") not in left.index
    assert left.loc[(ENTROPY, "all"), "n_positive"] == 64


def test_eight_bit_figures_leave_failed_attacks_out(scores):
    table = results.eight_bit(scores[0], seed=0).set_index(["attack", "detector", "format"])
    assert table.loc[("strong", ENTROPY, "8-bit"), "n_positive"] == 16


def test_classes_are_judged_at_a_threshold_from_other_images(scores):
    frames, calibration = scores
    classes = results.by_class(frames["strong"], calibration, seed=0).set_index(["predicted", "figure"])
    rows = frames["strong"]
    rows = rows[(rows["role"] == "clean") & (rows["part"] != EIGHT_BIT) & (rows["predicted"] == 2)]
    assert classes.loc[(2, "bits"), "estimate"] == pytest.approx(rows[BITS].mean())
    flagged = (rows[ENTROPY] > np.sort(calibration[ENTROPY])[-6]).mean()
    assert classes.loc[(2, "observed_fpr_0.05"), "estimate"] == pytest.approx(flagged)
    assert classes.loc[(2, "bits"), "n"] == 25


def test_entropy_by_confidence_is_sorted_into_bins_with_their_upper_end(scores):
    _, calibration = scores
    ends = np.repeat([0.5, 0.9], N // 2)
    rows = calibration.assign(softmax=ends, **{BITS: -ends})
    table = results.by_confidence({"clean": rows}, seed=0)
    assert table["window"].tolist() == ["to 0.5", "to 0.9"]
    assert table["n"].tolist() == [50, 50]
    np.testing.assert_allclose(table["estimate"], [-0.5, -0.9])
    assert table["rank_correlation"].iloc[0] == pytest.approx(-1)


def test_entropy_changes_are_paired_and_of_successful_attacks(measured):
    whole = {name: frame[frame["part"] != EIGHT_BIT] for name, frame in measured.items()}
    table = results.entropy_changes(whole, seed=0).set_index(["attack", "kind"])
    rows = protocols.pooled({"strong": measured["strong"]})
    rows = (
        rows[rows["part"] != EIGHT_BIT].pivot(index="source", columns="role", values=PUBLISHED_RESPONSE.name).dropna()
    )
    assert table.loc[("strong", "attacked"), "n"] == 80
    expected = (rows["adversarial"] - rows["clean"]).mean()
    assert table.loc[("strong", "attacked"), "estimate"] == pytest.approx(expected)
    assert table.loc[("weak", "noisy"), "estimate"] > 1


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
    expected = MaxSoftmax(max_pooling_classifier).scores(real_images[:20])
    np.testing.assert_allclose(1 - said["softmax"], expected, rtol=1e-5, atol=1e-12)
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
        above = corrected[(corrected["figure"] == ABOVE_BASELINE) & (corrected["attack"] == results.ALL_ATTACKS)]
        assert above.set_index("detector").loc[table["method"][place], "low"] > 0
    sentence = report.carries_over(
        published, corrected, noise, [*map(Setting, measured, measured), Setting("gone", "fgsm")]
    )
    assert "does not carry over" in sentence
    assert "(too few successes to judge: gone)" in sentence
    reached = published.set_index(["attack", "detector", "figure"]).sort_index()
    assert f"{reached.loc[(results.ALL_ATTACKS, ENTROPY, 'roc_auc'), 'estimate']:.3f}" in sentence


def test_an_idea_carries_over_only_above_noise_and_baseline(measured, scores):
    frames, calibration = scores
    published = results.published_results(measured, seed=0)
    corrected = results.corrected_results(frames, calibration, seed=0)
    noise = results.against_noise(frames, seed=0).assign(low=0.6)
    above = corrected["figure"] == ABOVE_BASELINE
    better, worse = corrected.copy(), corrected.copy()
    better.loc[above, "low"], worse.loc[above, "low"] = 0.01, -0.01
    mixed = noise.assign(low=np.where(noise["attack"] == "weak", 0.4, 0.6))
    turned = published.assign(low=0.3)
    assert "does not carry over" in report.carries_over(turned, better, noise, [])  # found the wrong way round
    assert "Too few attacks" in report.carries_over(published, better, noise[:0], [])
    assert "The idea carries over" in report.carries_over(published, better, noise, [])
    assert "does not carry over" in report.carries_over(published, worse, noise, [])
    assert "does not carry over" in report.carries_over(published, better, mixed, [])


SIZES = {"task_epochs": 15, "response_images": 60, "searched_images": 50, "calibration_images": 200}
SEARCHES = {"generations": 2, "steps": 10, "passes": 2, "epochs": 2, "patience": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of 400 digits, once as small as it can be."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, **SIZES, **SEARCHES)


def test_every_role_is_measured_on_the_images_that_it_names(study):
    for setting in study.settings:
        frame, made = study.measured[setting.name], study.attack_set(setting)
        assert len(made) == (50 if setting.searches else 60)
        floats, rounded = (frame[frame["part"].isin(parts)] for parts in (PARTS, [EIGHT_BIT]))
        attacked = floats[floats["role"] == "adversarial"]
        np.testing.assert_array_equal(attacked["source"], made.source)
        np.testing.assert_array_equal(attacked["success"], made.success)
        np.testing.assert_array_equal(attacked["predicted"], made.predicted)
        np.testing.assert_array_equal(attacked["max softmax"], MaxSoftmax(study.classifier).scores(made.adversarial))
        clean, noisy = (floats[floats["role"] == role] for role in ("clean", "noisy"))
        np.testing.assert_array_equal(clean["off grey levels"], 0)
        np.testing.assert_array_equal(noisy["source"], made.source[made.l2 > 0])
        test = set(attacked[attacked["part"] == "test"]["source"])
        assert set(rounded["source"]) == test
        assert (rounded["off grey levels"] == 0).all()
        misread = CODECS["8-bit"](made.adversarial[np.isin(made.source, list(test))])
        misread = study.classifier.predict(misread).argmax(axis=1) != made.label[np.isin(made.source, list(test))]
        np.testing.assert_array_equal(rounded[rounded["role"] == "adversarial"]["success"], misread)
        assert not rounded[rounded["role"] != "adversarial"]["success"].any()


def test_an_image_is_on_one_side_and_calibration_images_on_none(study):
    parts = pd.concat([frame[["source", "part"]] for frame in study.measured.values()])
    parts = parts[parts["part"] != EIGHT_BIT].drop_duplicates()
    assert parts["source"].is_unique
    assert parts["part"].value_counts().to_dict() == {"train": 36, "validation": 12, "test": 12}
    assert not set(study.calibration["source"]) & set(study.source)
    assert len(study.calibration) == 200
    images, truth, part = study._images()
    won = study.attack_sets()["deepfool"]
    won = won.select(won.success)
    own = images[truth & (part == "test")]
    for image in won.adversarial[study._part[won.source].to_numpy() == "test"]:
        assert (own == image).all(axis=(1, 2, 3)).any()
    assert truth.sum() == sum(made.success.sum() for made in study.attack_sets().values())


def test_the_study_s_results_hang_together(study):
    published, corrected, noise = study.published_results(), study.corrected_results(), study.against_noise()
    assert results.ALL_ATTACKS in set(published["attack"]) & set(corrected["attack"])
    assert set(corrected["detector"]) == set(protocols.DETECTORS)
    changes = study.decision_changes().set_index(["attack", "figure"])["estimate"]
    for name, made in study.attack_sets().items():
        assert changes[name, "success"] == pytest.approx(made.success.mean())
    for frame in (study.strata(), study.eight_bit(), study.sensitivity(), study.by_class(), study.by_confidence()):
        assert len(frame)
    assert all(seconds >= 0 for seconds in study.seconds().values())
    lessons = report.lessons(published, corrected, noise, study.sensitivity(), study.by_class(), study.settings)
    assert "carr" in lessons or "Too few" in lessons
    table = report.headline_table(study.decision_changes(), published, corrected, noise, study.eight_bit())
    assert table["attack"].tolist() == [*(setting.name for setting in study.settings), results.ALL_ATTACKS]


def test_wrong_sizes_are_named_before_work_starts(study):
    for wrong, message in (
        ({"response_images": 40}, "response_images must be at least 50, got 40: a fifth of them is judged"),
        ({"response_images": "60"}, "response_images must be a whole number, 1 or more, got '60'"),
        ({"calibration_images": 4000}, "response_images and calibration_images must be at most"),
        ({"searched_images": 20}, "searched_images must be at least 50, got 20"),
        ({"searched_images": 0}, "searched_images must be a whole number, 1 or more, got 0"),
        ({"generations": 1.5}, "generations must be a whole number"),
        ({"passes": 1}, "passes must be a whole number, 2 or more, got 1"),
        ({"task_epochs": 0}, "epochs must be a whole number, 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(study.bench, **(SIZES | SEARCHES | wrong))
