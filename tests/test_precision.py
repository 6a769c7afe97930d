"""`snowmelt.precision`: the faster of two precisions, if its result is right; and what runs in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snowmelt import DiffusionSampler, create_ddpm, create_model, precision
from snowmelt.adapters import from_flow
from snowmelt.errors import InputError
from snowmelt.models import DiffusionModel
from snowmelt.precision import Choice, check_precision, choose, fastest

SIZE = {
    "image_size": 8,
    "in_channels": 1,
    "model_channels": 8,
    "channel_multipliers": (1, 1),
    "norm_groups": 4,
}
EXACT = torch.linspace(-1, 1, 100)


def spread_model(**options) -> DiffusionModel:
    """A model whose layers keep the size of what goes through them, so that roundings show."""
    torch.manual_seed(0)
    model = create_model(**SIZE, num_classes=3, **options).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return model


class Machine:
    """A machine whose time is a number: an image costs so many seconds in each precision."""

    def __init__(self, fp32: float = 0.01, bf16: float = 0.01, error: float = 0.0) -> None:
        self.now, self.cost, self.error = 0.0, {"fp32": fp32, "bf16": bf16}, error
        self.calls: list[tuple[str, int]] = []

    def step(self, name: str, images: int) -> Tensor:
        self.calls.append((name, images))
        result = EXACT.clone() if name == "fp32" else EXACT * (1 + self.error)
        for _ in range(10):  # operations
            self.now += self.cost[name] * images / 10
            result = torch.neg(result)
        return result

    def choose(self, name: str | None = "bf16", images: int = 64) -> Choice:
        return fastest(self.step, name, images, layers=4, clock=lambda: self.now)


# -- the choice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "chosen", "said"),
    [
        (0.57, "bf16", "bf16 takes 0.57 of float32's time here: it is used"),
        (0.99, "fp32", "bf16 takes 0.99 of float32's time here: float32 is used"),
        (7.0, "fp32", "bf16 takes 7.00 of float32's time here: float32 is used"),
    ],
)
def test_the_faster_one_is_taken(ratio, chosen, said):
    machine = Machine(bf16=0.01 * ratio)
    assert machine.choose() == (chosen, said)
    assert machine.now <= precision.SECONDS


def test_a_slow_one_is_tried_on_single_images_only():
    machine = Machine(bf16=0.1)
    machine.choose()
    assert [call for call in machine.calls if call[0] == "bf16"] == [("bf16", 1), ("bf16", 1)]


@pytest.mark.parametrize("costs", [(0.5, 30.0), (30.0, 30.0)])
def test_a_step_that_does_not_end_in_time_is_left(costs):
    machine = Machine(*costs)
    assert machine.choose() == ("fp32", "No step of bf16 ended within 3 s: float32 is used")
    assert machine.now <= precision.SECONDS + 30.0 / 10  # and one operation


def test_a_step_has_no_more_images_than_those_of_a_call():
    machine = Machine(fp32=1e-4, bf16=5e-5)
    assert machine.choose(images=6).precision == "bf16"
    assert {images for _, images in machine.calls} == {1, 2, 4}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.02, "gives a relative error of 0.02, more than 0.016, here"),  # 2^-7 sqrt(4)
        (float("nan"), "gives numbers that are not finite here"),
    ],
)
def test_a_fast_one_whose_result_is_wrong_is_refused(error, said):
    choice = Machine(bf16=0.001, error=error).choose()
    assert choice.precision == "fp32"
    assert said in choice.reason
    assert Machine(bf16=0.001, error=0.015).choose().precision == "bf16"


def test_a_device_without_another_precision_stays_in_float32():
    assert Machine().choose(None).precision == "fp32"


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("schedule", ["ddpm", "flow", "edm"])
def test_the_bound_holds_for_new_networks_and_for_spread_ones(schedule, backward):
    """With a clock for which bf16 is faster, it is taken."""
    torch.manual_seed(0)
    for model in (create_model(**SIZE, schedule=schedule), spread_model(schedule=schedule)):
        layers = sum(weight.ndim > 1 for weight in model.parameters()) * (1 + backward)
        machine, compute = Machine(bf16=0.005), precision._step_of(model, torch.device("cpu"), backward)

        def step(name, images, machine=machine, compute=compute):
            machine.step(name, images)
            return compute(name, 1) if images == 1 else EXACT  # no more is looked at

        choice = fastest(step, "bf16", 64, layers, clock=lambda machine=machine: machine.now)
        assert choice.precision == "bf16", choice


def test_trying_leaves_no_trace():
    model = create_ddpm(**SIZE, num_classes=3).eval()
    before, stream = (
        {name: value.clone() for name, value in model.state_dict().items()},
        torch.get_rng_state(),
    )
    with torch.no_grad():  # as where a run begins with a validation
        assert choose("auto", model, "cpu", 4, backward=True).precision in ("fp32", "bf16")
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("name", "device", "has_bfloat16", "said"),
    [
        ("half", "cpu", True, "must be one of auto, fp32, bf16, fp16"),
        ("bf16", "meta", True, "meta has none"),
        ("bf16", "cuda", False, "use fp16"),
    ],
)
def test_what_a_device_cannot_do_is_refused(monkeypatch, name, device, has_bfloat16, said):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    with pytest.raises(InputError, match=said):
        check_precision(name, device)


@pytest.mark.parametrize(("has_bfloat16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_cuda_tries_float16_only_without_bfloat16(monkeypatch, has_bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)
    assert precision.candidate("cuda") == expected


# -- sampling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_the_network_runs_in_it_and_the_state_does_not(name, dtype):
    model, seen = spread_model(parameterization="x0"), []
    model.network.conv_out.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    model.network.up_blocks[0].resnets[0].conv1.register_forward_hook(
        lambda module, x, y: seen.append(y.dtype)
    )
    options = {"solver": "ddim", "steps": 3}
    sampler = DiffusionSampler(model, precision=name, **options)
    states = [state.x_t for state in sampler.trajectory(2, [0, 1], 3.0, seeds=[5, 6])]
    assert set(seen) == {dtype}
    assert {state.dtype for state in states} == {torch.float32}
    images = sampler.sample(2, [0, 1], 3.0, seeds=[5, 6])
    exact = DiffusionSampler(model, **options).sample(2, [0, 1], 3.0, seeds=[5, 6])
    assert images.dtype == torch.float32
    assert not torch.equal(images, exact)
    assert (images - exact).norm() < 0.1 * exact.norm()


def test_an_image_depends_on_its_seed_alone_in_any_precision():
    sampler = DiffusionSampler(spread_model(), solver="ddim", steps=2, precision="bf16")
    together = sampler.sample(5, [0, 1, 2, 0, 1], seeds=range(5), batch_size=3)
    assert torch.equal(sampler.sample(1, [2], seeds=[2])[0], together[2])


def test_the_precision_is_part_of_the_identity_and_stays_with_another_method(monkeypatch):
    tried = []

    def tries(name, *_, **__):
        tried.append(name)
        return Choice("bf16", "because") if name == "auto" else Choice(name)

    monkeypatch.setattr("snowmelt.sampling.sampler.choose", tries)
    sampler = DiffusionSampler(spread_model(), precision="auto")
    other = sampler.with_method("ddim:3")
    for each in (sampler, other):
        assert each.precision == "bf16"
        assert each.identity(each.request(1, seeds=[0]))["precision"] == "bf16"
    assert tried == ["auto", "bf16"]
    assert DiffusionSampler(spread_model()).precision == "fp32"


def test_latents_are_decoded_in_float32():
    seen = []
    shuffle = nn.PixelShuffle(2)
    shuffle.register_forward_hook(
        lambda module, x, y: seen.append((y.dtype, torch.is_autocast_enabled("cpu")))
    )
    model = from_flow(lambda x, time, labels: 0 * x, (4, 4, 4))
    DiffusionSampler(model.with_decoder(shuffle), steps=2, solver="euler", precision="bf16").sample(1)
    assert seen == [(torch.float32, False)]
