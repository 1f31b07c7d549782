"""The study's tables, figures and sentences: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.classifier import Classifier
from advlens.explanations.entropy import grey_levels, local_entropy
from advlens.explanations.responses import LAST_CONVOLUTION, METHODS, PREDICTED, responses
from advlens.metrics import Stratum
from advlens.studies.detection import ABOVE_BASELINE, FEWEST, NOMINAL_FPR
from advlens.studies.responses.measures import decisions
from advlens.studies.responses.protocols import CENTRED, CHOSEN, DETECTORS, ENTROPY, Choice
from advlens.studies.responses.results import ALL_ATTACKS
from advlens.studies.responses.settings import PUBLISHED_METHODS, PUBLISHED_RESPONSE, RATES, Setting
from advlens.tables import interval_text

MISSING = "–"
MOST_BITS = float(np.log2(PUBLISHED_RESPONSE.window**2))  # the largest entropy of a patch
EXAMPLES = 5  # pairs of images in a tracing figure


# ---------------------------------------------------------------- tracing


def tracing(classifier: Classifier, made: AttackSet, class_names: Sequence[str]) -> Figure | None:
    """An attack traced: images, their responses and local entropies, before and after, of a few successful attacks.

    Entropies are drawn from 0 (black) to log2 9 bits (white). None where no attack succeeded.
    """
    won = made.select(made.success)
    if len(won) == 0:
        return None
    won = won.select(np.unique(won.label, return_index=True)[1][:EXAMPLES])
    images = _before_and_after(won.clean, won.adversarial)
    grey = grey_levels(responses(classifier.model, images))
    local = local_entropy(grey)
    said = decisions(classifier, images, np.repeat(won.label, 2))
    titles = [f"{class_names[row.predicted]}\n{row.softmax:.2f}" for row in said.itertuples()]
    rows = {"image": images, "response": grey / 255, "local entropy": local / MOST_BITS}
    means = local.mean(axis=(1, 2))
    about = f"{made.attack}: mean entropy {means[::2].mean():.2f} bits before, {means[1::2].mean():.2f} after"
    return plots.image_grid(rows, column_titles=titles, title=about)


def methods_figure(classifier: Classifier, made: AttackSet, class_names: Sequence[str]) -> Figure:
    """Every response of a few images before and after an attack."""
    won = made.select(made.success) if made.success.any() else made
    won = won.select(np.unique(won.label, return_index=True)[1][:EXAMPLES])
    images = _before_and_after(won.clean, won.adversarial)
    titles = [class_names[label] for label in classifier.predict(images).argmax(axis=1)]
    rows = {"image": images}
    for of, short in ((LAST_CONVOLUTION, "last conv."), (PREDICTED, "class")):
        for method in METHODS:
            maps = responses(classifier.model, images, method=method, of=of)
            rows[f"{method.replace('_', ' ')}\n{short}"] = grey_levels(maps) / 255
    return plots.image_grid(rows, column_titles=titles, title=f"Responses before and after {made.attack}")


def _before_and_after(clean: Array, adversarial: Array) -> Array:
    return np.stack([clean, adversarial], axis=1).reshape(-1, *clean.shape[1:])


def photo_table(
    classifier: Classifier, names: Sequence[str], images: Array, attacked: Array, entropies: Array, after: Array
) -> pd.DataFrame:
    """What a network says of a few photographs before and after an attack, and their entropies."""
    said, said_after = (decisions(classifier, each, np.zeros(len(each), int)) for each in (images, attacked))
    return pd.DataFrame(
        {
            "photograph": names,
            "class before": [f"{row.predicted} ({row.softmax:.3f})" for row in said.itertuples()],
            "class after": [f"{row.predicted} ({row.softmax:.3f})" for row in said_after.itertuples()],
            "entropy before (bits)": [f"{value:.2f}" for value in entropies],
            "entropy after (bits)": [f"{value:.2f}" for value in after],
        }
    )


def photo_figure(images: Array, attacked: Array, before: Array, after: Array, names: Sequence[str]) -> Figure:
    """Photographs before and after an attack, their responses and local entropies.

    Args:
        images, attacked: (n, h, w, 3) in [0, 1]; before, after: their responses.
    """
    grey = grey_levels(_before_and_after(before, after))
    rows = {
        "photograph": _before_and_after(images, attacked),
        "response": grey / 255,
        "local entropy": local_entropy(grey) / MOST_BITS,
    }
    titles = [text for name in names for text in (name, "attacked")]
    return plots.image_grid(rows, column_titles=titles, title="The same functions on VGG-19 and photographs")


# ---------------------------------------------------------------- tables


def attacks_table(changes: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The first half of the study's Table 1: how often each attack succeeds and how sure the network is after it."""
    found = changes.set_index(["attack", "figure"])
    titles = {"success": "success rate", "truth": "confidence in the true class", "target": "in the reached class"}
    rows = []
    for setting in settings:
        row: dict[str, Any] = {"attack": setting.name, "images": found.loc[(setting.name, "success"), "n"]}
        for figure, title in titles.items():
            known = setting.published and getattr(setting.published, figure)
            row[f"{title}, published"] = f"{known:.3f}" if known else MISSING
            there = (setting.name, figure) in found.index
            row[title] = interval_text(found.loc[(setting.name, figure)]) if there else MISSING
        rows.append(row)
    return pd.DataFrame(rows)


def seconds_table(seconds: Mapping[str, float], settings: Sequence[Setting]) -> pd.DataFrame:
    """Run times an image, the study's from its days."""
    rows = []
    for setting in settings:
        known = setting.published
        published = f"{known.days * 86_400 / known.images:.1f}" if known else MISSING
        rows.append(
            {"attack": setting.name, "published, s an image": published, "here": f"{seconds[setting.name]:.4f}"}
        )
    return pd.DataFrame(rows)


def detection_table(published: pd.DataFrame, corrected: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The second half of Table 1: TPR at 1, 5 and 10 % FPR of the entropy under both protocols.

    Thresholds of the corrected columns are committed from clean images; the rates of false alarms that they really
    have at the nominal 5 %, among clean and among noisy images, stand beside.
    """
    remade, mended = (_figures(frame, ENTROPY) for frame in (published, corrected))
    rows = []
    for name, known in [*((each.name, each.published) for each in settings), (ALL_ATTACKS, None)]:
        row = {"attack": name}
        for place, rate in enumerate(RATES):
            title = f"TPR at {rate:.0%} FPR"
            row[f"{title}, published"] = f"{known.tpr[place]:.3f}" if known else MISSING
            row[f"{title}, as published"] = _text(remade, name, f"tpr_at_fpr_{rate:g}")
            row[f"{title}, committed"] = _text(mended, name, f"committed_tpr_{rate:g}")
        for role in ("clean", "noisy"):
            row[f"FPR on {role} at 5%"] = _text(mended, name, f"observed_fpr_{NOMINAL_FPR} on {role}")
        row["best baseline: TPR at 5% FPR, committed"] = _of_baseline(corrected, name, f"committed_tpr_{NOMINAL_FPR}")
        row["n as published / committed"] = f"{_n(remade, name)} / {_n(mended, name)}"
        rows.append(row)
    return pd.DataFrame(rows)


def methods_table(published: pd.DataFrame, corrected: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """The study's Table 2: recall, precision and AUC of all attacks together, its own rows first.

    Returns:
        The table, and the places of the rows whose TPR at 5 % FPR lies above that of the best trivial baseline with
        its whole paired interval.
    """
    rows = [
        {"method": method, "data": f"{data}, {network}, {attack}", "protocol": "their own"}
        | {title: f"{value:.3f}" if value else MISSING for title, value in zip(TABLE_2, values, strict=True)}
        for method, data, network, attack, *values in PUBLISHED_METHODS
    ]
    bold = []
    for protocol, frame in (("as published", published), ("corrected", corrected)):
        judged = frame[frame["attack"] == ALL_ATTACKS]
        for detector in DETECTORS:
            found = judged[judged["detector"] == detector].set_index("figure")
            if len(found):
                first = found.iloc[0]
                counts = f"{first['n_positive']} / {first['n_negative']}"
                if ABOVE_BASELINE in found.index and found.loc[ABOVE_BASELINE, "low"] > 0:
                    bold.append(len(rows))
                figures = {title: interval_text(found.loc[figure]) for title, figure in TABLE_2.items()}
                rows.append({"method": detector, "data": "here", "protocol": protocol} | figures | {"n": counts})
    return pd.DataFrame(rows).fillna(MISSING), bold


TABLE_2 = {"recall": "recall", "precision": "precision", "ROC-AUC": "roc_auc"}


def noise_table(noise: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of attacked, noisy and clean images against each other, a row an attack and detector."""
    texts = noise.assign(text=[interval_text(row) for row in noise.itertuples()])
    return _wide(texts, "pair")


def noise_panels(noise: pd.DataFrame) -> pd.DataFrame:
    """The rows of two detectors that learn nothing, with a column panel: attack and number of successful attacks."""
    shown = noise[noise["detector"].isin([ENTROPY, "max softmax"])]
    panel = shown["attack"] + "\nn = " + shown["n_positive"].astype(str)
    short = shown["detector"].map({ENTROPY: "entropy", "max softmax": "softmax"})
    return shown.assign(panel=panel, pair=short + ": " + shown["pair"])


def of_windows(sensitivity: pd.DataFrame) -> pd.DataFrame:
    """The settings that differ from the published one by window and grey levels alone."""
    rows = _like_published(sensitivity, "method", "of", "normalisation", "stride").sort_values(
        ["negatives", "window", "bins"]
    )
    return _told(rows.rename(columns={"bins": "grey levels"}))


def of_responses(sensitivity: pd.DataFrame) -> pd.DataFrame:
    """The settings that differ from the published one by response and normalisation alone."""
    rows = _like_published(sensitivity, "window", "bins", "stride").sort_values(
        ["negatives", "of", "method"], kind="stable"
    )
    return _told(rows.assign(response=rows["method"].str.replace("_", " ") + ", " + rows["of"]))


def _like_published(sensitivity: pd.DataFrame, *fields: str) -> pd.DataFrame:
    same = [sensitivity[field] == getattr(PUBLISHED_RESPONSE, field) for field in fields]
    return sensitivity[np.logical_and.reduce(same)]


def _told(rows: pd.DataFrame) -> pd.DataFrame:
    """The negatives with n, attacked and normal images, and what stands in a heat map's cell."""
    counts = rows["n_positive"].astype(str) + " / " + rows["n_negative"].astype(str)
    texts = [f"{row.estimate:.2f}\n[{row.low:.2f}, {row.high:.2f}]" for row in rows.itertuples()]
    return rows.assign(negatives="against " + rows["negatives"] + " (n = " + counts + ")", text=texts)


def confidence_table(confidence: pd.DataFrame) -> pd.DataFrame:
    """The score by the network's confidence, a row a kind of image, and the rank correlation of the two."""
    texts = [f"{interval_text(row)} (n = {row.n})" for row in confidence.itertuples()]
    table = confidence.assign(text=texts).pivot(index="kind", columns="window", values="text")
    table = table.reindex(confidence["kind"].unique())[list(confidence["window"].unique())].fillna("too few")
    correlation = confidence.drop_duplicates("kind").set_index("kind")["rank_correlation"]
    return (
        table.assign(**{"rank correlation": correlation.map("{:.2f}".format)}).rename_axis(columns=None).reset_index()
    )


def strata_table(strata: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of successful, failed and all attacks, with how many there are."""
    texts = [f"{interval_text(row)} (n = {row.n_positive})" for row in strata.itertuples()]
    table = _wide(strata.assign(text=texts), "stratum").drop(columns="n")
    strata_in_order = [each.value for each in Stratum]
    return table.reindex(columns=["attack", "detector", *strata_in_order]).fillna("too few")


def eight_bit_table(eight_bit: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of floats and of 8-bit images, with how many attacks there are, a row an attack and detector."""
    texts = [f"{interval_text(row)} (n = {row.n_positive})" for row in eight_bit.itertuples()]
    return _wide(eight_bit.assign(text=texts), "format").drop(columns="n").fillna("too few")


def figures_table(corrected: pd.DataFrame) -> pd.DataFrame:
    """The corrected protocol's figures of all detectors, a row an attack and detector."""
    figures = {
        "ROC-AUC": "roc_auc",
        "average precision": "average_precision",
        **{f"TPR at {rate:.0%} FPR": f"tpr_at_fpr_{rate:g}" for rate in RATES},
        **{f"committed at {rate:.0%}: TPR": f"committed_tpr_{rate:g}" for rate in RATES},
        **{f"committed at {rate:.0%}: FPR": f"observed_fpr_{rate:g}" for rate in RATES},
        "FPR on clean at 5%": f"observed_fpr_{NOMINAL_FPR} on clean",
        "FPR on noisy at 5%": f"observed_fpr_{NOMINAL_FPR} on noisy",
        "calibration error": "expected_calibration_error",
    }
    rows = []
    for (attack, detector), found in corrected.groupby(["attack", "detector"], sort=False):
        by_figure = found.set_index("figure")
        cells = {
            title: interval_text(by_figure.loc[name]) if name in by_figure.index else MISSING
            for title, name in figures.items()
        }
        counts = {"n (attacked / normal)": f"{found['n_positive'].iloc[0]} / {found['n_negative'].iloc[0]}"}
        rows.append({"attack": attack, "detector": detector} | cells | counts)
    return pd.DataFrame(rows)


def _wide(rows: pd.DataFrame, columns: str) -> pd.DataFrame:
    order = pd.MultiIndex.from_frame(rows[["attack", "detector"]].drop_duplicates())
    table = rows.pivot(index=["attack", "detector"], columns=columns, values="text").reindex(order)
    counts = rows.groupby(["attack", "detector"], sort=False)["n_positive"].max().reindex(order)
    return table[list(rows[columns].unique())].assign(n=counts).rename_axis(columns=None).reset_index()


def choice_table(choice: Choice, tried: pd.DataFrame, *, most: int = 5) -> tuple[pd.DataFrame, list[int]]:
    """The settings that did best on the validation groups, and the published one; bold is what was chosen."""
    ranked = tried.assign(separation=(tried["estimate"] - 0.5).abs()).sort_values("separation", ascending=False)
    shown = ranked[(np.arange(len(ranked)) < most) | (ranked["name"] == PUBLISHED_RESPONSE.name)]
    table = pd.DataFrame(
        {
            "response and entropy": shown["name"],
            "": np.where(shown["name"] == PUBLISHED_RESPONSE.name, "as published", ""),
            "ROC-AUC": [interval_text(row) for row in shown.itertuples()],
            "n": shown["n"],
        }
    ).reset_index(drop=True)
    return table, table.index[table["response and entropy"] == choice.setting.name].tolist()


def class_table(classes: pd.DataFrame, class_names: Sequence[str]) -> pd.DataFrame:
    """The entropy of clean images by predicted class, and the share that the one committed threshold flags."""
    found = classes.set_index(["predicted", "figure"])
    numbers = classes["predicted"].unique()
    return pd.DataFrame(
        {
            "predicted class": [class_names[number] for number in numbers],
            "mean entropy (bits)": [interval_text(found.loc[(number, "bits")]) for number in numbers],
            "FPR at 5%": [interval_text(found.loc[(number, f"observed_fpr_{NOMINAL_FPR}")]) for number in numbers],
            "n": [found.loc[(number, "bits"), "n"] for number in numbers],
        }
    )


def headline_table(
    changes: pd.DataFrame,
    published: pd.DataFrame,
    corrected: pd.DataFrame,
    noise: pd.DataFrame,
    eight_bit: pd.DataFrame,
) -> pd.DataFrame:
    """The study in one table: the entropy under both protocols, against noise, in 8 bits, and the bar to beat."""
    rounded = eight_bit[eight_bit["format"] == "8-bit"].set_index(["attack", "detector"])
    success = changes[changes["figure"] == "success"].set_index("attack")
    remade, mended, chosen = (
        _figures(published, ENTROPY),
        _figures(corrected, ENTROPY),
        _figures(corrected, CHOSEN),
    )
    twins = noise[(noise["pair"] == "attacked / noisy") & (noise["detector"] == ENTROPY)].set_index("attack")
    rows = []
    for attack in [*success.index, ALL_ATTACKS]:
        rows.append(
            {
                "attack": attack,
                "success rate": interval_text(success.loc[attack]) if attack in success.index else MISSING,
                "entropy: ROC-AUC as published": _text(remade, attack, "roc_auc"),
                "corrected": _text(mended, attack, "roc_auc"),
                "attacked against noisy": interval_text(twins.loc[attack]) if attack in twins.index else MISSING,
                "chosen response": _text(chosen, attack, "roc_auc"),
                "TPR": _text(mended, attack, f"committed_tpr_{NOMINAL_FPR}"),
                "FPR on clean": _text(mended, attack, f"observed_fpr_{NOMINAL_FPR} on clean"),
                "FPR on noisy": _text(mended, attack, f"observed_fpr_{NOMINAL_FPR} on noisy"),
                "best baseline: ROC-AUC": _of_baseline(corrected, attack, "roc_auc"),
                "in 8 bits: entropy": _text(rounded, attack, ENTROPY),
                "max softmax": _text(rounded, attack, "max softmax"),
                "n attacked (as published / corrected)": f"{_n(remade, attack)} / {_n(mended, attack)}",
            }
        )
    return pd.DataFrame(rows)


def _figures(results: pd.DataFrame, detector: str) -> pd.DataFrame:
    return results[results["detector"] == detector].set_index(["attack", "figure"])


def _text(figures: pd.DataFrame, attack: str, figure: str) -> str:
    there = (attack, figure) in figures.index
    return interval_text(figures.loc[(attack, figure)]) if there else "too few"


def _of_baseline(corrected: pd.DataFrame, attack: str, figure: str) -> str:
    """A figure of the best trivial baseline, with its name."""
    judged = corrected[corrected["attack"] == attack]
    if len(judged) == 0:
        return "too few"
    baseline = judged["baseline"].iloc[0]
    return f"{_text(_figures(judged, baseline), attack, figure)} ({baseline})"


def _n(figures: pd.DataFrame, attack: str) -> str:
    there = (attack, "roc_auc") in figures.index
    return str(figures.loc[(attack, "roc_auc"), "n_positive"]) if there else f"under {FEWEST}"


# ---------------------------------------------------------------- sentences


def tracing_lessons(changes: pd.DataFrame, entropy_changes: pd.DataFrame, settings: Sequence[Setting]) -> str:
    """Three bullets: how the attacks fare, what they do to the entropy, and what noise does."""
    success = changes[changes["figure"] == "success"].set_index("attack")
    fared = "; ".join(
        f"{setting.name} {interval_text(success.loc[setting.name])}"
        + (f" (the study: {setting.published.success:.3f})" if setting.published else "")
        for setting in settings
    )
    moved = {
        kind: "; ".join(f"{row.attack} {interval_text(row, digits=2)}" for row in rows.itertuples())
        for kind, rows in entropy_changes.groupby("kind")
    }
    return "\n".join(
        [
            f"- **Success rates**: {fared}.",
            f"- **Successful attacks change the mean entropy**, in bits against the same images before: "
            f"{moved.get('attacked', 'too few')}.",
            f"- **Noise of the same norm changes it**, too: {moved.get('noisy', 'too few')}.",
            "",
            "Next: [notebook 8](08_local_spatial_entropy.ipynb) makes a detector of it.",
        ]
    )


def carries_over(
    published: pd.DataFrame, corrected: pd.DataFrame, noise: pd.DataFrame, settings: Sequence[Setting]
) -> str:
    """Whether the idea holds here, and by which figures.

    It carries over where, with its whole interval, a *higher* entropy tells all attacks from clean images, every attack
    that can be judged from its noisy twin, and all of them from normal images better than the best trivial baseline.
    """
    remade, mended = _figures(published, ENTROPY), _figures(corrected, ENTROPY)
    twins = noise[(noise["pair"] == "attacked / noisy") & (noise["detector"] == ENTROPY)]
    if len(twins) == 0 or ALL_ATTACKS not in set(corrected["attack"]) & set(published["attack"]):
        return f"Too few attacks succeed on these images to judge: {FEWEST} of one kind are needed in the test groups."
    against_clean = remade.loc[(ALL_ATTACKS, "roc_auc")]
    bar = mended.loc[(ALL_ATTACKS, ABOVE_BASELINE)]
    holds = against_clean["low"] > 0.5 and (twins["low"] > 0.5).all() and bar["low"] > 0
    told_apart = ", ".join(f"{row.attack} {interval_text(row)}" for row in twins.itertuples())
    unjudged = [setting.name for setting in settings if setting.name not in set(twins["attack"])]
    too_few = f" (too few successes to judge: {', '.join(unjudged)})" if unjudged else ""
    return (
        f"The idea {'carries over' if holds else 'does not carry over'} to this data set. Against clean images alone, "
        f"and as published, a higher entropy reaches a ROC-AUC of {interval_text(against_clean)} over all attacks (the "
        f"study: 0.990); with noisy images of the same norm among the normal ones "
        f"{interval_text(mended.loc[(ALL_ATTACKS, 'roc_auc')])}. Attacks are told from their own noisy twins with "
        f"{told_apart}{too_few}. Its TPR at 5 % "
        f"FPR less that of the best trivial baseline is {interval_text(bar)} ({bar['baseline']})."
    )


def _lowest_to_highest(results: pd.DataFrame) -> str:
    lowest, highest = (results.loc[results["estimate"].agg(end)] for end in ("idxmin", "idxmax"))
    return f"{interval_text(lowest, digits=2)} to {interval_text(highest, digits=2)}"


def lessons(
    published: pd.DataFrame,
    corrected: pd.DataFrame,
    noise: pd.DataFrame,
    sensitivity: pd.DataFrame,
    classes: pd.DataFrame,
    settings: Sequence[Setting],
) -> str:
    """Three bullets that answer the study's questions, each with its figures, and what to open next."""
    noisy = noise[(noise["detector"] == ENTROPY) & (noise["pair"] == "noisy / clean")]
    seen = "; ".join(f"{row.attack} {interval_text(row)}" for row in noisy.itertuples())
    clean = sensitivity[sensitivity["negatives"] == "clean"]
    both = sensitivity[sensitivity["negatives"] == "clean and noisy"]
    rates = classes[classes["figure"] == f"observed_fpr_{NOMINAL_FPR}"]
    centred = _text(_figures(corrected, CENTRED), ALL_ATTACKS, "roc_auc")
    return "\n".join(
        [
            f"- **{carries_over(published, corrected, noise, settings)}**",
            f"- **Does noise alone look the same?** ROC-AUC of noisy twins against clean images: {seen}. Where that is "
            "high, a threshold from clean images cannot know which of the two it sees.",
            "- **What the study leaves open matters.** Over windows, grey levels, responses and normalisations the "
            f"ROC-AUC of all attacks against clean images runs from {_lowest_to_highest(clean)}, against clean and "
            f"noisy ones from {_lowest_to_highest(both)} (test groups left out). One threshold flags a share of "
            f"{_lowest_to_highest(rates)} of clean images, by the class that the network sees. Taking each class's "
            f"mean off leaves a ROC-AUC of {centred}.",
            "",
            "The bars to beat are in notebook 6: uncertainty and closeness on the same network.",
        ]
    )
