"""What the views let choose alike: a checkpoint, one of its classes, and a method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from snowmelt.errors import InputError
from snowmelt.studio.place import Place
from snowmelt.studio.wanted import ALL_CLASSES

__all__ = ["ALL_CLASSES", "checkpoint_choice", "class_choice", "method_choice", "when_loaded"]


def checkpoint_choice(place: Place, label: str = "Checkpoint") -> gr.Dropdown:
    """Return the choice of a checkpoint; each time the page is loaded, it looks which there are."""
    names = place.checkpoints()
    choice = gr.Dropdown(names, value=names[0] if names else None, label=label)

    def look() -> gr.Dropdown:
        names = place.checkpoints()
        return gr.Dropdown(names, value=names[0] if names else None)

    when_loaded(look, choice)
    return choice


def when_loaded(look: Callable[[], Any], output: Any) -> None:
    """Give a component what a function finds out each time the page is loaded."""
    gr.on(None, look, None, output, show_progress="hidden", api_visibility="private")


def class_choice(place: Place, checkpoint: gr.Dropdown) -> gr.Dropdown:
    """Return the choice of a class of the chosen checkpoint; an unconditional one has none."""
    everything = [("all in turn", ALL_CLASSES)]
    choice = gr.Dropdown(everything, value=ALL_CLASSES, label="Class")

    def look(name: str | None) -> Any:
        try:
            model = place.model(name)
        except InputError:  # the job says so
            return gr.Dropdown(everything, value=ALL_CLASSES)
        count = model.base.model.num_classes
        if count is None:
            return gr.Dropdown([("none, it has no classes", ALL_CLASSES)], value=ALL_CLASSES)
        names = [*(model.class_names or [])][:count]
        labels = [
            (f"{label}: {names[label]}" if label < len(names) else f"{label}", label)
            for label in range(count)
        ]
        return gr.Dropdown([*everything, *labels], value=ALL_CLASSES)

    gr.on(None, look, checkpoint, choice, show_progress="hidden", api_visibility="private")
    return choice


def method_choice(label: str = "Method", first: str = "") -> gr.Dropdown:
    """Return the choice of a method: a preset, or any text such as ``dpmpp_2m:20 grid=karras``.

    Args:
        label: of the choice.
        first: what is chosen to begin with; "" is the checkpoint's own.
    """
    choice = gr.Dropdown(
        [("the checkpoint's own", "")],
        value=first,
        label=label,
        allow_custom_value=True,
        info="A preset, or solver:steps, such as dpmpp_2m:20",
    )

    def look() -> gr.Dropdown:
        from snowmelt.plans import PRESETS

        presets = [(f"{name}: {preset.summary}", name) for name, preset in PRESETS.items()]
        # No solvers among them: Enter takes the first that contains what is typed, ddim:20 for ddim:2
        return gr.Dropdown([("the checkpoint's own", ""), *presets])

    when_loaded(look, choice)
    return choice
