"""Some cases of benchmarks/fuzz.py: no damaged input ends in a traceback or is read as if it were whole."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzzer():
    spec = importlib.util.spec_from_file_location("fuzz", FILE)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    del sys.modules["fuzz"]


@pytest.mark.parametrize(("kind", "count"), [("configs", 15), ("checkpoints", 15), ("plans", 10)])
def test_damaged_input_is_refused_or_means_what_it_says(fuzzer, kind, count):
    assert [finding for finding in fuzzer.fuzz(kind, count) if finding is not None] == []


def test_a_command_that_breaks_is_found(fuzzer, monkeypatch):
    def breaks(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("snowmelt.plans.plan.Plan.from_json", breaks)
    finding, *_ = fuzzer.fuzz("plans", 1)
    assert finding.problem == "RuntimeError in test_fuzz.py:breaks" or "RuntimeError" in finding.problem


def test_damaged_weights_that_load_are_found(fuzzer, monkeypatch):
    monkeypatch.setattr("snowmelt.models.checkpoint.content_digest", lambda contents: contents["digest"])
    monkeypatch.setattr("snowmelt.models.checkpoint.Checkpoint.__eq__", lambda self, other: False)
    problems = [finding.problem for finding in fuzzer.fuzz("checkpoints", 20) if finding is not None]
    assert problems
