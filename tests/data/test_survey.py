"""What `snowmelt data` says of drawn images."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from snowmelt.cli import app

COUNTS = {"cat": 60, "dog": 8}


def draw(folder: Path, counts: dict[str, int], seed: int, side: int = 8, channels: int = 3) -> Path:
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (side, side, channels), dtype=np.uint8)
            Image.fromarray(np.repeat(pixels, 3 // channels, axis=2)).save(folder / name / f"{i}.png")
    return folder


def data(*words: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["data", *map(str, words)])
    assert result.exit_code == exit_code, (result.output, result.exception)
    return result.output


@pytest.fixture
def train(tmp_path):
    return draw(tmp_path / "train", COUNTS, seed=0)


def test_images_of_each_class_are_counted_in_every_part_and_an_epoch(train, tmp_path):
    val = draw(tmp_path / "val", {"cat": 3, "dog": 2}, seed=1)
    words = [f"data.paths.val={val}", "data.balance.sampling=up", "--json", "--out", tmp_path / "seen.png"]
    found = json.loads(data(train, *words))
    assert found["images"] == {"train": COUNTS, "val": {"cat": 3, "dog": 2}, "epoch": {"cat": 60, "dog": 60}}
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.width > 8 * 8


def test_the_values_are_those_that_the_network_sees(train, tmp_path):
    values = json.loads(data(train, "--json", "--out", tmp_path / "seen.png"))["values"]
    pixels = [np.asarray(Image.open(path)) / 127.5 - 1 for path in train.glob("*/*.png")]
    for channel, found in enumerate(values):
        own = np.stack(pixels)[..., channel]
        expected = {
            "least": own.min(),
            "mean": own.mean(),
            "deviation": own.std(ddof=1),
            "largest": own.max(),
        }
        assert found == pytest.approx(expected, abs=1e-5)


def test_what_is_wrong_with_the_images_is_said(train, tmp_path):
    val = draw(tmp_path / "val", {"cat": 1, "dog": 1}, seed=1)
    (val / "dog" / "leak.png").write_bytes((train / "cat" / "7.png").read_bytes())
    (train / "dog" / "again.bmp").write_bytes(b"")
    Image.open(train / "dog" / "1.png").save(train / "dog" / "again.bmp")
    words = [f"data.paths.val={val}", "model.architecture.image_size=9", "--out", tmp_path / "seen.png"]
    said = data(train, *words)
    for sentence in (
        "Fewer than 50 images of a class (dog 9)",
        "cat has 60 images and dog 9",
        "Training images that are copies of others: 1 (dog/again.bmp = dog/1.png)",
        "Images of val that are images of train too: 1 (",
        "69 of 69 images that were opened are smaller than 9 x 9 (such as 8 x 8)",
    ):
        assert sentence in said, sentence


@pytest.mark.parametrize("by", ["list", "split"])
def test_copies_are_named_in_all_parts(by, tmp_path):
    """The test images are those of training, as other files."""
    random, rows = np.random.default_rng(0), ["file,split"]
    for i in range(60):
        picture = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        for part, suffix in (("train", "png"), ("test", "bmp")):
            picture.save(tmp_path / f"{i}.{suffix}")
            rows.append(f"{i}.{suffix},{part}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    where = {"list": ["list.csv:train"], "split": [".", "data.split.train=0.5", "data.split.test=0.5"]}[by]
    found = json.loads(data(tmp_path / where[0], *where[1:], "--json"))
    assert {part: sum(counts.values()) for part, counts in found["images"].items()} == {
        "train": 60,
        "test": 60,
        "epoch": 60,
    }
    (said,) = [warning for warning in found["warnings"] if warning.startswith("Images of test")]
    number = int(re.search(r"images of train too: (\d+) \(", said)[1])
    assert number == 60 if by == "list" else 10 < number < 50


def test_no_picture_is_written_unasked_and_another_suffix_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = draw(tmp_path / "few", {".": 20}, seed=0)
    said = data(folder)
    assert "add --out seen.png" in said
    assert "Fewer than 50 images (20) are learned by heart" in said
    assert [path.name for path in tmp_path.iterdir()] == ["few"]
    assert "--out is a file *.png here" in data("nowhere", "--out", "seen.jpg", exit_code=2)


def test_nothing_is_said_of_images_without_faults(tmp_path):
    folder = draw(tmp_path / "good", {"a": 50, "b": 55}, seed=0)
    assert json.loads(data(folder, "--json", "--out", tmp_path / "seen.png"))["warnings"] == []


def test_gray_images_in_colour_are_named(tmp_path):
    folder = draw(tmp_path / "gray", {"a": 50, "b": 55}, seed=0, channels=1)
    words = ["model.architecture.in_channels=3", "--json", "--out", tmp_path / "seen.png"]
    (warning,) = json.loads(data(folder, *words))["warnings"]
    assert warning.startswith("All images are gray")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["data.balance.sampling=up", "data.loading.shuffle_train=false"],
            "set data.loading.shuffle_train to true",
        ),
        (["data.balance.sampling=up", "model.conditioning.type=none"], "has no classes"),
        (["data.balance.sampling=over"], "'none', 'inverse', 'effective', 'up' or 'down'"),
    ],
)
def test_a_balance_that_cannot_be_is_refused(train, words, expected):
    assert expected in data(train, *words, exit_code=2)
