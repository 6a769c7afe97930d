"""What lies in files is read as it is, in every layout, and its hash says what the images are."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.formats import GRID_NAME, WRITERS, TensorSource, open_images, write_labels

COUNT = 7


def make_images(channels: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (COUNT, channels, 6, 5), dtype=torch.uint8, generator=generator)


def written(name: str, folder: Path, images: Tensor) -> Path:
    labels = [index % 3 for index in range(COUNT)]
    writer = WRITERS[name](folder, range(COUNT), labels, shard_size=COUNT, class_names=["a", "b", "c"])
    writer.write(0, images)
    writer.finish()
    write_labels(writer)
    return folder


def images_of(source) -> Tensor:
    return torch.cat(list(source.batches(2)))


# Every layout


@pytest.mark.parametrize("name", [*WRITERS, "digits:test"])
def test_some_images_are_taken_in_the_order_asked_for(name, tmp_path):
    source = open_images(written(name, tmp_path, make_images()) if name in WRITERS else name)
    images = images_of(source)
    for indices in ([6, 0, 0, 5, 2], [3], range(1, 4)):
        assert torch.equal(source.take(indices), images[list(indices)])
    with pytest.raises(IndexError):
        source.take([0, len(source)])


@pytest.mark.parametrize("name", WRITERS)
def test_images_that_are_not_asked_for_are_not_decoded(name, tmp_path, monkeypatch):
    """A picture of 400 images must not cost the reading of 50,000."""
    source = open_images(written(name, tmp_path, make_images()))
    decoded, opened = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *rest, **more: decoded.append(rest) or opened(*rest, **more))
    source.take([0, 4])
    assert len(decoded) == (0 if name == "npz" else 2)


def test_a_coloured_first_image_makes_all_that_are_taken_coloured(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 9).save(tmp_path / "b.png")
    source = open_images(tmp_path)
    assert images_of(source)[1].unique().tolist() == [9]
    assert source.take([1]).shape == (1, 3, 4, 4)


def test_a_generated_folder_is_read_by_its_list(tmp_path):
    """The overview picture is no sample, and image 10,000 comes after image 9,999."""
    written("png", tmp_path, make_images(1))
    (tmp_path / "sample_0001.png").rename(tmp_path / "sample_10000.png")
    names = [f"sample_{'10000' if i == 1 else f'000{i}'}.png" for i in (0, 2, 3, 4, 5, 6, 1)]
    (tmp_path / "labels.csv").write_text(
        "file,class,seed\n" + "".join(f"{name},{i % 3},{i}\n" for i, name in enumerate(names))
    )
    Image.new("L", (50, 50)).save(tmp_path / GRID_NAME)
    source = open_images(tmp_path)
    assert [path.name for path in source.paths] == names
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_a_list_with_names_says_which_class_a_number_is(tmp_path):
    writer = WRITERS["png"](tmp_path, range(3), [2, 0, 2], shard_size=3, class_names=["0", "1", "2"])
    writer.write(0, make_images(1)[:3])
    writer.finish()
    for names, found in ((["ant", "bee", "c, d"], ["ant", "class 1", "c, d"]), (None, None)):
        write_labels(writer, names)
        source = open_images(tmp_path)
        assert (source.labels.tolist(), source.class_names) == ([2, 0, 2], found)


def test_data_sets_are_opened_by_name():
    source = open_images("digits:test")
    assert (len(source), source.name) == (360, "digits:test")
    assert source.class_names == [str(digit) for digit in range(10)]
    assert open_images("digits:test", image_size=16, channels=3).images.shape == (360, 3, 16, 16)


def test_class_folders_keep_the_number_of_an_empty_one(tmp_path):
    for name in ("ant", "bee", "cat"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "cat" / "x.png")
    source = open_images(tmp_path)
    assert source.class_names == ["ant", "bee", "cat"]
    assert source.labels.tolist() == [2]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("lay", [np.ascontiguousarray, np.asfortranarray])
def test_arrays_are_read_however_numpy_stored_them(save: Callable, lay: Callable, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
    save(tmp_path / "x.npz", arr_0=lay(pixels), labels=np.arange(9, dtype=np.uint8))
    source = open_images(tmp_path / "x.npz")
    expected = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    assert torch.equal(images_of(source), expected)
    assert torch.equal(source.take([8, 2]), expected[[8, 2]])
    assert source.labels.tolist() == list(range(9))
    assert source.content_hash() == TensorSource(expected).content_hash()


def test_files_of_one_name_are_one_sample_of_a_tar(tmp_path):
    data = io.BytesIO()
    Image.new("L", (4, 4), 7).save(data, "png")
    entries = {"a/1.seg.png": data.getvalue(), "a/1.cls": b"2", "a/1.txt": b"-", "b/1.cls": b"0"}
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in {**entries, "b/1.JPG": data.getvalue()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    source = open_images(tmp_path)
    assert (len(source), source.labels.tolist()) == (2, [2, 0])
    assert images_of(source).unique().tolist() == [7]


# Shapes


def test_images_are_resized_and_turned_gray_as_asked(tmp_path):
    Image.new("RGB", (20, 12), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("L", (9, 9), 77).save(tmp_path / "b.jpg")
    source = open_images(tmp_path, image_size=8, channels=1)
    images = images_of(source)
    assert images.shape == (2, 1, 8, 8)
    assert images[0].unique().tolist() == [76]  # the luma of red, 0.299 * 255
    assert images[1].unique().tolist() == [77]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: Image.new("L", (5, 4)).save(folder / "b.png"), "5x4 pixels, but .*a.png is 4x4"),
        (lambda folder: Image.new("RGB", (4, 4)).save(folder / "b.png"), "in colour, but .*a.png is gray"),
        (lambda folder: Image.new("F", (4, 4)).save(folder / "b.tif"), "more than 16 bits"),
        (lambda folder: (folder / "b.png").write_bytes(b"no picture"), "b.png cannot be read as an image"),
        (
            lambda folder: (folder / "labels.csv").write_text("name\na.png\n"),
            "columns name, and needs one of file",
        ),
        (lambda folder: (folder / "labels.csv").write_text("file,class\nz.png,0\n"), "lists z.png"),
        (lambda folder: (folder / "labels.csv").write_text("file,class\n"), "holds no images"),
        (
            lambda folder: (folder / "labels.csv").write_text(f"file,class,class_name\na.png,{10**9},x\n"),
            "line 2 has the label 1000000000",
        ),
        (lambda folder: (folder / "labels.csv").write_text("file,class\na.png,0\na.png,\n"), "1 of 2 images"),
    ],
)
def test_what_cannot_be_read_is_named(make, message, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    make(tmp_path)
    with pytest.raises(InputError, match=message):
        images_of(open_images(tmp_path))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 3), np.uint8)}, "arr_0"),
        ({"arr_0": np.zeros((2, 4, 4, 3))}, "float64"),
        ({"arr_0": np.zeros((2, 3, 4, 5), np.uint8)}, "1, 3 or 4"),
        ({"arr_0": np.zeros((0, 4, 4, 3), np.uint8)}, "holds no images"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(3, int)}, "2 integers"),
        ({"arr_0": np.array([None, 1])}, "object"),
    ],
)
def test_arrays_that_are_no_images_are_named(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        open_images(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["nothing", "text.txt", ""])
def test_where_there_are_no_images_the_message_says_so(name, tmp_path):
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(InputError, match=r"neither a file nor a folder|no images in a known layout"):
        open_images(tmp_path / name)


# The hash


@pytest.mark.parametrize("name", WRITERS)
def test_the_hash_is_of_the_images_not_of_the_place(name, tmp_path):
    images, others = make_images(), make_images(seed=1)
    one, same, other = (
        open_images(written(name, tmp_path / place, each)).content_hash()
        for place, each in (("one", images), ("same", images), ("other", others))
    )
    assert one == same != other
    assert open_images(tmp_path / "one", image_size=4).content_hash() != one


# Images in memory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(0, 1, 4, 4),), "N >= 1"),
        ((torch.zeros(2, 4, 4),), "N, 1, 3 or 4, H, W"),
        ((torch.zeros(2, 1, 4, 4, dtype=torch.int64),), "uint8, or floating"),
        ((torch.zeros(2, 1, 4, 4), [0]), "2 integers"),
        ((torch.zeros(2, 1, 4, 4), [0.5, 1.0]), "integers"),
    ],
)
def test_tensors_that_are_no_images_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TensorSource(*arguments)
