"""*Sample*: pictures of a checkpoint, which can be seen while they are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from snowmelt.studio.choices import checkpoint_choice, class_choice, method_choice
from snowmelt.studio.made import Made, captions
from snowmelt.studio.one_picture import OnePicture
from snowmelt.studio.pictures import grid, tiles
from snowmelt.studio.place import Loaded, Place
from snowmelt.studio.same import same_box
from snowmelt.studio.wanted import MOST_IMAGES, Wanted
from snowmelt.studio.work import Changes, Work
from snowmelt.text import counted

__all__ = ["same", "view"]


def view(place: Place) -> None:
    """Build the view inside its tab."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            checkpoint = checkpoint_choice(place)
            label = class_choice(place, checkpoint)
            method = method_choice()
            steps = gr.Number(0, precision=0, minimum=0, label="Steps", info="0 for those of the method")
            scale = gr.Number(0.0, label="Guidance scale", info="0 turns guidance off")
            count = gr.Slider(1, MOST_IMAGES, value=16, step=1, label="Images")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed")
            work = Work("Sample")
        with gr.Column(scale=2, min_width=280):
            pictures, made = grid(elem_id="samples"), gr.State(None)
            one = OnePicture(pictures, made)
    form = [checkpoint, method, steps, label, count, scale, seed]
    same_box(lambda *values: same(place, *values), form)

    def job(*values: Any) -> Iterator[Changes]:
        yield {made: None, **one.hidden()}
        model, wanted = asked(place, *values)
        sampler = model.sampler(wanted.chosen.method, wanted.guidance_scale)
        labels, seeds = wanted.images(model)
        below = captions(model, labels, len(seeds))
        states = sampler.trajectory(len(seeds), labels, wanted.guidance_scale, seeds=seeds)
        last, seconds = yield from work.follow(
            states, sampler.plan.nfe, lambda state: {pictures: tiles(sampler.images(state.x0), below)}
        )
        images = sampler.images(last.x_t)
        yield {
            pictures: tiles(images, below),
            made: Made(model, wanted, labels, seeds, images),
            **work.said(
                f"{counted(len(seeds), 'image')} by {sampler.method} in {seconds:.2f} s "
                f"({counted(sampler.plan.nfe, 'evaluation')}). Choose one to see more of it."
            ),
        }

    work.does(job, form, [pictures, made, one.panel], also=[seed.submit, steps.submit, scale.submit])


def asked(
    place: Place,
    checkpoint: str | None,
    method: str | None,
    steps: int | None,
    label: int,
    count: int,
    scale: float | None,
    seed: int | None,
) -> tuple[Loaded, Wanted]:
    """Return the model and the images that a form asks for; an empty field is 0."""
    model = place.model(checkpoint)
    chosen = model.chosen(method, int(steps or 0))
    return model, Wanted(
        model.path, place.device, chosen, int(label), int(count), float(scale or 0), int(seed or 0)
    )


def same(place: Place, *values: Any) -> tuple[str, str]:
    """Return the command and the lines that make the images of a form."""
    model, wanted = asked(place, *values)
    return wanted.command(), wanted.lines(str(model.base.device))
