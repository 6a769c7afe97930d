"""What a network will see of the images of a run, or of a folder: what ``snowmelt data`` shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from snowmelt.errors import InputError
from snowmelt.studio.place import Place
from snowmelt.studio.runs import find_runs

if TYPE_CHECKING:
    from snowmelt.data.survey import Survey

__all__ = ["described", "lines", "look", "sources"]

WITHOUT_FILES = ("digits", "digits:train", "digits:test")  # which come with a library
CONFIGS = (".yaml", ".yml")


def sources(place: Place) -> list[tuple[str, str]]:
    """Return what can be looked at: what a choice calls it, and its name on the page."""
    configs = {run.name: run.config for run in find_runs(place.root).values() if run.config is not None}
    of_runs = [
        (f"images of {name}", config.relative_to(place.folder).as_posix()) for name, config in configs.items()
    ]
    return [*of_runs, *((name, name) for name in WITHOUT_FILES)]


def described(place: Place, source: str | None) -> str:
    """Return a source as a command takes it.

    Raises:
        InputError: it lies outside the place, or there is none.
    """
    if not (source := (source or "").strip()):
        raise InputError("choose a run, or type the path of a folder of images")
    if source in WITHOUT_FILES:
        return source
    try:
        place.path(source)
    except InputError:
        whole, colon, part = source.rpartition(":")
        if not colon:
            raise
        place.path(whole)
        return f"{place.shown(whole)}:{part}"
    return str(place.shown(source))


def look(place: Place, source: str, tell: Callable[[tuple[int, int]], None]) -> Survey:
    """Open all images, and return what there is to see.

    Args:
        place: what the page may see.
        source: as `described` returns it.
        tell: called with how many images of how many were looked at; what it raises ends the work.

    Raises:
        InputError: the images lie outside the place, or cannot be read.
    """
    import torch

    from snowmelt.config import load_config
    from snowmelt.data.survey import survey
    from snowmelt.training.data import training_data
    from snowmelt.training.proposal import as_they_are

    quiet = "data.loading.cache=none"  # nothing is written anywhere
    if source.endswith(CONFIGS):
        config = load_config(source, ["mode=train", quiet])
        for images in (config.data.paths.train, config.data.paths.val):
            _check_inside(place, images)
    else:
        _check_inside(place, source)
        config = as_they_are(source, [quiet])
    data = training_data(config, torch.device("cpu"))
    return survey(data, lambda done, total: tell((done, total)))


def lines(source: str) -> str:
    """Return Python lines that print the same tables."""
    is_config = source.endswith(CONFIGS)
    module, function = ("config", "load_config") if is_config else ("training.proposal", "as_they_are")
    return f"""\
import torch
from snowmelt.{module} import {function}
from snowmelt.data.survey import survey
from snowmelt.training.data import training_data

print(survey(training_data({function}({source!r}), torch.device("cpu"))))
"""


def _check_inside(place: Place, images: str | None) -> None:
    """Raise InputError if images, or one of the files that a list of them names, lie outside the place."""
    from snowmelt.formats import Division, open_images
    from snowmelt.formats.division import is_division
    from snowmelt.formats.file_source import FileSource

    if images is None or images in WITHOUT_FILES:
        return
    path = Path(images if Path(images).exists() else images.rpartition(":")[0] or images)
    _expect_inside(place, path)
    if is_division(path):
        _check_inside(place, Division.read(path).data)
    elif isinstance(opened := open_images(images), FileSource):
        for file in opened.files:
            _expect_inside(place, file)


def _expect_inside(place: Place, path: Path) -> None:
    if not path.resolve().is_relative_to(place.root):
        raise InputError(
            f"{path} lies outside {place.given}, and the studio reads only what is below it: start it on a "
            "folder that holds the images, too"
        )
