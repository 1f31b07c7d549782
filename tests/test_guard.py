"""Guards: calibrated verdicts of several lenses, their files, their commands and their report."""

import hashlib
import json
import re
import shlex
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import kstest
from sklearn.datasets import load_digits

import advlens as al
from advlens import cli, guard
from advlens.given_images import read_images
from advlens.report import write_report
from advlens.store import makers
from advlens.workbench import Workbench

TRAP = b'"module": "trap", "class_name": "Trap"'
TRAIN, CLEAN, NEW = slice(0, 600), slice(600, 1300), slice(1300, None)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 real digits of 8 × 8 pixels, shuffled, on the 8-bit grid."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    levels = np.rint(images[order].reshape(-1, 8, 8, 1) * 255 / 16)
    return (levels / 255).astype(np.float32), labels[order]


@pytest.fixture(scope="module")
def network(digits) -> keras.Model:
    """Trained for two seconds on the first 600."""
    keras.utils.set_random_seed(7)
    parts = [keras.layers.Conv2D(width, 3, activation="relu", name=f"conv{width}") for width in (16, 32)]
    parts += [keras.layers.Flatten(), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(10, name="logits")]
    network = keras.Sequential([keras.Input((8, 8, 1)), *parts], name="tiny")
    network.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(digits[0][TRAIN], digits[1][TRAIN], batch_size=32, epochs=12, verbose=0)
    return network


@pytest.fixture(scope="module")
def fitted(network, digits) -> guard.Guard:
    """Calibrated on images that neither the network nor the lenses have seen."""
    return al.fit(network, digits[0][TRAIN], digits[1][TRAIN], clean=digits[0][CLEAN])


@pytest.fixture(scope="module")
def attacked(fitted, digits) -> np.ndarray:
    """Successful attacks by FGSM at a large ε, in 8 bits."""
    with pytest.warns(UserWarning, match="misclassified: left out"):
        made = al.craft("fgsm", fitted.classifier, digits[0][NEW], digits[1][NEW], eps=0.5)
    return np.rint(made.adversarial[made.success] * 255).astype(np.float32) / 255


def test_clean_images_are_flagged_at_the_nominal_rate_and_attacks_far_more_often(fitted, digits, attacked):
    table = fitted.screen(digits[0][NEW])
    assert list(fitted.calibration) == [name.replace("_", " ") for name in guard.LENSES]
    for fpr in (0.05, 0.2):
        flagged = fitted.screen(digits[0][NEW], fpr=fpr)["flagged"].mean()
        assert abs(flagged - fpr) < 4 * np.sqrt(fpr * (1 - fpr) * (1 / 350 + 1 / len(table)))
    assert fitted.screen(attacked)["flagged"].mean() > 10 * table["flagged"].mean()
    observed = fitted.card["verdicts"][-1]
    assert (observed["lens"], observed["ties"]) == ("all lenses", 1)
    assert observed["low"] < 0.05 < observed["high"]


def test_p_values_are_uniform_on_clean_images_and_never_zero(fitted, digits):
    table = fitted.screen(digits[0][NEW])
    assert kstest(table["p-value"], "uniform").pvalue > 0.001
    p_values = table.filter(like="p-value")
    assert p_values.shape[1] == len(guard.LENSES) + 1
    assert p_values.to_numpy().min() >= 1 / 351
    for share in (0.05, 0.25):
        assert ((p_values <= share).mean() < share + 4 * np.sqrt(share * (1 - share) * (1 / 350 + 1 / 497))).all()


def test_a_lens_s_p_value_and_the_combination_are_what_they_say(fitted, digits):
    table, clean = fitted.screen(digits[0][NEW][:5]), fitted.calibration
    by_hand = [(1 + (clean["augmentation"] >= score).sum()) / 351 for score in table["augmentation score"]]
    np.testing.assert_allclose(table["augmentation p-value"], by_hand)
    shares = table[[f"{name} p-value" for name in clean]]
    np.testing.assert_allclose(table["score"], -2 * np.log(shares).sum(axis=1))
    np.testing.assert_array_equal(fitted(digits[0][NEW][:5]), table["score"])
    others = np.stack([[(clean[name].drop(i) >= clean[name][i]).sum() for i in range(350)] for name in clean])
    combined = -2 * np.log((1 + others) / 350).sum(axis=0)
    np.testing.assert_allclose(table["p-value"], [(1 + (combined >= each).sum()) / 351 for each in table["score"]])


def test_a_guard_comes_back_from_plain_files_with_the_same_scores(fitted, digits, tmp_path):
    folder = fitted.save(tmp_path / "guard")
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".md", ".npz", ".csv", ".keras"}
    again = guard.Guard.load(folder)
    pd.testing.assert_frame_equal(again.screen(digits[0][NEW][:50]), fitted.screen(digits[0][NEW][:50]))
    assert again.card == fitted.card
    assert again.describe() == (folder / "README.md").read_text()
    with pytest.raises(FileExistsError):
        fitted.save(folder)


def test_a_damaged_guard_says_so_in_a_sentence(fitted, workplace, capsys):
    for path in sorted(fitted.save("guard").rglob("*")):
        if path.is_file() and path.name != "README.md":
            whole = path.read_bytes()
            for content in (whole[: len(whole) // 2], b"{}"):
                path.write_bytes(content)
                assert cli.main(["screen", "guard", "new.npz", "--out", "r"]) == 2
                assert capsys.readouterr().err == f"advlens: {path} is damaged: fit the guard again\n"
            path.unlink()
            with pytest.raises(ValueError, match=r"is damaged: fit the guard again|holds no guard"):
                guard.Guard.load("guard")
            path.write_bytes(whole)
    assert cli.main(["screen", "guard", "new.npz", "--out", "r"]) == 3


def test_a_network_that_was_put_into_a_lens_s_folder_runs_no_code(fitted, network, workplace, monkeypatch):
    (workplace / "trap.py").write_text(f"open({str(workplace / 'sprung')!r}, 'w')\nclass Trap: pass\n")
    monkeypatch.syspath_prepend(str(workplace))
    folder = fitted.save("guard") / "lenses" / "max_softmax"
    with zipfile.ZipFile("mine.keras") as whole, zipfile.ZipFile(folder / "head.network.keras", "w") as trapped:
        for name in whole.namelist():
            config = whole.read(name).replace(b'"module": "keras.layers", "class_name": "Dense"', TRAP)
            assert (TRAP in config) == (name == "config.json")
            trapped.writestr(name, config)
    assert guard.Guard.load("guard").card == fitted.card
    about = json.loads((folder / "detector.json").read_text())
    about["sha256"] = {"head.network.keras": hashlib.sha256((folder / "head.network.keras").read_bytes()).hexdigest()}
    (folder / "detector.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"head.network\.keras holds Trap, whose code opening it would run"):
        al.detectors.load(folder, fitted.classifier)
    assert not (workplace / "sprung").exists()


def stop(*_, **__):
    raise KeyboardInterrupt


def test_a_stopped_screening_leaves_no_report_and_the_same_command_goes_on(workplace, fitted, monkeypatch, capsys):
    fitted.save("guard")
    command = ["screen", "guard", "new.npz"]
    with monkeypatch.context() as patch:
        patch.setattr("advlens.report._page", stop)
        assert cli.main(command) == 130
    assert "run the same command to go on" in capsys.readouterr().err
    assert not {"report", ".partial-report"} & {path.name for path in workplace.iterdir()}
    assert cli.main(command) == 3
    assert {path.suffix for path in (workplace / "report").iterdir()} == {".html", ".csv", ".parquet"}


@pytest.mark.parametrize("at", ["advlens.guard.write_part", "advlens.detectors.detector.write_part"])
def test_saving_that_is_stopped_leaves_nothing(at, fitted, tmp_path, monkeypatch):
    lens = fitted.lenses[fitted.card["lenses"].index("deep_knn")]
    monkeypatch.setattr(at, stop)
    with pytest.raises(KeyboardInterrupt):
        fitted.save(tmp_path / "guard")
    if "detectors" in at:
        with pytest.raises(KeyboardInterrupt):
            lens.save(tmp_path / "lens")
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    (tmp_path / ".partial-guard").mkdir()  # of a process that was killed
    (tmp_path / ".partial-guard" / "half").touch()
    assert sorted(path.name for path in fitted.save(tmp_path / "guard").iterdir()) == [
        *("README.md", "calibration.csv", "card.json", "lenses", "network.keras")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["guard"]


def test_a_network_in_a_network_that_takes_0_to_255_comes_back_as_well(network, digits, workplace):
    inner = keras.Sequential([keras.Input((8, 8, 1)), *network.layers], name="inner")
    outer = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), inner])
    with pytest.raises(ValueError, match=r"pass Classifier\(network, input_range=\(0, 255\)\)"):
        al.fit(outer, digits[0][TRAIN], digits[1][TRAIN])
    made = al.fit(al.Classifier(outer, input_range=(0, 255)), digits[0][TRAIN], digits[1][TRAIN])
    assert made.card["lenses_left_out"] == {}
    outer.save("outer.keras")
    fit = ["fit", "--model", "outer.keras", "--train", "train.npz"]
    assert cli.main(fit) == 2
    assert cli.main([*fit, "--input-range", "0", "255"]) == 0
    again = guard.Guard.load("guard")
    pd.testing.assert_frame_equal(again.screen(digits[0][NEW][:50]), made.screen(digits[0][NEW][:50]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_flagged_never_passed_counted_and_said(
    value, fitted, digits, workplace, monkeypatch, capsys
):
    lens, images = fitted.lenses[2], digits[0][NEW][:4]
    scores = lens.scores(images)
    monkeypatch.setattr(lens, "scores", lambda images: np.where(np.arange(len(images)) == 1, value, scores.min()))
    with pytest.warns(UserWarning, match="1 of 4 scores are NaN or infinite: these images are flagged"):
        table = fitted.screen(images)
    assert table["flagged"].tolist() == [False, True, False, False]
    assert np.isnan(table["score"]).tolist() == np.isnan(fitted(images)).tolist() == [False, True, False, False]
    assert table[f"{lens.name} p-value"][1] == table["p-value"][1] == 1 / (len(fitted.calibration) + 1)
    said = (
        "1 of 4 images is flagged: about 1 more than chance; of as many clean ones about 0.2 would be. Of 1 of them a"
    )
    assert said in write_report(fitted, images, table, workplace / "report", fpr=0.05).read_text()
    monkeypatch.setattr(guard.Guard, "load", lambda folder, **_: fitted)
    np.savez("four.npz", x=images)
    with pytest.warns(UserWarning, match="1 of 4 scores are NaN or infinite"):
        assert cli.main(["screen", "guard", "four.npz", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["flagged"], told["broken_scores"]) == (1, 1)


def test_lenses_that_do_not_work_are_left_out_and_say_why(digits):
    keras.utils.set_random_seed(1)
    dense = [keras.layers.Flatten(), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)]
    network = keras.Sequential([keras.Input((8, 8, 1)), *dense])
    made = al.fit(network, digits[0][:200], lenses=["local_entropy", "lid", "energy"], fpr=0.1)
    assert made.card["lenses"] == ["energy"]
    assert "has no convolution" in made.card["lenses_left_out"]["local_entropy"]
    assert "learns from attacks" in made.card["lenses_left_out"]["lid"]
    assert "Left out: lid: it learns from attacks" in made.describe()
    assert (made.card["fitted_images"], made.card["calibration_images"], made.card["check_images"]) == (120, 40, 40)
    with pytest.raises(ValueError, match="no lens works on this network: lid: it learns"):
        al.fit(network, digits[0][:200], lenses=["lid"])


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"lenses": ["entropie"]}, "no lens is called 'entropie': choose among all_six"),
        (
            {"fpr": 0.001},
            r"rate of 0.001 needs 1,998 clean images \(half of them calibrate\), got 240",
        ),
        ({"fpr": 5.0}, "fpr must lie between 0 and 1, got 5"),
        ({"clean": np.zeros((9, 4, 4, 1), np.float32)}, r"images must have shape \(n, 8, 8, 1\)"),
    ],
)
def test_what_is_wrong_is_said(network, digits, about, said):
    with pytest.raises(ValueError, match=said):
        al.fit(network, digits[0][TRAIN], digits[1][TRAIN], **about)


@pytest.fixture
def workplace(network, digits, tmp_path, monkeypatch):
    """A folder to stand in, with a network and images."""
    monkeypatch.chdir(tmp_path)
    network.save("mine.keras")
    for name, rows in (("train", TRAIN), ("clean", CLEAN), ("new", NEW)):
        np.savez(f"{name}.npz", x=np.rint(digits[0][rows, ..., 0] * 255).astype(np.uint8), y=digits[1][rows])
    return tmp_path


def as_files(folder, images, labels=None):
    """8-bit PNG files, one folder a class where there are labels."""
    for number, image in enumerate(images):
        place = folder if labels is None else folder / str(labels[number])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(image[..., 0] * 255).astype(np.uint8)).save(place / f"{number:04}.png")


@pytest.mark.parametrize("kind", ["folders", "npz"])
def test_the_commands_of_the_page_run(kind, workplace, attacked, digits, network, capsys, monkeypatch):
    monkeypatch.setenv("ADVLENS_PROGRESS", "off")
    page = (Path(guard.__file__).parents[2] / "docs" / "screening.md").read_text()
    block = re.findall(r"```\n(advlens .*?)```", page, re.DOTALL)[kind == "npz"]
    fit, screen, evaluate = (shlex.split(line)[1:] for line in block.splitlines())
    if kind == "folders":
        keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), network]).save("mine.keras")
        as_files(workplace / "images", attacked[:12])
        as_files(workplace / "clean", digits[0][CLEAN])
        for name, rows in (("train", TRAIN), ("new", NEW)):
            as_files(workplace / name, digits[0][rows], digits[1][rows])
    np.savez("images.npz", x=attacked[:12])
    assert cli.main(fit) == 0
    assert re.search(r"network classifies 9\d % of the training images as labelled", capsys.readouterr().out)
    assert cli.main(screen) == 3
    told = capsys.readouterr().out
    assert re.search(
        r"1?\d of 12 images are flagged: about 1?\d more than chance; of as many clean ones about 0.6", told
    )
    table = pd.read_csv("report/screening.csv", dtype={"image": str})
    assert len(table) == 12
    pd.testing.assert_frame_equal(table, pd.read_parquet("report/screening.parquet"))
    with pytest.warns(UserWarning, match=r"\d+ images are attacked, not 2000: three quarters of the"):
        assert cli.main([*evaluate, "--images", "2000", "--seeds", "2"]) == 0
    told = capsys.readouterr().out
    assert re.search(
        r"FGSM at eps = 77/255 fooled the network on \d+ of the judged .* guard flags \d+ % of them \[", told
    )
    assert "| fgsm" in told


def test_the_code_of_the_page_runs(workplace, attacked, digits, network):
    page = (Path(guard.__file__).parents[2] / "docs" / "screening.md").read_text()
    names = {"network": network, "train_images": digits[0][TRAIN], "train_labels": digits[1][TRAIN]}
    names |= {"clean_images": digits[0][CLEAN], "new_images": attacked[:12]}
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, names)
    assert names["table"]["flagged"].sum() > 3


def test_the_commands_exit_codes_say_what_was_found(workplace, fitted, capsys):
    fitted.save("guard")
    np.savez("one.npz", x=np.load("clean.npz")["x"][:1])
    assert cli.main(["screen", "guard", "one.npz", "--json"]) == 0
    assert cli.main(["screen", "guard", "new.npz", "--json", "--fpr", "0.1"]) == 3
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["flagged"] for each in told] == [0, sum(row["flagged"] for row in told[1]["rows"])]
    assert [each["expected_false_flags"] for each in told] == pytest.approx([0.05, 49.7])
    assert not (workplace / "report").exists()
    (workplace / "report").mkdir()
    for command, said in (
        (["screen", "guard", "new.npz"], "report exists already: name a new folder with --out"),
        (
            ["screen", "new.npz", "guard", "--out", "r"],
            "the guard comes first, then the images: advlens screen g",
        ),
        (["evaluate", "gard"], "or as the folder of a guard, got 'gard', which is neither"),
        (["evaluate", "guard", "--dataset", "one.npz"], "one.npz holds no y, and by labels attacks are judged"),
        (
            ["fit", "--input-range", "0,255", "--out", "o"],
            "--input-range takes two numbers, black and white, as",
        ),
        (["screen", "nothing", "one.npz", "--out", "r"], "nothing holds no guard, as there is no such folder"),
        (
            ["screen", "guard", "one.npz", "--fpr", "0.001", "--json"],
            "(half of them calibrate), got 700",
        ),
        (["fit", "--model", "mine.keras", "--train", "train.npz"], "guard exists already"),
        (["fit", "--model", "mine.h5", "--train", "train.npz", "--out", "other"], "network must be"),
    ):
        assert cli.main(command) == 2
        assert said in capsys.readouterr().err


def test_a_package_that_an_attack_needs_is_named(workplace, fitted, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "multiprocess", None)
    fitted.save("guard")
    assert cli.main(["evaluate", "guard", "--dataset", "new.npz", "--attacks", "AutoAttack", "--images", "60"]) == 1
    said = "advlens: AutoAttack needs the package 'multiprocess': python -m pip install multiprocess\n"
    assert capsys.readouterr().err == said


def test_fit_prints_its_card_as_json(workplace, capsys):
    fit = ["fit", "--model", "mine.keras", "--train", "train.npz", "--lenses", "energy"]
    assert cli.main([*fit, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == guard.Guard.load("guard").card
    assert told["lenses"] == ["energy"]


def test_a_file_that_holds_a_layer_alone_is_bad_input(workplace, capsys):
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    keras.saving.save_model(layer, "layer.keras")
    assert cli.main(["fit", "--model", "layer.keras", "--train", "train.npz"]) == 2
    assert "layer.keras holds a Dense, which is no network: network.save(" in capsys.readouterr().err


def test_a_run_s_guard_is_fitted_once_anew_after_a_change_of_a_lens_and_leaves_nothing(
    workplace, network, digits, monkeypatch
):
    made, lock = [], makers.read_lock()

    def fit(*images, **about):
        made.append(time.sleep(0.5))
        return guard.fit(*images, lenses=["energy"], **about)

    monkeypatch.setattr("advlens.workbench.fit", fit)
    monkeypatch.setenv("ADVLENS_DATA", str(workplace))
    bench = Workbench(run="try", dataset="train.npz", seed=0)
    ask = partial(bench.guard, al.Classifier(network), images=300, clean=digits[0][CLEAN])
    left = bench.folder / "guards" / ".partial-of-a-killed-process"
    left.mkdir(parents=True)
    with ThreadPoolExecutor() as threads:
        one, other = (future.result() for future in [threads.submit(ask) for _ in range(2)])
    assert (len(made), one.card) == (1, other.card)
    assert ask().card == one.card
    for name, number in (("advlens.attacks.deepfool.DeepFool", 1), ("advlens.lenses.outputs.Outputs", 2)):
        changed = lock | {name: lock[name] | {"version": lock[name]["version"] + 1}}
        monkeypatch.setattr("advlens.workbench.read_lock", lambda changed=changed: changed)
        ask()
        assert len(made) == number
    assert "advlens.guard.fit" in lock
    assert len([path for path in left.parent.iterdir() if path.name != ".lock"]) == 2


def test_images_are_read_from_folders_and_files(workplace, digits):
    about = {"shape": (8, 8, 1), "num_classes": 2}
    for number, (kind, suffix) in enumerate((("a", "png"), ("b", "webp"))):
        (workplace / "all" / kind).mkdir(parents=True)
        pixels = np.rint(digits[0][number, ..., 0] * 255).astype(np.uint8)
        Image.fromarray(pixels).save(workplace / "all" / kind / f"x.{suffix}", lossless=True)
    given = read_images("all", **about)
    assert given.names == ["a/x.png", "b/x.webp"]
    assert given.labels.tolist() == [0, 1]
    np.testing.assert_allclose(given.images, digits[0][:2], atol=1e-6)
    np.testing.assert_allclose(read_images("train.npz", **about).images, digits[0][TRAIN], atol=1e-6)
    np.savez("none.npz", y=np.zeros(3))
    for name, said in (("none.npz", "must hold images as x"), ("nothing", "'nothing' is no data set's name")):
        with pytest.raises(ValueError, match=said):
            read_images(name, **about)
    with pytest.warns(UserWarning, match="2 of 2 images are resized to 16 × 8 pixels"):
        assert read_images("all", shape=(16, 8, 3), num_classes=2).images.shape == (2, 16, 8, 3)
    (workplace / "all" / "c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"c.png is no picture, or a damaged one"):
        read_images("all", **about)


def test_a_browser_opens_the_report(browser, fitted, digits, attacked, tmp_path):
    images = np.concatenate([digits[0][NEW][:70], attacked[:5]])
    names = [*map(str, range(70)), "<script>alert(1)</script>", *"abcd"]
    table = fitted.screen(images, image_names=names)
    page = write_report(fitted, images, table, tmp_path / "report", fpr=0.05)
    with pytest.raises(FileExistsError, match="exists already"):
        write_report(fitted, images, table, tmp_path / "report", fpr=0.05)
    context = browser.new_context(viewport={"width": 390, "height": 800}, offline=True)
    shown, faults = context.new_page(), []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("dialog", lambda dialog: faults.append(dialog.message))
    shown.goto(page.as_uri())
    flagged = int(table["flagged"].sum())
    assert shown.locator("h1").inner_text() == f"{flagged} of 75 images are flagged"
    assert shown.locator("article.flagged").count() == flagged >= 3
    first = shown.locator("article h3").first.inner_text()
    assert first in names[70:]
    assert shown.locator("article").count() == 60
    assert shown.locator("article img").count() == 60 * 5
    assert shown.evaluate("[...document.images].every((image) => image.naturalWidth == 8)")
    assert shown.locator("article .mark").count() == 60 * len(guard.LENSES)
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for said in ("of as many clean ones about 3.8 would be", "total variation: how much neighbouring pixels differ"):
        assert said in shown.inner_text("body")
    assert shown.locator("a").count() == 0
    assert faults == []
    context.close()
