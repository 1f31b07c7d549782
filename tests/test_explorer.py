"""The explorer: what it shows of an image, and its notebook in JupyterLab, driven by a browser."""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import timeit
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest

import advlens as al
from advlens.explorer import ATTACKS, KINDS, MAPS, Explorer, look, page
from advlens.guard import FUSED
from tests.conftest import DATA

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "explore.ipynb"
SMALL = {"datasets": ["digits.npz"], "train_images": 0, "dropout_epochs": 15}


@pytest.fixture(scope="module")
def guard(max_pooling_classifier, real_images, real_labels):
    clean = real_images[250:350]
    return al.fit(max_pooling_classifier, real_images[:250], real_labels[:250], clean=clean)


@pytest.fixture(scope="module")
def shown(guard, real_images, real_labels):
    """An image that the network classifies correctly, and its label."""
    correct = guard.classifier.predict(real_images[350:]).argmax(axis=1) == real_labels[350:]
    row = 350 + np.flatnonzero(correct)[0]
    return real_images[row], int(real_labels[row])


def test_a_view_says_what_the_guard_says_of_the_clean_the_noisy_and_the_attacked_image(
    guard, shown, monkeypatch, capsys
):
    monkeypatch.setenv("ADVLENS_PROGRESS", "")
    view = look(guard, *shown, attack="pgd", strength=64)
    np.testing.assert_allclose(view.images[0], np.rint(shown[0] * 255) / 255, atol=1e-6)
    change = view.images[2] - view.images[0]
    assert 63 <= np.abs(change * 255).max() <= 64.5
    np.testing.assert_allclose(np.linalg.norm(view.images[1] - view.images[0]), np.linalg.norm(change), rtol=0.1)
    assert view.verdicts["image"].tolist() == list(KINDS)
    np.testing.assert_allclose(view.lenses.loc[list(guard.calibration), list(KINDS)].T, guard.scores(view.images))
    above = view.lenses[list(KINDS)].gt(view.lenses["threshold"], axis=0)
    np.testing.assert_array_equal(above.loc[FUSED], view.verdicts["flagged"])
    for name in guard.calibration:
        np.testing.assert_array_equal(above.loc[name], view.verdicts[f"{name} p-value"] <= 0.05 + 1e-9)
    assert view.verdicts["predicted"][2] != view.verdicts["predicted"][0] == shown[1]
    for method in MAPS:
        own = al.explain(guard.classifier, view.images, method=method, engine="native")
        np.testing.assert_array_equal(view.maps[method], own)
    pictures, labels = view.nearest
    assert pictures.shape == (3, 5, 28, 28, 1)
    assert (labels[0] == shown[1]).mean() > 0.5
    capsys.readouterr()
    look(guard, *shown, attack="deepfool")
    assert capsys.readouterr() == ("", "")  # no bar


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_stronger_further_right_and_costs_little_more_than_the_guard(guard, shown, attack):
    slider = ATTACKS[attack][2]
    weak, strong = (look(guard, *shown, attack=attack, strength=slider[end]) for end in ("min", "max"))
    lengths = [np.linalg.norm(view.images[2] - view.images[0]) for view in (weak, strong)]
    assert lengths[0] < lengths[1]
    screening = min(timeit.repeat(lambda: guard.screen(weak.images), number=1, repeat=3))
    again = [look(guard, *shown, attack=attack).seconds for _ in range(2)]
    assert min(weak.seconds, strong.seconds, *again) < 10 * screening  # nothing is compiled anew


def test_what_can_be_chosen_and_what_is_wrong_is_shown(guard, real_images, real_labels):
    def broken():
        raise OSError("<no> data: make data")

    labels = np.where(np.arange(400) < 395, (real_labels + 1) % 10, real_labels)  # five at most are correct
    explorer = Explorer({"mine": lambda: (guard, real_images, labels, [f"<{i}>" for i in range(10)]), "none": broken})
    correct = np.flatnonzero(guard.classifier.predict(real_images).argmax(axis=1) == labels)
    assert [label for _, label in explorer.label.options] == sorted(set(labels[correct]))
    assert "&lt;" in explorer.page.value
    assert "<no>" not in explorer.page.value
    before = explorer.page.value
    explorer.attack.value = "deepfool"
    assert (explorer.strength.description, explorer.strength.max) == ("logit margin", 10)
    assert explorer.page.value != before
    explorer.dataset.value = "none"
    assert explorer.page.value == "<p><b>&lt;no&gt; data: make data</b></p>"
    explorer.dataset.value = "mine"
    assert "deepfool" in explorer.page.value.lower()


def test_a_data_set_that_can_t_be_opened_leaves_the_one_before_as_it_was(guard, real_images, real_labels):
    wrong = (guard.classifier.predict(real_images[:50]).argmax(axis=1) + 1) % 10
    names = {name: [f"{name} {number}" for number in range(10)] for name in ("first", "second")}
    sources = {"first": lambda: (guard, real_images, real_labels, names["first"])}
    explorer = Explorer(sources | {"second": lambda: (guard, real_images[:50], wrong, names["second"])})
    before = explorer.page.value
    explorer.dataset.value = "second"
    assert "the network misclassifies all 50 images of second" in explorer.page.value
    explorer.dataset.value = "first"
    without_seconds = [re.sub(r"\(\d+\.\d s\)", "", shown) for shown in (before, explorer.page.value)]
    assert without_seconds[0] == without_seconds[1]


def test_a_map_that_the_network_does_not_allow_is_left_out_and_said(guard, shown, monkeypatch):
    monkeypatch.setattr("advlens.explorer.MAPS", ("gradient", "lrp.w_flat"))
    view = look(guard, *shown)
    assert list(view.maps) == ["gradient"]
    assert "No map by lrp.w_flat" in page(guard, view, title="x", class_names="0123456789")


@pytest.fixture
def lab(tmp_path):
    """The address of the notebook, at a small size, in a JupyterLab of its own."""
    shutil.copy(DATA / "mnist.npz", tmp_path / "digits.npz")
    book = nbformat.read(NOTEBOOK, as_version=4)
    parameters = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += "".join(f"\n{name} = {value!r}" for name, value in SMALL.items())
    nbformat.write(book, tmp_path / "explore.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, own = secrets.token_hex(), {"ADVLENS_DATA": str(tmp_path / "data")}
    own |= {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    own |= {"JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"), "JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--allow-root"]
    command += ["--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={tmp_path}"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            command, env=os.environ | own, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until, address = time.monotonic() + 60, f"http://127.0.0.1:{port}"
        while time.monotonic() < until and server.poll() is None:
            try:
                urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5)
                break
            except OSError:
                time.sleep(0.2)
        yield f"{address}/lab/tree/explore.ipynb?token={token}"
    finally:
        server.send_signal(signal.SIGTERM)  # it ends its kernels
        server.wait(20)


def test_the_notebook_s_widgets_answer_in_jupyterlab(browser, lab):
    shown, faults = browser.new_page(viewport={"width": 1400, "height": 3000}), []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.goto(lab)
    shown.get_by_text("| Idle").wait_for(timeout=60_000)  # before it has a kernel it would ask for one
    shown.get_by_text("Run", exact=True).click()
    shown.get_by_text("Run All Cells", exact=True).click()
    attacked = shown.locator('.advlens img[alt="image, attacked"]')
    attacked.wait_for(timeout=60_000)
    assert shown.locator(".advlens svg rect.attacked").count() >= 5
    assert shown.locator(".jp-RenderedMarkdown th").count() == 6
    assert shown.locator(".jp-RenderedMarkdown td strong").count() >= 3  # scores above their thresholds
    seen = [attacked.get_attribute("src")]

    def changed(act):
        act()
        shown.wait_for_function(
            "before => ![null, undefined, before].includes(document.querySelector("
            "'.advlens img[alt=\"image, attacked\"]')?.src)",
            arg=seen[-1],
            timeout=30_000,
        )
        seen.append(attacked.get_attribute("src"))

    changed(lambda: shown.locator(".noUi-handle").nth(1).press("ArrowRight"))  # the strength
    changed(lambda: shown.locator(".widget-dropdown select").nth(2).select_option(label="FGSM"))
    changed(lambda: shown.locator(".widget-dropdown select").nth(1).select_option(index=1))  # another class
    assert shown.locator(".advlens p").first.inner_text().startswith("FGSM, ε × 255 = 51: the prediction ")
    assert len(set(seen)) == 4
    assert shown.locator(".jp-RenderedText[data-mime-type*=stderr]").count() == 0
    assert faults == []
