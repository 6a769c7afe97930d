"""Pictures from a trained model: a network, its schedule, a plan, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from os import PathLike
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from snowmelt.denoisers import Denoiser, eval_mode, keep_in_range
from snowmelt.denoisers.guidance import Guidance, make_guidance
from snowmelt.models import EMA, Checkpoint, DiffusionModel
from snowmelt.plans import Method, Plan, State, last_state, trajectory
from snowmelt.precision import choose
from snowmelt.progress import progress
from snowmelt.sampling.composed import composed
from snowmelt.sampling.finite import finite
from snowmelt.sampling.identity import identity
from snowmelt.sampling.memory import auto_batch_size, batches_with_backoff
from snowmelt.sampling.microbatch import MicroBatches, default_micro_batch
from snowmelt.sampling.noise import SeededNoise
from snowmelt.sampling.request import Request, check_count, check_request
from snowmelt.sampling.tuned_plans import TunedPlan, choose_tuned, purpose_of
from snowmelt.sampling.variance import warn_of_fixed_variance

__all__ = ["DiffusionSampler"]


class DiffusionSampler:
    """Samples from a trained model. It needs no optimizer, no data and no trainer.

    Args:
        model: what predicts; moved to `device`. A denoiser of your own works too, if it has the attributes
            schedule, image_shape, num_classes and null_class.
        device: where to sample.
        ema: averaged weights to sample with, if there are any.
        method: how to sample: a `snowmelt.plans.Method`, its text form (``"ddim:20"``), a mapping as in YAML,
            or a `Plan`. None takes the preset ``balanced``; ``"auto"`` is for `from_pretrained`.
        guidance: what a `guidance_scale` stands for: a key of `snowmelt.denoisers.guidance.GUIDANCE`, a
            mapping of its ``type`` and options, or a `Guidance`; None is plain classifier-free guidance.
        threshold: how predicted images are kept in range: ``"clip"``, ``"dynamic"``, a mapping of the
            ``type`` and its options, or None. ``"auto"`` clips images and leaves latents alone.
        micro_batch: the most images in one call of the network. Where seeds are given, every call has exactly
            this many (the last ones padded), which makes an image's bits independent of its batch. None takes
            64, and on the CPU as many as have 2^14 pixels, if these are fewer.
        memory_share: of the free memory, in (0, 1]: what ``batch_size="auto"`` may fill.
        precision: of the networks: ``"fp32"``, ``"bf16"``, ``"fp16"``, or ``"auto"``, which tries what is
            faster here; the state stays float32. Another precision makes other pixels.
        keywords: in place of `method`: ``solver``, ``steps``, ``grid``, ``preset``, ``plan``, and options of
            the solver or the grid, such as ``eta`` or ``rho``.

    Attributes:
        plan: the table of numbers that is run; ``plan.nfe`` is how often the network is called.
        tuned: what the plan was tuned for, if ``auto`` chose it.
        precision: the one that is used, never ``"auto"``.
        precision_reason: the sentence that says why ``"auto"`` took it.

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
        precision: str = "fp32",
        **keywords: Any,
    ) -> None:
        self.model = model
        if threshold == "auto":
            threshold = "clip" if self.bounded else None
        keep_in_range(model, threshold)  # or it would be refused while sampling
        if threshold is not None and not self.bounded:
            raise ValueError(f"latents have no range that threshold {threshold!r} could keep: leave it out")
        usual = default_micro_batch(device, model.image_shape)
        if not 0 < memory_share <= 1:
            raise ValueError(f"memory_share must lie in (0, 1], got {memory_share}")
        self.device = device
        self.ema = ema
        self.method = Method.of(method, **keywords)
        self.tuned: TunedPlan | None = None
        self.plan = self.method.plan(model.schedule)
        warn_of_fixed_variance(model, self.plan)
        self.guidance = make_guidance(guidance)
        self.threshold = threshold
        self.micro_batch = check_count("micro_batch", usual if micro_batch is None else micro_batch)
        self.memory_share = memory_share
        self.networks().to(device)
        with eval_mode(model):
            self.precision, self.precision_reason = choose(precision, model, device, self.micro_batch)

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str] | Checkpoint,
        device: str | torch.device = "cpu",
        *,
        use_ema: bool = True,
        guidance_scale: float | None = None,
        **options: Any,
    ) -> Self:
        """Build model and sampler from a checkpoint alone. Warns where it has no averaged weights.

        Args:
            path: a checkpoint that `DiffusionTrainer` wrote (``.pth`` or ``.safetensors``), a folder with a
                UNet2DModel or a pipeline of one, guided-diffusion's file, or a `Checkpoint`.
            device: where to sample.
            use_ema: load the averaged weights too.
            guidance_scale: for which the method ``auto`` looks for a tuned plan; None takes the one scale
                that there are plans for. The sampler then samples with this scale only.
            options: as for the constructor. A model may have its own method, threshold and guidance, as one
                that comes from diffusers has those of its scheduler; what is given here comes first, and
                ``steps`` or an option alone changes the model's own method.

        Raises:
            CheckpointError: the file is missing, broken, or does not say how to build its network.
            InputError: the folder's model cannot be expressed; the message names the option. Or there is no
                tuned plan for ``auto``.
        """
        checkpoint = path if isinstance(path, Checkpoint) else Checkpoint.read(path)
        model = checkpoint.model().to(device)
        ema = checkpoint.averaged(model, device) if use_ema else None
        options = {"threshold": checkpoint.threshold, "guidance": checkpoint.guidance, **options}
        if cls is DiffusionSampler:  # its subclasses have a method
            words = {name: options.pop(name) for name in options.keys() - _SETTINGS}
            method = Method.of(words.pop("method", None), default=checkpoint.method, **words)
            if method.auto:
                sampler = cls(model, device, ema, **options)
                sampler.tuned = choose_tuned(sampler, checkpoint, method.steps, guidance_scale)
                method = Method(table=sampler.tuned.plan)
                sampler.method, sampler.plan = method, method.plan(model.schedule)
                return sampler
            options["method"] = method
        return cls(model, device, ema, **options)

    def with_method(self, method: Method | Plan | str | Mapping[str, Any]) -> DiffusionSampler:
        """Return a sampler that differs in its method alone; the model is shared."""
        settings = {name: getattr(self, name) for name in _SETTINGS} | {"method": method}
        return DiffusionSampler(self.model, self.device, self.ema, **settings)

    def _repr_html_(self) -> str:
        """Return what it samples with, for a notebook."""
        from snowmelt.sampling.showing import sampler_html

        return sampler_html(self)

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
            TypeError, ValueError: an argument makes no sense, or the samples hold NaN; the message says so.
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
        images = self.batches(request, show_progress=show_progress, batch_size=batch_size)
        return torch.cat(list(images)), labels

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
        """Generate one batch and yield the state after every evaluation; otherwise as `stream`."""
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
        check_request(request, self.model, self.guidance)
        scale, null_class = request.guidance_scale, self.model.null_class
        if self.tuned is not None:
            self.tuned.check(purpose_of(self, self.tuned.purpose.checkpoint, scale, request.use_ema))
        if self.guidance.guides(scale):  # trying it is the check
            self.guidance.wrap(self.model, scale, null_class=null_class, plan=self.plan)

    def identity(self, request: Request) -> dict[str, Any]:
        """Return all that decides the images' bits, as JSON can hold it: equal identities, equal images.

        Manifests, the store of a comparison and caches of images know their images by this. A network that
        is a plain function has no weights that could be known: a ValueError.
        """
        return identity(self, request)

    @property
    def bounded(self) -> bool:
        """Whether the model denoises images, in [-1, 1], and not latents. A denoiser of your own does."""
        return getattr(self.model, "bounded", True)

    def networks(self) -> nn.ModuleList:
        """Return the model and the networks of its guidance, as far as they are modules."""
        return nn.ModuleList(n for n in (self.model, *self.guidance.networks) if isinstance(n, nn.Module))

    def averaged(self, use_ema: bool) -> AbstractContextManager[object]:
        """Return a context in which the model has its averaged weights, if they are wanted and there."""
        return self.ema.applied() if use_ema and self.ema is not None else nullcontext()

    def auto_batch_size(self) -> int:
        """Return how many images together fit into the sampler's share of the memory that is free now."""
        plan, shape = self.plan, self.model.image_shape
        return auto_batch_size(
            plan, shape, self.device, self.micro_batch, self._evaluate_once, self.memory_share
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
            states, show = self._states(request[part], swap=False), show_progress and alone
            bar = progress(states, "Sampling", show=show, total=self.plan.nfe, unit="step", leave=False)
            return self.images(last_state(bar), padded=request.seeded)

        with (
            self.averaged(request.use_ema),
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
        check_request(request, self.model, self.guidance)
        denoiser = composed(self, plan, guidance_scale, padded=padded)
        if wrap is not None:
            denoiser = wrap(denoiser)
        labels = request.labels.to(self.device) if request.labels is not None else None
        return self._loop(trajectory(plan, denoiser, x, labels, noise), use_ema)

    def _loop(self, states: Iterator[State], use_ema: bool) -> Generator[State]:
        with self.averaged(use_ema), eval_mode(self.networks()):
            while True:
                # Autograd is off for the work, not for the code that reads the states
                with torch.no_grad():
                    state = next(states, None)
                if state is None:
                    return
                yield state

    def images(self, x0: Tensor, *, padded: bool = True) -> Tensor:
        """Return the last states of a run as images in [-1, 1], decoded; NaN and infinity are InputErrors.

        Args:
            x0: (B, C, H, W), what a plan arrived at.
            padded: as for `run`.
        """
        return finite(self.decoded(x0, padded=padded)).clamp(-1, 1)  # looked at once: a run waits for nothing

    def decoded(self, x0: Tensor, *, padded: bool = True) -> Tensor:
        """Return last states, decoded if they are latents, whatever their values are; as for `images`."""
        if self.bounded:
            return x0
        pieces = MicroBatches(lambda z, *_: self.model.decode(z), self.micro_batch, padded=padded)
        with torch.no_grad(), eval_mode(self.model):
            return pieces(x0, self.plan.end)

    def _states(self, request: Request, *, swap: bool = True) -> Generator[State]:
        noise = SeededNoise(request.seeds, self.model.image_shape, self.device)
        return self.run(
            self.plan,
            self.plan.prior_std * noise(),
            request.class_labels,
            request.guidance_scale,
            request.use_ema and swap,
            noise=noise,
            padded=request.seeded,
        )

    def _evaluate_once(self) -> None:
        x = torch.zeros(self.micro_batch, *self.model.image_shape, device=self.device)
        # not every model with classes says something without one
        labels = torch.zeros(len(x), dtype=torch.int64, device=x.device) if self.model.num_classes else None
        batched = MicroBatches(self.model, self.micro_batch, precision=self.precision)
        with torch.no_grad(), eval_mode(self.model):
            self.images(batched(x, self.plan.rows[0].level, labels))


# Keywords that do not say a method
_SETTINGS = {"guidance", "threshold", "micro_batch", "memory_share", "precision"}
