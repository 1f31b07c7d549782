"""Metrics: scores → numbers, their intervals, and verdicts in words."""

from advlens.metrics.curves import (
    RocCurve,
    accuracy,
    average_precision,
    expected_calibration_error,
    precision_at_prevalence,
    roc_auc,
    tpr_at_fpr,
)
from advlens.metrics.estimates import (
    MIN_NEGATIVES,
    PREVALENCES,
    calibration_error,
    chance_level,
    compare,
    evaluate,
    precision_estimate,
    roc_aucs,
)
from advlens.metrics.intervals import Difference, Estimate, bootstrap_weights, mean, proportion, proportion_difference
from advlens.metrics.strata import Stratum, positives
from advlens.metrics.thresholds import NOMINAL_FPRS, Rates, committed_thresholds, rates, threshold_at_fpr
from advlens.metrics.verdicts import MARGINS, MIN_POSITIVES, ClaimVerdict, Verdict, claim_verdict, holm, verdict

__all__ = [
    "MARGINS",
    "MIN_NEGATIVES",
    "MIN_POSITIVES",
    "NOMINAL_FPRS",
    "PREVALENCES",
    "ClaimVerdict",
    "Difference",
    "Estimate",
    "Rates",
    "RocCurve",
    "Stratum",
    "Verdict",
    "accuracy",
    "average_precision",
    "bootstrap_weights",
    "calibration_error",
    "chance_level",
    "claim_verdict",
    "committed_thresholds",
    "compare",
    "evaluate",
    "expected_calibration_error",
    "holm",
    "mean",
    "positives",
    "precision_at_prevalence",
    "precision_estimate",
    "proportion",
    "proportion_difference",
    "rates",
    "roc_auc",
    "roc_aucs",
    "threshold_at_fpr",
    "tpr_at_fpr",
    "verdict",
]
