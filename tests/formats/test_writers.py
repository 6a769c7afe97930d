"""What is written is what was made, in every format, whatever happened on the way."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from snowmelt.errors import InputError
from snowmelt.formats import (
    LABELS_NAME,
    WRITERS,
    Writer,
    class_numbers,
    open_images,
    write_labels,
)
from snowmelt.images import decode_png

FORMATS = pytest.mark.parametrize("name", WRITERS)
CLASSES = 3
NAMES = class_numbers(CLASSES)
METADATA = {"plan": "ddim, 4 steps: Schnee, 雪", "checkpoint": "c0ffee"}


@pytest.fixture(autouse=True, scope="module")
def _no_waiting_for_the_disk():
    """That data is on the disk before its name is, is another test's law."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


class Killed(BaseException):
    """A stop that no code may notice."""


def make_images(count: int = 7, channels: int = 3, size: tuple[int, int] = (4, 5)) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8, generator=generator)


def make_writer(name: str, folder: Path, count: int = 7, shard_size: int = 3, **options) -> Writer:
    options = {"class_names": NAMES, "metadata": METADATA, **options}
    labels = None if options["class_names"] is None else [index % CLASSES for index in range(count)]
    seeds = [2**63 - 1 - 7 * index for index in range(count)]
    return WRITERS[name](folder, seeds, labels, shard_size=shard_size, **options)


def write(writer: Writer, images: Tensor, shard: int) -> None:
    writer.write(shard, images[list(writer.indices(shard))])


def write_all(writer: Writer, images: Tensor) -> Writer:
    for shard in range(writer.shards):
        write(writer, images, shard)
    writer.finish()
    return writer


def contents(folder: Path) -> dict[str, bytes | None]:
    """Return every file's bytes, and the folders, by path."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def undisturbed(name: str, folder: Path, images: Tensor) -> dict[str, bytes | None]:
    write_all(make_writer(name, folder, len(images)), images)
    return contents(folder)


# -- what is written -----------------------------------------------------------------------------------


@FORMATS
@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(1, 9),
    shard_size=st.integers(1, 10),
    channels=st.sampled_from([1, 3]),
    names=st.sampled_from([None, NAMES]),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_what_is_written_is_read_back(tmp_path_factory, name, count, shard_size, channels, names, size):
    """By the job, in its own order, and by `open_images`, which knows nothing but the folder."""
    images, folder = make_images(count, channels, size), tmp_path_factory.mktemp(name)
    writer = write_all(make_writer(name, folder, count, shard_size, class_names=names), images)
    assert torch.equal(torch.cat(list(writer.written().batches(4))), images)
    labels = writer.class_labels
    order = list(range(count))
    if name == "class_folders":
        order.sort(key=lambda index: labels[index] if labels else 0)
    source = open_images(folder)
    assert torch.equal(torch.cat(list(source.batches(4))), images[order])
    if name == "png":  # the format itself has no classes
        assert source.labels is None
        write_labels(writer)
        source = open_images(folder)
    if names is not None:
        assert source.labels.tolist() == [labels[index] for index in order]
    elif name != "class_folders":  # whose only folder is a class to every reader
        assert source.labels is None


@FORMATS
def test_a_file_that_is_gone_is_named(tmp_path, name):
    with pytest.raises(
        InputError, match=r"sample_0000\.png cannot be read|cannot be read as .*(samples\.npz|shard-|data-)"
    ):
        make_writer(name, tmp_path).written().take([0])


@FORMATS
@pytest.mark.parametrize("kept", [0, 0.5, 0.8])
def test_a_damaged_file_is_refused(tmp_path, name, kept):
    writer = write_all(make_writer(name, tmp_path), make_images())
    path = tmp_path / writer.location(2)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(InputError, match=rf"{tmp_path}.* (cannot be read as|holds \d of 7 images)"):
        writer.written().take([0, 1, 2])


@FORMATS
def test_shards_divide_the_images(tmp_path, name):
    writer = make_writer(name, tmp_path)
    assert [list(writer.indices(shard)) for shard in range(writer.shards)] == [[0, 1, 2], [3, 4, 5], [6]]
    for shard in (-1, 3):
        with pytest.raises(ValueError, match="shard must be 0 to 2"):
            writer.indices(shard)


@FORMATS
@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 3, 4, 5, dtype=torch.uint8),
        torch.zeros(3, 2, 4, 5, dtype=torch.uint8),
        torch.zeros(3, 4, 5, dtype=torch.uint8),
        torch.zeros(3, 3, 4, 5),
    ],
    ids=lambda images: f"{images.dtype} {tuple(images.shape)}",
)
def test_only_the_images_of_a_shard_are_taken(tmp_path, name, wrong):
    with pytest.raises(
        ValueError, match=r"shard 0 holds 3 images, got 2|must be uint8 \(N, 1, 3 or 4, H, W\)"
    ):
        make_writer(name, tmp_path / "new").write(0, wrong)
    assert not (tmp_path / "new").exists()


@FORMATS
@pytest.mark.parametrize(
    "options",
    [
        {"seeds": []},
        {"shard_size": 0},
        {"class_labels": None},
        {"class_labels": [0, 1]},
        {"class_labels": [0, 1, CLASSES]},
        {"class_names": None},
        {"class_names": ["one"]},
        {"class_names": ["a", "b", "a"]},
    ],
)
def test_impossible_jobs_are_refused(tmp_path, name, options):
    job = {"seeds": range(3), "class_labels": [0, 1, 2], "shard_size": 2, "class_names": NAMES, **options}
    with pytest.raises(ValueError, match=r"at least 1|needs one of|must differ"):
        WRITERS[name](tmp_path, **job)


# -- whatever happened ---------------------------------------------------------------------------------


@FORMATS
@settings(max_examples=20, deadline=None)
@given(visits=st.lists(st.integers(0, 2), max_size=6), last=st.permutations(range(3)))
def test_bytes_do_not_depend_on_what_happened_before(tmp_path_factory, name, visits, last):
    """Shards in any order, several times over, each by a process of its own, and finished twice."""
    images = make_images()
    wanted = undisturbed(name, tmp_path_factory.mktemp("calm"), images)
    folder = tmp_path_factory.mktemp("stormy")
    for shard in [*visits, *last]:
        write(make_writer(name, folder), images, shard)
    for _ in range(2):
        make_writer(name, folder).finish()
        assert contents(folder) == wanted
    write(make_writer(name, folder), images, last[0])
    assert contents(folder) == wanted, "a shard of a finished job changes nothing"


@FORMATS
def test_bytes_do_not_depend_on_the_clock(tmp_path, name, monkeypatch):
    images = make_images()
    wanted = undisturbed(name, tmp_path / "today", images)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 5, 33, 20, 2, 138, 0))
    assert undisturbed(name, tmp_path / "later", images) == wanted


def kill_at_rename(monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """Let the `when`-th atomic write stop, as by kill -9, with all data written and not yet its name."""
    left, replace = [when], Path.replace

    def killed(self, target):
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # the dead tidy nothing up


@FORMATS
def test_a_killed_run_is_taken_up_wherever_it_was_killed(tmp_path, name):
    images = make_images()
    wanted = undisturbed(name, tmp_path / "calm", images)
    kills, alive = 0, False
    while not alive:
        kills += 1
        folder = tmp_path / str(kills)
        with pytest.MonkeyPatch.context() as patch:
            kill_at_rename(patch, kills)
            try:
                write_all(make_writer(name, folder), images)
                alive = True
            except Killed:
                assert list(folder.rglob("*.tmp"))
        writer = make_writer(name, folder)
        for shard in range(writer.shards):
            if writer.missing(shard):
                write(writer, images, shard)
        writer.finish()
        assert contents(folder) == wanted
    assert kills > writer.shards, "every shard has been killed once"


def test_a_kill_between_the_whole_and_the_removal_of_its_parts(tmp_path):
    images = make_images()
    wanted = undisturbed("npz", tmp_path / "calm", images)
    writer = make_writer("npz", tmp_path / "killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            write_all(writer, images)
    assert len(contents(tmp_path / "killed")) > len(wanted)
    assert not any(map(writer.missing, range(writer.shards)))
    writer.finish()
    assert contents(tmp_path / "killed") == wanted


@FORMATS
def test_missing_tells_the_truth_at_every_moment(tmp_path, name):
    images, writer = make_images(), make_writer(name, tmp_path / "new")
    absent = {0, 1, 2}
    for shard in (1, 2, 0):
        assert {s for s in range(writer.shards) if writer.missing(s)} == absent
        with pytest.raises(InputError, match=f"lacks {len(absent)} of 3 shards"):
            writer.finish()
        write(writer, images, shard)
        absent.remove(shard)
    for _ in range(2):
        assert not any(map(writer.missing, range(writer.shards)))
        writer.finish()


@pytest.mark.parametrize("name", ["png", "class_folders"])
def test_only_the_images_that_are_missing_are_written(tmp_path, name):
    images, writer = make_images(), make_writer(name, tmp_path)
    write_all(writer, images)
    paths = [tmp_path / writer.location(index) for index in range(7)]
    before = {path: path.stat().st_mtime_ns for path in paths}
    paths[1].unlink()
    assert [writer.missing(shard) for shard in range(3)] == [True, False, False]
    write(writer, images, 0)
    changed = [path for path in paths if path.stat().st_mtime_ns != before[path]]
    assert changed == [paths[1]]


class FullDisk:
    """A file on a disk with room for so many more bytes, which many files may share."""

    def __init__(self, file, room: list[int]):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room[0] -= memoryview(data).nbytes
        if self.room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@FORMATS
@pytest.mark.parametrize("room", [0, 1, 100, 700])
def test_a_full_disk_leaves_no_half_of_a_file(tmp_path, name, room, monkeypatch):
    images = make_images()
    wanted = undisturbed(name, tmp_path / "calm", images)
    folder, left, opened = tmp_path / "full", [room], Path.open

    def open_on_full_disk(self, mode="r", *args, **kwargs):
        file = opened(self, mode, *args, **kwargs)
        return FullDisk(file, left) if "w" in mode else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_full_disk)
        with pytest.raises(OSError, match="No space left"):
            write_all(make_writer(name, folder), images)
    whole = {path: data for path, data in contents(folder).items() if not path.startswith(".parts")}
    assert whole.items() <= wanted.items()
    assert not list(folder.rglob("*.tmp"))
    write_all(make_writer(name, folder), images)
    assert contents(folder) == wanted, "once there is room, it ends as ever"


@FORMATS
@pytest.mark.parametrize("state", ["empty", "running", "killed", "finished"])
def test_clear_removes_all_of_its_own_and_nothing_else(tmp_path, name, state):
    images, writer = make_images(), make_writer(name, tmp_path)
    foreign = [
        "notes.txt",
        "sample_0007.png",
        "sample_1.png",
        "photos/sample_0000.png",
        "x.tmp",
        ".draft.tmp",
    ]
    for path in foreign:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("mine")
    before = contents(tmp_path)
    if state != "empty":
        write(writer, images, 1)
    if state == "killed":
        with pytest.MonkeyPatch.context() as patch:
            kill_at_rename(patch, 1)
            with pytest.raises(Killed):
                write(writer, images, 2)
    if state == "finished":
        write_all(writer, images)
    assert (contents(tmp_path) == before) == (state == "empty")
    make_writer(name, tmp_path).clear()
    assert contents(tmp_path) == before


@FORMATS
def test_a_foreign_file_among_the_images_stays_with_its_folder(tmp_path, name):
    writer = make_writer(name, tmp_path)
    write_all(writer, make_images())
    folder = (tmp_path / writer.location(0)).parent
    (folder / "README").write_text("mine")
    writer.clear()
    assert (folder / "README").read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "README"]


# -- png -----------------------------------------------------------------------------------------------


def test_a_png_says_what_it_is(tmp_path):
    writer = write_all(make_writer("png", tmp_path), make_images())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"sample_000{i}.png" for i in range(7)]
    with Image.open(tmp_path / "sample_0005.png") as picture:
        assert picture.info == {**METADATA, "index": "5", "seed": str(writer.seeds[5]), "class": "2"}


def test_a_png_of_an_unconditional_model_has_no_class(tmp_path):
    write_all(make_writer("png", tmp_path, 1, class_names=None), make_images(1))
    with Image.open(tmp_path / "sample_0000.png") as picture:
        assert "class" not in picture.info


def test_an_images_own_facts_win_over_common_ones(tmp_path):
    writer = make_writer("png", tmp_path, 1, metadata={"seed": "common", "index": "common"})
    write_all(writer, make_images(1))
    with Image.open(tmp_path / "sample_0000.png") as picture:
        assert picture.info == {"index": "0", "seed": str(writer.seeds[0]), "class": "0"}


def test_png_files_are_the_same_in_every_format(tmp_path):
    """So that an image tells the same story wherever it was taken from."""
    import pyarrow.parquet

    for name in ("png", "class_folders", "webdataset", "parquet"):
        write_all(make_writer(name, tmp_path, 1), make_images(1))
    png = (tmp_path / "sample_0000.png").read_bytes()
    assert (tmp_path / "0" / "sample_0000.png").read_bytes() == png
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        assert tar.extractfile("000000000.png").read() == png
    (row,) = pyarrow.parquet.read_table(tmp_path / "data-00000-of-00001.parquet").to_pylist()
    assert row["image"] == {"bytes": png, "path": "sample_0000.png"}


# -- class folders -------------------------------------------------------------------------------------


def in_numpy(images: Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("names", [NAMES, ["ant", "bee", "cat"]])
def test_image_folder_loads_images_and_classes(tmp_path, names):
    from torchvision.datasets import ImageFolder

    images = make_images()
    write_all(make_writer("class_folders", tmp_path, class_names=names), images)
    dataset = ImageFolder(str(tmp_path))
    assert dataset.classes == names
    by_class = [0, 3, 6, 1, 4, 2, 5]
    for (picture, target), index in zip(dataset, by_class, strict=True):
        assert target == index % CLASSES
        assert np.array_equal(np.asarray(picture), in_numpy(images)[index])


def test_numbers_as_names_sort_as_numbers():
    names = class_numbers(120)
    assert names == sorted(names)
    assert [int(name) for name in names] == list(range(120))


def test_classes_without_images_keep_the_numbers_of_the_others(tmp_path):
    from torchvision.datasets import ImageFolder

    writer = WRITERS["class_folders"](tmp_path, [5], [1], shard_size=1, class_names=NAMES)
    write_all(writer, make_images(1))
    assert ImageFolder(str(tmp_path), allow_empty=True).targets == [1]
    with pytest.raises(FileNotFoundError, match="Found no valid file for the classes 0, 2"):
        ImageFolder(str(tmp_path))


def test_an_unconditional_model_has_one_folder(tmp_path):
    write_all(make_writer("class_folders", tmp_path, 2, class_names=None), make_images(2))
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_job_is_cleared_whose_classes_are_not_known(tmp_path):
    write_all(make_writer("class_folders", tmp_path), make_images())
    WRITERS["class_folders"](tmp_path, range(7), [0] * 7, shard_size=3, class_names=NAMES).clear()
    assert contents(tmp_path) == {}


UNSAFE = ["", ".", "..", "a/b", "../up", "a\\b", "/root", ".hidden", "end.", " a", "a ", "a\0b", "x\n", "C:"]


FILES = ["labels.csv", "manifest.json", "config.yaml", "Generated_Samples.PNG"]  # they lie beside the folders


@pytest.mark.parametrize("name", [*UNSAFE, *FILES, "é" * 128])
def test_unsafe_folder_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be a folder of images"):
        make_writer("class_folders", tmp_path, class_names=["a", name, "b"])


def test_folder_names_differ_everywhere(tmp_path):
    with pytest.raises(InputError, match="upper and lower case"):
        make_writer("class_folders", tmp_path, class_names=["Cat", "cat", "dog"])


# -- npz -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("names", [NAMES, None])
def test_the_whole_is_what_numpy_writes(tmp_path, channels, names):
    images = make_images(7, channels)
    writer = write_all(make_writer("npz", tmp_path, class_names=names), images)
    labels = {"arr_1": np.arange(7, dtype=np.int64) % CLASSES} if names else {}
    np.savez(tmp_path / "peer.npz", arr_0=in_numpy(images), **labels, seeds=np.array(writer.seeds))
    assert (tmp_path / "samples.npz").read_bytes() == (tmp_path / "peer.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["peer.npz", "samples.npz"]


def test_the_whole_is_joined_and_read_in_pieces(tmp_path):
    import tracemalloc

    count, side = 400, 16
    images, writer = make_images(count, size=(side, side)), make_writer("npz", tmp_path, count, 20)
    for shard in range(writer.shards):
        write(writer, images, shard)
    tracemalloc.start()
    writer.finish()
    shown = writer.written().take(range(0, count, 40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(shown, images[::40])
    assert peak < count * 3 * side * side / 2


# -- webdataset ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the library's own, left to be collected
def test_webdataset_streams_images_and_classes(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    images = make_images()
    writer = write_all(make_writer("webdataset", tmp_path), images)
    urls = sorted(str(path) for path in tmp_path.iterdir())
    assert [Path(url).name for url in urls] == [f"shard-00000{i}.tar" for i in range(3)]
    found = list(webdataset.WebDataset(urls, shardshuffle=False).decode("torchrgb8"))
    for index, (entry, image) in enumerate(zip(found, images, strict=True)):
        facts = {"index": index, "seed": writer.seeds[index], "class": index % CLASSES}
        assert entry["__key__"] == f"{index:09d}"
        assert torch.equal(entry["png"], image)
        assert entry["cls"] == index % CLASSES
        assert entry["json"] == {**METADATA, **facts}


def test_webdataset_of_an_unconditional_model_has_no_class(tmp_path):
    write_all(make_writer("webdataset", tmp_path, 1, class_names=None), make_images(1))
    with tarfile.open(tmp_path / "shard-000000.tar") as tar:
        assert tar.getnames() == ["000000000.json", "000000000.png"]
        assert "class" not in json.load(tar.extractfile("000000000.json"))


# -- parquet -------------------------------------------------------------------------------------------


def load_parquet(folder: Path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    files = str(folder / "*.parquet")
    return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache"))


@pytest.mark.parametrize("names", [NAMES, ["ant", "bee", "cat"]])
def test_datasets_loads_images_and_classes(tmp_path, names):
    images = make_images()
    writer = write_all(make_writer("parquet", tmp_path, class_names=names), images)
    dataset = load_parquet(tmp_path)
    assert dataset.features["label"].names == names
    for index, (row, image) in enumerate(zip(dataset, in_numpy(images), strict=True)):
        assert np.array_equal(np.asarray(row["image"]), image)
        assert (row["label"], row["seed"], row["index"]) == (index % CLASSES, writer.seeds[index], index)
    assert open_images(tmp_path).class_names == names


def test_datasets_loads_gray_images_without_classes(tmp_path):
    images = make_images(4, channels=1)
    write_all(make_writer("parquet", tmp_path, 4, class_names=None), images)
    dataset = load_parquet(tmp_path)
    assert set(dataset.features) == {"image", "seed", "index"}
    for row, image in zip(dataset, images, strict=True):
        assert row["image"].mode == "L"
        assert np.array_equal(np.asarray(row["image"]), image[0].numpy())


def test_parquet_carries_the_common_metadata(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_all(make_writer("parquet", tmp_path), make_images())
    for path in tmp_path.iterdir():
        assert json.loads(parquet.read_schema(path).metadata[b"snowmelt"]) == METADATA


@pytest.mark.parametrize(("name", "library"), [("webdataset", "webdataset"), ("parquet", "pyarrow")])
def test_an_absent_library_is_named_before_any_work(tmp_path, name, library, monkeypatch):
    for module in [library, f"{library}.parquet"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"needs {library} .*pip install 'snowmelt\[formats\]'"):
        make_writer(name, tmp_path)


# -- beside the images ---------------------------------------------------------------------------------


@FORMATS
@pytest.mark.parametrize("names", [NAMES, None])
def test_the_list_says_where_each_image_is(tmp_path, name, names):
    images = make_images()
    writer = write_all(make_writer(name, tmp_path, class_names=names), images)
    path = write_labels(writer)
    assert path == tmp_path / LABELS_NAME
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "class", "seed"]
    assert [int(row["seed"]) for row in rows] == writer.seeds
    assert [row["class"] for row in rows] == ["" if names is None else str(i % CLASSES) for i in range(7)]
    for row, image in zip(rows, images, strict=True):
        if row["file"].endswith(".png"):
            assert torch.equal(decode_png((tmp_path / row["file"]).read_bytes())[0], image)
    named = {row["file"] for row in rows}
    assert named == {path for path, data in contents(tmp_path).items() if data is not None} - {LABELS_NAME}
