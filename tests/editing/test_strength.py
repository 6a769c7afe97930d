"""Strengths below one trained step: the network is never told an index below 0."""

from __future__ import annotations

import pytest
import torch

from snowmelt import DiffusionSampler
from snowmelt.core import DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.editing import image_to_image
from snowmelt.models import DiffusionModel

IMAGES = torch.zeros(1, 1, 4, 4)


def listening(schedule) -> tuple[DiffusionSampler, list[float]]:
    """Return a sampler, and the list of all that its network is told of time."""
    told: list[float] = []

    def network(x, time, class_labels):
        told.extend(time.tolist())
        return 0.1 * x

    model = DiffusionModel(network, schedule, "eps", image_shape=(1, 4, 4))
    return DiffusionSampler(model, steps=5), told


def test_a_strength_below_one_trained_step_is_refused():
    sampler, told = listening(DiscreteSchedule(make_betas(num_timesteps=20)))
    for strength in (1e-9, 0.03, 0.0499):
        with pytest.raises(ValueError, match=rf"strength {strength:g} .* at least 1/20 = 0\.05"):
            image_to_image(sampler, IMAGES, strength=strength)
    assert not told
    for strength in (0, 0.05, 0.07, 0.3, 1):
        assert image_to_image(sampler, IMAGES, strength=strength).isfinite().all()
    assert min(told) == 0


def test_continuous_time_has_no_first_step():
    sampler, told = listening(RectifiedFlow())
    assert image_to_image(sampler, IMAGES, strength=1e-4).isfinite().all()
    assert min(told) == pytest.approx(0.1)  # in 1000 t
