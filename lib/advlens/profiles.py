"""Profiles: the parameters by which a run differs from the notebooks' defaults, checked before work starts."""

import ast
import math
from pathlib import Path
from typing import Any

import papermill
import yaml

from advlens.paths import project_root

PROFILES = ("smoke", "standard", "full")


class _Loader(yaml.SafeLoader):
    """YAML's plain values, without a key that stands there twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} stands there twice: keep one")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=deep)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def notebooks() -> list[Path]:
    """The project's notebooks in the order in which they run."""
    return sorted((project_root() / "notebooks").glob("[0-9]*.ipynb"))


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Name → default value, of a notebook's cell tagged `parameters`."""
    found = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}


def profile_parameters(profile: str) -> dict[str, Any]:
    """The parameters that a profile sets.

    Args:
        profile: one of `PROFILES`, or the path of a .yaml file of one's own.
    Raises:
        ValueError: for an unknown profile, a file that maps no names to values, a parameter that no notebook has, or a
            value of another type than the notebook's default, or out of range.
        FileNotFoundError: for a file that is not there.
    """
    path = Path(profile)
    if not profile.endswith(".yaml"):
        if profile not in PROFILES:
            raise ValueError(
                f"no profile is called {profile!r}: choose one of {', '.join(PROFILES)}, or the path of a .yaml"
            )
        path = project_root() / "notebooks" / "parameters" / f"{profile}.yaml"
    parameters = read_mapping(path, example="task_epochs: 3")
    known = {name: value for notebook in notebooks() for name, value in declared_parameters(notebook).items()}
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"{path.name} sets {', '.join(unknown)}, which no notebook declares: correct the name")
    for name, value in parameters.items():
        if fault := fault_of(value, known[name]):
            raise ValueError(f"{path.name}: {name} must be {fault}, got {value!r}")
    return parameters


def read_mapping(path: Path, *, example: str) -> dict[str, Any]:
    """The names and values of a YAML file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for one that holds anything else, or a name twice; `example` is a line as it should be.
    """
    path = path.expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{str(path)!r} is no file: check its path, seen from {Path.cwd()}")
    try:
        found = yaml.load(path.read_text(), Loader=_Loader) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path.name} can't be read: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path.name} must map names to values, as `{example}`, got {found!r}")
    return found


def fault_of(value: Any, default: Any) -> str | None:
    """What a parameter's value should be, by the notebook's default, where it is not; None where it is."""
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        return None if good else f"a whole number, 0 or more, as {default} (write 1000, not 1e3)"
    if isinstance(default, float):
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
        return None if good else f"a number, 0 or more, as {default}"
    if isinstance(default, list | tuple):
        of_names = any(isinstance(each, str) for each in default)
        good = isinstance(value, list) and all(
            isinstance(each, str) if of_names else fault_of(each, 0.0) is None for each in value
        )
        return None if good else f"a list of {'names' if of_names else 'numbers, 0 or more'}, as {default}"
    return None if isinstance(value, type(default)) else f"a {type(default).__name__}, as {default!r}"


def own_parameters(notebook: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Those of the given parameters that a notebook declares."""
    return {name: given[name] for name in declared_parameters(notebook) if name in given}
