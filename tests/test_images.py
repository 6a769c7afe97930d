"""Pixels go out as they are, and pictures hold the images where they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image, ImageColor
from torchvision.transforms.v2 import functional

from snowmelt.errors import InputError
from snowmelt.images import (
    Shape,
    decode_png,
    encode_png,
    film_strip,
    from_uint8,
    is_image,
    read_image,
    read_mask,
    reading,
    resize,
    save_grid,
    save_png,
    to_uint8,
)

ALL_BYTES = torch.arange(256, dtype=torch.uint8)


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def flat(*values: float, channels: int = 1, side: int = 40) -> torch.Tensor:
    """Images of one value each, told apart wherever they are found in a picture."""
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, channels, side, side)


# -- numbers -------------------------------------------------------------------------------------------


def test_every_byte_survives_the_way_in_and_out():
    assert torch.equal(to_uint8(from_uint8(ALL_BYTES)), ALL_BYTES)
    assert from_uint8(ALL_BYTES).dtype == torch.float32


def test_bytes_are_evenly_spaced_from_minus_one_to_one():
    levels = from_uint8(ALL_BYTES)
    assert (levels[0], levels[-1]) == (-1, 1)
    torch.testing.assert_close(levels.diff(), torch.full((255,), 2 / 255))


@given(st.floats(-1, 1, width=32))
def test_rounding_is_to_the_nearest_byte(value):
    level = to_uint8(torch.tensor(value))
    assert abs(from_uint8(level).item() - value) <= 1 / 255 + 1e-6


@given(st.floats(min_value=1, width=32), st.sampled_from([-1, 1]))
def test_values_outside_are_clamped(value, sign):
    assert to_uint8(torch.tensor(sign * value)) == to_uint8(torch.tensor(float(sign)))


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=8))
def test_a_pixel_does_not_depend_on_the_others(values):
    together = to_uint8(torch.tensor(values))
    assert together.tolist() == [to_uint8(torch.tensor(value)).item() for value in values]


# -- one image -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_holds_the_pixels(tmp_path, channels, mode):
    image = torch.rand(channels, 5, 7) * 2 - 1
    save_png(image, tmp_path / "new" / "image.png")
    with Image.open(tmp_path / "new" / "image.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (7, 5))
    stored = torch.from_numpy(pixels(tmp_path / "new" / "image.png").copy()).view(5, 7, channels)
    assert torch.equal(stored.permute(2, 0, 1), to_uint8(image))


def test_gray_is_not_stretched(tmp_path):
    save_png(torch.linspace(-0.1, 0.1, 9).view(1, 3, 3), tmp_path / "faint.png")
    assert 110 < pixels(tmp_path / "faint.png").min() < pixels(tmp_path / "faint.png").max() < 145


def test_texts_travel_with_the_file(tmp_path):
    texts = {"seed": "7", "prompt": "Schnee, снег, 雪"}
    save_png(torch.zeros(1, 4, 4), tmp_path / "image.png", texts)
    with Image.open(tmp_path / "image.png") as picture:
        assert picture.info == texts


def test_images_that_need_gradients_are_saved(tmp_path):
    save_png(torch.ones(1, 2, 2, requires_grad=True), tmp_path / "image.png")
    assert (pixels(tmp_path / "image.png") == 255).all()


@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 4, 4), (4, 4), (1, 1, 4, 4)])
def test_other_shapes_are_refused_and_nothing_is_written(tmp_path, shape):
    with pytest.raises(ValueError, match=r"\(3, H, W\), got"):
        save_png(torch.zeros(shape), tmp_path / "image.png")
    assert list(tmp_path.iterdir()) == []


# -- many images ---------------------------------------------------------------------------------------


def tile_centres(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    return np.array(
        [
            [picture[int((r + 0.5) * height), int((c + 0.5) * width)] for c in range(columns)]
            for r in range(rows)
        ]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_filled_row_by_row(tmp_path, channels):
    images = flat(-1.0, -0.6, -0.2, 0.2, 0.6, 1.0, channels=channels)
    save_grid(images, tmp_path / "grid.png", nrow=3)
    found = tile_centres(pixels(tmp_path / "grid.png"), 2, 3).reshape(6, -1)[:, 0]
    assert found.tolist() == to_uint8(images[:, 0, 0, 0]).tolist()


def test_small_images_are_enlarged_pixel_by_pixel(tmp_path):
    image = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(1, 1, 2, 2)
    save_grid(image, tmp_path / "grid.png")
    picture = pixels(tmp_path / "grid.png")
    assert min(picture.shape[:2]) >= 32
    assert set(np.unique(picture)) == {0, 255}, "enlarging must not blur"


def test_scale_is_the_side_of_a_pixel(tmp_path):
    for scale in (1, 2, 5):
        save_grid(torch.zeros(1, 1, 8, 9), tmp_path / f"{scale}.png", scale=scale)
    sides = [pixels(tmp_path / f"{scale}.png").shape[:2] for scale in (1, 2, 5)]
    assert sides[1][0] - sides[0][0] == 8
    assert sides[2][0] - sides[1][0] == 3 * 8
    assert sides[2][1] - sides[1][1] == 3 * 9


def test_captions_stand_above_the_images_and_leave_them_alone(tmp_path):
    images = flat(-1.0, 0.0)
    save_grid(images, tmp_path / "plain.png", nrow=2)
    save_grid(images, tmp_path / "named.png", nrow=2, captions=["3", ""])
    plain, named = pixels(tmp_path / "plain.png"), pixels(tmp_path / "named.png")
    added = named.shape[0] - plain.shape[0]
    assert added > 0
    strip = named[: added + 2, :, 0]
    left, right = strip[:, : strip.shape[1] // 2], strip[:, strip.shape[1] // 2 :]
    assert left.min() < 128, "there is ink above the first"
    assert right[:added].min() == 255, "and none above the second"
    assert np.array_equal(named[added + 2 :, 2:], plain[2:, 2:]), "the images are as without captions"


def test_as_many_captions_as_images(tmp_path):
    with pytest.raises(ValueError, match=r"captions length \(1\) must match the images \(2\)"):
        save_grid(flat(0.0, 1.0), tmp_path / "grid.png", captions=["one"])


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4), (1, 4, 4)])
def test_grids_of_other_shapes_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match=r"\(N, 1 or 3, H, W\), got"):
        save_grid(torch.zeros(shape), tmp_path / "grid.png")


def test_a_film_strip_has_a_row_an_image_and_a_column_a_state(tmp_path):
    states = [flat(-1.0, -0.5), flat(-0.2, 0.2), flat(0.6, 1.0)]
    film_strip(states, tmp_path / "film.png")
    found = tile_centres(pixels(tmp_path / "film.png"), 2, 3)[..., 0]
    wanted = to_uint8(torch.tensor([[-1.0, -0.2, 0.6], [-0.5, 0.2, 1.0]]))
    assert found.tolist() == wanted.tolist()


def test_images_that_are_not_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match="has diverged"):
        save_grid(torch.full((2, 1, 40, 40), torch.nan), tmp_path / "grid.png")


def test_low_precision_images_round_like_others():
    images = torch.linspace(-1, 1, 513).bfloat16()
    assert torch.equal(to_uint8(images), to_uint8(images.float()))


@pytest.mark.parametrize("option", [{"nrow": 0}, {"scale": 0}, {"scale": -1}])
def test_impossible_grids_are_refused_by_name(tmp_path, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        save_grid(torch.zeros(2, 1, 40, 40), tmp_path / "grid.png", **option)


def test_the_end_of_a_long_caption_is_seen(tmp_path):
    images = torch.zeros(2, 1, 40, 40)
    for name, caption in (("a", "a caption of words"), ("b", "a caption of worlds")):
        save_grid(images, tmp_path / f"{name}.png", captions=[caption, "x"])
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


# -- files ---------------------------------------------------------------------------------------------


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
    Image.new("I;16", (4, 4)).save(tmp_path / "deep.png")
    for name, message in (
        ("text.png", r"text.png cannot be read as an image .* remove it"),
        ("deep.png", r"deep.png has more than 8 bits a channel \(mode I;16\)"),
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
    enlarged, resized = [], functional.resize
    monkeypatch.setattr(
        functional,
        "resize",
        lambda images, size, **more: enlarged.append(math.prod(size)) or resized(images, size, **more),
    )
    for height, width in ((12, 20), (1, 2), (9, 5)):
        size = (width, height) if turn else (height, width)
        found = resize(picture.mT if turn else picture, Shape(size))
        assert found.shape == (1, *size)
        assert (found == 200).all()
    assert max(enlarged) <= 8 * 12 * 24


def test_colour_turns_gray_as_pillow_does_it():
    images = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    picture = Image.fromarray(images.permute(1, 2, 0).numpy())
    assert np.array_equal(resize(images, Shape(channels=1))[0].numpy(), np.asarray(picture.convert("L")))
    gray = images[:1].expand(3, -1, -1)
    assert torch.equal(resize(gray, Shape(channels=1)), gray[:1])


# -- PNG files in memory -------------------------------------------------------------------------------


@given(
    st.sampled_from([1, 3]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.dictionaries(
        st.text(st.characters(codec="latin-1", exclude_categories=["C"]), min_size=1, max_size=79).filter(
            lambda key: key == key.strip()
        ),
        st.text(st.characters(exclude_categories=["C"]), max_size=20),
        max_size=3,
    ),
)
def test_a_png_gives_back_pixels_and_texts(channels, height, width, texts):
    image = torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)
    pixels, metadata = decode_png(encode_png(image, texts))
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, image)
    assert metadata == texts


def test_a_file_and_its_bytes_are_the_same(tmp_path):
    image = torch.rand(3, 5, 7) * 2 - 1
    save_png(image, tmp_path / "image.png", {"seed": "7"})
    assert (tmp_path / "image.png").read_bytes() == encode_png(to_uint8(image), {"seed": "7"})


def test_a_png_is_not_made_of_numbers_that_are_no_bytes():
    with pytest.raises(ValueError, match=r"holds uint8, got torch\.float32.*to_uint8"):
        encode_png(torch.zeros(1, 4, 4))


@pytest.mark.parametrize("cut", [0, 10, 60, -40])
def test_half_a_png_is_refused(cut):
    data = encode_png(torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8))
    with pytest.raises(OSError, match=r"cannot identify|truncated|broken"):
        decode_png(data[:cut])
