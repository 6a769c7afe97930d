"""The house: floors import downward only, and a process loads no floor that it does not use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import snowmelt

ROOT = Path(snowmelt.__file__).parent

# From the ground up: a package may import those below it
FLOORS = [
    "core",
    "denoisers",
    "plans",
    "adapters",
    "sampling",
    "training",
    "evaluation",
    "config",
    "build",
    "cli",
]
APART = {"training", "evaluation"}  # they share a floor, and neither imports the other
# Beside the floors: these may import core and each other's listed names only
BESIDE = {
    "networks": set(),
    "errors": set(),
    "progress": set(),
    "files": set(),
    "images": {"files"},
    "ema": set(),
    "checkpoint": {"files", "errors"},
    "data": {"images", "files", "errors"},
}
EVERYWHERE = {"_version"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        top = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if top not in ("__init__", "__main__", *EVERYWHERE):
            yield top, path


def imports(path: Path) -> Iterator[str]:
    """Yield the first part of every snowmelt module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("snowmelt."):
                yield name.split(".")[1]


def allowed(top: str) -> set[str]:
    if top in BESIDE:
        return {top, "core"} | BESIDE[top] | EVERYWHERE
    below = set(FLOORS[: FLOORS.index(top) + 1])
    if top in APART:
        below -= APART - {top}
    if top in ("sampling",):  # sampling never imports data
        return below | set(BESIDE) - {"data"} | EVERYWHERE
    if top == "config":  # a configuration is read without torch
        return {"config", "files", "errors"} | EVERYWHERE
    return below | set(BESIDE) | EVERYWHERE


@pytest.mark.parametrize(
    ("top", "path"), [pytest.param(t, p, id=str(p.relative_to(ROOT))) for t, p in modules()]
)
def test_imports_go_downward(top, path):
    assert top in FLOORS or top in BESIDE, (
        f"{path} stands on no floor: name it in this test and in CONTRIBUTING"
    )
    for imported in imports(path):
        assert imported in allowed(top), f"{path} ({top}) imports {imported}, which is not below it"


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh process has loaded after running `code`."""
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import snowmelt; snowmelt.__version__")
    assert not loaded & {"torch", "torchvision", "yaml", "pydantic", "accelerate"}


def test_sampling_loads_no_trainer_and_no_configuration():
    loaded = loaded_by(
        "from snowmelt import DiffusionSampler, create_ddpm\n"
        "model = create_ddpm(image_size=8, in_channels=1, model_channels=8, norm_groups=4)\n"
        "DiffusionSampler(model, solver='ddim', steps=1).sample(1)"
    )
    forbidden = {
        "snowmelt.training",
        "snowmelt.data",
        "snowmelt.config",
        "accelerate",
        "omegaconf",
        "pydantic",
    }
    assert not loaded & (forbidden | {"tensorboard", "matplotlib", "sklearn", "torchvision"})


def test_reading_a_configuration_loads_no_torch():
    assert "torch" not in loaded_by("import snowmelt.config")


def test_every_public_name_is_there():
    for name in snowmelt.__all__:
        assert getattr(snowmelt, name) is not None
    assert set(snowmelt.__all__) <= set(dir(snowmelt))
    with pytest.raises(AttributeError, match="no attribute 'generate_samples'"):
        snowmelt.generate_samples
