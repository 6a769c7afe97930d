"""Laws of noise schedules, over the whole line and at both ends."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import VE, CosineVP, DiscreteSchedule, LinearVP, RectifiedFlow, make_betas

VARIANCE_PRESERVING = (DiscreteSchedule, LinearVP, CosineVP)


def test_the_clean_end_is_exact(schedule):
    level = schedule(0.0)
    assert (level.alpha, level.sigma, level.lam) == (1.0, 0.0, math.inf)


def test_the_noisy_end_is_exact_where_the_schedule_ends_in_noise():
    zero_snr = DiscreteSchedule(make_betas("linear"), zero_terminal_snr=True)
    for schedule in (zero_snr, CosineVP(), RectifiedFlow()):
        assert schedule(1.0) == (1.0, 0.0, 1.0)
        assert schedule(1.0).lam == -math.inf
    assert VE(sigma_max=80.0)(1.0).sigma == 80.0


def test_signal_to_noise_falls_strictly(schedule):
    lam = [schedule(t).lam for t in torch.linspace(0, 1, 2345, dtype=torch.float64).tolist()]
    assert all(a > b for a, b in pairwise(lam))


def test_variance_is_preserved_where_it_should_be(schedule):
    if isinstance(schedule, VARIANCE_PRESERVING):
        for t in (0.0, 1e-6, 0.3, 0.77, 1.0):
            level = schedule(t)
            assert level.alpha**2 + level.sigma**2 == pytest.approx(1.0, abs=1e-14)


def test_t_of_lam_inverts_the_schedule(schedule):
    for t in [0.0, 1e-7, 1e-4, 0.0012345, 0.1, 0.5, 0.87654, 0.9995, 1.0]:
        assert schedule.t_of_lam(schedule(t).lam) == pytest.approx(t, rel=1e-9, abs=1e-12)


def test_a_tensor_gives_what_floats_give(schedule):
    t = torch.linspace(0, 1, 57, dtype=torch.float64)
    level = schedule(t)
    for i, single in enumerate(t.tolist()):
        assert level.alpha[i].item() == pytest.approx(schedule(single).alpha, rel=1e-14)
        assert level.sigma[i].item() == pytest.approx(schedule(single).sigma, rel=1e-14)
        assert schedule.t_of_lam(level.lam)[i].item() == pytest.approx(single, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("t", [-0.1, 1.1, math.nan])
def test_times_outside_the_line_are_refused(schedule, t):
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        schedule(t)


def test_lam_below_the_noisiest_level_is_refused():
    with pytest.raises(ValueError, match="lam must be at least"):
        VE(sigma_max=80.0).t_of_lam(-math.log(100.0))


def test_training_times_lie_on_the_line(schedule):
    t = schedule.draw_t(1000, torch.Generator().manual_seed(0))
    assert t.dtype == torch.float64
    assert ((t > 0) & (t <= 1)).all()
    if isinstance(schedule, DiscreteSchedule):
        index = schedule.index_of_t(t)
        assert torch.allclose(index, index.round(), atol=1e-9)
        assert index.round().min() >= 0
        assert index.round().max() <= schedule.num_timesteps - 1


def test_every_trained_index_is_drawn():
    schedule = DiscreteSchedule(make_betas("linear", 10))
    index = schedule.index_of_t(schedule.draw_t(1000, torch.Generator().manual_seed(0)))
    assert index.round().unique().tolist() == list(range(10))


def test_ve_trains_at_edms_noise_levels():
    schedule = VE()
    log_sigma = -schedule(schedule.draw_t(20_000, torch.Generator().manual_seed(0))).lam
    # Karras et al. 2022, table 1: ln sigma ~ N(-1.2, 1.2^2)
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.03)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("quadratic", "scaled_linear"), ("sigmoid", "sigmoid")]
)
@pytest.mark.parametrize("zero_snr", [False, True])
def test_trained_levels_equal_diffusers(ours, theirs, zero_snr):
    peer = DDPMScheduler(
        beta_schedule=theirs, beta_start=1e-4, beta_end=0.02, rescale_betas_zero_snr=zero_snr
    )
    schedule = DiscreteSchedule(make_betas(ours, 1000, 1e-4, 0.02), zero_terminal_snr=zero_snr)
    levels = schedule(schedule.t_of_index(torch.arange(1000, dtype=torch.float64)))
    torch.testing.assert_close((levels.alpha**2).float(), peer.alphas_cumprod, rtol=2e-3, atol=1e-6)


def test_cosine_levels_equal_diffusers():
    peer = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    schedule = DiscreteSchedule(make_betas("cosine", 1000))
    levels = schedule(schedule.t_of_index(torch.arange(1000, dtype=torch.float64)))
    torch.testing.assert_close((levels.alpha**2).float(), peer.alphas_cumprod, rtol=2e-3, atol=1e-6)


def test_alpha_is_the_cumulative_product_of_the_betas():
    betas = make_betas("linear", 1000)
    schedule = DiscreteSchedule(betas)
    product = 1.0
    for index, beta in enumerate(betas.tolist()):
        product *= 1 - beta
        assert schedule(schedule.t_of_index(index)).alpha ** 2 == pytest.approx(product, rel=1e-11)


def test_between_trained_indices_lam_is_a_straight_line():
    schedule = DiscreteSchedule(make_betas("linear", 1000))
    left, middle, right = (schedule(schedule.t_of_index(k)).lam for k in (400, 400.25, 401))
    assert middle == pytest.approx(0.75 * left + 0.25 * right, rel=1e-12)


@given(st.floats(0.05, 0.5), st.floats(1.0, 40.0), st.floats(0.0, 1.0))
def test_linear_vp_follows_its_rate(beta_min, spread, t):
    # d log alpha / dt = -beta(t) / 2 (Song et al. 2021, eq. 29), by a central difference
    schedule = LinearVP(beta_min, beta_min + spread)
    t = min(max(t, 1e-3), 1 - 1e-3)
    slope = (math.log(schedule(t + 1e-5).alpha) - math.log(schedule(t - 1e-5).alpha)) / 2e-5
    assert slope == pytest.approx(-(beta_min + t * spread) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cubic",), "beta_schedule must be one of"),
        (("linear", 1), "num_timesteps must be at least 2"),
        (("linear", 10, 0.0), "beta_start must lie strictly between"),
        (("linear", 10, 0.1, 1.5), "beta_end must lie strictly between"),
    ],
)
def test_impossible_betas_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_betas(*arguments)


@pytest.mark.parametrize("betas", [[0.1], [0.1, 0.0], [0.1, 1.2], [1.0, 0.1], [[0.1, 0.2]]])
def test_numbers_that_are_no_betas_are_refused(betas):
    with pytest.raises(ValueError, match="betas must be"):
        DiscreteSchedule(torch.tensor(betas))


@pytest.mark.parametrize(
    "make",
    [lambda: VE(1.0, 0.5), lambda: VE(rho=0.0), lambda: LinearVP(2.0, 1.0), lambda: LinearVP(0.0, 1.0)],
)
def test_impossible_continuous_schedules_are_refused(make):
    with pytest.raises(ValueError, match="needed"):
        make()
