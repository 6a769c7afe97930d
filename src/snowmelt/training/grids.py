"""The pictures that a training run leaves behind."""

from __future__ import annotations

import math

from snowmelt.sampling import DiffusionSampler, image_seeds
from snowmelt.training.logger import DiffusionLogger

__all__ = ["log_samples"]


def log_samples(
    sampler: DiffusionSampler,
    logger: DiffusionLogger,
    step: int,
    num_samples: int,
    guidance_scale: float,
) -> None:
    """Log a grid of samples and how the first ones came about, with the same seeds every time.

    Args:
        sampler: makes them.
        logger: gets them.
        step: names the files.
        num_samples: images of all classes together.
        guidance_scale: of a model with classes.
    """
    model = sampler.model
    classes = model.num_classes
    labels = [index * classes // num_samples for index in range(num_samples)] if classes else None
    scale = guidance_scale if labels else 0.0
    states = list(sampler.trajectory(num_samples, labels, scale, seeds=image_seeds(0, num_samples)))
    images = model.decode(states[-1].x_t).clamp(-1, 1)
    logger.log_images(images, "samples", step, class_labels=labels)
    chosen = [*states[:: max(1, len(states) // 8)], states[-1]]
    # On exploding schedules, noise would be all white and black
    shown = [state.x_t[:8] / max(1.0, math.hypot(*state.level[1:])) for state in chosen]
    logger.log_film_strip(shown, "denoising", step)
