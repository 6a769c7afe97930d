"""Errors of a command: one message and an exit code."""

from __future__ import annotations

import errno
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from snowmelt.errors import InputError, as_input_errors
from snowmelt.text import shortened

__all__ = ["exit_codes", "user_errors"]

FAILED, BAD_INPUT = 1, 2
LONGEST_LINE = 500  # characters; a value that a message quotes may have any length


@contextmanager
def exit_codes(after_full_disk: str = "run the same command again") -> Iterator[None]:
    """Turn an error that the user can fix into one message and exit code 2, and Ctrl-C into 130.

    A full disk and numbers that are not finite any more are one message too, with exit code 1. Any other
    error is a bug or a failure of the machine. Its traceback is shown, and Python exits with 1.

    Args:
        after_full_disk: what to do when there is room again.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        said: set[str] = set()

        def show(message: Warning | str, *_: object, **__: object) -> None:
            if str(message) not in said:  # images that are opened twice are warned about once
                said.add(str(message))
                typer.echo(f"Warning: {message}", err=True)

        warnings.showwarning = show
        try:
            yield
        except EOFError as error:  # click would say "Aborted!" and nothing else
            typer.echo(f"Error: a file ends too early ({error}): copy or make it again", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            typer.echo("Interrupted.", err=True)
            # As shells have it: 128 and the number of the signal, which is 2 for Ctrl-C
            raise typer.Exit(128 + getattr(error, "signum", signal.SIGINT)) from None
        except typer.Exit:  # of a command in a command, which has said all
            raise
        except Exception as error:
            if _is_full_disk(error):
                typer.echo(f"Error: the disk is full. Make room, and {after_full_disk}.", err=True)
                raise typer.Exit(FAILED) from error
            if not isinstance(error, InputError | FloatingPointError):
                raise
            lines = [shortened(line, LONGEST_LINE) for line in str(error).split("\n")]
            typer.echo("\n".join(["Error: " + lines[0], *lines[1:]]), err=True)
            raise typer.Exit(BAD_INPUT if isinstance(error, InputError) else FAILED) from error


def _is_full_disk(error: BaseException) -> bool:
    """Return whether a full disk or a used up quota lies behind an error: torch raises others on top."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in seen)


@contextmanager
def user_errors() -> Iterator[None]:
    """Do the same, and treat the library's ValueErrors and TypeErrors as errors of the user's input."""
    with exit_codes(), as_input_errors():
        yield
