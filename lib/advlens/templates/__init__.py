"""The texts and pages that are filled with numbers; no numbers are made here."""

from pathlib import Path
from typing import Any

import jinja2


def rendered(template: str, **values: Any) -> str:
    """The template of this folder with that file name, filled; what goes into an .html is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    options = {"autoescape": jinja2.select_autoescape(["html"]), "trim_blocks": True, "lstrip_blocks": True}
    environment = jinja2.Environment(loader=loader, keep_trailing_newline=True, **options)
    return environment.get_template(template).render(values)
