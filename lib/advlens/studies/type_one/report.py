"""The study's tables, figures and sentences: every number comes from the results that are passed in."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from advlens import plots
from advlens.arrays import Array
from advlens.metrics import NOMINAL_FPRS, Estimate, mean, proportion
from advlens.studies.detection import ABOVE_BASELINE, NOMINAL_FPR
from advlens.studies.rows import EIGHT_BIT
from advlens.studies.type_one.maps import CAM, IMAGE, MAPS, MEASURES, SIGNED, START, TARGET
from advlens.studies.type_one.results import CAUSES, NEARER, NORMAL, SUCCESS, at_the_end, verdict
from advlens.studies.type_one.settings import JUDGE, NETWORK, OPEN
from advlens.studies.type_one.study import ASKED, ATTACK, DETECTORS, LOST, LOST_ASKED, TRANSITION, TYPE_I, TYPE_II
from advlens.tables import interval_text

RANK = next(iter(MEASURES))
STRIDE = 2  # which of a film's frames stand in its strip
SHORT_NAME = 3  # characters of a class name that leave room beside it above a picture
TOO_FEW = "too few"
MAX_SOFTMAX = "max softmax"
TITLES = {START: "with the start's", TARGET: "with the target class's", NEARER: "share nearer to the start's"}
PANELS = {
    TYPE_I: "Type I: the decision is the start's",
    TYPE_II: "Type II: the decision is the target's",
    LOST: "transition: the decision is another",
    LOST_ASKED: "the same, the start's class explained",
    ASKED: "Type I, the target's class explained",
}
OF_WALKS = {
    "became": "the judge sees the other digit",
    "kept": "the decision is kept",
    SUCCESS: "both: success",
    "has_ended": "walk ended before its last step",
}
OF_SUCCESSES = {
    "confidence": "confidence in the old digit",
    "judge's confidence": "the judge's in the new one",
    "distance": "distance in latent space",
    "steps": "steps",
}


# ---------------------------------------------------------------- the generator


def generator_table(
    figures: pd.DataFrame, history: pd.DataFrame, accuracies: Mapping[str, Estimate], *, seed: int
) -> pd.DataFrame:
    """How well the generator reads and redraws test images, how long it was trained, and what both networks read."""
    columns = {
        "latent right": "class read from the latent vector is right",
        f"{NETWORK} right, redrawn": "the attacked network reads the redrawn image rightly",
        f"{JUDGE} right, redrawn": "the judge reads it rightly",
        "squared error": "squared error of redrawn pixels, mean",
    }
    place = figures["place"].to_numpy()
    *shares, error = columns
    found = {name: proportion(figures[name].to_numpy(float), place) for name in shares}
    found[error] = mean(figures[error].to_numpy(float), place, seed=seed)
    rows = [{"": title, "value": interval_text(found[name], digits=4)} for name, title in columns.items()]
    best = history.loc[history["val_loss"].idxmin()]
    about = f"{best['val_loss']:.1f} in epoch {int(best['epoch'])} of {len(history)}"
    parts = ", ".join(
        f"{name} {best[f'val_{name}']:.1f}" for name in ("divergence", "classification", "reconstruction")
    )
    rows.append({"": "least loss of held-out training images", "value": f"{about} ({parts})"})
    of_networks = {NETWORK: "the attacked network reads the image itself rightly", JUDGE: "the judge does"}
    rows = [{"": of_networks[name], "value": interval_text(each, digits=4)} for name, each in accuracies.items()] + rows
    return pd.DataFrame(rows).assign(n=[str(len(figures))] * (len(rows) - 1) + [""])


def drawn(samples: Array, ways: Array, class_names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Figure:
    """Images of random latent vectors, and of straight ways between two images' latent vectors."""
    rows = {f"sample {place + 1}": row for place, row in enumerate(samples)}
    rows |= {f"{class_names[one]} → {class_names[other]}": ways[:, place] for place, (one, other) in enumerate(pairs)}
    title = "Random latent vectors, and ways between two images"
    return plots.image_grid(rows, column_titles=[""] * samples.shape[1], title=title)


# ---------------------------------------------------------------- films


def strip(
    frames: Array, said: pd.DataFrame, maps: Mapping[str, Array], *, title: str, class_names: Sequence[str]
) -> Figure:
    """A walk as a filmstrip of some of its frames: image and maps, and above what attacked network and judge say."""
    rows = {name: pictures[::STRIDE] for name, pictures in _pictures(frames, maps).items()}
    texts = _texts(said, class_names, between="\n")[::STRIDE]
    return plots.image_grid(rows, column_titles=texts, title=title, symmetric=SIGNED)


def film(
    frames: Array, said: pd.DataFrame, maps: Mapping[str, Array], *, title: str, class_names: Sequence[str]
) -> Iterator[Figure]:
    """A walk as a moving picture of all its frames."""
    texts = _texts(said, class_names, between=", ")
    return plots.film(_pictures(frames, maps), texts=texts, title=title, symmetric=SIGNED)


def _pictures(frames: Array, maps: Mapping[str, Array]) -> dict[str, Array]:
    """Image and maps; those without a sign, which know no common scale, each from 0 to its highest value."""
    scaled = {name: each if name in SIGNED else _to_one(each) for name, each in maps.items()}
    return {"image": frames} | scaled


def _to_one(maps: Array) -> Array:
    highest = maps.max(axis=(1, 2, 3), keepdims=True)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0)


def _texts(said: pd.DataFrame, class_names: Sequence[str], *, between: str) -> list[str]:
    by_network = {name: own for name, own in said.groupby("network", sort=False)}
    gap = between if between == "\n" and max(map(len, class_names)) > SHORT_NAME else " "
    return [
        f"{class_names[ours.predicted]}{gap}{ours.confidence:.0%}{between}judge:{gap}{class_names[theirs.predicted]}"
        for ours, theirs in zip(by_network[NETWORK].itertuples(), by_network[JUDGE].itertuples(), strict=True)
    ]


# ---------------------------------------------------------------- attacks


def rates_table(rates: pd.DataFrame) -> pd.DataFrame:
    """How often walks do what they are meant to, a row a kind of walk."""
    rows = []
    for kind, own in rates.groupby("kind", sort=False):
        found = own.set_index("figure")
        row = {"walk": kind} | {title: interval_text(found.loc[name]) for name, title in OF_WALKS.items()}
        for name, title in OF_SUCCESSES.items():
            digits = 0 if name == "steps" else 3
            row[title] = interval_text(found.loc[name], digits=digits) if name in found.index else "none"
        won = found.loc["steps", "n"] if "steps" in found.index else 0
        rows.append(row | {"n (successes)": f"{found.loc['kept', 'n']} ({won})"})
    return pd.DataFrame(rows)


def causes_table(rates: pd.DataFrame) -> pd.DataFrame:
    """What becomes of walks, a row a kind of walk, shares that add up to one."""
    rows = []
    for kind, own in rates.groupby("kind", sort=False):
        found = own.set_index("figure")
        texts = {cause: interval_text(found.loc[cause]) for cause in CAUSES}
        rows.append({"walk": kind} | texts | {"n": found.loc[SUCCESS, "n"]})
    return pd.DataFrame(rows)


def pairs_figure(pairs: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """The share of successes by the class an image has and the one it is to show; the diagonal is empty."""
    classes = sorted(pairs["label"].unique())
    cells = pd.MultiIndex.from_product([(TRANSITION, ATTACK), classes, classes], names=["kind", "label", "aim"])
    shown = pairs.set_index(cells.names).reindex(cells).reset_index()
    text = (100 * shown["success"]).map("{:.0f}".format).where(shown["success"].notna(), "")
    ends = {"from": shown["label"].map(class_names.__getitem__), "to": shown["aim"].map(class_names.__getitem__)}
    return plots.heatmaps(
        shown.assign(text=text, **ends),
        row="from",
        column="to",
        value="success",
        text="text",
        panel="kind",
        title="Plain transitions and Type I attacks, from class to class",
        axis=f"share of successes (cells: %; n = {pairs['n'].min()} a cell)",
    )


# ---------------------------------------------------------------- maps


def likeness_table(likenesses: pd.DataFrame) -> pd.DataFrame:
    """How alike the maps after an attack are to those before it and to those of the class aimed at."""
    rows = []
    for (kind, name), own in at_the_end(likenesses).groupby(["type", "map"], sort=False):
        found = own.set_index(["measure", "figure"])
        row = {"attack": kind, "map": name}
        for measure in MEASURES:
            for figure, title in TITLES.items():
                row[f"{measure}: {title}"] = interval_text(found.loc[(measure, figure)])
        rows.append(row | {"n": own["n"].iloc[0]})
    return pd.DataFrame(rows)


def likeness_panels(likenesses: pd.DataFrame) -> pd.DataFrame:
    """The shares of images whose map is nearer to the start's, for `plots.intervals`: a panel a type of attack."""
    rows = at_the_end(likenesses)
    rows = rows[(rows["figure"] == NEARER) & (rows["measure"] == RANK)]
    family = np.where(rows["map"] == IMAGE, "baseline", "relevancy")
    panel = rows["type"].map(PANELS) + ", n = " + rows["n"].astype(str)
    return rows.assign(panel=panel, family=family)


def difference_table(differences: pd.DataFrame) -> pd.DataFrame:
    """What the decision, and what the class that is explained, does to a map, image by image, a row a map."""
    rows = []
    for name in MAPS:
        row, counts = {"map": name}, []
        for rival in (LOST, LOST_ASKED, ASKED):
            found = differences[(differences["less"] == rival) & (differences["map"] == name)].set_index("measure")
            for measure in MEASURES:
                row[f"less {rival}: {measure}"] = _text(found, measure)
            counts.append(str(found["n"].iloc[0]) if len(found) else TOO_FEW)
        rows.append(row | {"n": " / ".join(counts)})
    return pd.DataFrame(rows)


def way_panels(likenesses: pd.DataFrame) -> pd.DataFrame:
    """How alike maps along Type I attacks are to both ends, for `plots.curves`: a panel a map, a line an end."""
    rows = likenesses[(likenesses["type"] == TYPE_I) & (likenesses["measure"] == RANK)]
    rows = rows[rows["figure"].isin((START, TARGET))]
    share = rows["stop"] / max(rows["stop"].max(), 1)
    return rows.assign(share=share, group=rows["figure"].map({START: "with the start's", TARGET: "with the target's"}))


# ---------------------------------------------------------------- detectors


def detection_table(detections: pd.DataFrame) -> pd.DataFrame:
    """The protocol's figures of Deep kNN and the trivial baselines, a row a detector."""
    titles = {"roc_auc": "ROC-AUC", "average_precision": "average precision"}
    titles |= {f"committed_tpr_{fpr:g}": f"TPR at {fpr:.0%}" for fpr in NOMINAL_FPRS}
    titles |= {f"observed_fpr_{NOMINAL_FPR:g} on {role}": f"FPR on {role} at 5%" for role in ("clean", "noisy")}
    titles[ABOVE_BASELINE] = "TPR at 5% FPR above the best baseline"
    rows = []
    for name, own in detections.groupby("detector", sort=False):
        found = own.set_index("figure")
        counts = f"{own['n_positive'].iloc[0]} / {own['n_negative'].iloc[0]}"
        texts = {title: interval_text(found.loc[figure]) for figure, title in titles.items()}
        rows.append({"detector": name} | texts | {"n (attacked / normal)": counts})
    return pd.DataFrame(rows, columns=["detector", *titles.values(), "n (attacked / normal)"])


def against_table(against: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What detectors make of each kind of normal image, in floats and in 8 bits, a row a detector and format."""
    titles = {f"auc, {normal}": f"ROC-AUC against {normal}" for normal in NORMAL}
    titles |= {f"fpr, {normal}": f"FPR on {normal}" for normal in NORMAL}
    rows = []
    for part, table in against.items():
        for name, own in table.groupby("detector", sort=False):
            found = own.set_index("figure")
            counts = f"{found.loc['auc, clean', 'n']} / {found.loc['fpr, clean', 'n']}"
            texts = {title: interval_text(found.loc[figure]) for figure, title in titles.items()}
            row = {"detector": name, "images": "8-bit" if part == EIGHT_BIT else "float"} | texts
            rows.append(row | {"n (attacked / each normal)": counts})
    return pd.DataFrame(rows, columns=["detector", "images", *titles.values(), "n (attacked / each normal)"])


# ---------------------------------------------------------------- the whole


def headline_table(likenesses: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Whether each map goes with the decision, by rank correlation, a row a map."""
    nearer = _shares_nearer(likenesses)
    rows = []
    for name in MAPS:
        row = {"map": name} | {kind: _text(nearer, (kind, name)) for kind in PANELS}
        for rival, title in ((LOST, "Type I less the transition"), (LOST_ASKED, "the same class explained in both")):
            found = _of_map(differences, name, rival)
            word = goes_with_the_decision(differences, name, rival=rival)
            row[title] = f"{interval_text(found)} {word}" if found is not None else TOO_FEW
        counts = [str(nearer.loc[(kind, name), "n"]) if (kind, name) in nearer.index else TOO_FEW for kind in PANELS]
        rows.append(row | {"n, of each share": " / ".join(counts)})
    return pd.DataFrame(rows)


def _shares_nearer(likenesses: pd.DataFrame) -> pd.DataFrame:
    """The share of maps nearer to the start's where attacks end, by type and map."""
    rows = at_the_end(likenesses)
    return rows[(rows["figure"] == NEARER) & (rows["measure"] == RANK)].set_index(["type", "map"])


def _text(found: pd.DataFrame, key: str | tuple[str, str]) -> str:
    return interval_text(found.loc[key]) if key in found.index else TOO_FEW


def _of_map(differences: pd.DataFrame, name: str, rival: str) -> pd.Series | None:
    keys = ("type", "less", "map", "measure")
    chosen = (differences[list(keys)] == [TYPE_I, rival, name, RANK]).all(axis=1)
    return differences[chosen].iloc[0] if chosen.any() else None


def goes_with_the_decision(differences: pd.DataFrame, name: str, *, rival: str = LOST) -> str:
    """Of a map: whether it is nearer to the start's when the decision is kept than when it is lost.

    Both are walks of the same images to the same classes, which the judge sees at the end of either.

    Args:
        rival: `LOST`, where each decision is explained, or `LOST_ASKED`, where the start's class is in both.
    """
    found = _of_map(differences, name, rival)
    return OPEN if found is None else verdict(found, reference=0)


def lessons(
    rates: pd.DataFrame,
    gained: Estimate,
    likenesses: pd.DataFrame,
    differences: pd.DataFrame,
    detections: pd.DataFrame,
    against: pd.DataFrame,
) -> str:
    """The study's claim and what is new, each with its figures; `against` is of float images."""
    found, nearer = rates.set_index(["kind", "figure"]), _shares_nearer(likenesses)
    attack, plain, kept = (found.loc[key] for key in ((ATTACK, SUCCESS), (TRANSITION, SUCCESS), (TRANSITION, "kept")))
    verdicts = {name: goes_with_the_decision(differences, name) for name in MAPS}
    held = goes_with_the_decision(differences, CAM, rival=LOST_ASKED)
    return "\n".join(
        [
            f"- **Attacks keep more decisions than plain transitions: {verdict(gained, reference=0)}.** In a share of "
            f"{interval_text(attack)} of {int(attack['n'])} walks the judge sees the new class while the network keeps "
            f"its decision, of plain transitions in {interval_text(plain)}; paired difference {interval_text(gained)}. "
            f"Plain transitions keep the decision in {interval_text(kept)}.",
            f"- **CAM, computed right, goes with the decision: {verdicts[CAM]}.** The share of maps nearer to the "
            "start's than to the target class's, where a Type I attack keeps the decision, less that where a plain "
            f"transition loses it (same images and classes): {_differences(differences, LOST)}. Image is the bar: what "
            f"the images' own likeness gives. By map: {_told(verdicts)}.",
            f"- **It does so where the same class is explained in both: {held}.** With the start's: "
            f"{_differences(differences, LOST_ASKED)}. With the class aimed at explained in the attack's images, the "
            f"share falls by: {_differences(differences, ASKED)}.",
            f"- **After Type II**, whose images look like the start and whose decision is the target's, maps are "
            f"nearer to the start's in a share of: {_shares(nearer, TYPE_II)}; after Type I of: "
            f"{_shares(nearer, TYPE_I)}.",
            f"- **Are they detected?** {_detected(detections, against)}",
        ]
    )


def _differences(differences: pd.DataFrame, rival: str) -> str:
    found = {name: _of_map(differences, name, rival) for name in MAPS}
    texts = [f"{name} {interval_text(row)} (n = {row['n']})" for name, row in found.items() if row is not None]
    return "; ".join(texts) or TOO_FEW


def _shares(nearer: pd.DataFrame, kind: str) -> str:
    return "; ".join(f"{name} {_text(nearer, (kind, name))}" for name in MAPS)


def _told(verdicts: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {word}" for name, word in verdicts.items() if name != IMAGE)


def _detected(detections: pd.DataFrame, against: pd.DataFrame) -> str:
    if detections.empty:
        return f"Type I attacks that succeed are {TOO_FEW} to say."
    found = detections[detections["figure"] == "roc_auc"].set_index("detector")
    ours = "; ".join(f"{name} {interval_text(found.loc[name])}" for name in DETECTORS)
    above = detections[detections["figure"] == ABOVE_BASELINE].set_index("detector")
    bar = found["baseline"].iloc[0]
    redrawn = against[against["figure"] == "auc, redrawn"].set_index("detector")
    of_redrawn = "; ".join(f"{name} {interval_text(redrawn.loc[name])}" for name in (*DETECTORS, MAX_SOFTMAX, bar))
    first = found.iloc[0]
    return (
        f"ROC-AUC against clean and noisy images: {ours}; the best trivial baseline, {bar}, "
        f"{interval_text(found.loc[bar])}. TPR at 5 % FPR above it: "
        f"{'; '.join(f'{name} {interval_text(above.loc[name])}' for name in DETECTORS)} "
        f"(n = {first['n_positive']} attacks, {first['n_negative']} normal). Against the same images redrawn by the "
        f"generator, which leaves no trace of its drawing to tell by: {of_redrawn}."
    )
