"""What `EMA` promises: the average, its swap in and out, and its state."""

from __future__ import annotations

import copy
import io
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from snowmelt import EMA

VALUES = st.floats(-10, 10, width=32)


class Everything(nn.Module):
    """A parameter, a floating buffer, an integer buffer and a boolean one."""

    counter: Tensor
    mask: Tensor
    scale: Tensor

    def __init__(self, value: float = 0.0, size: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), value))
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("counter", torch.tensor(0))
        self.register_buffer("mask", torch.tensor([True, False]))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(model.state_dict()))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# -- the average ---------------------------------------------------------------------------------------


@given(start=VALUES, values=st.lists(VALUES, min_size=1, max_size=8), decay=st.floats(0, 0.999))
def test_the_average_weighs_every_value_by_its_age(start, values, decay):
    model = Everything(start)
    ema = EMA(model, decay)
    for value in values:
        model.set(value)
        ema.update()
    ages = reversed(range(len(values)))
    expected = decay ** len(values) * start
    expected += sum((1 - decay) * decay**age * value for age, value in zip(ages, values, strict=True))
    assert ema.shadow["weight"][0].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(value=VALUES, decay=st.floats(0, 0.9999), warmup=st.booleans(), updates=st.integers(1, 5))
def test_weights_that_stand_still_are_their_own_average(value, decay, warmup, updates):
    model = Everything(value)
    ema = EMA(model, decay, warmup=warmup)
    for _ in range(updates):
        ema.update()
    assert torch.equal(ema.shadow["weight"], model.weight)


def test_warmup_forgets_the_first_weights_sooner_and_ends_at_the_decay():
    model = Everything(1.0)
    slow, warm = EMA(model, 0.9), EMA(model, 0.9, warmup=True)
    model.set(0.0)
    kept = []
    for _ in range(200):
        before = warm.shadow["weight"][0].item()
        slow.update()
        warm.update()
        kept.append(warm.shadow["weight"][0].item() / before)
    assert slow.shadow["weight"][0] > warm.shadow["weight"][0] > 0
    assert kept[0] == pytest.approx(2 / 11)  # the published rule at its first update
    assert all(later >= earlier - 1e-5 for earlier, later in pairwise(kept))
    assert kept[-1] == pytest.approx(0.9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_small_steps_are_not_lost_in_low_precision(dtype):
    model = nn.Linear(1, 1, bias=False, dtype=dtype)
    nn.init.zeros_(model.weight)
    ema = EMA(model, decay=0.9999)
    nn.init.ones_(model.weight)
    for _ in range(1000):
        ema.update()
    assert ema.shadow["weight"].item() == pytest.approx(1 - 0.9999**1000, rel=1e-3)
    with ema.applied():
        assert model.weight.dtype == dtype


def test_parameters_of_several_dtypes_are_averaged_together():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).double())
    ema = EMA(model, decay=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    ema.update()
    assert all(torch.equal(ema.shadow[name], value) for name, value in model.named_parameters())


def test_buffers_are_the_latest_not_an_average():
    model = Everything()
    ema = EMA(model, decay=0.9)
    model.scale.fill_(5.0)
    model.counter.add_(7)
    model.mask.logical_not_()
    ema.update()
    latest = snapshot(model)
    model.scale.fill_(-1.0)
    model.counter.zero_()
    model.mask.fill_(False)
    with ema.applied():
        assert all(torch.equal(model.get_buffer(name), latest[name]) for name in ("scale", "counter", "mask"))


def test_a_model_of_buffers_alone_is_followed():
    model = nn.BatchNorm1d(2, affine=False)
    ema = EMA(model)
    model(torch.randn(8, 2))
    ema.update()
    assert same(ema.shadow, snapshot(model))


def test_the_average_is_kept_apart_from_the_weights():
    model = Everything(1.0)
    ema = EMA(model)
    model.set(2.0)
    assert torch.equal(ema.shadow["weight"], torch.ones(3))
    assert not any(value.requires_grad for value in ema.shadow.values())


def test_the_average_lives_on_the_device_that_was_given():
    ema = EMA(Everything(), device="meta")
    ema.update()
    assert {value.device.type for value in ema.shadow.values()} == {"meta"}


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got"):
        EMA(Everything(), decay)


# -- in and out ----------------------------------------------------------------------------------------


@pytest.fixture
def apart() -> tuple[Everything, EMA]:
    """A model at 8 whose average is at 4."""
    model = Everything(0.0)
    ema = EMA(model, decay=0.5)
    model.set(8.0)
    ema.update()
    return model, ema


def test_apply_shows_the_average_and_restore_the_weights(apart):
    model, ema = apart
    raw = snapshot(model)
    ema.apply_shadow()
    assert torch.equal(model.weight, torch.full((3,), 4.0))
    ema.restore()
    assert same(snapshot(model), raw)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_weights_come_back_when_the_block_raises(apart, error):
    model, ema = apart
    raw = snapshot(model)
    with pytest.raises(error), ema.applied():
        raise error
    assert same(snapshot(model), raw)


def test_a_second_apply_raises_and_loses_nothing(apart):
    model, ema = apart
    raw = snapshot(model)
    ema.apply_shadow()
    with pytest.raises(RuntimeError, match="applied already"):
        ema.apply_shadow()
    ema.restore()
    assert same(snapshot(model), raw)


def test_restore_without_apply_raises(apart):
    _, ema = apart
    with pytest.raises(RuntimeError, match="apply_shadow"):
        ema.restore()
    with ema.applied():
        pass
    with pytest.raises(RuntimeError, match="apply_shadow"):
        ema.restore()


def test_the_average_is_not_averaged_with_itself(apart):
    _, ema = apart
    shadow = copy.deepcopy(ema.shadow)
    with ema.applied(), pytest.raises(RuntimeError, match="restore"):
        ema.update()
    assert same(ema.shadow, shadow)


def test_a_failed_apply_leaves_the_weights(apart):
    model, ema = apart
    raw = snapshot(model)
    ema.shadow["weight"] = ema.shadow["weight"].to("meta")  # cannot be copied back
    with pytest.raises(NotImplementedError):
        ema.apply_shadow()
    assert same(snapshot(model), raw)
    with pytest.raises(RuntimeError, match="apply_shadow"):
        ema.restore()


def test_an_optimizer_outlives_the_swap(apart):
    model, ema = apart
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with ema.applied():
        pass
    model.weight.sum().backward()
    optimizer.step()
    assert torch.equal(model.weight, torch.full((3,), 7.0))


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    ema = EMA(model)
    with ema.applied():
        assert model[0].weight.data_ptr() == model[1].weight.data_ptr()


# -- its state -----------------------------------------------------------------------------------------


def test_a_saved_average_goes_on_as_if_it_had_never_stopped(apart):
    model, ema = apart
    ema.warmup = True
    file = io.BytesIO()
    torch.save(ema.state_dict(), file)
    file.seek(0)
    again = EMA(model, decay=0.1, warmup=True)
    again.load_state_dict(torch.load(file, weights_only=True))
    for value in (3.0, -2.0):
        model.set(value)
        ema.update()
        again.update()
    assert same(again.shadow, ema.shadow)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_leave_no_trace_in_names(apart, prefix):
    _, ema = apart
    state = ema.state_dict()
    wrapped = {**state, "shadow": {prefix + name: value for name, value in state["shadow"].items()}}
    other = EMA(Everything())
    other.load_state_dict(wrapped)
    assert same(other.shadow, ema.shadow)


def test_a_wrapped_model_has_the_same_state_as_its_bare_one(apart):
    model, ema = apart
    wrapped = EMA(nn.ModuleDict({"module": model}))
    wrapped.load_state_dict(ema.state_dict())
    assert same(wrapped.state_dict()["shadow"], ema.shadow)
    with wrapped.applied():
        assert torch.equal(model.weight, ema.shadow["weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shadow: shadow.pop("weight"), r"weight: given None, expected \(3,\)"),
        (lambda shadow: shadow.update(extra=torch.zeros(2)), r"extra: given \(2,\), expected None"),
        (lambda shadow: shadow.update(weight=torch.zeros(4)), r"weight: given \(4,\), expected \(3,\)"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(apart, change, message):
    _, ema = apart
    before = copy.deepcopy(ema.state_dict())
    state = {
        "decay": 0.1,
        "num_updates": 99,
        "shadow": {n: v + 1 for n, v in ema.shadow.items() if n != "mask"},
    }
    state["shadow"]["mask"] = ema.shadow["mask"]
    change(state["shadow"])
    with pytest.raises(ValueError, match=message):
        ema.load_state_dict(state)
    assert same(ema.shadow, before["shadow"])
    assert (ema.decay, ema.num_updates) == (before["decay"], before["num_updates"])


def test_bare_weights_are_no_ema_state(apart):
    model, ema = apart
    with pytest.raises(ValueError, match=r"not an EMA state.*weight.*ema_state_dict"):
        ema.load_state_dict(model.state_dict())
