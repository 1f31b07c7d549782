"""The tables, figures and sentences of poisoned data: every number comes from the results that are passed in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.datasets import DataSet
from advlens.poisoning import CONTROL, PoisonedSet
from advlens.studies.poisoning.rankings import BASELINES, CREDIBILITY, GIVEN, NOTHING, OF_DEEP_KNN, RANDOM
from advlens.studies.poisoning.results import ALL_POINTS, is_right
from advlens.studies.poisoning.settings import (
    CORRECT,
    MISCLASSIFIED,
    PUBLISHED_INFLUENCE,
    PUBLISHED_MISCLASSIFIED,
    PUBLISHED_RECOVERED,
    PUBLISHED_WITH_POISON,
)
from advlens.tables import interval_text

NONE = "none"
MISSING = "–"
EXAMPLES = 8  # columns of the gallery
FEWEST_SEEDS = 3  # whose interval is drawn
POINT_COLOURS = {"clean, right": "neighbours", "poisoned, right": "closeness", "wrong": "relevancy"}
GROUP_FAMILIES = {CORRECT: "neighbours", MISCLASSIFIED: "relevancy"}
OUTCOMES = {"accuracy": "clean accuracy", "success": "attack success"}
CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"


def told(row: Any, *, digits: int = 3) -> str:
    """An estimate with its interval; alone where one seed gives none, and a word where none has a value."""
    if not np.isfinite(row.estimate):
        return NONE
    return interval_text(row, digits=digits) if np.isfinite(row.low) else f"{row.estimate:.{digits}f} (one seed)"


# ---------------------------------------------------------------- experiment 1


def gallery(sets: Mapping[str, PoisonedSet], data: DataSet) -> Figure:
    """Poisoned images of each kind below their clean selves, with the label that the attacker gives them."""
    first = next(iter(sets.values()))
    rows = np.flatnonzero(first.is_poisoned)[:EXAMPLES]
    source = first.source[rows]
    places = {kind: np.searchsorted(made.source, source) for kind, made in sets.items()}
    changes = data.changes(first.true_labels[rows], first.labels[rows])
    pictures = {"clean": data.test_images[source]} | {
        kind: made.images[places[kind]] for kind, made in sets.items() if kind != "relabelled"
    }
    return plots.image_grid(pictures, column_titles=changes, title="Poisoned images: true label → the attacker's")


def point_groups(points: pd.DataFrame) -> pd.DataFrame:
    """`results.mixtures`' rows, with columns group and panel for `plots.ranked_points`."""
    right = is_right(points)
    group = np.where(~right, "wrong", np.where(points["is_poisoned"], "poisoned, right", "clean, right"))
    return points.assign(group=group, panel=points["mixture"] + " poisoned")


def reliability_panels(reliability: pd.DataFrame) -> pd.DataFrame:
    """The bins of all points, poisoned and clean ones, a panel a kind, and where they should lie."""
    bins = np.sort(reliability["bin"].unique())
    ideal = [
        pd.DataFrame({"kind": kind, "group": "reliable", "bin": bins, "estimate": bins, "low": bins, "high": bins})
        for kind in reliability["kind"].unique()
    ]
    rows = pd.concat([reliability, *ideal], ignore_index=True)
    points = reliability[reliability["group"] == ALL_POINTS].groupby("kind")["n"].sum()
    return rows.assign(panel=rows["kind"] + ", n = " + rows["kind"].map(points).astype(str))


def shown_table(figures: pd.DataFrame) -> pd.DataFrame:
    """What a clean network and Deep kNN make of poisoned points, a row a kind and group."""
    titles = {
        "accuracy": "network right",
        "obedience": "gives the label it bears",
        "credibility": "mean credibility",
        "calibration error": "calibration error of credibility",
        "auc": "ROC-AUC for a wrong decision: low credibility",
        "softmax auc": "low max softmax",
        "auc above softmax": "difference",
        "poison auc": "ROC-AUC for poison: low credibility",
        "poison softmax auc": "low max softmax, poison",
    }
    rows = []
    for (kind, group), own in figures.groupby(["kind", "group"], sort=False):
        found = own.set_index("figure")
        row: dict[str, Any] = {"kind": kind, "points": group}
        row |= {title: told(found.loc[name]) if name in found.index else MISSING for name, title in titles.items()}
        wrong = found.loc["auc"]
        counts = f"{wrong['n']} ({wrong['positives']}, of {wrong['images']} images)"
        rows.append(row | {"n (of these wrong)": counts})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- experiment 2


def credibility_table(credibilities: pd.DataFrame) -> pd.DataFrame:
    """Mean, variance and maximum of the credibility, a row a setting and group."""
    rows = []
    for (setting, group), own in credibilities.groupby(["setting", "group"], sort=False):
        found = own.set_index("statistic")
        texts = {name: told(found.loc[name], digits=4 if name == "variance" else 3) for name in found.index}
        rows.append({"trained on": setting, "points": group, **texts, "n (seeds)": _n(found.iloc[0])})
    return pd.DataFrame(rows)


def variance_table(differences: pd.DataFrame) -> pd.DataFrame:
    """By how much the variance of poisoned points' credibility lies above that of others."""
    return pd.DataFrame(
        {
            "trained on": differences["setting"],
            "poisoned less": differences["group"],
            "difference of variances": [told(row, digits=4) for row in differences.itertuples()],
            "": [variance_verdict(row) for row in differences.itertuples()],
            "n poisoned / others (seeds that count)": [
                f"{row.n} / {row.others} ({row.seeds})" for row in differences.itertuples()
            ],
        }
    )


def variance_verdict(row: Any) -> str:
    """Whether the poisoned points vary less than the others, by the whole interval."""
    if not np.isfinite(row.low):
        return OPEN
    return "lower" if row.high < 0 else "higher" if row.low > 0 else "no difference seen"


def recovered_table(recovered: pd.DataFrame) -> pd.DataFrame:
    """Labels that Deep kNN sets right and loses, the study's figures beside."""
    found = recovered.set_index("figure")
    share = PUBLISHED_RECOVERED / PUBLISHED_MISCLASSIFIED
    rows = {
        "misclassified test images": ("misclassified", str(PUBLISHED_MISCLASSIFIED), 1),
        "and poisoned points that do not get their true class": ("with poison", str(PUBLISHED_WITH_POISON), 1),
        "share that Deep kNN sets right": (
            "recovered",
            f"{share:.3f} ({PUBLISHED_RECOVERED} of {PUBLISHED_MISCLASSIFIED})",
            3,
        ),
        "share of correct ones that it loses": ("lost", MISSING, 4),
        "labels gained less labels lost, all test images": ("net", MISSING, 1),
    }
    return pd.DataFrame(
        [
            {
                "": title,
                "published": published,
                "here": told(found.loc[figure], digits=digits),
                "n (seeds)": _n(found.loc[figure]),
            }
            for title, (figure, published, digits) in rows.items()
        ]
    )


def misreading_table(misreadings: pd.DataFrame) -> pd.DataFrame:
    """Whom the networks of experiment 2.2 misread, a row a kind of poison."""
    titles = {
        "obeyed": ("marked training points that get the label that they bear", 3),
        "misclassified": ("misclassified test images", 1),
        "wrong anyway": ("share of these that the network without poison misreads too", 3),
    }
    rows = []
    for kind, own in misreadings.groupby("kind", sort=False):
        found = own.set_index("figure")
        texts = {title: told(found.loc[name], digits=digits) for name, (title, digits) in titles.items()}
        n = f"{found.loc['obeyed', 'n']} / {found.loc['misclassified', 'n']} / {found.loc['wrong anyway', 'n']}"
        seeds, images = (int(found.loc["misclassified", column]) for column in ("seeds", "images"))
        counts = {"distinct images misclassified": str(images)}
        counts |= {"n poisoned / tested / misclassified (seeds)": f"{n} ({seeds})"}
        rows.append({"poison": kind} | texts | counts)
    return pd.DataFrame(rows)


def influence_panels(influences: pd.DataFrame) -> pd.DataFrame:
    """Table 1's rows for `plots.intervals`: a panel a kind, a line a layer and group.

    The interval of fewer than `FEWEST_SEEDS` seeds is left out: it would set the scale of all others.
    """
    rows = influences[(influences["of"] == "poisoned") & np.isfinite(influences["estimate"])]
    ends = {end: rows[end].where(rows["seeds"] >= FEWEST_SEEDS, rows["estimate"]) for end in ("low", "high")}
    line, family = rows["layer"] + ", " + rows["group"], rows["group"].map(GROUP_FAMILIES)
    return rows.assign(**ends, line=line, family=family)


def influence_table(influences: pd.DataFrame, *, base_rate: float) -> pd.DataFrame:
    """Table 1 remade: % of poisoned points among the neighbours by layer, the study's rows first.

    "Carrying" rows count the poisoned neighbours that bear the label which the network gives.
    """
    layers = list(influences["layer"].unique())
    rows = []
    for group, values in PUBLISHED_INFLUENCE.items():
        known = dict(zip(layers, map("{:.2f}".format, values), strict=False))
        rows.append({"poison": "published", "of": "poisoned", "test images": group, **known, "n (seeds)": MISSING})
    by_kind = influences.groupby(["kind", "of", "group"], sort=False)
    for (kind, of, group), own in by_kind:
        found = own.set_index("layer")
        texts = {layer: told(found.loc[layer], digits=2) for layer in layers}
        rows.append({"poison": kind, "of": of, "test images": group, **texts, "n (seeds)": _n(found.iloc[0])})
    base = dict.fromkeys(layers, f"{base_rate:.2f}")
    rows.append({"poison": "base rate", "of": "poisoned", "test images": "", **base, "n (seeds)": MISSING})
    return pd.DataFrame(rows)


def difference_table(differences: pd.DataFrame) -> pd.DataFrame:
    """What Table 1 is read for, a row a kind."""
    titles = {
        f"growth, {CORRECT}": "last layer less first, correct",
        f"growth, {MISCLASSIFIED}": "last layer less first, misclassified",
        "growth above control": "less the control's",
        "first layer": "misclassified less correct, first layer",
        "last layer": "misclassified less correct, last layer",
    }
    rows = []
    for kind, own in differences.groupby("kind", sort=False):
        found = own.set_index("difference")
        row = {"poison": kind} | {title: told(found.loc[name], digits=2) for name, title in titles.items()}
        rises = found.loc[f"growth, {MISCLASSIFIED}"]
        row["seeds in which it never falls, misclassified"] = f"{rises['rises']} of {rises['seeds']}"
        rows.append(row | {"n misclassified (seeds)": _n(rises)})
    return pd.DataFrame(rows)


# ---------------------------------------------------------------- defence


def ranking_table(figures: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """How well each ranking finds the poison, with the cells of the best ROC-AUC of each kind."""
    rows, bold = [], []
    for kind, of_kind in figures.groupby("kind", sort=False):
        best = _best(of_kind, "auc")
        for ranking, own in of_kind.groupby("ranking", sort=False):
            found = own.set_index("figure")
            if ranking == best:
                bold.append((len(rows), "ROC-AUC"))
            texts = {title: told(found.loc[name]) for title, name in RANKING_TITLES.items()}
            rows.append({"poison": kind, "ranking": _named(ranking), **texts, "n poisoned (seeds)": _n(found.iloc[0])})
    return pd.DataFrame(rows), bold


RANKING_TITLES = {"ROC-AUC": "auc", "precision of the removal": "precision", "recall": "recall"}


def _best(figures: pd.DataFrame, figure: str, among: Sequence[str] = (*OF_DEEP_KNN, *BASELINES)) -> str:
    found = figures[(figures["figure"] == figure) & figures["ranking"].isin(among)]
    return str(found.loc[found["estimate"].idxmax(), "ranking"])


def _named(ranking: str) -> str:
    return f"Deep kNN: {ranking}" if ranking in OF_DEEP_KNN else ranking


def ranking_difference_table(differences: pd.DataFrame) -> pd.DataFrame:
    """What the ROC-AUC of Deep kNN's given label has above each baseline, a row a kind."""
    rows = []
    for kind, own in differences.groupby("kind", sort=False):
        texts = {f"less {row.ranking}": told(row) for row in own.itertuples()}
        rows.append({"poison": kind} | texts | {"n poisoned (seeds)": _n(own.iloc[0])})
    return pd.DataFrame(rows)


def outcome_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Clean accuracy and attack success after training anew, a row a kind and ranking."""
    titles = {
        "accuracy": "clean accuracy",
        "accuracy gained": "gained",
        "success": "attack success",
        "success gained": "less without removal",
        "success less random": "less after random removal",
    }
    rows = []
    for (kind, ranking), own in outcomes.groupby(["kind", "ranking"], sort=False):
        found = own.set_index("figure")
        texts = {title: told(found.loc[name]) if name in found.index else MISSING for name, title in titles.items()}
        counts = f"{found.loc['accuracy', 'n']} / {found.loc['success', 'n']} ({found.loc['accuracy', 'seeds']})"
        rows.append({"poison": kind, "removed by": _named(ranking), **texts, "n tested / attacked (seeds)": counts})
    return pd.DataFrame(rows)


def outcome_panels(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and attack success for `plots.intervals`: a panel a kind and figure, a line a ranking."""
    rows = outcomes[outcomes["figure"].isin(OUTCOMES)]
    rows = rows.fillna({"low": rows["estimate"], "high": rows["estimate"]})
    family = np.where(rows["ranking"].isin(OF_DEEP_KNN), "neighbours", "baseline")
    panel = rows["kind"] + ": " + rows["figure"].map(OUTCOMES)
    return rows.assign(panel=panel, line=rows["ranking"].map(_named), family=family).sort_values(
        "figure", kind="stable"
    )


# ---------------------------------------------------------------- the whole


def headline_table(
    influences: pd.DataFrame, rankings: pd.DataFrame, outcomes: pd.DataFrame, *, base_rate: float
) -> pd.DataFrame:
    """Table 1 in the first and the last layer beside the study's, and what the defence is worth, a row a kind.

    The suspects are those that the given label ranks highest.
    """
    first, last = influences["layer"].iloc[0], influences["layer"].iloc[-1]
    found = influences[influences["of"] == "poisoned"].set_index(["kind", "group", "layer"])
    ends = (0, -1)
    published = {"poison": "published"} | {
        f"{group}: % poisoned neighbours, {layer}": f"{PUBLISHED_INFLUENCE[group][end]:.2f}"
        for group in (CORRECT, MISCLASSIFIED)
        for layer, end in zip((first, last), ends, strict=True)
    }
    rows: list[dict[str, str]] = [published]
    auc = rankings[rankings["figure"] == "auc"].set_index(["kind", "ranking"])
    after = outcomes.set_index(["kind", "ranking", "figure"])
    for kind in influences["kind"].unique():
        row = {"poison": kind}
        for group in (CORRECT, MISCLASSIFIED):
            for layer in (first, last):
                title = f"{group}: % poisoned neighbours, {layer}"
                row[title] = told(found.loc[(kind, group, layer)], digits=2)
        counts = (found.loc[(kind, group, first), "n"] for group in (CORRECT, MISCLASSIFIED))
        row["n correct / misclassified"] = " / ".join(map(str, counts))
        row["seeds with misclassified images"] = str(found.loc[(kind, MISCLASSIFIED, first), "seeds"])
        if kind == CONTROL:
            rows.append(row)
            continue
        baseline = _best(rankings[rankings["kind"] == kind], "auc", BASELINES)
        row["base rate, %"] = f"{base_rate:.2f}"
        row["ROC-AUC of poison: Deep kNN, given label"] = told(auc.loc[(kind, GIVEN)])
        row["best baseline"] = f"{told(auc.loc[(kind, baseline)])} ({baseline})"
        for figure, title in OUTCOMES.items():
            row[f"{title}, poisoned"] = told(after.loc[(kind, NOTHING, figure)])
            row[f"{title}, suspects removed"] = told(after.loc[(kind, GIVEN, figure)])
        counts = (auc.loc[(kind, GIVEN), "n"], *(after.loc[(kind, NOTHING, name), "n"] for name in OUTCOMES))
        of_seeds = f"{' / '.join(map(str, counts))} ({auc.loc[(kind, GIVEN), 'seeds']})"
        rows.append(row | {"n poisoned / tested / attacked (seeds)": of_seeds})
    return pd.DataFrame(rows).fillna(MISSING)


def lessons(
    figures: pd.DataFrame,
    recovered: pd.DataFrame,
    variances: pd.DataFrame,
    differences: pd.DataFrame,
    misreadings: pd.DataFrame,
    rankings: pd.DataFrame,
    ranking_differences: pd.DataFrame,
    outcomes: pd.DataFrame,
) -> str:
    """The study's claims and questions, each with a verdict that its figures give."""
    judged = {
        "Low credibility marks wrong decisions, on poisoned points too": _credible(figures),
        "Deep kNN recovers labels": _recovers(recovered),
        "Poisoned points' credibility varies less": _varies(variances),
        "Influence grows towards the last layer": _grows(differences),
        "Poison makes it grow": _grows_by_poison(differences, misreadings),
        "A low credibility ranks poison above other training images": _thresholds(rankings),
        "Removing suspects weakens a backdoor more than removing at random": _defends(outcomes),
    }
    return "\n".join(
        [
            *(f"- **{claim}: {verdict}.** {figures_of_it}" for claim, (verdict, figures_of_it) in judged.items()),
            f"- **What finds poison.** {_finds(rankings, ranking_differences)}",
            "",
            "Next: [notebook 11](11_intermediate_level_attacks.ipynb), the attack that the study did not achieve.",
        ]
    )


def _verdict(lows: Sequence[float], highs: Sequence[float], *, reference: float = 0.0) -> str:
    """Confirmed where every interval lies above the reference, refuted where one lies below or at it, else open."""
    lows, highs = np.asarray(lows, float), np.asarray(highs, float)
    if len(lows) and (lows > reference).all():
        return CONFIRMED
    return REFUTED if (highs <= reference).any() else OPEN


def _credible(figures: pd.DataFrame) -> tuple[str, str]:
    found = figures.set_index(["group", "kind", "figure"])
    kinds = found.index.unique("kind")
    aucs = found.xs("auc", level="figure").loc[[ALL_POINTS, "poisoned"]]
    texts = _listed({kind: _of_wrong(found.loc[(ALL_POINTS, kind, "auc")]) for kind in kinds})
    softmax, poison, poison_softmax = (
        _listed({kind: told(found.loc[(ALL_POINTS, kind, figure)]) for kind in kinds})
        for figure in ("softmax auc", "poison auc", "poison softmax auc")
    )
    alone = _listed({kind: _of_wrong(found.loc[("poisoned", kind, "auc")]) for kind in kinds})
    return _verdict(aucs["low"], aucs["high"], reference=0.5), (
        f"A network that saw no poison: ROC-AUC of low credibility for a wrong decision {texts}; on poisoned points "
        f"alone {alone}; of low max softmax {softmax}. Of low credibility for being poisoned: {poison}; of low max "
        f"softmax: {poison_softmax}."
    )


def _of_wrong(row: pd.Series) -> str:
    return f"{told(row)} (n wrong = {int(row['positives'])}, of {int(row['images'])} images)"


def _recovers(recovered: pd.DataFrame) -> tuple[str, str]:
    found = recovered.set_index("figure")
    net, gained, lost = (found.loc[name] for name in ("net", "recovered", "lost"))
    share = PUBLISHED_RECOVERED / PUBLISHED_MISCLASSIFIED
    return _verdict([net["low"]], [net["high"]]), (
        f"It sets right {told(gained)} of the misclassified (n = {int(gained['n'])}; the study: {share:.3f}) and loses "
        f"{told(lost, digits=4)} of the correctly classified (n = {int(lost['n'])}), which the study does not count: "
        f"{told(net, digits=1)} labels gained in all, a seed."
    )


def _varies(variances: pd.DataFrame) -> tuple[str, str]:
    verdicts = [variance_verdict(row) for row in variances.itertuples()]
    counts = {word: verdicts.count(word) for word in ("lower", "higher")}
    judged = len(verdicts) - verdicts.count(OPEN)
    if judged == 0:
        return OPEN, "No comparison has two seeds with enough images of both groups."
    verdict = CONFIRMED if counts["lower"] == judged else REFUTED if counts["higher"] else OPEN
    return verdict, (
        f"Of {judged} comparisons with other points of the same training (kinds of poison, numbers of labels), the "
        f"variance is lower in {counts['lower']} and higher in {counts['higher']}, each by its whole interval."
    )


def _grows(differences: pd.DataFrame) -> tuple[str, str]:
    poisoned = differences[differences["kind"] != CONTROL]
    growth = poisoned[poisoned["difference"] == f"growth, {MISCLASSIFIED}"]
    apart = poisoned[poisoned["difference"] == "last layer"].set_index("kind")
    texts = _listed({row.kind: f"{told(row, digits=2)} (n = {row.n})" for row in growth.itertuples()})
    gaps = _listed({kind: told(row, digits=2) for kind, row in apart.iterrows()})
    published = PUBLISHED_INFLUENCE[MISCLASSIFIED][-1] - PUBLISHED_INFLUENCE[MISCLASSIFIED][0]
    return _verdict(growth["low"], growth["high"]), (
        f"For misclassified images the share of poisoned neighbours rises from the first to the last layer by {texts} "
        f"percentage points (the study: {published:.2f}); in "
        f"the last layer it lies above that of correct ones by {gaps}."
    )


def _grows_by_poison(differences: pd.DataFrame, misreadings: pd.DataFrame) -> tuple[str, str]:
    above = differences[(differences["difference"] == "growth above control") & (differences["kind"] != CONTROL)]
    control = differences.set_index(["difference", "kind"]).loc[(f"growth, {MISCLASSIFIED}", CONTROL)]
    figures = misreadings[misreadings["kind"] != CONTROL].set_index(["figure", "kind"])
    obeyed, anyway = (
        _listed({kind: f"{told(row)} (n = {int(row['n'])})" for kind, row in figures.loc[name].iterrows()})
        for name in ("obeyed", "wrong anyway")
    )
    texts = _listed({row.kind: f"{told(row, digits=2)} ({row.seeds} seeds)" for row in above.itertuples()})
    wrong = figures.loc["misclassified"]
    images = "on " + _listed({kind: f"{int(row['images'])} different images" for kind, row in wrong.iterrows()})
    return _verdict(above["low"], above["high"]), (
        "The growth, less that around images which the unpoisoned network of the same seed misreads (its own is "
        f"{told(control, digits=2)}): {texts} percentage points. Poisoned training points get the attacker's label in "
        f"a share of {obeyed}; of the misclassified the network of that seed that saw no poison misreads {anyway} too, "
        f"{images}."
    )


def _defends(outcomes: pd.DataFrame) -> tuple[str, str]:
    found = outcomes[outcomes["ranking"] == GIVEN].set_index(["kind", "figure"])
    lost = outcomes[outcomes["ranking"] == RANDOM].set_index(["kind", "figure"])
    before = outcomes[outcomes["ranking"] == NOTHING].set_index(["kind", "figure"])
    backdoor, by_chance = (rows.loc[("backdoor", "success gained")] for rows in (found, lost))
    above = found.loc[("backdoor", "success less random")]
    accuracy = _listed({kind: told(found.loc[(kind, "accuracy gained")]) for kind in found.index.unique("kind")})
    return _verdict([-above["high"]], [-above["low"]]), (
        f"Dropping by the given label changes the backdoor's success, {told(before.loc[('backdoor', 'success')])} "
        f"before, by {told(backdoor)} (dropping at random: {told(by_chance)}; less that, paired: {told(above)}; "
        f"{above['n']} attacked images in {above['seeds']} seeds) and clean accuracy by {accuracy}."
    )


def _thresholds(rankings: pd.DataFrame) -> tuple[str, str]:
    found = rankings[(rankings["figure"] == "auc") & (rankings["ranking"] == CREDIBILITY)]
    texts = _listed({row.kind: f"{told(row)} (n = {row.n})" for row in found.itertuples()})
    return _verdict(found["low"], found["high"], reference=0.5), (
        f"ROC-AUC of low credibility for being poisoned, among training images: {texts}."
    )


def _finds(rankings: pd.DataFrame, differences: pd.DataFrame) -> str:
    above = differences.set_index(["kind", "ranking"])
    texts = {}
    for kind, own in rankings.groupby("kind", sort=False):
        auc = own[own["figure"] == "auc"].set_index("ranking")
        other = _best(own, "auc", BASELINES)
        texts[kind] = (
            f"{told(auc.loc[GIVEN])} against {told(auc.loc[other])} ({other}), paired difference "
            f"{told(above.loc[(kind, other)])}, n = {auc.loc[GIVEN, 'n']}"
        )
    return f"ROC-AUC of Deep kNN's given label against the best baseline: {_listed(texts)}."


def _listed(texts: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {text}" for name, text in texts.items())


def _n(row: pd.Series) -> str:
    return f"{int(row['n'])} ({int(row['seeds'])})"
