"""Images and settings at the edge of what training data can be."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.data import DiffusionDataLoader
from snowmelt.errors import InputError
from snowmelt.images import to_uint8


def first_batch(path: Path | str, **options: object) -> torch.Tensor:
    options = {"image_size": 8, "batch_size": 256, "shuffle_train": False, **options}
    images, _ = next(iter(DiffusionDataLoader(path, **options).train_loader(0)))
    return images


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "class").mkdir()
    return tmp_path


def test_every_gray_level_survives(folder):
    for value in range(256):
        Image.new("L", (8, 8), value).save(folder / "class" / f"{value:03}.png")
    images = first_batch(folder, in_channels=1)
    assert torch.equal(to_uint8(images[:, 0, 0, 0]), torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_to_8_and_not_cut(folder, suffix):
    pixels = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(pixels).save(folder / "class" / f"deep.{suffix}")
    images = first_batch(folder, in_channels=1)
    torch.testing.assert_close(
        images[0, 0], torch.from_numpy(pixels / 32767.5 - 1).float(), atol=1 / 255, rtol=0
    )


def test_16_bits_in_colour_are_scaled_to_8(folder):
    tifffile = pytest.importorskip("tifffile")
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3), dtype=np.uint16)
    tifffile.imwrite(folder / "class" / "deep.tif", pixels, photometric="rgb")
    images = first_batch(folder)
    wanted = torch.from_numpy(pixels / 32767.5 - 1).float().movedim(-1, 0)
    torch.testing.assert_close(images[0], wanted, atol=2 / 255, rtol=0)


def test_more_than_16_bits_are_refused_by_name(folder):
    Image.new("F", (8, 8)).save(folder / "class" / "deep.tif")
    with pytest.raises(InputError, match=r"deep\.tif has more than 16 bits"):
        first_batch(folder)


def test_a_photo_taken_upside_down_is_turned(folder):
    image = Image.new("RGB", (8, 8))
    image.paste("white", (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x112] = 3  # orientation: turned by 180 degrees
    image.save(folder / "class" / "photo.png", exif=exif)
    images = first_batch(folder)
    assert images[0, 0, 0, 0] == -1
    assert images[0, 0, 7, 0] == 1


def test_pinned_memory_without_a_gpu_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first_batch("digits", in_channels=1, pin_memory=True)


@pytest.mark.parametrize(("name", "count"), [("MNIST", 8), ("MNIST:train", 5), ("MNIST:test", 3)])
def test_a_bare_name_is_the_whole_set(tmp_path, monkeypatch, name, count):
    monkeypatch.setenv("SNOWMELT_DATA", str(tmp_path))
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, images in (("train", 5), ("t10k", 3)):
        header = struct.pack(">IIII", 0x803, images, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + bytes(images * 784))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, images) + bytes(images))
    assert DiffusionDataLoader(name, image_size=8).num_train_images == count


@pytest.mark.parametrize(
    "option",
    [
        {"batch_size": 0},
        {"num_workers": -1},
        {"seed": -1},
        {"image_size": 0},
        {"rotation_degrees": -5.0},
        {"color_jitter": -0.1},
        {"color_jitter": 3.0},
        {"scaling": -1.0},
        {"probability": 0.0},
        {"fill": "colourless"},
        {"conditioned": True},
        {"cache": "tape"},
    ],
)
def test_impossible_settings_are_refused_by_name(option):
    (name,) = option
    with pytest.raises(InputError, match=name):
        DiffusionDataLoader("digits", **{"image_size": 8, "in_channels": 1, **option})


@pytest.mark.parametrize("start", [-1, 10_000])
def test_batches_that_are_not_there_cannot_be_started_from(start):
    data = DiffusionDataLoader("digits", image_size=8, in_channels=1)
    with pytest.raises(ValueError, match=r"start_batch must lie in 0\.\.29"):
        data.train_loader(0, start_batch=start)
