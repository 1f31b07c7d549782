"""Figures: what is written, and the text that stands for them in regression tests."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from advlens import plots
from advlens.tables import show_table


@pytest.fixture(scope="module")
def history():
    return pd.DataFrame({"epoch": [1, 2, 3], "loss": [1.0, 0.5, 0.25], "accuracy": [0.5, 0.75, 1.0]})


def test_a_shown_figure_is_saved_and_says_what_is_on_it(tmp_path, history):
    shown = plots.show(plots.learning_curves({"net": history}, title="Learning"), tmp_path / "new" / "curves.png")
    bundle = shown._repr_mimebundle_()
    assert (tmp_path / "new" / "curves.png").read_bytes() == bundle["image/png"]
    assert bundle["image/png"].startswith(b"\x89PNG")
    assert bundle["text/plain"].splitlines() == [
        "figure: Learning",
        "- epoch / cross-entropy (nats): line of 3 points, mean 0.583",
        "- epoch / training accuracy: line of 3 points, mean 0.750",
    ]
    assert not plt.get_fignums()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_the_lowest_panel_of_each_column_has_tick_labels(count):
    figure, grid = plots._panels(count, 2, height=2)
    for axes in grid.flat[:count]:
        axes.plot([0, 1], [0, 1])
    figure.canvas.draw()
    columns = min(count, 2)
    for number, axes in enumerate(grid.flat[:count]):
        has_labels = any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())
        assert has_labels == (number + columns >= count)
    plt.close("all")


def test_the_description_changes_with_the_data(history):
    described = plots.describe(plots.learning_curves({"net": history}, title="Learning"))
    worse = plots.describe(plots.learning_curves({"net": history.assign(accuracy=0.1)}, title="Learning"))
    assert described != worse
    plt.close("all")


def test_images_are_described_by_their_content():
    pictures = np.stack([np.zeros((4, 4, 1)), np.full((4, 4, 1), 0.5)])
    figure = plots.image_grid({"image": pictures}, column_titles=["a", "b"], title="Two")
    assert "image 4×4, mean 0.000" in plots.describe(figure)
    assert "image 4×4, mean 0.500" in plots.describe(figure)
    plt.close(figure)


def test_interval_points_lie_where_the_table_says():
    table = pd.DataFrame(
        {"estimate": [0.9, 0.6], "low": [0.8, 0.5], "high": [0.95, 0.7], "label": ["a", "b"]}
        | {"panel": ["x", "x"], "family": ["input", "relevancy"]}
    )
    figure = plots.intervals(
        table, estimate="estimate", low="low", high="high", label="label", panel="panel", family="family",
        axis="AUC", title="Intervals",
    )  # fmt: skip
    points = figure.axes[0].collections[-1].get_offsets()
    np.testing.assert_allclose(np.asarray(points), [[0.9, 1], [0.6, 0]])
    segments = figure.axes[0].collections[0].get_segments()
    np.testing.assert_allclose([segment[:, 0] for segment in segments], [[0.8, 0.95], [0.5, 0.7]])
    plt.close(figure)


def family_table(**families: str) -> pd.DataFrame:
    rows = [
        {"estimate": 0.8, "low": 0.7, "high": 0.9, "label": label, "family": family, "panel": panel}
        for label, family in families.items()
        for panel in ("gradient, n = 1000", "deepfool, n = 1000", "lbfgs, n = 1000")
    ]
    return pd.DataFrame(rows)


def drawn_intervals(table: pd.DataFrame, **options: dict):
    columns = {name: name for name in ("estimate", "low", "high", "label", "panel", "family")}
    return plots.intervals(table, **columns, axis="AUC", title="Intervals", **options)


def test_interval_colours_are_named_where_there_are_several():
    figure = drawn_intervals(family_table(KDE="closeness", all="fused"), legend={"closeness": "one metric"})
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one metric", "several lenses"]
    assert [line.get_color() for line in legend.get_lines()] == [
        plots.FAMILY_COLOURS["closeness"],
        plots.FAMILY_COLOURS["fused"],
    ]
    assert not drawn_intervals(family_table(KDE="closeness")).legends
    plt.close("all")


def test_the_legend_leaves_the_text_of_the_axis_free():
    figure = drawn_intervals(family_table(KDE="closeness", all="fused"))
    figure.canvas.draw()
    text = next(each for each in figure.texts if each.get_text().startswith("AUC"))
    lines = text.get_text().count("\n") + 1
    box = text.get_window_extent()
    assert box.y1 - box.height / lines > figure.legends[0].get_window_extent().y1
    plt.close(figure)


def test_titles_and_labels_are_as_people_know_them_and_long_titles_are_broken():
    figure = drawn_intervals(family_table(KDE="closeness", entropy="uncertainty"))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Gradient attack,\nn = 1000", "DeepFool,\nn = 1000", "L-BFGS,\nn = 1000"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["entropy", "density"]
    assert "- Gradient attack, n = 1000" in plots.describe(figure)
    plt.close(figure)


def curve_table() -> pd.DataFrame:
    rows = [
        {"x": x, "y": x * slope, "low": x * slope - 0.1, "high": x * slope + 0.1, "metric": metric, "attack": attack}
        for attack, slope in (("a", 1), ("b", 2))
        for metric in ("KDE", "KL")
        for x in (0.0, 0.5, 1.0)
    ]
    return pd.DataFrame(rows).assign(family="closeness")


def test_curves_stand_in_their_panels_with_bands_marks_and_their_family_s_colour():
    figure = plots.curves(
        curve_table(), x="x", y="y", group="metric", panel="attack", family="family", columns=2,
        x_axis="ε", y_axis="AUC", title="Curves", marks={"b": 0.5, "a": np.nan},
    )  # fmt: skip
    left, right = figure.axes
    np.testing.assert_allclose(right.lines[0].get_xydata(), [[0, 0], [0.5, 1], [1, 2]])
    assert [len(axes.lines) for axes in figure.axes] == [2, 3]  # the mark
    assert right.lines[2].get_xdata()[0] == 0.5
    band = right.collections[0].get_paths()[0].vertices
    assert [band[:, 1].min(), band[:, 1].max()] == pytest.approx([-0.1, 2.1])
    colours = {line.get_color() for line in left.lines}
    assert colours == {plots.FAMILY_COLOURS["closeness"]}
    assert left.lines[0].get_linestyle() != left.lines[1].get_linestyle()
    plt.close(figure)


def test_curves_put_texts_on_the_axis_in_their_order():
    table = curve_table().assign(x=lambda table: table["x"].map({0.0: "low", 0.5: "middle", 1.0: "high"}))
    figure = plots.curves(
        table, x="x", y="y", group="metric", panel="attack", columns=1, x_axis="window", y_axis="AUC", title="Texts"
    )
    assert [text.get_text() for text in figure.axes[-1].get_xticklabels()] == ["low", "middle", "high"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "window"]
    plt.close(figure)


def test_single_cells_can_be_bold(tmp_path):
    frame = pd.DataFrame({"detector": ["a", "b"], "x": ["1", "2"]})
    shown = show_table(frame, tmp_path / "table", bold=[(1, "x")])
    assert [cell for cell in "ab12" if f"**{cell}**" in shown.markdown] == ["2"]


def test_a_table_is_saved_whole_and_shown_with_its_bold_rows(tmp_path):
    frame = pd.DataFrame({"detector": ["a", "b"], "AUC": ["0.900 [0.850, 0.951]", "–"]})
    shown = show_table(frame, tmp_path / "table", bold=[0])
    assert "| **a**      | **0.900 [0.850, 0.951]** |" in shown._repr_mimebundle_()["text/markdown"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), frame)
    assert (tmp_path / "table.md").read_text() == shown.markdown + "\n"


def test_heat_maps_put_every_value_and_text_into_its_cell():
    table = pd.DataFrame(
        {"row": ["b", "b", "a", "a"], "column": [8, 256] * 2, "value": [0.1, 0.2, 0.3, 0.4], "text": list("wxyz")}
    )
    figure = plots.heatmaps(
        table.assign(panel="one"), row="row", column="column", value="value", text="text", panel="panel",
        title="A title", axis="ROC-AUC",
    )  # fmt: skip
    axes = figure.axes[0]
    np.testing.assert_allclose(np.asarray(axes.collections[0].get_array()).reshape(2, 2), [[0.1, 0.2], [0.3, 0.4]])
    assert [text.get_text() for text in axes.texts] == list("wxyz")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "256"]
