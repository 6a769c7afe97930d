"""How two sets of settings differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from snowmelt.text import shortened

__all__ = ["differences"]

LONGEST_VALUE = 60  # characters that a line shows of a value
_ABSENT = object()


def differences(here: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return a line for each value in which two nested dictionaries differ.

    >>> differences({"plan": {"nfe": 4}, "seed": 0}, {"plan": {"nfe": 8}, "seed": 0})
    ['plan.nfe: 4 there, 8 now']
    """
    there, now = dict(_leaves(here)), dict(_leaves(wanted))
    return [
        f"{key}: {_shown(there.get(key, _ABSENT))} there, {_shown(now.get(key, _ABSENT))} now"
        for key in {**there, **now}
        if there.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def _leaves(tree: Mapping[str, Any], parent: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{parent}{name}.")
        else:
            yield parent + name, value


def _shown(value: Any) -> str:
    text = "nothing" if value is _ABSENT else json.dumps(value)
    return shortened(text, LONGEST_VALUE)
