"""What t stochastic passes say of how sure a network is.

All are plain functions of (t, n, c) softmax outputs, of t passes, n images and c classes; logarithms are natural.
"""

from collections.abc import Callable

import numpy as np

from advlens.arrays import Array


def confidence(probabilities: Array) -> Array:
    """The mean softmax output of the class that has the largest one.

    Returns:
        (n,) in [1/c, 1].
    Source: eq. 5 of Tuna et al. 2020.
    """
    return probabilities.mean(axis=0).max(axis=1)


def entropy(probabilities: Array) -> Array:
    """The entropy of the mean prediction.

    Returns:
        (n,) in nats, 0 ≤ H ≤ ln c.
    Source: eq. 6 of Tuna et al. 2020.
    """
    return _entropy(probabilities.mean(axis=0))


def variance(probabilities: Array) -> Array:
    """The variance over passes, averaged over classes.

    Returns:
        (n,) in [0, 1/(2c)]: largest where half of the passes are sure of one class and half of another.
    Source: eq. 7 of Tuna et al. 2020.
    """
    return probabilities.var(axis=0).mean(axis=1)


def mutual_information(probabilities: Array) -> Array:
    """The epistemic part of the predictive entropy (BALD).

    Returns:
        (n,) in nats, 0 ≤ MI ≤ H.
    Source: Gal & Ghahramani 2016; eq. 8 of Tuna et al. 2020.
    """
    return np.maximum(entropy(probabilities) - _entropy(probabilities).mean(axis=0), 0)


def aleatoric(probabilities: Array) -> Array:
    """The variance of the class as such, within the passes: the mean over passes of Σ p (1 − p).

    With `epistemic` it adds up to the variance Σ p̄ (1 − p̄) of the mean prediction.

    Returns:
        (n,) in [0, 1 − 1/c].
    Source: Kwon et al. 2020, eq. 4, trace of the first term.
    """
    return (probabilities * (1 - probabilities)).sum(axis=2).mean(axis=0)


def epistemic(probabilities: Array) -> Array:
    """The variance of the prediction between the passes, summed over classes: c times `variance`.

    Returns:
        (n,) in [0, 1/2].
    Source: Kwon et al. 2020, eq. 4, trace of the second term.
    """
    return probabilities.var(axis=0).sum(axis=1)


METRICS: dict[str, Callable[[Array], Array]] = {
    "variance": variance,
    "entropy": entropy,
    "mutual information": mutual_information,
    "confidence": confidence,
    "aleatoric": aleatoric,
    "epistemic": epistemic,
}


def _entropy(probabilities: Array) -> Array:
    """Over the last axis; 0 log 0 = 0."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1))
    return -(probabilities * logs).sum(axis=-1)
