"""The studio's edits: the page, the command and the Python lines make the same images."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.cli.edit import edits
from snowmelt.errors import InputError
from snowmelt.images import save_png
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.studio.editable import REGIONS, fitted, mask_file, picture_file, region, unpainted
from snowmelt.studio.editing import MASK, PICTURE, RESULT, Edit, Form
from snowmelt.studio.edits import ClassSwap, Inpainting, Interpolation, Inversion, Variation
from snowmelt.studio.follow import follow

FORM = Form(Path("model.pth"), "ddim:3", 2.0)
EDITS: list[Edit] = [
    Interpolation(FORM, (4, 5), (0, 2), 4),
    Interpolation(FORM, (4, 4), (0, 2), 4, loop=True),
    Interpolation(Form(Path("model.pth")), (4, 5), num=3),
    Variation(FORM, 7, 0.4, 3, 1),
    Variation(Form(Path("model.pth"), "ddpm:2"), 7, 0.4, 2),
    ClassSwap(FORM, 1, (0, 2)),
    Inpainting(FORM, 3, 2, 2, 1),
    Inversion(FORM, 1),
    Inversion(Form(Path("model.pth"), "ddim:3")),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint, a picture and a mask, by the names that the commands use."""
    folder = tmp_path_factory.mktemp("edits")
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=3, num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    contents = {"model_config": model.config, "model_state_dict": model.state_dict()}
    write_contents(contents, folder / "model.pth")
    save_png(torch.rand(1, 8, 8) * 2 - 1, folder / PICTURE)
    (folder / MASK).write_bytes(mask_file(region("left half", (1, 8, 8))))
    return folder


def on_the_page(edit: Edit, folder: Path) -> torch.Tensor:
    sampler = DiffusionSampler.from_pretrained(folder / "model.pth", use_ema=False)
    sampler = sampler.with_method(edit.form.method) if edit.form.method else sampler
    pictures = {"picture": fitted(Image.open(folder / PICTURE), (1, 8, 8))} if edit.takes else {}
    masks = {"known": region("left half", (1, 8, 8))} if "known" in edit.takes else {}
    return edit(sampler, **pictures, **masks).images


@pytest.mark.filterwarnings("ignore:.*has no EMA weights")
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.command)
def test_the_command_and_the_lines_make_what_the_page_shows(edit, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    shown = on_the_page(edit, folder)
    assert len(edit.captions()) == len(shown)

    program, group, *words = shlex.split(edit.command_line())
    assert (program, group) == ("snowmelt", "edit")
    words[words.index(RESULT)] = str(tmp_path / RESULT)
    result = CliRunner().invoke(edits, [*words, "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / RESULT).read_bytes() == picture_file(shown, edit.nrow)

    names: dict = {}
    exec(edit.lines("cpu"), names)
    made = names["restored"] if "restored" in names else names["images"]
    assert torch.equal(made, shown[-len(made) :])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Interpolation(FORM, (1, 2), (-1, 2)), "choose both"),
        (lambda: Interpolation(FORM, (1, 2), num=65), "1 to 64 images, got 65"),
        (lambda: ClassSwap(FORM, 1, ()), "shall change into"),
        (lambda: ClassSwap(FORM, -1, (0,)), "shows now"),
        (lambda: fitted(None, (1, 8, 8)), "no picture to edit"),
        (lambda: unpainted([Image.new("RGBA", (80, 80))], (1, 8, 8)), "nothing is marked"),
        (lambda: unpainted([Image.new("RGBA", (80, 80), "red")], (1, 8, 8)), "whole picture"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_the_brush_marks_the_pixels_under_it():
    layer = Image.new("RGBA", (80, 80))
    layer.paste("red", (0, 0, 40, 80))
    assert torch.equal(unpainted([layer], (1, 8, 8)), region("left half", (1, 8, 8)))
    with Image.open(io.BytesIO(mask_file(region("left half", (1, 8, 8))))) as mask:
        assert [mask.getpixel((x, 0)) for x in (0, 3, 4, 7)] == [0, 0, 255, 255]


@pytest.mark.parametrize("name", REGIONS)
def test_every_region_leaves_some_of_the_picture(name):
    known = region(name, (3, 9, 7))
    assert known.any()
    assert not known.all()


def test_an_edit_that_nobody_follows_stops(folder):
    sampler = DiffusionSampler.from_pretrained(folder / "model.pth", use_ema=False, method="ddim:20")
    ended = []

    def edit(sampler):
        for _ in range(1000):
            Interpolation(FORM, (1, 2), (0, 1), 2)(sampler)
        ended.append(True)

    running = follow(sampler, edit)
    assert next(running).total == 20
    running.close()
    assert not ended


def test_what_an_edit_raises_arrives(folder):
    sampler = DiffusionSampler.from_pretrained(folder / "model.pth", use_ema=False)
    with pytest.raises(ValueError, match="class"):
        list(follow(sampler, Interpolation(FORM, (1, 2), (0, 7))))
