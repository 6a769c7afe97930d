"""``snowmelt studio``: look at models and runs on a local page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.options import Device

__all__ = ["studio_command"]


def studio_command(
    root: Annotated[
        Path,
        typer.Argument(
            metavar="[PLACE]", help="A checkpoint, or a folder. Only what is below it can be seen."
        ),
    ] = Path("outputs"),
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0 takes any free port.")
    ] = 7860,
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    device: Device = "auto",
) -> None:
    """Open a local page: sample, compare, edit, and look at runs and plans.

    The page listens on 127.0.0.1 alone, and needs no network. Ctrl-C ends it.
    """
    with exit_codes():
        from snowmelt.studio.place import Place
        from snowmelt.studio.server import Studio

        with Studio(Place(root, device), port) as studio:
            typer.echo(f"The studio shows {root} at {studio.url} (Ctrl-C ends it)")
            studio.wait(show=show)
