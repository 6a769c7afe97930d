"""Samplers by family: `DiffusionSampler` with one family's options as named arguments.

They add nothing to it and override nothing: each class only says which solver, and which of its options have
which names and defaults. `DiffusionSampler(model, solver=..., ...)` does the same for every solver there is.

In all of them `model`, `device` and `ema` are as for `DiffusionSampler`; `steps` is the number of time steps,
None for every trained index or where a list such as ``indices`` says it; and `options` are the sampler's
(``threshold``, ``micro_batch``), the time grid and its options (``grid="karras", rho=7.0``), and further
options of the solver.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch

from snowmelt.models import EMA, DiffusionModel
from snowmelt.sampling.sampler import DiffusionSampler

__all__ = [
    "DDIMSampler",
    "DDPMSampler",
    "DEISSampler",
    "DPMSolverSampler",
    "EDMSampler",
    "SASolverSampler",
    "UniPCSampler",
]


class DDPMSampler(DiffusionSampler):
    """Ancestral sampling (Ho et al. 2020): each state is drawn from the posterior of the one before.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DDPMSampler(model).plan.nfe
    1000
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, device, ema, solver="ddpm", steps=steps, **options)


class DDIMSampler(DiffusionSampler):
    """Denoising diffusion implicit models (Song et al. 2021).

    Args:
        eta: share of fresh noise in [0, 1]; 0 is deterministic, 1 is DDPM.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DDIMSampler(model, steps=20, eta=0.5).plan
    <Plan ddim: 20 evaluations, t = 1 -> 0, stochastic, on x0>
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = 50,
        eta: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(model, device, ema, solver="ddim", steps=steps, eta=eta, **options)


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
        order: 1, 2 or 3; 2 is the robust choice under guidance.
        stochastic: solve the reverse SDE in place of the ODE.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DPMSolverSampler(model, steps=12, order=1, grid="karras").plan.nfe
    12
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = 20,
        order: int = 2,
        stochastic: bool = False,
        **options: Any,
    ) -> None:
        if (order, stochastic) not in _DPM_SOLVERS:
            raise ValueError(
                f"order must be 1, 2 or 3 and stochastic true or false, got {order}, {stochastic}"
            )
        solver = _DPM_SOLVERS[order, stochastic]
        super().__init__(model, device, ema, solver=solver, steps=steps, **options)


class UniPCSampler(DiffusionSampler):
    """UniPC (Zhao et al. 2023): a multistep predictor, and a corrector that needs no evaluation of its own.

    Args:
        order: 1 to 3; the corrector adds one.
        variant: the paper's B(h): ``"bh1"``, or ``"bh2"``, which guidance takes better.
        corrector: False leaves the predictor alone.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> UniPCSampler(model, steps=10, order=3).plan.nfe
    10
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = 20,
        order: int = 2,
        variant: Literal["bh1", "bh2"] = "bh2",
        corrector: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            device,
            ema,
            solver="unipc",
            steps=steps,
            order=order,
            variant=variant,
            corrector=corrector,
            **options,
        )


class DEISSampler(DiffusionSampler):
    """Diffusion exponential integrator (Zhang and Chen 2023): Adams-Bashforth on eps.

    Args:
        order: outputs that are interpolated.
        variant: the polynomial is in t (``"tAB"``), in sigma/alpha (``"rhoAB"``) or in its logarithm.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> DEISSampler(model, steps=10).plan.nfe
    10
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = 20,
        order: int = 3,
        variant: Literal["tAB", "rhoAB", "logrhoAB"] = "tAB",
        **options: Any,
    ) -> None:
        super().__init__(
            model, device, ema, solver="deis", steps=steps, order=order, variant=variant, **options
        )


class SASolverSampler(DiffusionSampler):
    """SA-Solver (Xue et al. 2023): stochastic Adams, a predictor and a corrector.

    Args:
        predictor_order: outputs that a prediction interpolates.
        corrector_order: outputs that a correction interpolates; 0: no correction.
        tau: how much noise is renewed; 0 solves the ODE, 1 the reverse SDE.
        interval: the times between which it is.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> SASolverSampler(model, steps=10, tau=0.5).plan
    <Plan sa_solver: 10 evaluations, t = 1 -> 0, stochastic, on x0>
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = 20,
        predictor_order: int = 2,
        corrector_order: int = 2,
        tau: float = 1.0,
        interval: tuple[float, float] = (0.2, 0.8),
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            device,
            ema,
            solver="sa_solver",
            steps=steps,
            predictor_order=predictor_order,
            corrector_order=corrector_order,
            tau=tau,
            interval=interval,
            **options,
        )


class EDMSampler(DiffusionSampler):
    """EDM's Heun method, with its churn of the noise (Karras et al. 2022, algorithm 2).

    Args:
        churn: S_churn, how strongly noise is renewed, >= 0; 0 is deterministic, the paper's algorithm 1.
        s_min: lowest sigma/alpha at which noise is renewed.
        s_max: highest one.
        s_noise: standard deviation of the renewed noise, in place of 1.
        grid: a key of `snowmelt.plans.GRIDS`.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> EDMSampler(model, steps=18).plan.nfe
    35
    """

    def __init__(
        self,
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        steps: int | str | None = 18,
        churn: float = 0.0,
        s_min: float = 0.0,
        s_max: float = math.inf,
        s_noise: float = 1.0,
        grid: str = "karras",
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            device,
            ema,
            solver="edm_stochastic",
            steps=steps,
            churn=churn,
            s_min=s_min,
            s_max=s_max,
            s_noise=s_noise,
            grid=grid,
            **options,
        )
