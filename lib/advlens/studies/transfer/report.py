"""The study's tables, figures and sentences: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.attacks import AttackSet
from advlens.metrics import NOMINAL_FPRS
from advlens.studies.deep_knn.measures import DEEP_KNN, NETWORKS_LABEL
from advlens.studies.detection import ABOVE_BASELINE, FEWEST, NOMINAL_FPR
from advlens.studies.transfer.results import (
    ALL_VICTIMS,
    BASE_OF,
    CONFIRMED,
    REFUTED,
    Choice,
)
from advlens.studies.transfer.settings import (
    BIM,
    CONTROL,
    FGSM,
    ILA_OF_BIM,
    LONGER_BIM,
    METHODS,
    MOMENTUM,
    RIVALS,
    SOURCE,
    VARIANTS,
)
from advlens.tables import interval_text

TOO_FEW, NOT_JUDGED = "too few", "not judged"
MAX_SOFTMAX = "max softmax"
EXAMPLES = 6  # columns of the gallery
FAMILIES = {"clean": "input", "noisy": "baseline", "attacked": "neighbours"}  # colours of kinds of image
RIVAL_TEXTS = {
    LONGER_BIM: "BIM of as many steps",
    MOMENTUM: "MI-FGSM of as many steps",
    CONTROL: "the same attack on random guides",
}


# ---------------------------------------------------------------- figures


def gallery(sets: Mapping[str, AttackSet], class_names: Sequence[str]) -> Figure:
    """A few images, what attacks make of them, and the changes, which are scaled picture by picture.

    Args:
        sets: name → attacks on the same images at the same strength.
    """
    first = next(iter(sets.values()))
    shown = np.unique(first.label, return_index=True)[1][:EXAMPLES]
    rows = {"clean": first.clean[shown]}
    rows |= {name: made.adversarial[shown] for name, made in sets.items()}
    changes = {f"{name}\n− clean": (made.adversarial - made.clean)[shown] for name, made in sets.items()}
    titles = [class_names[label] for label in first.label[shown]]
    reach = max(float(made.linf.max()) for made in sets.values())
    about = f"Images, attacks on them at ε = {reach:.3g}, and what they change"
    return plots.image_grid(rows | changes, column_titles=titles, title=about, symmetric=list(changes))


def transfer_figure(success: pd.DataFrame, choice: Choice) -> Figure:
    """The share misread against the strength, a panel a network, a line a method: the choice and its rivals."""
    shown = success[success["method"].isin([choice.variant, FGSM, *RIVALS])]
    return plots.curves(
        shown[shown["network"] != ALL_VICTIMS],
        x="eps",
        y="estimate",
        group="method",
        panel="network",
        x_axis="ε",
        y_axis=f"share misread (n = {success['n'].iloc[0]}, 95 % bands)",
        title=f"Attacks on {SOURCE}, read by it and by the others",
        columns=2,
    )


def sweep_figure(sweep: pd.DataFrame, *, eps: float) -> Figure:
    """The share misread against the layer, a panel a network, a line a variant."""
    return plots.curves(
        sweep[sweep["network"] != ALL_VICTIMS],
        x="layer",
        y="estimate",
        group="method",
        panel="network",
        x_axis=f"layer of {SOURCE}",
        y_axis=f"share misread (n = {sweep['n'].iloc[0]}, 95 % bands)",
        title=f"Intermediate level attacks by the layer they turn to, at ε = {eps:g}",
        columns=2,
    )


def credibility_figure(credibilities: pd.DataFrame) -> Figure:
    """Mean credibilities at the strongest ε, a panel a network."""
    rows = credibilities[credibilities["eps"] == credibilities["eps"].max()]
    clean = rows[rows["kind"] == "clean"].drop_duplicates("network").assign(label="clean")
    others = rows[rows["kind"] != "clean"]
    others = others.assign(label=others["attack"] + others["kind"].map({"noisy": ": noise", "attacked": ""}))
    shown = pd.concat([clean, others.sort_values(["kind", "network"], kind="stable")])
    counts = shown.loc[shown["kind"] == "attacked", "n"]
    attacked = f", n attacked = {counts.min()} to {counts.max()}" if len(counts) else ""
    return plots.intervals(
        shown.assign(family=shown["kind"].map(FAMILIES)),
        estimate="estimate",
        low="low",
        high="high",
        label="label",
        panel="network",
        family="family",
        axis=f"mean credibility (n = {clean['n'].max()}{attacked}; 95 % intervals)",
        title=f"What each network's Deep kNN thinks of clean, noisy and misread images, ε = {rows['eps'].max():g}",
        columns=2,
    )


# ---------------------------------------------------------------- tables


def choice_table(tried: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """What was tried on validation images, a row a layer, and the chosen cell."""
    table = tried.pivot(index="layer", columns="method", values="success").reindex(tried["layer"].unique())
    table = table[list(VARIANTS)].map("{:.3f}".format).assign(n=tried["n"].iloc[0])
    return table.rename_axis(columns=None).reset_index(), [(list(table.index).index(choice.layer), choice.variant)]


def success_table(success: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """The share misread, a row a strength and method, a column a network; bold is the most of each strength."""
    networks = list(success["network"].unique())
    texts = success.assign(text=[interval_text(row) for row in success.itertuples()])
    table = texts.pivot(index=["eps", "method"], columns="network", values="text")
    order = [(eps, method) for eps in sorted(success["eps"].unique()) for method in METHODS]
    table = table.reindex(order)[networks].assign(n=success["n"].iloc[0])
    values = success.pivot(index=["eps", "method"], columns="network", values="estimate").reindex(order)
    bold = [
        (place, network)
        for network in networks
        for place, (eps, _) in enumerate(order)
        if values[network].iloc[place] == values.loc[eps][network].max() > 0
    ]
    return table.rename_axis(columns=None).reset_index().rename(columns={"eps": "ε"}), bold


def sweep_table(sweep: pd.DataFrame) -> pd.DataFrame:
    """The share misread, a row a variant and layer, a column a network."""
    texts = sweep.assign(text=[interval_text(row) for row in sweep.itertuples()])
    order = pd.MultiIndex.from_frame(sweep[["method", "layer"]].drop_duplicates())
    table = texts.pivot(index=["method", "layer"], columns="network", values="text").reindex(order)
    table = table[list(sweep["network"].unique())].assign(n=sweep["n"].iloc[0])
    return table.rename_axis(columns=None).reset_index()


def differences_table(differences: pd.DataFrame) -> pd.DataFrame:
    """What the choice has above its rivals, a row a strength and rival, a column a network, each with its verdict."""
    texts = differences.assign(text=[f"{interval_text(row)} {row.verdict}" for row in differences.itertuples()])
    table = texts.pivot(index=["eps", "rival"], columns="network", values="text")
    order = [(eps, rival) for eps in sorted(differences["eps"].unique()) for rival in RIVALS]
    table = table.reindex(order)[list(differences["network"].unique())].assign(n=differences["n"].iloc[0])
    return table.rename_axis(columns=None).reset_index().rename(columns={"eps": "ε"})


def credibility_table(credibilities: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """Mean credibilities, a row a network, strength and attack, and how far ILA's differ from its base attack's."""
    changed = changes.set_index(["network", "eps", "attack"])
    rows = []
    for key, frame in credibilities.groupby(["network", "eps", "attack"], sort=False):
        by_kind = {row.kind: f"{interval_text(row)} (n = {row.n})" for row in frame.itertuples()}
        row = dict(zip(("network", "ε", "attack"), key, strict=True))
        row |= {kind: by_kind.get(kind, TOO_FEW) for kind in FAMILIES}
        found = changed.loc[key] if key in changed.index else None
        without = TOO_FEW if key[-1] in BASE_OF else ""
        told = without if found is None else f"{interval_text(found)} (n = {found['n']})"
        rows.append(row | {"less its base attack's, same images": told})
    return pd.DataFrame(rows)


def detection_table(detections: pd.DataFrame, eight_bit: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """Each network's Deep kNN on attacks that fool that network, beside the best trivial baseline.

    Args:
        detections, eight_bit: of images as they are, and as a file keeps them, where a baseline can't see grey levels
            that no file has.
    Returns:
        The table, and the places of the rows whose TPR at 5 % FPR lies above the baseline's with its whole interval.
    """
    rows, bold = [], []
    rounded = eight_bit.set_index(["network", "eps", "attack", "detector"])
    for (network, eps, attack), frame in detections.groupby(["network", "eps", "attack"], sort=False):
        found = frame.set_index(["detector", "figure"])
        baseline = frame["baseline"].iloc[0]
        first = frame.iloc[0]
        if found.loc[(DEEP_KNN, ABOVE_BASELINE), "low"] > 0:
            bold.append(len(rows))
        rows.append(
            {
                "judged by": network,
                "ε": eps,
                "attack": attack,
                "ROC-AUC": interval_text(found.loc[(DEEP_KNN, "roc_auc")]),
                "of the network's label": interval_text(found.loc[(NETWORKS_LABEL, "roc_auc")]),
                **{
                    f"TPR at {rate:.0%}": interval_text(found.loc[(DEEP_KNN, f"committed_tpr_{rate:g}")])
                    for rate in NOMINAL_FPRS
                },
                **{
                    f"FPR on {role} at 5%": interval_text(
                        found.loc[(DEEP_KNN, f"observed_fpr_{NOMINAL_FPR:g} on {role}")]
                    )
                    for role in ("clean", "noisy")
                },
                "best baseline: ROC-AUC": f"{interval_text(found.loc[(baseline, 'roc_auc')])} ({baseline})",
                "TPR at 5% FPR above it": interval_text(found.loc[(DEEP_KNN, ABOVE_BASELINE)]),
                "in 8 bits: ROC-AUC": _rounded(rounded, network, eps, attack, DEEP_KNN),
                "max softmax": _rounded(rounded, network, eps, attack, MAX_SOFTMAX),
                "n attacked / normal": f"{first['n_positive']} / {first['n_negative']}",
            }
        )
    nothing = {"judged by": "all", "attack": f"under {FEWEST} attacks succeed: no figures"}
    return pd.DataFrame(rows or [nothing]), bold


def _rounded(rounded: pd.DataFrame, *key: str | float, missing: str = TOO_FEW) -> str:
    return interval_text(rounded.loc[key]) if key in rounded.index else missing


def figures_table(detections: pd.DataFrame) -> pd.DataFrame:
    """All figures of all detectors, a row a network, strength, attack and detector."""
    keys = ["network", "eps", "attack", "detector"]
    texts = detections.assign(text=[interval_text(row) for row in detections.itertuples()])
    order = pd.MultiIndex.from_frame(detections[keys].drop_duplicates())
    table = texts.pivot(index=keys, columns="figure", values="text").reindex(order)
    counts = detections.drop_duplicates(keys).set_index(keys)[["n_positive", "n_negative"]]
    return table[list(detections["figure"].unique())].join(counts).reset_index()


def headline_table(
    success: pd.DataFrame,
    differences: pd.DataFrame,
    detections: pd.DataFrame,
    eight_bit: pd.DataFrame,
    choice: Choice,
    *,
    judged: Sequence[float],
) -> pd.DataFrame:
    """The study in one table: who is fooled, whether the attack earns its name, and what Deep kNN sees of it.

    Args:
        judged: the strengths at which Deep kNN was asked.
    """
    fooled = success.set_index(["method", "eps", "network"])
    gained = differences.set_index(["rival", "eps", "network"])
    seen = detections[(detections["network"] == SOURCE) & (detections["attack"] == ILA_OF_BIM)]
    seen = seen.set_index(["eps", "detector", "figure"])
    rounded = eight_bit.set_index(["network", "eps", "attack", "detector"])
    rows = []
    for eps in sorted(success["eps"].unique()):
        row = {"ε": eps, "attacked network: BIM": interval_text(fooled.loc[(BIM, eps, SOURCE)])}
        row[f"{choice.variant} at {choice.layer}"] = interval_text(fooled.loc[(choice.variant, eps, SOURCE)])
        for method in (BIM, LONGER_BIM, MOMENTUM, choice.variant, CONTROL):
            row[f"others: {method}"] = interval_text(fooled.loc[(method, eps, ALL_VICTIMS)])
        for rival in RIVALS:
            found = gained.loc[(rival, eps, ALL_VICTIMS)]
            row[f"{choice.variant} less {rival}"] = f"{interval_text(found)} {found['verdict']}"
        there = (eps, DEEP_KNN, "roc_auc") in seen.index
        missing = TOO_FEW if eps in judged else NOT_JUDGED
        baseline = seen.loc[(eps, DEEP_KNN, "roc_auc"), "baseline"] if there else ""
        for title, detector in (("Deep kNN", DEEP_KNN), ("best baseline", baseline)):
            row[f"seen by {title}: ROC-AUC"] = interval_text(seen.loc[(eps, detector, "roc_auc")]) if there else missing
        for title, detector in (("Deep kNN", DEEP_KNN), (MAX_SOFTMAX, MAX_SOFTMAX)):
            row[f"in 8 bits: {title}"] = _rounded(rounded, SOURCE, eps, ILA_OF_BIM, detector, missing=missing)
        counts = [
            table.loc[key, "n_positive"] if key in table.index else missing
            for table, key in ((seen, (eps, DEEP_KNN, "roc_auc")), (rounded, (SOURCE, eps, ILA_OF_BIM, DEEP_KNN)))
        ]
        row["n (transfer / seen / in 8 bits)"] = " / ".join(map(str, (fooled["n"].iloc[0], *counts)))
        rows.append(row)
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- sentences


def claims(differences: pd.DataFrame) -> str:
    """What became of the claim that intermediate level attacks transfer better, against each rival at each strength."""
    pooled = differences[differences["network"] == ALL_VICTIMS]
    parts = []
    for rival in RIVALS:
        told = "; ".join(
            f"{row.verdict} at ε = {row.eps:g}, {interval_text(row)}"
            for row in pooled[pooled["rival"] == rival].itertuples()
        )
        parts.append(f"against {RIVAL_TEXTS[rival]}: {told}")
    return " – ".join(parts) + "."


def answer(differences: pd.DataFrame) -> str:
    """One sentence: whether the attack adds transfer to as many plain steps."""
    pooled = differences[(differences["network"] == ALL_VICTIMS) & (differences["rival"] != CONTROL)]
    verdicts = set(pooled["verdict"])
    if CONFIRMED in verdicts and REFUTED not in verdicts:
        everywhere = "" if verdicts == {CONFIRMED} else ", where the intervals decide"
        return f"Intermediate level attacks fool more of the other networks than as many plain steps{everywhere}."
    if REFUTED in verdicts and CONFIRMED not in verdicts:
        everywhere = "" if verdicts == {REFUTED} else ", where the intervals decide"
        return f"Intermediate level attacks fool fewer of the other networks than as many plain steps{everywhere}."
    if CONFIRMED in verdicts:
        return "Whether intermediate level attacks fool more than as many plain steps hangs on the rival or on ε."
    return "Whether intermediate level attacks fool more or fewer than as many plain steps stays open here."


def lessons(
    success: pd.DataFrame,
    sweep: pd.DataFrame,
    differences: pd.DataFrame,
    changes: pd.DataFrame,
    detections: pd.DataFrame,
    choice: Choice,
) -> str:
    """Bullets that answer the study's questions, each with its figures, and what to open next."""
    pooled = sweep[sweep["network"] == ALL_VICTIMS]
    best, worst = (pooled.loc[pooled["estimate"].agg(end)] for end in ("idxmax", "idxmin"))
    strongest = success[(success["eps"] == success["eps"].max()) & (success["network"] == ALL_VICTIMS)]
    fooled = "; ".join(f"{row.method} {interval_text(row)}" for row in strongest.itertuples())
    return "\n".join(
        [
            f"- **{answer(differences)}** At ε = {success['eps'].max():g} the others misread a share of: {fooled} "
            f"(n = {strongest['n'].iloc[0]}). {choice.variant} at {choice.layer}, image by image, "
            f"{claims(differences)}",
            f"- **Does the layer matter?** Validation images chose {choice.variant} at {choice.layer}. Of the others "
            f"the most is {interval_text(best)} ({best['method']}, {best['layer']}), the least {interval_text(worst)} "
            f"({worst['method']}, {worst['layer']}).",
            f"- **Does Deep kNN see them?** {_seen(detections)}",
            f"- **Does it look more credible than its base attack?** {_more_credible(changes)}",
            "",
            "Next: [notebook 9](09_deep_knn.ipynb) is about Deep kNN itself, "
            "[notebook 10](10_poisoning.ipynb) about poisoned training data.",
        ]
    )


def _seen(detections: pd.DataFrame) -> str:
    """What the Deep kNN of each network sees of intermediate level attacks, at the largest strength there is."""
    rows = detections[(detections["attack"] == ILA_OF_BIM) & (detections["detector"] == DEEP_KNN)]
    if len(rows) == 0:
        return f"It cannot be judged here: under {FEWEST} of the attacks succeed."
    aucs, above = (rows[rows["figure"] == figure] for figure in ("roc_auc", ABOVE_BASELINE))
    told = ", ".join(
        f"{row.network} {interval_text(row)} (n = {row.n_positive})"
        for row in aucs[aucs["eps"] == aucs["eps"].max()].itertuples()
    )
    strengths = ", ".join(f"{eps:g}" for eps in sorted(above["eps"].unique()))
    better, worse = int((above["low"] > 0).sum()), int((above["high"] < 0).sum())
    return (
        f"At ε = {aucs['eps'].max():g} those that get through are told from normal images with a ROC-AUC of: {told}. "
        f"Over the strengths judged ({strengths}) its TPR at 5 % FPR is above the best trivial baseline's in {better} "
        f"of {len(above)} cases with the whole interval, below it in {worse}."
    )


def _more_credible(changes: pd.DataFrame) -> str:
    """What became of the claim that it does."""
    if len(changes) == 0:
        return f"Open: under {FEWEST} images are misread after both."
    counts = changes["verdict"].value_counts()
    lowest, highest = (changes.loc[changes["estimate"].agg(end)] for end in ("idxmin", "idxmax"))
    told = ", ".join(f"{name} in {counts[name]}" for name in counts.index)
    return (
        f"On images misread after both, {told} of {len(changes)} cases: the mean "
        f"change runs from {interval_text(lowest)} ({_place(lowest)}) to {interval_text(highest)} ({_place(highest)})."
    )


def _place(row: pd.Series) -> str:
    return f"{row['network']}, {row['attack']} at ε = {row['eps']:g}, n = {row['n']}"
