"""The page: a tab for each view."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import gradio as gr

from snowmelt.studio.place import Place
from snowmelt.studio.server import in_loop
from snowmelt.studio.views import compare, edit, plans, runs, sample

__all__ = ["VIEWS", "build"]

# Called inside its tab, in the order of the tabs
VIEWS: dict[str, Callable[[Place], None]] = {
    "Sample": sample.view,
    "Compare": compare.view,
    "Edit": edit.view,
    "Runs": runs.view,
    "Plans": plans.view,
}


def build(place: Place) -> gr.Blocks:
    """Return the page of a place."""
    return in_loop(_built, place)


def _built(place: Place) -> gr.Blocks:
    page = gr.Blocks(title="snowmelt studio", analytics_enabled=False)
    with page:
        gr.HTML(f"<h1>snowmelt studio <small>{escape(str(place.given))}</small></h1>", elem_classes="head")
        with gr.Tabs():
            for name, view in VIEWS.items():
                with gr.Tab(name, id=name.lower(), elem_id=f"tab-{name.lower()}"):
                    view(place)
    return page
