"""`snowmelt check`: its report, its exit codes, and what it makes of files.

The images are white: each pixel is -1 or 1, as a coin falls. Of unit variance, they leave nothing to say to
whoever predicts v: the best answer that is affine in a pixel is 0, and so is a fresh network's.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from snowmelt import create_ddpm
from snowmelt.cli import app
from snowmelt.images import save_png
from snowmelt.models import EMA
from snowmelt.models.checkpoint_file import write_contents


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of white images, and models that are right or wrong about them."""
    folder = tmp_path_factory.mktemp("check")
    generator = torch.Generator().manual_seed(0)
    for index in range(24):
        image = torch.randint(2, (1, 8, 8), generator=generator) * 2.0 - 1
        save_png(image, folder / "images" / f"class{index % 2}" / f"{index}.png")
    for name, options in {
        "v": {"parameterization": "v"},
        "eps": {"parameterization": "eps"},
        "classes": {"parameterization": "v", "num_classes": 2},
        "one": {"parameterization": "v", "num_classes": 1},
    }.items():
        model = create_ddpm(8, 1, 8, (1,), norm_groups=4, layers_per_block=1, **options)
        torch.nn.init.zeros_(model.network.conv_out.weight)
        state = {"model_config": model.config, "model_state_dict": model.state_dict()}
        write_contents(
            {**state, "class_names": ["class0", "class1"][: model.num_classes]}, folder / f"{name}.pth"
        )
    return folder


def check(folder: Path, model: str, *arguments: object, images: str = "images"):
    words = [str(folder / model), "--images", str(folder / images), "--quiet", *map(str, arguments)]
    return CliRunner().invoke(app, ["check", *words, "--device", "cpu", "--num-images", "16"])


@pytest.fixture(scope="module")
def right(folder):
    """What is said of a right claim, in figures."""
    return check(folder, "v.pth", "--json")


def test_a_right_claim_is_exit_code_0(folder, right):
    assert right.exit_code == 0, right.output
    assert "has no EMA weights" in right.stderr
    text = check(folder, "v.pth").stdout
    assert "on 16 images" in text
    assert "claimed" in text
    assert "As claimed, the network predicts v, is told index" in text


def test_a_wrong_claim_is_exit_code_2(folder):
    result = check(folder, "eps.pth", "--no-ema")
    assert result.exit_code == 2
    assert "The claim is wrong: the network predicts v, not eps." in result.stdout
    assert "eps.pth is not what it claims to be" in result.stderr


def test_blindness_is_exit_code_2(folder):
    result = check(folder, "classes.pth", "--no-ema")
    assert result.exit_code == 2
    assert "the network is blind to it" in result.stdout


def test_the_figures_are_printed(folder, right):
    found = json.loads(right.stdout)
    assert found["ok"] is True
    assert found["claim"]["parameterization"] == "v"
    other = json.loads(check(folder, "v.pth", "--no-ema", "--json", "--seed", 1).stdout)
    assert other.keys() == found.keys()
    assert other["claim"]["overall"] != found["claim"]["overall"]


def test_averaged_weights_are_the_ones_that_are_checked(folder, tmp_path):
    model = create_ddpm(8, 1, 8, (1,), norm_groups=4, layers_per_block=1, parameterization="v")
    ema = EMA(model)
    torch.nn.init.normal_(model.network.conv_out.weight)
    write_contents(
        {
            "model_config": model.config,
            "model_state_dict": model.state_dict(),
            "ema_state_dict": ema.state_dict(),
        },
        tmp_path / "averaged.pth",
    )
    assert check(folder, str(tmp_path / "averaged.pth")).exit_code == 0
    assert check(folder, str(tmp_path / "averaged.pth"), "--no-ema").exit_code == 2


def test_classes_that_the_model_does_not_know_are_left_out(folder):
    result = check(folder, "one.pth", "--no-ema")
    assert "has classes that the model, with 1, does not know" in result.stderr


def test_a_folder_of_diffusers(folder, tmp_path):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    network = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
    )
    torch.nn.init.zeros_(network.conv_out.weight)
    torch.nn.init.zeros_(network.conv_out.bias)
    DDPMPipeline(network, DDPMScheduler(prediction_type="epsilon")).save_pretrained(tmp_path)
    result = check(folder, str(tmp_path), "--no-ema")
    assert result.exit_code == 2
    assert "The claim is wrong: the network predicts v, not eps." in result.stdout


@pytest.mark.parametrize(
    ("model", "images", "message"),
    [
        ("absent.pth", "images", "Checkpoint not found"),
        ("v.pth", "absent", "neither a file nor a folder"),
        ("v.pth", "v.pth", "no images in a known layout"),
        ("v.pth", "few", "N >= 8, got (3, 1, 8, 8)"),
    ],
)
def test_what_cannot_be_read_is_refused(folder, model, images, message):
    for index in range(3):
        save_png(torch.rand(1, 8, 8), folder / "few" / f"{index}.png")
    result = check(folder, model, "--no-ema", images=images)
    assert result.exit_code == 2
    assert message in result.stderr
