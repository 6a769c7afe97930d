"""The same method run towards noise: which noise does an image come from?

The probability flow can be followed in both directions, so a deterministic solver on rising times finds the
noise from which sampling would lead back to the image ("DDIM inversion"). The ends need care. A network does
not know eps at a clean image, where sigma = 0: the step out of it is a special one, with one evaluation at
the next level. In pure noise, where alpha = 0, nothing is left of the image: the step into it is DDIM's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from snowmelt.core import Level, NoiseSchedule
from snowmelt.plans.builder import first_order_step
from snowmelt.plans.joining import join
from snowmelt.plans.plan import Combination, Plan, Quantity, Row
from snowmelt.plans.solvers.ddim import ddim

__all__ = ["reverse"]


def reverse(
    schedule: NoiseSchedule,
    times: Sequence[float],
    solver: Callable[..., Plan] = ddim,
    **options: Any,
) -> Plan:
    """Return the plan that `solver` would be on `times`, run backwards: from the result to the first state.

    Args:
        schedule: any.
        times: strictly falling, as for sampling; the plan starts at the last and ends at the first.
        solver: one of `SOLVERS`, deterministic and a function of levels only.
        options: of the solver.

    Raises:
        ValueError: the solver is stochastic, or there are fewer than two times.

    >>> from snowmelt.core import RectifiedFlow
    >>> plan = reverse(RectifiedFlow(), [1.0, 0.75, 0.5, 0.25, 0.0])
    >>> plan, [level.t for level in plan.levels]
    (<Plan reverse(ddim): 4 evaluations, t = 0.25 -> 1, deterministic, on x0>, [0.25, 0.25, 0.5, 0.75, 1.0])
    """
    if len(times) < 2:
        raise ValueError(f"at least two times are needed, got {list(times)}")
    rising = list(times)[::-1]
    levels = [schedule(t) for t in rising]
    clean, pure = levels[0].sigma == 0, levels[-1].alpha == 0
    inner = rising[clean : len(rising) - pure]
    if not inner:
        raise ValueError("there is a clean image and pure noise but no time between them: give one")
    forward = solver(schedule, times, **options)
    if forward.stochastic:
        raise ValueError(f"only a deterministic solver can be reversed, and {forward.name!r} draws noise")
    between = [solver(schedule, inner, **options)] if len(inner) > 1 else []
    quantity = between[0].quantity if between else "x0"

    parts = [
        *([_out_of_image(levels[0], levels[1], quantity)] if clean else []),
        *between,
        *([_ddim_step(levels[-2], levels[-1], quantity)] if pure else []),
    ]
    plan = join(parts)
    body = between[0] if between else plan
    return replace(plan, order=body.order, name=f"reverse({body.name})")


def _out_of_image(clean: Level[float], t: Level[float], quantity: Quantity) -> Plan:
    """Return the step from a clean image to level t, with one evaluation of the image as if it were there.

    In x/alpha the flow is dx = E drho with rho = sigma/alpha, and E is 0 at the image (Tweedie: rho times the
    score). The trapezoidal rule between that and E at rho is wrong by O(rho^4) only, as E is odd in rho.
    """
    scale = t.alpha / clean.alpha
    eps = first_order_step(t, Level(t.t, 0.0, 1.0), quantity=quantity)  # E from y and m of any quantity
    step = Combination(y=scale + t.sigma / 2 * eps.y, m=(t.sigma / 2 * eps.m[0],))
    return Plan((Row(t, step),), t, quantity)


def _ddim_step(s: Level[float], t: Level[float], quantity: Quantity) -> Plan:
    return Plan((Row(s, first_order_step(s, t, quantity=quantity)),), t, quantity)
