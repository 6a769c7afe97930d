"""A method: how to sample, as one value that every command takes.

It is said in one of three ways: a solver with steps, grid and options; a preset; or a table, which is a
finished `Plan`. `Method()` is the one default, the preset `balanced`. The same words make the same plan
everywhere:

    text        balanced | ddim:20 | dpmpp_2m steps=20 grid=karras | plan.json
    YAML        {preset: balanced} | {type: ddim, steps: 20} | {plan: plan.json}
    keywords    preset="balanced" | solver="ddim", steps=20 | plan=Plan(...)

The word ``auto``, or ``auto:6``, in place of a solver stands for the table that was tuned for a checkpoint.
Whoever reads the checkpoint looks it up (`snowmelt.DiffusionSampler.from_pretrained`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from snowmelt.core import NoiseSchedule
from snowmelt.limits import STEPS
from snowmelt.plans.options import LISTS, check_options, options_of, place_of
from snowmelt.plans.plan import Plan
from snowmelt.plans.plan_file import read_plan
from snowmelt.plans.presets import PRESETS, Preset
from snowmelt.plans.reverse import reverse
from snowmelt.plans.solvers import SOLVERS, Solver
from snowmelt.plans.words import key_value, lookup, plain, value_of, written

__all__ = ["AUTO", "DEFAULT_PRESET", "DEFAULT_STEPS", "Method", "make_plan", "make_preset"]

AUTO = "auto"  # in place of a solver: the plan that was tuned for the checkpoint
DEFAULT_PRESET = "balanced"  # where nothing is said
DEFAULT_STEPS = 50  # of a solver without steps, or every trained index if there are fewer


@dataclass(frozen=True)
class Method:
    """How to sample: a solver, a preset or a table.

    Args:
        solver: a key of `SOLVERS`, or ``"auto"``. The name of a preset by itself, such as ``ddpm``, is that
            preset.
        steps: number of time steps, >= 1; ``"all"`` takes every trained index. None takes 50, or every
            trained index if there are fewer. Without a solver, the default preset runs in this many steps.
        grid: a key of `GRIDS`; None takes ``trailing``.
        options: of the solver (``eta``, ...) or of the grid (``rho``, ...). A list of the evaluations, as
            ``times``, ``sigmas`` (sigma/alpha) or ``indices`` (trained ones), stands in place of `steps` and
            `grid`.
        preset: a key of `PRESETS`.
        table: a finished plan.

    Raises:
        ValueError: an unknown name or option, with those that exist, or more than one way to say it.
        TypeError: `steps` is not an integer.

    >>> from snowmelt.core import RectifiedFlow
    >>> Method("ddim", steps=20, options={"eta": 0.5}).plan(RectifiedFlow())
    <Plan ddim: 20 evaluations, t = 1 -> 0, stochastic, on x0>
    >>> Method() == Method(preset="balanced"), str(Method.parse("ddim:20 eta=0.5"))
    (True, 'ddim:20 eta=0.5')
    """

    solver: str | None = None
    steps: int | Literal["all"] | None = None
    grid: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    table: Plan | None = None

    def __post_init__(self) -> None:
        described = (self.solver, self.steps, self.grid) != (None, None, None) or bool(self.options)
        if described + (self.preset is not None) + (self.table is not None) > 1:
            raise ValueError(
                "a plan is complete in itself, and so is a preset: give one of them, or solver, steps, grid "
                "and options"
            )
        alone = (self.steps, self.grid) == (None, None) and not self.options
        if self.solver in PRESETS and alone:
            self._set(solver=None, preset=self.solver)
        elif self.solver in PRESETS and self.solver not in SOLVERS:
            raise ValueError(
                f"{self.solver} has its steps, grid and options already: leave them out, or name a solver"
            )
        elif self.table is None and not described and self.preset is None:
            self._set(preset=DEFAULT_PRESET)
        elif described and self.solver is None:
            self._set(**_changed(PRESETS[DEFAULT_PRESET], self.steps, self.grid, self.options))
        self._set(options=plain(self.options))
        if self.preset is not None:
            lookup("preset", self.preset, PRESETS)
        elif self.auto and (self.grid is not None or self.options or self.steps == "all"):
            raise ValueError("auto is a tuned plan, complete in itself: it takes a number of steps, no more")
        elif self.auto:
            _check_steps(1 if self.steps is None else self.steps)
        elif self.table is None:
            check_options(self.solver or "", self.grid, self.options)
            if self.steps not in (None, "all"):
                _check_steps(self.steps)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)  # the class is frozen, and this is its constructor

    @classmethod
    def of(
        cls,
        method: Method | Plan | str | Mapping[str, Any] | None = None,
        *,
        default: Method | None = None,
        **keywords: Any,
    ) -> Method:
        """Return a method from any of its spellings: this is where they meet.

        Args:
            method: a method, a plan, the text form, or a mapping as in YAML.
            default: what is meant where neither solver nor preset nor plan is named, such as a checkpoint's
                own method; steps, grid and options alone change it. None is ``Method()``.
            keywords: in place of `method`: ``solver``, ``steps``, ``grid``, ``preset``, ``plan``, and
                options.

        >>> method = Method.of(solver="ddim", steps=20)
        >>> method == Method.of("ddim:20") == Method.of({"type": "ddim", "steps": 20})
        True
        >>> str(Method.of("steps=10 eta=1.0", default=method))
        'ddim:10 eta=1.0'
        """
        keywords = {name: value for name, value in keywords.items() if value is not None}
        if method is not None and keywords:
            raise ValueError(f"give either method or {', '.join(keywords)}, not both")
        if isinstance(method, Method):
            return method
        if isinstance(method, Plan):
            return cls(table=method)
        if isinstance(method, str):
            return cls.parse(method, default)
        if method is not None and not isinstance(method, Mapping):
            raise TypeError(f"method must be a Method, a Plan, a text or a mapping, got {method!r}")
        return cls.from_dict(keywords if method is None else method, default)

    @classmethod
    def parse(cls, text: str, default: Method | None = None) -> Method:
        """Return the method that a text says; ``str(method)`` is such a text.

        Args:
            text: a preset, a solver, ``solver:steps``, or the path of a plan's JSON file; then perhaps
                ``key=value`` for steps, grid and options, each value in JSON or a plain word.
            default: as for `of`.

        Raises:
            ValueError: the text says no method.

        >>> Method.parse("dpmpp_2m steps=20 grid=karras rho=5").options
        {'rho': 5}
        """
        if text.strip().endswith(".json"):
            return cls(table=read_plan(text.strip()))
        words = text.split()
        if not words:
            raise ValueError(
                "an empty text does not say a method: give a preset or a solver, such as ddim:20"
            )
        stated: list[tuple[str, Any]] = []
        if "=" not in words[0]:
            solver, colon, steps = words.pop(0).partition(":")
            stated = [("solver", solver), *([("steps", value_of(steps))] if colon else [])]
        stated += [key_value(word) for word in words]
        names = [name for name, _ in stated]
        if len(set(names)) < len(names):
            raise ValueError(f"{text!r} states {max(names, key=names.count)} twice")
        return cls.from_dict(dict(stated), default)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], default: Method | None = None) -> Method:
        """Return the method that a mapping says: a section of YAML, or what `to_dict` returned.

        Args:
            values: ``preset``; or ``plan``, a `Plan`, the path of its JSON file, or its contents; or
                ``solver`` (also called ``type``), ``steps``, ``grid``, and options.
            default: as for `of`.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a method must be a mapping, got {str(values)[:60]!r}")
        rest = {name: value for name, value in values.items() if value is not None}
        if "type" in rest:
            if "solver" in rest:
                raise ValueError(f"type and solver are one: got {rest['type']!r} and {rest['solver']!r}")
            rest["solver"] = rest.pop("type")
        plan = rest.pop("plan", None)
        if isinstance(plan, Mapping):
            plan = Plan.from_json(json.dumps(plan))
        elif plan is not None and not isinstance(plan, Plan):
            plan = read_plan(plan)
        if default is not None and plan is None and not rest.keys() & {"solver", "preset"}:
            return default.changed(**rest)
        own = {name: rest.pop(name) for name in ("solver", "steps", "grid", "preset") if name in rest}
        return cls(**own, options=rest, table=plan)

    def to_dict(self) -> dict[str, Any]:
        """Return the method as plain values, from which `from_dict` makes it again."""
        if self.table is not None:
            return {"plan": json.loads(self.table.to_json())}
        if self.preset is not None:
            return {"preset": self.preset}
        stated = {"solver": self.solver, "steps": self.steps, "grid": self.grid}
        return {**{name: value for name, value in stated.items() if value is not None}, **self.options}

    def __str__(self) -> str:
        """Return the text form; of a table, its name."""
        if self.table is not None:
            return self.table.name or "plan"
        if self.preset is not None:
            return self.preset
        steps = f":{self.steps}" if self.steps is not None else ""
        stated = {**({"grid": self.grid} if self.grid is not None else {}), **self.options}
        return " ".join([f"{self.solver}{steps}", *(f"{name}={written(stated[name])}" for name in stated)])

    def _repr_html_(self) -> str:
        """Return what it says as a table, for a notebook."""
        from snowmelt.plans.showing import method_html

        return method_html(self)

    @property
    def auto(self) -> bool:
        """Whether it stands for the plan that was tuned for a checkpoint."""
        return self.solver == AUTO

    @property
    def has_own_steps(self) -> bool:
        """Whether it says where to evaluate, so that another number of steps would contradict it."""
        return self.solver in (None, AUTO) or self.steps is not None or bool(self.options.keys() & LISTS)

    def changed(
        self, steps: int | Literal["all"] | None = None, grid: str | None = None, **options: Any
    ) -> Method:
        """Return the method with other steps, grid or options; a table takes none.

        >>> str(Method("ddim", 50, "leading").changed(steps=20, eta=1.0))
        'ddim:20 grid=leading eta=1.0'
        """
        if steps is None and grid is None and not options:
            return self
        now = self if self.table is not None else self._settings()
        return replace(self, preset=None, **_changed(now, steps, grid, options))

    def plan(self, schedule: NoiseSchedule, times: Sequence[float] | None = None) -> Plan:
        """Return the method as a table on a schedule.

        Args:
            schedule: what the network was trained on.
            times: strictly falling, to step through in place of the method's own; not for a table.

        Raises:
            ValueError: the schedule has no such grid, or the table belongs to another schedule.
        """
        if self.table is not None:
            if times is not None:
                raise ValueError(
                    f"the finished plan {self} cannot be cut or stretched: name a solver or a preset"
                )
            self.table.check_schedule(schedule)
            return self.table
        solver, options = self._solver()
        plan = solver(schedule, self.times(schedule) if times is None else times, **options)
        plan.check_trained(schedule)
        return plan

    def reversed(self, schedule: NoiseSchedule) -> Plan:
        """Return the plan from the image to the noise; a stochastic method is a ValueError."""
        solver, options = self._solver()
        plan = reverse(schedule, self.times(schedule), solver, **options)
        plan.check_trained(schedule)
        return plan

    def times(self, schedule: NoiseSchedule) -> tuple[float, ...]:
        """Return the times that it steps through, strictly falling, down to the image."""
        settings = self._settings()
        grid = {name: settings.options[name] for name in settings.options if name in options_of(self._grid())}
        if settings.steps == "all":  # then no index is left out, and an offset has no room
            grid.pop("offset", None)
        steps = None if LISTS & grid.keys() and settings.steps is None else _count(schedule, settings.steps)
        return tuple(self._grid()(schedule, steps, **grid))

    def times_from(self, schedule: NoiseSchedule, t: float) -> tuple[float, ...]:
        """Return the times from exactly `t` in (0, 1] down to the image.

        A first step of less than a tenth of the grid's is merged with the next, as multistep methods divide
        by its length.

        >>> from snowmelt.core import RectifiedFlow
        >>> method = Method("ddim", steps=4)
        >>> method.times_from(RectifiedFlow(), 0.6), method.times_from(RectifiedFlow(), 0.51)
        ((0.6, 0.5, 0.25, 0.0), (0.51, 0.25, 0.0))
        """
        if not 0 < t <= 1:
            raise ValueError(f"t must lie in (0, 1] (1 is noise), got {t}")
        times = self.times(schedule)
        above = min((time for time in times if time >= t), default=1.0)
        first, *others = [time for time in times if time < t]
        if others and t - first < 0.1 * (above - first):
            return (t, *others)
        return (t, first, *others)

    def _settings(self) -> Method | Preset:
        if self.auto:
            raise ValueError(
                "auto is a plan that was tuned for a checkpoint, and there is no checkpoint's file here: "
                "take DiffusionSampler.from_pretrained, name a solver or give the plan's own file"
            )
        if self.table is not None:
            raise ValueError(f"the finished plan {self} cannot be cut or reversed: name a solver or a preset")
        return PRESETS[self.preset] if self.preset is not None else self

    def _solver(self) -> tuple[Solver, dict[str, Any]]:
        """Return the solver with its own options."""
        settings = self._settings()
        solver = SOLVERS[settings.solver or ""]
        options = {name: settings.options[name] for name in settings.options if name in options_of(solver)}
        if isinstance(options.get("inner"), str):  # a solver that runs another one
            options["inner"] = lookup("solver", options["inner"], SOLVERS)
        return solver, options

    def _grid(self) -> Callable[..., tuple[float, ...]]:
        settings = self._settings()
        return place_of(settings.grid, settings.options)


def make_plan(
    schedule: NoiseSchedule,
    solver: str | None = None,
    steps: int | Literal["all"] | None = None,
    grid: str | None = None,
    **options: Any,
) -> Plan:
    """Return the plan of a solver on a time grid: ``Method(solver, steps, grid, options).plan(schedule)``.

    The arguments and errors are those of `Method`.

    >>> from snowmelt.core import LinearVP
    >>> make_plan(LinearVP(), "ddim", steps=10, grid="karras", eta=0.5, rho=5)
    <Plan ddim: 10 evaluations, t = 1 -> 0, stochastic, on x0>
    >>> make_plan(LinearVP(), "dimm", steps=10)
    Traceback (most recent call last):
    ValueError: unknown solver 'dimm', did you mean 'ddim'? Known: ddpm, ddim...
    """
    return Method(solver, steps, grid, options).plan(schedule)


def make_preset(schedule: NoiseSchedule, name: str) -> Plan:
    """Return the plan of a preset: ``Method(preset=name).plan(schedule)``.

    >>> from snowmelt.core import RectifiedFlow
    >>> make_preset(RectifiedFlow(), "fast").nfe
    10
    >>> make_preset(RectifiedFlow(), "best")
    Traceback (most recent call last):
    ValueError: unknown preset 'best'. Known: draft, fast, balanced, quality, ddpm
    """
    return Method(preset=name).plan(schedule)


def _changed(
    now: Method | Preset, steps: int | Literal["all"] | None, grid: str | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a changed method; a new list of evaluations replaces steps and grid."""
    listed = bool(options.keys() & LISTS)
    return {
        "solver": now.solver,
        "steps": steps if listed or steps is not None else now.steps,
        "grid": grid if listed or grid is not None else now.grid,
        "options": {**now.options, **options},
    }


def _count(schedule: NoiseSchedule, steps: int | Literal["all"] | None) -> int:
    """Return the number of steps."""
    if steps is None:
        return min(DEFAULT_STEPS, schedule.num_timesteps or DEFAULT_STEPS)
    if steps != "all":
        return steps
    if schedule.num_timesteps is None:
        raise ValueError(
            f"every trained step is asked for, and {type(schedule).__name__}, being continuous, has none: "
            "give a number of steps, such as ddpm:1000, or take another preset"
        )
    return schedule.num_timesteps


def _check_steps(steps: object) -> None:
    if not isinstance(steps, int) or isinstance(steps, bool):
        raise TypeError(f"steps must be an integer or 'all', got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if steps > STEPS:
        raise ValueError(f"steps must be at most {STEPS:,}, got a number of {len(str(steps))} digits")
