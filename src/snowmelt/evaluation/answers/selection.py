"""Keep the generated images that are nearest to the real ones.

An image's distance to the real images is the distance to its k-th nearest one, as in precision and recall.
Outliers are far from all real images. Without them precision is higher; without too many images recall is
lower. A rule that decides the number of images is a function of its own, listed here by name.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.answers.nearest import nearest
from snowmelt.evaluation.features import Features
from snowmelt.evaluation.metrics.neighbours import MEMORY
from snowmelt.files import atomic_folder
from snowmelt.formats import ImageSource, Writer, class_numbers
from snowmelt.formats.class_folders import ClassFolderWriter
from snowmelt.formats.png import PngWriter
from snowmelt.images import encode_png
from snowmelt.json_files import Json, plain
from snowmelt.text import counted

__all__ = [
    "LIST_NAME",
    "SELECTIONS",
    "Selection",
    "check_new_folder",
    "check_rule",
    "select",
    "write_selection",
]

LIST_NAME = "selection.csv"
BATCH = 256


def top_k(distances: Tensor, count: float) -> int:
    """Keep this number of images."""
    if count < 1 or count != int(count):
        raise ValueError(f"top_k keeps a whole number of images, 1 or more, got {count}")
    return min(int(count), len(distances))


def percentile(distances: Tensor, percent: float) -> int:
    """Keep this percentage of the images, in (0, 100]; at least one."""
    if not 0 < percent <= 100:
        raise ValueError(f"percentile must lie in (0, 100], got {percent}")
    return max(1, round(len(distances) * percent / 100))


def threshold(distances: Tensor, most: float) -> int:
    """Keep all images up to this distance."""
    if not most >= 0:
        raise ValueError(f"threshold must be a distance >= 0, got {most}")
    return int((distances <= most).sum())


# From the distances (N,) and a value to the number of images that are kept, nearest first
SELECTIONS: dict[str, Callable[[Tensor, float], int]] = {
    "top_k": top_k,
    "percentile": percentile,
    "threshold": threshold,
}


@dataclass(frozen=True)
class Selection:
    """The generated images that are kept.

    Attributes:
        indices: of these images, the nearest first.
        distances: from each image to its k-th nearest real image.
        mode, value: the rule, a key of `SELECTIONS`, and its number.
        k: which neighbour.
        per_class: whether each image was compared with the real images of its class.
        n_generated: the number of images to choose from.
    """

    indices: list[int]
    distances: list[float] = field(repr=False)
    mode: str
    value: float
    k: int
    per_class: bool
    n_generated: int

    def __len__(self) -> int:
        return len(self.indices)

    def to_dict(self) -> Json:
        """Return it as plain values that JSON knows."""
        values: Json = plain(self)
        return values


def check_rule(mode: str, value: float) -> None:
    """Check that a rule makes sense.

    Raises:
        ValueError: there is no such mode, or the value is out of its range.
    """
    if mode not in SELECTIONS:
        raise ValueError(f"mode must be one of {', '.join(SELECTIONS)}, got {mode!r}")
    SELECTIONS[mode](torch.zeros(1), value)


def select(
    generated: Features,
    real: Features,
    mode: str,
    value: float,
    *,
    k: int = 3,
    per_class: bool = False,
    memory: int = MEMORY,
) -> Selection:
    """Choose the generated images that are nearest to the real ones.

    Args:
        generated: the images to choose from.
        real: k images or more; with `per_class`, of each class.
        mode: a key of `SELECTIONS`: ``top_k``, ``percentile`` or ``threshold``.
        value: the number of images, their percentage, or the largest distance.
        k: the neighbour whose distance counts.
        per_class: compare each image with the real images of its own class, and apply the rule to each class
            by itself.
        memory: bytes for a block of distances.

    Raises:
        ValueError: the mode is unknown, the value is out of its range, there are too few real images, or
            labels are missing.

    >>> real = Features(torch.arange(10.0)[:, None])
    >>> generated = Features(torch.tensor([[4.5], [30.0], [4.0], [9.9]]))
    >>> select(generated, real, "top_k", 2, k=1)
    Selection(indices=[2, 0], mode='top_k', value=2, k=1, per_class=False, n_generated=4)
    >>> select(generated, real, "threshold", 1.0, k=1).indices
    [2, 0, 3]
    """
    check_rule(mode, value)
    if per_class and (generated.labels is None or real.labels is None):
        raise ValueError("a selection per class needs the labels of the generated and of the real images")
    classes = sorted(set(generated.labels.tolist())) if per_class and generated.labels is not None else [None]
    found = [_kept(generated, real, label, SELECTIONS[mode], value, k, memory) for label in classes]
    indices = torch.cat([rows for rows, _ in found])
    distances = torch.cat([lengths for _, lengths in found])
    order = distances.argsort(stable=True)
    return Selection(
        indices[order].tolist(), distances[order].tolist(), mode, value, k, per_class, len(generated)
    )


def _kept(
    generated: Features,
    real: Features,
    label: int | None,
    rule: Callable[[Tensor, float], int],
    value: float,
    k: int,
    memory: int,
) -> tuple[Tensor, Tensor]:
    """Return indices and distances of the images of a class (None: of all) that are kept."""
    rows = torch.arange(len(generated))
    if label is not None and generated.labels is not None:
        rows = (generated.labels == label).nonzero().flatten().cpu()
        generated, real = generated.of_class(label), real.of_class(label)
        if len(real) < k:
            raise ValueError(
                f"class {label} has {counted(len(real), 'real image')}, too few for a {k}-th neighbour: give "
                "more, or a smaller k"
            )
    distances = nearest(generated, real, k, memory=memory).distances[:, -1].cpu()
    order = distances.argsort(stable=True)[: rule(distances, value)]
    return rows[order], distances[order]


def write_selection(selection: Selection, source: ImageSource, folder: str | Path) -> None:
    """Write the selected images and a list of them into a new folder that data loaders read.

    Labelled images go into a folder for each class, ``<class>/sample_0042.png`` for image 42 of the source.
    Others go into the folder itself. ``selection.csv`` lists them, the nearest first: index, distance, class
    and file. The folder appears when it is complete.

    Args:
        selection: of this source's images.
        source: the images.
        folder: must not exist, or be empty.

    Raises:
        InputError: the folder is not empty, or a class name cannot be a folder.
        ValueError: nothing is selected, or the selection belongs to another source.
    """
    folder = Path(folder)
    if not selection.indices:
        raise ValueError("the selection is empty, so there is nothing to write: choose a larger value")
    if len(source) != selection.n_generated:
        raise ValueError(
            f"the selection is of {counted(selection.n_generated, 'image')}, and {source.name} has "
            f"{len(source)}"
        )
    check_new_folder(folder)
    labels = source.labels.tolist() if source.labels is not None else [None] * len(source)
    with atomic_folder(folder) as place:
        writer = _writer(place, source)
        files = {index: writer.location(index) for index in selection.indices}
        for index, image in enumerate(chain.from_iterable(source.batches(BATCH))):
            if index in files:
                (place / files[index]).parent.mkdir(exist_ok=True)
                (place / files[index]).write_bytes(encode_png(image))
        for name in writer.class_names or ():
            (place / name).mkdir(exist_ok=True)  # an empty class keeps its number
        with (place / LIST_NAME).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["index", "distance", "class", "file"])
            for index, distance in zip(selection.indices, selection.distances, strict=True):
                table.writerow([index, distance, labels[index], files[index]])


def check_new_folder(folder: Path) -> None:
    """Check that a folder for the selection can be made.

    Raises:
        InputError: it is there already, and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not empty: give another folder, or remove it")


def _writer(folder: Path, source: ImageSource) -> Writer:
    """Return the writer that knows where an image belongs and whether its class can be a folder."""
    seeds = range(len(source))
    if source.labels is None:
        return PngWriter(folder, seeds, None, shard_size=1, class_names=None)
    labels = source.labels.tolist()
    names = source.class_names or class_numbers(max(labels) + 1)
    return ClassFolderWriter(folder, seeds, labels, shard_size=1, class_names=names)
