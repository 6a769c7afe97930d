"""Follow an edit while it runs, and stop it: an edit is one call, and the page wants to see into it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from snowmelt.plans import Plan, State
    from snowmelt.sampling import DiffusionSampler

__all__ = ["Seen", "follow"]

Result = TypeVar("Result")
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
    sampler: DiffusionSampler, edit: Callable[[DiffusionSampler], Result], show: Callable[[Seen], Shown]
) -> Generator[Shown, None, Result]:
    """Run an edit in a thread, yield how far it is a few times a second, and return what it returns.

    Whoever closes the generator stops the edit at its next evaluation.

    Args:
        sampler: what the edit is called with.
        edit: any function of `snowmelt.editing`, with its arguments.
        show: makes of the newest evaluation what is yielded.

    >>> from snowmelt import DiffusionSampler, create_ddpm
    >>> from snowmelt.editing import interpolate
    >>> model = create_ddpm(image_size=8, in_channels=1, model_channels=32)
    >>> def edit(sampler):
    ...     return interpolate(sampler, [1, 2], 3)
    >>> shares = follow(DiffusionSampler(model, steps=2), edit, lambda seen: seen.done / seen.total)
    >>> all(share <= 1 for share in shares)
    True
    """
    newest: list[Seen] = []
    stopped = Event()

    def tell(seen: Seen) -> None:
        if stopped.is_set():
            raise Stopped
        newest[:] = [seen]

    pool = ThreadPoolExecutor(1)
    try:
        outcome = pool.submit(edit, cast("DiffusionSampler", Followed(sampler, tell)))
        while not outcome.done():
            wait([outcome], SECONDS_BETWEEN)
            if newest:
                yield show(newest.pop())
        return outcome.result()
    finally:
        stopped.set()
        pool.shutdown(wait=False)
