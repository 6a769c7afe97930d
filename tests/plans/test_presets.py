"""Presets: names for choices that `make_plan` could be asked for."""

from __future__ import annotations

import pytest

from snowmelt.core import DiscreteSchedule, make_betas
from snowmelt.plans import GRIDS, PRESETS, SOLVERS, make_plan, make_preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_plan_that_exists(name):
    schedule = DiscreteSchedule(make_betas())
    preset = PRESETS[name]
    assert preset.solver in SOLVERS
    assert preset.grid in GRIDS
    assert preset.summary
    plan = make_preset(schedule, name)
    assert plan == make_plan(schedule, preset.solver, preset.steps, preset.grid, **preset.options)
    assert plan.end.t == 0.0


def test_presets_run_from_cheap_to_dear():
    schedule = DiscreteSchedule(make_betas())
    nfes = [make_preset(schedule, name).nfe for name in PRESETS]
    assert list(PRESETS) == ["draft", "fast", "balanced", "quality", "ddpm"]
    assert nfes == sorted(set(nfes))
    assert nfes[-1] == 1000


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_its_evaluations(name):
    schedule = DiscreteSchedule(make_betas())
    assert str(make_preset(schedule, name).nfe) in PRESETS[name].summary


def test_presets_but_ddpm_need_no_trained_steps(schedule):
    for name in PRESETS:
        if name == "ddpm" and schedule.num_timesteps is None:
            with pytest.raises(ValueError, match=r"trained step.*take one of draft, fast, balanced, quality"):
                make_preset(schedule, name)
        else:
            assert make_preset(schedule, name).nfe > 0


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"preset must be one of draft, fast, .* got 'slow'"):
        make_preset(DiscreteSchedule(make_betas()), "slow")
