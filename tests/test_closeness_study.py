"""The closeness-and-uncertainty study's protocols, on rows whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from advlens.studies.closeness import Study, crossings, report, walk_means
from advlens.studies.closeness.measures import SIGNS, kde_column, kl_column
from advlens.studies.closeness.protocols import (
    ALL_SIX,
    BASELINES,
    DETECTORS,
    Choice,
    choose,
    claims,
    corrected_parts,
    corrected_results,
    corrected_scores,
    judgeable,
    published_results,
    published_rows,
    windows,
)
from advlens.studies.closeness.settings import PUBLISHED, settings
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
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module")
def measured():
    return {"pgd 0.30": measured_rows(0, density=4, entropy=-1), "fgsm 0.12": measured_rows(1, density=0, entropy=3)}


@pytest.fixture(scope="module")
def choice(measured):
    return choose(measured, bandwidths=BANDWIDTHS, seed=0)[0]


def test_published_rows_hold_failed_attacks_and_published_noise(measured):
    rows = published_rows(measured["pgd 0.30"])
    assert set(rows["role"]) == {"clean", "noisy as published", "adversarial"}
    assert (rows["role"] == "adversarial").sum() == N


def test_corrected_parts_hold_successes_and_matched_noise_of_disjoint_sources(measured):
    parts = corrected_parts(measured["pgd 0.30"], seed=0)
    sources = [set(part["source"]) for part in parts.values()]
    assert [len(part) for part in sources] == [90, 30, 30]
    assert len(set.union(*sources)) == N
    for part in parts.values():
        assert set(part["role"]) == {"clean", "noisy", "adversarial"}
        assert part[part["role"] == "adversarial"]["success"].all()


def test_bandwidth_and_conversion_are_chosen_on_validation_groups_once_for_all(measured):
    choice, tried = choose(measured, bandwidths=BANDWIDTHS, seed=0)
    assert choice == Choice(1.0, "share")
    expected = []
    for frame in measured.values():
        part = corrected_parts(frame, seed=0)["validation"]
        attacked = (part["role"] == "adversarial").to_numpy()
        values = -part[kde_column(1.0)].to_numpy()
        expected.append((values[attacked][:, None] > values[~attacked]).mean())
    assert tried.loc[tried["setting"] == 1.0, "auc"].item() == pytest.approx(np.mean(expected))


def test_attacks_that_never_succeed_cannot_be_judged(measured):
    never = measured["pgd 0.30"].assign(success=False)
    assert list(judgeable({**measured, "never": never}, seed=0)) == list(measured)


def test_results_find_what_the_rows_hold(measured, choice):
    results = corrected_results(measured, choice=choice, seed=0)
    auc = results[results["figure"] == "roc_auc"].set_index(["attack", "detector"])["estimate"]
    assert auc["pgd 0.30", "KDE"] > 0.95
    assert auc["fgsm 0.12", "entropy"] > 0.9
    assert 0.3 < auc["fgsm 0.12", "KDE"] < 0.7
    assert min(auc["pgd 0.30", ALL_SIX], auc["fgsm 0.12", ALL_SIX]) > 0.9
    row = results[(results["figure"] == "roc_auc") & (results["detector"] == "KDE")].iloc[0]
    test = corrected_parts(measured[row["attack"]], seed=0)["test"]
    assert (row["n_positive"], row["n_negative"], row["n_sources"]) == ((test["role"] == "adversarial").sum(), 60, 30)
    above = results[results["figure"] == report.ABOVE_BASELINE].set_index(["attack", "detector"])["low"]
    assert above["pgd 0.30", "KDE"] > 0 > above["fgsm 0.12", "KDE"]


def test_regressions_are_fitted_on_training_groups_alone(measured, choice):
    frame = measured["pgd 0.30"]
    turned = frame.copy()
    column = kde_column(1.0)
    elsewhere = ~frame["source"].isin(corrected_parts(frame, seed=0)["train"]["source"])
    turned.loc[elsewhere, column] = -turned.loc[elsewhere, column]
    test = corrected_scores(turned, choice=choice, seed=0)["test"]
    attacked = test["role"] == "adversarial"
    assert test["KDE"][attacked].mean() < test["KDE"][~attacked].mean()


def test_as_published_failed_attacks_are_positives_and_the_bandwidth_is_the_published_one(measured):
    results = published_results(measured, bandwidth=0.5, seed=0)
    auc = results[results["figure"] == "roc_auc"].set_index(["attack", "detector"])
    assert auc.loc[("pgd 0.30", "KDE"), ["n_positive", "n_negative"]].tolist() == [N, 2 * N]
    assert auc.loc[("pgd 0.30", "KDE"), "estimate"] < 0.65


def test_claims_are_paired_differences_judged_by_what_the_study_says(measured, choice):
    table = report.claims_table(claims(measured, choice=choice, seed=0), settings((0.12, 0.30)))
    outcome = table.set_index(["attack", "comparison (ROC-AUC)"])["outcome"]
    assert outcome["pgd 0.30", "KDE − best uncertainty metric"] == "confirmed"
    assert outcome["fgsm 0.12", "KDE − best uncertainty metric"] == "confirmed"
    assert report._outcome(0.1, 0.2, -1) == report._outcome(-0.2, -0.1, 1) == "refuted"
    assert report._outcome(-0.1, 0.2, 1) == "open"


def test_windows_pool_attacks_by_their_own_confidence_with_the_metrics_own_signs(measured, choice):
    table = windows(measured, choice=choice, seed=0)
    sure = table[table["high_end"] == 0.999].set_index("metric")
    tests = [corrected_parts(frame, seed=0)["test"] for frame in measured.values()]
    expected = sum(((part["max softmax"] == 0.005) & (part["role"] == "adversarial")).sum() for part in tests)
    assert set(sure.index) == set(SIGNS)
    assert set(sure["n_positive"]) == {expected}
    assert sure.loc["KDE", "estimate"] > 0.6


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of 400 digits, once as small as it can be."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Study(bench, task_epochs=25, attacked_images=60, passes=4, bandwidths=[0.5, 1.0])


def test_every_role_is_measured_on_the_images_that_it_names(study):
    assert list(study.measured) == [setting.name for setting in study.settings]
    for setting in study.settings:
        frame, made = study.measured[setting.name], study.attack_set(setting)
        by_role = {role: rows.reset_index(drop=True) for role, rows in frame.groupby("role")}
        assert all(rows["source"].tolist() == made.source.tolist() for rows in by_role.values())
        assert by_role["adversarial"]["predicted"].tolist() == made.predicted.tolist()
        assert by_role["clean"]["predicted"].tolist() == made.label.tolist()
        assert by_role["adversarial"]["success"].tolist() == made.success.tolist()
        assert not frame[frame["role"] != "adversarial"]["success"].any()
        same_noise = by_role["noisy"]["entropy"].equals(by_role["noisy as published"]["entropy"])
        assert same_noise == (setting.eps is None)


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
    means = walk_means(walked, attack="bim", seed=0)
    assert set(means["n"]) == {15}


def test_the_study_s_tables_come_out_of_real_attacks(study):
    published, corrected = study.published_results(), study.corrected_results()
    table, _ = report.auc_table(published, corrected)
    assert set(table["attack"]) == set(study.judged)
    assert len(table) == len(study.judged) * len(DETECTORS)
    claimed = report.claims_table(study.claims(), study.settings)
    text = report.lessons(published, corrected, claimed, study.windows())
    assert text.count("\n- **") == 2
    curves = study.roc_curves()
    assert curves[["false positive rate", "true positive rate"]].stack().between(0, 1).all()
    means = report.means_table(study.right_and_wrong())
    assert means["n"].max() <= 400


def test_bandwidths_without_the_published_one_are_refused(study):
    with pytest.raises(ValueError, match=r"bandwidths must hold 1.0, the published one, got \[0.5\]"):
        Study(study.bench, task_epochs=1, attacked_images=1, passes=2, bandwidths=[0.5])


def test_crossings_are_the_first_steps_on_the_other_side():
    steps = pd.DataFrame({"eps": [0.0, 0.1, 0.2, 0.3], "image": 4, "label": 1, "target": 2, "predicted": [1, 1, 2, 2]})
    steps["KDE of source"], steps["KDE of target"] = [0, -1, -2, -5], [-9, -3, -4, -4]
    steps["KL divergence of source"], steps["KL divergence of target"] = [0, 1, 2, 3], [5, 0.5, 0.4, 0.3]
    stays = steps.assign(image=5, target=1)
    crossed = crossings(pd.concat([steps, stays]).sample(frac=1, random_state=0))
    assert crossed.to_dict("records") == [{"image": 4, "decision": 0.2, "KDE": 0.3, "KL divergence": 0.1}]


def test_settings_are_the_study_s():
    names = [setting.name for setting in settings(PUBLISHED["fashion_mnist"].strengths)]
    assert names == [
        *("fgsm 0.03", "fgsm 0.12", "bim 0.03", "pgd 0.03", "bim 0.12", "pgd 0.12", "deepfool", "carlini_l2"),
    ]
    claimed = {setting.name: setting.claim for setting in settings((0.12, 0.30))}
    assert (claimed["pgd 0.30"], claimed["fgsm 0.30"], claimed["bim 0.12"]) == ("strong", "weak", "weak")
