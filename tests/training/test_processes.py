"""Several processes learn what one learns that sees as many images a step."""

from __future__ import annotations

import json

import pytest
import torch

from snowmelt import Checkpoint
from snowmelt.errors import InputError
from snowmelt.training.accelerator import make_accelerator
from snowmelt.training.draws import Draws

# Of 1437 images, the last step of an epoch has one: one of two processes has none
STEPS = [718, 718, 1]
WITHIN = 4  # steps, inside the second epoch
LEARN = """
import json, pathlib, torch
from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm

torch.set_num_threads(1)
torch.manual_seed(0)
folder, start = pathlib.Path({folder!r}), {start!r}
model = create_ddpm(
    8, 1, 4, (1,), num_classes=10, norm_groups=2, attention_head_dim=4, layers_per_block=1, num_timesteps=20
)
data = DiffusionDataLoader("digits:train", image_size=8, in_channels=1, batch_size={batch_size})
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
trainer = DiffusionTrainer(model, data, optimizer, gradient_clip_norm=1.0, ema_decay=0.5)
if start is not None:
    trainer.load_checkpoint(start)
curve = []
while trainer.epoch < 2:
    before = trainer.progress.loss_sum
    for images in trainer.steps():
        now = trainer.progress.loss_sum
        curve.append((images, trainer.accelerator.reduce(now - before, "mean").item()))
        before = now
        if trainer.global_step == {within}:
            trainer.save_checkpoint(folder / "within.pth")
    trainer.train_epoch()  # ends it
trainer.save_checkpoint(folder / "last.pth")
if trainer.accelerator.is_main_process:
    (folder / "curve.json").write_text(json.dumps(curve))
"""


def code(folder, batch_size: int, start=None) -> str:
    folder.mkdir()
    start = str(start) if start is not None else None
    return LEARN.format(folder=str(folder), batch_size=batch_size, start=start, within=WITHIN)


def curve(folder) -> tuple[list[int], list[float]]:
    images, losses = zip(*json.loads((folder / "curve.json").read_text()), strict=True)
    return list(images), list(losses)


def test_two_processes_learn_what_one_does_and_either_goes_on_with_the_others_run(tmp_path, torchrun):
    one, two, then_one = (tmp_path / name for name in ("one", "two", "then_one"))
    exec(code(one, 718), {})
    torchrun(code(two, 359))
    exec(code(then_one, 718, two / "within.pth"), {})
    images, losses = curve(one)
    assert images == [*STEPS, *STEPS]
    assert curve(two) == (images, pytest.approx(losses, rel=1e-4))
    assert curve(then_one) == (images[WITHIN:], pytest.approx(losses[WITHIN:], rel=1e-4))
    expected, *others = (Checkpoint.read(folder / "last.pth") for folder in (one, two, then_one))
    for other in others:
        assert other.training["images"] == expected.training["images"]
        torch.testing.assert_close(other.weights, expected.weights, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(other.ema["shadow"], expected.ema["shadow"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(other.training["loss_sum"], expected.training["loss_sum"])


def test_what_divides_the_weights_otherwise_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(InputError, match=r"DeepSpeed is asked for, .* choose FSDP"):
        make_accelerator("cpu")


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)
def test_the_noise_of_an_image_follows_from_its_seed_alone(device):
    draws = Draws(torch.zeros(4), torch.zeros(4), [5, 2**62, 5, 7])
    whole = draws.noise((3, 32, 32), torch.device(device))
    for start, stop in ((0, 1), (1, 4)):
        assert torch.equal(
            draws.part(start, stop).noise((3, 32, 32), torch.device(device)), whole[start:stop]
        )
    assert torch.equal(whole[0], whole[2])
    correlation = whole[[0, 1, 3]].flatten(1).double().cpu() @ whole[[0, 1, 3]].flatten(1).double().cpu().T
    torch.testing.assert_close(correlation / (3 * 32 * 32), torch.eye(3).double(), rtol=0, atol=0.13)
