"""Uncertainty of a decision: Monte-Carlo dropout passes, and the metrics that are made of them."""

from advlens.uncertainty.metrics import METRICS
from advlens.uncertainty.monte_carlo import MonteCarloDropout

__all__ = ["METRICS", "MonteCarloDropout"]
