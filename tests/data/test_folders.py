"""What a folder holds: only images, each once, in classes that are numbered as people count."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from snowmelt.data import DiffusionDataLoader
from snowmelt.errors import InputError
from snowmelt.formats import open_images
from snowmelt.generation.labels import counts_to_balance

COUNT = 3


def put(path: Path, value: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value,) * 3).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes of three images each."""
    root = tmp_path / "data"
    for name in ("a", "b"):
        for index in range(COUNT):
            put(root / name / f"{index}.png")
    return root


def counted(folder: Path) -> dict[str, list[int]]:
    """Return the images of each class, as training, evaluation and balancing count them."""
    data = DiffusionDataLoader(folder, image_size=8)
    labels = torch.cat([labels for _, labels in data.train_loader(0)])
    trained = torch.bincount(labels, minlength=data.num_classes).tolist()
    source = open_images(folder)
    assert source.class_names == data.class_names
    assert sum(len(batch) for batch in source.batches(2)) == len(labels)
    evaluated = torch.bincount(source.labels, minlength=data.num_classes).tolist()
    return {name: [trained[i], evaluated[i]] for i, name in enumerate(data.class_names)}


SYSTEM = [
    ".ipynb_checkpoints",
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    ".Trash-1000",
    "__pycache__",
    "lost+found",
]


@pytest.mark.parametrize("name", SYSTEM)
@pytest.mark.parametrize("where", [".", "a", "a/deep"])
def test_what_systems_leave_behind_is_no_class_and_holds_no_image(folder, name, where):
    shutil.copytree(folder / "a", folder / where / name)
    assert counted(folder) == {"a": [COUNT] * 2, "b": [COUNT] * 2}


def test_hidden_files_are_no_images(folder):
    for path in (folder / "a" / "._0.png", folder / "a" / ".0.png", folder / "b" / "Thumbs.db"):
        path.write_bytes(b"\0\5\x16\7")
    assert counted(folder) == {"a": [COUNT] * 2, "b": [COUNT] * 2}


@pytest.mark.parametrize("target", [".", "..", "b", "../data"])
def test_a_link_back_into_the_data_multiplies_nothing(folder, target):
    (folder / "a" / "link").symlink_to((folder / target).resolve())
    with pytest.warns(UserWarning, match=r"left out 1 link that leads back into the data \(a/link\)"):
        assert counted(folder) == {"a": [COUNT] * 2, "b": [COUNT] * 2}


def test_a_link_that_goes_round_outside_is_followed_once(folder):
    put(folder.parent / "store" / "x.png")
    (folder.parent / "store" / "again").symlink_to(folder.parent / "store")
    (folder / "a" / "link").symlink_to(folder.parent / "store")
    with pytest.warns(UserWarning, match="1 link that leads back"):
        assert counted(folder)["a"] == [COUNT + 1] * 2


def test_classes_and_images_may_be_links(folder):
    shutil.move(folder / "a", folder.parent / "elsewhere")
    (folder / "a").symlink_to(folder.parent / "elsewhere")
    (folder / "b" / "x.png").symlink_to(folder.parent / "elsewhere" / "0.png")
    assert counted(folder) == {"a": [COUNT] * 2, "b": [COUNT + 1] * 2}


def test_links_into_a_hidden_folder_are_followed(folder):
    """So volumes of Kubernetes look: a hidden folder holds the data, and links show it."""
    (folder / "..data").mkdir()
    shutil.move(folder / "a", folder / "..data" / "a")
    (folder / "a").symlink_to(folder / "..data" / "a")
    assert counted(folder) == {"a": [COUNT] * 2, "b": [COUNT] * 2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: (d / "a" / "x.png").symlink_to(d / "no.png"), r"1 link that leads nowhere \(a/x.png\)"),
        (
            lambda d: (d / "a" / "x.heic").write_bytes(b"-"),
            r"1 picture in a format that is not read \(a/x.heic\)",
        ),
        (lambda d: put(d / "x.png"), r"1 image beside the class folders \(x.png\)"),
    ],
)
def test_what_is_left_out_is_said_once_and_named(folder, make, message):
    make(folder)
    with pytest.warns(UserWarning, match=message) as said:
        assert DiffusionDataLoader(folder, image_size=8).num_train_images == 2 * COUNT
    assert len(said) == 1


@pytest.mark.parametrize("suffix", ["gif", "avif", "jp2", "tga", "JFIF", "webp", "TIFF", "bmp"])
def test_images_of_every_format_count(folder, suffix):
    Image.new("RGB", (8, 8)).save(folder / "a" / f"x.{suffix}")
    assert counted(folder) == {"a": [COUNT + 1] * 2, "b": [COUNT] * 2}


# -- classes -------------------------------------------------------------------------------------------


def test_classes_are_numbered_as_people_count(tmp_path):
    names = ["1", "2", "9", "10", "class 2", "class 10"]
    for index, name in enumerate(names):
        put(tmp_path / name / "x.png", index)
    data = DiffusionDataLoader(tmp_path, image_size=8, batch_size=9, shuffle_train=False)
    images, labels = next(iter(data.train_loader(0)))
    assert data.class_names == names == open_images(tmp_path).class_names
    assert ((images[:, 0, 0, 0] + 1) * 127.5).round().tolist() == labels.tolist() == list(range(6))
    put(tmp_path / "10" / "y.png")
    counts, found = counts_to_balance(tmp_path, 6)
    assert (found, counts) == (names, {0: 1, 1: 1, 2: 1, 4: 1, 5: 1})


def test_an_empty_class_is_named_and_the_others_are_not(folder):
    (folder / "hollow").mkdir()
    with pytest.raises(
        InputError, match=r"has no images of hollow: put images into the folder, or remove it"
    ):
        DiffusionDataLoader(folder, image_size=8)


def test_a_model_without_classes_takes_flat_folders_and_any_others(folder, tmp_path):
    put(tmp_path / "flat" / "x.png")
    for train, val, images in ((folder, tmp_path / "flat", 6), (tmp_path / "flat", folder, 1)):
        data = DiffusionDataLoader(train, val, image_size=8, classes=False)
        assert (data.num_classes, data.class_names, data.num_train_images) == (0, [], images)
        assert sum(len(batch) for batch, _ in data.val_loader()) == 7 - images


def test_a_flat_folder_has_no_classes_and_its_overview_is_no_image(tmp_path):
    for name in ("10.png", "9.png", "generated_samples.png"):
        put(tmp_path / name, int(name[:-4]) if name[0] in "19" else 0)
    data = DiffusionDataLoader(tmp_path, image_size=8, shuffle_train=False)
    images, labels = next(iter(data.train_loader(0)))
    assert ((images[:, 0, 0, 0] + 1) * 127.5).round().tolist() == [9, 10]
    assert (data.num_classes, labels.tolist()) == (0, [0, 0])


def test_validation_has_the_classes_of_training_by_their_names(folder, tmp_path):
    put(tmp_path / "val" / "b" / "x.png")
    data = DiffusionDataLoader(folder, tmp_path / "val", image_size=8)
    assert [labels.tolist() for _, labels in data.val_loader()] == [[1]]
    put(tmp_path / "val" / "c" / "x.png")
    with pytest.raises(InputError, match=r"val has the classes c, which .* they must be some of a, b"):
        DiffusionDataLoader(folder, tmp_path / "val", image_size=8)
    put(tmp_path / "flat" / "x.png")
    with pytest.raises(InputError, match="flat has no class folders"):
        DiffusionDataLoader(folder, tmp_path / "flat", image_size=8)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(folder):
    (folder / "a").chmod(0)
    with pytest.raises(InputError, match=r"a cannot be read as a folder: Permission denied"):
        DiffusionDataLoader(folder, image_size=8)


# -- one way to open a picture -------------------------------------------------------------------------


@pytest.mark.parametrize("background", ["white", "#204060"])
def test_training_evaluation_and_editing_see_the_same_pixels(tmp_path, background):
    from snowmelt.editing.pictures import read_images

    picture = Image.effect_noise((20, 12), 90).convert("RGB")
    picture.putalpha(Image.linear_gradient("L").resize((20, 12)))
    exif = Image.Exif()
    exif[0x112] = 6
    (tmp_path / "all").mkdir()
    picture.save(tmp_path / "all" / "x.png", exif=exif)
    for size in ((8, 8), (8, 4), (4, 8), (20, 12), (12, 20)):
        data = DiffusionDataLoader(tmp_path, image_size=size, background=background)
        trained, _ = next(iter(data.train_loader(0)))
        source = open_images(tmp_path, image_size=size, channels=3, background=background)
        evaluated = next(source.batches(1)).float() / 127.5 - 1
        edited = read_images([tmp_path / "all" / "x.png"], (3, *size), fit=True, background=background)
        assert torch.equal(trained, evaluated)
        assert torch.equal(trained, edited)


def test_palettes_with_transparency_are_read_without_a_word(folder, recwarn):
    picture = Image.effect_noise((8, 8), 90).convert("P")
    picture.save(folder / "a" / "p.png", transparency=bytes(range(256)))
    counted(folder)
    assert [str(each.message) for each in recwarn] == []
