"""Laws of plans as objects: what they say of themselves, and how they are kept."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.core import Level, LinearVP, RectifiedFlow
from snowmelt.errors import InputError
from snowmelt.plans import Combination, Plan, Row, make_plan, read_plan, write_plan

finite = st.floats(-3e38, 3e38)
positive = st.floats(0, 3e38)
levels = st.builds(Level, st.floats(0, 1), positive, positive)
combinations = st.builds(Combination, finite, finite, st.lists(finite, max_size=1).map(tuple), finite)
plans = st.builds(
    Plan,
    st.lists(st.builds(Row, levels, combinations, combinations), min_size=1, max_size=4).map(tuple),
    levels,
    st.sampled_from(["x0", "eps", "v"]),
    st.integers(1, 5),
    st.text(max_size=8),
)


@settings(max_examples=40, deadline=None)
@given(plans)
def test_json_keeps_every_bit(plan):
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.name == plan.name
    assert again.to_json() == plan.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 3}', '{"rows": [], "end": [0,1,0]}'])
def test_other_text_is_not_a_plan(text):
    with pytest.raises(ValueError, match="plan"):
        Plan.from_json(text)


def test_json_without_a_part_is_not_a_plan():
    fields = json.loads(make_plan(RectifiedFlow(), "ddim", steps=2).to_json())
    for name in fields:
        with pytest.raises(ValueError, match="plan"):
            Plan.from_json(json.dumps({k: v for k, v in fields.items() if k != name}))


@pytest.mark.parametrize(
    ("part", "value", "problem"),
    [
        ("x", None, "row 1, advance, x must be a finite number, got null"),
        ("y", True, "row 1, advance, y must be a finite number, got true"),
        ("z", "1", 'row 1, advance, z must be a finite number, got "1"'),
        ("y", 10**400, "row 1, advance, y must be a finite number"),
        ("y", float("nan"), "row 1, advance, y must be a finite number"),
        ("m", [[]], "row 1, advance, m must be a finite number"),
        ("m", "12", "m must be a list of numbers"),
        ("m", [0.0, 0.5], "row 1 weighs more outputs than there are by then"),
        ("level", [2.0, 1.0, 0.0], "row 1: t lies in"),
        ("level", [1.0, 0.0, -1.0], "row 1: t lies in"),
        ("order", None, "order must be an integer"),
        ("name", ["ddim"], "name must be a text"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_place(part, value, problem):
    """Null counted as 0."""
    fields = json.loads(make_plan(RectifiedFlow(), "ddim", steps=2).to_json())
    row = fields["rows"][0]
    holder = fields if part in fields else row if part in row else row["advance"]
    holder[part] = value
    with pytest.raises(ValueError, match="not a plan") as caught:
        Plan.from_json(json.dumps(fields))
    assert problem in str(caught.value)


def test_a_weight_that_is_left_out_is_not_zero():
    fields = json.loads(make_plan(RectifiedFlow(), "ddim", steps=2).to_json())
    del fields["rows"][0]["advance"]["z"]
    with pytest.raises(ValueError, match="a row has no z"):
        Plan.from_json(json.dumps(fields))


def test_more_rows_than_anybody_runs_are_refused_before_they_are_made(monkeypatch):
    text = make_plan(RectifiedFlow(), "ddim", steps=4).to_json()
    monkeypatch.setattr("snowmelt.plans.plan.STEPS", 3)
    with pytest.raises(ValueError, match="a plan has 1 to 3 rows, got 4"):
        Plan.from_json(text)


def test_more_steps_than_anybody_waits_for_are_refused_at_once():
    with pytest.raises(ValueError, match="steps must be at most 100,000"):
        make_plan(RectifiedFlow(), "ddim", steps=10**9)


def test_lists_in_lists_are_no_plan():
    with pytest.raises(ValueError, match="nested too deeply"):
        Plan.from_json("[" * 100_000)


def test_a_file_of_another_size_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("snowmelt.plans.plan_file.LARGEST", 10)
    write_plan(make_plan(RectifiedFlow(), "ddim", steps=1), tmp_path / "a.json")
    with pytest.raises(InputError, match="at most 10: take another file"):
        read_plan(tmp_path / "a.json")


def test_a_plan_prints_every_number_that_it_uses():
    text = str(make_plan(LinearVP(), "dpmpp_2m", 3))
    title, header, *rows = text.splitlines()
    assert title == "<Plan dpmpp_2m: 3 evaluations, t = 1 -> 0, deterministic, on x0>"
    assert header.split() == ["#", "t", "alpha", "sigma", "lam", "y", "=", "y", "m", "m-1"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert rows[-1].split()[-3:] == [".", "1.00000", "."]  # the last step is the image


def test_weights_are_columns_of_the_terms_in_use():
    plan = make_plan(LinearVP(), "dpmpp_sde", 3, r=0.3)
    advance, correct = plan.weights("advance"), plan.weights("correct")
    assert advance.keys() == {"x", "y", "m", "m-1", "z"}
    assert correct.keys() == {"x", "y", "z"}
    assert {len(column) for column in (*advance.values(), *correct.values())} == {plan.nfe}
    assert advance["z"] == [row.advance.z for row in plan.rows]
    assert [row.advance.m[1] for row in plan.rows if len(row.advance.m) > 1] == [
        v for v in advance["m-1"] if v
    ]


def test_the_first_state_has_the_spread_of_image_and_noise():
    assert make_plan(LinearVP(), "ddim", 3).prior_std == pytest.approx(1.0)
    assert make_plan(RectifiedFlow(), "ddim", times=[0.6, 0.3]).prior_std == pytest.approx(
        math.hypot(0.4, 0.6)
    )


def test_equal_tables_are_equal_whatever_their_name():
    """Euler's method in sigma/alpha is DDIM (Song et al. 2021, section 4.3)."""
    one, other = make_plan(LinearVP(), "ddim", 5), make_plan(LinearVP(), "euler", 5)
    assert (one.name, other.name) == ("ddim", "euler")
    assert one == other
    assert len({one, other}) == 1
    assert one != make_plan(LinearVP(), "ddim", 6)


def test_a_plan_is_read_from_the_file_that_it_was_written_to(tmp_path):
    path, plan = tmp_path / "plan.json", make_plan(LinearVP(), "sa_solver", 5)
    write_plan(plan, path)
    assert read_plan(path) == plan
    assert read_plan(str(path)).name == "sa_solver"


def test_a_file_that_is_not_a_plan_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json cannot be read"):
        read_plan(tmp_path / "nowhere.json")
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(InputError, match=r"other\.json is not a plan"):
        read_plan(path)


def test_stochastic_plans_say_so():
    assert make_plan(LinearVP(), "ddpm", 5).stochastic
    assert make_plan(LinearVP(), "ddim", 5, eta=0.3).stochastic
    assert not make_plan(LinearVP(), "ddim", 5).stochastic


def test_an_empty_plan_and_an_unknown_quantity_are_refused():
    with pytest.raises(ValueError, match="1 to 100,000 rows, got 0"):
        Plan((), Level(0.0, 1.0, 0.0))
    row = Row(Level(1.0, 0.0, 1.0), Combination(m=(1.0,)))
    with pytest.raises(ValueError, match="quantity must be one of"):
        Plan((row,), Level(0.0, 1.0, 0.0), quantity="score")
