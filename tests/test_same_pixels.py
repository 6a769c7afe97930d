"""One checkpoint, no options: every way to sample it makes the same pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor, nn
from typer.testing import CliRunner

from snowmelt import Checkpoint, DiffusionSampler, create_ddpm, create_model
from snowmelt.adapters import from_flow
from snowmelt.cli import app
from snowmelt.editing import interpolate
from snowmelt.evaluation.answers.job import EvaluationJob
from snowmelt.evaluation.compare import Comparison, comparison
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.formats import open_images
from snowmelt.images import save_grid, save_png, to_uint8
from snowmelt.models import EMA, DiffusionModel
from snowmelt.sampling import image_seeds

SIZE = {"image_size": 8, "in_channels": 1, "model_channels": 8, "channel_multipliers": (1,), "norm_groups": 4}
COUNT = 4
SEEDS = image_seeds(0, COUNT)


def spread(network: nn.Module) -> None:
    """Give every weight a value far from zero, so that each choice shows in the pixels."""
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.4)


def averaged(model: DiffusionModel, path: Path) -> Path:
    """Write a checkpoint whose averaged weights are not its weights."""
    spread(model)
    ema = EMA(model, 0.5)
    spread(model)
    ema.update()
    Checkpoint.of(model, ema=ema).write(path)
    return path


def ddpm(folder: Path) -> Path:
    return averaged(create_ddpm(**SIZE, num_classes=2, parameterization="x0"), folder / "model.pth")


def flow(folder: Path) -> Path:
    return averaged(create_model(**SIZE, num_classes=2, schedule="flow"), folder / "model.safetensors")


def pipeline(folder: Path, **options: bool) -> Path:
    unet = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        layers_per_block=1,
        norm_num_groups=4,
    )
    spread(unet)
    DDIMPipeline(unet, DDIMScheduler(60, prediction_type="sample", **options)).save_pretrained(folder)
    return folder


def clipping(folder: Path) -> Path:
    return pipeline(folder / "clipping")


def unclipped(folder: Path) -> Path:
    return pipeline(folder / "unclipped", clip_sample=False)


KINDS = {make.__name__: make for make in (ddpm, flow, clipping, unclipped)}


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def labels(checkpoint) -> list[int] | None:
    return [0, 0, 1, 1] if DiffusionSampler.from_pretrained(checkpoint).model.num_classes else None


@pytest.fixture(scope="module")
def images(checkpoint, labels) -> Tensor:
    """What `DiffusionSampler.from_pretrained(path).sample()` makes."""
    return DiffusionSampler.from_pretrained(checkpoint).sample(COUNT, labels, seeds=SEEDS)


@pytest.fixture(scope="module")
def expected(images) -> Tensor:
    """The same as uint8."""
    expected = to_uint8(images)
    assert len(expected.unique()) > 50  # no picture of one colour, which would equal every other
    return expected


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for i in range(6):
        save_png(torch.rand(1, 8, 8) * 2 - 1, folder / f"{i}.png")
    return folder


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)


def test_generate(checkpoint, expected, tmp_path):
    run("generate", "-", f"generation.checkpoint={checkpoint}", f"generation.sampling.num_samples={COUNT}",
        f"output.base_dir={tmp_path}", "compute.device=cpu", "--quiet")  # fmt: skip
    made = open_images(tmp_path / "generated", image_size=8, channels=1)
    assert torch.equal(made.take(range(COUNT)), expected)


def test_sample(checkpoint, images, labels, tmp_path):
    run("sample", checkpoint, "--num", COUNT, "--out", tmp_path / "a.png", "--device", "cpu", "--quiet")
    captions = [str(label) for label in labels] if labels is not None else None
    save_grid(images, tmp_path / "b.png", captions=captions)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_edit(checkpoint, expected, labels, tmp_path):
    """A path from a seed to the same seed stays at its image."""
    classes = () if labels is None else ("--class", labels[0])
    run("edit", "interpolate", checkpoint, "--seeds", f"{SEEDS[0]},{SEEDS[0]}", "--num", 2, "--device", "cpu",
        "--out", tmp_path / "path.png", "--scale", 1, *classes)  # fmt: skip
    picture = open_images(tmp_path, channels=1).take([0])[0, 0].tolist()
    rows = [bytes(row) for row in expected[0, 0].tolist()]
    assert all(any(row in bytes(line) for line in picture) for row in rows)


def test_evaluate(checkpoint, expected, real):
    job = EvaluationJob(generated=checkpoint, real=real, num_samples=COUNT)
    assert torch.equal(job.sources.generated.take(range(COUNT)), expected)


def test_compare(checkpoint, expected, labels, real, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "write_comparison", lambda *_, **__: tmp_path)  # which draws for a second
    results, _ = Comparison(
        checkpoints=[str(checkpoint)], methods=[None], guidance_scales=[0.0], real=str(real),
        metrics=["precision"], extractor="pixels", num_samples=COUNT, output=tmp_path,
    ).run()  # fmt: skip
    assert torch.equal(results[0].pictures, expected)


def test_a_model_of_latents():
    """It has no file; its sampler is what everything takes."""
    torch.manual_seed(0)
    network = nn.Conv2d(4, 4, 3, padding=1)
    model = from_flow(lambda x, time, class_labels: network(x), (4, 4, 4)).with_decoder(nn.PixelShuffle(2))
    sampler = DiffusionSampler(model)
    expected = sampler.sample(COUNT, seeds=SEEDS)
    assert expected.shape == (COUNT, 1, 8, 8)
    source = SampledSource(sampler, sampler.request(COUNT, seeds=SEEDS))
    assert torch.equal(source.take(range(COUNT)), to_uint8(expected))
    assert torch.equal(interpolate(sampler, SEEDS[:2], 2), expected[:2])
