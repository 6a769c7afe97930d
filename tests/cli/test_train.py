"""`snowmelt train` as people run it: twice, without room on the disk, stopped, and on damaged files."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.cli import app
from snowmelt.models.checkpoint_file import read_contents
from snowmelt.training import DiffusionTrainer

OPTIONS = """compute.device=cpu compute.precision=fp32 data.paths.train=digits:test
data.loading.batch_size=180 model.architecture.image_size=8
model.architecture.in_channels=1 model.architecture.model_channels=4
model.architecture.channel_multipliers=[1] model.architecture.layers_per_block=1
model.architecture.norm_groups=2 model.architecture.attention_head_dim=4 model.conditioning.num_classes=10
training.visualization.enabled=false training.checkpointing.save_frequency=1
training.optimizer.learning_rate=0.01 training.scheduler.type=none training.scheduler.warmup=0
training.ema.decay=0.99"""
RESUME = "training.resume.enabled=true"


def words(folder: Path, *more: str) -> list[str]:
    return ["train", "-", *OPTIONS.split(), f"output.base_dir={folder}", *more]


def train(folder: Path, *more: str, exit_code: int = 0) -> str:
    """Run the command and return what it says."""
    result = CliRunner().invoke(app, words(folder, *more))
    assert result.exit_code == exit_code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result.output


def epochs(folder: Path) -> list[str]:
    with (folder / "logs" / "metrics.csv").open() as file:
        return [row["epoch"] for row in csv.DictReader(file)]


def epoch_of(path: Path) -> int:
    return read_contents(path)["epoch"]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    train(folder, "training.epochs=2")
    return folder


@pytest.fixture
def once(original, tmp_path) -> Path:
    """The folder of a run of two epochs."""
    return shutil.copytree(original, tmp_path / "run")


# -- the same folder again -----------------------------------------------------------------------------


def test_a_second_run_in_one_folder_is_refused_with_the_choice(once):
    before = {path: path.read_bytes() for path in once.rglob("*") if path.is_file()}
    said = train(once, "training.epochs=1", exit_code=2)
    for choice in (RESUME, "--overwrite", "output.base_dir"):
        assert choice in said
    # A checkpoint of another folder would not save this run either
    elsewhere = f"training.resume.checkpoint={once / 'elsewhere.pth'}"
    train(once, RESUME, elsewhere, exit_code=2)
    assert before == {path: path.read_bytes() for path in once.rglob("*") if path.is_file()}


def test_overwrite_removes_the_first_run_and_nothing_else(once):
    (once / "checkpoints" / "mine.pth").write_text("keep")
    train(once, "training.epochs=1", "--overwrite")
    assert sorted(path.name for path in (once / "checkpoints").iterdir()) == [
        "best_model.pth", "epoch_0001.pth", "latest.pth", "mine.pth",
    ]  # fmt: skip
    assert epochs(once) == ["1"]
    assert len(list((once / "logs").glob("events*"))) == 1


def test_one_command_starts_a_run_and_goes_on_with_it(tmp_path):
    assert "starts at the beginning" in train(tmp_path, RESUME, "training.epochs=1")
    assert "after 1 epoch\n" in train(tmp_path, RESUME, "training.epochs=2")
    before = (tmp_path / "checkpoints" / "latest.pth").read_bytes()
    assert "Nothing is left to train" in train(tmp_path, RESUME, "training.epochs=2")
    assert (tmp_path / "checkpoints" / "latest.pth").read_bytes() == before
    assert epochs(tmp_path) == ["1", "2"]


def test_what_a_run_left_that_was_killed_before_its_first_checkpoint_does_not_stay(once):
    for path in (once / "checkpoints").iterdir():
        path.unlink()
    leftover = once / "checkpoints" / f".{'0' * 32}.tmp"
    leftover.touch()
    train(once, RESUME, "training.epochs=1")
    assert epochs(once) == ["1"]
    assert not leftover.exists()


# -- resuming ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(once, damage):
    latest, newest = once / "checkpoints" / "latest.pth", once / "checkpoints" / "epoch_0002.pth"
    for path in (latest, newest):
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 512] = bytes(512)
        path.write_bytes({"truncated": data[: len(data) // 2], "changed": data, "empty": b""}[damage])
    said = train(once, RESUME, "training.epochs=3")
    assert str(latest) in said
    assert str(newest) in said
    assert f"Resumed from {once / 'checkpoints' / 'epoch_0001.pth'} after 1 epoch\n" in said
    assert epoch_of(latest) == 3
    assert epochs(once) == ["1", "2", "3"]


def test_what_differs_from_the_checkpoints_run_is_listed_once(once):
    changes = ["training.ema.decay=0.5", "compute.seed=7", "training.optimizer.betas=[0.5,0.9]"]
    said = train(once, RESUME, "training.epochs=3", *changes, "training.scheduler.type=cosine")
    for line in (
        "training.ema.decay: 0.99 there, 0.5 now",
        "compute.seed: 0 there, 7 now",
        "training.optimizer.betas: [0.9, 0.99] there, [0.5, 0.9] now",
        'training.scheduler.type: "none" there, "cosine" now',
        "the learning rate at this position: 0.01 there, 0.0025 now",
    ):
        assert said.count(line) == 1, line
    again = train(once, RESUME, "training.epochs=3", *changes, "training.scheduler.type=cosine")
    assert "this run's settings" not in again


def test_a_network_is_told_of_the_augmentation_and_samples_without(tmp_path):
    changes = ("scaling=0.2", "translation=0.1", "probability=0.5", "conditioned=true")
    train(tmp_path, "training.epochs=1", *(f"data.augmentation.{change}" for change in changes))
    model = Checkpoint.read(tmp_path / "checkpoints" / "latest.pth").model()
    assert model.config["augment_channels"] == 3
    assert DiffusionSampler(model, method="ddim:2").sample(2).shape == (2, 1, 8, 8)
    said = train(tmp_path, RESUME, "training.epochs=2", exit_code=2)
    assert "augment_channels" in said


# -- what goes wrong on the way ------------------------------------------------------------------------


def test_divergence_is_one_message_that_says_what_to_do(tmp_path):
    said = train(
        tmp_path,
        "training.epochs=3",
        "training.optimizer.learning_rate=1e30",
        "training.optimizer.gradient_clip_norm=null",
        "training.optimizer.type=sgd",
        exit_code=1,
    )
    assert "lower the learning rate" in said


def test_a_full_disk_is_one_message_that_names_the_resume(once, monkeypatch):
    def full(contents: object, file: object) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc] . unexpected pos")  # as torch does

    before = (once / "checkpoints" / "latest.pth").read_bytes()
    monkeypatch.setattr(torch, "save", full)
    said = train(once, RESUME, "training.epochs=3", exit_code=1)
    assert "the disk is full" in said
    assert RESUME in said
    assert (once / "checkpoints" / "latest.pth").read_bytes() == before


def test_sigterm_to_all_processes_of_a_run_saves_and_exits_with_143(tmp_path):
    command = [sys.executable, "-m", "snowmelt", *words(tmp_path, "training.epochs=100000")]
    process = subprocess.Popen(
        [*command, "data.loading.num_workers=1"], stderr=subprocess.PIPE, start_new_session=True
    )
    latest = tmp_path / "checkpoints" / "latest.pth"
    deadline = time.monotonic() + 120
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert b"Traceback" not in errors
    assert read_contents(latest)["global_step"] > 0


# -- before any work -----------------------------------------------------------------------------------


def test_a_dry_run_says_what_is_ahead_and_writes_nothing(tmp_path):
    said = train(tmp_path / "run", "--dry-run", "training.epochs=7", "compute.precision=auto")
    assert "float32" in said  # what was tried, whichever precision this machine takes
    assert "360 images, 10 classes: 7 epochs of 2 steps" in said
    assert "parameters" in said
    assert "the 14 steps of this run" in said
    assert re.search(r"Memory at the peak of these steps: [\d,]+ MiB on cpu", said)
    assert "muon, none from a rate of 0.01 at once; averaged over a decay of 0.99" in said
    assert "Between the steps: a checkpoint every epoch and a save every 10 minutes" in said
    assert not (tmp_path / "run").exists()
    assert "set it to 10" in train(
        tmp_path / "run", "--dry-run", "model.conditioning.num_classes=3", exit_code=2
    )


def test_a_run_says_once_how_long_it_will_take(tmp_path):
    more = ("training.epochs=6", "training.checkpointing.save_frequency=6", "--json")
    result = CliRunner().invoke(app, words(tmp_path, *more))
    assert result.stderr.count("the 12 steps of this run about") == 1
    assert json.loads(result.stdout) == {
        "checkpoints": str(tmp_path / "checkpoints"),
        "images": 2160,
        "steps": 12,
        "epochs": 6,
    }


def test_too_few_batches_for_the_processes_are_bad_input(tmp_path, monkeypatch):
    monkeypatch.setattr(DiffusionTrainer, "process", property(lambda self: (0, 3)))
    assert "too few for" in train(tmp_path, "data.loading.drop_last=true", exit_code=2)
