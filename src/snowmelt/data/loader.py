"""The images of a training run, in an order that a resumed run continues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from snowmelt.data.augmentation import Augmentation
from snowmelt.data.batches import Batches
from snowmelt.data.cache import CACHES, Cache, keep
from snowmelt.data.digits import digits
from snowmelt.data.folders import ImageFiles, image_folder
from snowmelt.data.images import Images
from snowmelt.data.order import EpochBatches
from snowmelt.data.torchvision_sets import cifar10, fashion_mnist, mnist
from snowmelt.errors import InputError
from snowmelt.images import BACKGROUND, Shape, check_colour, image_sides
from snowmelt.text import counted, some

__all__ = ["DATASETS", "DiffusionDataLoader"]

DATASETS: dict[str, Callable[..., Images]] = {
    "digits": digits,
    "MNIST": mnist,
    "FashionMNIST": fashion_mnist,
    "CIFAR10": cifar10,
}


class DiffusionDataLoader:
    """Training and validation images, in [-1, 1], with their class labels.

    Args:
        train_path: a folder with one folder of images a class, or with images alone; or a name in
            `DATASETS`: ``digits`` (all 1,797 images that scikit-learn ships), ``MNIST``, ``FashionMNIST``,
            ``CIFAR10``, each with ``:train`` or ``:test`` for a part.
        val_path: the same for validation data, in classes of the training data; None for no validation.
        image_size: side of the images, or (H, W). Images are resized until they cover it, and the middle is
            cut out.
        batch_size: images of a batch.
        in_channels: 1 for gray, 3 for colour.
        num_workers: threads that decode images, and read batches ahead; with 0, the thread that asks does it.
        pin_memory: copy faster to a CUDA device; without such a device it changes nothing.
        shuffle_train: a new order each epoch.
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

    Attributes:
        num_classes: number of classes in the training data; 0 where it has none.
        class_names: their names, in natural order of the folders (2 before 10).
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
        **augmentation: Any,
    ) -> None:
        height, width = image_sides(image_size)
        least = {
            "batch_size": (batch_size, 1),
            "num_workers": (num_workers, 0),
            "seed": (seed, 0),
        }
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise InputError(f"{name} must be at least {minimum}, got {value}")
        if in_channels not in (1, 3):
            raise InputError(f"in_channels must be 1 (gray) or 3 (colour) for image data, got {in_channels}")
        if cache not in CACHES:
            raise InputError(f"cache must be one of {', '.join(CACHES)}, got {cache!r}")
        shape = Shape((height, width), in_channels, check_colour(background))
        self._train = _open(train_path, shape, classes)
        self.class_names: list[str] = list(self._train.classes) if classes else []
        if isinstance(self._train, ImageFiles) and (empty := self._train.empty):
            raise InputError(
                f"{train_path} has no images of {some(empty, 5)}: put images into the folder, or remove it"
            )
        self._val: Images | None = None
        if val_path is not None:
            self._val = _open(val_path, shape, bool(self.class_names))
            _match_classes(self._val, val_path, self.class_names, train_path)
        self.num_classes = len(self.class_names)
        self.num_train_images = len(self._train)
        self.image_shape = (in_channels, height, width)
        self.background = shape.background
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.shuffle_train, self.drop_last, self.seed = shuffle_train, drop_last, seed
        changes = Augmentation(**augmentation)
        self.augmentation = changes if changes.channels else None
        self._keep = partial(keep, cache=cache, num_workers=num_workers, show_progress=show_progress)
        self._deliver = partial(
            Batches, device=torch.device(device), pin_memory=self.pin_memory, num_workers=num_workers
        )
        self._decoded = False
        if self.batches_per_epoch() == 0:
            raise InputError(
                f"{train_path} has {counted(self.num_train_images, 'image')}, fewer than batch_size "
                f"({batch_size}), and drop_last leaves out batches that are not full: lower batch_size or "
                "set drop_last to false"
            )

    def batches_per_epoch(self, process: tuple[int, int] = (0, 1)) -> int:
        """Return how many batches a process sees in an epoch."""
        return len(self._batches(0, 0, process))

    def prepare(self) -> None:
        """Decode all images, those of validation too, unless it is done. The first batch does it otherwise.

        Raises:
            InputError: an image cannot be read; the message names its file.
        """
        if not self._decoded:
            self._train = self._keep(self._train)
            self._val = None if self._val is None else self._keep(self._val)
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
            self._train_images, self._batches(epoch, start_batch, process), self.augmentation
        )

    def val_loader(self) -> Batches | None:
        """Return all validation batches, in order; None if there is no validation data."""
        if self._val is None:
            return None
        return self._deliver(self._val_images, EpochBatches(len(self._val), self.batch_size, shuffle=False))

    def _train_images(self) -> Images:
        self.prepare()
        return self._train

    def _val_images(self) -> Images:
        self.prepare()
        assert self._val is not None
        return self._val

    def _batches(self, epoch: int, start: int, process: tuple[int, int]) -> EpochBatches:
        return EpochBatches(
            self.num_train_images,
            self.batch_size,
            shuffle=self.shuffle_train,
            drop_last=self.drop_last,
            seed=self.seed,
            epoch=epoch,
            start=start,
            process=process,
        )


def _open(path: str | Path, shape: Shape, classes: bool) -> Images:
    name, _, split = str(path).partition(":")
    if name in DATASETS and not Path(path).is_dir():
        return DATASETS[name](split or None, shape)
    if not Path(path).exists():
        raise InputError(f"{path} is neither a folder nor one of {', '.join(DATASETS)}: correct data.paths")
    return image_folder(Path(path), shape, classes=classes)


def _match_classes(val: Images, val_path: str | Path, names: list[str], train_path: str | Path) -> None:
    """Number the classes of validation images as training does; a model without classes takes them all."""
    found = list(val.classes)
    if not names or found == names:
        return
    if not found:
        raise InputError(
            f"{val_path} has no class folders, but {train_path} has {some(names, 5)}: the classes of "
            "validation images must be known"
        )
    if strangers := [name for name in found if name not in names]:
        raise InputError(
            f"{val_path} has the classes {some(strangers, 5)}, which {train_path} does not have: they "
            f"must be some of {some(names, 5)}"
        )
    if not isinstance(val, ImageFiles):
        raise InputError(f"{val_path} and {train_path} have other classes: give folders of the same ones")
    val.renumber(names)
