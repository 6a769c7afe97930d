"""What `DiffusionSampler` promises."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from snowmelt import EMA, Checkpoint, DiffusionSampler, create_ddpm
from snowmelt.denoisers.guidance import make_guidance
from snowmelt.models import DDPMModel
from snowmelt.plans import Method, make_plan, make_preset


def small_model(num_classes: int | None = 3) -> DDPMModel:
    torch.manual_seed(1)
    model = create_ddpm(
        image_size=8,
        in_channels=1,
        model_channels=8,
        channel_multipliers=(1, 2),
        num_classes=num_classes,
        num_timesteps=10,
        beta_start=1e-3,
        beta_end=0.4,
        norm_groups=4,
        dropout=0.2,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.manual_seed(0)
    return model


@pytest.fixture
def model() -> DDPMModel:
    return small_model()


@pytest.fixture
def sampler(model) -> DiffusionSampler:
    return DiffusionSampler(model, solver="ddim", steps=3)


# -- what comes out ------------------------------------------------------------------------------------


def test_it_keeps_what_it_was_given(model):
    ema = EMA(model)
    sampler = DiffusionSampler(model, "cpu", ema)
    assert sampler.model is model
    assert sampler.device == "cpu"
    assert sampler.ema is ema
    assert sampler.plan == make_preset(model.schedule, "balanced")


@pytest.mark.parametrize("words", [{"method": "heun:2"}, {"solver": "heun", "steps": 2}])
def test_a_method_of_ones_own_leaves_the_models_threshold_and_guidance(model, words):
    threshold = {"type": "clip", "bound": 1.5}
    checkpoint = Checkpoint.of(model, method=Method.of("ddim:3"), threshold=threshold, guidance="apg")
    sampler = DiffusionSampler.from_pretrained(checkpoint, use_ema=False, **words)
    assert sampler.plan.name == "heun"
    assert sampler.threshold == threshold
    assert sampler.guidance == make_guidance("apg")


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
def test_samples_are_images_in_range(model, solver):
    samples = DiffusionSampler(model, solver=solver, steps=4).sample(5)
    assert samples.shape == (5, 1, 8, 8)
    assert samples.dtype == torch.float32
    assert samples.abs().max() <= 1
    assert samples.std() > 0
    assert not samples.requires_grad


def test_sample_by_class_is_ordered_class_by_class(sampler):
    samples, labels = sampler.sample_by_class(2, num_classes=3, guidance_scale=2.0, seeds=range(6))
    assert labels == [0, 0, 1, 1, 2, 2]
    assert all(type(label) is int for label in labels)
    assert torch.equal(samples, sampler.sample(6, labels, 2.0, seeds=range(6)))


def test_sample_by_class_may_take_the_first_classes(sampler):
    samples, labels = sampler.sample_by_class(1, num_classes=2)
    assert labels == [0, 1]
    assert len(samples) == 2


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_integer_dtype_are_the_same(sampler, dtype):
    one = sampler.sample(3, torch.tensor([0, 2, 1], dtype=dtype), seeds=[1, 2, 3])
    assert torch.equal(one, sampler.sample(3, [0, 2, 1], seeds=[1, 2, 3]))
    assert torch.equal(one, sampler.sample(3, np.array([0, 2, 1]), seeds=[1, 2, 3]))


def test_labels_change_the_image(sampler):
    one, other = sampler.sample(2, [0, 1], seeds=[5, 5])
    assert not torch.equal(one, other)


def test_no_labels_samples_the_null_class(model, sampler):
    seen = []
    hook = model.network.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    sampler.sample(2)
    hook.remove()
    assert [labels.tolist() for labels in seen] == [[3, 3]] * 3


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_guidance_of_0_and_1_is_purely_conditional(sampler, scale):
    plain = sampler.sample(2, [0, 1], seeds=[1, 2])
    assert torch.equal(plain, sampler.sample(2, [0, 1], scale, seeds=[1, 2]))
    assert not torch.equal(plain, sampler.sample(2, [0, 1], 3.0, seeds=[1, 2]))


def test_guidance_is_one_call_a_step(model, sampler):
    sizes = []
    hook = model.network.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    sampler.sample(2, [0, 1], guidance_scale=3.0)
    hook.remove()
    assert sizes == [4] * 3


@pytest.mark.parametrize("num_classes", [None, 0])
def test_an_unconditional_model_samples(num_classes):
    assert DiffusionSampler(small_model(num_classes), steps=2).sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("threshold", ["clip", "dynamic", None])
def test_every_threshold_ends_in_range(model, threshold):
    samples = DiffusionSampler(model, steps=3, threshold=threshold).sample(2, [0, 1], 8.0)
    assert samples.abs().max() <= 1


def test_thresholds_differ(model):
    results = [
        DiffusionSampler(model, solver="ddim", steps=3, threshold=threshold).sample(
            2, [0, 1], 8.0, seeds=[1, 2]
        )
        for threshold in ("clip", "dynamic", None)
    ]
    assert not any(torch.equal(a, b) for a, b in ((results[0], results[1]), (results[0], results[2])))


def test_a_ready_plan_is_run(model):
    plan = make_plan(model.schedule, "ddim", 4)
    sampler = DiffusionSampler(model, plan=plan)
    assert sampler.plan is plan
    named = DiffusionSampler(model, solver="ddim", steps=4)
    assert torch.equal(sampler.sample(2, seeds=[1, 2]), named.sample(2, seeds=[1, 2]))


def test_trajectory_ends_in_the_sample(sampler):
    states = list(sampler.trajectory(2, [0, 1], seeds=[1, 2]))
    assert len(states) == sampler.plan.nfe
    assert torch.equal(states[-1].x_t.clamp(-1, 1), sampler.sample(2, [0, 1], seeds=[1, 2]))


# -- seeds ---------------------------------------------------------------------------------------------


def test_the_global_seed_reproduces(sampler):
    torch.manual_seed(7)
    one = sampler.sample(3)
    torch.manual_seed(7)
    assert torch.equal(one, sampler.sample(3))
    assert not torch.equal(one, sampler.sample(3))


@pytest.mark.parametrize("solver", ["ddpm", "ddim"])
@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_with_seeds_an_image_does_not_depend_on_its_batch(model, solver, scale):
    sampler = DiffusionSampler(model, solver=solver, steps=3)
    seeds = list(range(100, 137))
    labels = [i % 3 for i in range(37)]
    whole = sampler.sample(37, labels, scale, seeds=seeds)
    for part in (slice(0, 1), slice(3, 20), slice(20, 37), slice(36, 37)):
        alone = sampler.sample(len(seeds[part]), labels[part], scale, seeds=seeds[part])
        assert torch.equal(whole[part], alone)
    backwards = sampler.sample(37, labels[::-1], scale, seeds=seeds[::-1])
    assert torch.equal(whole, backwards.flip(0))


def test_seeds_leave_the_global_generator_alone(model):
    before = torch.get_rng_state()
    DiffusionSampler(model, solver="ddpm", steps=3).sample(2, seeds=[1, 2])
    assert torch.equal(before, torch.get_rng_state())


# -- modes and weights ---------------------------------------------------------------------------------


def test_it_samples_in_eval_mode_and_gives_every_mode_back(model, sampler):
    model.train()
    model.network.eval()
    some = next(m for m in model.network.modules() if isinstance(m, nn.Conv2d))
    some.train()
    before = [module.training for module in model.modules()]
    during = []
    hook = some.register_forward_pre_hook(lambda module, args: during.append(module.training))
    sampler.sample(1)
    hook.remove()
    assert during
    assert not any(during)
    assert [module.training for module in model.modules()] == before


class CountingEMA(EMA):
    applications = 0

    def apply_shadow(self):
        self.applications += 1
        super().apply_shadow()


@pytest.fixture
def averaged(model) -> tuple[DDPMModel, CountingEMA]:
    """A model whose EMA differs from it."""
    ema = CountingEMA(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model, ema


def test_ema_weights_are_used_and_given_back(averaged):
    model, ema = averaged
    raw = copy.deepcopy(model.state_dict())
    sampler = DiffusionSampler(model, ema=ema, solver="ddim", steps=3)
    with_ema = sampler.sample(2, seeds=[1, 2])
    without = sampler.sample(2, seeds=[1, 2], use_ema=False)
    assert not torch.equal(with_ema, without)
    assert torch.equal(without, DiffusionSampler(model, solver="ddim", steps=3).sample(2, seeds=[1, 2]))
    with ema.applied():
        assert torch.equal(with_ema, sampler.sample(2, seeds=[1, 2], use_ema=False))
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())


def test_ema_is_applied_once_a_call(averaged):
    model, ema = averaged
    sampler = DiffusionSampler(model, ema=ema, steps=2)
    sampler.sample(2)
    sampler.sample_by_class(1, num_classes=3)
    assert ema.applications == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_everything_is_given_back_when_sampling_raises(averaged, error):
    model, ema = averaged
    model.train()
    raw = copy.deepcopy(model.state_dict())

    def fail(module, args):
        raise error("in the middle")

    hook = model.network.register_forward_hook(lambda module, args, output: fail(module, args))
    with pytest.raises(error, match="in the middle"):
        DiffusionSampler(model, ema=ema, steps=2).sample(2)
    hook.remove()
    assert model.training
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())
    ema.apply_shadow()  # not applied any more, so this is allowed
    ema.restore()


def test_a_trajectory_that_is_left_gives_everything_back(averaged):
    model, ema = averaged
    model.train()
    raw = copy.deepcopy(model.state_dict())
    states = DiffusionSampler(model, ema=ema, steps=3).trajectory(1)
    next(states)
    states.close()
    assert model.training
    assert all(torch.equal(value, raw[name]) for name, value in model.state_dict().items())


def test_autograd_is_off_for_sampling_only(sampler):
    states = sampler.trajectory(1)
    state = next(states)
    assert not state.x_t.requires_grad
    assert torch.is_grad_enabled()
    states.close()


# -- progress ------------------------------------------------------------------------------------------


def test_progress_is_shown_on_demand(sampler, capsys):
    sampler.sample(1)
    assert capsys.readouterr().err == ""
    sampler.sample(1, show_progress=True)
    assert "Sampling" in (shown := capsys.readouterr().err)
    assert "/3" in shown


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        ({"num_samples": -3}, ValueError, "num_samples must be at least 1, got -3"),
        ({"num_samples": 2.0}, TypeError, "num_samples must be an integer, got float"),
        ({"num_samples": "2"}, TypeError, "num_samples must be an integer, got str"),
        ({"num_samples": True}, TypeError, "num_samples must be an integer, got bool"),
        (
            {"num_samples": 4, "class_labels": torch.tensor([0, 1])},
            ValueError,
            r"class_labels length \(2\) must match num_samples \(4\)",
        ),
        ({"num_samples": 2, "class_labels": [0, 3]}, ValueError, r"class_labels must lie in 0\.\.2.*got 3"),
        ({"num_samples": 2, "class_labels": [-1, 0]}, ValueError, r"class_labels must lie in 0\.\.2.*got -1"),
        ({"num_samples": 2, "class_labels": [0.0, 1.0]}, TypeError, "class_labels must be integers"),
        (
            {"num_samples": 1, "class_labels": torch.tensor([True])},
            TypeError,
            "class_labels must be integers",
        ),
        ({"num_samples": 1, "class_labels": [[0]]}, ValueError, "class_labels must have one dimension"),
        ({"num_samples": 2, "guidance_scale": 3.0}, ValueError, "guidance_scale 3 needs class_labels"),
        ({"num_samples": 1, "class_labels": [0], "guidance_scale": math.nan}, ValueError, "must be finite"),
        ({"num_samples": 1, "class_labels": [0], "guidance_scale": math.inf}, ValueError, "must be finite"),
        ({"num_samples": 1, "class_labels": [0], "guidance_scale": "3"}, TypeError, "must be a number"),
        ({"num_samples": 2, "seeds": [1]}, ValueError, r"seeds length \(1\) must match num_samples \(2\)"),
        ({"num_samples": 1, "seeds": [-1]}, ValueError, "seeds must lie in"),
        ({"num_samples": 1, "seeds": [2**63]}, ValueError, "seeds must lie in"),
        ({"num_samples": 1, "seeds": [0.5]}, TypeError, "each seed must be an integer"),
    ],
)
def test_nonsense_is_refused(sampler, arguments, error, message):
    with pytest.raises(error, match=message):
        sampler.sample(**arguments)


def test_nonsense_is_refused_before_anything_runs(sampler):
    with pytest.raises(ValueError, match="num_samples"):
        sampler.trajectory(0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3), ValueError, "samples_per_class must be at least 1"),
        ((1.5, 3), TypeError, "samples_per_class must be an integer"),
        ((1, 0), ValueError, "num_classes must be at least 1"),
        ((1, 4), ValueError, r"class_labels must lie in 0\.\.2.*3 classes"),
    ],
)
def test_nonsense_by_class_is_refused(sampler, arguments, error, message):
    with pytest.raises(error, match=message):
        sampler.sample_by_class(*arguments)


def test_labels_for_an_unconditional_model_are_refused():
    sampler = DiffusionSampler(small_model(None), steps=2)
    with pytest.raises(ValueError, match="the model is unconditional"):
        sampler.sample(2, class_labels=[0, 1])
    with pytest.raises(ValueError, match="the model is unconditional"):
        sampler.sample_by_class(1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": "static"}, "threshold must be None or one of"),
        ({"solver": "magic"}, "unknown solver 'magic'"),
        ({"grid": "magic"}, "unknown grid 'magic'"),
        ({"solver": "ddim", "steps": 3, "rho": 7}, "has no option 'rho'"),
        ({"solver": "ddim", "steps": 11}, "steps must be at most 10"),
    ],
)
def test_impossible_samplers_are_refused(model, options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionSampler(model, **options)


@pytest.mark.parametrize("options", [{"steps": 3}, {"eta": 0.5}])
def test_a_plan_takes_no_options_beside_it(model, options):
    with pytest.raises(ValueError, match="plan is complete in itself"):
        DiffusionSampler(model, plan=make_plan(model.schedule, "ddim", 2), **options)
