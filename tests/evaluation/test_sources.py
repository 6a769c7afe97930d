"""Images that a sampler makes when they are read, and other views of a source."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from snowmelt import EMA, DiffusionSampler, create_ddpm
from snowmelt.evaluation import SampledSource, TensorSource, renumber_classes
from snowmelt.evaluation.cached_images import cache_images
from snowmelt.images import to_uint8
from snowmelt.sampling import Request


def images_of(source) -> Tensor:
    return torch.cat(list(source.batches(2)))


# Images that are made when they are asked for


def make_sampler(seed: int = 0, ema: bool = False, **options) -> DiffusionSampler:
    torch.manual_seed(seed)
    model = create_ddpm(8, 1, 8, (1, 2), num_classes=3, norm_groups=4, layers_per_block=1)
    average = EMA(model) if ema else None
    if average is not None:
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
    return DiffusionSampler(model, ema=average, **{"solver": "ddim", "steps": 2, **options})


def test_sampled_images_are_those_of_the_sampler():
    sampler = make_sampler()
    source = SampledSource(sampler, Request(tuple(range(5)), (0, 1, 2, 0, 1), guidance_scale=2.0))
    expected = to_uint8(sampler.sample(5, [0, 1, 2, 0, 1], 2.0, seeds=range(5)))
    for size in (2, 3, 5, 64):
        batches = list(source.batches(size))
        assert all(len(batch) == size for batch in batches[:-1])
        assert torch.equal(torch.cat(batches), expected)
    assert torch.equal(source.take([4, 0, 4]), expected[[4, 0, 4]])


def test_the_hash_of_sampled_images_is_of_all_that_they_depend_on():
    def hashed(sampler, seeds=(0, 1), labels=(0, 1), **options) -> str:
        return SampledSource(sampler, Request(seeds, labels, **options)).content_hash()

    known = hashed(make_sampler())
    assert hashed(make_sampler()) == known
    weak = make_sampler(5).model
    different = [
        hashed(make_sampler(1)),
        hashed(make_sampler(steps=3)),
        hashed(make_sampler(threshold=None)),
        hashed(make_sampler(guidance="apg")),
        hashed(make_sampler(guidance={"type": "autoguidance", "weak": weak})),
        hashed(make_sampler(), seeds=(0, 2)),
        hashed(make_sampler(), labels=(0, 2)),
        hashed(make_sampler(), guidance_scale=2.0),
        hashed(make_sampler(ema=True)),
        hashed(make_sampler(ema=True), use_ema=False),
    ]
    assert len({known, *different}) == 1 + len(different)
    assert hashed(make_sampler(ema=True)) == hashed(make_sampler(ema=True))


def test_images_are_kept_and_found_again(tmp_path):
    source = SampledSource(make_sampler(), Request(tuple(range(5))))
    made = images_of(source)
    for cache in (None, tmp_path):
        found = cache_images(source, cache, batch_size=2)
        assert torch.equal(images_of(found), made)
        assert (found.name, len(found)) == (source.name, 5)
    source.batches = lambda size: pytest.fail("the images were made again")
    assert torch.equal(images_of(cache_images(source, tmp_path)), made)


# Classes


def test_classes_are_numbered_by_their_names():
    pixels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    some = TensorSource(pixels, [0, 1, 1], ["bee", "dog"])
    found = renumber_classes(some, ["ant", "bee", "cat"])
    assert found.labels.tolist() == [1, 3, 3]
    assert found.class_names == ["ant", "bee", "cat", "dog"]
    assert (len(found), found.name, found.content_hash()) == (3, some.name, some.content_hash())
    assert torch.equal(found.take([2, 0]), pixels[[2, 0]])
    for names in (None, ["bee", "dog"], ["x", "y"]):
        assert renumber_classes(some, names) is some
    without = TensorSource(pixels, [0, 1, 1])
    assert renumber_classes(without, ["a", "b"]) is without


def test_samples_that_cannot_be_made_or_known_are_refused():
    with pytest.raises(ValueError, match=r"class_labels must lie in 0\.\.2"):
        SampledSource(make_sampler(), Request((0,), (3,)))
    weak = lambda x_t, level, class_labels=None: x_t  # noqa: E731
    source = SampledSource(make_sampler(guidance={"type": "autoguidance", "weak": weak}), Request((0,)))
    with pytest.raises(ValueError, match="by the weights"):
        source.content_hash()
