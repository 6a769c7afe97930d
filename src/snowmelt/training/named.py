"""Choices that have a name and a few numbers: what all tables of them share."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from snowmelt.errors import InputError
from snowmelt.plans.words import lookup, suggest

__all__ = ["complete"]

SIGNED = ("bias", "mean")  # every other option is positive


def complete(
    kind: str, name: str, table: Mapping[str, Callable[..., Any]], options: Mapping[str, float]
) -> dict[str, float]:
    """Return all options of a choice: those that are given, and the defaults of its function.

    Args:
        kind: what the table holds, for the message.
        name: a key of the table.
        table: functions by name; an option is an argument that has a default.
        options: numbers by their names.

    Raises:
        InputError: the name or an option is unknown, or a number is out of range.

    >>> def min_snr(lam, gamma=5.0): ...
    >>> complete("weighting", "min_snr", {"min_snr": min_snr}, {"gamma": 3})
    {'gamma': 3.0}
    """
    try:
        function = lookup(kind, name, table)
    except ValueError as error:
        raise InputError(str(error)) from error
    parameters = inspect.signature(function).parameters
    known = {key: item.default for key, item in parameters.items() if item.default is not item.empty}
    for key, value in options.items():
        if key not in known:
            has = f"no option {suggest(str(key), known)}" if known else f"no options, such as {key!r}"
            raise InputError(f"{kind} {name!r} has {has}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or (key not in SIGNED and value <= 0):
            expected = "a number" if key in SIGNED else "a positive number"
            raise InputError(f"{key} of {kind} {name!r} must be {expected}, got {value!r}")
    return known | {key: float(value) for key, value in options.items()}
