"""The errors that the user can fix: of input, and of a library that is not installed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["InputError", "MissingLibraryError", "as_input_errors", "optional", "require"]


class InputError(ValueError):
    """Something that was given cannot be used: its message says what, what was expected, and what to do.

    The command line shows it as one message and exits with 2; any other exception is a defect or a failure
    of the machine, and shows its traceback.
    """


class MissingLibraryError(InputError, ImportError):
    """A library that only one part of snowmelt needs is missing: the message says what installs it."""


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


def require(*libraries: str, needed_by: str, extra: str) -> None:
    """Raise an error if a library that only one part of snowmelt needs is missing; import nothing.

    Args:
        libraries: their modules.
        needed_by: that part, for the message.
        extra: what installs them.

    Raises:
        MissingLibraryError: one of them is not installed.

    >>> require("torch", "no_such_library", needed_by="the format x", extra="formats")
    Traceback (most recent call last):
    snowmelt.errors.MissingLibraryError: the format x needs no_such_library: pip install 'snowmelt[formats]'
    """
    for library in libraries:
        if find_spec(library) is None:
            raise MissingLibraryError(f"{needed_by} needs {library}: pip install 'snowmelt[{extra}]'")


def optional(module: str, needed_by: str, extra: str) -> Any:
    """Import a module of a library that only one part of snowmelt needs, or a part of snowmelt that needs it.

    Args:
        module: its full name.
        needed_by: that part, for the message.
        extra: what installs the library.

    Raises:
        MissingLibraryError: it is not installed, or does not work with what is.

    >>> optional("no_such_library.part", "the format x", "formats")
    Traceback (most recent call last):
    snowmelt.errors.MissingLibraryError: the format x needs no_such_library (...): pip install
    'snowmelt[formats]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        library = (error.name or module).partition(".")[0]
        if library == "snowmelt":  # a defect
            raise
        raise MissingLibraryError(
            f"{needed_by} needs {library} ({error}): pip install 'snowmelt[{extra}]'"
        ) from error
