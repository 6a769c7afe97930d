"""A generation job: any number of images in one folder, in shards, stopped and started at will.

Image i is a function of the checkpoint, the plan, the guidance, label i and seed i, and of nothing else. So
nothing has to be remembered to go on: a shard whose files are there is done, and any process may make any
shard that is not.

    job = Job(sampler, images, writer, folder, identity)
    job.prepare()     is the folder free, or this job's own?
    job.estimate()    what will the rest of it take?
    job.run()         make what is missing
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from snowmelt.denoisers.guidance import network_evaluations
from snowmelt.errors import InputError
from snowmelt.files import remove_leftovers
from snowmelt.formats import GRID_NAME, LABELS_NAME, WRITERS, Writer, write_grid, write_labels
from snowmelt.generation.manifest import NAME, differences, read_manifest, write_manifest
from snowmelt.generation.team import ALONE, Team
from snowmelt.images import to_uint8
from snowmelt.plans import Plan
from snowmelt.progress import progress
from snowmelt.sampling.memory import state_bytes, synchronize, used_bytes
from snowmelt.sampling.sampler import DiffusionSampler

__all__ = ["Estimate", "Images", "Job", "auto_shard_size", "grid_step"]

GRID_LIMIT = 400  # a picture of more is no longer looked at
SHARDS_WANTED = 16  # enough to share among processes and to lose little when one is stopped
LARGEST_SHARD = 1000


class Images(NamedTuple):
    """Which images, and how: image i has ``class_labels[i]`` and ``seeds[i]``.

    Attributes:
        class_labels: one an image, or None for an unconditional model.
        seeds: one an image.
        guidance_scale: as for `DiffusionSampler.sample`, and so are the next two.
        use_ema: sample with averaged weights.
        batch_size: a number, or ``"auto"``.
    """

    class_labels: Sequence[int] | None
    seeds: Sequence[int]
    guidance_scale: float = 0.0
    use_ema: bool = True
    batch_size: int | Literal["auto"] = "auto"


class Estimate(NamedTuple):
    """What a job will take, from a trial of two evaluations.

    Attributes:
        nfe: evaluations of the denoiser an image.
        evaluations: of a network an image: more than `nfe` where guidance needs a second one.
        batches: how many batches are still to be made, by all processes.
        batch_size: images in each.
        images: how many images are still to be made.
        seconds: until they are, if nothing else runs; the writing of files not counted.
        bytes: of memory at the peak, in each process.
    """

    nfe: int
    evaluations: int
    batches: int
    batch_size: int
    images: int
    seconds: float
    bytes: int


def auto_shard_size(num_samples: int, micro_batch: int) -> int:
    """Return the size of the pieces that are finished, or lost, as a whole.

    It is a function of the job, not of the machine, for it decides which image is in which file.

    >>> auto_shard_size(100, 16), auto_shard_size(10_000, 16), auto_shard_size(50_000, 16)
    (16, 640, 992)
    """
    wanted = ceil(num_samples / (SHARDS_WANTED * micro_batch))
    return micro_batch * max(1, min(wanted, LARGEST_SHARD // micro_batch))


def grid_step(num_samples: int) -> int:
    """Return n so that a picture of every n-th image is small enough to be looked at.

    >>> grid_step(100), grid_step(50_000)
    (1, 125)
    """
    return ceil(num_samples / GRID_LIMIT)


@dataclass(frozen=True)
class Job:
    """Images to be made in a folder.

    Args:
        sampler: makes them.
        images: which ones.
        writer: writes them; None for a job that is only looked at, as a grid.
        folder: where.
        identity: everything that decides a byte, as JSON can hold it.
        shard_size: images in a shard.
        arguments: how it was asked for, for people.
        class_names: captions of the grid.
        grid_nrow: images in a row of the grid; None for no grid.
        team: the processes that share it.
        quiet: show no progress.
    """

    sampler: DiffusionSampler
    images: Images
    writer: Writer | None
    folder: Path
    identity: Mapping[str, Any]
    shard_size: int = LARGEST_SHARD
    arguments: Mapping[str, Any] = field(default_factory=dict)
    class_names: Sequence[str] | None = None
    grid_nrow: int | None = None
    team: Team = ALONE
    quiet: bool = False

    @property
    def num_samples(self) -> int:
        """How many images the whole job has."""
        return len(self.images.seeds)

    @property
    def shards(self) -> int:
        """How many shards they are in."""
        return ceil(self.num_samples / self.shard_size)

    def check_writable(self) -> None:
        """Raise InputError where nothing could be written to the folder; leave no trace there."""
        folder = self.folder.absolute()
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
        try:
            with TemporaryFile(dir=nearest):
                pass
        except OSError as error:
            raise InputError(
                f"{self.folder} cannot be written to ({nearest}: {error.strerror}): take another output "
                "folder"
            ) from error

    def prepare(self, overwrite: bool = False) -> None:
        """Check that the folder is free, or this job's own.

        Args:
            overwrite: remove what another job has written there.

        Raises:
            InputError: the folder holds images that were made in another way, or files of unknown origin.
        """
        self.team.agree(self._clear if overwrite else self._check_folder)

    def pending(self) -> list[int]:
        """Return the shards that are still to be made, by all processes together."""
        writer = self.writer
        if writer is None:
            return list(range(self.shards))
        return self.team.agree(lambda: [shard for shard in range(self.shards) if writer.missing(shard)])

    def estimate(self) -> Estimate:
        """Try two evaluations and return what the rest of the job will take."""
        sizes = [len(self._indices(shard)) for shard in self.pending()]
        plan, shape = self.sampler.plan, self.sampler.model.image_shape
        batch_size = self._batch_size()
        seconds = self._trial()  # before the memory is looked at
        evaluations = self._evaluations(plan)
        calls = sum(ceil(size / self.sampler.micro_batch) for size in sizes)
        held = batch_size * state_bytes(plan, shape) + self.shard_size * prod(shape)
        return Estimate(
            nfe=plan.nfe,
            evaluations=evaluations,
            batches=sum(ceil(size / batch_size) for size in sizes),
            batch_size=batch_size,
            images=sum(sizes),
            seconds=calls * evaluations * seconds / self.team.size,
            bytes=used_bytes(self.sampler.device) + held,
        )

    def run(self) -> None:
        """Make what is missing, then the list, the picture and the final manifest."""
        began, started = time.perf_counter(), datetime.now(UTC)
        pending = self.pending()
        expected = self.estimate().seconds if pending else 0.0
        self.team.agree(lambda: self._write_manifest("running"))
        images = self._make(pending[self.team.rank :: self.team.size])
        self.team.wait()
        this_run = {
            "started": started.isoformat(timespec="seconds"),
            "processes": self.team.size,
            "images": sum(len(self._indices(shard)) for shard in pending),
            "seconds": round(time.perf_counter() - began, 2),
            "expected_seconds": round(expected, 2),
        }
        self.team.agree(lambda: self._finish(images, this_run))

    def _make(self, shards: Sequence[int]) -> Tensor | None:
        """Make and write some shards; return their images only if there is no writer."""
        batch_size = self._batch_size() if shards else 1
        total = sum(len(self._indices(shard)) for shard in shards)
        single = total <= batch_size
        show = not self.quiet and self.team.rank == 0
        what = "Generating" if self.team.size == 1 else f"Generating (1 of {self.team.size} processes)"
        kept = []
        with progress(None, what, show=show and not single, total=total, unit="image") as bar:
            for shard in shards:
                batches = []
                for batch in self._stream(self._indices(shard), batch_size, show and single):
                    batches.append(batch)
                    bar.update(len(batch))
                if self.writer is not None:
                    self.writer.write(shard, torch.cat(batches))
                else:
                    kept += batches
        return torch.cat(kept) if kept else None

    def _stream(self, indices: range, batch_size: int, show: bool) -> Iterator[Tensor]:
        """Yield the finished images of `indices`, uint8 on the CPU, batch by batch."""
        part = slice(indices.start, indices.stop)
        labels = self.images.class_labels[part] if self.images.class_labels is not None else None
        batches = self.sampler.stream(
            len(indices),
            labels,
            self.images.guidance_scale,
            self.images.use_ema,
            show,
            seeds=self.images.seeds[part],
            batch_size=batch_size,
        )
        for batch in batches:
            try:
                yield to_uint8(batch).cpu()
            except ValueError as error:
                raise InputError(f"{error}; take an earlier checkpoint, or another plan") from error

    def _finish(self, images: Tensor | None, this_run: Mapping[str, Any]) -> None:
        labels = self.images.class_labels
        if self.writer is not None:
            self.writer.finish()
            write_labels(self.writer)
        if self.grid_nrow is not None:
            if self.writer is not None:
                shown = range(0, self.num_samples, grid_step(self.num_samples))
                images = self.writer.written().take(shown)
                labels = [labels[index] for index in shown] if labels is not None else None
            if images is not None:
                write_grid(images, labels, self.folder, self.grid_nrow, self.class_names)
        remove_leftovers(self.folder)
        self._write_manifest("complete", this_run)

    def _write_manifest(self, status: str, *runs: Mapping[str, Any]) -> None:
        before = read_manifest(self.folder) or {}
        write_manifest(
            self.folder,
            {
                "status": status,
                "identity": self.identity,
                "arguments": self.arguments,
                "runs": [*before.get("runs", []), *runs],
            },
        )

    def _check_folder(self) -> None:
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

    def _clear(self) -> None:
        """Remove what a job has written in the folder, by its own account, and nothing else."""
        if not self.folder.is_dir():
            return
        with suppress(InputError):  # a broken manifest goes with the rest
            manifest = read_manifest(self.folder)
            if manifest is not None and (files := manifest["identity"]["files"]):
                _writer_of(self.folder, **files).clear()
        if self.writer is not None:
            self.writer.clear()
        for name in (NAME, GRID_NAME, LABELS_NAME):
            (self.folder / name).unlink(missing_ok=True)

    def _indices(self, shard: int) -> range:
        return range(self.num_samples)[shard * self.shard_size : (shard + 1) * self.shard_size]

    def _batch_size(self) -> int:
        size = self.images.batch_size
        return min(
            self.sampler.auto_batch_size() if size == "auto" else size, self.shard_size, self.num_samples
        )

    def _evaluations(self, plan: Plan) -> int:
        return network_evaluations(plan, self.sampler.guidance, self.images.guidance_scale)

    def _trial(self) -> float:
        """Return the seconds that one evaluation of a micro-batch takes, from two rows of the plan."""
        count = self.sampler.micro_batch
        x = torch.zeros(count, *self.sampler.model.image_shape, device=self.sampler.device)
        labels = [self.images.class_labels[0]] * count if self.images.class_labels is not None else None
        states = self.sampler.run(
            self.sampler.plan, x, labels, self.images.guidance_scale, self.images.use_ema
        )
        moments = [time.perf_counter()]
        with closing(states):
            for _ in islice(states, 2):
                synchronize(self.sampler.device)
                moments.append(time.perf_counter())
        # The first call is slow everywhere; the last one counts
        row = len(moments) - 2
        plan = self.sampler.plan
        timed = Plan((plan.rows[row],), plan.levels[row + 1], plan.quantity)
        return (moments[-1] - moments[-2]) / self._evaluations(timed)


def _writer_of(
    folder: Path, *, format: str, num_samples: int, num_classes: int | None, **options: Any
) -> Writer:
    """Return a writer that clears what a manifest describes: for that, classes and seeds do not matter."""
    labels = None if num_classes is None else [0] * num_samples
    return WRITERS[format](folder, range(num_samples), labels, num_classes=num_classes, **options)
