"""A folder as training leaves it, and Gradio, if it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from snowmelt import EMA, Checkpoint, create_ddpm
from snowmelt.studio.place import Place
from snowmelt.studio.server import without_stubs


def tiny(seed: int) -> Checkpoint:
    """Return a model of three classes, whose averaged weights are others."""
    torch.manual_seed(seed)
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=3, num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1
    )
    ema = EMA(model)
    with torch.no_grad():
        for weights in (model.state_dict(), ema.shadow):
            for tensor in weights.values():
                if tensor.is_floating_point():
                    tensor.add_(0.1 * torch.randn_like(tensor))
    return Checkpoint.of(model, ema, class_names=["cat", "dog", "<b>"])


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint, and a secret beside it."""
    folder = tmp_path_factory.mktemp("studio") / "outputs"
    tiny(1).write(folder / "run" / "checkpoints" / "latest.pth")
    (folder.parent / "secret.json").write_text("{}")
    return folder


@pytest.fixture(scope="session")
def place(outputs: Path) -> Place:
    return Place(outputs, "cpu")


@pytest.fixture(scope="session")
def gradio() -> ModuleType:
    with warnings.catch_warnings(), without_stubs():
        warnings.simplefilter("ignore")
        module: ModuleType = pytest.importorskip("gradio", reason="the studio needs gradio")
    return module


@pytest.fixture(scope="session")
def start(gradio, place) -> Callable[..., list[dict[Any, Any]]]:
    """Return what presses a button: it runs the button's job with values, and returns all its changes."""
    from snowmelt.studio.page import build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page = build(place)

    def start(button: str, *values: object) -> list[dict[Any, Any]]:
        buttons = {key for key, block in page.blocks.items() if getattr(block, "value", None) == button}
        (job,) = (fn for fn in page.fns.values() if {target[0] for target in fn.targets} & buttons)
        return list(job.fn(*values))

    return start
