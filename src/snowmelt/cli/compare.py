"""``snowmelt compare``: methods, numbers of steps, guidance scales and checkpoints side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures
from snowmelt.errors import InputError, as_input_errors
from snowmelt.text import counted

if TYPE_CHECKING:
    from snowmelt.config.comparing import Compare
    from snowmelt.plans import Method

__all__ = ["compare_command"]


def compare_command(
    config_file: Annotated[
        Path,
        typer.Argument(metavar="CONFIG", help="YAML file, such as configs/diffusion/digits_compare.yaml"),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY.SUB=VALUE]...", help="Changes to the file, e.g. compare.num_samples=2000"
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show nothing but warnings.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make all cells again, also the finished ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare ways to sample on one set of seeds: quality against evaluations and seconds.

    Writes report.html, its pictures, results.json and results.csv. The same command continues a stopped
    comparison, and makes only the cells that are new or changed.
    """
    with exit_codes(), figures(as_json) as show:
        from snowmelt.config.comparing import ComparisonConfig
        from snowmelt.config.load import load_as
        from snowmelt.device import resolve_device
        from snowmelt.evaluation.compare import Comparison
        from snowmelt.evaluation.compare.writing import comparison_table, summary
        from snowmelt.models.guidance_files import read_guidance

        config = load_as(ComparisonConfig, config_file, overrides or [])
        wanted = config.compare
        with as_input_errors():  # nothing has been done yet
            comparison = Comparison(
                methods=list(_methods(wanted)),
                guidance=read_guidance(wanted.guidance.options()) if wanted.guidance else None,
                seed=config.compute.seed,
                device=resolve_device(config.compute.device),
                precision=config.compute.precision or "fp32",
                title=config.experiment,
                show_progress=not quiet,
                threshold=None if wanted.threshold == "none" else wanted.threshold,
                **wanted.model_dump(exclude={"samplers", "steps", "guidance", "threshold"}),
            )
            comparison.check()
        if not quiet:
            print(
                f"Comparing {counted(len(comparison.cells), 'way')} to make "
                f"{counted(wanted.num_samples, 'image')}"
            )
        results, report = comparison.run(overwrite=overwrite)
        found = summary(results, wanted.metrics[0])
        text = f"{comparison_table(results, wanted.metrics)}\n\n{found}\nThe report is {report}"
        show(
            {"cells": [each.to_dict() for each in results], "summary": found, "report": report},
            text if not quiet else None,
        )


def _methods(wanted: Compare) -> Iterator[Method | None]:
    """Yield the methods of the grid: each one without steps of its own in each number of steps."""
    from snowmelt.plans import Method

    for number, sampler in enumerate(wanted.samplers):
        if sampler.preset == "own":
            yield None
            continue
        stated = sampler.words()
        for steps in [None] if sampler.has_own_steps else wanted.steps:
            try:
                method = Method.from_dict(stated if steps is None else {**stated, "steps": steps})
            except (TypeError, ValueError) as error:
                raise InputError(f"compare.samplers.{number}: {error}") from error
            if sampler.plan is not None and method.table is not None:  # in the report it has its file's name
                method = Method(table=replace(method.table, name=Path(sampler.plan).stem))
            yield method
