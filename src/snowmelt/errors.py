"""The error for input that the user can fix."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["InputError", "as_input_errors", "optional"]


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


def optional(module: str, needed_by: str, extra: str) -> Any:
    """Import a module of a library that only one part of snowmelt needs.

    Args:
        module: its full name.
        needed_by: that part, for the message.
        extra: what installs the library.

    Raises:
        InputError: it is not installed, or does not work with what is.

    >>> optional("no_such_library.part", "the format x", "formats")
    Traceback (most recent call last):
    snowmelt.errors.InputError: the format x needs no_such_library (...): pip install
    'snowmelt[formats]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise InputError(f"{needed_by} needs {library} ({error}): pip install 'snowmelt[{extra}]'") from error
