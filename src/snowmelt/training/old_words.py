"""Arguments that the trainer of snowmelt's forerunner had under other names."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["old_words"]

P = ParamSpec("P")
R = TypeVar("R")


def old_words(**now: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that says what to write for each keyword that is no longer taken.

    >>> @old_words(count="write number")
    ... def repeat(number: int) -> int:
    ...     return number
    >>> repeat(count=3)
    Traceback (most recent call last):
    TypeError: repeat() takes no count: write number. See docs/migration.md
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            if given := [name for name in now if name in kwargs]:
                words = "; ".join(f"takes no {name}: {now[name]}" for name in given)
                raise TypeError(f"{function.__name__}() {words}. See docs/migration.md")
            return function(*args, **kwargs)

        return checked

    return decorate
