"""An exponential moving average of a model's weights: what diffusion models are sampled with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.models.weights import unwrapped

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

    Raises:
        ValueError: `decay` is out of range.

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
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.model = model
        self.decay = decay
        self.device = device
        self.warmup = warmup
        self.num_updates = 0
        self.shadow = {name: self._shadow_of(value) for name, value in self._live().items()}
        self._raw: dict[str, Tensor] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's weights into the average; to be called after each optimizer step."""
        if self._raw is not None:
            raise RuntimeError("the model holds the EMA weights now: call restore() before update()")
        self.num_updates += 1
        n = self.num_updates
        # TensorFlow's tf.train.ExponentialMovingAverage, with its argument num_updates
        decay = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
        averaged, weights = [], []
        for name, value in self._live().items():
            if isinstance(value, nn.Parameter) and value.is_floating_point():
                averaged.append(self.shadow[name])
                weights.append(value.detach().to(self.shadow[name]))
            else:
                self.shadow[name].copy_(value)
        if averaged:
            torch._foreach_lerp_(averaged, weights, 1 - decay)

    def apply_shadow(self) -> None:
        """Give the model the EMA weights, until `restore`. Its parameters stay the same objects."""
        if self._raw is not None:
            raise RuntimeError(
                "the EMA weights are applied already: call restore() first, or the raw weights would be lost"
            )
        live = self._live()
        # All copies first: if one fails, the model still has its own weights
        averaged = {name: self.shadow[name].to(value) for name, value in live.items()}
        self._raw = {name: value.data for name, value in live.items()}
        for name, value in live.items():
            value.data = averaged[name]

    def restore(self) -> None:
        """Give the model its own weights back."""
        if self._raw is None:
            raise RuntimeError("there is nothing to restore: call apply_shadow() first")
        for name, value in self._live().items():
            value.data = self._raw[name]
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
        return {"decay": self.decay, "num_updates": self.num_updates, "shadow": dict(self.shadow)}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned, its decay included.

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
        for name, value in given.items():
            self.shadow[name].copy_(value)
        self.decay, self.num_updates = float(decay), num_updates

    def _live(self) -> dict[str, Tensor]:
        tensors = {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}
        return unwrapped(tensors)

    def _shadow_of(self, value: Tensor) -> Tensor:
        dtype = torch.promote_types(value.dtype, torch.float32) if value.is_floating_point() else value.dtype
        return value.detach().to(device=self.device, dtype=dtype, copy=True)


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, ...] | None:
    return tuple(tensors[name].shape) if name in tensors else None
