"""The one loop that runs every plan, and the one row that it repeats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from snowmelt.core import Level
from snowmelt.denoisers import Denoiser, ask
from snowmelt.plans.ancestral import widths
from snowmelt.plans.plan import Combination, Plan, Row

__all__ = ["Memory", "State", "integrate", "last_state", "take_row", "take_rows", "trajectory"]


class State(NamedTuple):
    """Where a run stands after a row.

    Attributes:
        x_t: the state, (B, C, H, W), at `level`.
        level: the level that the state has reached.
        x0: what the denoiser made of the state before this row.
    """

    x_t: Tensor
    level: Level[float]
    x0: Tensor


class Memory(NamedTuple):
    """What one row leaves to the next.

    Attributes:
        x: the base state, (B, C, H, W).
        y: where the denoiser is evaluated next.
        outputs: of the denoiser, newest first.
        z: the noise that the row used, if any.
    """

    x: Tensor
    y: Tensor
    outputs: tuple[Tensor, ...] = ()
    z: Tensor | None = None


def trajectory(
    plan: Plan,
    denoiser: Denoiser,
    x: Tensor,
    class_labels: Tensor | None = None,
    noise: Callable[[], Tensor] | None = None,
) -> Iterator[State]:
    """Run `plan` from `x` and yield the state after every row: plan.nfe of them.

    Args:
        plan: the table to run.
        denoiser: called once a row, at exactly the row's level.
        x: the first state, (B, C, H, W), float32 or better.
        class_labels: handed to the denoiser as they are.
        noise: returns standard normal noise shaped like `x`, drawn anew at each call; torch's global
            generator if None. Called only in rows that use fresh noise.

    Where the denoiser says something of the variance, the noise of ancestral steps has that variance
    (`snowmelt.plans.ancestral`).
    """
    rows = take_rows(plan, denoiser, Memory(x, x), class_labels, noise)
    for (memory, x0), reached in zip(rows, plan.levels[1:], strict=True):
        yield State(memory.y, reached, x0)


def take_rows(
    plan: Plan,
    denoiser: Denoiser,
    memory: Memory,
    class_labels: Tensor | None = None,
    noise: Callable[[], Tensor] | None = None,
    first: int = 0,
) -> Iterator[tuple[Memory, Tensor]]:
    """Run the rows of `plan` from number `first` on; yield after each what it leaves, and its x0.

    Args:
        plan: the table.
        denoiser: as in `trajectory`, and so are `class_labels` and `noise`.
        memory: what the row before `first` left; ``Memory(x, x)`` for row 0.
        first: in 0 .. plan.nfe.
    """
    draw = noise or (lambda: torch.randn_like(memory.y))
    for row, width in islice(zip(plan.rows, widths(plan), strict=True), first, None):
        x0, variance = ask(denoiser, memory.y, row.level, class_labels)
        memory = take_row(plan, row, memory, x0, _widened(draw, width, variance))
        yield memory, x0


def take_row(plan: Plan, row: Row, memory: Memory, x0: Tensor, draw: Callable[[], Tensor]) -> Memory:
    """Return what is left after a row, once the denoiser has been evaluated.

    Args:
        plan: the table.
        row: one of its rows.
        memory: what the row before left; ``Memory(x, x)`` at the beginning.
        x0: what the denoiser made of `memory.y` at the row's level.
        draw: returns fresh noise; called if the row uses some.
    """
    x, y, outputs, z = memory
    outputs = (_QUANTITIES[plan.quantity](y, x0, row.level), *outputs[: plan.history - 1])
    x = _combine(row.correct, x, y, outputs, z)
    z = draw() if row.advance.z else None
    return Memory(x, _combine(row.advance, x, y, outputs, z), outputs, z)


def integrate(
    plan: Plan,
    denoiser: Denoiser,
    x: Tensor,
    class_labels: Tensor | None = None,
    noise: Callable[[], Tensor] | None = None,
) -> Tensor:
    """Run `plan` from `x` to its end and return the last state; arguments as in `trajectory`.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import make_plan
    >>> plan = make_plan(RectifiedFlow(), "ddim", steps=3)
    >>> gray = lambda x_t, level, class_labels=None: torch.full_like(x_t, 0.5)
    >>> integrate(plan, gray, torch.randn(1, 1, 2, 2))
    tensor([[[[0.5000, 0.5000],
              [0.5000, 0.5000]]]])
    """
    return last_state(trajectory(plan, denoiser, x, class_labels, noise))


def last_state(states: Iterable[State]) -> Tensor:
    """Run to the end and return the last x_t, (B, C, H, W)."""
    last: State = deque(states, maxlen=1).pop()
    return last.x_t


def _widened(draw: Callable[[], Tensor], width: float, variance: Tensor | None) -> Callable[[], Tensor]:
    """Return noise of the variance that a network has learned (Nichol & Dhariwal 2021, eq. 15)."""
    if width == 1.0 or variance is None:
        return draw
    return lambda: draw() * width ** ((variance + 1) / 2)


_QUANTITIES: dict[str, Callable[[Tensor, Tensor, Level[float]], Tensor]] = {
    "x0": lambda y, x0, level: x0,
    "eps": lambda y, x0, level: (y - level.alpha * x0) / level.sigma,
    "v": lambda y, x0, level: (level.alpha * y - x0) / level.sigma,
}


def _combine(c: Combination, x: Tensor, y: Tensor, outputs: Sequence[Tensor], z: Tensor | None) -> Tensor:
    """Return the linear combination `c`, leaving out what has no weight."""
    pairs = ((c.x, x), (c.y, y), *zip(c.m, outputs, strict=False), (c.z, z))
    terms = [(weight, tensor) for weight, tensor in pairs if weight and tensor is not None]
    if not terms:
        return torch.zeros_like(y)
    (weight, tensor), *others = terms
    total = tensor if weight == 1.0 and not others else weight * tensor
    for weight, tensor in others:
        total.add_(tensor, alpha=weight)
    return total
