"""Work that threads do ahead of the one that needs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int = 0
) -> Iterator[Result]:
    """Yield `function` of each item in order; so many threads work ahead, or none, and then this one does.

    Threads are enough: Pillow and torch let others run while they decode, resize and copy.

    >>> list(ahead(str.upper, "abc", num_workers=2))
    ['A', 'B', 'C']
    """
    if not num_workers:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # also where the caller leaves in the middle: nobody waits for what was read ahead
        for future in waiting:
            future.cancel()
        pool.shutdown(wait=False)
