"""Rows, choices and scores that the studies on the way to `Benchmark` still share; it goes with the last of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from advlens.arrays import Array
from advlens.closeness.divergence import CONVERSIONS
from advlens.detectors.baselines import pixel_baselines
from advlens.detectors.decision_metrics import CLOSENESS, SIX, UNCERTAINTY
from advlens.detectors.regression import regression
from advlens.metrics import roc_auc
from advlens.studies.decisions import SIGNS, kde_column, kl_column

ALL_SIX = "all six"
ALL_BASELINES = "baselines, all"
MOST_BASELINES = "baselines, grey levels aside"
PARTS_OF_VARIANCE = ("aleatoric", "epistemic")  # which the study's later version measures
BASELINES = (*pixel_baselines(), "max softmax")
DETECTORS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in (*UNCERTAINTY, *PARTS_OF_VARIANCE, *CLOSENESS)},
    "uncertainty, all": UNCERTAINTY,
    "closeness, all": CLOSENESS,
    ALL_SIX: SIX,
    **{name: (name,) for name in BASELINES},
    ALL_BASELINES: BASELINES,
    MOST_BASELINES: tuple(name for name in BASELINES if name != "off grey levels"),  # what an 8-bit file leaves of them
}
PARTS = ("train", "validation", "test")
EIGHT_BIT = "test, 8-bit"  # the test part's images, rounded to 256 grey levels
CALIBRATION = "calibration"  # every clean validation image, also those that an attack on fewer images left out


def family_of(detector: str) -> str:
    """The family that colours a detector's figures."""
    if detector == ALL_SIX:
        return "combined"
    if set(DETECTORS[detector]) <= set(BASELINES):
        return "baseline"
    return "closeness" if set(DETECTORS[detector]) <= set(CLOSENESS) else "uncertainty"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which of the measured columns stand for the density and the divergence."""

    bandwidth: float
    conversion: str

    def of(self, measured: pd.DataFrame) -> pd.DataFrame:
        """The measured rows with columns "KDE" and "KL divergence"."""
        return measured.assign(
            **{"KDE": measured[kde_column(self.bandwidth)], "KL divergence": measured[kl_column(self.conversion)]}
        )


def published_choice(bandwidth: float) -> Choice:
    """The published bandwidth in scikit-learn's convention, and softmax: the paper does not name its conversion."""
    return Choice(bandwidth, "softmax")


def published_rows(measured: pd.DataFrame) -> pd.DataFrame:
    """Clean images, their noisy counterparts as published, and all attacks, failed ones included, as positives."""
    return measured[
        measured["role"].isin(["clean", "noisy as published", "adversarial"]) & measured["part"].isin(PARTS)
    ]


def corrected_rows(measured: pd.DataFrame) -> pd.DataFrame:
    """Clean images, noisy twins of the perturbation's norm, and successful attacks, as floats."""
    return successful(measured[measured["role"].isin(["clean", "noisy", "adversarial"]) & measured["part"].isin(PARTS)])


def successful(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without failed attacks."""
    return rows[(rows["role"] != "adversarial") | rows["success"]]


def corrected_parts(measured: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The train, validation and test groups of `corrected_rows`."""
    rows = corrected_rows(measured)
    return {name: rows[rows["part"] == name] for name in PARTS}


def judgeable(measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The attacks that succeeded at least once in each of the corrected protocol's three parts."""
    return {
        name: frame
        for name, frame in measured.items()
        if all(truth_of(part).any() for part in corrected_parts(frame).values())
    }


def choose(measured: Mapping[str, pd.DataFrame], *, bandwidths: Sequence[float]) -> tuple[Choice, pd.DataFrame]:
    """The bandwidth and conversion with the highest mean AUC over all attacks' validation groups, once for all.

    Returns:
        The choice, and a row a setting tried: metric, setting, auc.
    """
    tried = [("KDE", h, kde_column(h)) for h in bandwidths]
    tried += [("KL divergence", conversion, kl_column(conversion)) for conversion in CONVERSIONS]
    parts = [corrected_parts(frame)["validation"] for frame in measured.values()]
    rows = []
    for metric, value, column in tried:
        aucs = [roc_auc(SIGNS[metric] * part[column].to_numpy(), truth_of(part)) for part in parts]
        rows.append({"metric": metric, "setting": value, "auc": float(np.mean(aucs))})
    table = pd.DataFrame(rows)
    best = {metric: part.loc[part["auc"].idxmax(), "setting"] for metric, part in table.groupby("metric")}
    return Choice(best["KDE"], best["KL divergence"]), table


def published_scores(measured: pd.DataFrame, *, bandwidth: float) -> pd.DataFrame:
    """Log odds of every detector, fitted and judged on the same rows.

    Returns:
        Columns role, source, success, and one a detector.
    """
    rows = published_choice(bandwidth).of(published_rows(measured))
    return _all_scores(rows, rows)


def corrected_scores(measured: pd.DataFrame, *, choice: Choice, calibration: pd.DataFrame) -> pd.DataFrame:
    """Log odds of every detector, fitted on the training groups' successful attacks and normal images.

    Args:
        calibration: what was measured of all clean validation images.
    Returns:
        Columns role, source, success, part ("validation", "test", `EIGHT_BIT` or `CALIBRATION`), and one a detector.
        Failed attacks are among the rows.
    """
    own = choice.of(measured[measured["role"].isin(["clean", "noisy", "adversarial"])])
    clean = choice.of(calibration).assign(part=CALIBRATION)
    train = successful(own[own["part"] == "train"])
    judged = pd.concat([own[own["part"] != "train"], clean])
    return _all_scores(train, judged).assign(part=judged["part"].to_numpy())


def _all_scores(fit: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    scores = {name: scored(fitted(fit, columns), judged, columns) for name, columns in DETECTORS.items()}
    return judged[["role", "source", "success"]].assign(**scores).reset_index(drop=True)


def fitted(rows: pd.DataFrame, columns: Sequence[str]) -> Pipeline:
    """The logistic regression of some columns, fitted to the rows given."""
    return regression(rows[list(columns)].to_numpy(np.float64), truth_of(rows))


def scored(model: Pipeline, rows: pd.DataFrame, columns: Sequence[str]) -> Array:
    """(n,) its log odds of the rows given."""
    return model.decision_function(rows[list(columns)].to_numpy(np.float64))


def truth_of(rows: pd.DataFrame) -> Array:
    """(n,) bool, True where a row is an attack."""
    return (rows["role"] == "adversarial").to_numpy()
