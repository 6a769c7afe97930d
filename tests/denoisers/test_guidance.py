"""Guidance methods against closed forms, against a peer, and against each other."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance
from diffusers.guiders.guider_utils import rescale_noise_cfg
from hypothesis import given
from hypothesis import strategies as st

from snowmelt.core import Level, LinearVP, RectifiedFlow
from snowmelt.denoisers import Clip, GaussianMixture
from snowmelt.denoisers.guidance import (
    APG,
    CFG,
    GUIDANCE,
    SCHEDULES,
    AutoGuidance,
    CFGPlusPlus,
    ClassifierFreeGuidance,
    ClassifierGuidance,
    GuidedByWeaker,
    LogProbabilityGradient,
    make_guidance,
    network_evaluations,
    projected,
    rescaled,
)
from snowmelt.plans import Plan, integrate, make_plan
from snowmelt.plans.builder import first_order_step
from snowmelt.plans.plan import Row
from snowmelt.plans.reverse import reverse

LEVEL = Level(0.5, 0.8, 0.6)
NULL = 3
MEANS = torch.randn(6, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([0, 0, 1, 1, 2, 2])
MIXTURE = GaussianMixture(MEANS, 0.3, CLASSES)
WEAK = GaussianMixture(0.8 * MEANS, 0.6, CLASSES)
LABELS = torch.tensor([0, 1, 2, 0])
PLAN = make_plan(RectifiedFlow(), "ddim", steps=8)


def log_density(x_t, level, label=None):
    """Return log p(x_t | label) of the mixture, up to one constant for all classes."""
    _, alpha, sigma = level
    means = MEANS if label is None else MEANS[label == CLASSES]
    squares = ((x_t[:, None] - alpha * means) ** 2).sum((2, 3, 4))
    return torch.logsumexp(-squares / (2 * (alpha**2 * 0.3**2 + sigma**2)), dim=1)


def classify(x_t, level):
    return torch.stack([log_density(x_t, level, label) for label in range(3)], dim=1)


def states(seed: int) -> torch.Tensor:
    return torch.randn(4, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def wrapped(guidance, scale, plan=PLAN, denoiser=MIXTURE, null_class=NULL):
    return guidance.wrap(denoiser, scale, null_class=null_class, plan=plan)


class Counting:
    """A denoiser that counts the images it is asked about."""

    def __init__(self, denoiser=MIXTURE):
        self.denoiser = denoiser
        self.images = 0

    def __call__(self, x_t, level, class_labels=None, /):
        self.images += len(x_t)
        return self.denoiser(x_t, level, class_labels)


ALL = {
    "cfg": CFG(),
    "cfg-interval": CFG(interval=(0.3, 2.0)),
    "cfg-schedule": CFG(schedule="cosine", rescale=0.7),
    "apg": APG(eta=0.2, norm_threshold=0.5),
    "apg-everything": APG(eta=0.0, rescale=0.5, schedule="linear", interval=(0.2, 0.8), interval_in="t"),
    "autoguidance": AutoGuidance(weak=WEAK),
    "autoguidance-projected": AutoGuidance(weak=WEAK, eta=0.0, norm_threshold=1.0, interval=(0.3, 2.0)),
    "cfg++": CFGPlusPlus(),
    "cfg++-interval": CFGPlusPlus(interval=(0.3, 2.0)),
    "classifier": ClassifierGuidance(classifier=classify, schedule="linear"),
}
CONTRASTS = [name for name in ALL if not name.startswith(("cfg++", "classifier"))]
noise_levels = st.floats(0.05, 0.95).map(RectifiedFlow())
scales = st.floats(-3, 10)
seeds = st.integers(0, 99)


# ---------------------------------------------------------------------------------------------------
# Closed forms
# ---------------------------------------------------------------------------------------------------


@given(scale=scales, seed=seeds, level=noise_levels)
def test_cfg_follows_the_guided_score(scale, seed, level):
    """(1 - s) grad log p(x) + s grad log p(x | y), by autograd, through Tweedie's formula."""
    x_t = states(seed).requires_grad_()
    conditional = torch.stack([log_density(x[None], level, y)[0] for x, y in zip(x_t, LABELS, strict=True)])
    log_p = (1 - scale) * log_density(x_t, level) + scale * conditional
    (score,) = torch.autograd.grad(log_p.sum(), x_t)
    expected = (x_t + level.sigma**2 * score) / level.alpha
    actual = ClassifierFreeGuidance(MIXTURE, scale, NULL)(x_t, level, LABELS)
    torch.testing.assert_close(actual, expected)


@given(scale=scales, seed=seeds, level=noise_levels)
def test_an_exact_classifier_makes_cfg_of_an_unconditional_denoiser(scale, seed, level):
    """Bayes' rule: at scale 1 it is the conditional denoiser, at scale s classifier-free guidance at s."""
    guided = wrapped(ClassifierGuidance(classifier=classify), scale, null_class=None)
    expected = ClassifierFreeGuidance(MIXTURE, scale, NULL)(states(seed), level, LABELS)
    torch.testing.assert_close(guided(states(seed), level, LABELS), expected)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_classifier_guidance_needs_no_autograd_outside(context):
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    guidance = ClassifierGuidance(classifier=lambda x, level: weights * classify(x, level))
    with context():
        x0 = wrapped(guidance, 1.0)(states(0), LEVEL, LABELS.clone())
    assert not x0.requires_grad
    assert weights.grad is None
    torch.testing.assert_close(x0.clone(), MIXTURE(states(0), LEVEL, LABELS))


def test_classifier_guidance_starts_from_the_denoiser_that_is_asked_for():
    unconditional, conditional = MIXTURE(states(0), LEVEL), MIXTURE(states(0), LEVEL, LABELS)
    added = conditional - unconditional
    for start, told in ((unconditional, False), (conditional, True)):
        guidance = ClassifierGuidance(classifier=classify, conditional=told)
        torch.testing.assert_close(wrapped(guidance, 2.0)(states(0), LEVEL, LABELS), start + 2 * added)


def test_a_classifier_adds_nothing_at_pure_noise_and_at_the_image():
    guided = wrapped(ClassifierGuidance(classifier=classify), 5.0)
    for level in (Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)):
        assert torch.equal(guided(states(0), level, LABELS), MIXTURE(states(0), level))


@given(scale=scales, seed=seeds, level=noise_levels)
def test_autoguidance_is_the_line_through_both_networks(scale, seed, level):
    x_t = states(seed)
    for labels in (LABELS, None):
        good, weak = MIXTURE(x_t, level, labels), WEAK(x_t, level, labels)
        guided = wrapped(AutoGuidance(weak=WEAK), scale, null_class=None)
        torch.testing.assert_close(guided(x_t, level, labels), weak + scale * (good - weak))


# ---------------------------------------------------------------------------------------------------
# Laws that many share
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTRASTS)
def test_scale_one_is_the_good_prediction_alone(name):
    counting = Counting()
    guided = wrapped(ALL[name], 1.0, denoiser=counting)
    for row in PLAN.rows:
        assert torch.equal(guided(states(0), row.level, LABELS), MIXTURE(states(0), row.level, LABELS))
    assert counting.images == PLAN.nfe * 4


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("scale", [0.0, 0.6, 1.0, 4.0])
def test_evaluations_are_counted_before_they_are_made(name, scale):
    counting, weak = Counting(), Counting(WEAK)
    guidance = ALL[name]
    if isinstance(guidance, AutoGuidance):
        guidance = AutoGuidance(weak=weak, interval=guidance.interval)
    denoiser = wrapped(guidance, scale, denoiser=counting) if guidance.guides(scale) else counting
    integrate(PLAN, denoiser, states(0), LABELS)
    assert counting.images + weak.images == 4 * network_evaluations(PLAN, guidance, scale)


@pytest.mark.parametrize("name", ["cfg", "apg", "autoguidance", "cfg++", "classifier"])
@pytest.mark.parametrize(("interval", "unit"), [((0.4, 1.0), "sigma"), ((0.3, 0.5), "t")])
def test_an_interval_changes_nothing_inside_and_leaves_out_everything_outside(name, interval, unit):
    options = {"autoguidance": {"weak": WEAK}, "classifier": {"classifier": classify}}.get(name, {})
    everywhere = GUIDANCE[name](**options)
    somewhere = GUIDANCE[name](interval=interval, interval_in=unit, **options)
    left = None if name == "classifier" else LABELS  # a classifier starts from the unconditional denoiser
    inside = 0
    for row in PLAN.rows:
        level, x_t = row.level, states(0)
        at = level.t if unit == "t" else math.exp(-level.lam)
        acts = interval[0] < at <= interval[1]
        inside += acts
        expected = wrapped(everywhere, 4.0)(x_t, level, LABELS) if acts else MIXTURE(x_t, level, left)
        assert torch.equal(wrapped(somewhere, 4.0)(x_t, level, LABELS), expected)
    assert 0 < inside < PLAN.nfe


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_every_method_keeps_the_dtype_and_stays_finite(name, dtype):
    guided = Clip(wrapped(ALL[name], 3.0))
    for row in PLAN.rows:
        x0 = guided(states(0).to(dtype), row.level, LABELS)
        assert x0.dtype == dtype
        assert x0.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_an_image_does_not_see_its_neighbours(name):
    guided = wrapped(ALL[name], 3.0)
    level = PLAN.rows[4].level
    together = guided(states(0), level, LABELS)
    for i in range(4):
        alone = guided(states(0)[i : i + 1], level, LABELS[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("auto")])
def test_without_labels_there_is_nothing_to_guide_towards(name):
    with pytest.raises(ValueError, match="guidance needs class_labels"):
        wrapped(ALL[name], 3.0)(states(0), PLAN.rows[4].level)


@pytest.mark.parametrize("name", ["cfg", "apg", "cfg++"])
def test_without_a_null_class_there_is_nothing_to_contrast_with(name):
    with pytest.raises(ValueError, match="needs a model with classes and a null class"):
        wrapped(ALL[name], 3.0, null_class=None)


def test_guidance_wraps_what_guidance_has_wrapped():
    """Classifier-free guidance of an autoguided denoiser: a line through two lines."""
    x_t = states(0)
    both = ClassifierFreeGuidance(GuidedByWeaker(MIXTURE, WEAK, 2.0), 3.0, NULL)
    halves = [2 * MIXTURE(x_t, LEVEL, labels) - WEAK(x_t, LEVEL, labels) for labels in (LABELS, None)]
    torch.testing.assert_close(both(x_t, LEVEL, LABELS), 3 * halves[0] - 2 * halves[1])


# ---------------------------------------------------------------------------------------------------
# Rescale
# ---------------------------------------------------------------------------------------------------


@given(scale=st.floats(1.5, 20), seed=seeds, phi=st.floats(0, 1))
def test_rescaling_goes_phi_of_the_way_to_the_conditional_spread(scale, seed, phi):
    x_t = states(seed)
    conditional = MIXTURE(x_t, LEVEL, LABELS).flatten(1).std(dim=1)
    plain = wrapped(CFG(), scale)(x_t, LEVEL, LABELS).flatten(1).std(dim=1)
    actual = wrapped(CFG(rescale=phi), scale)(x_t, LEVEL, LABELS).flatten(1).std(dim=1)
    torch.testing.assert_close(actual, (1 - phi) * plain + phi * conditional)


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 3, 4, 4)])
def test_flat_images_have_no_spread_to_scale(shape):
    flat = torch.full(shape, 0.25)
    assert torch.equal(rescaled(flat, torch.randn(shape), phi=1.0), flat)


def test_rescaling_is_the_peers():
    guided, good = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(rescaled(guided, good, 0.7), rescale_noise_cfg(guided, good, 0.7))


# ---------------------------------------------------------------------------------------------------
# Adaptive projected guidance
# ---------------------------------------------------------------------------------------------------


@given(scale=scales, seed=seeds)
def test_apg_that_keeps_everything_is_cfg(scale, seed):
    expected = wrapped(CFG(), scale)(states(seed), LEVEL, LABELS)
    for threshold in (None, 1e9):
        guided = wrapped(APG(eta=1.0, norm_threshold=threshold), scale)
        torch.testing.assert_close(guided(states(seed), LEVEL, LABELS), expected)


@given(seed=seeds, eta=st.floats(0, 1), threshold=st.floats(0.01, 10))
def test_projection_splits_along_the_prediction(seed, eta, threshold):
    good, bad = states(seed), states(seed + 100)
    difference = good - bad
    norm = difference.flatten(1).norm(dim=1)
    along = (projected(good, bad, eta, threshold) * good).flatten(1).sum(dim=1)
    kept = torch.minimum(torch.ones_like(norm), threshold / norm)
    torch.testing.assert_close(along, eta * kept * (difference * good).flatten(1).sum(dim=1))
    whole = projected(good, bad, 1.0, threshold).flatten(1).norm(dim=1)
    torch.testing.assert_close(whole, norm.clamp(max=threshold))


def test_a_prediction_of_zero_has_no_direction():
    assert torch.equal(projected(torch.zeros(1, 2), torch.ones(1, 2), 0.0, 9.0), -torch.ones(1, 2))
    assert torch.equal(projected(torch.ones(1, 2), torch.ones(1, 2), 0.0, 9.0), torch.zeros(1, 2))


@pytest.mark.parametrize("threshold", [0.0, 2.5])
def test_projection_is_the_peers(threshold):
    good, bad = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    peer = normalized_guidance(good, bad, 3.0, None, 0.25, threshold, use_original_formulation=True)
    torch.testing.assert_close(good + 3.0 * projected(good, bad, 0.25, threshold or None), peer)


# ---------------------------------------------------------------------------------------------------
# CFG++
# ---------------------------------------------------------------------------------------------------


def cfg_plus_plus_loop(levels, x, scale, eta=0.0, noise=None):
    """Return the paper's algorithm: DDIM to the guided image with the unconditional noise."""
    for s, t in pairwise(levels):
        unconditional, conditional = MIXTURE(x, s), MIXTURE(x, s, LABELS)
        image = unconditional + scale * (conditional - unconditional)
        eps = (x - s.alpha * unconditional) / s.sigma
        # DDIM eq. 16, on a variance-preserving schedule
        fresh = eta * t.sigma / s.sigma * math.sqrt(max(0.0, 1 - s.alpha**2 / t.alpha**2)) if eta else 0.0
        x = t.alpha * image + math.sqrt(t.sigma**2 - fresh**2) * eps
        if fresh:
            x = x + fresh * noise()
    return x


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("solver", ["ddim", "euler"])
def test_cfg_plus_plus_is_the_papers_loop(schedule, scale, solver):
    plan = make_plan(schedule, solver, steps=7)
    x = plan.prior_std * states(0)
    actual = integrate(plan, wrapped(CFGPlusPlus(), scale, plan), x, LABELS)
    torch.testing.assert_close(actual, cfg_plus_plus_loop(plan.levels, x, scale))


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_cfg_plus_plus_with_fresh_noise_keeps_the_rest_of_the_unconditional_one(eta):
    plan = make_plan(LinearVP(), "ddim", steps=7, eta=eta)
    draws = [torch.randn(4, 1, 2, 2, dtype=torch.float64) for _ in range(7)]
    guided = wrapped(CFGPlusPlus(), 0.6, plan)
    actual = integrate(plan, guided, states(0), LABELS, iter(draws).__next__)
    expected = cfg_plus_plus_loop(plan.levels, states(0), 0.6, eta, iter(draws).__next__)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("quantity", ["x0", "eps", "v"])
def test_cfg_plus_plus_reads_plans_in_every_dialect(quantity):
    levels = [Level(t / 2, math.cos(t), math.sin(t)) for t in (1.2, 0.8, 0.4, 0.0)]
    rows = tuple(Row(s, first_order_step(s, t, quantity=quantity)) for s, t in pairwise(levels))
    plan = Plan(rows, levels[-1], quantity)
    actual = integrate(plan, wrapped(CFGPlusPlus(), 0.6, plan), states(0), LABELS)
    torch.testing.assert_close(actual, cfg_plus_plus_loop(levels, states(0), 0.6))


@pytest.mark.parametrize("solver", ["ddpm", "euler_ancestral", "restart"])
def test_cfg_plus_plus_takes_every_plan_of_first_order_steps(solver):
    plan = make_plan(RectifiedFlow(), solver, steps=8)
    assert CFGPlusPlus().strength(1.0, plan)(plan.rows[0].level) == pytest.approx(1.0)


@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m", "unipc", "dpm2", "sa_solver", "ipndm", "dpmpp_sde"])
def test_cfg_plus_plus_refuses_steps_of_several_evaluations(solver):
    plan = make_plan(RectifiedFlow(), solver, steps=6)
    with pytest.raises(ValueError, match="combines several evaluations in a step"):
        wrapped(CFGPlusPlus(), 0.6, plan)


def test_cfg_plus_plus_refuses_the_way_towards_noise_and_ambiguous_steps():
    with pytest.raises(ValueError, match="leads away from it"):
        wrapped(CFGPlusPlus(), 0.6, reverse(RectifiedFlow(), [1.0, 0.5, 0.2, 0.0]))
    s, t, u = (RectifiedFlow()(t) for t in (0.8, 0.5, 0.2))
    twice = Plan((Row(s, first_order_step(s, t)), Row(s, first_order_step(s, u))), u)
    with pytest.raises(ValueError, match=r"two different ones from t = 0\.8"):
        wrapped(CFGPlusPlus(), 0.6, twice)
    with pytest.raises(ValueError, match="knows the levels of its plan only"):
        wrapped(CFGPlusPlus(), 0.6)(states(0), RectifiedFlow()(0.123), LABELS)


# ---------------------------------------------------------------------------------------------------
# Schedules, names and options
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_named_schedules_have_mean_one(name):
    levels = [RectifiedFlow()((i + 0.5) / 1000) for i in range(1000)]
    assert sum(map(SCHEDULES[name], levels)) / 1000 == pytest.approx(1.0)
    assert all(SCHEDULES[name](level) >= 0 for level in levels)


def test_a_function_of_the_level_is_a_schedule():
    guided = wrapped(CFG(schedule=lambda level: level.sigma), 3.0)
    expected = ClassifierFreeGuidance(MIXTURE, 1 + 2 * LEVEL.sigma, NULL)(states(0), LEVEL, LABELS)
    assert torch.equal(guided(states(0), LEVEL, LABELS), expected)


def test_a_guidance_is_made_from_what_a_configuration_says():
    assert make_guidance() == make_guidance("cfg") == make_guidance({}) == CFG()
    assert make_guidance({"type": "apg", "interval": [0.3, 3]}) == APG(interval=(0.3, 3))
    assert make_guidance({"interval": [0.3, math.inf]}) == CFG(interval=(0.3, math.inf))
    assert make_guidance(ALL["autoguidance"]) is ALL["autoguidance"]


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("pag", "guidance must be one of cfg"),
        ({"type": "apg", "momentum": -0.5}, "no option 'momentum': it has interval"),
        ({"type": "cfg++", "rescale": 0.7}, "no option 'rescale': its scale belongs to the step"),
        ({"type": "classifier", "classifier": classify, "eta": 0.0}, "there is one prediction"),
        ({"eta": 0.0}, "is apg"),
        ("autoguidance", "needs weak"),
        ({"interval": (3.0, 0.3)}, "0 <= low < high"),
        ({"interval": (1.0,)}, "0 <= low < high"),
        ({"interval_in": "lam"}, "interval_in must be sigma"),
        ({"schedule": "quadratic"}, "schedule must be one of constant, linear, cosine"),
        ({"rescale": 1.5}, "rescale must lie in"),
        ({"type": "apg", "eta": 2.0}, "eta must lie in"),
        ({"type": "apg", "norm_threshold": 0.0}, "norm_threshold must be positive"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(given_, message):
    with pytest.raises(ValueError, match=message):
        make_guidance(given_)


@pytest.mark.parametrize(
    "given_", [3.0, {"type": "autoguidance", "weak": "w.pth"}, {"type": "classifier", "classifier": 1}]
)
def test_what_is_no_guidance_is_a_type_error(given_):
    with pytest.raises(TypeError, match=r"guidance must be|must be a denoiser|must be a function"):
        make_guidance(given_)


def test_the_gradient_of_a_classifier_is_called_as_a_denoiser_is():
    gradient = LogProbabilityGradient(classify)(states(0), LEVEL, LABELS)
    expected = (MIXTURE(states(0), LEVEL, LABELS) - MIXTURE(states(0), LEVEL)) * LEVEL.alpha / LEVEL.sigma**2
    torch.testing.assert_close(gradient, expected)
