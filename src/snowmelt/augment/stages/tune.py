"""Tune: the guidance scale whose images are nearest to the validation images."""

from __future__ import annotations

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.evaluation.ladder.spoiling import SPOILINGS
from snowmelt.evaluation.matching import labels_in_shares_of
from snowmelt.evaluation.metrics import kid
from snowmelt.evaluation.sampled import SampledSource
from snowmelt.formats import TensorSource
from snowmelt.images import from_uint8, save_grid
from snowmelt.sampling import DiffusionSampler, Request, image_seeds
from snowmelt.text import counted

__all__ = ["TUNE"]

SAMPLED_TOGETHER = 256
SHOWN = 80


def _run(job: AugmentJob, anew: bool) -> str:
    settings, validation = job.config.tune, job.part("val")
    sampler = DiffusionSampler.from_pretrained(job.checkpoint, job.device, method=settings.method)
    labels = labels_in_shares_of(validation, sampler.model.num_classes, settings.num_samples)
    seeds = image_seeds(settings.seed, settings.num_samples)
    real = job.features(validation)
    blurred = TensorSource(SPOILINGS["blur"](validation.take(range(len(validation)))))
    scale = {
        "training images": kid(job.features(job.part("train")), real).value,
        "blurred validation images": kid(job.features(blurred), real).value,
    }
    found: dict[float, float] = {}
    for guidance in settings.guidance_scales:
        request = Request.of(settings.num_samples, labels, guidance, seeds=seeds)
        images = SampledSource(sampler, request)
        made = TensorSource(next(images.batches(len(images))), images.labels)
        found[guidance] = kid(job.features(made), real).value
        step = -(-len(made) // SHOWN)
        save_grid(from_uint8(made.images[::step]), job.folder / f"samples_{guidance:g}.png", nrow=10)
    best = min(found, key=found.__getitem__)
    job.write("tune", {"guidance_scale": best, "kid": found, "scale": scale, "method": str(sampler.method)})
    return (
        f"Guidance {best:g} has the images nearest to the validation images: KID {found[best]:.4f}, where "
        f"training images read {scale['training images']:.4f} and blurred ones "
        f"{scale['blurred validation images']:.4f}"
    )


def _forecast(job: AugmentJob) -> str:
    settings = job.config.tune
    scales = counted(len(settings.guidance_scales), "guidance scale")
    return f"{counted(settings.num_samples, 'image')} with each of {scales}"


TUNE = Stage(
    "tune",
    "the guidance scale, by validation images",
    decided_by=lambda job: (job.config.tune.model_dump(), job.config.extractor),
    forecast=_forecast,
    run=_run,
    command=lambda job: (
        f"snowmelt evaluate {job.checkpoint_path} --real {job.folder / 'split.json'}:val "
        "--metrics kid --guidance ..."
    ),
)
