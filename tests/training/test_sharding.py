"""Processes that hold a part of the weights each learn what one does that holds all."""

from __future__ import annotations

import json

import pytest
import torch

from snowmelt import Checkpoint
from snowmelt.errors import InputError
from snowmelt.training.accelerator import fsdp_asked_for
from snowmelt.training.resume import read_resumable

# Of 360 images, the last step of an epoch has 20
STEPS = [100, 100, 100, 60]
WITHIN = 2  # steps
LEARN = """
import json, pathlib, torch
from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
from snowmelt.training.optimizers import make_optimizer
from snowmelt.training.uncertainty import Uncertainty

torch.set_num_threads(1)

def held(tensors):
    parts = (tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors)
    return sum(part.numel() for part in parts if part.ndim)

def learn(name, folder, batch_size, sharding="none", start=None):
    torch.manual_seed(0)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = create_ddpm(
        8, 1, 4, (1, 2), num_classes=10, norm_groups=2, attention_head_dim=4, layers_per_block=1,
        num_timesteps=20,
    )
    model.network.conv_in.requires_grad_(False)
    data = DiffusionDataLoader("digits:test", "digits:test", image_size=8, in_channels=1, batch_size=batch_size)
    uncertainty = Uncertainty() if name == "adamw" else None
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    learned += uncertainty.parameters() if uncertainty is not None else []
    optimizer = make_optimizer(name, learned, 0.02, (0.9, 0.99))
    trainer = DiffusionTrainer(
        model, data, optimizer, gradient_clip_norm=1.0, ema_decay=0.5, uncertainty=uncertainty,
        snapshots=2 if name == "adamw" else 0, accumulation=2, sharding=sharding,
        evaluate=lambda sampler: {"mean": sampler.sample(2, seeds=[0, 1]).mean().item()},
    )
    if start is not None:
        trainer.load_checkpoint(f"{start}/within.pth")
    curve, before = [], trainer.progress.loss_sum
    for images in trainer.steps():
        now = trainer.progress.loss_sum
        curve.append((images, trainer.accelerator.reduce(now - before, "mean").item()))
        before = now
        if trainer.global_step == 2:
            trainer.save_checkpoint(folder / "within.pth")
    facts = {
        "curve": curve,
        "val": trainer.validate_epoch()["loss"],
        "evaluated": trainer.evaluate_epoch(),
        "weights": held(model.parameters()),
        "average": held(trainer.ema.shadow.values()),
        "moments": held(v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)),
    }
    trainer.save_checkpoint(folder / "last.pth")
    (folder / f"facts{trainer.process[0]}.json").write_text(json.dumps(facts))
"""


def facts(folder, process=0):
    return json.loads((folder / f"facts{process}.json").read_text())


def test_parts_learn_what_a_whole_does_and_either_goes_on_with_the_others_run(tmp_path, torchrun):
    names = ["sgd", "adamw", "muon"]
    here = {}
    exec(LEARN, here)
    calls = []
    for name in names:
        folder = tmp_path / name
        here["learn"](name, folder / "one", 50)
        calls.append(f"learn({name!r}, {str(folder / 'two')!r}, 25, 'fsdp')")
        calls.append(f"learn({name!r}, {str(folder / 'then_two')!r}, 25, 'fsdp', {str(folder / 'one')!r})")
    torchrun("\n".join([LEARN, *calls]))
    for name in names:
        folder = tmp_path / name
        here["learn"](name, folder / "then_one", 50, start=folder / "two")
        one = facts(folder / "one")
        for other in ("two", "then_two", "then_one"):
            print(name, other, one, facts(folder / other), facts(folder / other, 1) if "two" in other else "")
            a = read_resumable(folder / "one/last.pth")
            b = read_resumable(folder / other / "last.pth")
            for k in a.weights:
                print(
                    k,
                    (a.weights[k] - b.weights[k]).abs().max().item(),
                    (a.ema["shadow"][k] - b.ema["shadow"][k]).abs().max().item(),
                ) if "conv" in k else None
            print({k: type(v) for k, v in b.training.items()})
