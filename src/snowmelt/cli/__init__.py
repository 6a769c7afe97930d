"""The command line, ``snowmelt``: one file for each command, and `main`, which lists them."""

from snowmelt.cli.main import app

__all__ = ["app"]
