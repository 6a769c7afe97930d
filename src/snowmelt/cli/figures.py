"""The figures of a command: a text for a person, or JSON for a program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Annotated, Any

import typer

__all__ = ["AsJson", "Show", "figures"]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the figures as one JSON object, and all else to standard error.")
]
Show = Callable[[Any, object | None], None]


@contextmanager
def figures(as_json: bool) -> Iterator[Show]:
    """Give a function that shows what was found.

    Its arguments are the figures, and the text that tells them; None where a person gets none. With
    `as_json`, standard output gets the figures and nothing else, whoever prints. Figures that take time to
    find may be a function, which is called for JSON alone.

    >>> with figures(True) as show:
    ...     print("This goes to standard error.")
    ...     show({"loss": float("nan"), "images": 8}, "8 images")
    {
      "loss": null,
      "images": 8
    }
    """
    output = sys.stdout

    def show(found: Any, text: object | None) -> None:
        from json import dumps

        from snowmelt.json_files import plain

        if as_json:
            text = dumps(plain(found() if callable(found) else found), indent=2, default=str)
        if text is not None:
            print(text, file=output, flush=True)

    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield show
