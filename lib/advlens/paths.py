"""Where the project's files lie on this machine; nothing here creates or reads one."""

import os
from pathlib import Path


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


def data_dir() -> Path:
    """The folder of all data, raw and made: the variable ADVLENS_DATA, else `data` in the project."""
    chosen = os.environ.get("ADVLENS_DATA")
    return Path(chosen).expanduser().resolve() if chosen else project_root() / "data"
