"""Which generated images to keep: those nearest to the real ones.

An image's distance to the real manifold is the distance to its k-th nearest real image (as the balls of
precision and recall are drawn). Outliers are far from all real images; to leave them out raises precision,
and lowers recall where it is overdone. A rule that says how many stay is a function of its own, listed here
by name.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.evaluation.metrics import Features
from snowmelt.evaluation.metrics.neighbours import MEMORY
from snowmelt.evaluation.nearest import nearest
from snowmelt.files import atomic_write
from snowmelt.formats import ImageSource, Writer, class_numbers
from snowmelt.formats.class_folders import ClassFolderWriter
from snowmelt.formats.png import PngWriter
from snowmelt.images import encode_png

__all__ = ["LIST_NAME", "SELECTIONS", "Selection", "select", "write_selection"]

LIST_NAME = "selection.csv"
BATCH = 256


def top_k(distances: Tensor, count: float) -> int:
    """The nearest so many."""
    if count < 1 or count != int(count):
        raise ValueError(f"top_k keeps a whole number of images, 1 or more, got {count}")
    return min(int(count), len(distances))


def percentile(distances: Tensor, percent: float) -> int:
    """The nearest so many percent, in (0, 100]; at least one image."""
    if not 0 < percent <= 100:
        raise ValueError(f"percentile must lie in (0, 100], got {percent}")
    return max(1, round(len(distances) * percent / 100))


def threshold(distances: Tensor, most: float) -> int:
    """All that are no further away than that."""
    if not most >= 0:
        raise ValueError(f"threshold must be a distance >= 0, got {most}")
    return int((distances <= most).sum())


# From the distances (N,) and a number to how many of the nearest images are kept
SELECTIONS: dict[str, Callable[[Tensor, float], int]] = {
    "top_k": top_k,
    "percentile": percentile,
    "threshold": threshold,
}


@dataclass(frozen=True)
class Selection:
    """The generated images that are kept.

    Attributes:
        indices: of them, the nearest first.
        distances: of each to its k-th nearest real image.
        mode, value: how they were chosen.
        k: which neighbour.
        per_class: whether each image was compared with the real ones of its class.
        n_generated: images that there were to choose from.
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

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values that JSON knows."""
        return {
            "mode": self.mode,
            "value": self.value,
            "k": self.k,
            "per_class": self.per_class,
            "n_generated": self.n_generated,
            "indices": list(self.indices),
            "distances": list(self.distances),
        }


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
        generated: to choose from.
        real: k images or more; with `per_class`, of each class.
        mode: a key of `SELECTIONS`: ``top_k``, ``percentile`` or ``threshold``.
        value: how many images, how many percent of them, or up to which distance.
        k: the neighbour whose distance counts.
        per_class: compare each image with the real ones of its own class, and apply the rule within each
            class, so that ``top_k`` keeps so many of every one.
        memory: bytes for a block of distances.

    Raises:
        ValueError: there is no such mode, the value is out of its range, there are too few real images, or
            labels are missing.

    >>> real = Features(torch.arange(10.0)[:, None])
    >>> generated = Features(torch.tensor([[4.5], [30.0], [4.0], [9.9]]))
    >>> select(generated, real, "top_k", 2, k=1)
    Selection(indices=[2, 0], mode='top_k', value=2, k=1, per_class=False, n_generated=4)
    >>> select(generated, real, "threshold", 1.0, k=1).indices
    [2, 0, 3]
    """
    if mode not in SELECTIONS:
        raise ValueError(f"mode must be one of {', '.join(SELECTIONS)}, got {mode!r}")
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
    """Return indices and distances of those of a class (None: of all) that are kept."""
    rows = torch.arange(len(generated))
    if label is not None and generated.labels is not None:
        rows = (generated.labels == label).nonzero().flatten().cpu()
        generated, real = generated.of_class(label), real.of_class(label)
        if len(real) < k:
            raise ValueError(
                f"class {label} has {len(real)} real images, too few for a {k}-th neighbour: give more, or a "
                "smaller k"
            )
    distances = nearest(generated, real, k, memory=memory).distances[:, -1].cpu()
    order = distances.argsort(stable=True)[: rule(distances, value)]
    return rows[order], distances[order]


def write_selection(selection: Selection, source: ImageSource, folder: str | Path) -> None:
    """Write the images that were kept, and a list of them, into a new folder that data loaders read.

    Labelled images go into a folder for each class, ``<class>/sample_0042.png`` for image 42 of the source;
    others into the folder itself. ``selection.csv`` lists them, the nearest first: index, distance, class and
    file. The folder appears when all of it is there.

    Args:
        selection: of this source's images.
        source: where they are.
        folder: must not be there yet, or be empty.

    Raises:
        InputError: the folder has something in it, or a class name cannot be a folder.
        ValueError: nothing is selected, or it was another source.
    """
    if not selection.indices:
        raise ValueError("the selection is empty, so there is nothing to write: choose a larger value")
    if len(source) != selection.n_generated:
        raise ValueError(
            f"the selection is of {selection.n_generated} images, and {source.name} has {len(source)}"
        )
    labels = source.labels.tolist() if source.labels is not None else [None] * len(source)
    with _new_folder(Path(folder)) as place:
        writer = _writer(place, source)
        chosen = set(selection.indices)
        for start, batch in _numbered(source):
            for index, image in enumerate(batch, start):
                if index in chosen:
                    path = place / writer.location(index)
                    with atomic_write(path) as file:
                        file.write(encode_png(image))
        for name in writer.class_names or ():
            (place / name).mkdir(exist_ok=True)  # an empty class keeps its number
        files = [writer.location(index) for index in selection.indices]
        _write_list(place / LIST_NAME, selection, [labels[index] for index in selection.indices], files)


def _writer(folder: Path, source: ImageSource) -> Writer:
    """Return the writer that knows where an image belongs and whether its class can be a folder."""
    seeds = range(len(source))
    if source.labels is None:
        return PngWriter(folder, seeds, None, shard_size=1, class_names=None)
    labels = source.labels.tolist()
    names = source.class_names or class_numbers(max(labels) + 1)
    return ClassFolderWriter(folder, seeds, labels, shard_size=1, class_names=names)


def _numbered(source: ImageSource) -> Iterator[tuple[int, Tensor]]:
    """Yield each batch with the index of its first image."""
    start = 0
    for batch in source.batches(BATCH):
        yield start, batch
        start += len(batch)


def _write_list(path: Path, selection: Selection, labels: list[int | None], files: list[str]) -> None:
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["index", "distance", "class", "file"])
        table.writerows(zip(selection.indices, selection.distances, labels, files, strict=True))


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the block ends, and vanishes if it raises."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} has something in it already: give a folder that is not there yet")
    temporary = folder.with_name(f".{uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
