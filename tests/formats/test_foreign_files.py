"""Data files as downloads, other programs and broken disks leave them: read as meant, or named."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snowmelt.errors import InputError
from snowmelt.formats import open_images

REPOSITORY = Path(__file__).parents[2]
SUFFIXES = {"npz": ".npz", "parquet": ".parquet", "webdataset": ".tar"}


def png(gray: int = 7) -> bytes:
    data = io.BytesIO()
    Image.new("L", (4, 4), gray).save(data, "png")
    return data.getvalue()


def write_tar(path: Path, entries: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write(kind: str, path: Path, labels: list[Any] | None = None, metadata: dict | None = None) -> Path:
    """Write two images with any labels, as other programs would."""
    labels = [0, 1] if labels is None else labels
    if kind == "npz":
        arrays = {"arr_1": np.array(labels)} if labels else {}
        with path.open("wb") as file:  # numpy appends its own suffix to a name
            np.savez(file, arr_0=np.full((2, 4, 4, 1), 7, np.uint8), **arrays)
    elif kind == "parquet":
        arrow = pytest.importorskip("pyarrow")
        table = arrow.table({"image": [{"bytes": png()}] * 2, "label": labels}, metadata=metadata)
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    else:
        write_tar(
            path,
            [entry for i in (0, 1) for entry in ((f"{i}.png", png()), (f"{i}.cls", f"{labels[i]}".encode()))],
        )
    return path


@pytest.mark.parametrize("label", [1.7, "cat", -1, [0, 1], True, 10**12])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_label_that_is_no_class_number_is_named_with_its_file(kind, label, tmp_path):
    if (kind, label) == ("parquet", "cat"):
        return  # there, it is a name
    path = write(kind, tmp_path / f"x{SUFFIXES[kind]}", [label, label])
    with pytest.raises(InputError, match=rf"{path}.* label"):
        open_images(tmp_path)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_suffixes_are_read_in_any_case_and_hidden_files_are_not(kind, alone, tmp_path):
    path = write(kind, tmp_path / f"X{SUFFIXES[kind].upper()}")
    (tmp_path / f"._X{SUFFIXES[kind]}").write_bytes(b"\0\5\26\7 of another system")
    source = open_images(path if alone else tmp_path)
    assert source.labels.tolist() == [0, 1]
    assert source.take([0, 1]).unique().tolist() == [7]


def test_names_of_classes_in_several_tables_are_numbered_together_in_natural_order(tmp_path):
    write("parquet", tmp_path / "a.parquet", ["owl 10", "owl 2"])
    write("parquet", tmp_path / "b.parquet", ["crow", "owl 2"])
    source = open_images(tmp_path)
    assert source.class_names == ["crow", "owl 2", "owl 10"]
    assert source.labels.tolist() == [2, 1, 0, 1]


def test_an_image_without_the_name_of_its_class_is_refused(tmp_path):
    write("parquet", tmp_path / "a.parquet", ["owl", None])
    with pytest.raises(InputError, match="1 of 2 images have a class"):
        open_images(tmp_path)


def write_edm(folder: Path, labels: Any) -> Path:
    """Write two images as NVIDIA's dataset_tool does."""
    (folder / "00000").mkdir(parents=True)
    for number in (0, 1):
        (folder / "00000" / f"img{number:08d}.png").write_bytes(png(number))
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


@pytest.mark.parametrize("name", ["", "dataset.json"])
def test_the_list_of_edm_says_the_classes(name, tmp_path):
    rows = [["00000/img00000001.png", 0], ["00000\\img00000000.png", 3]]
    source = open_images(write_edm(tmp_path, rows) / name)
    assert (source.labels.tolist(), source.class_names) == ([0, 3], None)
    assert source.take([0, 1]).flatten(1)[:, 0].tolist() == [1, 0]


def test_the_list_of_edm_without_classes_says_that_folders_are_none(tmp_path):
    source = open_images(write_edm(tmp_path, None))
    assert (len(source), source.labels) == (2, None)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["00000/no.png", 0], "label 0 lists 00000/no.png, which is missing"),
        (["00000/img00000000.png", [0.0, 1.0]], r"label 0 has the label \[0.0, 1.0\]"),
        ("00000/img00000000.png", r"expected \[file, class\]"),
    ],
)
def test_a_wrong_row_of_edm_is_named(row, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_images(write_edm(tmp_path, [row]))


def test_labels_beyond_the_class_names_are_refused(tmp_path):
    features = '{"info": {"features": {"label": {"names": ["ant", "bee"]}}}}'
    write("parquet", tmp_path / "x.parquet", [0, 2], {"huggingface": features})
    with pytest.raises(InputError, match="label 2, but names 2 classes"):
        open_images(tmp_path)


@pytest.mark.parametrize("names", ["7", '"ant"', '{"0": "ant"}', "[]", "null"])
def test_class_names_in_another_form_are_left_out(names, tmp_path):
    features = f'{{"info": {{"features": {{"label": {{"names": {names}}}}}}}}}'
    write("parquet", tmp_path / "x.parquet", metadata={"huggingface": features})
    assert open_images(tmp_path).class_names is None


def test_files_that_number_their_classes_differently_are_refused(tmp_path):
    for name, order in (("a", '"ant", "bee"'), ("b", '"bee", "ant"')):
        features = f'{{"info": {{"features": {{"label": {{"names": [{order}]}}}}}}}}'
        write("parquet", tmp_path / f"{name}.parquet", metadata={"huggingface": features})
    with pytest.raises(InputError, match=r"b\.parquet names its classes"):
        open_images(tmp_path)


def test_two_pictures_in_one_sample_are_named(tmp_path):
    """Nobody can know which is the image and which its mask."""
    write_tar(tmp_path / "x.tar", [("0.png", png()), ("0.mask.PNG", png(0)), ("0.cls", b"1")])
    with pytest.raises(InputError, match=r"x\.tar: 0\.png and 0\.mask\.PNG are pictures of one sample"):
        open_images(tmp_path)


def test_half_a_tar_is_refused_wherever_it_was_cut(tmp_path):
    """A cut between two entries leaves a file that tarfile reads to its end without a word."""
    whole = write("webdataset", tmp_path / "x.tar").read_bytes()
    cuts = range(0, 4 * 1024, 512)  # four entries of two blocks each
    for cut in cuts:
        (tmp_path / "x.tar").write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"x\.tar"):
            open_images(tmp_path)
    (tmp_path / "x.tar").write_bytes(whole[: cuts[-1] + 2 * 512])
    assert len(open_images(tmp_path)) == 2


def test_pixels_that_do_not_match_their_checksum_are_refused(tmp_path):
    path = write("npz", tmp_path / "x.npz")
    data = bytearray(path.read_bytes())
    data[data.index(b"\7" * 32) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"x\.npz cannot be read .*CRC"):
        open_images(path)


@pytest.mark.parametrize("shape", [(2, 0, 4, 1), (2, 4, 4, 0)])
def test_images_without_pixels_are_refused(shape, tmp_path):
    np.savez(tmp_path / "x.npz", arr_0=np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=r"x\.npz has arr_0"):
        open_images(tmp_path / "x.npz")


def test_the_choice_between_several_npz_files_is_the_readers(tmp_path):
    for name in "ab":
        write("npz", tmp_path / f"{name}.npz")
    with pytest.raises(InputError, match=r"holds 2 npz files: .*a\.npz"):
        open_images(tmp_path)


def test_a_newer_numpy_header_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 1), np.uint8)
    member, archive = io.BytesIO(), tmp_path / "x.npz"
    np.lib.format.write_array(member, pixels, version=(2, 0))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("arr_0.npy", member.getvalue())
    assert torch.equal(next(open_images(archive).batches(3))[:, 0], torch.from_numpy(pixels[..., 0]))


def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_data", REPOSITORY / "benchmarks" / "fuzz_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_damaged_files_end_in_one_message():
    """Library and command, in all formats: nothing escapes, and no damage is read as images."""
    module = fuzz()
    assert [case for case in module.run(range(12), seed=1) if not case[3].startswith(module.GOOD)] == []
