"""The closeness-and-uncertainty study's protocols, on rows whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from advlens.attacks.noise import gaussian_noise
from advlens.closeness import ClassDensity
from advlens.detectors.baselines import pixel_baselines
from advlens.detectors.decision_metrics import SIX, UNCERTAINTY
from advlens.detectors.regression import regression
from advlens.metrics import Estimate, roc_auc
from advlens.studies.closeness import Study, crossings, end_differences, report, walk_means
from advlens.studies.closeness.measures import SIGNS, kde_column, kl_column, text_bandwidth
from advlens.studies.closeness.protocols import (
    ALL_SIX,
    BASELINES,
    CALIBRATION,
    DETECTORS,
    EIGHT_BIT,
    Choice,
    choose,
    corrected_parts,
    corrected_scores,
    judgeable,
    published_rows,
    published_scores,
    successful,
    truth_of,
)
from advlens.studies.closeness.results import (
    ABOVE_BASELINE,
    CLAIMS,
    claims,
    corrected_results,
    defects,
    eight_bit,
    published_results,
    roc_curves,
    strata,
    windows,
)
from advlens.studies.closeness.settings import PUBLISHED, published_of, settings
from advlens.workbench import Workbench

N = 150
BANDWIDTHS = [0.5, 1.0]


def measured_rows(seed: int, *, density: float, entropy: float) -> pd.DataFrame:
    """N sources in all four roles; attacks shift density and entropy by so many standard deviations."""
    rng = np.random.default_rng(seed)
    frames = []
    for role in ("clean", "noisy", "noisy as published", "adversarial"):
        attacked = role == "adversarial"
        frame = pd.DataFrame({"role": role, "source": np.arange(N), "success": attacked & (np.arange(N) % 5 != 0)})
        moved = frame["success"].to_numpy()
        frame["part"] = np.select([np.arange(N) < 90, np.arange(N) < 120], ["train", "validation"], "test")
        frame["predicted"] = 0
        for name in ("variance", "mutual information", "aleatoric", "epistemic"):
            frame[name] = rng.normal(size=N)
        frame["entropy"] = rng.normal(size=N) + entropy * moved
        frame["confidence"] = -frame["entropy"]
        frame[kde_column(1.0)] = rng.normal(size=N) - density * moved
        frame[kde_column(0.5)] = rng.normal(size=N)
        frame[kl_column("share")] = rng.normal(size=N) + 0.5 * density * moved
        frame[kl_column("softmax")] = rng.normal(size=N)
        for name in BASELINES:
            frame[name] = rng.random(N)
        frame["max softmax"] = np.where(moved & (np.arange(N) % 2 == 0), 0.005, 0.1 + 0.8 * frame["max softmax"])
        frames.append(frame)
    whole = pd.concat(frames, ignore_index=True)
    return pd.concat([whole, rounded(whole)], ignore_index=True)


def rounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Images of the test part in 8 bits: every second attack is lost, and none shows any more."""
    kept = rows[(rows["part"] == "test") & (rows["role"] != "noisy as published")]
    lost = kept["source"] % 2 == 0
    columns = [kde_column(1.0), kl_column("share"), "entropy", "confidence"]
    attacked = kept["role"] == "adversarial"
    flat = kept[columns].mask(attacked, 0.0)
    return kept.assign(part=EIGHT_BIT, success=kept["success"] & ~lost, **flat)


def clean_validation(measured: pd.DataFrame, *, copies: int = 1) -> pd.DataFrame:
    """The clean images from which thresholds are committed."""
    clean = measured[(measured["role"] == "clean") & (measured["part"] == "validation")]
    return pd.concat([clean] * copies)


@pytest.fixture(scope="module")
def measured():
    return {"pgd 0.30": measured_rows(0, density=4, entropy=-1), "fgsm 0.12": measured_rows(1, density=0, entropy=3)}


@pytest.fixture(scope="module")
def choice(measured):
    return choose(measured, bandwidths=BANDWIDTHS)[0]


@pytest.fixture(scope="module")
def scores(measured, choice):
    return corrected(measured, choice)


def corrected(measured, choice):
    return {
        attack: corrected_scores(frame, choice=choice, calibration=clean_validation(frame))
        for attack, frame in measured.items()
    }


def as_published(measured, bandwidth):
    return {attack: published_scores(frame, bandwidth=bandwidth) for attack, frame in measured.items()}


def test_published_rows_hold_failed_attacks_and_published_noise(measured):
    rows = published_rows(measured["pgd 0.30"])
    assert set(rows["role"]) == {"clean", "noisy as published", "adversarial"}
    assert (rows["role"] == "adversarial").sum() == N


def test_corrected_parts_hold_successes_and_matched_noise_of_disjoint_sources(measured):
    parts = corrected_parts(measured["pgd 0.30"])
    sources = [set(part["source"]) for part in parts.values()]
    assert [len(part) for part in sources] == [90, 30, 30]
    assert len(set.union(*sources)) == N
    for part in parts.values():
        assert set(part["role"]) == {"clean", "noisy", "adversarial"}
        assert part[part["role"] == "adversarial"]["success"].all()


def test_bandwidth_and_conversion_are_chosen_on_validation_groups_once_for_all(measured):
    choice, tried = choose(measured, bandwidths=BANDWIDTHS)
    assert choice == Choice(1.0, "share")
    expected = []
    for frame in measured.values():
        part = corrected_parts(frame)["validation"]
        attacked = (part["role"] == "adversarial").to_numpy()
        values = -part[kde_column(1.0)].to_numpy()
        expected.append((values[attacked][:, None] > values[~attacked]).mean())
    assert tried.loc[tried["setting"] == 1.0, "auc"].item() == pytest.approx(np.mean(expected))


def test_attacks_that_never_succeed_cannot_be_judged(measured):
    never = measured["pgd 0.30"].assign(success=False)
    assert list(judgeable({**measured, "never": never})) == list(measured)


def test_results_find_what_the_rows_hold(measured, scores):
    results = corrected_results(scores, seed=0)
    auc = results[results["figure"] == "roc_auc"].set_index(["attack", "detector"])["estimate"]
    assert auc["pgd 0.30", "KDE"] > 0.95
    assert auc["fgsm 0.12", "entropy"] > 0.9
    assert 0.3 < auc["fgsm 0.12", "KDE"] < 0.7
    assert min(auc["pgd 0.30", ALL_SIX], auc["fgsm 0.12", ALL_SIX]) > 0.9
    row = results[(results["figure"] == "roc_auc") & (results["detector"] == "KDE")].iloc[0]
    test = corrected_parts(measured[row["attack"]])["test"]
    assert (row["n_positive"], row["n_negative"], row["n_sources"]) == ((test["role"] == "adversarial").sum(), 60, 30)


def test_a_detector_stands_against_the_baseline_that_is_best_on_validation_groups(scores):
    results = corrected_results(scores, seed=0)
    assert set(results["baseline"]) == {"max softmax"}
    above = results[results["figure"] == ABOVE_BASELINE].set_index(["attack", "detector"])
    assert above.loc[("pgd 0.30", "KDE"), "low"] > 0 > above.loc[("fgsm 0.12", "KDE"), "low"]
    assert (above.xs("max softmax", level="detector")[["estimate", "low", "high"]] == 0).all(axis=None)
    frame = scores["pgd 0.30"].copy()
    frame.loc[frame["part"] == "test", "max softmax"] *= -1  # useless where it is judged, still chosen
    assert set(corrected_results({"pgd 0.30": frame}, seed=0)["baseline"]) == {"max softmax"}


def test_thresholds_come_from_clean_validation_images_and_false_alarms_are_counted_by_kind(scores):
    results = corrected_results(scores, seed=0).set_index(["attack", "detector", "figure"])["estimate"].sort_index()
    frame = scores["pgd 0.30"]
    clean = np.sort(frame[frame["part"] == CALIBRATION]["KDE"])
    threshold = clean[-2]  # of 30, at most one and a half may lie above
    test = successful(frame[frame["part"] == "test"])
    for role, figure in (("clean", "observed_fpr_0.05 on clean"), ("noisy", "observed_fpr_0.05 on noisy")):
        expected = (test.loc[test["role"] == role, "KDE"] > threshold).mean()
        assert results["pgd 0.30", "KDE", figure] == pytest.approx(expected)
    caught = (test.loc[test["role"] == "adversarial", "KDE"] > threshold).mean()
    assert results["pgd 0.30", "KDE", "committed_tpr_0.05"] == pytest.approx(caught)


def test_every_clean_validation_image_counts_for_the_thresholds(measured, choice):
    frame = measured["pgd 0.30"]
    extreme = clean_validation(frame).assign(**{kde_column(1.0): -1e3})
    scores = corrected_scores(frame, choice=choice, calibration=extreme)
    figures = corrected_results({"pgd 0.30": scores}, seed=0).set_index(["detector", "figure"])["estimate"]
    assert figures["KDE", "committed_tpr_0.05"] == 0
    assert figures["KDE", "roc_auc"] > 0.95


def test_the_regressions_know_nothing_of_validation_groups(measured, choice, scores):
    frame = measured["pgd 0.30"].copy()
    frame.loc[frame["part"] == "validation", [kde_column(1.0), "entropy"]] *= -50
    again = corrected_scores(frame, choice=choice, calibration=clean_validation(frame))
    test = again["part"] == "test"
    pd.testing.assert_frame_equal(again[test], scores["pgd 0.30"][test])


def test_probabilities_are_those_of_being_attacked(scores):
    figures = corrected_results(scores, seed=0).set_index(["attack", "detector", "figure"])["estimate"]
    assert figures["pgd 0.30", "KDE", "expected_calibration_error"] < 0.15


def test_intervals_are_over_sources_and_not_over_rows(measured, scores, choice):
    """An image that is there twice says nothing new: figures and intervals stay as they are."""
    doubled = {attack: pd.concat([frame, frame]) for attack, frame in scores.items()}
    judged_twice = {  # thresholds come from an image a row
        attack: pd.concat([frame, frame[frame["part"] != "calibration"]]) for attack, frame in scores.items()
    }
    columns = ["estimate", "low", "high"]
    for results in (corrected_results, strata, published_results):
        table, again = (
            results(given, seed=0).query("figure != 'expected_calibration_error'")
            for given in (scores, judged_twice if results is corrected_results else doubled)
        )
        np.testing.assert_allclose(again[columns], table[columns], atol=1e-9)
    one = {"pgd": measured["pgd 0.30"][measured["pgd 0.30"]["role"] != "noisy"]}
    table, again = (windows(given, choice=choice, seed=0) for given in (one, one | {"again": one["pgd"]}))
    np.testing.assert_allclose(again[columns], table[columns], atol=1e-9)
    rows = {"pgd 0.30": measured["pgd 0.30"]}
    twice = {"pgd 0.30": pd.concat([measured["pgd 0.30"]] * 2)}
    table, again = (
        defects(given, bandwidth=1.0, text_bandwidth=0.5, choice=choice, seed=0).query("detector == 'KDE'")
        for given in (rows, twice)
    )
    np.testing.assert_allclose(again[columns], table[columns], atol=1e-9)


def test_strata_part_successful_failed_and_all_attacks(scores):
    table = strata(scores, seed=0)
    rows = table[(table["attack"] == "pgd 0.30") & (table["detector"] == "KDE")].set_index("stratum")
    assert rows["n_positive"].to_dict() == {"success": 24, "failed": 6, "all": 30}
    assert rows.loc["success", "estimate"] > rows.loc["all", "estimate"] > rows.loc["failed", "estimate"]
    assert "too few" in report.strata_table(table).set_index(["attack", "detector"]).loc[("pgd 0.30", "KDE"), "failed"]


def test_an_attack_that_8_bits_undo_is_no_positive_and_the_regression_stays(scores):
    table = eight_bit(scores, seed=0).set_index(["attack", "detector", "format"])
    before, after = (table.loc[("pgd 0.30", ALL_SIX, kind)] for kind in ("float", "8-bit"))
    assert (before["n_positive"], after["n_positive"]) == (24, 12)
    assert (before["n_negative"], after["n_negative"]) == (60, 60)
    assert before["estimate"] > 0.9 > after["estimate"]
    shown = report.eight_bit_table(table.reset_index()).set_index(["detector", "format"])["pgd 0.30"]
    assert (shown[report.COUNTS, "float"], shown[report.COUNTS, "8-bit"]) == ("24 / 60", "12 / 60")


def test_regressions_are_fitted_on_training_groups_alone(measured, choice):
    frame = measured["pgd 0.30"]
    turned = frame.copy()
    column = kde_column(1.0)
    elsewhere = frame["part"] != "train"
    turned.loc[elsewhere, column] = -turned.loc[elsewhere, column]
    scores = corrected_scores(turned, choice=choice, calibration=clean_validation(frame))
    test = successful(scores[scores["part"] == "test"])
    attacked = test["role"] == "adversarial"
    assert test["KDE"][attacked].mean() < test["KDE"][~attacked].mean()


def test_as_published_failed_attacks_are_positives_and_the_bandwidth_is_the_published_one(measured):
    results = published_results(as_published(measured, 0.5), seed=0)
    auc = results[results["figure"] == "roc_auc"].set_index(["attack", "detector"])
    assert auc.loc[("pgd 0.30", "KDE"), ["n_positive", "n_negative"]].tolist() == [N, 2 * N]
    assert auc.loc[("pgd 0.30", "KDE"), "estimate"] < 0.65


def test_each_step_mends_one_defect(measured, choice):
    table = defects(measured, bandwidth=1.0, text_bandwidth=0.5, choice=choice, seed=0)
    rows = table[table["detector"] == "KDE"].set_index(["attack", "step"]).loc["pgd 0.30"]
    counts = rows[["n_positive", "n_negative", "n_sources"]].to_dict("index")
    wins = int(N * 4 / 5)
    everyone = {"n_positive": N, "n_negative": 2 * N, "n_sources": N}
    assert counts["as published"] == counts["the text's kernel"] == everyone
    assert counts["successful attacks alone"] == counts["+ noise of the same norm"] == everyone | {"n_positive": wins}
    assert counts["+ fitted on other images"]["n_sources"] == 30
    frame = Choice(1.0, "softmax").of(measured["pgd 0.30"])
    floats = frame[frame["part"].isin(["train", "validation", "test"])]
    for step, noise in (("successful attacks alone", "noisy as published"), ("+ noise of the same norm", "noisy")):
        wins = floats[floats["role"].isin(["clean", noise]) | floats["success"]]
        values, truth = wins[list(SIX)].to_numpy(), (wins["role"] == "adversarial").to_numpy()
        expected = roc_auc(regression(values, truth).decision_function(values), truth)
        found = table.set_index(["attack", "detector", "step"]).loc[("pgd 0.30", ALL_SIX, step), "estimate"]
        assert found == pytest.approx(expected), step
    published = published_results(as_published(measured, 1.0), seed=0).set_index(["attack", "detector", "figure"])
    assert rows.loc["as published", "estimate"] == published.loc[("pgd 0.30", "KDE", "roc_auc"), "estimate"]
    assert rows.loc["the text's kernel", "estimate"] < rows.loc["as published", "estimate"]
    assert rows.loc["successful attacks alone", "estimate"] > rows.loc["as published", "estimate"] + 0.05
    mended = corrected_results(corrected(measured, choice), seed=0).set_index(["attack", "detector", "figure"])
    last = table.set_index(["attack", "detector", "step"]).loc[
        ("fgsm 0.12", ALL_SIX, "+ settings chosen on validation")
    ]
    assert last["estimate"] == mended.loc[("fgsm 0.12", ALL_SIX, "roc_auc"), "estimate"]


def test_the_text_s_kernel_is_scikit_learn_s_at_a_smaller_bandwidth():
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(50, 4)), rng.normal(size=(9, 4))
    labels, classes = np.zeros(50, int), np.zeros(9, int)
    text = ClassDensity(bandwidth=1.7, convention="paper").fit(rows, labels).log_density(queries, classes)
    ours = ClassDensity(bandwidth=text_bandwidth(1.7)).fit(rows, labels).log_density(queries, classes)
    np.testing.assert_allclose(text - ours, (text - ours)[0], rtol=1e-9)


def parts_of(scores, part):
    return {attack: successful(frame[frame["part"] == part]) for attack, frame in scores.items()}


def test_roc_curves_reach_what_the_scores_reach(scores):
    tests = parts_of(scores, "test")
    curves = roc_curves(tests)
    one = curves[(curves["attack"] == "pgd 0.30") & (curves["detector"] == "KDE")].set_index("false positive rate")
    test = tests["pgd 0.30"]
    normal = np.sort(test.loc[test["role"] != "adversarial", "KDE"])[::-1]
    attacked = test.loc[test["role"] == "adversarial", "KDE"]
    assert one["true positive rate"].iloc[0] == pytest.approx((attacked > normal[0]).mean())
    assert one.loc[0.1, "true positive rate"] == pytest.approx((attacked > normal[6]).mean())  # 6 of 60 above
    assert one["true positive rate"].iloc[-1] == 1


def test_claims_are_paired_differences_judged_by_what_the_study_says(scores):
    tests = parts_of(scores, "test")
    claimed = claims(tests, chosen_on=parts_of(scores, "validation"), seed=0)
    judged = report.judged_claims(claimed, settings((0.12, 0.30))).set_index(["attack", "claim"])
    assert judged.loc[("pgd 0.30", "KDE − best uncertainty metric"), "outcome"] == "confirmed"
    assert judged.loc[("fgsm 0.12", "KDE − best uncertainty metric"), "outcome"] == "confirmed"
    assert judged.loc[("fgsm 0.12", "entropy − variance"), "outcome"] == "confirmed"
    assert judged.loc[("pgd 0.30", "entropy − variance"), "outcome"] == ""
    assert judged.loc[("fgsm 0.12", "KL divergence − KDE"), "against"] == "KDE"
    test = tests["pgd 0.30"]
    attacked = (test["role"] == "adversarial").to_numpy()
    auc = {
        name: (test[name].to_numpy()[attacked][:, None] > test[name].to_numpy()[~attacked]).mean()
        for name in ("KL divergence", "KDE")
    }
    found = judged.loc[("pgd 0.30", "KL divergence − KDE"), "estimate"]
    assert found == pytest.approx(auc["KL divergence"] - auc["KDE"])
    assert report._outcome(0.1, 0.2, -1) == report._outcome(-0.2, -0.1, 1) == "refuted"
    assert report._outcome(-0.1, 0.2, 1) == "open"
    table = report.claims_table(claimed.assign(protocol="corrected"), settings((0.12, 0.30)))
    assert list(table["attack"]) == ["fgsm 0.12", "pgd 0.30"]
    assert table.loc[1, "KDE − best uncertainty metric"].endswith(": confirmed")


def test_the_best_of_several_is_chosen_on_the_rows_named_for_it(scores):
    tests, before = parts_of(scores, "test"), parts_of(scores, "validation")
    turned = {attack: frame.assign(entropy=-frame["entropy"], confidence=0.0) for attack, frame in before.items()}
    claimed = claims(tests, chosen_on=turned, seed=0).set_index(["attack", "claim"])["against"]
    assert claimed["fgsm 0.12", "KDE − best uncertainty metric"] not in ("entropy", "confidence")


def test_what_the_study_says_of_each_comparison():
    ahead = {"estimate": 0.2, "low": 0.1, "high": 0.3}
    claimed = pd.DataFrame(
        [{"attack": attack, "claim": claim} | ahead for attack in ("pgd 0.30", "pgd 0.12") for claim in CLAIMS]
    )
    outcomes = report.judged_claims(claimed, settings((0.12, 0.30))).set_index(["claim", "attack"])["outcome"].unstack()
    assert {claim: (row["pgd 0.30"], row["pgd 0.12"]) for claim, row in outcomes.iterrows()} == {
        "KDE − best uncertainty metric": ("confirmed", "refuted"),
        "entropy − variance": ("", "confirmed"),
        "confidence − mutual information": ("", "confirmed"),
        "KL divergence − KDE": ("refuted", "confirmed"),
        "closeness, all − KDE": ("confirmed", "confirmed"),
        "all six − best single metric": ("confirmed", "confirmed"),
        "uncertainty, all − max softmax": ("", ""),
    }


def test_windows_pool_attacks_by_their_own_confidence_with_the_metrics_own_signs(measured, choice):
    table = windows(measured, choice=choice, seed=0)
    sure = table[table["high_end"] == 0.999].set_index("metric")
    tests = [corrected_parts(frame)["test"] for frame in measured.values()]
    expected = sum(((part["max softmax"] == 0.005) & (part["role"] == "adversarial")).sum() for part in tests)
    assert set(sure.index) == set(SIGNS)
    assert set(sure["n_positive"]) == {expected}
    assert sure.loc["KDE", "estimate"] > 0.6
    one = {"pgd": measured["pgd 0.30"].assign(**{"max softmax": 0.1})}  # a confidence of 0.9
    table = windows(one, choice=choice, seed=0)
    assert set(table["low_end"]) == {0.6}
    test = choice.of(corrected_parts(one["pgd"])["test"])
    for metric in ("variance", "entropy", "mutual information", "aleatoric", "epistemic", "KL divergence"):
        expected = roc_auc(test[metric].to_numpy(), truth_of(test))
        assert table.set_index("metric").loc[metric, "estimate"] == pytest.approx(expected), metric
    for metric in ("confidence", "KDE"):
        expected = roc_auc(-test[metric].to_numpy(), truth_of(test))
        assert table.set_index("metric").loc[metric, "estimate"] == pytest.approx(expected), metric


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of 400 digits, once as small as it can be."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, task_epochs=25, attacked_images=60, searched_images=40, passes=4, bandwidths=[0.5])


def test_of_two_bandwidths_that_look_alike_the_published_one_stays(study):
    sizes = {"task_epochs": 25, "attacked_images": 60, "searched_images": 40, "passes": 4}
    again = Study(study.bench, **sizes, bandwidths=[1.0003, 0.5])
    assert again.bandwidths == study.bandwidths


def test_every_role_is_measured_on_the_images_that_it_names(study):
    assert list(study.measured) == [setting.name for setting in study.settings]
    for setting in study.settings:
        frame, made = study.measured[setting.name], study.attack_set(setting)
        floats, rounded_off = frame[frame["part"] != EIGHT_BIT], frame[frame["part"] == EIGHT_BIT]
        test = floats.loc[(floats["part"] == "test") & (floats["role"] == "noisy"), "source"].tolist()
        assert {role: rows["source"].tolist() for role, rows in rounded_off.groupby("role")} == {
            "clean": test,
            "noisy": test,
            "adversarial": test,
        }
        assert (rounded_off["off grey levels"] == 0).all()
        by_role = {role: rows.reset_index(drop=True) for role, rows in floats.groupby("role")}
        assert all(rows["source"].tolist() == made.source.tolist() for rows in by_role.values())
        assert by_role["adversarial"]["predicted"].tolist() == made.predicted.tolist()
        assert by_role["clean"]["predicted"].tolist() == made.label.tolist()
        assert by_role["adversarial"]["success"].tolist() == made.success.tolist()
        assert not frame[frame["role"] != "adversarial"]["success"].any()
        assert len(made) == (40 if setting.eps is None else 60)
        assert floats.groupby("source")["part"].nunique().eq(1).all()
        scorer = pixel_baselines()["total variation"]
        np.testing.assert_allclose(by_role["noisy"]["total variation"], scorer.scores(made.noisy))
        if setting.eps is not None:
            published = gaussian_noise(made.clean, setting.eps, rng=np.random.default_rng(0))
            np.testing.assert_allclose(by_role["noisy as published"]["total variation"], scorer.scores(published))
        kept = made.select(np.isin(made.source, test))
        levels = np.rint(kept.adversarial * 255).astype(np.float32) / np.float32(255)
        misread = study.classifier.predict(levels).argmax(axis=1) != kept.label
        assert rounded_off.loc[rounded_off["role"] == "adversarial", "success"].tolist() == misread.tolist()
        same_noise = by_role["noisy"]["entropy"].equals(by_role["noisy as published"]["entropy"])
        assert same_noise == (setting.eps is None)


def test_thresholds_and_choices_come_from_validation_groups(study):
    every = study.claims().query("protocol == 'corrected'").set_index(["attack", "claim"])["against"]
    for attack, frame in study.scores.items():
        part = study.measured["pgd 0.30"].query("role == 'clean' and part == 'validation'")
        assert set(frame.loc[frame["part"] == CALIBRATION, "source"]) == set(part["source"])
        before = successful(frame[frame["part"] == "validation"])
        auc = {name: roc_auc(before[name].to_numpy(), truth_of(before)) for name in DETECTORS}
        for claim, (_, others) in CLAIMS.items():
            assert every[attack, claim] == max(others, key=auc.get)


def test_an_image_is_in_the_same_part_under_every_attack(study):
    parts = {
        name: frame.drop_duplicates("source").set_index("source")["part"] for name, frame in study.measured.items()
    }
    whole = parts["pgd 0.30"]
    assert whole.value_counts().to_dict() == {"train": 36, "validation": 12, "test": 12}
    for name, part in parts.items():
        assert part.to_dict() == whole[part.index].to_dict()
        assert set(part) == {"train", "validation", "test"}, name
    assert {"deepfool", "carlini_l2"} < set(study.judged)


def test_strong_attacks_succeed_more_often_and_no_strength_changes_nothing(study):
    table = study.success_by_strength([0.0, 0.3], images=30).set_index(["attack", "eps"])
    for attack in ("fgsm", "bim", "pgd"):
        assert table.loc[(attack, 0.0), "estimate"] == 0
        assert table.loc[(attack, 0.3), "estimate"] > 0.3
    assert set(table["n"]) == {30}


def test_a_walk_begins_at_the_source_and_ends_at_the_target(study):
    walked = study.walk("bim", [0.0, 0.15, 0.3], images=15)
    start, end = walked[walked["eps"] == 0], walked[walked["eps"] == 0.3]
    assert (start["predicted"] == start["label"]).all()
    assert (end["predicted"] == end["target"]).all()
    np.testing.assert_allclose(start["KDE"], start["KDE of source"])
    np.testing.assert_allclose(end["KL divergence"], end["KL divergence of target"])
    means = walk_means({"bim": walked}, ["entropy", "KDE"], seed=0).set_index(["metric", "eps"])
    assert set(means["n"]) == {15}
    assert means.loc[("KDE", 0.15), "estimate"] == pytest.approx(walked[walked["eps"] == 0.15]["KDE"].mean())
    moved = study.moved("bim", [0.0, 0.3], image=3)
    np.testing.assert_array_equal(moved[0.0], study.bench.data.test_images[study.source[3]])
    assert np.abs(moved[0.3] - moved[0.0]).max() == pytest.approx(0.3, abs=1e-6)
    for attack, image in (("pgd", 3), ("bim", 60), ("bim", -1)):
        with pytest.raises(ValueError, match="moved follows fgsm or bim, of an image from 0 to 59, got"):
            study.moved(attack, [0.0, 0.3], image=image)
    one = walked[(walked["image"] == 3) & (walked["eps"] == 0.3)]["predicted"].item()
    assert study.classifier.predict(moved[0.3][None]).argmax() == one


def test_the_study_s_tables_come_out_of_real_attacks(study):
    published, corrected, claimed = study.published_results(), study.corrected_results(), study.claims()
    judged = list(study.judged)
    table, bold = report.auc_table(published, corrected)
    assert list(table.columns) == ["detector", "protocol", *judged]
    assert len(table) == 2 * len(DETECTORS) + 2
    assert all(table.loc[place, "protocol"] == "corrected" and attack in judged for place, attack in bold)
    rounded_off = study.eight_bit()
    headline = report.headline_table(study.success_rates(), published, corrected, rounded_off, claimed)
    assert list(headline["attack"].unique()) == judged
    assert len(headline) == 5 * len(judged)
    undone = rounded_off[(rounded_off["attack"] != judged[-1]) | (rounded_off["format"] == "float")]
    without = report.headline_table(study.success_rates(), published, corrected, undone, claimed)
    assert set(without.loc[without["attack"] == judged[-1], "in 8 bits"]) == {report.MISSING}
    single = headline[headline["detector"] == "best single metric"].set_index("attack")["corrected"]
    best = claimed[(claimed["protocol"] == "corrected") & (claimed["claim"] == "all six − best single metric")]
    for row in best.itertuples():
        assert single[row.attack].endswith(f"({row.against})")
    assert set(report.figures_table(corrected, detectors=[ALL_SIX])["attack"]) == set(judged)
    text = report.lessons(published, corrected, rounded_off, claimed, study.windows(), study.settings)
    assert text.count("- **") == 3
    for protocol in report.PROTOCOLS:
        curves = study.roc_curves(protocol)
        assert curves[["false positive rate", "true positive rate"]].stack().between(0, 1).all()
    assert set(report.strata_table(study.strata())["attack"]) == set(judged)
    assert list(report.eight_bit_table(rounded_off).columns) == ["detector", "format", *judged]
    assert len(report.claims_table(claimed, study.settings).columns) == len(CLAIMS) + 3
    order = report.claims_table(claimed, study.settings)[["attack", "protocol"]].to_numpy().tolist()
    every = [[name, protocol] for name in study.measured for protocol in report.PROTOCOLS]
    assert order == [pair for pair in every if pair[0] in judged or pair[1] == "as published"]
    assert list(report.defects_table(study.defects())["attack"].unique()) == [
        name for name in study.step_settings if name in judged
    ]
    later = report.later_table(published, PUBLISHED["mnist"])
    assert list(later["detector"]) == list(PUBLISHED["mnist"].later)
    assert set(later["attack"]) == {"bim 0.30"}
    assert (later["as published, remade"] == report.MISSING).tolist() == [False, False, False, True, True]


def test_means_are_those_of_right_and_wrong_decisions(study):
    means = study.right_and_wrong()
    data = study.bench.data
    wrong = study.classifier.predict(data.test_images).argmax(axis=1) != data.test_labels
    counts = means.groupby("outcome")["n"].first()
    assert (counts["wrong"], counts["right"]) == (wrong.sum(), (~wrong).sum())
    assert set(means["metric"]) == set(UNCERTAINTY)
    entropies = means[means["metric"] == "entropy"].set_index("outcome")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "published", PUBLISHED["mnist"])
        known = study.right_and_wrong().set_index(["metric", "outcome"])["published"]
    assert known["entropy"].to_dict() == {"wrong": 0.96277, "right": 0.08891}
    assert entropies.loc["wrong", "mean"].estimate > entropies.loc["right", "mean"].estimate
    assert entropies["published"].isna().all()  # the user's own file
    assert set(report.means_table(means)["published"]) == {report.MISSING}


def test_what_cannot_be_is_refused(study):
    sizes = {"task_epochs": 25, "attacked_images": 60, "searched_images": 40, "passes": 2, "bandwidths": [1.0]}
    for wrong, message in (
        ({"bandwidths": [0.0]}, r"bandwidths must be a list of positive shares of the published one, got \[0.0\]"),
        ({"attacked_images": 2.5}, "attacked_images must be a whole number, 0 or more, got 2.5"),
        ({"attacked_images": 3}, "source holds 3 images, too few for .*: take more images"),
        ({"bandwidths": ""}, "bandwidths must be a list of positive shares of the published one, got ''"),
        ({"bandwidths": 0.5}, "bandwidths must be a list of positive shares of the published one, got 0.5"),
        ({"attacked_images": -1}, "attacked_images must be a whole number, 0 or more, got -1"),
        ({"attacked_images": 10**6}, "attacked_images must be at most .*, the correct ones, got 1000000"),
        ({"searched_images": 0}, "searched_images must be a whole number, 1 or more, got 0"),
        ({"passes": 1}, "passes must be a whole number, 2 or more, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Study(study.bench, **sizes | wrong)
    for size in (0, 2.5, "5"):
        with pytest.raises(ValueError, match="images must be a whole number, 1 or more, got"):
            study.walk("bim", [0.0, 0.3], images=size)
    with pytest.raises(ValueError, match="protocol must be one of as published, corrected, got 'fixed'"):
        study.roc_curves("fixed")
    for strengths in ([0.3, 0.0], [0.1], [0.0, 1.2], [-0.1, 0.2], 0.1, None, "ab", [0.0, None], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="strengths must be two or more ascending ε"):
            study.walk("bim", strengths, images=2)


def test_crossings_are_the_first_steps_on_the_other_side():
    steps = pd.DataFrame({"eps": [0.0, 0.1, 0.2, 0.3], "image": 4, "label": 1, "target": 2, "predicted": [1, 1, 2, 2]})
    steps["KDE of source"], steps["KDE of target"] = [0, -1, -4, -5], [-9, -3, -4, -4]  # even at 0.2: not yet across
    steps["KL divergence of source"], steps["KL divergence of target"] = [0, 1, 2, 3], [5, 0.5, 0.4, 0.3]
    steps["entropy"], steps["KL divergence"] = [0, 0.2, 0.9, 0.1], [0, 1, 0.4, 0.3]
    stays = steps.assign(image=5, target=1)
    detour = steps.assign(image=6, predicted=[1, 3, 2, 2], **{"KDE of target": -9})
    crossed = crossings(pd.concat([steps, stays, detour]).sample(frac=1, random_state=0))
    straight = {"image": 4, "decision": 0.2, "KDE": 0.3, "KL divergence": 0.1, "straight": True}
    peaks = {"entropy peak": 0.2, "KL peak": 0.1}
    away = {"image": 6, "decision": 0.1, "KDE": np.inf, "KL divergence": 0.1, "straight": False}
    assert crossed.to_dict("records") == [straight | peaks, away | peaks]
    table = report.crossing_table({"bim": crossed}, [0.0, 0.1, 0.2, 0.3], seed=0)
    figures = table.set_index("images whose decision changes")["bim"]
    assert figures["decisions that change (n)"] == "2"
    assert figures["ε at which the KDE changes sides"] == "0.300 (0.300 to 0.300)"
    assert figures["ε at which the decision changes sides"] == "0.150 (0.125 to 0.175)"
    half = "0.500 [0.000, 1.000]"
    assert figures["share: another class first"] == figures["share: KDE never crosses"] == half
    assert figures["share: KL divergence crosses on the decision's step"] == half
    assert figures["share: entropy peaks within a step of the decision"] == "1.000 [1.000, 1.000]"


def test_ends_are_compared_image_by_image_where_both_attacks_succeed():
    ends = pd.DataFrame({"eps": [0.1, 0.3] * 3, "image": [0, 0, 1, 1, 2, 2], "label": 1, "predicted": [1, 2] * 3})
    first = ends.assign(KDE=[9, 1, 9, 2, 9, 3])
    second = ends.assign(KDE=[0, 5, 0, 6, 0, 900], predicted=[1, 2, 1, 2, 1, 1])
    table = end_differences({"fgsm": first, "bim": second}, ["KDE"], seed=0)
    assert table.to_dict("records") == [
        {"metric": "KDE", "difference": "bim − fgsm", "estimate": 4.0, "low": 4.0, "high": 4.0, "n": 2}
    ]


def test_nothing_is_published_of_a_user_s_own_data():
    assert (
        published_of("mnist").means["entropy"] == published_of("fashion_mnist").means["entropy"] == (0.96277, 0.08891)
    )
    own = published_of("digits")
    assert (own.network, own.strengths, own.bandwidth) == ("digits_dropout_cnn", (0.12, 0.30), 1.70)
    assert not own.means
    assert not own.later
    table = report.accuracy_table(Estimate(0.9, 0.8, 1.0), own, n=10)
    assert table.loc[0, "published accuracy"] == report.MISSING


def test_settings_are_the_study_s():
    names = [setting.name for setting in settings(PUBLISHED["fashion_mnist"].strengths)]
    assert names == [
        *("fgsm 0.03", "fgsm 0.12", "bim 0.03", "pgd 0.03", "bim 0.12", "pgd 0.12", "deepfool", "carlini_l2"),
    ]
    claimed = {setting.name: setting.claim for setting in settings((0.12, 0.30))}
    assert (claimed["pgd 0.30"], claimed["fgsm 0.30"], claimed["bim 0.12"]) == ("strong", "weak", "weak")
