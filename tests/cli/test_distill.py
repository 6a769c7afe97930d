"""``snowmelt distill``: a student from a checkpoint, and every way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from snowmelt import Checkpoint, create_ddpm
from snowmelt.cli import app


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_ddpm(8, 1, 8, (1,), 2, layers_per_block=1, norm_groups=4, parameterization="v")
    path = tmp_path_factory.mktemp("teacher") / "model.pth"
    Checkpoint.of(model).write(path)
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_student_is_made_and_sampled(teacher, tmp_path):
    short = ("--pairs", 32, "--images", 32, "--method", "ddim:2", "--precision", "fp32")
    result = run("distill", teacher, "--steps", 1, 2, "--guidance", 2, "--json", *short)
    assert result.exit_code == 0, result.output
    student = teacher.parent / "distilled" / "latest.pth"
    assert json.loads(result.stdout) == {"checkpoint": str(student), "steps": [1, 2]}
    assert Checkpoint.read(student).config["distillation"]["steps"] == [1, 2]
    sampled = run("sample", student, "--num", 2, "--out", tmp_path / "a.png")
    assert "2 images by ddim:2 (2 evaluations)" in sampled.output
    assert (
        "by ddim:1 (1 evaluation)" in run("sample", student, "--steps", 1, "--out", tmp_path / "a.png").output
    )
    guided = run("sample", student, "--guidance", 2, "--out", tmp_path / "a.png")
    assert guided.exit_code == 2
    assert "null class" in guided.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--steps", "0"), "from 1 to 16"),
        (("--steps", "some"), "--steps takes integers"),
        (("--budget", "soon"), "a time such as 90s, 30m, 2h"),
        (("--budget", "1m", "--images", "100"), "give one"),
        (("--images", "100"), "--pairs"),
        (("--critic", "-1"), "0 or more, got -1"),
        (("--method", "ddpm"), "draws noise"),
        (("--method", "nothing"), "unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(teacher, tmp_path, options, message):
    result = run("distill", teacher, "--out", tmp_path / "out", *options)
    assert (result.exit_code, message in result.output) == (2, True), result.output
    assert not (tmp_path / "out").exists()


def test_a_missing_checkpoint_is_refused(tmp_path):
    result = run("distill", tmp_path / "none.pth")
    assert result.exit_code == 2
    assert "none.pth" in result.output
