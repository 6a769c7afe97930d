"""*Runs*: training curves and samples over time, reports, and what a network sees of its images."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from snowmelt.errors import InputError
from snowmelt.studio.choices import when_loaded
from snowmelt.studio.follow import shown, watch
from snowmelt.studio.pictures import data_uri, grid, tiles
from snowmelt.studio.place import Place
from snowmelt.studio.reports import evaluations, find_reports, frame
from snowmelt.studio.runs import PICTURES, colours, curves, find_runs, lines, overview
from snowmelt.studio.same import same_box
from snowmelt.studio.seen import described, look, sources
from snowmelt.studio.seen import lines as data_lines
from snowmelt.studio.tables import table
from snowmelt.studio.work import Changes, Work

if TYPE_CHECKING:
    from snowmelt.data.survey import Survey

__all__ = ["view"]

SECONDS = 2.0  # between two looks at what has changed
AT_FIRST = 6  # runs that are drawn before somebody chooses
MOST_PICTURES = 160  # of a data set
AXES = [("steps", "step"), ("epochs", "epoch")]
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def view(place: Place) -> None:
    """Build the view inside its tab."""
    timer = gr.Timer(SECONDS)
    with gr.Tabs():
        with gr.Tab("Training", elem_id="runs-training"):
            _training(place, timer)
        with gr.Tab("Reports", elem_id="runs-reports"):
            _reports(place, timer)
        with gr.Tab("Data", elem_id="runs-data"):
            _data(place)


def _training(place: Place, timer: gr.Timer) -> None:
    """Show the curves and the pictures of training runs, live."""
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            chosen = gr.CheckboxGroup([], label="Runs")
            with gr.Row():
                axis = gr.Radio(AXES, value="step", label="Over", min_width=120)
                live = gr.Checkbox(True, label="Live", info="Looks every 2 seconds", min_width=120)
            drawn, numbers = gr.HTML(), gr.HTML()
        with gr.Column(scale=1, min_width=280):
            run = gr.Dropdown([], label="Pictures of")
            kind = gr.Radio([*PICTURES], value=next(iter(PICTURES)), label="Show")
            number = gr.Slider(1, 2, value=1, step=1, label="Over time", visible=False)
            picture = gr.HTML(elem_classes="over-time")
    known, count = gr.State(None), gr.State(0)  # what the page shows: a stamp of each run; the last picture
    same_box(lambda names, axis: ("", same(place, names, axis)), [chosen, axis])
    pictures = [number, picture, count]

    def look(known: dict[str, object] | None, count: int, names: list[str], axis: str, *strip: Any) -> Any:
        run, kind, number = strip
        runs = find_runs(place.root)
        stamps = {name: run.stamp for name, run in runs.items()}
        if stamps == known:
            return gr.skip()
        new = [*runs][:AT_FIRST] if known is None else [name for name in runs if name not in known]
        names = [name for name in runs if name in names or name in new]
        run = run if run in runs else next(iter(runs), None)
        at = number if count and number < count else None
        return [
            stamps,
            gr.CheckboxGroup([*runs], value=names),
            draw(place, names, axis),
            table(overview(runs), "training runs") if runs else "",
            gr.Dropdown([*runs], value=run),
            *over_time(place, run, kind, at),
        ]

    shows = [known, chosen, drawn, numbers, run, *pictures]
    form = [chosen, axis, run, kind, number]
    when_loaded(lambda: look(None, 0, [], "step", None, kind.value, 1), shows)
    timer.tick(look, [known, count, *form], shows, **QUIET)
    live.change(lambda live: gr.Timer(active=live), live, timer, **QUIET)
    gr.on([chosen.input, axis.input], lambda *values: draw(place, *values), [chosen, axis], drawn, **QUIET)
    gr.on([run.input, kind.input], lambda *values: over_time(place, *values), [run, kind], pictures, **QUIET)
    number.input(lambda *values: over_time(place, *values)[1], [run, kind, number], picture, **QUIET)


def draw(place: Place, names: Sequence[str], axis: str) -> str:
    """Return the curves of some runs as HTML."""
    runs = find_runs(place.root)
    rows = {name: runs[name].rows for name in names if name in runs and runs[name].rows}
    if not rows:
        nothing = "Choose a run." if runs else f"There is no training run below {place.given} yet."
        return f"<p>{escape(nothing)}</p>"
    keys = "".join(
        f'<li style="--key: {colour}">{escape(name)}</li>' for name, colour in colours(rows).items()
    )
    figures = "".join(
        f'<img src="{data_uri(svg, "image/svg+xml")}" alt="{escape(what)}">'
        for what, svg in curves(rows, axis)
    )
    return (f'<ul class="keys">{keys}</ul>' if len(rows) > 1 else "") + f'<div class="curves">{figures}</div>'


def over_time(place: Place, name: str | None, kind: str, number: int | None = None) -> list[Any]:
    """Return the slider, the picture and the number of pictures of a run.

    Args:
        place: what the page may see.
        name: of the run.
        kind: of the pictures.
        number: which one; None for the last.
    """
    runs = find_runs(place.root)
    pictures = list(runs[name].pictures(kind).items()) if name in runs else []
    count = len(pictures)
    if not pictures:
        nothing = "<p>There are no pictures of it yet.</p>" if name in runs else ""
        return [gr.Slider(visible=False), nothing, 0]
    number = min(number or count, count)
    step, path = pictures[number - 1]
    caption = f"After {step:,} steps"
    shown = f'<figure><img src="{data_uri(path.read_bytes())}" alt="{kind}, {caption}">'
    slider = gr.Slider(1, max(2, count), value=number, visible=count > 1)
    return [slider, f"{shown}<figcaption>{caption}</figcaption></figure>", count]


def same(place: Place, names: Sequence[str], axis: str) -> str:
    """Return the lines that draw the same curves."""
    runs = find_runs(place.root)
    tables = {name: runs[name].metrics.relative_to(place.folder).as_posix() for name in names if name in runs}
    if not tables:
        raise InputError("no run is chosen")
    return lines({name: place.shown(path) for name, path in tables.items()}, axis)


def _reports(place: Place, timer: gr.Timer) -> None:
    """Show evaluations in a table, and any report of the house."""
    report = gr.Dropdown([], label="Report")
    measured, page = gr.HTML(), gr.HTML()
    known = gr.State(None)

    def look(known: Any, chosen: str | None) -> Any:
        found, rows = find_reports(place.root), evaluations(place.root)
        if [found, rows] == known:
            return gr.skip()
        choices = [(f"{title} ({path})", path) for path, title in found.items()]
        chosen = chosen if chosen in found else next(iter(found), None)
        text = table(rows, "evaluations") if len(rows) > 1 else ""
        nothing = f"There is no report below {place.given} yet: snowmelt evaluate and compare write some."
        return [
            [found, rows],
            gr.Dropdown(choices, value=chosen),
            text,
            framed(chosen) if found else f"<p>{escape(nothing)}</p>",
        ]

    def framed(name: str | None) -> str:
        try:
            return frame(place.path(name)) if name else ""
        except InputError as error:
            return f'<p role="alert">{escape(str(error))}</p>'

    def opened(name: str | None) -> tuple[str, str]:
        if not name:
            raise InputError("there is no report yet")
        path = place.shown(name).as_posix()
        opens = f"webbrowser.open(Path({path!r}).resolve().as_uri())"
        return "", f"import webbrowser\nfrom pathlib import Path\n\n{opens}\n"

    shows = [known, report, measured, page]
    when_loaded(lambda: look(None, None), shows)
    timer.tick(look, [known, report], shows, **QUIET)
    report.input(framed, report, page, **QUIET)
    same_box(opened, [report])


def _data(place: Place) -> None:
    """Show what a network will see of images."""
    source = gr.Dropdown(
        [],
        allow_custom_value=True,
        label="Images",
        info="Those of a run; or type a folder, or anything else that snowmelt train takes",
    )
    work = Work("Look at the images")
    tables, pictures = gr.HTML(), grid()
    when_loaded(lambda: gr.Dropdown(found := sources(place), value=found[0][1]), source)

    def job(name: str | None) -> Generator[Changes]:
        path = described(place, name)

        def looks(tell: Callable[[tuple[int, int]], None]) -> Survey:
            return look(place, path, tell)

        def progress(news: tuple[int, int]) -> Changes:
            return work.at(news[0], news[1], f"image {news[0]:,} of {news[1]:,}")

        found = yield from shown(watch(looks), progress)
        per_class = max(1, MOST_PICTURES // len(found.classes))
        first = [i for i, label in enumerate(found.labels) if i - found.labels.index(label) < per_class]
        counts, values = found.tables()
        warnings = "".join(f"<p>! {escape(warning)}</p>" for warning in found.warnings)
        yield {
            tables: table(counts, "images of each class")
            + table(values, "values of each channel")
            + warnings,
            pictures: tiles(found.pictures[first], [found.classes[found.labels[i]] for i in first]),
            **work.said(f"{sum(found.parts['train']):,} images to train on"),
        }

    def same(name: str | None) -> tuple[str, str]:
        path = described(place, name)
        return f"snowmelt data {path}", data_lines(path)

    work.does(job, [source], [tables, pictures])
    same_box(same, [source])
