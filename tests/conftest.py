"""What many tests share: every schedule by name, and one thread, so that small networks run fast."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer.testing
from hypothesis import settings

from snowmelt.core import VE, CosineVP, DiscreteSchedule, LinearVP, NoiseSchedule, RectifiedFlow, make_betas

# How fast a machine is does not decide a test; every run draws other examples, so that half as many do
settings.register_profile("snowmelt", deadline=None, max_examples=50)
settings.load_profile("snowmelt")


def all_schedules() -> dict[str, NoiseSchedule]:
    discrete = {
        f"ddpm-{name}": DiscreteSchedule(make_betas(name))
        for name in ("linear", "cosine", "quadratic", "sigmoid")
    }
    return {
        **discrete,
        "ddpm-zero-snr": DiscreteSchedule(make_betas("linear"), zero_terminal_snr=True),
        "ddpm-short": DiscreteSchedule(make_betas("linear", 10, 1e-3, 0.5)),
        "vp-linear": LinearVP(),
        "vp-cosine": CosineVP(),
        "ve": VE(),
        "flow": RectifiedFlow(),
    }


SCHEDULES = all_schedules()


@pytest.fixture(params=SCHEDULES, ids=str)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return SCHEDULES[request.param]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _one_command_line() -> Iterator[None]:
    """The runner builds all commands anew for each call, which takes as long as many a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.testing._get_command))
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# What generation and training load, also late; no floor that a test wants to see unloaded
PRELOADED = [
    "matplotlib.figure",
    "sklearn.datasets",
    "snowmelt.cli.generate",
    "snowmelt.cli.train",
    "snowmelt.generation",
    "snowmelt.sampling",
    "snowmelt.training",
    "torch._dynamo",
    "torch.utils.tensorboard",
]
# `python -m snowmelt ARGUMENTS > OUTPUT 2>&1`, in a group of its own
PROCESS = """
import os, runpy, sys
import torch
torch.set_num_threads(1)
os.setsid()
os.environ.update({environment!r})
output = os.open({output!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(output, 1)
os.dup2(output, 2)
sys.argv[1:] = {arguments!r}
runpy.run_module("snowmelt", run_name="__main__")
"""


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Where processes come from that have loaded what the commands need, once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture(scope="session")
def start(forks: ForkServerContext) -> Callable[..., BaseProcess]:
    """Return what starts the command line in a process of its own."""

    def start(*arguments: object, output: Path | str = os.devnull, **environment: str) -> BaseProcess:
        words = {"arguments": [str(word) for word in arguments], "output": str(output)}
        process = forks.Process(target=exec, args=(PROCESS.format(environment=environment, **words), {}))
        process.start()
        return process

    return start


@pytest.fixture(scope="session")
def torchrun(forks: ForkServerContext) -> Callable[[str], None]:
    """Return what runs code in two processes, as `torchrun --nproc-per-node=2` does with a script."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    def torchrun(code: str) -> None:
        once = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=2, start_method="forkserver", max_restarts=0,
            run_id="one", rdzv_backend="c10d", rdzv_endpoint="localhost:0", monitor_interval=0.1,
        )  # fmt: skip
        elastic_launch(once, exec)(code, {})

    return torchrun


@pytest.fixture(scope="session")
def k_diffusion() -> ModuleType:
    """The peer's `sampling` module, without its package's __init__, which imports half the world."""
    (folder,) = importlib.util.find_spec("k_diffusion").submodule_search_locations
    package = ModuleType("k_diffusion")
    package.__path__ = [folder]
    sys.modules["k_diffusion"] = package
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("k_diffusion.sampling")
