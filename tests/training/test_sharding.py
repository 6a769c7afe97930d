"""Processes that hold a part of the weights each learn what one does that holds all."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from snowmelt import Checkpoint
from snowmelt.errors import InputError
from snowmelt.training.accelerator import fsdp_asked_for, make_accelerator
from snowmelt.training.sharding import ON_PROCESSORS, divides

# Of 360 images, the last step of an epoch has 40
STEPS = [160, 160, 40]
WITHIN = 1  # step
RATE = 2e-3
LEARN = f"""
import json, os, pathlib, torch
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
    data = DiffusionDataLoader("digits:test", "digits:test", 8, batch_size, 1)
    more = name == "adamw"
    uncertainty = Uncertainty() if more else None
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    learned += uncertainty.parameters() if more else []
    optimizer = make_optimizer(name, learned, {RATE}, (0.9, 0.99))
    trainer = DiffusionTrainer(
        model, data, optimizer, gradient_clip_norm=1.0, ema_decay=0.5, uncertainty=uncertainty,
        snapshots=2 if more else 0, accumulation=2, sharding=sharding,
        evaluate=lambda sampler: {{"mean": sampler.sample(2, seeds=[0, 1]).mean().item()}},
    )
    if start is not None:
        trainer.load_checkpoint(f"{{start}}/within.pth")
    curve, before = [], trainer.progress.loss_sum
    for images in trainer.steps():
        now = trainer.progress.loss_sum
        curve.append((images, trainer.accelerator.reduce(now - before, "mean").item()))
        before = now
        if trainer.global_step == {WITHIN}:
            trainer.save_checkpoint(folder / "within.pth")
    facts = {{
        "curve": curve,
        "val": trainer.validate_epoch()["loss"],
        "evaluated": trainer.evaluate_epoch(),
        "weights": held(model.parameters()),
        "average": held(trainer.ema.shadow.values()),
        "moments": held(v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)),
    }}
    trainer.save_checkpoint(folder / "last.pth")
    (folder / f"facts{{trainer.process[0]}}.json").write_text(json.dumps(facts))
"""
PARTS = ("weights", "average", "moments")


def facts(folder: Path, process: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"facts{process}.json").read_text())


def shape(tree: Any) -> Any:
    """What a checkpoint holds, without the numbers."""
    if isinstance(tree, dict):
        return {name: shape(value) for name, value in tree.items()}
    return tuple(tree.shape) if isinstance(tree, torch.Tensor) else type(tree)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, torchrun) -> Path:
    """One process alone, two that go on with its run or begin their own, and one that goes on with theirs."""
    if not ON_PROCESSORS:
        pytest.skip("this torch divides nothing among processors")
    folder = tmp_path_factory.mktemp("runs")
    here: dict[str, Any] = {}
    exec(LEARN, here)
    calls = [LEARN]
    for name in ("adamw", "muon"):
        here["learn"](name, folder / name / "one", 80)
        calls.append(f"learn({name!r}, {str(folder / name / 'two')!r}, 40, 'fsdp')")
    start, end = str(folder / "adamw" / "one"), str(folder / "adamw" / "then_two")
    calls.append("os.environ['ACCELERATE_USE_FSDP'] = 'true'  # as accelerate launch --use_fsdp sets it")
    calls.append(f"learn('adamw', {end!r}, 40, start={start!r})")
    torchrun("\n".join(calls))
    here["learn"]("adamw", folder / "adamw" / "then_one", 80, start=folder / "adamw" / "two")
    return folder


@pytest.mark.parametrize(
    "run",
    ["adamw/two", "muon/two", "adamw/then_two", "adamw/then_one"],
)
def test_parts_learn_what_a_whole_does_and_either_goes_on_with_the_others_run(run, runs):
    alone, other = runs / run.split("/")[0] / "one", runs / run
    expected, found = facts(alone), facts(other)
    steps = slice(WITHIN if "then" in run else 0, None)
    images, losses = zip(*expected["curve"], strict=True)
    assert list(images) == STEPS
    assert [number for number, _ in found["curve"]] == STEPS[steps]
    assert [loss for _, loss in found["curve"]] == pytest.approx(losses[steps], rel=1e-4)
    assert found["val"] == pytest.approx(expected["val"], rel=1e-4)
    assert found["evaluated"]["mean"] == pytest.approx(expected["evaluated"]["mean"], abs=1e-4)
    one, two = (Checkpoint.read(folder / "last.pth") for folder in (alone, other))
    # AdamW divides a gradient by its size, also one of rounding errors
    near = {"rtol": 1e-3, "atol": RATE / 20}
    torch.testing.assert_close(dict(two.weights), dict(one.weights), **near)
    torch.testing.assert_close(two.ema["shadow"], one.ema["shadow"], **near)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_two_processes_hold_half_each_and_write_the_files_of_one(name, runs):
    alone, both = runs / name / "one", runs / name / "two"
    one, parts = facts(alone), [facts(both, process) for process in (0, 1)]
    one_file, two_file = (Checkpoint.read(folder / "last.pth") for folder in (alone, both))
    # The first process has the larger half of the rows of each tensor
    rows = [value for value in one_file.weights.values() if value.ndim]
    larger = sum(-(-len(value) // 2) * value[0].numel() for value in rows)
    assert parts[0]["weights"] == parts[0]["average"] == larger
    for what in PARTS:
        assert parts[0][what] + parts[1][what] == one[what]
        assert parts[0][what] < 0.52 * one[what]
    own = ("loss_sums", "rng_states")  # one for each process, with FSDP or without
    trained = {key: value for key, value in two_file.training.items() if key not in own}
    assert shape(trained) == shape(dict(one_file.training))
    assert shape(two_file.weights) == shape(one_file.weights)
    assert shape(two_file.ema) == shape(one_file.ema)
    assert parts[1]["evaluated"] == {}


def test_a_torch_that_cannot_divide_among_processors_is_named(monkeypatch):
    monkeypatch.setattr("snowmelt.training.sharding.ON_PROCESSORS", False)
    two = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    assert not divides(two, "none")
    with pytest.raises(InputError, match="newer torch than"):
        divides(two, "fsdp")


def test_a_process_alone_holds_all(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert fsdp_asked_for()
    assert not divides(make_accelerator("cpu"), "fsdp")
    with pytest.raises(InputError, match="sharding must be one of none, fsdp, got 'all'"):
        divides(make_accelerator("cpu"), "all")
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(InputError, match="fsdp_offload_params is not built"):
        fsdp_asked_for()
