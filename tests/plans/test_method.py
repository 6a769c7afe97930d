"""Laws of `Method`: every spelling makes the same value, there is one default, and nonsense is named."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snowmelt.core import CosineVP, DiscreteSchedule, LinearVP, RectifiedFlow, make_betas
from snowmelt.errors import InputError
from snowmelt.plans import GRIDS, PRESETS, SOLVERS, Method, ddim, make_plan, reverse, write_plan

from .cases import CASES, GRID_CASES, KINDS

DDPM = DiscreteSchedule(make_betas())
SHORT = DiscreteSchedule(make_betas("linear", 10, 1e-3, 0.5))

# A solver and a grid, each with its options, in some number of steps: all that is said but a table
said = st.builds(
    lambda case, grid, steps: {
        "solver": case.solver,
        **({} if steps is None else {"steps": steps}),
        **({} if grid is None else {"grid": grid.grid, **grid.options}),
        **case.options,
    },
    st.sampled_from(CASES),
    st.none() | st.sampled_from(GRID_CASES),
    st.none() | st.integers(1, 1000) | st.just("all"),
)
presets = st.sampled_from(sorted(PRESETS)).map(lambda name: {"preset": name})


# -- every spelling ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(said | presets)
def test_text_mapping_and_keywords_say_the_same(words):
    method = Method.of(words)
    assert Method.of(**words) == method
    assert Method.parse(str(method)) == method
    assert Method.from_dict(method.to_dict()) == method
    assert Method.from_dict(yaml.safe_load(yaml.safe_dump(method.to_dict()))) == method
    assert Method.from_dict(json.loads(json.dumps(method.to_dict()))) == method
    assert pickle.loads(pickle.dumps(method)) == method
    assert Method.of(method) is method


def test_a_table_is_a_method_in_every_spelling(tmp_path):
    plan = make_plan(LinearVP(), "unipc", 5)
    path = tmp_path / "a plan.json"
    write_plan(plan, path)
    method = Method(table=plan)
    assert str(method) == "unipc"
    for spelling in (plan, str(path), {"plan": plan}, {"plan": str(path)}, {"plan": path}, method.to_dict()):
        assert Method.of(spelling) == method
    assert Method.of(plan=plan) == method
    assert Method.from_dict(json.loads(json.dumps(method.to_dict()))) == method


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("balanced", Method()),
        ("ddim", Method("ddim")),
        ("  ddim:20  ", Method("ddim", 20)),
        ("ddim steps=20", Method("ddim", 20)),
        ("solver=ddim steps=20", Method("ddim", 20)),
        ("type=ddim steps=20", Method("ddim", 20)),
        ("ddim:all", Method("ddim", "all")),
        ("ddpm", Method(preset="ddpm")),
        ("ddpm:100", Method("ddpm", 100)),
        ("preset=fast", Method(preset="fast")),
        ("dpmpp_2m steps=20 grid=karras rho=5", Method("dpmpp_2m", 20, "karras", {"rho": 5})),
        ("sa_solver:8 interval=[0.1,0.9]", Method("sa_solver", 8, options={"interval": (0.1, 0.9)})),
        ("dpmpp_3m as_published=false", Method("dpmpp_3m", options={"as_published": False})),
        ("ddim times=[0.9,0.5]", Method("ddim", options={"times": [0.9, 0.5]})),
        ("steps=20", Method(steps=20)),
        ("grid=karras", Method(grid="karras")),
    ],
)
def test_the_text_form(text, same):
    assert Method.parse(text) == same


def test_tuples_are_lists_and_the_given_options_are_copied():
    options = {"inner": "unipc", "inner_options": {"order": 3}, "interval": (0.1, 0.5)}
    method = Method("restart", options=options)
    before = copy.deepcopy(method)
    options["inner_options"]["order"] = 1
    assert method == before == Method("restart", options={**method.options, "interval": [0.1, 0.5]})


# -- the default ---------------------------------------------------------------------------------------


def test_there_is_one_default_in_every_spelling(schedule):
    balanced = Method(preset="balanced")
    assert Method() == Method.of() == Method.of({}) == Method.parse("balanced") == balanced
    assert str(Method()) == "balanced"
    plan = make_plan(schedule)
    assert plan == Method().plan(schedule)
    assert (plan.nfe, plan.levels[0].t, plan.end.t) == (16, 1.0, 0.0)


def test_without_a_solver_the_default_preset_is_changed_where_something_is_said():
    balanced = PRESETS["balanced"]
    assert Method(steps=9) == Method(balanced.solver, 9, balanced.grid, balanced.options)
    assert Method(grid="karras") == Method(balanced.solver, 16, "karras", balanced.options)
    other = Method(options={"order": 2})
    assert other == Method(balanced.solver, 16, balanced.grid, {**balanced.options, "order": 2})
    listed = Method(options={"times": [0.8, 0.4, 0.1]})
    assert listed.times(LinearVP()) == (0.8, 0.4, 0.1, 0.0)


def test_a_bare_solver_takes_fifty_steps_on_trailing_or_all_that_are_trained():
    assert make_plan(DDPM, "ddim") == make_plan(DDPM, "ddim", 50, "trailing")
    assert make_plan(RectifiedFlow(), "ddim") == make_plan(RectifiedFlow(), "ddim", 50, "uniform_t")
    assert make_plan(SHORT, "ddim").nfe == 10


def test_all_steps_are_every_trained_index():
    assert make_plan(DDPM, "ddim", "all").nfe == 1000
    assert Method("ddim", "all").times(SHORT) == SHORT_TIMES
    assert make_plan(SHORT, "ddpm") == make_plan(SHORT, "ddpm", "all") == make_plan(SHORT, "ddpm", 10)
    for solver in ("ddim", "ddpm"):
        with pytest.raises(
            ValueError, match="every trained step is asked for, and LinearVP, being continuous"
        ):
            make_plan(LinearVP(), solver, "all")
    with pytest.raises(ValueError, match="give a number of steps, such as ddpm:1000, or take another preset"):
        make_plan(LinearVP(), "ddpm")


SHORT_TIMES = tuple((10 - i) / 10 for i in range(11))


# -- presets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_the_name_of_a_preset_alone_is_the_preset(name):
    assert Method(name) == Method(preset=name) == Method.parse(name) == Method.of({"type": name})
    assert str(Method(name)) == name
    assert Method(name).to_dict() == {"preset": name}


def test_with_steps_or_options_ddpm_is_the_solver():
    for method in (
        Method("ddpm", 20),
        Method("ddpm", grid="karras"),
        Method("ddpm", options={"times": [0.5]}),
    ):
        assert (method.solver, method.preset) == ("ddpm", None)


# -- plans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS)
def test_a_plan_is_the_solver_on_the_grid(grid):
    method = Method("dpmpp_2m", 7, grid, {"solver_type": "heun"})
    times = GRIDS[grid](DDPM, 7)
    assert method.times(DDPM) == times
    assert method.plan(DDPM) == SOLVERS["dpmpp_2m"](DDPM, times, solver_type="heun")


def test_options_go_to_the_solver_and_to_the_grid_that_have_them():
    method = Method("ddim", 5, "karras", {"eta": 0.5, "rho": 3.0})
    expected = ddim(LinearVP(), GRIDS["karras"](LinearVP(), 5, rho=3.0), eta=0.5)
    assert method.plan(LinearVP()) == expected
    assert make_plan(LinearVP(), "ddim", 5, "karras", eta=0.5, rho=3.0) == expected


def test_given_times_stand_in_place_of_the_methods_own():
    times = [0.7, 0.3, 0.1]
    for method in (Method("ddim", 20), Method(preset="fast"), Method("ddim", options={"times": [1.0]})):
        assert [level.t for level in method.plan(LinearVP(), times).levels] == times


@pytest.mark.parametrize(
    ("name", "values", "times"),
    [
        ("times", [0.9, 0.5], (0.9, 0.5, 0.0)),
        ("sigmas", [3.0, 1.0], (0.75, 0.5, 0.0)),
        ("indices", [9, 4], (1.0, 0.5, 0.0)),
    ],
)
def test_a_list_of_evaluations_stands_in_place_of_steps_and_grid(name, values, times):
    schedule = SHORT if name == "indices" else RectifiedFlow()
    method = Method("ddim", options={name: values})
    assert method.times(schedule) == pytest.approx(times)
    assert method.has_own_steps
    with pytest.raises(ValueError, match=f"steps is 5, but {name} lists 2 evaluations"):
        method.changed(5).plan(schedule)
    with pytest.raises(ValueError, match="give either grid, got 'karras', or a list"):
        Method("ddim", grid="karras", options={name: values})


def test_restart_takes_the_name_of_its_inner_solver():
    options = {"inner_options": {"solver_type": "heun"}, "repeats": 2}
    plan = make_plan(DDPM, "restart", 20, inner="dpmpp_2m", **options)
    times = Method("restart", 20).times(DDPM)
    assert plan == SOLVERS["restart"](DDPM, times, inner=SOLVERS["dpmpp_2m"], **options)


# -- a part of the way, and back -----------------------------------------------------------------------


def test_times_from_start_exactly_there():
    method = Method("ddim", 4)  # 1, 0.75, 0.5, 0.25, 0 on a flow
    assert method.times_from(RectifiedFlow(), 1.0) == method.times(RectifiedFlow())
    assert method.times_from(RectifiedFlow(), 0.75) == (0.75, 0.5, 0.25, 0.0)
    assert method.times_from(RectifiedFlow(), 0.6) == (0.6, 0.5, 0.25, 0.0)
    assert method.times_from(RectifiedFlow(), 0.1) == (0.1, 0.0)


def test_a_first_step_of_less_than_a_tenth_is_merged_with_the_next():
    method = Method("ddim", 4)
    assert method.times_from(RectifiedFlow(), 0.524) == (0.524, 0.25, 0.0)
    assert method.times_from(RectifiedFlow(), 0.526) == (0.526, 0.5, 0.25, 0.0)
    assert method.times_from(RectifiedFlow(), 0.001) == (0.001, 0.0)  # there is nothing to merge with


@pytest.mark.parametrize("t", [0.0, -0.1, 1.5])
def test_times_from_nowhere_are_refused(t):
    with pytest.raises(ValueError, match=r"t must lie in \(0, 1\]"):
        Method("ddim", 4).times_from(RectifiedFlow(), t)


@settings(deadline=None, max_examples=60)
@given(t=st.floats(1e-6, 1.0), kind=st.sampled_from(sorted(KINDS)), name=st.sampled_from(["fast", "ddim:7"]))
def test_times_from_anywhere_fall_strictly_and_lie_on_the_grid(t, kind, name):
    method = Method.parse(name)
    first, *rest = method.times_from(KINDS[kind], t)
    assert first == t
    assert rest == sorted(set(rest), reverse=True)
    assert rest[0] < t
    assert set(rest) <= set(method.times(KINDS[kind]))


def test_reversed_is_the_same_method_from_the_image_to_the_noise():
    method = Method("adams", 9, options={"order": 2})
    expected = reverse(CosineVP(), method.times(CosineVP()), SOLVERS["adams"], order=2)
    assert method.reversed(CosineVP()) == expected
    assert Method(preset="fast").reversed(RectifiedFlow()).end.t == 1.0
    with pytest.raises(ValueError, match="only a deterministic solver can be reversed"):
        Method(preset="ddpm").reversed(DDPM)


# -- steps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "own"),
    [
        (Method("ddim"), False),
        (Method("ddim", grid="karras"), False),
        (Method("ddim", options={"eta": 0.5}), False),
        (Method("ddim", 20), True),
        (Method("ddim", "all"), True),
        (Method("ddim", options={"times": [0.5]}), True),
        (Method(), True),
        (Method(preset="ddpm"), True),
        (Method(table=make_plan(LinearVP(), "ddim", 2)), True),
    ],
)
def test_a_method_knows_whether_it_has_its_own_steps(method, own):
    assert method.has_own_steps is own


def test_changed_steps_leave_the_rest_alone():
    method = Method("ddim", 5, "karras", {"eta": 0.5})
    assert method.changed(9) == Method("ddim", 9, "karras", {"eta": 0.5})
    assert Method("ddim").changed(9) == Method("ddim", 9)


# -- tables --------------------------------------------------------------------------------------------


def test_a_table_is_its_plan_on_its_own_schedule_alone():
    plan = make_plan(LinearVP(), "ddim", 5)
    method = Method(table=plan)
    assert method.plan(LinearVP()) is plan
    assert method.plan(LinearVP(beta_min=0.1, beta_max=20.0)) is plan
    with pytest.raises(
        ValueError, match="the plan ddim was made for another noise schedule: at t = 1 it has"
    ):
        method.plan(RectifiedFlow())
    with pytest.raises(ValueError, match="another noise schedule"):
        method.plan(LinearVP(beta_max=20.01))


def test_a_table_cannot_be_cut_stretched_or_reversed():
    method = Method(table=make_plan(LinearVP(), "ddim", 5))
    with pytest.raises(ValueError, match="the finished plan ddim cannot be cut or stretched"):
        method.plan(LinearVP(), [0.5, 0.0])
    for refused in (method.times, method.reversed):
        with pytest.raises(ValueError, match="the finished plan ddim cannot be cut or reversed"):
            refused(LinearVP())


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"solver": "dddim"}, "unknown solver 'dddim', did you mean 'ddim'.* Known: ddpm, ddim"),
        ({"grid": "karas"}, "unknown grid 'karas', did you mean 'karras'"),
        ({"preset": "slow"}, "unknown preset 'slow'. Known: draft, fast, balanced, quality, ddpm"),
        ({"solver": "ddim", "steps": 0}, "steps must be at least 1, got 0"),
        ({"solver": "ddim", "etaa": 0.5}, "has no option 'etaa', did you mean 'eta'"),
        ({"solver": "ddpm", "eta": 0.5}, "on grid 'trailing' has no option 'eta'.* is an option of ddim"),
        ({"solver": "ddim", "rho": 5}, "has no option 'rho'.*'rho' is an option of karras"),
        ({"solver": "ddim", "eta": "much"}, "eta must be a number, such as 0.0, got 'much'"),
        ({"grid": "karras", "rho": [7]}, r"rho must be a number, such as 7.0, got \[7\]"),
        ({"solver": "restart", "inner": "dimm"}, "unknown solver 'dimm', did you mean 'ddim'"),
        ({"preset": "fast", "steps": 5}, "complete in itself"),
        ({"preset": "fast", "solver": "ddim"}, "complete in itself"),
        ({"type": "fast", "steps": 5}, "fast has its steps, grid and options already"),
        ({"type": "ddim", "solver": "heun"}, "type and solver are one: got 'ddim' and 'heun'"),
    ],
)
def test_nonsense_is_refused_when_the_method_is_made(words, message):
    with pytest.raises(ValueError, match=message):
        Method.of(words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty text does not say a method"),
        ("   ", "an empty text does not say a method"),
        ("dimm", "unknown solver 'dimm', did you mean 'ddim'"),
        ("fast:5", "fast has its steps, grid and options already"),
        ("fast grid=karras", "fast has its steps, grid and options already"),
        ("ddim:20 steps=30", "states steps twice"),
        ("ddim eta=0.1 eta=0.2", "states eta twice"),
        ("ddim solver=heun", "states solver twice"),
        ("ddim 20", "'20' is not an option: expected key=value, such as eta=0.5"),
        ("ddim =20", "'=20' is not an option"),
        ("nowhere.json", "nowhere.json cannot be read"),
    ],
)
def test_nonsense_is_refused_in_a_text(text, message):
    with pytest.raises(ValueError, match=message):
        Method.parse(text)


def test_a_file_that_is_not_a_plan_is_named(tmp_path):
    path = tmp_path / "other.json"
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match=r"other\.json is not a plan"):
        Method.parse(str(path))


@pytest.mark.parametrize("steps", [2.0, "5", True, "many"])
def test_steps_are_integers_or_all(steps):
    with pytest.raises(TypeError, match=f"steps must be an integer or 'all', got {steps!r}"):
        Method("ddim", steps)
    with pytest.raises(TypeError, match="steps must be an integer"):
        Method.parse("ddim:x")


def test_a_method_is_said_in_one_way():
    plan = make_plan(LinearVP(), "ddim", 5)
    with pytest.raises(ValueError, match="give either method or steps, not both"):
        Method.of("ddim", steps=5)
    with pytest.raises(ValueError, match="complete in itself"):
        Method("ddim", table=plan)
    with pytest.raises(ValueError, match="complete in itself"):
        Method(preset="fast", table=plan)
    with pytest.raises(TypeError, match="method must be a Method, a Plan, a text or a mapping, got 3"):
        Method.of(3)
    assert Method.of("ddim", steps=None, eta=None) == Method("ddim")
