"""The long table: its checked schema, and the views that notebooks make of it."""

from collections.abc import Mapping, Sequence
from enum import Enum

import pandas as pd
import pandera.pandas as pa

from advlens.benchmark.vocabulary import (
    ABOVE_BASELINE,
    EVASION,
    METRICS,
    NOMINAL_FPR,
    OBSERVED,
    Condition,
    Family,
    Knowledge,
    Negatives,
    TrainedOn,
)
from advlens.metrics import MIN_POSITIVES, Stratum

BEST_BASELINE = "best baseline"


def _words(kind: type[Enum]) -> pa.Column:
    return pa.Column(str, pa.Check.isin([member.value for member in kind]))


LONG_TABLE = pa.DataFrameSchema(
    {
        "attack": pa.Column(str),
        "strength": pa.Column(float, nullable=True),
        "detector": pa.Column(str),
        "family": _words(Family),
        "protocol": pa.Column(str),
        "trained_on": _words(TrainedOn),
        "stratum": _words(Stratum),
        "condition": _words(Condition),
        "negatives": _words(Negatives),
        "knowledge": _words(Knowledge),
        "seeds": pa.Column(int, pa.Check.ge(1)),
        "metric": pa.Column(str, pa.Check.isin((*METRICS, *EVASION.values()))),
        "estimate": pa.Column(float, pa.Check.in_range(-1, 1), nullable=True),
        "low": pa.Column(float, pa.Check.in_range(-1, 1), nullable=True),
        "high": pa.Column(float, pa.Check.in_range(-1, 1), nullable=True),
        "n_positive": pa.Column(int, pa.Check.ge(0)),
        "n_negative": pa.Column(int, pa.Check.ge(0)),
        "n_sources": pa.Column(int, pa.Check.ge(0)),
        "baseline": pa.Column(str),
    },
    checks=pa.Check(  # NaNs are in order
        lambda table: ~((table["low"] > table["estimate"]) | (table["estimate"] > table["high"])),
        error="low ≤ estimate ≤ high",
    ),
    unique=["attack", "detector", "protocol", "trained_on", "stratum", "condition", "negatives", "metric"],
    strict=True,
    ordered=True,
)
"""One row an attack, detector, protocol, … and metric. A NaN says that there were too few images for it.

`baseline` names the best trivial baseline of that block, which `tpr_at_fpr_0.05 above the best baseline` is about.
"""


def pivot(table: pd.DataFrame, *, index: str, columns: str, metric: str = "roc_auc", **where: str) -> pd.DataFrame:
    """One estimate a cell of two columns of the long table.

    Args:
        index, columns: the table's columns that become rows and columns, in the table's own order.
        where: column → the value that its rows have, or a sequence of values.
    Raises:
        ValueError: for a column that is none, or where more than one estimate falls into a cell.
    """
    rows = query(table, metric=metric, **where)
    several = rows.duplicated([index, columns])
    if several.any():
        varying = [name for name in LONG_TABLE.columns if name not in (index, columns) and rows[name].nunique() > 1]
        varying = [name for name in varying if name in ("attack", "detector") or name in LONG_TABLE.unique]
        raise ValueError(f"several estimates fall into one cell: say which {', '.join(varying)} is meant")
    cells = rows.pivot(index=index, columns=columns, values="estimate")
    return cells.loc[rows[index].unique(), rows[columns].unique()]  # pyright: ignore[reportReturnType]


def query(table: pd.DataFrame, **where: str | Sequence[str]) -> pd.DataFrame:
    """The rows whose columns have these values, each a value or a sequence of them.

    Raises:
        ValueError: for a column that is none, or a value that the table does not hold.
    """
    for name, wanted in where.items():
        if name not in table:
            raise ValueError(f"the table has no column {name!r}: choose among {', '.join(table.columns)}")
        values = [wanted] if isinstance(wanted, str) else list(wanted)
        missing = [value for value in values if value not in set(table[name])]
        if missing:
            raise ValueError(
                f"the table has no {name} {missing[0]!r}: it has {', '.join(map(str, table[name].unique()))}"
            )
        table = table[table[name].isin(values)]
    return table.reset_index(drop=True)


def worst_first(table: pd.DataFrame, detector: str, *, unchanged: Mapping[str, float] | None = None) -> pd.DataFrame:
    """One detector attack by attack, the lowest TPR at 5 % FPR first, and the best trivial baseline of each.

    Args:
        table: a long table of one protocol, condition and stratum.
        unchanged: attack → the share of images that it left as they were, where that is known.
    Returns:
        A row an attack and choice of attacks that were learnt from: attack, trained_on, n (successes that were judged),
        unchanged where it is given, tpr, low, high, observed_fpr (of the same negatives, at the threshold that other
        clean images gave for 5 %), roc_auc, best_baseline, its_tpr. Attacks without a number come last.
    """
    own = query(table, detector=detector, negatives=Negatives.MATCHED.value)
    rows = []
    for (attack, trained_on), block in own.groupby(["attack", "trained_on"], sort=False):
        metric = block.set_index("metric")
        tpr, above = metric.loc[f"tpr_at_fpr_{NOMINAL_FPR:g}"], metric.loc[ABOVE_BASELINE]
        rows.append(
            {
                **{"attack": attack, "trained_on": trained_on, "n": tpr["n_positive"]},
                **({} if unchanged is None else {"unchanged": unchanged[str(attack)]}),
                **{"tpr": tpr["estimate"], "low": tpr["low"], "high": tpr["high"]},
                "observed_fpr": metric.loc[OBSERVED, "estimate"],
                **{"roc_auc": metric.loc["roc_auc", "estimate"], "best_baseline": above["baseline"]},
                "its_tpr": tpr["estimate"] - above["estimate"],
            }
        )
    return pd.DataFrame(rows).sort_values("tpr", ignore_index=True)


def transfer(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Heads that learnt from another data set beside those that learnt here: mean TPR at 5 % FPR over attacks.

    Args:
        tables: direction, such as "MNIST → Fashion-MNIST" → its long table, see `Suite.transferred`.
    Returns:
        A row a direction, detector and trained_on: direction, detector, family, trained_on, estimate, low, high,
        attacks (of `MIN_POSITIVES` successes or more). The interval's ends are the means of the attacks' own, as if
        they all erred together: rather too wide.
    """
    frames = []
    for direction, table in tables.items():
        rows = query(table, metric=f"tpr_at_fpr_{NOMINAL_FPR:g}").dropna(subset="estimate")
        rows = rows[(rows["n_positive"] >= MIN_POSITIVES) & (rows["trained_on"] != TrainedOn.NOTHING.value)]
        grouped = rows.groupby(["detector", "family", "trained_on"], sort=False)
        about = {"direction": direction, "attacks": grouped.size()}
        frames.append(grouped[["estimate", "low", "high"]].mean().assign(**about).reset_index())
    columns = ["direction", "detector", "family", "trained_on", "estimate", "low", "high", "attacks"]
    return pd.concat(frames, ignore_index=True)[columns]


def doubts(table: pd.DataFrame, detector: str) -> str:
    """What a detector's ROC-AUCs make one ask of its scores, a sentence; "" where nothing."""
    own = table[(table["detector"] == detector) & (table["negatives"] != Negatives.HARD_IMAGES.value)]
    auc = own.loc[own["metric"] == "roc_auc", "estimate"].dropna()
    turned = int((auc < 0.5).sum())
    if len(auc) and (auc == 0.5).all():
        return f"ROC-AUC is 0.5 on all {len(auc)}: has every image the same score?"
    if 2 * turned > len(auc):
        return f"ROC-AUC is below 0.5 on {turned} of {len(auc)}: is the sign right? Higher must mean more adversarial."
    return ""


def leaderboard(table: pd.DataFrame) -> pd.DataFrame:
    """Detectors by their mean TPR at 5 % FPR over the attacks.

    Args:
        table: a long table of one protocol, condition and stratum, such as `evaluate` returns.
    Returns:
        A row a detector and choice of attacks that it learnt from, the best first: detector, family, trained_on, tpr
        (mean over attacks), worst_tpr and worst_attack, roc_auc (mean), ahead (on how many attacks with `MIN_POSITIVES`
        successes its TPR is above the best trivial baseline's, interval included; each for itself, without Holm's
        adjustment, which `Benchmark.compare` makes), attacks.
    """
    keys = ["detector", "family", "trained_on"]
    tpr = query(table, metric=f"tpr_at_fpr_{NOMINAL_FPR:g}").dropna(subset="estimate")
    auc = query(table[table["negatives"] != Negatives.HARD_IMAGES.value], metric="roc_auc")
    above = table[(table["metric"] == ABOVE_BASELINE) & (table["n_positive"] >= MIN_POSITIVES)]
    mean_auc = auc.groupby(keys)["estimate"].mean().to_dict()
    ahead = above[above["low"] > 0].groupby(keys).size().to_dict()
    rows = []
    for key, own in tpr.groupby(keys, sort=False):
        worst = own.loc[own["estimate"].idxmin()]  # pyright: ignore[reportArgumentType, reportCallIssue]
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                **{"tpr": own["estimate"].mean(), "worst_tpr": worst["estimate"], "worst_attack": worst["attack"]},
                **{"roc_auc": mean_auc[key], "ahead": ahead.get(key, 0), "attacks": own["attack"].nunique()},
            }
        )
    columns = [*keys, "tpr", "worst_tpr", "worst_attack", "roc_auc", "ahead", "attacks"]
    return pd.DataFrame(rows, columns=columns).sort_values("tpr", ascending=False, ignore_index=True)
