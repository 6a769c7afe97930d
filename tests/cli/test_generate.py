"""`snowmelt generate`: any number of images, never lost, identical however they were made.

What holds for every job is proven in tests/generation/test_job.py.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shlex
import signal
import socket
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.cli import app
from snowmelt.images import save_png
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.precision import Choice

NUM, SHARD = 22, 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    model = create_ddpm(
        image_size=8,
        in_channels=1,
        model_channels=8,
        norm_groups=4,
        channel_multipliers=(1, 2),
        num_classes=3,
    )
    path = tmp_path_factory.mktemp("model") / "model.pth"
    names = ["ant", "bee", "cat"]
    contents = {"model_config": model.config, "model_state_dict": model.state_dict(), "class_names": names}
    write_contents({**contents, "num_classes": 3}, path)
    return path


def settings(checkpoint: Path, folder: Path, *overrides: str) -> list[str]:
    """The command line of a small job, everything in overrides."""
    return [
        "generate",
        "-",
        f"generation.checkpoint={checkpoint}",
        "compute.device=cpu",
        f"output.base_dir={folder}",
        f"generation.sampling.num_samples={NUM}",
        "generation.sampling.sampler={type: ddim, steps: 2, eta: 1.0}",
        "generation.sampling.guidance_scale=2.0",
        "generation.sampling.use_ema=false",
        "generation.sampling.micro_batch=4",
        f"generation.output.shard_size={SHARD}",
        *overrides,
    ]


def run(arguments: list[str], expected: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == expected, (result.output, result.exception)
    return result.output


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a job but those that hold times or paths."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "generated").rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "config.yaml")
    }


def manifest(folder: Path) -> dict:
    return json.loads((folder / "generated" / "manifest.json").read_text())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "generated" / "labels.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=["png", "npz"])  # files of their own, and one that all shards share
def undisturbed(request, checkpoint, tmp_path_factory) -> tuple[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp(request.param)
    run(settings(checkpoint, folder, f"generation.output.format={request.param}"))
    return f"generation.output.format={request.param}", contents(folder)


# -- stopped and started -------------------------------------------------------------------------------


def test_the_same_command_again_makes_nothing_and_changes_nothing(checkpoint, tmp_path, undisturbed):
    format_, expected = undisturbed
    for images in (NUM, 0):
        run(settings(checkpoint, tmp_path, format_))
        assert contents(tmp_path) == expected
        assert manifest(tmp_path)["status"] == "complete"
        assert manifest(tmp_path)["runs"][-1]["images"] == images


def test_killed_twenty_times_it_ends_with_the_same_bytes(checkpoint, tmp_path, undisturbed, start):
    format_, expected = undisturbed
    arguments = settings(checkpoint, tmp_path, format_, "generation.output.save_grid=false")
    expected = {name: data for name, data in expected.items() if not name.endswith("generated_samples.png")}
    delays, killed = random.Random(format_), 0
    while killed < 20:
        process = start(*arguments, "--quiet")
        process.join(delays.random() * 0.3)
        process.kill()  # takes no effect on one that has ended already
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        killed += process.exitcode != 0
    run(arguments)
    assert contents(tmp_path) == expected


def test_a_full_disk_is_said_and_loses_nothing(checkpoint, tmp_path, undisturbed, monkeypatch):
    format_, expected = undisturbed
    real, room = os.fsync, iter(range(8))

    def full(descriptor):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    output = run(settings(checkpoint, tmp_path, format_), expected=1)
    assert "the disk is full" in output
    monkeypatch.setattr(os, "fsync", real)
    run(settings(checkpoint, tmp_path, format_))
    assert contents(tmp_path) == expected


def test_other_settings_are_refused_by_name_or_start_anew(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    before = contents(tmp_path)
    change = "generation.sampling.guidance_scale=3.0"
    output = run(settings(checkpoint, tmp_path, change), expected=2)
    for text in ("made with other settings", "guidance_scale: 2.0 there, 3.0 now", "--overwrite"):
        assert text in output
    assert contents(tmp_path) == before
    run(settings(checkpoint, tmp_path, change, "--overwrite"))
    run(settings(checkpoint, tmp_path / "new", change))
    assert contents(tmp_path) == contents(tmp_path / "new")


# -- which images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "classes"),
    [
        ("class_selection=[2, 0]", {"0": 11, "2": 11}),
        ("class_counts={1: 4, 2: 3}", {"1": 4, "2": 3}),
        ("balance_to=FOLDER", {"1": 2, "2": 3}),
    ],
)
def test_classes_can_be_chosen(checkpoint, tmp_path, choice, classes):
    for name, count in {"ant": 3, "bee": 1}.items():
        for index in range(count):
            save_png(torch.zeros(1, 8, 8), tmp_path / "data" / name / f"{index}.png")
    arguments = settings(
        checkpoint, tmp_path, "generation.sampling." + choice.replace("FOLDER", str(tmp_path / "data"))
    )
    if "selection" not in choice:  # the number follows
        arguments.remove(f"generation.sampling.num_samples={NUM}")
    run(arguments)
    labels = [row["class"] for row in rows(tmp_path)]
    assert {label: labels.count(label) for label in labels} == classes


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("class_counts={1: 4}", "num_samples is 22, but the classes and seeds that are asked for make 4"),
        ("class_selection=[3]", "class 3 is asked for, but the model has the classes 0..2"),
        ("seeds=[1, 2]", "num_samples is 22"),
        ("balance_to=nowhere", "nowhere"),
        ("class_counts={1: 4}|class_selection=[1]", "one of class_selection, class_counts, balance_to"),
    ],
)
def test_choices_that_make_no_sense_are_refused(checkpoint, tmp_path, choice, message):
    more = [f"generation.sampling.{part}" for part in choice.split("|")]
    assert message in run(settings(checkpoint, tmp_path, *more), expected=2)
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize(("choice", "made"), [("class_counts={1: 4}", 4), ("seeds=[1, 2, 3]", 3)])
def test_a_choice_on_the_command_line_decides_the_number_of_images(checkpoint, tmp_path, choice, made):
    number = f"generation.sampling.num_samples={NUM}"
    arguments = settings(checkpoint, tmp_path, f"generation.sampling.{choice}")
    arguments.remove(number)
    path = tmp_path / "c.yaml"
    path.write_text(f"generation: {{sampling: {{num_samples: {NUM}}}}}")
    arguments[1] = str(path)
    run(arguments)
    assert len(rows(tmp_path)) == made
    assert f"num_samples is {NUM}" in run([*arguments, number, "--overwrite"], expected=2)


def test_an_image_does_not_depend_on_the_job_that_it_is_in(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    row = rows(tmp_path)[13]
    one = settings(checkpoint, tmp_path / "one", f"generation.sampling.seeds=[{row['seed']}]")
    one += [f"generation.sampling.class_counts={{{row['class']}: 1}}"]
    one.remove(f"generation.sampling.num_samples={NUM}")
    run(one)
    pictures = [tmp_path / "generated" / row["file"], tmp_path / "one" / "generated" / "sample_0000.png"]
    first, second = (Image.open(path).tobytes() for path in pictures)
    assert first == second


def test_inspect_prints_the_command_that_makes_an_image_again(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    path = tmp_path / "generated" / rows(tmp_path)[7]["file"]
    output = run(["inspect", str(path)])
    assert f" {rows(tmp_path)[7]['seed']}\n" in output
    command = next(line for line in output.splitlines() if line.strip().startswith("snowmelt generate"))
    run([*shlex.split(command)[1:], f"output.base_dir={tmp_path / 'again'}"])
    again = tmp_path / "again" / "generated" / "sample_0000.png"
    assert Image.open(again).tobytes() == Image.open(path).tobytes()
    assert "complete" in run(["inspect", str(tmp_path / "generated")])


# -- more than one process -----------------------------------------------------------------------------

# The second process dies when it has written one shard
DYING = """
import os, torch
from snowmelt.cli import app
from snowmelt.formats import WRITERS
torch.set_num_threads(1)
if os.environ["RANK"] == "1":
    write = WRITERS["png"].write
    def once(self, shard, samples):
        write(self, shard, samples)
        raise RuntimeError("struck by lightning")
    WRITERS["png"].write = once
app({arguments!r})
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_make_the_images_of_one(checkpoint, tmp_path, undisturbed, start):
    format_, expected = undisturbed
    # What torchrun tells its processes
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    arguments = settings(checkpoint, tmp_path, format_)
    processes = [start(*arguments, RANK=rank, LOCAL_RANK=rank, **team) for rank in ("0", "1")]
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0
    assert contents(tmp_path) == expected
    (run_,) = manifest(tmp_path)["runs"]
    assert (run_["processes"], run_["images"]) == (2, NUM)


def test_a_process_that_dies_fails_the_job_and_the_next_run_finishes_it(checkpoint, tmp_path, torchrun):
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = settings(checkpoint, tmp_path)
    # torchrun quotes whichever process it saw fall first: the struck one, or the one that waited for it
    with pytest.raises(ChildFailedError, match=r"struck by lightning|Connection closed by peer"):
        torchrun(DYING.format(arguments=arguments))
    assert manifest(tmp_path)["status"] == "running"
    run(arguments)
    run(settings(checkpoint, tmp_path / "alone"))
    assert contents(tmp_path) == contents(tmp_path / "alone")
    assert 0 < manifest(tmp_path)["runs"][-1]["images"] < NUM


# -- what a person sees --------------------------------------------------------------------------------


def test_a_job_goes_on_in_the_precision_that_it_began_with(checkpoint, tmp_path, monkeypatch):
    def faster(precision):
        def chosen(asked, *_, **__):
            return Choice(precision, "it is used") if asked == "auto" else Choice(asked)

        monkeypatch.setattr("snowmelt.sampling.sampler.choose", chosen)

    faster("bf16")
    assert "it is used" in run(settings(checkpoint, tmp_path / "a", "compute.precision=auto"))
    manifest = json.loads((tmp_path / "a" / "generated" / "manifest.json").read_text())
    assert manifest["identity"]["precision"] == "bf16"
    stated = run(settings(checkpoint, tmp_path / "b", "compute.precision=bf16"))
    assert "it is used" not in stated
    faster("fp32")
    (tmp_path / "a" / "generated" / "sample_0003.png").unlink()
    assert "The job goes on in bf16" in run(settings(checkpoint, tmp_path / "a", "compute.precision=auto"))
    pictures = [(tmp_path / name / "generated" / "sample_0003.png").read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    said = run(settings(checkpoint, tmp_path / "a"), expected=2)
    assert 'precision: "bf16" there, "fp32" now' in said


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(checkpoint, tmp_path):
    output = run(settings(checkpoint, tmp_path, "--dry-run"))
    for text in ("images:   22", "NFE:      2 an image", "batches:  6 of at most 4", "time:", "memory:"):
        assert text in output
    assert not (tmp_path / "generated").exists()


def test_a_dry_run_finds_what_would_fail(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    output = run(settings(checkpoint, tmp_path, "compute.seed=5", "--dry-run"), expected=2)
    assert "made with other settings" in output


def test_a_dry_run_of_a_new_start_counts_nothing_that_is_there(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    before = contents(tmp_path)
    output = run(settings(checkpoint, tmp_path, "compute.seed=5", "--dry-run", "--overwrite"))
    assert f"images:   {NUM}\n" in output
    assert contents(tmp_path) == before


@pytest.mark.parametrize("mode", [[], ["--dry-run"], ["--dry-run", "--overwrite"]], ids=" ".join)
def test_a_folder_that_cannot_be_written_is_refused_before_any_work(checkpoint, tmp_path, mode):
    (tmp_path / "file").write_text("no folder")
    output = run(settings(checkpoint, tmp_path / "file", *mode), expected=2)
    assert "cannot be written to" in output
    assert "take another output folder" in output


def test_quiet_is_silent(checkpoint, tmp_path):
    assert run(settings(checkpoint, tmp_path, "--quiet")) == ""
    assert len(rows(tmp_path)) == NUM


def test_the_manifest_compares_the_estimate_with_what_it_took(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    written = manifest(tmp_path)
    (run_,) = written["runs"]
    assert run_["expected_seconds"] > 0
    assert run_["seconds"] > 0
    assert written["identity"]["plan"]["name"] == "ddim"
    assert written["arguments"]["generation"]["sampling"]["guidance_scale"] == 2.0
    config = yaml.safe_load((tmp_path / "generated" / "config.yaml").read_text())
    assert config["generation"]["output"]["shard_size"] == SHARD


def test_images_are_those_of_the_library(checkpoint, tmp_path):
    run(settings(checkpoint, tmp_path))
    sampler = DiffusionSampler.from_pretrained(
        checkpoint, use_ema=False, solver="ddim", steps=2, eta=1.0, micro_batch=4
    )
    listed = rows(tmp_path)
    images = sampler.sample(
        NUM, [int(row["class"]) for row in listed], 2.0, seeds=[int(row["seed"]) for row in listed]
    )
    for row, image in zip(listed, images, strict=True):
        pixels = torch.frombuffer(
            bytearray(Image.open(tmp_path / "generated" / row["file"]).tobytes()), dtype=torch.uint8
        )
        torch.testing.assert_close(pixels.float() / 127.5 - 1, image.flatten(), rtol=0, atol=1 / 255 + 1e-6)
