"""The benchmark against closed forms, on a network of one linear layer and attacks made by hand."""

import dataclasses
import itertools
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from art.defences.detector.evasion import EvasionDetector
from sklearn.metrics import roc_auc_score, roc_curve

from advlens.attacks import AttackSet
from advlens.benchmark import (
    BEST_BASELINE,
    CORRECTED,
    LONG_TABLE,
    Benchmark,
    Condition,
    Negatives,
    Noise,
    Part,
    Protocol,
    Split,
    Threshold,
    TrainedOn,
    evaluate,
    leaderboard,
    pivot,
    query,
    transfer,
    worst_first,
)
from advlens.benchmark.fitting import Case
from advlens.benchmark.judging import threshold_scores, ties, with_verdicts
from advlens.benchmark.samples import chosen_rows
from advlens.classifier import Classifier
from advlens.detectors import Detector, Logistic, Sign
from advlens.image_files import CODECS
from advlens.lenses import BASELINES, Lens

SIDE = 4
ATTACKED = 120
IMAGES = 400


class Brightness(Lens):
    """A lens of three columns: the mean pixel, its negative, and noise that depends on the image alone."""

    name, family, columns = "brightness", "image", ("mean", "minus mean", "noise")

    def __init__(self):
        self.measured = 0

    def measure(self, images):
        self.measured += len(images)
        mean = images.mean(axis=(1, 2, 3), dtype=np.float64)
        noise = np.array([np.random.default_rng(np.frombuffer(x.tobytes(), np.uint8)).normal() for x in images])
        return pd.DataFrame({"mean": mean, "minus mean": -mean, "noise": noise})

    def to_parts(self):
        return {}


LENS = Brightness()


def detector(name, head, columns=None, family="image", lens=LENS):
    return Detector(lens, head, columns=columns, name=name, family=family)


MEAN = detector("mean", Sign("mean", 1))
FLIPPED = detector("flipped", Sign("minus mean", 1))
NOISE = detector("noise", Logistic(), ("noise",))
LEARNT = detector("learnt", Logistic(), ("mean",))
BASELINE = detector("oriented", Sign("minus mean"), family="baseline")
OTHER_BASELINE = detector("random", Sign("noise"), family="baseline")


@pytest.fixture(scope="module")
def classifier():
    """Two classes: an image is of class 1 where its mean is above ½."""
    network = keras.Sequential([keras.Input((SIDE, SIDE, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    weights = np.zeros((SIDE * SIDE, 2), np.float32)
    weights[:, 1] = 5 / SIDE**2
    network.set_weights([weights, np.array([2.5, 0.0], np.float32)])
    return Classifier(network)


@pytest.fixture(scope="module")
def images():
    """Dark images of class 0 on the grid of 1/255; the last twenty are labelled 1, and so misclassified."""
    rng = np.random.default_rng(0)
    grey = rng.integers(30, 100, size=(IMAGES, 1, 1, 1)) + rng.integers(-20, 20, size=(IMAGES, SIDE, SIDE, 1))
    return (grey / 255).astype(np.float32)


LABELS = np.zeros(IMAGES, np.int64)
LABELS[-20:] = 1


def brighten(images, by, *, name, classifier, source, noise=0.0):
    clean = images[source]
    strength = np.resize(by, len(source)).astype(np.float32)[:, None, None, None]
    adversarial = np.clip(clean + strength, 0, 1)
    rng = np.random.default_rng(7)
    noisy = np.clip(clean + noise * rng.standard_normal(clean.shape), 0, 1).astype(np.float32)
    predicted = classifier.predict(adversarial).argmax(axis=1)
    norms = np.abs(adversarial - clean).reshape(len(clean), -1)
    return AttackSet(
        **{"attack": name, "parameters": {"eps": float(max(by))}, "source": source, "clean": clean, "noisy": noisy},
        **{"adversarial": adversarial, "label": LABELS[source], "target": np.full(len(source), -1)},
        **{"predicted": predicted, "success": predicted != LABELS[source], "margin": np.zeros(len(source), np.float32)},
        **{"l2": np.linalg.norm(norms, axis=1), "linf": norms.max(axis=1)},
        zero_gradient=np.zeros(len(source), bool),
    )


@pytest.fixture(scope="module")
def attack_sets(classifier, images):
    source = np.random.default_rng(1).permutation(IMAGES - 20)[:ATTACKED]
    about = {"classifier": classifier, "source": source, "noise": 0.05}
    return {
        "brighten": brighten(images, (0.3, 0.45), name="fgsm", **about),
        "more": brighten(images, (0.5,), name="pgd", **about),
        "other": brighten(images, (0.4,), name="deepfool", **about),
    }


@pytest.fixture(scope="module")
def fine_sets(classifier, images, attack_sets):
    """Every third attack only just succeeds, so that 8 bits undo some of it; every fourth fails."""
    source = attack_sets["brighten"].source
    by = 0.5005 - images[source].mean(axis=(1, 2, 3)) + 0.1 * (np.arange(ATTACKED) % 3)
    by[::4] = 0.01
    return {"brighten": brighten(images, by, name="fgsm", classifier=classifier, source=source, noise=0.05)}


@pytest.fixture(scope="module")
def build(classifier, images, attack_sets):
    def build(sets=attack_sets, **changed):
        about = {"clean_images": images, "clean_labels": LABELS, "seed": 0, "n_seeds": 2}
        return Benchmark(classifier, sets, **{**about, "baselines": (BASELINE, OTHER_BASELINE), **changed})

    return build


@pytest.fixture(scope="module")
def benchmark_(build):
    return build()


@pytest.fixture(scope="module")
def table(benchmark_):
    return benchmark_.run([MEAN, FLIPPED, NOISE], negatives=("matched", "hard images"))


def test_the_table_keeps_its_schema_and_the_schema_refuses_other_tables(table):
    assert list(LONG_TABLE.validate(table).columns) == list(LONG_TABLE.columns)
    for broken in (table.assign(condition="9-bit"), table.assign(low=table["high"] + 0.1), table.drop(columns="seeds")):
        with pytest.raises(Exception, match=r"9-bit|isin|low|seeds|in_range"):
            LONG_TABLE.validate(broken)


def test_no_source_is_in_two_parts_and_the_test_part_is_the_same_for_all_seeds_and_attacks(benchmark_):
    scored = [benchmark_.scores(LEARNT, attack) for attack in ("brighten", "more")]
    sources = scored[0].about["source"].to_numpy()
    for parts in scored[0].parts:
        by_part = {part: set(sources[mask]) for part, mask in parts.items()}
        assert [len(by_part[part]) for part in Part] == [72, 24, 24]
        assert not by_part[Part.TRAIN] & by_part[Part.TEST]
        assert not by_part[Part.TRAIN] & by_part[Part.VALIDATION]
        assert by_part[Part.TEST] == set(sources[scored[1].parts[0][Part.TEST]])
    first, second = (parts[Part.TRAIN] for parts in scored[0].parts)
    assert not np.array_equal(first, second)
    assert not set(benchmark_.threshold_source) & (set(sources) | set(scored[0].clean["source"]))


def test_where_every_correct_image_is_attacked_thresholds_get_sources_of_their_own(build, classifier, images):
    source = np.arange(IMAGES - 20)
    benchmark = build({"more": brighten(images, (0.5,), name="pgd", classifier=classifier, source=source)})
    assert len(benchmark.threshold_source) == 38
    scored = benchmark.scores(MEAN, "more")
    in_a_part = np.any(list(scored.parts[0].values()), axis=0)
    assert not set(scored.about["source"][in_a_part]) & set(benchmark.threshold_source)


def test_negatives_are_exactly_the_positives_sources(benchmark_):
    scored = benchmark_.scores(MEAN, "brighten")
    judged = scored.judged(stratum="success", negatives="matched")
    attacked, normal = (judged["source"][judged["is_adversarial"] == truth] for truth in (True, False))
    assert 0 < len(attacked) < 24  # some fail
    assert sorted(normal) == sorted(np.repeat(attacked, 2))


def test_aucs_are_those_of_scikit_learn_on_the_same_rows(benchmark_, table):
    judged = benchmark_.scores(MEAN, "brighten").judged(stratum="success", negatives="matched")
    own = pick(table, detector="mean", attack="brighten")
    assert own == pytest.approx(roc_auc_score(judged["is_adversarial"], judged["scores"][0]))


def test_a_flipped_sign_gives_one_minus_the_auc(table):
    for attack in ("brighten", "more", "other"):
        assert pick(table, detector="flipped", attack=attack) == pytest.approx(
            1 - pick(table, detector="mean", attack=attack)
        )


def test_a_detector_that_learns_from_noise_has_one_half_in_its_interval(table):
    own = table[(table["detector"] == "noise") & (table["metric"] == "roc_auc")]
    assert ((own["low"] < 0.5) & (own["high"] > 0.5)).all()
    assert (own["seeds"] == 2).all()


def test_the_hard_image_control_is_near_one_half_where_all_images_are_attacked_alike(table):
    own = table[(table["negatives"] == "hard images") & (table["attack"] == "more") & (table["detector"] == "mean")]
    auc = own[own["metric"] == "roc_auc"].iloc[0]
    assert auc["low"] < 0.5 < auc["high"]


def test_the_hard_image_control_is_high_where_an_attack_wins_bright_images_only(build, classifier, images):
    source = np.argsort(images[:-20].mean(axis=(1, 2, 3)))[np.linspace(0, IMAGES - 21, ATTACKED).astype(int)]
    made = brighten(images, (0.25,), name="fgsm", classifier=classifier, source=source)
    run = build({"weak": made}).run([MEAN], negatives=("hard images",), wanted=("roc_auc",))
    assert run[run["detector"] == "mean"]["estimate"].item() > 0.75


CHANGES = {
    "split": (Split.NONE, {"parts"}),
    "positives": ("all", {"positives", "negatives"}),
    "negatives": ("clean", {"negatives"}),
    "noise": (Noise.EPSILON, {"noisy images"}),
    "threshold": (Threshold.FIXED, {"thresholds"}),
    "condition": (Condition.FLOAT, {"clean images", "noisy images", "adversarial images", "clean test images"}),
    "fitted_in": (Condition.FLOAT, {"head"}),
    "stopping": ("evaluated", {"watched"}),
}


class Watching(Logistic):
    """A head that stops early by the rows that it watches."""

    stops_early = True

    def fit(self, measured, is_adversarial, *, seed=0, validation):
        self.watched = validation[0].to_numpy().tobytes()
        return super().fit(measured, is_adversarial)


def traces(benchmark, protocol):
    """What one field of a protocol may change, as comparable values."""
    head = Watching()
    own = detector("watching", head, ("mean",))
    condition = protocol.condition
    scored = benchmark.scores(own, "brighten", protocol=protocol)
    judged = scored.judged(stratum=protocol.positives, negatives=protocol.negatives)
    samples = benchmark.samples("brighten", condition, protocol.noise)
    fitted = benchmark.heads.fitted(own, Case("brighten", protocol, condition, TrainedOn.ATTACK), 0)
    role = samples.about["role"].to_numpy()
    return {
        "parts": scored.parts[0][Part.TEST].tobytes(),
        "positives": judged["source"][judged["is_adversarial"]].tobytes(),
        "negatives": judged["source"][~judged["is_adversarial"]].tobytes(),
        "thresholds": threshold_scores(scored, judged, protocol.threshold).any(),
        "clean test images": scored.clean["source"].to_numpy().tobytes(),
        "head": fitted.weights_.item(),
        "watched": fitted.watched,
        **{f"{name} images": samples.images[role == name].tobytes() for name in ("clean", "noisy", "adversarial")},
    }


def test_every_field_of_a_protocol_has_its_test():
    assert set(CHANGES) == {field.name for field in dataclasses.fields(Protocol)} - {"name"}


@pytest.mark.parametrize("field", CHANGES)
def test_a_field_of_a_protocol_changes_what_it_says_and_nothing_else(build, fine_sets, field):
    value, says = CHANGES[field]
    benchmark = build(fine_sets)
    before, after = (traces(benchmark, each) for each in (CORRECTED, Protocol("changed", **{field: value})))
    changed = {name for name in before if before[name] != after[name]}
    follows = {"split": {"positives", "negatives"}, "condition": {"positives", "negatives"}}  # success is judged again
    assert changed, field
    assert changed <= says | follows.get(field, set()) | {"head", "watched"}
    if field in ("threshold", "stopping"):
        assert changed == says


def test_conditions_judge_success_again_and_refit_heads(build, fine_sets):
    benchmark = build(fine_sets)
    rounded, floats = (benchmark.samples("brighten", condition).about for condition in ("8-bit", "float"))
    assert rounded["success"].sum() < floats["success"].sum()
    cases = (Case("brighten", CORRECTED, each, TrainedOn.ATTACK) for each in (Condition.EIGHT_BIT, Condition.FLOAT))
    of_rounded, of_floats = (benchmark.heads.fitted(LEARNT, case, 0) for case in cases)
    assert of_rounded.mean_ != of_floats.mean_


PUBLISHED = Protocol("as published", split=Split.NONE, positives="all", noise=Noise.EPSILON, condition="float")


def test_as_published_and_corrected_differ_as_built(build, fine_sets):
    table = build(fine_sets).run([MEAN], protocols=(PUBLISHED, CORRECTED), wanted=("roc_auc",))
    own = table[table["detector"] == "mean"].set_index("protocol")
    assert own.loc["as published", ["n_positive", "n_negative", "stratum"]].tolist() == [ATTACKED, 2 * ATTACKED, "all"]
    assert own.loc["corrected", "n_negative"] == 2 * own.loc["corrected", "n_positive"]
    assert own.loc["corrected", "estimate"] == 1.0 > own.loc["as published", "estimate"]  # failed attacks look normal


def test_a_lens_measures_each_image_once_for_all_detectors(build):
    lens = Brightness()
    detectors = [detector(name, Sign(name, 1), lens=lens) for name in ("mean", "minus mean", "noise")]
    build(baselines=()).run(detectors, wanted=("roc_auc",), strata=("success", "all"))
    assert lens.measured == IMAGES + 3 * 2 * ATTACKED


def test_left_out_attacks_and_families_are_not_learnt_from(benchmark_):
    learnt_from = {}
    for trained_on in TrainedOn:
        case = Case("brighten", CORRECTED, CORRECTED.condition, trained_on)
        learnt_from[trained_on.value] = benchmark_.heads.attacks_for(case)
    assert learnt_from == {
        "no attack": ["brighten"],
        "the attack": ["brighten"],
        "all attacks": ["brighten", "more", "other"],
        "all but the attack": ["more", "other"],
        "all but its family": ["other"],  # fgsm and pgd are of one
        "another data set": [],
    }
    table = benchmark_.run([LEARNT], trained_on=list(TrainedOn)[1:], attacks=["brighten", "more"], wanted=("roc_auc",))
    assert (table["detector"] == "learnt").sum() == 2 * 5
    assert set(table["attack"]) == {"brighten", "more"}


def test_each_attack_is_learnt_from_and_judged_by_every_other(build):
    benchmark = build()
    table = benchmark.cross([LEARNT, MEAN], wanted=("roc_auc", "tpr_at_fpr_0.05"))
    names = ["brighten", "more", "other"]
    assert set(table["detector"]) == {"learnt"}  # the mean learns nothing
    cells = table[table["metric"] == "roc_auc"].set_index(["learnt_from", "attack"])["estimate"]
    assert sorted(cells.index) == sorted(itertools.product(names, names))
    own = benchmark.run([LEARNT], wanted=("roc_auc",))
    for name in names:
        assert cells[name, name] == pick(own, detector="learnt", attack=name)
    case = Case("brighten", CORRECTED, CORRECTED.condition, TrainedOn.ATTACK, "other")
    head = benchmark.heads.fitted(LEARNT, case, 0)
    judged = benchmark.scores(LEARNT, "brighten", learnt_from="other").judged(stratum="success", negatives="matched")
    mean = benchmark.measured(LENS, "brighten", CORRECTED.condition)["mean"]
    assert (
        head.weights_[0]
        == benchmark.heads.fitted(LEARNT, dataclasses.replace(case, attack="other", learnt_from=""), 0).weights_[0]
    )
    assert set(judged["scores"][0]) <= set(head.score(mean.to_frame()))


def test_heads_of_another_data_set_judge_as_they_learnt_there(build):
    dark_is_attacked = pd.DataFrame({"mean": [0.1, 0.2, 0.6, 0.7]}), np.array([True, True, False, False])
    benchmark = build(elsewhere={"learnt": [Logistic().fit(*dark_is_attacked) for _ in range(2)]})
    about = {"trained_on": ("all attacks", "another data set"), "attacks": ["brighten"]}
    table = benchmark.run([LEARNT, NOISE], **about, wanted=("roc_auc", "tpr_at_fpr_0.05"))
    there = {"attack": "brighten", "trained_on": "another data set"}
    here = pick(table, detector="learnt", attack="brighten", trained_on="all attacks")
    assert here > 0.9
    assert pick(table, detector="learnt", **there) == pytest.approx(1 - here)
    assert np.isnan(pick(table, detector="noise", **there))  # it brought none
    shown = transfer({"dark → bright": table.assign(n_positive=20)}).set_index(["detector", "trained_on"])
    assert shown.loc[("learnt", "another data set"), ["direction", "estimate", "attacks"]].tolist() == [
        *("dark → bright", 0.0, 1),
    ]
    assert set(shown.index.get_level_values("detector")) == {"learnt", "noise"}
    assert transfer({"too few": table.assign(n_positive=19)}).empty


def test_baselines_are_oriented_on_validation_and_the_best_is_named(benchmark_, table):
    assert pick(table, detector="oriented", attack="more") > 0.9
    assert BASELINE.head.sign is None  # the head given stays as it was
    assert set(table["baseline"]) == {"oriented"}
    above = table[table["metric"] == "tpr_at_fpr_0.05 above the best baseline"]
    assert above.loc[above["detector"] == "oriented", "estimate"].dropna().eq(0).all()


def test_nothing_is_chosen_on_test_images(build, images, attack_sets, classifier):
    """The attack darkens the images of the validation part, and brightens all others."""
    parts = build({"more": attack_sets["more"]}, n_seeds=1).heads.parts[0]
    source = attack_sets["more"].source
    by = np.where(parts.loc[source] == Part.VALIDATION.value, -0.1, 0.5)
    made = {"more": brighten(images, by, name="pgd", classifier=classifier, source=source, noise=0.05)}
    bright = detector("bright", Sign("mean", 1), family="baseline")
    about = {"n_seeds": 1, "baselines": (BASELINE, bright), "succeeded": {"more": lambda x: np.ones(len(x), bool)}}
    benchmark = build(made, **about)
    table = benchmark.run([MEAN], wanted=("roc_auc",))
    assert pick(table, detector="bright", attack="more") > 0.9
    assert pick(table, detector="oriented", attack="more") < 0.1  # oriented as the validation images say
    assert benchmark.best_baseline("more") is BASELINE


def test_the_trivial_baselines_are_the_default_and_all_are_combined(build, attack_sets):
    table = build({"more": attack_sets["more"]}, baselines=None).run([MEAN], wanted=("roc_auc",))
    names = table.loc[table["family"] == "baseline", "detector"].tolist()
    assert names == [*BASELINES, "baselines, logistic", "baselines, boosting"]


def test_compare_is_paired_holm_adjusted_and_gives_verdicts(build, attack_sets):
    benchmark = build({"more": attack_sets["more"]}, n_seeds=1)
    compared = benchmark.compare([(MEAN, FLIPPED), (MEAN, BEST_BASELINE), (FLIPPED, MEAN)], margin=0.3)
    assert compared["verdict"].tolist() == ["higher", "no meaningful difference", "lower"]
    assert (compared["p_adjusted"] >= compared["p_value"]).all()
    assert compared.loc[0, "estimate"] == pytest.approx(-compared.loc[2, "estimate"])
    several = benchmark.compare([(FLIPPED, (FLIPPED, MEAN, NOISE))])
    assert several["b"].tolist() == ["mean"]
    few = benchmark.compare([(MEAN, FLIPPED)], stratum="failed")
    assert few["verdict"].tolist() == ["undecided"]


def test_roc_curves_reach_what_the_scores_reach(benchmark_):
    curves = benchmark_.roc_curves([MEAN], ["brighten"], protocols=(CORRECTED,))
    judged = benchmark_.scores(MEAN, "brighten").judged(stratum="success", negatives="matched")
    found = roc_curve(judged["is_adversarial"], judged["scores"][0])
    for row in curves.iloc[::10].itertuples(index=False):
        assert row[-1] == pytest.approx(found[1][found[0] <= row[-2] + 1e-9].max())


def test_observed_rates_are_of_correct_clean_all_clean_and_noisy_images(benchmark_, table):
    scored = benchmark_.scores(MEAN, "more")
    threshold = np.sort(scored.threshold_scores[0])[-1 - int(0.05 * len(scored.threshold_scores[0]))]
    fooled = scored.about[scored.parts[0][Part.TEST] & scored.about["success"].to_numpy()]["source"]
    twins = (scored.about["role"] == "noisy") & scored.about["source"].isin(fooled)
    for kind, scores, rows in (
        ("all clean", scored.clean_scores[0], slice(None)),
        ("correct clean", scored.clean_scores[0], scored.clean["predicted"] == scored.clean["label"]),
        ("noisy", scored.scores[0], twins.to_numpy()),
    ):
        share = (scores[rows] > threshold).mean()
        assert pick(table, metric=f"observed_fpr_0.05 on {kind}", detector="mean", attack="more") == share
    assert not (scored.clean["predicted"] == scored.clean["label"]).all()


def test_an_alarm_is_the_share_above_the_threshold_that_clean_images_give(benchmark_, images):
    alarms = benchmark_.alarms([MEAN], {"paler": images[:60] + np.float32(0.1), "darker": images[:60] / 2})
    clean = np.sort(images[benchmark_.threshold_source].mean(axis=(1, 2, 3), dtype=np.float64))
    threshold = clean[-1 - int(0.05 * len(clean))]
    means = images[:60].mean(axis=(1, 2, 3), dtype=np.float64)
    cells = alarms[alarms["detector"] == "mean"].set_index("kind")
    assert cells.loc["paler", "estimate"] == (means + 0.1 > threshold).mean() > 0.05
    assert cells.loc["darker", "estimate"] == (means / 2 > threshold).mean() < 0.05
    assert (cells["n"] == 60).all()
    assert set(alarms["detector"]) == {"mean", "oriented", "random"}


def test_worst_first_has_the_observed_rate_and_what_an_attack_left_unchanged(benchmark_, table):
    unchanged = {"brighten": 0.25, "more": 0.0, "other": 0.5}
    shown = worst_first(table, "mean", unchanged=unchanged).set_index("attack")
    assert shown["unchanged"].to_dict() == unchanged
    assert "unchanged" not in worst_first(table, "mean")
    scored = benchmark_.scores(MEAN, "more")
    judged = scored.judged(stratum="success", negatives="matched")
    threshold = np.sort(scored.threshold_scores[0])[-1 - int(0.05 * len(scored.threshold_scores[0]))]
    flagged = judged["scores"][0, ~judged["is_adversarial"]] > threshold
    assert shown.loc["more", "observed_fpr"] == pytest.approx(flagged.mean())


def test_a_leaderboard_averages_over_nothing_but_attacks(benchmark_):
    learnt = ("the attack", "all but the attack", "all but its family")
    table = benchmark_.run([LEARNT, MEAN, FLIPPED], trained_on=learnt).assign(n_positive=20)
    board = leaderboard(table).set_index(["detector", "trained_on"])
    assert {name for detector, name in board.index if detector == "learnt"} == set(learnt)
    assert board.loc["mean"].index.tolist() == ["no attack"]
    for (name, trained_on), row in board.iterrows():
        own = query(table, detector=name, trained_on=trained_on, negatives="matched")
        above = query(own, metric="tpr_at_fpr_0.05 above the best baseline")
        assert row["tpr"] == query(own, metric="tpr_at_fpr_0.05")["estimate"].mean()
        assert row["roc_auc"] == query(own, metric="roc_auc")["estimate"].mean()
        assert row["ahead"] == (above["low"] > 0).sum() <= row["attacks"] == own["attack"].nunique()
    assert leaderboard(table.assign(estimate=np.nan)).empty


def test_evaluate_takes_functions_and_detectors_of_art(classifier, images):
    class Art(EvasionDetector):
        def fit(self, x, y, batch_size=128, nb_epochs=20, **kwargs):
            raise NotImplementedError

        def detect(self, x, batch_size=128, **kwargs):
            return {"scores": x.mean(axis=(1, 2, 3))}, x.mean(axis=(1, 2, 3)) > 0.5

    def brightness(x):
        return x.mean(axis=(1, 2, 3))

    about = {"model": classifier, "x": images, "y": LABELS, "attacks": ["fgsm"], "baselines": (BASELINE,)}
    given = {"art": Art(), "function": brightness}
    table = evaluate(given, parameters={"fgsm": {"eps": 0.45}}, **about)
    aucs = pivot(table, index="detector", columns="attack", negatives="matched")["fgsm"]
    assert aucs["art"] == aucs["function"] > 0.9
    board = leaderboard(table).set_index("detector")
    assert board.loc["art", "tpr"] == board.loc["function", "tpr"]
    same = {"flat": lambda x: np.zeros(len(x)), "dark": lambda x: -brightness(x)}
    with (
        pytest.warns(UserWarning, match="^flat: ROC-AUC is 0.5 on all 1: has every image the same score"),
        pytest.warns(UserWarning, match="^dark: ROC-AUC is below 0.5 on 1 of 1: is the sign right"),
    ):
        evaluate(same, **about, parameters={"fgsm": {"eps": 0.45}})
    with pytest.raises(ValueError, match="one score for each"):
        evaluate(lambda x: x.mean(), **about)
    with pytest.raises(TypeError, match="function scores"):
        evaluate(3, **about)
    with pytest.raises(TypeError, match="sequence of names"):
        evaluate(brightness, **{**about, "attacks": "fgsm"})
    for wrong in (2.5, 0, True, "9"):
        with pytest.raises(ValueError, match=f"^attacked_images must be a whole number, 1 or more, got {wrong!r}$"):
            evaluate(brightness, **about, attacked_images=wrong)


def test_a_function_that_fails_on_many_images_alone_is_told_in_one_sentence(classifier, images, attack_sets):
    def few(x):
        return np.zeros(len(x)) if len(x) < 3 else {}["score"]

    about = {"x": images, "y": LABELS, "attacks": attack_sets, "baselines": (BASELINE,), "n_seeds": 1}
    with pytest.raises(ValueError, match=r"^few fails: KeyError: 'score' \(test_benchmark\.py, line \d+\)$"):
        evaluate(few, classifier, **about)


def test_scores_that_tie_at_the_threshold_are_said(classifier, images, attack_sets):
    def most(x):
        return np.minimum(x.max(axis=(1, 2, 3)), 0.55)  # less on clean images, and no more on noisy and attacked ones

    about = {"x": images, "y": LABELS, "baselines": (BASELINE,), "n_seeds": 1}
    source = attack_sets["other"].source
    noisy = brighten(images, (0.4,), name="deepfool", classifier=classifier, source=source, noise=1.0)
    said = "^most: 50 % of the normal images beside 'cw' score exactly the threshold for 5 %; so do 100 % of the images"
    with pytest.warns(UserWarning, match=f"{said} that 'cw' attacked, and count as missed$"):
        table = evaluate(most, classifier, attacks={"cw": noisy}, **about)
    assert pick(table, detector="most", metric="tpr_at_fpr_0.05") == 0
    assert pick(table, detector="most") == pytest.approx(0.75)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(MEAN, classifier, attacks=attack_sets, **about)


def test_ties_are_those_of_the_worst_seed_and_more_than_5_percent():
    normal = np.stack([np.arange(40.0), np.minimum(np.arange(40.0), 36)])
    attacked = np.array([[36.0, 36.0], [36.0, 50.0]])
    assert ties(normal, attacked) == (0.1, 0.5)  # of the second seed's 40, four are 36, the third highest
    assert ties(normal[:1], attacked[:1]) == (0.0, 0.0)
    assert ties(np.minimum(np.arange(100.0), 94)[None], attacked) == (0.06, 0.0)
    assert ties(np.sort(np.append(np.arange(96.0), [91] * 4))[None], attacked) == (0.0, 0.0)  # just 5 % are 91


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
def test_a_score_that_is_not_finite_is_flagged_whatever_clean_images_score(classifier, images, attack_sets, value):
    about = {"x": images, "y": LABELS, "baselines": (BASELINE,), "n_seeds": 1}
    with (
        pytest.warns(
            UserWarning, match=r"nothing: (\d+) of \1 scores are NaN or infinite, .*: such images count as flagged"
        ),
        pytest.warns(UserWarning, match="nothing: ROC-AUC is 0.5 on all 3"),
    ):
        table = evaluate({"nothing": lambda x: np.full(len(x), value)}, classifier, attacks=attack_sets, **about)
    told = pivot(table, index="attack", columns="detector", metric="committed_tpr_0.05", negatives="matched")
    assert (told["nothing"] == 1).all()
    told = pivot(table, index="attack", columns="detector", metric="observed_fpr_0.05", negatives="matched")
    assert (told["nothing"] == 1).all()


def test_what_is_not_finite_is_said_once_an_evaluation(classifier, images, attack_sets):
    def broken(x):
        return np.where(x.mean(axis=(1, 2, 3)) > 0.5, -np.inf, 0.0)

    about = {"x": images, "y": LABELS, "baselines": (BASELINE,), "n_seeds": 1}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")  # as Python has it: a line of code gives a text once
        for _ in range(2):
            table = evaluate(broken, classifier, attacks=attack_sets, **about)
    assert pick(table, detector="broken", attack="more", metric="committed_tpr_0.05") == 1
    texts = [text for each in told if "NaN or infinite" in (text := str(each.message))]
    assert len(texts) == 2
    n = 3 * ATTACKED
    k = int((attack_sets["brighten"].adversarial.mean(axis=(1, 2, 3)) > 0.5).sum())
    assert texts[0].startswith(f"broken: {k} of {n} scores")


def test_attack_sets_of_another_network_are_said(classifier, images, attack_sets):
    made = attack_sets["more"]
    foreign = dataclasses.replace(made, predicted=1 - made.predicted, success=~made.success)
    about = {"x": images, "y": LABELS, "baselines": (BASELINE,), "n_seeds": 1}
    with pytest.warns(UserWarning, match=r"attack set 'theirs' was made on another network: .* on 100 of 100 images"):
        evaluate(MEAN, classifier, attacks={"ours": made, "theirs": foreign}, **about)


def test_bad_input_is_refused_in_one_sentence(build, benchmark_, attack_sets, images):
    with pytest.raises(ValueError, match="not in clean_images"):
        build(clean_images=images[:50], clean_labels=LABELS[:50])
    with pytest.raises(ValueError, match="other images"):
        build(clean_images=images[::-1])
    for wrong in ({"strata": ("won",)}, {"conditions": ("9-bit",)}, {"wanted": ("auc",)}, {"strata": "success"}):
        with pytest.raises(ValueError, match=r"must be (one of|of METRICS|a sequence)"):
            benchmark_.run([MEAN], **wrong)
    with pytest.raises(ValueError, match="two detectors"):
        benchmark_.run([MEAN, MEAN])
    with pytest.raises(ValueError, match="split must be one of"):
        Protocol("wrong", split="half")


def test_too_few_attacks_give_rows_without_a_number(build, classifier, images, attack_sets):
    made = brighten(images, (0.0,), name="fgsm", classifier=classifier, source=attack_sets["more"].source)
    table = build({"weak": made}).run([MEAN, LEARNT])
    assert table["estimate"].isna().all()
    assert set(table["detector"]) == {"mean", "learnt", "oriented", "random"}


def test_a_pivot_asks_which_where_several_estimates_fall_into_a_cell(table):
    with pytest.raises(ValueError, match="negatives"):
        pivot(table, index="detector", columns="attack")
    with pytest.raises(ValueError, match="it has"):
        pivot(table, index="detector", columns="attack", condition="png")


def test_conditions_are_the_codecs():
    assert {condition.value for condition in Condition} == set(CODECS)


def pick(table, *, metric="roc_auc", **where):
    rows = table[table["metric"] == metric]
    for name, value in {"negatives": "matched", **where}.items():
        rows = rows[rows[name] == value]
    return rows["estimate"].item()


def test_split_by_row_keeps_the_clean_rows_of_attacked_versions_in_other_parts():
    about = pd.DataFrame(
        {"role": ["clean", "adversarial"] * 3, "source": [0, 0, 1, 1, 2, 2], "success": [False, True] * 3}
    )
    about.loc[5, "success"] = False
    within = np.array([True, False, True, True, True, True])
    rows = chosen_rows(about, within, stratum="success", negatives=Negatives.CLEAN)
    assert rows.tolist() == [True, False, True, True, False, False]


def test_comparisons_that_are_too_small_do_not_cost_the_others_their_verdict():
    rows = pd.DataFrame({"estimate": 0.1, "low": 0.02, "high": 0.2, "p_value": [0.03, 0.03], "n_positive": [50, 5]})
    table = with_verdicts(rows, 0.01)
    assert table["verdict"].tolist() == ["higher", "undecided"]
    assert table["p_adjusted"].iloc[0] == pytest.approx(0.03)
