"""Keys: the content of parameters, as a digest that is the same in every process."""

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import keras
import numpy as np
import pandas as pd

from advlens.store.makers import LIBRARIES, is_ours, name_of, version_of


def key_of(make: Callable, digests: Mapping[str, str]) -> str:
    """SHA-256 of the maker's name and version, the libraries that it declares, and its parameters' digests by name.

    Raises:
        TypeError: for a function that is no declared maker.
    """
    if not (inspect.isfunction(make) or inspect.isclass(make)) or version_of(make) is None or not is_ours(make):
        raise TypeError(
            f"the store keeps what a declared maker of this package makes, got {make!r}: put @artifact(version=1) on it"
        )
    libraries = {name: importlib.metadata.version(name) for name in vars(make).get(LIBRARIES, ())}
    return digest([name_of(make), version_of(make), libraries, dict(sorted(digests.items()))])


def digest(value: Any) -> str:
    """SHA-256 of a value's content: equal content gives equal digests, in every process; mappings keep their order.

    Raises:
        TypeError: for a value that has no content to go by, such as an open file.
    """
    state = hashlib.sha256()
    for chunk in _chunks(value):
        state.update(chunk)
    return state.hexdigest()


def _chunks(value: Any) -> Iterator[bytes | memoryview]:
    yield type(value).__name__.encode() + b":"
    if value is None or isinstance(value, bool | int | float | str):
        yield repr(value).encode() + b";"
    elif isinstance(value, np.generic):
        yield repr(value.item()).encode() + b";"
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype.str}{value.shape}".encode()
        yield np.ascontiguousarray(value).data.cast("B") if value.size else b""
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{key!r}=".encode()
            yield from _chunks(item)
        yield b"}"
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _chunks(item)
        yield b"]"
    elif isinstance(value, keras.Model):
        yield value.to_json().encode()
        yield from _chunks(value.get_weights())
    elif isinstance(value, pd.DataFrame):
        yield json.dumps([[str(name), str(kind)] for name, kind in value.dtypes.items()]).encode()
        yield from _chunks(list(value.index))
        if len(set(value.dtypes)) == 1 and not value.dtypes.iloc[0].hasobject:
            yield from _chunks(value.to_numpy())
        else:
            yield value.to_csv(index=False).encode()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from _chunks({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif isinstance(value, type) or inspect.isfunction(value):
        yield from _chunks(_code(value))
    elif hasattr(value, "to_parts"):
        yield from _chunks(_code(type(value)) if version_of(type(value)) else [])
        yield from _chunks(value.to_parts())
    else:
        raise TypeError(f"a {type(value).__name__} cannot be part of an artifact's key: pass arrays or plain values")


def _code(value: type | Callable) -> list[str | int]:
    """Name and declared version of this package's code, name and version of a library's."""
    package = value.__module__.partition(".")[0]
    if is_ours(value):
        if (version := version_of(value)) is None:
            raise TypeError(f"{name_of(value)} has no version to be keyed by: put @versioned(1) on it")
        return [name_of(value), version]
    distributions = _distributions().get(package)
    if not distributions or "<" in value.__qualname__:
        raise TypeError(f"{name_of(value)} cannot be part of a key, its code may change: move it into the package")
    return [name_of(value), importlib.metadata.version(distributions[0])]


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Package → the distributions that hold it, read once: all installed files are looked through."""
    return importlib.metadata.packages_distributions()
