"""The manifest says what a folder is."""

from __future__ import annotations

import pytest

from snowmelt.errors import InputError
from snowmelt.generation.manifest import NAME, read_manifest, write_manifest


def test_what_is_written_is_read(tmp_path):
    assert read_manifest(tmp_path) is None
    manifest = {"identity": {"seed": 3}, "status": "running", "runs": [{"seconds": 1.5}]}
    write_manifest(tmp_path / "new", manifest)
    assert read_manifest(tmp_path / "new") == manifest


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"identity"', '{"other": 1}'])
def test_a_broken_manifest_is_an_error_that_says_what_to_do(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=r"manifest\.json.*--overwrite"):
        read_manifest(tmp_path)
