"""*Edit*: interpolate, vary, change the class, paint a part anew, and find the noise of a picture."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from snowmelt.studio.choices import checkpoint_choice, class_choice, class_labels, method_choice
from snowmelt.studio.editable import (
    REGIONS,
    as_picture,
    enlarged,
    fitted,
    mask_file,
    picture_file,
    region,
    unpainted,
)
from snowmelt.studio.editing import MASK, PICTURE, RESULT, Edit, Form
from snowmelt.studio.edits import (
    MOST_IMAGES,
    ClassSwap,
    Inpainting,
    Interpolation,
    Inversion,
    Variation,
)
from snowmelt.studio.follow import Seen, follow, shown
from snowmelt.studio.pictures import download, grid, tiles
from snowmelt.studio.place import Loaded, Place
from snowmelt.studio.same import same_box
from snowmelt.studio.work import Changes, Work
from snowmelt.text import counted

__all__ = ["view"]

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NONE = "none"  # what no class is called
BRUSH = "what I brush over"


@dataclass(frozen=True)
class Page:
    """What the tabs share: what may be seen, the components of every edit, and the picture with its class."""

    place: Place
    checkpoint: gr.Dropdown
    method: gr.Dropdown
    scale: gr.Number
    picture: gr.Image
    label: gr.Dropdown

    def asked(self, checkpoint: str | None, method: str | None, scale: float | None) -> tuple[Loaded, Form]:
        """Return the model, and what all edits are asked for; an empty field is 0."""
        model, scale = self.place.model(checkpoint), float(scale or 0)
        return model, Form(model.path, model.chosen(method).text, scale, self.place.device)

    def class_choice(self, label: str = "Class") -> gr.Dropdown:
        """Return the choice of a class."""
        return class_choice(self.place, self.checkpoint, label, NONE)


def view(place: Place) -> None:
    """Build the view inside its tab."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            checkpoint, method = checkpoint_choice(place), method_choice()
            scale = gr.Number(0.0, label="Guidance scale", info="0 turns guidance off")
            with gr.Column(visible=False) as given:
                picture = gr.Image(
                    type="pil",
                    image_mode="RGBA",
                    format="png",
                    sources=["upload", "clipboard"],
                    label="Picture to edit",
                    elem_classes="to-edit",
                    height=240,
                )
                label = class_choice(place, checkpoint, "Class that it shows", NONE)
                seed = gr.Number(0, precision=0, minimum=0, label="Or take the image of a seed")
                take = Work("Take it")
        page = Page(place, checkpoint, method, scale, picture, label)
        with gr.Column(scale=2, min_width=280), gr.Tabs():
            for name, (build, takes_picture) in EDITS.items():
                with gr.Tab(name, elem_id=f"edit-{name.split()[0].lower()}") as tab:
                    build(page)
                tab.select(partial(gr.Column, visible=takes_picture), None, given, queue=False, **QUIET)
    take.does(
        lambda *values: _take(page, take, *values),
        [checkpoint, method, scale, label, seed],
        [picture],
        also=[seed.submit],
    )


def _take(page: Page, work: Work, *values: Any) -> Generator[Changes]:
    """Sample the picture to edit."""
    *form, label, seed = values
    model, asked = page.asked(*form)
    sampler = model.sampler(form[1], asked.guidance_scale)
    same = Variation(asked, int(seed or 0), strength=0, num=1, label=label)  # as the seed itself
    result = yield from shown(follow(sampler, same), lambda seen: _at(work, seen))
    yield {page.picture: as_picture(result.images[0]), **work.said(f"The image of seed {same.seed}")}


def _at(work: Work, seen: Seen) -> Changes:
    text = f"evaluation {seen.done} of {seen.total}" + (", second run" if seen.run == 2 else "")
    return work.at(seen.done, seen.total, text)


def _works(
    page: Page,
    start: str,
    make: Callable[..., Edit],
    inputs: Sequence[Any],
    mask: Callable[..., Any] | None = None,
    masks: Sequence[Any] = (),
) -> None:
    """Add the button that starts an edit, its result, and what does the same.

    Args:
        page: what the tabs share.
        start: what the button says.
        make: called with the form and the inputs' values; returns the edit.
        inputs: components.
        mask: called with the values of `masks` and the image's shape; returns what stays as it is.
        masks: components.
    """
    work, images, links = Work(start), grid(), gr.HTML(elem_classes="downloads")
    form = [page.checkpoint, page.method, page.scale]

    def job(checkpoint: str, method: str, scale: float, picture: Any, *values: Any) -> Generator[Changes]:
        own, marked = values[: len(inputs)], values[len(inputs) :]
        model, asked = page.asked(checkpoint, method, scale)
        edit, sampler = make(asked, *own), model.sampler(method, asked.guidance_scale)
        shape = sampler.model.image_shape
        captions = edit.captions(model.class_names)
        given = [fitted(picture, shape)] if edit.takes else []
        known = {"known": mask(*marked, shape)} if mask is not None else {}

        def progress(seen: Seen) -> Changes:
            now = sampler.images(seen.state.x0)
            under = captions if len(captions) == len(now) else [""] * len(now)
            return {images: tiles(now, under), **_at(work, seen)}

        result = yield from shown(follow(sampler, lambda followed: edit(followed, *given, **known)), progress)
        files = {RESULT: picture_file(result.images, edit.nrow)}
        files |= {PICTURE: picture_file(given[0])} if given else {}
        files |= {MASK: mask_file(known["known"])} if known else {}
        yield {
            images: tiles(result.images, captions),
            links: " ".join(download(data, name, f"Save {name}") for name, data in files.items()),
            **work.said(result.note or f"{counted(len(captions), 'image')} by {sampler.method}"),
        }

    def same(checkpoint: str, method: str, scale: float, *values: Any) -> tuple[str, str]:
        model, asked = page.asked(checkpoint, method, scale)
        edit = make(asked, *values)
        return edit.command_line(), edit.lines(str(model.base.device))

    work.does(job, [*form, page.picture, *inputs, *masks], [images, links])
    same_box(same, [*form, *inputs])


def _interpolate(page: Page) -> None:
    with gr.Row():
        seeds = [
            gr.Number(seed, precision=0, minimum=0, label=f"{end} seed", min_width=120)
            for seed, end in enumerate(("From", "To"))
        ]
    with gr.Row():
        labels = [page.class_choice(f"{end} class") for end in ("From", "To")]
    num = gr.Slider(2, MOST_IMAGES, value=9, step=1, label="Images")
    loop = gr.Checkbox(label="And back again")

    def make(form: Form, start: int, end: int, first: int, last: int, num: int, loop: bool) -> Edit:
        return Interpolation(form, (int(start or 0), int(end or 0)), (first, last), int(num), loop)

    _works(page, "Interpolate", make, [*seeds, *labels, num, loop])


def _vary(page: Page) -> None:
    seed = gr.Number(0, precision=0, minimum=0, label="Seed")
    label = page.class_choice()
    strength = gr.Slider(
        0, 1, value=0.3, step=0.05, label="Strength", info="0 is the same image, 1 an unrelated one"
    )
    num = gr.Slider(1, MOST_IMAGES, value=8, step=1, label="Images")

    def make(form: Form, seed: int, label: int, strength: float, num: int) -> Edit:
        return Variation(form, int(seed or 0), strength, int(num), label)

    _works(page, "Vary", make, [seed, label, strength, num])


def _swap(page: Page) -> None:
    targets = gr.Dropdown([], multiselect=True, label="Classes to change into")
    gr.on(
        None,
        lambda name: gr.Dropdown(class_labels(page.place, name), value=[]),
        page.checkpoint,
        targets,
        **QUIET,
    )

    def make(form: Form, label: int, targets: Sequence[int] | None) -> Edit:
        return ClassSwap(form, label, tuple(targets or ()))

    _works(page, "Change the class", make, [page.label, targets])


def _inpaint(page: Page) -> None:
    where = gr.Radio([BRUSH, *REGIONS], value=BRUSH, label="Paint anew")
    canvas = gr.ImageEditor(
        type="pil",
        image_mode="RGBA",
        format="png",
        sources=(),
        transforms=(),
        layers=False,
        brush=gr.Brush(colors=["#f97316"], color_mode="fixed", default_size=40),
        label="Brush over the part to paint anew",
        elem_classes="canvas",
    )
    num = gr.Slider(1, 16, value=4, step=1, label="Results")
    passes = gr.Slider(
        1, 20, value=10, step=1, label="Passes", info="More of them fit better, and take longer"
    )
    seed = gr.Number(0, precision=0, minimum=0, label="Seed")
    where.change(lambda where: gr.ImageEditor(visible=where == BRUSH), where, canvas, **QUIET)

    def laid_out(checkpoint: str | None, picture: Any) -> Any:
        if picture is None or checkpoint is None:
            return None
        image = fitted(picture, page.place.model(checkpoint).base.model.image_shape)[0]
        return {"background": enlarged(image), "layers": [], "composite": None}

    changes = [page.checkpoint.change, page.picture.change]
    gr.on(changes, laid_out, [page.checkpoint, page.picture], canvas, **QUIET)

    def mask(where: str, drawn: Any, shape: Sequence[int]) -> Any:
        return region(where, shape) if where != BRUSH else unpainted((drawn or {}).get("layers", []), shape)

    def make(form: Form, label: int, num: int, passes: int, seed: int) -> Edit:
        return Inpainting(form, int(seed or 0), int(num), int(passes), label)

    _works(page, "Paint", make, [page.label, num, passes, seed], mask, [where, canvas])


def _invert(page: Page) -> None:
    gr.Markdown("Finds the noise that sampling turns into the picture, and samples from it again.")
    _works(page, "Invert", Inversion, [page.label])


# What builds each tab, and whether it edits a picture
EDITS: dict[str, tuple[Callable[[Page], None], bool]] = {
    "Interpolate": (_interpolate, False),
    "Variations": (_vary, False),
    "Swap class": (_swap, True),
    "Inpaint": (_inpaint, True),
    "Invert": (_invert, True),
}
