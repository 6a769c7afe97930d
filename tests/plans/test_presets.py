"""Presets: names for choices that `make_plan` could be asked for."""

from __future__ import annotations

import pytest

from snowmelt.core import DiscreteSchedule, make_betas
from snowmelt.plans import PRESETS, make_plan, make_preset

DDPM = DiscreteSchedule(make_betas())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_plan_and_the_evaluations_that_it_says(name):
    preset = PRESETS[name]
    plan = make_preset(DDPM, name)
    assert plan == make_plan(DDPM, preset.solver, preset.steps, preset.grid, **preset.options)
    assert (plan.levels[0].t, plan.end.t) == (1.0, 0.0)
    assert str(plan.nfe) in preset.summary


def test_presets_run_from_cheap_to_dear():
    assert list(PRESETS) == ["draft", "fast", "balanced", "quality", "ddpm"]
    assert [make_preset(DDPM, name).nfe for name in PRESETS] == [6, 10, 16, 30, 1000]


def test_every_preset_runs_on_every_schedule_but_ddpm_needs_trained_steps(schedule):
    for name in PRESETS:
        if name == "ddpm" and schedule.num_timesteps is None:
            with pytest.raises(ValueError, match="every trained step is asked for"):
                make_preset(schedule, name)
        else:
            assert make_preset(schedule, name).end == schedule(0.0)
