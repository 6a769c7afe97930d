"""Which of many choices are worth a look: those that no other beats in cost and in quality."""

from __future__ import annotations

from collections.abc import Sequence

from snowmelt.evaluation.compare.cell import Cost, Result

__all__ = ["LOWER_IS_BETTER", "best", "front", "loss", "pareto_front", "sufficient"]

LOWER_IS_BETTER = frozenset({"fid", "fid_infinity", "kid"})


def pareto_front(costs: Sequence[float], losses: Sequence[float]) -> list[int]:
    """Return the indices of the choices on the Pareto front, in order.

    A choice is on it unless another one is no worse in both and better in one. Equal choices are on it
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
    """Return the results on the Pareto front of a metric and a cost; those without the metric are not."""
    measured = [result for result in results if metric in result.evaluation.overall]
    costs = [result.cost(cost) for result in measured]
    return [measured[index] for index in pareto_front(costs, [loss(each, metric) for each in measured])]


def loss(result: Result, metric: str) -> float:
    """Return a metric's value, with its sign turned where more is better."""
    value = result.evaluation.overall[metric].value
    return value if metric in LOWER_IS_BETTER else -value


def best(results: Sequence[Result], metric: str) -> Result | None:
    """Return the best result by a metric; None where none has it."""
    measured = [result for result in results if metric in result.evaluation.overall]
    return min(measured, key=lambda result: loss(result, metric), default=None)


def sufficient(results: Sequence[Result], metric: str) -> Result | None:
    """Return the result with the fewest evaluations whose interval reaches the best one's value.

    Among equally many evaluations it is the best. None where none has the metric.
    """
    winner = best(results, metric)
    if winner is None:
        return None
    goal = winner.evaluation.overall[metric].value

    def reaches(result: Result) -> bool:
        each = result.evaluation.overall.get(metric)
        return result is winner or (each is not None and each.low <= goal <= each.high)

    return min(filter(reaches, results), key=lambda each: (each.cell.evaluations, loss(each, metric)))
