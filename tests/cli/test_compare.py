"""`snowmelt compare`: one command, a grid of cells, one report; and what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.cli import app
from snowmelt.config.comparing import ComparisonConfig
from snowmelt.config.load import load_as
from snowmelt.evaluation.answers import scores
from snowmelt.evaluation.compare import writing
from snowmelt.models import EMA
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.plans import make_plan

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Checkpoints: two of one kind, an unconditional one, one of larger images; and a plan."""
    folder = tmp_path_factory.mktemp("models")
    for name, size, classes in (("a", 8, 3), ("b", 8, 3), ("plain", 8, None), ("large", 16, 3)):
        model = create_ddpm(
            size, 1, 8, (1, 2), num_classes=classes, num_timesteps=20, beta_end=0.3, norm_groups=4,
            layers_per_block=1,
        )  # fmt: skip
        torch.manual_seed(len(name) + ord(name[0]))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        state = {"model_state_dict": model.state_dict(), "ema_state_dict": EMA(model).state_dict()}
        write_contents({"model_config": model.config, **state}, folder / f"{name}.pth")
    (folder / "plan.json").write_text(make_plan(model.schedule, "heun", 2).to_json())
    return folder


def write_config(models: Path, folder: Path) -> Path:
    """A small grid of 2 x (2 + 1) cells."""
    compare = {
        "checkpoints": [str(models / "a.pth")],
        "samplers": [{"type": "ddim"}, {"plan": str(models / "plan.json")}],
        "steps": [1, 2],
        "guidance_scales": [0.0, 2.0],
        "num_samples": 12,
        "real": "digits:test",
        "extractor": "pixels",
        "metrics": ["fid", "recall"],
        "output": str(folder / "out"),
    }
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump({"compute": {"device": "cpu"}, "compare": compare}))
    return path


@pytest.fixture
def config(models, tmp_path) -> Path:
    return write_config(models, tmp_path)


@pytest.fixture(scope="module")
def finished(models, tmp_path_factory) -> tuple[Path, str]:
    """The configuration of a finished comparison, and what was said."""
    config = write_config(models, tmp_path_factory.mktemp("finished"))
    return config, done(config)


def run(config: Path, *arguments: str):
    return CliRunner().invoke(app, ["compare", str(config), *arguments])


def done(config: Path, *arguments: str) -> str:
    result = run(config, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def rows(config: Path) -> list[dict[str, str]]:
    with (config.parent / "out" / "results.csv").open() as file:
        return list(csv.DictReader(file))


def forbid_sampling(monkeypatch):
    def refused(*_args, **_options):
        raise AssertionError("an image was made")

    monkeypatch.setattr(DiffusionSampler, "batches", refused)


@pytest.fixture
def undrawn(monkeypatch):
    """The curves of a report take longer than the rest, and `finished` has them."""
    monkeypatch.setattr(writing, "draw_quality", lambda results, metrics, cost, path: path.write_bytes(b""))


def test_the_whole_grid_is_in_the_report(finished):
    config, output = finished
    assert "Comparing 6 ways to make 12 images" in output
    assert "report.html" in output
    assert [line.partition("  ")[0] for line in output.splitlines() if " NFE  " in line] == [
        "ddim, guidance 0, 1 NFE",
        "ddim, guidance 0, 2 NFE",
        "ddim, guidance 2, 2 NFE",
        "ddim, guidance 2, 4 NFE",
        "plan, guidance 0, 3 NFE",
        "plan, guidance 2, 6 NFE",
    ]
    folder = config.parent / "out"
    assert {"report.html", "results.json", "results.csv", "matrix.png"} <= {p.name for p in folder.iterdir()}
    cells = {
        (row["sampler"], row["steps"], row["guidance_scale"], row["evaluations"]) for row in rows(config)
    }
    assert cells == {
        ("ddim", "1", "0.0", "1"), ("ddim", "2", "0.0", "2"),
        ("ddim", "1", "2.0", "2"), ("ddim", "2", "2.0", "4"),
        ("plan", "", "0.0", "3"), ("plan", "", "2.0", "6"),
    }  # fmt: skip
    assert {row["metric"] for row in rows(config)} == {"fid", "recall"}
    page = (folder / "report.html").read_text()
    assert "ddim, guidance 2, 4 NFE" in page
    assert "digits:test, 360 images" in page


def test_finished_cells_are_not_made_again(finished, tmp_path, monkeypatch):
    forbid_sampling(monkeypatch)
    out = f"compare.output={shutil.copytree(finished[0].parent / 'out', tmp_path / 'out')}"
    before = (tmp_path / "out" / "results.json").read_bytes()
    assert done(finished[0], out, "--quiet") == ""
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    found = json.loads(run(finished[0], out, "compare.metrics=[precision]", "--json").stdout)
    assert len(found["cells"]) == 6  # nor does another metric need images
    assert {row["metric"] for row in rows(tmp_path / "compare.yaml")} == {"precision"}


@pytest.mark.parametrize(
    "change",
    [
        "compare.num_samples=13",
        "compute.seed=1",
        "compare.threshold=none",
        "compare.steps=[3]",
        "--overwrite",
    ],
)
def test_changed_cells_are_made(finished, tmp_path, monkeypatch, change):
    forbid_sampling(monkeypatch)
    out = shutil.copytree(finished[0].parent / "out", tmp_path / "out")
    assert run(finished[0], f"compare.output={out}", change).exit_code == 1


@pytest.mark.usefixtures("undrawn")
def test_checkpoints_are_compared_and_equal_cells_counted_once(config, models):
    both = f"compare.checkpoints=[{models / 'a.pth'},{models / 'b.pth'}]"
    twice = "compare.samplers=[{type: ddim},{type: ddim, steps: 2}]"
    output = done(config, both, twice, "compare.steps=[2]")
    assert "Comparing 4 ways" in output
    by_model = {row["checkpoint"]: row["value"] for row in rows(config) if row["metric"] == "fid"}
    assert len(set(by_model.values())) == 2
    assert "a.pth, ddim, guidance 0, 2 NFE" in (config.parent / "out" / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_class_by_class(config, monkeypatch):
    monkeypatch.setattr(scores, "LEAST_OF_A_CLASS", 2)
    one_cell = ("compare.guidance_scales=[0]", "compare.steps=[1]", "compare.metrics=[kid]")
    done(config, "compare.per_class=true", *one_cell)
    assert {row["class"] for row in rows(config)} == {"", "0", "1", "2"}
    assert "Class by class" in (config.parent / "out" / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_an_unconditional_model_has_no_classes(config, models):
    plain = f"compare.checkpoints=[{models / 'plain.pth'}]"
    done(config, plain, "compare.guidance_scales=[0]", "compare.steps=[1]")
    assert len(rows(config)) == 4


@pytest.mark.usefixtures("undrawn")
def test_the_identity_of_a_cell_is_beside_its_numbers(config):
    done(config, "compare.guidance={type: apg, eta: 0.5}", "compare.samplers=[{type: ddim, steps: 1}]")
    (first, *_) = json.loads((config.parent / "out" / "results.json").read_text())
    guidance = first["identity"]["guidance"]
    assert (guidance["type"], guidance["eta"]) == ("apg", 0.5)
    assert first["identity"]["class_labels"] == ["0 x 4", "1 x 4", "2 x 4"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["compare.samplerz=[]"], "compare.samplerz: unknown key; did you mean compare.samplers?"),
        (["compare.samplers=[{type: ddim, stepz: 2}]"], "compare.samplers.0.stepz: unknown key"),
        (["compare.samplers=[{preset: fast, eta: 1}]"], "not eta and preset together"),
        (["compare.samplers=[{preset: fats}]"], "compare.samplers.0.preset: given \"fats\", expected"),
        (["compare.samplers=[{type: dimm}]"], "compare.samplers.0: unknown solver 'dimm'"),
        (["compare.samplers=[{type: ddim, eta: x}]"], "compare.samplers.0: "),
        (["compare.samplers=[{plan: nowhere.json}]"], "nowhere.json cannot be read"),
        (["compare.steps=[]"], "compare.steps: given [], expected a list of positive integers"),
        (["compare.steps=[2,2]"], "expected different values"),
        (["compare.guidance={type: cfg, scale: 2}"], "list it in guidance_scales"),
        (["compare.guidance={type: cgf}"], "guidance"),
        (["compare.metrics=[fit]"], "there is no metric fit; did you mean fid?"),
        (["compare.real=nowhere"], "nowhere is neither a file nor a folder"),
        (["compare.extractor=vgg"], "there is no extractor vgg"),
        (["compare.checkpoints=[nowhere.pth]"], "Checkpoint not found: nowhere.pth"),
        (["compare.class_selection=[7]"], "class 7 is asked for"),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_is_made(config, monkeypatch, changes, message):
    forbid_sampling(monkeypatch)
    result = run(config, *changes)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (config.parent / "out" / "report.html").exists()


def test_an_absent_library_is_missed_at_once(config, monkeypatch):
    forbid_sampling(monkeypatch)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(config)
    assert result.exit_code == 2
    assert "report needs matplotlib" in result.output


def test_models_of_different_images_are_not_compared(config, models):
    result = run(config, f"compare.checkpoints=[{models / 'a.pth'},{models / 'large.pth'}]")
    assert result.exit_code == 2
    assert "has image_shape (1, 8, 8), but" in result.output
    unconditional = run(config, f"compare.checkpoints=[{models / 'plain.pth'}]")
    assert unconditional.exit_code == 2
    assert "guidance_scale is 2, but the model is unconditional" in unconditional.output


def test_the_line_of_a_key_in_a_list_is_told(config):
    text = "compare:\n  checkpoints: [a]\n  real: b\n  samplers:\n    - type: ddim\n      stepz: 3\n"
    config.write_text(text)
    assert (
        "compare.samplers.0.stepz: unknown key; did you mean compare.samplers.steps? (line 6)"
        in run(config).output
    )


def test_the_shipped_file_loads():
    config = load_as(ComparisonConfig, ROOT / "configs/diffusion/digits_compare.yaml")
    assert config.compare.checkpoints == ["outputs/digits/checkpoints/latest.pth"]
    assert [method.has_own_steps for method in config.compare.samplers] == [False, False, False, True]
