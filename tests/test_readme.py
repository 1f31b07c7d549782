"""The README and the pages that it links to: short, true to the published tables, and their code runs."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from advlens import entrants, verdicts
from advlens.attacks import CATALOGUE
from advlens.entries import ENTRY, RESULT
from advlens.results import PAGE, results_page
from advlens.verdicts import readme, verdict_numbers

PROJECT = Path(__file__).parents[1]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (PROJECT / page).read_text(), flags=re.DOTALL)


def test_the_readme_is_short():
    text = (PROJECT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.encode()) <= 15_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_results_page_is_what_the_published_tables_say():
    assert (PROJECT / PAGE).read_text() == results_page(), "make it anew: advlens results"


def test_the_readme_s_verdicts_are_what_the_published_tables_say():
    assert (PROJECT / "README.md").read_text() == readme(), "make it anew: advlens results"


def test_the_words_of_the_verdicts_hold():
    """Where this fails the published numbers have changed: change the words in lib/advlens/templates/verdicts.md."""
    numbers = {name: [float(each) for each in re.findall(r"[\d.]+", text)] for name, text in verdict_numbers().items()}
    for ahead, behind in (("softmax_ahead", "softmax_behind"), ("neighbours_behind", "neighbours_ahead")):
        count, of = numbers[ahead]
        assert count > of / 2 > numbers[behind][0]
    count, of = numbers["trivial_ahead"]
    assert count > of / 2
    assert max(numbers["entropy"]) < 0.9
    assert min(numbers["noisy"][1:]) > 5
    assert min(numbers["cam"]) > 50 > 10 > max(numbers["cam_same"])


def test_the_verdicts_numbers_are_the_tables_own(tmp_path, monkeypatch):
    monkeypatch.setattr(verdicts, "project_root", lambda: tmp_path)
    shutil.copytree(PROJECT / "figures" / "mnist", tmp_path / "figures" / "mnist")
    path = tmp_path / "figures" / "mnist" / "headline-closeness.csv"
    path.write_text(
        "attack,as published,corrected,clean sources,best baseline,TPR above it\n"
        'FGSM (n = 9),0.7645,"0.6845 [0.6, 0.7]",0.5,x,-0.1: lower\n'
        'PGD (n = 9),0.5,"0.4 [0.3, 0.9]",0.5,x,+0.1: higher\n'
        'BIM (n = 3),0.5,"0.4 [0.3, 0.9]",0.5,x,–\n'
    )
    found = verdict_numbers()
    assert (found["six_published"], found["six"], found["trivial_ahead"]) == ("0.765", "0.685", "1 of 2")


def test_no_published_interval_is_without_width():
    interval, found = re.compile(r"\[([-+]?\d*\.?\d+), ([-+]?\d*\.?\d+)\]"), []
    for path in (*PAGES, *(PROJECT / "figures").rglob("*.csv"), *(PROJECT / "notebooks").glob("*.ipynb")):
        found += [(path.name, *match) for match in interval.findall(path.read_text().replace("−", "-"))]
    assert len(found) > 100
    assert [each for each in found if float(each[1]) >= float(each[2])] == []


def test_the_readme_s_example_runs(average_pooling_classifier, real_images, real_labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    right = np.flatnonzero(average_pooling_classifier.predict(real_images).argmax(axis=1) == real_labels)[:20]
    names = {"network": average_pooling_classifier.model, "images": real_images[right], "labels": real_labels[right]}
    (example,) = blocks("README.md")
    exec(example, names | (found := {"clean_images": real_images[200:300]}), found)
    assert found["is_adversarial"].shape == (20,)
    assert found["maps"].shape == (8, 28, 28, 1)
    assert (tmp_path / "my_detector" / "detector.json").exists()


def test_the_code_of_the_extending_page_runs(
    monkeypatch, average_pooling_classifier, real_images, real_labels, tmp_path
):
    monkeypatch.setitem(CATALOGUE, "brighten", None)  # taken out again after the test
    mine, everywhere, measurements, lens, adaptive, attack, use, elsewhere = blocks("docs/extending.md")
    assert len(mine.strip().splitlines()) <= 15
    (tmp_path / "my_detectors.py").write_text(mine)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ADVLENS_DATA", str(tmp_path))
    about = (average_pooling_classifier, real_images, real_labels)
    detector = entrants.make(entrants.find("my_detectors:Distance"), *about, name="Distance")
    assert detector.scores(real_images[:9]).shape == (9,)
    names = {"network": average_pooling_classifier.model, "images": real_images[200:]}
    names |= {"clean_images": real_images[:200], "__name__": "advlens.made_up"}
    names |= {"x_test": real_images, "y_test": real_labels}
    for block in (everywhere, measurements, lens, adaptive.replace("range(100)", "range(5)")):
        exec(block, names)
    assert set(names["table"]["knowledge"]) == {"oblivious", "adaptive", "transfer"}
    assert len(names["shown"].checks) in (6, 7)  # one with nothing to compare is left out
    for block in (attack, use):
        exec(block, names)
    assert names["is_adversarial"].shape == (200,)
    assert set(names["table"]["attack"]) == {"brighten"}
    np.testing.assert_allclose(names["made"].adversarial, np.clip(names["made"].clean + 0.4, 0, 1))
    np.savez("digits.npz", x=real_images, y=real_labels, x_test=real_images, y_test=real_labels)
    exec(elsewhere.replace('dataset="mnist"', 'dataset="digits.npz"'), names)
    with np.load("mine.npz") as saved:
        assert len(saved["x"]) == len(saved["source"]) > 100


def test_the_extending_page_names_each_field_of_an_entry():
    page = (PROJECT / "docs" / "extending.md").read_text()
    assert [name for name in (*ENTRY, *RESULT) if not re.search(rf"^\|.*`{name}`.*\|.*\|", page, re.MULTILINE)] == []
