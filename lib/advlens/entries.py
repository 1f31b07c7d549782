"""The leaderboard: one JSON an entry, and from them one static page that opens from disk.

An entry is a detector on a data set, measured by this project's suite or by somebody else's run of it. Entries are the
source; the page is made from them and from nothing else.
"""

import json
import math
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from filelock import FileLock
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from matplotlib.colors import to_hex
from skimage.color import rgb2xyz

import advlens
from advlens.benchmark import Knowledge, Stratum, TrainedOn, query
from advlens.benchmark.judging import BAR
from advlens.benchmark.vocabulary import ABOVE_BASELINE, NOMINAL_FPR, OBSERVED
from advlens.datasets import CLASS_NAMES
from advlens.metrics import MARGINS, MIN_POSITIVES
from advlens.paths import project_root
from advlens.plots import FAMILY_COLOURS, LEGEND_TITLES, title_of
from advlens.templates import rendered


def _of_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    needed = [name for name in fields if name not in OPTIONAL]
    return {"type": "object", "properties": fields, "required": needed, "additionalProperties": False}


FOLDER = Path("docs") / "leaderboard"
OPTIONAL = ("seconds_per_1000", "catches", "margin", "unchanged", "observed_fpr")
TEXT, OBJECT = {"type": "string"}, {"type": "object"}
SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
AMOUNT = {"type": ["number", "null"], "minimum": 0}
COUNT = {"type": "integer", "minimum": 0}
RESULT: dict[str, Any] = {
    **{"attack": TEXT, "trained_on": {"enum": [word.value for word in TrainedOn]}},
    **{"knowledge": {"enum": [word.value for word in Knowledge]}, "condition": TEXT, "stratum": TEXT},
    **{"tpr": SHARE, "low": SHARE, "high": SHARE, "roc_auc": SHARE},
    **{"above_baseline": {"type": ["number", "null"], "minimum": -1, "maximum": 1}, "n": COUNT, "margin": AMOUNT},
    **{"unchanged": SHARE, "observed_fpr": SHARE},
}
ENTRY: dict[str, Any] = {
    **dict.fromkeys(("detector", "family", "dataset", "version", "measured_by"), TEXT),
    **{"settings": OBJECT, "alarms": OBJECT | {"additionalProperties": SHARE}, "best_attack_so_far": TEXT},
    **{"potentially_unreliable": {"type": "boolean"}, "footnote": TEXT, "seconds_per_1000": AMOUNT},
    "catches": OBJECT | {"additionalProperties": _of_fields({"share": SHARE, "missed": COUNT})},
    "results": {"type": "array", "minItems": 1, "items": _of_fields(RESULT)},
}
"""Field → its JSON schema, of an entry and of each of its results; all but `OPTIONAL` are needed."""
ROW = ("attack", "trained_on", "knowledge", "condition", "stratum")  # what a result is of
SCHEMA = Draft202012Validator(_of_fields(ENTRY))


def entries(
    table: pd.DataFrame,
    alarms: pd.DataFrame,
    *,
    dataset: str,
    settings: Mapping[str, Any],
    measured_by: str = "Advlens",
    margins: Mapping[str, float] | None = None,
    unchanged: Mapping[str, float] | None = None,
    seconds: Mapping[str, float] | None = None,
    caught: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """One entry a detector of a suite's tables.

    Args:
        table, alarms: of `suite.Suite`; dataset: their data set's name; settings: sizes and seeds of the run.
        margins: attack → the logit margin that it stops at, of those that stop at one; unchanged: attack → the share of
            images that it left as they were, in 8 bits.
        seconds: detector → seconds for 1,000 images; caught: of `suite.Suite`, for what detectors catch of each other's
            misses. An entry lacks what isn't given.
    """
    matched = query(table, negatives="matched")
    keys = ["detector", "family", "attack", "trained_on", "knowledge", "condition", "stratum", "n_positive"]
    wide = matched.pivot(index=keys, columns="metric", values="estimate").reset_index()
    bounds = query(matched, metric=BAR).set_index(keys)[["low", "high"]]
    wide = wide.join(bounds, on=keys).rename(columns={BAR: "tpr", "n_positive": "n"})
    wide = wide.rename(columns={ABOVE_BASELINE: "above_baseline", OBSERVED: "observed_fpr"})
    wide = wide.assign(margin=wide["attack"].map(margins or {}), unchanged=wide["attack"].map(unchanged or {}))
    wide = wide[wide["n"] >= MIN_POSITIVES]
    flagged = alarms.pivot(index="detector", columns="kind", values="estimate")
    found = {} if caught is None else catches(caught)
    made = []
    for (detector, family), own in wide.groupby(["detector", "family"], sort=False):
        alarmed = flagged[flagged.index == detector].to_dict("records")
        unreliable = Knowledge.ADAPTIVE.value not in set(own["knowledge"])
        results = own[list(RESULT)].to_dict("records")
        made.append(
            {
                **{"detector": str(detector), "family": str(family), "dataset": dataset},
                **{"version": advlens.__version__, "measured_by": measured_by, "settings": dict(settings)},
                "results": results,
                "alarms": {str(kind): float(share) for kind, share in (alarmed or [{}])[0].items()},
                "best_attack_so_far": _best(results),
                "potentially_unreliable": unreliable,
                "footnote": "nobody who knows the detector has attacked it yet" if unreliable else "",
                "seconds_per_1000": float(f"{(seconds or {}).get(str(detector), math.nan):.2g}"),
                "catches": found.get(str(detector), {}),
            }
        )
    return [_rounded(entry) for entry in made]


def with_adaptive(
    found: Iterable[dict[str, Any]],
    table: pd.DataFrame,
    failed: Mapping[str, str],
    *,
    dataset: str,
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Entries with the results of attackers who know the detectors; one without any gets an entry of these alone.

    Args:
        found: of a run's suite; table, failed: of `adaptive_suite.AdaptiveSuite`, failed being detector → the checks of
            its attack's strength that fail; settings: of that suite.
    """
    made = {entry["detector"]: dict(entry) for entry in found if entry["dataset"] == dataset}
    rows = query(table, metric=f"committed_tpr_{NOMINAL_FPR:g}").rename(columns={"estimate": "tpr", "n_positive": "n"})
    rows = rows[(rows["knowledge"] != Knowledge.OBLIVIOUS.value) & (rows["n"] >= MIN_POSITIVES)]
    rows = rows.assign(**dict.fromkeys(("roc_auc", "above_baseline", "margin", "unchanged", "observed_fpr"), math.nan))
    for (name, family), own in rows.groupby(["detector", "family"], sort=False):
        detector = str(name)
        bare = {"detector": detector, "family": str(family), "dataset": dataset, "version": advlens.__version__}
        bare |= {"measured_by": "Advlens", "settings": dict(settings), "results": [], "alarms": {}}
        entry = made.setdefault(detector, bare)
        kept = [row for row in entry["results"] if row["knowledge"] == Knowledge.OBLIVIOUS.value]
        told = f"checks of the adaptive attack that fail: {failed[detector]}" if detector in failed else ""
        results = [*kept, *_rounded(own[list(RESULT)].to_dict("records"))]
        entry |= {"results": results, "best_attack_so_far": _best(results)}
        entry |= {"potentially_unreliable": detector in failed, "footnote": told}
    return list(made.values())


def with_oblivious(
    made: Iterable[dict[str, Any]], found: Iterable[Mapping[str, Any]], *, of_suite: Collection[str]
) -> Iterator[dict[str, Any]]:
    """A suite's entries, with what those found already say of attacks that are none of its own.

    These are by attackers who know the detectors, see `with_adaptive`, or were added, see `with_attack`.

    Args:
        of_suite: all attacks that a suite may have, of which the rows found are older.
    """
    before = {(entry["dataset"], entry["detector"]): entry for entry in found}
    for entry in made:
        old = before.get((entry["dataset"], entry["detector"]), {"results": []})
        known = [row for row in old["results"] if row["knowledge"] != Knowledge.OBLIVIOUS.value]
        added = [row for row in old["results"] if row not in known and row["attack"] not in of_suite]
        told = ("potentially_unreliable", "footnote") if known else ()
        own = [row for row in entry["results"] if not known or row["knowledge"] == Knowledge.OBLIVIOUS.value]
        results = [*own, *added, *known]
        about = {field: old[field] for field in told} | {"results": results}
        yield entry | about | {"best_attack_so_far": _best(results)}


def with_attack(found: Iterable[dict[str, Any]], table: pd.DataFrame, *, dataset: str) -> Iterator[dict[str, Any]]:
    """Entries with the results of one more attack, in place of earlier ones of its name.

    Args:
        table: of `suite.Suite.rescore`, in which all rows are of one attack.
    """
    none = pd.DataFrame({name: [] for name in ("detector", "kind", "estimate")})
    made = {entry["detector"]: entry["results"] for entry in entries(table, none, dataset=dataset, settings={})}
    for entry in found:
        own = made.get(entry["detector"], []) if entry["dataset"] == dataset else []
        results = [*(row for row in entry["results"] if row["attack"] not in {new["attack"] for new in own}), *own]
        yield entry | {"results": results, "best_attack_so_far": _best(results)}


def _best(results: Iterable[Mapping[Any, Any]]) -> str:
    """The successful attack with the lowest rate, the first of those with the same; "" where none has a rate."""
    known = [row for row in results if row["stratum"] == Stratum.SUCCESS.value and pd.notna(row["tpr"])]
    return str(min(known, key=lambda row: row["tpr"])["attack"]) if known else ""


def catches(caught: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """What each detector catches of another's misses, over all attacks.

    Args:
        caught: of `suite.Suite`, a row an attacked image and a column a detector, the share of seeds that flag it.
    Returns:
        Detector → the other → {"share": of the images that the other misses, how many the detector flags, "missed": how
        many those are}; where seeds disagree, parts of images count. The share is NaN under `MIN_POSITIVES`.

    >>> catches(pd.DataFrame({"a": [1.0] * 30 + [0.0] * 30, "b": [1.0] * 15 + [0.0] * 45}))["a"]
    {'b': {'share': 0.3333333333333333, 'missed': 45}}
    """
    known, flags, missed = (each.fillna(0).astype(float) for each in (caught.notna(), caught, 1 - caught))
    n, both = missed.T @ known, missed.T @ flags  # both judged the image, and the row's detector missed it
    shares = (both / n).where(n >= MIN_POSITIVES)
    return {
        str(one): {
            str(other): {"share": float(shares.loc[other, one]), "missed": round(n.loc[other, one])}  # pyright: ignore
            for other in caught
            if other != one
        }
        for one in caught
    }


def entry_of(detector: str, table: pd.DataFrame, alarms: pd.DataFrame, **about: Any) -> dict[str, Any]:
    """The entry of one detector of the tables; about: what `entries` takes besides.

    Raises:
        ValueError: where it has none, since no attack has enough successes.
    """
    for entry in entries(table, alarms, **about):
        if entry["detector"] == detector:
            return entry
    raise ValueError(f"no attack has {MIN_POSITIVES} successes among the images that are judged: attack more images")


def write_entries(made: Iterable[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Writes each entry as a JSON of its own, by detector and data set."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for entry in made:
        name = re.sub(r"[^a-z0-9]+", "-", f"{entry['dataset']} {entry['detector']}".lower()).strip("-")
        paths.append(write_entry(entry, folder / f"{name}.json"))
    return paths


def update_entries(folder: Path, change: Callable[[list[dict[str, Any]]], Iterable[Mapping[str, Any]]]) -> None:
    """Writes what is made of a folder's entries in their place, by one process at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        write_entries(change(read_entries(folder)), folder)


def write_entry(entry: Mapping[str, Any], path: Path) -> Path:
    """Writes an entry as JSON, and says where."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    return partial.replace(path)


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """All entries of a folder, checked against `SCHEMA`.

    Raises:
        ValueError: for files that are no entries, or two of one detector, naming what is wrong with each.
    """
    found, wrong = {}, []
    for path in sorted(folder.glob("*.json")):
        try:
            entry = json.loads(path.read_text(), parse_constant=_refuse)
            _check(entry)
            twin = found.setdefault((entry["dataset"], entry["detector"]), (path.name, entry))[0]
            if twin != path.name:
                raise ValueError(f"its detector and data set have an entry in {twin}: keep one")
        except json.JSONDecodeError as error:
            wrong.append(f"{path.name} is no JSON ({error})")
        except ValueError as error:
            wrong.append(f"{path.name}: {error}")
    if wrong:
        raise ValueError("; ".join(wrong) + ": see docs/extending.md")
    return [entry for _, entry in found.values()]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number there, write null")


def _check(entry: Any) -> None:
    wrong = best_match(SCHEMA.iter_errors(entry))
    if wrong:
        told = wrong.message.replace(repr(wrong.instance), reprlib.repr(wrong.instance))
        raise ValueError(f"{wrong.json_path[2:]} {told}".strip())
    kinds = [tuple(row[field] for field in ROW) for row in entry["results"]]
    if twice := next((kind for kind in kinds if kinds.count(kind) > 1), None):
        raise ValueError(f"results must hold one row a case, got two of {', '.join(twice)}")
    few = list(dict.fromkeys(row["attack"] for row in entry["results"] if row["n"] < MIN_POSITIVES))
    if few:
        raise ValueError(f"n must be at least {MIN_POSITIVES} in each of results, got less for {', '.join(few)}")
    for row in entry["results"]:
        bounds = [row[field] for field in ("low", "tpr", "high") if row[field] is not None]
        if bounds != sorted(bounds):
            raise ValueError(f"low ≤ tpr ≤ high must hold, got {bounds} for {row['attack']}")
    attacks = {row["attack"] for row in entry["results"]}
    if entry["best_attack_so_far"] not in {*attacks, ""}:
        raise ValueError(f"best_attack_so_far must be one of results, got {entry['best_attack_so_far']!r}")
    known = next((name for name in CLASS_NAMES if name == entry["dataset"].lower()), entry["dataset"])
    if known != entry["dataset"]:
        raise ValueError(f"dataset must be written as {known!r}, got {entry['dataset']!r}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def page(found: Iterable[Mapping[str, Any]]) -> str:
    """The page: sortable and filterable in the browser, worst case first, without a server or network."""
    found = list(found)
    attacks = {row["attack"] for entry in found for row in entry["results"]}
    names = {*attacks, *(attack.split(",")[0] for attack in attacks), *(entry["dataset"] for entry in found)}
    data = {
        "fields": list(RESULT),
        "entries": [
            {**entry, "results": [[row.get(field) for field in RESULT] for row in entry["results"]]} for entry in found
        ],
        "titles": LEGEND_TITLES | {name: title_of(name) for name in sorted(names)},
        **{"colours": FAMILY_COLOURS, "meaningful": MARGINS[BAR]},
    }
    # "<" can't end the script that the data stands in.
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    about = {"version": advlens.__version__, "shades": _shades(), "least": MIN_POSITIVES}
    return rendered("leaderboard.html", data=text, **about)


def _shades() -> list[tuple[str, str]]:
    """21 colours from 0 to 1 that the colour-blind tell apart, each with black or white, whichever contrasts more."""
    shades = mpl.colormaps["cividis"](np.linspace(0, 1, 21))[:, :3]
    equal = np.sqrt(1.05 * 0.05) - 0.05  # the luminance that contrasts with both alike, by WCAG 2's formula
    texts = np.where(rgb2xyz(shades)[:, 1] > equal, "#000", "#fff")
    return [(to_hex(shade), str(text)) for shade, text in zip(shades, texts, strict=True)]


def write_page() -> Path:
    """Makes docs/leaderboard/index.html from docs/leaderboard/entries, and says where."""
    folder = project_root() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(page(read_entries(folder / "entries")))
    return path
