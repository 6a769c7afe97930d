"""The processes that torchrun started, as one of them sees them."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist

__all__ = ["ALONE", "Team", "join_team"]

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # the first process to finish waits for the last; if one dies, torchrun ends all


class Team(NamedTuple):
    """The processes that share a job.

    Attributes:
        rank: the number of this one. Process 0 does what has to be done once.
        size: how many there are.
        local_rank: the number of this one on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def agree(self, compute: Callable[[], T]) -> T:
        """Call `compute` in the first process, and return its result, or raise its error, in all of them.

        >>> Team().agree(lambda: 2 + 3)
        5
        """
        if self.size == 1:
            return compute()
        answer: list[Any] = [None, None]
        if self.rank == 0:
            try:
                answer[0] = compute()
            except Exception as error:
                answer[1] = error
        dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        result: T = answer[0]
        return result

    def wait(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Team()


def join_team() -> Team:
    """Return the processes that ``torchrun`` started, or `ALONE` if it started none.

    They exchange small messages only, over gloo, which needs no GPU.

    >>> join_team()
    Team(rank=0, size=1, local_rank=0)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Team(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
