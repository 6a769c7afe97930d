"""`snowmelt edit`: every command writes what the library makes, and says what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.cli.edit import edits
from snowmelt.editing import image_to_image, inpaint, interpolate, invert, swap_class, variations
from snowmelt.editing.pictures import read_images, read_mask
from snowmelt.errors import InputError
from snowmelt.images import save_png, to_uint8
from snowmelt.models.checkpoint_file import write_contents
from snowmelt.networks import UNet
from snowmelt.plans import PRESETS
from snowmelt.sampling import image_seeds

STEPS = ("--steps", 3, "--no-ema", "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A checkpoint, an image of the model's size, a mask, and files that are no good."""
    folder = tmp_path_factory.mktemp("edit")
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=3, num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    write_contents(
        {"model_config": model.config, "model_state_dict": model.state_dict()}, folder / "model.pth"
    )
    for name in ("one.png", "two.png"):
        save_png(torch.rand(1, 8, 8) * 2 - 1, folder / name)
    Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 4, 0).repeat(8, 1)).save(folder / "mask.png")
    Image.new("RGB", (20, 12), "white").save(folder / "large.png")
    Image.new("F", (8, 8)).save(folder / "deep.tif")
    (folder / "text.png").write_text("no image")
    (folder / "folder.png").mkdir()
    Image.new("L", (8, 8), 1).save(folder / "one_colour.png")
    return folder


@pytest.fixture
def sampler(folder) -> DiffusionSampler:
    return DiffusionSampler.from_pretrained(folder / "model.pth", use_ema=False, steps=3)


def run(command: str, folder: Path, *arguments: object):
    return CliRunner().invoke(edits, [command, str(folder / "model.pth"), *map(str, arguments)])


def done(command: str, folder: Path, *arguments: object) -> str:
    result = run(command, folder, *arguments)
    assert result.exit_code == 0, result.output
    return result.output


def tiles(path: Path) -> torch.Tensor:
    """Return the images of a grid that was written with scale 1."""
    with Image.open(path) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("L")))
    return pixels[2:, 2:].unfold(0, 8, 10).unfold(1, 8, 10).flatten(0, 1)


def same(path: Path, images: torch.Tensor) -> bool:
    return torch.equal(tiles(path), to_uint8(images)[:, 0])


def test_interpolate(folder, sampler, tmp_path):
    out = tmp_path / "new" / "path.png"
    arguments = ("--seeds", "4,5", "--class", "0,2", "--guidance", 2, "--num", 4, "--loop", "--scale", 1)
    done("interpolate", folder, *arguments, *STEPS, "--out", out)
    expected = interpolate(sampler, [4, 5], 4, class_labels=[0, 2], guidance_scale=2.0, loop=True)
    assert same(out, expected)


def test_variations(folder, sampler, tmp_path):
    out = tmp_path / "out.png"
    arguments = ("--seed", 4, "--strength", "0.2,1", "--num", 3, "--class", 1, "--scale", 1)
    done("variations", folder, *arguments, *STEPS, "--out", out)
    rows = [variations(sampler, 4, 3, strength=share, class_label=1) for share in (0.2, 1.0)]
    assert same(out, torch.cat(rows))


def test_image_to_image(folder, sampler, tmp_path):
    out, files = tmp_path / "out.png", [folder / "one.png", folder / "two.png"]
    arguments = ("--strength", "0,0.5", "--class", "2", "--seed", 7, "--scale", 1)
    done("image-to-image", folder, *files, *arguments, *STEPS, "--out", out)
    images = read_images(files, (1, 8, 8))
    edited = image_to_image(
        sampler, images, strength=0.5, class_labels=[2, 2], seeds=image_seeds(7, 2), steps=3
    )
    assert same(out, torch.stack([images, edited], 1).flatten(0, 1))


def test_one_image_is_written_as_it_is(folder, tmp_path):
    done("image-to-image", folder, folder / "one.png", "--strength", 0, *STEPS, "--out", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as out, Image.open(folder / "one.png") as image:
        assert out.tobytes() == image.tobytes()


def test_invert_writes_the_noise_and_reports_the_error(folder, sampler, tmp_path):
    files = [folder / "one.png", folder / "two.png"]
    output = done("invert", folder, *files, "--class", "0,1", *STEPS, "--out", tmp_path / "noise.npy")
    images = read_images(files, (1, 8, 8))
    found = invert(sampler, images, [0, 1], steps=3)
    assert np.array_equal(np.load(tmp_path / "noise.npy"), found.noise.numpy())
    for path, error in zip(files, found.round_trip_error.tolist(), strict=True):
        assert f"{error:.4f}  {path}" in output
    done("invert", folder, *files, "--class", "0,1", *STEPS, "--scale", 1, "--out", tmp_path / "out.png")
    assert same(tmp_path / "out.png", torch.stack([images, found.noise, found.restored], 1).flatten(0, 1))


def test_swap_class(folder, sampler, tmp_path):
    out = tmp_path / "out.png"
    arguments = ("--from", 0, "--to", "1,2", "--guidance", 1.5, "--scale", 1)
    done("swap-class", folder, folder / "one.png", *arguments, *STEPS, "--out", out)
    image = read_images([folder / "one.png"], (1, 8, 8))
    swapped = [swap_class(sampler, image, [0], [to], guidance_scale=1.5, steps=3) for to in (1, 2)]
    assert same(out, torch.cat(swapped))


def test_inpaint_keeps_what_is_white_in_the_mask(folder, sampler, tmp_path):
    out = tmp_path / "out.png"
    arguments = ("--mask", folder / "mask.png", "--num", 2, "--resamplings", 2, "--jump", 1, "--scale", 1)
    done("inpaint", folder, folder / "one.png", *arguments, "--seed", 3, *STEPS, "--out", out)
    images = read_images([folder / "one.png"] * 2, (1, 8, 8))
    mask = torch.arange(8)[:, None].expand(8, 8) >= 4
    seeds = image_seeds(3, 2)
    assert same(out, inpaint(sampler, images, mask, resamplings=2, jump=1, seeds=seeds, steps=3))
    assert torch.equal(tiles(out)[:, 4:], to_uint8(images)[:, 0, 4:])


@pytest.mark.parametrize("name", ["film.png", "film.gif", "film.webp"])
def test_film(folder, tmp_path, name):
    out = tmp_path / name
    done("film", folder, "--seeds", "1,2", "--max-frames", 2, *STEPS, "--out", out)
    with Image.open(out) as film:
        assert getattr(film, "n_frames", 1) == (1 if name == "film.png" else 2)


def test_inputs_of_another_size_and_colour_can_be_fitted(folder):
    fitted = read_images([folder / "large.png"], (1, 8, 8), fit=True)
    assert torch.equal(fitted, torch.ones(1, 1, 8, 8))
    assert read_images([folder / "one.png"], (3, 8, 8)).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_mask_of_one_colour_is_refused(tmp_path, value):
    Image.new("L", (8, 8), value).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"mask.png is of one colour.* white is kept"):
        read_mask(tmp_path / "mask.png", (3, 8, 8))


def test_a_fitted_mask_fits_its_image(tmp_path):
    """A mask of 0 and 1 too: it is measured before it is resized."""
    mask = np.zeros((32, 16), np.uint8)
    mask[16:] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    known = read_mask(tmp_path / "mask.png", (3, 8, 4), fit=True)
    assert known.tolist() == [[False] * 4] * 4 + [[True] * 4] * 4


def test_a_preset_is_the_solver_that_it_names(folder, tmp_path):
    common = ("--seeds", "1,2", "--no-ema", "--scale", 1, "--device", "cpu", "--out")
    done("interpolate", folder, "--solver", "draft", *common, tmp_path / "preset.png")
    draft = PRESETS["draft"]
    options = [part for name, value in draft.options.items() for part in ("--option", f"{name}={value}")]
    words = ("--solver", draft.solver, "--steps", draft.steps, "--grid", draft.grid, *options)
    done("interpolate", folder, *words, *common, tmp_path / "words.png")
    assert (tmp_path / "preset.png").read_bytes() == (tmp_path / "words.png").read_bytes()


def test_an_option_reaches_the_solver(folder, tmp_path):
    common = ("--seeds", "1,2", *STEPS, "--out")
    for eta in (0, 1):
        done(
            "interpolate",
            folder,
            "--solver",
            "ddim",
            "--option",
            f"eta={eta}",
            *common,
            tmp_path / f"{eta}.png",
        )
    done("interpolate", folder, "--solver", "ddim", *common, tmp_path / "plain.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
    assert (tmp_path / "1.png").read_bytes() != (tmp_path / "plain.png").read_bytes()


def test_missing_averages_are_reported(folder, tmp_path):
    output = done("variations", folder, "--seed", 1, "--steps", 2, "--out", tmp_path / "out.png")
    assert "has no EMA weights" in output


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("interpolate", ["--seeds", "1"], "at least two seeds"),
        ("interpolate", ["--seeds", "1,b"], "--seeds takes integers, such as 1,2,3; got '1,b'"),
        ("interpolate", ["--seeds", "1,2", "--class", "0,1,2"], "--class takes one label, or one for each"),
        ("interpolate", ["--seeds", "1,2", "--solver", "dimm"], "did you mean 'ddim'"),
        ("interpolate", ["--seeds", "1,2", "--solver", "fast", "--grid", "karras"], "fast has its steps"),
        ("interpolate", ["--seeds", "1,2", "--option", "eta"], "expected key=value"),
        ("interpolate", ["--seeds", "1,2", "--out", "path.jpg"], "--out is a file *.png here"),
        ("variations", ["--seed", "1", "--strength", "2"], "strength must lie in [0, 1]"),
        ("variations", ["--seed", "1", "--out", "{}/folder.png"], "folder.png"),
        ("image-to-image", ["{}/one.png", "--seed", "-1"], "the base seed must be at least 0, got -1"),
        ("image-to-image", ["none.png"], "none.png cannot be read: No such file"),
        ("image-to-image", ["{}/text.png"], "text.png cannot be read as an image"),
        ("image-to-image", ["{}/large.png"], "large.png is 20 x 12 pixels, the model's images 8 x 8"),
        ("image-to-image", ["{}/deep.tif"], "more than 16 bits a channel (mode F"),
        ("image-to-image", ["{}/one.png", "--strength", "0.5,2"], "strength must lie in [0, 1]"),
        ("image-to-image", ["{}/one.png", "--out", "{}/text.png/out.png"], "text.png cannot be written to"),
        ("image-to-image", ["{}/one.png", "--background", "whitish"], "background must be a colour"),
        ("variations", ["--seed", "1", "--strength", "0.5,2"], "strength must lie in [0, 1]"),
        ("swap-class", ["{}/one.png", "--from", "0", "--to", "1,7"], "must lie in 0..2"),
        ("inpaint", ["{}/one.png", "--mask", "{}/one_colour.png"], "one_colour.png is of one colour"),
        ("film", ["--seeds", "1", "--out", "{}/folder.png"], "folder.png is a folder"),
        ("invert", ["{}/one.png", "--solver", "ddpm"], "only a deterministic solver can be reversed"),
        ("invert", ["{}/one.png", "--out", "noise.pt"], "--out is a file *.npy or *.png here"),
        ("swap-class", ["{}/one.png", "--from", "0", "--to", "7"], "must lie in 0..2"),
        ("inpaint", ["{}/one.png", "--mask", "{}/large.png"], "large.png is 20 x 12 pixels"),
        ("film", ["--seeds", "1", "--out", "film.gif", "--seconds", "inf"], "must be positive and finite"),
        ("film", ["--seeds", "1", "--out", "film.mp4"], "--out is a file *.png or *.gif or *.webp here"),
    ],
)
def test_nonsense_is_one_message_and_exit_code_2(folder, tmp_path, monkeypatch, command, arguments, message):
    arguments = [argument.format(folder) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out.png")]
    monkeypatch.setattr(UNet, "forward", lambda *_, **__: pytest.fail("work was done before a check"))
    result = run(command, folder, *arguments, "--no-ema", "--device", "cpu")
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["interpolate", "invert", "inpaint"])
def test_a_missing_checkpoint_is_one_message(tmp_path, folder, command):
    arguments = {"interpolate": ["--seeds", "1,2"], "inpaint": [folder / "one.png", "--mask", "mask.png"]}
    given = arguments.get(command, [folder / "one.png"])
    result = run(command, tmp_path, *given, "--out", tmp_path / "out.png")
    assert result.exit_code == 2
    assert "model.pth" in result.output
