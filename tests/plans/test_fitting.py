"""No plan asks a network where it was never trained."""

from __future__ import annotations

import pytest

from snowmelt.core import DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.plans import SOLVERS, Method, Plan

SCHEDULE = DiscreteSchedule(make_betas(num_timesteps=10))
BELOW = r"asks the network at t = 0\.0\d+, below its first trained step at t = 0\.1"


@pytest.mark.parametrize(
    "method",
    [Method("ddim", 20, "uniform_t"), Method("heun", options={"times": [1.0, 0.5, 0.05]})],
    ids=str,
)
def test_times_below_the_first_trained_step_are_refused(method):
    with pytest.raises(ValueError, match=BELOW):
        method.plan(SCHEDULE)
    with pytest.raises(ValueError, match=BELOW):
        method.reversed(SCHEDULE)
    continuous = method.plan(RectifiedFlow())
    assert min(row.level.t for row in continuous.rows) == pytest.approx(0.05)


def test_a_ready_plan_is_held_to_it_too():
    rows = Method("ddim", 20, "uniform_t")
    foreign = DiscreteSchedule(SCHEDULE.betas)
    foreign.num_timesteps = None  # as if time were continuous
    plan = Plan.from_json(SOLVERS["ddim"](SCHEDULE, rows.times(foreign)).to_json())
    with pytest.raises(ValueError, match=BELOW):
        Method(table=plan).plan(SCHEDULE)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_may_step_from_the_first_trained_index(solver):
    times = SCHEDULE.t_of_index(9), SCHEDULE.t_of_index(4), SCHEDULE.t_of_index(0), 0.0
    plan = Method(solver).plan(SCHEDULE, times)
    assert min(row.level.t for row in plan.rows) >= SCHEDULE.t_min
