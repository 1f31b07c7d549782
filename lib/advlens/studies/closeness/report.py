"""The study's tables and sentences, as text: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.evaluation import Estimate
from advlens.studies.closeness.protocols import ALL_SIX, DETECTORS
from advlens.studies.closeness.results import ABOVE_BASELINE, CLAIMS, NOMINAL_FPR
from advlens.studies.closeness.settings import Publication, Setting
from advlens.tables import interval_text

PROTOCOLS = ("as published", "corrected")
MISSING = "–"
GALLERY_STEPS = 8


def accuracy_table(accuracy: Estimate, published: Publication, *, n: int) -> pd.DataFrame:
    """The task network's accuracy beside the study's."""
    row = {
        "network": published.network,
        "published accuracy": f"{published.accuracy:.4f}",
        "test accuracy": interval_text(accuracy, digits=4),
        "test images": n,
    }
    return pd.DataFrame([row])


def means_table(means: pd.DataFrame) -> pd.DataFrame:
    """Metric means of wrong and right predictions, the published ones beside them."""
    table = means.assign(
        published=[f"{value:.5f}" if np.isfinite(value) else MISSING for value in means["published"]],
        remade=[interval_text(mean, digits=5) for mean in means["mean"]],
    )
    return table[["metric", "outcome", "published", "remade", "n"]].rename(columns={"outcome": "prediction"})


def attack_gallery(attacks: Mapping[str, AttackSet], class_names: Sequence[str]) -> Figure:
    """The first image of each class that all attacks attack, clean and under each of them."""
    common = min(attacks.values(), key=len)
    labels, places = np.unique(common.label, return_index=True)
    rows = {"clean": common.clean[places]} | {name: made.adversarial[places] for name, made in attacks.items()}
    titles = [class_names[label] for label in labels]
    return plots.image_grid(rows, column_titles=titles, title="The same images under all attacks")


def success_table(rates: pd.DataFrame) -> pd.DataFrame:
    """How often each attack changes the decision, and how large its perturbation is."""
    return pd.DataFrame(
        {
            "attack": rates["attack"],
            "success rate": [interval_text(row) for row in rates.itertuples()],
            "median L2": rates["l2"].map("{:.2f}".format),
            "n": rates["n"],
        }
    )


def choice_table(tried: pd.DataFrame, *, published_bandwidth: float) -> tuple[pd.DataFrame, list[int]]:
    """What each bandwidth and conversion reaches on the validation groups, and the rows that were chosen."""
    settings = [value if isinstance(value, str) else f"h = {value:.2f}" for value in tried["setting"]]
    notes = ["published" if value == published_bandwidth else "" for value in tried["setting"]]
    table = pd.DataFrame(
        {"metric": tried["metric"], "setting": settings, "": notes, "mean ROC-AUC": tried["auc"].map("{:.3f}".format)}
    )
    return table, tried.groupby("metric")["auc"].idxmax().tolist()


def auc_table(published: pd.DataFrame, corrected: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """ROC-AUCs of all detectors on all attacks under both protocols.

    Returns:
        The table, and the places and columns of the corrected AUCs whose detector beats the best trivial baseline:
        the paired difference of TPRs at 5 % FPR lies above 0 with its whole interval.
    """
    attacks = list(corrected["attack"].unique())
    results = dict(zip(PROTOCOLS, (published, corrected), strict=True))
    texts = {protocol: _pivot(rows[rows["figure"] == "roc_auc"], interval_text) for protocol, rows in results.items()}
    rows = [
        {"detector": detector, "protocol": protocol} | texts[protocol].loc[detector].reindex(attacks).to_dict()
        for detector in DETECTORS
        for protocol in PROTOCOLS
    ]
    for protocol, frame in results.items():
        counts = _pivot(frame[frame["figure"] == "roc_auc"], lambda row: f"{row.n_positive} / {row.n_negative}")
        rows.append(
            {"detector": "n (attacked / normal)", "protocol": protocol} | counts.iloc[0].reindex(attacks).to_dict()
        )
    above = corrected[(corrected["figure"] == ABOVE_BASELINE) & (corrected["low"] > 0)]
    won = set(zip(above["detector"], above["attack"], strict=True))
    bold = [
        (place, attack)
        for place, row in enumerate(rows)
        for attack in attacks
        if row["protocol"] == "corrected" and (row["detector"], attack) in won
    ]
    return pd.DataFrame(rows), bold


def with_counts(results: pd.DataFrame) -> pd.DataFrame:
    """The results with a column panel: the attack and how many attacked images are judged."""
    return results.assign(panel=results["attack"] + "\nn = " + results["n_positive"].astype(str))


def figures_table(corrected: pd.DataFrame, *, detectors: Sequence[str] = tuple(DETECTORS)) -> pd.DataFrame:
    """The corrected protocol's other figures, a row an attack and detector."""
    figures = {
        "ROC-AUC": "roc_auc",
        "average precision": "average_precision",
        "TPR at 1 % FPR": "tpr_at_fpr_0.01",
        "TPR at 5 % FPR": "tpr_at_fpr_0.05",
        "TPR at 10 % FPR": "tpr_at_fpr_0.1",
        "committed: TPR": f"committed_tpr_{NOMINAL_FPR}",
        "FPR on clean": f"observed_fpr_{NOMINAL_FPR} on clean",
        "FPR on noisy": f"observed_fpr_{NOMINAL_FPR} on noisy",
        "calibration error": "expected_calibration_error",
    }
    shown = corrected[corrected["detector"].isin(detectors)]
    rows = []
    for (attack, detector), found in shown.groupby(["attack", "detector"], sort=False):
        by_figure = found.set_index("figure")
        cells = {
            title: interval_text(by_figure.loc[name]) if name in by_figure.index else MISSING
            for title, name in figures.items()
        }
        first = found.iloc[0]
        counts = {"n (attacked / normal)": f"{first['n_positive']} / {first['n_negative']}"}
        rows.append({"attack": attack, "detector": detector} | cells | counts)
    return pd.DataFrame(rows)


def headline_table(
    rates: pd.DataFrame, published: pd.DataFrame, corrected: pd.DataFrame, claimed: pd.DataFrame
) -> pd.DataFrame:
    """The study in one table: all six metrics under both protocols, the best single one, and the bar to beat.

    What is best was chosen on the validation groups; its name stands in parentheses.
    """
    figures = {
        "ROC-AUC": "roc_auc",
        "TPR": f"committed_tpr_{NOMINAL_FPR}",
        "FPR on clean": f"observed_fpr_{NOMINAL_FPR} on clean",
        "FPR on noisy": f"observed_fpr_{NOMINAL_FPR} on noisy",
    }
    cells = {title: _pivot(corrected[corrected["figure"] == name], interval_text) for title, name in figures.items()}
    before = _pivot(published[published["figure"] == "roc_auc"], interval_text)
    single = claimed[claimed["claim"].str.startswith(ALL_SIX)].set_index("attack")["against"]
    rows = []
    for attack, found in corrected.groupby("attack", sort=False):
        bar, first = found["baseline"].iloc[0], found.iloc[0]
        rows.append(
            {
                "attack": attack,
                "success rate": interval_text(rates.set_index("attack").loc[attack]),
                "all six, as published": before.loc[ALL_SIX, attack],
                "all six, corrected": cells["ROC-AUC"].loc[ALL_SIX, attack],
                **{title: cells[title].loc[ALL_SIX, attack] for title in list(figures)[1:]},
                "best single metric": f"{cells['ROC-AUC'].loc[single[attack], attack]} ({single[attack]})",
                "best baseline": f"{cells['ROC-AUC'].loc[bar, attack]} ({bar})",
                **{f"its {title}": cells[title].loc[bar, attack] for title in list(figures)[1:]},
                "n (attacked / normal)": f"{first['n_positive']} / {first['n_negative']}",
            }
        )
    return pd.DataFrame(rows)


def later_table(published: pd.DataFrame, publication: Publication) -> pd.DataFrame:
    """The ROC-AUCs that a later version of the study saved, and those of its protocol here."""
    attack = Setting("bim", publication.strengths[1]).name
    remade = published[(published["attack"] == attack) & (published["figure"] == "roc_auc")].set_index("detector")
    return pd.DataFrame(
        [
            {"attack": attack, "detector": detector, "later version": f"{value:.3f}"}
            | {"as published, remade": interval_text(remade.loc[detector])}
            for detector, value in publication.later.items()
        ],
        columns=["attack", "detector", "later version", "as published, remade"],
    )


def defects_table(defects: pd.DataFrame) -> pd.DataFrame:
    """The ROC-AUC as the published protocol is mended step by step, a column a step."""
    texts = defects.assign(text=[interval_text(row) for row in defects.itertuples()])
    keys, steps = ["attack", "detector"], list(defects["step"].unique())
    table = texts.pivot(index=keys, columns="step", values="text")[steps]
    return table.reindex(pd.MultiIndex.from_frame(defects[keys].drop_duplicates())).reset_index()


def claims_table(claimed: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The study's comparisons in numbers, each confirmed, refuted or open; a column a comparison."""
    judged = judged_claims(claimed, settings)
    text = [
        interval_text(row)
        + ("" if len(CLAIMS[row.claim][1]) == 1 else f" ({row.against})")
        + (f": {row.outcome}" if row.outcome else "")
        for row in judged.itertuples()
    ]
    order = list(dict.fromkeys(judged["attack"]))
    table = judged.assign(text=text).pivot(index="attack", columns="claim", values="text").reindex(order)
    counts = judged.drop_duplicates("attack").set_index("attack")["n_positive"]
    return table[list(CLAIMS)].assign(n=counts).reset_index().rename_axis(columns=None)


def judged_claims(claimed: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The comparisons with a column outcome: "confirmed", "refuted", "open", or "" where the study says nothing."""
    said = {setting.name: setting.claim for setting in settings}
    expected = [_expected(row.claim, said[row.attack]) for row in claimed.itertuples()]
    outcomes = [_outcome(row.low, row.high, sign) for row, sign in zip(claimed.itertuples(), expected, strict=True)]
    return claimed.assign(outcome=outcomes)


def _expected(claim: str, strength: str) -> int:
    """The sign that the study gives a comparison on a strong or weak attack; 0 where it says nothing."""
    signs = {
        "KDE − best uncertainty metric": {"strong": 1, "weak": -1},
        "entropy − variance": {"weak": 1},
        "KL divergence − KDE": {"strong": -1, "weak": 1},
        "all six − best single metric": {"strong": 1, "weak": 1},
    }
    return signs[claim].get(strength, 0)


def _outcome(low: float, high: float, expected: int) -> str:
    if expected == 0:
        return ""
    if low <= 0 <= high:
        return "open"
    return "confirmed" if (low > 0) == (expected > 0) else "refuted"


def lessons(
    published: pd.DataFrame,
    corrected: pd.DataFrame,
    claimed: pd.DataFrame,
    windows: pd.DataFrame,
    settings: Sequence[Setting],
) -> str:
    """Four bullets that answer the study's questions, each with its figures."""
    all_six = [
        _span(results[(results["figure"] == "roc_auc") & (results["detector"] == ALL_SIX)]["estimate"])
        for results in (published, corrected)
    ]
    above = corrected[(corrected["figure"] == ABOVE_BASELINE) & (corrected["detector"] == ALL_SIX)]
    differences = ", ".join(f"{row.attack} {interval_text(row)}" for row in above.itertuples())
    said = {setting.name: setting.claim for setting in settings}
    comparisons = "; ".join(
        f"*{claim}* is {_span(rows[rows['strength'] == 'weak']['estimate'])} on weak attacks and "
        f"{_span(rows[rows['strength'] == 'strong']['estimate'])} on strong ones"
        for claim, rows in claimed.assign(strength=claimed["attack"].map(said)).groupby("claim", sort=False)
    )
    last = windows[windows["high_end"] == windows["high_end"].max()].set_index("metric")
    return "\n".join(
        [
            f"- **All six metrics together** reach ROC-AUCs of {all_six[0]} as published (the study: up to 0.96) and "
            f"of {all_six[1]} corrected, by attack.",
            f"- **Against the best trivial baseline**, their TPR at 5 % FPR is higher by {differences}.",
            f"- **The study's comparisons**, in ROC-AUC: {comparisons}.",
            f"- **Where the attack is surest** of itself (above {last['low_end'].iloc[0]:g}), uncertainty alone has a "
            f"ROC-AUC of {_span(last[last['family'] == 'uncertainty']['estimate'])}, the density "
            f"{interval_text(last.loc['KDE'])}, the divergence {interval_text(last.loc['KL divergence'])}.",
        ]
    )


def _span(values: pd.Series) -> str:
    """The smallest and the largest of some figures."""
    return f"{values.min():.3f} to {values.max():.3f}" if len(values) else MISSING


# ---------------------------------------------------------------- on the way from no attack to a strong one


def steps_of(walks: Mapping[str, pd.DataFrame], image: int, metrics: Sequence[str]) -> pd.DataFrame:
    """One image's metrics at every strength, in long form: attack, eps, metric, value."""
    frames = [
        walked[walked["image"] == image].assign(attack=attack).melt(["attack", "eps"], metrics, "metric", "value")
        for attack, walked in walks.items()
    ]
    return pd.concat(frames, ignore_index=True)


def ends_of(walks: Mapping[str, pd.DataFrame], image: int, metric: str) -> pd.DataFrame:
    """One image's closeness to the class that it leaves and the one it reaches: attack, eps, end, value."""
    ends = {f"{metric} of {end}": f"{end} class" for end in ("source", "target")}
    return steps_of(walks, image, list(ends)).assign(end=lambda steps: steps["metric"].map(ends))


def walk_gallery(moved: Mapping[float, Array], walked: pd.DataFrame, image: int, class_names: Sequence[str]) -> Figure:
    """One image at up to `GALLERY_STEPS` strengths, with the network's decision."""
    decided = walked[walked["image"] == image].set_index("eps")["predicted"]
    strengths = list(moved)
    chosen = [strengths[i] for i in np.unique(np.linspace(0, len(strengths) - 1, GALLERY_STEPS).round().astype(int))]
    titles = [f"ε = {eps:g}\n{class_names[decided[eps]]}" for eps in chosen]
    pictures = np.stack([moved[eps] for eps in chosen])
    return plots.image_grid({"image": pictures}, column_titles=titles, title="One image on its way")


def example(crossed: Mapping[str, pd.DataFrame]) -> int:
    """The first image whose decision every attack changes; the first of all where there is none."""
    changed = set.intersection(*(set(table["image"]) for table in crossed.values()))
    return min(changed, default=0)


def decision_steps(crossed: Mapping[str, pd.DataFrame], image: int) -> dict[str, float]:
    """Attack → the strength at which it changes this image's decision, NaN where it does not."""
    return {attack: table.loc[table["image"] == image, "decision"].min() for attack, table in crossed.items()}


def crossing_table(crossed: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Where decision, density and divergence change sides, in medians, and how often on the same step."""
    rows = []
    for attack, table in crossed.items():
        row = {"attack": attack, "decisions that change": len(table)}
        row["median ε of the decision"] = f"{table['decision'].median():.3f}"
        for name in ("KDE", "KL divergence"):
            same, never = (table[name] == table["decision"]).mean(), table[name].isna().sum()
            row[f"of the {name}'s crossing"] = f"{table[name].median():.3f}"
            row[f"{name}: same step"] = f"{same:.0%}" if len(table) else MISSING
            row[f"{name}: never"] = never
        rows.append(row)
    return pd.DataFrame(rows)


def walk_lessons(
    accuracy: Estimate, published: Publication, means: pd.DataFrame, success: pd.DataFrame, peaks: pd.DataFrame
) -> str:
    """Bullets on what happens while an attack grows stronger, each with its figures."""
    entropy = means[means["metric"] == "entropy"].set_index("outcome")["mean"]
    strongest = success[success["eps"] == success["eps"].max()]
    rates = ", ".join(f"{row.attack} {row.estimate:.1%}" for row in strongest.itertuples())
    ends = []
    for attack, rows in peaks[peaks["metric"] == "entropy"].groupby("attack", sort=False):
        mean = rows.set_index("eps")["estimate"]
        ends.append(
            f"{attack} {mean.iloc[0]:.2f} nats without an attack, {mean.max():.2f} at ε = {mean.idxmax():g}, "
            f"{mean.iloc[-1]:.2f} at ε = {mean.index[-1]:g}"
        )
    return "\n".join(
        [
            f"- **The network** gets {accuracy.estimate:.2%} of the test images right (published: "
            f"{published.accuracy:.2%}); its mean entropy is {entropy['right'].estimate:.3f} nats on those and "
            f"{entropy['wrong'].estimate:.3f} on the others.",
            f"- **At ε = {success['eps'].max():g}** the attacks change {rates} of decisions.",
            f"- **Mean entropy on the way**: {'; '.join(ends)}.",
            "- What that means for detection: open `06_closeness_and_uncertainty_detectors.ipynb`.",
        ]
    )


def _pivot(rows: pd.DataFrame, text) -> pd.DataFrame:
    """Texts of the rows, detectors down, attacks across."""
    texts = rows.assign(text=[text(row) for row in rows.itertuples()])
    return texts.pivot(index="detector", columns="attack", values="text")
