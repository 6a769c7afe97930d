"""The solvers by name, one method a file.

A solver is a function ``(schedule, times, *, options) -> Plan``. A new one is that function, in a file of its
own, and one line in `SOLVERS`: configurations, the command line and the law tests find it there. Where a
method is another one with other options, its line is enough.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any

from snowmelt.core import NoiseSchedule
from snowmelt.plans.plan import Plan
from snowmelt.plans.solvers.adams import adams
from snowmelt.plans.solvers.ddim import ddim
from snowmelt.plans.solvers.ddpm import ddpm
from snowmelt.plans.solvers.deis import deis
from snowmelt.plans.solvers.dpm2 import dpm2
from snowmelt.plans.solvers.dpm_solver import dpm_solver
from snowmelt.plans.solvers.dpmpp_2m import dpmpp_2m
from snowmelt.plans.solvers.dpmpp_2s import dpmpp_2s
from snowmelt.plans.solvers.dpmpp_3m import dpmpp_3m
from snowmelt.plans.solvers.dpmpp_sde import dpmpp_sde
from snowmelt.plans.solvers.edm_stochastic import edm_stochastic
from snowmelt.plans.solvers.heun import heun
from snowmelt.plans.solvers.ipndm import ipndm
from snowmelt.plans.solvers.lms import lms
from snowmelt.plans.solvers.pndm import pndm
from snowmelt.plans.solvers.restart import restart
from snowmelt.plans.solvers.sa_solver import sa_solver
from snowmelt.plans.solvers.unipc import unipc

__all__ = ["SOLVERS", "Solver", "named"]

Solver = Callable[..., Plan]


def named(name: str, solver: Solver, **options: Any) -> Solver:
    """Return a solver under another name, with other defaults of its options.

    >>> from snowmelt.core import RectifiedFlow
    >>> euler_ancestral = named("euler_ancestral", ddim, eta=1.0)
    >>> euler_ancestral(RectifiedFlow(), [1.0, 0.5, 0.0])
    <Plan euler_ancestral: 2 evaluations, t = 1 -> 0, stochastic, on x0>
    >>> euler_ancestral(RectifiedFlow(), [1.0, 0.5, 0.0]) == ddpm(RectifiedFlow(), [1.0, 0.5, 0.0])
    True
    """
    with_options = partial(solver, **options)

    @wraps(solver)
    def alias(schedule: NoiseSchedule, times: Sequence[float], **given: Any) -> Plan:
        return replace(with_options(schedule, times, **given), name=name)

    alias.__name__ = alias.__qualname__ = name
    alias.__signature__ = inspect.signature(with_options)  # type: ignore[attr-defined]
    return alias


SOLVERS: dict[str, Solver] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "euler": named("euler", ddim),
    "euler_ancestral": named("euler_ancestral", ddim, eta=1.0),
    "heun": heun,
    "edm_stochastic": edm_stochastic,
    "lms": lms,
    "dpm2": dpm2,
    "dpm2_ancestral": named("dpm2_ancestral", dpm2, eta=1.0),
    "dpm_solver": dpm_solver,
    "dpmpp_2s": dpmpp_2s,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_3m": dpmpp_3m,
    "dpmpp_sde": dpmpp_sde,
    "dpmpp_2m_sde": named("dpmpp_2m_sde", dpmpp_2m, eta=1.0),
    "dpmpp_3m_sde": named("dpmpp_3m_sde", dpmpp_3m, eta=1.0),
    "unipc": unipc,
    "sa_solver": sa_solver,
    "deis": deis,
    "adams": adams,
    "ipndm": ipndm,
    "pndm": pndm,
    "restart": restart,
}
