"""The suite of attackers who know, as small as it can be: rows, larger balls, twins, entries, hardening."""

import numpy as np
import pandas as pd
import pytest

from advlens import adaptive_suite, suite
from advlens.adaptive_suite import WITHOUT_GRADIENTS, AdaptiveSuite, Ball, Effort, asked_images
from advlens.benchmark import LONG_TABLE, evades, query
from advlens.entries import read_entries
from advlens.suite import Sizes, Suite
from advlens.workbench import Workbench


@pytest.fixture(scope="module")
def made(tmp_path_factory, mnist):
    """Two detectors, one of which learns, on a user's own file of 400 digits."""
    folder = tmp_path_factory.mktemp("adaptive")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVLENS_DATA", str(folder))
        np.savez(folder / "digits.npz", x=mnist[0][..., 0], y=mnist[1], x_test=mnist[0][..., 0], y_test=mnist[1])
        bench = Workbench(run="try", dataset=str(folder / "digits.npz"), seed=0)
        suite = Suite(bench, Sizes(images=100, epochs=15, training_seeds=2, clean=150), attacks=["pgd", "pgd_l2"])
        effort = Effort(images=40, checked=20, asked=25, radii=2, max_iter=20, weights=())
        yield AdaptiveSuite(suite, effort, detectors=("all_six", "max_softmax"))


def evasion(table, detector, attack):
    return query(table, metric="evasion_0.05", detector=detector, attack=attack)["estimate"].item()


def test_attacked_images_are_none_that_heads_or_thresholds_were_made_of(made):
    assert not set(made.source) & set(made.suite.benchmark.clean_source)
    assert made.suite.classifier.predict(made.images).argmax(axis=1).tolist() == made.labels.tolist()


def test_the_table_says_what_the_detector_says_of_the_attacked_images(made):
    table = LONG_TABLE.validate(made.table)
    for name, own in made.defenders.items():
        for ball in made.balls:
            attacked = made.attacked(own.detector, ball)
            found = evades(made.classifier, own.detector, attacked, made.labels).mean()
            assert evasion(table, name, f"knows {name}, {ball}") == pytest.approx(found)
            change = (attacked - made.images).reshape(len(attacked), -1)
            reach = np.linalg.norm(change, ord=2 if ball.norm == 2 else np.inf, axis=1)
            assert reach.max() <= ball.eps * 1.002  # PGD's images are rounded to the nearest grey level


def test_who_knows_evades_more_and_in_a_larger_ball_no_less(made):
    for name in made.defenders:
        for norm, oblivious in (("inf", "pgd"), (2, "pgd_l2")):
            balls = [ball for ball in made.balls if ball.norm == norm]
            small, large = (evasion(made.table, name, f"knows {name}, {ball}") for ball in balls)
            assert small <= large
            assert large >= evasion(made.table, name, f"{oblivious}, {balls[1]}")


def test_who_only_asks_starts_from_what_others_made_and_comes_into_the_ball(made):
    rows, ball = made.asked_rows, made.middle
    labels, alone = made.labels[rows], {}
    assert len(rows) == 25 < rows[-1]  # drawn, not the first
    for name, own in made.defenders.items():
        asked = made.asked(own.detector)
        assert np.abs(asked - made.images[rows]).max() <= ball.eps * 1.002
        evading = evades(made.classifier, own.detector, asked, labels)
        found = query(made.table, metric="evasion_0.05", detector=name, attack=f"asks {name}, {ball}")
        assert found[["estimate", "n_positive", "knowledge"]].iloc[0].tolist() == [evading.mean(), 25, "decisions"]
        assert LONG_TABLE.validate(made.table).query("knowledge == 'decisions'")["attack"].nunique() == 2
        others = [made.oblivious(ball)]
        others += [made.attacked(each.detector, ball) for each in made.defenders.values() if each is not own]
        transferred = np.any([evades(made.classifier, own.detector, each[rows], labels) for each in others], axis=0)
        assert evading[transferred].all()
        alone[name] = (evading & ~transferred).sum()
    assert sum(alone.values()) > 0


def test_an_image_of_others_that_evades_is_taken_and_each_question_counts(made):
    detector, images, labels = made.defenders["max softmax"].detector, made.images[:20], made.labels[:20]
    known, pgd = (each[:20] for each in (made.attacked(detector, made.balls[1]), made.oblivious(made.balls[1])))
    about = {"detector": detector, "classifier": made.classifier, "images": images, "labels": labels, "eps": 0.4}
    about |= {"starts": np.empty((0, *images.shape), np.float32), "queries": 20, "seed": 0}

    def asked(*others, **more):
        found = asked_images(**about | more, others=np.stack(others))["images"]
        return found, evades(made.classifier, detector, found, labels)

    (_, few), (_, many) = (asked(images, max_iter=each) for each in (1, 10))
    assert many.mean() > few.mean() + 0.1
    able = evades(made.classifier, detector, known, labels)
    found, evading = asked(known, pgd, max_iter=1)
    assert able.mean() > 0.5
    np.testing.assert_array_equal(found[able], known[able])
    np.testing.assert_array_equal(found[~evading], pgd[~evading])  # misclassified, or as near as PGD came
    found, evading = asked(pgd, max_iter=1, eps=1 / 255)
    assert not evading.all()
    np.testing.assert_array_equal(found[~evading], pgd[~evading])


def test_who_evades_two_at_once_is_no_more_than_who_evades_either(made):
    both, judges = made.pairs.set_index(["known", "judge"])["estimate"], made.defenders.values()
    for name, own in made.defenders.items():
        about = made.attacked(own.detector, made.middle), made.labels
        left = {each.detector.name: evades(made.classifier, each.detector, *about) for each in judges}
        for judge, evaded in left.items():
            assert both[name, judge] == pytest.approx((left[name] & evaded).mean())


def test_a_twin_learnt_from_another_split_and_its_attack_is_a_transfer(made):
    own = made.defenders["all six"]
    assert own.twin.threshold_ != own.detector.threshold_
    assert made.defenders["max softmax"].twin is None
    rows = query(made.table, attack=f"knows a twin of all six, {made.middle}")
    assert set(rows["knowledge"]) == {"transfer"}
    assert set(rows["detector"]) == {"all six"}


def test_strength_is_checked_for_every_detector(made):
    assert set(made.strength["detector"]) == set(made.defenders)
    assert set(made.failed) == set(made.strength.loc[~made.strength["passed"], "detector"])
    assert "binarisation" in set(made.strength["check"])


def test_an_attack_without_gradients_that_evades_more_fails_a_check(made, monkeypatch):
    rows, own = made.asked_rows, made.defenders["all six"]
    shown = made.strength[made.strength["check"] == WITHOUT_GRADIENTS].set_index("detector")
    assert set(shown.index) == set(made.defenders)
    for name, each in made.defenders.items():
        images = made.asked(each.detector), made.attacked(each.detector, made.middle)[rows]
        asks, knows = (evades(made.classifier, each.detector, found, made.labels[rows]).mean() for found in images)
        assert shown.loc[name, "found"] == pytest.approx(asks)
        assert shown.loc[name, "wanted"] == f"at most {knows:.3g}, of 25 images"
        assert shown.loc[name, "passed"] == (asks <= knows)
    monkeypatch.setattr(made, "attacked", lambda detector, ball: made.images)  # gradients that lead nowhere
    assert not made._without_gradients(own)["passed"]


def test_hardening_helps_against_the_old_attack_alone_or_is_told(made):
    rows = query(made.hardened("all six"), metric="evasion_0.05").set_index("knowledge")["estimate"]
    assert set(rows.index) == {"transfer", "adaptive"}
    assert rows["adaptive"] >= rows["transfer"]
    with pytest.raises(ValueError, match="max softmax does not learn from attacks"):
        made.hardened("max softmax")


def test_results_enter_the_leaderboard(made):
    made.write()
    (entry,) = (
        each for each in read_entries(made.bench.folder / "benchmark" / "entries") if each["detector"] == "all six"
    )
    assert {row["knowledge"] for row in entry["results"]} <= {"adaptive", "transfer", "decisions"}
    assert entry["potentially_unreliable"] == ("all six" in made.failed)
    stored = pd.read_parquet(made.bench.folder / "benchmark" / "adaptive.parquet")
    pd.testing.assert_frame_equal(stored, made.table)
    pairs = pd.read_parquet(made.bench.folder / "benchmark" / "pairs.parquet")
    pd.testing.assert_frame_equal(pairs, made.pairs)
    hardened = made.hardened("all six")
    made.write()
    pd.testing.assert_frame_equal(pd.read_parquet(made.bench.folder / "benchmark" / "hardened.parquet"), hardened)


def test_a_smaller_suite_stands_below_in_the_same_tables(made):
    small = Effort(images=20, checked=5, radii=2, max_iter=5, weights=(), norms=("inf",), twins=False)
    other = AdaptiveSuite(made.suite, small, detectors=("energy",))
    assert set(other.source) < set(made.source)
    assert other.middle == made.middle
    made.write(other)
    folder = made.bench.folder / "benchmark"
    stored = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("adaptive", "strength")}
    assert {name: list(dict.fromkeys(each["detector"])) for name, each in stored.items()} == {
        name: ["all six", "max softmax", "energy"] for name in stored
    }
    below = query(stored["adaptive"], detector="energy")
    assert not below["attack"].str.contains("L2|twin|asks").any()
    assert {entry["settings"]["images"] for entry in read_entries(folder / "entries")} == {20, 40}


def test_bad_sizes_are_refused_before_work(made):
    with pytest.raises(ValueError, match="asked must be at most images, 5, got 6"):
        Effort(images=5, asked=6)
    with pytest.raises(ValueError, match="radii must be at most 3"):
        Effort(radii=4)
    with pytest.raises(ValueError, match="5000 images are to be attacked"):
        AdaptiveSuite(made.suite, Effort(images=5000))
    assert [str(ball) for ball in (Ball("inf", 31 / 255), Ball(2, 1.5))] == ["L∞ 31/255", "L2 1.5"]


def test_trees_are_attacked_by_the_gradient_of_the_regression_that_joins_the_same_lenses(made, monkeypatch):
    for module in (suite, adaptive_suite):
        monkeypatch.setattr(module, "OF_A_FAMILY", {"all_six": ("entropy", "KDE"), "feature_squeezing": ("largest",)})
    effort = Effort(images=20, checked=6, radii=1, max_iter=15, weights=(), norms=("inf",))
    name, ball = "one lens a family, boosting", Ball("inf", 77 / 255)
    joined = AdaptiveSuite(made.suite, effort, detectors=[name])
    knows, pgd = (evasion(joined.table, name, f"{who}, {ball}") for who in (f"knows {name}", "pgd"))
    assert knows > pgd
    assert "transfer" in set(joined.table["knowledge"])  # who knows its twin, of trees as well
    assert {"binarisation", "inverted binarisation", "evasion without bounds"} & set(joined.strength["check"])
    with pytest.raises(ValueError, match="no joined detector is called 'one lens a family, trees': choose among"):
        _ = AdaptiveSuite(made.suite, effort, detectors=["one lens a family, trees"]).defenders
