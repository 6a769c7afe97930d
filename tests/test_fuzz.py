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

    monkeypatch.setattr("snowmelt.plans.plan_file.Plan", breaks)
    (finding,) = fuzzer.fuzz("plans", 1)
    assert finding.problem.startswith(("RuntimeError", "AttributeError"))
