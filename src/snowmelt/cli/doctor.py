"""``snowmelt doctor``: what this installation and this machine can do, and what stands in the way."""

from __future__ import annotations

from snowmelt.cli.errors import exit_codes
from snowmelt.cli.figures import AsJson, figures
from snowmelt.errors import InputError
from snowmelt.text import counted

__all__ = ["doctor_command"]


def doctor_command(as_json: AsJson = False) -> None:
    """Look for what is missing or in the way: versions, devices, precision, libraries and folders.

    The exit code is 0 if there is no problem, and 2 if there is. A library of an extra may be missing.
    """
    with exit_codes(), figures(as_json) as show:
        from snowmelt.diagnosis.machine import examine

        found = examine()
        show(found.to_dict(), found)
        if found.problems:
            raise InputError(f"{counted(len(found.problems), 'problem')}: see above")
