"""Plans for the command line: from words to a table, to a file and back; and what there is to choose from."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from snowmelt.core import VE, CosineVP, DiscreteSchedule, LinearVP, NoiseSchedule, RectifiedFlow, make_betas
from snowmelt.denoisers import create_ddpm
from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.models.checkpoint import read_checkpoint
from snowmelt.plans import GRIDS, PRESETS, SOLVERS, Plan, Preset, make_plan, make_preset
from snowmelt.plans.drawing import draw_plan

__all__ = ["SCHEDULES", "build_plan", "build_schedule", "catalogue", "plot_plan", "read_plan", "write_plan"]

SCHEDULES: dict[str, Callable[[], NoiseSchedule]] = {
    "ddpm-linear": lambda: DiscreteSchedule(make_betas("linear")),
    "ddpm-cosine": lambda: DiscreteSchedule(make_betas("cosine")),
    "vp": LinearVP,
    "cosine": CosineVP,
    "ve": VE,
    "flow": RectifiedFlow,
}


def build_schedule(name: str, checkpoint: Path | None = None) -> NoiseSchedule:
    """Return a schedule by name, or the one that a checkpoint's model was trained on.

    Raises:
        InputError: there is no such schedule, or the checkpoint does not say how its model is built.
    """
    if checkpoint is not None:
        contents = read_checkpoint(checkpoint)
        if "model_config" not in contents:
            raise InputError(f"{checkpoint} does not say what it was trained on: name it with --schedule")
        return create_ddpm(**contents["model_config"]).schedule
    if name not in SCHEDULES:
        raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
    return SCHEDULES[name]()


def build_plan(
    name: str,
    schedule: NoiseSchedule,
    steps: int | None = None,
    grid: str | None = None,
    options: Sequence[str] = (),
) -> Plan:
    """Return the plan that the words of the command line ask for.

    Args:
        name: a solver, a preset, or the path of a plan's JSON file. ``ddpm``, which is both, is the solver.
        schedule: what to make it on.
        steps: of a solver; 8 if None, or as many as a list among the options has.
        grid: of a solver; ``trailing`` if None.
        options: of a solver, ``key=value`` each, the value in YAML.

    Raises:
        InputError: the words make no plan.

    >>> build_plan("ddim", RectifiedFlow(), 4, options=["eta=0.5"])
    <Plan ddim: 4 evaluations, t = 1 -> 0, stochastic, on x0>
    """
    chosen = dict(_option(text) for text in options)
    ready = name.endswith(".json") or (name in PRESETS and name not in SOLVERS)
    if ready and (steps is not None or grid is not None or chosen):
        raise InputError(f"{name} has its steps, grid and options already: leave them out, or name a solver")
    if name.endswith(".json"):
        return read_plan(name)
    try:
        if ready:
            return make_preset(schedule, name)
        if steps is None and not chosen.keys() & {"times", "sigmas", "indices"}:
            steps = 8
        return make_plan(schedule, name, steps, grid or "trailing", **chosen)
    except (TypeError, ValueError) as error:  # an option of the wrong type is the input's fault too
        raise InputError(str(error)) from error


def read_plan(path: str | Path, schedule: NoiseSchedule | None = None) -> Plan:
    """Return the plan in a JSON file that `write_plan` or `Plan.to_json` wrote.

    Args:
        path: the file.
        schedule: what it will be run on; its levels must be the plan's. None: not compared.

    Raises:
        InputError: the file is missing or holds no plan, or the plan belongs to another schedule.
    """
    try:
        plan = Plan.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is {error}") from error
    if schedule is None:
        return plan
    for level in plan.levels:
        here = schedule(level.t)
        if not all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(level, here, strict=True)):
            raise InputError(
                f"{path} was made for another noise schedule: at t = {level.t:g} it has alpha = "
                f"{level.alpha:g} and sigma = {level.sigma:g}, and the model has {here.alpha:g} and "
                f"{here.sigma:g}; make it anew with `snowmelt plan show --checkpoint`"
            )
    return plan


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan as JSON, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(plan.to_json() + "\n")


def plot_plan(plan: Plan, path: str | Path) -> None:
    """Draw a plan to a file, in the format that its suffix says."""
    try:
        draw_plan(plan, path)
    except ImportError as error:
        raise InputError("drawing needs matplotlib: pip install 'snowmelt[train]'") from error
    except ValueError as error:
        raise InputError(str(error)) from error


def catalogue() -> str:
    """Return what there is to choose from: solvers, grids and presets, a line each."""
    solvers = [(name, _summary(make), _options(make)) for name, make in SOLVERS.items()]
    grids = [(name, _summary(place), _options(place)) for name, place in GRIDS.items()]
    presets = [(name, preset.summary, _choice(preset)) for name, preset in PRESETS.items()]
    sections = {"Solvers": solvers, "Grids": grids, "Presets": presets}
    return "\n\n".join("\n".join(_section(title, entries)) for title, entries in sections.items())


def _section(title: str, entries: list[tuple[str, str, str]]) -> Iterator[str]:
    width = max(len(name) for name, _, _ in entries)
    yield title
    for name, summary, details in entries:
        yield f"  {name:{width}}  {summary}"
        if details:
            yield f"  {'':{width}}  [{details}]"


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _options(function: Callable[..., Any]) -> str:
    parameters = list(inspect.signature(function).parameters.values())[2:]
    return ", ".join(f"{item.name}={item.default}" for item in parameters)


def _choice(preset: Preset) -> str:
    steps = f"{preset.steps} steps" if preset.steps is not None else "every trained step"
    options = "".join(f", {name}={value}" for name, value in preset.options.items())
    return f"{preset.solver}, {steps} on {preset.grid}{options}"


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise InputError(f"{text!r} is no option: expected key=value, such as eta=0.5")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"the value of {text!r} is not valid YAML") from error
