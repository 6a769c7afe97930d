"""The solvers by name, one method a file.

A solver is a function ``(schedule, times, *, options) -> Plan``. A new one is that function, in a file of its
own, and one line in `SOLVERS`: configurations, the command line and the law tests find it there.
"""

from __future__ import annotations

from collections.abc import Callable

from snowmelt.plans.plan import Plan
from snowmelt.plans.solvers.adams import adams
from snowmelt.plans.solvers.ddim import ddim
from snowmelt.plans.solvers.ddpm import ddpm
from snowmelt.plans.solvers.deis import deis
from snowmelt.plans.solvers.dpm2 import dpm2, dpm2_ancestral
from snowmelt.plans.solvers.dpm_solver import dpm_solver
from snowmelt.plans.solvers.dpmpp import dpmpp_2m, dpmpp_2s, dpmpp_3m
from snowmelt.plans.solvers.dpmpp_sde import dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde
from snowmelt.plans.solvers.euler import euler, euler_ancestral
from snowmelt.plans.solvers.heun import edm_stochastic, heun
from snowmelt.plans.solvers.ipndm import ipndm, pndm
from snowmelt.plans.solvers.lms import lms
from snowmelt.plans.solvers.restart import restart
from snowmelt.plans.solvers.sa_solver import sa_solver
from snowmelt.plans.solvers.unipc import unipc

__all__ = ["SOLVERS", "Solver"]

Solver = Callable[..., Plan]

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
