"""What a job tells its readers: before it runs, and afterwards by its files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from snowmelt.errors import InputError
from snowmelt.generation.job import Job
from snowmelt.generation.manifest import NAME, read_manifest
from snowmelt.images import decode_png
from snowmelt.json_files import Account
from snowmelt.text import counted

__all__ = ["forecast", "inspect"]


def forecast(job: Job) -> Account:
    """Tell what the rest of a job will take, from a trial of two evaluations."""
    estimate = job.estimate()
    done = job.num_samples - estimate.images
    shared = job.team.size > 1
    plan, calls = job.sampler.plan, estimate.evaluations
    guided = f", {calls} with those of guidance" if calls > plan.nfe else ""
    facts = {
        "images": f"{estimate.images}" + (f" (and {done} that exist already)" if done else ""),
        "plan": repr(plan),
        "NFE": f"{plan.nfe} an image{guided}",
        "batches": f"{estimate.batches} of at most {counted(estimate.batch_size, 'image')}",
        "time": f"about {timedelta(seconds=round(estimate.seconds))} on {job.sampler.device}"
        + (f", {job.team.size} processes" if shared else ""),
        "memory": f"about {estimate.bytes / 2**20:,.0f} MiB at the peak"
        + (", in each process" if shared else ""),
        "folder": f"{job.folder}",
    }
    figures = {
        **estimate._asdict(),
        "done": done,
        "plan": plan.name,
        "nfe": plan.nfe,
        "processes": job.team.size,
        "device": str(job.sampler.device),
        "folder": str(job.folder),
    }
    return Account(_listed(facts), figures)


def inspect(path: str | Path) -> Account:
    """Tell what is known of a generated image, or of a folder of them.

    Args:
        path: a PNG file that ``snowmelt generate`` wrote, its folder, or the manifest in it.

    Raises:
        InputError: the file is not an image, or does not say how it was made.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.name == NAME:
        path = path.parent
    return _folder(path) if path.is_dir() else _image(path)


def _image(path: Path) -> Account:
    try:
        _, known = decode_png(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read as a PNG file: give one, or a folder of them") from error
    if "seed" not in known or "arguments" not in known:
        raise InputError(f"{path} does not say how it was made: it was not written by snowmelt generate")
    arguments = known.pop("arguments")
    which = [f"generation.sampling.seeds=[{known['seed']}]"]
    if "class" in known:
        which.append(f"generation.sampling.class_counts={{{known['class']}: 1}}")
    again = f"snowmelt generate - {arguments} {shlex.join(which)}"
    return Account(_listed({**known, "again": f"\n  {again}"}), {**known, "again": again})


def _folder(path: Path) -> Account:
    manifest = read_manifest(path)
    if manifest is None:
        raise InputError(f"{path} has no {NAME}: it was not written by snowmelt generate")
    identity, runs = manifest["identity"], manifest["runs"]
    files: dict[str, Any] = identity["files"] or {}
    weights = identity.get("weights") or identity["checkpoint_sha256"]  # the latter of older versions
    made = sum(run["images"] for run in runs)
    facts = {
        "status": manifest["status"],
        "images": files.get("num_samples", "only the grid"),
        "format": files.get("format", ""),
        "plan": f"{identity['plan']['name']}, {counted(len(identity['plan']['rows']), 'evaluation')}",
        "guidance": f"{identity['guidance']['type']}, scale {identity['guidance_scale']:g}",
        "seeds": identity["seeds"],
        "checkpoint": f"{manifest['arguments']['generation']['checkpoint']} (SHA-256 {weights[:12]}...)",
        "versions": ", ".join(f"{name} {version}" for name, version in identity["versions"].items()),
        "runs": f"{len(runs)} finished, {counted(made, 'image')} in "
        f"{sum(run['seconds'] for run in runs):.1f} s, "
        f"{sum(run['expected_seconds'] for run in runs):.1f} s expected",
        "again": f"snowmelt generate {shlex.quote(str(path / 'config.yaml'))}",
    }
    return Account(_listed(facts), {**facts, "runs": runs})


def _listed(facts: Mapping[str, Any]) -> str:
    width = max(map(len, facts)) + 3
    return "\n".join(f"{name + ':':{width}}{value}" for name, value in facts.items() if value != "")
