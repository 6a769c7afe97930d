"""Find out which dialect a network speaks: ask it, on real images, in every dialect that is in use.

A network that is misread raises no error, but it denoises badly. So noise is added to real images, and the
network is asked in one dialect after another. The error of its image is compared with that of a guess that
uses one pixel at a time and no network,

    guess = mean + k (x_t - alpha mean),    k = alpha v / (alpha^2 v + sigma^2),

with the images' mean and variance v at each pixel: the best estimate that is affine in the pixel. In its own
dialect a trained network is better than that at most noise levels; in another one it is worse, most often by
orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import torch
from torch import Tensor

from snowmelt.core import TIMES, Level, NoiseSchedule, find_time
from snowmelt.denoisers import Denoiser, eval_mode
from snowmelt.diagnosis.dialects import SCHEDULES, Dialect, dialects
from snowmelt.diagnosis.report import ANOTHER, NULL, WORST, Fit, LabelEffect, Report
from snowmelt.models import DiffusionModel
from snowmelt.models.model import shaped_as
from snowmelt.progress import progress

__all__ = ["check_denoiser"]

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]

NOISE = (0.1, 0.25, 0.6, 1.6, 4.0, 10.0)  # sigma/alpha in units of the images' spread
FEWEST = 8  # images
PIECE = 16  # images in one call
KEPT, FACTOR = 12, 4.0  # how many dialects, up to which multiple of the best error, get all images


def check_denoiser(
    model: Denoiser | Network,
    images: Tensor,
    class_labels: Tensor | Sequence[int] | None = None,
    *,
    seed: int = 0,
    show_progress: bool = False,
) -> Report:
    """Measure which parameterization, time, data range and schedule a network speaks, and what labels change.

    Every dialect is tried on a few images at two noise levels, and the promising ones and the claimed one on
    all images at six.

    Args:
        model: a `DiffusionModel`, which claims something; anything else is taken for a raw network
            (x, time, class_labels) -> y, which claims nothing.
        images: (N, C, H, W), real ones in [-1, 1] on the network's device, N >= 8; 64 tell enough.
        class_labels: (N,) integers, the images' own; None where they are not known.
        seed: of the noise.
        show_progress: show a bar.

    Raises:
        TypeError, ValueError: images or labels are not as above, all images are the same, or the network's
            output has another shape than its input.

    Plain gray images, and a network that sees them through any noise and predicts v, under a wrong claim:

    >>> from snowmelt.core import RectifiedFlow
    >>> def network(x, time, class_labels):
    ...     sigma = time.view(-1, 1, 1, 1)
    ...     x0 = x.mean((2, 3), keepdim=True) / (1 - sigma)
    ...     return (1 - sigma) * (x - (1 - sigma) * x0) / sigma - sigma * x0
    >>> images = torch.linspace(-1, 1, 64).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    >>> model = DiffusionModel(network, RectifiedFlow(), "flow", image_shape=(1, 4, 4), time="t")
    >>> report = check_denoiser(model, images)
    >>> report.ok, report.verdict()[0]
    (False, 'The claim is wrong: the network predicts v, not flow.')
    """
    network, claim = _understood(model)
    images = _checked(images)
    classes = _classes(model, class_labels, images)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator).to(images)
    exam = _Exam(network, images, noise, classes.asked if classes else None)

    with torch.no_grad(), eval_mode(model):
        screened = exam.part(FEWEST).fits(dialects(claim), NOISE[1::3], show_progress)
        screened.sort(key=attrgetter("overall"))
        bound = FACTOR * screened[0].overall
        kept = [fit.dialect for fit in screened[:KEPT] if fit.overall <= bound]
        if claim is not None and claim not in kept:
            kept.append(claim)
        fits = exam.fits(kept, NOISE, show_progress)
        claimed = next((fit for fit in fits if fit.dialect == claim), None)
        fits.sort(key=attrgetter("overall"))
        report = Report(len(images), NOISE, tuple(fits), claimed, {})
        if classes is None:
            return report
        spoken = claim if claim is not None and report.claim_fits else report.best.dialect
        return replace(report, labels=_label_effects(exam, spoken, classes))


def _understood(model: object) -> tuple[Network, Dialect | None]:
    """Return the raw network, and the dialect that is claimed for it."""
    if not isinstance(model, DiffusionModel):
        if callable(model):
            return model, None
        raise TypeError(f"model must be a model or a network, got {type(model).__name__}")
    if not model.bounded:
        raise TypeError(
            "check_denoiser looks at images, and this model denoises latents: check it with its own"
        )
    convention = model.time_convention
    name = convention if isinstance(convention, str) else "its own time"
    known = {tell: name for name, tell in TIMES.items()}
    tell = find_time(convention)
    schedule = _schedule_name(model.schedule)
    claim = Dialect(model.parameterization, known.get(tell, name), "[-1, 1]", schedule, model.schedule, tell)
    return model.predict, claim


def _schedule_name(schedule: NoiseSchedule) -> str:
    for name, known in SCHEDULES.items():
        if type(known) is type(schedule) and all(known(t) == schedule(t) for t in (0.25, 0.5, 1.0)):
            return name
    return "its own schedule"


def _checked(images: Tensor) -> Tensor:
    """Return the images in float32; others than `check_denoiser` takes are an error."""
    if not isinstance(images, Tensor) or not images.is_floating_point():
        given = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images must be a float tensor in [-1, 1], got {given}; snowmelt.images.from_uint8 makes one"
        )
    if images.ndim != 4 or len(images) < FEWEST:
        raise ValueError(f"images must be (N, C, H, W) with N >= {FEWEST}, got {tuple(images.shape)}")
    low, high = images.min().item(), images.max().item()
    if not (low >= -1 and high <= 1):  # NaN is outside, too
        raise ValueError(f"images must lie in [-1, 1], got values from {low:g} to {high:g}")
    if images.var(0).max() == 0:
        raise ValueError("all images are the same, so that every guess is right: give different ones")
    return images.float()


@dataclass(frozen=True)
class _Classes:
    """The labels to ask with.

    Attributes:
        labels: (N,), the images' own, or as good as any.
        known: whether they are the images' own.
        number: of classes.
        null: (N,), the null class; None where there is none.
    """

    labels: Tensor
    known: bool
    number: int
    null: Tensor | None

    @property
    def asked(self) -> Tensor:
        """The labels that say nothing wrong."""
        return self.null if self.null is not None and not self.known else self.labels

    @property
    def others(self) -> Tensor | None:
        """For each image another class than in `labels`; None where there is one class only."""
        if self.number == 1:
            return None
        steps = 1 + torch.arange(len(self.labels), device=self.labels.device) % (self.number - 1)
        return (self.labels + steps) % self.number


def _classes(model: object, class_labels: Tensor | Sequence[int] | None, images: Tensor) -> _Classes | None:
    own = None if class_labels is None else torch.as_tensor(class_labels).to(images.device)
    if own is not None and (own.shape != images.shape[:1] or own.is_floating_point() or own.min() < 0):
        raise ValueError(
            f"class_labels must be {len(images)} integers from 0 on, got {own.dtype} {own.tolist()}"
        )
    if isinstance(model, DiffusionModel):
        number, null = model.num_classes, model.null_class
    else:  # a raw network does not say
        number, null = None if own is None else int(own.max()) + 1, None
    if number is None:
        return None
    if own is not None and own.max() >= number:
        raise ValueError(f"class_labels must lie in 0..{number - 1}, got {own.max()}: leave them out")
    labels = torch.arange(len(images), device=images.device) % number if own is None else own.long()
    return _Classes(labels, own is not None, number, None if null is None else torch.full_like(labels, null))


@dataclass(frozen=True)
class _Exam:
    """A network, and what it is asked about.

    Attributes:
        network: (x, time, class_labels) -> y.
        images: (N, C, H, W) in [-1, 1].
        noise: shaped like them.
        labels: (N,), or None.
    """

    network: Network
    images: Tensor
    noise: Tensor
    labels: Tensor | None

    @cached_property
    def spread(self) -> float:
        """The images' standard deviation around their mean image."""
        return self.images.var(0, correction=0).mean().sqrt().item()

    def part(self, count: int) -> _Exam:
        """Return the exam on `count` images, from all over the set."""
        chosen = torch.linspace(0, len(self.images) - 1, count).long().to(self.images.device)
        labels = None if self.labels is None else self.labels[chosen]
        return _Exam(self.network, self.images[chosen], self.noise[chosen], labels)

    def fits(self, tried: Sequence[Dialect], noise: Sequence[float], show_progress: bool) -> list[Fit]:
        """Return how well each dialect fits."""
        levels = progress(noise, "Checking", show=show_progress, unit="level", leave=False)
        columns = [self._errors(tried, ratio) for ratio in levels]
        return [Fit(*fit) for fit in zip(tried, zip(*columns, strict=True), strict=True)]

    def level(self, dialect: Dialect, ratio: float) -> Level[float] | None:
        """Return the level where there is so much noise, in units of the images' spread."""
        return dialect.level(ratio * self.spread * dialect.half_width)

    def predict(self, dialect: Dialect, level: Level[float], labels: Tensor | None) -> Tensor:
        """Return the network's idea of the images, in the dialect's data range."""
        x_t = self._noisy(dialect, level)
        return dialect.parameterization.x0(x_t, self._answer(dialect, level, x_t, labels), level)

    def error(self, dialect: Dialect, level: Level[float], prediction: Tensor) -> float:
        """Return the prediction's mean squared error, in units of the guess's."""
        images, x_t = dialect.native(self.images), self._noisy(dialect, level)
        mean, variance = images.mean(0), images.var(0, correction=0)
        k = level.alpha * variance / (level.alpha**2 * variance + level.sigma**2)
        guess = mean + k * (x_t - level.alpha * mean)
        ratio = (prediction - images).square().mean() / (guess - images).square().mean()
        return min(ratio.item(), WORST) if ratio.isfinite() else WORST

    def _errors(self, tried: Sequence[Dialect], ratio: float) -> list[float | None]:
        answers: dict[tuple[object, ...], Tensor] = {}  # many dialects put the same question
        levels: dict[tuple[object, ...], Level[float] | None] = {}
        errors: list[float | None] = []
        for dialect in tried:
            place = (id(dialect.schedule), dialect.data_range)
            if place not in levels:
                levels[place] = self.level(dialect, ratio)
            level = levels[place]
            if level is None:
                errors.append(None)
                continue
            scale = dialect.parameterization.input_scale(level)
            told = dialect.tell(dialect.schedule, level)
            question = (dialect.data_range, level.alpha, level.sigma, scale, told)
            x_t = self._noisy(dialect, level)
            if question not in answers:
                answers[question] = self._answer(dialect, level, x_t, self.labels)
            x0 = dialect.parameterization.x0(x_t, answers[question], level)
            errors.append(self.error(dialect, level, x0))
        return errors

    def _noisy(self, dialect: Dialect, level: Level[float]) -> Tensor:
        return level.alpha * dialect.native(self.images) + level.sigma * self.noise

    def _answer(self, dialect: Dialect, level: Level[float], x_t: Tensor, labels: Tensor | None) -> Tensor:
        x = dialect.parameterization.input_scale(level) * x_t
        time = x.new_full((len(x),), dialect.tell(dialect.schedule, level))
        pieces = [
            self.network(x[part], time[part], None if labels is None else labels[part])
            for part in (slice(start, start + PIECE) for start in range(0, len(x), PIECE))
        ]
        return shaped_as(x, torch.cat(pieces)).to(x.dtype)


def _label_effects(exam: _Exam, dialect: Dialect, classes: _Classes) -> dict[str, LabelEffect]:
    """Return what other labels change, in the dialect that the network speaks."""
    levels = [level for ratio in NOISE if (level := exam.level(dialect, ratio)) is not None]
    unit = exam.spread * dialect.half_width

    def predictions(labels: Tensor) -> list[Tensor]:
        return [exam.predict(dialect, level, labels) for level in levels]

    def error(predicted: list[Tensor]) -> float:
        pairs = zip(levels, predicted, strict=True)
        return Fit(dialect, tuple(exam.error(dialect, level, x0) for level, x0 in pairs)).overall

    own, effects = predictions(classes.labels), {}
    for name, labels in ((ANOTHER, classes.others), (NULL, classes.null)):
        if labels is not None:
            other = predictions(labels)
            changes = [(a - b).square().mean().sqrt().item() / unit for a, b in zip(own, other, strict=True)]
            effects[name] = LabelEffect(max(changes), error(other) / error(own) if classes.known else None)
    return effects
