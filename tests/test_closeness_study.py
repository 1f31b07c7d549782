"""The closeness-and-uncertainty study: its protocol, its experiments, and its detectors on small real attacks."""

import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import KernelDensity

from advlens.benchmark import LONG_TABLE, Part
from advlens.metrics import Verdict, roc_auc
from advlens.studies import closeness
from advlens.studies.closeness import (
    AS_PUBLISHED,
    AWARE,
    CLAIMS,
    DEFECTS,
    PUBLISHED,
    AttackAware,
    Choice,
    Study,
    compare_kernels,
    kde_column,
    kl_column,
    published_of,
    settings,
    text_bandwidth,
)
from advlens.workbench import Workbench


@pytest.fixture(scope="module")
def study(tmp_path_factory, mnist):
    """The whole study on a user's own file of 400 digits, once as small as it can be."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        sizes = {"task_epochs": 25, "attacked_images": 100, "searched_images": 60, "passes": 4}
        yield Study(bench, **sizes, bandwidths=[0.5], training_seeds=2)


@pytest.fixture(scope="module")
def detection(study):
    return study.detection(wanted=("roc_auc", "committed_tpr_0.05"))


# ---------------------------------------------------------------- what is published


def test_settings_are_the_study_s():
    made = {setting.name: setting.claim for setting in settings((0.12, 0.30))}
    weak, strong = ["fgsm 0.12", "fgsm 0.30", "bim 0.12", "pgd 0.12"], ["bim 0.30", "pgd 0.30"]
    assert made == {**dict.fromkeys(weak, "weak"), **dict.fromkeys(strong, "strong")}


def test_nothing_is_published_of_a_user_s_own_data():
    own = published_of("digits")
    assert np.isnan(own.accuracy)
    assert not own.means
    assert (own.network, own.bandwidth) == (PUBLISHED["mnist"].network, 1.70)


def test_what_the_study_says_of_each_comparison():
    said = {(a, against[0]): says for a, against, says in CLAIMS}
    assert said["KDE", "variance"] == {"strong": Verdict.HIGHER, "weak": Verdict.LOWER}
    assert said["KL divergence", "KDE"] == {"strong": Verdict.LOWER, "weak": Verdict.HIGHER}
    assert said["entropy", "variance"] == {"weak": Verdict.HIGHER}


def test_each_defect_differs_from_the_corrected_protocol_in_one_field():
    corrected = vars(DEFECTS[0])
    for protocol in DEFECTS[1:]:
        changed = [field for field, value in vars(protocol).items() if value != corrected[field]]
        assert len(changed) == 2, changed  # the name and one more
    assert {field for field, value in vars(AS_PUBLISHED).items() if value != corrected[field]} == {
        *("name", "split", "positives", "noise", "condition")
    }


def test_the_text_s_kernel_is_scikit_learn_s_at_a_smaller_bandwidth():
    rows, query = np.random.default_rng(0).normal(size=(50, 3)), np.zeros((1, 3))
    squares = np.square(rows - query).sum(axis=1)
    by_text = np.log(np.exp(-squares / 1.7**2).sum())
    found = KernelDensity(bandwidth=text_bandwidth(1.7), algorithm="ball_tree").fit(rows).score_samples(query).item()
    own = found + np.log(50) + 3 * np.log(text_bandwidth(1.7) * np.sqrt(2 * np.pi))
    assert own == pytest.approx(by_text)


# ---------------------------------------------------------------- the distance that knows the attack


def test_the_attack_aware_distance_is_that_to_the_means_of_the_class_decided_on():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"]).assign(predicted=np.arange(200) % 2.0)
    attacked = np.arange(200) >= 100
    rows.loc[attacked & (rows["predicted"] == 0), "a"] += 5
    rows.loc[attacked & (rows["predicted"] == 1), "a"] -= 5  # the other way: no one direction separates all
    head = AttackAware(["a", "b"]).fit(rows, attacked)
    one = rows.iloc[[7]]
    own = rows[rows["predicted"] == 1][["a", "b"]]
    normal, moved = (own[attacked[rows["predicted"] == 1] == kind].mean() for kind in (False, True))
    expected = np.linalg.norm(one[["a", "b"]] - normal) - np.linalg.norm(one[["a", "b"]] - moved)
    assert head.distance(one).item() == pytest.approx(expected)
    assert roc_auc(head.score(rows), attacked) > 0.99
    unseen = one.assign(predicted=9.0)
    assert np.isfinite(head.score(unseen)).all()


# ---------------------------------------------------------------- detection


def test_of_two_bandwidths_that_look_alike_the_published_one_stays(study):
    sizes = {"task_epochs": 25, "attacked_images": 100, "searched_images": 60, "passes": 4}
    again = Study(study.bench, **sizes, bandwidths=[1.0003, 0.5])
    assert again.bandwidths == study.bandwidths


def test_settings_are_chosen_where_validation_auc_is_highest(study):
    best = study.tried.loc[study.tried.groupby("metric")["auc"].idxmax()].set_index("metric")["setting"]
    assert study.choice == Choice(best["KDE"], best["KL divergence"])
    detector = study.detectors["all six"]
    assert set(detector.columns[-2:]) == {kde_column(best["KDE"]), kl_column(best["KL divergence"])}
    assert study.published_detectors["KDE"].columns == [kde_column(1.70)]


def test_both_protocols_are_in_one_long_table(study, detection):
    LONG_TABLE.validate(detection)
    published = detection[detection["protocol"] == "as published"]
    assert set(published["n_positive"]) == {100}
    assert set(published["n_negative"]) == {200}
    assert set(published["stratum"]) == {"all"}
    corrected = detection[(detection["protocol"] == "corrected") & (detection["negatives"] == "matched")]
    assert (corrected["n_negative"] == 2 * corrected["n_positive"]).all()
    assert set(corrected["condition"]) == {"8-bit", "float"}


def test_as_published_aucs_are_those_of_a_regression_on_its_own_rows(study, detection):
    scored = study.benchmark.scores(study.published_detectors["entropy"], "bim 0.30", protocol=AS_PUBLISHED)
    entropy = study.benchmark.measured(study.lens, "bim 0.30", AS_PUBLISHED.condition, AS_PUBLISHED.noise)["entropy"]
    attacked = (scored.about["role"] == "adversarial").to_numpy()
    expected = roc_auc(entropy.to_numpy(), attacked)
    rows = detection[(detection["protocol"] == "as published") & (detection["attack"] == "bim 0.30")]
    own = rows[rows["detector"] == "entropy"]["estimate"].item()
    assert own == pytest.approx(max(expected, 1 - expected))


def test_the_distance_that_knows_the_attack_detects_what_it_learnt(detection):
    rows = detection[(detection["protocol"] == "as published") & (detection["detector"] == AWARE)]
    assert rows.set_index("attack")["estimate"]["bim 0.30"] > 0.9


def test_deepfool_stops_at_the_margins_asked_for(study):
    table = study.margins()
    assert table["strength"].drop_duplicates().tolist() == list(closeness.MARGINS)
    for setting in study.margin_settings:
        made = study.attack_set(setting)
        assert made.margin[made.success].min() >= setting.margin - 1e-4


def test_claims_are_judged_by_what_the_study_says(study):
    table = study.claims()
    assert len(table) == 6 * len(CLAIMS)
    told = table[table["said"] != ""]
    agree = told["verdict"] == told["said"]
    assert (told["claim"][agree] == "supported").all()
    assert set(told["claim"][told["verdict"] == "undecided"]) <= {"undecided"}
    assert (table.loc[table["said"] == "", "claim"] == "").all()


def test_the_tree_s_error_is_that_of_scikit_learn(study):
    kernels = study.kernels(images=40).set_index("kernel")
    assert kernels.loc["exact", "largest_error"] == 0
    assert (kernels["n"] == 40).all()


def test_the_tree_is_off_at_small_bandwidths_and_the_table_says_by_how_much(study):
    made = study.attack_set(study.settings[-1]).select(slice(40))
    own = np.tile(study.closeness.features, (20, 1))  # so many rows that the tree has to cut
    own = own + np.random.default_rng(0).normal(0, 0.3, own.shape).astype(np.float32)
    reference = {"features": own, "labels": np.tile(study.closeness.labels, 20)}
    table = compare_kernels(study.classifier, made, **reference, bandwidth=0.05, seed=0).set_index("kernel")
    images = np.concatenate([made.clean, made.noisy, made.adversarial])
    own, classes = study.classifier.features(images), study.classifier.predict(images).argmax(axis=1)
    direct, trees = (np.empty(len(images)) for _ in range(2))
    for row, (feature, label) in enumerate(zip(own.astype(float), classes, strict=True)):
        rows = reference["features"][reference["labels"] == label].astype(float)
        squares = ((rows - feature) ** 2).sum(axis=1)
        constant = np.log(len(rows)) + rows.shape[1] * np.log(0.05 * np.sqrt(2 * np.pi))
        direct[row] = np.logaddexp.reduce(-squares / (2 * 0.05**2)) - constant
        trees[row] = KernelDensity(bandwidth=0.05, algorithm="kd_tree").fit(rows).score_samples(feature[None])[0]
    assert table.loc["kd_tree", "largest_error"] == pytest.approx(np.abs(trees - direct).max(), rel=1e-2)
    assert table.loc["kd_tree", "largest_error"] > 1
    attacked = np.arange(len(images)) >= 80
    for kernel, density in (("exact", direct), ("kd_tree", trees)):
        auc = roc_auc(-density, attacked)
        assert table.loc[kernel, "roc_auc"] == pytest.approx(max(auc, 1 - auc), abs=0.01)


def test_no_attack_shares_a_source_between_parts(study):
    train, test = set(), set()
    for attack in study.attacks:
        scored = study.benchmark.scores(study.detectors["KDE"], attack)
        source = scored.about["source"].to_numpy()
        train |= set(source[scored.parts[0][Part.TRAIN]])
        test |= set(source[scored.parts[0][Part.TEST]])
    assert not train & test


# ---------------------------------------------------------------- metrics and walks


def test_means_are_those_of_right_and_wrong_decisions(study):
    means = study.right_and_wrong().set_index(["metric", "outcome"])
    measured = study.lens.measure(study.bench.data.test_images)
    right = measured["predicted"].to_numpy() == study.bench.data.test_labels
    for outcome, mask in (("right", right), ("wrong", ~right)):
        assert means.loc[("entropy", outcome), "n"] == mask.sum()
        own = measured["entropy"][mask].mean()
        assert means.loc[("entropy", outcome), "estimate"] == pytest.approx(own, rel=1e-5)


def test_strong_attacks_succeed_more_often_and_no_strength_changes_nothing(study):
    success = study.success_by_strength([0.0, 0.1, 0.4], images=30)
    for _, rows in success.groupby("attack"):
        assert rows["estimate"].iloc[0] == 0
        assert rows["estimate"].is_monotonic_increasing
    assert success["estimate"].max() > 0.5


def test_a_walk_begins_at_the_source_and_ends_at_the_target(study):
    walked = study.walk("bim", [0.0, 0.2, 0.4], images=20)
    start, end = (walked[walked["eps"] == eps] for eps in (0.0, 0.4))
    assert (start["predicted"] == start["label"]).all()
    assert (end["predicted"] == end["target"]).all()
    for metric in ("KDE", "KL divergence"):
        np.testing.assert_allclose(start[metric], start[f"{metric} of source"])
        np.testing.assert_allclose(end[metric], end[f"{metric} of target"])


def walked(image: int, **columns: list) -> pd.DataFrame:
    steps = {"image": image, "eps": [0.0, 0.1, 0.2], "label": 3, "target": 5}
    return pd.DataFrame(steps | columns)


def test_crossings_are_the_first_steps_on_the_other_side():
    closeness_to = {
        "KDE of source": [2.0, 1.0, 0.0],
        "KDE of target": [0.0, 0.5, 1.0],
        "KL divergence of source": [0.0, 1.0, 2.0],
        "KL divergence of target": [2.0, 1.5, 1.9],
    }
    metrics = {"entropy": [0.1, 0.9, 0.2], "KL divergence": [0.1, 0.2, 0.9]}
    straight = walked(0, predicted=[3, 5, 5], **closeness_to, **metrics)
    astray = walked(1, predicted=[3, 8, 5], **closeness_to, **metrics)
    stays = walked(2, predicted=[3, 3, 3], **closeness_to, **metrics).assign(target=3)
    found = closeness.crossings(pd.concat([straight, astray, stays])).set_index("image")
    assert found.index.tolist() == [0, 1]
    assert found.loc[0, ["decision", "KDE", "KL divergence", "straight"]].tolist() == [0.1, 0.2, 0.2, True]
    assert not found.loc[1, "straight"]
    assert found.loc[0, ["entropy peak", "KL peak"]].tolist() == [0.1, 0.2]


def test_ends_are_compared_image_by_image_where_both_attacks_succeed():
    first = pd.concat([walked(image, predicted=[3, 3, 5], KDE=[0.0, 0.0, float(image)]) for image in range(4)])
    second = pd.concat([walked(image, predicted=[3, 3, 5], KDE=[0.0, 0.0, image + 2.0]) for image in range(3)])
    second = pd.concat([second, walked(3, predicted=[3, 3, 3], KDE=[0.0, 0.0, 9.0])])
    ends = closeness.end_differences({"fgsm": first, "bim": second}, ["KDE"], seed=0).iloc[0]
    assert (ends["difference"], ends["estimate"], ends["n"]) == ("bim − fgsm", 2.0, 3)


def test_what_cannot_be_is_refused(study):
    sizes = {"task_epochs": 25, "attacked_images": 100, "searched_images": 60, "passes": 4, "bandwidths": [0.5]}
    for wrong in ({"bandwidths": [0.0]}, {"bandwidths": "0.5"}, {"attacked_images": 5000}, {"passes": 1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Study(study.bench, **{**sizes, **wrong})
    for strengths in ([0.1], [0.2, 0.1], [0.0, 2.0], 0.3):
        with pytest.raises(ValueError, match="strengths must be"):
            study.walk("bim", strengths, images=5)
