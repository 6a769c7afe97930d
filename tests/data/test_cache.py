"""Decoded once: where images are kept, when they are decoded anew, and that nobody sees a difference."""

from __future__ import annotations

import os
import shutil
import threading
from collections import namedtuple

import psutil
import pytest
import torch
from PIL import Image

from snowmelt.data import DiffusionDataLoader
from snowmelt.data import cache as caching
from snowmelt.errors import InputError


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(3):
            Image.effect_noise((12, 10), 90).convert("RGB").save(tmp_path / "data" / name / f"{index}.png")
    return tmp_path / "data"


@pytest.fixture
def opened(monkeypatch) -> list[object]:
    """What Pillow opens."""
    seen, read = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *args: seen.append(args[0]) or read(*args))
    return seen


def load(folder, cache: str, **options) -> list[torch.Tensor]:
    data = DiffusionDataLoader(folder, **{"image_size": 8, "batch_size": 4, "cache": cache, **options})
    return [part for batch in data.train_loader(1) for part in batch]


def same(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def files(tmp_path) -> list[os.PathLike[str]]:
    return sorted((tmp_path / "user").rglob("*.npy"))


@pytest.mark.parametrize("cache", ["auto", "memory", "disk"])
@pytest.mark.parametrize("changes", [{}, {"horizontal_flip": True, "in_channels": 1}])
def test_a_cache_changes_nothing(folder, cache, changes):
    assert same(load(folder, cache, **changes), load(folder, "none", **changes))


def test_memory_decodes_each_image_once_and_writes_nothing(folder, tmp_path, opened):
    data = DiffusionDataLoader(folder, folder, 8, cache="memory")
    for epoch in range(3):
        assert len(list(data.train_loader(epoch))) == len(list(data.val_loader())) == 1
    assert len(opened) == 12
    assert files(tmp_path) == []


def test_runs_share_a_file_and_a_changed_image_makes_another(folder, tmp_path, opened):
    first = load(folder, "disk")
    assert same(first, load(folder, "disk"))
    assert len(opened) == 6
    (one,) = files(tmp_path)

    path = folder / "dog" / "1.png"
    Image.new("RGB", (12, 10), "red").save(path)
    os.utime(path, (1, 1))
    second = load(folder, "disk")
    assert not same(first, second)
    assert same(second, load(folder, "none"))
    (other,) = files(tmp_path)  # the former one is gone
    assert other != one

    load(folder, "disk", image_size=4)
    load(folder, "disk", background="black")
    assert len(files(tmp_path)) == 3


def test_an_image_that_is_exchanged_for_one_of_its_size_and_time_is_noticed(folder):
    first = load(folder, "disk")
    path = folder / "dog" / "1.png"
    length, times = path.stat().st_size, (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    Image.new("RGB", (12, 10), "red").save(path)
    path.write_bytes(path.read_bytes().ljust(length, b"\0"))
    os.utime(path, ns=times)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (length, times[1])
    second = load(folder, "disk")
    assert not same(first, second)
    assert same(second, load(folder, "none"))


def test_a_copied_folder_shares_the_file_until_nobody_has_used_either_for_long(folder, tmp_path, opened):
    first = load(folder, "disk")
    shutil.copytree(folder, tmp_path / "copy")
    assert same(first, load(tmp_path / "copy", "disk"))
    assert len(opened) == 6
    (one,) = files(tmp_path)

    indexes = list((tmp_path / "user").rglob("*.json"))
    os.utime(indexes[0], (1, 1))
    load(folder, "disk", image_size=4)
    assert one in files(tmp_path)
    os.utime(indexes[1], (1, 1))
    load(folder, "disk", image_size=5)
    assert one not in files(tmp_path)
    assert len(files(tmp_path)) == 2


def test_a_dry_run_takes_the_file_but_writes_none(folder, tmp_path):
    def dry() -> list[torch.Tensor]:
        data = DiffusionDataLoader(folder, image_size=8, batch_size=4, cache="disk")
        data.prepare(write=False)
        return [part for batch in data.train_loader(1) for part in batch]

    before = dry()
    assert not (tmp_path / "user").exists()
    assert same(before, load(folder, "disk"))
    for path in folder.rglob("*.png"):
        path.touch()
    assert same(before, dry())


def test_what_breaks_off_leaves_no_file(folder, tmp_path):
    (folder / "dog" / "1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"1\.png cannot be read as an image"):
        load(folder, "disk")
    left = [path for path in (tmp_path / "user").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} == {".lock", ".json"}


def test_several_that_come_at_once_decode_once(folder, opened):
    results: list[list[torch.Tensor]] = []
    threads = [threading.Thread(target=lambda: results.append(load(folder, "disk"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 6
    assert all(same(results[0], result) for result in results)


NEEDED = 6 * 3 * 8 * 8
Memory, Disk = namedtuple("Memory", "available"), namedtuple("Disk", "free")


@pytest.mark.parametrize(
    ("memory", "processes", "disk", "place"),
    [
        (4 * NEEDED, 1, 0, "memory"),
        (4 * NEEDED, 2, 2 * NEEDED, "disk"),
        (4 * NEEDED - 1, 1, 2 * NEEDED, "disk"),
        (4 * NEEDED - 1, 1, 2 * NEEDED - 1, "none"),
    ],
)
def test_auto_takes_what_has_room(folder, tmp_path, opened, monkeypatch, memory, processes, disk, place):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(memory))
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: Disk(disk))
    data = DiffusionDataLoader(folder, image_size=8)
    if place == "none":
        with pytest.warns(UserWarning, match="decoded anew in each epoch: they need .* GiB of memory"):
            data.prepare()
    else:
        data.prepare()
    list(data.train_loader(0))
    assert len(files(tmp_path)) == (place == "disk")
    assert len(opened) == 6


def test_auto_finds_the_file_again_when_the_disk_is_full(folder, monkeypatch, opened):
    load(folder, "disk")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(0))
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: Disk(0))
    load(folder, "auto")
    assert len(opened) == 6


def test_a_disk_without_room_is_refused(folder, monkeypatch):
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda path: Disk(NEEDED - 1))
    with pytest.raises(InputError, match=r"GiB of images are too much for .* free: set XDG_CACHE_HOME"):
        load(folder, "disk")


def test_an_unreadable_validation_image_is_found_before_training(folder, tmp_path):
    broken = tmp_path / "val" / "cat" / "broken.png"
    broken.parent.mkdir(parents=True)
    broken.touch()
    data = DiffusionDataLoader(folder, tmp_path / "val", 8)
    with pytest.raises(InputError, match=r"broken\.png cannot be read as an image"):
        data.prepare()
