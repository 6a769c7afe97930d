"""The views: what they make is what their commands and their Python lines make."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import snowmelt.studio
from snowmelt.cli import app
from snowmelt.images import decode_png, to_uint8

NAME = "run/checkpoints/latest.pth"


def last(changes: list[dict[Any, Any]], kind: type) -> Any:
    """Return the last value of a kind that a job has set."""
    return [value for change in changes for value in change.values() if isinstance(value, kind)][-1]


def embedded(html: str) -> bytes:
    """Return the file in the page's picture."""
    return b64decode(html.partition("base64,")[2].partition('"')[0])


def run(lines: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(lines, names)
    return names


def tool(command: str) -> str:
    """Run a command in the process, and return what it says."""
    import shlex

    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    return result.output


FORMS = {
    "plain": ("", 0, -1, 5, 0.0, 3),
    "chosen": ("dpmpp_2m:9", 4, 1, 3, 2.0, 0),
    "stochastic": ("ddim:3 eta=1.0", 0, 2, 2, 0.0, 1),
    "preset": ("draft", 0, 0, 2, 1.5, 1),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_sample_is_what_its_command_and_its_lines_make(start, place, tmp_path, monkeypatch, form):
    from snowmelt.studio.made import Made
    from snowmelt.studio.views.sample import same

    method, steps, label, count, scale, seed = form
    values = (NAME, method, steps, label, count, scale, seed)
    made = last(start("Sample", *values), Made)
    command, lines = same(place, *values)
    assert torch.equal(run(lines)["images"], made.images)
    monkeypatch.chdir(tmp_path)
    tool(command)
    with Image.open("samples.png") as picture:
        pixels = torch.from_numpy(np.array(picture.convert("L")))
    first = to_uint8(made.images)[0, 0].repeat_interleave(4, 0).repeat_interleave(4, 1)
    tile = pixels[2 + 12 : 2 + 12 + 32, 2 : 2 + 32]  # below the caption
    assert torch.equal(tile, first)


def test_a_downloaded_picture_says_how_it_was_made(start, tmp_path, monkeypatch):
    """`snowmelt inspect` prints the command that makes it again."""
    from snowmelt.studio.made import Made
    from snowmelt.studio.pictures import png

    for number, form in enumerate(FORMS.values()):
        method, steps, label, _, scale, seed = form
        made = last(start("Sample", NAME, method, steps, label, 3, scale, seed), Made)
        file = tmp_path / f"{number}.png"
        file.write_bytes(png(made.images[1], made.metadata(1)))
        again = tool(f"snowmelt inspect {file}").rpartition("again:")[2].strip()
        tool(f"{again} output.base_dir={tmp_path}/{number} --quiet")
        (found,) = (tmp_path / f"{number}").rglob("sample_0000.png")
        assert torch.equal(decode_png(found.read_bytes())[0], to_uint8(made.images[1]))


def test_the_film_and_the_variations_of_a_picture(gradio, start, tmp_path, monkeypatch):
    from snowmelt.editing import variations
    from snowmelt.studio.made import Made

    made = last(start("Sample", NAME, "ddim:3", 0, 1, 2, 0.0, 0), Made)
    (film,) = [
        embedded(value)
        for change in start("Film", made, 1)
        for value in change.values()
        if "<img" in str(value)
    ]
    changes = start("More like this", made, 1, 0.5)
    shown = last(changes, list)
    assert len(shown) == 8
    sampler = made.model.sampler("ddim:3")
    wanted = variations(sampler, made.seeds[1], 8, strength=0.5, class_label=1)
    from snowmelt.studio.pictures import tiles

    assert [tile["src"] for tile in shown] == [tile["src"] for tile in tiles(wanted, [""] * 8)]
    monkeypatch.chdir(tmp_path)
    tool(made.film_command(1, 60, 16))
    assert (tmp_path / "film.webp").read_bytes() == film
    tool(made.variations_command(1, 8, 0.5))


def test_compare_is_what_its_lines_make(start, place):
    from snowmelt.studio.views.compare import same

    values = (NAME, NAME, "heun", "ddim", 1, 2, 0.0, 5, 6)
    known = last(start("Compare", {}, *values), dict)
    ((a, b),) = known.values()
    assert (a.method, b.method) == ("heun:3", "ddim:6")
    assert a.evaluations <= 6
    names = run(same(place, *values)[1])
    assert torch.equal(names["images_a"], a.images)
    assert torch.equal(names["images_b"], b.images)
    again = last(start("Compare", known, *values), dict)
    assert again is known  # nothing is made twice


def test_plans_are_what_their_command_and_their_lines_draw(start, place, tmp_path, monkeypatch):
    from snowmelt.studio.views.plans import same

    monkeypatch.chdir(tmp_path)
    for schedule in ("", "flow"):
        values = (schedule, NAME, "dpmpp_2m:4", "ddim:3 eta=1.0")
        drawn = [
            value for change in start("Draw", *values) for value in change.values() if "<img" in str(value)
        ]
        command, lines = same(place, *values)
        run(lines)
        for name, picture in zip("ab", drawn, strict=True):
            file = tmp_path / f"{name}.png"
            assert file.read_bytes() == embedded(picture)
            file.unlink()
        for line in command.splitlines():
            tool(line)
        assert (tmp_path / "a.png").exists()
        assert (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((NAME, "dimm", 0, 0, 1, 0.0, 0), "did you mean &#x27;ddim&#x27;"),
        (("../secret.json", "", 0, 0, 1, 0.0, 0), "lies outside"),
        ((NAME, "../secret.json", 0, 0, 1, 0.0, 0), "lies outside"),
        ((NAME, "", 0, 7, 1, 0.0, 0), "class 7 is asked for"),
        ((NAME, "", 0, 0, 1000, 0.0, 0), "a page shows 1 to 64 images"),
        ((None, "", 0, 0, 1, 0.0, 0), "there is no checkpoint below"),
        ((NAME, "", 0, 0, 1, float("inf"), 0), "must be finite"),
        ((NAME, "", 0, 0, 1, 0.0, -1), "must be at least 0"),
    ],
)
def test_what_is_wrong_is_a_sentence_on_the_page(start, values, message):
    status = last(start("Sample", *values), str)
    assert status.startswith('<p role="alert">Error: ')
    assert message in status


def test_names_cannot_bring_markup_onto_the_page(start):
    from snowmelt.studio.made import Made
    from snowmelt.studio.one_picture import about

    made = last(start("Sample", NAME, "ddim:1", 0, 2, 1, 0.0, 0), Made)
    assert "<b>" not in about(made, 0)
    assert "&lt;b&gt;" in about(made, 0)


MODULES = [module.name for module in pkgutil.walk_packages(snowmelt.studio.__path__, "snowmelt.studio.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(gradio, name):
    """They are left out where pytest looks for examples, as importing Gradio takes seconds."""
    assert (
        doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0
    )
