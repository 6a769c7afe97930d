"""Two sets of settings, and the lines that tell them apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from snowmelt.differences import differences

settings = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.none()
    | st.booleans()
    | st.integers()
    | st.text("xyz", max_size=5)
    | st.lists(st.integers(), max_size=3),
    max_size=4,
)


@given(settings, settings)
def test_settings_differ_where_they_are_not_equal_seen_from_either_side(one, other):
    for wrapped in (lambda tree: tree, lambda tree: {"nested": tree}):
        lines = differences(wrapped(one), wrapped(other))
        assert bool(lines) == (one != other)
        assert len(lines) == len(differences(wrapped(other), wrapped(one)))


def test_a_difference_names_its_place_and_both_values():
    lines = differences({"plan": {"nfe": 4, "name": "ddim"}}, {"plan": {"nfe": 4}, "seed": 1})
    assert lines == ['plan.name: "ddim" there, nothing now', "seed: nothing there, 1 now"]
