"""Metrics of maps by Quantus, on a linear network whose right maps are known."""

import sys

import keras
import numpy as np
import pytest

import advlens as al


@pytest.fixture(scope="module")
def linear():
    """A linear network, images that are black somewhere, their classes, and each logit's exact shares."""
    keras.utils.set_random_seed(0)
    parts = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    network, images = keras.Sequential(parts), np.random.default_rng(0).random((6, 8, 8, 1), np.float32)
    images[:, 0, 0] = 0
    labels = network(images).numpy().argmax(axis=1)
    kernel = network.layers[-1].kernel.numpy().T.reshape(3, 8, 8, 1)
    return network, images, labels, images * kernel[labels]


def test_right_maps_are_faithful_and_reversed_ones_are_not(linear):
    pytest.importorskip("quantus")
    network, images, labels, exact = linear
    given = np.random.default_rng(1)
    state, kept = np.random.get_state()[1].copy(), exact.copy()  # noqa: NPY002
    kinds = {"exact": exact, "reversed": -exact, "random": given.normal(size=exact.shape)}
    about = {"images": np.tile(images, (3, 1, 1, 1)), "labels": np.tile(labels, 3), "metrics": ["pixel flipping"]}
    maps = np.concatenate(list(kinds.values()))
    both = {"metrics": ["faithfulness correlation", "pixel flipping"]}
    table = al.explain.evaluate(network, **(about | both), maps=maps)
    assert list(table) == ["image", "metric", "value"]
    faithful, flipped = (part["value"].to_numpy().reshape(3, 6) for _, part in table.groupby("metric"))
    np.testing.assert_allclose(faithful[:2], [[1] * 6, [-1] * 6], atol=1e-3)
    assert abs(faithful[2].mean()) < 0.3
    assert (flipped[0] < flipped[2]).all()
    assert (flipped[2] < flipped[1]).all()
    again = al.explain.evaluate(network, **about, maps=maps)["value"]
    np.testing.assert_allclose(again, flipped.ravel(), atol=1e-6)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.testing.assert_array_equal(exact, kept)


def test_sparseness_is_gini_s_index(linear):
    pytest.importorskip("quantus")
    network, images, labels, _ = linear
    maps = np.zeros((6, 8, 8, 1), np.float32)
    maps[:3, 2, 3], maps[3:] = -1, 1
    table = al.explain.evaluate(network, images, labels, maps, metrics=["sparseness", "complexity"])
    values = table.pivot(index="image", columns="metric", values="value")
    np.testing.assert_allclose(values["sparseness"], [63 / 64] * 3 + [0] * 3, atol=1e-4)
    np.testing.assert_allclose(values["complexity"], [0] * 3 + [np.log(64)] * 3, atol=1e-3)


def test_what_is_wrong_or_missing_is_said(linear, monkeypatch):
    network, images, labels, exact = linear
    with pytest.raises(ValueError, match=r"maps must be finite and of shape \(6, 8, 8, 1\)"):
        al.explain.evaluate(network, images, labels, exact[:5])
    with pytest.raises(ValueError, match="no metric of maps is called 'beauty': choose among faithfulness"):
        al.explain.evaluate(network, images, labels, exact, metrics=["beauty"])
    monkeypatch.setitem(sys.modules, "quantus", None)
    with pytest.raises(RuntimeError, match="metrics of maps need quantus: pip install quantus"):
        al.explain.evaluate(network, images, labels, exact)
