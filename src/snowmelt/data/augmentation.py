"""Random changes of training images, a whole batch at a time, which the network may be told of.

A model learns the images that it is shown: trained on turned images, it draws turned ones. Told how each
image was changed, it learns to draw images for any change, and sampling asks for none. Source: Karras et al.
2022 (EDM), appendix F.2 and table 6, after Karras et al. 2020 (ADA).

    flipped -> one warp (larger or smaller, turned, stretched, moved) -> brightness, contrast, saturation

The warp asks of each pixel where it comes from, and interpolates once. Beyond its border an image goes on as
in a mirror, or there is a colour: for pictures on a plain background.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from snowmelt.errors import InputError
from snowmelt.images import check_colour, from_picture, from_uint8

__all__ = ["Augmentation"]

# What happens to an image, a row each; 0 is no change
COINS = ("flipped", "upended")  # 0 or 1
UNIFORM = ("turned", "axis", "brightness", "contrast", "saturation")  # in [-1, 1]
NORMAL = ("enlarged", "stretched", "right", "down")  # standard normal
ROWS = COINS + UNIFORM + NORMAL
ROWS_OF = {
    "horizontal_flip": ("flipped",),
    "vertical_flip": ("upended",),
    "rotation_degrees": ("turned",),
    "scaling": ("enlarged",),
    "stretching": ("stretched", "axis"),
    "translation": ("right", "down"),
    "color_jitter": ("brightness", "contrast", "saturation"),
}
WITH = {"axis": "stretched", "down": "right"}  # applied to an image with the other, or not at all
WARP = ("turned", "enlarged", "stretched", "right", "down")
COLOUR = ROWS_OF["color_jitter"]
# As torchvision weighs the colours of a gray image (ITU-R BT.601)
LUMA = (0.2989, 0.587, 0.114)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images; each is off by default.

    Attributes:
        horizontal_flip, vertical_flip: mirror half of the images.
        rotation_degrees: turn by up to that many degrees either way, in [0, 180].
        scaling: enlarge or shrink, by a factor whose binary logarithm has this standard deviation.
        stretching: make longer along a random axis and shorter across it, by such a factor.
        translation: move; the standard deviation, in each direction, as a share of the image's side.
        color_jitter: change brightness, contrast and (in colour) saturation by up to this share, in [0, 1].
        fill: the colour beyond the border of an image, transparent where images have alpha; None for its
            mirror image.
        probability: share of the images that each change but the horizontal flip is applied to.
        conditioned: `labels` say how each image was changed, for a network with `augment_channels`.

    Raises:
        InputError: a value is out of its range; the message names it.

    >>> augment = Augmentation(horizontal_flip=True, rotation_degrees=10)
    >>> changes = augment.draw(500, torch.Generator().manual_seed(0))
    >>> augment(torch.zeros(3, 1, 8, 8), changes[:, [7, 0, 421]]).shape, augment.channels
    (torch.Size([3, 1, 8, 8]), 3)
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotation_degrees: float = 0.0
    scaling: float = 0.0
    stretching: float = 0.0
    translation: float = 0.0
    color_jitter: float | None = None
    fill: str | None = None
    probability: float = 1.0
    conditioned: bool = False

    def __post_init__(self) -> None:
        for name in ("rotation_degrees", "scaling", "stretching", "translation", "color_jitter"):
            bound = 180 if name == "rotation_degrees" else 1
            value = getattr(self, name)
            if value is not None and not 0 <= value <= bound:
                none = ", or be None" if name == "color_jitter" else ""
                raise InputError(f"{name} must lie in [0, {bound}]{none}, got {value}")
        if self.fill is not None:
            check_colour(self.fill, "fill")
        if not 0 < self.probability <= 1:
            raise InputError(f"probability must lie in (0, 1], got {self.probability}")
        if self.conditioned and not self.channels:
            raise InputError("conditioned says how images were changed: turn on a change, such as scaling")

    @property
    def channels(self) -> int:
        """The number of `labels` of an image; 0 where nothing is changed."""
        return self.labels(torch.zeros(len(ROWS), 1)).shape[1]

    def draw(self, num_images: int, generator: torch.Generator) -> Tensor:
        """Return the changes of `num_images` images, (11, num_images), on the CPU."""

        def uniform(rows: int) -> Tensor:
            return torch.rand(rows, num_images, generator=generator)

        coins, spread = (uniform(len(COINS)) < 0.5).float(), 2 * uniform(len(UNIFORM)) - 1
        normal = torch.randn(len(NORMAL), num_images, generator=generator)
        applied = uniform(len(ROWS)) < self.probability
        applied[ROWS.index("flipped")] = True
        applied = applied[[ROWS.index(WITH.get(row, row)) for row in ROWS]]
        on = [row for name, rows in ROWS_OF.items() if getattr(self, name) for row in rows]
        return torch.cat([coins, spread, normal]) * applied * torch.tensor([[row in on] for row in ROWS])

    def __call__(self, images: Tensor, changes: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [-1, 1] with `changes` (11, B), on their device.

        An image that nothing happens to keeps its bits.
        """
        row = dict(zip(ROWS, changes, strict=True))
        images = _where(row, ("flipped",), images, lambda chosen, _: chosen.flip(-1))
        images = _where(row, ("upended",), images, lambda chosen, _: chosen.flip(-2))
        images = _where(row, WARP, images, self._warped)
        return _where(row, COLOUR, images, self._coloured)

    def labels(self, changes: Tensor) -> Tensor:
        """Return what the network is told of `changes` (11, B): (B, channels), all 0 for an unchanged image.

        Angles come as cosine - 1 and sine (EDM, table 6): a full turn is no turn.
        """
        row = dict(zip(ROWS, changes, strict=True))
        angle, axis = math.radians(self.rotation_degrees) * row["turned"], math.pi * row["axis"]
        told = {
            "horizontal_flip": [row["flipped"]],
            "vertical_flip": [row["upended"]],
            "rotation_degrees": [angle.cos() - 1, angle.sin()],
            "scaling": [row["enlarged"]],
            "stretching": [row["stretched"] * axis.cos(), row["stretched"] * axis.sin()],
            "translation": [row["right"], row["down"]],
            "color_jitter": [row[name] for name in COLOUR],
        }
        columns = [column for name, some in told.items() if getattr(self, name) for column in some]
        return torch.stack(columns, dim=1) if columns else changes.new_zeros(changes.shape[1], 0)

    def _warped(self, images: Tensor, row: dict[str, Tensor]) -> Tensor:
        height, width = images.shape[-2:]
        angle, axis = math.radians(self.rotation_degrees) * row["turned"], math.pi * row["axis"]
        size, length = (self.scaling * row["enlarged"]).exp2(), (self.stretching * row["stretched"]).exp2()
        # A pixel p of the result comes from S^-1 R^-1 A^-1 (p - shift): enlarged, turned, stretched, moved
        stretch = _turn(axis) @ _diagonal(1 / length, length) @ _turn(-axis)
        source = _diagonal(1 / size, 1 / size) @ _turn(-angle) @ stretch
        # torch's coordinates: every side goes from -1 to 1
        sides = torch.tensor([width, height], dtype=source.dtype)
        source = source * sides / sides[:, None]
        shift = 2 * self.translation * torch.stack([row["right"], row["down"]], dim=1)
        affine = torch.cat([source, -source @ shift[..., None]], dim=2)
        grid = affine_grid(
            affine.to(images.device, non_blocking=True), list(images.shape), align_corners=False
        )
        beyond, edge = images.new_zeros(1, 1, 1, 1), "reflection"
        if self.fill is not None:
            beyond, edge = _colour(self.fill, images), "zeros"
        # Bicubic, as bilinear weights blur; it overshoots at edges
        warped = grid_sample(images - beyond, grid, mode="bicubic", padding_mode=edge, align_corners=False)
        return (warped + beyond).clamp(-1, 1)

    def _coloured(self, images: Tensor, row: dict[str, Tensor]) -> Tensor:
        brightness, contrast, saturation = (
            (1 + (self.color_jitter or 0) * row[name]).to(images.device, non_blocking=True).view(-1, 1, 1, 1)
            for name in COLOUR
        )
        images, alpha = images[:, :3], images[:, 3:]  # which no light changes
        light = ((images + 1) / 2 * brightness).clamp(0, 1)
        light = light.lerp(_gray(light).mean((1, 2, 3), keepdim=True), 1 - contrast).clamp(0, 1)
        if images.shape[1] == 3:
            light = light.lerp(_gray(light), 1 - saturation).clamp(0, 1)
        return torch.cat([light * 2 - 1, alpha], dim=1)


def _where(
    row: dict[str, Tensor],
    names: tuple[str, ...],
    images: Tensor,
    function: Callable[[Tensor, dict[str, Tensor]], Tensor],
) -> Tensor:
    """Return the images, those changed in which one of the rows `names` is not 0."""
    chosen = torch.stack([row[name] for name in names]).any(0).nonzero().squeeze(1)
    if not len(chosen):
        return images
    there = chosen.to(images.device, non_blocking=True)
    changed = function(images[there], {name: values[chosen] for name, values in row.items()})
    return images.index_copy(0, there, changed)


def _colour(name: str, images: Tensor) -> Tensor:
    """Return a colour (1, C, 1, 1), as `images` would show it; with alpha, it is transparent."""
    channels = images.shape[1]
    picture = Image.new("RGBA" if channels == 4 else "RGB", (1, 1), name)
    if channels == 4:
        picture.putalpha(0)
    pixels = from_picture(picture, channels, name)
    return from_uint8(pixels).to(images, non_blocking=True).unsqueeze(0)


def _turn(angle: Tensor) -> Tensor:
    """Return rotations (B, 2, 2) by angles (B,)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def _diagonal(first: Tensor, second: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([first, second], dim=1))


def _gray(light: Tensor) -> Tensor:
    """Return the lightness (B, 1, H, W) of images in [0, 1]."""
    if light.shape[1] == 1:
        return light
    red, green, blue = (weight * light[:, [i]] for i, weight in enumerate(LUMA))
    return red + green + blue
