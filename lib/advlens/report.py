"""What a guard's screening is written as: CSV, Parquet, and one static page that opens from disk."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from advlens.arrays import Array
from advlens.attacks.catalogue import find_attack
from advlens.benchmark.benchmark import STRENGTHS
from advlens.explanations import explain
from advlens.folders import written_whole
from advlens.guard import LOOKS_AT, Guard
from advlens.image_files import eight_bit
from advlens.metrics import MIN_POSITIVES
from advlens.plots import ATTACK_TITLES
from advlens.templates import rendered

PAGE, TABLE = "report.html", "screening"
MOST_SHOWN = 60  # images on the page; the tables hold all
NEAREST = 3  # training images beside each
MAP = "guided_backprop"
LONGEST_SIDE = 96  # pixels of an embedded picture
BINS, WIDTH, MARGIN = 30, 200, 12  # of a strip, the last two in pixels


def write_report(
    guard: Guard,
    images: Array,
    table: pd.DataFrame,
    folder: str | Path,
    *,
    fpr: float,
    changes: Sequence[str] = (),
) -> Path:
    """Writes screening.csv, screening.parquet and report.html into a new folder, and returns the page's path.

    Args:
        guard, images: as screened, (n, h, w, channels) in [0, 1]; table, fpr: what `Guard.screen` said of them.
        changes: what was done to the images before, in sentences.
    Raises:
        FileExistsError: where the folder exists.
    """
    with written_whole(folder) as place:
        table.to_csv(place / f"{TABLE}.csv", index=False)
        table.to_parquet(place / f"{TABLE}.parquet")
        (place / PAGE).write_text(_page(guard, images, table, fpr=fpr, changes=changes))
    return Path(folder) / PAGE


def in_words(table: pd.DataFrame, *, fpr: float) -> str:
    """How many images are flagged, how many would be by chance, and how many are for scores that are no numbers."""
    n, flagged, broken = len(table), int(table["flagged"].sum()), count_broken(table)
    more = round(flagged - n * fpr)
    chance = f": about {more} more than chance" if more > 0 else ""
    told = f"{flagged} of {n} images {'is' if flagged == 1 else 'are'} flagged{chance}"
    said = f" Of {broken} of them a lens's score is NaN or infinite." if broken else ""
    return f"{told}; of as many clean ones about {n * fpr:.1f} would be.{said}"


def count_broken(table: pd.DataFrame) -> int:
    """How many images are flagged because a lens's score is NaN or infinite."""
    return int(table["score"].isna().sum())


def attacks_in_words(shown: pd.DataFrame, strengths: Mapping[str, float]) -> str:
    """A sentence an attack.

    Args:
        shown: what `benchmark.worst_first` made for a guard; strengths: attack → how strong it was, NaN if unknown.
    """
    told = ["Where 5 % of normal images, clean or noisy, are flagged:"]
    for row in shown.to_dict("records"):
        title = f"{ATTACK_TITLES.get(row['attack'], row['attack'])}{_strength(row['attack'], strengths[row['attack']])}"
        fooled = f"- {title} fooled the network on {row['n']} of the judged images"
        if np.isnan(row["tpr"]):
            told.append(f"{fooled}: too few to say how many of them the guard flags.")
            continue
        learnt = "learnt from" if row["best_baseline"].startswith("baselines") else "was chosen by"
        tpr, low, high, best = (f"{100 * row[name]:.0f}" for name in ("tpr", "low", "high", "its_tpr"))
        told.append(
            f"{fooled}; the guard flags {tpr} % of them [{low}, {high} %]; the best trivial score, which {learnt} this "
            f"very attack, {best} %."
            + (f" Fewer than {MIN_POSITIVES}: too few to rely on." if row["n"] < MIN_POSITIVES else "")
        )
    return "\n".join([*told, ""])


def _strength(attack: str, value: float) -> str:
    """As " at eps = 8/255"; empty where it is not known."""
    name = next((key for key in STRENGTHS if key in find_attack(attack).parameters), None)
    if name is None or np.isnan(value):
        return ""
    return f" at {name} = " + (f"{255 * value:.3g}/255" if name == "eps" else f"{value:g}")


def _page(guard: Guard, images: Array, table: pd.DataFrame, *, fpr: float, changes: Sequence[str]) -> str:
    order = table.sort_values(["p-value", "score"], ascending=[True, False], na_position="first")
    rows = order.index[:MOST_SHOWN].to_numpy()
    shown = images[rows]
    maps, why_no_maps = _maps(guard, shown, table["predicted"].to_numpy()[rows])
    nearest = guard.nearest(shown, n=NEAREST)
    strips = {name: strip(guard.calibration[name].to_numpy()) for name in guard.calibration}
    told = []
    for number, row in enumerate(rows):
        about = table.loc[row].to_dict()
        scores = {name: about[f"{name} score"] for name in strips}
        lenses = [
            {"name": name, "score": score, "p": about[f"{name} p-value"], "x": place(score, strips[name])}
            for name, score in scores.items()
        ]
        pictures = [("this image", data_uri(shown[number]))]
        pictures += [("its map", data_uri(maps[number]))] if maps is not None else []
        near = [(data_uri(each), int(label)) for each, label in zip(*(part[number] for part in nearest), strict=True)]
        told.append({"about": about, "pictures": pictures, "lenses": lenses, "nearest": near})
    flagged = int(table["flagged"].sum())
    counts = {"n": len(table), "flagged": flagged, "in_words": in_words(table, fpr=fpr)}
    summary = {"card": guard.card, "verdict": guard.card["verdicts"][-1], "fpr": fpr, "changes": changes}
    lenses = zip(guard.card["lenses"], guard.lenses, strict=True)
    summary |= {"looks_at": {lens.name: LOOKS_AT.get(name, lens.family) for name, lens in lenses}}
    drawing = {
        "strips": strips,
        "width": WIDTH,
        "margin": MARGIN,
        "why_no_maps": why_no_maps,
        "has_nearest": nearest[0].size > 0,
    }
    return rendered("report.html", rows=told, **counts, **summary, **drawing)


def _maps(guard: Guard, images: Array, predicted: Array) -> tuple[Array | None, str]:
    """(n, h, w, 3) maps in colours, or None and why there are none."""
    try:
        return in_colours(explain(guard.classifier, images, method=MAP, neuron=predicted)), ""
    except Exception as error:  # not every network can be explained, and the page is of use without
        return None, " ".join(str(error).split()) or type(error).__name__


def in_colours(maps: Array) -> Array:
    """(n, h, w, channels) signed values → (n, h, w, 3) in blue (below 0), white and red, each to its own scale."""
    maps = maps.sum(axis=-1)
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    return matplotlib.colormaps["RdBu_r"](0.5 + maps / np.where(largest > 0, 2 * largest, 1))[..., :3]


def strip(clean: Array) -> dict[str, Any]:
    """A histogram of clean scores between their 0.5 % and 99.5 % quantiles."""
    low, high = np.quantile(clean, (0.005, 0.995))
    high = high if high > low else low + max(abs(low), 1) * 1e-6
    counts = np.histogram(np.clip(clean, low, high), bins=BINS, range=(low, high))[0]
    return {"low": low, "high": high, "heights": np.sqrt(counts / counts.max()).tolist()}


def place(score: float, strip: dict[str, Any]) -> float | None:
    """Where a score lies on its strip, in pixels; in the margin where few or no clean images score so."""
    if np.isnan(score):
        return None
    share = (score - strip["low"]) / (strip["high"] - strip["low"])
    if 0 <= share <= 1:
        return MARGIN + share * (WIDTH - 2 * MARGIN)
    return MARGIN / 2 if share < 0 else WIDTH - MARGIN / 2


def data_uri(picture: Array) -> str:
    """A (h, w, channels) picture in [0, 1] as a data URI; of other than 1 or 3 channels, their mean."""
    picture = picture if picture.shape[-1] == 3 else picture.mean(axis=-1)
    image, file = Image.fromarray(eight_bit(picture)), io.BytesIO()
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    image.save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
