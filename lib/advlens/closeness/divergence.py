"""Kullback-Leibler divergence from a class's mean activation."""

import numpy as np
from scipy.special import rel_entr, softmax

from advlens.arrays import Array
from advlens.closeness.reference import ClassReference

CONVERSIONS = ("softmax", "share")
FLOOR = 1e-12  # of a probability, so that an activation that a class never has costs a finite number of nats


class ClassDivergence(ClassReference):
    """D(P ‖ Q_c): P is a query's activations as a probability mass function, Q_c the mean of class c's.

    Args:
        conversion: how d activations become a probability mass function, of which the paper only says that it is
            done: "softmax" of them, or "share", each one's part of their sum, for activations ≥ 0.

    Source: eqs. 11 and 12 of Tuna et al. 2020.
    """

    def __init__(self, *, conversion: str = "softmax") -> None:
        if conversion not in CONVERSIONS:
            raise ValueError(f"conversion must be one of {', '.join(CONVERSIONS)}, got {conversion!r}")
        self.conversion = conversion

    def divergence(self, features: Array, classes: Array) -> Array:
        """(n,) float64 in nats, ≥ 0, of (n, d) rows, each from the class named for it: see `by_class`.

        Raises:
            ValueError: also for negative activations to be shared out.
        """
        return self.by_class(features, classes)

    def _of_class(self, queries: Array, rows: Array) -> Array:
        p, q = self._mass(queries), self._mass(rows).mean(axis=0)
        return rel_entr(p, q).sum(axis=1)

    def _mass(self, activations: Array) -> Array:
        """(n, d) probability mass functions."""
        if self.conversion == "share" and activations.min() < 0:
            raise ValueError(f"activations must be ≥ 0 to be shared out, got {activations.min():g}: pass softmax")
        mass = np.maximum(softmax(activations, axis=1) if self.conversion == "softmax" else activations, FLOOR)
        return mass / mass.sum(axis=1, keepdims=True)
