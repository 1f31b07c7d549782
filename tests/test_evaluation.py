"""Evaluation: figures against scikit-learn and closed forms, intervals against a bootstrap in a loop."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from advlens.evaluation import (
    NOMINAL_FPRS,
    Stratum,
    accuracy,
    average_precision,
    bootstrap_weights,
    committed_thresholds,
    compare,
    evaluate,
    expected_calibration_error,
    positives,
    rates,
    roc_auc,
    threshold_at_fpr,
    tpr_at_fpr,
)
from advlens.evaluation.aucs import auc_estimates
from advlens.evaluation.bootstrap import over_draws


def detection_problem(*, n: int = 300, ties: bool = False, seed: int = 0, shift: float = 1.0):
    """Scores, truths and sources: each source once clean and once adversarial, and rows in random order."""
    generator = np.random.default_rng(seed)
    source = generator.permutation(np.repeat(np.arange(n // 2), 2))
    truth = np.zeros(n, dtype=bool)
    truth[np.unique(source, return_index=True)[1]] = True
    scores = generator.normal(size=n) + shift * truth + generator.normal(size=n // 2)[source]
    return (np.round(scores) if ties else scores), truth, source


def published_tpr(truth, scores, weights, *, fpr):
    """The convention in scikit-learn's terms: the best operating point that the rate admits."""
    false, true, _ = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    return true[false <= fpr + 1e-12].max()


REFERENCES = {
    "roc_auc": (roc_auc, lambda truth, scores, w: roc_auc_score(truth, scores, sample_weight=w)),
    "average_precision": (
        average_precision,
        lambda truth, scores, w: average_precision_score(truth, scores, sample_weight=w),
    ),
    **{
        f"tpr_at_fpr_{fpr:g}": (
            lambda s, t, *, weights=None, fpr=fpr: tpr_at_fpr(s, t, fpr=fpr, weights=weights),
            lambda truth, scores, w, fpr=fpr: published_tpr(truth, scores, w, fpr=fpr),
        )
        for fpr in NOMINAL_FPRS
    },
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", REFERENCES)
def test_figures_equal_scikit_learns_in_every_weighted_draw(name, ties):
    metric, reference = REFERENCES[name]
    scores, truth, source = detection_problem(ties=ties)
    assert metric(scores, truth) == pytest.approx(reference(truth, scores, None), abs=1e-12)
    weights = bootstrap_weights(source, draws=40, seed=5)
    expected = [reference(truth, scores, draw.astype(float)) for draw in weights]
    np.testing.assert_allclose(metric(scores, truth, weights=weights), expected, atol=1e-12)


def test_a_flipped_sign_turns_the_auc_over():
    scores, truth, _ = detection_problem()
    assert roc_auc(scores, truth) > 0.6
    assert roc_auc(-scores, truth) == pytest.approx(1 - roc_auc(scores, truth))
    assert tpr_at_fpr(-scores, truth, fpr=0.05) < 0.05 < tpr_at_fpr(scores, truth, fpr=0.05)
    assert roc_auc(np.zeros(300), truth) == 0.5


def test_perfect_scores_are_perfect():
    truth = np.array([False, True, False, True])
    scores = np.array([0.1, 0.9, 0.2, 0.3])
    assert (
        roc_auc(scores, truth),
        average_precision(scores, truth),
        tpr_at_fpr(scores, truth, fpr=0.01),
    ) == (1,) * 3


def test_draws_are_of_whole_sources_and_the_same_in_any_order_of_the_rows():
    source = np.repeat([7, 3, 900], [2, 1, 4])
    weights = bootstrap_weights(source, draws=500, seed=1)
    assert weights.shape == (500, 7)
    firsts = weights[:, [0, 2, 3]]
    assert np.array_equal(weights, firsts[:, [0, 0, 1, 2, 2, 2, 2]])
    assert np.all(firsts.sum(axis=1) == 3)
    assert np.all(np.abs(firsts.mean(axis=0) - 1) < 0.15)
    order = np.random.default_rng(0).permutation(7)
    assert np.array_equal(bootstrap_weights(source[order], draws=500, seed=1), weights[:, order])
    assert not np.array_equal(bootstrap_weights(source, draws=500, seed=2), weights)


def test_intervals_equal_a_loop_that_repeats_the_rows():
    scores, truth, source = detection_problem(n=120, ties=True)
    weights = bootstrap_weights(source, draws=200, seed=9)
    looped = []
    for draw in weights:
        rows = np.repeat(np.arange(120), draw)
        looped.append(roc_auc_score(truth[rows], scores[rows]))
    figure = evaluate(scores, truth, source, draws=200, seed=9)["roc_auc"]
    assert figure.estimate == pytest.approx(roc_auc_score(truth, scores))
    np.testing.assert_allclose([figure.low, figure.high], np.quantile(looped, [0.025, 0.975]), atol=1e-12)


def test_figures_do_not_depend_on_how_the_draws_are_chunked(monkeypatch):
    scores, truth, source = detection_problem(n=100)
    weights = bootstrap_weights(source, draws=50, seed=0)
    whole = roc_auc(scores, truth, weights=weights)
    sizes = []
    monkeypatch.setattr("advlens.evaluation.bootstrap.CHUNK_BYTES", 7 * 8 * 100)

    def measure(chunk):
        sizes.append(len(chunk))
        return {"auc": roc_auc(scores, truth, weights=chunk)}

    assert np.array_equal(over_draws(measure, weights)["auc"], whole)
    assert sizes == [7] * 7 + [1]


def test_copies_of_an_image_do_not_narrow_the_interval():
    scores, truth, source = detection_problem(n=200)
    once = evaluate(scores, truth, source, draws=300, seed=0)
    thrice = evaluate(np.tile(scores, 3), np.tile(truth, 3), np.tile(source, 3), draws=300, seed=0)
    assert thrice["roc_auc"].low == pytest.approx(once["roc_auc"].low)
    assert thrice["roc_auc"].high == pytest.approx(once["roc_auc"].high)
    assert (thrice.n_positive, thrice.n_negative, thrice.n_sources) == (300, 300, 100)
    pretended = evaluate(np.tile(scores, 3), np.tile(truth, 3), np.arange(600), draws=300, seed=0)["roc_auc"]
    assert pretended.high - pretended.low < 0.8 * (once["roc_auc"].high - once["roc_auc"].low)


def test_intervals_cover_the_true_auc_about_as_often_as_they_say():
    # Scores N(0, 2) and N(1, 2), the sources' own part shared by the pair: AUC = Φ(1 / 2).
    true_auc = 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    covered = 0
    for seed in range(200):
        scores, truth, source = detection_problem(n=200, seed=seed)
        figure = evaluate(scores, truth, source, draws=200, seed=seed)["roc_auc"]
        covered += figure.low <= true_auc <= figure.high
    assert 0.90 <= covered / 200 <= 0.99


def test_threshold_is_the_lowest_clean_score_that_keeps_the_rate():
    scores = np.random.default_rng(0).permutation(np.arange(100.0))
    assert threshold_at_fpr(scores, 0.05) == 94
    assert threshold_at_fpr(scores, 0.29) == 70
    assert threshold_at_fpr(scores[:5], 0.01) == scores[:5].max()
    assert committed_thresholds(scores) == {0.01: 98, 0.05: 94, 0.10: 89}


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
        at_threshold = rates(scores, truth, threshold=threshold_at_fpr(scores[~truth], fpr))
        assert at_threshold.true_positive == pytest.approx(tpr_at_fpr(scores, truth, fpr=fpr))
        assert at_threshold.false_positive <= fpr


def test_committed_figures_equal_counts_in_each_draw():
    scores, truth, source = detection_problem(n=80)
    weights = bootstrap_weights(source, draws=25, seed=3)
    found = rates(scores, truth, threshold=0.7, weights=weights)
    for draw, counts in enumerate(weights):
        rows = np.repeat(np.arange(80), counts)
        flagged, real = scores[rows] > 0.7, truth[rows]
        assert found.true_positive[draw] == pytest.approx(flagged[real].mean())
        assert found.false_positive[draw] == pytest.approx(flagged[~real].mean())
        assert found.accuracy[draw] == pytest.approx(np.mean(flagged == real))
    np.testing.assert_allclose(accuracy(scores > 0.7, truth, weights=weights), found.accuracy)


def test_evaluation_holds_each_figure_with_its_estimate_inside_the_interval():
    scores, truth, source = detection_problem(n=400)
    thresholds = {0.05: threshold_at_fpr(np.random.default_rng(8).normal(size=500) * 1.5, 0.05)}
    probabilities = 1 / (1 + np.exp(-scores))
    given = {"thresholds": thresholds, "probabilities": probabilities, "draws": 200}
    found = evaluate(scores, truth, source, seed=1, **given)
    assert set(found.figures) == set(REFERENCES) | {
        "committed_tpr_0.05",
        "observed_fpr_0.05",
        "committed_accuracy_0.05",
        "expected_calibration_error",
    }
    assert all(figure.low <= figure.estimate <= figure.high for figure in found.figures.values())
    assert found["observed_fpr_0.05"].estimate == np.mean(scores[~truth] > thresholds[0.05])
    assert found["committed_tpr_0.05"].estimate == np.mean(scores[truth] > thresholds[0.05])
    assert evaluate(scores, truth, source, seed=1, **given) == found
    assert evaluate(scores, truth, source, seed=2, **given) != found


def test_calibration_error_has_its_closed_form():
    happened = np.array([True, True, True, False, False])
    assert expected_calibration_error(np.full(5, 0.6), happened) == pytest.approx(0)
    assert expected_calibration_error(np.full(5, 0.9), happened) == pytest.approx(0.3)
    # Two bins: 3 rows at 0.9 (all happened: gap 0.1), 2 rows at 0.5 (none: gap 0.5).
    probabilities = np.array([0.9, 0.9, 0.9, 0.5, 0.5])
    assert expected_calibration_error(probabilities, happened) == pytest.approx((3 * 0.1 + 2 * 0.5) / 5)
    weights = np.array([[1, 0, 0, 0, 3]])
    assert expected_calibration_error(probabilities, happened, weights=weights) == pytest.approx([1.6 / 4])
    # 0 and 0.5 share the first of two bins, whose upper edge is 0.5; 1 is in the last.
    edges = expected_calibration_error(np.array([0, 0.5, 1]), np.array([True, False, False]), bins=2)
    assert edges == pytest.approx((0.5 + 1) / 3)


def test_calibration_error_equals_a_loop_over_bins():
    generator = np.random.default_rng(4)
    probabilities = generator.random(500)
    happened = generator.random(500) < probabilities**2
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (probabilities > low) & (probabilities <= low + 1 / 15)
        expected += inside.mean() * abs(probabilities[inside].mean() - happened[inside].mean())
    assert expected_calibration_error(probabilities, happened) == pytest.approx(expected)


def test_comparison_is_paired():
    scores, truth, source = detection_problem(n=300)
    worse = scores + np.random.default_rng(1).normal(size=300)
    found = compare(scores, worse, truth, source, draws=400, seed=0)
    difference = found["roc_auc"]
    assert difference.estimate == pytest.approx(roc_auc_score(truth, scores) - roc_auc_score(truth, worse))
    weights = bootstrap_weights(source, draws=400, seed=0)
    drawn = roc_auc(scores, truth, weights=weights) - roc_auc(worse, truth, weights=weights)
    np.testing.assert_allclose([difference.low, difference.high], np.quantile(drawn, [0.025, 0.975]))
    a, b = (evaluate(s, truth, source, draws=400, seed=0)["roc_auc"] for s in (scores, worse))
    assert difference.high - difference.low < 0.8 * np.hypot(a.high - a.low, b.high - b.low)
    assert set(found) == {"roc_auc", "average_precision", "tpr_at_fpr_0.05"}


def test_comparison_knows_better_worse_and_equal():
    scores, truth, source = detection_problem(n=400)
    noise = np.random.default_rng(1).normal(size=400)
    better = compare(scores, noise, truth, source, draws=400, seed=0)["roc_auc"]
    worse = compare(noise, scores, truth, source, draws=400, seed=0)["roc_auc"]
    assert better.low > 0 > worse.high
    assert better.estimate == -worse.estimate
    assert better.p_value == worse.p_value == pytest.approx(2 / 401)
    equal = compare(scores, 2 * scores + 1, truth, source, draws=400, seed=0)["roc_auc"]
    assert (equal.estimate, equal.low, equal.high, equal.p_value) == (0, 0, 0, 1)


def test_comparison_of_equally_good_detectors_rarely_finds_a_difference():
    found = 0
    for seed in range(100):
        scores, truth, source = detection_problem(n=120, seed=seed)
        other, *_ = detection_problem(n=120, seed=1000 + seed, shift=0)
        generator = np.random.default_rng(2000 + seed)
        a, b = (scores + other * generator.normal(size=120) for _ in range(2))
        found += compare(a, b, truth, source, draws=200, seed=seed)["roc_auc"].p_value < 0.05
    assert found <= 12


def test_draws_without_a_class_are_left_out_of_the_interval():
    scores, truth = np.array([0.0, 1, 2, 3]), np.array([False, False, False, True])
    weights = np.array([[1, 1, 1, 0], [0, 0, 0, 2], [1, 0, 0, 1]])
    for metric, _ in REFERENCES.values():
        np.testing.assert_array_equal(metric(scores, truth, weights=weights), [np.nan, np.nan, 1])
    figure = evaluate(scores, truth, np.arange(4), draws=100, seed=0)["roc_auc"]
    assert (figure.estimate, figure.low, figure.high) == (1, 1, 1)


def test_strata_part_the_positives():
    success = np.array([True, False, True])
    assert positives(success).tolist() == [True, False, True]
    assert positives(success, stratum=Stratum.FAILED).tolist() == [False, True, False]
    assert positives(success, stratum="all").tolist() == [True, True, True]
    with pytest.raises(ValueError, match="'some' is unknown: pass 'success', 'failed', 'all'"):
        positives(success, stratum="some")
    with pytest.raises(ValueError, match="booleans, got int64"):
        positives(np.array([1, 0]))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scores": np.array([0, np.nan, np.inf, 1])}, "scores must be finite, got nan at row 1 and 1 more"),
        ({"scores": np.zeros((4, 1))}, r"scores must have shape \(n,\), .*got \(4, 1\)"),
        ({"scores": np.array([True] * 4)}, "scores must be numbers, got bool"),
        ({"is_adversarial": np.array([True, False])}, r"is_adversarial must have shape \(4,\).*got \(2,\)"),
        ({"is_adversarial": np.array([0, 1, 0, 1])}, "must be booleans, got int64: convert"),
        ({"is_adversarial": np.ones(4, bool)}, "both classes, got 4 adversarial images only"),
        ({"is_adversarial": np.zeros(4, bool)}, "both classes, got 4 clean images only"),
        ({"source": np.arange(3)}, r"source must have shape \(4,\).*got \(3,\)"),
        ({"source": np.arange(4.0)}, "source must be integers, got float64"),
        (
            {"probabilities": np.array([0, 0.5, 1, 1.5])},
            r"probabilities must lie in \[0, 1\], got \[0, 1.5\]",
        ),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\^32 - 1, got -1"),
        ({"draws": 1.5}, "draws must be a whole number, 1 or more, got 1.5"),
        ({"draws": 0}, "draws must be a whole number, 1 or more, got 0"),
        ({"thresholds": {0.05: np.nan}}, "the threshold at FPR 0.05 must be a number, got NaN"),
        ({"thresholds": {5: 0.1}}, "a key of thresholds must lie between 0 and 1, got 5: 5 % is 0.05"),
        ({"fprs": (5,)}, "fpr must lie between 0 and 1, got 5: 5 % is 0.05"),
    ],
)
def test_wrong_input_is_named_with_its_value_and_the_remedy(changes, sentence):
    right = {"scores": np.arange(4.0), "is_adversarial": np.array([0, 1, 0, 1], bool), "source": np.arange(4)}
    with pytest.raises(ValueError, match=sentence):
        evaluate(**(right | {"seed": 0} | changes))


def test_thresholds_without_their_rates_are_refused():
    with pytest.raises(TypeError, match="thresholds must map a nominal FPR to its threshold, got list"):
        evaluate(np.arange(4.0), np.array([0, 1, 0, 1], bool), np.arange(4), seed=0, thresholds=[1.0])


def test_wrong_weights_and_calibration_scores_are_refused():
    scores, truth, _ = detection_problem(n=10)
    with pytest.raises(ValueError, match=r"weights must have shape \(draws, 10\), got \(10,\)"):
        roc_auc(scores, truth, weights=np.ones(10))
    with pytest.raises(ValueError, match="weights must be 0 or more, got -1"):
        roc_auc(scores, truth, weights=-np.ones((1, 10)))
    with pytest.raises(ValueError, match="threshold must be a number, got NaN"):
        rates(scores, truth, threshold=np.nan)
    with pytest.raises(ValueError, match="clean_scores must be finite"):
        threshold_at_fpr(np.array([np.nan]), 0.05)
    with pytest.raises(ValueError, match=r"scores_b must have shape \(10,\)"):
        compare(scores, scores[:5], truth, np.arange(10), seed=0)
    with pytest.raises(ValueError, match="predicted and truth must both be"):
        accuracy(truth, truth[:3])


def test_many_aucs_are_those_of_one_evaluation_each():
    scores, truth, source = detection_problem(ties=True)
    both = {"a": scores, "b": -scores + np.arange(len(scores)) % 3}
    together = auc_estimates(both, truth, source, seed=3, draws=50)
    assert together == {
        name: evaluate(values, truth, source, seed=3, draws=50)["roc_auc"] for name, values in both.items()
    }
    with pytest.raises(ValueError, match="b"):
        auc_estimates({"a": scores, "b": scores[1:]}, truth, source, seed=3)
