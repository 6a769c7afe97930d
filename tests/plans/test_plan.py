"""Laws of plans as objects: what they say of themselves, and how they are kept."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import DiscreteSchedule, Level, LinearVP, RectifiedFlow, make_betas
from snowmelt.plans import GRIDS, SOLVERS, Combination, Plan, Row, make_plan

finite = st.floats(allow_nan=False, allow_infinity=False)
levels = st.builds(Level, finite, finite, finite)
combinations = st.builds(Combination, finite, finite, st.lists(finite, max_size=4).map(tuple), finite)
plans = st.builds(
    Plan,
    st.lists(st.builds(Row, levels, combinations, combinations), min_size=1, max_size=4).map(tuple),
    levels,
    st.sampled_from(["x0", "eps", "v"]),
    st.integers(1, 5),
    st.text(max_size=8),
)


@given(plans)
def test_json_keeps_every_bit(plan):
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.name == plan.name
    assert again.to_json() == plan.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 3}', '{"rows": [], "end": [0,1,0]}'])
def test_other_text_is_not_a_plan(text):
    with pytest.raises(ValueError, match="plan"):
        Plan.from_json(text)


def test_json_without_a_part_is_not_a_plan():
    fields = json.loads(make_plan(RectifiedFlow(), "ddim", steps=2).to_json())
    for name in fields:
        with pytest.raises(ValueError, match="plan"):
            Plan.from_json(json.dumps({k: v for k, v in fields.items() if k != name}))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 17])
def test_plans_say_what_they_do(solver, grid, steps):
    schedule = DiscreteSchedule(make_betas())
    plan = make_plan(schedule, solver, steps, grid)
    assert steps <= plan.nfe <= 4 * steps
    assert plan.nfe == len(plan.rows) == len(plan.levels) - 1
    assert plan.levels[-1] == (0.0, 1.0, 0.0)
    assert set(GRIDS[grid](schedule, steps)[:-1]) <= {level.t for level in plan.levels}
    assert all(level == schedule(level.t) for level in plan.levels)
    assert f"{solver}: {plan.nfe} evaluations" in repr(plan)
    assert len(str(plan).splitlines()) == plan.nfe + 2


def test_every_number_of_every_plan_is_finite(schedule):
    for solver in SOLVERS:
        for grid in ("uniform_t", "uniform_lam", "karras"):
            for steps in (1, 2, 3, 10):
                plan = make_plan(schedule, solver, steps, grid)
                numbers = [
                    number
                    for row in plan.rows
                    for c in (row.correct, row.advance)
                    for number in (c.x, c.y, c.z, *c.m)
                ]
                assert all(map(math.isfinite, numbers))


def test_equal_tables_are_equal_whatever_their_name():
    # DDIM with eta = 1 is DDPM (Song et al. 2021, section 4.1)
    one, other = make_plan(LinearVP(), "ddim", 5, eta=0.0), make_plan(LinearVP(), "ddim", 5)
    assert one == other
    assert len({one, other}) == 1
    assert one != make_plan(LinearVP(), "ddim", 6)


def test_stochastic_plans_say_so():
    assert make_plan(LinearVP(), "ddpm", 5).stochastic
    assert make_plan(LinearVP(), "ddim", 5, eta=0.3).stochastic
    assert not make_plan(LinearVP(), "ddim", 5).stochastic


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "dddim"}, "unknown solver 'dddim', did you mean 'ddim'"),
        ({"grid": "karas"}, "unknown grid 'karas', did you mean 'karras'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1001}, "steps must be at most 1000"),
        ({"steps": 5, "eta": 0.5}, "has no option 'eta'"),
        ({"solver": "ddim", "steps": 5, "etaa": 0.5}, "has no option 'etaa', did you mean 'eta'"),
        ({"solver": "ddim", "steps": 5, "eta": 1.5}, r"eta must lie in \[0, 1\]"),
        ({"steps": 5, "grid": "karras", "rho": 0.0}, "rho must be positive"),
    ],
)
def test_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(DiscreteSchedule(make_betas()), **arguments)


@pytest.mark.parametrize("steps", [2.0, "5", True])
def test_steps_are_integers(steps):
    with pytest.raises(TypeError, match="steps must be an integer"):
        make_plan(LinearVP(), "ddim", steps)


def test_a_continuous_schedule_needs_a_number_of_steps():
    with pytest.raises(ValueError, match="steps is needed"):
        make_plan(LinearVP(), "ddim")


@pytest.mark.parametrize("grid", ["leading", "linspace"])
def test_grids_of_indices_need_indices(grid):
    with pytest.raises(ValueError, match="counts trained indices"):
        make_plan(LinearVP(), "ddim", 5, grid)


def test_an_empty_plan_and_an_unknown_quantity_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        Plan((), Level(0.0, 1.0, 0.0))
    row = Row(Level(1.0, 0.0, 1.0), Combination(m=(1.0,)))
    with pytest.raises(ValueError, match="quantity must be one of"):
        Plan((row,), Level(0.0, 1.0, 0.0), quantity="score")
