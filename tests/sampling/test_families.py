"""The samplers by family do what `DiffusionSampler` does with the same words."""

from __future__ import annotations

import pytest
import torch

import snowmelt
from snowmelt import (
    DDIMSampler,
    DDPMSampler,
    DEISSampler,
    DiffusionSampler,
    DPMSolverSampler,
    EDMSampler,
    SASolverSampler,
    UniPCSampler,
    create_ddpm,
)
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.plans import make_plan, make_preset

FAMILIES = [
    DDPMSampler,
    DDIMSampler,
    DPMSolverSampler,
    UniPCSampler,
    DEISSampler,
    SASolverSampler,
    EDMSampler,
]


@pytest.fixture(scope="module")
def model():
    return create_ddpm(8, 1, 8, (1, 2), num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1)


def test_ddpm_takes_every_trained_step(model):
    assert DDPMSampler(model).plan == make_plan(model.schedule, "ddpm")
    assert DDPMSampler(model, steps=5, grid="karras", rho=3.0).plan == make_plan(
        model.schedule, "ddpm", 5, "karras", rho=3.0
    )


def test_ddim_takes_eta(model):
    assert DDIMSampler(model, steps=5, eta=0.3).plan == make_plan(model.schedule, "ddim", 5, eta=0.3)
    assert DDIMSampler(model, steps=None, indices=[19, 9, 3]).plan.nfe == 3


@pytest.mark.parametrize(
    ("order", "stochastic", "solver"),
    [
        (1, False, "ddim"),
        (1, True, "ddpm"),
        (2, False, "dpmpp_2m"),
        (2, True, "dpmpp_2m_sde"),
        (3, False, "dpmpp_3m"),
        (3, True, "dpmpp_3m_sde"),
    ],
)
def test_dpm_solver_takes_order_and_noise(model, order, stochastic, solver):
    sampler = DPMSolverSampler(model, steps=6, order=order, stochastic=stochastic, grid="uniform_lam")
    assert sampler.plan == make_plan(model.schedule, solver, 6, "uniform_lam")
    assert sampler.plan.stochastic == stochastic


@pytest.mark.parametrize(
    ("family", "solver", "options"),
    [
        (UniPCSampler, "unipc", {"order": 3, "variant": "bh1", "corrector": False}),
        (DEISSampler, "deis", {"order": 2, "variant": "rhoAB"}),
        (
            SASolverSampler,
            "sa_solver",
            {"predictor_order": 3, "corrector_order": 1, "tau": 0.4, "interval": (0.1, 0.9)},
        ),
        (EDMSampler, "edm_stochastic", {"churn": 5.0, "s_min": 0.1, "s_max": 9.0, "s_noise": 1.01}),
    ],
)
def test_options_reach_the_solver(model, family, solver, options):
    sampler = family(model, steps=6, grid="uniform_lam", **options)
    assert sampler.plan == make_plan(model.schedule, solver, 6, "uniform_lam", **options)
    assert sampler.plan != family(model, steps=6, grid="uniform_lam").plan


def test_dpm_solver_has_three_orders(model):
    with pytest.raises(ValueError, match=r"order must be 1, 2 or 3 .* got 4"):
        DPMSolverSampler(model, order=4)


def test_edm_is_heuns_method_until_it_churns(model):
    assert EDMSampler(model, steps=5).plan == make_plan(model.schedule, "heun", 5, "karras")
    options = {"churn": 20.0, "s_min": 0.1, "s_max": 5.0, "s_noise": 1.01}
    sampler = EDMSampler(model, steps=5, rho=5.0, **options)
    assert sampler.plan == make_plan(model.schedule, "edm_stochastic", 5, "karras", rho=5.0, **options)
    assert sampler.plan.stochastic


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_samples_and_loads_as_any_sampler(family, model, tmp_path):
    path = tmp_path / "model.pth"
    write_contents({"model_config": model.config, "model_state_dict": model.state_dict()}, path)
    options = {} if family is DDPMSampler else {"steps": 4, "grid": "uniform_lam"}
    sampler = family.from_pretrained(path, use_ema=False, threshold=None, **options)
    assert type(sampler) is family
    assert isinstance(sampler, DiffusionSampler)
    plain = DiffusionSampler(model, plan=sampler.plan, threshold=None)
    assert torch.equal(sampler.sample(2, seeds=[1, 2]), plain.sample(2, seeds=[1, 2]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_overrides_nothing(family):
    assert {name for name in vars(family) if not name.startswith("__")} <= {"_abc_impl"}
    assert family.__name__ in snowmelt.__all__


def test_presets_are_an_argument(model):
    assert DiffusionSampler(model, preset="draft").plan == make_preset(model.schedule, "draft")


@pytest.mark.parametrize("more", [{"solver": "ddim"}, {"steps": 5}, {"grid": "karras"}, {"eta": 0.5}])
def test_a_preset_is_complete_in_itself(model, more):
    with pytest.raises(ValueError, match="so is a preset"):
        DiffusionSampler(model, preset="draft", **more)
    with pytest.raises(ValueError, match="plan is complete in itself"):
        DiffusionSampler(model, plan=make_plan(model.schedule, "ddim", 3), **more)
