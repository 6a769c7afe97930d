"""The solvers by name, and the way from names and options to a plan.

A solver is a function ``(schedule, times, *, options) -> Plan``. A new one is that function, in its family's
file, and one line in `SOLVERS`: configurations, the command line and the law tests find it there.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from snowmelt.core import NoiseSchedule
from snowmelt.plans.adams import adams
from snowmelt.plans.ddim import ddim
from snowmelt.plans.ddpm import ddpm
from snowmelt.plans.deis import deis
from snowmelt.plans.dpm2 import dpm2, dpm2_ancestral
from snowmelt.plans.dpm_solver import dpm_solver
from snowmelt.plans.dpmpp import dpmpp_2m, dpmpp_2s, dpmpp_3m
from snowmelt.plans.dpmpp_sde import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde
from snowmelt.plans.euler import euler, euler_ancestral
from snowmelt.plans.grids import GRIDS, explicit
from snowmelt.plans.heun import edm_stochastic, heun
from snowmelt.plans.ipndm import ipndm, pndm
from snowmelt.plans.lms import lms
from snowmelt.plans.plan import Plan
from snowmelt.plans.restart import restart
from snowmelt.plans.sa_solver import sa_solver
from snowmelt.plans.unipc import unipc

__all__ = ["SOLVERS", "Solver", "make_plan"]

Solver = Callable[..., Plan]
V = TypeVar("V")

SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "heun": heun,
    "edm_stochastic": edm_stochastic,
    "lms": lms,
    "dpm2": dpm2,
    "dpm2_ancestral": dpm2_ancestral,
    "dpm_solver": dpm_solver,
    "dpmpp_2s": dpmpp_2s,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_3m": dpmpp_3m,
    "dpmpp_sde": dpmpp_sde,
    "dpmpp_2m_sde": dpmpp_2m_sde,
    "dpmpp_3m_sde": dpmpp_3m_sde,
    "unipc": unipc,
    "sa_solver": sa_solver,
    "deis": deis,
    "adams": adams,
    "ipndm": ipndm,
    "pndm": pndm,
    "restart": restart,
}


def make_plan(
    schedule: NoiseSchedule,
    solver: str = "ddpm",
    steps: int | None = None,
    grid: str = "trailing",
    **options: Any,
) -> Plan:
    """Return the plan of a solver on a time grid.

    Args:
        schedule: what the network was trained on.
        solver: a key of `SOLVERS`.
        steps: number of time steps, >= 1; None takes every trained index of a discrete schedule.
        grid: a key of `GRIDS`.
        options: of the solver (``eta``, ...) or of the grid (``rho``, ...). A list of the evaluations, as
            ``times``, ``sigmas`` (sigma/alpha) or ``indices`` (trained ones), stands in place of `steps` and
            `grid`.

    Raises:
        ValueError: an unknown name or option, with those that exist, or a value that makes no sense.
        TypeError: `steps` is not an integer.

    >>> from snowmelt.core import LinearVP
    >>> make_plan(LinearVP(), "ddim", steps=10, grid="karras", eta=0.5, rho=5)
    <Plan ddim: 10 evaluations, t = 1 -> 0, stochastic, on x0>
    >>> make_plan(LinearVP(), "dimm", steps=10)
    Traceback (most recent call last):
    ValueError: unknown solver 'dimm', did you mean 'ddim'? Known: ddpm, ddim...
    """
    make = _lookup("solver", solver, SOLVERS)
    if not options.keys() & _options_of(explicit):
        place, steps = _lookup("grid", grid, GRIDS), _count(schedule, steps)
    elif grid == "trailing":
        place = explicit
    else:
        raise ValueError(f"give either grid, got {grid!r}, or a list of the evaluations, not both")

    solver_options, grid_options = _options_of(make), _options_of(place)
    for name in options.keys() - solver_options - grid_options:
        known = sorted(solver_options | grid_options)
        raise ValueError(
            f"solver {solver!r} on grid {grid!r} has no option {_suggest(name, known)}{_owners(name)}"
        )
    for function in (make, place):
        _check_numbers(function, options)
    times = place(schedule, steps, **{k: v for k, v in options.items() if k in grid_options})
    return make(schedule, times, **{k: v for k, v in options.items() if k in solver_options})


def _options_of(function: Callable[..., Any]) -> set[str]:
    return set(list(inspect.signature(function).parameters)[2:])


def _count(schedule: NoiseSchedule, steps: int | None) -> int:
    """Return the number of steps, checked; all trained ones for None."""
    if steps is None:
        steps = schedule.num_timesteps
    if steps is None:
        raise ValueError("steps is needed: this schedule is continuous and has no trained indices to count")
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise TypeError(f"steps must be an integer, got {type(steps).__name__}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    return steps


def _check_numbers(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse an option that is a number by default and none as given."""
    for name, item in inspect.signature(function).parameters.items():
        number = isinstance(item.default, int | float) and not isinstance(item.default, bool)
        if number and name in options and not isinstance(options[name], int | float):
            raise ValueError(f"{name} must be a number, such as {item.default}, got {options[name]!r}")


def _owners(option: str) -> str:
    """Return who does have the option."""
    owners = [name for name, make in {**SOLVERS, **GRIDS}.items() if option in _options_of(make)]
    return f". {option!r} is an option of {', '.join(owners)}" if owners else ""


def _lookup(kind: str, name: str, table: Mapping[str, V]) -> V:
    if name not in table:
        raise ValueError(f"unknown {kind} {_suggest(name, table)}")
    return table[name]


def _suggest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else "."
    return f"{name!r}{hint} Known: {', '.join(known) or 'none'}"
