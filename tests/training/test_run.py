"""What `TrainingRun` promises: optimizer, rates, precision and schedule are those that the file names."""

from __future__ import annotations

import csv
import math
from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.config import Config
from snowmelt.errors import InputError
from snowmelt.training import accelerator
from snowmelt.training.changes import settings as settings_of
from snowmelt.training.draws import draw
from snowmelt.training.loss import batch_loss
from snowmelt.training.run import TrainingRun
from snowmelt.training.times import Times
from snowmelt.training.weightings import Weighting

CPU = torch.device("cpu")


def make_run(folder: Path, training: dict | None = None, diffusion: dict | None = None) -> TrainingRun:
    """A run of one batch an epoch, on the smallest network, at a constant rate unless stated."""
    training = training or {}
    architecture = {"image_size": 8, "in_channels": 1, "model_channels": 4, "channel_multipliers": [1]}
    settings = {
        "mode": "train",
        "compute": {"precision": "fp32"},  # the same bits in every run, however busy the machine
        "model": {
            "architecture": {
                **architecture,
                "layers_per_block": 1,
                "norm_groups": 2,
                "attention_head_dim": 4,
            },
            "diffusion": diffusion or {"num_timesteps": 20, "beta_end": 0.3},
            "conditioning": {"num_classes": 10},
        },
        "data": {"paths": {"train": "digits:test"}, "loading": {"batch_size": 360}},
        "output": {"base_dir": str(folder)},
        "training": {
            "visualization": {"enabled": False},
            **training,
            "scheduler": {"type": "none", "warmup": 0, **training.get("scheduler", {})},
        },
    }
    return TrainingRun(Config.model_validate(settings), CPU)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


# -- optimizer and learning rate -----------------------------------------------------------------------

RATE, DECAY, BETAS = 0.1, 0.5, (0.5, 0.75)
GRADIENTS = (1.0, -3.0)


def adam(weight: float, decay_in_gradient: float, shrink: float) -> list[float]:
    """Kingma & Ba 2015, algorithm 1, with weight decay in one of its two places."""
    m = v = 0.0
    weights = []
    for n, gradient in enumerate(GRADIENTS, start=1):
        g = gradient + decay_in_gradient * weight
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g**2
        step = m / (1 - BETAS[0] ** n) / math.sqrt(v / (1 - BETAS[1] ** n))
        weight = (1 - shrink) * weight - RATE * step
        weights.append(weight)
    return weights


def sgd(weight: float) -> list[float]:
    """Heavy ball: the velocity sums gradients, the first of the betas is what it keeps of itself."""
    velocity = 0.0
    weights = []
    for gradient in GRADIENTS:
        velocity = BETAS[0] * velocity + gradient + DECAY * weight
        weight -= RATE * velocity
        weights.append(weight)
    return weights


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adam", adam(2.0, decay_in_gradient=DECAY, shrink=0.0)),
        # Loshchilov & Hutter 2019, algorithm 2: the decay is beside the gradient
        ("adamw", adam(2.0, decay_in_gradient=0.0, shrink=RATE * DECAY)),
        ("sgd", sgd(2.0)),
    ],
)
def test_the_optimizer_takes_the_steps_of_its_paper(tmp_path, name, expected):
    settings = {"type": name, "learning_rate": RATE, "betas": list(BETAS), "weight_decay": DECAY}
    trainer = make_run(tmp_path, {"optimizer": settings}).trainer
    parameters = list(trainer.model.parameters())
    for parameter in parameters:
        parameter.data.fill_(2.0)
    for gradient, weight in zip(GRADIENTS, expected, strict=True):
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, gradient)
        trainer.optimizer.step()
        for parameter in parameters:
            torch.testing.assert_close(parameter, torch.full_like(parameter, weight), rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_at_the_norm_of_the_file(tmp_path):
    """Without momentum, all weights together move by the rate times that norm."""
    norm = 0.01
    settings = {"type": "sgd", "learning_rate": RATE, "betas": [0.0, 0.0], "gradient_clip_norm": norm}
    trainer = make_run(tmp_path, {"optimizer": settings}).trainer
    before = parameters_to_vector(trainer.model.parameters()).detach().clone()
    trainer.train_epoch()  # one step
    moved = parameters_to_vector(trainer.model.parameters()).detach() - before
    assert moved.norm().item() == pytest.approx(RATE * norm, rel=1e-3)


def cosine(share: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def linear(share: float, start: float, end: float) -> float:
    return start + (end - start) * min(share, 1.0)


def inverse_sqrt(share: float, start: float, end: float) -> float:
    """1 / rate^2 is a straight line."""
    return (start**-2 + share * (end**-2 - start**-2)) ** -0.5


@pytest.mark.parametrize(
    ("name", "length", "rate"),
    [
        ("cosine", "auto", cosine),
        ("linear", "auto", linear),
        ("linear", 3, linear),
        ("inverse_sqrt", "auto", inverse_sqrt),
        ("constant", "auto", lambda share, start, end: start),
        ("none", 2, lambda share, start, end: start),
    ],
)
def test_every_epoch_has_the_rate_of_the_closed_form(tmp_path, name, length, rate):
    epochs, start, end = 5, 0.01, 0.002
    scheduler = {"type": name, "T_max": length, "eta_min": end}
    run = make_run(
        tmp_path, {"epochs": epochs, "scheduler": scheduler, "optimizer": {"learning_rate": start}}
    )
    run.check()
    run.run()
    over = epochs if length == "auto" else length
    expected = [rate(epoch / over, start, end) for epoch in range(epochs)]
    assert [float(row["learning_rate"]) for row in rows(tmp_path)] == pytest.approx(expected)
    # The rate of the epoch that would come next: for `auto`, the end
    assert run.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rate(epochs / over, start, end))


# -- the objective -------------------------------------------------------------------------------------


def test_the_objective_and_the_warm_up_are_those_of_the_file(tmp_path):
    chosen = {
        "loss": {"weighting": "p2", "options": {"k": 2.0}},
        "times": {"distribution": "logit_normal", "options": {"std": 2.0}, "stratified": True, "shift": 3.0},
        "scheduler": {"warmup": 720},
    }
    run = make_run(tmp_path, {**chosen, "epochs": 3, "optimizer": {"learning_rate": 0.01}})
    run.check()
    assert run.trainer.objective == {
        "weighting": Weighting("p2", {"gamma": 1.0, "k": 2.0}),
        "times": Times("logit_normal", {"mean": 0.0, "std": 2.0}, stratified=True, shift=3.0),
    }
    run.run()
    assert [float(row["learning_rate"]) for row in rows(tmp_path)] == pytest.approx([0.005, 0.01, 0.01])


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"loss": {"weighting": "min_snr", "options": {"gama": 1.0}}}, "did you mean 'gamma'"),
        ({"times": {"distribution": "uniform", "options": {"std": 1.0}}}, "has no options, such as 'std'"),
    ],
)
def test_an_option_that_is_none_is_refused_before_any_work(tmp_path, chosen, said):
    with pytest.raises(InputError, match=said):
        make_run(tmp_path, chosen).check()


def test_another_objective_is_listed_when_a_run_goes_on(tmp_path):
    make_run(tmp_path, {"epochs": 1, "loss": {"weighting": "uniform"}}).run()
    changed = {"epochs": 2, "resume": {"enabled": True}, "loss": {"weighting": "min_snr"}}
    with pytest.warns(UserWarning, match='training.loss.weighting: "uniform" there, "min_snr" now') as caught:
        make_run(tmp_path, changed).check()
    assert "training.times" not in str(caught[0].message)


def test_a_file_from_before_there_was_a_choice_means_the_defaults():
    new = Config.model_validate({"data": {"paths": {"train": "digits"}}}).model_dump(mode="json")
    old = deepcopy(new)
    for key in ("loss", "times"):
        del old["training"][key]
    del old["training"]["scheduler"]["warmup"]
    assert settings_of(old) == settings_of(new)


# -- schedules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diffusion", "name", "prediction"),
    [
        ({}, "ddpm-linear", "eps"),
        ({"beta_schedule": "cosine", "parameterization": "v"}, "ddpm-cosine", "v"),
        ({"schedule": "flow"}, "flow", "flow"),
        ({"schedule": "edm", "schedule_options": {"sigma_max": 20.0}}, "edm", "edm"),
        ({"schedule": "vp", "parameterization": "eps"}, "vp", "eps"),
    ],
    ids=str,
)
def test_what_was_trained_on_any_schedule_samples_from_its_file_alone(tmp_path, diffusion, name, prediction):
    run = make_run(tmp_path, {"epochs": 1}, diffusion)
    run.check()
    folder = run.run()
    checkpoint = Checkpoint.read(folder / "latest.pth")
    assert checkpoint.spec.schedule == name
    sampler = DiffusionSampler.from_pretrained(folder / "latest.pth")
    assert sampler.model.parameterization.name == prediction
    assert sampler.model.schedule(1.0) == run.trainer.model.schedule(1.0)
    images = sampler.sample(2, [1, 7], seeds=[0, 1])
    torch.testing.assert_close(images, run.trainer.sampler.sample(2, [1, 7], seeds=[0, 1]), rtol=0, atol=0)


# -- speed ---------------------------------------------------------------------------------------------


def test_a_compiled_network_has_the_same_loss_and_gradients(tmp_path, monkeypatch):
    """With the graph of torch.compile, but not its C++, which takes minutes to make."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain = make_run(tmp_path / "plain").trainer
    compiled = make_run(tmp_path / "compiled", {"performance": {"compile_model": True}}).trainer
    assert compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    x0, labels = torch.linspace(-1, 1, 2 * 64).view(2, 1, 8, 8), torch.tensor([3, 10])
    losses = [
        batch_loss(trainer, x0, labels, draws=draw(trainer.model, Times(), len(x0), 0), learns=False)
        for trainer in (plain, compiled)
    ]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)
    for loss in losses:
        loss.backward()
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_scaled_loss_changes_no_bit_and_its_scale_is_resumed(tmp_path, monkeypatch):
    """What float16 needs, with powers of two: gradients are scaled up, applied at their own size, and the
    scale that has grown is in the checkpoint.
    """

    def with_scaler(device, precision):
        made = accelerator.make_accelerator(device, precision)
        made.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**6, growth_interval=2)
        return made

    settings = {"optimizer": {"gradient_clip_norm": 0.01}}
    plain = make_run(tmp_path / "plain", settings).trainer
    plain.train(3)
    monkeypatch.setattr("snowmelt.training.trainer.make_accelerator", with_scaler)
    first = make_run(tmp_path / "scaled", settings).trainer
    first.train(2, tmp_path)
    assert first.accelerator.scaler.get_scale() == 2.0**7
    resumed = make_run(tmp_path / "resumed", settings).trainer
    resumed.load_checkpoint(tmp_path / "latest.pth")
    assert resumed.accelerator.scaler.get_scale() == 2.0**7
    resumed.train(3)
    for one, other in zip(plain.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, other)
