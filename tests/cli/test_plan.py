"""`snowmelt plan list` and `snowmelt plan show`: what is shown, drawn, written, read back and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from snowmelt import create_ddpm
from snowmelt.cli import app
from snowmelt.core import SCHEDULES, DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.plans import GRIDS, PRESETS, SOLVERS, Plan, make_plan, make_preset


def run(*arguments: object):
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


def shown(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    model = create_ddpm(8, 1, 8, (1, 2), num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1)
    path = tmp_path_factory.mktemp("plan") / "model.pth"
    write_contents({"model_config": model.config, "model_state_dict": model.state_dict()}, path)
    return path


def test_the_list_has_every_name_and_option():
    lines = shown("list").splitlines()
    names = {line.split()[0] for line in lines if line.startswith("  ") and not line.strip().startswith("[")}
    assert names == {*SOLVERS, *GRIDS, *PRESETS}
    assert any("[eta=0.0]" in line for line in lines)
    assert any("[rho=7.0]" in line for line in lines)


def test_the_table_is_shown():
    plan = make_plan(DiscreteSchedule(make_betas()), "ddim", 5, "karras", eta=0.5, rho=3)
    assert shown("show", "ddim", "--steps", 5, "--grid", "karras", "eta=0.5", "rho=3") == f"{plan}\n"


def test_columns_are_aligned():
    header, *rows = shown("show", "heun", "--steps", 12).splitlines()[1:]
    assert header.split()[:5] == ["#", "t", "alpha", "sigma", "lam"]
    assert len({len(row.rstrip()) for row in rows}) == 1
    assert [row.split()[0] for row in rows] == [str(i + 1) for i in range(len(rows))]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_can_be_named(name):
    plan = make_plan(SCHEDULES[name](), "ddim", 8)
    assert shown("show", "ddim:8", "--schedule", name) == f"{plan}\n"


def test_the_schedule_of_a_checkpoint(checkpoint):
    schedule = DiscreteSchedule(make_betas("linear", 20, 1e-4, 0.3))
    assert (
        shown("show", "ddpm", "--steps", 4, "--checkpoint", checkpoint)
        == f"{make_plan(schedule, 'ddpm', 4)}\n"
    )


def test_a_list_of_evaluations():
    plan = make_plan(RectifiedFlow(), "ddim", times=[0.9, 0.5])
    assert shown("show", "ddim", "--schedule", "flow", "times=[0.9, 0.5]") == f"{plan}\n"


def test_a_preset_is_shown_as_its_plan():
    assert shown("show", "draft", "--schedule", "flow") == f"{make_preset(RectifiedFlow(), 'draft')}\n"


def test_json_comes_back_byte_for_byte(tmp_path):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    table = shown("show", "ddim", "eta=0.7", "--out", one)
    assert shown("show", one, "--out", other) == table
    assert one.read_bytes() == other.read_bytes()
    printed = shown("show", one, "--json")
    assert Plan.from_json(printed) == Plan.from_json(one.read_text())


@pytest.mark.parametrize("solver", ["ddpm", "heun"])
def test_the_picture(solver, tmp_path):
    shown("show", solver, "--plot", tmp_path / "plan.png")
    with Image.open(tmp_path / "plan.png") as picture:
        assert min(picture.size) > 300
    shown("show", solver, "--steps", 40, "--plot", tmp_path / "plan.svg")
    assert b"<svg" in (tmp_path / "plan.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dimm"], "unknown solver 'dimm', did you mean 'ddim'"),
        (["ddim", "--grid", "karas"], "unknown grid 'karas', did you mean 'karras'"),
        (["ddim", "etaa=0.5"], "has no option 'etaa', did you mean 'eta'"),
        (["ddpm", "eta=0.5"], "'eta' is an option of ddim"),
        (["ddim", "eta=much"], "eta must be a number, such as 0.0, got 'much'"),
        (["ddim", "eta"], "'eta' is not an option: expected key=value"),
        (["ddim", "eta=[0"], "eta must be a number, such as 0.0, got '[0'"),
        (["ddim", "--steps", "0"], "steps must be at least 1"),
        (["ddim", "--steps", "1001"], "steps must be at most 1000"),
        (["ddim", "--schedule", "vpp"], "schedule must be one of ddpm-linear"),
        (["ddim", "--checkpoint", "none.pth"], "none.pth"),
        (["ddim", "--plot", "plan.doc"], "cannot be drawn as 'doc'"),
        (["draft", "--steps", "5"], "draft has its steps, grid and options already"),
        (["none.json"], "none.json cannot be read"),
    ],
)
def test_nonsense_is_one_message_and_exit_code_2(arguments, message):
    result = run("show", *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_file_that_is_no_plan_is_refused(tmp_path):
    path = tmp_path / "plan.json"
    for text in ("{}", "[", '{"rows": []}'):
        path.write_text(text)
        result = run("show", path)
        assert result.exit_code == 2
        assert "not a plan" in result.output


# -- plans and presets in a configuration --------------------------------------------------------------


def generate(folder: Path, checkpoint: Path, **sampling: object):
    settings = {
        "mode": "generate",
        "compute": {"device": "cpu"},
        "output": {"base_dir": str(folder)},
        "generation": {
            "checkpoint": str(checkpoint),
            "sampling": {"num_samples": 2, "use_ema": False, **sampling},
        },
    }
    folder.mkdir(exist_ok=True)
    (folder / "g.yaml").write_text(yaml.safe_dump(settings))
    return CliRunner().invoke(app, ["generate", str(folder / "g.yaml")])


def picture(folder: Path) -> bytes:
    """Return the pixels alone: the file also says which arguments made it."""
    with Image.open(folder / "generated" / "sample_0001.png") as file:
        return file.tobytes()


def test_a_plan_from_a_file_samples_as_the_solver_that_made_it(checkpoint, tmp_path):
    path = tmp_path / "plan.json"
    shown("show", "ddim", "--steps", 4, "--checkpoint", checkpoint, "--out", path)
    for name, method in (
        ("plan", {"plan": str(path)}),
        ("sampler", {"sampler": {"type": "ddim", "steps": 4}}),
    ):
        result = generate(tmp_path / name, checkpoint, **method)
        assert result.exit_code == 0, result.output
    assert picture(tmp_path / "plan") == picture(tmp_path / "sampler")


def test_a_plan_for_another_schedule_is_refused(checkpoint, tmp_path):
    path = tmp_path / "plan.json"
    shown("show", "ddim", "--out", path)
    result = generate(tmp_path / "run", checkpoint, plan=str(path))
    assert result.exit_code == 2
    assert "was made for another noise schedule" in result.output


def test_a_preset_generates_and_its_settings_do_so_again(checkpoint, tmp_path):
    result = generate(tmp_path, checkpoint, preset="draft")
    assert result.exit_code == 0, result.output
    first = picture(tmp_path)
    written = tmp_path / "generated" / "config.yaml"
    assert yaml.safe_load(written.read_text())["generation"]["sampling"]["preset"] == "draft"
    (tmp_path / "again.yaml").write_bytes(written.read_bytes())
    result = CliRunner().invoke(app, ["generate", str(tmp_path / "again.yaml")])
    assert result.exit_code == 0, result.output
    assert picture(tmp_path) == first


def test_a_preset_beside_a_sampler_is_refused(checkpoint, tmp_path):
    result = generate(tmp_path, checkpoint, preset="draft", sampler={"type": "ddim"})
    assert result.exit_code == 2
    assert "expected one of sampler, preset, plan, not sampler and preset" in result.output


def test_the_documentation_shows_what_is_shown():
    text = (Path(__file__).parents[2] / "docs" / "plans.md").read_text()
    examples = re.findall(r"```console\n\$ snowmelt plan (.*)\n([^`]*)```", text)
    assert len(examples) == 2
    for command, output in examples:
        assert shown(*command.split()) == output


def test_printed_json_is_json():
    fields = json.loads(shown("show", "ddim", "--json"))
    assert set(fields) == {"name", "quantity", "order", "rows", "end"}
