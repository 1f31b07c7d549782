"""Metrics against scikit-learn and closed forms, intervals against simulated truths, verdicts against their rules."""

from dataclasses import astuple
from functools import partial

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from advlens.metrics import (
    MARGINS,
    NOMINAL_FPRS,
    ClaimVerdict,
    Difference,
    Estimate,
    Stratum,
    Verdict,
    average_precision,
    calibration_error,
    claim_verdict,
    curve_values,
    evaluate,
    expected_calibration_error,
    flagged_share,
    holm,
    mean,
    positives,
    precision_at_prevalence,
    proportion,
    proportion_difference,
    roc_auc,
    samples,
    share_difference_over_seeds,
    share_over_seeds,
    threshold_at_fpr,
    tpr_at_fpr,
    verdict,
)
from advlens.metrics.intervals import drawn_thresholds, score_interval, seed_weights, source_counts


def detection_problem(*, n: int = 300, ties: bool = False, seed: int = 0, shift: float = 1.0):
    """Scores, truths and sources: each source once clean and once adversarial, and rows in random order."""
    generator = np.random.default_rng(seed)
    source = generator.permutation(np.repeat(np.arange(n // 2), 2))
    truth = np.zeros(n, dtype=bool)
    truth[np.unique(source, return_index=True)[1]] = True
    scores = generator.normal(size=n) + shift * truth + generator.normal(size=n // 2)[source]
    return (np.round(scores) if ties else scores), truth, source


# ---------------------------------------------------------------- scores → numbers


def published_tpr(truth, scores, weights, *, fpr):
    """The convention in scikit-learn's terms: the best operating point that the rate admits."""
    false, true, _ = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    return true[false <= fpr + 1e-12].max()


REFERENCES = {
    "roc_auc": lambda truth, scores, w: roc_auc_score(truth, scores, sample_weight=w),
    "average_precision": lambda truth, scores, w: average_precision_score(truth, scores, sample_weight=w),
    **{f"tpr_at_fpr_{fpr:g}": partial(published_tpr, fpr=fpr) for fpr in NOMINAL_FPRS},
}


def drawn(source, *, draws, seed):
    """`curve_values`' cluster and counts."""
    distinct, cluster = np.unique(source, return_inverse=True)
    return {"cluster": cluster, "counts": source_counts(len(distinct), draws, seed)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", REFERENCES)
def test_metrics_equal_scikit_learns_in_every_weighted_draw(name, ties):
    reference = REFERENCES[name]
    scores, truth, source = detection_problem(ties=ties)
    assert curve_values(scores, truth)[name] == pytest.approx(reference(truth, scores, None), abs=1e-12)
    about = drawn(source, draws=40, seed=5)
    expected = [reference(truth, scores, own[about["cluster"]].astype(float)) for own in about["counts"]]
    np.testing.assert_allclose(curve_values(scores, truth, **about)[name], expected, atol=1e-12)


def test_a_flipped_sign_turns_the_auc_over():
    scores, truth, _ = detection_problem()
    assert roc_auc(scores, truth) > 0.6
    assert roc_auc(-scores, truth) == pytest.approx(1 - roc_auc(scores, truth))
    assert tpr_at_fpr(-scores, truth, fpr=0.05) < 0.05 < tpr_at_fpr(scores, truth, fpr=0.05)
    assert roc_auc(np.zeros(300), truth) == 0.5


def test_a_draw_without_a_class_gives_nan():
    scores, truth = np.array([0.0, 1, 2, 3]), np.array([False, False, False, True])
    counts = np.array([[1, 1, 1, 0], [0, 0, 0, 2], [1, 0, 0, 1]], np.uint16)
    found = curve_values(scores, truth, cluster=np.arange(4), counts=counts)
    for name in REFERENCES:
        np.testing.assert_array_equal(found[name], [np.nan, np.nan, 1])


def test_threshold_is_the_lowest_clean_score_that_keeps_the_rate():
    scores = np.random.default_rng(0).permutation(np.arange(100.0))
    assert threshold_at_fpr(scores, 0.05) == 94
    assert threshold_at_fpr(scores, 0.29) == 70
    assert threshold_at_fpr(scores[:5], 0.01) == scores[:5].max()
    assert [threshold_at_fpr(scores, fpr) for fpr in NOMINAL_FPRS] == [98, 94, 89]


@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_observed_rate_on_the_calibration_images_never_exceeds_the_nominal(fpr, decimals):
    for seed in range(30):
        scores = np.round(np.random.default_rng(seed).normal(size=40 + seed), decimals)
        threshold = threshold_at_fpr(scores, fpr)
        assert np.mean(scores > threshold) <= fpr
        lower = scores[scores < threshold]
        assert len(lower) == 0 or np.mean(scores > lower.max()) > fpr


def test_a_threshold_from_the_negatives_flags_as_the_curve_says():
    scores, truth, _ = detection_problem(ties=True)
    for fpr in NOMINAL_FPRS:
        threshold = threshold_at_fpr(scores[~truth], fpr)
        assert np.mean(scores[truth] > threshold) == pytest.approx(tpr_at_fpr(scores, truth, fpr=fpr))
        assert np.mean(scores[~truth] > threshold) <= fpr


def test_rates_at_a_threshold_a_draw_equal_counts():
    scores, truth, source = detection_problem(n=80, ties=True)
    about, thresholds = drawn(source, draws=25, seed=3), np.linspace(-4, 4, 25)
    found = curve_values(scores, truth, thresholds={0.05: thresholds}, **about)
    weights = about["counts"][:, about["cluster"]]
    for name, kind in (("committed_tpr_0.05", truth), ("observed_fpr_0.05", ~truth)):
        flagged = scores[kind] > thresholds[:, None]
        np.testing.assert_allclose(found[name], (weights[:, kind] * flagged).sum(1) / weights[:, kind].sum(1))


def test_calibration_error_has_its_closed_form_and_equals_a_loop_over_bins():
    happened = np.array([True, True, True, False, False])
    assert expected_calibration_error(np.full(5, 0.6), happened) == pytest.approx(0)
    # Two bins: 3 rows at 0.9 (all happened: gap 0.1), 2 rows at 0.5 (none: gap 0.5).
    found = expected_calibration_error(np.array([0.9, 0.9, 0.9, 0.5, 0.5]), happened, bins=2)
    assert found == pytest.approx((3 * 0.1 + 2 * 0.5) / 5)
    rng = np.random.default_rng(4)
    probabilities, happened = rng.random(500), rng.random(500) < 0.4
    number = np.ceil(probabilities * 15)
    gaps = [abs((probabilities - happened)[number == each].sum()) for each in range(1, 16)]
    assert expected_calibration_error(probabilities, happened) == pytest.approx(sum(gaps) / 500)


def test_precision_is_that_of_a_population_with_the_prevalence():
    # Of 1,000 images 10 are adversarial: 9 are flagged, with 5 % of the other 990.
    assert precision_at_prevalence(0.9, 0.05, prevalence=0.01) == pytest.approx(9 / (9 + 49.5))
    assert precision_at_prevalence(0.9, 0, prevalence=0.01) == 1
    assert np.isnan(precision_at_prevalence(0, 0, prevalence=0.01))


# ---------------------------------------------------------------- intervals: coverage by simulation


def simulate(metric, truth, draw, *, sets=300):
    """The share of simulated sets whose interval covers, the mean width and 3.92 standard errors.

    Args:
        draw: from a generator to an `Estimate`, or to `evaluate`'s first three arguments and threshold_scores.
    """
    found = []
    for number in range(sets):
        drawn = draw(np.random.default_rng(number))
        if not isinstance(drawn, Estimate):
            drawn = evaluate(**drawn, seed=number, draws=300)[metric]
        found.append((drawn.estimate, drawn.low, drawn.high))
    estimate, low, high = np.array(found).T
    assert np.all((low >= 0) & (low <= estimate) & (estimate <= high) & (high <= 1) & (low < high))
    return np.mean((low <= truth) & (truth <= high)), np.mean(high - low), 3.92 * estimate.std()


def separation(auc):
    """How far apart two normal distributions of variance 1 lie at this AUC."""
    return np.sqrt(2) * stats.norm.ppf(auc)


def binormal(rng, *, auc, n, calibration=0):
    """n clean images and n attacks on them."""
    scores = rng.normal(size=2 * n) + separation(auc) * np.repeat([0, 1], n)
    clean = {"threshold_scores": rng.normal(size=calibration)} if calibration else {}
    return {"scores": scores, "is_adversarial": np.arange(2 * n) >= n, "source": np.arange(2 * n) % n, **clean}


@pytest.mark.parametrize(("auc", "n"), [(0.999, 100), (0.99, 20), (0.9, 50), (0.7, 100), (0.5, 30)])
def test_intervals_of_the_auc_cover_it(auc, n):
    covered, width, spread = simulate("roc_auc", auc, partial(binormal, auc=auc, n=n))
    assert covered >= 0.93
    # No wider than the score interval of as many trials as two images a pair are worth near 1; where the
    # estimate is normal, as wide as its own spread.
    low, high = score_interval(auc, 2 * n)
    assert width < 1.4 * (high - low) if auc > 0.98 else 0.85 * spread < width < 1.15 * spread


@pytest.mark.parametrize("auc", [0.999, 0.9])
@pytest.mark.parametrize(("metric", "calibration"), [("committed_tpr_0.05", 100), ("tpr_at_fpr_0.05", 0)])
def test_intervals_of_a_tpr_cover_that_at_the_nominal_rate_though_its_threshold_is_estimated(metric, calibration, auc):
    tpr = stats.norm.cdf(separation(auc) - stats.norm.isf(0.05))
    drawn = partial(binormal, auc=auc, n=100, calibration=calibration)
    covered, width, spread = simulate(metric, tpr, drawn, sets=300 if auc > 0.99 else 1500)
    low, high = score_interval(tpr, 100)
    assert covered >= 0.93
    assert width < 1.4 * max(high - low, spread)


def test_intervals_of_average_precision_cover_it():
    large = binormal(np.random.default_rng(0), auc=0.99, n=200_000)
    truth = average_precision(large["scores"], large["is_adversarial"])
    covered, *_ = simulate("average_precision", truth, partial(binormal, auc=0.99, n=50))
    assert covered >= 0.93


def test_intervals_of_shares_cover_them():
    twenty = np.arange(20)
    for share in (0.01, 0.05, 0.5, 0.99):
        covered, width, _ = simulate(None, share, lambda rng, p=share: proportion(rng.random(20) < p, twenty))
        assert covered >= 0.93
        assert width < 0.45
    # The exact coverage, over all 21 outcomes: that of a rate of 5 % is 92.4 % by Wilson alone.
    outcomes = [proportion(twenty < count, twenty) for count in range(21)]
    covering = [found.low <= 0.05 <= found.high for found in outcomes]
    assert stats.binom.pmf(np.arange(21), 20, 0.05) @ covering >= 0.95


def test_intervals_of_the_observed_rate_of_20_images_cover_the_nominal_one():
    covered, *_ = simulate("observed_fpr_0.05", 0.05, partial(binormal, auc=0.9, n=20, calibration=100))
    assert covered >= 0.93


def test_intervals_of_shares_cover_with_clusters_and_with_training_seeds():
    sources = np.repeat(np.arange(40), 5)

    def clustered(rng):
        return proportion(rng.random(200) < rng.beta(8, 2, size=40)[sources], sources)

    covered, width, spread = simulate(None, 0.8, clustered)
    assert covered >= 0.93
    assert width < 1.3 * spread

    def seeded(rng):
        return proportion(rng.random((5, 100)) < rng.beta(16, 4, size=5)[:, None], np.arange(100))

    covered, width, spread = simulate(None, 0.8, seeded)
    assert covered >= 0.93
    assert width < 1.8 * spread  # Student's t of few seeds


def test_intervals_of_the_auc_cover_over_training_seeds():
    def seeded(rng):
        made = binormal(rng, auc=0.9, n=60)
        shift = rng.normal(scale=0.3, size=(5, 1)) * made["is_adversarial"]
        return made | {"scores": made["scores"] + shift}

    truth = stats.norm.cdf(separation(0.9) / np.sqrt(2 + 0.3**2))
    covered, _, _ = simulate("roc_auc", truth, seeded, sets=200)
    assert covered >= 0.93
    made = seeded(np.random.default_rng(0))
    five = evaluate(**made, seed=0)["roc_auc"]
    one = evaluate(**(made | {"scores": made["scores"][0]}), seed=0)["roc_auc"]
    assert five.estimate == pytest.approx(np.mean([roc_auc(own, made["is_adversarial"]) for own in made["scores"]]))
    assert five.high - five.low > one.high - one.low


@pytest.mark.parametrize(("draw", "truth", "n"), [("normal", 0, 100), ("exponential", 1, 100), ("exponential", 1, 10)])
def test_intervals_of_means_cover_them_as_often_as_students_where_the_values_are_normal(draw, truth, n):
    covered, students = 0, 0
    for number in range(300):
        values = getattr(np.random.default_rng(number), draw)(size=n)
        found = mean(values, np.arange(n), seed=number, draws=400)
        covered += found.low <= truth <= found.high
        students += abs(values.mean() - truth) <= stats.t.ppf(0.975, n - 1) * stats.sem(values)
    assert covered >= students - 6


# ---------------------------------------------------------------- intervals: exact values and invariances


@pytest.mark.parametrize(
    ("count", "n", "low", "high"), [(0, 20, 0, 0.161), (20, 20, 0.839, 1), (100, 100, 0.963, 1), (5, 10, 0.224, 0.776)]
)
def test_shares_have_the_published_intervals(count, n, low, high):
    found = proportion(np.arange(n) < count, np.arange(n))
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))


def test_copies_of_an_image_do_not_narrow_an_interval():
    scores, truth, source = detection_problem(n=200)
    once = evaluate(scores, truth, source, seed=0)
    thrice = evaluate(np.tile(scores, 3), np.tile(truth, 3), np.tile(source, 3), seed=0)
    for name in ("roc_auc", "tpr_at_fpr_0.1"):
        assert thrice[name].low == pytest.approx(once[name].low)
        assert thrice[name].high == pytest.approx(once[name].high)
    pretended = evaluate(np.tile(scores, 3), np.tile(truth, 3), np.arange(600), seed=0)["roc_auc"]
    assert pretended.high - pretended.low < 0.85 * (once["roc_auc"].high - once["roc_auc"].low)
    flags, sources = np.arange(30) < 29, np.arange(30)
    once, thrice = proportion(flags, sources), proportion(np.tile(flags, 3), np.tile(sources, 3))
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=0.02)
    every = proportion(np.ones(90, bool), np.tile(sources, 3))
    assert every.low == pytest.approx(proportion(np.ones(30, bool), sources).low)
    values = np.random.default_rng(0).normal(size=30)
    thrice, once = mean(np.tile(values, 3), np.tile(sources, 3), seed=0), mean(values, sources, seed=0)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_perfect_and_useless_detectors_have_intervals_with_a_width():
    truth, source = np.arange(40) >= 20, np.arange(40) % 20
    for scores, value in ((truth.astype(float), 1), (-truth.astype(float), 0)):
        found = evaluate(scores, truth, source, seed=0, threshold_scores=np.zeros(50), probabilities=truth * 1.0)
        assert found["roc_auc"].estimate == found["tpr_at_fpr_0.05"].estimate == value
        assert all(each.low < each.high for name, each in found.items() if name != "tpr_at_fpr_0.01" and each.low >= 0)
        assert 0.7 < abs(1 - value - found["roc_auc"].low) <= 1


def test_means_lie_in_the_range_of_their_values_and_are_constant_only_where_these_are():
    values = np.random.default_rng(0).beta(9, 1, size=25)
    found = mean(values, np.arange(25), seed=0)
    assert values.min() < found.low < found.estimate == values.mean() < found.high < values.max()
    assert mean(np.ones(5), np.arange(5), seed=0) == Estimate(1, 1, 1)
    alone = mean(np.array([1.0, 2.0]), np.zeros(2, int), seed=0)
    assert alone.estimate == 1.5
    assert np.isnan([alone.low, alone.high]).all()
    seeds = values + np.array([-0.1, 0, 0.1])[:, None]
    over_seeds = mean(seeds, np.arange(25), seed=0)
    assert over_seeds.estimate == pytest.approx(values.mean())
    assert over_seeds.high - over_seeds.low > 2 * (found.high - found.low)


def test_draws_take_as_many_sources_as_there_are_the_same_for_every_detector():
    counts = source_counts(3, 500, 1)
    assert np.all(counts.sum(axis=1) == 3)
    assert np.all(np.abs(counts.mean(axis=0) - 1) < 0.15)
    assert not np.array_equal(source_counts(3, 500, 2), counts)
    scores, truth, source = detection_problem(n=60)
    order = np.random.default_rng(0).permutation(60)
    assert repr(evaluate(scores[order], truth[order], source[order], seed=1)) == repr(
        evaluate(scores, truth, source, seed=1)
    )


def test_drawn_thresholds_are_distributed_as_those_of_resamples():
    clean = np.random.default_rng(0).normal(size=60)
    drawn = drawn_thresholds(clean, 0.05, draws=4000, seed=0)
    rng = np.random.default_rng(1)
    resampled = [threshold_at_fpr(rng.choice(clean, 60), 0.05) for _ in range(4000)]
    assert set(drawn) <= set(clean)
    assert stats.ks_2samp(drawn, resampled).statistic < 0.05


def test_drawn_seeds_have_the_variance_of_a_mean_of_seeds():
    values = np.array([0.1, 0.4, 0.2, 0.9, 0.5])
    drawn = seed_weights(5, draws=20_000, seed=0) @ values
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.005)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / 5, rel=0.05)


# ---------------------------------------------------------------- evaluate and compare


def test_evaluation_holds_each_metric_with_its_estimate_inside_the_interval():
    scores, truth, source = detection_problem(n=400)
    clean = np.random.default_rng(8).normal(size=500) * 1.5
    given = {"threshold_scores": clean, "probabilities": 1 / (1 + np.exp(-scores)), "draws": 200}
    found = evaluate(scores, truth, source, seed=1, **given)
    assert set(found) == {
        *REFERENCES,
        *(f"{name}_{fpr:g}" for name in ("committed_tpr", "observed_fpr") for fpr in NOMINAL_FPRS),
        *("precision_at_prevalence_0.01", "precision_at_prevalence_0.1", "expected_calibration_error"),
    }
    few = {"tpr_at_fpr_0.01", "committed_tpr_0.01"}  # under 1,000 negatives
    assert all(np.isnan(found[name].estimate) for name in few)
    assert all(each.low <= each.estimate <= each.high for name, each in found.items() if name not in few)
    threshold = threshold_at_fpr(clean, 0.05)
    tpr, fpr = np.mean(scores[truth] > threshold), np.mean(scores[~truth] > threshold)
    assert (found["committed_tpr_0.05"].estimate, found["observed_fpr_0.05"].estimate) == (tpr, fpr)
    assert found["precision_at_prevalence_0.1"].estimate == pytest.approx(tpr * 0.1 / (tpr * 0.1 + fpr * 0.9))
    assert repr(evaluate(scores, truth, source, seed=1, **given)) == repr(found)
    assert evaluate(scores, truth, source, seed=2, **given)["roc_auc"] != found["roc_auc"]


def test_a_tpr_at_one_percent_is_given_from_a_thousand_negatives():
    made = binormal(np.random.default_rng(0), auc=0.9, n=1000, calibration=1000)
    found = evaluate(**made, seed=0, draws=50)
    assert found["tpr_at_fpr_0.01"].low > 0.1
    assert found["committed_tpr_0.01"].low > 0.1


def test_the_flagged_share_of_one_kind_is_the_rate_of_an_evaluation():
    made = binormal(np.random.default_rng(0), auc=0.9, n=100, calibration=200)
    found, clean = evaluate(**made, seed=0), made["threshold_scores"]
    for kind, name in ((made["is_adversarial"], "committed_tpr_0.05"), (~made["is_adversarial"], "observed_fpr_0.05")):
        rows = made["scores"][kind], made["source"][kind]
        share = flagged_share(*rows, threshold_scores=clean, fpr=0.05, seed=0)
        assert astuple(share) == pytest.approx(astuple(found[name]))


def test_calibration_errors_are_given_where_all_of_it_happened():
    found = calibration_error(np.full(30, 0.9), np.ones(30, bool), np.arange(30), seed=0)
    assert found.estimate == pytest.approx(0.1)
    assert 0 <= found.low < 0.1 < found.high < 0.35


def compare(a, b, truth, source, *, commit=False, **about):
    """Paired differences of all metrics; with thresholds committed from the normal rows themselves if asked."""
    about = {"fprs": (0.05,)} | about
    first, second = (
        samples(each, truth, source, threshold_scores=each[~truth] if commit else None, **about) for each in (a, b)
    )
    return {name: sample.minus(second[name]) for name, sample in first.items()}


def test_comparison_is_paired_and_has_a_sign():
    scores, truth, source = detection_problem(n=400)
    worse = scores + np.random.default_rng(1).normal(size=400)
    found, turned = compare(scores, worse, truth, source, seed=0), compare(worse, scores, truth, source, seed=0)
    assert set(found) == {"roc_auc", "average_precision", "tpr_at_fpr_0.05"}
    gap = found["roc_auc"]
    assert gap.estimate == pytest.approx(roc_auc_score(truth, scores) - roc_auc_score(truth, worse))
    assert (turned["roc_auc"].low, turned["roc_auc"].high) == pytest.approx((-gap.high, -gap.low))
    assert gap.low > 0
    assert gap.p_value < 0.05
    a, b = (evaluate(each, truth, source, seed=0)["roc_auc"] for each in (scores, worse))
    assert gap.high - gap.low < 0.8 * np.hypot(a.high - a.low, b.high - b.low)
    aucs = [curve_values(each, truth, **drawn(source, draws=1000, seed=0))["roc_auc"] for each in (scores, worse)]
    assert (gap.low, gap.high) == pytest.approx(np.quantile(aucs[0] - aucs[1], [0.025, 0.975]), abs=0.01)
    committed = compare(scores, worse, truth, source, commit=True, seed=0)
    assert committed["committed_tpr_0.05"].estimate == found["tpr_at_fpr_0.05"].estimate


def test_paired_intervals_cover_a_true_difference_and_rarely_find_one_that_is_none():
    found, covered, gap = 0, 0, stats.norm.cdf(1.5 / np.sqrt(2)) - stats.norm.cdf(1.0 / np.sqrt(2))
    for seed in range(200):
        rng, truth, source = np.random.default_rng(seed), np.arange(120) >= 60, np.arange(120) % 60
        common, *own = rng.normal(size=(4, 120))
        a, b, better = (0.8 * common + 0.6 * each + truth for each in own)
        found += compare(a, b, truth, source, draws=200, seed=seed)["roc_auc"].p_value < 0.05
        above = compare(better + 0.5 * truth, b, truth, source, draws=200, seed=seed)["roc_auc"]
        covered += above.low <= gap <= above.high
    assert found <= 16
    assert covered >= 0.93 * 200


def test_shares_over_seeds_have_width_and_cover():
    alike = share_over_seeds([1.0, 1.0, 1.0], trials=50)
    assert 0.9 < alike.low < alike.high == 1.0
    none = share_difference_over_seeds([1.0] * 3, [1.0] * 3, trials=50)
    assert none.low < none.estimate == 0 < none.high
    rng, hit, truth = np.random.default_rng(4), 0, 0.97
    for _ in range(300):  # networks differ by seed, and each is judged on 200 images
        odds = np.log(truth / (1 - truth)) + rng.normal(0, 0.3, 5)
        found = share_over_seeds(rng.binomial(200, 1 / (1 + np.exp(-odds))) / 200, trials=200)
        hit += found.low <= truth <= found.high
    assert hit >= 0.93 * 300


def test_two_perfect_detectors_differ_by_nothing_within_newcombes_interval():
    truth, source = np.arange(82) >= 41, np.arange(82) % 41
    found = compare(truth * 1.0, truth * 2.0, truth, source, seed=0)
    assert all((each.estimate, each.p_value) == (0, 1) and each.low == -each.high for each in found.values())
    # Newcombe's paired interval of 41 of 41 twice: Wilson's reach of each, 1 − 41 / (41 + 1.96²).
    assert found["tpr_at_fpr_0.05"].high == pytest.approx(1 - 41 / (41 + 1.96**2), abs=1e-3)
    same = proportion_difference(np.ones(41, bool), np.ones(41, bool), np.arange(41))
    assert same.high == pytest.approx(found["tpr_at_fpr_0.05"].high)


def test_differences_of_shares_have_newcombes_interval():
    # Newcombe 1998, paired, method 10 by hand: 36 and 24 of 40, 20 of them by both.
    a, b = np.r_[np.ones(36), np.zeros(4)] == 1, np.r_[np.ones(20), np.zeros(16), np.ones(4)] == 1
    found = proportion_difference(a, b, np.arange(40))
    phi = np.corrcoef(a, b)[0, 1]
    below, above = 0.9 - proportion(a, np.arange(40)).low, proportion(b, np.arange(40)).high - 0.6
    assert found.estimate == pytest.approx(0.3)
    assert found.low == pytest.approx(0.3 - np.sqrt(below**2 - 2 * phi * below * above + above**2))
    assert found.high > 0.4
    assert found.p_value < 0.05
    turned = proportion_difference(b, a, np.arange(40))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


# ---------------------------------------------------------------- verdicts


def test_holm_equals_its_definition_and_leaves_out_what_is_unknown():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.01, np.nan, 0.03]), [0.02, np.nan, 0.03])
    assert len(holm([])) == 0


@pytest.mark.parametrize(
    ("difference", "n", "adjusted", "expected"),
    [
        (Difference(0.03, 0.02, 0.04, 0.001), 200, None, Verdict.HIGHER),
        (Difference(-0.03, -0.04, -0.02, 0.001), 200, None, Verdict.LOWER),
        (Difference(0.03, 0.02, 0.04, 0.001), 19, None, Verdict.UNDECIDED),
        (Difference(0.03, 0.001, 0.06, 0.04), 200, 0.2, Verdict.UNDECIDED),
        (Difference(0.002, -0.004, 0.009, 0.5), 200, None, Verdict.EQUAL),
        (Difference(0.004, 0.001, 0.007, 0.001), 200, None, Verdict.EQUAL),
        (Difference(0.002, -0.02, 0.03, 0.9), 200, None, Verdict.UNDECIDED),
        (Difference(np.nan, np.nan, np.nan, np.nan), 200, None, Verdict.UNDECIDED),
    ],
)
def test_verdicts_follow_interval_margin_and_number(difference, n, adjusted, expected):
    assert verdict(difference, margin=MARGINS["roc_auc"], n_positive=n, p_adjusted=adjusted) is expected


def test_a_claim_is_judged_by_what_was_found():
    assert claim_verdict(Verdict.HIGHER, Verdict.HIGHER) is ClaimVerdict.SUPPORTED
    assert claim_verdict(Verdict.EQUAL, Verdict.HIGHER) is ClaimVerdict.CONTRADICTED
    assert claim_verdict(Verdict.UNDECIDED, Verdict.LOWER) is ClaimVerdict.UNDECIDED
    with pytest.raises(ValueError, match="claimed must be a claim, got 'undecided'"):
        claim_verdict(Verdict.HIGHER, Verdict.UNDECIDED)
    with pytest.raises(ValueError, match="margin must be more than 0, got 0"):
        verdict(Difference(0, 0, 0, 1), margin=0, n_positive=50)


def test_strata_part_the_positives():
    success = np.array([True, False, True])
    assert positives(success).tolist() == [True, False, True]
    assert positives(success, stratum=Stratum.FAILED).tolist() == [False, True, False]
    assert positives(success, stratum="all").tolist() == [True, True, True]
    with pytest.raises(ValueError, match="'some' is unknown: pass 'success', 'failed', 'all'"):
        positives(success, stratum="some")


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scores": np.array([0, np.nan, np.inf, 1])}, "scores must be finite, got nan at row 1 and 1 more"),
        ({"scores": np.zeros((1, 1, 4))}, r"scores must have shape \(4,\) or \(s, 4\), .*got \(1, 1, 4\)"),
        ({"scores": np.array([True] * 4)}, "scores must be numbers, got bool"),
        ({"is_adversarial": np.array([True, False])}, r"is_adversarial must have shape \(4,\).*got \(2,\)"),
        ({"is_adversarial": np.array([0, 1, 0, 1])}, "must be booleans, got int64: convert"),
        ({"is_adversarial": np.ones(4, bool)}, "both classes, got 4 adversarial images only"),
        ({"is_adversarial": np.zeros(4, bool)}, "both classes, got 4 clean images only"),
        ({"source": np.arange(3)}, r"source must have shape \(4,\).*got \(3,\)"),
        ({"source": np.arange(4.0)}, "source must be integers, got float64"),
        ({"probabilities": np.array([0, 0.5, 1, 1.5])}, r"probabilities must lie in \[0, 1\], got \[0, 1.5\]"),
        ({"threshold_scores": np.array([np.nan])}, "threshold_scores must be finite, got nan at row 0"),
        ({"threshold_scores": np.zeros((2, 9))}, r"threshold_scores must have a row a seed .*\(1\), got 2 rows"),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\^32 - 1, got -1"),
        ({"draws": 1.5}, "draws must be a whole number, 1 or more, got 1.5"),
        ({"draws": 0}, "draws must be a whole number, 1 or more, got 0"),
        ({"fprs": (5,)}, "fpr must lie between 0 and 1, got 5: 5 % is 0.05"),
    ],
)
def test_wrong_input_is_named_with_its_value_and_the_remedy(changes, sentence):
    right = {"scores": np.arange(4.0), "is_adversarial": np.array([0, 1, 0, 1], bool), "source": np.arange(4)}
    with pytest.raises(ValueError, match=sentence):
        evaluate(**(right | {"seed": 0} | changes))


def test_wrong_input_of_the_other_functions_is_named():
    _, truth, _ = detection_problem(n=10)
    for call, sentence in (
        (lambda: threshold_at_fpr(np.array([np.nan]), 0.05), "clean_scores must be finite"),
        (lambda: proportion(np.array([0, 2]), np.arange(2)), r"flags must be .* in \[0, 1\], got int64"),
        (lambda: mean(truth, np.arange(10), seed=0), "values must be numbers, got bool"),
        (lambda: mean(np.array([np.nan]), np.arange(1), seed=0), "values must be finite, got nan at row 0"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
