"""From folders of images to a model and its images, by commands: classes, sizes and backgrounds."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from snowmelt import Checkpoint
from snowmelt.cli import app
from snowmelt.data import DiffusionDataLoader
from snowmelt.models import CheckpointError

TINY = [
    "compute.device=cpu",
    "model.architecture={image_size: 8, model_channels: 8, channel_multipliers: [1], layers_per_block: 1}",
    "model.architecture.norm_groups=4",
    "model.diffusion.num_timesteps=5",
    "training.epochs=1",
    "training.visualization.enabled=false",
]
CLASSES = [str(number) for number in (1, 2, 10)]


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGBA", (8, 16), (255, 0, 0, 0)).save(tmp_path / "data" / name / "x.png")
    return tmp_path / "data"


def run(command: str, *words: object):
    return CliRunner().invoke(app, [command, "-", *map(str, words)])


def trained(folder: Path, *overrides: str) -> Checkpoint:
    out = folder.parent / "out"
    result = run("train", *TINY, f"data.paths.train={folder}", f"output.base_dir={out}", *overrides)
    assert result.exit_code == 0, (result.output, result.exception)
    return Checkpoint.read(out / "checkpoints" / "latest.pth")


def test_the_folders_say_how_many_classes_there_are_and_what_they_are_called(folder):
    checkpoint = trained(folder)
    assert (checkpoint.num_classes, list(checkpoint.class_names)) == (3, CLASSES)
    out = folder.parent / "generated"
    result = run(
        "generate",
        f"generation.checkpoint={folder.parent}/out/checkpoints/latest.pth",
        "compute.device=cpu",
        "generation.sampling={num_samples: 3, sampler: {type: ddim, steps: 1}}",
        f"output={{base_dir: {out}, subdirs: {{generated: images}}}}",
    )
    assert result.exit_code == 0, (result.output, result.exception)
    with (out / "images" / "labels.csv").open() as file:
        assert [(row["class"], row["class_name"]) for row in csv.DictReader(file)] == [
            ("0", "1"), ("1", "2"), ("2", "10"),
        ]  # fmt: skip


@pytest.mark.parametrize("words", ["model.conditioning.num_classes=0", "model.conditioning.type=none"])
def test_an_unconditional_run_cares_for_no_folders(folder, words):
    flat = folder.parent / "flat"
    flat.mkdir()
    Image.new("RGB", (8, 8)).save(flat / "x.png")
    for train, val in ((folder, flat), (flat, folder)):
        checkpoint = trained(train, words, f"data.paths.val={val}")
        assert checkpoint.num_classes is None
        (folder.parent / "out").rename(folder.parent / f"out of {train.name}")


@pytest.mark.parametrize("number", [2, 5])
def test_a_number_of_classes_that_the_folders_do_not_have_is_refused(folder, number):
    words = (f"model.conditioning.num_classes={number}", f"output.base_dir={folder.parent}/out")
    result = run("train", *TINY, f"data.paths.train={folder}", *words)
    assert result.exit_code == 2, (result.output, result.exception)
    assert f"num_classes is {number}, but" in result.output
    assert "has 3 classes: set it to 3" in result.output
    assert not (folder.parent / "out" / "checkpoints").exists()


def test_images_may_be_higher_than_wide_and_their_background_any_colour(folder, monkeypatch):
    seen = []
    load = DiffusionDataLoader.train_loader
    monkeypatch.setattr(
        DiffusionDataLoader,
        "train_loader",
        lambda self, *rest: [seen.append(images) or (images, labels) for images, labels in load(self, *rest)],
    )
    checkpoint = trained(folder, "model.architecture.image_size=[16, 8]", "data.background='#00ff00'")
    assert checkpoint.model().image_shape == (3, 16, 8)
    colour = torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1)
    assert torch.equal(seen[0], colour.expand(3, 3, 16, 8))


GREEN, BLUE = (0, 255, 0), (0, 0, 255)


def test_transparent_pixels_lie_on_the_background_of_the_models_training(folder, monkeypatch):
    from snowmelt.diagnosis import check_checkpoint
    from snowmelt.evaluation.answers.job import EvaluationJob
    from snowmelt.evaluation.compare import Comparison

    checkpoint = trained(folder, "data.background='#00ff00'")
    assert checkpoint.background == "#00ff00"
    assert replace(checkpoint, training={}).background == "#00ff00"  # files that only the YAML says it in
    assert replace(checkpoint, training={}, config=None).background is None
    with pytest.raises(CheckpointError, match=r"latest\.pth .* background must be a colour"):
        replace(checkpoint, training={"background": ["green"]}).background

    path, picture, out = checkpoint.source, folder / "1" / "x.png", folder.parent / "out.png"
    for words, colour in (([], GREEN), (["--background", "#0000ff"], BLUE)):
        arguments = ["edit", "image-to-image", path, picture, "--strength", "0", "--fit", "--class", "0"]
        result = CliRunner().invoke(app, [*map(str, arguments), "--out", str(out), *words])
        assert result.exit_code == 0, (result.output, result.exception)
        assert Image.open(out).getpixel((4, 4)) == colour

    def colours(source) -> tuple[int, ...]:
        return tuple(source.take([0])[0, :, 4, 4].tolist())

    job = {"generated": path, "real": folder, "num_samples": 3}
    assert colours(EvaluationJob(**job).sources.real) == GREEN
    assert colours(EvaluationJob(**job, background="#0000ff").sources.real) == BLUE
    assert colours(EvaluationJob(generated=folder, real=folder).sources.real) == (255, 255, 255)
    words = {"guidance_scales": [0.0], "metrics": ["kid"], "output": folder.parent / "compared"}
    comparison = Comparison(checkpoints=[str(path)], methods=[None], real=str(folder), **words)
    assert colours(comparison._sources[0]) == GREEN

    seen = []
    monkeypatch.setattr(
        "snowmelt.diagnosis.trained.check_denoiser", lambda _, images, *rest, **words: seen.append(images)
    )
    check_checkpoint(checkpoint, folder)
    assert seen[0][0, :, 4, 4].tolist() == [-1, 1, -1]


def test_what_is_left_out_is_said_once_though_the_folder_is_read_twice(folder):
    (folder / CLASSES[0] / "x.heic").write_bytes(b"-")
    words = (
        "training.evaluation={enabled: true, extractor: pixels}",
        "training.resume={enabled: true, checkpoint: no.pth}",
    )
    result = run("train", *TINY, f"data.paths.train={folder}", f"output.base_dir={folder.parent}", *words)
    assert result.output.count("left out 1 picture in a format that is not read (1/x.heic)") == 1


def test_a_run_that_cannot_be_resumed_trains_no_classifier(folder, monkeypatch):
    from snowmelt.evaluation.features import small_classifier

    monkeypatch.setattr(
        small_classifier, "train_classifier", lambda *_, **__: pytest.fail("a classifier was trained")
    )
    words = ("training.evaluation.enabled=true", "training.resume={enabled: true, checkpoint: no.pth}")
    result = run("train", *TINY, f"data.paths.train={folder}", f"output.base_dir={folder.parent}", *words)
    assert result.exit_code == 2, (result.output, result.exception)
    assert "no.pth" in result.output
