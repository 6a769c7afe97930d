"""One set of images in many forms: each is read whole, with its classes, and trains to the same bits."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt import DiffusionTrainer, create_ddpm
from snowmelt.data import DiffusionDataLoader
from snowmelt.errors import InputError
from snowmelt.formats import READERS, open_images
from snowmelt.images import Shape

NAMES = ("cat", "dog")
COUNTS = (5, 3)  # of the classes


def pictures() -> list[tuple[str, int, bytes]]:
    """Return eight drawn images: their names within the set, classes and bytes."""
    found = []
    for label, name in enumerate(NAMES):
        for index in range(COUNTS[label]):
            data = io.BytesIO()
            picture = Image.linear_gradient("L").resize((10, 8)).rotate(40 * index + 7 * label)
            Image.merge("RGB", (picture, picture.rotate(90), picture)).save(data, "png")
            found.append((f"{name}/{index}.png", label, data.getvalue()))
    return found


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def as_folders(folder: Path) -> Path:
    for name, _, data in pictures():
        put(folder / name, data)
    return folder


def as_deep_folders(folder: Path) -> Path:
    for name, _, data in pictures():
        head, tail = name.split("/")
        put(folder / head / "a" / "b" / tail if "1" in tail else folder / name, data)
    return folder


def as_rows(folder: Path, file: str, label: str, texts: bool = True) -> list[dict[str, object]]:
    for number, (_, _, data) in enumerate(pictures()):
        put(folder / "files" / f"{number}.png", data)
    return [
        {file: f"files/{number}.png", label: NAMES[own] if texts else own}
        for number, (_, own, _) in enumerate(pictures())
    ]


def as_csv(folder: Path) -> Path:
    rows = as_rows(folder, "file", "label")
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "list.csv"


def as_german_csv(folder: Path) -> Path:
    """As a spreadsheet of another country writes it: with a mark at the beginning and semicolons."""
    lines = ["file;class", *(f"{row['file']};{row['class']}" for row in as_rows(folder, "file", "class"))]
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    return folder / "list.csv"


def as_tsv(folder: Path) -> Path:
    lines = ["path\tlabel", *(f"{row['path']}\t{row['label']}" for row in as_rows(folder, "path", "label"))]
    (folder / "list.tsv").write_text("\n".join(lines))
    return folder / "list.tsv"


def as_json(folder: Path) -> Path:
    (folder / "list.json").write_text(json.dumps(as_rows(folder, "file", "class")))
    return folder / "list.json"


def as_jsonl(folder: Path) -> Path:
    rows = as_rows(folder, "path", "class_name")
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return folder / "list.jsonl"


def as_generated(folder: Path) -> Path:
    """The labels.csv that `snowmelt generate` writes: numbers, and what they are called."""
    rows = as_rows(folder, "file", "class", texts=False)
    lines = [f"{row['file']},{row['class']},7,{NAMES[int(str(row['class']))]}" for row in rows]
    (folder / "labels.csv").write_text("\n".join(["file,class,seed,class_name", *lines]))
    return folder / "labels.csv"


def as_imagefolder(folder: Path) -> Path:
    rows = as_rows(folder, "file_name", "label")
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def as_imagefolder_csv(folder: Path) -> Path:
    rows = as_rows(folder, "file_name", "label")
    lines = ["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)]
    (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


def as_parquet(folder: Path, image: str = "image", label: str = "label", inside: str = "") -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {image: {"_type": "Image"}, label: {"_type": "ClassLabel", "names": list(NAMES)}}
    found = pictures()
    columns = {
        image: [{"bytes": data, "path": f"{number}.png"} for number, (*_, data) in enumerate(found)],
        label: [own for _, own, _ in found],
    }
    table = arrow.table(columns, metadata={"huggingface": json.dumps({"info": {"features": features}})})
    (folder / inside).mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, folder / inside / "0000.parquet", row_group_size=3)
    return folder


def as_tar(folder: Path) -> Path:
    with tarfile.open(folder / "shard-000000.tar", "w") as tar:
        for number, (_, label, data) in enumerate(pictures()):
            for name, content in ((f"{number}.png", data), (f"{number}.cls", str(label).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder


def as_edm(folder: Path) -> Path:
    """As the dataset_tool of StyleGAN and EDM writes it."""
    rows = as_rows(folder, "file", "label", texts=False)
    (folder / "dataset.json").write_text(json.dumps({"labels": [list(row.values()) for row in rows]}))
    return folder


def as_npz(folder: Path) -> Path:
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for *_, data in pictures()]
    np.savez(folder / "samples.npz", arr_0=np.stack(pixels), arr_1=[label for _, label, _ in pictures()])
    return folder / "samples.npz"


NAMED: dict[str, Callable[[Path], Path]] = {
    "folders": as_folders,
    "deep folders": as_deep_folders,
    "csv": as_csv,
    "csv with semicolons": as_german_csv,
    "tsv": as_tsv,
    "json": as_json,
    "jsonl": as_jsonl,
    "labels.csv": as_generated,
    "imagefolder": as_imagefolder,
    "imagefolder by csv": as_imagefolder_csv,
    "parquet": as_parquet,
    "parquet of the hub": lambda folder: as_parquet(folder, "img", "kind", "data"),
}
NUMBERED = {"webdataset": as_tar, "edm": as_edm, "npz": as_npz}
FORMS = NAMED | NUMBERED


@pytest.fixture
def make(tmp_path) -> Callable[[str], Path]:
    def made(form: str) -> Path:
        folder = tmp_path / form
        folder.mkdir()
        return FORMS[form](folder)

    return made


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_whole_with_its_classes(form, make):
    path = make(form)
    data = DiffusionDataLoader(path, image_size=8, batch_size=3)
    seen = torch.cat([labels for _, labels in data.train_loader(0)])
    assert (data.num_train_images, tuple(seen.bincount().tolist())) == (sum(COUNTS), COUNTS)
    assert data.labels.tolist() == open_images(path).labels.tolist()
    assert tuple(data.class_names) == (NAMES if form in NAMED else ("0", "1"))
    assert DiffusionDataLoader(path, image_size=8, classes=False).num_classes == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_every_form_gives_the_same_pixels_in_any_order(form, cache, make):
    def images(path: Path) -> list[bytes]:
        data = DiffusionDataLoader(path, image_size=8, batch_size=3, cache=cache, num_workers=2)
        return sorted(each.numpy().tobytes() for batch, _ in data.train_loader(0) for each in batch)

    assert images(make(form)) == images(make("folders") if form != "folders" else make("csv"))


def test_four_forms_train_to_the_same_bits(make):
    def trained(path: Path) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = create_ddpm(8, 3, 8, (1,), norm_groups=4, num_classes=2)
        data = DiffusionDataLoader(path, image_size=8, batch_size=4)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        trainer = DiffusionTrainer(model, data, optimizer, sample_images=False, use_ema=False)
        trainer.train_epoch()
        assert trainer.global_step == 2
        return model.state_dict()

    first, *others = (trained(make(form)) for form in ("folders", "csv", "parquet", "webdataset"))
    for other in others:
        assert all(torch.equal(weights, other[name]) for name, weights in first.items())


def test_rows_of_a_table_are_decoded_once_and_groups_without_them_are_not_read(make, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    decoded, opened = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *rest: decoded.append(rest) or opened(*rest))
    data = DiffusionDataLoader(make("parquet"), image_size=8, batch_size=3)
    for epoch in range(3):
        list(data.train_loader(epoch))
    assert len(decoded) == sum(COUNTS)
    groups, read = [], parquet.ParquetFile.iter_batches

    def counted(self, *rest, **more):
        groups.append(more["row_groups"])
        return read(self, *rest, **more)

    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", counted)
    data = DiffusionDataLoader(make("parquet of the hub"), image_size=8, cache="none")
    data._train.pixels([7, 6, 0])
    assert groups == [[0], [2]]


# -- parts ---------------------------------------------------------------------------------------------


def parted_list(folder: Path) -> Path:
    path = as_csv(folder)
    header, *lines = path.read_text().splitlines()
    parts = ["train"] * 3 + ["test"] * 2 + ["train", "train", "test"]
    path.write_text("\n".join([f"{header},split", *map(",".join, zip(lines, parts, strict=True))]))
    return path


def parted_folders(folder: Path) -> Path:
    for number, (name, _, data) in enumerate(pictures()):
        put(folder / ("test" if number in (3, 4, 7) else "train") / name, data)
    return folder


def parted_tables(folder: Path) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(NAMES)}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    for part, chosen in (("train", (0, 1, 2, 5, 6)), ("test", (3, 4, 7))):
        found = [pictures()[index] for index in chosen]
        columns = {
            "image": [{"bytes": data, "path": None} for *_, data in found],
            "label": [own for _, own, _ in found],
        }
        table = arrow.table(columns, metadata=metadata)
        parquet.write_table(table, folder / f"{part}-00000-of-00001.parquet")
    return folder


PARTED = [parted_list, parted_folders, parted_tables]


@pytest.mark.parametrize("make_parted", PARTED)
def test_a_part_is_named_after_the_path(make_parted, tmp_path):
    path = make_parted(tmp_path)
    assert len(open_images(path)) == 8
    data = DiffusionDataLoader(f"{path}:train", f"{path}:test", image_size=8)
    val = torch.cat([labels for _, labels in data.val_loader()])
    assert (data.labels.tolist(), val.tolist()) == ([0, 0, 0, 1, 1], [0, 0, 1])
    assert tuple(data.class_names) == NAMES
    with pytest.raises(
        InputError, match=r"has the parts (train and test|train, test|test, train), not 'val'"
    ):
        open_images(f"{path}:val")


@pytest.mark.parametrize("make_parted", PARTED)
def test_training_on_all_parts_by_mistake_is_refused(make_parted, tmp_path):
    path = make_parted(tmp_path)
    with pytest.raises(InputError, match=r"has the parts .*: say which one to take, such as .*:t"):
        DiffusionDataLoader(path, image_size=8)


def test_what_is_in_one_part_says_so(make):
    with pytest.raises(InputError, match=r"folders is in one part: nothing says which .* are 'test'"):
        open_images(f"{make('folders')}:test")


def flat(folder: Path) -> Path:
    for number, (_, _, data) in enumerate(pictures()):
        put(folder / f"{number}.png", data)
    return folder


def test_each_reader_finds_what_is_its_own(tmp_path):
    makers = (as_parquet, as_tar, as_edm, as_imagefolder, parted_folders, as_folders, flat, as_npz)
    found = []
    for maker in makers:
        folder = tmp_path / maker.__name__
        folder.mkdir()
        maker(folder)
        found.append(next(name for name, reader in READERS.items() if reader(folder, Shape()) is not None))
        assert len(open_images(folder)) == sum(COUNTS)
    assert found == list(READERS)


# -- lists that say something impossible ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "name,label\na.png,0\n", r"l.csv .* columns name, label, and needs one of file, file_name"),
        ("l.csv", "file,label\na.png,0\nb.png,1\n", r"l.csv, line 3 lists b.png, which is missing"),
        ("l.csv", "file,label\na.png,0\n,1\n", r"l.csv, line 3 names no file"),
        ("l.csv", "file,label\na.png,0\na.png,\n", r"l.csv, line 3 states no class, but 1 of 2 images"),
        ("l.csv", "file,label\na.png,0,x\n", r"l.csv, line 2 has more columns"),
        ("l.csv", "file,label\na.png,1000000000\n", r"l.csv, line 2 has the label 1000000000"),
        ("l.csv", "file,label\n", r"l.csv holds no images"),
        ("l.csv", "", r"l.csv holds no images"),
        ("l.json", '[{"file": "a.png", "label": 1.5}]', r"l.json, entry 0 has the label 1.5"),
        ("l.json", '[{"file": "a.png", "label": [0]}]', r"l.json, entry 0 has the label \[0\]"),
        ("l.json", '["a.png"]', r"l.json, entry 0 is no object"),
        ("l.json", '{"file": "a.png"}', r"l.json is no division of images .* nor a list"),
        ("l.jsonl", '{"file": "a.png"}\n{"file"', r"l.jsonl cannot be read as a list of images"),
        ("l.jsonl", '{"file": "a.png"}\n{"file": 3}', r"l.jsonl, line 2 names no file"),
    ],
)
def test_a_list_that_is_wrong_names_the_row(name, text, message, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        open_images(tmp_path / name)


def test_numbers_that_begin_at_1_are_refused_before_training(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "l.csv").write_text("file,label\na.png,1\na.png,2\n")
    with pytest.raises(InputError, match=r"l.csv has no images of class 0: add some, or number the others"):
        DiffusionDataLoader(tmp_path / "l.csv", image_size=8)


def test_captions_of_an_imagefolder_are_no_classes(tmp_path):
    as_folders(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/0.png,a cat\n")
    assert tuple(open_images(tmp_path).class_names) == NAMES


def test_datasets_reads_the_same_table(make):
    """The library whose layout it is finds the same images and names."""
    datasets = pytest.importorskip("datasets")
    path = make("parquet of the hub")
    theirs = datasets.Dataset.from_parquet(str(path / "data" / "0000.parquet"), cache_dir=str(path / "cache"))
    ours = open_images(path)
    assert ours.class_names == theirs.features["kind"].names
    assert ours.labels.tolist() == theirs["kind"]
    first = torch.from_numpy(np.array(theirs[0]["img"])).movedim(-1, 0)
    assert torch.equal(ours.take([0])[0], first)
