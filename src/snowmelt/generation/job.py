"""A generation job: any number of images in one folder, in shards. It can be stopped and started at will.

Image i is a function of the model, the plan, the guidance, label i and seed i, and of nothing else. So a job
has nothing to remember: a shard whose files exist is done, and any process may make any other shard.

    job = Job(sampler, request, folder, writer)
    job.check()       can the folder be used?
    job.estimate()    what will the rest of it take?
    job.run()         make what is missing
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from snowmelt.differences import differences
from snowmelt.errors import InputError, as_input_errors
from snowmelt.files import check_writable, remove_leftovers
from snowmelt.formats import (
    GRID_NAME,
    LABELS_NAME,
    WRITERS,
    TensorSource,
    Writer,
    class_numbers,
    write_labels,
)
from snowmelt.generation.estimate import Estimate, estimate
from snowmelt.generation.manifest import NAME, read_manifest, write_manifest
from snowmelt.generation.team import ALONE, Team
from snowmelt.images import from_uint8, save_grid, to_uint8
from snowmelt.progress import progress
from snowmelt.sampling import DiffusionSampler, Request

__all__ = ["Job", "auto_shard_size", "grid_step"]

GRID_LIMIT = 400  # a picture of more images is too large to look at
SHARDS_WANTED = 16  # enough to share among processes, and little is lost when one is stopped
LARGEST_SHARD = 1000


def auto_shard_size(num_samples: int, micro_batch: int) -> int:
    """Return how many images are finished, or lost, together.

    It depends on the job and not on the machine, because it decides which image is in which file.

    >>> auto_shard_size(100, 16), auto_shard_size(10_000, 16), auto_shard_size(50_000, 16)
    (16, 640, 992)
    """
    wanted = ceil(num_samples / (SHARDS_WANTED * micro_batch))
    return micro_batch * max(1, min(wanted, LARGEST_SHARD // micro_batch))


def grid_step(num_samples: int) -> int:
    """Return n so that a picture of every n-th image is small enough to look at.

    >>> grid_step(100), grid_step(50_000)
    (1, 125)
    """
    return ceil(num_samples / GRID_LIMIT)


@dataclass(frozen=True)
class Job:
    """Images to be made in a folder.

    Args:
        sampler: makes them.
        request: which ones.
        folder: where they go.
        writer: writes them; None to draw only the grid.
        batch_size: images that are made together, or ``"auto"``.
        grid_nrow: images in a row of the grid; None for no grid.
        class_names: captions of the grid; None for the numbers of the classes.
        arguments: how the job was asked for; the manifest quotes it.
        overwrite: remove first what another job has written in the folder.
        team: the processes that share the job.
        quiet: show no progress.
    """

    sampler: DiffusionSampler
    request: Request
    folder: Path
    writer: Writer | None
    batch_size: int | Literal["auto"] = "auto"
    grid_nrow: int | None = None
    class_names: Sequence[str] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    overwrite: bool = False
    team: Team = ALONE
    quiet: bool = False

    @property
    def num_samples(self) -> int:
        """How many images the whole job has."""
        return len(self.request)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides a byte, as JSON can hold it."""
        files = self.writer.layout if self.writer is not None else None
        return {**self.sampler.identity(self.request), "files": files}

    def check(self) -> None:
        """Check everything that can fail, and leave no trace in the folder.

        Raises:
            InputError: the model cannot make such images; or the folder cannot be written to, holds images
                that were made in another way, or holds files of unknown origin.
        """
        with as_input_errors():
            self.sampler.check(self.request)
        self.team.agree(self._check_folder)

    def pending(self) -> list[int]:
        """Return the shards that are still to be made, by all processes together."""
        writer = self.writer
        if writer is None or self.overwrite:
            return list(range(writer.shards if writer is not None else 1))
        return self.team.agree(lambda: [each for each in range(writer.shards) if writer.missing(each)])

    def estimate(self) -> Estimate:
        """Try two evaluations and return what the rest of the job will take."""
        return self._estimate(self.pending())

    def run(self) -> None:
        """Make what is missing, then the list, the picture and the final manifest."""
        began, started = time.perf_counter(), datetime.now(UTC)
        if self.overwrite:
            self.team.agree(self._clear)
        pending = self.pending()
        expected = self._estimate(pending) if pending else None
        self.team.agree(lambda: self._write_manifest("running"))
        drawn = []
        for shard, images in self._made(pending[self.team.rank :: self.team.size]):
            if self.writer is not None:
                self.writer.write(shard, images)
            else:
                drawn.append(images)
        self.team.wait()
        this_run = {
            "started": started.isoformat(timespec="seconds"),
            "processes": self.team.size,
            "images": expected.images if expected else 0,
            "seconds": round(time.perf_counter() - began, 2),
            "expected_seconds": round(expected.seconds, 2) if expected else 0.0,
        }
        self.team.agree(lambda: self._finish(drawn, this_run))

    def _check_folder(self) -> None:
        check_writable(self.folder)
        if self.overwrite:
            return
        manifest = read_manifest(self.folder)
        if manifest is None:
            # a start that was stopped at once may have left the configuration
            if {path.name for path in self.folder.glob("[!.]*")} - {"config.yaml"}:
                raise InputError(
                    f"{self.folder} is not empty, and has no {NAME} that says what is in it: take another "
                    "output folder, or --overwrite"
                )
        elif lines := differences(manifest["identity"], self.identity):
            raise InputError(
                "\n  ".join([f"{self.folder} holds images that were made with other settings:", *lines])
                + "\nTake another output folder, the same settings to go on, or --overwrite to start anew"
            )

    def _shard(self, number: int) -> Request:
        if self.writer is None:  # the images of the grid are one shard
            return self.request
        indices = self.writer.indices(number)
        return self.request[indices.start : indices.stop]

    def _estimate(self, pending: Sequence[int]) -> Estimate:
        sizes = [len(self._shard(number)) for number in pending]
        return estimate(self.sampler, self.request, sizes, self._batch_size(), self.team.size)

    def _batch_size(self) -> int:
        size = self.sampler.auto_batch_size() if self.batch_size == "auto" else self.batch_size
        return min(size, len(self._shard(0)))

    def _made(self, shards: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Make some shards and yield each with its images, uint8 on the CPU."""
        if not shards:
            return
        batch_size, total = self._batch_size(), sum(len(self._shard(number)) for number in shards)
        show = not self.quiet and self.team.rank == 0
        several = total > batch_size  # a single batch shows its steps instead
        what = "Generating" if self.team.size == 1 else f"Generating (1 of {self.team.size} processes)"
        with progress(None, what, show=show and several, total=total, unit="image") as bar:
            for number in shards:
                images = []
                for batch in self.sampler.batches(
                    self._shard(number), show_progress=show and not several, batch_size=batch_size
                ):
                    images.append(to_uint8(batch).cpu())
                    bar.update(len(batch))
                yield number, torch.cat(images)

    def _finish(self, drawn: list[Tensor], this_run: Mapping[str, Any]) -> None:
        if self.writer is not None:
            self.writer.finish()
            write_labels(self.writer, self.class_names)
        if self.grid_nrow is not None:
            source = self.writer.written() if self.writer is not None else TensorSource(torch.cat(drawn))
            shown = range(0, len(source), grid_step(len(source)))
            labels = self.request.class_labels
            captions = None if labels is None else [self._caption(labels[index]) for index in shown]
            pictures = from_uint8(source.take(shown))
            save_grid(pictures, self.folder / GRID_NAME, nrow=self.grid_nrow, captions=captions)
        remove_leftovers(self.folder)
        self._write_manifest("complete", this_run)

    def _caption(self, label: int) -> str:
        return str(label) if self.class_names is None else self.class_names[label]

    def _write_manifest(self, status: str, *runs: Mapping[str, Any]) -> None:
        before = read_manifest(self.folder) or {}
        manifest = {
            "status": status,
            "identity": self.identity,
            "arguments": self.arguments,
            "runs": [*before.get("runs", []), *runs],
        }
        write_manifest(self.folder, manifest)

    def _clear(self) -> None:
        """Remove what a job has written in the folder, by its own account, and nothing else."""
        with suppress(InputError):  # a broken manifest goes with the rest
            manifest = read_manifest(self.folder)
            if manifest is not None and (files := manifest["identity"]["files"]) is not None:
                _writer_of(self.folder, files).clear()
        if self.writer is not None:
            self.writer.clear()
        for name in (NAME, GRID_NAME, LABELS_NAME):
            (self.folder / name).unlink(missing_ok=True)


def _writer_of(folder: Path, layout: Mapping[str, Any]) -> Writer:
    """Return a writer that clears the files of a manifest, for which seeds and classes do not matter."""
    count, names = layout["num_samples"], layout["class_names"]
    if names is None and layout.get("num_classes") is not None:  # of an older version
        names = class_numbers(layout["num_classes"])
    labels = None if names is None else [0] * count
    options = {"shard_size": layout["shard_size"], "class_names": names}
    return WRITERS[layout["format"]](folder, range(count), labels, **options)
