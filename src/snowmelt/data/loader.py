"""The images of a training run, in an order that a resumed run continues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.balance import Balance
from snowmelt.data.batches import Batches
from snowmelt.data.cache import CACHES, Cache, keep
from snowmelt.data.order import EpochBatches
from snowmelt.data.training_images import TrainingImages, training_shape
from snowmelt.errors import InputError
from snowmelt.formats import ImageSource, Shares
from snowmelt.images import BACKGROUND, image_sides
from snowmelt.text import counted

__all__ = ["DiffusionDataLoader"]

ALIKE = Balance()  # all images


class DiffusionDataLoader:
    """Training and validation images, in [-1, 1], with their class labels.

    Args:
        train_path: images as for `snowmelt.formats.open_images`: a folder of class folders or of images, a
            list of files, Parquet, webdataset or npz files, or a data set's name such as ``digits``. What has
            parts needs one: ``list.csv:train``.
        val_path: the same for validation data, in classes of the training data; None for no validation.
        image_size: side of the images, or (H, W). Images are resized until they cover it, and the middle is
            cut out.
        batch_size: images of a batch.
        in_channels: 1 for gray, 3 for colour, 4 for colour with alpha.
        num_workers: threads that decode images, and read batches ahead; with 0, the thread that asks does it.
        pin_memory: copy faster to a CUDA device; without such a device it changes nothing.
        shuffle_train: a new order each epoch.
        balance: how often each class is shown and how much it counts, where classes are of unequal size.
        drop_last: leave out the last training batch if it is not full.
        cache: where the images are decoded to before the first batch: ``memory``, ``disk``, ``none``, or
            ``auto``, as `snowmelt.data.cache.keep` says.
        device: where batches arrive, and are augmented.
        show_progress: show a bar while images are decoded.
        seed: decides order and augmentation, together with the epoch.
        classes: False for a model without classes: all images below a folder count, and their label is 0.
        background: the colour behind transparent pixels.
        augmentation: changes of the training images: options of `snowmelt.data.Augmentation`, such as
            ``horizontal_flip=True``. Where it is conditioned, training batches hold its labels as well.
        split: divide `train_path` in these shares, and take its ``val`` part for validation; None for all
            images of `train_path`.
        split_file: a division that an earlier run has made in the same shares, to go on with if it is there.
        validate: False opens no validation images.

    Attributes:
        labels: (num_train_images,) int64, the class of each training image; 0 where there are none.
        num_classes: number of classes in the training data; 0 where it has none.
        class_names: their names, in natural order of the folders (2 before 10).
        num_val_images: images to validate on; 0 where there are none.
        num_epoch_images: images that an epoch shows.
        class_weights: how much an image of each class counts in the loss; None for all alike.
        images: as they were opened: `snowmelt.data.training_images.TrainingImages`.
        source: those to train on.
        division: which image belongs to which part; None without a `split`.
        image_shape: (C, H, W).
        background: the colour behind transparent pixels.
        augmentation: the `snowmelt.data.Augmentation`; None where nothing is changed.

    Raises:
        InputError: the data is missing or cannot be read.

    >>> data = DiffusionDataLoader("digits:train", "digits:test", image_size=8, batch_size=100, in_channels=1)
    >>> images, class_labels = next(iter(data.train_loader(epoch=0)))
    >>> images.shape, class_labels.shape, data.num_classes, data.num_train_images
    (torch.Size([100, 1, 8, 8]), torch.Size([100]), 10, 1437)
    """

    def __init__(
        self,
        train_path: str | Path,
        val_path: str | Path | None = None,
        image_size: int | Sequence[int] = 32,
        batch_size: int = 64,
        in_channels: int = 3,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        shuffle_train: bool = True,
        drop_last: bool = False,
        cache: Cache = "auto",
        device: str | torch.device = "cpu",
        show_progress: bool = False,
        seed: int = 0,
        classes: bool = True,
        background: str = BACKGROUND,
        split: Shares | None = None,
        split_file: str | Path | None = None,
        validate: bool = True,
        balance: Balance = ALIKE,
        **augmentation: Any,
    ) -> None:
        _check(batch_size, num_workers, seed, cache)
        shape = training_shape(image_size, in_channels, background)
        self.images = TrainingImages.open(
            train_path,
            val_path,
            shape,
            classes=classes,
            split=split,
            split_file=split_file,
            validate=validate,
        )
        self.source, self.division = self.images.train, self.images.division
        self._train, self._val = self.images.train, self.images.val
        self._decoded = False
        assert self.source.labels is not None
        self.labels: Tensor = self.source.labels
        self.class_names = self.source.class_names or []
        self.num_classes = len(self.class_names)
        self.num_train_images = len(self._train)
        self.num_val_images = len(self._val) if self._val is not None else 0
        self.image_shape = (in_channels, *image_sides(image_size))
        self.background = shape.background
        self.batch_size, self.num_workers = batch_size, num_workers
        self.shuffle_train, self.drop_last, self.seed = shuffle_train, drop_last, seed
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.balance = _checked(balance, train_path, self.class_names, shuffle_train)
        self.num_epoch_images = balance.length(self.labels)
        self.class_weights = balance.of_classes(self.labels)
        changes = Augmentation(**augmentation)
        self.augmentation = changes if changes.channels else None
        self._keep = partial(
            keep, shape=shape, cache=cache, num_workers=num_workers, show_progress=show_progress
        )
        self._deliver = partial(
            Batches, device=torch.device(device), pin_memory=self.pin_memory, num_workers=num_workers
        )
        if self.batches_per_epoch() == 0:
            raise InputError(
                f"{train_path} has {counted(self.num_epoch_images, 'image')}, fewer than batch_size "
                f"({batch_size}), and drop_last leaves out batches that are not full: lower batch_size or "
                "set drop_last to false"
            )

    def batches_per_epoch(self, process: tuple[int, int] = (0, 1)) -> int:
        """Return how many batches a process sees in an epoch."""
        return len(self._batches(0, 0, process))

    def prepare(self, *, write: bool = True) -> None:
        """Decode all images, those of validation too, unless it is done. The first batch does it otherwise.

        Args:
            write: False writes no file. Images that belong into one are decoded whenever they are read,
                unless it is there.

        Raises:
            InputError: an image cannot be read; the message names its file.
        """
        if not self._decoded:
            self._train = self._keep(self._train, write=write)
            self._val = None if self._val is None else self._keep(self._val, write=write)
            self._decoded = True

    def train_loader(self, epoch: int, start_batch: int = 0, process: tuple[int, int] = (0, 1)) -> Batches:
        """Return the batches of an epoch, from `start_batch` on: images and class labels.

        Where the augmentation is conditioned, a batch has a third part: its labels, (B, channels).

        Args:
            epoch: decides the order, together with the seed.
            start_batch: where to begin. Earlier images are not loaded.
            process: (rank, number of processes).
        """
        last = self.batches_per_epoch(process)
        if not 0 <= start_batch <= last:
            raise ValueError(f"start_batch must lie in 0..{last}, got {start_batch}")
        return self._deliver(
            partial(self._source, "train"), self._batches(epoch, start_batch, process), self.augmentation
        )

    def val_loader(self) -> Batches | None:
        """Return all validation batches, in order; None if there is no validation data."""
        if self._val is None:
            return None
        return self._deliver(
            partial(self._source, "val"), EpochBatches(len(self._val), self.batch_size, shuffle=False)
        )

    def sources(self) -> dict[str, ImageSource]:
        """Return the images of ``train`` and, if there are any, of ``val``, decoded if they are kept so."""
        self.prepare()
        return {"train": self._train, **({"val": self._val} if self._val is not None else {})}

    def epoch_labels(self, epoch: int) -> Tensor:
        """Return the classes of the images that an epoch shows, in its order."""
        return self.labels[[number for batch in self._batches(epoch, 0, (0, 1)) for number in batch]]

    def _source(self, part: str) -> ImageSource:
        return self.sources()[part]

    def _batches(self, epoch: int, start: int, process: tuple[int, int]) -> EpochBatches:
        return EpochBatches(
            self.num_epoch_images,
            self.batch_size,
            shuffle=self.shuffle_train,
            draw=partial(self.balance.order, self.labels),
            drop_last=self.drop_last,
            seed=self.seed,
            epoch=epoch,
            start=start,
            process=process,
        )


def _check(batch_size: int, num_workers: int, seed: int, cache: Cache) -> None:
    least = {"batch_size": (batch_size, 1), "num_workers": (num_workers, 0), "seed": (seed, 0)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise InputError(f"{name} must be at least {minimum}, got {value}")
    if cache not in CACHES:
        raise InputError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")


def _checked(balance: Balance, path: str | Path, class_names: Sequence[str], shuffled: bool) -> Balance:
    if balance != ALIKE and not class_names:
        raise InputError(f"{path} has no classes that data.balance could balance: leave that section out")
    if balance.sampling != "none" and not shuffled:
        raise InputError(
            "data.balance.sampling draws anew in each epoch: set data.loading.shuffle_train to true"
        )
    return balance
