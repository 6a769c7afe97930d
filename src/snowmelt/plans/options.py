"""The options of solvers and grids, as their functions state them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from snowmelt.plans.grids import GRIDS, explicit
from snowmelt.plans.solvers import SOLVERS
from snowmelt.plans.words import lookup, suggest

__all__ = ["DEFAULT_GRID", "LISTS", "check_options", "options_of", "place_of"]

DEFAULT_GRID = "trailing"  # of a solver without a grid
LISTS = frozenset({"times", "sigmas", "indices"})  # of evaluations, which stand in place of steps and grid


@cache
def _options(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """Return a solver's or a grid's options: what follows the schedule and the times."""
    return tuple(inspect.signature(function).parameters.values())[2:]


def options_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of a solver's or a grid's options."""
    return {option.name for option in _options(function)}


def place_of(grid: str | None, options: Mapping[str, Any]) -> Callable[..., tuple[float, ...]]:
    """Return the function that places the times: a list's, the grid's, or the default one's."""
    return explicit if options.keys() & LISTS else lookup("grid", grid or DEFAULT_GRID, GRIDS)


def check_options(solver: str, grid: str | None, options: Mapping[str, Any]) -> None:
    """Raise ValueError for an unknown solver, grid or option, or a number that is none."""
    if options.keys() & LISTS and grid not in (None, DEFAULT_GRID):
        raise ValueError(f"give either grid, got {grid!r}, or a list of the evaluations, not both")
    functions = (lookup("solver", solver, SOLVERS), place_of(grid, options))
    if isinstance(options.get("inner"), str):
        lookup("solver", options["inner"], SOLVERS)
    known = sorted(set[str]().union(*map(options_of, functions)))
    for name in options.keys() - known:
        raise ValueError(
            f"solver {solver!r} on grid {grid or DEFAULT_GRID!r} has no option "
            f"{suggest(name, known)}{_owners(name)}"
        )
    for function in functions:
        for name, default in ((option.name, option.default) for option in _options(function)):
            number = isinstance(default, int | float) and not isinstance(default, bool)
            if number and name in options and not isinstance(options[name], int | float):
                raise ValueError(f"{name} must be a number, such as {default}, got {options[name]!r}")


def _owners(option: str) -> str:
    """Return the solvers and grids that have the option."""
    owners = [name for name, make in {**SOLVERS, **GRIDS}.items() if option in options_of(make)]
    return f". {option!r} is an option of {', '.join(owners)}" if owners else ""
