"""A plan: a sampling method written out as a table of numbers.

Every fast diffusion solver in use is linear in the current state, in the last few network outputs and in
fresh noise, with coefficients that depend on the schedule and the chosen times only. In numerical analysis
this is a general linear method (Butcher). Row i of the table reads

    m_i = what the denoiser says at (y, level_i)                      one network evaluation
    x   = c_x x + c_y y + sum_j c_j m_{i-j} + c_z z                   correct the base state
    y   = a_x x + a_y y + sum_j a_j m_{i-j} + a_z z'                  advance to the next level

with z the noise that the last row used and z' fresh noise. m is the denoiser's x0, or the eps or v that
follows from it at (y, level_i): `Plan.quantity` says which. `snowmelt.plans.integrate` runs any such table.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

from snowmelt.core import Level, NoiseSchedule
from snowmelt.limits import STEPS
from snowmelt.text import counted, text_table

__all__ = ["Combination", "Plan", "Quantity", "Row"]

LARGEST = 3e38  # a number that float32 holds
Quantity = Literal["x0", "eps", "v"]
Part = Literal["advance", "correct"]


class Combination(NamedTuple):
    """The coefficients of one linear combination: of x, of y, of the outputs (newest first), of noise."""

    x: float = 0.0
    y: float = 0.0
    m: tuple[float, ...] = ()
    z: float = 0.0


KEEP_X = Combination(x=1.0)


class Row(NamedTuple):
    """One network evaluation and what is done with it; by default `correct` leaves x alone."""

    level: Level[float]
    advance: Combination
    correct: Combination = KEEP_X


@dataclass(frozen=True)
class Plan:
    """A whole sampling method, ready to run: immutable, comparable, hashable, and saved as JSON.

    Attributes:
        rows: the table, one row a network evaluation.
        end: the level of the state that the last row leaves.
        quantity: which of the denoiser's outputs the coefficients weigh.
        order: order of convergence that the method claims, in steps of lam or of its own coordinate.
        name: the method that made it; it does not count when plans are compared.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> plan = make_plan(RectifiedFlow(), "ddim", steps=4)
    >>> plan.nfe, plan.stochastic, [level.t for level in plan.levels]
    (4, False, [1.0, 0.75, 0.5, 0.25, 0.0])
    >>> Plan.from_json(plan.to_json()) == plan
    True
    """

    rows: tuple[Row, ...]
    end: Level[float]
    quantity: Quantity = "x0"
    order: int = 1
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.rows) <= STEPS:
            raise ValueError(f"a plan has 1 to {STEPS:,} rows, got {len(self.rows):,}")
        if not isinstance(self.order, int) or isinstance(self.order, bool):
            raise ValueError(f"order must be an integer, got {str(self.order)[:40]!r}")
        if not isinstance(self.name, str):
            raise ValueError(f"name must be a text, got {str(self.name)[:40]!r}")
        for number, row in enumerate(self.rows, 1):
            _check_level(row.level, f"row {number}")
            _check_combination(row.advance, f"row {number}, advance")
            _check_combination(row.correct, f"row {number}, correct")
        _check_level(self.end, "end")
        if self.quantity not in get_args(Quantity):
            raise ValueError(
                f"quantity must be one of {', '.join(get_args(Quantity))}, got {self.quantity!r}"
            )

    @property
    def nfe(self) -> int:
        """Number of function evaluations: how often the denoiser is called."""
        return len(self.rows)

    @property
    def levels(self) -> tuple[Level[float], ...]:
        """The level of every evaluation, then the level of the result."""
        return (*(row.level for row in self.rows), self.end)

    def check_schedule(self, schedule: NoiseSchedule) -> None:
        """Raise ValueError where the plan was made for another noise schedule."""
        for level in self.levels:
            here = schedule(level.t)
            close = (math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(level, here, strict=True))
            if not all(close):
                raise ValueError(
                    f"the plan {self.name} was made for another noise schedule: at t = {level.t:g} it has "
                    f"alpha = {level.alpha:g} and sigma = {level.sigma:g}, and the model has {here.alpha:g} "
                    f"and {here.sigma:g}; make it anew with `snowmelt plan show --checkpoint`"
                )
        self.check_trained(schedule)

    def check_trained(self, schedule: NoiseSchedule) -> None:
        """Raise ValueError where the plan asks a network below its first trained index."""
        lowest = min(row.level.t for row in self.rows)
        if schedule.num_timesteps is not None and lowest < schedule.t_min * (1 - 1e-9):
            raise ValueError(
                f"the plan {self.name} asks the network at t = {lowest:g}, below its first trained step at "
                f"t = {schedule.t_min:g}, of which it knows nothing: take fewer steps, or later times"
            )

    @property
    def stochastic(self) -> bool:
        """Whether it draws noise beyond the initial one."""
        return any(row.advance.z or row.correct.z for row in self.rows)

    @cached_property
    def history(self) -> int:
        """How many network outputs a row may look at."""
        return max(len(c.m) for row in self.rows for c in (row.correct, row.advance))

    @property
    def corrects(self) -> bool:
        """Whether a row changes the base state x."""
        return any(row.correct != KEEP_X for row in self.rows)

    def weights(self, part: Part) -> dict[str, list[float]]:
        """Return the coefficients by term, one a row, without terms that no row uses.

        >>> from snowmelt.core import RectifiedFlow
        >>> from snowmelt.plans import make_plan
        >>> make_plan(RectifiedFlow(), "ddim", steps=2).weights("advance")
        {'y': [0.5, 0.0], 'm': [0.5, 1.0]}
        """
        rows: list[dict[str, float]] = [_terms(getattr(row, part)) for row in self.rows]
        names = ["x", "y", "m", *(f"m{-j}" for j in range(1, self.history)), "z"]
        table = {name: [terms.get(name, 0.0) for terms in rows] for name in names}
        return {name: column for name, column in table.items() if any(column)}

    @property
    def prior_std(self) -> float:
        """Standard deviation of the first state, for data of unit variance: sqrt(alpha^2 + sigma^2).

        That is 1 for a variance-preserving schedule and sigma_max, but for rounding, for an exploding one.
        """
        start = self.rows[0].level
        return math.hypot(start.alpha, start.sigma)

    def __repr__(self) -> str:
        noise = "stochastic" if self.stochastic else "deterministic"
        span = f"t = {self.rows[0].level.t:g} -> {self.end.t:g}"
        calls = counted(self.nfe, "evaluation")
        return f"<Plan {self.name or 'unnamed'}: {calls}, {span}, {noise}, on {self.quantity}>"

    def __str__(self) -> str:
        """Return the table as text: a line for each evaluation, a column for each term that has a weight."""
        return f"{self!r}\n{text_table(self.cells(), left=0)}"

    def _repr_html_(self) -> str:
        """Return picture and table, for a notebook."""
        from snowmelt.plans.showing import plan_html

        return plan_html(self)

    def cells(self) -> list[list[str]]:
        """Return the table as texts: names of the columns, then a row for each evaluation.

        >>> from snowmelt.core import RectifiedFlow
        >>> from snowmelt.plans import make_plan
        >>> make_plan(RectifiedFlow(), "ddim", steps=2).cells()[1]
        ['1', '1.0000', '0.0000', '1.0000', '-inf', '', '0.50000', '0.50000']
        """
        columns = [["#", *(str(i + 1) for i in range(self.nfe))]]
        for name, places in (("t", 4), ("alpha", 4), ("sigma", 4), ("lam", 3)):
            columns.append([name, *(f"{getattr(row.level, name):.{places}f}" for row in self.rows)])
        targets: dict[str, Part] = {"x": "correct", "y": "advance"} if self.corrects else {"y": "advance"}
        for target, part in targets.items():
            columns.append([f" {target} =", *[""] * self.nfe])
            for term, weights in self.weights(part).items():
                columns.append([term, *(f"{weight:.5f}" if weight else "." for weight in weights)])
        return [list(row) for row in zip(*columns, strict=True)]

    def to_json(self) -> str:
        """Return the plan as JSON; every float keeps all its bits."""
        rows = [
            {"level": row.level, "advance": row.advance._asdict(), "correct": row.correct._asdict()}
            for row in self.rows
        ]
        fields = {
            "name": self.name,
            "quantity": self.quantity,
            "order": self.order,
            "rows": rows,
            "end": self.end,
        }
        return json.dumps(fields, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Return the plan that `to_json` wrote.

        Raises:
            ValueError: the text is not JSON or lacks a part of a plan.
        """
        try:
            fields = json.loads(text)
            if len(fields["rows"]) > STEPS:
                raise ValueError(f"a plan has 1 to {STEPS:,} rows, got {len(fields['rows']):,}")
            rows = tuple(
                Row(Level(*row["level"]), _combination(row["advance"]), _combination(row["correct"]))
                for row in fields["rows"]
            )
            for number, row in enumerate(rows, 1):
                if any(row.advance.m[number:]) or any(row.correct.m[number:]):
                    raise ValueError(f"row {number} weighs more outputs than there are by then")
            return cls(rows, Level(*fields["end"]), fields["quantity"], fields["order"], fields["name"])
        except RecursionError as error:
            raise ValueError("not a plan, which Plan.to_json writes: it is nested too deeply") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a plan, which Plan.to_json writes: {str(error)[:200]}") from error


def _combination(fields: dict[str, Any]) -> Combination:
    if missing := [name for name in Combination._fields if name not in fields]:
        raise ValueError(f"a row has no {missing[0]}")
    if not isinstance(fields["m"], list):
        raise ValueError(f"m must be a list of numbers, got {str(fields['m'])[:40]!r}")
    weights = {name: _as_float(value) for name, value in fields.items() if name != "m"}
    return Combination(**weights, m=tuple(map(_as_float, fields["m"])))


def _as_float(value: Any) -> Any:
    """Return a whole number as JSON has it as a float; a tensor cannot be multiplied by a long integer."""
    return float(value) if type(value) is int and abs(value) <= LARGEST else value


def _check_level(level: Level[float], place: str) -> None:
    for name, value in zip(level._fields, level, strict=True):
        _check_number(value, f"{place}, {name}")
    if not (-1e-9 <= level.t <= 1 + 1e-9 and level.alpha >= 0 and level.sigma >= 0):
        raise ValueError(f"{place}: t lies in [0, 1], and neither alpha nor sigma is below 0, got {level}")


def _check_combination(combination: Combination, place: str) -> None:
    for name in ("x", "y", "z"):
        _check_number(getattr(combination, name), f"{place}, {name}")
    for value in combination.m:
        _check_number(value, f"{place}, m")


def _check_number(value: object, place: str) -> None:
    """Refuse what is no number: null would count as 0. A number must be one that float32 holds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError(f"{place} must be a finite number, got {json.dumps(value, default=str)[:40]}")


def _terms(combination: Combination) -> dict[str, float]:
    outputs = {f"m{-j}" if j else "m": weight for j, weight in enumerate(combination.m)}
    return {"x": combination.x, "y": combination.y, **outputs, "z": combination.z}
