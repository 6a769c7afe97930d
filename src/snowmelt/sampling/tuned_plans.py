"""The plans that were tuned for a checkpoint: files in a folder beside it, and the one that fits a request.

    checkpoints/best_model.pth
    checkpoints/best_model.plans/nfe6_guidance2.json

A tuned plan knows one network under one guidance; with another it would make bad images and raise no error.
So each file says for what it was made, and ``auto`` takes it for nothing else. A file is a plan's JSON, which
also works by its path, with one more key, ``tuned``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.models import Checkpoint
from snowmelt.plans import Plan, read_plan
from snowmelt.text import listed

if TYPE_CHECKING:
    from snowmelt.sampling.sampler import DiffusionSampler

__all__ = ["Purpose", "TunedPlan", "choose_tuned", "plans_folder", "purpose_of", "read_tuned"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Purpose:
    """What a tuned plan was made for: all of it must agree.

    Attributes:
        checkpoint: the digest of the checkpoint.
        averaged: whether its averaged weights are used.
        guidance: what `Guidance.describe` says.
        guidance_scale: a scale without guidance counts as 0.
        threshold: as the sampler has it.
    """

    checkpoint: str
    averaged: bool
    guidance: Mapping[str, Any]
    guidance_scale: float
    threshold: str | Mapping[str, Any] | None

    def difference(self, other: Purpose) -> str:
        """Return what `other` is for instead, in the first thing that differs.

        >>> purpose = Purpose("ab12", True, {"type": "cfg"}, 2.0, "clip")
        >>> purpose.difference(Purpose("ab12", True, {"type": "cfg"}, 3.0, "clip"))
        'for guidance_scale 3.0, not 2.0'
        """
        if self.checkpoint != other.checkpoint:
            return "for other weights: the checkpoint's contents have changed since"
        names = [each.name for each in fields(self) if getattr(self, each.name) != getattr(other, each.name)]
        return f"for {names[0]} {getattr(other, names[0])}, not {getattr(self, names[0])}"


@dataclass(frozen=True)
class TunedPlan:
    """A tuned plan with what it is for and how good it is.

    Attributes:
        plan: the table.
        purpose: what it was made for.
        distance: from the teacher, on noises that it did not learn from.
        untuned_distance: the same for the best untuned plan of as many evaluations.
        tolerance: distance that is good enough, where the number of evaluations is left open.
        provenance: how it was found, for information only.
    """

    plan: Plan
    purpose: Purpose
    distance: float
    untuned_distance: float
    tolerance: float
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def check(self, asked: Purpose) -> None:
        """Raise ValueError where images are asked for that the plan was not tuned for."""
        if asked != self.purpose:
            raise ValueError(
                f"the tuned plan {self.name} is {asked.difference(self.purpose)}: sample as it was tuned, "
                "tune one for this, or take another method than auto"
            )

    @property
    def name(self) -> str:
        """The name of its file."""
        raw = "" if self.purpose.averaged else "_raw"
        return f"nfe{self.plan.nfe}_guidance{self.purpose.guidance_scale:g}{raw}.json"

    def write(self, folder: str | PathLike[str]) -> Path:
        """Write the file into a folder, whole or not at all, and return its path."""
        path = Path(folder) / self.name
        values = {"format_version": FORMAT_VERSION, **asdict(replace(self, plan=None))}  # type: ignore[arg-type]
        del values["plan"]
        with atomic_write(path, "w") as file:
            json.dump({**json.loads(self.plan.to_json()), "tuned": values}, file, indent=1)
            file.write("\n")
        return path


def plans_folder(checkpoint: str | PathLike[str]) -> Path:
    """Return the folder of the plans that belong to a checkpoint's file or folder.

    >>> plans_folder("checkpoints/latest.pth").as_posix()
    'checkpoints/latest.plans'
    """
    path = Path(checkpoint)
    return path.with_name(
        f"{path.stem if path.suffix in ('.pth', '.pt', '.safetensors') else path.name}.plans"
    )


def read_tuned(path: str | PathLike[str]) -> TunedPlan:
    """Return the tuned plan in a file.

    Raises:
        InputError: it is missing or broken, or a newer version wrote it.
    """
    try:
        plan = read_plan(Path(path))
        values = json.loads(Path(path).read_text(encoding="utf-8"))["tuned"]
        if (version := values.pop("format_version")) > FORMAT_VERSION:
            raise InputError(
                f"{path} has format {version}, and this snowmelt reads {FORMAT_VERSION}: update it"
            )
        return TunedPlan(plan, Purpose(**values.pop("purpose")), **values)
    except InputError:
        raise
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a tuned plan that can be read ({str(error)[:200]}): delete it, and run "
            "`snowmelt tune` again"
        ) from error


def purpose_of(
    sampler: DiffusionSampler, checkpoint: str, guidance_scale: float, use_ema: bool = True
) -> Purpose:
    """Return what a plan has to be tuned for, to be used by a sampler.

    Args:
        sampler: of the checkpoint.
        checkpoint: its digest.
        guidance_scale: as for `DiffusionSampler.sample`, and so is `use_ema`.
    """
    guidance = sampler.guidance
    return Purpose(
        checkpoint,
        use_ema and sampler.ema is not None,
        guidance.describe(),
        float(guidance_scale) if guidance.guides(guidance_scale) else 0.0,
        sampler.threshold,
    )


def choose_tuned(
    sampler: DiffusionSampler,
    checkpoint: Checkpoint,
    nfe: int | str | None = None,
    guidance_scale: float | None = None,
) -> TunedPlan:
    """Return the plan that was tuned for a checkpoint, to be used by its sampler.

    Args:
        sampler: of the checkpoint.
        checkpoint: as it was read from its file.
        nfe: number of evaluations; None takes the fewest whose distance is within the files' tolerance, or
            the most there are.
        guidance_scale: of the images; None takes the one scale that there are plans for.

    Raises:
        InputError: there is none; the message says what there is instead.
    """
    if checkpoint.source is None:
        raise InputError("auto takes a plan from beside a checkpoint's file, and this checkpoint has no file")
    folder = plans_folder(checkpoint.source)
    known = [read_tuned(path) for path in sorted(folder.glob("*.json"))]
    scales = sorted({each.purpose.guidance_scale for each in known})
    if guidance_scale is None and len(scales) > 1:
        there = listed([f"{scale:g}" for scale in scales])
        raise InputError(f"{folder} has plans for the guidance scales {there}: say which one")
    scale = guidance_scale if guidance_scale is not None else scales[0] if scales else 0.0
    purpose = purpose_of(sampler, checkpoint.digest, scale)
    fitting = sorted((each for each in known if each.purpose == purpose), key=lambda each: each.plan.nfe)
    wanted = [each for each in fitting if nfe in (None, each.plan.nfe)]
    if wanted:
        return next((each for each in wanted if each.distance <= each.tolerance), wanted[-1])
    if fitting:
        why = f"those in {folder} take {listed([str(each.plan.nfe) for each in fitting])} evaluations"
    elif known:
        why = f"those in {folder} are {purpose.difference(known[0].purpose)}"
    else:
        why = f"there is nothing in {folder}"
    raise InputError(
        f"no plan is tuned for this{f' with {nfe} evaluations' if nfe else ''}: {why}. Make one: "
        f"snowmelt tune {checkpoint.source} --guidance {scale:g} --nfe {nfe or 6}"
    )
