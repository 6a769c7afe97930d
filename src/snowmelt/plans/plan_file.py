"""Plans as JSON files."""

from __future__ import annotations

from pathlib import Path

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.plans.plan import Plan

__all__ = ["read_plan", "write_plan"]

LARGEST = 100 * 2**20  # bytes; a thousand rows take half a million


def read_plan(path: str | Path) -> Plan:
    """Return the plan in a JSON file that `write_plan` or `Plan.to_json` wrote.

    Raises:
        InputError: the file is missing, or it holds something else.
    """
    try:
        if (size := Path(path).stat().st_size) > LARGEST:
            raise InputError(
                f"{path} has {size:,} bytes, and a plan has at most {LARGEST:,}: take another file"
            )
        return Plan.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} is {error}") from error


def write_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan as JSON, whole or not at all."""
    with atomic_write(path, "w") as file:
        file.write(plan.to_json() + "\n")
