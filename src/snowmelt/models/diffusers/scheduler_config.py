"""Translate the options of diffusers' schedulers: the schedule, the parameterization and the method.

The first two belong to the trained model, so an option that cannot be expressed is an error. The method is a
choice that can be made again, so options that no plan can reproduce are listed in one warning.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch

from snowmelt.core import PARAMETERIZATIONS, DiscreteSchedule, Parameterization, make_betas
from snowmelt.models.diffusers.options import expect, refusal
from snowmelt.plans import Method

__all__ = [
    "SCHEDULERS",
    "check_variance",
    "complete_scheduler",
    "grid_options",
    "noise_schedule",
    "sampling_method",
    "schedule_options",
    "scheduler_config",
    "threshold_options",
]

# Theirs and ours
_BETA_SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "quadratic",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}
_PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}

# Diffusers' classes and our solvers, with the options that both have: ours by theirs
SCHEDULERS: dict[str, tuple[str, dict[str, str]]] = {
    "DDPMScheduler": ("ddpm", {}),
    "DDIMScheduler": ("ddim", {}),
    "PNDMScheduler": ("pndm", {}),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", {"solver_type": "solver_type"}),
    "DPMSolverSinglestepScheduler": ("dpmpp_2s", {}),
    "UniPCMultistepScheduler": ("unipc", {"solver_order": "order", "solver_type": "variant"}),
    "DEISMultistepScheduler": ("deis", {"solver_order": "order"}),
    "SASolverScheduler": (
        "sa_solver",
        {"predictor_order": "predictor_order", "corrector_order": "corrector_order"},
    ),
    "EulerDiscreteScheduler": ("euler", {}),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", {}),
    "HeunDiscreteScheduler": ("heun", {}),
    "LMSDiscreteScheduler": ("lms", {}),
    "KDPM2DiscreteScheduler": ("dpm2", {}),
    "KDPM2AncestralDiscreteScheduler": ("dpm2_ancestral", {}),
}

# What the schedulers (diffusers 0.42) take where scheduler_config.json leaves an option out
_DEFAULTS: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
    "prediction_type": "epsilon",
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "thresholding": False,
    "dynamic_thresholding_ratio": 0.995,
    "sample_max_value": 1.0,
    "timestep_spacing": "linspace",
    "steps_offset": 0,
}
_DDPM = {"clip_sample": True, "timestep_spacing": "leading"}
_KARRAS = {"beta_start": 0.00085, "beta_end": 0.012}
_OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "DDPMScheduler": _DDPM,
    "DDIMScheduler": _DDPM,
    "PNDMScheduler": {"timestep_spacing": "leading", "set_alpha_to_one": False},
    "HeunDiscreteScheduler": _KARRAS,
    "KDPM2DiscreteScheduler": _KARRAS,
    "KDPM2AncestralDiscreteScheduler": _KARRAS,
}

# Options of the model that only some schedulers have, and what they must be
_ACCEPTED: dict[str, tuple[Any, ...]] = {
    "use_flow_sigmas": (False,),
    "timestep_type": ("discrete",),
    "predict_epsilon": (True,),  # before prediction_type
    # Diffusers takes what "learned" says for the variance itself, which no published network gives
    "variance_type": (
        None,
        "fixed_small",
        "fixed_small_log",
        "fixed_large",
        "fixed_large_log",
        "learned_range",
    ),
}
# Options of the sampling that our plans follow in one way only
_FOLLOWED: dict[str, tuple[Any, ...]] = {
    "variance_type": (None, "fixed_small", "fixed_small_log", "learned_range"),  # see `sampling.variance`
    "set_alpha_to_one": (True,),
    "skip_prk_steps": (False,),
    "algorithm_type": ("dpmsolver++", "deis", "data_prediction"),
    "solver_order": (2,),
    "solver_type": ("midpoint", "logrho"),
    "predict_x0": (True,),
    "disable_corrector": ([],),
    "solver_p": (None,),
    "tau_func": (None,),
    "euler_at_final": (False,),
    "final_sigmas_type": ("zero",),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "lambda_min_clipped": (-math.inf,),
    "use_beta_sigmas": (False,),
    "use_lu_lambdas": (False,),
}
# Options that change nothing here: their meaning depends on those that are refused, or is in every plan
_IDLE = {
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "interpolation_type",
    "lower_order_final",
    "flow_shift",
    "use_dynamic_shifting",
    "time_shift_type",
    "shift_terminal",
    "tensor_format",
    "timestep_values",
}


def schedule_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `create_ddpm` for the schedule and the prediction of a scheduler.

    Args:
        config: the contents of a scheduler_config.json.

    Raises:
        InputError: the class or an option cannot be expressed; the message names it.

    >>> config = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_end": 0.012}
    >>> options = schedule_options(config)
    >>> options["beta_schedule"], options["beta_end"], options["parameterization"]
    ('quadratic', 0.012, 'eps')
    """
    theirs = complete_scheduler(config)
    betas = None if theirs["trained_betas"] is None else [float(beta) for beta in theirs["trained_betas"]]
    if betas is None:
        expect(theirs, {"beta_schedule": tuple(_BETA_SCHEDULES)})
    expect(theirs, {"prediction_type": tuple(_PREDICTIONS)})
    expect(theirs, {name: values for name, values in _ACCEPTED.items() if name in theirs})
    if theirs["rescale_betas_zero_snr"] and theirs["prediction_type"] == "epsilon":
        raise refusal(
            "rescale_betas_zero_snr",
            True,
            "False with prediction_type 'epsilon', which says nothing at pure noise",
        )
    return {
        "num_timesteps": theirs["num_train_timesteps"] if betas is None else len(betas),
        "beta_schedule": _BETA_SCHEDULES.get(theirs["beta_schedule"], "linear"),
        "beta_start": theirs["beta_start"],
        "beta_end": theirs["beta_end"],
        "betas": betas,
        "zero_terminal_snr": theirs["rescale_betas_zero_snr"],
        "parameterization": _PREDICTIONS[theirs["prediction_type"]],
    }


def check_variance(config: Mapping[str, Any], *, learned: bool) -> None:
    """Raise InputError if a scheduler takes the variance from elsewhere than the network does.

    Args:
        config: the contents of a scheduler_config.json.
        learned: whether the network has as many channels again for it.
    """
    stated = complete_scheduler(config).get("variance_type")
    if learned and stated not in (None, "learned_range"):
        raise refusal(
            "variance_type", stated, "'learned_range' with twice as many out_channels as in_channels"
        )
    if not learned and stated == "learned_range":
        raise refusal("variance_type", stated, "'fixed_small' with as many out_channels as in_channels")


def noise_schedule(config: Mapping[str, Any]) -> tuple[DiscreteSchedule, Parameterization]:
    """Return a scheduler's noise schedule, and what it takes the network to predict.

    Args:
        config: the contents of a scheduler_config.json.

    Raises:
        InputError: the class or an option cannot be expressed; the message names it.

    >>> schedule, parameterization = noise_schedule({"_class_name": "DDIMScheduler"})
    >>> schedule, parameterization.name
    (DiscreteSchedule(betas=0.0001..0.02, T=1000), 'eps')
    """
    options = schedule_options(config)
    names = ("beta_schedule", "num_timesteps", "beta_start", "beta_end")
    betas = options["betas"] or make_betas(**{name: options[name] for name in names})
    schedule = DiscreteSchedule(torch.as_tensor(betas, dtype=torch.float64), options["zero_terminal_snr"])
    return schedule, PARAMETERIZATIONS[options["parameterization"]]


def sampling_method(config: Mapping[str, Any]) -> Method:
    """Return the method that samples as a scheduler does.

    DDPM takes every trained step, as its pipeline does; the others take 50, as theirs do. Warns where our
    plan does otherwise.

    >>> str(sampling_method({"_class_name": "DDIMScheduler"}))
    'ddim:50 grid=leading'
    """
    theirs = complete_scheduler(config)
    solver, options = SCHEDULERS[theirs["_class_name"]]
    expressed = {*_DEFAULTS, *_ACCEPTED.keys() - _FOLLOWED.keys(), *_IDLE, *options}
    differing = [
        f"{name} = {value!r}"
        for name, value in theirs.items()
        if not (name.startswith("_") or name in expressed or value in _FOLLOWED.get(name, ()))
    ]
    if differing:
        warnings.warn(
            f"network and noise schedule are taken over as they are, but no plan follows "
            f"{', '.join(differing)}: {solver} with its own defaults stands in",
            stacklevel=2,
        )
    own = {ours: theirs[name] for name, ours in options.items() if name in theirs}
    grid = grid_options(theirs)
    trained = (
        theirs["num_train_timesteps"] if theirs["trained_betas"] is None else len(theirs["trained_betas"])
    )
    steps: int | Literal["all"] = "all" if solver == "ddpm" or trained <= 50 else 50
    return Method(solver, steps, grid.pop("grid"), {**grid, **own})


def grid_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `make_plan` that place the evaluations as a scheduler does.

    >>> grid_options({"timestep_spacing": "leading", "steps_offset": 1})
    {'grid': 'leading', 'offset': 1}
    """
    if config.get("use_karras_sigmas"):
        return {"grid": "karras"}
    if config.get("use_exponential_sigmas"):
        return {"grid": "exponential"}
    expect(config, {"timestep_spacing": ("leading", "trailing", "linspace")})
    offset = config["steps_offset"] if config["timestep_spacing"] == "leading" else 0
    return {"grid": config["timestep_spacing"], **({"offset": offset} if offset else {})}


def threshold_options(config: Mapping[str, Any]) -> str | dict[str, Any] | None:
    """Return the sampler's threshold for clip_sample, thresholding and their numbers.

    Dynamic thresholding whose largest threshold is 1 is plain clipping.

    >>> threshold_options({**_DEFAULTS, "clip_sample": True, "clip_sample_range": 2.0})
    {'type': 'clip', 'bound': 2.0}
    """
    if config["thresholding"] and config["sample_max_value"] > 1:
        quantile, maximum = config["dynamic_thresholding_ratio"], config["sample_max_value"]
        return {"type": "dynamic", "quantile": quantile, "maximum": maximum}
    if config["thresholding"] or config["clip_sample"]:
        bound = 1.0 if config["thresholding"] else config["clip_sample_range"]
        return "clip" if bound == 1 else {"type": "clip", "bound": bound}
    return None


def scheduler_config(
    model_config: Mapping[str, Any],
    method: Method | None = None,
    threshold: str | Mapping[str, Any] | None = "auto",
) -> dict[str, Any]:
    """Return the scheduler_config.json of the DDPMScheduler that has our schedule.

    Args:
        model_config: the `config` of a `create_ddpm` model: all of its arguments.
        method: that of the checkpoint; only its grid has a place there, if diffusers has it.
        threshold: that of the checkpoint; ``"auto"`` clips.

    Raises:
        InputError: the model predicts what no scheduler decodes.

    >>> from snowmelt import create_ddpm
    >>> model = create_ddpm(8, 1, 32, parameterization="v", zero_terminal_snr=True)
    >>> config = scheduler_config(model.config)
    >>> config["prediction_type"], config["rescale_betas_zero_snr"], config["timestep_spacing"]
    ('v_prediction', True, 'trailing')
    """
    predictions = {ours: theirs for theirs, ours in _PREDICTIONS.items()}
    beta_schedules = {ours: theirs for theirs, ours in _BETA_SCHEDULES.items()}
    expect(model_config, {"parameterization": tuple(predictions)})
    spacing = method.grid if method is not None else None
    offset = method.options.get("offset", 0) if method is not None else 0
    return {
        "_class_name": "DDPMScheduler",
        **_DEFAULTS,
        "num_train_timesteps": model_config["num_timesteps"],
        "beta_start": model_config["beta_start"],
        "beta_end": model_config["beta_end"],
        "beta_schedule": beta_schedules[model_config["beta_schedule"]],
        "trained_betas": model_config["betas"],
        "rescale_betas_zero_snr": model_config["zero_terminal_snr"],
        "prediction_type": predictions[model_config["parameterization"]],
        "timestep_spacing": spacing if spacing in ("leading", "linspace") else "trailing",
        "steps_offset": offset,
        "variance_type": "learned_range" if model_config.get("learned_variance") else "fixed_small",
        **_clipping("clip" if threshold == "auto" else threshold),
    }


def complete_scheduler(config: Mapping[str, Any]) -> dict[str, Any]:
    name = config.get("_class_name")
    if name not in SCHEDULERS:
        raise refusal("_class_name", name, f"a scheduler on the betas of DDPM: {', '.join(SCHEDULERS)}")
    return {**_DEFAULTS, **_OWN_DEFAULTS.get(name, {}), **config}


def _clipping(threshold: str | Mapping[str, Any] | None) -> dict[str, Any]:
    if threshold is None:
        return {"clip_sample": False}
    chosen = {"type": threshold} if isinstance(threshold, str) else threshold
    if chosen["type"] == "clip":
        return {"clip_sample": True, "clip_sample_range": chosen.get("bound", 1.0)}
    return {
        "clip_sample": False,
        "thresholding": True,
        "dynamic_thresholding_ratio": chosen.get("quantile", 0.995),
        "sample_max_value": chosen.get("maximum", 1e6),
    }
