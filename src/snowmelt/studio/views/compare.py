"""*Compare*: two ways to sample, on the same seeds and classes, side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from snowmelt.errors import InputError
from snowmelt.studio.choices import checkpoint_choice, class_choice, method_choice
from snowmelt.studio.made import captions
from snowmelt.studio.pictures import grid, tiles
from snowmelt.studio.place import Chosen, Loaded, Place
from snowmelt.studio.same import same_box
from snowmelt.studio.wanted import Wanted
from snowmelt.studio.work import Changes, Work

if TYPE_CHECKING:
    from torch import Tensor

    from snowmelt.core import NoiseSchedule

__all__ = ["Side", "results_table", "same", "view", "within"]

MOST_EVALUATIONS = 64
MOST_RESULTS = 30  # that the page remembers
SIDES = ("A", "B")


@dataclass(frozen=True)
class Side:
    """What one side has made.

    Attributes:
        checkpoint: its name on the page.
        method: its name.
        evaluations: of the network for an image, those of guidance included.
        seconds: that sampling all images took.
        images: (N, C, H, W) in [-1, 1].
        captions: of each.
    """

    checkpoint: str
    method: str
    evaluations: int
    seconds: float
    images: Tensor
    captions: Sequence[str]


Pair = tuple[Side, Side]


def view(place: Place) -> None:
    """Build the view inside its tab."""
    with gr.Row():
        checkpoints, methods = zip(*(_side(place, name) for name in SIDES), strict=True)
    with gr.Row():
        label = class_choice(place, checkpoints[0])
        count = gr.Slider(1, 32, value=10, step=1, label="Images")
        scale = gr.Number(0.0, label="Guidance scale", info="0 turns guidance off")
        seed = gr.Number(0, precision=0, minimum=0, label="Seed")
    evaluations = gr.Slider(
        0, MOST_EVALUATIONS, value=0, step=1, label="Evaluations (NFE)",
        info="Both sides get as many steps as fit into so many evaluations; 0: as many as each method has.",
    )  # fmt: skip
    work = Work("Compare")
    made = gr.State({})
    with gr.Row():
        grids = [_results(name) for name in SIDES]
    table = gr.HTML()
    form = [*checkpoints, *methods, label, count, scale, seed, evaluations]
    same_box(lambda *values: same(place, *values), form)

    def job(known: Mapping[Any, Pair], *values: Any) -> Iterator[Changes]:
        pairs = asked(place, *values)
        key = tuple((model.digest, wanted.command()) for model, wanted in pairs)
        if key not in known:
            yield {pictures: [] for pictures in grids}
            a = yield from _sampled(work, "A", grids[0], *pairs[0])
            b = yield from _sampled(work, "B", grids[1], *pairs[1])
            known = dict([*known.items(), (key, (a, b))][-MOST_RESULTS:])
        yield {
            **{
                pictures: tiles(side.images, side.captions)
                for pictures, side in zip(grids, known[key], strict=True)
            },
            made: known,
            table: results_table(known.values()),
            **work.said(
                "The seconds are those of sampling all images, after a first evaluation that does not count."
            ),
        }

    work.does(job, [made, *form], [made, *grids, table], also=[evaluations.release])


def _side(place: Place, name: str) -> tuple[gr.Dropdown, gr.Dropdown]:
    with gr.Column(min_width=280):
        checkpoint = checkpoint_choice(place, f"Checkpoint {name}")
        return checkpoint, method_choice(f"Method {name}")


def _results(name: str) -> gr.HTML:
    with gr.Column(min_width=280):
        gr.HTML(f"<h3>{name}</h3>")
        return grid(choose=False, elem_id=f"compared-{name.lower()}")


def _sampled(
    work: Work, name: str, pictures: gr.HTML, model: Loaded, wanted: Wanted
) -> Generator[Changes, None, Side]:
    """Sample one side, show it while it is made, and return it."""
    from snowmelt.denoisers.guidance import network_evaluations

    sampler = model.sampler(wanted.chosen.method, wanted.guidance_scale)
    labels, seeds = wanted.images(model)
    below = captions(model, labels, len(seeds))
    request = (len(seeds), labels, wanted.guidance_scale)
    next(sampler.trajectory(*request, seeds=seeds))  # the first evaluation prepares kernels and memory
    last, seconds = yield from work.follow(
        sampler.trajectory(*request, seeds=seeds),
        sampler.plan.nfe,
        lambda state: {pictures: tiles(sampler.images(state.x0), below)},
        f"{name}: ",
    )
    evaluations = network_evaluations(sampler.plan, sampler.guidance, wanted.guidance_scale)
    images = sampler.images(last.x_t).cpu()
    return Side(model.name, str(sampler.method), evaluations, seconds, images, below)


def asked(place: Place, *values: Any) -> list[tuple[Loaded, Wanted]]:
    """Return for both sides the model and the images that the form asks for."""
    *sides, label, count, scale, seed, evaluations = values
    pairs = []
    for checkpoint, text in zip(sides[:2], sides[2:], strict=True):
        model = place.model(checkpoint)
        chosen = model.chosen(text)
        if evaluations:
            chosen = Chosen(chosen.method or model.base.method, chosen.text)
            chosen = within(chosen, int(evaluations), model.base.model.schedule)
        wanted = Wanted(
            model.path, place.device, chosen, int(label), int(count), float(scale or 0), int(seed or 0)
        )
        pairs.append((model, wanted))
    return pairs


def within(chosen: Chosen, evaluations: int, schedule: NoiseSchedule) -> Chosen:
    """Return a method in as many steps as its plan can make with at most so many evaluations.

    A finished plan stays as it is.

    Raises:
        InputError: one step takes more.

    >>> from snowmelt.core import RectifiedFlow
    >>> from snowmelt.plans import Method
    >>> within(Chosen(Method("heun")), 8, RectifiedFlow()).text
    'heun:5'
    """
    method = chosen.method
    if method is None or method.table is not None:
        return chosen
    if method.auto:
        return Chosen(method.changed(steps=evaluations), f"auto:{evaluations}")
    for steps in range(evaluations, 0, -1):
        changed = method.changed(steps=steps)
        try:
            fits = changed.plan(schedule).nfe <= evaluations
        except ValueError:  # some methods need a few steps at least
            continue
        if fits:
            return Chosen(changed, str(changed))
    raise InputError(f"{method} cannot do with {evaluations} evaluations: take more, or another method")


def same(place: Place, *values: Any) -> tuple[str, str]:
    """Return the commands, and the lines, that make the images of both sides."""
    commands, lines = [], []
    for name, (model, wanted) in zip("ab", asked(place, *values), strict=True):
        commands.append(wanted.command(f"{name}.png"))
        lines.append(wanted.lines(str(model.base.device), name=f"images_{name}"))
    return "\n".join(commands), "\n".join(lines)


def results_table(pairs: Iterable[Pair]) -> str:
    """Return what was compared so far as an HTML table, the newest first."""
    names = ("A", "NFE", "seconds", "B", "NFE", "seconds", "difference")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = []
    for a, b in reversed(list(pairs)):
        alike = a.checkpoint == b.checkpoint
        sides = [
            (
                side.method if alike else f"{side.method} of {side.checkpoint}",
                f"{side.evaluations}",
                f"{side.seconds:.2f}",
            )
            for side in (a, b)
        ]
        cells = [*sides[0], *sides[1], difference(a.images, b.images)]
        rows.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    note = "NFE: evaluations of the network for an image. Difference: root mean square, of a range of 2."
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div><p class="note">{note}</p>'


def difference(a: Tensor, b: Tensor) -> str:
    """Return the root mean square of the difference of images, as text."""
    return f"{(a - b).square().mean().sqrt().item():.4f}" if a.shape == b.shape else "other size"
