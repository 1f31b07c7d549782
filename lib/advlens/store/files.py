"""An artifact's plain files (.npz, .keras, .csv, .json) in its folder: written, checksummed, read. No pickles."""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import pandas as pd

from advlens.store.keys import digest
from advlens.store.makers import name_of

RECORD = "artifact.json"
WIDE = 40  # columns of one type from which a table is kept as an array: pictures have thousands
TABLE, COLUMNS = "table of one type", "its columns"
VALUE = "value"  # the kind, and the file's name, of a result that is no object of parts
_KINDS: dict[str, type] = {}
Kind = TypeVar("Kind", bound=type)


def storable(kind: Kind) -> Kind:
    """Registers a class of results: only registered ones are put together again from files.

    Its `to_parts()` gives named parts, each an array mapping, a Keras model, a DataFrame or a JSON value; its
    `from_parts(parts)` makes an equal object of them.
    """
    _KINDS[name_of(kind)] = kind
    return kind


class DamagedArtifactError(Exception):
    """A stored file is missing, or is not what was written for this key."""


def write(folder: Path, result: Any, record: dict[str, Any]) -> None:
    """Writes a result's parts, and at last the record, with their checksums and the result's kind."""
    kind, parts = VALUE, {VALUE: result}
    if hasattr(result, "to_parts"):
        kind, parts = name_of(type(result)), result.to_parts()
        if kind not in _KINDS:
            raise TypeError(f"a {type(result).__name__} can't be stored: put @storable on its class")
    for name, part in parts.items():
        write_part(folder, name, part)
    sums = checksums(folder)
    (folder / RECORD).write_text(json.dumps(record | {"kind": kind, "sha256": sums}, indent=1))
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def read(folder: Path, key: str) -> Any:
    """The result that lies in a folder.

    Raises:
        DamagedArtifactError: where anything is missing, changed, of another key or of an unknown kind.
    """
    record = read_record(folder)
    if record.get("key") != key:
        raise DamagedArtifactError(f"the artifact {folder.name} is of another key")
    kind = record.get("kind")
    if kind != VALUE and kind not in _KINDS:
        raise DamagedArtifactError(f"the artifact {folder.name} is of an unknown kind ({kind})")
    try:
        if damaged := changed(folder, record["sha256"]):
            raise DamagedArtifactError(f"the artifact {folder.name} has changed on disk ({', '.join(damaged)})")
        parts = {Path(name).stem: read_part(folder / name) for name in record["sha256"]}
        return parts[VALUE] if kind == VALUE else _KINDS[kind].from_parts(parts)  # type: ignore[attr-defined]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise DamagedArtifactError(f"the artifact {folder.name} can't be read ({error})") from error


def read_record(folder: Path) -> dict[str, Any]:
    """An artifact's `artifact.json`.

    Raises:
        DamagedArtifactError: where there is none, or it is no record.
    """
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError) as error:
        raise DamagedArtifactError(f"the artifact {folder.name} is incomplete ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), dict):
        raise DamagedArtifactError(f"the artifact {folder.name} is incomplete (its {RECORD} is no record)")
    return record


def write_part(folder: Path, name: str, part: Any) -> None:
    """Writes one part as one file, whose suffix says its kind.

    Raises:
        TypeError: for what would come back changed.
    """
    if isinstance(part, keras.Model):
        part.save(folder / f"{name}.keras")
    elif isinstance(part, pd.DataFrame) and len(part.columns) >= WIDE and len(set(part.dtypes)) == 1:
        np.savez(folder / f"{name}.npz", **{TABLE: part.to_numpy(), COLUMNS: np.array(list(part.columns), str)})
    elif isinstance(part, pd.DataFrame):
        path = folder / f"{name}.csv"
        part.to_csv(path, index=False)
        if not (len(part.columns) and read_part(path).equals(part.reset_index(drop=True))):
            raise TypeError(f"the table {name!r} can't be stored: as a .csv its values or their types would change")
    elif isinstance(part, Mapping) and part and all(isinstance(value, np.ndarray) for value in part.values()):
        if any(array.dtype.hasobject for array in part.values()):
            raise TypeError(f"arrays of objects can't be stored, got {', '.join(part)}: use numbers or strings")
        np.savez(folder / f"{name}.npz", **part)
    elif isinstance(part, np.ndarray):
        raise TypeError("an array can't be stored without a name: return a mapping of arrays, or an object of parts")
    else:
        text = json.dumps(part, indent=1)
        if digest(json.loads(text)) != digest(part):
            raise TypeError("a tuple, or a mapping with keys that are no strings, can't be stored: it would change")
        (folder / f"{name}.json").write_text(text)


def read_part(path: Path) -> Any:
    """What `write_part` wrote."""
    if path.suffix == ".keras":
        return keras.models.load_model(path, compile=False, safe_mode=True)
    if path.suffix == ".csv":  # the Python engine is the one that reads every float exactly
        return pd.read_csv(path, engine="python", keep_default_na=False, na_values=[""])
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return pd.DataFrame(found[TABLE], columns=found[COLUMNS].tolist()) if set(found) == {TABLE, COLUMNS} else found
    return json.loads(path.read_text())


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of all files below a folder, by their paths in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): _file_digest(path) for path in found}


def changed(folder: Path, sums: Mapping[str, str]) -> list[str]:
    """The files below a folder that are missing, or are no longer what they were when `checksums` was asked."""
    known = {name: folder / name for name in sums}
    return [name for name, path in known.items() if not path.is_file() or _file_digest(path) != sums[name]]


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
