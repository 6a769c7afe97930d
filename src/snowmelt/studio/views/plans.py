"""*Plans*: the table of a method as a picture, one solver against another."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import gradio as gr

from snowmelt.studio.choices import checkpoint_choice, method_choice, when_loaded
from snowmelt.studio.pictures import code, data_uri
from snowmelt.studio.place import Place
from snowmelt.studio.same import same_box
from snowmelt.studio.work import Changes, Work

if TYPE_CHECKING:
    from snowmelt.plans import Plan

__all__ = ["drawn", "same", "view"]

OF_CHECKPOINT = ""  # in place of a schedule
FIRST = ("dpmpp_2m:8", "ddim:8")


def view(place: Place) -> None:
    """Build the view inside its tab."""
    with gr.Row():
        schedule = _schedule_choice()
        checkpoint = checkpoint_choice(place)
    with gr.Row():
        methods = [method_choice(f"Method {name}", first) for name, first in zip("AB", FIRST, strict=True)]
    work = Work("Draw")
    with gr.Row():
        tables = [_table(name) for name in "AB"]
    form = [schedule, checkpoint, *methods]
    same_box(lambda *values: same(place, *values), form)

    def job(schedule: str, checkpoint: str | None, *texts: str | None) -> Iterator[Changes]:
        for number, (name, table, text) in enumerate(zip("AB", tables, texts, strict=True)):
            yield work.at(number, 2, f"method {name}")
            yield {table: drawn(plan_of(place, schedule, checkpoint, text), name)}
        yield work.said("")

    work.does(job, form, tables, also=[each.change for each in form])


def _table(name: str) -> gr.HTML:
    with gr.Column(min_width=280):
        return gr.HTML(elem_id=f"plan-{name.lower()}")


def _schedule_choice() -> gr.Dropdown:
    choice = gr.Dropdown(
        [("that of the checkpoint", OF_CHECKPOINT)], value=OF_CHECKPOINT, label="Noise schedule"
    )

    def look() -> gr.Dropdown:
        from snowmelt.core import SCHEDULES

        return gr.Dropdown([("that of the checkpoint", OF_CHECKPOINT), *((name, name) for name in SCHEDULES)])

    when_loaded(look, choice)
    return choice


def plan_of(place: Place, schedule: str, checkpoint: str | None, text: str | None) -> Plan:
    """Return the plan of a method on a schedule, or on that of a checkpoint."""
    from snowmelt.core import make_schedule
    from snowmelt.plans import Method

    if schedule != OF_CHECKPOINT:
        return (place.chosen(text).method or Method()).plan(make_schedule(schedule))
    model = place.model(checkpoint)
    return (model.chosen(text).method or model.base.method).plan(model.base.model.schedule)


def drawn(plan: Plan, name: str) -> str:
    """Return a plan as HTML: its picture, and its numbers."""
    from snowmelt.plans.drawing import draw_plan

    with TemporaryDirectory() as folder:
        path = Path(folder) / "plan.png"
        draw_plan(plan, path)
        picture = data_uri(path.read_bytes())
    title = escape(repr(plan).strip("<>"))
    return (
        f'<figure><img src="{picture}" alt="{name}: {title}"></figure>'
        f"<details><summary>{name}: the numbers</summary>{code(str(plan), table=True)}</details>"
    )


def same(place: Place, schedule: str, checkpoint: str | None, *texts: str | None) -> tuple[str, str]:
    """Return the commands, and the lines, that draw the same plans."""
    if schedule != OF_CHECKPOINT:
        where, own = ["--schedule", schedule], "None"
        imports = "from snowmelt import Method\nfrom snowmelt.core import make_schedule"
        chosen = f"schedule = make_schedule({json.dumps(schedule)})"
    else:
        path, own = str(place.model(checkpoint).path), "checkpoint.method"
        where = ["--checkpoint", path]
        imports = "from snowmelt import Checkpoint, Method"
        chosen = (
            f"checkpoint = Checkpoint.read({json.dumps(path)})\nschedule = checkpoint.spec.make_schedule()"
        )
    commands, lines = [], [f"{imports}\nfrom snowmelt.plans.drawing import draw_plan\n", chosen]
    for name, text in zip("ab", texts, strict=True):
        said = place.chosen(text).text
        words = [said] if said.endswith(".json") else said.split()
        commands.append(shlex.join(["snowmelt", "plan", "show", *words, *where, "--plot", f"{name}.png"]))
        method = json.dumps(said) if said else "None"
        lines.append(f"method = Method.of({method}, default={own})")
        lines.append(f'draw_plan(method.plan(schedule), "{name}.png")')
    return "\n".join(commands), "\n".join(lines) + "\n"
