"""The study's tables and sentences, as text: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.image_files import CODECS, read_export
from advlens.studies.relevancy.results import ABOVE_BASELINE
from advlens.tables import interval_text

# The accuracies on the slides; the two variants' (79.0 and 50.0 %) are given there without an attack.
PUBLISHED_ACCURACY = {
    ("input", "lbfgs"): "94.4 %",
    ("input", "deepfool"): "98.16 %",
    ("input", "gradient"): "97 %",
    ("relevancy", "lbfgs"): "60.8 %",
    ("relevancy", "deepfool"): "70.29 %",
    ("relevancy", "gradient"): "79.2 %",
}
VARIANT_ACCURACY = {
    "relevancy, VGG-like": "79.0 % (attack not said)",
    "relevancy, last layer": "50.0 % (attack not said)",
}
# The headline's rows: the corrected detector, and the study's classifier that it corrects. The study's maps are
# z-rule maps by its code and Deep Taylor maps by its slides.
HEADLINE = {"input": "input", "z-rule": "relevancy", "Deep Taylor": None}


def export_gallery(folder: Path, names: Mapping[str, Mapping[str, Sequence[str]]], *, each: int = 3) -> Figure:
    """The first files of each kind and attack, read back from disk."""
    kinds = list(next(iter(names.values())))
    rows = {kind: [] for kind in kinds}
    for attack, files in names.items():
        for kind in kinds:
            rows[kind] += list(read_export(folder / attack, files[kind][:each]))
    titles = [
        f"{attack}\nid {name.split('_')[1]}" for attack, files in names.items() for name in files[kinds[0]][:each]
    ]
    return plots.image_grid(rows, column_titles=titles, title="The study's exported JPEGs, wrapped around at 256")


def published_table(published: pd.DataFrame) -> pd.DataFrame:
    """Accuracies as published and as remade under the same protocol."""
    values = [
        PUBLISHED_ACCURACY.get((row.lens, row.attack), VARIANT_ACCURACY.get(row.lens, "–"))
        for row in published.itertuples()
    ]
    return pd.DataFrame(
        {
            "attack": published["attack"],
            "detector": published["lens"],
            "published": values,
            "as published, remade": published["accuracy"].map(interval_text),
            "training images": published["n_train"],
            "evaluated images": published["n_test"],
        }
    )


def corrected_table(results: pd.DataFrame) -> tuple[pd.DataFrame, list[int]]:
    """All detectors on all attacks, and the places of the rows that beat the best trivial baseline.

    A row beats it where the paired difference of TPRs at 5 % FPR lies above 0 with its whole interval.
    """
    figures = {
        "ROC-AUC": "roc_auc", "average precision": "average_precision", "TPR at 1 % FPR": "tpr_at_fpr_0.01",
        "TPR at 5 % FPR": "tpr_at_fpr_0.05", "TPR at 10 % FPR": "tpr_at_fpr_0.1",
        "calibration error": "expected_calibration_error",
    }  # fmt: skip
    table = _wide(results, figures)
    above = results[results["figure"] == ABOVE_BASELINE].set_index(["attack", "detector"])["low"]
    bold = [place for place, row in enumerate(table.itertuples()) if above[row.attack, row.detector] > 0]
    return table, bold


def false_alarm_table(results: pd.DataFrame) -> pd.DataFrame:
    """What thresholds committed from clean images flag: clean images, noisy twins, and attacks."""
    figures = {
        "clean flagged at 1 %": "observed_fpr_0.01 on clean", "at 5 %": "observed_fpr_0.05 on clean",
        "at 10 %": "observed_fpr_0.1 on clean", "noisy flagged at 5 %": "observed_fpr_0.05 on noisy",
        "attacks flagged at 1 %": "committed_tpr_0.01", "attacks at 5 %": "committed_tpr_0.05",
        "attacks at 10 %": "committed_tpr_0.1",
    }  # fmt: skip
    return _wide(results, figures, digits=2)


def strata_table(results: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of successful, failed and all attacks, with how many there are; empty where there is none."""
    chosen = results[(results["figure"] == "roc_auc") & results["detector"].isin([*HEADLINE, "max softmax"])]
    chosen = chosen.assign(text=_texts(chosen, 3) + " (n = " + chosen["n_positive"].astype(str) + ")")
    table = chosen.pivot(index=["attack", "detector"], columns="stratum", values="text")
    columns = [name for name in ("success", "failed", "all") if name in table]
    return table[columns].fillna("no such image").reset_index()


def ladder_table(ladder: pd.DataFrame) -> pd.DataFrame:
    """The ladder's figures, a column a codec."""
    made = ladder.assign(text=_texts(ladder, 3), figure=ladder["figure"].replace("roc_auc", "ROC-AUC"))
    table = made.pivot(index=["protocol", "figure", "attack", "lens"], columns="codec", values="text")
    return table[[codec for codec in CODECS if codec in table]].reset_index()


def beyond_table(beyond: pd.DataFrame) -> pd.DataFrame:
    """What the maps' detector adds to the input classifier, and to it and max softmax."""
    return pd.DataFrame(
        {
            "attack": beyond["attack"],
            "base": beyond["base"],
            "map": beyond["map"],
            "gain in ROC-AUC": _texts(beyond.rename(columns={"gain": "estimate"}), 4),
            "p": beyond["p_value"].map("{:.3f}".format),
            "attacks missed by the base": [f"{row.missed} of {row.n_positive}" for row in beyond.itertuples()],
            "of these flagged by the map": [f"{row.caught} of {row.missed}" for row in beyond.itertuples()],
            "the map's false alarms": beyond["false_alarms"].map("{:.3f}".format),
        }
    )


def headline_table(published: pd.DataFrame, ladder: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The study in one table: published, remade, without the file format, corrected, and the bar to beat."""
    rows = []
    by_figure = results.set_index(["attack", "detector", "figure"]).sort_index()
    for attack in published["attack"].unique():
        bar = by_figure.loc[(attack, "max softmax")]
        for detector, lens in HEADLINE.items():
            figures = by_figure.loc[(attack, detector)]
            rows.append(
                {"attack": attack, "classifier": detector if detector == "input" else f"relevancy, {detector}"}
                | (_published_cells(published, ladder, attack, lens) if lens else {})
                | {
                    "corrected ROC-AUC": interval_text(figures.loc["roc_auc"]),
                    "TPR": interval_text(figures.loc["committed_tpr_0.05"]),
                    "at observed FPR (nominal 5 %)": interval_text(figures.loc["observed_fpr_0.05 on clean"]),
                    "max softmax: ROC-AUC": interval_text(bar.loc["roc_auc"]),
                    "max softmax: TPR": interval_text(bar.loc["committed_tpr_0.05"]),
                    "n (attacked / normal)": _counts(figures.loc["roc_auc"]),
                }
            )
    return pd.DataFrame(rows).fillna("–")


def _published_cells(published: pd.DataFrame, ladder: pd.DataFrame, attack: str, lens: str) -> dict[str, str]:
    remade = published[(published["attack"] == attack) & (published["lens"] == lens)].iloc[0]
    return {
        "published accuracy": PUBLISHED_ACCURACY[lens, attack],
        "as published, remade": interval_text(remade["accuracy"]),
        "the same on floats": interval_text(_rung(ladder, "as published", attack, lens, "float")),
    }


def lessons(published: pd.DataFrame, ladder: pd.DataFrame, results: pd.DataFrame, beyond: pd.DataFrame) -> str:
    """Three bullets that answer the study's questions, each with its figures."""
    attacks = list(published["attack"].unique())
    remade = published.set_index(["attack", "lens"])["accuracy"]
    codecs = [codec for codec in ("wrapped jpeg", "8-bit", "float") if (ladder["codec"] == codec).any()]

    def listed(texts: Sequence[str]) -> str:
        return "; ".join(f"{attack} {text}" for attack, text in zip(attacks, texts, strict=True))

    def accuracy(attack: str, codec: str) -> str:
        return f"{_rung(ladder, 'as published', attack, 'input', codec)['estimate']:.1%}"

    def auc(attack: str, detector: str) -> str:
        return f"{_figure(results, attack, detector, 'roc_auc'):.3f}"

    formats = [", ".join(f"{accuracy(attack, codec)} as {codec}" for codec in codecs) for attack in attacks]
    corrected = [
        f"{auc(attack, 'input')}, {auc(attack, 'z-rule')} and {auc(attack, 'Deep Taylor')} (max softmax: "
        f"{auc(attack, 'max softmax')})"
        for attack in attacks
    ]

    def gain(attack: str, base: str) -> str:
        row = beyond.set_index(["attack", "base", "map"]).sort_index().loc[(attack, base, "z-rule")]
        return f"{row.gain:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"

    gains = [f"{gain(attack, 'input')}, and {gain(attack, 'input + max softmax')} with softmax" for attack in attacks]
    both = [f"{remade[a, 'input'].estimate:.1%} and {remade[a, 'relevancy'].estimate:.1%}" for a in attacks]
    return "\n".join(
        [
            f"- **As published**, accuracies of the input and the relevancy classifier come out as {listed(both)}.",
            f"- **The file format**: under the published protocol the input classifier reaches {listed(formats)}.",
            f"- **Corrected**, the ROC-AUC of images, z-rule maps and Deep Taylor maps is {listed(corrected)}; joining "
            f"z-rule maps gains {listed(gains)} in the base.",
        ]
    )


# ---------------------------------------------------------------- pieces


def _texts(rows: pd.DataFrame, digits: int) -> pd.Series:
    return pd.Series([interval_text(row, digits=digits) for row in rows.itertuples()], index=rows.index, dtype=object)


def _counts(row: Any) -> str:
    return f"{row.n_positive} / {row.n_negative}"


def _wide(results: pd.DataFrame, figures: Mapping[str, str], *, digits: int = 3) -> pd.DataFrame:
    """A row an attack and detector in their order of appearance, a column a figure under its new name."""
    texts = results.assign(text=_texts(results, digits)).pivot(
        index=["attack", "detector"], columns="figure", values="text"
    )
    order = pd.MultiIndex.from_frame(results[["attack", "detector"]].drop_duplicates())
    table = texts.reindex(order)[list(figures.values())].set_axis(list(figures), axis=1).fillna("–").reset_index()
    first = results[results["figure"] == "roc_auc"]
    return table.assign(**{"n (attacked / normal)": [_counts(row) for row in first.itertuples()]})


def _rung(ladder: pd.DataFrame, protocol: str, attack: str, lens: str, codec: str) -> pd.Series:
    chosen = ladder.set_index(["protocol", "attack", "lens", "codec"]).sort_index()
    return chosen.loc[(protocol, attack, lens, codec)]


def _figure(results: pd.DataFrame, attack: str, detector: str, figure: str) -> float:
    return results.set_index(["attack", "detector", "figure"]).sort_index().loc[(attack, detector, figure), "estimate"]
