"""Plans: sampling methods as tables of numbers, the functions that fill them in, the loop that runs them."""

from snowmelt.plans.grids import GRIDS
from snowmelt.plans.integrate import State, integrate, last_state, trajectory
from snowmelt.plans.method import Method, make_plan, make_preset
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.plan_file import read_plan, write_plan
from snowmelt.plans.presets import PRESETS, Preset
from snowmelt.plans.reverse import reverse
from snowmelt.plans.solvers import SOLVERS
from snowmelt.plans.solvers.ddim import ddim
from snowmelt.plans.solvers.ddpm import ddpm

__all__ = [
    "GRIDS",
    "PRESETS",
    "SOLVERS",
    "Combination",
    "Method",
    "Plan",
    "Preset",
    "Row",
    "State",
    "ddim",
    "ddpm",
    "integrate",
    "last_state",
    "make_plan",
    "make_preset",
    "read_plan",
    "reverse",
    "trajectory",
    "write_plan",
]
