"""The logistic regression of scores and metrics that several studies use."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from advlens.arrays import Array
from advlens.detectors.base import checked_truth


def regression(measured: Array, is_adversarial: Array) -> Pipeline:
    """Standardisation and logistic regression, fitted.

    Args:
        measured: (n, d) metrics; is_adversarial: (n,) truths, 1 where adversarial.
    Raises:
        ValueError: for truths other than 0 and 1, or of one kind only.
    """
    truth = checked_truth(is_adversarial, n=len(measured))
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(measured, truth)
