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


def class_choice(
    place: Place, checkpoint: gr.Dropdown, label: str = "Class", otherwise: str = "all in turn"
) -> gr.Dropdown:
    """Return the choice of a class of the chosen checkpoint; an unconditional one has none.

    Args:
        place: what the page may see.
        checkpoint: the choice of a checkpoint.
        label: of the choice.
        otherwise: what -1, which is no class, is called.
    """
    everything = [(otherwise, ALL_CLASSES)]
    choice = gr.Dropdown(everything, value=ALL_CLASSES, label=label)

    def look(name: str | None) -> gr.Dropdown:
        return gr.Dropdown([*everything, *class_labels(place, name)], value=ALL_CLASSES)

    gr.on(None, look, checkpoint, choice, show_progress="hidden", api_visibility="private")
    return choice


def class_labels(place: Place, checkpoint: str | None) -> list[tuple[str, int]]:
    """Return the classes of a checkpoint, as choices; none of one that cannot be read."""
    try:
        model = place.model(checkpoint)
    except InputError:  # the job says so
        return []
    names = model.class_names or []
    return [
        (f"{label}: {names[label]}" if label < len(names) else f"{label}", label)
        for label in range(model.base.model.num_classes or 0)
    ]


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
