"""The command line, ``snowmelt``: a file for each group of commands, and `main`, which puts them together."""

from snowmelt.cli.main import app

__all__ = ["app"]
