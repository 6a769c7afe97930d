"""Laws of tuning: it finds what is known to be best, keeps what a plan must keep, and makes nothing worse."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from snowmelt.core import VE, CosineVP, DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.denoisers import GaussianMixture
from snowmelt.plans import Method, Plan, integrate
from snowmelt.plans.unrolling import from_first_state
from snowmelt.tuning import LOSSES, METHODS, Lesson, distance, find_teacher, tune
from snowmelt.tuning.forms import Form, level_form, schedule_form, table_form
from snowmelt.tuning.least_squares import Objective, least_squares
from snowmelt.tuning.untuned import starts

SCHEDULES = {
    "ddpm": DiscreteSchedule(make_betas()),
    "cosine": CosineVP(),
    "ve": VE(),
    "flow": RectifiedFlow(),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def noises(count, *shape):
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def lesson_of(denoiser, schedule, noise):
    start = Method("ddim", 2).plan(schedule).prior_std * noise
    teacher = Method("adams", 120, "tuned", {"order": 3, "quantity": "eps", "coordinate": "u"})
    images = integrate(teacher.plan(schedule), denoiser, start)
    return Lesson(denoiser, schedule, start, None, images)


MIXTURE = GaussianMixture(torch.tensor([[-1.0, 0.2], [0.3, 0.9], [0.8, -0.7]], dtype=torch.float64), std=0.3)


@pytest.fixture(scope="module")
def mixture():
    """What is learned, what decides, and what neither has seen."""
    lesson = lesson_of(MIXTURE, CosineVP(), noises(288, 2))
    return lesson[:96], lesson[96:192], lesson[192:]


@pytest.fixture(scope="module")
def tuned(mixture):
    return {method: tune(*mixture[:2], 4, method) for method in METHODS}


# -- what is known to be best --------------------------------------------------------------------------


class Axes:
    """The exact denoiser of a Gaussian with another variance on each axis."""

    variances = torch.logspace(-2, 1, 6, dtype=torch.float64)

    def gain(self, level):
        return level.alpha * self.variances / (level.alpha**2 * self.variances + level.sigma**2)

    def __call__(self, x_t, level, class_labels=None, /):
        return self.gain(level) * x_t


def test_the_best_table_of_two_rows_for_a_gaussian_is_found():
    """There the image is linear in three products of coefficients, so that least squares knows the best."""
    schedule, denoiser = CosineVP(), Axes()
    lesson = lesson_of(denoiser, schedule, noises(64, 6))
    plan = Method("ddim", 2).plan(schedule)
    free = table_form(schedule, plan)
    told = free.numbers[2]  # numbers: x and m of the first row, then the told level and m of the second
    form = Form(np.delete(free.numbers, 2), lambda numbers: free.make(np.insert(numbers, 2, told)))
    objective = Objective(LOSSES["squares"], 1.0)
    found = list(islice(least_squares(form, lesson, objective), 40))[-1]

    # Image = (1 - c) m_0 + c m_1 with m_1 = g_1 (a x + b m_0), where g is the denoiser's gain
    first, second = (denoiser.gain(level) for level in plan.levels[:2])
    m_0 = first * lesson.noise
    terms = torch.stack([term.flatten() for term in (-m_0, second * lesson.noise, second * m_0)], 1).numpy()
    wanted = (lesson.images - m_0).flatten().numpy()
    known = terms @ np.linalg.lstsq(terms, wanted, rcond=None)[0] - wanted
    best = np.sqrt(np.square(known).mean())
    assert lesson.distance(found.plan) <= 1.05 * best < 0.7 * lesson.distance(plan)


def test_for_one_gaussian_a_table_of_one_coefficient_a_row_is_exact():
    denoiser = GaussianMixture(torch.tensor([[0.4, -0.2]], dtype=torch.float64), std=0.5)
    lesson = lesson_of(denoiser, RectifiedFlow(), noises(64, 2))
    found = tune(lesson[:32], lesson[32:], 3)
    assert found.distance < 0.05 * found.start_distance


# -- better on fresh noises ----------------------------------------------------------------------------


def test_on_a_mixture_each_method_helps_on_fresh_noises(mixture, tuned):
    fresh = mixture[2]
    errors = [fresh.distance(tuned[method].plan) for method in METHODS]
    assert errors[0] <= 1.02 * fresh.distance(tuned["schedule"].start.plan)
    assert errors[2] < 0.5 * fresh.distance(tuned["table"].start.plan)
    assert errors[2] < errors[0]


def test_nothing_becomes_worse_on_the_noises_that_decide(tuned):
    for found in tuned.values():
        assert found.distance <= found.start_distance


def test_if_nothing_is_better_the_start_is_kept(mixture):
    lesson, held_out, _ = mixture
    best = tune(lesson, held_out, 4, "schedule").start
    taught = replace(held_out, images=held_out.run(best.plan))
    found = tune(lesson, taught, 4, "levels")
    assert not found.gained
    assert found.plan == best.plan


def test_the_same_lesson_gives_the_same_bits(mixture, tuned):
    assert tune(*mixture[:2], 4, "table").plan == tuned["table"].plan


def test_features_have_the_last_word(mixture, tuned):
    """Images lead the search as they would alone. What features say of its end can only fall from there."""
    seen = [each.through(lambda images: 3 * images[:, :1].sin(), 40) for each in mixture[:2]]
    found, alone = tune(*seen, 4, "levels"), tuned["levels"]
    by_images = [step for step in found.curve if step.stage != "features"]
    assert tuple(by_images) == alone.curve
    assert found.distance == seen[1].distance(found.plan) < seen[1].distance(alone.plan)
    assert found.start_distance == seen[1].distance(alone.start.plan)


def test_interrupted_before_features_it_still_measures_by_them(mixture):
    def stop(step):
        raise KeyboardInterrupt

    seen = [each.through(lambda images: images.sin(), 40) for each in mixture[:2]]
    found = tune(*seen, 4, report=stop)
    assert found.interrupted
    assert found.distance == seen[1].distance(found.plan) <= found.start_distance


def test_the_hubers_weight_is_its_slope():
    error = torch.tensor([0.1, 2.0], dtype=torch.float64, requires_grad=True)
    loss, slope = LOSSES["huber"](error, 0.7)
    (gradient,) = torch.autograd.grad(loss.sum(), error)
    torch.testing.assert_close(slope, gradient)


# -- what a plan must keep -----------------------------------------------------------------------------


def test_a_constant_image_is_still_reached(tuned):
    gray = lambda x_t, level, class_labels=None: torch.full_like(x_t, 0.25)  # noqa: E731
    for found in tuned.values():
        image = integrate(found.plan, gray, noises(3, 2))
        torch.testing.assert_close(image, torch.full_like(image, 0.25), rtol=0, atol=1e-9)


@each_schedule
def test_all_numbers_make_a_plan_that_the_network_knows(schedule):
    """From pure noise to the image exactly, times in order, and no level outside those that were trained."""
    random = np.random.default_rng(0)
    times = schedule_form(schedule, Method("ipndm", 5))
    forms = [times, level_form(schedule, times), table_form(schedule, times.plan)]
    for form, size in ((form, size) for form in forms for size in (0.1, 3.0)):
        plan = form.make(form.numbers + size * random.standard_normal(len(form.numbers)))
        plan.check_schedule(schedule)
        assert (plan.levels[0], plan.end) == (schedule(1.0), schedule(0.0))
        assert all(schedule.t_min <= row.level.t <= 1 for row in plan.rows)
        if form is times:
            assert list(plan.levels) == sorted(plan.levels, key=lambda level: -level.t)
        assert Plan.from_json(plan.to_json()) == plan


@each_schedule
def test_every_start_is_found_again_in_each_form(schedule):
    for method, plan in starts(schedule, 4):
        lesson = Lesson(MIXTURE, schedule, noises(4, 2), None, noises(4, 2))
        images = lesson.run(plan)
        torch.testing.assert_close(lesson.run(from_first_state(plan)), images, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(lesson.run(table_form(schedule, plan).plan), images, rtol=1e-4, atol=1e-4)
        times = schedule_form(schedule, method)
        assert [level.t for level in times.plan.levels] == pytest.approx(
            [level.t for level in plan.levels], abs=2e-3
        )


# -- the teacher, and stops ----------------------------------------------------------------------------


def test_the_teacher_is_as_good_as_it_says():
    schedule, noise = CosineVP(), noises(32, 2)
    run = lambda plan: integrate(plan, MIXTURE, noise)  # noqa: E731
    teacher = find_teacher(schedule, run, wanted=1e-3)
    exact = run(Method("adams", 640, "tuned", {"order": 4}).plan(schedule))
    assert distance(run(teacher.plan), exact) < 2 * teacher.error < 2e-3


def test_interrupted_it_keeps_the_best_so_far(mixture):
    def stop(step):
        if step.stage == "levels" and step.held_out < 0.9 * first:
            raise KeyboardInterrupt

    lesson, held_out, _ = mixture
    first = tune(lesson, held_out, 4, "schedule").distance
    found = tune(lesson, held_out, 4, "table", report=stop)
    assert found.interrupted
    assert found.distance < 0.9 * first
    assert held_out.distance(found.plan) == pytest.approx(found.distance)


@pytest.mark.parametrize(
    ("nfe", "options", "match"),
    [
        (1, {}, "2 evaluations or more"),
        (4, {"method": "tables"}, "did you mean 'table'"),
        (4, {"loss": "hubert"}, "did you mean 'huber'"),
    ],
)
def test_what_cannot_be_tuned_is_refused(mixture, nfe, options, match):
    with pytest.raises(ValueError, match=match):
        tune(*mixture[:2], nfe, **options)


def test_numbers_that_break_a_run_are_no_step():
    value = Objective(LOSSES["huber"], 1.0).value
    broken = lesson_of(MIXTURE, CosineVP(), noises(4, 2))
    plan = Method("ddim", 2).plan(CosineVP())
    assert value(plan, replace(broken, images=broken.images * math.nan)) == math.inf
