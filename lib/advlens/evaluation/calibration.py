"""How far probabilities are from frequencies, with the same bootstrap intervals as every other figure."""

from advlens.arrays import Array
from advlens.evaluation.bootstrap import DRAWS, Estimate, bootstrap_weights, over_draws, percentile_interval
from advlens.evaluation.checks import checked_source
from advlens.evaluation.metrics import expected_calibration_error


def calibration_estimate(
    probabilities: Array, happened: Array, source: Array, *, bins: int, seed: int, draws: int = DRAWS
) -> Estimate:
    """The expected calibration error with its 95 % interval by bootstrap over source images.

    Args:
        probabilities, happened, bins: as in `expected_calibration_error`.
        source: (n,) integers, the index of the image that each row was made of.
    Raises:
        ValueError: for other shapes or ranges.
    """
    weights = bootstrap_weights(checked_source(source, n=len(happened)), draws=draws, seed=seed)

    def measure(drawn: Array) -> dict[str, Array]:
        return {"error": expected_calibration_error(probabilities, happened, bins=bins, weights=drawn)}

    error = expected_calibration_error(probabilities, happened, bins=bins)
    return Estimate(float(error), *percentile_interval(over_draws(measure, weights)["error"]))
