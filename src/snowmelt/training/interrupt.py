"""Signals as a question that a loop asks, instead of an exception that tears it apart."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

__all__ = ["Interrupted", "Interruption"]

# Ctrl-C; what Slurm, Kubernetes and `docker stop` send; what a closed terminal sends
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal has stopped the work, and what was done is saved.

    Attributes:
        signum: the signal's number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interruption:
    """Takes note of the first Ctrl-C, SIGTERM or SIGHUP in a ``with`` block: no step is left half done.

    A second Ctrl-C raises KeyboardInterrupt at once. torchrun sends each signal once more to its processes,
    so there only the first one counts. What ``nohup`` ignores stays ignored. Outside the main thread, where
    Python delivers no signals, the block changes nothing.

    Attributes:
        signum: the number of the first signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._at_once = False
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                previous = signal.getsignal(signum)
                if signum == signal.SIGINT or previous is not signal.SIG_IGN:
                    self._previous[signum] = previous
                    signal.signal(signum, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, previous in self._previous.items():
            signal.signal(signum, previous if previous is not None else signal.SIG_DFL)
        self._previous.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise `Interrupted` at the first signal, also one that has come already.

        This is for work inside the block that takes long and may be left anywhere.
        """
        self._at_once = True
        try:
            if self.signum:
                raise Interrupted(self.signum)
            yield
        finally:
            self._at_once = False

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum:
            if signum == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
                raise KeyboardInterrupt
            return
        self.signum = signum
        if self._at_once:
            raise Interrupted(signum)
