"""*Sample*: pictures of a checkpoint, which can be seen while they are made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from snowmelt.studio.choices import checkpoint_choice, class_choice, method_choice
from snowmelt.studio.pictures import grid, tiles
from snowmelt.studio.place import Place
from snowmelt.studio.same import same_box
from snowmelt.studio.wanted import MOST_IMAGES, Wanted
from snowmelt.studio.work import Work
from snowmelt.text import counted

__all__ = ["view"]


def view(place: Place) -> None:
    """Build the view inside its tab."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            checkpoint = checkpoint_choice(place)
            label = class_choice(place, checkpoint)
            method = method_choice()
            count = gr.Slider(1, MOST_IMAGES, value=16, step=1, label="Images")
            scale = gr.Number(0.0, label="Guidance scale", info="0 turns guidance off")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed")
            work = Work("Sample")
        with gr.Column(scale=2, min_width=280):
            pictures = grid()
    form = [checkpoint, method, label, count, scale, seed]
    same_box(lambda *values: same(place, *values), form)

    def job(*values: Any) -> Iterator[dict[Any, Any]]:
        model, wanted = place.model(values[0]), wanted_of(place, *values)
        sampler = model.sampler(wanted.method, wanted.guidance_scale)
        labels, seeds = wanted.images(model)
        captions = [caption(model.class_names, label) for label in labels or (None,) * len(seeds)]
        nfe, began = sampler.plan.nfe, time.perf_counter()
        for done, state in enumerate(
            sampler.trajectory(len(seeds), labels, wanted.guidance_scale, seeds=seeds), 1
        ):
            images = sampler.images(state.x0)
            yield {
                pictures: tiles(images, captions),
                **work.at(done, nfe, f"evaluation {done} of {nfe}"),
            }
        seconds = time.perf_counter() - began
        yield {
            pictures: tiles(sampler.images(state.x_t), captions),
            **work.said(
                f"{counted(len(seeds), 'image')} by {sampler.method} in {seconds:.1f} s "
                f"({counted(nfe, 'evaluation')} each)"
            ),
        }

    work.does(job, form, [pictures], also=[seed.submit])


def wanted_of(
    place: Place, checkpoint: str, method: str, label: int, count: int, scale: float, seed: int
) -> Wanted:
    """Return what the form asks for."""
    return Wanted(place.shown(checkpoint), method.strip(), label, int(count), float(scale), int(seed))


def same(place: Place, *values: Any) -> tuple[str, str]:
    """Return the command and the lines that make the images of a form."""
    wanted = wanted_of(place, *values)
    return wanted.command(), wanted.lines()


def caption(names: Any, label: int | None) -> str:
    """Return what stands under a picture: its class."""
    if label is None:
        return ""
    return names[label] if names is not None and label < len(names) else str(label)
