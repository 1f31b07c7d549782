"""The study's tables and sentences, as text: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from advlens.evaluation import Estimate
from advlens.studies.closeness.protocols import ABOVE_BASELINE, ALL_SIX
from advlens.studies.closeness.settings import Setting
from advlens.tables import interval_text


def means_table(means: pd.DataFrame) -> pd.DataFrame:
    """Metric means of wrong and right predictions, the published ones beside them."""
    table = means.assign(
        published=[f"{value:.5f}" if np.isfinite(value) else "–" for value in means["published"]],
        remade=[interval_text(mean, digits=4) for mean in means["mean"]],
    )
    return table[["metric", "outcome", "published", "remade", "n"]].rename(columns={"outcome": "prediction"})


def auc_table(published: pd.DataFrame, corrected: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """ROC-AUCs under both protocols and the corrected figures, and the rows that beat the best trivial baseline."""
    keys = ["attack", "detector"]
    as_published = published[published["figure"] == "roc_auc"].set_index(keys)
    by_figure = {name: rows.set_index(keys) for name, rows in corrected.groupby("figure")}
    rows = []
    for key, row in by_figure["roc_auc"].iterrows():
        rows.append(
            {
                "attack": key[0],
                "detector": key[1],
                "as published": interval_text(as_published.loc[key]),
                "corrected": interval_text(row),
                "TPR at 5 % FPR": interval_text(by_figure["tpr_at_fpr_0.05"].loc[key], digits=2),
                "TPR, committed": interval_text(by_figure["committed_tpr_0.05"].loc[key], digits=2),
                "observed FPR": interval_text(by_figure["observed_fpr_0.05"].loc[key], digits=2),
                "n (attacked / normal)": f"{row['n_positive']} / {row['n_negative']}",
            }
        )
    above = by_figure[ABOVE_BASELINE]["low"]
    bold = [place for place, row in enumerate(rows) if above.loc[(row["attack"], row["detector"])] > 0]
    return pd.DataFrame(rows), bold


def claims_table(claims: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The study's comparisons in numbers, each confirmed, refuted or open."""
    said = {setting.name: setting.claim for setting in settings}
    rows = []
    for row in claims.itertuples():
        about_density = row.claim.startswith("KDE")
        expected = {"strong": 1, "weak": -1}.get(said[row.attack], 0) if about_density else 1
        rows.append(
            {
                "attack": row.attack,
                "comparison (ROC-AUC)": row.claim,
                "best other": row.against,
                "the study says": {1: "above 0", -1: "below 0", 0: "–"}[expected],
                "measured": interval_text(row),
                "p": f"{row.p_value:.3f}",
                "n": row.n_positive,
                "outcome": _outcome(row.low, row.high, expected),
            }
        )
    return pd.DataFrame(rows)


def _outcome(low: float, high: float, expected: int) -> str:
    if expected == 0:
        return "–"
    if low <= 0 <= high:
        return "open"
    return "confirmed" if (low > 0) == (expected > 0) else "refuted"


def lessons(published: pd.DataFrame, corrected: pd.DataFrame, claimed: pd.DataFrame, windows: pd.DataFrame) -> str:
    """Three bullets that answer the study's questions, each with its figures."""
    best = {}
    for name, results in (("as published", published), ("corrected", corrected)):
        aucs = results[(results["figure"] == "roc_auc") & (results["detector"] == ALL_SIX)]
        row = aucs.loc[aucs["estimate"].idxmax()]
        best[name] = f"{row['estimate']:.3f} ({row['attack']})"
    above = corrected[(corrected["figure"] == ABOVE_BASELINE) & (corrected["detector"] == ALL_SIX)]
    winners = ", ".join(above[above["low"] > 0]["attack"]) or "no attack"
    counts = claimed[claimed["outcome"] != "–"].groupby("comparison (ROC-AUC)")["outcome"].value_counts()
    outcomes = "; ".join(
        f"{claim}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts[claim].items())
        for claim in counts.index.get_level_values(0).unique()
    )
    last = windows[windows["high_end"] == windows["high_end"].max()].sort_values("estimate")
    extremes = [f"{row.metric} {interval_text(row)}" for row in (last.iloc[-1], last.iloc[0])]
    return "\n".join(
        [
            f"- **All six metrics together** reach at most {best['as published']} as published and "
            f"{best['corrected']} corrected; they beat the best trivial baseline on {winners}.",
            f"- **The study's comparisons**, attack by attack: {outcomes}.",
            f"- **Attacks of the highest confidence** are ranked best by {extremes[0]} and worst by {extremes[1]}.",
        ]
    )


def crossing_text(crossed: pd.DataFrame, *, attack: str) -> str:
    """Where decision, density and divergence change sides, in medians, and how often on the same step."""
    changed = len(crossed)
    same: Mapping[str, float] = {
        name: float((crossed[name] == crossed["decision"]).mean()) for name in ("KDE", "KL divergence")
    }
    medians = ", ".join(f"{name} at ε = {crossed[name].median():.3f}" for name in ("decision", "KDE", "KL divergence"))
    return (
        f"{attack}: {changed} decisions change. Medians: {medians}. On the very step of the decision the density "
        f"crosses in {same['KDE']:.0%} of them, the divergence in {same['KL divergence']:.0%}."
    )


def walk_lessons(
    accuracy: Estimate, means: pd.DataFrame, success: pd.DataFrame, walks: Mapping[str, pd.DataFrame]
) -> str:
    """Three bullets on what happens while an attack grows stronger, each with its figures."""
    entropy = means[means["metric"] == "entropy"].set_index("outcome")["mean"]
    strongest = success[success["eps"] == success["eps"].max()]
    rates = ", ".join(f"{row.attack} {row.estimate:.1%}" for row in strongest.itertuples())
    ends = []
    for attack, walked in walks.items():
        mean = walked.groupby("eps")["entropy"].mean()
        ends.append(
            f"{attack} {mean.iloc[0]:.2f} nats without an attack, {mean.max():.2f} at ε = {mean.idxmax():g}, "
            f"{mean.iloc[-1]:.2f} at ε = {mean.index[-1]:g}"
        )
    return "\n".join(
        [
            f"- The network gets {accuracy.estimate:.2%} of the test images right; its mean entropy is "
            f"{entropy['right'].estimate:.2f} nats on those and {entropy['wrong'].estimate:.2f} on the others.",
            f"- At ε = {success['eps'].max():g} the attacks change {rates} of decisions.",
            f"- Mean entropy on the way: {'; '.join(ends)}.",
            "- What that means for detection: open `06_closeness_and_uncertainty_detectors.ipynb`.",
        ]
    )
