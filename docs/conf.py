"""How `make docs` builds the site, from the pages as they are, README.md and the docstrings.

index.md sorts the pages. One that it does not name stops the build, as does a link or an anchor that leads
nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from snowmelt import __version__

project, author, release = "snowmelt", "the authors of snowmelt", __version__
extensions = [
    "myst_parser",  # the pages are Markdown, which a code host shows, too
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]

html_theme = "furo"  # the system's fonts and its own scripts: a page asks nothing of a network
html_title = "snowmelt"
html_copy_source = False
html_static_path, html_css_files = ["_static"], ["site.css"]

default_role = "py:obj"  # `name` in a docstring leads to that name
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "undoc-members": True, "no-value": True}
python_maximum_signature_line_length = 100
myst_heading_anchors = 3

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK_ALONE = re.compile(r"^\[.*\]\(\.\./([A-Z]+\.md)\)$", re.MULTILINE)
RELATIVE = re.compile(r"\]\((?!https?:)(?=[\w./-]+[#)])")


def take_files_from_above(app: Sphinx, page: str, source: list[str]) -> None:
    """Put README.md and its like in place of a line that is a link to it; other links lead to its page."""

    def contents(line: re.Match[str]) -> str:
        text = (Path(app.srcdir).parent / line[1]).read_text(encoding="utf-8")
        return RELATIVE.sub("](../", text).replace("](../docs/", "](")

    text = LINK_ALONE.sub(contents, source[0])
    for file, here in PAGES.items():
        text = text.replace(f"](../{file}", f"]({here}")
    source[0] = text


def mend_docstrings(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Say what a dictionary of the package holds, and leave out what Python says of named tuples."""
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
    if what == "data" and isinstance(value, Mapping):
        lines[:] = [*lines, "", "Keys: " + ", ".join(f"``{key}``" for key in value)]


def setup(app: Sphinx) -> None:
    app.connect("source-read", take_files_from_above)
    app.connect("autodoc-process-docstring", mend_docstrings)
