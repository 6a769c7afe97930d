"""Select: sets of generated images, for each ratio and each share that is kept, without copies."""

from __future__ import annotations

import torch
from torch import Tensor

from snowmelt.augment.job import AugmentJob
from snowmelt.augment.stage import Stage
from snowmelt.augment.stages.generate import lacking
from snowmelt.errors import InputError
from snowmelt.evaluation.answers.nearest import nearest
from snowmelt.evaluation.answers.novelty import novelty
from snowmelt.evaluation.features import Features
from snowmelt.text import counted

__all__ = ["SELECT", "chosen_sets"]

NEIGHBOUR = 3  # whose distance counts, among the real images of the class


def chosen_sets(
    labels: Tensor,
    distances: Tensor,
    copies: Tensor,
    counts: list[int],
    ratios: list[float],
    keep: list[float],
) -> dict[str, list[int]]:
    """Return sets of images by name: their indices, ascending.

    For a share k, as many images of a class are looked at as leave what the class lacks when k of them are
    kept; of these, the nearest ones that are no copies are kept.

    Args:
        labels: (N,) of the generated images.
        distances: (N,) to the real images of their class.
        copies: (N,) bool, which are never kept.
        counts: of the real images of each class.
        ratios, keep: as the configuration has them.

    >>> labels, distances = torch.zeros(4, dtype=torch.long), torch.tensor([3.0, 1.0, 2.0, 0.0])
    >>> chosen_sets(labels, distances, torch.tensor([False] * 3 + [True]), [0, 2], [1.0], [1.0, 0.5])
    {'ratio 1': [0, 1], 'ratio 1, nearest 50 %': [1, 2]}
    """
    sets: dict[str, list[int]] = {}
    for ratio in sorted(ratios):
        for share in sorted(keep, reverse=True):
            kept = []
            for label, lack in enumerate(lacking(counts, ratio)):
                members = (labels == label).nonzero().flatten()[: round(lack / share)]
                usable = members[~copies[members]]
                kept.append(usable[distances[usable].argsort(stable=True)[:lack]])
            indices = torch.cat(kept).sort().values.tolist()
            if indices:
                named = f"ratio {ratio:g}" + (
                    f", nearest {share:.0%}".replace("%", " %") if share < 1 else ""
                )
                sets[named] = indices
    return sets


def _run(job: AugmentJob, anew: bool) -> str:
    settings, source = job.config.select, job.generated
    generated, training = job.features(source), job.features(job.part("train"))
    new = novelty(generated, training, job.features(job.part("val")), quantile=settings.copies)
    copies = torch.zeros(len(source), dtype=torch.bool)
    copies[[index for index, _ in new.copies()]] = True
    assert source.labels is not None  # a folder a class
    distances = _distances(generated, training)
    sets = chosen_sets(
        source.labels, distances, copies, job.counts("train"), job.config.generate.ratios, settings.keep
    )
    if not sets:
        raise InputError(
            f"all {counted(len(source), 'generated image')} are copies of training images: train for less "
            "time, or start from what others have trained (train.training.init)"
        )
    job.write(
        "select",
        {
            "sets": sets,
            "copies": int(copies.sum()),
            "copy_rate": new.copy_rate,
            "held_out_rate": new.held_out_rate,
        },
    )
    sizes = ", ".join(f"{name}: {len(indices):,}" for name, indices in sets.items())
    return f"{counted(int(copies.sum()), 'copy')} of training images left out; {sizes}"


def _distances(generated: Features, training: Features) -> Tensor:
    """Return the distance of each image to the third nearest training image of its class, (N,)."""
    assert generated.labels is not None
    distances = torch.empty(len(generated))
    for label in generated.labels.unique().tolist():
        real = training.of_class(label)
        k = min(NEIGHBOUR, len(real))
        found = nearest(generated.of_class(label), real, k).distances[:, -1]
        distances[generated.labels == label] = found.float()
    return distances


SELECT = Stage(
    "select",
    "the images near real ones, without copies",
    decided_by=lambda job: (job.config.select.model_dump(), job.config.generate.ratios, job.config.extractor),
    forecast=lambda job: (
        f"{len(job.config.generate.ratios) * len(job.config.select.keep)} sets, without copies"
    ),
    run=_run,
    command=lambda job: (
        f"snowmelt evaluate {job.folder / 'generated'} --real {job.split_file}:train "
        f"--held-out {job.split_file}:val --select percentile=..."
    ),
)
