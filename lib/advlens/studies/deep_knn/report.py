"""The tables, figures and sentences of Deep kNN: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.arrays import Array
from advlens.datasets import DataSet
from advlens.metrics import NOMINAL_FPRS, Estimate, Stratum
from advlens.studies.closeness.protocols import BASELINES
from advlens.studies.deep_knn.measures import CONFIDENCE, DEEP_KNN, NETWORKS_LABEL, OF_DEEP_KNN, PUBLISHED
from advlens.studies.deep_knn.results import SPLITS
from advlens.studies.detection import ABOVE_BASELINE, FEWEST, NOMINAL_FPR
from advlens.tables import interval_text

TOO_FEW = "too few"
BEST = "best baseline"
SHOWN = 7  # neighbours of a gallery's row
SHORT = {
    DEEP_KNN: "credibility",
    NETWORKS_LABEL: "network's label",
    PUBLISHED: "as published",
    CONFIDENCE: "confidence",
}


# ---------------------------------------------------------------- pictures


def examples(clean: pd.DataFrame, measured: Mapping[str, pd.DataFrame]) -> dict[str, pd.Series]:
    """Decisions to look at, a row of what was measured each, with the attack ("" for a clean image).

    Returns:
        "supported" (clean, right, of the highest credibility), "wrong" (clean, wrong, of the lowest), "seen" (the first
        attack's success of the lowest) and "missed" (of the highest, of the last attack but one), where there are any.
    """
    right = (clean["predicted"] == clean["truth"]).to_numpy()
    first, last = next(iter(measured)), list(measured)[-2]
    kinds = {
        "supported": ("", clean[right], "idxmax"),
        "wrong": ("", clean[~right], "idxmin"),
        "seen": (first, _successes(measured[first]), "idxmin"),
        "missed": (last, _successes(measured[last]), "idxmax"),
    }
    return {
        name: pd.concat([rows.loc[rows["credibility"].agg(end)], pd.Series({"attack": attack})])
        for name, (attack, rows, end) in kinds.items()
        if len(rows)
    }


def _successes(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["role"] == "adversarial") & rows["success"].astype(bool) & (rows["part"] == "test")]


def gallery(image: Array, indices: Array, *, layers: Sequence[str], data: DataSet, judged: pd.Series) -> Figure:
    """An image, and its nearest training images in each layer with their labels.

    Args:
        image: (h, w, channels); indices: (l, k) rows of the training set.
        judged: the image's row of `examples`.
    """
    rows = {
        layer: (data.train_images[row], [data.class_names[label] for label in data.train_labels[row]])
        for layer, row in zip(layers, indices[:, :SHOWN], strict=True)
    }
    truth, network, label = (data.class_names[judged[name]] for name in ("truth", "predicted", "label"))
    title = (
        f"{judged['attack'] or 'clean'}: true label {truth}, the network says {network}, Deep kNN {label} "
        f"(credibility {judged['credibility']:.3f})"
    )
    return plots.neighbours(image, rows, title=title)


def promise_panels(promise: pd.DataFrame) -> pd.DataFrame:
    """The rows, and what is allowed: the level itself."""
    levels = promise["level"].unique()
    allowed = {"convention": "allowed", "level": levels, "estimate": levels, "low": levels, "high": levels}
    told = f"mean and middle 95 % of {SPLITS} draws, n = {promise['n'].iloc[0]} judged in each"
    rows = pd.concat([promise, pd.DataFrame(allowed)], ignore_index=True)
    return rows.assign(panel=told, family=np.where(rows["convention"] == "allowed", "baseline", "neighbours"))


def reliability_panels(reliability: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """The rows of each probability as a panel with its calibration error, and the diagonal."""
    rows = []
    for row in errors.itertuples():
        panel = f"{row.probability}\nECE {interval_text(row, digits=2)}, n = {row.n}"
        shares = reliability[reliability["probability"] == row.probability].assign(
            panel=panel, line="share right", family="neighbours"
        )
        ends = np.array([0.0, 1.0])
        diagonal = pd.DataFrame({"mean": ends, "estimate": ends, "low": ends, "high": ends})
        rows += [shares, diagonal.assign(panel=panel, line="as promised", family="baseline")]
    return pd.concat(rows, ignore_index=True)


# ---------------------------------------------------------------- tables


def accuracy_table(accuracies: pd.DataFrame, errors: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on clean test images, and how far probabilities are from being those of a right decision."""
    rows = [
        {"of clean test images": OF_CLEAN[row.figure], "share": interval_text(row), "n": row.n}
        for row in accuracies.itertuples()
    ]
    rows += [
        {"of clean test images": f"calibration error of {row.probability}", "share": interval_text(row), "n": row.n}
        for row in errors.itertuples()
    ]
    return pd.DataFrame(rows)


OF_CLEAN = {
    "network": "the network is right",
    "Deep kNN": "Deep kNN is right",
    "agreement": "they agree",
    "either": "one of them is right",
}


def search_table(searches: pd.DataFrame) -> pd.DataFrame:
    """Recall of each way to search in each layer, and its seconds beside those of the exact one."""
    recall = searches.pivot(index="search", columns="layer", values="recall").map("{:.3f}".format)
    layers = [layer for layer in searches["layer"].unique() if layer != "all"]
    of_all = searches[searches["layer"] == "all"].set_index("search")
    seconds = of_all[["fit seconds", "search seconds"]].map("{:.1f}".format)
    table = recall[[*layers, "all"]].add_prefix("recall in ").join(seconds)
    return table.reindex(searches["search"].unique()).rename_axis(columns=None).reset_index()


def detection_table(detection: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """Deep kNN's scores and the best trivial baseline, a row an attack and score.

    Returns:
        The table, and the places of the rows whose TPR at 5 % FPR lies above the baseline's with its whole interval.
    """
    rows, bold = [], []
    for attack, frame in detection.groupby("attack", sort=False):
        baseline = frame["baseline"].iloc[0]
        for detector in (*OF_DEEP_KNN, baseline):
            found = frame[frame["detector"] == detector].set_index("figure")
            if detector != baseline and found.loc[ABOVE_BASELINE, "low"] > 0:
                bold.append(len(rows))
            first = found.iloc[0]
            cells = {title: interval_text(found.loc[figure]) for title, figure in FIGURES.items()}
            name = f"{BEST}: {detector}" if detector == baseline else detector
            counts = {"n (attacked / normal)": f"{first['n_positive']} / {first['n_negative']}"}
            rows.append({"attack": attack, "score": name} | cells | counts)
    return pd.DataFrame(rows), bold


FIGURES = {
    "ROC-AUC": "roc_auc",
    "average precision": "average_precision",
    **{f"TPR at {rate:.0%}": f"committed_tpr_{rate:g}" for rate in NOMINAL_FPRS},
    f"FPR on clean at {NOMINAL_FPR:.0%}": f"observed_fpr_{NOMINAL_FPR:g} on clean",
    f"FPR on noisy at {NOMINAL_FPR:.0%}": f"observed_fpr_{NOMINAL_FPR:g} on noisy",
}


def auc_panels(detection: pd.DataFrame) -> pd.DataFrame:
    """The ROC-AUCs for a figure: a panel an attack with its n, families by colour."""
    rows = detection[detection["figure"] == "roc_auc"]
    panel = rows["attack"] + "\nn = " + rows["n_positive"].astype(str) + " / " + rows["n_negative"].astype(str)
    family = np.where(rows["detector"].isin(BASELINES), "baseline", "neighbours")
    return rows.assign(panel=panel, family=family, detector=rows["detector"].replace(SHORT))


def wide_aucs(aucs: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUCs, a row an attack and a column a detector, with n."""
    texts = aucs.assign(text=[interval_text(row) for row in aucs.itertuples()])
    table = texts.pivot(index="attack", columns="detector", values="text").reindex(aucs["attack"].unique())
    table = table[list(aucs["detector"].unique())]
    first = aucs.drop_duplicates("attack").set_index("attack")
    counts = first["n_positive"].astype(str) + " / " + first["n_negative"].astype(str)
    return table.assign(**{"n (attacked / normal)": counts}).rename_axis(columns=None).reset_index()


def strata_table(strata: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of successful, failed and all attacks, with how many there are."""
    texts = [f"{interval_text(row)} (n = {row.n_positive})" for row in strata.itertuples()]
    table = strata.assign(text=texts).pivot(index=["attack", "detector"], columns="stratum", values="text")
    order = pd.MultiIndex.from_frame(strata[["attack", "detector"]].drop_duplicates())
    table = table.reindex(order, columns=[each.value for each in Stratum]).fillna(TOO_FEW)
    return table.rename_axis(columns=None).reset_index()


def recovery_table(recovered: pd.DataFrame) -> pd.DataFrame:
    """How often Deep kNN finds the true label, of attacked images that the network gets wrong and of noisy ones."""
    texts = [f"{interval_text(row)} (n = {row.n})" for row in recovered.itertuples()]
    table = recovered.assign(text=texts).pivot(index="attack", columns="kind", values="text")
    return table.reindex(recovered["attack"].unique()).fillna(TOO_FEW).rename_axis(columns=None).reset_index()


def headline_table(
    success: Mapping[str, Estimate], detection: pd.DataFrame, eight_bit: pd.DataFrame, recovered: pd.DataFrame
) -> pd.DataFrame:
    """The answer in one table: what Deep kNN sees of each attack, at which rates, and the bar to beat.

    Args:
        success: attack → the share of attacked images whose decision changes.
    """
    rows = []
    for attack, share in success.items():
        frame = detection[detection["attack"] == attack]
        row = {"attack": attack, "success rate": interval_text(share)}
        if len(frame) == 0:
            rows.append(row | {"Deep kNN: ROC-AUC": f"under {FEWEST} attacks succeed"})
            continue
        baseline = frame["baseline"].iloc[0]
        ours, bar = (frame[frame["detector"] == name].set_index("figure") for name in (DEEP_KNN, baseline))
        rounded = eight_bit[eight_bit["attack"] == attack].set_index("detector")
        right = recovered[(recovered["attack"] == attack) & (recovered["kind"] == "attacked")]
        row |= {
            "Deep kNN: ROC-AUC": interval_text(ours.loc["roc_auc"]),
            "TPR": interval_text(ours.loc[f"committed_tpr_{NOMINAL_FPR:g}"]),
            "FPR on clean": interval_text(ours.loc[f"observed_fpr_{NOMINAL_FPR:g} on clean"]),
            "FPR on noisy": interval_text(ours.loc[f"observed_fpr_{NOMINAL_FPR:g} on noisy"]),
            "true label found": interval_text(right.iloc[0]) if len(right) else TOO_FEW,
            BEST: baseline,
            "its ROC-AUC": interval_text(bar.loc["roc_auc"]),
            "its TPR": interval_text(bar.loc[f"committed_tpr_{NOMINAL_FPR:g}"]),
            "its FPR on noisy": interval_text(bar.loc[f"observed_fpr_{NOMINAL_FPR:g} on noisy"]),
        }
        for title, name in (("in 8 bits: Deep kNN", DEEP_KNN), ("max softmax", "max softmax")):
            row[title] = interval_text(rounded.loc[name]) if name in rounded.index else TOO_FEW
        first = ours.iloc[0]
        row["n (attacked / normal)"] = f"{first['n_positive']} / {first['n_negative']}"
        row["n (label / in 8 bits)"] = " / ".join(
            str(table.iloc[0][n]) if len(table) else TOO_FEW for table, n in ((right, "n"), (rounded, "n_positive"))
        )
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


# ---------------------------------------------------------------- sentences


def lessons(
    accuracies: pd.DataFrame,
    promise: pd.DataFrame,
    detection: pd.DataFrame,
    recovered: pd.DataFrame,
    by_layer: pd.DataFrame,
) -> str:
    """Four bullets with their figures, and what to open next."""
    share = accuracies.set_index("figure")
    attacked = recovered[recovered["kind"] == "attacked"]
    found = "; ".join(f"{row.attack} {interval_text(row)}" for row in attacked.itertuples())
    return "\n".join(
        [
            f"- **Clean images**: the network is right on {interval_text(share.loc['network'])}, Deep kNN on "
            f"{interval_text(share.loc['Deep kNN'])}. {_promise_text(promise)}",
            f"- **{_seen(detection)}**",
            f"- **The true label** of attacked images that the network gets wrong is found in a share of "
            f"{found or TOO_FEW}.",
            f"- **{_best_layer(by_layer)}**",
            "",
            "Next: [notebook 10](10_poisoning.ipynb) poisons the training data.",
        ]
    )


def _promise_text(promise: pd.DataFrame) -> str:
    """What both conventions have at the smallest level and at that of the nominal FPR."""
    levels = (float(promise["level"].min()), NOMINAL_FPR)
    told = []
    for convention, rows in promise.groupby("convention", sort=False):
        at = rows.set_index("level")
        shares = " and ".join(interval_text(at.loc[level], digits=4) for level in levels)
        told.append(f"{convention} {shares}")
    return (
        f"At levels of {levels[0]:.1%} and {levels[1]:.0%} the true label's p-value falls to the level or below, as a "
        f"share of images (mean and middle 95 % of draws, n = {promise['n'].iloc[0]} in each): {'; '.join(told)}."
    )


def _seen(detection: pd.DataFrame) -> str:
    """On which attacks Deep kNN beats the best trivial baseline, and its rates."""
    ours = detection[detection["detector"] == DEEP_KNN]
    if len(ours) == 0:
        return f"Too few attacks succeed on these images to judge: {FEWEST} of one kind are needed."
    above = ours[ours["figure"] == ABOVE_BASELINE]
    better, worse = above[above["low"] > 0], above[above["high"] < 0]
    rates = ours[ours["figure"] == f"committed_tpr_{NOMINAL_FPR:g}"]
    told = "; ".join(f"{row.attack} {interval_text(row)}" for row in rates.itertuples())
    noisy = ours[ours["figure"] == f"observed_fpr_{NOMINAL_FPR:g} on noisy"]["estimate"]
    return (
        f"Does Deep kNN see attacks? At the threshold committed for an FPR of {NOMINAL_FPR:.0%} it flags {told}, and "
        f"{noisy.min():.3f} to {noisy.max():.3f} of images with noise of the same norm. Among clean and noisy images "
        f"together its TPR at {NOMINAL_FPR:.0%} FPR is above the best trivial baseline's on {len(better)} of "
        f"{len(above)} attacks and below it on {len(worse)}."
    )


def _best_layer(by_layer: pd.DataFrame) -> str:
    if len(by_layer) == 0:
        return "Which layer sees most can't be said: too few attacks succeed."
    over_attacks = by_layer.groupby("detector", sort=False)["estimate"]
    told = ", ".join(
        f"{name.removeprefix('neighbours in ')} {values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
        for name, values in over_attacks
    )
    return f"One layer alone, mean ROC-AUC over {by_layer['attack'].nunique()} attacks (lowest to highest): {told}."
