"""The error that is the input's fault."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["InputError", "as_input_errors"]


class InputError(ValueError):
    """Something that was given cannot be used: its message says what, what was expected, and what to do.

    The command line shows it as one message and exits with 2; any other exception is a defect or a failure
    of the machine, and shows its traceback.
    """


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Turn what is said of an impossible argument or file into the input's error.

    >>> with as_input_errors():
    ...     int("many")
    Traceback (most recent call last):
    snowmelt.errors.InputError: invalid literal for int() with base 10: 'many'
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:  # not the input's fault
            raise
        raise InputError(str(error)) from error
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, InputError) else InputError(str(error)) from error
