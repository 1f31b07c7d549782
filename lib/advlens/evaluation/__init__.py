"""Evaluation: strata, operating points, the figures of detectors and their confidence intervals."""

from advlens.evaluation.bootstrap import Estimate, bootstrap_weights
from advlens.evaluation.calibration import calibration_estimate
from advlens.evaluation.detection import Difference, Evaluation, compare, evaluate
from advlens.evaluation.means import mean_estimate
from advlens.evaluation.metrics import (
    RocCurve,
    accuracy,
    average_precision,
    expected_calibration_error,
    roc_auc,
    tpr_at_fpr,
)
from advlens.evaluation.operating_points import (
    NOMINAL_FPRS,
    Rates,
    committed_thresholds,
    rates,
    threshold_at_fpr,
)
from advlens.evaluation.strata import Stratum, positives

__all__ = [
    "NOMINAL_FPRS",
    "Difference",
    "Estimate",
    "Evaluation",
    "Rates",
    "RocCurve",
    "Stratum",
    "accuracy",
    "average_precision",
    "bootstrap_weights",
    "calibration_estimate",
    "committed_thresholds",
    "compare",
    "evaluate",
    "expected_calibration_error",
    "mean_estimate",
    "positives",
    "rates",
    "roc_auc",
    "threshold_at_fpr",
    "tpr_at_fpr",
]
