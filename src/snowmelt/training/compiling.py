"""torch.compile for the network of a training run, with a way back."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from snowmelt.text import shortened

__all__ = ["Compiled"]


class Compiled:
    """A network that runs compiled, and as it is where the compiler fails; a warning then says why, once.

    The network itself is untouched, and so are the names of its weights.

    Args:
        network: what is compiled, when it is first called.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._run: Any = torch.compile(network)

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        try:
            y: Tensor = self._run(*inputs, **named)
        except Exception as error:  # compilers raise many kinds; if the network is to blame, it says so below
            if self._run is self.network:
                raise
            y = self.network(*inputs, **named)
            self._run = self.network
            reason = shortened(" ".join(str(error).split()) or type(error).__name__)
            warnings.warn(f"torch.compile failed, and the run goes on without it: {reason}", stacklevel=2)
        return y
