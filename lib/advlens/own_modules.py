"""Modules that users wrote, by their names; what is done with what they hold is others' business."""

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

import keras

from advlens.benchmark.evaluation import told_error


def imported(name: str) -> ModuleType:
    """The module of that name, looked for in the current folder too.

    Raises:
        ValueError: where there is none, or it fails as it is imported.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"no module is called {name!r}: looked in {here} and among what is installed") from error
        raise ValueError(f"{name} can't be imported: {told_error(error)}") from error


def trust(name: str) -> None:
    """Lets the files of networks hold the classes and functions of the module of that name, registered or not.

    Raises:
        ValueError: as `imported`.
    """
    package = name.partition(".")[0]
    for key, value in vars(imported(name)).items():
        is_own = (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__.split(".")[0] == package
        if is_own:
            keras.saving.get_custom_objects().setdefault(key, value)
