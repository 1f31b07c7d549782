"""Figures: what is written, and the text that stands for them in regression tests."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from advlens import plots
from advlens.evaluation import Estimate
from advlens.tables import interval_text, show_table


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
        "- epoch / accuracy: line of 3 points, mean 0.750",
    ]
    assert not plt.get_fignums()


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


def test_a_table_is_saved_whole_and_shown_with_its_bold_rows(tmp_path):
    frame = pd.DataFrame({"detector": ["a", "b"], "AUC": [interval_text(Estimate(0.9, 0.85, 0.951)), "–"]})
    shown = show_table(frame, tmp_path / "table", bold=[0])
    assert "| **a**      | **0.900 [0.850, 0.951]** |" in shown._repr_mimebundle_()["text/markdown"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table.csv"), frame)
    assert (tmp_path / "table.md").read_text() == shown.markdown + "\n"


def test_the_ladder_marks_chance_only_where_there_is_one():
    about = [("as published", "input", "accuracy"), ("task network", "attacks", "share misread")]
    rows = [
        {"protocol": protocol, "attack": "lbfgs", "lens": lens, "codec": codec, "figure": figure}
        | {"estimate": 0.8, "low": 0.7, "high": 0.9, "n": 12}
        for protocol, lens, figure in about
        for codec in ("float", "png")
    ]
    figure = plots.ladder(pd.DataFrame(rows), title="Ladder")
    dotted = [[line for line in axes.lines if line.get_linestyle() == ":"] for axes in figure.axes]
    assert [len(lines) for lines in dotted] == [1, 0]
    plt.close(figure)
