"""Weightings and training times, against the closed forms of their papers."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from scipy import stats
from torch.nn.functional import mse_loss

from snowmelt import DiffusionModel
from snowmelt.core import (
    PARAMETERIZATIONS,
    VE,
    CosineVP,
    DiscreteSchedule,
    Level,
    LinearVP,
    NoiseSchedule,
    RectifiedFlow,
    make_betas,
)
from snowmelt.core import edm as edm_parameterization
from snowmelt.errors import InputError
from snowmelt.training import DISTRIBUTIONS, WEIGHTINGS, Times, Weighting, denoising_loss

SNR = torch.logspace(-6, 6, 41, dtype=torch.float64)
LEVELS = {
    "preserving": Level(SNR, (SNR / (1 + SNR)).sqrt(), (1 / (1 + SNR)).sqrt()),
    "exploding": Level(SNR, torch.ones_like(SNR), SNR**-0.5),
    "straight": Level(SNR, SNR.sqrt() / (1 + SNR.sqrt()), 1 / (1 + SNR.sqrt())),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- weightings ----------------------------------------------------------------------------------------


class Spoken:
    """A denoiser with an error, x0 = x_t / 3, as a network in a dialect: its time is `1000 t`."""

    def __init__(self, schedule: NoiseSchedule, name: str) -> None:
        self.schedule, self.parameterization = schedule, PARAMETERIZATIONS[name]

    def __call__(self, x, time, class_labels):
        level = Level(*(number.view(-1, 1, 1, 1) for number in self.schedule(time.double() / 1000)))
        x_t = x / self.parameterization.input_scale(level)
        x0 = x_t / 3
        return self.parameterization.target(x0, (x_t - level.alpha * x0) / level.sigma, level)


def loss_of(prediction: str, schedule: NoiseSchedule, **options) -> float:
    network = Spoken(schedule, prediction)
    model = DiffusionModel(network, schedule, prediction, image_shape=(1, 2, 2), time="1000t")
    x0 = torch.randn(64, 1, 2, 2, generator=generator(1), dtype=torch.float64)
    return denoising_loss(model, x0, generator=generator(2), **options).item()


@pytest.mark.parametrize("schedule", [RectifiedFlow(), CosineVP(), LinearVP(), VE()], ids=repr)
@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "uniform"])
def test_a_weighting_is_one_loss_in_every_dialect(name, schedule):
    """The network's time is float32, which is the only rounding."""
    times = Times("log_normal", {"std": 1.0})
    losses = {
        each: loss_of(each, schedule, weighting=Weighting(name), times=times) for each in PARAMETERIZATIONS
    }
    for one, other in combinations(losses.values(), 2):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("line", LEVELS)
@pytest.mark.parametrize("name", [name for name in WEIGHTINGS if name != "uniform"])
def test_the_weighted_error_of_an_image_is_that_of_every_prediction_of_it(name, line):
    """Where x0 is off by d, eps is off by -alpha d / sigma, and y by what its target makes of the two."""
    level, d = LEVELS[line], torch.rand(len(SNR), generator=generator(), dtype=torch.float64) + 0.1
    expected = WEIGHTINGS[name](level.lam) * d**2
    for prediction in PARAMETERIZATIONS.values():
        error = prediction.target(d, -level.alpha * d / level.sigma, level)
        found = Weighting(name)(level, prediction) * error**2
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("line", LEVELS)
@pytest.mark.parametrize(
    ("name", "options", "prediction", "expected"),
    [
        ("min_snr", {}, "eps", SNR.clamp(max=5) / SNR),  # Hang et al. 2023, section 3.4
        ("min_snr", {}, "x0", SNR.clamp(max=5)),
        ("min_snr", {"gamma": 2}, "x0", SNR.clamp(max=2)),
        ("truncated_snr", {"most": 1e30}, "x0", SNR.clamp(min=1)),  # Salimans & Ho 2022, section 4
        ("truncated_snr", {}, "eps", SNR.clamp(1, 5) / SNR),
        ("p2", {}, "eps", 1 / (1 + SNR)),  # Choi et al. 2022, eq. 8
        ("p2", {"gamma": 0.5, "k": 2}, "eps", (2 + SNR) ** -0.5),
        ("edm", {"sigma_data": 0.3}, "x0", (1 / SNR + 0.09) / (0.09 / SNR)),  # Karras et al. 2022, table 1
        ("edm", {}, "edm", torch.ones_like(SNR)),  # and their eq. 8
        ("sigmoid", {"bias": -3}, "eps", 1 / (1 + SNR * math.exp(3))),
    ],
)
def test_weights_are_those_of_the_papers(line, name, options, prediction, expected):
    weight = Weighting(name, options)(LEVELS[line], PARAMETERIZATIONS[prediction])
    torch.testing.assert_close(weight, expected, rtol=1e-9, atol=0)


def test_min_snr_on_v_is_that_of_the_paper():
    weight = Weighting("min_snr")(LEVELS["preserving"], PARAMETERIZATIONS["v"])
    torch.testing.assert_close(weight, SNR.clamp(max=5) / (SNR + 1), rtol=1e-9, atol=0)


def test_the_weights_of_edm_are_one_on_f_with_the_same_sigma_data():
    weight = Weighting("edm", {"sigma_data": 2})(LEVELS["straight"], edm_parameterization(2.0))
    torch.testing.assert_close(weight, torch.ones_like(SNR), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_pure_noise_has_a_weight(name):
    """Zero terminal SNR is trained with v or x0."""
    noise = Level(*torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64))
    for prediction in ("v", "x0", "flow", "edm"):
        weight = Weighting(name)(noise, PARAMETERIZATIONS[prediction])
        assert weight is None or torch.isfinite(weight).all()


def test_uniform_is_the_mean_squared_error_to_the_bit():
    schedule, x0 = CosineVP(), torch.randn(64, 1, 2, 2, generator=generator(1))
    model = DiffusionModel(lambda x, t, c: x / 2, schedule, "v", image_shape=(1, 2, 2))
    draws = generator(2)
    alpha, sigma = (n.float().view(-1, 1, 1, 1) for n in schedule(schedule.draw_t(64, draws))[1:])
    eps = torch.randn(x0.shape, generator=draws)
    expected = mse_loss((alpha * x0 + sigma * eps) / 2, alpha * eps - sigma * x0)
    for options in ({}, {"weighting": Weighting("uniform"), "times": Times("uniform")}):
        assert torch.equal(denoising_loss(model, x0, generator=generator(2), **options), expected)


# -- times ---------------------------------------------------------------------------------------------


def cdf(name: str, times: Times):
    """Return the distribution of ln(sigma / alpha)."""
    if name == "uniform":  # on the rectified flow, whose logit(t) it is
        return lambda x: stats.logistic.cdf(x - math.log(times.shift))
    mean, std = times.options["mean"], times.options["std"]
    return stats.norm(mean + math.log(times.shift), std).cdf


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_times_have_the_distribution_of_their_name(name, shift):
    times = Times(name, shift=shift)
    schedules = [RectifiedFlow()] if name == "uniform" else [RectifiedFlow(), CosineVP(), VE(sigma_max=1e4)]
    for schedule in schedules:
        t = times.draw(schedule, 20000, generator())
        assert t.dtype == torch.float64
        assert ((t > 0) & (t <= 1)).all()
        found = stats.kstest(-schedule(t).lam.numpy(), cdf(name, times))
        assert found.pvalue > 0.01, schedule


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("number", [10, 1000])
def test_a_trained_index_has_the_part_of_the_time_that_ends_with_it(name, number):
    schedule = DiscreteSchedule(make_betas("linear", number, 1e-3, 0.5), zero_terminal_snr=True)
    times = Times(name)
    index = schedule.index_of_t(times.draw(schedule, 20000, generator()))
    assert (index - index.round()).abs().max() < 1e-9
    assert index.min() > -0.5
    assert index.max() < number - 0.5
    ends = schedule.t_of_index(torch.arange(number, dtype=torch.float64))
    whole = ends if name == "uniform" else torch.from_numpy(cdf(name, times)(-schedule(ends).lam.numpy()))
    whole[-1] = 1.0  # with all that is noisier than the schedule
    drawn = torch.searchsorted(index.round().sort().values, torch.arange(number), right=True) / len(index)
    assert (drawn - whole).abs().max() < 1.63 / math.sqrt(len(index))  # Kolmogorov's bound at 1 %


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_each_stratum_holds_one_time(name, batch):
    times, schedule = Times(name, stratified=True), RectifiedFlow()
    for seed in range(10):
        t = times.draw(schedule, batch, generator(seed))
        u = t.numpy() if name == "uniform" else cdf(name, times)(-schedule(t).lam.numpy())
        assert sorted((u * batch - 1e-9).astype(int)) == list(range(batch))


def test_the_place_in_a_stratified_batch_tells_nothing():
    times = Times("uniform", stratified=True)
    t = torch.stack([times.draw(RectifiedFlow(), 4, generator(seed)) for seed in range(2000)])
    for place in t.T:
        assert stats.kstest(place.numpy(), "uniform").pvalue > 0.01


def test_a_shift_is_that_of_the_paper():
    """Esser et al. 2024, eq. 23, with the root of m / n for s."""
    plain, shifted = (Times("uniform", shift=s).draw(RectifiedFlow(), 100, generator()) for s in (1.0, 3.0))
    torch.testing.assert_close(shifted, 3 * plain / (1 + 2 * plain))


def test_times_follow_from_the_generator_and_by_default_are_those_of_the_schedule(schedule):
    for times in (Times(), *(Times(name, stratified=s) for name in DISTRIBUTIONS for s in (False, True))):
        assert torch.equal(times.draw(schedule, 9, generator(3)), times.draw(schedule, 9, generator(3)))
        torch.manual_seed(3)  # without one, from the stream of the process
        assert torch.equal(times.draw(schedule, 9), times.draw(schedule, 9, generator(3)))
    assert torch.equal(Times().draw(schedule, 9, generator(3)), schedule.draw_t(9, generator(3)))
    if isinstance(schedule, LinearVP | CosineVP):
        assert torch.equal(Times("uniform").draw(schedule, 9, generator(3)), schedule.draw_t(9, generator(3)))


# -- names and numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Weighting("min_snt"), "unknown weighting 'min_snt', did you mean 'min_snr'?"),
        (lambda: Weighting("p2", {"gama": 1.0}), "'p2' has no option 'gama', did you mean 'gamma'?"),
        (lambda: Weighting("uniform", {"gamma": 1.0}), "'uniform' has no options, such as 'gamma'"),
        (lambda: Weighting("min_snr", {"gamma": 0}), "must be a positive number, got 0"),
        (lambda: Weighting("sigmoid", {"bias": math.nan}), "must be a number, got nan"),
        (lambda: Times("log_normal", {"std": -1.0}), "must be a positive number, got -1.0"),
        (lambda: Times("log"), "unknown distribution 'log'"),
        (lambda: Times("uniform", shift=0.0), "shift must be a positive number, got 0.0"),
        (lambda: Times(stratified=True), "need a distribution of the times: one of uniform, log_normal"),
    ],
)
def test_what_cannot_be_chosen_is_said(make, said):
    with pytest.raises(InputError) as caught:
        make()
    assert said in str(caught.value)
