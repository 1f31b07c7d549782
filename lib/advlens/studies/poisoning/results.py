"""The figures of poisoned data.

Experiments that train give means over seeds, each of which draws network, poison and held-out images anew. The seeds of
experiment 1 draw points of one test set for one network: they are pooled, with intervals by bootstrap over images.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from advlens.arrays import Array
from advlens.metrics import Estimate, calibration_error, compare, mean, proportion, roc_auc, roc_aucs
from advlens.metrics.intervals import LEVEL
from advlens.poisoning import CONTROL
from advlens.studies.poisoning.measures import Defended, carrying_column, share_column
from advlens.studies.poisoning.rankings import BASELINES, CREDIBILITY, GIVEN, NOTHING, RANDOM, RANKINGS, retrained, top
from advlens.studies.poisoning.settings import (
    CORRECT,
    MISCLASSIFIED,
    MIXTURES,
    POISONED,
    POISONED_THERE,
)

BINS = 5  # of credibility, of equal width
ALL_POINTS = "all"
FEWEST = 10  # images of a group in one seed under which its variance says nothing


def variance(values: Array) -> float:
    """Unbiased; NaN of fewer than `FEWEST` values."""
    return float(np.var(values, ddof=1)) if len(values) >= FEWEST else float("nan")


STATISTICS: dict[str, Callable[[Array], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "variance": variance,
    "maximum": lambda values: float(np.max(values)),
}


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed, with Student's 95 % interval; NaNs are seeds that have no value.

    With fewer than two of them there is no interval (NaN).
    """
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return Estimate(*[float("nan")] * 3)
    average = float(values.mean())
    if len(values) == 1:
        return Estimate(average, float("nan"), float("nan"))
    reach = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(average, average - float(reach), average + float(reach))


def _counted(values: Sequence[float], n: int) -> dict[str, float | int]:
    """What a row says of an estimate: itself, over how many seeds, and of how many images in all of them."""
    return {**dataclasses.asdict(over_seeds(values)), "seeds": int(np.isfinite(values).sum()), "n": int(n)}


# ---------------------------------------------------------------- experiment 1


def mixtures(points: pd.DataFrame, *, kind: str, seed: int) -> pd.DataFrame:
    """The study's two mixtures, drawn from the first seed's points: 4 of 15 and 25 of 50 poisoned, and all of them.

    Args:
        points: `measures.shown`'s rows of one seed and kind.
    Returns:
        Their rows, with a column mixture, in order of credibility within each; a mixture that the points are too few
        for is left out.
    """
    rng = np.random.default_rng([seed, len(kind)])
    rows = []
    for poisoned, all_points in MIXTURES:
        groups = (points[points["is_poisoned"]], points[~points["is_poisoned"]])
        sizes = (poisoned, all_points - poisoned)
        if all(len(group) >= size for group, size in zip(groups, sizes, strict=True)):
            drawn = [group.iloc[rng.permutation(len(group))[:size]] for group, size in zip(groups, sizes, strict=True)]
            rows.append(pd.concat(drawn).assign(mixture=f"{poisoned} of {all_points}"))
    rows.append(points.assign(mixture=f"{points['is_poisoned'].sum()} of {len(points)}"))
    return pd.concat([each.sort_values("credibility", kind="stable") for each in rows], ignore_index=True)


def is_right(rows: pd.DataFrame, decided: str = "predicted") -> Array:
    """(n,) bool: whether the network (or Deep kNN, by its `label`) sees the true class."""
    return (rows[decided] == rows["truth"]).to_numpy()


def reliability(shown: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """How often the network is right, by credibility, all seeds together.

    Args:
        shown: `measures.shown`'s rows of all seeds, with columns kind and seed.
    Returns:
        A row a kind, group (`ALL_POINTS`, "poisoned", "clean") and bin of credibility that holds any: kind, group, bin
        (its middle), estimate, low, high, n (points).
    """
    edges = np.linspace(0, 1, BINS + 1)
    rows = []
    for (kind, group), points in _groups_shown(shown):
        place = np.clip(np.digitize(points["credibility"], edges[1:-1], right=True), 0, BINS - 1)
        for each in np.unique(place):
            inside = points[place == each]
            share = proportion(is_right(inside), inside["source"].to_numpy())
            about = {"kind": kind, "group": group, "bin": round(float(edges[each : each + 2].mean()), 3)}
            rows.append(about | dataclasses.asdict(share) | {"n": len(inside)})
    return pd.DataFrame(rows)


def shown_figures(shown: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """What a clean network and Deep kNN make of poisoned points, all seeds together.

    Returns:
        A row a kind, group and figure: "accuracy" (of the network, against the true class), "obedience" (it gives the
        attacker's label), "credibility" (mean), "calibration error" (of credibility as a probability of being right);
        for low values as a sign of a wrong decision, "auc" (of credibility), "softmax auc", and "auc above softmax";
        of all points alone the same as a sign of poison, "poison auc" and so on: kind, group, figure, estimate, low,
        high (by bootstrap over test images, some of which several seeds draw; NaN where no point or every point is
        wrong), n (points), positives (those to be told from the others, where the figure is a ROC-AUC), images (how
        many test images these are: several seeds draw the same).
    """
    rows = []
    for (kind, group), points in _groups_shown(shown):
        source = points["source"].to_numpy()
        found = {name: (proportion(of(points), source), -1, -1) for name, of in SHARES.items()}
        found["credibility"] = mean(points["credibility"].to_numpy(), source, seed=seed), -1, -1
        error = calibration_error(points["credibility"].to_numpy(), is_right(points), source, bins=BINS, seed=seed)
        found["calibration error"] = error, -1, -1
        found |= _aucs(points, ~is_right(points), seed=seed)
        if group == ALL_POINTS:
            of_poison = _aucs(points, points["is_poisoned"].to_numpy(bool), seed=seed)
            found |= {f"poison {name}": value for name, value in of_poison.items()}
        about = {"kind": kind, "group": group, "n": len(points)}
        rows += [
            about | {"figure": name, "positives": positives, "images": images} | dataclasses.asdict(estimate)
            for name, (estimate, positives, images) in found.items()
        ]
    return pd.DataFrame(rows)


def _aucs(points: pd.DataFrame, truth: Array, *, seed: int) -> dict[str, tuple[Estimate, int, int]]:
    """ROC-AUCs of low credibility and low softmax as signs of `truth`, and their difference, with its numbers."""
    names = ("auc", "softmax auc", "auc above softmax")
    counts = int(truth.sum()), points["source"][truth].nunique()
    if truth.all() or not truth.any():
        return dict.fromkeys(names, (Estimate(*[float("nan")] * 3), *counts))
    scores = {"auc": -points["credibility"].to_numpy(), "softmax auc": -points["softmax"].to_numpy()}
    source = points["source"].to_numpy()
    single = roc_aucs(scores, truth, source, seed=seed)
    gap = compare(*scores.values(), truth, source, seed=seed, metrics=("roc_auc",))["roc_auc"]
    above = Estimate(gap.estimate, gap.low, gap.high)
    return {name: (each, *counts) for name, each in zip(names, [*single.values(), above], strict=True)}


SHARES: dict[str, Callable[[pd.DataFrame], Array]] = {
    "accuracy": is_right,
    "obedience": lambda rows: (rows["predicted"] == rows["given"]).to_numpy(),
}


def _groups_shown(shown: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for kind, points in shown.groupby("kind", sort=False):
        yield (kind, ALL_POINTS), points
        yield (kind, "poisoned"), points[points["is_poisoned"]]
        yield (kind, "clean"), points[~points["is_poisoned"]]


# ---------------------------------------------------------------- experiment 2


def credibility_groups(rows: pd.DataFrame) -> dict[str, Array]:
    """Group → credibilities of one run of `measures.trained_on`."""
    test, poison = rows[rows["role"] == "test"], rows[rows["role"] == "poisoned"]
    right = is_right(test)
    return {
        CORRECT: test.loc[right, "credibility"].to_numpy(),
        MISCLASSIFIED: test.loc[~right, "credibility"].to_numpy(),
        POISONED: poison["credibility"].to_numpy(),
        POISONED_THERE: poison["with itself"].to_numpy(),
    }


def defended_groups(made: Defended) -> dict[str, Array]:
    """Group → credibilities of one run of `measures.defended`, of training images, each left out of its neighbours."""
    poisoned = made.points["is_poisoned"].to_numpy(bool)
    credibility = 1 - made.points[CREDIBILITY].to_numpy()
    return {"unpoisoned": credibility[~poisoned], POISONED: credibility[poisoned]}


def credibilities(runs: Mapping[str, Sequence[Mapping[str, Array]]]) -> pd.DataFrame:
    """Mean, variance and maximum of the credibility of each group.

    Args:
        runs: setting → a seed each, group → credibilities.
    Returns:
        A row a setting, group and statistic of `STATISTICS`: setting, group, statistic, estimate, low, high, seeds, n.
    """
    rows = []
    for setting, seeds in runs.items():
        for group, (statistic, of) in itertools.product(seeds[0], STATISTICS.items()):
            values = [of(groups[group]) if len(groups[group]) else float("nan") for groups in seeds]
            n = sum(len(groups[group]) for groups in seeds)
            rows.append({"setting": setting, "group": group, "statistic": statistic} | _counted(values, n))
    return pd.DataFrame(rows)


def variance_differences(runs: Mapping[str, Sequence[Mapping[str, Array]]]) -> pd.DataFrame:
    """By how much the variance of poisoned points' credibility lies above that of each other group, paired by seed.

    Returns:
        A row a setting and other group: setting, group, estimate, low, high, seeds (those with `FEWEST` of both), n
        (poisoned points), others (of the other group).
    """
    rows = []
    for setting, seeds in runs.items():
        for group in [each for each in seeds[0] if each not in (POISONED, POISONED_THERE)]:
            values = [variance(groups[POISONED]) - variance(groups[group]) for groups in seeds]
            n, others = (sum(len(groups[each]) for groups in seeds) for each in (POISONED, group))
            rows.append({"setting": setting, "group": group} | _counted(values, n) | {"others": others})
    return pd.DataFrame(rows)


def recovered(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Labels that Deep kNN sets right among the misclassified, and that it loses among the correctly classified.

    Args:
        runs: `measures.trained_on`'s rows, a seed each.
    Returns:
        A row a figure: "misclassified" (test images), "misclassified, with poison" (and the poisoned training images
        that do not get their true class), "recovered", "lost" (shares), "net" (labels gained over all test images, by
        these two shares): figure, estimate, low, high, seeds, n.
    """
    values: dict[str, list[float]] = {name: [] for name in ("misclassified", "with poison", "recovered", "lost", "net")}
    wrong_in_all, right_in_all = 0, 0
    for rows in runs:
        test, poison = rows[rows["role"] == "test"], rows[rows["role"] == "poisoned"]
        right, set_right = is_right(test), is_right(test, "label")
        wrong, tested = int(test["wrong"].iloc[0]), int(test["tested"].iloc[0])
        gained = set_right[~right].mean() if (~right).any() else float("nan")
        lost = (~set_right[right]).mean() if right.any() else float("nan")
        values["misclassified"].append(wrong)
        values["with poison"].append(wrong + int((~is_right(poison)).sum()))
        values["recovered"].append(gained)
        values["lost"].append(lost)
        values["net"].append(np.nan_to_num(gained) * wrong - np.nan_to_num(lost) * (tested - wrong))
        wrong_in_all += int((~right).sum())
        right_in_all += int(right.sum())
    counts = {"recovered": wrong_in_all, "lost": right_in_all}
    total = sum(int(rows["tested"].iloc[0]) for rows in runs)
    return pd.DataFrame([{"figure": name} | _counted(each, counts.get(name, total)) for name, each in values.items()])


def misreadings(runs: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
    """Whom the networks of experiment 2.2 misread: the poison that they were taught, or images that are hard anyway.

    Args:
        runs: kind → `measures.trained_on`'s rows with source, the test images' places in the test set, a seed each;
            under `CONTROL` those of networks that saw no poison.
    Returns:
        A row a kind and figure: "obeyed" (the share of poisoned training points that get the attacker's label),
        "misclassified" (test images), "wrong anyway" (the share of these that the unpoisoned network of that seed
        misreads as well; NaN under `CONTROL`): kind, figure, estimate, low, high, seeds, n, images (how many different
        ones all seeds together misread).
    """
    rows = []
    anyway = [_misread(run) for run in runs[CONTROL]]
    for kind, seeds in runs.items():
        poison = [run[run["role"] == "poisoned"] for run in seeds]
        wrong = [_misread(run) for run in seeds]
        both = [len(own & hard) / len(own) if own else float("nan") for own, hard in zip(wrong, anyway, strict=True)]
        values = {
            "obeyed": ([float((own["predicted"] == own["given"]).mean()) for own in poison], sum(map(len, poison))),
            "misclassified": ([float(len(own)) for own in wrong], sum(int(run["tested"].iloc[0]) for run in seeds)),
            "wrong anyway": (both if kind != CONTROL else [float("nan")] * len(both), sum(map(len, wrong))),
        }
        about = {"kind": kind, "images": len(set().union(*wrong))}
        rows += [about | {"figure": name} | _counted(*value) for name, value in values.items()]
    return pd.DataFrame(rows)


def _misread(rows: pd.DataFrame) -> set[int]:
    return set(_of_group(rows, MISCLASSIFIED)["source"])


def influences(runs: Mapping[str, Sequence[pd.DataFrame]], layers: Sequence[str]) -> pd.DataFrame:
    """Table 1: the share of poisoned points among the neighbours, in %.

    Args:
        runs: kind → `measures.trained_on`'s rows, a seed each.
    Returns:
        A row a kind, group (`CORRECT`, `MISCLASSIFIED`), layer and of ("poisoned", "carrying": those that also bear
        the network's label): kind, group, layer, of, estimate, low, high, seeds, n (test images).
    """
    rows = []
    for kind, seeds in runs.items():
        for group, layer in itertools.product((CORRECT, MISCLASSIFIED), layers):
            for of, column in (("poisoned", share_column(layer)), ("carrying", carrying_column(layer))):
                values = [_percent(run, group, column) for run in seeds]
                about = {"kind": kind, "group": group, "layer": layer, "of": of}
                rows.append(about | _counted(values, sum(len(_of_group(run, group)) for run in seeds)))
    return pd.DataFrame(rows)


def influence_differences(runs: Mapping[str, Sequence[pd.DataFrame]], layers: Sequence[str]) -> pd.DataFrame:
    """What Table 1 is read for, paired by seed, in percentage points.

    Returns:
        A row a kind and difference: "growth, correct" and "growth, misclassified" (last layer less the first), "last
        layer" and "first layer" (misclassified less correct), "growth above control" (of misclassified ones, less that
        around those of the network of that seed which saw no poison, of the same images marked; NaN under `CONTROL`):
        kind, difference, estimate, low, high, seeds, n (misclassified images), rises (in how many seeds it never falls
        from one layer to the next; -1 where it is no growth).
    """
    rows = []
    tables = {
        kind: {
            group: np.array([[_percent(run, group, share_column(layer)) for layer in layers] for run in seeds])
            for group in (CORRECT, MISCLASSIFIED)
        }
        for kind, seeds in runs.items()
    }
    unpoisoned = tables[CONTROL][MISCLASSIFIED]
    for kind, seeds in runs.items():
        table = tables[kind]
        differences = {f"growth, {group}": values[:, -1] - values[:, 0] for group, values in table.items()}
        apart = table[MISCLASSIFIED] - table[CORRECT]
        differences |= {"first layer": apart[:, 0], "last layer": apart[:, -1]}
        above = differences[f"growth, {MISCLASSIFIED}"] - (unpoisoned[:, -1] - unpoisoned[:, 0])
        differences["growth above control"] = above if kind != CONTROL else np.full(len(seeds), np.nan)
        n = sum(len(_of_group(run, MISCLASSIFIED)) for run in seeds)
        for name, values in differences.items():
            group = name.removeprefix("growth, ")
            rises = int((np.diff(table[group], axis=1) >= 0).all(axis=1).sum()) if group in table else -1
            rows.append({"kind": kind, "difference": name} | _counted(values, n) | {"rises": rises})
    return pd.DataFrame(rows)


def _of_group(rows: pd.DataFrame, group: str) -> pd.DataFrame:
    test = rows[rows["role"] == "test"]
    return test[is_right(test) == (group == CORRECT)]


def _percent(rows: pd.DataFrame, group: str, column: str) -> float:
    values = _of_group(rows, group)[column]
    return 100 * float(values.mean()) if len(values) else float("nan")


# ---------------------------------------------------------------- defence


def ranking_figures(runs: Mapping[str, Sequence[Defended]], *, budget: int, seed: int) -> pd.DataFrame:
    """How well each ranking finds the poison.

    Args:
        runs: kind → a seed each; budget: how many images are dropped.
    Returns:
        A row a kind, ranking and figure ("auc", "precision", "recall"): kind, ranking, figure, estimate, low, high,
        seeds, n (poisoned images).
    """
    rows = []
    for (kind, seeds), ranking in itertools.product(runs.items(), RANKINGS):
        truths = [made.points["is_poisoned"].to_numpy(bool) for made in seeds]
        dropped = [top(made.points[ranking].to_numpy(), budget, seed=seed) for made in seeds]
        found = [truth[places].sum() for truth, places in zip(truths, dropped, strict=True)]
        values = {
            "auc": _ranking_aucs(seeds, ranking),
            "precision": [hits / budget for hits in found],
            "recall": [hits / truth.sum() for hits, truth in zip(found, truths, strict=True)],
        }
        n = sum(int(truth.sum()) for truth in truths)
        rows += [{"kind": kind, "ranking": ranking, "figure": name} | _counted(v, n) for name, v in values.items()]
    return pd.DataFrame(rows)


def ranking_differences(runs: Mapping[str, Sequence[Defended]]) -> pd.DataFrame:
    """By how much the ROC-AUC of Deep kNN's given label lies above that of each other ranking, paired by seed.

    Returns:
        A row a kind and ranking of `BASELINES`: kind, ranking, estimate, low, high, seeds, n (poisoned images).
    """
    rows = []
    for kind, seeds in runs.items():
        ours, n = _ranking_aucs(seeds, GIVEN), sum(int(made.points["is_poisoned"].sum()) for made in seeds)
        for rival in BASELINES:
            rows.append({"kind": kind, "ranking": rival} | _counted(ours - _ranking_aucs(seeds, rival), n))
    return pd.DataFrame(rows)


def _ranking_aucs(seeds: Sequence[Defended], ranking: str) -> Array:
    """A ranking's ROC-AUC for being poisoned, a seed each."""
    points = [made.points for made in seeds]
    return np.array([roc_auc(own[ranking].to_numpy(), own["is_poisoned"].to_numpy(bool)) for own in points])


def outcomes(runs: Mapping[str, Sequence[Defended]]) -> pd.DataFrame:
    """What training anew without the suspects is worth.

    Returns:
        A row a kind, ranking (`NOTHING` first) and figure: "accuracy", "success" (of the attack), both less their value
        with nothing removed, paired by seed ("accuracy gained", "success gained"), and "success less random": less that
        after a random removal, whose network started alike. Columns kind, ranking, figure, estimate, low, high, seeds,
        n (images).
    """
    rows = []
    told = [(kind, seeds, ranking) for kind, seeds in runs.items() for ranking in (NOTHING, *retrained(kind))]
    for kind, seeds, ranking in told:
        by_ranking = [made.outcomes.set_index("ranking") for made in seeds]
        for figure, of in (("accuracy", "tested"), ("success", "aimed")):
            values = np.array([table.loc[ranking, figure] for table in by_ranking])
            before = np.array([table.loc[NOTHING, figure] for table in by_ranking])
            n = sum(int(table.loc[ranking, of]) for table in by_ranking)
            about = {"kind": kind, "ranking": ranking}
            rows.append(about | {"figure": figure} | _counted(values, n))
            if ranking != NOTHING:
                rows.append(about | {"figure": f"{figure} gained"} | _counted(values - before, n))
            if figure == "success" and ranking not in (NOTHING, RANDOM):
                by_chance = np.array([table.loc[RANDOM, figure] for table in by_ranking])
                rows.append(about | {"figure": "success less random"} | _counted(values - by_chance, n))
    return pd.DataFrame(rows)
