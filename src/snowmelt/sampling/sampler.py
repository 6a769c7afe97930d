"""Pictures from a trained model: a network, its schedule, a plan, and nothing else."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from itertools import groupby
from os import PathLike
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from snowmelt._version import __version__
from snowmelt.denoisers import Denoiser, eval_mode, keep_in_range
from snowmelt.denoisers.guidance import Guidance, make_guidance
from snowmelt.digest import content_digest
from snowmelt.errors import InputError
from snowmelt.models import EMA, Checkpoint, DiffusionModel
from snowmelt.plans import Method, Plan, State, trajectory
from snowmelt.progress import progress
from snowmelt.sampling.memory import auto_batch_size, batches_with_backoff
from snowmelt.sampling.microbatch import MicroBatches, default_micro_batch
from snowmelt.sampling.noise import SeededNoise
from snowmelt.sampling.request import Request, check_count

__all__ = ["DiffusionSampler", "last_state"]

LISTED = 16  # seeds that an identity states one by one


class DiffusionSampler:
    """Samples from a trained model. It needs no optimizer, no data and no trainer.

    Args:
        model: what predicts; moved to `device`. A denoiser of your own works too, if it has the attributes
            schedule, image_shape, num_classes and null_class.
        device: where to sample.
        ema: averaged weights to sample with, if there are any.
        method: how to sample: a `snowmelt.plans.Method`, its text form (``"ddim:20"``), a mapping as in YAML,
            or a `Plan`. None takes the preset ``balanced``.
        guidance: what a `guidance_scale` stands for: a key of `snowmelt.denoisers.guidance.GUIDANCE`, a
            mapping of its ``type`` and options, or a `Guidance`; None is plain classifier-free guidance.
        threshold: how predicted images are kept in range: ``"clip"``, ``"dynamic"``, a mapping of the
            ``type`` and its options, or None. ``"auto"`` clips images and leaves latents alone.
        micro_batch: the most images in one call of the network. Where seeds are given, every call has exactly
            this many (the last ones padded), which makes an image's bits independent of its batch. None takes
            64, and on the CPU as many as have 2^14 pixels, if these are fewer.
        memory_share: of the free memory, in (0, 1]: what ``batch_size="auto"`` may fill.
        keywords: in place of `method`: ``solver``, ``steps``, ``grid``, ``preset``, ``plan``, and options of
            the solver or the grid, such as ``eta`` or ``rho``.

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
        model: DiffusionModel,
        device: str | torch.device = "cpu",
        ema: EMA | None = None,
        *,
        method: Method | Plan | str | Mapping[str, Any] | None = None,
        guidance: str | Mapping[str, Any] | Guidance | None = None,
        threshold: str | Mapping[str, Any] | None = "auto",
        micro_batch: int | None = None,
        memory_share: float = 0.5,
        **keywords: Any,
    ) -> None:
        self.model = model
        if threshold == "auto":
            threshold = "clip" if self.bounded else None
        keep_in_range(model, threshold)  # or it would be refused while sampling
        if threshold is not None and not self.bounded:
            raise ValueError(f"latents have no range that threshold {threshold!r} could keep: leave it out")
        if micro_batch is None:
            micro_batch = default_micro_batch(device, model.image_shape)
        if not 0 < memory_share <= 1:
            raise ValueError(f"memory_share must lie in (0, 1], got {memory_share}")
        self.device = device
        self.ema = ema
        self.method = Method.of(method, **keywords)
        self.plan = self.method.plan(model.schedule)
        self.guidance = make_guidance(guidance)
        self.threshold = threshold
        self.micro_batch = check_count("micro_batch", micro_batch)
        self.memory_share = memory_share
        self._networks().to(device)

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str],
        device: str | torch.device = "cpu",
        *,
        use_ema: bool = True,
        **options: Any,
    ) -> Self:
        """Build model and sampler from a checkpoint file, or a folder of diffusers, alone.

        Args:
            path: a checkpoint that `DiffusionTrainer` wrote (``.pth`` or ``.safetensors``), or a folder with
                a UNet2DModel or a pipeline of one.
            device: where to sample.
            use_ema: load the averaged weights too.
            options: as for the constructor. A model may have its own method, threshold and guidance, as one
                that comes from diffusers has those of its scheduler; what is given here comes first, and
                ``steps`` or an option alone changes the model's own method.

        Raises:
            CheckpointError: the file is missing, broken, or does not say how to build its network.
            InputError: the folder's model cannot be expressed; the message names the option.
        """
        return cls.from_checkpoint(Checkpoint.read(path), device, use_ema=use_ema, **options)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        device: str | torch.device = "cpu",
        *,
        use_ema: bool = True,
        **options: Any,
    ) -> Self:
        """Build model and sampler from a checkpoint that has been read; arguments as in `from_pretrained`.

        Warns where averaged weights are asked for and absent.
        """
        model = checkpoint.model().to(device)
        ema = checkpoint.averaged(model, device) if use_ema else None
        options = {"threshold": checkpoint.threshold, "guidance": checkpoint.guidance, **options}
        if cls is DiffusionSampler:  # its subclasses have a method
            words = {name: options.pop(name) for name in options.keys() - _NOT_METHOD}
            options["method"] = Method.of(words.pop("method", None), default=checkpoint.method, **words)
        return cls(model, device, ema, **options)

    def with_method(self, method: Method | Plan | str | Mapping[str, Any]) -> DiffusionSampler:
        """Return a sampler that differs in its method alone; the model is shared."""
        return DiffusionSampler(
            self.model,
            self.device,
            self.ema,
            method=method,
            guidance=self.guidance,
            threshold=self.threshold,
            micro_batch=self.micro_batch,
            memory_share=self.memory_share,
        )

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
            InputError: the samples hold NaN or infinity, as of a model that has diverged.
        """
        request = self.request(num_samples, class_labels, guidance_scale, use_ema, seeds)
        return torch.cat(list(self.batches(request, show_progress=show_progress, batch_size=batch_size)))

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
        request = self.request(len(labels), labels, guidance_scale, use_ema, seeds)
        return torch.cat(
            list(self.batches(request, show_progress=show_progress, batch_size=batch_size))
        ), labels

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
        if batch_size != "auto":
            batch_size = check_count("batch_size", batch_size)
        request = self.request(num_samples, class_labels, guidance_scale, use_ema, seeds)
        return self.batches(request, show_progress=show_progress, batch_size=batch_size)

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
        return self._states(self.request(num_samples, class_labels, guidance_scale, use_ema, seeds))

    def request(
        self,
        num_samples: int,
        class_labels: Tensor | Sequence[int] | None = None,
        guidance_scale: float = 0.0,
        use_ema: bool = True,
        seeds: Sequence[int] | None = None,
    ) -> Request:
        """Return what `sample` is asked for with these arguments, checked against the model."""
        request = Request.of(num_samples, class_labels, guidance_scale, use_ema, seeds)
        self.check(request)
        return request

    def check(self, request: Request) -> None:
        """Raise ValueError where the model cannot make such images, or guidance has no meaning for them."""
        self._check(request.labels, request.guidance_scale)
        if self.guidance.guides(request.guidance_scale):
            self._guided(self.model, request.guidance_scale, self.plan)

    def identity(self, request: Request) -> dict[str, Any]:
        """Return all that decides the images' bits, as JSON can hold it.

        Two samplers with equal identities make equal images. Manifests, the store of a comparison and caches
        of images know their images by this.

        Raises:
            ValueError: a network is a plain function, whose weights cannot be known.
        """
        parts = (getattr(self.model, name, None) for name in ("network", "decoder"))
        networks = (*parts, self.model, *self.guidance.networks)
        if any(not isinstance(network, nn.Module | None) for network in networks):
            raise ValueError(
                "images are known by the weights of the networks, and one here is a plain function: make it "
                "a torch.nn.Module"
            )
        labels, seeds = request.class_labels, request.seeds
        runs = [f"{label} x {len(list(run))}" for label, run in groupby(labels or ())]
        averaged = request.use_ema and self.ema is not None
        with self._averaged(request.use_ema):
            weights = content_digest(self._networks().state_dict())
        return {
            "weights": weights,
            "averaged": averaged,
            "plan": json.loads(self.plan.to_json()),
            "guidance": self.guidance.describe(),
            "guidance_scale": request.guidance_scale,
            "threshold": self.threshold,
            "num_samples": len(request),
            "class_labels": runs if len(runs) <= 1000 else content_digest(labels),
            "seeds": list(seeds)
            if len(seeds) <= LISTED
            else f"{len(seeds)} seeds, {content_digest(seeds)[:16]}",
            "micro_batch": self.micro_batch if request.seeded else None,
            "device": torch.device(self.device).type,
            "versions": {"snowmelt": __version__, "torch": torch.__version__},
        }

    @property
    def bounded(self) -> bool:
        """Whether the model denoises images, in [-1, 1], and not latents. A denoiser of your own does."""
        return getattr(self.model, "bounded", True)

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

    def batches(
        self,
        request: Request,
        *,
        show_progress: bool = False,
        batch_size: int | Literal["auto"] = "auto",
    ) -> Generator[Tensor]:
        """Generate the images of a request that `check` has seen, batch by batch; as `stream` does."""
        size = self.auto_batch_size() if batch_size == "auto" else check_count("batch_size", batch_size)
        alone = len(request) <= size

        def make(part: slice) -> Tensor:
            # the weights have been swapped already, for all batches at once
            bar = progress(
                self._states(request[part], swap=False),
                "Sampling",
                show=show_progress and alone,
                total=self.plan.nfe,
                unit="step",
                leave=False,
            )
            return self.images(last_state(bar), padded=request.seeded)

        with (
            self._averaged(request.use_ema),
            progress(
                None, "Sampling", show=show_progress and not alone, total=len(request), unit="image"
            ) as images,
            closing(batches_with_backoff(make, len(request), size)) as batches,
        ):
            for batch in batches:
                yield batch
                images.update(len(batch))

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
            padded: call the network with exactly `micro_batch` images; False: with at most that many.
        """
        request = Request((0,) * len(x), class_labels, guidance_scale)  # type: ignore[arg-type]
        self._check(request.labels, request.guidance_scale)
        return self._run(plan, x, request.labels, request.guidance_scale, use_ema, noise, wrap, padded)

    def images(self, x0: Tensor, *, padded: bool = True) -> Tensor:
        """Return the last states of a run as images in [-1, 1]; a latent model's are decoded.

        Args:
            x0: (B, C, H, W), what a plan arrived at.
            padded: as for `run`.

        Raises:
            InputError: there is NaN or infinity in them.
        """
        images = self._decoded(x0, padded=padded)
        if not images.isfinite().all():  # once, when all is done: a run itself waits for nothing
            raise InputError(
                "the samples hold NaN or infinity, because the model that made them has diverged: take an "
                "earlier checkpoint, or another plan"
            )
        return images.clamp(-1, 1)

    def _decoded(self, x0: Tensor, *, padded: bool = True) -> Tensor:
        if not self.bounded:
            decode = self.model.decode
            pieces = MicroBatches(lambda latents, *_: decode(latents), self.micro_batch, padded=padded)
            with torch.no_grad(), eval_mode(self.model):
                x0 = pieces(x0, self.plan.end)
        return x0

    def _check(self, labels: Tensor | None, guidance_scale: float) -> None:
        num_classes = self.model.num_classes
        if labels is not None and num_classes is None:
            raise ValueError("class_labels were given, but the model is unconditional: leave them out")
        if labels is not None and num_classes is not None:
            low, high = int(labels.min()), int(labels.max())
            if low < 0 or high >= num_classes:
                raise ValueError(
                    f"class_labels must lie in 0..{num_classes - 1}, as the model has {num_classes} classes; "
                    f"got {low if low < 0 else high}"
                )
        if self.guidance.needs_labels and guidance_scale not in (0.0, 1.0) and labels is None:
            if num_classes is None:
                raise ValueError(
                    f"guidance_scale is {guidance_scale:g}, but the model is unconditional: set it to 0.0"
                )
            raise ValueError(
                f"guidance_scale {guidance_scale:g} needs class_labels: without them there is nothing to "
                "guide towards; pass class_labels, or guidance_scale=0.0"
            )

    def _states(self, request: Request, *, swap: bool = True) -> Generator[State]:
        noise = SeededNoise(request.seeds, self.model.image_shape, self.device)
        return self._run(
            self.plan,
            self.plan.prior_std * noise(),
            request.labels,
            request.guidance_scale,
            request.use_ema and swap,
            noise,
            padded=request.seeded,
        )

    def _guided(
        self,
        denoiser: Denoiser,
        scale: float,
        plan: Plan,
        batched: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
    ) -> Denoiser:
        return self.guidance.wrap(
            denoiser, scale, null_class=self.model.null_class, plan=plan, batched=batched
        )

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
            denoiser = self._guided(denoiser, guidance_scale, plan, batched)
        denoiser = keep_in_range(denoiser, self.threshold)
        if wrap is not None:
            denoiser = wrap(denoiser)

        with self._averaged(use_ema), eval_mode(self._networks()):
            states = trajectory(plan, denoiser, x, labels, noise)
            while True:
                # Autograd is off for the work, not for the code that reads the states
                with torch.no_grad():
                    state = next(states, None)
                if state is None:
                    return
                yield state

    def _evaluate_once(self) -> None:
        x = torch.zeros(self.micro_batch, *self.model.image_shape, device=self.device)
        labels = None
        if self.model.num_classes:  # not every model with classes says something without one
            labels = torch.zeros(self.micro_batch, dtype=torch.int64, device=self.device)
        with torch.no_grad(), eval_mode(self.model):
            self._decoded(self.model(x, self.plan.rows[0].level, labels))

    def _networks(self) -> nn.ModuleList:
        """Return the model and the networks of its guidance, as far as they are modules."""
        return nn.ModuleList(n for n in (self.model, *self.guidance.networks) if isinstance(n, nn.Module))

    def _averaged(self, use_ema: bool) -> AbstractContextManager[object]:
        return self.ema.applied() if use_ema and self.ema is not None else nullcontext()


# Options of the constructor that do not say a method
_NOT_METHOD = {"guidance", "threshold", "micro_batch", "memory_share"}


def last_state(states: Iterable[State]) -> Tensor:
    """Run to the end and return the last state."""
    state: State = deque(states, maxlen=1).pop()
    return state.x_t
