"""The README's table of verdicts: words from templates/verdicts.md, numbers from the published tables in figures/."""

import re
from collections.abc import Callable, Iterable
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pandas as pd

from advlens.datasets import CLASS_NAMES
from advlens.paths import project_root

README = Path("README.md")
START, END = "<!-- made by `advlens results` -->", "<!-- end -->"
KNOWN = {
    **{"known_images": "input classifier", "known_maps": "relevancy classifier", "known_six": "all six"},
    **{"known_entropy": "local entropy", "known_neighbours": "Deep kNN"},
}
"""Name in the table → the detector that an attacker knows."""
PEAK = ["entropy: peaks within a step of the decision"]
NUMBER = re.compile(r"[-+]?\d+\.\d+")


def readme() -> str:
    """The README's text with the table made anew.

    Raises:
        ValueError: where it has no table to replace.
    """
    text = (project_root() / README).read_text()
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"{README} must hold {START} and {END} around its table of verdicts: put them back")
    words = (Path(__file__).parent / "templates" / "verdicts.md").read_text()
    return f"{before}{START}\n\n{words.format(**verdict_numbers())}\n{END}{after}"


def verdict_numbers() -> dict[str, str]:
    """Name → what the table says, "digits / Fashion-MNIST" where both are run."""
    accuracies, relevancy = _read("04-published", "published / remade"), _read("headline", "detector")
    closeness, responses = _read("headline-closeness", "attack"), _read("headline-responses", "attack")
    neighbours, maps = _read("headline-deep-knn", "attack (successes)"), _read("headline-type-one", "map")
    knowing = _read("headline-adaptive", "detector")
    walks = _read("05-crossings", "statement")
    said = [table["TPR above it"] for table in relevancy]
    beyond = [_column(table, "TPR above it, margin") for table in relevancy]
    trivial = [table["TPR above it"] for table in closeness]
    judged = [table["in words"] for table in neighbours]
    return {
        "images": _each(accuracies, lambda table: _spread(_remade(table.T["input"]), 0, times=100)),
        "maps": _each(accuracies, lambda table: _spread(_remade(table.T["relevancy"]), 0, times=100)),
        "auc_images": _each(relevancy, lambda table: _spread(table.loc[["input"], "ROC-AUC"])),
        "auc_maps": _each(relevancy, lambda table: _spread(table.drop("input")["ROC-AUC"])),
        "softmax_ahead": _count(said, "lower"),
        "softmax_behind": _count(said, "higher", of=False),
        "margin_ahead": _count(beyond, "lower"),
        "margin_behind": _count(beyond, "higher", of=False),
        "peaks": _each(walks, lambda table: _spread(_column(table, "BIM").loc[PEAK], 0, times=100)),
        "six_published": _each(closeness, lambda table: _highest(table["as published"])),
        "six": _each(closeness, lambda table: _highest(table["corrected"])),
        "trivial_ahead": _count(trivial, "lower"),
        "entropy_published": _each(
            _read("08-table-2", "method"), lambda table: _spread(table.loc[["local entropy, remade"], "ROC-AUC"])
        ),
        "entropy": _each(responses, lambda table: _spread(table["ROC-AUC, chosen setting"])),
        "noisy": _each(responses, lambda table: _spread(_remade(table["all clean / noisy flagged"]), 0, times=100)),
        "neighbours": _each(neighbours, lambda table: _spread(table["AUC"])),
        "neighbours_behind": _count(judged, "lower"),
        "neighbours_ahead": _count(judged, "higher", of=False),
        **{name: _each(knowing, lambda table, row=row: _flagged(table, row)) for name, row in KNOWN.items()},
        "cam": _each(maps, lambda table: _spread([_column(table, "transition").loc["CAM"]], 0, times=100)),
        "cam_same": _each(maps, lambda table: _spread([_column(table, "same").loc["CAM"]], 0, times=100)),
    }


def _read(table: str, index: str) -> list[pd.DataFrame]:
    """A published table of each data set that has it, digits first, as text."""
    paths = [project_root() / "figures" / folder / f"{table}.csv" for folder in CLASS_NAMES]
    return [pd.read_csv(path, dtype=str, keep_default_na=False).set_index(index) for path in paths if path.exists()]


def _each(tables: Iterable[pd.DataFrame], told: Callable[[pd.DataFrame], str]) -> str:
    return " / ".join(told(table) for table in tables)


def _remade(cells: Iterable[str]) -> list[str]:
    """What stands after the slash."""
    return [cell.partition(" / ")[2] for cell in cells]


def _values(cells: Iterable[str], times: int = 1) -> list[Decimal]:
    """The first number of each cell that has one."""
    return [times * Decimal(found.group()) for cell in cells if (found := NUMBER.search(cell))]


def _rounded(value: Decimal, places: int = 2) -> str:
    return str(value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


def _spread(cells: Iterable[str], places: int = 2, times: int = 1) -> str:
    """The lowest and the highest, or one where they are the same."""
    values = _values(cells, times)
    ends = dict.fromkeys(_rounded(each, places) for each in (min(values), max(values)))
    return " to ".join(ends)


def _highest(cells: Iterable[str]) -> str:
    return _rounded(max(_values(cells)), 3)


def _flagged(table: pd.DataFrame, detector: str) -> str:
    """In %, of the successful attacks that know a detector; – where none was run."""
    cells = table["flagged, adaptive"].reindex([detector]).fillna("")
    return _spread(cells, 0, times=100) if _values(cells) else "–"


def _count(columns: Iterable[Iterable[str]], word: str, *, of: bool = True) -> str:
    """How many cells of all data sets end in a word, of how many that have a verdict."""
    cells = [cell for column in columns for cell in column if cell.split(": ")[-1] != "–"]
    n = sum(cell.split(": ")[-1] == word for cell in cells)
    return f"{n} of {len(cells)}" if of else str(n)


def _column(table: pd.DataFrame, start: str) -> pd.Series:
    """The column whose name, which says its n as well, starts so."""
    (name,) = (name for name in table.columns if name.startswith(start))
    return table[name]
