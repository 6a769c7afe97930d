"""``snowmelt data CONFIG`` and ``snowmelt data DATA``: what a network will see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures
from snowmelt.cli.options import Overrides
from snowmelt.cli.parsing import expect_suffix, is_config

if TYPE_CHECKING:
    from snowmelt.config import Config

__all__ = ["data_command"]


def data_command(
    source: Annotated[
        Path,
        typer.Argument(metavar="CONFIG|DATA", help="YAML file of a run; or images, as for snowmelt train."),
    ],
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="PNG file to write: the first images of each class.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the network will see: how many images of which class, their values, and copies.

    With --out, also a picture of them. All images are opened. Nothing is trained.
    """
    with exit_codes(), figures(as_json) as show:
        import torch

        from snowmelt.data.survey import survey
        from snowmelt.images import save_grid
        from snowmelt.training.data import training_data

        if out is not None:
            expect_suffix(out, ".png")
        config = _config(source, overrides or [])
        found = survey(training_data(config, torch.device("cpu")))
        if out is not None:
            captions = [found.classes[label] for label in found.labels] if len(found.classes) > 1 else None
            save_grid(found.pictures, out, nrow=8, captions=captions)
        where = f"A picture: {out}" if out is not None else "A picture of them: add --out seen.png"
        show(found.as_json(), f"{found}\n\n{where}")


def _config(source: Path, overrides: Sequence[str]) -> Config:
    """Return the configuration of a run; for images, one that takes them as they are."""
    from snowmelt.config import load_config
    from snowmelt.training.proposal import as_they_are

    if is_config(source):
        return load_config(source, [*overrides, "mode=train"])
    return as_they_are(str(source), overrides)
