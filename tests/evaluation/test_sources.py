"""What is read is what was written, in every layout, and its hash says what the images are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from snowmelt import EMA, DiffusionSampler, create_ddpm
from snowmelt.errors import InputError
from snowmelt.evaluation import SampledSource, TensorSource, numbered_as, open_images
from snowmelt.evaluation.kept import kept
from snowmelt.formats import WRITERS, Sample, write_grid, write_labels
from snowmelt.images import to_uint8

COUNT = 7


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


def make_samples(channels: int = 3, classes: int | None = 3, seed: int = 0) -> list[Sample]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (COUNT, channels, 6, 5), dtype=torch.uint8, generator=generator)
    return [Sample(i, pixels[i], i % classes if classes else None, i) for i in range(COUNT)]


def written(name: str, folder: Path, samples: list[Sample], classes: int | None = 3) -> Path:
    writer = WRITERS[name](folder, num_samples=COUNT, shard_size=3, num_classes=classes)
    for shard in range(writer.shards):
        writer.write(shard, [samples[i] for i in writer.indices(shard)])
    writer.finish()
    return folder


def images_of(source) -> Tensor:
    return torch.cat(list(source.batches(2)))


# Every layout


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", WRITERS)
def test_what_a_writer_wrote_is_read(name, channels, tmp_path):
    samples = make_samples(channels)
    source = open_images(written(name, tmp_path / "images", samples))
    if name == "class_folders":
        samples = sorted(samples, key=lambda sample: sample.class_label)
    assert len(source) == COUNT
    assert torch.equal(images_of(source), torch.stack([sample.image for sample in samples]))
    expected = [sample.class_label for sample in samples]
    if name == "png":  # the format itself has no classes: they are in the job's list
        assert source.labels is None
    else:
        assert source.labels.tolist() == expected


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "class_folders"])
def test_images_without_classes_have_no_labels(name, tmp_path):
    source = open_images(written(name, tmp_path, make_samples(classes=None), classes=None))
    assert source.labels is None
    assert len(images_of(source)) == COUNT


def test_a_generated_folder_is_read_by_its_list(tmp_path):
    """The overview picture is no sample, and image 10,000 comes after image 9,999."""
    samples = make_samples(1)
    written("png", tmp_path, samples)
    (tmp_path / "sample_0001.png").rename(tmp_path / "sample_10000.png")
    names = [f"sample_{'10000' if i == 1 else f'000{i}'}.png" for i in (0, 2, 3, 4, 5, 6, 1)]
    (tmp_path / "labels.csv").write_text(
        "file,class,seed\n" + "".join(f"{name},{i % 3},{i}\n" for i, name in enumerate(names))
    )
    write_grid(samples, tmp_path, nrow=2)
    source = open_images(tmp_path)
    assert [path.name for path in source.paths] == names
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]


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


def test_the_labels_that_a_job_lists_are_read(tmp_path):
    samples = make_samples()
    writer = WRITERS["png"](written("png", tmp_path, samples), num_samples=COUNT, shard_size=3, num_classes=3)
    labels = [sample.class_label for sample in samples]
    write_labels(writer, labels, range(COUNT))
    assert open_images(tmp_path).labels.tolist() == labels


# Shapes


def test_images_are_resized_and_turned_gray_as_asked(tmp_path):
    Image.new("RGB", (20, 12), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("L", (9, 9), 77).save(tmp_path / "b.jpg")
    source = open_images(tmp_path, image_size=8, channels=1)
    images = images_of(source)
    assert images.shape == (2, 1, 8, 8)
    assert images[0].unique().tolist() == [76]  # the luma of red, 0.299 * 255
    assert images[1].unique().tolist() == [77]


def test_gray_images_among_coloured_ones_become_coloured(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 9).save(tmp_path / "b.png")
    assert images_of(open_images(tmp_path))[1].unique().tolist() == [9]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: Image.new("L", (5, 4)).save(folder / "b.png"), "5x4 pixels, but .*a.png is 4x4"),
        (lambda folder: Image.new("RGB", (4, 4)).save(folder / "b.png"), "in colour, but .*a.png is gray"),
        (lambda folder: Image.new("I;16", (4, 4)).save(folder / "b.png"), "more than 8 bits"),
        (lambda folder: (folder / "b.png").write_bytes(b"no picture"), "b.png cannot be read as an image"),
        (lambda folder: (folder / "labels.csv").write_text("name\na.png\n"), "columns file and class"),
        (lambda folder: (folder / "labels.csv").write_text("file,class\nz.png,0\n"), "lists z.png"),
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
        ({"arr_0": np.zeros((2, 3, 4, 4), np.uint8)}, "1 or 3"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(3, int)}, "2 integers"),
        ({"arr_0": np.array([None, 1])}, "allow_pickle"),
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


def test_the_hash_is_of_the_images_not_of_the_place(tmp_path):
    samples, others = make_samples(), make_samples(seed=1)
    one, same, other = (
        open_images(written("npz", tmp_path / name, each))
        for name, each in (("one", samples), ("same", samples), ("other", others))
    )
    assert one.content_hash() == same.content_hash() != other.content_hash()
    folders = [written("class_folders", tmp_path / f"folder {i}", samples) for i in range(2)]
    assert len({open_images(folder).content_hash() for folder in folders}) == 1
    assert open_images(folders[0], image_size=4).content_hash() != open_images(folders[0]).content_hash()
    next(folders[1].rglob("*.png")).write_bytes(next(folders[1].rglob("*_0001.png")).read_bytes())
    assert len({open_images(folder).content_hash() for folder in folders}) == 2


# Images that are made when they are asked for


def make_sampler(seed: int = 0, ema: bool = False, **options) -> DiffusionSampler:
    torch.manual_seed(seed)
    model = create_ddpm(8, 1, 8, (1, 2), num_classes=3, norm_groups=4, layers_per_block=1)
    average = EMA(model) if ema else None
    if average is not None:
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
    return DiffusionSampler(model, ema=average, **{"solver": "ddim", "steps": 2, **options})


def test_sampled_images_are_those_of_the_sampler():
    sampler = make_sampler()
    source = SampledSource(sampler, range(5), [0, 1, 2, 0, 1], guidance_scale=2.0)
    expected = to_uint8(sampler.sample(5, [0, 1, 2, 0, 1], 2.0, seeds=range(5)))
    for size in (2, 3, 5, 64):
        batches = list(source.batches(size))
        assert all(len(batch) == size for batch in batches[:-1])
        assert torch.equal(torch.cat(batches), expected)


def test_the_hash_of_sampled_images_is_of_all_that_they_depend_on():
    def hashed(sampler, seeds=(0, 1), labels=(0, 1), **options) -> str:
        return SampledSource(sampler, list(seeds), list(labels), **options).content_hash()

    known = hashed(make_sampler())
    assert hashed(make_sampler()) == known
    weak = make_sampler(5).model
    different = [
        hashed(make_sampler(1)),
        hashed(make_sampler(steps=3)),
        hashed(make_sampler(threshold=None)),
        hashed(make_sampler(guidance="apg")),
        hashed(make_sampler(guidance={"type": "autoguidance", "weak": weak})),
        hashed(make_sampler(), seeds=(0, 2)),
        hashed(make_sampler(), labels=(0, 2)),
        hashed(make_sampler(), guidance_scale=2.0),
        hashed(make_sampler(ema=True), use_ema=False),
    ]
    assert len({known, *different}) == 1 + len(different)
    assert hashed(make_sampler(ema=True)) == known  # its average is that of the same weights


def test_images_are_kept_and_found_again(tmp_path):
    source = SampledSource(make_sampler(), range(5))
    made = images_of(source)
    for cache in (None, tmp_path):
        found = kept(source, cache, batch_size=2)
        assert torch.equal(images_of(found), made)
        assert (found.name, len(found)) == (source.name, 5)
    source.batches = lambda size: pytest.fail("the images were made again")
    assert torch.equal(images_of(kept(source, tmp_path)), made)


# Classes


def test_classes_are_numbered_by_their_names():
    pixels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    some = TensorSource(pixels, [0, 1, 1], ["bee", "dog"])
    found = numbered_as(some, ["ant", "bee", "cat"])
    assert found.labels.tolist() == [1, 3, 3]
    assert found.class_names == ["ant", "bee", "cat", "dog"]
    assert (len(found), found.name, found.content_hash()) == (3, some.name, some.content_hash())
    for names in (None, ["bee", "dog"], ["x", "y"]):
        assert numbered_as(some, names) is some
    without = TensorSource(pixels, [0, 1, 1])
    assert numbered_as(without, ["a", "b"]) is without


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(0, 1, 4, 4),), "N >= 1"),
        ((torch.zeros(2, 4, 4),), "N, 1 or 3, H, W"),
        ((torch.zeros(2, 1, 4, 4, dtype=torch.int64),), "uint8, or floating"),
        ((torch.zeros(2, 1, 4, 4), [0]), "2 integers"),
        ((torch.zeros(2, 1, 4, 4), [0.5, 1.0]), "integers"),
    ],
)
def test_tensors_that_are_no_images_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TensorSource(*arguments)


def test_a_source_of_samples_needs_weights_to_know_them_by():
    with pytest.raises(ValueError, match="seeds is empty"):
        SampledSource(make_sampler(), [])
    weak = lambda x_t, level, class_labels=None: x_t  # noqa: E731
    with pytest.raises(ValueError, match="by the weights"):
        SampledSource(make_sampler(guidance={"type": "autoguidance", "weak": weak}), [0])
