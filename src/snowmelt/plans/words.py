"""What a method is said in: its words, the values in them, and help with a word that is unknown."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["key_value", "lookup", "plain", "suggest", "value_of", "written"]

V = TypeVar("V")


def key_value(word: str) -> tuple[str, Any]:
    """Return the name and the value in a word.

    >>> key_value("interval=[0.1,0.5]")
    ('interval', [0.1, 0.5])
    """
    name, equals, value = word.partition("=")
    if not (name.isidentifier() and equals):
        raise ValueError(f"{word!r} is not an option: expected key=value, such as eta=0.5")
    return name, value_of(value)


def value_of(text: str) -> Any:
    """Return a value in JSON, or the text itself where it is a plain word.

    >>> value_of("20"), value_of("karras")
    (20, 'karras')
    """
    try:
        return json.loads(text)
    except ValueError:
        return text


def written(value: Any) -> str:
    """Return a word that `value_of` reads."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def plain(value: Any) -> Any:
    """Return a value as YAML and JSON have it, with lists for tuples, so that equal words are equal values.

    >>> plain({"interval": (0.1, 0.5)})
    {'interval': [0.1, 0.5]}
    """
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def lookup(kind: str, name: str, table: Mapping[str, V]) -> V:
    """Return the entry of a table, or say what it has.

    >>> lookup("solver", "dimm", {"ddim": 1})
    Traceback (most recent call last):
    ValueError: unknown solver 'dimm', did you mean 'ddim'? Known: ddim
    """
    if name not in table:
        raise ValueError(f"unknown {kind} {suggest(name, table)}")
    return table[name]


def suggest(name: str, known: Iterable[str]) -> str:
    """Return an unknown name with the nearest known one, and all that are known."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else "."
    return f"{name!r}{hint} Known: {', '.join(known) or 'none'}"
