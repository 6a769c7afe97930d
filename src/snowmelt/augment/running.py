"""Running a job: each stage that is not done yet, in order. What decides a stage is its digest.

A stage is done if its record has the digest of its settings and of those of all stages before it. So a
change of a setting makes its stage and all after it run again, and a job that was killed goes on in the stage
in which it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.augment.stages import STAGES
from snowmelt.digest import content_digest
from snowmelt.errors import InputError
from snowmelt.json_files import Account, write_json
from snowmelt.text import listed

__all__ = ["forecast", "run"]

Say = Callable[[str], object]


def run(job: AugmentJob, say: Say, first: str | None = None, only: str | None = None) -> dict[str, str]:
    """Run all stages that are not done, and return what each one found.

    Args:
        job: the job.
        say: is told what happens.
        first: a stage that runs again, as do those after it.
        only: a stage that runs again, and no other.

    Raises:
        InputError: there is no such stage, or a stage before the only one is not done.
    """
    for name in (first, only):
        if name is not None and name not in STAGES:
            raise InputError(f"there is no stage {name}: the stages are {listed(list(STAGES))}")
    digest, again, told = "", False, {}
    for number, (name, stage) in enumerate(STAGES.items(), 1):
        record = _Record(job.folder / "stages" / f"{name}.done.json")
        head = f"[{number}/{len(STAGES)}] {name}: {stage.does}"
        again = again or name == first
        if not again and only != name and (found := record.of(job, stage, digest)) is not None:
            say(f"{head} (done)\n{found}")
            told[name] = found
        elif only not in (None, name):
            raise InputError(f"the stage {name} comes before {only} and is not done: leave --only out")
        else:
            say(head)
            told[name] = _taken(job, stage, record, digest, goes_on=not again and only is None)
            say(told[name])
        digest = record.digest
        if name == only:
            break
    return told


def forecast(job: AugmentJob) -> Account:
    """Tell what every stage will do; nothing is written."""
    stages = {name: stage.forecast(job) for name, stage in STAGES.items()}
    return Account("\n".join(f"{name}: {told}" for name, told in stages.items()), {"stages": stages})


class _Record:
    """The file that says that a stage was begun, or is done, and what decided it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or damaged: the stage runs again
            self.content = {}

    @property
    def digest(self) -> str:
        return str(self.content.get("digest"))

    def of(self, job: AugmentJob, stage: Stage, before: str) -> str | None:
        """Return what a stage found, if it is done with these settings."""
        found = self.content.get("found")
        return found if found is not None and self.digest == _digest(job, stage, before) else None

    def write(self, digest: str, found: str | None = None) -> None:
        self.content = {"digest": digest, "found": found}
        write_json(self.path, self.content)


def _digest(job: AugmentJob, stage: Stage, before: str) -> str:
    return content_digest(before, stage.name, stage.decided_by(job))


def _taken(job: AugmentJob, stage: Stage, record: _Record, before: str, *, goes_on: bool) -> str:
    """Run a stage, and return what it found. One that was begun with the same settings goes on."""
    digest = _digest(job, stage, before)
    anew = not (goes_on and record.digest == digest)
    record.write(digest)
    found = stage.run(job, anew)
    record.write(digest, found)
    return found
