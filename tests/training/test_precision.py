"""The precision of training: it reaches the network and nothing else, and a run keeps what it has chosen."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD

from snowmelt import DiffusionSampler, DiffusionTrainer, create_ddpm
from snowmelt.models.checkpoint_file import read_contents, write_contents
from snowmelt.precision import Choice
from snowmelt.training.draws import draw
from snowmelt.training.loss import batch_loss
from snowmelt.training.precision import settle_precision
from snowmelt.training.times import Times

from .test_trainer import digits, make_trainer, same, straight


@pytest.fixture
def tried(monkeypatch) -> list[bool]:
    """Let bf16 be the faster one, and count how often that was tried."""
    calls: list[bool] = []

    def choose(*_, backward: bool) -> Choice:
        calls.append(backward)
        return Choice("bf16", "bf16 takes 0.57 of float32's time here: it is used")

    monkeypatch.setattr("snowmelt.training.precision.choose", choose)
    return calls


def test_it_reaches_the_network_and_nothing_else(tmp_path):
    trainer, seen = make_trainer(precision="bf16"), []
    handle = trainer.model.network.conv_out.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    metrics = trainer.train(1, tmp_path)
    assert set(seen) == {torch.bfloat16}
    assert metrics["train_loss"] == pytest.approx(straight(1)[1]["train_loss"], rel=0.02)
    assert not same(trainer, straight(1)[0])
    states = trainer.optimizer.state_dict()["state"].values()
    held = [*trainer.model.parameters(), *trainer.ema.shadow.values(), *(s["exp_avg"] for s in states)]
    assert {value.dtype for value in held} == {torch.float32}
    # Samples that are drawn while training are those of the file
    handle.remove()
    there = DiffusionSampler.from_pretrained(tmp_path / "latest.pth").sample(2, [1, 2], seeds=[0, 1])
    assert torch.equal(trainer.sampler.sample(2, [1, 2], seeds=[0, 1]), there)


def test_what_was_chosen_is_tried_once_and_goes_on_after_a_resume(tmp_path, tried):
    whole = make_trainer(precision="auto")
    whole.train(2, tmp_path)
    assert tried == [True]
    assert read_contents(tmp_path / "latest.pth")["precision"] == "bf16"
    tried.clear()
    resumed = make_trainer(precision="auto", seed=1)
    resumed.load_checkpoint(tmp_path / "epoch_0001.pth")
    assert resumed.progress.precision == "bf16"
    resumed.train(2)
    assert same(whole, resumed)
    assert not tried


def test_a_run_of_an_older_version_goes_on_in_float32(tmp_path, tried):
    make_trainer().train(1, tmp_path)
    contents = read_contents(tmp_path / "latest.pth")
    del contents["precision"]
    write_contents(contents, tmp_path / "old.pth")
    resumed = make_trainer(precision="auto", seed=1)
    resumed.load_checkpoint(tmp_path / "old.pth")
    resumed.train(2)
    assert same(resumed, straight(2)[0])
    assert not tried


def test_what_is_asked_for_comes_before_what_the_checkpoint_holds(tmp_path, tried):
    make_trainer(precision="auto").train(1, tmp_path)
    resumed = make_trainer(precision="fp32")
    resumed.load_checkpoint(tmp_path / "latest.pth")
    assert settle_precision(resumed) == ("fp32", "")


def test_a_choice_that_this_device_would_not_make_is_made_anew(tmp_path, tried):
    """As float16, of a device that has nothing better, on one that has bfloat16."""
    trainer = make_trainer(precision="auto")
    trainer.progress.precision = "fp16"
    assert settle_precision(trainer).precision == "bf16"
    assert settle_precision(trainer) == ("bf16", "")


def test_use_amp_is_another_word_for_auto():
    assert make_trainer(use_amp=True).precision == "auto"
    assert make_trainer().precision == "fp32"


def test_float16_scales_the_loss_and_clips_gradients_at_their_own_size():
    """Without momentum, a step moves all weights together by the rate times the norm."""
    torch.manual_seed(0)
    model = create_ddpm(8, 1, 4, (1,), num_classes=10, norm_groups=2, attention_head_dim=4)
    optimizer = SGD(model.parameters(), lr=0.1)
    trainer = DiffusionTrainer(
        model, digits(batch_size=360), optimizer, gradient_clip_norm=0.01, precision="fp16"
    )
    before = parameters_to_vector(model.parameters()).detach().clone()
    trainer.train_epoch()
    assert (parameters_to_vector(model.parameters()) - before).norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert trainer.accelerator.scaler.get_scale() > 1


# -- torch.compile -------------------------------------------------------------------------------------


def test_a_compiler_that_fails_is_left_out_with_its_reason(monkeypatch, tmp_path):
    calls = []

    def compiled(network):
        def fails(*inputs):
            calls.append(inputs)
            raise RuntimeError("backend='inductor' raised:\nNo C++ compiler was found")

        return fails

    monkeypatch.setattr(torch, "compile", compiled)
    trainer = make_trainer(compile_model=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.train(1, tmp_path)
    assert len(calls) == len(caught) == 1
    assert "goes on without it: backend='inductor' raised: No C++ compiler was found" in str(
        caught[0].message
    )
    assert same(trainer, straight(1)[0])
    plain = make_trainer()
    assert (
        read_contents(tmp_path / "latest.pth")["model_state_dict"].keys() == plain.model.state_dict().keys()
    )


def test_an_error_of_the_network_itself_is_no_fault_of_the_compiler(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: network)
    trainer = make_trainer(compile_model=True)
    draws = draw(trainer.model, Times(), 1, 0)
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        batch_loss(trainer, torch.zeros(1, 2, 8, 8), torch.tensor([0]), draws=draws)
