"""The one place where progress bars come from.

A bar shows in JupyterLab and on a terminal and leaves nothing behind in a notebook's outputs. The variable
ADVLENS_PROGRESS redirects it: `off` shows none (regression tests), a terminal's path writes there (batch runs).
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from tqdm.auto import tqdm as automatic_bar
from tqdm.std import tqdm as text_bar


def progress(iterable: Iterable | None = None, *, description: str, unit: str, total: int | None = None) -> text_bar:
    """A tqdm bar over `iterable`, or one to `update()` by hand towards `total`.

    Args:
        description: what is being done, as "crafting deepfool".
        unit: what is counted, in the singular ("image", "epoch").
    """
    target = os.environ.get("ADVLENS_PROGRESS", "")
    options = {"desc": description, "unit": unit, "total": total, "leave": False, "mininterval": 0.5}
    if target == "off":
        return text_bar(iterable, disable=True, **options)
    if target:
        return text_bar(iterable, file=open(target, "w"), **options)
    return automatic_bar(iterable, **options)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """No bars meanwhile: for work that is done before one could be read."""
    before = os.environ.get("ADVLENS_PROGRESS", "")
    os.environ["ADVLENS_PROGRESS"] = "off"
    try:
        yield
    finally:
        os.environ["ADVLENS_PROGRESS"] = before
