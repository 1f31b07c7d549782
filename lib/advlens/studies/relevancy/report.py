"""The study's tables and sentences, as text: every number comes from the results that are passed in."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.image_files import CODECS, read_export
from advlens.studies.relevancy.protocols import MAPS
from advlens.studies.relevancy.published import NOT_PUBLISHED
from advlens.studies.relevancy.results import ABOVE_BASELINE
from advlens.tables import interval_text

# The headline's rows: the corrected detector, and the study's classifier that it corrects. The study's maps are
# z-rule maps by its code and Deep Taylor maps by its slides.
FEWEST = 10  # attacks in a stratum, under which an AUC says nothing
COUNTS = "n (attacked / clean / noisy)"
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
    return pd.DataFrame(
        {
            "attack": published["attack"],
            "detector": published["lens"],
            "published": published["published"],
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
    """ROC-AUC of successful, failed and all attacks with how many there are, where these are `FEWEST` or more."""
    chosen = results[(results["figure"] == "roc_auc") & results["detector"].isin([*HEADLINE, "max softmax"])]
    counts = " (n = " + chosen["n_positive"].astype(str) + ")"
    texts = _texts(chosen, 3).where(chosen["n_positive"] >= FEWEST, "too few")
    chosen = chosen.assign(text=texts + counts)
    table = chosen.pivot(index=["attack", "detector"], columns="stratum", values="text")
    columns = [name for name in ("success", "failed", "all") if name in table]
    return table[columns].fillna("no such image").reset_index()


def ladder_table(ladder: pd.DataFrame) -> pd.DataFrame:
    """The ladder's figures, a column a codec."""
    made = ladder.assign(text=_texts(ladder, 3), figure=ladder["figure"].replace("roc_auc", "ROC-AUC"))
    table = made.pivot(index=["protocol", "figure", "attack", "lens", "n"], columns="codec", values="text")
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
            "the map's false alarms": beyond["false_alarms"].map(interval_text),
            "n (attacked / passed normal)": [f"{row.n_positive} / {row.passed}" for row in beyond.itertuples()],
        }
    )


def headline_table(published: pd.DataFrame, ladder: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """The study in one table: published, remade, without the file format, corrected, and the bar to beat."""
    rows = []
    by_figure = results.set_index(["attack", "detector", "figure"]).sort_index()
    for attack in published["attack"].unique():
        best = results[(results["attack"] == attack) & (results["figure"] == ABOVE_BASELINE)]["baseline"].iloc[0]
        bar = by_figure.loc[(attack, best)]
        for detector, lens in HEADLINE.items():
            figures = by_figure.loc[(attack, detector)]
            rows.append(
                {"attack": attack, "classifier": detector if detector == "input" else f"relevancy, {detector}"}
                | (_published_cells(published, ladder, attack, lens) if lens else {})
                | {
                    "corrected ROC-AUC": interval_text(figures.loc["roc_auc"]),
                    **_committed_cells(figures),
                    "best baseline": best,
                    "its ROC-AUC": interval_text(bar.loc["roc_auc"]),
                    **{f"its {name}": cell for name, cell in _committed_cells(bar).items()},
                    COUNTS: _counts(figures),
                }
            )
    return pd.DataFrame(rows).fillna("–")


def _committed_cells(figures: pd.DataFrame) -> dict[str, str]:
    """At the threshold committed at a nominal 5 %."""
    return {
        "TPR": interval_text(figures.loc["committed_tpr_0.05"]),
        "FPR on clean": interval_text(figures.loc["observed_fpr_0.05 on clean"]),
    }


def _published_cells(published: pd.DataFrame, ladder: pd.DataFrame, attack: str, lens: str) -> dict[str, str]:
    remade = published[(published["attack"] == attack) & (published["lens"] == lens)].iloc[0]
    return {
        "published accuracy": remade["published"],
        "as published, remade": interval_text(remade["accuracy"]),
        "the same on floats": interval_text(_rung(ladder, "as published", attack, lens, "float")),
    }


def effects_table(effects: pd.DataFrame) -> pd.DataFrame:
    """What the wrapped JPEG adds to the published protocol's accuracy over floats."""
    return pd.DataFrame(
        {
            "attack": effects["attack"],
            "classifier": effects["lens"],
            "accuracy on wrapped JPEGs − on floats": effects["effect"].map(interval_text),
        }
    )


def lessons(published: pd.DataFrame, effects: pd.DataFrame, results: pd.DataFrame, beyond: pd.DataFrame) -> str:
    """Three bullets that answer the study's questions, each with its figures."""
    attacks = list(published["attack"].unique())
    by_figure = results.set_index(["attack", "detector", "figure"])["estimate"].sort_index()
    bars = results[results["figure"] == ABOVE_BASELINE].drop_duplicates("attack").set_index("attack")["baseline"]
    gains = beyond.set_index(["attack", "base", "map"])

    def listed(text: Callable[[str], str]) -> str:
        return "; ".join(f"{attack} {text(attack)}" for attack in attacks)

    def aucs(attack: str) -> str:
        images, z_rule, deep_taylor, bar = (
            f"{by_figure[attack, detector, 'roc_auc']:.3f}" for detector in ("input", *MAPS[::-1], bars[attack])
        )
        return f"{images}, {z_rule} and {deep_taylor} ({bars[attack]}: {bar})"

    def gain(attack: str, base: str) -> str:
        row = gains.loc[(attack, base, "z-rule")]
        return f"{row.gain:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"

    return "\n".join(
        [
            f"- **As published**: {_agreement(published)}.",
            f"- **The file format** adds to the published accuracy {_effects(effects)}.",
            f"- **Corrected**, the ROC-AUC of images, z-rule maps and Deep Taylor maps is {listed(aucs)}; joining "
            f"z-rule maps to images gains {listed(lambda attack: gain(attack, 'input'))}, and to images and max "
            f"softmax {listed(lambda attack: gain(attack, 'input + max softmax'))}.",
        ]
    )


def _agreement(published: pd.DataFrame) -> str:
    """For both main classifiers: the remade accuracies, and whether the published ones lie in their intervals."""
    texts = []
    for lens in ("input", "relevancy"):
        rows = published[published["lens"] == lens]
        inside = [
            row.accuracy.low <= float(row.published.rstrip(" %")) / 100 <= row.accuracy.high
            for row in rows.itertuples()
            if row.published != NOT_PUBLISHED
        ]
        remade = ", ".join(f"{row.attack} {row.accuracy.estimate:.1%}" for row in rows.itertuples())
        texts.append(
            f"{lens} classifier {remade}, with {sum(inside)} of {len(inside)} published values in the interval"
        )
    return "; ".join(texts)


def _effects(effects: pd.DataFrame) -> str:
    texts = []
    for lens, rows in effects.groupby("lens", sort=False):
        cells = ", ".join(f"{row.attack} {interval_text(row.effect)}" for row in rows.itertuples())
        texts.append(f"of the {lens} classifier {cells}")
    return "; ".join(texts)


# ---------------------------------------------------------------- pieces


def _texts(rows: pd.DataFrame, digits: int) -> pd.Series:
    return pd.Series([interval_text(row, digits=digits) for row in rows.itertuples()], index=rows.index, dtype=object)


def _counts(figures: pd.DataFrame) -> str:
    """Of one detector's rows, indexed by figure."""
    clean, noisy = (figures.loc[f"roc_auc on {role}"] for role in ("clean", "noisy"))
    return f"{clean.n_positive} / {clean.n_negative} / {noisy.n_negative}"


def _wide(results: pd.DataFrame, figures: Mapping[str, str], *, digits: int = 3) -> pd.DataFrame:
    """A row an attack and detector in their order of appearance, a column a figure under its new name."""
    texts = results.assign(text=_texts(results, digits)).pivot(
        index=["attack", "detector"], columns="figure", values="text"
    )
    order = pd.MultiIndex.from_frame(results[["attack", "detector"]].drop_duplicates())
    table = texts.reindex(order)[list(figures.values())].set_axis(list(figures), axis=1).fillna("–").reset_index()
    by_detector = results.set_index("figure").groupby(["attack", "detector"], sort=False)
    return table.assign(**{COUNTS: [_counts(figures) for _, figures in by_detector]})


def _rung(ladder: pd.DataFrame, protocol: str, attack: str, lens: str, codec: str) -> pd.Series:
    chosen = ladder.set_index(["protocol", "attack", "lens", "codec"]).sort_index()
    return chosen.loc[(protocol, attack, lens, codec)]
