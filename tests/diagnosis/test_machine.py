"""What an installation and a machine can do: versions as they are, and a sentence for each problem."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from snowmelt.cli import app
from snowmelt.diagnosis import machine
from snowmelt.diagnosis.machine import Library, examine


@pytest.fixture(autouse=True)
def _tries_no_precision(monkeypatch):
    tried = {"sampling": {"precision": "fp32", "reason": "float32 is used"}}
    monkeypatch.setattr(machine, "_precision", lambda: tried)


def doctor(*arguments: str):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_figures_and_text_say_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = doctor("--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    versions = {each["name"]: each["installed"] for each in found["libraries"]}
    assert versions["torch"] == torch.__version__.partition("+")[0]
    text = doctor().stdout
    assert f"torch {versions['torch']}" in text
    assert "No problem was found." in text
    assert str(tmp_path / "snowmelt") in text


def test_a_missing_library_is_named_with_the_smallest_extra_that_brings_it(monkeypatch):
    monkeypatch.setattr(machine, "_version", lambda library: None if library != "torch" else "2.7")
    found = examine()
    assert "pip install 'snowmelt[cli]'" in str(found)
    install = {each.name: each.install for each in found.libraries}
    assert install["typer"] == "pip install 'snowmelt[cli]'"
    assert install["matplotlib"] == "pip install 'snowmelt[report]'"
    assert not any("typer" in problem for problem in found.problems), "an extra may be missing"
    assert "numpy is missing: pip install snowmelt" in found.problems


@pytest.mark.parametrize("installed", ["2.5.1", "1.0rc1"])
def test_a_library_that_is_too_old_is_a_problem(installed):
    assert Library("torch", ">=2.6", [], "2.6.0+cu124").problem() is None
    assert f"torch {installed} is not >=2.6" in (Library("torch", ">=2.6", [], installed).problem() or "")


def test_a_problem_is_a_sentence_and_the_exit_code(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made below a file
    monkeypatch.setattr(machine, "_processors", lambda: 0)
    monkeypatch.setattr(machine, "DRIVER", Path(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = doctor()
    assert result.exit_code == 2
    for said in ("Problem: the cache cannot be written", "OMP_NUM_THREADS=0", "NVIDIA driver"):
        assert said in result.stdout
    assert "Error: 3 problems: see above" in result.stderr
