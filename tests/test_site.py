"""The site: it builds without a warning, its links lead somewhere, and its pages read well in a browser, from disk."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import advlens

PROJECT = Path(__file__).parents[1]
OPTIONS = "-qWn --keep-going -c docs/site"
PAGES = ("index", "notebooks/00_tour", "notebooks/05_closeness_and_uncertainty", "notebooks/13_benchmark")
PAGES += ("docs/extending", "api", "api/advlens.attacks.detector_aware_boundary")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; building warns of links that lead nowhere, and fails on a warning."""
    folder = tmp_path_factory.mktemp("site")
    (folder / ".source").mkdir()
    command = [sys.executable, "-m", "sphinx", *OPTIONS.split(), str(folder / ".source"), str(folder)]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


def test_make_site_builds_as_the_tests_do():
    assert f"-m sphinx {OPTIONS} site/.source site" in (PROJECT / "Makefile").read_text()


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "index.html").write_text(
        '<p id="here"><a href="#here">1</a><a href="#there">2</a><a href="docs/a.html#b">3</a><a href="docs/c.html">4'
        '</a><a href="https://example.org">5</a><script src="https://example.org/6.js"></script><img src="data:,7">'
    )
    (tmp_path / "docs" / "a.html").write_text('<p id="a"><a href="../index.html#here">8</a><img src="9.png">')
    found = runpy.run_path(str(PROJECT / "docs" / "site" / "conf.py"))["broken_links"](tmp_path)
    assert found == [
        "docs/a.html links to 9.png, which is missing",
        "index.html links to #there, where that anchor is missing",
        "index.html links to docs/a.html#b, where that anchor is missing",
        "index.html links to docs/c.html, which is missing",
        "index.html loads https://example.org/6.js",
    ]


def test_the_site_has_every_notebook_every_page_and_the_public_names(site):
    sources = [*PROJECT.glob("notebooks/*.ipynb"), *PROJECT.glob("docs/*.md"), PROJECT / "CHANGELOG.md"]
    assert len(sources) > 15
    front, api = (site / "index.html").read_text(), (site / "api.html").read_text()
    for source in sources:
        page = source.relative_to(PROJECT).with_suffix(".html")
        assert (site / page).is_file()
        assert f'href="{page}"' in front
    for name in set(advlens.__all__) - {"attacks", "datasets", "detectors"}:
        assert f'.{name}"' in api
    assert (site / "docs" / "leaderboard" / "index.html").read_bytes() == (
        PROJECT / "docs" / "leaderboard" / "index.html"
    ).read_bytes()
    assert not list(site.rglob("_downloads"))


IMAGES = "[...document.images].filter(i => !i.naturalWidth || !i.alt || i.alt.endsWith('.png')).map(i => i.src)"
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_read_well_in_a_browser(browser, site, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    shown, faults, requests = context.new_page(), [], []
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    shown.on("request", lambda request: requests.append(request.url))
    for page in PAGES:
        shown.goto((site / f"{page}.html").as_uri())
        assert shown.evaluate(IMAGES) == [], page
        assert shown.evaluate(OVERFLOW) <= 0, page
        bright = shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert bright == (scheme == "light"), page
        if "closeness" in page:  # the one of these with formulas
            assert shown.locator("math").count() > 10
            assert "$" not in shown.inner_text("article")
    shown.goto((site / "search.html").as_uri() + "?q=deep+taylor")
    shown.locator("#search-results a", has_text="3 · Explanations").wait_for()
    assert shown.evaluate(OVERFLOW) <= 0
    assert faults == []
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    context.close()
