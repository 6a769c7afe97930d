"""Fill up the rare classes of an image folder with generated images.

    python examples/dataset_augmentation.py CHECKPOINT DATA_FOLDER OUTPUT_FOLDER

DATA_FOLDER has one folder for each class, as torchvision's ImageFolder expects. OUTPUT_FOLDER gets the same
class folders. Each class is filled up to the size of the largest one. Images are made in batches, so memory
does not grow with their number. Every image has its own seed: a second run writes the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torchvision.datasets import ImageFolder

from snowmelt import DiffusionSampler
from snowmelt.images import save_png
from snowmelt.sampling import image_seeds

BATCH_SIZE = 64


def missing_images(folder: Path) -> dict[str, int]:
    """Return how many images each class needs to be as large as the largest one."""
    data = ImageFolder(str(folder))
    counts = {name: data.targets.count(index) for index, name in enumerate(data.classes)}
    return {name: max(counts.values()) - count for name, count in counts.items()}


def main(checkpoint: Path, data: Path, output: Path) -> None:
    """Generate the missing images, class by class."""
    sampler = DiffusionSampler.from_pretrained(checkpoint, method="fast")
    for label, (name, missing) in enumerate(missing_images(data).items()):
        seeds = image_seeds(label, missing)
        for start in range(0, missing, BATCH_SIZE):
            batch = seeds[start : start + BATCH_SIZE]
            samples = sampler.sample(len(batch), [label] * len(batch), guidance_scale=2.0, seeds=batch)
            for seed, sample in zip(batch, samples, strict=True):
                save_png(sample, output / name / f"generated_{seed}.png")
        print(f"{name}: {missing} images")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/dataset_augmentation.py CHECKPOINT DATA_FOLDER OUTPUT_FOLDER")
    main(*map(Path, sys.argv[1:]))
