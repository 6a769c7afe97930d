"""Turn texts of the command line into values, or raise an error before any work is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from snowmelt.errors import InputError
from snowmelt.files import check_writable
from snowmelt.text import counted

__all__ = ["expect_suffix", "integers", "is_config", "label_each", "numbers"]

T = TypeVar("T")


def expect_suffix(out: Path, *suffixes: str) -> str:
    """Return the suffix of the file to write, or raise an error if it cannot be, or not one of `suffixes`.

    >>> expect_suffix(Path("a.PNG"), ".png", ".gif")
    '.png'
    """
    suffix = out.suffix.lower()
    if suffix not in suffixes:
        raise InputError(f"--out is a file *{' or *'.join(suffixes)} here, got {out.name!r}")
    if out.is_dir():
        raise InputError(f"--out is a file, but {out} is a folder: give another name")
    check_writable(out.parent)
    return suffix


def is_config(source: Path) -> bool:
    """Return whether a source is a configuration, ``-`` for an empty one; else it is images.

    >>> is_config(Path("run.yaml")), is_config(Path("-")), is_config(Path("photos"))
    (True, True, False)
    """
    return str(source) == "-" or source.suffix.lower() in (".yaml", ".yml")


def integers(text: str | None, option: str) -> list[int] | None:
    """Return the numbers in ``"1,2,3"``; None stays None.

    >>> integers("3,5", "--seeds")
    [3, 5]
    """
    return _listed(text, option, int, "integers, such as 1,2,3")


def numbers(text: str, option: str) -> list[float]:
    """Return the numbers in ``"0,0.5,1"``.

    >>> numbers("0,0.5", "--strength")
    [0.0, 0.5]
    """
    return _listed(text, option, float, "numbers, such as 0.2,0.5") or []


def _listed(text: str | None, option: str, kind: Callable[[str], T], expected: str) -> list[T] | None:
    if text is None:
        return None
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} takes {expected}; got {text!r}") from None


def label_each(labels: list[int] | None, count: int, option: str) -> list[int] | None:
    """Return `count` labels; a single label is repeated.

    >>> label_each([3], 2, "--class")
    [3, 3]
    """
    if labels is None or len(labels) == count:
        return labels
    if len(labels) == 1:
        return labels * count
    raise InputError(
        f"{option} takes one label, or one for each image; got {len(labels)} for {counted(count, 'image')}"
    )
