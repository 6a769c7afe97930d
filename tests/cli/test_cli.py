"""The command line, run as a user runs it: train, generate, and every way to get it wrong."""

from __future__ import annotations

import csv
import multiprocessing
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from typer.testing import CliRunner

from snowmelt.cli import app
from snowmelt.models.checkpoint_file import read_contents, write_contents

TRAIN = {
    "experiment": "tiny",
    "mode": "train",
    "compute": {"device": "cpu", "seed": 3},
    "model": {
        "architecture": {
            "image_size": 8,
            "in_channels": 1,
            "model_channels": 4,
            "channel_multipliers": [1],
            "layers_per_block": 1,
            "norm_groups": 2,
            "attention_head_dim": 4,
        },
        "diffusion": {"num_timesteps": 10, "beta_end": 0.5},
        "conditioning": {"type": "class", "num_classes": 10},
    },
    "data": {"paths": {"train": "digits:test", "val": "digits:test"}, "loading": {"batch_size": 180}},
    "training": {
        "epochs": 2,
        # not of the whole run's length: a run of one epoch is the first half of one of two
        "scheduler": {"type": "none"},
        "ema": {"decay": 0.99},
        "checkpointing": {"save_frequency": 1},
        "visualization": {"enabled": True, "interval": 2, "num_samples": 10},
    },
}


def write(path: Path, settings: dict) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a tiny training run; read it, don't change it."""
    folder = tmp_path_factory.mktemp("trained")
    settings = {**TRAIN, "output": {"base_dir": str(folder)}}
    result = run("train", write(folder / "train.yaml", settings))
    assert result.exit_code == 0, result.output
    return folder


def generate_settings(trained: Path, out: Path, **sampling: object) -> dict:
    sampling = {"num_samples": 12, "guidance_scale": 2.0, "sampler": {"type": "ddim", "steps": 3}, **sampling}
    return {
        "mode": "generate",
        "compute": {"device": "cpu", "seed": 7},
        "output": {"base_dir": str(out)},
        "generation": {"checkpoint": str(trained / "checkpoints" / "latest.pth"), "sampling": sampling},
    }


# -- training ------------------------------------------------------------------------------------------


def test_training_leaves_its_files(trained):
    names = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert {
        "checkpoints/latest.pth",
        "checkpoints/best_model.pth",
        "checkpoints/epoch_0001.pth",
        "logs/metrics.csv",
        "logs/losses.png",
        "logs/config.yaml",
        "samples/samples_0000004.png",
        "samples/denoising_0000004.png",
    } <= names
    assert any(name.startswith("logs/events.out.tfevents") for name in names)
    checkpoint = read_contents(trained / "checkpoints" / "latest.pth")
    assert checkpoint["config"]["training"]["epochs"] == 2


def test_resuming_from_the_command_line_equals_one_run(trained, tmp_path):
    config = write(tmp_path / "train.yaml", {**TRAIN, "output": {"base_dir": str(tmp_path)}})
    assert run("train", config, "training.epochs=1").exit_code == 0
    result = run("train", config, "training.resume.enabled=true")
    assert result.exit_code == 0, result.output
    assert "after 1 epoch\n" in result.output
    one, other = (
        read_contents(folder / "checkpoints" / "latest.pth")["model_state_dict"]
        for folder in (trained, tmp_path)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    with (tmp_path / "logs" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_ctrl_c_saves_and_exits_with_130(tmp_path, start):
    config = write(tmp_path / "train.yaml", {**TRAIN, "output": {"base_dir": str(tmp_path)}})
    arguments = ["train", config, "training.epochs=100000", "training.visualization.enabled=false"]
    process = start(*arguments, output=tmp_path / "said")
    latest = tmp_path / "checkpoints" / "latest.pth"
    deadline = time.monotonic() + 120
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    latest.unlink()  # only a save after Ctrl-C can bring it back, or a later epoch: both are whole files
    os.kill(process.pid, signal.SIGINT)
    process.join(timeout=60)
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 130, said
    assert "Interrupted" in said
    assert read_contents(latest)["global_step"] > 0


# -- generation ----------------------------------------------------------------------------------------


def test_generation_writes_pictures_labels_and_settings(trained, tmp_path):
    result = run("generate", write(tmp_path / "g.yaml", generate_settings(trained, tmp_path)))
    assert result.exit_code == 0, result.output
    assert "Loaded EMA weights from checkpoint" in result.output
    folder = tmp_path / "generated"
    assert f"Saved generated grid to: {folder / 'generated_samples.png'}" in result.output
    assert f"Saved 12 individual samples to: {folder}" in result.output
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "generated_samples.png",
        "labels.csv",
        "manifest.json",
        *(f"sample_{i:04d}.png" for i in range(12)),
    ]
    assert pixels(folder / "sample_0000.png").shape == (1, 8, 8)
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Balanced, the remainder to the first classes
    assert [int(row["class"]) for row in rows] == [0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert rows[0]["file"] == "sample_0000.png"
    assert len({row["seed"] for row in rows}) == 12


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return pil_to_tensor(image)


def pictures(folder: Path) -> list[list[int]]:
    return [pixels(path).flatten().tolist() for path in sorted((folder / "generated").glob("sample_*.png"))]


def test_the_batch_size_changes_no_pixel(trained, tmp_path):
    for name, batch_size in (("whole", 64), ("parts", 5)):
        settings = generate_settings(trained, tmp_path / name, batch_size=batch_size)
        assert run("generate", write(tmp_path / f"{name}.yaml", settings)).exit_code == 0
    assert pictures(tmp_path / "whole") == pictures(tmp_path / "parts")


def test_the_seed_column_makes_an_image_again(trained, tmp_path):
    from snowmelt import DiffusionSampler
    from snowmelt.images import to_uint8

    settings = generate_settings(trained, tmp_path)
    assert run("generate", write(tmp_path / "g.yaml", settings)).exit_code == 0
    with (tmp_path / "generated" / "labels.csv").open() as file:
        row = list(csv.DictReader(file))[5]
    sampler = DiffusionSampler.from_pretrained(settings["generation"]["checkpoint"], solver="ddim", steps=3)
    again = sampler.sample(1, [int(row["class"])], guidance_scale=2.0, seeds=[int(row["seed"])])
    assert torch.equal(to_uint8(again[0]), pixels(tmp_path / "generated" / row["file"]))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"save_individual": False}, ["config.yaml", "generated_samples.png", "manifest.json"]),
        (
            {"save_grid": False},
            ["config.yaml", "labels.csv", "manifest.json", "sample_0000.png", "sample_0001.png"],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:num_samples")
def test_what_is_written_can_be_chosen(trained, tmp_path, output, expected):
    settings = generate_settings(trained, tmp_path, num_samples=2)
    settings["generation"]["output"] = output
    assert run("generate", write(tmp_path / "g.yaml", settings)).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "generated").iterdir()) == expected


def test_grid_rows_are_as_long_as_asked(trained, tmp_path):
    sizes = []
    for nrow in (3, 6):
        settings = generate_settings(trained, tmp_path)
        settings["generation"]["output"] = {"grid_nrow": nrow, "save_individual": False}
        assert run("generate", write(tmp_path / "g.yaml", settings)).exit_code == 0
        sizes.append(pixels(tmp_path / "generated" / "generated_samples.png").shape[1:])
    (h3, w3), (h6, w6) = sizes
    assert h3 > h6
    assert w3 < w6


def test_missing_ema_weights_warn_and_fall_back(trained, tmp_path):
    checkpoint = read_contents(trained / "checkpoints" / "latest.pth")
    del checkpoint["ema_state_dict"]
    (tmp_path / "checkpoints").mkdir()
    write_contents(checkpoint, tmp_path / "checkpoints" / "latest.pth")
    result = run("generate", write(tmp_path / "g.yaml", generate_settings(tmp_path, tmp_path)))
    assert result.exit_code == 0
    assert "has no EMA weights: falling back to standard model weights" in result.output
    # The same pictures as with EMA turned off
    settings = generate_settings(trained, tmp_path / "raw", use_ema=False)
    assert run("generate", write(tmp_path / "raw.yaml", settings)).exit_code == 0
    assert pictures(tmp_path) == pictures(tmp_path / "raw")


def test_a_contradiction_is_said_and_the_checkpoint_holds(trained, tmp_path):
    settings = generate_settings(trained, tmp_path)
    settings["model"] = {"architecture": {"model_channels": 64, "image_size": 8}}
    result = run("generate", write(tmp_path / "g.yaml", settings))
    assert result.exit_code == 0
    assert "the file says model_channels = 64" in result.output
    assert "image_size" not in result.output


def test_bare_weights_generate_with_the_files_model(trained, tmp_path):
    weights = read_contents(trained / "checkpoints" / "latest.pth")["model_state_dict"]
    torch.save({f"module.{name}": value for name, value in weights.items()}, tmp_path / "bare.pth")
    settings = generate_settings(trained, tmp_path, use_ema=False)
    settings["generation"]["checkpoint"] = str(tmp_path / "bare.pth")
    result = run("generate", write(tmp_path / "g.yaml", settings))
    assert result.exit_code == 2
    assert "describe the model under `model`" in result.output
    settings["model"] = TRAIN["model"]
    assert run("generate", write(tmp_path / "g.yaml", settings)).exit_code == 0
    assert len(pictures(tmp_path)) == 12


def test_an_unconditional_model_generates(tmp_path):
    settings = {**TRAIN, "output": {"base_dir": str(tmp_path)}}
    unconditional = {**TRAIN["model"], "conditioning": {"type": None}}
    config = write(tmp_path / "t.yaml", {**settings, "model": unconditional})
    assert run("train", config, "training.epochs=1").exit_code == 0
    generate = generate_settings(tmp_path, tmp_path, num_samples=2)
    result = run("generate", write(tmp_path / "g.yaml", generate))
    assert result.exit_code == 2
    assert "the model is unconditional: set it to 0.0" in result.output
    generate["generation"]["sampling"]["guidance_scale"] = 0.0
    assert run("generate", write(tmp_path / "g.yaml", generate)).exit_code == 0
    with (tmp_path / "generated" / "labels.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["", ""]


# -- what goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["generation.checkpoint=nowhere.pth"], "Checkpoint not found: nowhere.pth"),
        (["generation.checkpoint=."], "is a folder, but none of diffusers"),
        (["generation.checkpoint={config}"], "cannot be read"),
        (["generation.sampling.sampler.type=dimm"], "did you mean 'ddim'"),
        (["generation.sampling.sampler.steps=11"], "steps must be at most 10"),
        (["generation.sampling.sampler.rho=3"], "has no option 'rho'"),
        (["generation.sampling.num_sample=3"], "generation.sampling.num_samples"),
        (["generation.sampling.num_samples=0"], "generation.sampling.num_samples"),
        (["compute.device=gpu"], "compute.device"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(trained, tmp_path, overrides, message):
    config = write(tmp_path / "g.yaml", generate_settings(trained, tmp_path))
    result = run("generate", config, *(override.format(config=config) for override in overrides))
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_config": {"hidden_size": 8}}, "the network unet has no option 'hidden_size'"),
        ({"ema_state_dict": {"shadow": {"w": torch.ones(1)}}}, "the EMA weights do not fit"),
        ({"ema_state_dict": {"shadow": None}}, "not an EMA state"),
        ({"model_state_dict": {"w": torch.ones(1)}}, "does not fit the model"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_named(trained, tmp_path, change, message):
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "latest.pth"
    write_contents({**read_contents(trained / "checkpoints" / "latest.pth"), **change}, path)
    result = run("generate", write(tmp_path / "g.yaml", generate_settings(tmp_path, tmp_path)))
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert f"Error: {path} " in result.output


def test_a_device_that_is_not_there_is_bad_input(trained, tmp_path):
    config = write(tmp_path / "g.yaml", generate_settings(trained, tmp_path))
    result = run("generate", config, "compute.device=cuda:99")
    assert result.exit_code == 2
    assert "use cpu or auto" in result.output


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.paths.train=no/such/folder"], "is neither a file nor a folder, nor one of"),
        (["data.paths.train=digits:validation"], "digits:train"),
        (["model.conditioning.num_classes=3"], "set it to 10"),
        (["model.architecture.image_size=9", "model.architecture.channel_multipliers=[1,2]"], "9"),
        (["model.diffusion.zero_terminal_snr=true"], "take parameterization v or x0"),
        (
            ["training.resume.enabled=true", "training.resume.checkpoint=no/such.pth"],
            "Checkpoint not found",
        ),
        (["training.epoch=3"], "training.epochs"),
    ],
)
def test_bad_training_input_is_one_message_and_exit_code_2(tmp_path, overrides, message):
    config = write(tmp_path / "t.yaml", {**TRAIN, "output": {"base_dir": str(tmp_path)}})
    result = run("train", config, *overrides)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_resuming_with_another_optimizer_is_refused_unless_told(tmp_path):
    config = write(tmp_path / "t.yaml", {**TRAIN, "output": {"base_dir": str(tmp_path)}})
    always = ["training.visualization.enabled=false"]
    assert run("train", config, *always, "training.epochs=1").exit_code == 0
    again = [*always, "training.optimizer.type=sgd", "training.resume.enabled=true"]
    result = run("train", config, *again)
    assert result.exit_code == 2, result.output
    assert "was trained with the optimizer Muon, this run has SGD" in result.output
    reset = re.search(r"resume with (reset_\w+)", result.output)
    assert reset is not None
    result = run("train", config, *again, f"training.resume.{reset[1]}=true")
    assert result.exit_code == 0, result.output


def test_a_missing_library_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    config = write(tmp_path / "t.yaml", {**TRAIN, "output": {"base_dir": str(tmp_path / "run")}})
    result = run("train", config)
    assert result.exit_code == 2
    assert "pip install 'snowmelt[train]'" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_and_exits_with_2(tmp_path, workers):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / name / "fine.png")
    (tmp_path / "data" / "dog" / "broken.png").write_bytes(b"not a picture")
    config = write(tmp_path / "t.yaml", {**TRAIN, "output": {"base_dir": str(tmp_path)}})
    overrides = [
        f"data.paths.train={tmp_path / 'data'}",
        "data.paths.val=null",
        "model.conditioning.num_classes=null",
    ]
    result = run("train", config, *overrides, f"data.loading.num_workers={workers}")
    assert result.exit_code == 2
    assert f"Error: {tmp_path / 'data' / 'dog' / 'broken.png'} cannot be read as an image" in result.output
    assert "Traceback" not in result.output
    assert not multiprocessing.active_children()  # the exit would wait for them


def test_a_defect_shows_its_traceback_and_exits_with_1(trained, tmp_path, monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("snowmelt.generation.job.save_grid", fail)
    result = run("generate", write(tmp_path / "g.yaml", generate_settings(trained, tmp_path)))
    assert result.exit_code == 1
    assert isinstance(result.exception, RuntimeError)


@pytest.mark.parametrize("command", ["train", "generate", "run"])
def test_help_tells_a_newcomer_what_to_type(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "CONFIG" in result.output
    assert "KEY.SUB=VALUE" in result.output


def test_the_version_is_shown():
    assert re.fullmatch(r"snowmelt \d+\.\d+\.\d+\n", run("--version").output)


def test_a_missing_argument_is_a_usage_error():
    assert run("train").exit_code == 2
