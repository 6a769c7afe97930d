"""Generate: what the classes lack, for the largest ratio, and more where only a share will be kept."""

from __future__ import annotations

from math import ceil
from typing import Any

import yaml

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.config import load_config
from snowmelt.errors import InputError
from snowmelt.files import atomic_write
from snowmelt.generation.configured import build_job
from snowmelt.plans import Method
from snowmelt.text import counted

__all__ = ["GENERATE", "lacking"]


def lacking(counts: list[int], ratio: float) -> list[int]:
    """Return how many images each class lacks to `ratio` times the largest one.

    >>> lacking([100, 20], 0.5), lacking([100, 20], 2.0)
    ([0, 30], [100, 180])
    """
    return [max(0, round(ratio * max(counts)) - count) for count in counts]


def _wanted(job: AugmentJob) -> dict[int, int]:
    """Return how many images of each class to generate.

    Raises:
        InputError: no class lacks any.
    """
    settings = job.config.generate
    most = lacking(job.counts("train"), max(settings.ratios))
    wanted = {label: ceil(count / min(job.config.select.keep)) for label, count in enumerate(most) if count}
    if not wanted:
        raise InputError(
            f"no class lacks images with a ratio of {max(settings.ratios):g}: raise generate.ratios; with 2, "
            "every class gets twice as many as the largest one has"
        )
    return wanted


def _run(job: AugmentJob, anew: bool) -> str:
    chosen = job.read("tune")
    sampling = {
        "guidance_scale": chosen["guidance_scale"],
        "class_counts": _wanted(job),
        **_words(chosen["method"]),
    }
    tree = {
        "mode": "generate",
        "compute": {"device": job.config.compute.device, "seed": job.config.generate.seed},
        "generation": {
            "checkpoint": str(job.checkpoint_path),
            "sampling": sampling,
            "output": {"format": "class_folders"},
        },
        "output": {"base_dir": str(job.folder)},
    }
    path = job.generate_file
    with atomic_write(path, "w") as file:
        yaml.safe_dump(tree, file, sort_keys=False)
    made = build_job(load_config(path), overwrite=anew, quiet=job.quiet)
    made.check()
    made.run()
    return f"{counted(made.num_samples, 'image')} by {made.sampler.method}"


def _words(method: str | None) -> dict[str, Any]:
    """Return a method as the section `sampling` has it; nothing for the model's own.

    >>> _words("ddim:20"), _words("fast"), _words(None)
    ({'sampler': {'type': 'ddim', 'steps': 20}}, {'preset': 'fast'}, {})
    """
    if method is None:
        return {}
    words = Method.parse(method).to_dict()
    solver = words.pop("solver", None)
    return words if solver is None else {"sampler": {"type": solver, **words}}


def _forecast(job: AugmentJob) -> str:
    wanted = _wanted(job)
    listed = ", ".join(f"{job.class_names[label]} {count:,}" for label, count in wanted.items())
    return f"{counted(sum(wanted.values()), 'image')}: {listed}"


GENERATE = Stage(
    "generate",
    "what the classes lack",
    decided_by=lambda job: (job.config.generate.model_dump(), job.config.select.keep),
    forecast=_forecast,
    run=_run,
    command=lambda job: f"snowmelt generate {job.generate_file}",
)
