"""Errors of a command: one message and an exit code."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from snowmelt.errors import InputError, as_input_errors

__all__ = ["exit_codes", "user_errors"]

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn an error that the user can fix into one message and exit code 2, and Ctrl-C into 130.

    Any other error is a bug or a failure of the machine. Its traceback is shown, and Python exits with 1.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"Warning: {message}", err=True)
        try:
            yield
        except InputError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except EOFError as error:  # click would say "Aborted!" and nothing else
            typer.echo(f"Error: a file ends too early ({error}): copy or make it again", err=True)
            raise typer.Exit(BAD_INPUT) from error
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            typer.echo("Error: the disk is full. Make room, and run the same command again.", err=True)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt:
            typer.echo("Interrupted.", err=True)
            raise typer.Exit(INTERRUPTED) from None


@contextmanager
def user_errors() -> Iterator[None]:
    """Do the same, and treat the library's ValueErrors and TypeErrors as errors of the user's input."""
    with exit_codes(), as_input_errors():
        yield
