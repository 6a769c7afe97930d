"""Selection: what each rule keeps, and a folder that loaders read as the images that were chosen."""

from __future__ import annotations

import csv

import pytest
import torch
from torchvision.datasets import ImageFolder

from snowmelt.errors import InputError
from snowmelt.evaluation import Features, TensorSource, open_images
from snowmelt.evaluation.answers.selection import LIST_NAME, SELECTIONS, select, write_selection
from snowmelt.evaluation.metrics import precision

VALUES = {"top_k": 12, "percentile": 30, "threshold": 1.6}


def drawn(count: int, seed: int, spread: float = 1.0, classes: int = 3) -> Features:
    generator = torch.Generator().manual_seed(seed)
    values = spread * torch.randn(count, 4, generator=generator)
    return Features(values, torch.randint(classes, (count,), generator=generator))


@pytest.fixture
def source() -> TensorSource:
    return TensorSource(torch.rand(40, 3, 6, 5) * 2 - 1, torch.arange(40) % 3, ["ant", "bee", "cat", "dog"])


def chosen(count: int, *kept: int):
    """A selection of some of `count` images, nearest first in the order given."""
    points = torch.full((count, 1), 100.0)
    points[list(kept), 0] = torch.arange(len(kept)).float()
    return select(Features(points), Features(torch.zeros(1, 1)), "top_k", len(kept), k=1)


# The rules


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("mode", SELECTIONS)
def test_the_nearest_are_kept_in_order(mode, k):
    generated, real = drawn(80, 1, spread=2.0), drawn(60, 2)
    result = select(generated, real, mode, VALUES[mode], k=k)
    distances = torch.cdist(generated.values, real.values).kthvalue(k).values
    torch.testing.assert_close(torch.tensor(result.distances), distances[result.indices])
    assert result.distances == sorted(result.distances)
    left_out = sorted(set(range(80)) - set(result.indices))
    assert 0 < len(result) < 80
    assert distances[left_out].min() >= max(result.distances)


def test_each_rule_keeps_as_many_as_it_says():
    generated, real = drawn(80, 1, spread=2.0), drawn(60, 2)
    distances = torch.cdist(generated.values, real.values).kthvalue(3).values
    assert len(select(generated, real, "top_k", 7)) == 7
    assert len(select(generated, real, "top_k", 1000)) == 80
    assert len(select(generated, real, "percentile", 25)) == 20
    assert len(select(generated, real, "percentile", 0.01)) == 1
    assert len(select(generated, real, "percentile", 100)) == 80
    assert len(select(generated, real, "threshold", 1.0)) == int((distances <= 1.0).sum())
    assert len(select(generated, real, "threshold", 0.0)) == 0


@pytest.mark.parametrize("mode", SELECTIONS)
def test_per_class_is_each_class_by_itself(mode):
    generated, real = drawn(80, 1), drawn(60, 2)
    together = select(generated, real, mode, VALUES[mode], per_class=True)
    for label in range(3):
        rows = (generated.labels == label).nonzero().flatten()
        alone = select(generated.of_class(label), real.of_class(label), mode, VALUES[mode])
        kept = [index for index in together.indices if generated.labels[index] == label]
        assert kept == rows[alone.indices].tolist()


def test_leaving_outliers_out_raises_precision():
    generated, real = drawn(200, 1, spread=1.8), drawn(200, 2)
    kept = Features(generated.values[select(generated, real, "percentile", 50).indices])
    assert precision(kept, real).value > precision(generated, real).value + 0.1


# The files


def test_a_labelled_folder_is_read_as_the_chosen_images(source, tmp_path):
    result = chosen(40, 31, 4, 0, 7, 8)
    write_selection(result, source, tmp_path / "kept")
    read = open_images(tmp_path / "kept")
    order = sorted(result.indices, key=lambda index: (int(source.labels[index]), index))
    assert torch.equal(torch.cat(list(read.batches(2))), source.images[order])
    assert read.labels.tolist() == source.labels[order].tolist()
    assert read.class_names == source.class_names  # dog has no image, and keeps its number
    assert len(ImageFolder(str(tmp_path / "kept"), allow_empty=True)) == 5


def test_a_folder_without_classes_is_flat(source, tmp_path):
    plain = TensorSource(source.images)
    write_selection(chosen(40, 31, 4), plain, tmp_path / "kept")
    read = open_images(tmp_path / "kept")
    assert torch.equal(torch.cat(list(read.batches(9))), source.images[[4, 31]])
    assert read.labels is None


def test_the_list_has_the_nearest_first(source, tmp_path):
    result = chosen(40, 31, 4, 0)
    write_selection(result, source, tmp_path / "kept")
    with (tmp_path / "kept" / LIST_NAME).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == [31, 4, 0]
    assert [float(row["distance"]) for row in rows] == result.distances
    assert [int(row["class"]) for row in rows] == [1, 1, 0]
    assert [row["file"] for row in rows] == [
        "bee/sample_0031.png",
        "bee/sample_0004.png",
        "ant/sample_0000.png",
    ]


def test_a_failed_write_leaves_nothing(source, tmp_path):
    class Broken(TensorSource):
        def batches(self, batch_size):
            yield self.images[:5]
            raise InputError("the disk went away")

    with pytest.raises(InputError, match="went away"):
        write_selection(chosen(40, 3, 30), Broken(source.images), tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused(source, tmp_path):
    (tmp_path / "kept").mkdir()
    write_selection(chosen(40, 3), source, tmp_path / "kept")  # an empty one is welcome
    with pytest.raises(InputError, match="is there already and not empty"):
        write_selection(chosen(40, 4), source, tmp_path / "kept")
    assert len(open_images(tmp_path / "kept")) == 1


def test_mistakes_are_named(source, tmp_path):
    few = Features(torch.randn(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="mode must be one of top_k, percentile, threshold"):
        select(drawn(9, 1), drawn(9, 2), "best", 1)
    for mode, value in (("top_k", 0), ("top_k", 2.5), ("percentile", 0), ("percentile", 101)):
        with pytest.raises(ValueError, match=mode):
            select(drawn(9, 1), drawn(9, 2), mode, value)
    for value in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="distance >= 0"):
            select(drawn(9, 1), drawn(9, 2), "threshold", value)
    with pytest.raises(ValueError, match="labels"):
        select(Features(torch.randn(9, 4)), drawn(9, 2), "top_k", 1, per_class=True)
    with pytest.raises(ValueError, match="too few for a 3-th neighbour"):
        select(drawn(9, 1), few, "top_k", 1, per_class=True)
    with pytest.raises(ValueError, match=r"of 9 images, and .* has 40"):
        write_selection(chosen(9, 1), source, tmp_path / "kept")
    with pytest.raises(ValueError, match="empty"):
        write_selection(select(drawn(40, 1), drawn(9, 2), "threshold", 0.0), source, tmp_path / "kept")
