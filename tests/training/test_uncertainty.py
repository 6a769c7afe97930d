"""Learned uncertainty: what it converges to, what it does to gradients, and where its state is kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import LBFGS, SGD, AdamW

from snowmelt import DiffusionDataLoader, DiffusionModel, DiffusionTrainer, create_ddpm
from snowmelt.core import RectifiedFlow
from snowmelt.errors import InputError
from snowmelt.models import Checkpoint
from snowmelt.models.weights import CheckpointError
from snowmelt.training import Uncertainty, Weighting, denoising_loss


def test_it_converges_to_the_logarithm_of_the_variance():
    """For errors that are chi-square with the variance s(lam)^2, by the loss on which it is trained."""
    torch.manual_seed(0)
    lam = torch.linspace(-4, 4, 1500)
    log_variance = 2 * torch.sin(lam) - lam
    errors = log_variance.exp() * torch.randn(1500, 64).square().mean(1)
    uncertainty = Uncertainty()
    optimizer = LBFGS(uncertainty.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        u = uncertainty(lam)
        loss = (errors / u.exp() + u).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    difference = uncertainty(lam).detach() - log_variance
    # The mean of 64 squares has a relative standard deviation of sqrt(2 / 64) = 0.18
    assert difference.square().mean().sqrt() < 0.05
    assert difference.abs().max() < 0.2


class Constant(torch.nn.Module):
    """A network whose answer is one number."""

    def __init__(self) -> None:
        super().__init__()
        self.y = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x, time, class_labels):
        return self.y.expand_as(x)


def gradient_of(u, weighting: str = "uniform") -> tuple[float, float]:
    network = Constant()
    model = DiffusionModel(network, RectifiedFlow(), "flow", image_shape=(1, 4, 4))
    x0 = torch.linspace(-1, 1, 128).view(8, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    loss = denoising_loss(model, x0, generator=generator, uncertainty=u, weighting=Weighting(weighting))
    loss.backward()
    return loss.item(), network.y.grad.item()


@pytest.mark.parametrize("weighting", ["uniform", "sigmoid"])
def test_the_network_learns_from_the_weighted_error(weighting):
    loss, gradient = gradient_of(None, weighting)
    assert gradient_of(Uncertainty(), weighting) == pytest.approx((loss, gradient))  # starts as 0
    found = gradient_of(lambda lam: torch.full_like(lam, math.log(5)), weighting)
    assert found == pytest.approx((loss / 5 + math.log(5), gradient / 5))


def test_a_level_counts_by_its_own_uncertainty():
    """exp(-u) is a weight of the network's error, level by level: here, that of sigmoid on a velocity."""

    def u(lam):
        sigma = torch.sigmoid(-lam)  # of the rectified flow, where x0 is off by sigma times what y is off by
        return -torch.log((2 * lam).exp() * torch.sigmoid(-2 * lam) * sigma**2)

    assert gradient_of(u)[1] == pytest.approx(gradient_of(None, "sigmoid")[1], rel=1e-4)


def test_the_ends_of_a_schedule_have_one():
    uncertainty = Uncertainty()
    torch.nn.init.normal_(uncertainty.weight)
    ends = uncertainty(torch.tensor([-math.inf, -30.0, 30.0, math.inf]))
    assert torch.isfinite(ends).all()
    assert ends[0] == ends[1]
    assert ends[2] == ends[3]


# -- in a run ------------------------------------------------------------------------------------------


def make_trainer(learned: bool = True, optimizer=AdamW) -> DiffusionTrainer:
    torch.manual_seed(0)
    model = create_ddpm(
        8, 1, 4, (1,), num_timesteps=20, layers_per_block=1, norm_groups=2, attention_head_dim=4
    )
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=120)
    uncertainty = Uncertainty(8) if learned else None
    parameters = [*model.parameters(), *(uncertainty.parameters() if uncertainty else ())]
    return DiffusionTrainer(model, data, optimizer(parameters, lr=0.01), uncertainty=uncertainty)


def states(trainer: DiffusionTrainer) -> dict[str, torch.Tensor]:
    return {**trainer.model.state_dict(), **trainer.parts["uncertainty"].state_dict()}


def test_resuming_is_exact_and_the_model_that_samples_knows_nothing_of_it(tmp_path):
    whole = make_trainer()
    whole.train(1, tmp_path)
    whole.train_epoch()
    resumed = make_trainer()
    torch.nn.init.normal_(resumed.parts["uncertainty"].weight)  # overwritten by what the file holds
    resumed.load_checkpoint(tmp_path / "latest.pth")
    resumed.train_epoch()
    assert states(whole)["weight"].abs().max() > 0
    for name, value in states(whole).items():
        assert torch.equal(value, states(resumed)[name]), name
    plain = make_trainer(learned=False)
    assert (
        Checkpoint.read(tmp_path / "latest.pth").model().state_dict().keys()
        == plain.model.state_dict().keys()
    )


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True)])
def test_another_choice_is_refused_unless_the_optimizer_begins_anew(tmp_path, before, now):
    make_trainer(before).save_checkpoint(tmp_path / "a.pth")
    trainer = make_trainer(now)
    expected = f"set training.loss.uncertainty to {str(before).lower()}, or resume with reset_optimizer"
    with pytest.raises(CheckpointError, match=expected):
        trainer.load_checkpoint(tmp_path / "a.pth")
    trainer.load_checkpoint(tmp_path / "a.pth", reset_optimizer=True)


def test_an_uncertainty_that_would_not_learn_is_refused():
    model = make_trainer().model
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=120)
    with pytest.raises(InputError, match="the optimizer has no parameters of the uncertainty"):
        DiffusionTrainer(model, data, SGD(model.parameters()), uncertainty=Uncertainty())


def test_validation_measures_errors_whatever_was_learned():
    trainer = make_trainer()
    trainer.dataloader.num_val_images = 4
    trainer.dataloader.val_loader = lambda: iter(
        [(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long))]
    )
    before = trainer.validate_epoch()
    torch.nn.init.normal_(trainer.parts["uncertainty"].weight)
    assert trainer.validate_epoch() == before
