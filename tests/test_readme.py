"""The README and the pages that it links to: short, true to the published tables, and their code runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from advlens.attacks import CATALOGUE, craft
from advlens.results import PAGE, results_page

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


def test_no_published_interval_is_without_width():
    interval, found = re.compile(r"\[([-+]?\d*\.?\d+), ([-+]?\d*\.?\d+)\]"), []
    for path in (*PAGES, *(PROJECT / "figures").rglob("*.csv")):
        found += [(path.name, *match) for match in interval.findall(path.read_text())]
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


def test_the_code_of_the_extending_page_runs(monkeypatch, average_pooling_classifier, real_images, real_labels):
    monkeypatch.setitem(CATALOGUE, "brighten", None)  # taken out again after the test
    network, attack, detector = blocks("docs/extending.md")
    names = {"network": average_pooling_classifier.model, "images": real_images[200:]}
    names |= {"clean_images": real_images[:200], "__name__": "advlens.made_up"}
    for block in (network, attack, detector):
        exec(block, names)
    assert names["is_adversarial"].shape == (200,)
    right = np.flatnonzero(average_pooling_classifier.predict(real_images).argmax(axis=1) == real_labels)[:5]
    made = craft(
        "brighten", average_pooling_classifier, real_images[right], real_labels[right], source=right, seed=0, amount=0.5
    )
    np.testing.assert_allclose(made.adversarial, np.clip(real_images[right] + 0.5, 0, 1))
