"""``snowmelt inspect FILE``: how a generated image was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures

__all__ = ["inspect_command"]


def inspect_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A generated PNG file, or its folder.")],
    as_json: AsJson = False,
) -> None:
    """Show how a generated image was made, and the command that makes it again."""
    with exit_codes(), figures(as_json) as show:
        from snowmelt.generation import inspect

        told = inspect(path)
        show(told.figures, told)
