"""Pictures from a trained model: a network, its schedule, a plan, and nothing else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from snowmelt.adapters.latent import LatentModel
from snowmelt.core import NoiseSchedule
from snowmelt.denoisers import Denoiser, create_ddpm, keep_in_range
from snowmelt.denoisers.guidance import Guidance, make_guidance
from snowmelt.denoisers.modes import evaluating
from snowmelt.models.checkpoint import CheckpointError, blamed_on, load_weights, read_checkpoint
from snowmelt.models.ema import EMA
from snowmelt.plans import Plan, State, make_plan, make_preset, trajectory
from snowmelt.progress import progress
from snowmelt.sampling.checks import (
    check_class_labels,
    check_count,
    check_guidance_scale,
    check_seeds,
)
from snowmelt.sampling.memory import auto_batch_size, halved_on_out_of_memory
from snowmelt.sampling.microbatch import MicroBatches, default_micro_batch
from snowmelt.sampling.noise import SeededNoise, drawn_seeds

__all__ = ["DiffusionSampler", "ImageModel"]


# Arguments that each choose a method, and do without a checkpoint's
_METHOD = {"solver", "grid", "preset", "plan", "times", "sigmas", "indices"}


class ImageModel(Denoiser, Protocol):
    """A denoiser that knows what it was trained on; `DDPMModel` is one."""

    @property
    def schedule(self) -> NoiseSchedule:
        """What it was trained on."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for an unconditional model."""

    @property
    def null_class(self) -> int | None:
        """The label that stands for no condition; None for an unconditional model."""


class DiffusionSampler:
    """Samples from a trained model. It needs no optimizer, no data and no trainer.

    Args:
        model: a `DDPMModel` or anything that has its attributes; moved to `device`.
        device: where to sample.
        ema: averaged weights to sample with, if there are any.
        solver: a key of `snowmelt.plans.SOLVERS`.
        steps: time steps; None takes every trained index.
        grid: a key of `snowmelt.plans.GRIDS`.
        preset: a key of `snowmelt.plans.PRESETS`, in place of `solver`, `steps`, `grid` and `options`.
        plan: a ready plan, in place of them too.
        guidance: what a `guidance_scale` stands for: a key of `snowmelt.denoisers.guidance.GUIDANCE`, a
            mapping of its ``type`` and options, or a `Guidance`; None is plain classifier-free guidance.
        threshold: how predicted images are kept in range: ``"clip"``, ``"dynamic"``, a mapping of the
            ``type`` and its options, or None.
        micro_batch: the most images in one call of the network. Where seeds are given, every call has exactly
            so many (the last ones padded), which makes an image's bits independent of its batch. None takes
            64, and on the CPU as many as have 2^14 pixels, if these are fewer.
        memory_share: of the free memory, in (0, 1]: what ``batch_size="auto"`` may fill.
        options: of the solver or the grid, such as ``eta`` or ``rho``.

    Attributes:
        plan: the table of numbers that is run; ``plan.nfe`` is how often the network is called.

    Unconditional samples, and four of each of three classes:

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32, num_classes=3)
    >>> sampler = DiffusionSampler(model, solver="ddim", steps=4)
    >>> sampler.sample(num_samples=2).shape
    torch.Size([2, 1, 8, 8])
    >>> samples, class_labels = sampler.sample_by_class(4, num_classes=3, guidance_scale=3.0)
    >>> class_labels
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    """

    def __init__(
        self,
        model: ImageModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        solver: str = "ddpm",
        steps: int | None = None,
        grid: str = "trailing",
        preset: str | None = None,
        plan: Plan | None = None,
        guidance: str | Mapping[str, Any] | Guidance | None = None,
        threshold: str | Mapping[str, Any] | None = "clip",
        micro_batch: int | None = None,
        memory_share: float = 0.5,
        **options: Any,
    ) -> None:
        keep_in_range(model, threshold)  # or it would be refused while sampling
        chosen = (solver, steps, grid, options) != ("ddpm", None, "trailing", {})
        if (plan is not None) + (preset is not None) + chosen > 1:
            raise ValueError(
                "plan is complete in itself, and so is preset: give one of them, or solver, steps, grid and "
                "options"
            )
        if threshold is not None and isinstance(model, LatentModel):
            raise ValueError(
                f"latents have no range for threshold {threshold!r} to keep: give threshold=None"
            )
        self.model = model
        self.device = device
        self.ema = ema
        if plan is None and preset is not None:
            plan = make_preset(model.schedule, preset)
        self.plan = plan or make_plan(model.schedule, solver, steps, grid, **options)
        self.guidance = make_guidance(guidance)
        self.threshold = threshold
        if micro_batch is None:
            micro_batch = default_micro_batch(device, model.image_shape)
        self.micro_batch = check_count("micro_batch", micro_batch)
        if not 0 < memory_share <= 1:
            raise ValueError(f"memory_share must lie in (0, 1], got {memory_share}")
        self.memory_share = memory_share
        for network in (model, *self.guidance.networks):
            if isinstance(network, nn.Module):
                network.to(device)

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: str | torch.device = "cpu", *, use_ema: bool = True, **options: Any
    ) -> Self:
        """Build model and sampler from a checkpoint file, or a folder of diffusers, alone.

        Args:
            path: a checkpoint that `DiffusionTrainer` wrote (``.pth`` or ``.safetensors``), or a folder with
                a UNet2DModel or a pipeline of one.
            device: where to sample.
            use_ema: load the EMA weights too, where the file has some.
            options: as for the constructor. A model that comes from diffusers has defaults of its own: those
                of its scheduler, unless a method is given.

        Raises:
            CheckpointError: the file is missing, broken, or does not say how to build its network.
            InputError: the folder's model cannot be expressed; the message names the option.
        """
        checkpoint = _read(Path(path))
        if "model_config" not in checkpoint:
            raise CheckpointError(
                f"{path} holds weights but not the model's configuration: build the model with create_ddpm, "
                "load the weights with load_weights, and give the model to DiffusionSampler"
            )
        with blamed_on(path):
            model = create_ddpm(**checkpoint["model_config"])
        load_weights(model, checkpoint["model_state_dict"], source=path)
        ema = None
        if use_ema and "ema_state_dict" in checkpoint:
            ema = EMA(model, device=device)
            with blamed_on(path):
                ema.load_state_dict(checkpoint["ema_state_dict"])
        sampling = checkpoint.get("sampling", {})
        if cls is not DiffusionSampler or options.keys() & _METHOD:
            sampling = {name: value for name, value in sampling.items() if name == "threshold"}
        return cls(model, device, ema, **{**sampling, **options})

    def sample(
        self,
        num_samples: int,
        class_labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        show_progress: bool = False,
        *,
        seeds: Sequence[int] | None = None,
        batch_size: int | Literal["auto"] = "auto",
    ) -> Tensor:
        """Generate samples.

        Args:
            num_samples: how many, >= 1.
            class_labels: (num_samples,) integers of any dtype and device; None samples a conditional model
                through its null class, that is, unconditionally.
            guidance_scale: s in D_u + s (D_c - D_u); 0 (and 1) is purely conditional.
            use_ema: sample with the EMA weights, if the sampler has some.
            show_progress: show a bar, over the plan's evaluations or over the images of several batches.
            seeds: one int a sample; each image then depends on its seed and label alone, to the bit. None
                draws them from torch's global generator, which `torch.manual_seed` sets.
            batch_size: images that are made together; ``"auto"`` takes what fits into memory.

        Returns:
            (num_samples, C, H, W), float32 on the sampler's device, in [-1, 1].

        Raises:
            TypeError, ValueError: an argument makes no sense; the message says what to do.
        """
        batches = self.stream(
            num_samples,
            class_labels,
            guidance_scale,
            use_ema,
            show_progress,
            seeds=seeds,
            batch_size=batch_size,
        )
        return torch.cat(list(batches))

    def sample_by_class(
        self,
        samples_per_class: int,
        num_classes: int,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        show_progress: bool = False,
        *,
        seeds: Sequence[int] | None = None,
        batch_size: int | Literal["auto"] = "auto",
    ) -> tuple[Tensor, list[int]]:
        """Generate the same number of samples for each of the first `num_classes` classes.

        Returns:
            The samples, class by class, and their labels; other arguments as in `sample`.
        """
        samples_per_class = check_count("samples_per_class", samples_per_class)
        num_classes = check_count("num_classes", num_classes)
        labels = [label for label in range(num_classes) for _ in range(samples_per_class)]
        samples = self.sample(
            len(labels), labels, guidance_scale, use_ema, show_progress, seeds=seeds, batch_size=batch_size
        )
        return samples, labels

    def stream(
        self,
        num_samples: int,
        class_labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        show_progress: bool = False,
        *,
        seeds: Sequence[int] | None = None,
        batch_size: int | Literal["auto"] = "auto",
    ) -> Generator[Tensor]:
        """Generate any number of samples in bounded memory: yield each batch when it is finished.

        The arguments, those of `sample`, are checked at once; the work is done as the iterator is read.
        Running out of memory halves the batch and changes no pixel. Between two batches the model holds the
        EMA weights: read to the end or close the iterator before training on.

        >>> from snowmelt import create_ddpm
        >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
        >>> sampler = DiffusionSampler(model, solver="ddim", steps=2)
        >>> [len(batch) for batch in sampler.stream(num_samples=5, batch_size=2)]
        [2, 2, 1]
        """
        num_samples = check_count("num_samples", num_samples)
        labels, scale = self._labels_and_scale(num_samples, class_labels, guidance_scale)
        numbers = check_seeds(seeds, num_samples)
        if batch_size != "auto":
            batch_size = check_count("batch_size", batch_size)
        return self._stream(num_samples, labels, scale, use_ema, show_progress, numbers, batch_size)

    def auto_batch_size(self) -> int:
        """Return how many images together fit into the sampler's share of the memory that is free now."""
        return auto_batch_size(
            self.plan,
            self.model.image_shape,
            self.device,
            self.micro_batch,
            self._evaluate_once,
            self.memory_share,
        )

    def trajectory(
        self,
        num_samples: int,
        class_labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        *,
        seeds: Sequence[int] | None = None,
    ) -> Generator[State]:
        """Generate one batch and yield the state after every evaluation; arguments as in `sample`.

        The arguments are checked at once, the work is done as the iterator is read. Between two states the
        model holds the EMA weights: read to the end or close the iterator before training on.
        """
        num_samples = check_count("num_samples", num_samples)
        labels, scale = self._labels_and_scale(num_samples, class_labels, guidance_scale)
        numbers = check_seeds(seeds, num_samples)
        return self._trajectory(num_samples, labels, scale, use_ema, numbers)

    def run(
        self,
        plan: Plan,
        x: Tensor,
        class_labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        *,
        noise: Callable[[], Tensor] | None = None,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
        padded: bool = True,
    ) -> Generator[State]:
        """Run a plan from a state of your own and yield the state after every evaluation.

        All sampling comes down to this: the model under its EMA weights and in eval mode, guidance and
        threshold around it, and one loop over the plan's rows.

        Args:
            plan: on levels of the model's schedule.
            x: (B, C, H, W) on the sampler's device, the state at the plan's first level.
            class_labels: as for `sample`, and so are `guidance_scale` and `use_ema`.
            noise: returns the fresh noise that a stochastic plan asks for; torch's global generator if None.
            wrap: put around the whole denoiser, outside guidance and threshold.
            padded: call the network with exactly `micro_batch` images; False: with at most so many.
        """
        labels, scale = self._labels_and_scale(len(x), class_labels, guidance_scale)
        return self._run(plan, x, labels, scale, use_ema, noise, wrap, padded)

    def images(self, x0: Tensor, *, padded: bool = True) -> Tensor:
        """Return the last states of a run as images in [-1, 1]; a latent model's are decoded.

        Args:
            x0: (B, C, H, W), what a plan arrived at.
            padded: as for `run`.
        """
        if isinstance(self.model, LatentModel):
            decode = self.model.decode
            pieces = MicroBatches(lambda latents, *_: decode(latents), self.micro_batch, padded=padded)
            with torch.no_grad(), evaluating(self.model):
                x0 = pieces(x0, self.plan.end)
        return x0.clamp(-1, 1)

    def _labels_and_scale(
        self, count: int, class_labels: Tensor | Sequence[int] | None, guidance_scale: float
    ) -> tuple[Tensor | None, float]:
        labels = check_class_labels(class_labels, count, self.model.num_classes)
        needs_labels = self.guidance.needs_labels
        return labels, check_guidance_scale(guidance_scale, labels, needs_labels=needs_labels)

    def _trajectory(
        self,
        num_samples: int,
        labels: Tensor | None,
        guidance_scale: float,
        use_ema: bool,
        seeds: list[int] | None,
    ) -> Generator[State]:
        noise = SeededNoise(seeds or drawn_seeds(num_samples), self.model.image_shape, self.device)
        x = self.plan.prior_std * noise()
        yield from self._run(self.plan, x, labels, guidance_scale, use_ema, noise, padded=seeds is not None)

    def _stream(
        self,
        num_samples: int,
        labels: Tensor | None,
        guidance_scale: float,
        use_ema: bool,
        show_progress: bool,
        seeds: list[int] | None,
        batch_size: int | Literal["auto"],
    ) -> Generator[Tensor]:
        padded = seeds is not None
        seeds = seeds or drawn_seeds(num_samples)
        if batch_size == "auto":
            batch_size = self.auto_batch_size()
        alone = num_samples <= batch_size

        def make(part: slice) -> Tensor:
            noise = SeededNoise(seeds[part], self.model.image_shape, self.device)
            x = self.plan.prior_std * noise()
            some = labels[part] if labels is not None else None
            # the weights have been swapped already, for all batches at once
            states = self._run(self.plan, x, some, guidance_scale, False, noise, padded=padded)
            bar = progress(
                states,
                "Sampling",
                show=show_progress and alone,
                total=self.plan.nfe,
                unit="step",
                leave=False,
            )
            return self.images(last_state(bar), padded=padded)

        with (
            self._averaged(use_ema),
            progress(
                None, "Sampling", show=show_progress and not alone, total=num_samples, unit="image"
            ) as images,
            closing(halved_on_out_of_memory(make, num_samples, batch_size)) as batches,
        ):
            for batch in batches:
                yield batch
                images.update(len(batch))

    def _evaluate_once(self) -> None:
        x = torch.zeros(self.micro_batch, *self.model.image_shape, device=self.device)
        labels = None
        if self.model.num_classes:  # not every model with classes says something without one
            labels = torch.zeros(self.micro_batch, dtype=torch.int64, device=self.device)
        with torch.no_grad(), evaluating(self.model):
            self.images(self.model(x, self.plan.rows[0].level, labels))

    def _averaged(self, use_ema: bool) -> AbstractContextManager[object]:
        return self.ema.applied() if use_ema and self.ema is not None else nullcontext()

    def _run(
        self,
        plan: Plan,
        x: Tensor,
        labels: Tensor | None,
        guidance_scale: float,
        use_ema: bool,
        noise: Callable[[], Tensor] | None = None,
        wrap: Callable[[Denoiser], Denoiser] | None = None,
        padded: bool = True,
    ) -> Generator[State]:
        if labels is not None:
            labels = labels.to(self.device)
        batched = partial(MicroBatches, size=self.micro_batch, padded=padded)
        denoiser: Denoiser = batched(self.model)
        if self.guidance.guides(guidance_scale):
            denoiser = self.guidance.wrap(
                denoiser, guidance_scale, null_class=self.model.null_class, plan=plan, batched=batched
            )
        denoiser = keep_in_range(denoiser, self.threshold)
        if wrap is not None:
            denoiser = wrap(denoiser)

        networks = [n for n in (self.model, *self.guidance.networks) if isinstance(n, nn.Module)]
        with self._averaged(use_ema), evaluating(nn.ModuleList(networks)):
            states = trajectory(plan, denoiser, x, labels, noise)
            while True:
                # Autograd is off for the work, not for whoever reads the states
                with torch.no_grad():
                    state = next(states, None)
                if state is None:
                    return
                yield state


def _read(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        return read_checkpoint(path)
    from snowmelt.adapters.diffusers import read_folder

    return read_folder(path)


def last_state(states: Iterable[State]) -> Tensor:
    """Run to the end and return the last state."""
    state: State = deque(states, maxlen=1).pop()
    return state.x_t
