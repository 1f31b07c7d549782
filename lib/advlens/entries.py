"""The leaderboard: one JSON an entry, and from them one static page that opens from disk.

An entry is a detector on a data set, measured by this project's suite or by somebody else's run of it. Entries are the
source; the page is made from them and from nothing else.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import advlens
from advlens.benchmark import query
from advlens.benchmark.judging import BAR
from advlens.benchmark.vocabulary import ABOVE_BASELINE
from advlens.metrics import MIN_POSITIVES
from advlens.paths import project_root

FOLDER = Path("docs") / "leaderboard"
METRIC = BAR
NEEDED = {
    **{"detector": str, "family": str, "dataset": str, "version": str, "measured_by": str, "settings": dict},
    **{"results": list, "alarms": dict, "best_attack_so_far": str, "potentially_unreliable": bool, "footnote": str},
}
RESULT = {
    **{"attack": str, "trained_on": str, "knowledge": str, "condition": str, "stratum": str},
    **{"tpr": float, "low": float, "high": float, "roc_auc": float, "above_baseline": float, "n": int},
}


def entries(
    table: pd.DataFrame,
    alarms: pd.DataFrame,
    *,
    dataset: str,
    settings: Mapping[str, Any],
    measured_by: str = "Advlens",
) -> list[dict[str, Any]]:
    """One entry a detector of a suite's tables.

    Args:
        table, alarms: of `suite.Suite`; dataset: their data set's name; settings: sizes and seeds of the run.
    """
    matched = query(table, negatives="matched", stratum="success")
    keys = ["detector", "family", "attack", "trained_on", "knowledge", "condition", "stratum", "n_positive"]
    wide = matched.pivot(index=keys, columns="metric", values="estimate").reset_index()
    bounds = query(matched, metric=METRIC).set_index(keys)[["low", "high"]]
    wide = wide.join(bounds, on=keys).rename(columns={METRIC: "tpr", "n_positive": "n"})
    wide = wide.rename(columns={ABOVE_BASELINE: "above_baseline"})
    wide = wide[wide["n"] >= MIN_POSITIVES]
    flagged = alarms.pivot(index="detector", columns="kind", values="estimate")
    made = []
    for (detector, family), own in wide.groupby(["detector", "family"], sort=False):
        rows = [{name: kind(row[name]) for name, kind in RESULT.items()} for row in own.to_dict("records")]
        known = own.dropna(subset="tpr").sort_values("tpr")
        worst = known["attack"].iloc[0] if len(known) else ""
        alarmed = flagged[flagged.index == detector].to_dict("records")
        made.append(
            {
                **{"detector": str(detector), "family": str(family), "dataset": dataset},
                **{"version": advlens.__version__, "measured_by": measured_by, "settings": dict(settings)},
                "results": rows,
                "alarms": {str(kind): float(share) for kind, share in (alarmed or [{}])[0].items()},
                **{"best_attack_so_far": str(worst), "potentially_unreliable": True},
                "footnote": "oblivious attackers only: nobody who knows the detector has attacked it yet",
            }
        )
    return [_rounded(entry) for entry in made]


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


def write_entry(entry: Mapping[str, Any], path: Path) -> Path:
    """Writes an entry as JSON, and says where."""
    path.write_text(json.dumps(entry, indent=1, ensure_ascii=False) + "\n")
    return path


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """All entries of a folder, checked.

    Raises:
        ValueError: for a file that is no entry, naming what is wrong with it.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            entry = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path.name} is no JSON ({error}): see docs/extending.md") from error
        _check(entry, path.name)
        found.append(entry)
    return found


def _check(entry: Any, name: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f"{name} must hold one entry, an object, got {type(entry).__name__}")
    for field, kind in NEEDED.items():
        if not isinstance(entry.get(field), kind):
            raise ValueError(f"{name}: {field} must be a {kind.__name__}, got {entry.get(field)!r}")
    for row in entry["results"]:
        missing = sorted(set(RESULT) - set(row)) if isinstance(row, dict) else sorted(RESULT)
        if missing:
            raise ValueError(f"{name}: each of results needs {', '.join(missing)}")
        for field in ("tpr", "low", "high", "roc_auc"):
            value = row[field]
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= 1):
                raise ValueError(f"{name}: {field} must lie in [0, 1] or be null, got {value!r}")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def page(found: Iterable[Mapping[str, Any]]) -> str:
    """The page: sortable and filterable in the browser, worst case first, without a server or network."""
    folder = Path(__file__).parent / "templates"
    loader = jinja2.Environment(loader=jinja2.FileSystemLoader(folder), autoescape=True, keep_trailing_newline=True)
    # "<" can't end the script that the data stands in.
    data = json.dumps(list(found), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return loader.get_template("leaderboard.html").render(data=data, version=advlens.__version__)


def write_page() -> Path:
    """Makes docs/leaderboard/index.html from docs/leaderboard/entries, and says where."""
    folder = project_root() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(page(read_entries(folder / "entries")))
    return path
