"""Images with alpha: four channels from the file through training, sampling and evaluation to the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt import DiffusionSampler, DiffusionTrainer, create_ddpm
from snowmelt.data import Augmentation, DiffusionDataLoader
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.formats import WRITERS, open_images
from snowmelt.images import Shape, from_uint8, read_image, resize, save_grid, save_png, to_uint8
from snowmelt.sampling import Request


def sticker(side: int = 16) -> Image.Image:
    """A red square on transparent pixels, which are green where nobody sees it."""
    picture = Image.new("RGBA", (side, side), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (side // 4, side // 4, 3 * side // 4, 3 * side // 4))
    return picture


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "data" / "all").mkdir(parents=True)
    for index in range(4):
        sticker().rotate(90 * index).save(tmp_path / "data" / "all" / f"{index}.png")
    return tmp_path / "data"


@pytest.mark.parametrize("size", [16, 6])
@pytest.mark.parametrize("background", ["white", "#102030"])
def test_hidden_colours_are_neither_seen_nor_learned(folder, size, background):
    """No green: not in the image, not at its edges, not below transparent pixels."""
    path = folder / "all" / "0.png"
    image = resize(read_image(path, 4, background=background), Shape((size, size), 4, background)).int()
    seen = image[3] > 0
    assert (image[1][seen] == 0).all()
    hidden = torch.tensor(read_image(path, 3, background=background)[:, 0, 0].tolist())
    assert (image[:3, ~seen] == hidden[:, None]).all()
    assert seen.any()
    assert not seen.all()


def test_on_a_background_resizing_first_or_last_is_nearly_the_same():
    picture = Image.effect_noise((40, 40), 90).convert("RGB")
    picture.putalpha(Image.linear_gradient("L").resize((40, 40)))
    data = torch.from_numpy(np.array(picture)).movedim(-1, 0)
    for background in ("white", "#204060"):
        late = resize(resize(data, Shape((10, 10))), Shape(channels=3, background=background))
        early = resize(resize(data, Shape(channels=3, background=background)), Shape((10, 10)))
        assert (late.int() - early.int()).abs().max() <= 2


def test_an_image_without_alpha_is_opaque(tmp_path):
    Image.effect_noise((8, 8), 90).convert("RGB").save(tmp_path / "a.png")
    Image.effect_noise((8, 8), 90).save(tmp_path / "b.png")
    images = open_images(tmp_path, channels=4).take([0, 1])
    assert images.shape == (2, 4, 8, 8)
    assert (images[:, 3] == 255).all()
    assert torch.equal(images[:, :3], open_images(tmp_path, channels=3).take([0, 1]))


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_keeps_alpha_and_shows_it_on_a_background_to_those_who_ask_for_none(name, tmp_path):
    images = torch.from_numpy(np.array(sticker(8))).movedim(-1, 0).repeat(2, 1, 1, 1)
    images[:, :3, 0] = 255  # as `hide` leaves them
    images[:, :3] = torch.where(images[:, 3:] == 0, 255, images[:, :3])
    writer = WRITERS[name](tmp_path, range(2), None, shard_size=2, class_names=None)
    writer.write(0, images)
    writer.finish()
    assert torch.equal(open_images(tmp_path, channels=4).take([0, 1]), images)
    flat = open_images(tmp_path).take([0, 1])
    assert flat.shape == (2, 3, 8, 8)
    assert flat[0, :, 0, 0].tolist() == [255, 255, 255]
    assert flat[0, :, 4, 4].tolist() == [255, 0, 0]


def test_one_image_and_a_grid_are_written_with_alpha(tmp_path):
    images = from_uint8(torch.from_numpy(np.array(sticker(8))).movedim(-1, 0)).repeat(3, 1, 1, 1)
    save_png(images[0], tmp_path / "one.png")
    save_grid(images, tmp_path / "grid.png", captions=["a", "b", "c"], scale=1)
    one, grid = (np.array(Image.open(tmp_path / name)) for name in ("one.png", "grid.png"))
    assert np.array_equal(one, np.array(sticker(8)))
    assert grid.shape[2] == 4
    assert (grid[..., 3] == 0).sum() == 3 * (one[..., 3] == 0).sum()


def test_light_and_moves_leave_alpha_an_alpha():
    images = from_uint8(torch.from_numpy(np.array(sticker())).movedim(-1, 0)).repeat(8, 1, 1, 1)
    augment = Augmentation(color_jitter=0.9)
    changed = augment(images, augment.draw(8, torch.Generator().manual_seed(0)))
    assert torch.equal(changed[:, 3], images[:, 3])
    assert not torch.equal(changed[:, :3], images[:, :3])
    augment = Augmentation(translation=1.0, fill="white")
    changed = augment(images, augment.draw(8, torch.Generator().manual_seed(0)))
    assert changed[:, 3].min() == -1
    assert (changed[:, 3].mean((1, 2)) <= images[:, 3].mean((1, 2)) + 1e-4).all(), (
        "what comes in is transparent"
    )


def test_a_model_with_alpha_trains_samples_and_is_evaluated(folder, tmp_path):
    data = DiffusionDataLoader(folder, image_size=8, batch_size=2, in_channels=4, horizontal_flip=True)
    assert data.image_shape == (4, 8, 8)
    model = create_ddpm(8, 4, 8, (1,), norm_groups=4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    DiffusionTrainer(model, data, optimizer, sample_images=False, use_ema=False).train_epoch()
    sampler = DiffusionSampler(model, solver="ddim", steps=1)
    images = sampler.sample(2, seeds=(0, 1))
    assert images.shape == (2, 4, 8, 8)
    source = SampledSource(sampler, Request(seeds=(0, 1)), background="black")
    laid_on = resize(to_uint8(images), Shape(channels=3, background="black"))
    assert torch.equal(next(source.batches(2)), laid_on)
    assert source.content_hash() != SampledSource(sampler, Request(seeds=(0, 1))).content_hash()
