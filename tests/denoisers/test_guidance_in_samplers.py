"""Guidance as a sampler applies it: with its plan, its micro-batches, its weights and its seeds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.core import Level, RectifiedFlow
from snowmelt.denoisers import GaussianMixture
from snowmelt.denoisers.guidance import (
    APG,
    CFG,
    AutoGuidance,
    CFGPlusPlus,
    ClassifierGuidance,
    network_evaluations,
)
from snowmelt.plans import SOLVERS

LABELS = [0, 1, 2, 0, 1]
SEEDS = [5, 6, 7, 8, 9]


def small_model():
    """Return a model that says something, and something else for each class."""
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=3, norm_groups=4, layers_per_block=1, parameterization="v"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


class SmallClassifier(nn.Module):
    """Logits of noisy images; its dropout would show if it were left in training mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3))
        self.sizes = []

    def forward(self, x_t, level):
        self.sizes.append(len(x_t))
        return self.layers(x_t) * level.alpha


def guidances():
    return {
        "cfg": CFG(interval=(0.1, 5.0), rescale=0.5),
        "apg": APG(eta=0.2, norm_threshold=3.0, rescale=0.5),
        "autoguidance": AutoGuidance(weak=small_model(), eta=0.5),
        "cfg++": CFGPlusPlus(schedule="cosine"),
        "classifier": ClassifierGuidance(classifier=SmallClassifier()),
    }


class Oracle(GaussianMixture):
    """An exact model, for samplers."""

    def __init__(self):
        means = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        super().__init__(means, 0.2, torch.arange(3))
        self.schedule = RectifiedFlow()
        self.image_shape = (1, 2, 2)
        self.num_classes = self.null_class = 3
        self.bounded = True
        self.images = 0

    def __call__(self, x_t: torch.Tensor, level: Level[float], class_labels=None, /):
        self.images += len(x_t)
        return super().__call__(x_t, level, class_labels)


@pytest.mark.parametrize("name", guidances())
def test_an_image_depends_on_its_seed_alone(name):
    sampler = DiffusionSampler(
        small_model(), solver="ddim", steps=3, guidance=guidances()[name], micro_batch=2
    )
    together = sampler.sample(5, LABELS, 3.0, seeds=SEEDS)
    for i in (0, 3):
        assert torch.equal(sampler.sample(1, [LABELS[i]], 3.0, seeds=[SEEDS[i]])[0], together[i])
    assert torch.equal(sampler.sample(5, LABELS, 3.0, seeds=SEEDS, batch_size=2), together)


@pytest.mark.parametrize("name", guidances())
def test_scale_zero_is_purely_conditional(name):
    model = small_model()
    plain = DiffusionSampler(model, solver="ddim", steps=3).sample(5, LABELS, seeds=SEEDS)
    sampler = DiffusionSampler(model, solver="ddim", steps=3, guidance=guidances()[name])
    assert torch.equal(sampler.sample(5, LABELS, 0.0, seeds=SEEDS), plain)
    assert torch.equal(sampler.sample(5, LABELS, 1.0, seeds=SEEDS), plain) == (
        name in ("cfg", "apg", "autoguidance")
    )


@pytest.mark.parametrize("guidance", [None, "cfg", {"type": "cfg"}, CFG()])
def test_plain_guidance_is_classifier_free(guidance):
    sampler = DiffusionSampler(small_model(), solver="ddim", steps=2, guidance=guidance)
    assert sampler.guidance == CFG()


def test_the_threshold_is_around_guidance():
    """Guidance leads out of the range, and what a step goes on with is inside, not only the last image."""
    inside, outside = (
        DiffusionSampler(Oracle(), solver="ddim", steps=4, threshold=threshold).trajectory(
            3, [0, 1, 2], 8.0, seeds=[1, 2, 3]
        )
        for threshold in ("clip", None)
    )
    assert all(state.x0.abs().max() > 1 for state in outside)
    assert all(state.x0.abs().max() <= 1 for state in inside)


@pytest.mark.parametrize("name", ["autoguidance", "classifier"])
def test_a_second_network_is_treated_as_the_model_is(name):
    """On the sampler's device, without dropout, without autograd, and given back as it was."""
    guidance = guidances()[name]
    (second,) = guidance.networks
    second.to("meta")
    model = small_model()
    with pytest.raises(
        NotImplementedError, match="meta tensor"
    ):  # it is moved, so that it cannot be forgotten
        DiffusionSampler(model, solver="ddim", steps=2, guidance=guidance)
    guidance = guidances()[name]
    (second,) = guidance.networks
    second.train()
    sampler = DiffusionSampler(model, solver="ddim", steps=2, guidance=guidance)
    states = sampler.trajectory(2, [0, 1], 2.0, seeds=[1, 2])
    state = next(states)
    assert not any(module.training for module in second.modules())
    assert not state.x_t.requires_grad
    states.close()
    assert all(module.training for module in second.modules())
    first, again = (sampler.sample(2, [0, 1], 2.0, seeds=[1, 2]) for _ in range(2))
    assert torch.equal(first, again)


def test_a_classifier_runs_in_the_networks_micro_batches():
    classifier = SmallClassifier()
    guidance = ClassifierGuidance(classifier=classifier)
    sampler = DiffusionSampler(small_model(), solver="ddim", steps=2, guidance=guidance, micro_batch=2)
    sampler.sample(5, LABELS, 2.0, seeds=SEEDS)
    assert classifier.sizes == [2, 2, 2] * 2


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["cfg", "apg", "autoguidance"])
def test_every_plan_takes_every_contrast(solver, name):
    """And the evaluations are as many as were announced."""
    model = Oracle()
    options = {"weak": model} if name == "autoguidance" else {}
    guidance = {"type": name, "interval": [0.5, 4.0], "rescale": 0.5, **options}
    sampler = DiffusionSampler(model, solver=solver, steps=6, guidance=guidance, micro_batch=1)
    samples = sampler.sample(3, [0, 1, 2], 3.0)
    assert samples.isfinite().all()
    expected = network_evaluations(sampler.plan, sampler.guidance, 3.0)
    assert sampler.plan.nfe < expected < 2 * sampler.plan.nfe
    assert model.images == 3 * expected


def test_guidance_moves_samples_to_their_class():
    """More of the samples are nearest to their own mean, with each method that can be expected to do so."""
    model = Oracle()
    model.means = 0.1 * model.means
    labels = [i % 3 for i in range(60)]

    def right(guidance, scale):
        sampler = DiffusionSampler(model, solver="ddim", steps=10, guidance=guidance, threshold=None)
        samples = sampler.sample(60, labels, scale, seeds=list(range(60)))
        distances = torch.cdist(samples.flatten(1), model.means.flatten(1))
        return (distances.argmin(1) == torch.tensor(labels)).sum()

    plain = right("cfg", 0.0)
    assert plain < 55
    for guidance, scale in (("cfg", 4.0), ({"type": "apg", "eta": 0.5}, 4.0), ("cfg++", 1.5)):
        assert right(guidance, scale) > plain, guidance


def test_cfg_plus_plus_says_why_a_plan_is_not_for_it():
    sampler = DiffusionSampler(small_model(), preset="fast", guidance="cfg++")
    with pytest.raises(ValueError, match="combines several evaluations in a step"):
        sampler.sample(1, [0], 0.6)
    sampler.sample(1, [0])  # without a scale there is no guidance to refuse
