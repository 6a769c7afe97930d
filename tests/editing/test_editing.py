"""The laws of editing: what the ends of each dial give, and what theory says of the way between."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from torch import Tensor

from snowmelt import DiffusionSampler, create_ddpm
from snowmelt.core import CosineVP, DiscreteSchedule, NoiseSchedule, RectifiedFlow, make_betas
from snowmelt.denoisers import Denoiser, GaussianMixture
from snowmelt.editing import (
    choose_frames,
    image_to_image,
    inpaint,
    interpolate,
    invert,
    save_animation,
    save_film_strip,
    swap_class,
    variations,
)
from snowmelt.editing.blend import BlendedNoise
from snowmelt.images import to_uint8
from snowmelt.models import DDPMModel
from snowmelt.plans import SOLVERS, Method, State, make_plan
from snowmelt.sampling import SeededNoise, image_seeds

DETERMINISTIC = ["ddim", "dpmpp_2m", "heun", "deis"]
FINE = "dpmpp_2m steps=200 grid=uniform_lam"


def small_model() -> DDPMModel:
    torch.manual_seed(1)
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=3, num_timesteps=20, beta_end=0.3, norm_groups=4, layers_per_block=1
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model() -> DDPMModel:
    return small_model()


@pytest.fixture(params=["ddim", "ddpm"])
def sampler(model, request) -> DiffusionSampler:
    return DiffusionSampler(model, solver=request.param, steps=4, micro_batch=4)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 1, 8, 8) * 2 - 1


class Oracle:
    """An exact denoiser with what a sampler asks of a model."""

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        image_shape: tuple[int, int, int],
        num_classes: int | None = None,
    ) -> None:
        self.denoiser, self.schedule, self.image_shape = denoiser, schedule, image_shape
        self.num_classes = self.null_class = num_classes

    def __call__(self, x_t, level, class_labels=None, /):
        return self.denoiser(x_t, level, class_labels)


def exact_sampler(denoiser: Denoiser, schedule: NoiseSchedule, shape, num_classes=None, size=64):
    oracle = Oracle(denoiser, schedule, shape, num_classes)
    return DiffusionSampler(oracle, threshold=None, micro_batch=size, solver="ddim", steps=4)


# -- interpolation -------------------------------------------------------------------------------------


def test_the_path_meets_its_seeds_to_the_bit(sampler):
    labels = [0, 2, 1]
    path = interpolate(sampler, [5, 6, 7], 7, class_labels=labels, guidance_scale=2.0)
    plain = sampler.sample(3, labels, 2.0, seeds=[5, 6, 7])
    assert torch.equal(path[[0, 3, 6]], plain)
    assert len({image.numpy().tobytes() for image in path}) == 7


def test_a_loop_comes_back(sampler):
    path = interpolate(sampler, [5, 6, 7], 6, loop=True)
    assert torch.equal(path[::2], sampler.sample(3, seeds=[5, 6, 7]))
    back = interpolate(sampler, [7, 5], 3)
    torch.testing.assert_close(path[5], back[1])


def test_a_path_walked_backwards_is_the_same_path(sampler):
    there = interpolate(sampler, [5, 6], 5, class_labels=[0, 1])
    back = interpolate(sampler, [6, 5], 5, class_labels=[1, 0])
    torch.testing.assert_close(there, back.flip(0), atol=1e-4, rtol=1e-3)


def test_a_seed_given_twice_stays_where_it_is(sampler):
    path = interpolate(sampler, [5, 5], 3, class_labels=1)
    assert torch.equal(path, sampler.sample(1, [1], seeds=[5]).expand_as(path))


def test_between_two_classes_stands_the_mean_of_their_denoised_images():
    # One Gaussian a class: mixing the classes' denoisers is the denoiser of the Gaussian between them
    means, labels = torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1), torch.tensor([0, 1])
    mixture = GaussianMixture(means.expand(2, 1, 2, 2), 0.1, labels)
    schedule = RectifiedFlow()
    between = interpolate(exact_sampler(mixture, schedule, (1, 2, 2), 2), [3, 3], 5, class_labels=[0, 1])
    for image, mean in zip(between, (-0.5, -0.25, 0.0, 0.25, 0.5), strict=True):
        gaussian = GaussianMixture(torch.full((1, 1, 2, 2), mean), 0.1)
        (expected,) = exact_sampler(gaussian, schedule, (1, 2, 2)).sample(1, seeds=[3])
        torch.testing.assert_close(image, expected)


@given(weight=st.floats(0, 1))
def test_blended_noise_is_standard_normal(weight):
    noise = BlendedNoise([1], [2], [weight], (100_000,))
    for _ in range(2):  # what is drawn later as well
        z = noise()
        assert z.mean().item() == pytest.approx(0, abs=0.015)
        assert z.var().item() == pytest.approx(1, abs=0.02)


@given(weight=st.floats(0, 1))
def test_blended_noise_leaves_each_end_at_its_own_angle(weight):
    z = BlendedNoise([1], [2], [weight], (100_000,))()
    start, end = SeededNoise([1], (100_000,))(), SeededNoise([2], (100_000,))()
    assert (z * start).mean().item() == pytest.approx(math.cos(weight * math.pi / 2), abs=0.02)
    assert (z * end).mean().item() == pytest.approx(math.sin(weight * math.pi / 2), abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [1]}, "at least two seeds, got 1"),
        ({"num_images": 1}, "num_images must be at least 2"),
        ({"class_labels": [0]}, "class_labels length"),
        ({"class_labels": [0, 9]}, r"must lie in 0\.\.2"),
        ({"guidance_scale": 2.0}, "needs class_labels"),
    ],
)
def test_a_path_that_makes_no_sense_is_refused(sampler, change, message):
    arguments = {"seeds": [1, 2], "num_images": 3, **change}
    with pytest.raises(ValueError, match=message):
        interpolate(sampler, **arguments)


# -- variations ----------------------------------------------------------------------------------------


def test_variations_of_strength_0_are_the_image_itself(sampler):
    same = variations(sampler, 5, 3, strength=0, class_label=1)
    assert torch.equal(same, sampler.sample(1, [1], seeds=[5]).expand_as(same))


def test_variations_of_strength_1_are_independent_samples(sampler):
    others = variations(sampler, 5, 3, strength=1)
    assert torch.equal(others, sampler.sample(3, seeds=image_seeds(5, 3)))


def test_a_variation_does_not_depend_on_how_many_there_are(sampler):
    assert torch.equal(variations(sampler, 5, 5, strength=0.4)[:2], variations(sampler, 5, 2, strength=0.4))


def test_variations_move_away_steadily(sampler):
    (image,) = sampler.sample(1, seeds=[5])
    far = [(variations(sampler, 5, 8, strength=s) - image).square().mean().item() for s in (0.05, 0.2, 1)]
    assert 0 < far[0] < far[1] < far[2]


# -- image to image ------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_strength_0_returns_the_input_and_1_ignores_it(model, images, solver):
    sampler = DiffusionSampler(model, solver=solver, steps=5, micro_batch=4)
    method = {"solver": solver, "steps": 5, "seeds": [4, 5, 6]}
    assert torch.equal(image_to_image(sampler, images, strength=0, **method), images)
    plain = sampler.sample(3, seeds=[4, 5, 6])
    assert torch.equal(image_to_image(sampler, images, strength=1, **method), plain)
    assert torch.equal(image_to_image(sampler, -images, strength=1, **method), plain)
    between = image_to_image(sampler, images, strength=0.5, **method)
    assert between.isfinite().all()
    assert not torch.equal(between, plain)


@pytest.mark.parametrize("strength", [0.25, 0.6])
def test_the_state_it_starts_from_is_the_noised_image(strength):
    # For a Gaussian the flow keeps the standardised state, so the result is known in closed form
    mean, std, schedule = 0.1, 0.2, CosineVP()
    gaussian = GaussianMixture(torch.full((1, 1, 2, 2), mean), std)
    sampler = exact_sampler(gaussian, schedule, (1, 2, 2))
    images = torch.rand(3, 1, 2, 2) - 0.5
    result = image_to_image(
        sampler, images, strength=strength, seeds=[1, 2, 3], solver="dpmpp_2m", steps=400, grid="uniform_lam"
    )
    _, alpha, sigma = schedule(strength)
    x = alpha * images + sigma * SeededNoise([1, 2, 3], (1, 2, 2))()
    expected = mean + std * (x - alpha * mean) / math.hypot(alpha * std, sigma)
    torch.testing.assert_close(result, expected.clamp(-1, 1), atol=2e-3, rtol=0)


@given(strength=st.floats(0.001, 1), steps=st.integers(1, 20))
def test_what_is_left_of_a_grid_starts_at_the_strength_and_ends_at_the_image(strength, steps):
    schedule, method = RectifiedFlow(), Method("dpmpp_2m", steps)
    times = method.times_from(schedule, strength)
    assert times[0] == strength
    assert times[-1] == 0
    assert all(a > b for a, b in pairwise(times))
    assert set(times[1:]) <= set(method.times(schedule))


def test_a_strength_beside_a_time_of_the_grid_takes_no_tiny_step(model, images):
    sampler = DiffusionSampler(model, solver="ddim", steps=4)
    method = {"solver": "dpmpp_3m", "times": [1.0, 0.75, 0.5, 0.25], "seeds": [1, 2, 3]}
    on = image_to_image(sampler, images, strength=0.5, **method)
    beside = image_to_image(sampler, images, strength=0.5 + 1e-9, **method)
    torch.testing.assert_close(on, beside, atol=1e-4, rtol=1e-4)


def test_any_method_is_made_of_its_parts():
    schedule = DiscreteSchedule(make_betas())
    options = {"eta": 0.3, "rho": 5.0}
    method = Method("ddim", 7, "karras", options)
    assert method.plan(schedule) == make_plan(schedule, "ddim", 7, "karras", **options)
    assert Method("heun", options={"times": [0.9, 0.4]}).times(schedule) == (0.9, 0.4, 0.0)


# -- inversion -----------------------------------------------------------------------------------------


def gray_mixture() -> GaussianMixture:
    means = torch.tensor([[-0.5, 0.3], [0.4, 0.5], [0.0, -0.6]]).view(3, 1, 1, 2)
    return GaussianMixture(means, 0.15, torch.arange(3))


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("heun", 2)])
def test_the_round_trip_error_falls_at_the_order_of_the_solver(solver, order):
    sampler = exact_sampler(gray_mixture(), CosineVP(), (1, 1, 2), 3)
    images = torch.tensor([[-0.4, 0.2], [0.3, 0.6], [0.1, -0.3]], dtype=torch.float64).view(3, 1, 1, 2)
    errors = [
        invert(sampler, images, solver=solver, steps=steps, grid="uniform_t").round_trip_error.mean().item()
        for steps in (40, 80, 160)
    ]
    slopes = [math.log2(a / b) for a, b in pairwise(errors)]
    assert slopes == pytest.approx([order] * 2, abs=0.35), errors


def test_inverted_noise_is_what_the_images_came_from():
    sampler = exact_sampler(gray_mixture(), CosineVP(), (1, 1, 2), 3)
    fine = DiffusionSampler(
        sampler.model, threshold=None, solver="dpmpp_2m", steps=200, grid="uniform_lam", micro_batch=64
    )
    images = fine.sample(8, [0, 1, 2, 0, 1, 2, 0, 1], seeds=range(8))
    found = invert(fine, images, [0, 1, 2, 0, 1, 2, 0, 1])  # by its own method
    inside = images.abs().flatten(1).amax(1) < 1  # what was clamped has lost its noise
    expected = SeededNoise(range(8), (1, 1, 2))()
    torch.testing.assert_close(found.noise[inside], expected[inside], atol=5e-3, rtol=0)
    torch.testing.assert_close(found.restored, images, atol=2e-3, rtol=0)
    error = (found.restored - images).flatten(1).pow(2).mean(1).sqrt()
    torch.testing.assert_close(found.round_trip_error, error)


def test_another_class_keeps_the_place_within_the_class():
    # Each class a Gaussian of one shape: the flows between them are a translation
    mixture = gray_mixture()
    sampler = exact_sampler(mixture, CosineVP(), (1, 1, 2), 3)
    offsets = torch.tensor([[0.1, -0.05], [-0.1, 0.2]]).view(2, 1, 1, 2)
    swapped = swap_class(sampler, mixture.means[:2] + offsets, [0, 1], [2, 0], method=FINE)
    torch.testing.assert_close(swapped, mixture.means[[2, 0]] + offsets, atol=2e-3, rtol=0)


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_the_same_class_gives_the_image_back_up_to_the_round_trip_error(model, images, solver):
    sampler = DiffusionSampler(model, solver="ddim", steps=4)
    method = {"guidance_scale": 1.5, "solver": solver, "steps": 4}
    same = swap_class(sampler, images, [0, 1, 2], [0, 1, 2], **method)
    found = invert(sampler, images, [0, 1, 2], **method)
    assert torch.equal(same, found.restored)


def test_a_stochastic_solver_cannot_be_inverted(model, images):
    with pytest.raises(ValueError, match="only a deterministic solver can be reversed"):
        invert(DiffusionSampler(model), images, solver="ddpm")


# -- inpainting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_is_known_comes_out_as_it_went_in(model, images, solver):
    sampler = DiffusionSampler(model, micro_batch=4)
    mask = torch.rand(8, 8) < 0.5
    method = {"solver": solver, "steps": 4, "jump": 2, "resamplings": 2}
    painted = inpaint(sampler, images, mask, **method)
    assert torch.equal(painted[..., mask], images[..., mask])
    assert painted.isfinite().all()
    assert painted.abs().max() <= 1
    assert torch.equal(inpaint(sampler, images, torch.ones(8, 8, dtype=torch.bool), **method), images)


def test_where_nothing_is_known_it_is_plain_sampling(model, images):
    sampler = DiffusionSampler(model, solver="ddpm", steps=6)
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    painted = inpaint(sampler, images, nothing, class_labels=[0, 1, 2], seeds=[1, 2, 3])
    assert torch.equal(painted, sampler.sample(3, [0, 1, 2], seeds=[1, 2, 3]))


def test_known_pixels_begin_as_the_noised_image(images):
    """Its law at the first level is the image's own: alpha x0 + sigma z, with the noise of the seeds."""
    seen = []

    def gray(x_t, level, class_labels=None, /):
        seen.append((x_t.clone(), level))
        return torch.zeros_like(x_t)

    sampler = exact_sampler(gray, DiscreteSchedule(make_betas("linear", 20, 1e-4, 0.3)), (1, 8, 8), size=3)
    mask = torch.rand(8, 8) < 0.5
    inpaint(sampler, images, mask, seeds=[1, 2, 3])
    x_t, level = seen[0]
    z = SeededNoise([1, 2, 3], (1, 8, 8))()
    noised = level.alpha * images + level.sigma * z
    torch.testing.assert_close(x_t, torch.where(mask, noised, z), rtol=0, atol=1e-6)


def test_unknown_pixels_may_have_any_value(model, images):
    sampler = DiffusionSampler(model)
    mask = torch.rand(3, 1, 8, 8) < 0.5
    method = {"steps": 4, "jump": 2, "resamplings": 2, "seeds": [1, 2, 3]}
    other = torch.where(mask, images, -images)
    assert torch.equal(inpaint(sampler, images, mask, **method), inpaint(sampler, other, mask, **method))


def test_each_stretch_is_passed_so_many_times(model, images):
    calls = []
    sampler = DiffusionSampler(model, micro_batch=4)
    hook = model.network.register_forward_pre_hook(lambda module, args: calls.append(1))
    inpaint(sampler, images, torch.rand(8, 8) < 0.5, steps=7, jump=3, resamplings=4)
    hook.remove()
    assert len(calls) == 7 * 4


class CorrelatedGaussian:
    """The exact denoiser of N(mean, covariance) over all pixels."""

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean, covariance

    def __call__(self, x_t, level, class_labels=None, /):
        _, alpha, sigma = level
        noisy = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=self.mean.dtype)
        gain = alpha * self.covariance @ torch.linalg.inv(noisy)
        flat = x_t.flatten(1).to(self.mean)
        return (self.mean + (flat - alpha * self.mean) @ gain.T).view_as(x_t).to(x_t)


@pytest.mark.parametrize("schedule", [DiscreteSchedule(make_betas()), RectifiedFlow()], ids=["ddpm", "flow"])
def test_resampling_approaches_the_conditional_distribution(schedule):
    place = torch.arange(4)
    covariance = 0.04 * 0.8 ** (place[:, None] - place).abs().double()
    mean = torch.tensor([0.1, -0.1, 0.2, 0.0], dtype=torch.float64)
    known, hidden = [0, 3], [1, 2]
    images = torch.tensor([0.5, 0.0, 0.0, -0.2]).view(1, 1, 2, 2)
    mask = torch.tensor([[True, False], [False, True]])

    # The conditional of a Gaussian: mean + K (known - its mean), with what is left of the covariance
    gain = covariance[hidden][:, known] @ torch.linalg.inv(covariance[known][:, known])
    expected = mean[hidden] + gain @ (torch.tensor([0.5, -0.2]).double() - mean[known])
    spread = covariance[hidden][:, hidden] - gain @ covariance[known][:, hidden]

    sampler = exact_sampler(CorrelatedGaussian(mean, covariance), schedule, (1, 2, 2), size=500)
    bias, blur = [], []
    for resamplings in (1, 10):
        painted = inpaint(
            sampler,
            images.expand(500, -1, -1, -1),
            mask,
            resamplings=resamplings,
            seeds=range(500),
            method="ddpm steps=50 grid=uniform_lam",
        )
        pixels = painted.flatten(1)[:, hidden].double()
        bias.append((pixels.mean(0) - expected).abs().max().item())
        blur.append((pixels.T.cov() - spread).abs().max().item())
    assert bias[1] < bias[0] / 2
    assert bias[1] < 0.2 * spread.diagonal().max().sqrt().item()
    assert blur[1] < 0.3 * spread.max().item()


# -- films ---------------------------------------------------------------------------------------------


@given(num_states=st.integers(1, 2000), max_frames=st.integers(1, 50))
def test_frames_are_spread_evenly_and_end_with_the_result(num_states, max_frames):
    schedule, x = RectifiedFlow(), torch.zeros(1, 1, 1, 1)
    plan = make_plan(schedule, "ddim", num_states)
    states = (State(x, level, x) for level in plan.levels[1:])
    frames = choose_frames(states, num_states, max_frames)
    times = [frame.level.t for frame in frames]
    assert len(times) == min(num_states, max_frames)
    assert times[-1] == 0
    gaps = [a - b for a, b in pairwise(times)]
    assert not gaps or max(gaps) - min(gaps) <= 1.001 / num_states


@pytest.fixture
def frames(sampler):
    return choose_frames(sampler.trajectory(2, seeds=[1, 2]), sampler.plan.nfe)


def test_the_last_frame_shows_the_sample(sampler, frames):
    assert torch.equal(frames[-1].x_t.clamp(-1, 1), sampler.sample(2, seeds=[1, 2]))
    assert [frame.level for frame in frames] == list(sampler.plan.levels[1:])
    assert frames[-1].caption == "t 0.000  sigma 0"


def test_a_strip_has_a_column_a_frame_and_two_rows_an_image(frames, tmp_path):
    save_film_strip(frames, tmp_path / "strip.png", scale=1)
    with Image.open(tmp_path / "strip.png") as picture:
        assert picture.size == (len(frames) * 10 + 2, 4 * 10 + 2)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_shows_every_frame_as_it_is(frames, tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    save_animation(frames, path, scale=2, seconds=1.0)
    with Image.open(path) as film:
        pictures = [picture.convert("L").copy() for picture in ImageSequence.Iterator(film)]
        assert film.info["loop"] == 0
    assert len(pictures) == len(frames)
    for picture, frame in zip(pictures, frames, strict=True):
        # The first image's state: two pixels of frame and 14 of caption away from the corner
        shown = picture.crop((2, 16, 2 + 16, 16 + 16)).resize((8, 8), Image.Resampling.NEAREST)
        assert list(shown.tobytes()) == to_uint8(frame.x_t[0]).flatten().tolist()
    captions = {picture.crop((0, 0, picture.width, 14)).tobytes() for picture in pictures}
    assert len(captions) == len(frames)


def test_no_half_of_an_animation_is_left(frames, tmp_path):
    bad = frames[1]._replace(x_t=frames[1].x_t * math.nan)
    with pytest.raises(ValueError, match="NaN"):
        save_animation([frames[0], bad], tmp_path / "film.gif")
    with pytest.raises(ValueError, match=r"\*\.gif or \*\.webp, got 'film.mp4'"):
        save_animation(frames, tmp_path / "film.mp4")
    with pytest.raises(ValueError, match="no frames"):
        save_animation([], tmp_path / "film.gif")
    assert not list(tmp_path.iterdir())


# -- what makes no sense -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda s, x: image_to_image(s, x, strength=1.5), ValueError, r"strength must lie in \[0, 1\]"),
        (lambda s, x: image_to_image(s, x, strength="0.5"), TypeError, "strength must be a number"),
        (lambda s, x: image_to_image(s, 2 * x + 1, strength=0.5), ValueError, r"must lie in \[-1, 1\]"),
        (lambda s, x: image_to_image(s, x * math.nan, strength=0.5), ValueError, r"must lie in \[-1, 1\]"),
        (lambda s, x: image_to_image(s, x[:0], strength=0.5), ValueError, "no image to edit"),
        (lambda s, x: image_to_image(s, x[..., :4], strength=0.5), ValueError, r"shape \(B, 1, 8, 8\)"),
        (lambda s, x: image_to_image(s, x, strength=0.5, seeds=[1]), ValueError, "seeds length"),
        (lambda s, x: image_to_image(s, x, strength=0.5, solver="dimm"), ValueError, "did you mean 'ddim'"),
        (lambda s, x: invert(s, (x * 255).byte()), TypeError, "float tensor in .* got torch.uint8"),
        (lambda s, x: invert(s, x, etaa=0.5), ValueError, "has no option 'etaa'"),
        (lambda s, x: swap_class(s, x, [0], [1]), ValueError, "class_labels length"),
        (lambda s, x: inpaint(s, x, x > 0, jump=0), ValueError, "jump must be at least 1"),
        (lambda s, x: inpaint(s, x, x > 0, resamplings=0), ValueError, "resamplings must be at least 1"),
        (lambda s, x: inpaint(s, x, x), TypeError, "mask must be a bool tensor"),
        (lambda s, x: inpaint(s, x, x[..., :3] > 0), ValueError, "mask must be broadcastable"),
        (lambda s, x: variations(s, 1, 0, strength=0.5), ValueError, "num_images must be at least 1"),
        (lambda s, x: variations(s, -1, 2, strength=0.5), ValueError, "seeds must lie in"),
    ],
)
def test_nonsense_is_refused(model, images, edit, error, message):
    with pytest.raises(error, match=message):
        edit(DiffusionSampler(model), images)
