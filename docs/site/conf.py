"""How Sphinx makes the site of the notebooks, the docs and the package: `make site` builds it and checks its links."""

import logging
import re
import shutil
from enum import Enum
from html.parser import HTMLParser
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy.typing
from docutils import nodes
from docutils.writers.html5_polyglot import HTMLTranslator
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LEADERBOARD = "docs/leaderboard/index.html"
SHOWN = ("README.md", "CHANGELOG.md", "docs/*.md", LEADERBOARD, "figures/*/*.png", "notebooks/*.ipynb")
MEANT_LITERALLY = re.compile(r"(?<![\w`])\|(?=\w)|(?<=, )\*(?=\w)")  # |x| and (n, *shape), which reST reads as markup
SEVERAL = re.compile(r"^( +)(\w+(?:, \w+)*: .*?); (?=\w+(?:, \w+)*: )", re.MULTILINE)
IN_OTHER_WORDS = {  # what docutils' MathML does not know, or draws badly → what it does well
    r"\\bar (\w)": r"{\\overline{\1}{}}",
    r"\\dots(?![a-z])": r"\\ldots",
    r"\\([bB]ig)(?![a-z])": r"\\\1l",
    "½": r"\\tfrac{1}{2}",
}

logging.basicConfig()  # before a Pygments style does, which lets every library log what it loads
project, author, copyright = "Advlens", "the Advlens authors", "the Advlens authors"
version = release = version_of("advlens")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md", "module.rst"]  # the front page includes parts of the one; the other is a template
templates_path = ["."]

nb_execution_mode = "off"  # the outputs are those of the published run
nb_render_markdown_format = "myst"  # outputs hold tables and links
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # `name` in a docstring links to what has that name, if anything has
nitpick_ignore_regex = [("py:(obj|class|exc)", ".*")]  # names that are no objects, and types of other projects
autodoc_default_options = {"members": True, "member-order": "bysource", "special-members": "__call__"}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
autodoc_typehints_format = "short"
add_module_names = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False

html_theme = "furo"
pygments_dark_style = "monokai"
html_title = "Advlens"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072b2", "color-brand-content": "#0072b2"},
    "dark_css_variables": {"color-brand-primary": "#56b4e9", "color-brand-content": "#56b4e9"},
}
html_math_renderer = "mathml"
html_copy_source = False
html_show_search_summary = False  # they are fetched, which a browser refuses for pages on disk


class Array:
    """Stands for arrays in signatures, where NumPy's own alias is written out to a line of types."""

    def __class_getitem__(cls, _kind: Any) -> type:
        return cls


numpy.typing.NDArray, numpy.typing.ArrayLike = Array, type("ArrayLike", (Array,), {})


def collect(app: Sphinx) -> None:
    """Copies what the site shows into Sphinx's one source folder, so that links between files hold as on GitHub."""
    for path in (path for pattern in SHOWN for path in ROOT.glob(pattern)):
        target = app.srcdir / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    for path in (*HERE.glob("*.md"), HERE / "module.rst"):
        shutil.copy2(path, app.srcdir / path.name)


def keep_pictures_inside(app: Sphinx) -> None:
    """MyST-NB writes the notebooks' pictures beside the site: here they go to the source folder."""
    env: Any = app.env
    env.mystnb_config = env.mystnb_config.copy(output_folder=str(app.srcdir / "outputs"))


def mend(_app: Sphinx, page: nodes.document) -> None:
    """Gives a notebook's figures their description as a text alternative, and lets links to HTML open, not download."""
    for output in page.findall(nodes.container):
        if output.get("nb_element") == "mime_bundle":
            text = [each.astext() for each in output.findall(nodes.container) if each.get("mime_type") == "text/plain"]
            for picture in output.findall(nodes.image):
                picture["alt"] = "".join(text)
    for link in list(page.findall(addnodes.download_reference)):
        if link["reftarget"].endswith(".html"):
            link.replace_self(nodes.reference("", "", *link.children, refuri=link["reftarget"]))


def mathml(writer: Any, formula: Any) -> None:
    """Writes a formula as MathML, which browsers draw without a script."""
    text = formula.astext()
    for unknown, known in IN_OTHER_WORDS.items():
        text = re.sub(unknown, known, text)
    formula.children = [nodes.Text(text)]
    writer.math_output, writer.math_options = "mathml", ""
    HTMLTranslator.visit_math(writer, formula)


def join(writer: Any, _formula: nodes.math) -> None:
    """Keeps the comma or full stop behind a formula on its line."""
    writer.body.append("&#8288;")


def escape(_app: Sphinx, kind: str, _name: str, _found: Any, _options: Any, lines: list[str]) -> None:
    """Lets a docstring's formulas pass, and gives each of `a: …; b: …` under Args and Attributes a line of its own."""
    text = "\n".join(MEANT_LITERALLY.sub(r"\\\g<0>", line) for line in lines)
    while (apart := SEVERAL.sub(r"\1\2\n\1", text)) != text:
        text = apart
    if kind in ("attribute", "data", "property"):  # of these Napoleon takes `a: b` in the first line for a type
        text = re.sub(r"\A(.*?:) ", r"\1\n", text)
    lines[:] = text.split("\n")


def keep_words(_app: Sphinx, _kind: str, _name: str, found: Any, _skip: bool, _options: Any) -> bool | None:
    """Shows the words of a vocabulary also where they need no explanation."""
    return False if isinstance(found, Enum) else None


class Page(HTMLParser):
    """The anchors of a page, what it links to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors, self.links, self.loads = set(), set(), set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                (self.links if tag == "a" else self.loads).add(value)


def broken_links(folder: Path) -> list[str]:
    """What is wrong with the links of a folder's pages: a missing file or anchor, or what is loaded from a network."""
    folder, wrong = folder.resolve(), []
    found = [path for path in sorted(folder.rglob("*.html")) if not re.search("/[._]", f"/{path.relative_to(folder)}")]
    pages = {path: Page(path) for path in found}
    for path, page in pages.items():
        name = path.relative_to(folder)
        for target in sorted(page.links | page.loads):
            url = urlsplit(target)
            if url.scheme or url.netloc:
                wrong += [f"{name} loads {target}"] if target in page.loads and url.scheme != "data" else []
                continue
            file = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not file.is_file():
                wrong.append(f"{name} links to {target}, which is missing")
            elif url.fragment and file in pages and unquote(url.fragment) not in pages[file].anchors:
                wrong.append(f"{name} links to {target}, where that anchor is missing")
    return wrong


def finish(app: Sphinx, error: Exception | None) -> None:
    """Puts the leaderboard's page, which needs nothing else, at its place, and warns of links that lead nowhere."""
    if error is None:
        (app.outdir / LEADERBOARD).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / LEADERBOARD, app.outdir / LEADERBOARD)
        for wrong in broken_links(Path(app.outdir)):
            getLogger(__name__).warning(wrong)


def setup(app: Sphinx) -> None:
    collect(app)
    app.add_html_math_renderer("mathml", (mathml, join), (mathml, None))
    app.connect("builder-inited", keep_pictures_inside, priority=900)  # after MyST-NB has set its own
    app.connect("doctree-read", mend, priority=100)  # before Sphinx copies what can be downloaded
    app.connect("autodoc-process-docstring", escape, priority=100)  # before Napoleon
    app.connect("autodoc-skip-member", keep_words)
    app.connect("build-finished", finish)
