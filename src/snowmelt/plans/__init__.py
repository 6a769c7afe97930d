"""Plans: sampling methods as tables of numbers, the functions that fill them in, the loop that runs them."""

from snowmelt.plans.ddim import ddim
from snowmelt.plans.ddpm import ddpm
from snowmelt.plans.grids import GRIDS
from snowmelt.plans.integrate import State, integrate, trajectory
from snowmelt.plans.plan import Combination, Plan, Row
from snowmelt.plans.presets import PRESETS, Preset, make_preset
from snowmelt.plans.reverse import reverse
from snowmelt.plans.solvers import SOLVERS, make_plan

__all__ = [
    "GRIDS",
    "PRESETS",
    "SOLVERS",
    "Combination",
    "Plan",
    "Preset",
    "Row",
    "State",
    "ddim",
    "ddpm",
    "integrate",
    "make_plan",
    "make_preset",
    "reverse",
    "trajectory",
]
