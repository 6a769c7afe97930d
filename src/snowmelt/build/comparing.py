"""Comparison mode: from a configuration to the cells of its grid, and from their results to a report."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from snowmelt._version import __version__
from snowmelt.build.evaluation import choose_extractor
from snowmelt.build.generation import build_sampler, class_names
from snowmelt.build.guidance import check_guidance, describe_guidance
from snowmelt.build.plans import read_plan
from snowmelt.config import Config
from snowmelt.config.comparing import Compare, ComparisonConfig, Method
from snowmelt.core import NoiseSchedule
from snowmelt.denoisers.guidance import network_evaluations
from snowmelt.device import resolve_device
from snowmelt.errors import InputError
from snowmelt.evaluation import (
    METRICS,
    Features,
    is_statistics,
    open_images,
    open_reference,
    renumber_classes,
)
from snowmelt.evaluation.compare import Cell, Judge, WantedImages, compare, write_comparison
from snowmelt.evaluation.compare.cell import identity_hash
from snowmelt.evaluation.compare.store import clear
from snowmelt.evaluation.compare.writing import comparison_table, summary
from snowmelt.evaluation.table import text_table
from snowmelt.files import file_hash
from snowmelt.generation.labels import choose_images
from snowmelt.sampling import DiffusionSampler

__all__ = ["prepare_comparison"]

SHOWN = 10  # pictures of each cell in the matrix
CACHE = "cache"
LIBRARIES = ("jinja2", "matplotlib")


class _Model(NamedTuple):
    """A checkpoint, loaded."""

    sampler: DiffusionSampler
    config: Config
    class_names: list[str] | None


def prepare_comparison(
    config: ComparisonConfig, *, overwrite: bool = False, quiet: bool = False
) -> Callable[[], None]:
    """Check everything that can fail, and return the function that compares.

    Args:
        config: of the grid.
        overwrite: forget the cells that are finished.
        quiet: show nothing but warnings.

    Raises:
        InputError: something in the configuration, a checkpoint or the images cannot be used.
    """
    wanted, folder = config.compare, Path(config.compare.output)
    _check_libraries()
    _check_metrics(wanted.metrics)
    load = lru_cache(maxsize=1)(lambda checkpoint: _load(config, checkpoint))
    images = _images(load(wanted.checkpoints[0]), wanted)
    found = _cells(config, load, images)
    cells = list({(cell.checkpoint, identity_hash(cell.identity)): cell for cell in found}.values())
    judge = _judge(config, load(wanted.checkpoints[0]), folder / CACHE, quiet)

    def run() -> None:
        if overwrite:
            clear(folder)
        if not quiet:
            print(f"Comparing {len(cells)} ways to make {len(images.seeds):,} images")
        results = compare(
            cells,
            lambda cell: _with_method(load(cell.checkpoint).sampler, plan=cell.plan),
            images,
            judge,
            folder,
            show_progress=not quiet,
        )
        report = write_comparison(
            results,
            wanted.metrics,
            folder,
            title=f"{config.experiment}: {len(cells)} ways to sample",
            facts=_facts(config, images, judge),
            column_names=_column_names(images),
        )
        if not quiet:
            table = comparison_table(results, wanted.metrics)
            print(text_table([table.header, *table.rows]))
            print(f"\n{summary(results, wanted.metrics[0])}\nThe report is {report}")

    return run


def _check_libraries() -> None:
    """Miss the report's libraries now, not at the end."""
    for library in LIBRARIES:
        if find_spec(library) is None:
            raise InputError(f"a comparison's report needs {library}: pip install 'snowmelt[evaluate]'")


def _check_metrics(metrics: Sequence[str]) -> None:
    for name in metrics:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1) or [f"one of {', '.join(METRICS)}"]
            raise InputError(f"compare.metrics: there is no metric {name}; did you mean {near[0]}?")


def _load(config: ComparisonConfig, checkpoint: str) -> _Model:
    """Return a checkpoint's sampler, whose plan is to be replaced, as generating would configure it."""
    wanted = config.compare
    sampling: dict[str, Any] = {
        "num_samples": wanted.num_samples,
        "class_selection": wanted.class_selection,
        "guidance_scale": max(wanted.guidance_scales, key=abs),
        "guidance": wanted.guidance.model_dump(exclude_unset=True) if wanted.guidance is not None else None,
        "use_ema": wanted.use_ema,
        "threshold": wanted.threshold,
        "sampler": {"type": "ddim", "steps": 1},
    }
    values = {
        "mode": "generate",
        "compute": config.compute.model_dump(),
        "generation": {"checkpoint": checkpoint, "sampling": sampling},
    }
    as_generated = Config.model_validate(values)
    return _Model(build_sampler(as_generated, quiet=True), as_generated, class_names(Path(checkpoint)))


def _images(model: _Model, wanted: Compare) -> WantedImages:
    labels, seeds, names = choose_images(
        model.sampler.model.num_classes,
        wanted.num_samples,
        base_seed=model.config.compute.seed,
        class_selection=wanted.class_selection,
        class_names=model.class_names,
    )
    shown = min(SHOWN, len(seeds))
    return WantedImages(
        seeds,
        labels,
        names,
        wanted.use_ema,
        None if wanted.batch_size == "auto" else wanted.batch_size,
        [place * len(seeds) // shown for place in range(shown)],
    )


def _judge(config: ComparisonConfig, model: _Model, cache: Path, quiet: bool) -> Judge:
    wanted = config.compare
    channels, height, width = model.sampler.model.image_shape
    opened = {
        path: renumber_classes(
            open_images(path, image_size=(height, width), channels=channels), model.class_names
        )
        for path in {wanted.real, wanted.train or wanted.real}
        if not is_statistics(path)
    }
    extractor = choose_extractor(
        wanted.extractor,
        opened.get(wanted.train or wanted.real),
        weights=Path(wanted.weights) if wanted.weights is not None else None,
        cache=cache,
        device=resolve_device(config.compute.device),
        show_progress=not quiet,
    )
    real = open_reference(
        opened.get(wanted.real, wanted.real), extractor, cache=cache, show_progress=not quiet
    )
    return Judge(extractor, real, wanted.metrics, wanted.per_class)


def _cells(config: ComparisonConfig, load: Callable[[str], _Model], images: WantedImages) -> Iterator[Cell]:
    """Yield the cells of the grid: those of one checkpoint together, and those that differ in steps only."""
    wanted = config.compare
    first = load(wanted.checkpoints[0])
    for checkpoint in wanted.checkpoints:
        model = load(checkpoint)
        _check_alike(first, model, wanted.checkpoints[0], checkpoint)
        common = _identity(config, model, images)
        for number, method in enumerate(wanted.samplers):
            tried = [method.steps] if method.places_itself else wanted.steps
            made = [(steps, _made(f"compare.samplers.{number}", model, method, steps)) for steps in tried]
            for scale, (steps, sampler) in product(wanted.guidance_scales, made):
                check_guidance(sampler, scale)
                plan = sampler.plan
                yield Cell(
                    checkpoint,
                    _method_name(method),
                    steps,
                    scale,
                    plan,
                    network_evaluations(plan, sampler.guidance, scale),
                    {**common, "plan": json.loads(plan.to_json()), "guidance_scale": scale},
                )


def _made(key: str, model: _Model, method: Method, steps: int | None) -> DiffusionSampler:
    try:
        return _with_method(model.sampler, **_arguments(method, steps, model.sampler.model.schedule))
    except (TypeError, ValueError) as error:  # an option of the wrong type is the input's fault too
        raise InputError(f"{key}: {error}") from error


def _arguments(method: Method, steps: int | None, schedule: NoiseSchedule) -> dict[str, Any]:
    """Return the arguments of `DiffusionSampler` that say how to sample."""
    if method.plan is not None:
        return {"plan": read_plan(method.plan, schedule)}
    if method.preset is not None:
        return {"preset": method.preset}
    return {**method.arguments(), "steps": steps}


def _with_method(base: DiffusionSampler, **method: Any) -> DiffusionSampler:
    """Return a sampler of the same model that samples in another way."""
    return DiffusionSampler(
        base.model,
        base.device,
        base.ema,
        guidance=base.guidance,
        threshold=base.threshold,
        micro_batch=base.micro_batch,
        **method,
    )


def _check_alike(first: _Model, other: _Model, first_name: str, name: str) -> None:
    """Check that two models can make the same images."""
    for what in ("image_shape", "num_classes"):
        here, there = (getattr(model.sampler.model, what) for model in (first, other))
        if here != there:
            raise InputError(
                f"compare.checkpoints: {first_name} has {what} {here}, but {name} has {there}: "
                "compare models of the same images"
            )


def _identity(config: ComparisonConfig, model: _Model, images: WantedImages) -> dict[str, Any]:
    """Return what decides the images of every cell of a model, whatever its plan."""
    generation = model.config.generation
    counts = Counter(images.labels if images.labels is not None else ())
    return {
        "checkpoint_sha256": file_hash(generation.checkpoint or ""),
        "class_counts": {str(label): count for label, count in counts.items()},
        "seeds": f"{len(images.seeds)} from compute.seed={config.compute.seed}",
        "guidance": describe_guidance(generation.sampling),
        "use_ema": images.use_ema,
        "threshold": config.compare.threshold,
        "micro_batch": model.sampler.micro_batch,
        "device": torch.device(model.sampler.device).type,
        "versions": {"snowmelt": __version__, "torch": torch.__version__},
    }


def _method_name(method: Method) -> str:
    """Return a short name, with the options that are stated.

    >>> _method_name(Method(type="ddim", grid="karras", eta=0.5)), _method_name(Method(preset="fast"))
    ('ddim karras eta=0.5', 'fast')
    """
    if method.plan is not None:
        return Path(method.plan).stem
    if method.preset is not None:
        return method.preset
    grid = [method.grid] if "grid" in method.model_fields_set else []
    options = [f"{name}={value}" for name, value in (method.model_extra or {}).items()]
    return " ".join([method.type, *grid, *options])


def _facts(config: ComparisonConfig, images: WantedImages, judge: Judge) -> dict[str, str]:
    wanted = config.compare
    count = len(judge.real) if isinstance(judge.real, Features) else judge.real.count
    return {
        "checkpoints": ", ".join(wanted.checkpoints),
        "images": f"{len(images.seeds):,} in each cell, from compute.seed {config.compute.seed}",
        "weights": "averaged (EMA), where there are any" if wanted.use_ema else "not averaged",
        "measured by": f"{wanted.real}, {count:,} images" if count is not None else wanted.real,
        "extractor": judge.extractor.name or wanted.extractor,
        "device": str(resolve_device(config.compute.device)),
        "snowmelt": __version__,
    }


def _column_names(images: WantedImages) -> list[str]:
    """Return what stands above the pictures: the class, or the image's number where there are no classes."""
    if images.labels is None:
        return [str(index) for index in images.shown]
    labels = [images.labels[index] for index in images.shown]
    return [images.class_names[label] if images.class_names is not None else str(label) for label in labels]
