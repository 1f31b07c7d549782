"""Where the project's files lie on this machine; nothing here creates or reads one."""

import os
import re
from pathlib import Path
from typing import Any

LONGEST_NAME = 100
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
"""A plain name, which is a file's on every system."""

REMEDIES = {
    13: "make it writable",
    27: "the file system allows no file that large",
    28: "the disk is full (a run of one data set takes about 3 GB): free some space",
    30: "it is read-only",
}
"""What helps against an error of the file system, by its number."""


def project_root() -> Path:
    """The folder of the project that this package is installed from.

    Raises:
        RuntimeError: where the package was copied out of the project (a plain, not an editable, install).
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        raise RuntimeError(
            f"advlens is not installed from its project, as {root} holds no pyproject.toml: "
            "install it with `pip install --no-deps -e .`, or name a data folder in ADVLENS_DATA"
        )
    return root


def explained(error: OSError, path: Path | str | None = None) -> OSError:
    """The same error with what helps against it, where that is known; what names a remedy already stays as it is.

    >>> print(explained(OSError(28, "No space left on device"), "data/runs").strerror)  # doctest: +ELLIPSIS
    data/runs: the disk is full (...): free some space, or name another data folder in ADVLENS_DATA
    """
    remedy, where = REMEDIES.get(error.errno or 0), path or error.filename or "the data folder"
    if remedy is None or "ADVLENS_DATA" in (error.strerror or ""):
        return error
    return OSError(error.errno, f"{where}: {remedy}, or name another data folder in ADVLENS_DATA")


def check_new(folder: Path | str, *, how: str = "") -> Path:
    """The path of a folder that is to be made; `how` says how to name another.

    Raises:
        FileExistsError: where there is something already.
    """
    if Path(folder).exists():
        raise FileExistsError(f"{folder} exists already: name a new folder{how}, or remove it")
    return Path(folder)


def data_dir() -> Path:
    """The folder of all data, raw and made: the variable ADVLENS_DATA, else `data` in the project."""
    chosen = os.environ.get("ADVLENS_DATA")
    return Path(chosen).expanduser().resolve() if chosen else project_root() / "data"


def checked_name(text: Any, *, name: str) -> str:
    """Validate a plain name, and return it.

    Raises:
        ValueError: for anything that `NAME` does not match, naming it under `name`.

    >>> checked_name("../up", name="RUN")
    Traceback (most recent call last):
    ValueError: RUN must be a plain name of letters, digits, '.', '_' and '-', got '../up'
    """
    if not isinstance(text, str) or not NAME.fullmatch(text):
        raise ValueError(f"{name} must be a plain name of letters, digits, '.', '_' and '-', got {text!r}")
    return text


def plain_name(text: str) -> str:
    """A text as a plain name: "_" in the place of all that it may not hold, cut where it is too long.

    >>> plain_name("all lenses, L∞ 8/255")
    'all_lenses_L_8_255'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)[:LONGEST_NAME]


def run_folder(run: str, dataset: str) -> Path:
    """The folder of all that a run makes of a data set; a sweep's cell is a run of the name `sweep/cell`.

    Raises:
        ValueError: for a run that is no plain name, nor two of them.
    """
    parts = [checked_name(part, name="RUN") for part in run.split("/", 1)]
    return data_dir().joinpath("runs", *parts, dataset)


def store_folder(run: str, dataset: str) -> Path:
    """The folder of a run's artifacts; the cells of a sweep share theirs.

    >>> store_folder("eps/cell", "mnist") == store_folder("eps", "mnist") == run_folder("eps", "mnist") / "artifacts"
    True
    """
    return run_folder(run.partition("/")[0], dataset) / "artifacts"
