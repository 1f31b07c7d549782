"""Folders that are there whole or not at all; what is written into them is written elsewhere."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from advlens.paths import check_new


@contextlib.contextmanager
def written_whole(folder: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to write to, which becomes `folder` at the end: where anything stops before, nothing of it is left.

    Args:
        replace: whether a folder of that name may be there already; it stays until the new one is written.
    Raises:
        FileExistsError: where it is there, and may not be.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     with written_whole(f"{place}/made") as folder:
    ...         _ = (folder / "part").write_text("all of it")
    ...     [path.name for path in Path(place).rglob("*")]
    ['made', 'part']
    """
    folder = Path(folder) if replace else check_new(folder)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    try:
        yield partial
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder if replace else check_new(folder))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
