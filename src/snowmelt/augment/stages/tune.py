"""Tune: the guidance scale whose images are nearest to the validation images, and a plan for it.

A plan that `snowmelt.tuning` finds is taken where its images are as near as those of the usual plan.
"""

from __future__ import annotations

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.evaluation.cached_images import cache_images
from snowmelt.evaluation.ladder.spoiling import SPOILINGS
from snowmelt.evaluation.matching import labels_in_shares_of
from snowmelt.evaluation.metrics import kid
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.formats import TensorSource
from snowmelt.images import from_uint8, save_grid
from snowmelt.sampling import DiffusionSampler, Request, image_seeds
from snowmelt.text import counted
from snowmelt.tuning import Job as Tuning

__all__ = ["TUNE"]

SAMPLED_TOGETHER = 256
SHOWN = 80
NOISES = 32  # to learn the few levels of a plan from, and as many to decide: a job has little time for it


def _run(job: AugmentJob, anew: bool) -> str:
    settings, validation = job.config.tune, job.part("val")
    sampler = job.sampler(settings.method)
    labels = labels_in_shares_of(validation, sampler.model.num_classes, settings.num_samples)
    seeds = image_seeds(settings.seed, settings.num_samples)
    real = job.features(validation)
    blurred = TensorSource(SPOILINGS["blur"](validation.take(range(len(validation)))))
    scale = {
        "training images": kid(job.features(job.part("train")), real).value,
        "blurred validation images": kid(job.features(blurred), real).value,
    }

    def measured(sampler: DiffusionSampler, guidance: float, name: str) -> float:
        images = SampledSource(sampler, Request.of(len(seeds), labels, guidance, seeds=seeds))
        made = cache_images(images, batch_size=SAMPLED_TOGETHER, show_progress=not job.quiet)
        step = -(-len(made) // SHOWN)
        save_grid(from_uint8(made.images[::step]), job.folder / f"samples_{name}.png", nrow=10)
        return kid(job.features(made), real).value

    by_scale = {each: measured(sampler, each, f"{each:g}") for each in settings.guidance_scales}
    best = min(by_scale, key=by_scale.__getitem__)
    found = {f"guidance {each:g}": value for each, value in by_scale.items()}
    method, nearest = settings.method, f"guidance {best:g}"
    if settings.nfe is not None:
        Tuning(
            job.checkpoint,
            sampler,
            [settings.nfe],
            best,
            "levels",
            num_noises=NOISES,
            num_held_out=NOISES,
            seed=settings.seed,
            show_progress=not job.quiet,
        ).run()
        name, wanted = f"{nearest}, a tuned plan of {settings.nfe} evaluations", f"auto:{settings.nfe}"
        found[name] = measured(job.sampler(wanted, best), best, "tuned")
        if found[name] <= found[nearest]:
            method, nearest = wanted, name
    chosen = {"guidance_scale": best, "method": method, "chosen": nearest}
    job.write("tune", {**chosen, "kid": found, "scale": scale})
    real_ones, blurred_ones = scale.values()
    return (
        f"Nearest to the validation images are those of {nearest}: KID {found[nearest]:.4f}, where training "
        f"images read {real_ones:.4f} and blurred ones {blurred_ones:.4f}"
    )


def _forecast(job: AugmentJob) -> str:
    settings = job.config.tune
    scales = counted(len(settings.guidance_scales), "guidance scale")
    images = f"{counted(settings.num_samples, 'image')} with each of {scales}"
    return images if settings.nfe is None else f"{images}, and a plan of {settings.nfe} evaluations"


TUNE = Stage(
    "tune",
    "the guidance scale and a plan, by validation images",
    decided_by=lambda job: (job.config.tune.model_dump(), job.config.extractor),
    forecast=_forecast,
    run=_run,
    command=lambda job: (
        f"snowmelt evaluate {job.checkpoint_path} --real {job.split_file}:val --metrics kid "
        f"--guidance ..., snowmelt tune {job.checkpoint_path} --guidance ..."
    ),
)
