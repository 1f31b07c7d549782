"""The figure styles: nothing else draws. Every figure is shown with a text that says what is on it.

That text stands beside the picture in a notebook's output, so a regression test compares what a figure shows
rather than its pixels, and a screen reader has something to read.
"""

import io
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from PIL import Image

from advlens.arrays import Array

# One colour a family of detectors, the same in every figure (Okabe & Ito's palette, safe for the colour-blind).
FAMILY_COLOURS = {
    **{"input": "#0072B2", "relevancy": "#D55E00", "baseline": "#999999", "uncertainty": "#009E73"},
    **{"closeness": "#E69F00", "neighbours": "#56B4E9", "explanation": "#D55E00", "fused": "#CC79A7"},
    "image": "#0072B2",
}
ATTACK_TITLES = {
    **{"fgsm": "FGSM", "bim": "BIM", "pgd": "PGD", "mi_fgsm": "MI-FGSM", "bim_targeted": "BIM, targeted"},
    **{"deepfool": "DeepFool", "lbfgs": "L-BFGS", "gradient": "Gradient attack", "carlini_l2": "Carlini–Wagner L2"},
    **{"one_pixel": "One pixel", "one pixel": "One pixel", "five pixels": "Five pixels"},
    **{"boundary": "Boundary", "square": "Square", "pgd_l2": "PGD, L2", "apgd_ce": "APGD-CE", "apgd_dlr": "APGD-DLR"},
    **{"jsma": "JSMA", "elastic_net": "Elastic net", "spatial": "Spatial"},
    **{"hop_skip_jump": "HopSkipJump", "universal": "Universal", "ilap": "ILAP", "ilaf": "ILAF", "ddn": "DDN"},
    **{"carlini_linf": "Carlini–Wagner L∞", "fab": "FAB", "fab_linf": "FAB, L∞", "svm": "SVM"},
}
"""The catalogue's names → as people know them."""
OTHER_TITLES = {
    **{"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "KDE": "density"},
    **{"average_pooling_cnn": "average-pooling network", "two_conv_cnn": "two-convolution network"},
    **{"digits_dropout_cnn": "dropout network", "fashion_dropout_cnn": "dropout network"},
    **{"deep_knn_cnn": "deep k-NN network", "deep knn": "Deep kNN"},
    **{"kd bu": "KD + BU", "lid": "LID", "ml loo": "ML-LOO", "pasa": "PASA", "magnet": "MagNet"},
    **{"mahalanobis": "Mahalanobis", "shap signature": "SHAP signature", "off grey levels": "off-grid pixels"},
    **{
        f"{joined}, {head}": f"{joined.replace('baselines', 'trivial scores')} ({head})"
        for joined in ("baselines", "one lens a family", "all lenses", "all shared lenses")
        for head in ("logistic", "boosting", "p-values")
    },
}
"""Names of data sets, networks, detectors and metrics in the code → as people know them."""
ATTACK_COLOURS = {
    **{"FGSM": "#E69F00", "BIM": "#D55E00", "PGD": "#882255", "MI-FGSM": "#CC79A7", "BIM, targeted": "#661100"},
    **{"DeepFool": "#0072B2", "L-BFGS": "#009E73", "Gradient attack": "#56B4E9", "Carlini–Wagner L2": "#332288"},
    **{"One pixel": "#999933", "Five pixels": "#DDCC77", "Boundary": "#117733", "Square": "#44AA99"},
    **{"HopSkipJump": "#88CCEE", "Universal": "#AA4499", "ILAP": "#000000", "ILAF": "#777777"},
}
ROLE_COLOURS = {"clean": "#777777", "noisy": "#BBBBBB", "adversarial": "#D55E00", "redrawn": "#0072B2"}
LEGEND_TITLES = {
    **{"input": "the image itself", "image": "the image itself", "relevancy": "relevance map"},
    **{"explanation": "explanation", "baseline": "trivial score", "neighbours": "nearest neighbours"},
    **{"fused": "several lenses", "adversarial": "attacked"},
}
"""Names of families and roles → as a legend lists them, where that differs."""
# Members of one family share its colour and differ by these.
MEMBER_STYLES = (
    *({"linestyle": "-", "marker": "o"}, {"linestyle": "--", "marker": "s"}, {"linestyle": "-.", "marker": "^"}),
    *({"linestyle": ":", "marker": "D"}, {"linestyle": (0, (5, 1)), "marker": "v"}),
    {"linestyle": (0, (1, 1)), "marker": "P"},
)
WORDS_ABREAST = 60  # letters of column names that fit side by side under a panel
MARKERS_A_LINE = 6  # so that a line of many points is not hidden by them
LONGEST_TITLE = 10  # characters above a column of a gallery
LONGEST_ROW_OF_TITLES = 66  # characters above a row of panels, before titles are broken
MAX_LEGEND_COLUMNS = 5
WIDTH = 9.0  # inches; at 100 dpi a figure fits GitHub's 900-pixel column


class Shown:
    """A figure as a notebook displays it: the picture, and its description as text."""

    def __init__(self, picture: bytes, description: str) -> None:
        self._picture = picture
        self._description = description

    def _repr_mimebundle_(self, **_: object) -> dict:
        return {"image/png": self._picture, "text/plain": self._description}


def show(figure: Figure, path: Path) -> Shown:
    """Saves a figure as PNG, in a folder that is made when needed, and returns what a notebook cell displays of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    # With a palette it has a third of the bytes: notebooks hold their pictures.
    Image.open(drawn).convert("RGB").quantize(256, kmeans=1).save(path, format="png", optimize=True)
    return Shown(path.read_bytes(), describe(figure))


def describe(figure: Figure) -> str:
    """What a figure shows, as text: its titles, axes, and a few numbers of each line, bar, point and image."""
    lines = [f"figure: {figure.get_suptitle()}"]
    for axes in figure.axes:
        content = [*map(_line_text, axes.lines), *map(_points_text, axes.collections), *map(_image_text, axes.images)]
        bars = [bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")]  # pyright: ignore[reportAttributeAccessIssue]
        content += [f"{len(bars)} bars, mean {np.mean(bars):.3f}"] if bars else []
        labels = " / ".join(filter(None, (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()))).replace("\n", " ")
        lines.append(f"- {labels}: {'; '.join(filter(None, content))}")
    return "\n".join(lines)


def _line_text(line: Line2D) -> str:
    y = np.asarray(line.get_ydata(), float)
    y = y[np.isfinite(y)]
    return f"line of {len(y)} points, mean {y.mean():.3f}" if len(y) else ""


def _points_text(points: Collection) -> str:
    offsets = np.ma.filled(np.ma.asarray(points.get_offsets(), float), np.nan).reshape(-1, 2)
    return f"{len(offsets)} points, mean {np.nanmean(offsets[:, 0]):.3f}" if len(offsets) > 1 else ""


def _image_text(image: AxesImage) -> str:
    values = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    return f"image {values.shape[0]}×{values.shape[1]}, mean {np.nanmean(values):.3f}"


def title_of(name: str) -> str:
    """The name of an attack, data set, network or metric as people know it; what stands after it stays.

    >>> title_of("lbfgs, margin 2")
    'L-BFGS, margin 2'
    >>> title_of("fashion_mnist, n = 100")
    'Fashion-MNIST, n = 100'
    """
    known = OTHER_TITLES | ATTACK_TITLES
    first = name if name in known else re.split(r"[ ,]", name)[0]
    return known.get(first, first) + name[len(first) :]


def _legend(member: str) -> str:
    """A line's name: an attack's, network's or metric's as people know it, any other as it is."""
    title = title_of(member)
    return title if title in ATTACK_COLOURS or member in OTHER_TITLES else member


def _panel_title(name: str, *, of: Sequence[str], columns: int) -> str:
    """What stands above a panel; its n on a line of its own where the titles of a row would touch."""
    title = title_of(name)
    crowded = max(len(title_of(each)) for each in of) * min(len(of), columns) > LONGEST_ROW_OF_TITLES and columns > 1
    return re.sub(r", (?=n [=≤≥])", ",\n", title) if crowded else title


def _legend_columns(count: int) -> int:
    """How many names stand side by side, so that all rows of a legend are about as long."""
    rows = -(-count // MAX_LEGEND_COLUMNS)
    return -(-count // rows)


def _colours_of(names: Sequence[str]) -> dict[str, Any]:
    """Name → colour: attacks and roles have theirs, others the palette's in order."""
    known = ATTACK_COLOURS | ROLE_COLOURS
    if all(title_of(name) in known for name in names):
        return {name: known[title_of(name)] for name in names}
    return dict(zip(names, itertools.cycle(sns.color_palette("colorblind")), strict=False))


def apply_style() -> None:
    """Sets the one style of all figures."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", font_scale=0.85)
    plt.rcParams.update({"figure.constrained_layout.use": True, "image.cmap": "gray"})


def learning_curves(histories: Mapping[str, pd.DataFrame], *, title: str) -> Figure:
    """Loss and accuracy against the epoch, training solid, validation (where there is any) dashed, a colour a network.

    Args:
        histories: name → rows with epoch, loss, accuracy and maybe val_loss, val_accuracy.
    """
    apply_style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.9))
    for colour, (name, history) in zip(sns.color_palette("colorblind"), histories.items(), strict=False):
        for axes, column in ((left, "loss"), (right, "accuracy")):
            axes.plot(history["epoch"], history[column], color=colour, label=title_of(name))
            if f"val_{column}" in history:
                axes.plot(history["epoch"], history[f"val_{column}"], color=colour, linestyle="--")
    stopped = any("val_loss" in history for history in histories.values())
    left.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    right.set(xlabel="epoch", ylabel="accuracy" if stopped else "training accuracy")
    said = "solid: training; dashed: the images that stop it" if stopped else None
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, title=said)
    figure.suptitle(title)
    return figure


def image_grid(
    rows: Mapping[str, Array], *, column_titles: Sequence[str], title: str, symmetric: Sequence[str] = ()
) -> Figure:
    """A gallery: one labelled row of pictures a kind, one column an example.

    Args:
        rows: label → (n, h, w), (n, h, w, 1) or (n, h, w, 3) pictures.
        column_titles: n short texts above the columns.
        symmetric: rows of signed values, drawn from blue (negative) to red (positive), each picture to its own scale.
    """
    apply_style()
    count = len(column_titles)
    size = WIDTH, WIDTH / (count + 1) * (len(rows) + 0.35) + 0.3
    figure, grid = plt.subplots(len(rows), count, figsize=size, squeeze=False, gridspec_kw={"wspace": 0.05})
    for axes_row, (label, pictures) in zip(grid, rows.items(), strict=True):
        for axes, picture in zip(axes_row, pictures, strict=True):
            _draw(axes, np.squeeze(picture), signed=label in symmetric)
        axes_row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    if max(map(len, column_titles)) > LONGEST_TITLE:
        column_titles = [text.replace(" → ", " →\n") for text in column_titles]
    for axes, text in zip(grid[0], column_titles, strict=True):
        axes.set_title(text, fontsize="small")
    figure.suptitle(title)
    return figure


def _draw(axes: Axes, picture: Array, *, signed: bool) -> None:
    if signed:
        limit = max(float(np.abs(picture).max()), float(np.finfo(np.float32).tiny))
        axes.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit)
    else:
        axes.imshow(picture, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    sns.despine(ax=axes, left=True, bottom=True)


def intervals(
    table: pd.DataFrame,
    *,
    estimate: str,
    low: str,
    high: str,
    label: str,
    panel: str,
    family: str,
    axis: str,
    title: str,
    reference: float | None = None,
    columns: int | None = None,
    legend: Mapping[str, str] | None = None,
) -> Figure:
    """Estimates with their intervals as points and whiskers, one panel a group, one line a label.

    Where several families occur, a legend names their colours.

    Args:
        table: a row a point; the other arguments name its columns.
        family: the column that says which of `FAMILY_COLOURS` or `ROLE_COLOURS` a row takes.
        axis: the text of the value axis, with its unit and n.
        reference: a value to mark with a dotted line, such as chance.
        columns: how many panels stand side by side; None for all.
        legend: family → its name in the legend, where it is not that of `LEGEND_TITLES`.
    """
    apply_style()
    if table.empty:
        return _nothing(title)
    panels, labels = list(table[panel].unique()), list(table[label].unique())[::-1]
    columns = columns or len(panels)
    figure, grid = _panels(len(panels), columns, height=0.25 * len(labels) + 0.9)
    names = [OTHER_TITLES.get(text, text) for text in labels]
    for axes, name in zip(grid.flat, panels, strict=False):
        rows = table[table[panel] == name]
        heights = rows[label].map(labels.index).to_numpy()
        colours = rows[family].map(FAMILY_COLOURS | ROLE_COLOURS)
        axes.hlines(heights, rows[low], rows[high], colors=colours, linewidth=1.8)
        axes.scatter(rows[estimate], heights, c=colours, s=28, zorder=3)
        if reference is not None:
            axes.axvline(reference, color="black", linestyle=":", linewidth=1)
        axes.set_title(_panel_title(name, of=panels, columns=columns), fontsize="medium")
        axes.set(yticks=range(len(labels)), yticklabels=names, ylim=(-0.6, len(labels) - 0.4))
    known = LEGEND_TITLES | dict(legend or {})
    titles = {name: known.get(name, name) for name in map(str, table[family].unique())}
    rows_below = _name_colours(figure, titles)
    figure.supxlabel(axis + "\n" * rows_below, fontsize="medium")  # the layout would put both in the same place
    figure.suptitle(title)
    return figure


def _name_colours(figure: Figure, titles: Mapping[str, str]) -> int:
    """A legend below the panels, where there are several families: family → its name there; how many lines it takes."""
    by_title = {title: (FAMILY_COLOURS | ROLE_COLOURS)[name] for name, title in titles.items()}
    if len(by_title) < 2:
        return 0
    handles = [Line2D([], [], color=colour, marker="o", label=title) for title, colour in by_title.items()]
    columns = _legend_columns(len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return 1 + -(-len(handles) // columns)


def heatmaps(
    table: pd.DataFrame,
    *,
    row: str,
    column: str,
    value: str,
    text: str,
    panel: str,
    title: str,
    axis: str,
    columns: int = 2,
    reference: float | None = 0.5,
) -> Figure:
    """A value by two categories as coloured cells with a text in each, one panel a group.

    Args:
        table: a row a cell; `row`, `column`, `value`, `text` and `panel` name its columns. Categories stand in their
            order.
        axis: the text of the colour bar, with its unit and n; colours run from 0 to 1.
        columns: how many panels stand side by side.
        reference: the value that is white, such as chance; 0 where there is none.
    """
    apply_style()
    panels, labels = list(table[panel].unique()), list(table[row].unique())
    figure, grid = _panels(len(panels), columns, height=0.42 * len(labels) + 0.9)
    for axes, name in zip(grid.flat, panels, strict=False):
        cells, texts = (
            table[table[panel] == name]
            .pivot(index=row, columns=column, values=values)
            .reindex(index=labels, columns=list(table[column].unique()))
            for values in (value, text)
        )
        colours = {"cmap": "Oranges"} if reference is None else {"cmap": "PuOr_r", "center": reference}
        about = {"annot": texts, "annot_kws": {"size": "x-small"}, "fmt": "", "ax": axes, "cbar": False}
        sns.heatmap(cells, vmin=0, vmax=1, **colours, **about)
        axes.set(title=name, xlabel=column, ylabel=row if axes.get_subplotspec().is_first_col() else "")
        axes.tick_params(axis="y", rotation=0)
        if sum(len(str(name)) for name in cells.columns) > WORDS_ABREAST:
            axes.set_xticklabels(axes.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor")
    figure.colorbar(grid.flat[0].collections[0], ax=grid.flat[: len(panels)], label=axis, shrink=0.9)
    figure.suptitle(title)
    return figure


def curves(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    group: str,
    panel: str,
    x_axis: str,
    y_axis: str,
    title: str,
    columns: int,
    family: str | None = None,
    marks: Mapping[str, float] | None = None,
    reference: float | None = None,
    share_y: bool = True,
) -> Figure:
    """Lines over a common axis: one panel a value of `panel`, one line a value of `group`, bands for intervals.

    Args:
        table: a row a point; `x`, `y`, `group`, `panel` and `family` name its columns. Texts on the x axis stand in
            their order. Where it has columns low and high, a band is drawn between them.
        columns: how many panels stand side by side.
        family: the column that says which of `FAMILY_COLOURS` a line takes; None gives each line its own colour.
        marks: panel → the x at which a vertical line stands in it; reference: a y to mark with one, such as chance.
    """
    apply_style()
    if table.empty:
        return _nothing(title)
    panels, groups = list(table[panel].unique()), list(table[group].unique())
    styles = _line_styles(table.drop_duplicates(group), group=group, family=family)
    figure, grid = _panels(len(panels), columns, height=2.7, share_y=share_y)
    texts = None if pd.api.types.is_numeric_dtype(table[x]) else list(table[x].unique())
    for axes, name in zip(grid.flat, panels, strict=False):
        for member in groups:
            rows = table[(table[panel] == name) & (table[group] == member)]
            places = rows[x].map(texts.index) if texts else rows[x]
            every = max(len(rows) // MARKERS_A_LINE, 1)
            axes.plot(places, rows[y], label=_legend(member), markersize=4, markevery=every, **styles[member])
            if {"low", "high"} <= set(rows):
                axes.fill_between(places, rows["low"], rows["high"], color=styles[member]["color"], alpha=0.15, lw=0)
        if marks and np.isfinite(marks.get(name, np.nan)):
            axes.axvline(marks[name], color="black", linestyle=":", linewidth=1)
        if reference is not None:
            axes.axhline(reference, color="black", linestyle=":", linewidth=1)
        axes.set_title(_panel_title(name, of=panels, columns=columns), fontsize="medium")
        axes.set_xlabel(x_axis if axes.get_subplotspec().is_last_row() else "")
        if texts:
            axes.set_xticks(range(len(texts)), texts, fontsize="small")
    figure.supylabel(y_axis, fontsize="medium")
    if len(groups) > 1:
        entries, ncols = grid.flat[0].get_legend_handles_labels(), _legend_columns(len(groups))
        figure.legend(*entries, loc="outside lower center", ncols=ncols)
    figure.suptitle(title)
    return figure


def _nothing(title: str) -> Figure:
    """Where a run is too small for any row."""
    figure = plt.figure(figsize=(WIDTH, 1.0))
    figure.suptitle(f"{title}: too few images to show any")
    return figure


def _line_styles(members: pd.DataFrame, *, group: str, family: str | None) -> dict[str, dict]:
    """What `plot` is given for each line."""
    if family is None:
        return {name: {"color": colour} for name, colour in _colours_of(list(members[group])).items()}
    place = members.groupby(family).cumcount()
    return {
        row[group]: {"color": FAMILY_COLOURS[row[family]], **MEMBER_STYLES[place[index] % len(MEMBER_STYLES)]}  # pyright: ignore[reportArgumentType, reportCallIssue]
        for index, row in members.iterrows()
    }


def _panels(count: int, columns: int, *, height: float, share_y: bool = True) -> tuple[Figure, Array]:
    """A figure with a grid of that many axes, the last row's unused ones taken out."""
    columns = min(count, columns)
    rows = -(-count // columns)
    size = (WIDTH, height * rows + 0.7)
    figure, grid = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=share_y, squeeze=False)
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in grid.flat[count - columns : count]:  # the lowest of each column: a removed one would keep the ticks
        axes.tick_params(axis="x", labelbottom=True)
    return figure, grid


def reach(
    table: pd.DataFrame, *, value: str, group: str, axis: str, title: str, y_axis: str = "share of images"
) -> Figure:
    """The share of images whose value is at most x, one curve a group.

    Args:
        table: a row an image; infinite values are never reached, and keep a curve below 1.
        axis, y_axis: the texts of the axes.
    """
    apply_style()
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    limit = table[value].replace(np.inf, np.nan).quantile(0.995) * 1.05
    colours = _colours_of(list(table[group].unique()))
    for name, rows in table.groupby(group, sort=False):
        values = np.sort(rows[value].to_numpy())
        shares = np.arange(1, len(values) + 1) / len(values)
        axes.step(np.minimum(values, 2 * limit), shares, where="post", color=colours[name], label=name)  # pyright: ignore[reportArgumentType]
    axes.set(xlabel=axis, ylabel=y_axis, xlim=(0, limit), ylim=(0, 1.02))
    axes.legend()
    figure.suptitle(title)
    return figure


def neighbours(image: Array, rows: Mapping[str, tuple[Array, Sequence[str]]], *, title: str) -> Figure:
    """An image, large, and beside it a labelled row of its neighbours a layer, each with a text.

    Args:
        image: (h, w, channels); rows: layer → (k, h, w, channels) pictures and their k texts.
    """
    apply_style()
    count = len(next(iter(rows.values()))[1])
    figure = plt.figure(figsize=(WIDTH, 1.05 * len(rows) + 0.5))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.6))  # pyright: ignore[reportGeneralTypeIssues]
    _draw(left.subplots(), np.squeeze(image), signed=False)
    grid = right.subplots(len(rows), count, squeeze=False)
    for axes_row, (layer, (pictures, texts)) in zip(grid, rows.items(), strict=True):
        for axes, picture, text in zip(axes_row, pictures, texts, strict=True):
            _draw(axes, np.squeeze(picture), signed=False)
            axes.set_title(text, fontsize="x-small", pad=2)
        axes_row[0].set_ylabel(layer, rotation=0, ha="right", va="center")
    figure.suptitle(title, fontsize="medium")
    return figure


def ranked_points(
    table: pd.DataFrame, *, y: str, group: str, panel: str, colours: Mapping[str, str], axis: str, title: str
) -> Figure:
    """A value a point in the order of the rows, coloured by what the point is: one panel a value of `panel`.

    Args:
        table: a row a point; `y`, `group` and `panel` name its columns.
        colours: group → one of `FAMILY_COLOURS`; also the order of the legend.
        axis: the text of the value axis.
    """
    apply_style()
    panels = list(table[panel].unique())
    figure, grid = plt.subplots(1, len(panels), figsize=(WIDTH, 3.2), sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, panels, strict=True):
        values = table[table[panel] == name].reset_index(drop=True)
        for place, (member, colour) in enumerate(colours.items()):
            rows = values[values[group] == member]
            style = {"marker": MEMBER_STYLES[place % len(MEMBER_STYLES)]["marker"], "s": 24, "linewidths": 0}
            axes.scatter(rows.index + 1, rows[y], color=FAMILY_COLOURS[colour], label=member, **style)
        axes.set(title=name, xlabel=f"rank by {axis}")
    grid.flat[0].set_ylabel(axis)
    figure.legend(*grid.flat[-1].get_legend_handles_labels(), loc="outside lower center", ncols=len(colours))
    figure.suptitle(title)
    return figure
