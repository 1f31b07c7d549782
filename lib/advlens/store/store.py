"""The store itself: one computation per key, across threads, processes and hosts that share the folder."""

import itertools
import json
import os
import platform
import shutil
import time
import uuid
import warnings
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from advlens.paths import checked_name, explained
from advlens.store.files import RECORD, DamagedArtifactError, read, read_record, write
from advlens.store.keys import digest, key_of
from advlens.store.makers import files_of, fingerprint, name_of, read_lock, version_of

T = TypeVar("T")
READS = "ADVLENS_READS"  # the environment's name of a file that is told which makers' artifacts were asked for
RECORDED = ("tensorflow", "keras", "adversarial-robustness-toolbox", "innvestigate", "numpy", "pandas", "scipy")
RECORDED += ("scikit-learn", "scikit-image", "faiss-cpu", "pillow")
LOCKS, PARTIAL = ".locks", ".partial-"
_LOADED = time.time()  # code that was saved later may not be what runs


class Store:
    """A folder of artifacts, made when first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def keep(self, name: str, make: Callable[..., T], /, **parameters: Any) -> T:
        """`make(**parameters)`, computed once: later calls read what the first one stored.

        The key is the maker's name and version, the versions of the classes passed in and of the libraries that it
        declares, and the parameters by content. Whoever asks for the same meanwhile waits. What is returned has always
        been read back from disk.

        Args:
            name: a readable name of the artifact, the first half of its folder's name.
            make: a function or class of this package, declared by `@artifact(version=…)`.
            parameters: keyword arguments: scalars, strings, arrays, mappings, dataclasses, Keras models, tables, and
                classes and functions that have a version.
        Raises:
            TypeError: for a `make` that is not declared, or where a parameter or the result is of a kind that cannot
                be keyed, or stored without a change.
            ValueError: for a name that is no plain file name.
        """
        checked_name(name, name="an artifact's name")
        digests = {label: digest(value) for label, value in parameters.items()}
        key = key_of(make, digests)
        folder = self._folder(name, key)
        _tell(make)
        if (found := _try_to_read(folder, key)) is None:
            locks = self.folder / LOCKS
            try:
                locks.mkdir(parents=True, exist_ok=True)
                with FileLock(locks / f"{folder.name}.lock"):  # the system lets go of it however the process ends
                    if (found := _try_to_read(folder, key)) is None:
                        self._make(folder, _record(key, name, make, parameters, digests), make, parameters)
                        found = (read(folder, key),)
            except OSError as error:
                raise explained(error, self.folder) from error
        return found[0]

    def _folder(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key[:12]}"

    def _make(self, folder: Path, record: dict[str, Any], make: Callable, parameters: dict[str, Any]) -> None:
        for leftover in self.folder.glob(f"{PARTIAL}{folder.name}-*"):  # of a killed process: we hold the key's lock
            shutil.rmtree(leftover, ignore_errors=True)
        partial = self.folder / f"{PARTIAL}{folder.name}-{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            started = time.perf_counter()
            result = make(**parameters)
            write(partial, result, record | {"seconds": round(time.perf_counter() - started, 2)})
            _remove(folder)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _try_to_read(folder: Path, key: str) -> tuple[Any] | None:
    """The stored result in a tuple; None where there is none, and a warning where it is damaged."""
    if not os.path.lexists(folder):
        return None
    try:
        return (read(folder, key),)
    except DamagedArtifactError as damage:
        if os.path.lexists(folder):  # and was not replaced meanwhile
            warnings.warn(f"{damage}: computing it again", stacklevel=3)
        return None


def _remove(folder: Path) -> None:
    """Removes what lies in an artifact's place: a folder, a file, or a link (and never what it leads to)."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _tell(make: Callable) -> None:
    if path := os.environ.get(READS):
        with Path(path).open("a") as file:
            file.write(f"{name_of(make)} {version_of(make)}\n")


def _record(key: str, name: str, make: Callable, parameters: dict[str, Any], digests: dict[str, str]) -> dict[str, Any]:
    """What is known of how an artifact came about; nothing of it but the key decides whether it is found."""
    installed = _installed()
    return {
        **{"name": name, "key": key, "made_by": name_of(make), "version": version_of(make)},
        "parameters": {label: _readable(value, digests[label]) for label, value in parameters.items()},
        "digests": digests,
        **{"code": _code_of(make), "python": platform.python_version(), "device": platform.machine()},
        "libraries": {library: installed[library] for library in RECORDED if library in installed},
    }


@cache
def _code_of(make: Callable) -> str:
    """Once a maker: all the code that it uses is read, which is what runs unless its file is another by now."""
    try:
        code, edited = fingerprint(make), max(path.stat().st_mtime for path in files_of(make)) > _LOADED
    except (OSError, SyntaxError):
        edited = True
    return "unknown: a file was edited while it was in use" if edited else code


@lru_cache(maxsize=1)
def _installed() -> dict[str, str]:
    """Distribution → version, read once: there are hundreds."""
    return {each.metadata["Name"].lower(): each.version for each in metadata.distributions()}


def _readable(value: Any, digest_of_it: str) -> Any:
    """A short form of a parameter for people who open artifact.json."""
    try:
        text = json.dumps(value)
    except TypeError:
        text = None
    return value if text is not None and len(text) < 500 else f"{type(value).__name__} {digest_of_it[:12]}"


# ---------------------------------------------------------------- for people: ls, why, gc


def list_artifacts(folder: Path) -> list[dict[str, Any]]:
    """The records of a folder's artifacts by name, with their size in bytes; damaged ones with an "error"."""
    rows = []
    for path in sorted(Path(folder).glob("[!.]*")):
        size = sum(each.stat().st_size for each in path.glob("*")) if path.is_dir() else 0
        try:
            rows.append(read_record(path) | {"folder": path.name, "bytes": size})
        except DamagedArtifactError as error:
            rows.append({"folder": path.name, "bytes": size, "error": str(error)})
    return rows


def explain_artifacts(folder: Path, name: str) -> list[str]:
    """Why there are several artifacts of a name: what each one's key has that the one before has not, a line each."""
    found = [(path.stat().st_mtime, path) for path in Path(folder).glob(f"{name}-*") if (path / RECORD).exists()]
    records = [read_record(path) for _, path in sorted(found)]
    lines = [f"{name}-{record['key'][:12]}: {record['made_by']}, version {record['version']}" for record in records[:1]]
    for before, after in itertools.pairwise(records):
        parts = {"version": (before["version"], after["version"])} if before["version"] != after["version"] else {}
        for label in sorted({*before["digests"], *after["digests"]}):
            if before["digests"].get(label) != after["digests"].get(label):
                parts[label] = (before["parameters"].get(label), after["parameters"].get(label))
        told = "; ".join(f"{label}: {old} → {new}" for label, (old, new) in parts.items()) or "declared libraries"
        lines.append(f"{name}-{after['key'][:12]}: {told}")
    return lines


def collect_garbage(folder: Path, *, dry: bool = False) -> list[str]:
    """Removes what nothing can find again: artifacts of makers or versions that are no more, damaged ones, leftovers.

    Returns:
        The names of the folders that were removed, or with `dry` would be.
    """
    folder, lock, removed = Path(folder), read_lock(), []
    for row in list_artifacts(folder):
        known = lock.get(row.get("made_by", ""))
        if "error" in row or known is None or known["version"] != row["version"]:
            removed.append(row["folder"])
    removed += [path.name for path in folder.glob(f"{PARTIAL}*")]
    for name in removed if not dry else []:
        _remove(folder / name)
    return removed
