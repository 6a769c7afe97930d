"""Any number of images in bounded memory: no pixel depends on how they were divided."""

from __future__ import annotations

import math

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.core import RectifiedFlow
from snowmelt.errors import InputError
from snowmelt.models import DDPMModel, DiffusionModel
from snowmelt.plans import make_plan
from snowmelt.sampling.memory import auto_batch_size, free_bytes, state_bytes, used_bytes


def make_model() -> DDPMModel:
    torch.manual_seed(0)
    return create_ddpm(
        image_size=8,
        in_channels=1,
        model_channels=8,
        norm_groups=4,
        channel_multipliers=(1, 2),
        num_classes=3,
    )


@pytest.fixture(scope="module")
def sampler() -> DiffusionSampler:
    return DiffusionSampler(make_model(), solver="ddim", steps=2, eta=1.0)


LABELS = [0, 1, 2, 0, 1, 2, 0]
SEEDS = [5, 3, 9, 11, 2, 8, 1]


@settings(deadline=None, max_examples=10)
@given(batch_size=st.integers(1, 9))
def test_batches_are_parts_of_one_whole(sampler, batch_size):
    whole = sampler.sample(7, LABELS, 2.0, seeds=SEEDS)
    batches = list(sampler.stream(7, LABELS, 2.0, seeds=SEEDS, batch_size=batch_size))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches), whole)


def test_images_drawn_from_the_global_generator_do_not_depend_on_the_batch_size(sampler):
    torch.manual_seed(1)
    whole = sampler.sample(5)
    torch.manual_seed(1)
    parts = sampler.sample(5, batch_size=2)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


def test_another_micro_batch_moves_pixels_by_rounding_only():
    model = make_model()
    images = [
        DiffusionSampler(model, solver="ddim", steps=4, micro_batch=size).sample(7, LABELS, seeds=SEEDS)
        for size in (1, 3, 16)
    ]
    for other in images[1:]:
        torch.testing.assert_close(other, images[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError, MemoryError], ids=["cuda", "python"])
def test_running_out_of_memory_changes_no_pixel(sampler, monkeypatch, failure):
    expected = sampler.sample(7, LABELS, seeds=SEEDS)
    run = sampler.run

    def small_memory(plan, x, *arguments, **options):
        if len(x) > 2:
            raise failure("no memory for so many images")
        return run(plan, x, *arguments, **options)

    monkeypatch.setattr(sampler, "run", small_memory)
    batches = list(sampler.stream(7, LABELS, seeds=SEEDS, batch_size=7))
    assert [len(batch) for batch in batches] == [2, 2, 2, 1]
    assert torch.equal(torch.cat(batches), expected)


def test_memory_for_not_one_image_is_an_error_that_says_what_to_do(sampler, monkeypatch):
    def no_memory(*arguments, **options):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(sampler, "run", no_memory)
    with pytest.raises(RuntimeError) as caught:
        sampler.sample(3)
    assert any("smaller micro_batch" in note for note in caught.value.__notes__)


def test_other_errors_are_not_taken_for_a_lack_of_memory(sampler, monkeypatch):
    calls = []

    def broken(*arguments, **options):
        calls.append(1)
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(sampler, "run", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        sampler.sample(8)
    assert len(calls) == 1


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("free", [0, 10_000, 10_000_000, 10**12])
def test_an_automatic_batch_fits_and_fills_its_calls(sampler, monkeypatch, free, share):
    monkeypatch.setattr("snowmelt.sampling.memory.free_bytes", lambda device: free)
    shape, plan = sampler.model.image_shape, make_plan(sampler.model.schedule, "ddim", 4)
    size = auto_batch_size(plan, shape, "cpu", 16, lambda: None, share)
    assert 1 <= size <= 256
    assert size == 1 or size * state_bytes(plan, shape) <= free * share
    assert size < 16 or size % 16 == 0


def test_the_machine_has_memory():
    assert free_bytes("cpu") > 1e6


def test_memory_that_was_given_back_counts_at_the_peak():
    block = torch.ones(1 << 24)
    held = psutil.Process().memory_info().rss
    del block
    assert 0.99 * held < used_bytes("cpu") < 100 * held


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": "all"}, "batch_size must be an integer"),
    ],
)
def test_nonsense_is_refused_before_any_work(sampler, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sampler.stream(3, **options)


def test_the_model_is_itself_again_after_a_stream_is_closed(sampler):
    sampler.model.train()
    stream = sampler.stream(4, batch_size=1)
    next(stream)
    stream.close()
    assert sampler.model.training


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("latent", [False, True])
def test_images_that_are_no_numbers_are_an_error(bad, latent):
    """A diverged model's samples would go on as black pictures, or as plain -1 and 1."""

    def network(x, time, class_labels):
        return torch.full_like(x, 0.0 if latent else bad)

    model = DiffusionModel(network, RectifiedFlow(), "x0", image_shape=(1, 2, 2))
    if latent:
        model = model.with_decoder(lambda latents: latents + bad)
    sampler = DiffusionSampler(model, steps=2, threshold=None)
    with pytest.raises(InputError, match="the samples hold NaN or infinity, because the model"):
        sampler.sample(2)
    with pytest.raises(InputError, match="NaN or infinity"):
        list(sampler.stream(3, batch_size=1))
