"""Tables as notebooks show them and as files: estimates with their intervals, written as Markdown."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


class ShownTable:
    """A table as a notebook displays it: Markdown, which GitHub and JupyterLab both render."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.markdown = frame.to_markdown(index=False, disable_numparse=True)

    def _repr_mimebundle_(self, **_: object) -> dict:
        return {"text/markdown": self.markdown, "text/plain": self.markdown}


def show_table(frame: pd.DataFrame, path: Path, *, bold: Sequence[int | tuple[int, str]] = ()) -> ShownTable:
    """Saves a table as CSV and Markdown and returns what a notebook cell displays of it.

    Args:
        frame: cells of text or numbers, written as they are.
        path: the files' common path, without a suffix.
        bold: places of the rows, or place and column of the cells, to set in bold, in Markdown only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path.with_suffix(".csv"), index=False)
    text = frame.astype(str)
    for place in bold:
        row, columns = place if isinstance(place, tuple) else (place, list(text.columns))
        for column in [columns] if isinstance(columns, str) else columns:
            cell = text.at[text.index[row], column]
            text.at[text.index[row], column] = f"**{cell}**" if cell else cell  # pyright: ignore[reportArgumentType]
    shown = ShownTable(text)
    path.with_suffix(".md").write_text(shown.markdown + "\n")
    return shown
