"""The two protocols' rows and scores, from what was measured of every image; `results` makes figures of them."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from advlens.detectors.decision_metrics import SIX
from advlens.detectors.entropy import direction_of
from advlens.detectors.regression import regression
from advlens.metrics import roc_aucs
from advlens.studies.responses.settings import PUBLISHED_RESPONSE, ResponseEntropy
from advlens.studies.rows import BASELINES, PARTS, successful, truth_of

BITS = "bits"  # the published setting's entropy as it is
ENTROPY, CHOSEN, CENTRED = "local entropy", "local entropy, chosen", "local entropy, class-centred"
JOINED = {"all six": SIX, "baselines, all": BASELINES}  # regressions of several scores
NETWORKS = {"input classifier": "input", "relevancy classifier": "z-rule"}  # detectors that are networks, by their lens
DETECTORS = (ENTROPY, CHOSEN, CENTRED, *JOINED, *NETWORKS, *BASELINES)


def family_of(detector: str) -> str:
    """The family that colours a detector's figures."""
    if detector in (ENTROPY, CHOSEN, CENTRED):
        return "relevancy"
    return {"all six": "uncertainty", "input classifier": "input", "relevancy classifier": "combined"}.get(
        detector, "baseline"
    )


@dataclasses.dataclass(frozen=True)
class Choice:
    """What the validation groups decided, once for all attacks.

    Attributes:
        setting: the response and entropy whose ROC-AUC over all attacks is farthest from ½.
        direction, chosen_direction: 1 or -1, of the published setting and of that one.
    """

    setting: ResponseEntropy
    direction: int
    chosen_direction: int


def published_rows(measured: pd.DataFrame) -> pd.DataFrame:
    """Successful attacks and their own originals, of all parts, without noise."""
    rows = successful(measured[(measured["role"] != "noisy") & measured["part"].isin(PARTS)])
    return rows[rows["source"].isin(rows.loc[truth_of(rows), "source"])]


def pooled(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All attacks' rows without failed attacks, each clean image once."""
    rows = successful(pd.concat(frames.values(), ignore_index=True))
    return rows[(rows["role"] != "clean") | ~rows.duplicated(["role", "source", "part"])]


def choose(
    measured: Mapping[str, pd.DataFrame], *, compared: Sequence[ResponseEntropy], seed: int
) -> tuple[Choice, pd.DataFrame]:
    """The direction of the published setting and the best setting of all, on the validation groups of all attacks.

    Returns:
        The choice, and a row a setting: name, estimate, low, high (the ROC-AUC of higher entropy as more adversarial),
        n (the successful attacks).
    Raises:
        ValueError: where no attack succeeds there.
    """
    rows = pooled(measured)
    rows = rows[rows["part"] == "validation"]
    if not truth_of(rows).any():
        raise ValueError("no attack succeeds on the validation groups: attack more images")
    entropies = {each.name: rows[each.name].to_numpy() for each in compared}
    found = roc_aucs(entropies, truth_of(rows), rows["source"].to_numpy(), seed=seed)
    best = max(compared, key=lambda each: abs(found[each.name].estimate - 0.5))
    directions = {name: 1 if auc.estimate >= 0.5 else -1 for name, auc in found.items()}
    choice = Choice(best, directions[PUBLISHED_RESPONSE.name], directions[best.name])
    n = int(truth_of(rows).sum())
    return choice, pd.DataFrame([{"name": name, **dataclasses.asdict(auc), "n": n} for name, auc in found.items()])


def scored(
    measured: Mapping[str, pd.DataFrame], calibration: pd.DataFrame, *, choice: Choice
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The scores of every detector, higher = more adversarial, learnt from all attacks' training groups together.

    Args:
        measured: attack → its rows, with a column a metric, baseline and network's score.
        calibration: the same of clean images that no attack uses.
    Returns:
        Attack → its rows, and the calibration images' rows, with a column for each of `DETECTORS` and `BITS`.
        Regressions learn from the training groups; baselines are turned around where the validation groups say so; the
        class-centred entropy is the published one minus its mean over the calibration images of the predicted class.
    """
    rows = pooled(measured)
    train, validation = rows[rows["part"] == "train"], rows[rows["part"] == "validation"]
    models = {
        name: regression(train[list(columns)].to_numpy(np.float64), truth_of(train)) for name, columns in JOINED.items()
    }
    signs = {name: direction_of(validation[name].to_numpy(np.float64), truth_of(validation)) for name in BASELINES}
    published = PUBLISHED_RESPONSE.name
    centres = calibration.groupby("predicted")[published].mean()
    centre_of_all = calibration[published].mean()

    def scores(rows: pd.DataFrame) -> pd.DataFrame:
        own = rows["predicted"].map(centres).fillna(centre_of_all).to_numpy()
        columns = {
            ENTROPY: choice.direction * rows[published].to_numpy(),
            CHOSEN: choice.chosen_direction * rows[choice.setting.name].to_numpy(),
            CENTRED: choice.direction * (rows[published].to_numpy() - own),
        }
        columns |= {
            name: models[name].decision_function(rows[list(inputs)].to_numpy(np.float64))
            for name, inputs in JOINED.items()
        }
        columns |= {name: rows[name].to_numpy() for name in NETWORKS}
        columns |= {name: sign * rows[name].to_numpy() for name, sign in signs.items()}
        about = [name for name in ("role", "source", "part", "success", "predicted", "softmax", "l2") if name in rows]
        return rows[about].assign(**{BITS: rows[published]}, **columns).reset_index(drop=True)

    return {attack: scores(frame) for attack, frame in measured.items()}, scores(calibration)
