"""Follow an edit while it runs, and stop it: an edit is one call, and the page wants to see into it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from snowmelt.plans import Plan, State
    from snowmelt.sampling import DiffusionSampler

__all__ = ["Seen", "follow", "shown", "watch"]

Result = TypeVar("Result")
News = TypeVar("News")
Shown = TypeVar("Shown")

SECONDS_BETWEEN = 0.2


class Seen(NamedTuple):
    """How far a run of a plan is.

    Attributes:
        state: where it stands.
        done: evaluations of this run so far.
        total: all of this run.
        run: 1 for the first run of the edit; some have two, to the noise and back.
    """

    state: State
    done: int
    total: int
    run: int


class Followed:
    """A sampler whose runs tell what they do; everything else is the sampler's own.

    Args:
        sampler: any.
        tell: called after each evaluation; what it raises ends the run.
    """

    def __init__(self, sampler: DiffusionSampler, tell: Callable[[Seen], None]) -> None:
        self._sampler, self._tell, self._runs = sampler, tell, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)

    def run(self, plan: Plan, *arguments: Any, **keywords: Any) -> Iterator[State]:
        """Run a plan as the sampler does, and tell of each state."""
        self._runs += 1
        for done, state in enumerate(self._sampler.run(plan, *arguments, **keywords), 1):
            self._tell(Seen(state, done, plan.nfe, self._runs))
            yield state


class Stopped(Exception):
    """Nobody follows any more."""


def follow(
    sampler: DiffusionSampler, edit: Callable[[DiffusionSampler], Result]
) -> Generator[Seen, None, Result]:
    """Run an edit in a thread, yield how far it is a few times a second, and return what it returns.

    Whoever closes the generator stops the edit at its next evaluation.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> from snowmelt.editing import interpolate
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> edit = follow(DiffusionSampler(model, steps=2), lambda sampler: interpolate(sampler, [1, 2], 3))
    >>> all(seen.done <= seen.total for seen in edit)
    True
    """
    return watch(lambda tell: edit(cast("DiffusionSampler", Followed(sampler, tell))))


def watch(work: Callable[[Callable[[News], None]], Result]) -> Generator[News, None, Result]:
    """Run any work in a thread, yield the newest of what it tells, and return what it returns.

    Args:
        work: called with what it shall tell its news to. Once the generator is closed, that raises `Stopped`.
    """
    newest: list[News] = []
    stopped = Event()

    def tell(news: News) -> None:
        if stopped.is_set():
            raise Stopped
        newest[:] = [news]

    pool = ThreadPoolExecutor(1)
    try:
        outcome = pool.submit(work, tell)
        while not outcome.done():
            wait([outcome], SECONDS_BETWEEN)
            if newest:
                yield newest.pop()
        return outcome.result()
    finally:
        stopped.set()
        pool.shutdown(wait=False)


def shown(
    running: Generator[News, None, Result], show: Callable[[News], Shown]
) -> Generator[Shown, None, Result]:
    """Yield what `show` makes of each of the news, and return what is returned at the end."""
    with closing(running):
        while True:
            try:
                news = next(running)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield show(news)
