"""The pages lead somewhere, name what exists, and are all to be found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

import snowmelt
from snowmelt.cli import app

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.glob("*.md")])
FENCED = re.compile(r"(?ms)^```(\w*)\n(.*?)^```$")
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:configs|docs|examples|benchmarks|tests|src/snowmelt)/[\w./-]+)`")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [text for language, text in found if language in languages]


def anchors(page: Path) -> set[str]:
    """The names that a code host gives to the headings of a page."""
    titles = re.findall(r"(?m)^#+ (.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}, which is not there"
        assert target.is_relative_to(REPOSITORY)
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {target.name} has no heading #{anchor}"


@every_page
def test_files_that_are_named_exist(page):
    for name in NAMED.findall(prose(page)):
        assert (REPOSITORY / name).exists(), f"{page.name} names {name}, which is not there"


@every_page
def test_blocks_of_python_and_yaml_are_well_formed(page):
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
    for block in blocks(page, "yaml"):
        yaml.safe_load(block)


def commands(page: Path) -> list[list[str]]:
    """The calls of snowmelt in a page's blocks for a shell, as words."""
    typed = "".join(blocks(page, "bash", "sh")), "".join(blocks(page, "console"))
    lines = [
        line
        for prompt, text in zip(("", r"\$ "), typed, strict=True)
        for line in re.findall(rf"(?m)^{prompt}snowmelt (.*)$", text.replace("\\\n", " "))
    ]
    return [line.partition(" #")[0].split() for line in lines]


@every_page
def test_commands_have_the_options_that_are_shown(page):
    for words in commands(page):
        command, line = get_command(app), list(words)
        while hasattr(command, "commands"):
            command = command.commands[line.pop(0)]
        known = {name for parameter in command.params for name in parameter.opts}
        shown = {word.partition("=")[0] for word in line if word.startswith("--")}
        assert shown <= known, f"{page.name}: snowmelt {' '.join(words)}"


def test_the_navigation_names_each_page_once():
    trees = "".join(re.findall(r"(?ms)^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text()))
    pages = [page.stem for page in DOCS.glob("*.md") if page.stem != "index"]
    assert sorted(re.findall(r"(?m)^[\w-]+$", trees)) == sorted(pages)


def test_the_page_of_benchmarks_names_each_target():
    targets = re.findall(r"(?m)^(bench-\w+):", (REPOSITORY / "Makefile").read_text())
    assert re.findall(r"(?m)^\| `make (bench-\w+)`", (DOCS / "benchmarks.md").read_text()) == targets


def test_the_reference_has_every_public_name_of_snowmelt_and_every_package_with_some():
    listed = set(re.findall(r"(?m)^ +(snowmelt\.[\w.]+)$", (DOCS / "reference.md").read_text()))
    packages = {
        f"snowmelt.{path.parent.name}"
        for path in Path(snowmelt.__file__).parent.glob("*/__init__.py")
        if "__all__" in path.read_text() and path.parent.name != "cli"
    }
    names = {f"{home}.{name}" for name, home in snowmelt._HOMES.items()}
    assert listed == packages | names | {"snowmelt.adapters.diffusers"}
