"""Every image file is read in one way, upright and without transparency, and gets its size by one rule."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageColor
from torch.nn import functional
from torchvision.transforms.v2 import functional as peer

from snowmelt.errors import InputError
from snowmelt.images import (
    Shape,
    is_image,
    read_image,
    read_mask,
    reading,
    resize,
)


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", 1), ("L", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3)]
)
def test_gray_files_stay_gray_and_all_others_are_in_colour(tmp_path, mode, channels):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.new(mode, (3, 2), 0).save(path)
    assert read_image(path).shape == (channels, 2, 3)
    assert torch.equal(read_image(path.read_bytes()), read_image(path))
    for wanted in (1, 3):
        assert read_image(path, wanted).shape == (wanted, 2, 3)


def test_a_photo_taken_upside_down_is_turned(tmp_path):
    picture = Image.new("L", (1, 2))
    picture.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x112] = 3  # turned by 180 degrees
    picture.save(tmp_path / "photo.png", exif=exif)
    assert read_image(tmp_path / "photo.png").flatten().tolist() == [0, 255]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("F", (4, 4)).save(tmp_path / "deep.tif")
    for name, message in (
        ("text.png", r"text.png cannot be read as an image .* remove it"),
        ("deep.tif", r"deep.tif has more than 16 bits a channel \(mode F\)"),
        ("none.png", r"none.png cannot be read: No such file"),
    ):
        with pytest.raises(InputError, match=message):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match=r"^image 7 cannot be read as an image"):
        read_image(b"no picture", name="image 7")


def picture_on(background: str, picture: Image.Image) -> torch.Tensor:
    """The picture over a colour, by the definition of alpha: alpha * colour + (1 - alpha) * background."""
    rgba = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1).double()
    alpha = rgba[3:] / 255
    behind = torch.tensor(ImageColor.getrgb(background)).view(3, 1, 1)
    return alpha * rgba[:3] + (1 - alpha) * behind


def transparent(mode: str) -> tuple[Image.Image, dict]:
    """A picture whose hidden colours are noise, and how to save it."""
    hidden = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
    if mode == "P":
        picture = Image.fromarray(hidden[..., :3]).quantize(8)
        return picture, {"transparency": bytes([0, 255, 60, 200, 0, 255, 128, 1])}
    if mode in ("RGB", "L"):
        picture = Image.fromarray(hidden[..., :3]).convert(mode)
        return picture, {"transparency": picture.getpixel((2, 3))}
    return Image.fromarray(hidden).convert(mode), {}


@pytest.mark.parametrize("background", ["white", "black", "#ff8000"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_pixels_show_the_background_whatever_colour_they_hide(tmp_path, mode, background):
    picture, options = transparent(mode)
    picture.save(tmp_path / "x.png", **options)
    with Image.open(tmp_path / "x.png") as stored:
        assert stored.has_transparency_data
        expected = picture_on(background, stored)
    for channels in (1, 3):
        found = read_image(tmp_path / "x.png", channels, background=background).double()
        wanted = (
            expected
            if channels == 3
            else torch.tensordot(torch.tensor([0.299, 0.587, 0.114]).double(), expected, 1)[None]
        )
        assert (found - wanted).abs().max() <= 2


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_every_format_is_read_upright(tmp_path, suffix, turn):
    """EXIF's orientation says how the camera was held: by how far to turn the picture clockwise."""
    upright = Image.new("L", (16, 8))
    upright.paste(255, (0, 0, 8, 8))
    stored = upright.rotate({1: 0, 3: 180, 6: 90, 8: 270}[turn], expand=True)
    exif = Image.Exif()
    exif[0x112] = turn
    stored.save(tmp_path / f"photo.{suffix}", exif=exif)
    found = read_image(tmp_path / f"photo.{suffix}", 1)
    assert found.shape == (1, 8, 16)
    assert found[..., :6].min() > 240
    assert found[..., 10:].max() < 15


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.tga"])
def test_a_file_of_postscript_reaches_no_interpreter(tmp_path, monkeypatch, name):
    def reached(*_, **__):
        pytest.fail("the interpreter was reached")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", reached)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / name).write_bytes(script)
    with Image.open(tmp_path / name) as picture:
        assert picture.format == "EPS", "Pillow alone would open it"
    with pytest.raises(InputError, match=r"cannot be read as an image \(it is none of AVIF"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["avif", "bmp", "gif", "jfif", "jp2", "jpg", "pgm", "tga", "tif", "webp"])
def test_the_formats_of_images_are_read(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.new("L", (7, 5), 200).save(path)
    assert is_image(path)
    pixels = read_image(path, 1)
    assert pixels.shape == (1, 5, 7)
    assert (pixels.int() - 200).abs().max() <= 3


def test_an_intact_picture_is_read_however_large_and_one_beyond_our_bound_is_named(tmp_path, monkeypatch):
    Image.new("L", (60, 60), 7).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(tmp_path / "huge.png").unique().tolist() == [7]
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(reading, "MAX_PIXELS", 3599)
    with pytest.raises(InputError, match=r"huge.png has 60 x 60 = 3,600 pixels, more than 3,599"):
        read_image(tmp_path / "huge.png")


HOLE = np.arange(8)[:, None].repeat(8, 1) < 4  # the upper half
# A mask with this hole, as different programs write it
MASKS = {
    **{
        mode: Image.fromarray(np.where(HOLE, 0, 255).astype(np.uint8)).convert(mode)
        for mode in ("L", "RGB", "P")
    },
    "bits": Image.fromarray(~HOLE),
    "0 and 1": Image.fromarray((~HOLE).astype(np.uint8)),
    "16 bits": Image.fromarray(np.where(HOLE, 0, 65535).astype(np.uint16)),
    "erased": Image.merge("LA", [Image.new("L", (8, 8), 255), Image.fromarray(~HOLE).convert("L")]),
    "erased colour": Image.merge(
        "RGBA", [Image.new("L", (8, 8), 255)] * 3 + [Image.fromarray(~HOLE).convert("L")]
    ),
}


@pytest.mark.parametrize("kind", MASKS)
def test_a_hole_is_a_hole_in_masks_of_every_kind(tmp_path, kind):
    MASKS[kind].save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[[0] * 8] * 4 + [[255] * 8] * 4]


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_an_image_covers_its_new_size_and_loses_nothing_more_than_it_must(stored, size):
    """A ramp along each side: its ends show how much of the side is left."""
    height, width = stored
    scale = max(size[0] / height, size[1] / width)
    ramp = torch.linspace(0, 1, width).expand(1, height, width), torch.linspace(0, 1, height)[:, None]
    for values, want, have in zip(ramp, size[::-1], (width, height), strict=True):
        found = resize(values.expand(1, height, width), Shape(size))
        assert found.shape == (1, *size)
        if min(want, have) < 2 or scale > 1:
            continue
        seen = (found.max() - found.min()).item()
        pixel = 1 / (have - 1) / scale  # of the new size
        assert seen == pytest.approx(min(1, want / scale / have), abs=2 * pixel)


@given(
    st.sampled_from([None, (4, 4), (3, 6), (9, 2)]), st.sampled_from([None, 1, 3]), st.sampled_from([1, 3])
)
def test_images_get_the_shape_that_is_asked_for(size, channels, stored):
    images = torch.randint(0, 256, (2, stored, 5, 8), dtype=torch.uint8)
    found = resize(images, Shape(size, channels))
    assert found.shape == (2, channels or stored, *(size or (5, 8)))
    assert torch.equal(found[1], resize(images[1], Shape(size, channels))), "each image for itself"


@pytest.mark.parametrize("long", [40, 41, 4000, 60_001])
@pytest.mark.parametrize("turn", [False, True])
def test_of_a_very_long_picture_the_middle_is_seen_and_little_else_is_enlarged(monkeypatch, long, turn):
    picture = torch.zeros(1, 3, long, dtype=torch.uint8)
    picture[..., long // 2 - 10 : long // 2 + 10 + long % 2] = 200
    enlarged, resized = [], functional.interpolate
    monkeypatch.setattr(
        functional,
        "interpolate",
        lambda images, size, **more: enlarged.append(math.prod(size)) or resized(images, size, **more),
    )
    for height, width in ((12, 20), (1, 2), (9, 5)):
        size = (width, height) if turn else (height, width)
        found = resize(picture.mT if turn else picture, Shape(size))
        assert found.shape == (1, *size)
        assert (found == 200).all()
    assert max(enlarged) <= 8 * 12 * 24


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_resized_as_torchvision_does_it(channels):
    images = torch.randint(0, 256, (2, channels, 20, 30), dtype=torch.uint8)
    for stored in (images, images[0]):
        expected, found = peer.resize(stored, [8, 12], antialias=True), resize(stored, Shape((8, 12)))
        # Where a processor has no AVX2, torchvision rounds floats
        assert (found.int() - expected.int()).abs().max() <= 1
    stored = images.float() / 127.5 - 1
    assert torch.equal(resize(stored, Shape((8, 12))), peer.resize(stored, [8, 12], antialias=True))


def test_colour_turns_gray_as_pillow_does_it():
    images = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    picture = Image.fromarray(images.permute(1, 2, 0).numpy())
    assert np.array_equal(resize(images, Shape(channels=1))[0].numpy(), np.asarray(picture.convert("L")))
    gray = images[:1].expand(3, -1, -1)
    assert torch.equal(resize(gray, Shape(channels=1)), gray[:1])


def test_pillows_bound_and_pythons_warnings_are_as_they_were_after_many_threads(tmp_path):
    path = tmp_path / "x.png"
    Image.effect_noise((64, 64), 90).save(path)
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(read_image, [path] * 64))) == 64
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before
