"""Guidance, thresholding and the exact denoisers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import Level
from snowmelt.denoisers import THRESHOLDS, ClassifierFreeGuidance, Clip, DynamicThresholding, GaussianMixture

LEVEL = Level(0.5, 0.8, 0.6)


def labelled_mixture() -> GaussianMixture:
    return GaussianMixture(torch.randn(6, 1, 2, 2), 0.3, torch.tensor([0, 0, 1, 1, 2, 2]))


@given(scale=st.floats(-3, 10), seed=st.integers(0, 99))
def test_guidance_is_the_line_through_both_branches(scale, seed):
    torch.manual_seed(seed)
    mixture = labelled_mixture()
    x_t, labels = torch.randn(4, 1, 2, 2), torch.tensor([0, 1, 2, 0])
    unconditional, conditional = mixture(x_t, LEVEL), mixture(x_t, LEVEL, labels)
    guided = ClassifierFreeGuidance(mixture, scale, null_class=3)(x_t, LEVEL, labels)
    expected = unconditional + scale * (conditional - unconditional)
    torch.testing.assert_close(guided, expected, rtol=1e-4, atol=1e-5)


def test_guidance_is_one_call_on_twice_the_batch():
    sizes = []

    def spy(x_t, level, class_labels):
        sizes.append((len(x_t), class_labels.tolist()))
        return x_t

    ClassifierFreeGuidance(spy, 2.0, null_class=9)(torch.zeros(2, 1), LEVEL, torch.tensor([4, 5]))
    assert sizes == [(4, [4, 5, 9, 9])]


def test_guidance_without_labels_is_refused():
    with pytest.raises(ValueError, match="guidance needs class_labels"):
        ClassifierFreeGuidance(labelled_mixture(), 2.0, null_class=3)(torch.zeros(1, 1, 2, 2), LEVEL)


def test_clipping_keeps_what_is_inside_and_bounds_the_rest():
    x = torch.tensor([[-3.0, -0.5, 0.0, 0.9, 2.0]])
    assert Clip(lambda x_t, level, _: x_t)(x, LEVEL).tolist() == [[-1.0, -0.5, 0.0, pytest.approx(0.9), 1.0]]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_images_in_range_pass_through(threshold):
    x = torch.rand(3, 1, 4, 4) * 2 - 1
    denoiser = THRESHOLDS[threshold](lambda x_t, level, _: x_t)
    assert torch.equal(denoiser(x, LEVEL), x)


@given(scale=st.floats(1.0, 20.0), quantile=st.floats(0.5, 1.0))
def test_dynamic_thresholding_ends_in_range_and_each_image_alone(scale, quantile):
    x = torch.stack([torch.linspace(-1, 1, 64) * scale, torch.linspace(-0.5, 0.5, 64)])
    result = DynamicThresholding(lambda x_t, level, _: x_t, quantile)(x, LEVEL)
    assert result.abs().max() <= 1 + 1e-6
    torch.testing.assert_close(result[1], x[1])  # its neighbour's glare does not dim it
    assert result[0].abs().max() == pytest.approx(1.0)


def test_dynamic_thresholding_is_imagens_quantile():
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    # The 3rd of 4 magnitudes is 3: clamp to [-3, 3], divide by 3
    result = DynamicThresholding(lambda x_t, level, _: x_t, quantile=0.75)(x, LEVEL)
    torch.testing.assert_close(result, torch.tensor([[1 / 3, 2 / 3, 1.0, 1.0]]))


@pytest.mark.parametrize("quantile", [0.0, 1.1])
def test_impossible_quantiles_are_refused(quantile):
    with pytest.raises(ValueError, match="quantile must lie in"):
        DynamicThresholding(labelled_mixture(), quantile)


def test_the_exact_denoiser_follows_tweedie():
    """E[x0 | x_t] = (x_t + sigma^2 grad log p(x_t)) / alpha, with the gradient by autograd."""
    means, std = torch.randn(5, 3, dtype=torch.float64), 0.4
    x_t = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    _, alpha, sigma = LEVEL
    variance = alpha**2 * std**2 + sigma**2
    log_density = torch.logsumexp(-((x_t[:, None] - alpha * means) ** 2).sum(-1) / (2 * variance), dim=1)
    (score,) = torch.autograd.grad(log_density.sum(), x_t)
    expected = (x_t + sigma**2 * score) / alpha
    torch.testing.assert_close(GaussianMixture(means, std)(x_t, LEVEL), expected)


def test_the_exact_denoiser_is_the_conditional_mean():
    """Among all functions of x_t it has the least squared error: seen on joint samples, near one x_t."""
    generator = torch.Generator().manual_seed(0)
    mixture = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.2)
    component = torch.randint(2, (400_000,), generator=generator)
    x0 = mixture.means[component, 0] + 0.2 * torch.randn(400_000, generator=generator)
    x_t = LEVEL.alpha * x0 + LEVEL.sigma * torch.randn(400_000, generator=generator)
    for point in (-0.8, 0.1, 0.5):
        near = (x_t - point).abs() < 0.02
        standard_error = x0[near].std() / math.sqrt(near.sum())
        expected = mixture(torch.tensor([[point]]), LEVEL).item()
        assert x0[near].mean().item() == pytest.approx(expected, abs=4 * standard_error.item() + 0.02)


def test_labels_choose_components():
    mixture = labelled_mixture()
    alone = GaussianMixture(mixture.means[2:4], mixture.std)
    x_t = torch.randn(3, 1, 2, 2)
    torch.testing.assert_close(mixture(x_t, LEVEL, torch.tensor([1, 1, 1])), alone(x_t, LEVEL))
    torch.testing.assert_close(mixture(x_t, LEVEL, torch.tensor([3, 3, 3])), mixture(x_t, LEVEL))


def test_a_mixture_needs_a_spread():
    with pytest.raises(ValueError, match="std must be positive"):
        GaussianMixture(torch.zeros(1, 2), 0.0)
