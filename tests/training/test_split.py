"""A run divides its images, goes on with the division, and leaves it to all that follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from snowmelt import Checkpoint
from snowmelt.config import Config
from snowmelt.evaluation.answers.job import EvaluationJob
from snowmelt.formats import Division, open_images
from snowmelt.training.run import TrainingRun

PARTS = {"train": 12, "val": 4, "test": 4}


@pytest.fixture
def images(tmp_path) -> Path:
    """Twenty images of two classes."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(10):
            Image.new("L", (8, 8), 20 * index + (name == "dog")).save(
                tmp_path / "images" / name / f"{index}.png"
            )
    return tmp_path / "images"


def make_run(images: Path, folder: Path, epochs: int, **resume: object) -> TrainingRun:
    settings = {
        "compute": {"precision": "fp32"},
        "model": {
            "architecture": {
                **{"type": "unet", "image_size": 8, "in_channels": 1, "model_channels": 4},
                **{
                    "channel_multipliers": [1],
                    "layers_per_block": 1,
                    "norm_groups": 2,
                    "attention_head_dim": 4,
                },
            },
            "diffusion": {"schedule": "ddpm", "num_timesteps": 20, "beta_end": 0.3},
        },
        "data": {
            "paths": {"train": str(images)},
            "split": {"train": 0.6, "val": 0.2, "test": 0.2},
            "loading": {"batch_size": 8},
        },
        "output": {"base_dir": str(folder)},
        "training": {
            "epochs": epochs,
            "optimizer": {"type": "adam", "learning_rate": 1e-3},
            "scheduler": {"type": "constant"},
            "visualization": {"enabled": False},
            "resume": resume,
        },
    }
    return TrainingRun(Config.model_validate(settings), torch.device("cpu"))


def split_of(folder: Path) -> Division:
    return Division.read(folder / "checkpoints" / "split.json")


def test_a_resumed_run_keeps_its_division_though_images_came(images, tmp_path):
    whole, stopped, elsewhere = (tmp_path / name for name in ("whole", "stopped", "elsewhere"))
    make_run(images, whole, 2).run()
    make_run(images, stopped, 1).run()
    first = split_of(stopped)
    assert [list(first.parts.values()).count(part) for part in PARTS] == list(PARTS.values())
    assert first == split_of(whole)
    Image.new("L", (8, 8), 255).save(images / "cat" / "late.png")
    with pytest.warns(UserWarning, match=r"1 image came, which are in no part \(cat/late.png\)"):
        make_run(images, stopped, 2, enabled=True).run()
    with pytest.warns(UserWarning, match=r"1 image came"):
        make_run(
            images, elsewhere, 3, enabled=True, checkpoint=str(stopped / "checkpoints" / "latest.pth")
        ).run()
    assert split_of(stopped) == first == split_of(elsewhere)
    one, other = (Checkpoint.read(each / "checkpoints" / "latest.pth") for each in (whole, stopped))
    assert all(torch.equal(weights, other.weights[name]) for name, weights in one.weights.items())
    assert other.training["data_order"]["num_train_images"] == PARTS["train"]


def test_what_follows_names_a_part(images, tmp_path):
    run = make_run(images, tmp_path / "run", 1)
    run.run()
    path = tmp_path / "run" / "checkpoints" / "split.json"
    assert (
        f"--real {path}:train --held-out {path}:test"
        in (tmp_path / "run" / "logs" / "report.html").read_text()
    )
    job = EvaluationJob(
        generated=Path(f"{path}:val"),
        real=Path(f"{path}:train"),
        held_out=Path(f"{path}:test"),
        metrics=["kid"],
    )
    generated, real, _, held_out = job.sources
    assert [len(generated), len(real), len(held_out)] == [PARTS["val"], PARTS["train"], PARTS["test"]]
    assert real.labels.bincount().tolist() == [6, 6]
    digests = [digest for source in (generated, real, held_out) for digest in source.digests()]
    assert sorted(digests) == sorted(open_images(images).digests())


def test_a_new_run_divides_anew(images, tmp_path):
    make_run(images, tmp_path, 1).run()
    Image.new("L", (8, 8), 255).save(images / "cat" / "late.png")
    run = make_run(images, tmp_path, 1)
    run.overwrite = True
    run.run()
    assert "cat/late.png" in split_of(tmp_path).parts
