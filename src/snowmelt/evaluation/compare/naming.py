"""Names of cells for people: only what tells them apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os.path import commonpath, relpath
from pathlib import Path

from snowmelt.evaluation.compare.cell import Cell

__all__ = ["cell_names", "series_names"]


def series_names(cells: Iterable[Cell]) -> dict[tuple[str, str, float], str]:
    """Return a name for each series of cells, in their order; what all have in common is left out.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> plan = make_plan(RectifiedFlow(), "ddim", steps=4)
    >>> cells = [Cell("model.pth", "ddim", 4, scale, plan, 4, {}) for scale in (0.0, 2.0)]
    >>> list(series_names(cells).values())
    ['ddim, guidance 0', 'ddim, guidance 2']
    """
    series = list(dict.fromkeys(cell.series for cell in cells))
    several = [len(set(values)) > 1 for values in zip(*series, strict=True)]
    common = commonpath([Path(checkpoint).parent for checkpoint, _, _ in series])
    return {each: _name(each, several, common) for each in series}


def cell_names(cells: Sequence[Cell]) -> list[str]:
    """Return a name for each cell: its series and its number of evaluations."""
    names = series_names(cells)
    return [f"{names[cell.series]}, {cell.evaluations} NFE" for cell in cells]


def _name(series: tuple[str, str, float], several: Sequence[bool], common: str) -> str:
    checkpoint, sampler, scale = series
    parts = [relpath(checkpoint, common)] if several[0] else []
    parts.append(sampler)
    return ", ".join([*parts, f"guidance {scale:g}"] if several[2] else parts)
