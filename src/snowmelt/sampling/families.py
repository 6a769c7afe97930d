"""Samplers by family: `DiffusionSampler` with one family's options as named arguments.

They add nothing to it and override nothing: each class only says which solver, and which of its options have
which names and defaults. `DiffusionSampler(model, solver=..., ...)` does the same for every solver there is.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from snowmelt.ema import EMA
from snowmelt.sampling.sampler import DiffusionSampler, ImageModel

__all__ = ["DDIMSampler", "DDPMSampler", "DPMSolverSampler", "EDMSampler"]


class DDPMSampler(DiffusionSampler):
    """Ancestral sampling (Ho et al. 2020): each state is drawn from the posterior of the one before.

    Args:
        model: as for `DiffusionSampler`, and so are `device`, `ema`, `grid` and `threshold`.
        steps: time steps; None takes every trained index.
        grid_options: of the grid, such as ``rho``.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DDPMSampler(model).plan.nfe
    1000
    """

    def __init__(
        self,
        model: ImageModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | None = None,
        grid: str = "trailing",
        threshold: str | None = "clip",
        **grid_options: Any,
    ) -> None:
        super().__init__(
            model, device, ema, solver="ddpm", steps=steps, grid=grid, threshold=threshold, **grid_options
        )


class DDIMSampler(DiffusionSampler):
    """Denoising diffusion implicit models (Song et al. 2021).

    Args:
        model: as for `DiffusionSampler`, and so are `device`, `ema`, `grid` and `threshold`.
        steps: time steps; None takes every trained index, or goes with a list such as ``indices``.
        eta: share of fresh noise in [0, 1]; 0 is deterministic, 1 is DDPM.
        grid_options: of the grid, such as ``rho``.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DDIMSampler(model, steps=20, eta=0.5).plan
    <Plan ddim: 20 evaluations, t = 1 -> 0, stochastic, on x0>
    """

    def __init__(
        self,
        model: ImageModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | None = 50,
        eta: float = 0.0,
        grid: str = "trailing",
        threshold: str | None = "clip",
        **grid_options: Any,
    ) -> None:
        super().__init__(
            model,
            device,
            ema,
            solver="ddim",
            steps=steps,
            grid=grid,
            threshold=threshold,
            eta=eta,
            **grid_options,
        )


# At first order, DPM-Solver++ is DDIM, and its SDE form with the image held fixed is ancestral sampling
_DPM_SOLVERS = {
    (1, False): "ddim",
    (2, False): "dpmpp_2m",
    (3, False): "dpmpp_3m",
    (1, True): "ddpm",
    (2, True): "dpmpp_2m_sde",
    (3, True): "dpmpp_3m_sde",
}


class DPMSolverSampler(DiffusionSampler):
    """Multistep DPM-Solver++ (Lu et al. 2022): one evaluation a step, two or three outputs remembered.

    Args:
        model: as for `DiffusionSampler`, and so are `device`, `ema`, `grid` and `threshold`.
        steps: time steps; None takes every trained index, or goes with a list such as ``indices``.
        order: 1, 2 or 3; 2 is the robust choice under guidance.
        stochastic: solve the reverse SDE in place of the ODE.
        options: of the solver or the grid, such as ``rho``.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DPMSolverSampler(model, steps=12, order=1, grid="karras").plan.nfe
    12
    """

    def __init__(
        self,
        model: ImageModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | None = 20,
        order: int = 2,
        stochastic: bool = False,
        grid: str = "trailing",
        threshold: str | None = "clip",
        **options: Any,
    ) -> None:
        if (order, stochastic) not in _DPM_SOLVERS:
            raise ValueError(
                f"order must be 1, 2 or 3 and stochastic true or false, got {order}, {stochastic}"
            )
        solver = _DPM_SOLVERS[order, stochastic]
        super().__init__(
            model, device, ema, solver=solver, steps=steps, grid=grid, threshold=threshold, **options
        )


class EDMSampler(DiffusionSampler):
    """EDM's Heun method, with its churn of the noise (Karras et al. 2022, algorithm 2).

    Args:
        model: as for `DiffusionSampler`, and so are `device`, `ema`, `grid` and `threshold`.
        steps: time steps; None takes every trained index, or goes with a list such as ``indices``.
        churn: S_churn, how strongly noise is renewed, >= 0; 0 is deterministic, the paper's algorithm 1.
        s_min: lowest sigma/alpha at which noise is renewed.
        s_max: highest one.
        s_noise: standard deviation of the renewed noise, in place of 1.
        options: of the grid, such as ``rho``.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> EDMSampler(model, steps=18).plan.nfe
    35
    """

    def __init__(
        self,
        model: ImageModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | None = 18,
        churn: float = 0.0,
        s_min: float = 0.0,
        s_max: float = math.inf,
        s_noise: float = 1.0,
        grid: str = "karras",
        threshold: str | None = "clip",
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            device,
            ema,
            solver="edm_stochastic",
            steps=steps,
            grid=grid,
            threshold=threshold,
            churn=churn,
            s_min=s_min,
            s_max=s_max,
            s_noise=s_noise,
            **options,
        )
