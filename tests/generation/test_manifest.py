"""The manifest says what a folder is, and where two jobs differ."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.errors import InputError
from snowmelt.generation.manifest import NAME, differences, file_hash, read_manifest, write_manifest

leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
trees = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    leaves | st.dictionaries(st.text("xyz", min_size=1), leaves, min_size=1, max_size=3),
    max_size=4,
)


@given(trees)
def test_a_tree_does_not_differ_from_itself(tree):
    assert differences(tree, tree) == []


@given(trees, trees)
def test_differences_are_the_same_seen_from_the_other_side(one, other):
    assert len(differences(one, other)) == len(differences(other, one))
    assert bool(differences(one, other)) == (one != other and _flat(one) != _flat(other))


def _flat(tree, parent=""):
    flat = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{parent}{name}.") if isinstance(value, dict) else {parent + name: value}
    return flat


def test_a_difference_names_its_place_and_both_values():
    lines = differences({"plan": {"nfe": 4, "name": "ddim"}}, {"plan": {"nfe": 4}, "seed": 1})
    assert lines == ['plan.name: "ddim" there, nothing now', "seed: nothing there, 1 now"]


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


@given(st.binary(max_size=3_000_000))
def test_the_hash_is_that_of_the_bytes(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "data.bin"
    path.write_bytes(data)
    assert file_hash(path) == sha256(data).hexdigest()
