"""The check recognises exact networks in every dialect, names wrong claims, and sees what labels change."""

from __future__ import annotations

import json
import math
from functools import cache

import pytest
import torch
from torch import nn

from snowmelt import create_ddpm
from snowmelt.adapters import from_edm, from_flow
from snowmelt.core import (
    PARAMETERIZATIONS,
    VE,
    CosineVP,
    DiscreteSchedule,
    Level,
    Parameterization,
    RectifiedFlow,
    make_betas,
)
from snowmelt.data import load_digits_split
from snowmelt.denoisers import GaussianMixture
from snowmelt.diagnosis import check_denoiser
from snowmelt.diagnosis.report import ANOTHER, NULL
from snowmelt.models import DDPMModel, DiffusionModel

LINEAR = DiscreteSchedule(make_betas("linear"))
COSINE = DiscreteSchedule(make_betas("cosine"))
TO_IMAGE = Parameterization("flow to image", lambda level: (1.0, -1.0))
SHAPE = (1, 4, 4)
RANGES = {"[-1, 1]": (0.0, 1.0), "[0, 1]": (0.5, 0.5), "[0, 255]": (127.5, 127.5)}  # centre, half the width


def covariance() -> torch.Tensor:
    """Return that of smooth images, 16 x 16."""
    place = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    return 0.04 * torch.exp(-torch.cdist(place, place) / 2)


MEAN = torch.linspace(-0.3, 0.3, 16)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    root = torch.linalg.cholesky(covariance())
    return (MEAN + torch.randn(32, 16, generator=generator) @ root.T).clamp(-1, 1).view(-1, *SHAPE)


# What the oracle makes of the time that it is told: the inverse of each convention
TOLD = {
    "index": lambda schedule, time: schedule((time + 1) / 1000),
    "t": lambda schedule, time: schedule(time),
    "1-t": lambda schedule, time: schedule(1 - time),
    "1000t": lambda schedule, time: schedule(time / 1000),
    "1000(1-t)": lambda schedule, time: schedule(1 - time / 1000),
    "sigma": lambda schedule, time: schedule(schedule.t_of_lam(-math.log(max(time, 1e-3)))),
    "log(sigma)/4": lambda schedule, time: schedule(schedule.t_of_lam(-4 * max(time, -1.0))),
}


class Oracle(nn.Module):
    """E[x0 | x_t] of Gaussian images, in closed form, spoken in one dialect."""

    def __init__(self, schedule, parameterization, time, data_range="[-1, 1]"):
        super().__init__()
        self.schedule, self.parameterization, self.time = schedule, parameterization, time
        centre, width = RANGES[data_range]
        self.mean, self.covariance = centre + width * MEAN, width**2 * covariance()

    def forward(self, x, time, class_labels):
        level = self.level(time[0].item())
        scale = self.parameterization.input_scale(level)
        x_t = x.flatten(1) / scale
        noisy = level.alpha**2 * self.covariance + level.sigma**2 * torch.eye(16)
        gain = torch.linalg.solve(noisy, level.alpha * self.covariance)
        x0 = self.mean + (x_t - level.alpha * self.mean) @ gain
        eps = (x_t - level.alpha * x0) / level.sigma
        return self.parameterization.target(x0, eps, level).view_as(x)

    def level(self, time: float) -> Level[float]:
        """Return the level that is meant; what no level can mean is taken for one of the ends."""
        try:
            level = TOLD[self.time](self.schedule, time)
        except (ValueError, OverflowError):
            level = self.schedule(0.5)
        return self.schedule(min(max(level.t, 2e-3), 0.998))


DIALECTS = [
    *(
        ("ddpm-linear", LINEAR, PARAMETERIZATIONS[name], "index", "[-1, 1]")
        for name in ("eps", "x0", "v", "flow", "edm")
    ),
    ("ddpm-cosine", COSINE, PARAMETERIZATIONS["eps"], "index", "[-1, 1]"),
    ("ddpm-linear", LINEAR, PARAMETERIZATIONS["eps"], "t", "[-1, 1]"),
    ("ddpm-linear", LINEAR, PARAMETERIZATIONS["eps"], "index", "[0, 1]"),
    ("ddpm-linear", LINEAR, PARAMETERIZATIONS["v"], "index", "[0, 255]"),
    ("ddpm-linear", LINEAR, PARAMETERIZATIONS["eps"], "sigma", "[-1, 1]"),
    ("flow", RectifiedFlow(), PARAMETERIZATIONS["flow"], "t", "[-1, 1]"),
    ("flow", RectifiedFlow(), PARAMETERIZATIONS["flow"], "1000t", "[-1, 1]"),
    ("flow", RectifiedFlow(), TO_IMAGE, "1-t", "[-1, 1]"),
    ("flow", RectifiedFlow(), TO_IMAGE, "1000(1-t)", "[0, 1]"),
    ("ve", VE(), PARAMETERIZATIONS["x0"], "sigma", "[-1, 1]"),
    ("ve", VE(), PARAMETERIZATIONS["edm"], "log(sigma)/4", "[-1, 1]"),
    ("ve", VE(), PARAMETERIZATIONS["eps"], "log(sigma)/4", "[0, 1]"),
]


@pytest.mark.parametrize(
    ("schedule_name", "schedule", "parameterization", "time", "data_range"),
    DIALECTS,
    ids=[f"{d[0]}-{d[2].name}-{d[3]}-{d[4]}" for d in DIALECTS],
)
def test_every_dialect_is_recognised(images, schedule_name, schedule, parameterization, time, data_range):
    report = check_denoiser(Oracle(schedule, parameterization, time, data_range), images)
    assert report.best.dialect.names() == {
        "parameterization": parameterization.name,
        "time": time,
        "data_range": data_range,
        "schedule": schedule_name,
    }, str(report)
    assert report.ok
    assert report.claim is None


CLAIMS = [
    # what the network speaks, what is claimed, and which choices of the claim are wrong
    ((LINEAR, "eps", "index", "[-1, 1]"), (LINEAR, "v", "index"), ["predicts eps, not v"]),
    ((LINEAR, "v", "index", "[-1, 1]"), (LINEAR, "eps", "index"), ["predicts v, not eps"]),
    ((LINEAR, "eps", "index", "[-1, 1]"), (LINEAR, "eps", "t"), ["is told index, not t"]),
    ((RectifiedFlow(), "flow", "t", "[-1, 1]"), (RectifiedFlow(), "flow", "1000t"), ["is told t, not 1000t"]),
    ((LINEAR, "eps", "index", "[0, 1]"), (LINEAR, "eps", "index"), ["knows images in [0, 1], not [-1, 1]"]),
    (
        (COSINE, "eps", "index", "[-1, 1]"),
        (LINEAR, "eps", "index"),
        ["was trained on ddpm-cosine, not ddpm-linear"],
    ),
    (
        (RectifiedFlow(), "flow", "1000t", "[-1, 1]"),
        (LINEAR, "eps", "index"),
        ["predicts flow, not eps", "is told 1000t, not index", "was trained on flow, not ddpm-linear"],
    ),
]


@pytest.mark.parametrize(("spoken", "claimed", "wrong"), CLAIMS, ids=["+".join(c[2]) for c in CLAIMS])
def test_a_wrong_claim_is_named(images, spoken, claimed, wrong):
    schedule, name, time, data_range = spoken
    oracle = Oracle(schedule, PARAMETERIZATIONS[name], time, data_range)
    report = check_denoiser(
        DiffusionModel(oracle, claimed[0], claimed[1], image_shape=SHAPE, time=claimed[2]), images
    )
    assert not report.ok
    assert report.verdict()[0] == f"The claim is wrong: the network {'; '.join(wrong)}."
    assert report.claim.overall > 1.1 * report.best.overall
    assert "claimed" in str(report)


def models():
    """Return models that claim what their networks speak."""
    shape = {"image_shape": SHAPE}
    return {
        "ours": DDPMModel(
            Oracle(LINEAR, PARAMETERIZATIONS["v"], "index"), LINEAR, PARAMETERIZATIONS["v"], **shape
        ),
        "our flow": DiffusionModel(
            Oracle(RectifiedFlow(), PARAMETERIZATIONS["flow"], "1000t"), RectifiedFlow(), "flow", **shape
        ),
        "edm": from_edm(lambda *told: Oracle(VE(), PARAMETERIZATIONS["x0"], "sigma")(*told), SHAPE),
        "flow": from_flow(Oracle(RectifiedFlow(), TO_IMAGE, "1-t"), SHAPE, towards="image", time_scale=1),
        "another schedule": DiffusionModel(
            Oracle(CosineVP(), PARAMETERIZATIONS["v"], "1000t"), CosineVP(), "v", **shape
        ),
        "another pair": DiffusionModel(
            Oracle(LINEAR, Parameterization("minus x0", lambda level: (-1.0, 0.0)), "index"),
            LINEAR,
            Parameterization("minus x0", lambda level: (-1.0, 0.0)),
            **shape,
        ),
        "another time": DiffusionModel(
            lambda x, time, labels: Oracle(LINEAR, PARAMETERIZATIONS["eps"], "index")(x, time**2, labels),
            LINEAR,
            "eps",
            time=lambda schedule, level: schedule.index_of_t(level.t) ** 0.5,
            **shape,
        ),
    }


@pytest.mark.parametrize("name", models())
def test_a_right_claim_is_confirmed(images, name):
    report = check_denoiser(models()[name], images)
    assert report.ok, str(report)
    assert report.verdict()[0].startswith("As claimed, the network ")
    assert report.claim.overall < 1  # better than any guess, as it sees how pixels hang together
    assert {"another schedule": "its own schedule", "another time": "its own time"}.get(name, "") in str(
        report
    )


def test_the_errors_are_those_of_the_exact_posterior(images):
    """Of Gaussian images the error is known beforehand: trace of the posterior's covariance."""
    report = check_denoiser(Oracle(VE(), PARAMETERIZATIONS["x0"], "sigma"), images)
    spread = images.var(0, correction=0).mean().sqrt().item()
    for noise, error in zip(report.noise, report.best.errors, strict=True):
        sigma2 = (noise * spread) ** 2
        prior = covariance()
        posterior = prior - prior @ torch.linalg.solve(prior + sigma2 * torch.eye(16), prior)
        pixelwise = 0.04 * sigma2 / (0.04 + sigma2)
        assert error == pytest.approx((posterior.trace() / 16 / pixelwise).item(), rel=0.15)


# ---------------------------------------------------------------------------------------------------
# Labels
# ---------------------------------------------------------------------------------------------------


@cache
def some_digits(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, labels = load_digits_split(split)
    return torch.from_numpy(pixels[:count]).view(-1, 1, 8, 8), torch.from_numpy(labels[:count])


@pytest.fixture
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    return some_digits("test", 32)


class Digits(nn.Module):
    """The exact posterior of training digits with some noise on them, speaking v and the trained index."""

    def __init__(self, listens=True, numbering=0):
        super().__init__()
        means, labels = some_digits("train", 300)
        self.mixture = GaussianMixture(means, 0.4, (labels + numbering) % 10)
        self.listens = listens

    def forward(self, x_t, time, class_labels):
        level = LINEAR((time[0].item() + 1) / 1000)
        x0 = self.mixture(x_t, level, class_labels if self.listens else None)
        eps = (x_t - level.alpha * x0) / level.sigma
        return level.alpha * eps - level.sigma * x0


def digits_model(network):
    return DDPMModel(
        network, LINEAR, PARAMETERIZATIONS["v"], image_shape=(1, 8, 8), num_classes=10, null_class=10
    )


def test_a_model_of_digits_is_recognised_with_its_labels(digits):
    report = check_denoiser(digits_model(Digits()), *digits)
    assert report.ok
    first, *_, changes, errors = report.verdict()
    assert first == (
        "As claimed, the network predicts v, is told index, knows images in [-1, 1] "
        "and was trained on ddpm-linear."
    )
    assert changes.startswith("In units of the spread, the image changes by up to ")
    assert changes.endswith(" under the null class.")
    assert errors.startswith("The error is multiplied by ")
    another, null = report.labels[ANOTHER], report.labels[NULL]
    assert another.change > null.change > 0.1
    assert another.error > null.error > 1


def test_labels_need_not_be_known(digits):
    report = check_denoiser(digits_model(Digits()), digits[0])
    assert report.ok
    assert report.labels[ANOTHER].change > 0.1
    assert report.labels[ANOTHER].error is None


def test_a_blind_network_is_reported(digits):
    report = check_denoiser(digits_model(Digits(listens=False)), *digits)
    assert report.claim_fits
    assert not report.ok
    assert report.verdict()[-1] == "The class label changes nothing: the network is blind to it."


def test_another_numbering_of_the_classes_is_seen(digits):
    report = check_denoiser(digits_model(Digits(numbering=3)), *digits)
    assert report.labels[NULL].error < 1
    assert report.verdict()[-1].startswith("The right label is no help")


def test_a_raw_network_is_asked_with_the_labels_that_are_given(digits):
    report = check_denoiser(Digits(), *digits)
    assert report.claim is None
    assert report.labels.keys() == {ANOTHER}
    assert report.labels[ANOTHER].error > 1
    assert not check_denoiser(Digits(), digits[0]).labels


# ---------------------------------------------------------------------------------------------------
# What it says otherwise, and what it refuses
# ---------------------------------------------------------------------------------------------------


def test_an_untrained_network_fits_nothing(digits):
    torch.manual_seed(3)
    model = create_ddpm(8, 1, 8, (1,), norm_groups=4, layers_per_block=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    report = check_denoiser(model, digits[0])
    assert not report.ok
    assert report.verdict()[0].startswith("Nothing fits")


def test_the_report_as_a_dictionary(digits):
    report = check_denoiser(digits_model(Digits()), *digits)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["ok"] is True
    assert found["claim"]["parameterization"] == "v"
    assert found["fits"][0]["overall"] == pytest.approx(report.best.overall)
    assert found["labels"][NULL]["change"] == report.labels[NULL].change
    assert found["verdict"] == report.verdict()


def test_the_model_is_left_as_it_was(images):
    model = models()["ours"]
    model.train()
    check_denoiser(model, images)
    assert model.network.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images.repeat(1, 1, 1, 1)[:7], "N >= 8, got"),
        (lambda images: images[:, 0], r"must be \(N, C, H, W\)"),
        (lambda images: (images + 1) * 127.5, r"must lie in \[-1, 1\], got values from"),
        (lambda images: torch.zeros_like(images), "all images are the same"),
        (lambda images: (images * 100).to(torch.uint8), "must be a float tensor"),
    ],
)
def test_impossible_images_are_refused(images, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        check_denoiser(models()["ours"], change(images))


def test_impossible_labels_are_refused(digits):
    images, labels = digits
    for wrong in (labels[:-1], labels.float(), labels - 5):
        with pytest.raises(ValueError, match="class_labels must be 32 integers from 0 on"):
            check_denoiser(digits_model(Digits()), images, wrong)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.9, got 12"):
        check_denoiser(digits_model(Digits()), images, labels + 3)


def test_other_things_are_refused(images):
    with pytest.raises(TypeError, match="this model denoises latents"):
        check_denoiser(models()["flow"].with_decoder(nn.Identity()), images)
    with pytest.raises(TypeError, match="must be a model or a network, got str"):
        check_denoiser("latest.pth", images)
    with pytest.raises(ValueError, match="only what it says of the image"):
        check_denoiser(lambda x, time, labels: torch.cat([x, x], 1), images)
