"""Heads that see how far measurements lie from those of normal images."""

from typing import Any

import numpy as np
import pandas as pd

from advlens.arrays import Array
from advlens.detectors.heads import HEADS, Boosting, Head, Logistic

LARGEST = 30.0  # log odds, beyond which one head would outvote the other by extrapolating


class Deviations(Logistic):
    """Logistic regression on how far each column deviates from its value on normal images, to either side.

    The deviation z counts interquartile ranges from the median, both of the normal rows among those learnt from. Each
    column is seen as sign(z) log(1 + |z|) and as log(1 + |z|): an attack that drives a column further than any other
    did does not outweigh all other columns, and how far it goes can count, whichever way.
    """

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "Deviations":
        """Takes over medians and ranges, and fits the regression."""
        values = measured.to_numpy(np.float64)
        low, self.centre_, high = np.percentile(values[~np.asarray(is_adversarial, bool)], (25, 50, 75), axis=0)
        spread = values.std(axis=0)  # of columns that most normal images agree in
        self.width_ = np.where(high > low, high - low, np.where(spread > 0, spread, 1.0))
        super().fit(self._deviations(measured), is_adversarial)
        return self

    def _deviations(self, measured: pd.DataFrame) -> pd.DataFrame:
        z = (measured.to_numpy(np.float64) - self.centre_) / self.width_
        far = np.log1p(np.abs(z))
        return pd.DataFrame(np.hstack([np.sign(z) * far, far]))

    def score(self, measured: pd.DataFrame) -> Array:
        """Log odds.

        Raises:
            RuntimeError: before `fit`.
        """
        return super().score(self._deviations(measured) if hasattr(self, "centre_") else measured)

    def fitted(self) -> dict[str, Any]:
        """What the regression learnt, medians and ranges."""
        known = super().fitted()
        return known and known | {"deviations": {"centre_": self.centre_, "width_": self.width_}}

    def restore(self, parts: dict[str, Any]) -> "Deviations":
        """Takes over what `fitted` gave."""
        super().restore(parts)
        self.centre_, self.width_ = (parts["deviations"][name] for name in ("centre_", "width_"))
        return self


class Averaged(Head):
    """The mean log odds of `Deviations` and of `Boosting`, each at most `LARGEST` to either side.

    The first extrapolates to attacks that are stronger than those learnt from; the second knows which columns matter
    together.
    """

    gives_log_odds = True

    def __init__(self) -> None:
        self.heads: tuple[Head, Head] = (Deviations(), Boosting())

    def fit(self, measured: pd.DataFrame, is_adversarial: Array, *, seed: int = 0) -> "Averaged":
        """Fits both."""
        self.heads = Deviations().fit(measured, is_adversarial), Boosting().fit(measured, is_adversarial, seed=seed)
        return self

    def score(self, measured: pd.DataFrame) -> Array:
        """Log odds.

        Raises:
            RuntimeError: before `fit`.
        """
        return np.mean([each.score(measured).clip(-LARGEST, LARGEST) for each in self.heads], axis=0)

    def fitted(self) -> dict[str, Any]:
        """What both learnt."""
        regression, trees = self.heads
        return regression.fitted() | trees.fitted()

    def restore(self, parts: dict[str, Any]) -> "Averaged":
        """Takes over what `fitted` gave."""
        self.heads = Deviations().restore(parts), Boosting().restore(parts)
        return self


HEADS.update({each.__name__: each for each in (Deviations, Averaged)})
