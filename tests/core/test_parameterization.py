"""Laws of parameterizations: what training asks for is what sampling decodes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import PARAMETERIZATIONS, Level, edm

positive = st.floats(1e-3, 1e3)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@given(alpha=positive, sigma=positive, seed=st.integers(0, 100))
def test_decoding_inverts_the_target(name, alpha, sigma, seed):
    parameterization = PARAMETERIZATIONS[name]
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, 3, 2, 2, dtype=torch.float64, generator=generator)
    level = Level(0.5, alpha, sigma)
    y = parameterization.target(x0, eps, level)
    x_t = alpha * x0 + sigma * eps
    torch.testing.assert_close(parameterization.x0(x_t, y, level), x0, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_tensors_decode_like_floats(name):
    parameterization = PARAMETERIZATIONS[name]
    x_t, y = torch.randn(2, 4, 1, 1, 1, dtype=torch.float64)
    alpha, sigma = torch.rand(2, 4, 1, 1, 1, dtype=torch.float64) + 0.1
    together = parameterization.x0(x_t, y, Level(alpha, alpha, sigma))
    for i in range(4):
        level = Level(0.5, alpha[i].item(), sigma[i].item())
        torch.testing.assert_close(parameterization.x0(x_t[i], y[i], level), together[i])


@pytest.mark.parametrize("name", ["x0", "v", "flow"])
def test_pure_noise_can_be_decoded(name):
    parameterization = PARAMETERIZATIONS[name]
    level = Level(1.0, 0.0, 1.0)
    x0, eps = torch.randn(2, 5)
    torch.testing.assert_close(parameterization.x0(eps, parameterization.target(x0, eps, level), level), x0)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_the_clean_image_can_be_decoded(name):
    parameterization = PARAMETERIZATIONS[name]
    level = Level(0.0, 1.0, 0.0)
    x0, eps = torch.randn(2, 5)
    torch.testing.assert_close(parameterization.x0(x0, parameterization.target(x0, eps, level), level), x0)


def test_eps_at_pure_noise_is_refused():
    with pytest.raises(ValueError, match="predicts eps says nothing about the image at t = 1"):
        PARAMETERIZATIONS["eps"].x0(torch.ones(1), torch.ones(1), Level(1.0, 0.0, 1.0))


@given(sigma=positive, sigma_data=st.floats(0.1, 3.0))
def test_edm_is_the_papers_preconditioning(sigma, sigma_data):
    # Karras et al. 2022, table 1: D = c_skip x + c_out F, and F's target has unit variance
    c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2) ** 0.5
    parameterization = edm(sigma_data)
    level = Level(0.5, 1.0, sigma)
    x, f = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(parameterization.x0(x, f, level), c_skip * x + c_out * f)
    a, b = parameterization.pair(level)
    assert (a * sigma_data) ** 2 + b**2 == pytest.approx(1.0)
    assert parameterization.input_scale(level) * (sigma**2 + sigma_data**2) ** 0.5 == pytest.approx(1.0)


def test_edm_refuses_data_without_spread():
    with pytest.raises(ValueError, match="sigma_data must be positive"):
        edm(0.0)
