"""The house: floors import downward only, and a process loads no floor that it does not use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import snowmelt
from snowmelt.__main__ import LIBRARIES

ROOT = Path(snowmelt.__file__).parent
REPOSITORY = Path(__file__).parents[1]

# From the ground up: a package may import those on lower floors, and none beside it on its own
FLOORS = [
    {"core"},
    {"denoisers"},
    {"plans"},
    {"models"},
    {"sampling"},
    {"adapters"},
    {"generation", "editing", "tuning"},
    {"training", "evaluation", "diagnosis"},
    {"augment", "distillation", "studio"},
    {"cli"},
]
# Beside the floors: these may import core and the names listed only
BESIDE = {
    "checkpoint_header": set(),
    "networks": set(),
    "errors": set(),
    "progress": set(),
    "files": {"errors"},
    "digest": set(),
    "differences": {"text"},
    "json_files": {"files"},
    "text": set(),
    "notebook": set(),
    "report": {"errors", "files", "notebook", "text"},
    "limits": set(),
    "device": {"errors"},
    "precision": {"device", "errors"},
    "images": {"files", "errors", "text"},
    "data": {"formats", "images", "files", "errors", "digest", "progress", "text"},
    "formats": {"images", "files", "errors", "digest", "text"},
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


# Libraries, as pyproject.toml states them. Some modules have another name than their library
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LIBRARY = {"PIL": "pillow", "pydantic_core": "pydantic", "sklearn": "scikit-learn", "yaml": "pyyaml"}
# What each extra is for. Other packages do with what sampling needs
NEEDS = {
    "cli": {"cli", "config", "data", "diagnosis", "editing", "formats", "generation", "images"},
    "report": {"report"},
    "train": {"augment", "training"},
    "evaluate": {"evaluation"},
    "studio": {"studio"},
}
OWN = {*sys.stdlib_module_names, "snowmelt"}
OTHERS = {"diffusers", "mlflow"}  # there when such an object is made, or was asked for before


def libraries(stated: list[str]) -> Iterator[str]:
    """Yield the names of libraries, of those extras too that are stated in place of theirs."""
    for one in stated:
        name, extras = re.match(r"([\w-]+)(?:\[(.*)\])?", one).groups()
        if name == "snowmelt":
            for extra in extras.split(","):
                yield from libraries(EXTRAS[extra])
        else:
            yield name


def library_of(module: str) -> str:
    top = module.partition(".")[0]
    return LIBRARY.get(top, top.replace("_", "-"))


SAMPLING = {*libraries(PROJECT["dependencies"])}


def foreign_imports(path: Path) -> Iterator[str]:
    """Yield the libraries that a file imports, but for those that only a type checker reads."""
    tree = ast.parse(path.read_text())
    unread = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in (node for node in ast.walk(tree) if id(node) not in unread):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name for name in names if name.partition(".")[0] not in OWN)


@pytest.mark.parametrize("extra", [None, *NEEDS])
def test_a_part_imports_only_what_its_extra_installs(extra):
    there = SAMPLING | {*libraries(EXTRAS.get(extra, []))}
    special = set().union(*NEEDS.values())
    for top, path in modules():
        if top in NEEDS[extra] if extra else top not in special:
            missing = {name for name in map(library_of, foreign_imports(path)) if name not in there | OTHERS}
            said = {library for library, _ in stated_needs(path)}
            assert missing <= said, f"{path} imports {missing}, which snowmelt[{extra}] does not bring"


def stated_needs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the libraries that a file asks for with `require` or `optional`, each with its extra."""
    for node in ast.walk(ast.parse(path.read_text())):
        called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
        if called in ("optional", "require"):
            named = {word.arg: word.value for word in node.keywords}
            extra = named["extra"] if called == "require" else node.args[2]
            asked = node.args if called == "require" else node.args[:1]
            yield from (
                (library_of(one.value), extra.value)
                for one in asked
                if isinstance(one, ast.Constant) and isinstance(extra, ast.Constant)
            )


def test_the_extra_that_an_error_names_installs_the_library():
    stated = [(path, *need) for _, path in modules() for need in stated_needs(path)]
    assert len(stated) > 10
    for path, library, extra in stated:
        assert library in libraries(EXTRAS[extra]), f"{path}: snowmelt[{extra}] does not bring {library}"


def test_the_command_asks_for_all_that_its_extra_installs():
    assert {library_of(module) for module in LIBRARIES} == {*libraries(EXTRAS["cli"])}


def test_a_library_has_one_lower_bound():
    bounds: dict[str, set[str]] = {}
    for stated in [PROJECT["dependencies"], *EXTRAS.values()]:
        for one in stated:
            name, bound = re.match(r"([\w-]+)(?:\[.*\])?(?:>=(.*))?", one).groups()
            bounds.setdefault(name, set()).update({bound} - {None})
    assert not {name: found for name, found in bounds.items() if len(found) > 1}


# What one process does, one thing after the other; each line tells what is loaded by then
STAGES = """
import sys
from pathlib import Path

def tell():
    print(*(name for name, module in sys.modules.items() if module), flush=True)

refused = sys.argv[2].split(",")  # as if no extra were installed
sys.modules.update(dict.fromkeys(refused))

import snowmelt
snowmelt.__version__
tell()

from snowmelt import EMA, Checkpoint, DiffusionSampler, create_ddpm
model = create_ddpm(image_size=8, in_channels=1, model_channels=8, norm_groups=4, num_classes=3)
DiffusionSampler(model, solver="ddim", steps=1).sample(1, [0])
tell()

try:
    snowmelt.DiffusionTrainer
except ImportError as error:
    assert "snowmelt.DiffusionTrainer needs PIL" in str(error) and "snowmelt[train]" in str(error), error
import snowmelt.__main__
try:
    snowmelt.__main__.main()
except SystemExit as end:
    assert end.code == 2
for name in refused:
    del sys.modules[name]

import runpy
import torch

def refuse(*args, **kwargs):
    raise AssertionError("an optimizer or a data loader was made")

torch.optim.Optimizer.__init__ = refuse
torch.utils.data.DataLoader.__init__ = refuse
folder = Path(sys.argv[1])
Checkpoint.of(model, EMA(model)).write(folder / "model.pth")
(folder / "generate.yaml").write_text(f'''
mode: generate
compute: {{device: cpu}}
output: {{base_dir: {folder}}}
generation:
  checkpoint: {folder}/model.pth
  sampling: {{num_samples: 3, guidance_scale: 2.0, sampler: {{type: ddim, steps: 1}}}}
''')
sys.argv[1:] = [str(folder / "generate.yaml")]
sys.stdout, stdout = sys.stderr, sys.stdout
try:
    runpy.run_module("src.main", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
sys.stdout = stdout
tell()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def loaded(folder) -> list[set[str]]:
    """What a fresh process has loaded when it has imported snowmelt, when it has sampled, and at its end."""
    module_of = {library: module for module, library in LIBRARY.items()}
    optional = {library for stated in EXTRAS.values() for library in libraries(stated)} - SAMPLING
    refused = {module_of.get(library, library.replace("-", "_")) for library in optional}
    command = [sys.executable, "-c", STAGES, str(folder), ",".join(refused)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Error: the command line needs PIL: pip install 'snowmelt[cli]'" in result.stderr
    return [set(line.split()) for line in result.stdout.splitlines()]


def test_importing_the_package_loads_nothing_heavy(loaded):
    assert not loaded[0] & {"torch", "torchvision", "yaml", "pydantic", "accelerate"}


NOT_TO_SAMPLE = {
    "snowmelt.training",
    "snowmelt.data",
    "accelerate",
    "matplotlib",
    "sklearn",
    "tensorboard",
    "torch.utils.tensorboard",
    "torchvision",
}


def test_sampling_loads_no_trainer_and_no_configuration(loaded):
    assert "snowmelt.sampling" in loaded[1]
    assert not loaded[1] & (NOT_TO_SAMPLE | {"snowmelt.config", "omegaconf", "pydantic"})


def test_generation_loads_no_training_code_and_makes_no_optimizer(loaded, folder):
    """By the old way of calling it too, which reads the mode from the file."""
    assert len(list((folder / "generated").glob("sample_*.png"))) == 3
    assert "snowmelt.cli.generate" in loaded[2]
    assert not loaded[2] & NOT_TO_SAMPLE


def test_every_public_name_is_there():
    for name in snowmelt.__all__:
        assert getattr(snowmelt, name) is not None
    assert set(snowmelt.__all__) <= set(dir(snowmelt))
    with pytest.raises(AttributeError, match="no attribute 'generate_samples'"):
        snowmelt.generate_samples
