"""Mixed precision: what a device can do, whether it is right and faster here, and the context it runs in.

``bf16`` and ``fp16`` are torch's autocast: convolutions and products run in 16 bits. Weights, the state, the
sums inside norms and the loss stay float32. ``auto`` tries a few steps of the network at hand, once, and
takes what is faster here; whoever asks keeps the answer, because another precision makes other bits.

A result of n layers is right if its relative error is at most eps sqrt(n). A layer rounds its input, its
weights and its result, each by a relative error that is uniform up to u = eps / 2, so u / sqrt(3) in the root
mean square, and together u. Norms carry errors on at their size, and independent ones add up as squares, so
n layers make u sqrt(n); twice that is allowed. A backward passes every layer once more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from snowmelt.device import synchronize
from snowmelt.errors import InputError

__all__ = ["AUTO", "PRECISIONS", "Choice", "autocast", "candidate", "check_precision", "choose", "fastest"]

AUTO = "auto"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

SECONDS = 3.0  # for all steps that are tried
STEP = 0.1  # seconds: a step of float32 is tried with more images until it takes this long
ROUNDS = 5
HOPELESS = 2.0  # of float32's time, for one image: no more is tried
GAIN = 0.9  # of float32's time: less of a gain may be noise

Clock = Callable[[], float]
Step = Callable[[str, int], Tensor]  # (precision, images) -> what they give, flat


class Choice(NamedTuple):
    """A precision, and the sentence that says why it was chosen; empty where it was asked for."""

    precision: str
    reason: str = ""


def check_precision(precision: str, device: str | torch.device) -> str:
    """Return `precision`, ``auto`` included.

    Raises:
        InputError: there is no such word, or the device cannot do it.

    >>> check_precision("bf16", "cpu")
    'bf16'
    """
    device = torch.device(device)
    if precision not in (AUTO, *PRECISIONS):
        raise InputError(f"precision must be one of {', '.join((AUTO, *PRECISIONS))}, got {precision!r}")
    if precision in ("bf16", "fp16") and not torch.amp.is_autocast_available(device.type):
        raise InputError(f"precision {precision} was asked for, but {device.type} has none: use fp32 or auto")
    if precision == "bf16" and device.type == "cuda" and candidate(device) != "bf16":
        raise InputError("precision bf16 was asked for, but this CUDA device has none: use fp16 or auto")
    return precision


def candidate(device: str | torch.device) -> str | None:
    """Return what could be faster than float32 on a device; None for nothing.

    float16 overflows where bfloat16 does not, so it is for CUDA devices that have nothing else.

    >>> candidate("cpu"), candidate("meta")
    ('bf16', None)
    """
    device = torch.device(device)
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if device.type == "cpu" else None


def autocast(device: str | torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network runs in a precision; that of ``fp32`` does nothing.

    >>> layer, x = nn.Linear(2, 2), torch.ones(1, 2)
    >>> with autocast("cpu", "bf16"):
    ...     layer(x).dtype
    torch.bfloat16
    """
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, PRECISIONS[precision])


def choose(
    precision: str, model: Any, device: str | torch.device, images: int, *, backward: bool = False
) -> Choice:
    """Return `precision`, or for ``auto`` the fastest one, tried on this model and device.

    The model should be in eval mode. Neither its weights nor their gradients nor any random generator change.

    Args:
        precision: as asked for.
        model: a `Denoiser` with the attributes schedule, image_shape and num_classes.
        device: where it is.
        images: in one call of the network.
        backward: with the gradients of the weights, as in training.

    Raises:
        InputError: as `check_precision`.
    """
    if check_precision(precision, device) != AUTO:
        return Choice(precision)
    weights = model.parameters() if isinstance(model, nn.Module) else ()
    layers = sum(weight.ndim > 1 for weight in weights)
    step = _step_of(model, torch.device(device), backward)
    # What others do on this machine at the moment does not count
    clock = time.thread_time if torch.device(device).type == "cpu" else time.perf_counter
    return fastest(step, candidate(device), images, max(layers, 1) * (1 + backward), clock)


def fastest(step: Step, name: str | None, images: int, layers: int, clock: Clock) -> Choice:
    """Return the faster one of float32 and another precision, if that one's result is right.

    Args:
        step: does a step and waits for the device.
        name: the other precision; None if there is none.
        images: the most of them in a step.
        layers: that the result went through.
        clock: in seconds.
    """
    if name is None:
        return Choice("fp32", "This device has no faster precision: float32 is used")
    end = clock() + SECONDS

    def first(precision: str) -> Tensor:
        with _Deadline(clock, clock() + (end - clock()) / 3):  # a backward takes twice a forward
            return step(precision, 1)

    def seconds(precision: str, count: int) -> float:
        start = clock()
        step(precision, count)
        return clock() - start

    try:
        exact, rounded = first("fp32"), None
        alone = plain = seconds("fp32", 1)
        count = 1
        while plain < STEP and 2 * count <= images:
            count *= 2
            plain = seconds("fp32", count)
        rounded = first(name)
    except _OutOfTimeError:
        return Choice("fp32", f"No step of {name} ended within {SECONDS:g} s: float32 is used")
    if problem := _problem(exact, rounded, torch.finfo(PRECISIONS[name]).eps * math.sqrt(layers)):
        return Choice("fp32", f"{name} gives {problem} here: float32 is used")
    ratio = seconds(name, 1) / alone
    if ratio < HOPELESS:
        times: dict[str, list[float]] = {"fp32": [], name: []}
        for _ in range(ROUNDS):
            began = clock()
            for precision, taken in times.items():  # in turn, so that a busy machine is as busy for both
                taken.append(seconds(precision, count))
            if clock() + (clock() - began) > end:
                break
        ratio = min(times[name]) / min(times["fp32"])
    chosen = name if ratio < GAIN else "fp32"
    which = "it" if chosen == name else "float32"
    return Choice(chosen, f"{name} takes {ratio:.2f} of float32's time here: {which} is used")


def _problem(exact: Tensor, rounded: Tensor, bound: float) -> str | None:
    """Return what is wrong with a result, or None."""
    if not rounded.isfinite().all():
        return "numbers that are not finite"
    error = (rounded - exact).norm().item() / (exact.norm().item() or 1.0)
    return f"a relative error of {error:.2g}, more than {bound:.2g}," if error > bound else None


def _step_of(model: Any, device: torch.device, backward: bool) -> Step:
    """Return a step of a model where signal and noise are equally strong, so that an error keeps its size."""
    t = model.schedule.t_of_lam(torch.zeros((), dtype=torch.float64))  # or the noisiest one
    level = model.schedule(t.item())
    weights = [w for w in model.parameters() if w.requires_grad] if isinstance(model, nn.Module) else []

    def step(precision: str, count: int) -> Tensor:
        x = torch.randn(count, *model.image_shape, generator=torch.Generator().manual_seed(0)).to(device)
        labels = torch.zeros(count, dtype=torch.int64, device=device) if model.num_classes else None
        with torch.set_grad_enabled(backward):
            with autocast(device, precision):
                x0 = model(x, level, labels).float()
            made: Sequence[Tensor | None] = (x0,)
            if backward:
                # A sum, whose gradients float16 can hold; to another image, so that they are not zero
                error = (x0 - x.flip(-1)).square().sum()
                made = torch.autograd.grad(error, weights, allow_unused=True)
        flat = torch.cat([tensor.detach().flatten().float() for tensor in made if tensor is not None])
        synchronize(device)
        return flat

    return step


class _OutOfTimeError(Exception):
    """A step that is tried takes too long."""


class _Deadline(TorchFunctionMode):
    """Ends what torch is doing at a moment, between two of its functions: without it, a step has no limit."""

    def __init__(self, clock: Clock, end: float) -> None:
        super().__init__()
        self.clock, self.end = clock, end

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self.clock() > self.end:
            raise _OutOfTimeError
        return function(*args, **(kwargs or {}))
