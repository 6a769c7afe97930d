"""Any callable as a model: it is told what was stated, and its answer is read as was stated."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from snowmelt import Checkpoint, DiffusionSampler, create_model
from snowmelt.core import (
    PARAMETERIZATIONS,
    SCHEDULES,
    TIMES,
    VE,
    DiscreteSchedule,
    Level,
    RectifiedFlow,
    make_betas,
    make_schedule,
)
from snowmelt.denoisers import GaussianMixture
from snowmelt.errors import InputError
from snowmelt.models import DiffusionModel, ModelSpec

MIXTURE = GaussianMixture(torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(1)), 0.3)


class Told(nn.Module):
    """Remembers what it was told."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, x, time, class_labels):
        self.calls.append((x, time, class_labels))
        return x


def oracle(schedule, parameterization):
    """Return the network that knows the mixture and speaks `parameterization`, told 1000 t."""

    def network(x, time, class_labels):
        level = schedule(time[0].item() / 1000)
        scale = parameterization.input_scale(level)
        x_t = x / scale
        x0 = MIXTURE(x_t, level)
        return parameterization.target(x0, (x_t - level.alpha * x0) / level.sigma, level)

    return network


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
@pytest.mark.parametrize("schedule", [RectifiedFlow(), DiscreteSchedule(make_betas())], ids=["flow", "ddpm"])
def test_every_dialect_of_one_posterior_gives_it_back(schedule, name):
    parameterization = PARAMETERIZATIONS[name]
    network = oracle(schedule, parameterization)
    model = DiffusionModel(network, schedule, name, image_shape=(1, 2, 2), time="1000t")
    x_t = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    for t in (0.2, 0.5, 0.8):
        torch.testing.assert_close(model(x_t, schedule(t)), MIXTURE(x_t, schedule(t)))


@pytest.mark.parametrize(
    ("name", "schedule", "expected"),
    [
        ("index", DiscreteSchedule(make_betas(num_timesteps=10)), 7.0),
        ("t", RectifiedFlow(), 0.8),
        ("1-t", RectifiedFlow(), 0.2),
        ("1000t", RectifiedFlow(), 800.0),
        ("1000(1-t)", RectifiedFlow(), 200.0),
        ("sigma", RectifiedFlow(), 4.0),
        ("log(sigma)/4", RectifiedFlow(), 0.3465735902799726),
    ],
)
def test_time_conventions(name, schedule, expected):
    network = Told()
    model = DiffusionModel(network, schedule, "x0", image_shape=(1, 2, 2), time=name)
    model(torch.zeros(3, 1, 2, 2), schedule(0.8))
    ((_, time, _),) = network.calls
    torch.testing.assert_close(time, torch.full((3,), expected))


def test_a_convention_of_ones_own():
    network = Told()
    model = DiffusionModel(
        network, RectifiedFlow(), "x0", image_shape=(1, 2, 2), time=lambda schedule, level: level.alpha**2
    )
    model(torch.zeros(1, 1, 2, 2, dtype=torch.float64), RectifiedFlow()(0.5))
    ((_, time, _),) = network.calls
    assert time.dtype == torch.float64
    assert time.item() == 0.25


def test_the_default_convention_is_the_schedules(schedule):
    level = schedule(0.7)
    assert TIMES[schedule.time](schedule, level) == pytest.approx(schedule.network_time(level))


def test_half_precision_is_told_the_time_in_full():
    network = Told()
    DiffusionModel(network, VE(), "x0", image_shape=(1, 2, 2))(torch.zeros(1, 1, 2, 2).half(), VE()(0.5))
    assert network.calls[0][1].dtype == torch.float32


def test_labels():
    network = Told()
    level, x = RectifiedFlow()(0.5), torch.zeros(2, 1, 2, 2)
    shape = {"image_shape": (1, 2, 2)}
    DiffusionModel(network, RectifiedFlow(), "x0", **shape)(x, level)
    DiffusionModel(network, RectifiedFlow(), "x0", num_classes=3, null_class=3, **shape)(x, level)
    DiffusionModel(network, RectifiedFlow(), "x0", num_classes=3, **shape)(x, level, torch.tensor([2, 0]))
    labels = [None if call[2] is None else call[2].tolist() for call in network.calls]
    assert labels == [None, [3, 3], [2, 0]]
    with pytest.raises(ValueError, match="this model has classes, and no null class"):
        DiffusionModel(network, RectifiedFlow(), "x0", num_classes=3, **shape)(x, level)


def test_a_model_without_null_class_samples_with_labels():
    model = DiffusionModel(Told(), RectifiedFlow(), "x0", image_shape=(1, 2, 2), num_classes=3)
    assert DiffusionSampler(model, solver="ddim", steps=2).sample(2, [0, 2]).shape == (2, 1, 2, 2)


def test_a_pickled_model_says_the_same():
    model = DiffusionModel(nn.Identity(), RectifiedFlow(), "flow", image_shape=(1, 2, 2))
    model.network = Told()
    again = pickle.loads(pickle.dumps(model))
    x, level = torch.randn(2, 1, 2, 2), Level(0.5, 0.5, 0.5)
    assert torch.equal(again(x, level), model(x, level))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parameterization": "noise"}, "parameterization must be one of x0, eps"),
        ({"time": "step"}, "time must be one of index, t"),
        ({"null_class": 3}, "null_class 3 needs num_classes"),
    ],
)
def test_impossible_statements_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionModel(
            Told(), RectifiedFlow(), **{"parameterization": "x0", "image_shape": (1, 2, 2), **options}
        )


def test_an_answer_of_another_shape_is_refused():
    model = DiffusionModel(
        lambda x, time, labels: torch.cat([x, x], 1), RectifiedFlow(), "x0", image_shape=(1, 2, 2)
    )
    with pytest.raises(ValueError, match=r"turns \(3, 1, 2, 2\) into \(3, 2, 2, 2\): wrap it in a function"):
        model(torch.zeros(3, 1, 2, 2), RectifiedFlow()(0.5))


def test_an_index_needs_trained_ones():
    model = DiffusionModel(Told(), RectifiedFlow(), "x0", image_shape=(1, 2, 2), time="index")
    with pytest.raises(ValueError, match="has none: take 1000t"):
        model(torch.zeros(1, 1, 2, 2), RectifiedFlow()(0.5))


@pytest.mark.parametrize("name", SCHEDULES)
def test_fourier_times_are_refused_where_they_have_no_logarithm(name):
    small = {"image_size": 8, "in_channels": 1, "model_channels": 8, "channel_multipliers": (1,)}
    options = {**small, "norm_groups": 4, "schedule": name, "time_embedding": "fourier"}
    if make_schedule(name).time in ("index", "log(sigma)/4"):  # from 0, and from below it
        with pytest.raises(ValueError, match=r"fourier reads log\(time\), .* take time_embedding positional"):
            create_model(**options)
        with pytest.raises(InputError, match=r"reads log\(time\)"):
            Checkpoint({}, ModelSpec.from_config(options)).model()
        return
    model = create_model(**options)
    for t in (model.schedule.t_min, 0.5, 1.0):
        assert model(torch.randn(1, 1, 8, 8), model.schedule(t)).isfinite().all()
