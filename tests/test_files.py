"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.files import atomic_write, file_hash


@given(old=st.binary(max_size=50), new=st.binary(max_size=50), data=st.data())
def test_a_file_is_the_old_one_until_it_is_the_new_one(tmp_path_factory, old, new, data):
    path = tmp_path_factory.mktemp("whole") / "weights.bin"
    path.write_bytes(old)
    cut = data.draw(st.integers(0, len(new)))
    with atomic_write(path) as file:
        file.write(new[:cut])
        file.flush()
        assert path.read_bytes() == old
        file.write(new[cut:])
    assert path.read_bytes() == new


def write_half(path: Path, error: type[BaseException]) -> None:
    with atomic_write(path) as file:
        file.write(b"half of the new")
        file.flush()
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [[b"old"], []])
def test_an_exception_midway_leaves_everything_as_it_was(tmp_path, error, before):
    path = tmp_path / "weights.bin"
    for content in before:
        path.write_bytes(content)
    with pytest.raises(error):
        write_half(path, error)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == before


def test_nothing_but_the_file_is_left(tmp_path):
    with atomic_write(tmp_path / "new" / "folders" / "weights.bin") as file:
        file.write(b"data")
    assert [entry.name for entry in (tmp_path / "new" / "folders").iterdir()] == ["weights.bin"]


def test_text_is_utf_8_with_its_line_ends(tmp_path):
    text = "α_t\r\nσ_t\n"
    with atomic_write(tmp_path / "note.txt", "w") as file:
        file.write(text)
    assert (tmp_path / "note.txt").read_bytes() == text.encode()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    previous = os.umask(mask)
    try:
        (tmp_path / "plain").touch()
        with atomic_write(tmp_path / "atomic"):
            pass
        assert os.umask(mask) == mask, "the mask itself must come back"
    finally:
        os.umask(previous)
    plain, atomic = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic"))
    assert atomic == plain


def test_the_data_is_on_the_disk_before_the_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "data")
        fsync(descriptor)

    def noted_replace(self, target):
        events.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    with atomic_write(tmp_path / "weights.bin") as file:
        file.write(b"data")
    assert events == ["data", "name", "folder"]


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"), atomic_write(tmp_path / "taken") as file:
        file.write(b"data")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@given(st.binary(max_size=3_000_000))
def test_the_hash_is_that_of_the_bytes(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "data.bin"
    path.write_bytes(data)
    assert file_hash(path) == sha256(data).hexdigest()
