"""The leaderboard: entries as JSON, and the page that a browser makes of them."""

import json

import numpy as np
import pandas as pd
import pytest

from advlens.entries import METRIC, entries, page, read_entries, write_entries

ABOVE = f"{METRIC} above the best baseline"
TPR = {("fused", "fgsm"): 0.9, ("fused", "pgd"): 0.6, ("energy", "fgsm"): 0.8, ("energy", "pgd"): 0.7}
LEARNT = {"fused": ("the attack", "all but its family"), "energy": ("no attack",), "max softmax": ("no attack",)}


def rows(detector, attack, tpr, n=50):
    about = {"detector": detector, "attack": attack, "knowledge": "oblivious", "condition": "8-bit"}
    about |= {"family": "baseline" if detector == "max softmax" else "fused", "stratum": "success"}
    about |= {"negatives": "matched", "n_positive": n}
    for learnt in LEARNT[detector]:
        here = tpr if learnt != "all but its family" else tpr - 0.2
        for metric, value in ((METRIC, here), ("roc_auc", 0.95), (ABOVE, 0.1 if detector == "fused" else -0.1)):
            own = {"trained_on": learnt, "metric": metric, "estimate": value, "low": value - 0.05, "high": value}
            yield about | own


@pytest.fixture(scope="module")
def made():
    table = [row for (detector, attack), tpr in TPR.items() for row in rows(detector, attack, tpr)]
    table += [*rows("max softmax", "fgsm", 0.3), *rows("max softmax", "pgd", np.nan)]
    table += [*rows("energy", "one_pixel", 0.1, n=5)]  # too few to say anything
    shares = {("noisy", "fused"): 0.4, ("turned", "fused"): 0.1, ("noisy", "energy"): 0.02, ("turned", "energy"): 0.9}
    alarms = pd.DataFrame([{"kind": k, "detector": d, "estimate": share} for (k, d), share in shares.items()])
    return entries(pd.DataFrame(table), alarms, dataset="mnist", settings={"images": 50})


def test_an_entry_says_its_worst_attack_and_leaves_out_small_numbers(made):
    by_name = {entry["detector"]: entry for entry in made}
    assert by_name["fused"]["best_attack_so_far"] == "pgd"
    assert by_name["energy"]["best_attack_so_far"] == "pgd"
    assert {row["attack"] for row in by_name["energy"]["results"]} == {"fgsm", "pgd"}
    assert by_name["fused"]["alarms"] == {"noisy": 0.4, "turned": 0.1}
    assert by_name["max softmax"]["alarms"] == {}
    assert {row["tpr"] for row in by_name["max softmax"]["results"]} == {0.3, None}
    assert all(entry["potentially_unreliable"] for entry in made)


def test_entries_come_back_from_their_files(made, tmp_path):
    paths = write_entries(made, tmp_path)
    assert {path.name for path in paths} == {"mnist-fused.json", "mnist-energy.json", "mnist-max-softmax.json"}
    again = {entry["detector"]: entry for entry in read_entries(tmp_path)}
    assert again == {entry["detector"]: json.loads(json.dumps(entry)) for entry in made}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry.pop("detector"), "detector must be a str"),
        (lambda entry: entry["results"][0].pop("n"), "each of results needs n"),
        (lambda entry: entry["results"][0].update(tpr=1.2), r"tpr must lie in \[0, 1\] or be null, got 1.2"),
        (lambda entry: entry.update(alarms=3), "alarms must be a dict, got 3"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(made, tmp_path, change, said):
    entry = json.loads(json.dumps(made[0]))
    change(entry)
    (tmp_path / "mine.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match=rf"mine\.json: {said}"):
        read_entries(tmp_path)
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(ValueError, match=r"mine\.json is no JSON"):
        read_entries(tmp_path)


def test_the_page_needs_no_network_and_no_name_can_break_it(made):
    evil = json.loads(json.dumps(made[0])) | {"detector": "</script><script>alert(1)</script>"}
    text = page([*made, evil])
    assert "http://" not in text
    assert "https://" not in text
    assert "<script>alert" not in text


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_sorts_filters_and_shows_it(browser, made, tmp_path, width, scheme):
    (tmp_path / "index.html").write_text(page(made))
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    shown, faults = context.new_page(), []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.goto((tmp_path / "index.html").as_uri())

    def names():
        return [cell.split("\n")[0] for cell in shown.locator("tbody tr td:first-child").all_inner_texts()]

    assert names() == ["energy", "fused", "max softmax"]  # worst case first: 0.7, 0.6 - 0.2, 0.3
    shown.select_option("#attack", "fgsm")
    assert names() == ["energy", "fused", "max softmax"]  # 0.8, 0.9 - 0.2, 0.3
    shown.select_option("#trained_on", "the attack")
    assert names() == ["fused", "energy", "max softmax"]  # 0.9, 0.8, 0.3
    assert "1 of 1" in shown.locator("tbody tr").first.inner_text()
    shown.fill("#search", "ener")
    assert names() == ["energy"]
    shown.fill("#search", "")
    shown.locator("th button", has_text="Detector").focus()
    shown.keyboard.press("Enter")
    assert names() == ["energy", "fused", "max softmax"]
    assert shown.locator("th[aria-sort=ascending]").inner_text().startswith("Detector")
    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 22, 22)")
    shown.screenshot(path=tmp_path / "page.png")
    assert faults == []
    context.close()
