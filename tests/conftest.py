"""What many tests share: every schedule by name, and one thread, so that small networks run fast."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sys
import warnings
from multiprocessing.context import ForkServerContext
from types import ModuleType

import pytest
import torch
from hypothesis import settings

from snowmelt.core import VE, CosineVP, DiscreteSchedule, LinearVP, NoiseSchedule, RectifiedFlow, make_betas

settings.register_profile("snowmelt", deadline=None)  # how fast a machine is does not decide a test
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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def forks() -> ForkServerContext:
    """Where fresh processes come from that have loaded what generation needs, once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["snowmelt.cli.generate", "snowmelt.generation", "snowmelt.sampling"])
    return context


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
