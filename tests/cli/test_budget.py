"""`snowmelt train DATA --budget TIME`: from images alone to a checkpoint, a page and a file to run again."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest
import yaml
from typer.testing import CliRunner

from snowmelt import Checkpoint
from snowmelt.cli import app
from snowmelt.config import load_config
from snowmelt.training import clock
from snowmelt.training.proposal import propose

SMALL = ["compute.device=cpu", "compute.precision=fp32", "model.architecture.model_channels=16"]


@pytest.fixture
def fast(monkeypatch):
    """A machine whose speed needs no measuring, and whose clock passes half an hour at each look."""
    quick = partial(propose, speed=lambda spec, batch_size, device: 1000.0)
    monkeypatch.setattr("snowmelt.training.proposal.propose", quick)
    monkeypatch.setattr(clock, "perf_counter", partial(next, count(0, 1800)))


def train(folder, *words, exit_code=0):
    result = CliRunner().invoke(app, ["train", *words, *SMALL, f"output.base_dir={folder}"])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result.output


def test_images_and_a_time_are_enough(tmp_path, fast):
    said = train(tmp_path / "run", "digits:test", "--budget", "3h")
    assert "360 images of digits:test, gray, 8 pixels a side, in 10 classes of 35 (2) to 37" in said
    assert Checkpoint.read(tmp_path / "run" / "checkpoints" / "latest.pth").spec.image_size == (8, 8)
    assert "What to do next" in (tmp_path / "run" / "logs" / "report.html").read_text()
    again = load_config(tmp_path / "run" / "budget.yaml", [*SMALL, f"output.base_dir={tmp_path / 'run'}"])
    assert again == load_config(tmp_path / "run" / "logs" / "config.yaml")
    assert again.training.budget == "3h"


def test_a_dry_run_prints_the_file_and_writes_nothing(tmp_path, fast):
    said = train(tmp_path / "run", "digits:test", "--budget", "3h", "--dry-run")
    text = said[: said.index("Training ")]
    assert yaml.safe_load(text)["training"]["budget"] == "3h"
    assert "3 hours" in said
    assert not (tmp_path / "run").exists()


def test_what_is_stated_is_not_chosen_and_stands_in_the_file(tmp_path, fast):
    words = ["data.loading.batch_size=9", "training.ema.width=0.2"]
    said = train(tmp_path / "run", "digits:test", "--budget", "3h", "--dry-run", *words)
    config = yaml.safe_load(said[: said.index("Training ")])
    assert config["data"]["loading"]["batch_size"] == 9
    assert config["model"]["architecture"]["model_channels"] == 16
    assert config["compute"]["precision"] == "fp32"
    assert config["training"]["ema"]["width"] == 0.2


def test_another_run_in_the_folder_is_refused_before_the_machine_is_measured(tmp_path, fast, monkeypatch):
    train(tmp_path / "run", "digits:test", "--budget", "3h")
    monkeypatch.setattr("snowmelt.training.proposal.propose", None)
    said = train(tmp_path / "run", "digits:test", "--budget", "3h", exit_code=2)
    assert "is there already, from an earlier run" in said


def test_a_run_that_goes_on_has_the_network_that_it_began_with(tmp_path, fast, monkeypatch):
    train(tmp_path / "run", "digits:test", "--budget", "3h")
    monkeypatch.setattr("snowmelt.training.proposal.propose", None)
    said = train(tmp_path / "run", "digits:test", "--budget", "6h", "training.resume.enabled=true")
    assert "Resumed from" in said
    assert load_config(tmp_path / "run" / "logs" / "config.yaml").training.budget == "6h"


def test_a_configuration_takes_a_budget_in_place_of_its_epochs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("data: {paths: {train: 'digits:test'}}\ntraining: {epochs: 5}\n")
    sizes = ["model.architecture.image_size=8", "model.architecture.in_channels=1"]
    sizes += ["model.architecture.norm_groups=4"]
    said = train(tmp_path / "run", str(path), "--budget", "90m", "--dry-run", *sizes)
    assert "90 minutes" in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["digits:test"], "such as --budget 30m"),
        (["digits:test", "--budget", "soon"], "such as 90s, 30m, 2h or 1h30m, got 'soon'"),
        (["nowhere", "--budget", "30m"], "nowhere is neither a file nor a folder, nor one of digits"),
    ],
)
def test_what_is_missing_is_said(tmp_path, words, expected):
    assert expected in " ".join(train(tmp_path / "run", *words, exit_code=2).split())
