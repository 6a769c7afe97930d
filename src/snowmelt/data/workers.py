"""Processes that load images, kept from one epoch to the next."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from snowmelt.data.transforms import Augmented
from snowmelt.errors import InputError

if TYPE_CHECKING:
    from snowmelt.data.loader import EpochBatches

__all__ = ["Batch", "Batches", "Workers"]

Batch = tuple[Tensor, Tensor]
Key = tuple[int, int, list[int]]  # what a worker is asked for: seed, epoch and the images of a batch


class Batches:
    """Batches of images and labels, which each iteration loads anew.

    Its length is their number.
    """

    def __init__(self, workers: Workers, wanted: EpochBatches) -> None:
        self.workers, self.wanted = workers, wanted

    def __len__(self) -> int:
        return len(self.wanted)

    def __iter__(self) -> Iterator[Batch]:
        return self.workers.load(self.wanted)


class Workers:
    """Loads the batches of a data set, in processes that the first batch starts and `close` ends.

    Starting a process takes longer than loading a batch, so they wait for the next epoch. They end as well
    when this object is gone, when Python exits, and after any error.

    Args:
        dataset: images and labels, by their numbers.
        augment: random changes of an image, which depend on seed, epoch and its number; None for none.
        num_workers: how many processes; with 0, this process loads the images.
        pin_memory: copy faster to a CUDA device.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        augment: Callable[[Tensor], Tensor] | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._keys = _Keys()
        self._options: dict[str, Any] = {
            "dataset": _ByKey(dataset, augment),
            "sampler": self._keys,
            "batch_size": None,  # a key stands for a whole batch
            "collate_fn": _collate,
            "num_workers": num_workers,
            "pin_memory": pin_memory,
            "persistent_workers": num_workers > 0,
            "worker_init_fn": _leave_signals_to_the_main_process,
        }
        self._loader: DataLoader[Batch] | None = None
        self._running: Any = None  # torch's iterator, which holds the processes
        self._turn = object()  # of the iteration that has the processes

    def load(self, wanted: EpochBatches) -> Iterator[Batch]:
        """Yield batches. Where another iteration begins in between, this one takes the processes back."""
        done = 0
        while done < len(wanted):
            turn = self._turn = object()
            for batch in self._loaded(wanted.after(done)):
                yield batch
                done += 1
                if self._turn is not turn:
                    break

    def close(self) -> None:
        """End the processes, if there are any. The next batch starts new ones."""
        running, self._running, self._loader, self._turn = self._running, None, None, object()
        try:
            if end := getattr(running, "_shutdown_workers", None):
                end()
        finally:
            # Python waits for them at its exit, after a signal that they ignore: none may be left
            for process in getattr(running, "_workers", ()):
                process.kill()

    def _loaded(self, wanted: EpochBatches) -> Iterator[Batch]:
        """Yield what torch loads; its InputErrors read the same from a worker as from this process."""
        try:
            if self._loader is None:
                # A generator of its own, or each new iterator would draw from the global one
                self._loader = DataLoader(**self._options, generator=torch.Generator())
            self._keys.wanted = wanted
            self._running = batches = iter(self._loader)
            _OPEN.add(self)
            yield from batches
        except GeneratorExit:
            raise  # left in the middle: torch drops what is on its way when the next iteration begins
        except InputError as error:
            self.close()
            # A worker's error arrives as the text of its whole traceback, with the message at the end
            raise InputError(str(error).rpartition(f"{InputError.__name__}: ")[2].strip()) from error
        except BaseException:
            self.close()
            raise


class _Keys:
    """The keys of the batches that are wanted next. Torch asks for them anew in each iteration."""

    wanted: EpochBatches

    def __len__(self) -> int:
        return len(self.wanted)

    def __iter__(self) -> Iterator[Key]:
        wanted = self.wanted
        for batch in wanted:
            yield wanted.seed, wanted.epoch, batch


class _ByKey(Dataset[Any]):
    """A data set of batches: the key says all that their images depend on."""

    def __init__(self, dataset: Dataset[Any], augment: Callable[[Tensor], Tensor] | None) -> None:
        self.dataset, self.augment = dataset, augment

    def __getitem__(self, key: Key) -> Any:
        seed, epoch, images = key
        dataset: Any = self.dataset
        if self.augment is not None:
            dataset = Augmented(dataset, self.augment, seed, epoch)
        if whole := getattr(dataset, "__getitems__", None):
            return whole(images)
        return [dataset[image] for image in images]


def _collate(samples: Any) -> Batch:
    """Return a batch. Some data sets give whole batches, others a list of samples."""
    images, labels = samples if isinstance(samples, tuple) else default_collate(samples)
    return images, labels


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Ignore what reaches a whole group of processes, such as Ctrl-C: a worker that ends breaks the step."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


# What may have processes. They end before Python's own end of processes, as that was registered earlier
_OPEN: WeakSet[Workers] = WeakSet()


@atexit.register
def _close_all() -> None:
    for workers in list(_OPEN):
        workers.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_OPEN.clear)  # the processes are not the child's
