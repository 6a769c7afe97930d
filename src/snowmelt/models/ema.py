"""An exponential moving average of a model's weights: what diffusion models are sampled with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.models.power_ema import check_width, exponent_of
from snowmelt.models.weights import is_shard, unwrapped

__all__ = ["EMA"]


class EMA:
    """Keeps shadow = decay * shadow + (1 - decay) * weights, and swaps it in for sampling.

    Parameters are averaged in float32 or better; buffers are copied as they are, for a running statistic
    is an average already.

    Args:
        model: whose weights are averaged; it keeps them.
        decay: in [0, 1).
        device: where the shadow lives; None keeps it beside the weights.
        warmup: let the decay rise with the number of updates, so that the first random weights are
            forgotten soon.
        width: in place of a decay, the relative width of EDM2's power function: a share of the run, whatever
            its length (`snowmelt.models.power_ema`).

    Raises:
        ValueError: `decay` or `width` is out of range.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> ema = EMA(model, decay=0.9)
    >>> _ = nn.init.ones_(model.weight)
    >>> ema.update()
    >>> with ema.applied():
    ...     print(round(model.weight.item(), 4))
    0.1
    >>> model.weight.item()
    1.0
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float = 0.9999,
        device: str | torch.device | None = None,
        *,
        warmup: bool = False,
        width: float | None = None,
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.model = model
        self.decay = decay
        self.width = width if width is None else check_width(width)
        self.device = device
        self.warmup = warmup
        self.num_updates = 0
        self._places = _places(model)
        self.shadow = {name: self._shadow_of(value) for name, value in self._live().items()}
        self._raw: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights into the average; to be called after each optimizer step."""
        if self._raw is not None:
            raise RuntimeError("the model holds the EMA weights now: call restore() before update()")
        self.num_updates += 1
        live, shadow = self._live(), self.shadow
        averaged = [n for n, v in live.items() if isinstance(v, nn.Parameter) and v.is_floating_point()]
        copied = [name for name in live if name not in set(averaged)]
        if averaged:
            weights = _alike([live[name] for name in averaged], [shadow[name] for name in averaged])
            torch._foreach_lerp_([shadow[name] for name in averaged], weights, 1 - self.kept())
        for name in copied:
            shadow[name].copy_(live[name])

    @torch.no_grad()
    def replace(self, averages: Mapping[Tensor, Tensor]) -> None:
        """Take averages that somebody else keeps, in place of an update.

        Args:
            averages: by the model's parameter; whatever is not in it is copied as it is.
        """
        if self._raw is not None:
            raise RuntimeError("the model holds the EMA weights now: call restore() before replace()")
        self.num_updates += 1
        for name, value in self._live().items():
            self.shadow[name].copy_(averages.get(value, value))

    def kept(self) -> float:
        """Return the factor of the average before the latest update: its decay."""
        n = self.num_updates
        if self.width is not None:
            # Karras et al. 2024, section 3.1: beta_gamma(t) = (1 - 1/t)^(gamma + 1)
            return math.pow(1 - 1 / n, exponent_of(self.width) + 1)
        # TensorFlow's tf.train.ExponentialMovingAverage, with its argument num_updates
        return min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay

    def apply_shadow(self) -> None:
        """Give the model the EMA weights, until `restore`. Its parameters stay the same objects."""
        if self._raw is not None:
            raise RuntimeError(
                "the EMA weights are applied already: call restore() first, or the raw weights would be lost"
            )
        live = self._live()
        # All copies first: if one fails, the model still has its own weights
        averaged = {n: self.shadow[n].to(device=v.device, dtype=v.dtype) for n, v in live.items()}
        self._raw = {
            name: value.data.clone() if is_shard(value) else value.data for name, value in live.items()
        }
        for name, value in live.items():
            _give(value, averaged[name])

    def restore(self) -> None:
        """Give the model its own weights back."""
        if self._raw is None:
            raise RuntimeError("there is nothing to restore: call apply_shadow() first")
        for name, value in self._live().items():
            _give(value, self._raw[name])
        self._raw = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Hold the EMA weights in the model for the length of a ``with`` block, also if it raises."""
        self.apply_shadow()
        try:
            yield
        finally:
            self.restore()

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and their state: tensors, numbers and strings only."""
        profile = {"decay": self.decay} if self.width is None else {"width": self.width}
        return {**profile, "num_updates": self.num_updates, "shadow": dict(self.shadow)}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned, its decay or width included.

        Raises:
            ValueError: its weights are not those of this model. Nothing is changed then.
        """
        shadow = state_dict.get("shadow")
        if not isinstance(shadow, Mapping) or not all(isinstance(v, Tensor) for v in shadow.values()):
            raise ValueError(
                "not an EMA state: it has no tensors under 'shadow', only "
                f"{', '.join(list(state_dict)[:3]) or 'nothing'}; give what EMA.state_dict() returned (a "
                "checkpoint's ema_state_dict)"
            )
        given = unwrapped(shadow)
        names = sorted(given.keys() | self.shadow.keys())
        wrong = [name for name in names if _shape(given, name) != _shape(self.shadow, name)]
        if wrong:
            first = wrong[0]
            raise ValueError(
                f"the EMA weights do not fit the model in {len(wrong)} names or shapes, first in {first}: "
                f"given {_shape(given, first)}, expected {_shape(self.shadow, first)}; build the model with "
                "the options that it was trained with"
            )
        for name, value in given.items():
            if value.is_floating_point() != self.shadow[name].is_floating_point():
                raise ValueError(
                    f"the EMA weights {name} are {value.dtype}, expected {self.shadow[name].dtype}"
                )
        decay, num_updates = state_dict.get("decay", self.decay), state_dict.get("num_updates", 0)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {str(decay)[:40]}")
        if isinstance(num_updates, bool) or not isinstance(num_updates, int) or not 0 <= num_updates < 2**63:
            raise ValueError(f"num_updates must be an integer, 0 or more, got {str(num_updates)[:40]}")
        width = state_dict.get("width")
        self.width = width if width is None else check_width(width)
        for name, value in given.items():
            self.shadow[name].copy_(value)
        self.decay, self.num_updates = float(decay), num_updates

    def _live(self) -> dict[str, Tensor]:
        return {name: tensors[key] for name, (tensors, key) in self._places.items()}

    def _shadow_of(self, value: Tensor) -> Tensor:
        dtype = torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype
        return value.detach().to(device=self.device, dtype=dtype, copy=True)


@torch.no_grad()
def _give(tensor: Tensor, value: Tensor) -> None:
    """Let a tensor hold a value; one that is a shard keeps its memory, which FSDP reads."""
    if is_shard(tensor):
        tensor.copy_(value)
    else:
        tensor.data = value


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None


def _places(model: nn.Module) -> dict[str, tuple[Mapping[str, Any], str]]:
    """Return where each parameter and buffer stands: walking through a model at each update takes longer."""
    modules = dict(model.named_modules())
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    places = {}
    for name in tensors:
        path, _, key = name.rpartition(".")
        module = modules[path]
        places[name] = (module._parameters if key in module._parameters else module._buffers, key)
    return dict(zip(unwrapped(tensors), places.values(), strict=True))


def _alike(tensors: list[Tensor], others: list[Tensor]) -> list[Tensor]:
    """Return tensors in the dtype and on the device of others."""
    pairs = zip(tensors, others, strict=True)
    return [
        value if (value.dtype, value.device) == (other.dtype, other.device) else value.to(other)
        for value, other in pairs
    ]
