"""The study's tables and sentences, as text: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.arrays import Array
from advlens.attacks import AttackSet
from advlens.metrics import Estimate, proportion
from advlens.studies.closeness.protocols import ALL_BASELINES, ALL_SIX, DETECTORS, MOST_BASELINES
from advlens.studies.closeness.results import ABOVE_BASELINE, CLAIMS, NOMINAL_FPR
from advlens.studies.closeness.settings import Publication, Setting
from advlens.tables import interval_text

PROTOCOLS = ("as published", "corrected")
MISSING = "–"
COUNTS = "n (attacked / normal)"
GALLERY_STEPS = 8
SIDES = ("decision", "KDE", "KL divergence")
FEWEST = 10  # attacks under which an AUC says nothing
# The sign that the study gives a comparison, by how strong it calls the attack.
SAID = {
    "KDE − best uncertainty metric": {"strong": 1, "weak": -1},
    "entropy − variance": {"weak": 1},
    "confidence − mutual information": {"weak": 1},
    "KL divergence − KDE": {"strong": -1, "weak": 1},
    "closeness, all − KDE": {"strong": 1, "weak": 1},
    "all six − best single metric": {"strong": 1, "weak": 1},
}


def accuracy_table(accuracy: Estimate, published: Publication, *, n: int) -> pd.DataFrame:
    """The task network's accuracy beside the study's."""
    row = {
        "network": published.network,
        "published accuracy": _published(published.accuracy, ".4f"),
        "test accuracy": interval_text(accuracy, digits=4),
        "test images": n,
    }
    return pd.DataFrame([row])


def _published(value: float, digits: str) -> str:
    return format(value, digits) if np.isfinite(value) else MISSING


def means_table(means: pd.DataFrame) -> pd.DataFrame:
    """Metric means of wrong and right predictions, the published ones beside them."""
    table = means.assign(
        published=[_published(value, ".5f") for value in means["published"]],
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
    """How often each attack changes the decision, and how large its perturbation is, and where."""
    return pd.DataFrame(
        {
            "attack": rates["attack"],
            "success rate": [interval_text(row) for row in rates.itertuples()],
            "median L2 of successes": rates["l2"].map("{:.2f}".format),
            "part of the squared change on black pixels": rates["on_black"].map("{:.3f}".format),
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
    rows = _by_attack(dict(zip(PROTOCOLS, (published, corrected), strict=True)), kind="protocol", attacks=attacks)
    above = corrected[(corrected["figure"] == ABOVE_BASELINE) & (corrected["low"] > 0)]
    won = set(zip(above["detector"], above["attack"], strict=True))
    bold = [
        (place, attack)
        for place, row in enumerate(rows)
        for attack in attacks
        if row["protocol"] == "corrected" and (row["detector"], attack) in won
    ]
    return pd.DataFrame(rows), bold


def _by_attack(results: Mapping[str, pd.DataFrame], *, kind: str, attacks: Sequence[str]) -> list[dict[str, str]]:
    """ROC-AUCs, a row a detector and kind of result, a column an attack; at the end how many images each kind has."""
    aucs = {name: frame[frame["figure"] == "roc_auc"] for name, frame in results.items()}
    texts = {name: _pivot(frame, interval_text) for name, frame in aucs.items()}
    rows = [
        {"detector": detector, kind: name} | texts[name].loc[detector].reindex(attacks, fill_value=MISSING).to_dict()
        for detector in next(iter(aucs.values()))["detector"].unique()
        for name in aucs
    ]
    for name, frame in aucs.items():
        counts = _pivot(frame, _counts).iloc[0].reindex(attacks, fill_value=MISSING)
        rows.append({"detector": COUNTS, kind: name} | counts.to_dict())
    return rows


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
        counts = {COUNTS: _counts(first)}
        rows.append({"attack": attack, "detector": detector} | cells | counts)
    return pd.DataFrame(rows)


def headline_table(
    rates: pd.DataFrame,
    published: pd.DataFrame,
    corrected: pd.DataFrame,
    eight_bit: pd.DataFrame,
    claimed: pd.DataFrame,
) -> pd.DataFrame:
    """The study in one table: all six metrics, the best single one, and the bars to beat, in ROC-AUC and as committed.

    What is best was chosen on the validation groups, a metric by ROC-AUC, a baseline by TPR at 5 % FPR; its name stands
    in parentheses.
    """
    rounded = eight_bit[eight_bit["format"] == "8-bit"]
    aucs = {
        "as published": _pivot(published[published["figure"] == "roc_auc"], interval_text),
        "corrected": _pivot(corrected[corrected["figure"] == "roc_auc"], interval_text),
        "in 8 bits": _pivot(rounded, interval_text),
    }
    figures = {
        "TPR": f"committed_tpr_{NOMINAL_FPR}",
        "FPR on clean": f"observed_fpr_{NOMINAL_FPR} on clean",
        "FPR on noisy": f"observed_fpr_{NOMINAL_FPR} on noisy",
    }
    cells = {title: _pivot(corrected[corrected["figure"] == name], interval_text) for title, name in figures.items()}
    best = claimed[(claimed["protocol"] == "corrected") & claimed["claim"].str.startswith(ALL_SIX)]
    single = best.set_index("attack")["against"]
    rows = []
    for attack, found in corrected.groupby("attack", sort=False):
        success = interval_text(rates.set_index("attack").loc[attack])
        chosen = {"best single metric": single[attack], "best baseline": found["baseline"].iloc[0]}
        for shown in (ALL_SIX, *chosen, ALL_BASELINES, MOST_BASELINES):
            detector = chosen.get(shown, shown)
            row = {title: table.get(attack, {}).get(detector, MISSING) for title, table in (aucs | cells).items()}
            if shown in chosen:
                row["corrected"] += f" ({detector})"
            counts = _counts(found.iloc[0])
            rows.append({"attack": attack, "success rate": success, "detector": shown} | row | {COUNTS: counts})
    return pd.DataFrame(rows)


def later_table(published: pd.DataFrame, publication: Publication) -> pd.DataFrame:
    """The ROC-AUCs that a later version of the study saved, and those of its protocol here, where there are such."""
    attack = Setting("bim", publication.strengths[1]).name
    rows = published[(published["attack"] == attack) & (published["figure"] == "roc_auc")]
    remade = {row.detector: (interval_text(row), _counts(row)) for row in rows.itertuples()}
    columns = ["attack", "detector", "later version", "as published, remade", COUNTS]
    return pd.DataFrame(
        [
            (attack, detector, f"{value:.3f}", *remade.get(detector, (MISSING, MISSING)))
            for detector, value in publication.later.items()
        ],
        columns=columns,
    )


def strata_table(strata: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of successful, failed and all attacks, with how many there are, where these are `FEWEST` or more."""
    counts = " (n = " + strata["n_positive"].astype(str) + ")"
    texts = _texts(strata).where(strata["n_positive"] >= FEWEST, "too few") + counts
    return _wide(strata.assign(text=texts), columns="stratum")


def eight_bit_table(eight_bit: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC of floats and of 8-bit images, a row a detector and format, a column an attack."""
    formats = {name: rows for name, rows in eight_bit.groupby("format", sort=False)}
    return pd.DataFrame(_by_attack(formats, kind="format", attacks=eight_bit["attack"].unique()))


def windows_table(windows: pd.DataFrame) -> pd.DataFrame:
    """ROC-AUC by the attack's own confidence, a row a metric."""
    named = windows.assign(
        window=[f"above {row.low_end:g} to {row.high_end:g}" for row in windows.itertuples()],
        text=_texts(windows),
    )
    counts = named.drop_duplicates("window").assign(
        metric=COUNTS, text=lambda rows: list(map(_counts, rows.itertuples()))
    )
    named = pd.concat([named, counts])
    table = named.pivot(index="metric", columns="window", values="text")
    order = list(named["window"].unique())
    return table.reindex(named["metric"].unique())[order].rename_axis(columns=None).reset_index()


def _wide(rows: pd.DataFrame, *, columns: str) -> pd.DataFrame:
    """The column text, a row an attack and detector in their order, a column a value of `columns`."""
    order = pd.MultiIndex.from_frame(rows[["attack", "detector"]].drop_duplicates())
    table = rows.pivot(index=["attack", "detector"], columns=columns, values="text").reindex(order)
    return table[list(rows[columns].unique())].fillna("no such image").rename_axis(columns=None).reset_index()


def _counts(row: Any) -> str:
    return f"{row.n_positive} / {row.n_negative}"


def _texts(rows: pd.DataFrame) -> pd.Series:
    return pd.Series([interval_text(row) for row in rows.itertuples()], index=rows.index, dtype=object)


def defects_table(defects: pd.DataFrame) -> pd.DataFrame:
    """The ROC-AUC as the published protocol is mended step by step, a column a step; n is attacked / normal images."""
    counts = [f" (n = {_counts(row)})" for row in defects.itertuples()]
    return _wide(defects.assign(text=_texts(defects) + counts), columns="step")


def claims_table(claimed: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The comparisons in numbers, a column each: confirmed, refuted, or open where the interval holds 0."""
    judged = judged_claims(claimed, settings)
    text = [
        interval_text(row)
        + ("" if len(CLAIMS[row.claim][1]) == 1 else f" ({row.against})")
        + (f": {row.outcome}" if row.outcome else "")
        for row in judged.itertuples()
    ]
    keys = ["attack", "protocol"]
    rank = {name: place for place, name in enumerate([*(setting.name for setting in settings), *PROTOCOLS])}
    order = judged[keys].drop_duplicates().sort_values(keys, key=lambda names: names.map(rank))
    table = judged.assign(text=text).pivot(index=keys, columns="claim", values="text")
    counts = judged.drop_duplicates(keys).set_index(keys)["n_positive"]
    table = table[list(CLAIMS)].assign(n=counts).reindex(pd.MultiIndex.from_frame(order))
    return table.rename_axis(columns=None).reset_index()


def judged_claims(claimed: pd.DataFrame, settings: Sequence[Setting]) -> pd.DataFrame:
    """The comparisons with a column outcome: "confirmed", "refuted", "open", or "" where the study says nothing."""
    said = {setting.name: setting.claim for setting in settings}
    expected = [SAID.get(row.claim, {}).get(said[row.attack], 0) for row in claimed.itertuples()]
    outcomes = [_outcome(row.low, row.high, sign) for row, sign in zip(claimed.itertuples(), expected, strict=True)]
    return claimed.assign(outcome=outcomes)


def _outcome(low: float, high: float, expected: int) -> str:
    if expected == 0:
        return ""
    if low <= 0 <= high:
        return "open"
    return "confirmed" if (low > 0) == (expected > 0) else "refuted"


def lessons(
    published: pd.DataFrame,
    corrected: pd.DataFrame,
    eight_bit: pd.DataFrame,
    claimed: pd.DataFrame,
    windows: pd.DataFrame,
    settings: Sequence[Setting],
) -> str:
    """Three bullets that answer the study's questions, each with its figures, and what to open next."""
    said = {setting.name: setting.claim for setting in settings if setting.claim}
    rounded = eight_bit[eight_bit["format"] == "8-bit"]
    six, joined, most = (
        [
            _span(results[(results["figure"] == "roc_auc") & (results["detector"] == detector)], said)
            for results in (published, corrected, rounded)
        ]
        for detector in (ALL_SIX, ALL_BASELINES, MOST_BASELINES)
    )
    above = corrected[(corrected["figure"] == ABOVE_BASELINE) & (corrected["detector"] == ALL_SIX)]
    differences = ", ".join(f"{row.attack} {interval_text(row)}" for row in above.itertuples())
    mended = claimed[claimed["protocol"] == "corrected"]
    comparisons = "; ".join(
        f"*{claim}* {_span(rows, said, 'weak')} on weak attacks, {_span(rows, said, 'strong')} on strong ones"
        for claim, rows in mended.groupby("claim", sort=False)
    )
    last = windows[windows["high_end"] == windows["high_end"].max()].set_index("metric")
    uncertain = last[last["family"] == "uncertainty"]["estimate"]
    return "\n".join(
        [
            f"- **All six metrics together** reach ROC-AUCs of {six[0]} on the study's attacks as published (the "
            f"study: up to 0.96), {six[1]} corrected and {six[2]} in 8 bits; the five trivial baselines joined in one "
            f"regression {joined[1]} and {joined[2]} in 8 bits, without the grey levels {most[1]} and {most[2]}. Above "
            f"the best single baseline the six have, in TPR at 5 % FPR, {differences}.",
            f"- **The study's comparisons**, corrected, in ROC-AUC: {comparisons}.",
            f"- **Where the attack is surest** of itself (above {last['low_end'].iloc[0]:g}), single uncertainty "
            f"metrics have a ROC-AUC of {uncertain.min():.3f} to {uncertain.max():.3f}, the density "
            f"{interval_text(last.loc['KDE'])}, the divergence {interval_text(last.loc['KL divergence'])}.",
            "",
            "Open next: `04_relevancy_classifiers.ipynb` asks the same of explanation maps.",
        ]
    )


def _span(rows: pd.DataFrame, said: Mapping[str, str], strength: str | None = None) -> str:
    """The smallest and the largest estimate over the study's attacks, or over those of one strength."""
    chosen = {attack for attack, known in said.items() if strength in (None, known)}
    values = rows[rows["attack"].isin(chosen)]["estimate"]
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
    """The first image whose decision every attack changes.

    Raises:
        ValueError: where there is none.
    """
    changed = set.intersection(*(set(table["image"]) for table in crossed.values()))
    if not changed:
        raise ValueError("no image's decision is changed by every attack: follow more images, or to larger strengths")
    return min(changed)


def decision_steps(crossed: Mapping[str, pd.DataFrame], image: int) -> dict[str, float]:
    """Attack → the strength at which it changes this image's decision, NaN where it does not."""
    return {attack: table.loc[table["image"] == image, "decision"].min() for attack, table in crossed.items()}


def crossing_table(crossed: Mapping[str, pd.DataFrame], strengths: Sequence[float], *, seed: int) -> pd.DataFrame:
    """Where decision, density and divergence change sides, in quartiles, and how often on the same step.

    Returns:
        A row a figure, a column an attack: medians over the images that change sides, with the quartiles around them,
        and shares of all with 95 % intervals.
    """
    step = {eps: place for place, eps in enumerate(strengths)}
    columns = {}
    for attack, table in crossed.items():
        away = (table["entropy peak"].map(step) - table["decision"].map(step)).abs()
        shares = {"another class first": ~table["straight"].astype(bool)}
        for name in ("KDE", "KL divergence"):
            shares[f"{name} crosses on the decision's step"] = table[name] == table["decision"]
            shares[f"{name} never crosses"] = np.isinf(table[name])
        shares["entropy peaks within a step of the decision"] = away <= 1
        shares["KL divergence peaks on the decision's step"] = table["KL peak"] == table["decision"]
        images = table["image"].to_numpy()
        columns[attack] = (
            {"decisions that change (n)": str(len(table))}
            | {f"ε at which the {name} changes sides": _quartiles(table[name]) for name in SIDES}
            | {f"share: {name}": _share(found.to_numpy(), images) for name, found in shares.items()}
        )
    return pd.DataFrame(columns).rename_axis("images whose decision changes").reset_index()


def _quartiles(strengths: pd.Series) -> str:
    reached = strengths[np.isfinite(strengths)]
    low, middle, high = np.quantile(reached, [0.25, 0.5, 0.75]) if len(reached) else [np.nan] * 3
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _share(found: Array, images: Array) -> str:
    return interval_text(proportion(found, images)) if len(found) else MISSING


def differences_table(differences: pd.DataFrame) -> pd.DataFrame:
    """How the two attacks end, in paired differences."""
    table = differences.assign(text=_texts(differences))
    columns = {"metric": "metric", "difference": "at the largest ε", "text": "mean difference (nats)", "n": "n"}
    return table[list(columns)].rename(columns=columns)


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
            f"{_published(published.accuracy, '.2%')}); its mean entropy is {entropy['right'].estimate:.3f} nats on "
            f"those and {entropy['wrong'].estimate:.3f} on the others.",
            f"- **At ε = {success['eps'].max():g}** the attacks change {rates} of decisions.",
            f"- **Mean entropy on the way**: {'; '.join(ends)}.",
            "- What that means for detection: open `06_closeness_and_uncertainty_detectors.ipynb`.",
        ]
    )


def _pivot(rows: pd.DataFrame, text) -> pd.DataFrame:
    """Texts of the rows, detectors down, attacks across."""
    texts = rows.assign(text=[text(row) for row in rows.itertuples()])
    return texts.pivot(index="detector", columns="attack", values="text")
