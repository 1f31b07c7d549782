"""The artifact store: what a run computes once, kept atomically, checksummed, keyed by what made it.

An artifact is a folder `<name>-<key>` of plain files (.npz, .keras, .csv, .json) beside an `artifact.json` that says
how it came about. It knows no stage: whatever is an array, a Keras model, a DataFrame or JSON can be kept, and
any class that says how it splits into such parts.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import keras
import numpy as np
import pandas as pd

T = TypeVar("T")
PACKAGE = __name__.partition(".")[0]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
LIBRARIES = (
    *("tensorflow", "keras", "tf-keras", "adversarial-robustness-toolbox", "innvestigate"),
    *("numpy", "scipy", "scikit-learn", "scikit-image", "pillow", "matplotlib"),
)
LIBRARY_PACKAGES = ("art", "keras", "tensorflow", "numpy", "scipy", "sklearn", "skimage")


class Storable(Protocol):
    """What a class offers so that the store can keep it: `from_parts(to_parts())` is an equal object."""

    def to_parts(self) -> dict[str, Any]:
        """Named parts, each an array mapping, a Keras model, a DataFrame or a JSON value."""

    @classmethod
    def from_parts(cls, parts: Mapping[str, Any]) -> "Storable":
        """The object that those parts came from."""


class Store:
    """A folder of artifacts.

    Args:
        folder: where the artifacts lie; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._remove_leftovers()

    def keep(self, name: str, make: Callable[..., T], /, **parameters: Any) -> T:
        """`make(**parameters)`, computed once: later calls read what the first one stored.

        The key covers the parameters by content, the code of `make` and of every module of this package that it
        imports (comments and docstrings aside), and the versions of the libraries. What is returned has always
        been read back from disk, so a fresh result and a stored one are the same.

        Args:
            name: a readable name of the artifact, the first half of its folder's name.
            make: a function or class of this package, named at the top level of its module.
            parameters: keyword arguments: scalars, strings, arrays, mappings, dataclasses, Keras models, classes and
                functions (of this package by their code, of a library by name).
        Raises:
            TypeError: for a `make` whose code the key would not see, or where a parameter or the result is of a kind
                that cannot be keyed, or stored without a change.
            ValueError: for a name that is no plain file name.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"an artifact's name must be letters, digits, '.', '_' and '-', got {name!r}")
        _check_maker(make)
        key = self._key(make, parameters)
        folder = self.folder / f"{name}-{key[:12]}"
        if folder.exists():
            try:
                return _read(folder)
            except DamagedArtifactError as damage:
                warnings.warn(f"{damage}: computing it again", stacklevel=2)
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        started = time.perf_counter()
        result = make(**parameters)
        record = {
            "name": name,
            "key": key,
            "made_by": f"{make.__module__}.{make.__qualname__}",
            "parameters": {label: _readable(value) for label, value in parameters.items()},
            "libraries": _library_versions(),
            "seconds": round(time.perf_counter() - started, 2),
        }
        self._place(folder, result, record)
        return _read(folder)

    def seconds(self, name: str, make: Callable[..., Any], /, **parameters: Any) -> float:
        """How long `keep` of the same took when it was computed, in seconds.

        Raises:
            KeyError: where it is not stored.
        """
        record = self.folder / f"{name}-{self._key(make, parameters)[:12]}" / "artifact.json"
        if not record.exists():
            raise KeyError(f"{name} is not stored with these parameters: compute it first")
        return float(json.loads(record.read_text())["seconds"])

    def _key(self, make: Callable, parameters: Mapping[str, Any]) -> str:
        identity = [
            f"{make.__module__}.{make.__qualname__}",
            code_digest(make.__module__),
            _library_versions(),
        ]
        return digest([*identity, parameters])

    def _place(self, folder: Path, result: Any, record: dict) -> None:
        partial = self.folder / f".partial-{os.getpid()}-{folder.name}"
        partial.mkdir(parents=True)
        try:
            record["kind"] = _write_parts(partial, result)
            record["sha256"] = {path.name: _file_digest(path) for path in sorted(partial.iterdir())}
            _write_synced(partial / "artifact.json", json.dumps(record, indent=1).encode())
            for path in partial.iterdir():
                _sync(path)
            if folder.exists():  # another process was faster with the same artifact
                shutil.rmtree(partial)
            else:
                partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _remove_leftovers(self) -> None:
        """Removes what killed processes left half-written; live processes' folders stay."""
        for partial in self.folder.glob(".partial-*"):
            if not _is_alive(int(partial.name.split("-")[1])):
                shutil.rmtree(partial, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # there is one, of another user
        pass
    return True


class DamagedArtifactError(Exception):
    """A stored file is missing or its bytes are not those that were written."""


# ---------------------------------------------------------------- keys


def _check_maker(make: Callable) -> None:
    """The key holds the code of this package's modules: other code could change without a new key."""
    module, name = getattr(make, "__module__", None), getattr(make, "__qualname__", "")
    if module is None or module.partition(".")[0] != PACKAGE or "<" in name or not _source_file(module):
        raise TypeError(
            f"the store keeps what a function or class of the package {PACKAGE} makes, named at the top level of its "
            f"module, got {make!r}: move it there"
        )


@functools.cache
def code_digest(module: str) -> str:
    """SHA-256 of the code of a module and of every module of this package that it imports, directly or not.

    Comments, formatting and docstrings don't count: only a change of what the code does makes a new key.
    """
    trees = {name: ast.dump(_without_docstrings(_parsed(name))) for name in sorted(_closure(module))}
    return hashlib.sha256(json.dumps(trees, sort_keys=True).encode()).hexdigest()


def _closure(module: str) -> set[str]:
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(name)
    return found - {__name__, PACKAGE}


def _imports(module: str) -> Iterator[str]:
    yield from imported_modules(_parsed(module))


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """The modules of this package that a piece of code imports, also by `from package import module`.

    A name that a package's `__init__` only passes on counts as imported from where it is defined: what else that
    package offers is no part of what the code does.
    """
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [_defining_module(node.module, alias.name) for alias in node.names]
        for name in names:
            if name.partition(".")[0] == PACKAGE and _source_file(name):
                yield name


def _defining_module(module: str, name: str) -> str:
    """The module that `from module import name` takes the name from."""
    if module.partition(".")[0] != PACKAGE:
        return module
    if _source_file(f"{module}.{name}"):
        return f"{module}.{name}"
    for node in _parsed(module).body if (_source_file(module) or "").endswith("__init__.py") else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _defining_module(node.module, alias.name)
    return module


@functools.cache
def _parsed(module: str) -> ast.Module:
    path = _source_file(module)
    return ast.parse(Path(path).read_text() if path else "")


@functools.cache
def _source_file(module: str) -> str | None:
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        return None
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else None


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            node.body = body[1:] or [ast.Pass()]
    return tree


@functools.cache
def _library_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def digest(value: Any) -> str:
    """SHA-256 of a value's content: equal content gives equal digests, in every process.

    Raises:
        TypeError: for a value that has no content to go by, such as an open file.
    """
    state = hashlib.sha256()
    for chunk in _chunks(value):
        state.update(chunk)
    return state.hexdigest()


def _chunks(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode() + b":"
    if value is None or isinstance(value, bool | int | float | str):
        yield repr(value).encode() + b";"
    elif isinstance(value, np.generic):
        yield repr(value.item()).encode() + b";"
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).data.cast("B") if value.size else b""
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield f"{key!r}=".encode()
            yield from _chunks(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _chunks(item)
        yield b"]"
    elif isinstance(value, keras.Model):
        yield value.to_json().encode()
        yield from _chunks(value.get_weights())
    elif isinstance(value, pd.DataFrame):
        yield value.to_csv().encode()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _chunks({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, type) or inspect.isfunction(value):
        yield from _chunks(_code_identity(value))
    elif hasattr(value, "to_parts"):
        yield from _chunks(value.to_parts())
    else:
        raise TypeError(f"a {type(value).__name__} cannot be part of an artifact's key: pass arrays or plain values")


def _code_identity(value: type | Callable) -> list[str]:
    """What a class or function does: the code of its module here, the name alone of a library's, whose version counts.

    Raises:
        TypeError: for one of a notebook or script, whose code could change without a new key.
    """
    package = value.__module__.partition(".")[0]
    if package not in LIBRARY_PACKAGES:
        _check_maker(value)
    code = code_digest(value.__module__) if package == PACKAGE else ""
    return [value.__module__, value.__qualname__, code]


def _readable(value: Any) -> Any:
    """A short form of a parameter for people who open artifact.json."""
    try:
        text = json.dumps(value)
    except TypeError:
        text = None
    if text is not None and len(text) < 500:
        return value
    return f"{type(value).__name__} {digest(value)[:12]}"


# ---------------------------------------------------------------- files


def _write_parts(folder: Path, result: Any) -> str:
    """Writes each part of the result as one file; returns what `_read` needs to put them together."""
    if not hasattr(result, "to_parts"):
        _write_part(folder, "value", result)
        return "value"
    for name, part in result.to_parts().items():
        _write_part(folder, name, part)
    return f"{type(result).__module__}.{type(result).__qualname__}"


def _write_part(folder: Path, name: str, part: Any) -> None:
    if isinstance(part, keras.Model):
        part.save(folder / f"{name}.keras")
    elif isinstance(part, pd.DataFrame):
        part.to_csv(folder / f"{name}.csv", index=False)
        if not (len(part.columns) and _read_part(folder / f"{name}.csv").equals(part.reset_index(drop=True))):
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
        _write_synced(folder / f"{name}.json", text.encode())


def _read_part(path: Path) -> Any:
    if path.suffix == ".keras":
        return keras.models.load_model(path, compile=False)
    if path.suffix == ".csv":
        return pd.read_csv(
            path, engine="python", keep_default_na=False, na_values=[""]
        )  # the one engine that reads every float exactly
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    return json.loads(path.read_text())


def _read(folder: Path) -> Any:
    try:
        record = json.loads((folder / "artifact.json").read_text())
        damaged = [name for name, sha256 in record["sha256"].items() if _file_digest(folder / name) != sha256]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedArtifactError(f"the artifact {folder.name} is incomplete ({error})") from error
    if damaged:
        raise DamagedArtifactError(f"the artifact {folder.name} has changed on disk ({', '.join(damaged)})")
    try:
        parts = {Path(name).stem: _read_part(folder / name) for name in record["sha256"]}
        if record["kind"] == "value":
            return parts["value"]
        module, _, kind = record["kind"].rpartition(".")
        return getattr(importlib.import_module(module), kind).from_parts(parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise DamagedArtifactError(f"the artifact {folder.name} can't be read ({error})") from error


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_synced(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
