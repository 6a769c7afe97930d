"""The view *Edit*: its buttons make pictures and files, and say in a sentence what is missing."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from snowmelt.images import from_uint8
from snowmelt.studio.editable import as_picture, picture_file
from snowmelt.studio.edits import ClassSwap, Inpainting, Interpolation, Inversion, Variation

NAME = "run/checkpoints/latest.pth"
FORM = (NAME, "ddim:3", 1.5)
PICTURE = as_picture(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1)
LINK = re.compile(r'download="(.*?)" href="data:image/png;base64,(.*?)"')
BRUSHED = Image.new("RGBA", (480, 480))
BRUSHED.paste("orange", (0, 0, 240, 480))
CASES: dict[str, tuple[tuple[Any, ...], Callable[..., Any], str]] = {
    "Interpolate": ((None, 3, 4, 0, 2, 3, False), lambda form: Interpolation(form, (3, 4), (0, 2), 3), ""),
    "Vary": ((None, 3, 1, 0.3, 2), lambda form: Variation(form, 3, 0.3, 2, 1), ""),
    "Change the class": ((PICTURE, 0, [1, 2]), lambda form: ClassSwap(form, 0, (1, 2)), "images"),
    "Paint": (
        (PICTURE, 0, 2, 2, 5, "what I brush over", {"layers": [BRUSHED]}),
        lambda form: Inpainting(form, 5, 2, 2, 0),
        "images known",
    ),
    "Invert": ((PICTURE, 0), lambda form: Inversion(form, 0), "images"),
}


def texts(changes: list[dict[Any, Any]]) -> str:
    return " ".join(value for change in changes for value in change.values() if isinstance(value, str))


@pytest.mark.parametrize("button", CASES)
def test_a_button_makes_the_file_of_its_command(start, place, button):
    from snowmelt.studio.editing import Form

    values, make, takes = CASES[button]
    links = dict(
        re.findall(
            r'download="(.*?)" href="data:image/png;base64,(.*?)"', texts(start(button, *FORM, *values))
        )
    )
    names = {"images": "picture.png", "known": "mask.png"}
    assert set(links) == {"edited.png", *(names[each] for each in takes.split())}

    model = place.model(NAME)
    edit, sampler = make(Form(model.path, *FORM[1:])), model.sampler("ddim:3", 1.5)
    pixels = torch.frombuffer(bytearray(PICTURE.tobytes()), dtype=torch.uint8).view(1, 1, 8, 8)
    given = [from_uint8(pixels)] if takes else []
    known = {"known": (torch.arange(8) >= 4).expand(8, 8)} if "known" in takes else {}
    assert b64decode(links["edited.png"]) == picture_file(edit(sampler, *given, **known).images, edit.nrow)


@pytest.mark.parametrize(
    ("button", "values", "said"),
    [
        ("Invert", (None, 0), "no picture to edit"),
        ("Change the class", (PICTURE, 0, []), "shall change into"),
        ("Paint", (PICTURE, 0, 2, 2, 5, "what I brush over", None), "nothing is marked"),
        ("Interpolate", (None, 3, 4, 0, -1, 3, False), "choose both, or none"),
        ("Vary", (None, 3, 7, 0.3, 2), "class_labels must lie in 0..2"),
    ],
)
def test_what_is_missing_is_a_sentence(start, button, values, said):
    assert said in texts(start(button, *FORM, *values))


def test_the_image_of_a_seed_can_be_taken(start, place):
    *_, taken = (
        value
        for change in start("Take it", *FORM, 1, 7)
        for value in change.values()
        if isinstance(value, Image.Image)
    )
    image = place.model(NAME).sampler("ddim:3").sample(1, [1], 1.5, seeds=[7])
    assert taken.tobytes() == as_picture(image[0]).tobytes()
