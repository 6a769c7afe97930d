"""One process among those that torchrun started."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist

__all__ = ["ALONE", "Team", "join_team"]

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # the first to finish waits for the last; torchrun ends all if one dies


class Team(NamedTuple):
    """The processes that share a job.

    Attributes:
        rank: which of them this one is; 0 does what is done once.
        size: how many there are.
        local_rank: which of those on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    def agree(self, compute: Callable[[], T]) -> T:
        """Return what `compute` gives in the first process, in all of them; its errors are raised in all.

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
        """Return when all have come here."""
        if self.size > 1:
            dist.barrier()


ALONE = Team()


def join_team() -> Team:
    """Join the processes that ``torchrun`` started together, or be alone where it did not.

    Only small messages go between them, over gloo, which needs no GPU.

    >>> join_team()
    Team(rank=0, size=1, local_rank=0)
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=PATIENCE)
        atexit.register(dist.destroy_process_group)
    return Team(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))
