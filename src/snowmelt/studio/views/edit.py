"""*Edit*: interpolate, vary, change the class, paint a part anew, and find the noise of a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from snowmelt.studio.choices import checkpoint_choice, class_choice, method_choice
from snowmelt.studio.editable import REGIONS, fitted, mask_file, picture_file, region, unpainted
from snowmelt.studio.edits import (
    MASK,
    MOST_IMAGES,
    NO_CLASS,
    PICTURE,
    RESULT,
    ClassSwap,
    Edit,
    Form,
    Inpainting,
    Interpolation,
    Inversion,
    Variation,
)
from snowmelt.studio.follow import follow
from snowmelt.studio.pictures import download, grid, tiles
from snowmelt.studio.place import Loaded, Place
from snowmelt.studio.same import same_box
from snowmelt.studio.work import Work

__all__ = ["view"]

BRUSHED = "what I brush over"


def view(place: Place) -> None:
    """Build the view inside its tab."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            checkpoint = checkpoint_choice(place)
            method = method_choice()
            scale = gr.Number(0.0, label="Guidance scale", info="0 turns guidance off")
            picture = _picture(place, [checkpoint, method, scale])
        with gr.Column(scale=2, min_width=280), gr.Tabs():
            page = Page(place, checkpoint, [checkpoint, method, scale], picture)
            for title, build in EDITS.items():
                with gr.Tab(title, elem_id=f"edit-{title.split()[0].lower()}"):
                    build(page)
