"""``python -m src.main CONFIG``: the same as ``snowmelt run CONFIG``, from the root of the repository."""

import sys

from snowmelt.cli import app

if __name__ == "__main__":
    app(["run", *sys.argv[1:]], prog_name="python -m src.main")
