"""Help, examples, figures and completion: the same for every command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from snowmelt import EMA, Checkpoint, create_ddpm
from snowmelt.cli import app
from snowmelt.cli.examples import EXAMPLES

GROUP = typer.main.get_command(app)


def commands(group=GROUP, before: str = "") -> Iterator[tuple[str, object]]:
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        yield from commands(command, f"{name} ") if inner else [(before + name, command)]


COMMANDS = dict(commands())
# Those that only write what they were told to have no figures
SILENT = {
    "export",
    "studio",
    *(name for name in COMMANDS if name.startswith("edit ") and name != "edit invert"),
}


def test_every_command_has_examples():
    assert EXAMPLES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_an_example_names_only_what_there_is(line):
    first, *words = shlex.split(line)
    assert first == "snowmelt"
    name = next(name for name in COMMANDS if line.startswith(f"snowmelt {name} "[: len(line)]))
    COMMANDS[name].make_context(name, words[len(name.split()) :])  # fails for what is unknown or missing


@pytest.mark.parametrize("name", ["train", "edit film"])
def test_help_ends_with_the_examples(name):
    result = CliRunner().invoke(
        app, [*name.split(), "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}
    )
    for line in EXAMPLES[name]:
        assert line in result.stdout


def test_every_command_with_figures_has_json():
    with_json = {
        name for name, command in COMMANDS.items() if any("--json" in p.opts for p in command.params)
    }
    assert with_json == COMMANDS.keys() - SILENT


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    model = create_ddpm(8, 1, 8, (1,), num_classes=10, norm_groups=4, layers_per_block=1)
    Checkpoint.of(model, EMA(model)).write(folder / "m.pth")
    sampling = {"num_samples": 2, "sampler": {"type": "ddim", "steps": 1}}
    settings = {
        "compute": {"device": "cpu"},
        "output": {"base_dir": str(folder)},
        "generation": {"checkpoint": str(folder / "m.pth"), "sampling": sampling},
    }
    (folder / "g.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("plan list", "solvers"),
        ("plan show ddim --steps 2", "rows"),
        ("sample m.pth --num 2 --method ddim:1 --out s.png", "seeds"),
        ("generate g.yaml --dry-run", "seconds"),
        ("generate g.yaml --overwrite", "runs"),
        ("run g.yaml mode=generate --overwrite", "runs"),
        ("inspect generated", "status"),
        ("inspect generated/sample_0000.png", "seed"),
        (
            "edit invert m.pth generated/sample_0000.png --class 1 --method ddim:1 --out n.npy",
            "round_trip_error",
        ),
        ("import m.pth --out other.pth", None),
    ],
)
def test_standard_output_is_one_json_object(folder, monkeypatch, line, key):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, [*line.split(), "--json"])
    if key is None:  # an error has no figures
        assert result.exit_code == 2
        assert not result.stdout
        return
    assert result.exit_code == 0, result.output
    assert key in json.loads(result.stdout)


@pytest.mark.parametrize(
    ("words", "offered"),
    [("snowmelt pl", "plan"), ("snowmelt sample m.pth --method dpmpp_2", "dpmpp_2m")],
)
def test_a_shell_is_offered_commands_and_methods(words, offered):
    asked = {"_SNOWMELT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = CliRunner().invoke(app, [], env=asked, prog_name="snowmelt")
    assert offered in result.stdout.split()
