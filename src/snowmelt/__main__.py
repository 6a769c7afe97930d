"""The command ``snowmelt``, which is also ``python -m snowmelt``."""

from __future__ import annotations

import sys

from snowmelt.errors import MissingLibraryError, require

__all__ = ["LIBRARIES", "main"]

LIBRARIES = ("PIL", "filelock", "omegaconf", "packaging", "pydantic", "typer", "yaml")


def main(name: str = "snowmelt") -> None:
    """Run the command line, or say in a sentence that it is not installed."""
    try:
        require(*LIBRARIES, needed_by="the command line", extra="cli")
    except MissingLibraryError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    from snowmelt.cli import app

    app(prog_name=name)


if __name__ == "__main__":
    main("python -m snowmelt")
