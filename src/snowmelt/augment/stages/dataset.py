"""Data set: real and chosen images in folders, for the next training, and where each comes from."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator

from torch import Tensor

from snowmelt.augment.division import PARTS
from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.files import atomic_folder
from snowmelt.formats import ImageSource
from snowmelt.images import encode_png
from snowmelt.text import counted

__all__ = ["DATASET"]

LIST = "provenance.csv"


def _run(job: AugmentJob, anew: bool) -> str:
    folder = job.folder / "dataset"
    shutil.rmtree(folder, ignore_errors=True)
    judged, digest = job.read("judge"), job.checkpoint.digest
    chosen = judged["indices"]
    with atomic_folder(folder) as place:
        for part in PARTS:
            for name in job.class_names:
                (place / part / name).mkdir(parents=True)
        rows = []
        for part in PARTS:
            source = job.divided.part(part)
            for file, image, item in _named(job, source, part, "real"):
                (place / file).write_bytes(encode_png(image))
                rows.append([file, "real", item, ""])
        generated = job.generated.subset(chosen)
        for file, image, item in _named(job, generated, "train", "generated"):
            (place / file).write_bytes(encode_png(image))
            rows.append([file, "generated", item, digest])
        with (place / LIST).open("w", encoding="utf-8", newline="") as listed:
            table = csv.writer(listed, lineterminator="\n")
            table.writerow(["file", "origin", "source", "model"])
            table.writerows(rows)
    return f"{counted(len(rows), 'image')} in {folder}, {len(chosen):,} of them generated: {LIST} says which"


def _named(job: AugmentJob, source: ImageSource, part: str, origin: str) -> Iterator[tuple[str, Tensor, str]]:
    """Yield the file, the pixels and the origin of each image."""
    assert source.labels is not None  # checked when they were divided
    images = source.originals(range(len(source)))
    for index, (label, image, item) in enumerate(
        zip(source.labels.tolist(), images, source.items(), strict=True)
    ):
        yield f"{part}/{job.class_names[label]}/{origin}_{index:05d}.png", image, item


DATASET = Stage(
    "dataset",
    "images for the next training",
    decided_by=lambda job: (),
    forecast=lambda job: (
        "real and chosen images in folders of train, val and test, and a list of their origins"
    ),
    run=_run,
    command=lambda job: f"snowmelt data {job.folder / 'dataset'}:train",
)
