"""Which of many choices are worth a look: those that no other choice beats in both cost and quality."""

from __future__ import annotations

from collections.abc import Sequence

from snowmelt.evaluation.compare.cell import Cost, Result

__all__ = ["best", "front", "pareto_front", "sufficient"]


def pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Return the indices of the choices on the Pareto front, in order.

    A choice is on it unless another choice is no worse in both and better in one. Equal choices are on it
    together.

    Args:
        costs, losses: of each choice; less is better.

    >>> pareto_front([1, 2, 3, 3], [9.0, 5.0, 7.0, 5.0])
    [0, 1]
    """
    points = list(zip(costs, losses, strict=True))
    return [
        index
        for index, (cost, loss) in enumerate(points)
        if not any(c <= cost and q <= loss and (c, q) != (cost, loss) for c, q in points)
    ]


def front(results: Sequence[Result], metric: str, cost: Cost) -> list[Result]:
    """Return the results on the Pareto front of a metric and a cost, out of those with the metric."""
    measured = _measured(results, metric)
    on_front = pareto_front([each.cost(cost) for each in measured], [each.loss(metric) for each in measured])
    return [measured[index] for index in on_front]


def best(results: Sequence[Result], metric: str) -> Result | None:
    """Return the best result by a metric; None if no result has it."""
    return min(_measured(results, metric), key=lambda each: each.loss(metric), default=None)


def sufficient(results: Sequence[Result], metric: str) -> Result | None:
    """Return the result with the fewest evaluations whose interval reaches the best result's value.

    Among equal numbers of evaluations it is the best one. None if no result has the metric.
    """
    winner = best(results, metric)
    if winner is None:
        return None
    goal = winner.scores.overall[metric].value
    reaching = [
        each
        for each in _measured(results, metric)
        if each is winner or each.scores.overall[metric].low <= goal <= each.scores.overall[metric].high
    ]
    return min(reaching, key=lambda each: (each.cell.evaluations, each.loss(metric)))


def _measured(results: Sequence[Result], metric: str) -> list[Result]:
    return [result for result in results if metric in result.scores.overall]
