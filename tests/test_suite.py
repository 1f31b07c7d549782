"""The benchmark suite, as small as it can be: attacks, detectors, fusions, false alarms, and what resumes."""

import copy
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import combine_pvalues

from advlens import cli, suite
from advlens.attacks import CATALOGUE
from advlens.benchmark import LONG_TABLE, Benchmark, hard_negatives, query, worst_first
from advlens.benchmark.evaluation import as_detector
from advlens.detectors import Fisher, names
from advlens.entries import catches, read_entries
from advlens.image_files import through
from advlens.suite import Sizes, Suite, settings
from advlens.workbench import Workbench

ATTACKS = ("fgsm", "deepfool")
FEW = ("energy", "max_logit", "feature_squeezing", "natural_scenes", "all_six")


def chosen(dataset, strengths):
    return {title: about for title, about in settings(dataset, strengths).items() if about[0] in ATTACKS}


@pytest.fixture(scope="module")
def made(tmp_path_factory, mnist):
    """The suite of two attacks and five detectors on a user's own file of 400 digits."""
    folder = tmp_path_factory.mktemp("suite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        patch.setattr(suite, "settings", chosen)
        patch.setattr(suite, "DETECTORS", FEW)
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        yield Suite(bench, Sizes(images=100, strengths=2, epochs=15, training_seeds=2, alarms=30))


def test_every_name_is_one_of_the_catalogues_and_every_strength_another():
    for strengths in (1, 3):
        for title, (name, parameters) in settings("mnist", strengths).items():
            assert name in CATALOGUE
            assert title.startswith(name)
            assert set(parameters) <= set(CATALOGUE[name].attack.attack_params)
    grid = [parameters["eps"] for name, parameters in settings("mnist", 3).values() if name in suite.BY_EPSILON]
    np.testing.assert_allclose(255 * np.array(grid), np.rint(255 * np.array(grid)))
    assert len(settings("mnist", 3)) > 40
    assert set(suite.DETECTORS) <= set(names())
    with pytest.raises(ValueError, match="strengths must be at most 3"):
        Sizes(strengths=4)


def test_the_table_holds_every_detector_on_every_attack_by_what_it_learnt_from(made):
    table = LONG_TABLE.validate(made.table)
    assert set(table["attack"]) == {"fgsm 77/255", "fgsm 31/255", "deepfool", "deepfool, margin 5"}
    assert {each.name for each in made.detectors} <= set(table["detector"])
    assert {"all lenses, p-values", "one lens a family, boosting"} <= set(table["detector"])
    learnt = query(table, detector="all lenses, logistic", metric="tpr_at_fpr_0.05", attack="deepfool")
    assert set(learnt["trained_on"]) == {"the attack", "all but the attack", "all but its family"}
    alone = query(table, detector="energy", metric="tpr_at_fpr_0.05", attack="deepfool")
    assert alone["trained_on"].tolist() == ["no attack"]


def test_heads_that_learn_from_the_same_attacks_are_one(made):
    fused = made.fusions["all lenses, logistic"]
    about = {"trained_on": suite.TrainedOn.OTHER_ATTACKS}
    weak, strong = (made.benchmark.scores(fused, name, **about) for name in ("fgsm 31/255", "fgsm 77/255"))
    np.testing.assert_array_equal(weak.threshold_scores, strong.threshold_scores)


def test_with_a_share_of_the_training_images_a_benchmark_takes_as_large_a_share_of_the_clean_ones(made):
    dataset, sets = str(made.bench.folder.parents[2] / "digits.npz"), {"fgsm": made.attack_sets["fgsm 77/255"]}
    half = Workbench(run="try", dataset=dataset, seed=0, train_images=len(made.bench.data.train_labels) // 2)
    every, fewer = (set(bench.benchmark(made.classifier, sets).clean_source) for bench in (made.bench, half))
    attacked = set(sets["fgsm"].source)
    assert every == set(range(len(made.bench.data.test_labels)))
    assert attacked < fewer < every
    assert len(fewer - attacked) == round(len(every - attacked) / 2)


def test_alarms_are_shares_of_normal_images(made):
    alarms = made.alarms.set_index(["kind", "detector"])
    assert alarms["estimate"].between(0, 1).all()
    assert {"noisy", "blurred", "turned", "from a JPEG", "half the contrast"} <= set(made.alarms["kind"])
    # Noise moves pixels off black, which counting them must see.
    assert alarms.loc[("noisy", "non-zero background"), "estimate"] > 0.5


def test_images_of_the_other_data_set_are_hard_ones_where_they_are_on_the_disk(made, monkeypatch):
    clothes = np.arange(50, dtype=np.float32).repeat(28 * 28).reshape(50, 28, 28, 1) / 255
    there = {"fashion_mnist": clothes}
    monkeypatch.setattr(suite, "stored_test_images", there.get)
    monkeypatch.setitem(suite.OTHER_DATA, "digits", "fashion_mnist")
    drawn = Suite.hard_images.func(made)["of the other data set"]
    assert len(np.unique(drawn)) == made.sizes.alarms
    assert set(drawn.ravel()) <= set(clothes.ravel())
    there.clear()
    assert "of the other data set" not in Suite.hard_images.func(made)


def test_heads_from_another_suite_judge_here_and_other_columns_are_left_out(made):
    twin = copy.copy(made)  # its heads are this one's own, and so must be their verdicts
    twin.singles = {**made.singles, "natural_scenes": SimpleNamespace(lens=SimpleNamespace(columns=("another",)))}
    with pytest.warns(UserWarning, match="^natural scenes: left out"):
        table = made.transferred(twin)
    own, theirs = (query(table, trained_on=learnt) for learnt in ("all attacks", "another data set"))
    assert {"all six", "all shared lenses, boosting", "baselines, logistic"} <= set(own["detector"])
    assert not {"natural scenes", "all lenses, boosting"} & set(table["detector"])
    assert own["estimate"].notna().any()
    pd.testing.assert_frame_equal(own.drop(columns="trained_on"), theirs.drop(columns="trained_on"))
    with pytest.warns(UserWarning, match="left out"):
        shown = pd.read_csv(made.write_transferred(twin).with_suffix(".csv"))
    assert list(shown.iloc[:, 2]) == list(shown.iloc[:, 3])
    assert shown["detector"].is_unique
    assert shown.iloc[:, 3].str[:5].astype(float).is_monotonic_decreasing
    twin.sizes = dataclasses.replace(made.sizes, training_seeds=3)
    with pytest.raises(ValueError, match="got 2 and 3 training seeds"):
        made.transferred(twin)


def test_a_second_suite_measures_nothing_again(made, monkeypatch):
    monkeypatch.setattr("advlens.entries.MIN_POSITIVES", 5)
    made.write()
    added = made.attack_sets["fgsm 77/255"]
    made.add(made.rescore("mine", added.adversarial, added.source))
    made.write()  # which leaves that attack where it is
    written = {entry["detector"]: entry for entry in read_entries(made.bench.folder / "benchmark" / "entries")}
    assert (
        {"energy", "all lenses, logistic", "max softmax"}
        <= set(written)
        == set(written["energy"]["catches"]) | {"energy"}
    )
    assert {"mine", "fgsm 77/255"} < {row["attack"] for row in written["energy"]["results"]}
    assert all(entry["seconds_per_1000"] > 0 for entry in written.values())
    cells = pd.read_parquet(made.bench.folder / "benchmark" / "crossed.parquet").set_index(["learnt_from", "attack"])
    assert len(cells) == len(made.attack_sets) ** 2
    learnt = query(
        made.table, detector="one lens a family, logistic", trained_on="the attack", metric="tpr_at_fpr_0.05"
    )
    for attack, estimate in zip(learnt["attack"], learnt["estimate"], strict=True):
        assert cells.loc[(attack, attack), "estimate"] == estimate
    margins = {row["attack"]: row["margin"] for row in written["energy"]["results"]}
    assert (margins["deepfool, margin 5"], margins["fgsm 77/255"]) == (5, None)
    monkeypatch.setattr(
        suite, "settings", lambda *_: {n: s for n, s in settings("digits", 2).items() if s[0] in ATTACKS}
    )
    monkeypatch.setattr(suite, "DETECTORS", FEW)
    before = set((made.bench.folder / "artifacts").iterdir())
    again = Suite(made.bench, made.sizes)
    pd.testing.assert_frame_equal(again.table, pd.read_parquet(made.bench.folder / "benchmark" / "table.parquet"))
    assert set((made.bench.folder / "artifacts").iterdir()) == before
    assert {row["unchanged"] for row in written["energy"]["results"] if row["attack"] != "mine"} == {0.0}
    monkeypatch.setattr(suite, "DETECTORS", (*FEW, "augmentation"))
    assert "augmentation" in set(Suite(made.bench, made.sizes).table["detector"])
    added = {path.name for path in set((made.bench.folder / "artifacts").iterdir()) - before}
    measured = {name for name in added if name.startswith(("measured", "seconds", "attack"))}
    assert measured
    assert all("augmentation" in name for name in measured)
    judged = {name.rsplit("-", 1)[0] for name in added if name.startswith("benchmark.")}
    joined = {f"benchmark.fused.all_lenses_{head}" for head in suite.JOINED_BY}
    assert judged == {"benchmark.image.augmentation", *joined}


def test_an_attack_that_never_succeeds_leaves_no_row_of_what_is_caught():
    some = {"is_adversarial": np.arange(40) < 20, "scores": np.arange(40)[None] % 20.0, "source": np.arange(40)}
    none = {"is_adversarial": np.zeros(0, bool), "scores": np.zeros((1, 0)), "source": np.zeros(0, int)}
    judged = {"fgsm": some, "one_pixel": none}

    def scores(_, attack, **__):
        return SimpleNamespace(judged=lambda **__: judged[attack])

    own = SimpleNamespace(attack_sets=judged, scores=scores, _entrants=lambda detectors, _: detectors)
    about = {"trained_on": "all but its family"}
    caught = Benchmark.caught(own, [SimpleNamespace(name="energy")], **about)  # pyright: ignore[reportArgumentType]
    assert set(caught["attack"]) == {"fgsm"}
    assert caught["energy"].tolist() == [0.0] * 19 + [1.0]  # the highest of 20 normal scores but one is the threshold
    caught = caught.set_index(["attack", "source"])
    assert catches(caught.assign(other=0.0))["energy"]["other"] == {"share": 0.05, "missed": 20}


def test_p_values_are_joined_as_scipy_joins_them():
    rng = np.random.default_rng(0)
    normal, attacked = rng.normal(0, 1, (200, 3)), rng.normal([1, -1, 2], 1, (100, 3))
    rows, truth = pd.DataFrame(np.concatenate([normal, attacked])), np.arange(300) >= 200
    head = Fisher().fit(rows, truth)
    assert head.signs_.tolist() == [1, -1, 1]
    one = pd.DataFrame([[0.5, -0.2, 1.0]])
    values = one.to_numpy()[0] * head.signs_
    p = [(1 + (normal[:, i] * head.signs_[i] >= values[i]).sum()) / 201 for i in range(3)]
    assert head.score(one)[0] == pytest.approx(combine_pvalues(p, method="fisher").statistic)


def test_hard_negatives_are_8_bit_images_that_differ(real_images):
    for kind, made in hard_negatives(real_images[:5], seed=0).items():
        assert made.shape == (5, 28, 28, 1), kind
        np.testing.assert_allclose(made * 255, np.rint(made * 255), atol=1e-3)
        assert np.abs(made - real_images[:5]).max() > 0.05, kind


def test_images_that_others_attacked_are_judged_by_what_did_not_learn_from_them(made):
    known = made.attack_sets["fgsm 77/255"]
    table = made.rescore("theirs", known.adversarial, known.source)
    assert set(table["attack"]) == {"theirs"}
    assert set(table["trained_on"]) == {"no attack", "all but the attack", "all but its family"}
    here, there = (
        query(each, detector="energy", metric="roc_auc")["estimate"].iloc[0]
        for each in (table, query(made.table, attack="fgsm 77/255"))
    )
    assert here == pytest.approx(there, abs=0.05)  # the same images; only the noisy twins are drawn anew
    with pytest.raises(ValueError, match="is called 'deepfool' already"):
        made.rescore("deepfool", known.adversarial, known.source)
    with pytest.raises(ValueError, match="different places"):
        made.rescore("twice", known.adversarial[:2], known.source[[0, 0]])
    wrong = np.setdiff1d(np.arange(400), made.bench.correct_sources(made.classifier))[:3]
    assert len(wrong) > 0
    with pytest.raises(ValueError, match="originals are misclassified"):
        made.rescore("wrong", known.adversarial[: len(wrong)], wrong)


def test_the_command_ranks_each_detector_once_on_images_that_others_attacked(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_suite", lambda *_, **__: made)
    known = made.attack_sets["fgsm 77/255"]
    np.savez(tmp_path / "ours.npz", x=known.adversarial, source=known.source)
    assert cli.main(["rescore", str(tmp_path / "ours.npz")]) == 0
    cells = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    names = [row[1] for row in cells[2:]]
    assert len(names) == len(set(names)) == len(made.entrants)
    assert {row[3] for row in cells[2:]} == {"no attack", "all but its family"}
    assert {row[cells[0].index("attacks")] for row in cells[2:]} == {"1"}
    assert {row[cells[0].index("ahead")] for row in cells[2:]} <= {"0", "1"}


def test_a_file_of_another_kind_is_refused_before_work(tmp_path, capsys):
    np.save(tmp_path / "theirs.npy", np.zeros(3))
    np.savez(tmp_path / "whole.npz", x=np.zeros(3), source=np.zeros(3))
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    for name, said in (
        ("theirs.npy", "is no .npz file, or a truncated one"),
        ("half.npz", "is no .npz file, or a truncated one"),
        ("other.npz", "other.npz lacks source, x: it holds images"),
        ("none.npz", "none.npz' is no file"),
    ):
        assert cli.main(["rescore", str(tmp_path / name)]) == 1
        assert said in capsys.readouterr().err


def test_a_detector_of_one_s_own_is_judged_as_the_catalogue_s_are(made):
    energy, name = made.singles["energy"], "my energy"
    mine, alarms = made.evaluate(as_detector(energy.scores, name=name))
    own, theirs = (query(table, detector=each) for table, each in ((mine, name), (made.table, "energy")))
    same = ["attack", "metric", "estimate", "low", "high", "n_positive", "baseline"]
    pd.testing.assert_frame_equal(own[same], theirs[same])
    of_kind = alarms.set_index(["kind", "detector"])["estimate"].xs(name, level="detector")
    expected = made.alarms.set_index(["kind", "detector"])["estimate"].xs("energy", level="detector")
    pd.testing.assert_series_equal(of_kind, expected)
    shown = worst_first(mine, name)
    assert shown["tpr"].is_monotonic_increasing
    for row in shown.to_dict("records"):
        where = {"detector": row["best_baseline"], "attack": row["attack"], "negatives": "matched"}
        bar = query(mine, metric="tpr_at_fpr_0.05", **where)
        assert row["its_tpr"] == pytest.approx(bar.set_index("trained_on")["estimate"].iloc[0])


def test_a_score_that_is_nan_counts_as_flagged_and_is_said(made):
    seen = {
        image.tobytes() for attacked in made.attack_sets.values() for image in through("8-bit", attacked.adversarial)
    }
    doubtful = as_detector(lambda x: np.where([i.tobytes() in seen for i in x], np.nan, 0.0), name="doubtful")
    ties = "doubtful: 100 % of the normal images beside .* score exactly the threshold for 5 %; so do 0 % of the images"
    with (
        pytest.warns(UserWarning, match=r"doubtful: \d+ of \d+ scores are NaN or infinite, .* count as flagged"),
        pytest.warns(UserWarning, match=ties),
    ):
        table, _ = made.evaluate(doubtful)
    found = query(table, detector="doubtful", attack="fgsm 77/255", negatives="matched").set_index("metric")
    assert found.loc["committed_tpr_0.05", "estimate"] == 1
    assert found.loc["roc_auc", "estimate"] == 1


def test_the_command_prints_the_table_and_writes_an_entry(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suite, "settings", lambda *_: made.settings)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bright_mine.py").write_text("def dark(images):\n    return 1 - images.mean(axis=(1, 2, 3))\n")
    dataset = str(made.bench.folder.parents[2] / "digits.npz")
    command = ["evaluate", "bright_mine:dark", "--dataset", dataset, "--run", "try", "--images", "100"]
    command += ["--seeds", "2", "--attacks", "fgsm", "--by", "A. Person"]
    assert cli.main([*command, "--entry", "bright_mine.py/entry.json"]) == 2
    assert "bright_mine.py" in capsys.readouterr().err
    assert cli.main([*command, "--attacks", "fgsm,bgsm"]) == 2
    assert "no attack of the suite is called 'bgsm': choose among fgsm, deepfool" in capsys.readouterr().err
    monkeypatch.setattr("advlens.entries.MIN_POSITIVES", 5)
    assert cli.main([*command, "--entry", "entry.json", "--json"]) == 0
    out, err = capsys.readouterr()
    assert {"observed_fpr", "unchanged"} <= set(json.loads(out)[0])
    shown = [row["attack"] for row in json.loads(out)]
    assert [name[:4] for name in shown[:2]] == ["fgsm", "fgsm"]
    sign, few, where = err.splitlines()[-3:]
    assert sign.startswith("ROC-AUC is below 0.5 on")
    assert few == "Not in the entry, since too few of their successes are judged: fgsm 31/255."
    assert where == "entry.json"
    (entry,) = read_entries(tmp_path)
    assert (entry["detector"], entry["measured_by"], entry["settings"]["attacks"]) == ("dark", "A. Person", ["fgsm"])
    assert entry["best_attack_so_far"] in shown
    assert entry["seconds_per_1000"] is not None
    assert all(row["unchanged"] is not None and row["observed_fpr"] is not None for row in entry["results"])
