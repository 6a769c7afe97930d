"""Pixels go out as they are, and pictures hold the images where they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snowmelt.images import (
    decode_png,
    encode_png,
    film_strip,
    from_uint8,
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


@pytest.mark.parametrize("shape", [(2, 4, 4), (5, 4, 4), (4, 4), (1, 1, 4, 4)])
def test_other_shapes_are_refused_and_nothing_is_written(tmp_path, shape):
    with pytest.raises(ValueError, match=r"\(1, 3 or 4, H, W\), got"):
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
    with pytest.raises(ValueError, match=r"\(N, 1, 3 or 4, H, W\), got"):
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
