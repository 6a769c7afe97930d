"""The examples run as they stand."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image

from snowmelt import EMA, Checkpoint, DiffusionSampler, create_ddpm
from snowmelt.images import read_image, to_uint8

REPOSITORY = Path(__file__).parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    model = create_ddpm(8, 1, 8, (1, 2), num_classes=2, norm_groups=4, layers_per_block=1)
    path = tmp_path_factory.mktemp("example") / "model.pth"
    Checkpoint.of(model, EMA(model)).write(path)
    return path


@pytest.mark.parametrize("name", ["dataset_augmentation", "inference_from_checkpoint"])
@pytest.mark.parametrize("arguments", [[], ["model.pth"]], ids=["none", "too few"])
def test_without_arguments_an_example_says_how_to_use_it(name, arguments, monkeypatch):
    path = str(REPOSITORY / "examples" / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *arguments])
    with pytest.raises(SystemExit, match=rf"^usage: python examples/{name}\.py CHECKPOINT [A-Z_ ]+$"):
        runpy.run_path(path, run_name="__main__")


def test_standalone_sampler(capsys):
    example("standalone_sampler").main()
    shown = capsys.readouterr().out
    assert "by class: [0, 0, 1, 1, 2, 2]" in shown
    assert "seed 42 twice: True" in shown


def test_inference_from_checkpoint(checkpoint, tmp_path, capsys):
    example("inference_from_checkpoint").main(checkpoint, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > picture.height  # two rows of eight


def test_dataset_augmentation_fills_the_rare_class(checkpoint, tmp_path, capsys):
    for name, count in (("common", 5), ("rare", 2)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8)).save(tmp_path / "data" / name / f"{i}.png")
    run = example("dataset_augmentation").main
    run(checkpoint, tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "common").exists()
    first = {path.name: path.read_bytes() for path in (tmp_path / "out" / "rare").iterdir()}
    assert len(first) == 3
    run(checkpoint, tmp_path / "data", tmp_path / "again")
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "again" / "rare").iterdir()}


def test_dataset_augmentation_finds_a_class_by_its_name(tmp_path, capsys):
    """The folders 10 and 2 are the classes 1 and 0, in the order of training."""
    model = create_ddpm(8, 1, 8, (1, 2), num_classes=2, norm_groups=4, layers_per_block=1)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))  # or all classes would look alike
    Checkpoint.of(model, class_names=["2", "10"]).write(tmp_path / "model.pth")
    for name, count in (("2", 5), ("10", 2)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (8, 8)).save(tmp_path / "data" / name / f"{i}.png")
    with pytest.warns(UserWarning, match="no averaged weights|EMA"):
        example("dataset_augmentation").main(tmp_path / "model.pth", tmp_path / "data", tmp_path / "out")
    sampler = DiffusionSampler(model, method="fast")
    written = list((tmp_path / "out" / "10").iterdir())
    assert len(written) == 3
    for path in written:
        seed = int(path.stem.removeprefix("generated_"))
        pictures = [
            to_uint8(sampler.sample(1, [label], guidance_scale=2.0, seeds=[seed]))[0] for label in (0, 1)
        ]
        assert not torch.equal(*pictures)
        assert torch.equal(read_image(path), pictures[1])


def test_the_demos_judgement_can_fail(tmp_path, monkeypatch, capsys):
    """Noise in place of digits, and copies of training images, are both found out."""
    demo = example("demo")
    monkeypatch.setattr(demo, "PICTURES", tmp_path)
    monkeypatch.setattr(demo, "snowmelt", lambda *arguments: 0.0)
    noise = torch.randint(256, (100, 64), generator=torch.Generator().manual_seed(0)).numpy() / 127.5 - 1
    labels = torch.arange(100).numpy() // 10
    monkeypatch.setattr(demo, "generated", lambda: (noise, labels))
    assert demo.main() == 1
    images, classes = demo.load_digits_split("train")
    monkeypatch.setattr(demo, "generated", lambda: (images[:100], classes[:100]))
    assert demo.main() == 1
    assert "Recognised as the digit asked for:           100 of 100" in capsys.readouterr().out
    images, classes = demo.load_digits_split("test")
    monkeypatch.setattr(demo, "generated", lambda: (images, classes))
    assert demo.main() == 0


def test_the_notebook_runs_and_is_stored_without_its_outputs(tmp_path):
    notebook = nbformat.read(REPOSITORY / "examples" / "samplers.ipynb", as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        set(output.data) for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    assert sum("text/html" in kinds for kinds in shown) == 3  # a sampler, a method and a plan
    assert sum("image/png" in kinds for kinds in shown) == 3
