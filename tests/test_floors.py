"""The house: floors import downward only, and a process loads no floor that it does not use."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import snowmelt

ROOT = Path(snowmelt.__file__).parent

# From the ground up: a package may import those on lower floors, and none beside it on its own
FLOORS = [
    {"core"},
    {"denoisers"},
    {"plans"},
    {"models"},
    {"sampling"},
    {"adapters"},
    {"generation", "editing"},
    {"training", "evaluation", "diagnosis"},
    {"cli"},
]
# Beside the floors: these may import core and the names listed only
BESIDE = {
    "networks": set(),
    "errors": set(),
    "progress": set(),
    "files": {"errors"},
    "digest": set(),
    "differences": {"text"},
    "text": set(),
    "report": {"errors", "files", "text"},
    "limits": set(),
    "device": {"errors"},
    "precision": {"device", "errors"},
    "images": {"files", "errors", "text"},
    "data": {"images", "files", "errors", "digest", "progress", "text"},
    "formats": {"data", "images", "files", "errors", "digest", "text"},
    "config": {"files", "errors", "limits", "text"},
}
EVERYWHERE = {"_version"}
NOT_FOR_SAMPLING = {"data", "formats", "config"}  # nor for anything below it


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


def floor_of(top: str) -> int:
    return next(number for number, floor in enumerate(FLOORS) if top in floor)


def allowed(top: str) -> set[str]:
    if top in BESIDE:
        return {top} | BESIDE[top] | EVERYWHERE | (set() if top == "config" else {"core"})
    below = set().union(*FLOORS[: floor_of(top)])
    beside = set(BESIDE) - (NOT_FOR_SAMPLING if floor_of(top) <= floor_of("sampling") else set())
    return {top} | below | beside | EVERYWHERE


@pytest.mark.parametrize(
    ("top", "path"), [pytest.param(t, p, id=str(p.relative_to(ROOT))) for t, p in modules()]
)
def test_imports_go_downward(top, path):
    assert top in set().union(*FLOORS, BESIDE), (
        f"{path} stands on no floor: name it in this test and in CONTRIBUTING"
    )
    for imported in imports(path):
        assert imported in allowed(top), f"{path} ({top}) imports {imported}, which is not below it"


def imported_at_the_top(path: Path) -> Iterator[str]:
    """Yield the modules of snowmelt that a file imports when it is loaded."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("snowmelt"):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("snowmelt"))


def test_no_module_imports_itself_on_a_way_round():
    names = {
        ".".join(("snowmelt", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }
    # A package's __init__ collects its modules' names; a module that takes them from there closes no circle
    # of its own unless it is collected there, and Python would refuse that when the package is loaded
    graph = {
        name: {other for other in imported_at_the_top(path) if other in names}
        for name, path in names.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


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
