"""``python -m snowmelt``."""

from snowmelt.cli import app

app(prog_name="python -m snowmelt")
