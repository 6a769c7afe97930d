"""The box in each view with the command and the Python lines that do the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from snowmelt.errors import InputError

__all__ = ["same_box"]


def same_box(write: Callable[..., tuple[str, str]], inputs: Sequence[Any]) -> None:
    """Show what does the same as a form, always that of its present values.

    Args:
        write: called with the inputs' values; returns a command and Python lines. Where there is no command
            that does the same, it is "".
        inputs: the components of the form.
    """
    with gr.Accordion("The same without this page", open=False):
        command = gr.Code(label="Command", language="shell", interactive=False, lines=1, elem_classes="same")
        lines = gr.Code(label="Python", language="python", interactive=False, lines=1, elem_classes="same")

    def written(*values: Any) -> tuple[Any, str]:
        try:
            shell, python = write(*values)
        except (InputError, TypeError, ValueError) as error:
            return gr.Code("", visible=False), f"# {error}"
        return gr.Code(shell, visible=bool(shell)), python

    gr.on(
        None,
        written,
        inputs=list(inputs),
        outputs=[command, lines],
        show_progress="hidden",
        api_visibility="private",
    )
