"""Networks and images as users have them, through `advlens fit`, `screen` and `evaluate`."""

import importlib
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers

from advlens import cli, guard

SHAPE, MEANS = (8, 8, 3), [103.939, 116.779, 123.68]  # of blue, green and red
FIT = [
    "fit",
    "--model",
    "mine.keras",
    "--train",
    "train.npz",
    "--fpr",
    "0.2",
    "--lenses",
    "max_softmax,total_variation",
]


@pytest.fixture(autouse=True)
def coloured(tmp_path, monkeypatch):
    """A folder to stand in, with images whose class is their brightest channel, red, green or blue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADVLENS_PROGRESS", "off")
    rng = np.random.default_rng(0)
    for name, n in (("train", 200), ("new", 120)):
        images, labels = 0.6 * rng.random((n, *SHAPE)), rng.integers(0, 3, n)
        images[np.arange(n), ..., labels] += 0.3
        np.savez(f"{name}.npz", x=np.rint(255 * images).astype(np.uint8), y=labels)
    return np.load("new.npz")["x"] / np.float32(255)


def brightest(*first, scale=1.0, offset=(0.0, 0.0, 0.0), order=(0, 1, 2), activation=None):
    """The class is the brightest channel, which the network takes in that order, scaled and less the offset."""
    mean = [layers.GlobalAveragePooling2D(), layers.Dense(3, activation=activation)]
    made = keras.Sequential([layers.Input(SHAPE), *first, *mean])
    kernel = 10 / scale * np.eye(3)[list(order)]
    made.layers[-1].set_weights([kernel, np.asarray(offset)[list(order)] * 10 / scale])
    return made


def evaluated(capsys, *options):
    """The rows of `evaluate`, once the guard has screened the new images."""
    assert cli.main(["screen", "guard", "new.npz", "--json", *options]) == 3
    told = json.loads(capsys.readouterr().out)
    assert told["flagged"] < 60
    command = ["evaluate", "guard", "--dataset", "new.npz", "--attacks", "fgsm", "--images", "80", "--seeds", "1"]
    assert cli.main([*command, "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_network_of_bgr_images_less_their_means_goes_through_the_three_commands(coloured, capsys):
    brightest(scale=255, offset=MEANS, order=(2, 1, 0)).save("mine.keras")
    ends = [",".join(str(round(end - mean, 3)) for mean in MEANS) for end in (0, 255)]
    assert cli.main([*FIT, "--input-range", *ends]) == 2  # red for blue
    assert "classifies" in capsys.readouterr().err
    assert cli.main([*FIT, "--input-range", *ends, "--bgr"]) == 0
    assert "As was stated, it takes [-103.939, -116.779, -123.68] for black" in capsys.readouterr().out
    made = guard.Guard.load("guard")
    assert (made.card["bgr"], made.card["passes"]) == (True, 1)
    np.testing.assert_allclose(made.classifier.predict(coloured), 10 * coloured.mean(axis=(1, 2)), atol=1e-4)
    assert evaluated(capsys)


@pytest.mark.parametrize("given", [["0;255", "1"], ["black", "white"]])
def test_what_is_no_range_is_said_and_how_it_is_written(given, capsys):
    assert cli.main([*FIT, "--input-range", *given]) == 2
    assert "or of each one a channel: --input-range -103.9,-116.8,-123.7 151.1" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stated_range_is_not_doubted_when_the_guard_is_evaluated(capsys):
    brightest(offset=(0.3, 0, 0)).save("mine.keras")  # in [-1, 1] it would err less
    assert cli.main(FIT) == 2
    assert "say what it takes, as by --input-range -1 1 (0 1 if it is [0, 1])" in capsys.readouterr().err
    assert cli.main([*FIT, "--input-range", "0", "1"]) == 0
    capsys.readouterr()
    assert guard.Guard.load("guard").classifier.input_range == [[0.0], [1.0]]
    assert evaluated(capsys)


OWN = """
import keras

class AlwaysDropout(keras.layers.Dropout):
    def call(self, inputs, training=None):
        return super().call(inputs, training=True)

def doubled(x):
    return 2 * x
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own, which the commands have not imported yet; its names are forgotten afterwards."""
    (tmp_path / "my_layers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_layers")
    forget()


def forget():
    sys.modules.pop("my_layers", None)
    for name in ("AlwaysDropout", "doubled"):
        keras.saving.get_custom_objects().pop(name, None)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_random_network_of_own_layers_is_trusted_and_averaged_by_options_that_its_refusals_name(own, capsys):
    brightest(own.AlwaysDropout(0.1)).save("mine.keras")
    forget()
    assert cli.main(FIT) == 2
    assert "holds AlwaysDropout, whose code opening it would run" in (said := capsys.readouterr().err)
    assert "if you trust it, register what is yours (--trust-module my_layers), or open it by" in said
    trusted = ["--trust-module", "my_layers"]
    assert cli.main([*FIT, *trusted]) == 2
    assert "pass passes=20 (--passes 20) to average as many" in capsys.readouterr().err
    assert cli.main([*FIT, *trusted, "--passes", "20"]) == 0
    assert "20 passes through it are averaged" in capsys.readouterr().out
    assert guard.Guard.load("guard").card["passes"] == 20
    forget()
    assert cli.main(["screen", "guard", "new.npz", "--json"]) == 2
    assert "guard/network.keras holds AlwaysDropout" in capsys.readouterr().err
    assert evaluated(capsys, *trusted)
    assert cli.main([*FIT, "--out", "other", "--trust-module", "yours"]) == 2
    assert "no module is called 'yours': looked in" in capsys.readouterr().err


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lambda_runs_where_an_option_says_so(named, own, capsys):
    brightest(layers.Lambda(own.doubled if named else lambda x: 2 * x, output_shape=SHAPE)).save("mine.keras")
    assert cli.main(FIT) == 2
    said = capsys.readouterr().err
    assert f"holds Lambda{', doubled' * named}, whose code opening it would run: if you trust it, " in said
    assert "let Lambdas run (--trust-lambda), or open it by keras.models.load_model(path, safe_mode=False)" in said
    trusted = ["--trust-lambda", *["--trust-module", "my_layers"] * named]
    assert cli.main([*FIT, *trusted]) == 0
    capsys.readouterr()
    assert evaluated(capsys, *trusted)
    assert cli.main(["evaluate", "guard", "--dataset", "new.npz"]) == 2
    assert "guard/network.keras holds Lambda" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_network_with_a_softmax_goes_through_the_three_commands(coloured, capsys):
    brightest(activation="softmax").save("mine.keras")
    assert cli.main(FIT) == 0
    capsys.readouterr()
    made = guard.Guard.load("guard")
    np.testing.assert_allclose(made.classifier.predict(coloured), 10 * coloured.mean(axis=(1, 2)), atol=1e-5)
    assert evaluated(capsys)
