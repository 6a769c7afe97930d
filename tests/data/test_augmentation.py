"""What augmentation does to pixels, and what it says of it."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import functional

from snowmelt.data import Augmentation, DiffusionDataLoader
from snowmelt.data.augmentation import ROWS
from snowmelt.images import from_uint8

ALL = {
    "horizontal_flip": True,
    "vertical_flip": True,
    "rotation_degrees": 180.0,
    "scaling": 0.2,
    "stretching": 0.2,
    "translation": 0.125,
    "color_jitter": 0.5,
}


def pictures(count: int = 2, height: int = 16, width: int = 16) -> torch.Tensor:
    """Smooth colour images, in [-0.8, 0.8], so that an interpolation is exact to a few percent."""
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(1.6 * small - 0.8, (height, width), mode="bilinear")


def changes(count: int = 2, **rows: float) -> torch.Tensor:
    return torch.stack([torch.full((count,), float(rows.get(row, 0.0))) for row in ROWS])


def drawn(augment: Augmentation, count: int) -> torch.Tensor:
    return augment.draw(count, torch.Generator().manual_seed(0))


# -- pixels --------------------------------------------------------------------------------------------


def test_a_quarter_turn_is_that_of_the_pixels():
    images = pictures()
    for turned, quarters in ((0.5, -1), (-0.5, 1), (1.0, 2)):  # shares of 180 degrees, clockwise
        got = Augmentation(rotation_degrees=180)(images, changes(turned=turned))
        torch.testing.assert_close(got, images.rot90(quarters, (2, 3)), atol=1e-4, rtol=0)


def test_a_shift_by_whole_pixels_moves_them_and_the_mirror_comes_in():
    images = pictures(height=8, width=16)
    got = Augmentation(translation=0.25)(images, changes(right=1.0, down=-0.5))  # 4 to the right, 1 up
    wanted = torch.cat([images.flip(3)[..., -4:], images[..., :-4]], dim=3)
    wanted = torch.cat([wanted[:, :, 1:], wanted[:, :, -1:]], dim=2)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=0)


def test_a_fill_is_what_comes_in():
    images = pictures()
    augment = Augmentation(translation=0.25, fill="#ff0080")
    got = augment(images, changes(right=1.0))
    torch.testing.assert_close(got[..., 4:], images[..., :-4], atol=1e-4, rtol=0)
    colour = from_uint8(torch.tensor([255, 0, 128], dtype=torch.uint8))
    torch.testing.assert_close(got[..., :4], colour.view(1, 3, 1, 1).expand(2, 3, 16, 4), atol=1e-4, rtol=0)


def blob(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The middle of each image's light (x, y), its spread, and the direction of its longer axis."""
    light = (images.mean(1) + 1).double()
    ticks = torch.arange(light.shape[-1]) - (light.shape[-1] - 1) / 2
    total = light.sum((1, 2))
    x, y = (light.sum(1) @ ticks.double()) / total, (light.sum(2) @ ticks.double()) / total
    dx, dy = ticks - x[:, None], ticks - y[:, None]
    xx, yy = (light.sum(1) * dx**2).sum(1) / total, (light.sum(2) * dy**2).sum(1) / total
    xy = (light * dy[:, :, None] * dx[:, None, :]).sum((1, 2)) / total
    covariance = torch.stack([torch.stack([xx, xy], 1), torch.stack([xy, yy], 1)], 1)
    return torch.stack([x, y], 1), covariance, total


def test_a_spot_is_enlarged_stretched_and_moved_as_the_numbers_say():
    ticks = torch.arange(64) - 31.5
    spot = torch.exp(-(ticks[:, None] ** 2 + ticks**2) / (2 * 4.0**2))
    images = (2 * spot - 1).expand(3, 1, 64, 64)
    augment = Augmentation(scaling=0.25, stretching=0.5, translation=0.125, fill="black")
    rows = changes(3, enlarged=1.0, stretched=1.0, axis=1 / 6, right=0.5, down=-1.0)
    middle, covariance, _ = blob(augment(images, rows))
    torch.testing.assert_close(middle, torch.tensor([[4.0, -8.0]] * 3).double(), atol=0.02, rtol=0)
    lengths = 4.0**2 * 2 ** (2 * 0.25) * torch.tensor([2.0**-1.0, 2.0**1.0])
    values, axes = torch.linalg.eigh(covariance)
    torch.testing.assert_close(values, lengths.double().expand(3, 2), atol=0, rtol=0.03)
    direction = torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]).double()
    torch.testing.assert_close((axes[:, :, 1] @ direction).abs(), torch.ones(3).double(), atol=0.01, rtol=0)


def test_colours_change_as_torchvision_changes_them():
    images = pictures()
    got = Augmentation(color_jitter=0.5)(images, changes(brightness=0.4, contrast=-0.6, saturation=0.8))
    wanted = functional.adjust_brightness((images + 1) / 2, 1.2)
    wanted = functional.adjust_saturation(functional.adjust_contrast(wanted, 0.7), 1.4)
    torch.testing.assert_close(got, wanted * 2 - 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_changes_keep_the_range_and_each_image_its_own(channels):
    augment = Augmentation(**ALL)
    images = torch.rand(6, channels, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows = drawn(augment, 6)
    together = augment(images, rows)
    assert together.shape == images.shape
    assert together.abs().max() <= 1
    alone = torch.cat([augment(images[[i]], rows[:, [i]]) for i in range(6)])
    torch.testing.assert_close(together, alone)


# -- what is drawn -------------------------------------------------------------------------------------


def test_each_change_is_applied_as_often_as_its_probability_says():
    rows = drawn(Augmentation(**ALL, probability=0.25), 20_000)
    shares = dict(zip(ROWS, (rows != 0).float().mean(1).tolist(), strict=True))
    assert shares.pop("flipped") == pytest.approx(0.5, abs=0.02)
    assert shares.pop("upended") == pytest.approx(0.125, abs=0.01)
    assert shares == {name: pytest.approx(0.25, abs=0.02) for name in shares}
    right, down, stretched, axis = (rows[ROWS.index(row)] for row in ("right", "down", "stretched", "axis"))
    assert torch.equal(right != 0, down != 0)
    assert torch.equal(stretched != 0, axis != 0)


@pytest.mark.parametrize("name", ALL)
def test_an_image_that_is_not_changed_keeps_its_bits_and_has_zero_labels(name):
    augment = Augmentation(**{name: ALL[name]}, probability=0.5, conditioned=True)
    images, rows = pictures(64), drawn(augment, 64)
    labels = augment.labels(rows)
    same = (augment(images, rows) == images).flatten(1).all(1)
    assert labels.shape == (64, augment.channels)
    assert torch.equal(same, (labels == 0).all(1))
    assert 0 < same.sum() < 64


def test_equal_labels_mean_equal_changes():
    """Or the network could not tell how an image was changed."""
    augment = Augmentation(**ALL, conditioned=True)
    one, other = changes(1, turned=1.0), changes(1, turned=-1.0)  # half a turn either way
    torch.testing.assert_close(augment.labels(one), augment.labels(other), atol=1e-6, rtol=0)
    images = pictures(1)
    torch.testing.assert_close(augment(images, one), augment(images, other), atol=1e-4, rtol=0)
    rows = drawn(augment, 500)
    gaps = torch.pdist(augment.labels(rows))
    assert gaps.min() > 1e-3


# -- in batches ----------------------------------------------------------------------------------------


def batches(**options) -> list[tuple[torch.Tensor, ...]]:
    options = {"image_size": 8, "in_channels": 1, "batch_size": 45, "shuffle_train": False, **options}
    data = DiffusionDataLoader("digits:test", **options)
    return list(data.train_loader(options.pop("epoch", 0)))


def joined(**options) -> torch.Tensor:
    return torch.cat([batch[0] for batch in batches(**options)])


@pytest.mark.parametrize("name", [name for name in ALL if name != "color_jitter"])
def test_every_epoch_and_seed_has_its_own_changes_whatever_the_batch(name):
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1, **{name: ALL[name]})
    first, second = (torch.cat([x0 for x0, _ in data.train_loader(epoch)]) for epoch in (0, 1))
    assert not torch.equal(first, second)
    plain, one = joined(), joined(**{name: ALL[name]})
    assert not torch.equal(one, plain)
    torch.testing.assert_close(one, joined(batch_size=7, **{name: ALL[name]}))
    assert not torch.equal(one, joined(seed=1, **{name: ALL[name]}))


def test_flipping_mirrors_half_of_the_images_and_leaves_the_others():
    plain, flipped = joined(), joined(horizontal_flip=True)
    mirrored = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert torch.equal(torch.where(mirrored.view(-1, 1, 1, 1), plain.flip(-1), plain), flipped)
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_conditioned_batches_tell_of_their_images_changes():
    found = batches(horizontal_flip=True, conditioned=True)
    plain = joined()
    for (images, _, labels), before in zip(found, plain.split(45), strict=True):
        assert labels.shape == (45, 1)
        assert torch.equal(images, torch.where(labels.bool()[..., None, None], before.flip(-1), before))
