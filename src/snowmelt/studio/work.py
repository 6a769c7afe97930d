"""Slow work on the page: it shows how far it is, can be stopped, and says in one sentence what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from snowmelt.errors import InputError, as_input_errors

if TYPE_CHECKING:
    from snowmelt.plans import State

__all__ = ["Changes", "Work"]

Changes = dict[Any, Any]  # component: its new value
SECONDS_BETWEEN = 0.15  # two pictures of a run; more would be sent than seen


class Work:
    """The buttons that start and stop a job, and the line that says how far it is.

    Made inside a view, where the buttons shall stand. One job of all views runs at a time.

    Args:
        start: what the button says.

    Attributes:
        start: the button.
        status: the line; a job may set it itself, by `at` and `said`.
    """

    def __init__(self, start: str) -> None:
        with gr.Row(elem_classes="work"):
            self.start = gr.Button(start, variant="primary", min_width=120)
            self.stop = gr.Button("Stop", interactive=False, scale=0, min_width=80)
        self.status = gr.HTML(said(""), elem_classes="status")

    def does(
        self,
        job: Callable[..., Iterator[Changes]],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        *,
        also: Sequence[Callable[..., Any]] = (),
    ) -> None:
        """Let the button, and other events, start a job.

        Args:
            job: called with the inputs' values; yields the new values of some outputs after each step. What
                the library says of impossible values (InputError, ValueError, TypeError) becomes the line.
            inputs: components.
            outputs: components; the line and the buttons need not be named.
            also: more triggers, such as ``textbox.submit``.
        """

        def steps(*values: Any) -> Iterator[Changes]:
            yield self._running(said("Loading ..."))
            idle = {self.stop: gr.Button(interactive=False)}
            try:
                with as_input_errors():
                    yield from job(*values)
            except (InputError, FloatingPointError) as error:
                yield {self.status: said(f"Error: {error}", alert=True), **idle}
            else:
                yield idle

        event = gr.on(
            [self.start.click, *also],
            steps,
            inputs=list(inputs),
            outputs=[*outputs, self.status, self.stop],
            show_progress="hidden",
            concurrency_id="work",
            concurrency_limit=1,
            api_visibility="private",
        )
        # What the job had sent before it was stopped has arrived by then, and does not write over this
        self.stop.click(None, cancels=[event]).then(
            lambda: (said("Stopped."), gr.Button(interactive=False)),
            outputs=[self.status, self.stop],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )

    def _running(self, status: str) -> Changes:
        """Return the change that shows a line, and that there is something to stop."""
        return {self.status: status, self.stop: gr.Button(interactive=True)}

    def at(self, done: int, total: int, what: str) -> Changes:
        """Return the change that shows how far the job is: ``work.at(3, 16, "evaluation 3 of 16")``."""
        bar = f'<progress max="{total}" value="{done}"></progress>'
        return self._running(f'<p role="status">{bar} {escape(what)}</p>')

    def follow(
        self, states: Iterable[State], total: int, draw: Callable[[State], Changes], before: str = ""
    ) -> Generator[Changes, None, tuple[State, float]]:
        """Show a run while it is made; return its last state, and the seconds that sampling took.

        Args:
            states: of a sampler's run, at least one.
            total: how many there are.
            draw: the changes that show a state; called a few times a second, and not for the last one.
            before: stands before the number of evaluations.
        """
        seconds, drawn = 0.0, 0.0
        began = time.perf_counter()
        for done, state in enumerate(states, 1):
            now = time.perf_counter()
            seconds += now - began
            if now - drawn > SECONDS_BETWEEN and done < total:
                yield {**draw(state), **self.at(done, total, f"{before}evaluation {done} of {total}")}
                drawn = time.perf_counter()
            began = time.perf_counter()
        return state, seconds

    def said(self, text: str) -> Changes:
        """Return the change that says what the job has done."""
        return {self.status: said(text)}


def said(text: str, *, alert: bool = False) -> str:
    """Return a line of text as HTML that a screen reader reads out; an error is an alert.

    >>> said("2 < 3", alert=True)
    '<p role="alert">2 &lt; 3</p>'
    """
    return f'<p role="{"alert" if alert else "status"}">{escape(text)}</p>'
