"""Guards as newcomers meet them: ranges, orders of classes, folders of pictures, mistakes."""

import re
import warnings

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image

import advlens as al
from advlens import cli
from advlens.classifier import Classifier, WrongRange
from advlens.given_images import read_images
from advlens.report import attacks_in_words, write_report

LEVELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8)).astype(np.uint8)
RANGES = {"[0, 255]": (0, 255), "[-1, 1]": (-1, 1), "[0, 1]": (0, 1)}


@pytest.fixture(scope="module")
def digits(mnist):
    return mnist


@pytest.fixture(scope="module")
def networks(digits):
    """Name of `RANGES` → a network that learnt from images in it."""
    made = {}
    for name, (low, high) in RANGES.items():
        keras.utils.set_random_seed(1)
        parts = [layers.Rescaling(1 / 255)] if high == 255 else []
        parts += [layers.Flatten(), layers.Dense(32, activation="relu"), layers.Dense(10)]
        made[name] = keras.Sequential([layers.Input((28, 28, 1)), *parts])
        made[name].compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        made[name].fit(low + (high - low) * digits[0], digits[1], batch_size=32, epochs=12, verbose=0)
    return made


# ---------------------------------------------------------------- the network's range and order of classes


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(("name", "advice"), [("[0, 255]", "0 255"), ("[-1, 1]", "-1 1")])
def test_a_wrong_range_is_noticed_with_and_without_labels(name, advice, labelled, networks, digits):
    with pytest.raises(WrongRange) as refused:
        al.fit(networks[name], digits[0], digits[1] if labelled else None)
    assert f"say what it takes, as by --input-range {advice} (0 1 if it is [0, 1])" in refused.value.on_command_line
    made = al.fit(Classifier(networks[name], input_range=RANGES[name]), digits[0], lenses=["energy"])
    assert made.card["lenses"] == ["energy"]


@pytest.mark.parametrize("low", [-1, 0])
def test_a_range_that_does_not_show_plainly_is_said_where_the_network_is_good_in_it(low, digits):
    keras.utils.set_random_seed(1)
    network = keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(low + (1 - low) * digits[0], digits[1], batch_size=32, epochs=12, verbose=0)
    for stated in (None, (low, 1)):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            al.fit(Classifier(network, input_range=stated), digits[0], lenses=["energy"])
        told = [str(each.message) for each in said if "better apart in [-1, 1] than in [0, 1] (" in str(each.message)]
        assert len(told) == (low == -1 and stated is None)


def untrained():
    keras.utils.set_random_seed(3)
    return keras.Sequential([layers.Input((28, 28, 1)), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(10)])


@pytest.mark.parametrize("kind", ["trained", "one class", "two classes", "untrained"])
@pytest.mark.filterwarnings("error:the network tells the images")
def test_a_network_that_takes_0_to_1_is_not_refused(kind, networks, digits):
    rows = {"one class": digits[1] == 3, "two classes": digits[1] < 2}.get(kind, slice(None))
    network = untrained() if kind == "untrained" else networks["[0, 1]"]
    made = al.fit(network, digits[0][rows], lenses=["energy"], fpr=0.2)
    assert made.card["classified_as_labelled"] is None


def test_images_sorted_by_class_don_t_hide_a_wrong_range(networks, digits):
    order = np.argsort(digits[1])
    with pytest.raises(WrongRange, match=r"pass Classifier\(network, input_range=\(0, 255\)\)"):
        al.fit(networks["[0, 255]"], digits[0][order], digits[1][order])


def test_labels_that_the_network_does_not_know_are_refused_and_the_share_is_told(networks, digits, tmp_path):
    names = [f"number {number}" for number in range(10)]
    with pytest.raises(ValueError, match=r"classifies \d % of .*\(number 0: 0, .*number 9: 9\), and state what values"):
        al.fit(networks["[0, 1]"], digits[0], (digits[1] + 3) % 10, class_names=names)
    made = al.fit(networks["[0, 1]"], *digits, class_names=names, lenses=["energy"])
    assert 0.9 < made.card["classified_as_labelled"] <= 1
    assert "% of the training images as labelled" in made.describe()
    assert "Classes: 0 number 0, 1 number 1" in made.describe()
    images, changes = digits[0][:3], ["3 of 3 images are turned grey"]
    page = write_report(made, images, made.screen(images), tmp_path / "report", fpr=0.05, changes=changes).read_text()
    assert f"Predicted class {digits[1][0]} (number {digits[1][0]})" in page
    assert changes[0] in page
    with pytest.raises(ValueError, match="class_names must be 10 names, got 9"):
        al.fit(networks["[0, 1]"], *digits, class_names=names[1:])


def test_clean_images_must_not_be_the_training_images_and_enough(networks, digits):
    with pytest.raises(ValueError, match=r"clean images must not be training images, .* 300 of 300 are: give others"):
        al.fit(networks["[0, 1]"], digits[0], clean=digits[0][:300])
    with pytest.raises(ValueError, match=r"needs 38 clean images \(half of them calibrate\), got 10"):
        al.fit(networks["[0, 1]"], digits[0][:390], clean=digits[0][390:])


# ---------------------------------------------------------------- pictures and arrays


def test_what_is_done_to_pictures_is_said(tmp_path):
    coloured = np.stack([LEVELS, LEVELS // 2, LEVELS], axis=-1)
    for number in range(3):
        Image.fromarray(coloured[number]).save(tmp_path / f"{number}.png")
    Image.fromarray(np.repeat(LEVELS[3, ..., None], 3, axis=-1)).save(tmp_path / "grey.png")
    Image.fromarray(LEVELS[4]).resize((9, 8)).save(tmp_path / "wide.png")
    (tmp_path / "._0.png").write_bytes(b"Mac OS X")
    with pytest.warns(UserWarning, match="3 of 5 images are turned grey") as said:
        given = read_images(str(tmp_path), shape=(8, 8, 1), num_classes=2)
    assert given.names == ["0.png", "1.png", "2.png", "grey.png", "wide.png"]
    assert [str(each.message) for each in said] == list(given.changes)
    assert "1 of 5 images are resized to 8 × 8 pixels" in given.changes[1]
    alone = read_images(str(tmp_path / "grey.png"), shape=(8, 8, 1), num_classes=2)
    np.testing.assert_array_equal(alone.images, given.images[3:4])
    assert alone.names == ["grey.png"]


def test_folders_and_names_are_labels_where_there_is_one_a_class(tmp_path):
    for number, name in enumerate(("cat", "cat", "dog", "1", "1", "0")):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.fromarray(LEVELS[number]).save(tmp_path / name / f"{number}.png")
    about = {"shape": (8, 8, 1)}
    given = read_images(str(tmp_path), num_classes=4, **about)
    assert (given.labels.tolist(), given.class_names) == ([0, 1, 1, 2, 2, 3], ("0", "1", "cat", "dog"))
    fewer = read_images(str(tmp_path), num_classes=5, **about)
    assert (fewer.labels, fewer.why_no_labels) == (None, "4 folders, 5 classes: labels not used")
    np.savez(tmp_path / "named.npz", x=LEVELS, y=np.array(["dog", "cat", "dog", "cat", "cat", "dog"]))
    named = read_images(str(tmp_path / "named.npz"), num_classes=2, **about)
    assert (named.labels.tolist(), named.class_names) == ([1, 0, 1, 0, 0, 1], ("cat", "dog"))
    with pytest.raises(ValueError, match="y holds 2 names, and the network has 3 classes: save class numbers from 0"):
        read_images(str(tmp_path / "named.npz"), num_classes=3, **about)


@pytest.mark.parametrize(("part", "count"), [("train", 6), ("test", 2)])
@pytest.mark.parametrize("names", [("x_train", "y_train", "x_test", "y_test"), ("x", "y", "x_test", "y_test")])
def test_files_of_two_sets_give_the_one_that_is_asked_for(names, part, count, tmp_path):
    labels = np.array([1, 2, 3, 1, 2, 3])
    np.savez(tmp_path / "two.npz", **dict(zip(names, (LEVELS, labels[:, None], LEVELS[:2], labels[:2]), strict=True)))
    with pytest.warns(UserWarning, match="classes are numbered 1: 0, 2: 1, 3: 2") as said:
        given = read_images(str(tmp_path / "two.npz"), shape=(8, 8, 1), num_classes=3, part=part)
    assert given.images.shape == (count, 8, 8, 1)
    assert (given.labels.tolist(), given.class_names) == ((labels[:count] - 1).tolist(), ("1", "2", "3"))
    taken = names[0] if part == "train" else "x_test"
    assert str(said[0].message) == f"two.npz holds {names[0]} and x_test: {taken} is taken"
    same = read_images(str(tmp_path / "two.npz"), shape=(8, 8, 1), num_classes=4, part=part)  # class 0 has no image
    np.testing.assert_array_equal(np.ravel(same.labels), labels[:count])


# ---------------------------------------------------------------- what is said


def test_the_commands_for_newcomers_come_first(capsys):
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert re.findall(r"│ (\w+) +[A-Z]", listed)[:4] == ["fit", "screen", "evaluate", "run"]
    assert cli.main(["evaluate", "--help"]) == 0
    assert "Exit codes: 0 done, 2 bad input" in capsys.readouterr().out
    assert cli._names("FGSM,deepfool,FastGradientMethod") == ["fgsm", "deepfool", "FastGradientMethod"]


def test_an_attack_is_told_in_words(networks, digits):
    row = {"attack": "fgsm", "trained_on": "no attack", "n": 19, "tpr": 0.746, "low": 0.53, "high": 0.89}
    row |= {"roc_auc": 0.9, "best_baseline": "max softmax", "its_tpr": 0.5}
    told = attacks_in_words(pd.DataFrame([row]), {"fgsm": 0.2})
    assert "FGSM at eps = 51/255 fooled the network on 19 of the judged images; the guard flags 75 % of them" in told
    assert (
        "[53, 89 %]; the best trivial score, which was chosen by this very attack, 50 %. Fewer than 20: too few" in told
    )
    made = al.craft(
        "fgsm", networks["[0, 1]"], digits[0][:20], networks["[0, 1]"](digits[0][:20]).numpy().argmax(axis=1)
    )
    assert repr(made).startswith(f"AttackSet(fgsm: {made.success.sum()} of 20 images fool the network; eps=")
    assert "\n" not in repr(made)


def test_a_detector_is_not_saved_over_a_folder(networks, tmp_path):
    with pytest.raises(FileExistsError, match=r"exists already: name a new folder, or remove it"):
        al.detectors.create("energy", networks["[0, 1]"]).save(tmp_path)
