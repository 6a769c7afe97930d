"""Arguments that several commands take, and groups of them as dataclasses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from snowmelt.errors import InputError

if TYPE_CHECKING:
    import torch

    from snowmelt.sampling import DiffusionSampler

__all__ = [
    "Background",
    "ConfigFile",
    "Device",
    "DryRun",
    "GuidanceScale",
    "MethodOptions",
    "ModelOptions",
    "NoEma",
    "Overrides",
    "Overwrite",
    "Precision",
    "Quiet",
    "SamplerOptions",
    "method_names",
    "with_groups",
]

ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="YAML file; see configs/diffusion. - stands for an empty file.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY.SUB=VALUE]...", help="Changes to the file, e.g. training.epochs=5"),
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto.")]
Precision = Annotated[
    str, typer.Option("--precision", help="Of the network: fp32, bf16, fp16, or auto: the fastest here.")
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        help="Colour behind transparent pixels. Default: that of the checkpoint's training, or else white.",
    ),
]
GuidanceScale = Annotated[float, typer.Option("--guidance", help="Guidance scale; 0 turns guidance off.")]
NoEma = Annotated[bool, typer.Option("--no-ema", help="Use the raw weights, not their moving average (EMA).")]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Remove what an earlier run has left in the folder, and start anew."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and estimate the time it takes; write nothing.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show nothing but warnings.")]


def method_names(begun: str) -> list[str]:
    """Return the presets and solvers that begin so: what a shell offers for ``--method``.

    >>> method_names("dd")
    ['ddpm', 'ddim']
    """
    from snowmelt.plans import PRESETS, SOLVERS

    return [name for name in dict.fromkeys(["auto", *PRESETS, *SOLVERS]) if name.startswith(begun)]


@dataclass(frozen=True)
class MethodOptions:
    """The method: ``--method ddim:20``, or ``--solver ddim --steps 20``."""

    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            autocompletion=method_names,
            help="How to sample, such as balanced, ddim:20, 'dpmpp_2m steps=20 grid=karras' or plan.json "
            "(see `snowmelt plan list`); auto or auto:6 is the plan that `snowmelt tune` made for the "
            "checkpoint. Default: the checkpoint's own method; if it has none, balanced.",
        ),
    ] = None
    solver: Annotated[
        str | None, typer.Option("--solver", help="A solver or a preset of `snowmelt plan list`.")
    ] = None
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="N", help="Time steps from noise to image, or all.")
    ] = None
    grid: Annotated[str | None, typer.Option("--grid", help="Time grid.")] = None
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", metavar="KEY=VALUE", help="Option of the solver or the grid; may be repeated."
        ),
    ] = None

    def text(self) -> str | None:
        """Return the text form of the method; None if no option states one.

        >>> MethodOptions(solver="ddim", steps="20", option=["eta=0.5"]).text()
        'ddim steps=20 eta=0.5'
        """
        for option in self.option or ():
            if "=" not in option:
                raise InputError(f"{option!r} is not an option: expected key=value, such as eta=0.5")
        stated = {"steps": self.steps, "grid": self.grid}
        words = [text for text in (self.method, self.solver) if text is not None]
        words += [f"{name}={value}" for name, value in stated.items() if value is not None]
        words += ["".join(option.split()) for option in self.option or ()]
        return " ".join(words) if words else None


@dataclass(frozen=True)
class ModelOptions:
    """A trained model, and where to run it."""

    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT", help="Model file, such as checkpoints/latest.pth, or a folder of diffusers."
        ),
    ]
    device: Device = "auto"
    no_ema: NoEma = False

    def resolved_device(self) -> torch.device:
        """Return the device that the name stands for."""
        from snowmelt.device import resolve_device

        return resolve_device(self.device)


@dataclass(frozen=True)
class SamplerOptions(ModelOptions):
    """A trained model that makes images."""

    precision: Precision = "fp32"

    def sampler(self, method: str | None = None, guidance_scale: float | None = None) -> DiffusionSampler:
        """Return a sampler of the model; without a method, it uses the model's own.

        Args:
            method: its text form.
            guidance_scale: for which ``auto`` looks for a tuned plan; None takes the one there is.
        """
        return self.sampler_on(method, None, guidance_scale)[0]

    def sampler_on(
        self, method: str | None, background: str | None, guidance_scale: float | None = None
    ) -> tuple[DiffusionSampler, str]:
        """Return a sampler, and the colour behind transparent pixels: the given one, or that of training."""
        from snowmelt.images import BACKGROUND
        from snowmelt.models import Checkpoint
        from snowmelt.sampling import DiffusionSampler

        checkpoint = Checkpoint.read(self.checkpoint)
        sampler = DiffusionSampler.from_pretrained(
            checkpoint,
            self.resolved_device(),
            use_ema=not self.no_ema,
            method=method,
            guidance_scale=guidance_scale,
            precision=self.precision,
        )
        if sampler.precision_reason:
            typer.echo(sampler.precision_reason, err=True)
        return sampler, background or checkpoint.background or BACKGROUND


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose parameters that are dataclasses are spread out for typer, field by field."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(annotation=hints[name]))
            continue
        inner = get_type_hints(groups[name], include_extras=True)
        for item in fields(groups[name]):
            default = inspect.Parameter.empty if item.default is MISSING else item.default
            parameters.append(
                inspect.Parameter(
                    item.name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=default,
                    annotation=inner[item.name],
                )
            )
    parameters.sort(key=lambda parameter: parameter.default is not inspect.Parameter.empty)

    @wraps(command)
    def spread(**values: Any) -> None:
        for name, kind in groups.items():
            own = {item.name: values.pop(item.name) for item in fields(kind)}
            values[name] = kind(**own)  # type: ignore[operator]
        command(**values)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread
