"""The peers: diffusers' schedulers and k-diffusion's samplers, in the one frame x / alpha.

A peer runs as ``(model, x, sigmas) -> images`` with `x` the state x/alpha at ``sigmas[0]``, `sigmas` the
falling sigma/alpha that end in 0, and ``model(x, sigma)`` the denoised image. Diffusers' schedulers get our
noise levels in place of their own after `set_timesteps`, so that each method can be tried on every grid.

What is left out does nothing new in this frame: diffusers' Heun, Euler, LMS, KDPM2 and DPM-Solver++(2M) with
its midpoint are k-diffusion's; FlowMatchEuler is Euler, which is DDIM, on the grid "uniform_t" or "shifted".
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import diffusers
import numpy as np
import torch
from scipy.stats import beta as beta_distribution
from torch import Tensor

from snowmelt.core import DiscreteSchedule, NoiseSchedule
from snowmelt.plans.grids import karras, linspace, uniform_lam, uniform_t

__all__ = ["PEERS", "PEER_GRIDS", "STOCHASTIC_PEERS", "k_diffusion", "peer_sigmas"]

logging.getLogger("diffusers").setLevel(logging.ERROR)

Model = Callable[[Tensor, float], Tensor]
Run = Callable[[Model, Tensor, Sequence[float]], Tensor]


class Peer(NamedTuple):
    """How to run a method, how many steps it makes of a number of evaluations, and whether it can reach 0.

    What cannot (it multiplies 0 by infinity) ends at the schedule's lowest noise, as its own default does.
    """

    run: Run
    steps: Callable[[int], int]
    to_zero: bool = True

    def sigmas(self, schedule: NoiseSchedule, grid: str, nfe: int) -> list[float] | None:
        """Return the levels to run at with at most `nfe` evaluations; None where the grid does not exist."""
        steps = self.steps(nfe)
        if self.to_zero:
            return peer_sigmas(schedule, grid, steps)
        sigmas = peer_sigmas(schedule, grid, steps + 1)
        return sigmas[:-1] if sigmas else None


# -- grids ---------------------------------------------------------------------------------------------


def _beta(schedule: NoiseSchedule, steps: int) -> tuple[float, ...]:
    """Beta(0.6, 0.6) quantiles of t (Lee et al. 2024), diffusers' `use_beta_sigmas`, here in t."""
    quantiles = beta_distribution.ppf(1 - np.linspace(0, 1, steps), 0.6, 0.6)
    span = schedule.t_max - schedule.t_min
    return (1.0, *(schedule.t_min + span * float(q) for q in quantiles[1:]), 0.0)


def _shifted(schedule: NoiseSchedule, steps: int, shift: float = 3.0) -> tuple[float, ...]:
    """Even steps in a rectified flow's time, shifted towards noise (Esser et al. 2024, eq. 23)."""
    u = np.linspace(1, 0, steps + 1)[1:-1]
    noise = shift * u / (1 - u)
    return (1.0, *(schedule.t_of_lam(-math.log(value)) for value in noise), 0.0)


def _trained(schedule: NoiseSchedule, steps: int) -> tuple[float, ...]:
    if not isinstance(schedule, DiscreteSchedule):
        raise ValueError("linspace counts trained indices")
    return linspace(schedule, steps)


PEER_GRIDS: dict[str, Callable[[NoiseSchedule, int], tuple[float, ...]]] = {
    "karras": karras,
    "uniform_lam": uniform_lam,  # "exponential" and "lu" of the peers
    "uniform_t": uniform_t,  # "trailing"
    "linspace": _trained,
    "beta": _beta,
    "shifted": _shifted,
}


def peer_sigmas(schedule: NoiseSchedule, grid: str, steps: int) -> list[float] | None:
    """Return sigma/alpha on a grid, from the highest finite one to 0; None where the grid does not exist."""
    try:
        times = PEER_GRIDS[grid](schedule, steps)
    except ValueError:
        return None
    sigmas = [math.exp(-schedule(t).lam) for t in (min(times[0], schedule.t_max), *times[1:])]
    return sigmas if all(a > b for a, b in pairwise(sigmas)) else None


# -- k-diffusion ---------------------------------------------------------------------------------------


@cache
def k_diffusion() -> ModuleType:
    """Its `sampling` module, without its package's __init__, which imports half the world."""
    spec = importlib.util.find_spec("k_diffusion")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("the benchmark needs k-diffusion: pip install -e '.[train,dev]'")
    package = ModuleType("k_diffusion")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["k_diffusion"] = package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("k_diffusion.sampling")


def _of_k_diffusion(name: str, stochastic: bool = False, **options: Any) -> Run:
    def run(model: Model, x: Tensor, sigmas: Sequence[float]) -> Tensor:
        if stochastic:
            options["noise_sampler"] = lambda _from, _to: torch.randn_like(x)
        sample = getattr(k_diffusion(), f"sample_{name}")
        return sample(
            lambda x, sigma: model(x, sigma[0].item()), x, torch.tensor(sigmas).to(x), disable=True, **options
        )

    return run


# -- diffusers -----------------------------------------------------------------------------------------


def _of_diffusers(name: str, **options: Any) -> Run:
    """A scheduler that works on `sigmas` in the variance-preserving frame x / sqrt(alpha^2 + sigma^2)."""

    def run(model: Model, x: Tensor, sigmas: Sequence[float]) -> Tensor:
        scheduler = getattr(diffusers, name)(prediction_type="epsilon", **options)
        steps = len(sigmas) - 1
        scheduler.set_timesteps(steps)
        scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
        scheduler.timesteps = torch.arange(steps, 0, -1)
        scheduler.set_begin_index(0)
        x = x / math.hypot(1, sigmas[0])
        for step, sigma in zip(scheduler.timesteps, sigmas, strict=False):
            x_hat = x * math.hypot(1, sigma)
            eps = (x_hat - model(x_hat, sigma)) / sigma
            x = scheduler.step(eps, step, x, return_dict=False)[0]
        return x

    return run


def _ipndm(model: Model, x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Diffusers' IPNDM, which wants its own alphas and sigmas, and v turned round."""
    scheduler = diffusers.IPNDMScheduler()
    scheduler.set_timesteps(len(sigmas) - 1)
    hat = torch.tensor(sigmas, dtype=torch.float64)
    scheduler.alphas = 1 / (1 + hat**2).sqrt()
    scheduler.betas = hat * scheduler.alphas
    scheduler.timesteps = torch.arange(len(sigmas) - 1, 0, -1)
    scheduler.set_begin_index(0)
    x = x * scheduler.alphas[0]
    for i, sigma in enumerate(sigmas[:-1]):
        alpha, beta = scheduler.alphas[i], scheduler.betas[i]
        denoised = model(x / alpha, sigma)
        eps = (x - alpha * denoised) / beta
        x = scheduler.step((eps - beta * x) / alpha, scheduler.timesteps[i], x, return_dict=False)[0]
    return x


def _multistep(**options: Any) -> Run:
    return _of_diffusers("DPMSolverMultistepScheduler", **options)


def _unipc(order: int, **options: Any) -> Run:
    return _of_diffusers("UniPCMultistepScheduler", solver_order=order, **options)


def _two_calls(nfe: int) -> int:
    """Steps of a method that calls the model twice a step, but once in the last."""
    return (nfe + 1) // 2


def _one_call(nfe: int) -> int:
    return nfe


PEERS: dict[str, Peer] = {
    "k/euler (= DDIM)": Peer(_of_k_diffusion("euler"), _one_call),
    "k/heun": Peer(_of_k_diffusion("heun"), _two_calls),
    "k/dpm_2": Peer(_of_k_diffusion("dpm_2"), _two_calls),
    "k/dpmpp_2s": Peer(_of_k_diffusion("dpmpp_2s_ancestral", eta=0.0), _two_calls),
    "k/lms": Peer(_of_k_diffusion("lms"), _one_call),
    "k/lms order 3": Peer(_of_k_diffusion("lms", order=3), _one_call),
    "k/dpmpp_2m": Peer(_of_k_diffusion("dpmpp_2m"), _one_call),
    "d/dpmpp_2m heun": Peer(_multistep(solver_order=2, solver_type="heun"), _one_call),
    "d/dpmpp_3m": Peer(_multistep(solver_order=3), _one_call),
    "d/dpmpp_2s": Peer(_of_diffusers("DPMSolverSinglestepScheduler", solver_order=2), _one_call),
    "d/dpmpp_3s": Peer(_of_diffusers("DPMSolverSinglestepScheduler", solver_order=3), _one_call),
    "d/unipc 2": Peer(_unipc(2), _one_call),
    "d/unipc 3": Peer(_unipc(3), _one_call),
    "d/unipc 2 bh1": Peer(_unipc(2, solver_type="bh1"), _one_call, to_zero=False),
    "d/deis 2": Peer(_of_diffusers("DEISMultistepScheduler", solver_order=2), _one_call, to_zero=False),
    "d/deis 3": Peer(_of_diffusers("DEISMultistepScheduler", solver_order=3), _one_call, to_zero=False),
    "d/ipndm": Peer(_ipndm, _one_call),
}

STOCHASTIC_PEERS: dict[str, Peer] = {
    "k/euler_ancestral": Peer(_of_k_diffusion("euler_ancestral", stochastic=True), _one_call),
    "k/dpm_2_ancestral": Peer(_of_k_diffusion("dpm_2_ancestral", stochastic=True), _two_calls),
    "k/dpmpp_2s_ancestral": Peer(_of_k_diffusion("dpmpp_2s_ancestral", stochastic=True), _two_calls),
    "k/dpmpp_sde": Peer(_of_k_diffusion("dpmpp_sde", stochastic=True), _two_calls),
    "k/dpmpp_2m_sde": Peer(_of_k_diffusion("dpmpp_2m_sde", stochastic=True), _one_call),
    "k/dpmpp_3m_sde": Peer(_of_k_diffusion("dpmpp_3m_sde", stochastic=True), _one_call),
    "d/sde-dpmpp 1 (= DDPM)": Peer(_multistep(solver_order=1, algorithm_type="sde-dpmsolver++"), _one_call),
    "d/sde-dpmpp 2": Peer(_multistep(solver_order=2, algorithm_type="sde-dpmsolver++"), _one_call),
    "d/sa_solver": Peer(_of_diffusers("SASolverScheduler"), _one_call, to_zero=False),
}
