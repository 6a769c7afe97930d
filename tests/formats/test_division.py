"""The division of images into parts: by class and content, kept in a file, the same for all that read it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snowmelt.data import DiffusionDataLoader
from snowmelt.errors import InputError
from snowmelt.formats import SPLIT_NAME, Division, Shares, TensorSource, open_images

EIGHTY = Shares(0.8, 0.1, 0.1)


def drawn(counts: list[int], seed: int = 0) -> TensorSource:
    """Images that all differ, in classes of these sizes."""
    images = torch.zeros(sum(counts), 1, 2, 4, dtype=torch.uint8)
    for index in range(len(images)):
        images[index].view(-1)[:2] = torch.tensor([index % 256, index // 256])
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return TensorSource(images, labels)


def parts_of(source: TensorSource, shares: Shares) -> list[str]:
    return list(Division.make(source, "x", shares).parts.values())


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, count in (("cat", 20), ("dog", 10)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(count):
            colour = (index * 9, 0 if name == "cat" else 255, 7)
            Image.new("RGB", (8, 8), colour).save(tmp_path / "data" / name / f"{index}.png")
    return tmp_path / "data"


@given(st.lists(st.integers(5, 60), min_size=1, max_size=5), st.integers(0, 5))
def test_each_class_and_the_whole_have_the_shares(counts, seed):
    source = drawn(counts)
    parts = parts_of(source, Shares(0.6, 0.2, 0.2, seed=seed))
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert abs(parts.count(part) - share * len(source)) <= 2
        for label, count in enumerate(counts):
            own = sum(
                each == part for each, it in zip(parts, source.labels.tolist(), strict=True) if it == label
            )
            assert abs(own - share * count) <= 2


@given(st.lists(st.integers(2, 4), min_size=8, max_size=20))
def test_small_classes_have_an_image_to_train_on_and_the_whole_keeps_its_shares(counts):
    source = drawn(counts)
    parts = parts_of(source, Shares(0.6, 0.2, 0.2))
    trained = {label for part, label in zip(parts, source.labels.tolist(), strict=True) if part == "train"}
    assert trained == set(range(len(counts)))
    for part, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        assert abs(parts.count(part) - share * len(source)) <= 2


def test_the_seed_alone_makes_another_division():
    source = drawn([50, 50])
    first, again, other = (parts_of(source, Shares(seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_neither_names_nor_order_nor_format_decide(folder, tmp_path):
    """Each image has its part wherever it lies."""

    def by_content(path: Path) -> dict[str, str]:
        source = open_images(path)
        return dict(zip(source.digests(), Division.make(source, path, EIGHTY).parts.values(), strict=True))

    first = by_content(folder)
    shutil.copytree(folder, tmp_path / "renamed")
    for number, path in enumerate(sorted((tmp_path / "renamed").rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"n{number}.png"))
    rows = [
        f"data/{p.relative_to(folder)},{p.parent.name}" for p in sorted(folder.rglob("*.png"), reverse=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["file,label", *rows]))
    assert first == by_content(tmp_path / "renamed") == by_content(tmp_path / "list.csv")
    assert Counter(first.values()) == {"train": 24, "val": 3, "test": 3}


def test_equal_images_come_into_one_part():
    source = drawn([90])
    source.images[10:40] = source.images[0]
    for seed in range(5):
        parts = parts_of(source, Shares(0.5, 0.25, 0.25, seed=seed))
        assert len(set(parts[10:40]) | {parts[0]}) == 1


def test_training_and_validation_take_their_parts_and_any_reader_takes_the_rest(folder, tmp_path):
    data = DiffusionDataLoader(folder, image_size=8, split=EIGHTY)
    path = tmp_path / "run" / SPLIT_NAME
    data.division.write(path)
    assert (data.num_train_images, sum(len(x) for x, _ in data.val_loader())) == (24, 3)
    found = {part: open_images(f"{path}:{part}") for part in ("train", "val", "test")}
    assert [len(source) for source in found.values()] == [24, 3, 3]
    items = [item for source in found.values() for item in source.digests()]
    assert sorted(items) == sorted(open_images(folder).digests())
    assert found["train"].labels.tolist() == data.labels.tolist()
    assert found["test"].class_names == ["cat", "dog"]
    assert (len(open_images(path)), found["test"].name) == (30, f"{path}:test")


def test_a_changed_folder_is_reported_and_the_division_stays(folder, tmp_path):
    path = tmp_path / SPLIT_NAME
    first = DiffusionDataLoader(folder, image_size=8, split=EIGHTY)
    first.division.write(path)
    before = dict(first.division.parts)
    Image.new("RGB", (8, 8), "pink").save(folder / "cat" / "new.png")
    gone = next(item for item, part in before.items() if part == "train")
    (folder / gone).unlink()
    with pytest.warns(UserWarning, match=rf"1 image came, .* \(cat/new.png\) and 1 image went \({gone}\)"):
        again = DiffusionDataLoader(folder, image_size=8, split=EIGHTY, split_file=path)
    assert again.division.parts == before
    assert again.num_train_images == 23
    with pytest.raises(InputError, match=r"split.json divides the images of this run otherwise"):
        DiffusionDataLoader(folder, image_size=8, split=Shares(0.7, 0.2, 0.1), split_file=path)


def test_an_image_has_the_part_of_its_contents_whatever_the_file_is_called(folder, tmp_path, recwarn):
    division = Division.make(open_images(folder), folder, EIGHTY)
    division.write(tmp_path / SPLIT_NAME)
    before = {part: open_images(f"{tmp_path / SPLIT_NAME}:{part}").digests() for part in ("train", "test")}
    trained, tested = (
        folder / next(item for item, own in division.parts.items() if own == part and "cat" in item)
        for part in ("train", "test")
    )
    contents = trained.read_bytes()
    trained.write_bytes(tested.read_bytes())
    tested.write_bytes(contents)
    after = {part: open_images(f"{tmp_path / SPLIT_NAME}:{part}").digests() for part in before}
    assert {part: sorted(own) for part, own in after.items()} == {p: sorted(own) for p, own in before.items()}
    assert not recwarn.list
    Image.new("RGB", (8, 8), "pink").save(tested)
    with pytest.warns(UserWarning, match=rf"1 image changed, which are in no part now \(cat/{tested.name}\)"):
        found = open_images(tmp_path / SPLIT_NAME)
    assert found.parts.count(None) == 1


def test_a_division_that_knows_names_alone_goes_by_them(folder, tmp_path):
    division = Division.make(open_images(folder), folder, EIGHTY)
    division.write(tmp_path / SPLIT_NAME)
    facts = json.loads((tmp_path / SPLIT_NAME).read_text())
    del facts["digests"]
    (tmp_path / SPLIT_NAME).write_text(json.dumps(facts))
    assert open_images(tmp_path / SPLIT_NAME).parts == list(division.parts.values())


def test_the_parts_of_a_folder_have_caches_of_their_own(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    data = DiffusionDataLoader(folder, image_size=8, split=EIGHTY, cache="disk")
    data.prepare()
    assert len(list((tmp_path / "user").rglob("*.npy"))) == 2


def test_data_sets_and_images_without_classes_are_divided_too(tmp_path):
    path = tmp_path / SPLIT_NAME
    for name, classes in (("digits", True), ("digits:test", False)):
        whole = open_images(name, classes=classes)
        data = DiffusionDataLoader(name, None, 8, 64, 1, classes=classes, split=EIGHTY)
        data.division.write(path)
        test = open_images(f"{path}:test")
        assert abs(len(test) - 0.1 * len(whole)) <= 1
        assert (test.labels is not None) == classes
        larger = DiffusionDataLoader(name, None, 16, 64, 3, classes=classes, split=EIGHTY)
        assert larger.division == data.division, "the size that a network wants changes no part"


@pytest.mark.parametrize(
    ("shares", "message"),
    [((0.8, 0.1, 0.2), "add up to 1; got train 0.8, val 0.1, test 0.2"), ((0.0, 0.5, 0.5), "train above 0")],
)
def test_shares_that_are_none_are_refused(shares, message):
    with pytest.raises(InputError, match=message):
        Shares(*shares)


def test_too_few_images_for_a_part_are_refused():
    with pytest.raises(InputError, match=r"2 images, too few for 0.1 of them for (val|test)"):
        Division.make(drawn([2]), "x", EIGHTY)


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"data": 3}', '{"data": "x", "classes": true, "shares": {"a": 1}, "images": {}}']
)
def test_a_division_that_cannot_be_read_is_named(text, tmp_path):
    (tmp_path / SPLIT_NAME).write_text(text)
    with pytest.raises(InputError, match=r"split\.json (cannot be read as a|is no) division"):
        open_images(f"{tmp_path / SPLIT_NAME}:train")


def test_the_file_says_for_each_image_where_it_belongs(folder, tmp_path):
    source = open_images(folder)
    Division.make(source, folder, EIGHTY).write(tmp_path / SPLIT_NAME)
    stated = json.loads((tmp_path / SPLIT_NAME).read_text())
    assert stated["data"] == str(folder)
    assert list(stated["images"]) == source.items()
    assert stated["shares"] == {"train": 0.8, "val": 0.1, "test": 0.1, "seed": 0}
