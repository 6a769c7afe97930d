"""The optimizers that have rules of their own, beside other implementations."""

from __future__ import annotations

import sys
from copy import deepcopy

import pytest
import torch
from torch import nn

from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
from snowmelt.errors import InputError
from snowmelt.models import Checkpoint
from snowmelt.training.muon import orthogonal
from snowmelt.training.optimizers import make_optimizer


def make_trainer(name: str, seed: int = 0, **options) -> DiffusionTrainer:
    torch.manual_seed(seed)
    model = create_ddpm(
        8, 1, 4, (1,), norm_groups=2, attention_head_dim=4, layers_per_block=1, num_timesteps=20
    )
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, batch_size=120)
    optimizer = make_optimizer(name, model.parameters(), 1e-3, betas=(0.9, 0.95))
    return DiffusionTrainer(model, data, optimizer, **options)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_one_kernel_takes_the_step_where_torch_has_that(name):
    assert make_optimizer(name, [nn.Parameter(torch.ones(2))], 0.1).param_groups[0]["fused"] is True


def test_the_moments_of_an_unfused_optimizer_go_on_in_a_fused_one(tmp_path):
    first = make_trainer("adam")
    for group in first.optimizer.param_groups:
        group["fused"] = None
    first.train(1, tmp_path)
    first.train(2)
    second = make_trainer("adam", seed=1)
    second.load_checkpoint(tmp_path / "latest.pth")
    assert second.optimizer.param_groups[0]["fused"] is True
    second.train(2)
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="an older torch has no Muon of its own")
def test_muon_takes_a_kernel_as_a_matrix_and_leaves_the_rest_to_adamw():
    """Beside torch's own Muon, which takes matrices only, and AdamW."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((8, 6, 3, 3), (12, 8), (8,), (3, 8, 3, 3))]
    ours = [nn.Parameter(value.clone()) for value in start]
    theirs = [nn.Parameter(value.clone()) for value in start]
    matrices = [nn.Parameter(value.clone().flatten(1)) for value in start[:2]]
    optimizer = make_optimizer("muon", ours, 1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    of_torch = torch.optim.Muon(matrices, 1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(theirs[2:], 1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(3):
        for parameter in ours:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for matrix, parameter in zip(matrices, ours, strict=False):
            matrix.grad = parameter.grad.flatten(1)
        for one, parameter in zip(theirs, ours, strict=True):
            one.grad = parameter.grad
        for each in (optimizer, of_torch, adamw):
            each.step()
    for matrix, parameter in zip(matrices, ours, strict=False):
        # Torch makes matrices orthogonal in bfloat16
        torch.testing.assert_close(parameter.flatten(1), matrix, rtol=0.02, atol=2e-3)
    for one, parameter in zip(theirs[2:], ours[2:], strict=True):
        torch.testing.assert_close(parameter, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 6, 9), (2, 9, 4), (1, 5, 5)], ids=str)
def test_matrices_become_those_of_five_rounds_in_float64(shape):
    """The rounds as Jordan et al. 2024 write them, on the matrices themselves."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for matrix, ours in zip(matrices.double(), orthogonal(matrices), strict=True):
        x = matrix / matrix.norm()
        for _ in range(5):
            x = 3.4445 * x + (-4.7750 * (x @ x.T) + 2.0315 * (x @ x.T) @ (x @ x.T)) @ x
        torch.testing.assert_close(ours.double(), x, rtol=1e-4, atol=3e-4)


def test_muon_goes_on_from_a_checkpoint_that_counts_steps_as_ints():
    first, second = ([nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(3))] for _ in range(2))
    before, after = (make_optimizer("muon", each, 0.1) for each in (first, second))
    for parameter in first:
        parameter.grad = torch.full_like(parameter, 0.5)
    before.step()
    state = deepcopy(before.state_dict())
    state["state"][1]["step"] = int(state["state"][1]["step"])
    for group in state["param_groups"]:
        del group["fused"]
    after.load_state_dict(state)
    for one, other in zip(first, second, strict=True):
        other.data.copy_(one.data)
        other.grad = one.grad
    before.step()
    after.step()
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize("name", ["adam", "muon", "schedule_free_adamw"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, name):
    if name == "schedule_free_adamw":
        pytest.importorskip("schedulefree")
    whole = make_trainer(name)
    whole.train(num_steps=7)
    make_trainer(name).train(checkpoint_dir=tmp_path, num_steps=4)
    resumed = make_trainer(name, seed=9)
    resumed.load_checkpoint(tmp_path / "latest.pth")
    resumed.train(num_steps=7)
    one, other = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(torch.equal(whole.ema.shadow[key], resumed.ema.shadow[key]) for key in whole.ema.shadow)


def test_the_average_of_a_schedule_free_optimizer_is_its_own(tmp_path):
    """What its eval() puts into the model; the weights that train come back afterwards to the bit."""
    pytest.importorskip("schedulefree")
    trainer = make_trainer("schedule_free_adamw", warmup=240)
    trainer.train(2, tmp_path)
    train_weights = [value.clone() for value in trainer.model.parameters()]
    checkpoint = Checkpoint.read(tmp_path / "latest.pth")
    trainer.optimizer.eval()
    for name, value in trainer.model.named_parameters():
        torch.testing.assert_close(checkpoint.ema["shadow"][name], value, rtol=1e-5, atol=1e-6)
    assert not all(map(torch.equal, trainer.model.parameters(), train_weights))
    assert all(map(torch.equal, checkpoint.weights.values(), train_weights))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_ema": False}, "use_ema"),
        ({"snapshots": 2}, "snapshots"),
        ({"rate_schedule": "cosine"}, "constant learning rate"),
    ],
    ids=str,
)
def test_what_does_not_go_with_a_schedule_free_optimizer_is_refused(options, said):
    pytest.importorskip("schedulefree")
    with pytest.raises(InputError, match=said):
        make_trainer("schedule_free_adamw", **options)


def test_a_library_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(InputError, match=r"needs schedulefree.*pip install 'snowmelt\[optimizers\]'"):
        make_optimizer("schedule_free_adamw", [nn.Parameter(torch.ones(8, 8))], 0.1)
