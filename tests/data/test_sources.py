"""Where images come from: folders, the embedded digits, and names that torchvision knows."""

from __future__ import annotations

import hashlib
import pickle
import struct
import urllib.request
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from snowmelt.data import DATASETS, DiffusionDataLoader, load_digits_split
from snowmelt.errors import InputError

ONLINE = sorted(DATASETS.keys() - {"digits"})


def everything(source, image_size: int, in_channels: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of a source, in its order."""
    data = DiffusionDataLoader(source, None, image_size, 10_000, in_channels, shuffle_train=False)
    return next(iter(data.train_loader(0)))


# -- folders -------------------------------------------------------------------------------------------


def put(path, colour="white", size=(8, 8), mode="RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_classes_are_the_folders_in_sorted_order(tmp_path):
    for name in ("b", "c", "a"):
        put(tmp_path / name / "image.png")
    data = DiffusionDataLoader(tmp_path, image_size=8)
    assert data.class_names == ["a", "b", "c"]
    assert (data.num_classes, data.num_train_images) == (3, 3)


def test_pixels_arrive_as_they_were_stored(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)]
    for index, colour in enumerate(colours):
        put(tmp_path / "all" / f"{index}.png", colour)
    images, _ = everything(tmp_path, 8)
    wanted = torch.tensor(colours) / 127.5 - 1
    torch.testing.assert_close(images, wanted[:, :, None, None].expand_as(images))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_images_of_any_mode_become_colour(tmp_path, mode):
    put(tmp_path / "all" / "image.png", "white", mode=mode)
    images, _ = everything(tmp_path, 8)
    assert images.shape == (1, 3, 8, 8)
    assert images.min() == 1


def test_the_middle_is_cut_out(tmp_path):
    put(tmp_path / "all" / "wide.png", "black", size=(48, 16))
    with Image.open(tmp_path / "all" / "wide.png") as picture:
        picture.paste("white", (16, 0, 32, 16))
        picture.save(tmp_path / "all" / "wide.png")
    images, _ = everything(tmp_path, 16)
    assert images.min() == 1


def test_shrinking_averages_instead_of_picking_pixels(tmp_path):
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, 3::8] = stripes[:, 4::8] = 255  # a quarter of the pixels, all near those that would be picked
    (tmp_path / "all").mkdir()
    Image.fromarray(stripes).save(tmp_path / "all" / "stripes.png")
    images, _ = everything(tmp_path, 8)
    assert abs(images.mean() - (-0.5)) < 0.1


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere is neither a file nor a folder, nor one of .*digits"):
        DiffusionDataLoader(tmp_path / "nowhere")


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "hollow").mkdir()
    with pytest.raises(InputError, match=rf"{tmp_path.name} holds no images in a known layout"):
        DiffusionDataLoader(tmp_path)


def truncated(path) -> None:
    put(path, size=(64, 64))
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_text("no image"), truncated, lambda path: path.touch()]
)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_broken_file_is_named_when_it_is_read(tmp_path, spoil, suffix):
    put(tmp_path / "cat" / "good.png")
    spoil(tmp_path / "cat" / f"spoilt.{suffix}")
    loader = DiffusionDataLoader(tmp_path, image_size=8).train_loader(0)
    with pytest.raises(InputError, match=rf"spoilt\.{suffix} cannot be read as an image .* remove it"):
        list(loader)


def test_a_folder_goes_before_a_name(tmp_path, monkeypatch):
    put(tmp_path / "digits" / "mine" / "image.png")
    monkeypatch.chdir(tmp_path)
    assert DiffusionDataLoader("digits").class_names == ["mine"]


# -- digits --------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns():
    pixels, labels = load_digits(return_X_y=True)
    images, class_labels = everything("digits", 8, 1)
    torch.testing.assert_close((images.flatten(1) + 1) * 8, torch.from_numpy(pixels).float())
    assert class_labels.tolist() == labels.tolist()


def test_digits_are_parted_without_loss_or_overlap():
    def ones(split):
        images, labels = load_digits_split(split)
        return sorted((int(label), image.tobytes()) for image, label in zip(images, labels, strict=True))

    assert sorted(ones("train") + ones("test")) == ones(None)
    assert len(set(ones(None))) == 1797, "so that equal images could not hide an overlap"


def test_a_fifth_of_each_class_is_held_out_always_the_same():
    images, labels = load_digits_split("test")
    _, all_labels = load_digits_split()
    assert (np.abs(np.bincount(labels) - np.bincount(all_labels) / 5) <= 1).all()
    np.testing.assert_array_equal(images, load_digits_split("test")[0])


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_part_by_name_is_that_part(split):
    images, labels = everything(f"digits:{split}", 8, 1)
    np.testing.assert_array_equal(images.flatten(1).numpy(), load_digits_split(split)[0])
    np.testing.assert_array_equal(labels.numpy(), load_digits_split(split)[1])


def test_digits_come_in_any_size_and_in_colour():
    images, _ = everything("digits:test", 16, 3)
    assert images.shape == (360, 3, 16, 16)
    assert images.abs().max() <= 1
    assert torch.equal(images[:, 0], images[:, 2])


# -- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_part_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=f"{name}:train and {name}:test, not {name}:val"):
        DiffusionDataLoader(f"{name}:val", image_size=8, in_channels=1)


@pytest.mark.parametrize("name", ONLINE)
def test_without_a_network_it_says_where_files_may_be_put(name, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("SNOWMELT_DATA", str(tmp_path / "sets"))
    with pytest.raises(InputError, match=rf"(?s){name} is not in .*sets .*no network.*put"):
        DiffusionDataLoader(name, image_size=8)


def write_mnist(folder, prefix: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write MNIST's format: big-endian magic number and sizes, then bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIII", 0x803, *images.shape)
    (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = struct.pack(">II", 0x801, len(labels))
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_sets_on_the_disk_are_read_by_part(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SNOWMELT_DATA", str(tmp_path))
    generator = np.random.default_rng(0)
    stored = {
        split: (
            generator.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            generator.integers(0, 10, count, dtype=np.uint8),
        )
        for split, count in (("train", 5), ("t10k", 3))
    }
    for prefix, arrays in stored.items():
        write_mnist(tmp_path / name / "raw", prefix, *arrays)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = everything(f"{name}:{split}", 28, 3)
        pixels, wanted = stored[prefix]
        torch.testing.assert_close(images[:, 0], torch.from_numpy(pixels) / 127.5 - 1)
        assert labels.tolist() == wanted.tolist()


def test_cifar10_is_read_by_part_with_its_colours_and_names(tmp_path, monkeypatch):
    """Its files hold a row an image: the red plane, the green one, the blue one (as its web page says)."""
    monkeypatch.setenv("SNOWMELT_DATA", str(tmp_path))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    generator, stored = np.random.default_rng(0), {}

    def put(name: str, content: object) -> str:
        path = tmp_path / CIFAR10.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return hashlib.md5(path.read_bytes()).hexdigest()

    for part, count in (("train", 5), ("test", 3)):
        rows = generator.integers(0, 256, (count, 3 * 32 * 32), dtype=np.uint8)
        labels = generator.integers(0, 10, count).tolist()
        stored[part] = rows, labels
        digest = put(part, {"data": rows, "labels": labels})
        monkeypatch.setattr(CIFAR10, f"{part}_list", [[part, digest]])
    digest = put("meta", {"label_names": names})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": digest})

    for part, (rows, wanted) in stored.items():
        images, labels = everything(f"CIFAR10:{part}", 32)
        torch.testing.assert_close(images.flatten(1), torch.from_numpy(rows) / 127.5 - 1)
        assert labels.tolist() == wanted
    whole = DiffusionDataLoader("CIFAR10", image_size=32)
    assert (whole.num_train_images, whole.class_names) == (8, names)
