"""Which class of a file each class of a new model starts as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.text import counted, some

__all__ = ["Classes"]

MOST = 5  # names in a line


@dataclass(frozen=True)
class Classes:
    """The classes of a model and those of the file that it starts from.

    A class that the file does not know starts as its null class, which it was trained to take for any class.
    Without one, it starts as the mean of all classes. So does a null class that is added.

    Attributes:
        names: of the model's classes; empty without classes.
        there: of the file's.
        start: for each class of the model, the label in the file; None where it does not know it.
        null_there: whether the file has a null class.
        null: whether the model has one.

    >>> table = torch.tensor([[1.0], [3.0]])
    >>> classes = Classes(["dog", "bird"], ["cat", "dog"], [1, None], null_there=False, null=True)
    >>> classes.rows(table).flatten()
    tensor([3., 2., 2.])
    """

    names: Sequence[str]
    there: Sequence[str]
    start: Sequence[int | None]
    null_there: bool
    null: bool

    @classmethod
    def matched(
        cls,
        names: Sequence[str],
        there: Sequence[str],
        mapping: Mapping[str, str | int],
        *,
        null_there: bool,
        null: bool,
    ) -> Classes:
        """Match classes by name, but for those that `mapping` says: {new: old, by name or label}.

        Raises:
            InputError: a class of the mapping is unknown.
        """
        for new in mapping:
            _expect(new, names, "the data has no class")
        labels = {name: label for label, name in enumerate(there)}
        start = [_label(mapping[name], there) if name in mapping else labels.get(name) for name in names]
        return cls(names, there, start, null_there, null)

    def unknown(self, table: Tensor) -> Tensor:
        """Return the row of a class that the file does not know; its table is (classes, channels)."""
        return table[-1] if self.null_there else table.mean(0)

    def rows(self, table: Tensor) -> Tensor:
        """Return the model's table."""
        unknown = self.unknown(table)
        rows = [unknown if label is None else table[label] for label in self.start]
        return torch.stack(rows + [unknown] * self.null)

    def lines(self) -> list[str]:
        """Say what was done."""
        as_unknown = "the file's null class" if self.null_there else "the mean of the file's classes"
        if not self.names and not self.there:
            return []
        if not self.names:
            return [f"Classes: none now; all images start as {as_unknown}"]
        if not self.there:
            return [f"Classes: {some(self.names, MOST)}; all start alike, for the file knows none"]
        known = [(name, self.there[label]) for name, label in self._pairs() if label is not None]
        parts = {
            "kept by name": [new for new, old in known if new == old],
            "mapped": [f"{new} from {old}" for new, old in known if new != old],
            f"new, as {as_unknown}": [name for name, label in self._pairs() if label is None],
        }
        said = [f"{len(found)} {how} ({some(found, MOST)})" for how, found in parts.items() if found]
        if left := len(self.there) - len({label for label in self.start if label is not None}):
            said.append(f"{counted(left, 'class')} of the file left out")
        lines = [f"Classes: {'; '.join(said)}"]
        if self.null and not self.null_there:
            lines.append(f"A null class is added, which guidance needs; it starts as {as_unknown}")
        return lines

    def _pairs(self) -> list[tuple[str, int | None]]:
        return list(zip(self.names, self.start, strict=True))


def _label(old: str | int, there: Sequence[str]) -> int:
    """Return the label of a class of the file, which has a name or is a label already."""
    if isinstance(old, int) and 0 <= old < len(there):
        return old
    _expect(str(old), there, "the file has no class")
    return list(there).index(str(old))


def _expect(name: str, names: Sequence[str], problem: str) -> None:
    if name not in names:
        near = get_close_matches(name, names, n=3) or names
        raise InputError(f"training.init.classes: {problem} {name}; expected one such as {some(near, MOST)}")
