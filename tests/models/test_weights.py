"""Weights go into a model whoever wrapped it or parts of it, then or now."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from snowmelt import Checkpoint, create_ddpm
from snowmelt.models import EMA, load_weights


class Wrapped(nn.Module):
    """What DDP makes of a module: the same one, a level deeper."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: object) -> object:
        return self.module(*inputs)


def make(seed: int):
    torch.manual_seed(seed)
    return create_ddpm(8, 1, 8, (1, 2), norm_groups=4, layers_per_block=1, num_timesteps=20)


def wrapped(seed: int, how: str):
    """Return a model with one wrapper inside or two, and the bare one."""
    bare = make(seed)
    model = copy.deepcopy(bare)
    if "compiled" in how:
        model.network.conv_in = torch.compile(model.network.conv_in, backend="eager")
    if "parallel" in how:
        model.network = Wrapped(model.network)
    assert model.state_dict().keys() != bare.state_dict().keys()
    return model, bare


HOW = pytest.mark.parametrize("how", ["compiled", "parallel", "parallel and compiled"])


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


@HOW
def test_what_was_saved_of_wrapped_parts_is_read_without_them(how, tmp_path):
    model, bare = wrapped(0, how)
    ema = EMA(model)
    Checkpoint(model.state_dict(), bare.spec, ema.state_dict()).write(tmp_path / "raw.pth")
    Checkpoint.of(model, ema).write(tmp_path / "whole.pth")
    for name in ("raw", "whole"):
        checkpoint = Checkpoint.read(tmp_path / f"{name}.pth")
        again = checkpoint.model()
        assert same(again, bare)
        assert checkpoint.averaged(again).shadow.keys() == EMA(bare).shadow.keys()


@HOW
def test_weights_of_a_bare_model_go_into_wrapped_parts_and_back(how):
    model, _ = wrapped(0, how)
    other, bare = wrapped(1, how)
    load_weights(model, bare.state_dict(), source="bare")
    assert same(model, bare)
    plain = make(2)
    load_weights(plain, other.state_dict(), source="wrapped")
    assert same(plain, bare)


def test_modules_that_are_called_like_a_wrapper_keep_their_names():
    """Without the word, both would be `weight`."""
    make = [lambda: nn.Linear(1, 1, bias=False)] * 2
    one, other = (nn.ModuleDict({"module": a(), "_orig_mod": b()}) for a, b in (make, make))
    load_weights(other, one.state_dict(), source="one")
    assert same(one, other)
