"""The leaderboard: entries as JSON, and the page that a browser makes of them."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from advlens.benchmark.judging import BAR
from advlens.entries import (
    FOLDER,
    OPTIONAL,
    catches,
    entries,
    page,
    read_entries,
    update_entries,
    with_attack,
    with_oblivious,
    write_entries,
)
from advlens.paths import project_root

ABOVE = f"{BAR} above the best baseline"
LEARNT = {"fused": ("the attack", "all but its family"), "energy": ("no attack",), "max softmax": ("no attack",)}
FAMILY = {"fused": "fused", "energy": "uncertainty", "max softmax": "baseline"}
TPR = pd.DataFrame(
    {"fused": [0.9, 0.6, 0.95, 0.9], "energy": [0.8, 0.7, 0.85, 0.75], "max softmax": [0.3, np.nan, 0.85, 0.35]},
    index=["fgsm", "pgd", "deepfool", "deepfool, margin 5"],
)
MARGINS = {"deepfool": 0.001, "deepfool, margin 5": 5.0}
CAUGHT = (
    pd.DataFrame({"fused": np.arange(60) < 30, "energy": np.arange(60) >= 25, "max softmax": np.arange(60) > 9}) * 1.0
)


def rows(detector, attack, tpr, n=50, **about):
    about = {"detector": detector, "attack": attack, "knowledge": "oblivious", "condition": "8-bit"} | about
    about = {"family": FAMILY[detector], "stratum": "success", "negatives": "matched", "n_positive": n} | about
    for learnt in LEARNT[detector]:
        here = tpr if learnt != "all but its family" else tpr - 0.2
        above = 0.1 if detector == "fused" else -0.1
        for metric, value in ((BAR, here), ("roc_auc", 0.95), (ABOVE, above), ("observed_fpr_0.05", 0.125)):
            own = {"trained_on": learnt, "metric": metric, "estimate": value, "low": value - 0.05, "high": value}
            yield about | own


@pytest.fixture(scope="module")
def made():
    table = [row for detector in TPR for attack in TPR.index for row in rows(detector, attack, TPR[detector][attack])]
    table += rows("energy", "one_pixel", 0.1, n=5)  # too few to say anything
    table += rows("fused", "fgsm", 0.3, stratum="all")
    table += rows("max softmax", "fgsm", 0.25, condition="float")
    table += rows("energy", "pgd", 0.2, knowledge="adaptive")
    shares = {("noisy", "fused"): 0.4, ("turned", "fused"): 0.1, ("noisy", "energy"): 0.02, ("turned", "energy"): 0.9}
    alarms = pd.DataFrame([{"kind": k, "detector": d, "estimate": share} for (k, d), share in shares.items()])
    about = {"dataset": "mnist", "settings": {"images": 50}, "margins": MARGINS, "unchanged": {"pgd": 0.04}}
    return entries(pd.DataFrame(table), alarms, **about, caught=CAUGHT, seconds={"fused": 12.345, "energy": 0.5})


def test_an_entry_says_its_worst_attack_and_leaves_out_small_numbers(made):
    by_name = {entry["detector"]: entry for entry in made}
    assert {name: entry["best_attack_so_far"] for name, entry in by_name.items()} == {
        **{"fused": "pgd", "energy": "pgd", "max softmax": "fgsm"}
    }
    assert {row["attack"] for row in by_name["energy"]["results"]} == set(TPR.index)
    assert {(row["attack"], row["margin"]) for row in by_name["max softmax"]["results"]} == {
        *MARGINS.items(),
        *((attack, None) for attack in ("fgsm", "pgd")),
    }
    assert {(row["attack"], row["unchanged"]) for row in by_name["energy"]["results"]} == {
        *(("pgd", 0.04), ("fgsm", None), ("deepfool", None), ("deepfool, margin 5", None)),
    }
    assert by_name["fused"]["alarms"] == {"noisy": 0.4, "turned": 0.1}
    assert by_name["max softmax"]["alarms"] == {}
    assert {row["tpr"] for row in by_name["max softmax"]["results"]} == {0.3, None, 0.85, 0.35, 0.25}
    assert {row["observed_fpr"] for row in by_name["fused"]["results"]} == {0.125}
    assert [by_name[name]["seconds_per_1000"] for name in TPR] == [12, 0.5, None]
    assert {row["stratum"] for row in by_name["fused"]["results"]} == {"success", "all"}


def test_an_entry_is_unreliable_until_somebody_who_knows_the_detector_has_attacked_it(made):
    assert {entry["detector"]: entry["potentially_unreliable"] for entry in made} == {
        **{"fused": True, "energy": False, "max softmax": True}
    }
    assert all(bool(entry["footnote"]) == entry["potentially_unreliable"] for entry in made)


def test_what_a_detector_catches_is_a_share_of_what_the_other_misses(made):
    by_name = {entry["detector"]: entry["catches"] for entry in made}
    assert by_name["energy"] == {
        "fused": {"share": 1.0, "missed": 30},
        "max softmax": {"share": None, "missed": 10},
    }
    assert by_name["fused"]["energy"] == {"share": 1.0, "missed": 25}
    caught = pd.DataFrame(np.random.default_rng(0).integers(0, 4, (300, 2)) / 3, columns=["a", "b"])
    caught.loc[:50, "a"] = np.nan
    both = caught.dropna()
    missed = 1 - both["a"]
    assert catches(caught)["b"]["a"] == {
        "share": pytest.approx(np.average(both["b"], weights=missed)),
        "missed": round(missed.sum()),
    }


def test_a_suite_s_results_and_those_of_attackers_who_know_keep_each_other(made, tmp_path):
    fused = next(entry for entry in made if entry["detector"] == "fused")
    row = fused["results"][0] | {
        "knowledge": "adaptive",
        "attack": "knows fused",
        "tpr": 0.2,
        "low": 0.1,
        "high": 0.3,
    }
    known = [
        fused | {"results": [row], "best_attack_so_far": "knows fused", "footnote": "", "potentially_unreliable": False}
    ]
    write_entries(known, tmp_path / "entries")
    for _ in range(2):
        update_entries(tmp_path / "entries", partial(with_oblivious, made, of_suite=TPR.index))
    found = {entry["detector"]: entry for entry in read_entries(tmp_path / "entries")}
    assert found["fused"]["results"] == [*json.loads(json.dumps(fused["results"])), row]
    assert (found["fused"]["best_attack_so_far"], found["fused"]["potentially_unreliable"]) == ("knows fused", False)
    assert found["max softmax"]["potentially_unreliable"]
    assert len(found) == len(made)


def test_attacks_that_were_added_outlive_the_suite_s_next_run_and_its_own_older_ones_do_not(made, tmp_path):
    update_entries(tmp_path / "entries", lambda _: made)
    for name in ("mine", "pgd at another strength"):
        table = pd.DataFrame(rows("energy", name, 0.1))
        update_entries(tmp_path / "entries", partial(with_attack, table=table, dataset="mnist"))
    of_suite = [*TPR.index, "pgd at another strength"]
    update_entries(tmp_path / "entries", partial(with_oblivious, made, of_suite=of_suite))
    energy = next(entry for entry in read_entries(tmp_path / "entries") if entry["detector"] == "energy")
    assert {row["attack"] for row in energy["results"]} == {*TPR.index, "mine"}
    assert energy["best_attack_so_far"] == "mine"


def test_entries_come_back_from_their_files(made, tmp_path):
    paths = write_entries(made, tmp_path)
    assert {path.name for path in paths} == {"mnist-fused.json", "mnist-energy.json", "mnist-max-softmax.json"}
    again = {entry["detector"]: entry for entry in read_entries(tmp_path)}
    assert again == {entry["detector"]: json.loads(json.dumps(entry)) for entry in made}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry: entry.pop("detector"), "'detector' is a required property: see docs/extending.md"),
        (lambda entry: entry["results"][0].pop("n"), r"results\[0\] 'n' is a required property"),
        (lambda entry: entry["results"][0].update(n="5"), r"results\[0\].n '5' is not of type 'integer'"),
        (lambda entry: entry["results"][0].update(tpr=1.2), r"results\[0\].tpr 1.2 is greater than the maximum of 1"),
        (lambda entry: entry["results"][0].update(low=0.99), r"low ≤ tpr ≤ high must hold, got \[0.99, 0.75, 0.75\]"),
        (lambda entry: entry["results"][0].update(knowledge="none"), r"results\[0\].knowledge 'none' is not one of"),
        (lambda entry: entry.update(alarms=3), "alarms 3 is not of type 'object'"),
        (lambda entry: entry.update(seconds_per_1000=-1), "seconds_per_1000 -1 is less than the minimum of 0"),
        (lambda entry: entry["catches"]["energy"].pop("share"), "catches.energy 'share' is a required property"),
        (lambda entry: entry.update(best_attack_so_far="cw"), "best_attack_so_far must be one of results, got 'cw'"),
        (
            lambda entry: entry["results"][0].update(n=19),
            "n must be at least 20 in each of results, got less for",
        ),
        (
            lambda entry: entry["results"].append(entry["results"][0]),
            "results must hold one row a case, got two of deepfool, all but its family, oblivious, 8-bit, success",
        ),
        (lambda entry: entry.update(results=[]), r"results \[\] should be non-empty"),
        (lambda entry: entry.update(dataset="MNIST"), "dataset must be written as 'mnist', got 'MNIST'"),
        (lambda entry: entry.update(colour="red"), "Additional properties are not allowed"),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(made, tmp_path, change, said):
    entry = json.loads(json.dumps(made[1]))  # that of "fused"
    change(entry)
    (tmp_path / "mine.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match=rf"mine\.json: {said}"):
        read_entries(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ('{"tpr": NaN}', "NaN is no number there, write null"),
        (json.dumps([list(range(999))]), r"\[\[0, 1, 2, 3, 4, 5, \.\.\.\]\] is not of type 'object'"),
    ],
)
def test_what_is_no_entry_at_all_is_said_in_few_words(tmp_path, text, said):
    (tmp_path / "mine.json").write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.json.*{said}") as found:
        read_entries(tmp_path)
    assert len(str(found.value)) < 150


def test_all_wrong_entries_are_named_at_once_and_two_of_one_detector_as_well(made, tmp_path):
    (path,) = write_entries(made[:1], tmp_path)
    (tmp_path / "twin.json").write_text(path.read_text())
    (tmp_path / "alien.json").write_text("{}")
    with pytest.raises(
        ValueError, match=rf"^alien\.json: .*; twin\.json: .* have an entry in {path.name}: keep one: see"
    ):
        read_entries(tmp_path)


def test_one_more_attack_joins_the_entries_and_takes_its_own_place_again(made):
    table = pd.DataFrame(rows("energy", "mine", 0.1))
    before = json.loads(json.dumps(made))
    once = list(with_attack(before, table, dataset="mnist"))
    assert list(with_attack(once, table, dataset="mnist")) == once
    by_name = {entry["detector"]: entry for entry in once}
    assert by_name["energy"]["best_attack_so_far"] == "mine"
    (added,) = (row for row in by_name["energy"]["results"] if row["attack"] == "mine")
    assert added["tpr"] == 0.1
    assert by_name["fused"] == next(entry for entry in before if entry["detector"] == "fused")


def of_others(entry):
    """An entry of another tool's, without what is optional, on another data set."""
    kept = {name: value for name, value in entry.items() if name not in OPTIONAL} | {"dataset": "theirs"}
    return kept | {"results": [{k: v for k, v in row.items() if k not in OPTIONAL} for row in entry["results"]]}


def test_an_entry_needs_no_optional_field(made, tmp_path):
    write_entries([of_others(made[1])], tmp_path)
    assert read_entries(tmp_path) == [of_others(made[1])]


def test_the_committed_page_is_made_of_the_committed_entries():
    folder = project_root() / FOLDER
    assert (folder / "index.html").read_text() == page(read_entries(folder / "entries"))


def test_the_page_needs_no_network_and_no_name_can_break_it(made):
    evil = json.loads(json.dumps(made[0])) | {"detector": "</script><script>alert(1)</script>"}
    text = page([*made, evil])
    assert "http://" not in text
    assert "https://" not in text
    assert "<script>alert" not in text


CONTRASTS = """() => [...document.querySelectorAll("[class^=shade]")].map((cell) => {
  const look = getComputedStyle(cell), light = [look.color, look.backgroundColor].map((colour) => {
    const [r, g, b] = colour.match(/\\d+/g).map((c) => ((c / 255 + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05; }).sort((one, other) => one - other);
  return light[1] / light[0]; })"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_sorts_filters_and_shows_it(browser, made, tmp_path, width, scheme):
    (tmp_path / "index.html").write_text(page([*made, of_others(made[1])]))
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    shown, faults = context.new_page(), []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.goto((tmp_path / "index.html").as_uri())

    def texts(selector):
        return [" ".join(text.split()) for text in shown.locator(selector).all_inner_texts()]

    def names():
        return texts("#rows label")

    assert names() == ["energy", "fused", "max softmax"]  # worst case first: 0.7, 0.6 - 0.2, 0.3
    counted, interval = "n = 50 (4 % of the attacked left unchanged)", "65.0 % to 70.0 %, observed FPR 12.5 %"
    assert texts("#rows tr:first-child td")[1] == f"70.0 % best attack so far: PGD, {counted}, {interval}"
    assert texts("#rows td:nth-child(5)") == ["0.5", "12", "–"]
    assert texts("#rows .doubt") == ["potentially unreliable"] * 2  # energy was attacked by who knows it
    assert texts("#notes li")[1] == made[1]["footnote"]
    assert "3 of 3 detectors, 4 attacks. On 1 of them no detector is above" in shown.inner_text("#count")
    shown.select_option("#knowledge", "adaptive")
    assert names() == ["energy"]
    shown.select_option("#knowledge", "oblivious")
    shown.select_option("#stratum", "all")
    assert names() == ["fused"]
    shown.select_option("#stratum", "success")
    shown.select_option("#condition", "float")
    assert names() == ["max softmax"]
    assert texts("#rows tr:first-child td")[1].startswith("25.0 % best attack so far: FGSM")
    shown.select_option("#condition", "8-bit")
    shown.select_option("#attack", "deepfool")
    assert names() == ["max softmax", "energy", "fused"]  # of equal rates the trivial score's comes first
    shown.select_option("#attack", "fgsm")
    assert names() == ["energy", "fused", "max softmax"]  # 0.8, 0.9 - 0.2, 0.3
    shown.select_option("#trained_on", "the attack")
    assert names() == ["fused", "energy", "max softmax"]  # 0.9, 0.8, 0.3
    assert "1 of 1" in shown.locator("#rows tr").first.inner_text()
    shown.fill("#search", "ener")
    assert names() == ["energy"]
    shown.fill("#search", "")
    shown.select_option("#attack", "")
    shown.locator("#head button", has_text="Seconds").focus()
    shown.keyboard.press("Enter")
    assert names() == ["energy", "fused", "max softmax"]  # cheap first, the unknown last
    shown.keyboard.press("Enter")
    assert names() == ["fused", "energy", "max softmax"]
    assert shown.locator("[aria-sort=descending]").inner_text().startswith("Seconds")

    assert texts("#heat thead th") == ["fused", "energy", "max softmax"]
    assert texts("#heat tbody tr")[0] == "DeepFool 95 85 85"
    assert texts("#heat tbody tr")[-1] == "PGD 4 % left unchanged 60 70 –"
    assert texts("#heat .best") == ["95", "90", "90", "70"]
    assert texts("#pairs tbody tr") == ["fused – 100 100", "energy 100 – 60", "max softmax – – –"]
    assert texts("#series tbody tr")[2] == "3 max softmax 85.0 % 35.0 %"
    assert shown.locator("#chart polyline").count() == 3
    assert min(shown.evaluate(CONTRASTS)) >= 4.5  # as WCAG 2 asks of text
    shown.get_by_label("max softmax", exact=True).focus()
    shown.keyboard.press("Space")
    assert texts("#heat thead th") == ["fused", "energy"]
    shown.get_by_role("button", name="All").press("Enter")
    assert len(texts("#heat thead th")) == 3

    assert shown.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    background = shown.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 22, 22)")
    shown.screenshot(path=tmp_path / "page.png", full_page=True)
    shown.select_option("#dataset", "theirs")
    shown.get_by_role("button", name="Best of each family").press("Enter")
    assert names() == ["fused"]
    assert texts("#heat thead th") == ["fused"]
    assert not shown.locator("#chart").is_visible()
    assert shown.inner_text("#over").endswith("have no attack that was run at several margins.")
    assert faults == []
    context.close()
