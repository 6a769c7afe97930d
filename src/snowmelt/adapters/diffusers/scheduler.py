"""A plan as a scheduler of diffusers: its pipelines sample with our solvers.

A pipeline runs the loop and calls the network; its scheduler says at which times, and what to make of the
outputs. Each of its steps is one row of the plan, by the arithmetic that `snowmelt.plans.integrate` uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from snowmelt.core import DiscreteSchedule, Level
from snowmelt.denoisers import keep_in_range
from snowmelt.errors import InputError
from snowmelt.models.diffusers.scheduler_config import (
    SCHEDULERS,
    grid_options,
    noise_schedule,
    schedule_options,
    threshold_options,
)
from snowmelt.plans import SOLVERS, Plan, Row, make_plan
from snowmelt.plans.integrate import Memory, take_row
from snowmelt.text import counted

__all__ = ["SnowmeltScheduler"]


class SnowmeltScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """Any solver, or any ready plan, for pipelines whose networks were trained on the betas of DDPM.

    The first arguments are those of diffusers' own schedulers and mean the same; the others say how to
    sample. A pipeline's number of inference steps is our number of time steps: a method that evaluates the
    network twice a step has about twice as many `timesteps`.

    A run may start at any time at which a step begins, as image-to-image pipelines do: the solver is then
    started there, at the order that it has without a history. Between two steps of a run the scheduler keeps
    the history of the solver, which `set_timesteps` forgets; nothing else is kept, and nothing shared.

    Args:
        num_train_timesteps, beta_start, beta_end, beta_schedule, trained_betas, rescale_betas_zero_snr: the
            noise schedule.
        prediction_type: ``epsilon``, ``sample`` or ``v_prediction``.
        clip_sample, clip_sample_range: clamp predicted images.
        thresholding, dynamic_thresholding_ratio, sample_max_value: clamp them at a quantile of their values.
        timestep_spacing, steps_offset: the time grid, where `grid` does not say another.
        solver: a key of `snowmelt.plans.SOLVERS`.
        options: of the solver.
        grid: a key of `snowmelt.plans.GRIDS`; None for what timestep_spacing says.
        grid_options: of the grid.
        plan_json: a ready plan (`Plan.to_json`), in place of the four above.

    Attributes:
        plan: the table that is run; None before `set_timesteps`.
        timesteps: what the network is told, one number a row: int64 if all are whole, float32 otherwise.

    Raises:
        InputError: an option of the noise schedule cannot be expressed.

    >>> from diffusers import DDIMScheduler
    >>> config = DDIMScheduler(timestep_spacing="trailing", clip_sample=False).config
    >>> scheduler = SnowmeltScheduler.from_config(config, solver="ddim", options={"eta": 0.5})
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps, scheduler.plan.stochastic
    (tensor([999, 749, 499, 249]), True)
    """

    _compatibles = [scheduler.name for scheduler in KarrasDiffusionSchedulers]  # noqa: RUF012
    order = 1
    init_noise_sigma = 1.0  # all of these schedules preserve the variance

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | None = None,
        rescale_betas_zero_snr: bool = False,
        prediction_type: str = "epsilon",
        clip_sample: bool = False,
        clip_sample_range: float = 1.0,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "trailing",
        steps_offset: int = 0,
        solver: str = "dpmpp_2m",
        options: Mapping[str, Any] | None = None,
        grid: str | None = None,
        grid_options: Mapping[str, Any] | None = None,
        plan_json: str | None = None,
    ) -> None:
        self.schedule, self.parameterization = noise_schedule({**self.config, "_class_name": "DDPMScheduler"})
        self.plan: Plan | None = None
        self.timesteps = torch.arange(self.schedule.num_timesteps - 1, -1, -1)
        self._times: tuple[float, ...] = ()  # at which a run can start, and the last one's end
        self._running: Plan | None = None
        self._rows: tuple[Row, ...] = ()  # still to be taken
        self._memory: Memory | None = None

    @classmethod
    def from_config(  # type: ignore[override]
        cls, config: Mapping[str, Any], return_unused_kwargs: bool = False, **changes: Any
    ) -> Any:
        """Return a scheduler with another one's noise schedule, prediction, clipping and spacing.

        What the other took by default counts as well, for its pipeline ran with it.

        Args:
            config: the `config` of any scheduler that has betas.
            return_unused_kwargs: return what was not used, too.
            changes: of the arguments above.

        Raises:
            InputError: it has no betas, or an option of its noise schedule cannot be expressed.
        """
        stated = {name: value for name, value in config.items() if name != "_use_default_values"}
        if "beta_schedule" not in stated:
            raise InputError(
                "a scheduler without betas, as for flow matching or EDM, cannot be expressed; expected one "
                f"that has them, such as {', '.join(SCHEDULERS)}"
            )
        schedule_options({**stated, "_class_name": "DDPMScheduler"})  # what we have no word for is refused
        return super().from_config(stated, return_unused_kwargs, **changes)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: str | torch.device | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        """Make the plan, and forget the run before.

        Args:
            num_inference_steps: time steps, as `make_plan` counts them.
            device: of `timesteps`.
            timesteps: the evaluations themselves, as falling trained indices, in place of the grid.
            sigmas: the same as falling sigma/alpha.

        Raises:
            ValueError: no plan can be made of it; the message says what to do.
        """
        listed = {"indices": timesteps, "sigmas": sigmas}
        where = {name: list(values) for name, values in listed.items() if values is not None}
        if self.config["plan_json"] is not None:
            self.plan = Plan.from_json(self.config["plan_json"])
            if where or num_inference_steps not in (None, self.plan.nfe):
                raise ValueError(
                    f"plan_json is a plan of {counted(self.plan.nfe, 'evaluation')}, complete in itself: set "
                    "that many timesteps, and give no others"
                )
            self._times = (self.plan.rows[0].level.t, self.plan.end.t)
        else:
            steps = None if where else num_inference_steps
            place = where or self._grid()
            self.plan = make_plan(
                self.schedule, self.config["solver"], steps, **place, **(self.config["options"] or {})
            )
            self._times = tuple(level.t for level in make_plan(self.schedule, "ddim", steps, **place).levels)
        self.timesteps = _told(self.schedule, [row.level for row in self.plan.rows]).to(device)
        self._running, self._rows, self._memory = None, (), None

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """Return `sample`: the networks take the state as it is."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: Tensor | float,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        *,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """Take one row of the plan.

        Args:
            model_output: of the network at (sample, timestep), (B, C, H, W).
            timestep: the next of `timesteps`; in a new run, one at which a step begins.
            sample: the state, (B, C, H, W); half precision is computed with in float32.
            generator: of the fresh noise, or one an image; torch's own if None.
            return_dict: return an object, not a tuple.
            eta: pipelines of DDIM hand it over; it is an option of the solver here, and only 0 is taken.
            use_clipped_model_output: the same; our plans step with the clipped image always.

        Returns:
            ``prev_sample``, the next state, and ``pred_original_sample``, the predicted image, both shaped
            and typed like `sample`.

        Raises:
            ValueError: the timestep is not the next one, or no step begins there.
        """
        if eta or use_clipped_model_output is False:
            raise ValueError(
                f"got eta = {eta} and use_clipped_model_output = {use_clipped_model_output}; leave them out: "
                "eta is an option of solver 'ddim' here, and plans step with the clipped image always"
            )
        time = float(timestep)
        if self._running is None or not self._rows:
            self._running = self._plan_from(time)
            self._rows = self._running.rows
        row, *rows = self._rows
        if time != (expected := _told(self.schedule, [row.level]).item()):
            raise ValueError(
                f"timestep {expected:g} comes next in this run, got {time:g}: go through `timesteps` in "
                "turn, and call set_timesteps before a new run"
            )
        state = sample.to(torch.promote_types(sample.dtype, torch.float32))
        predicted = self.parameterization.x0(state, model_output.to(state.dtype), row.level)
        x0 = keep_in_range(lambda *_: predicted, threshold_options(self.config))(state, row.level)

        def draw() -> Tensor:
            noise: Tensor = randn_tensor(
                sample.shape, generator=generator, device=sample.device, dtype=model_output.dtype
            )
            return noise.to(state.dtype)

        memory = Memory(state, state) if self._memory is None else self._memory._replace(y=state)
        memory = take_row(self._running, row, memory, x0, draw)
        self._rows, self._memory = tuple(rows), memory if rows else None
        images = memory.y.to(sample.dtype), x0.to(sample.dtype)
        return DDIMSchedulerOutput(*images) if return_dict else images

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return images noised to `timesteps`, one each or one for all, whole or not."""
        level = self.schedule(self.schedule.t_of_index(timesteps.double().cpu()))
        alpha, sigma = (
            number.to(original_samples).view(-1, *[1] * (original_samples.ndim - 1))
            for number in (level.alpha, level.sigma)
        )
        return alpha * original_samples + sigma * noise

    def __len__(self) -> int:
        return self.schedule.num_timesteps

    def _grid(self) -> dict[str, Any]:
        if self.config["grid"] is None:
            return grid_options(self.config)
        return {"grid": self.config["grid"], **(self.config["grid_options"] or {})}

    def _plan_from(self, time: float) -> Plan:
        """Return the plan, or one made anew for what is left of it from a network time on."""
        if self.plan is None:
            raise ValueError("there is no plan yet: call set_timesteps first")
        if time == self.timesteps[0].item():
            return self.plan
        beginnings = _told(self.schedule, [self.schedule(t) for t in self._times[:-1]]).tolist()
        if time not in beginnings:
            raise ValueError(
                f"no step of this plan begins at timestep {time:g}; a run can start at one of "
                f"{', '.join(f'{beginning:g}' for beginning in beginnings)}"
            )
        times = self._times[beginnings.index(time) :]
        return SOLVERS[self.config["solver"]](self.schedule, times, **(self.config["options"] or {}))


def _told(schedule: DiscreteSchedule, levels: Sequence[Level[float]]) -> Tensor:
    """Return what a network is told about levels: int64 if all are trained indices, float32 otherwise."""
    indices = torch.tensor([schedule.network_time(level) for level in levels], dtype=torch.float64)
    whole = indices.round()
    return whole.long() if (indices - whole).abs().max() < 1e-6 else indices.float()
