"""What the page may see: one folder, or one checkpoint; and the few models that are kept in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from snowmelt.checkpoint_header import may_be_checkpoint
from snowmelt.errors import InputError
from snowmelt.text import shortened

if TYPE_CHECKING:
    from snowmelt.plans import Method
    from snowmelt.sampling import DiffusionSampler

__all__ = ["Chosen", "Loaded", "Place"]

DIFFUSERS = "model_index.json"  # in the folder of a pipeline
KEPT = 3  # models


class Chosen(NamedTuple):
    """A method that the page names.

    Attributes:
        method: None for the checkpoint's own.
        text: how a command says it; "" for the checkpoint's own.
    """

    method: Method | None = None
    text: str = ""


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to sample.

    Attributes:
        place: where it is from.
        name: what the page calls its checkpoint.
        path: the checkpoint as a command names it.
        digest: of the checkpoint.
        class_names: of the classes, if they are known.
        method: the checkpoint's own, if it states one.
        averaged: whether the model holds the averaged weights.
        base: a sampler of the model, by the checkpoint's method. It holds its weights for good, so that
            several may sample at the same time.
    """

    place: Place
    name: str
    path: Path
    digest: str
    class_names: Sequence[str] | None
    method: Method | None
    averaged: bool
    base: DiffusionSampler

    def chosen(self, text: str | None, steps: int = 0) -> Chosen:
        """Return the method that a text says, as `Place.chosen`; "" is the checkpoint's own."""
        return self.place.chosen(text, steps, self.method)

    def sampler(self, method: Method | str | None = None, guidance_scale: float = 0.0) -> DiffusionSampler:
        """Return a sampler of the model; by its own method if `method` is None or "".

        Args:
            method: a method, or its text as for `chosen`.
            guidance_scale: for which ``auto`` looks for a tuned plan.
        """
        from snowmelt.sampling import DiffusionSampler

        chosen = self.chosen(method).method if isinstance(method, str) else method
        if chosen is None:
            return self.base
        if not chosen.auto:
            return self.base.with_method(chosen)
        return DiffusionSampler.from_pretrained(
            self.path, self.base.device, use_ema=self.averaged, method=chosen, guidance_scale=guidance_scale
        )


class Place:
    """The folder, or the one checkpoint, that the page may see. It is only read.

    Args:
        root: a folder, or a checkpoint: a file, or a pipeline's folder as diffusers writes it.
        device: where to compute, as for ``--device``.

    Raises:
        InputError: there is no such file or folder.
    """

    def __init__(self, root: str | os.PathLike[str], device: str = "auto") -> None:
        self.given = Path(root)
        if not self.given.exists():
            raise InputError(
                f"{self.given} does not exist: give a checkpoint, or a folder with some, such as outputs/"
            )
        self.root = self.given.resolve()
        self.device = device
        self._lock = Lock()
        self._models: OrderedDict[str, Loaded] = OrderedDict()  # by digest, the one used last at the end
        self._digests: dict[Path, tuple[object, str]] = {}

    @property
    def folder(self) -> Path:
        """The folder that names on the page are relative to."""
        return self.root if self.root.is_dir() else self.root.parent

    def path(self, name: str) -> Path:
        """Return the file or folder that the page calls `name`, a path relative to the folder.

        Raises:
            InputError: it lies outside, also by ``..`` or a link, or it does not exist.
        """
        try:
            path = (self.folder / name).resolve()
            there = path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # too long, links in a circle, a null byte
            raise InputError(f"{shortened(name)!r} is no path") from error
        if Path(name).is_absolute() or not path.is_relative_to(self.root):
            raise InputError(f"{name!r} lies outside {self.given}: the studio reads only what is below it")
        if not there:
            raise InputError(f"{name!r} is not below {self.given}: it may have been moved or removed")
        return path

    def shown(self, name: str) -> Path:
        """Return the path of `name` as the user would write it in a command."""
        return (self.given if self.root.is_dir() else self.given.parent) / name

    def chosen(self, text: str | None, steps: int = 0, own: Method | None = None) -> Chosen:
        """Return the method that a text says, as for ``snowmelt sample --method``.

        Args:
            text: None or "" is the checkpoint's own. A plan's file is named as the page names files.
            steps: in place of the method's own; 0 keeps them.
            own: the checkpoint's own method, if it has one.

        Raises:
            InputError, TypeError, ValueError: the text says no method, or its file lies outside.
        """
        from snowmelt.plans import Method, read_plan

        text = (text or "").strip()
        if not text and not steps:
            return Chosen()
        if text.endswith(".json"):
            method, text = Method(table=read_plan(self.path(text))), str(self.shown(text))
        else:
            method = Method.of(text or None, default=own)
        if not steps:
            return Chosen(method, text)
        method = method.changed(steps=steps)
        return Chosen(method, str(method))

    def checkpoints(self) -> list[str]:
        """Return the names of all checkpoints, the newest first."""
        found = [self.root] if self.root.is_file() else list(_checkpoints(self.root))
        inside = [path for path in found if path.resolve().is_relative_to(self.root)]
        inside.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.relative_to(self.folder).as_posix() for path in inside]

    def model(self, name: str | None) -> Loaded:
        """Return the model of a checkpoint; at most a few are kept, and each is read once.

        Raises:
            InputError: there is no such checkpoint, or it cannot be read.
        """
        if not name:
            raise InputError(f"there is no checkpoint below {self.given}: train one, or give another folder")
        path = self.path(name)
        with self._lock:
            stamp, digest = self._digests.get(path, (None, ""))
            if digest not in self._models or stamp != _stamp(path):
                stamp, loaded = _stamp(path), self._load(name, path)
                digest = loaded.digest
                self._digests[path] = (stamp, digest)
                self._models[digest] = loaded
            self._models.move_to_end(digest)
            while len(self._models) > KEPT:
                self._models.popitem(last=False)
            return self._models[digest]

    def _load(self, name: str, path: Path) -> Loaded:
        from snowmelt.device import resolve_device
        from snowmelt.models import Checkpoint
        from snowmelt.sampling import DiffusionSampler

        checkpoint = Checkpoint.read(path)
        sampler = DiffusionSampler.from_pretrained(checkpoint, resolve_device(self.device), use_ema=False)
        averaged = checkpoint.averaged(sampler.model, sampler.device) if checkpoint.ema is not None else None
        if averaged is not None:
            averaged.apply_shadow()
        sampler.networks().eval()
        return Loaded(
            place=self,
            name=name,
            path=self.shown(name),
            digest=checkpoint.digest,
            class_names=checkpoint.class_names,
            method=checkpoint.method,
            averaged=averaged is not None,
            base=sampler,
        )


def _checkpoints(root: Path) -> Iterator[Path]:
    """Yield the checkpoints below a folder; a pipeline's folder is one."""
    for folder, folders, files in os.walk(root):
        if DIFFUSERS in files:
            folders.clear()
            yield Path(folder)
            continue
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (path for each in files if may_be_checkpoint(path := Path(folder, each)))


def _stamp(path: Path) -> object:
    """Return what changes when a checkpoint is written anew."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(file, (status := file.stat()).st_mtime_ns, status.st_size) for file in files]
