"""What a release says of itself in several files is one thing."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import snowmelt

REPOSITORY = Path(__file__).parents[1]


def test_the_citation_says_what_the_project_says():
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert cited["version"] == snowmelt.__version__
    assert cited["license"] == project["license"]
    assert cited["abstract"] == project["description"]
    assert cited["keywords"] == project["keywords"]
    assert cited["title"] == project["name"]


def test_the_page_about_installing_names_every_extra():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (REPOSITORY / "docs" / "installing.md").read_text()
    assert [name for name in extras if f"snowmelt[{name}]" not in page] == ["browser", "dev"]
