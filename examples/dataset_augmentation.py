"""Fill up the rare classes of an image folder with generated images.

    python examples/dataset_augmentation.py CHECKPOINT DATA_FOLDER OUTPUT_FOLDER

DATA_FOLDER has one folder for each class, called as in training. OUTPUT_FOLDER gets the same class folders.
Each class is filled up to the size of the largest one. Images are made in batches, so memory does not grow
with their number. Every image has its own seed: a second run writes the same files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from snowmelt import Checkpoint, DiffusionSampler
from snowmelt.errors import InputError
from snowmelt.generation import counts_to_balance
from snowmelt.images import save_png
from snowmelt.sampling import image_seeds

BATCH_SIZE = 64


def main(checkpoint_file: Path, data: Path, output: Path) -> None:
    """Generate the missing images, class by class."""
    checkpoint = Checkpoint.read(checkpoint_file)
    sampler = DiffusionSampler.from_pretrained(checkpoint, method="fast")
    # A class is found by its name: the alphabet puts 10 before 2, where training had it after
    counts, names = counts_to_balance(data, sampler.model.num_classes or 0, checkpoint.class_names)
    for label, missing in counts.items():
        seeds = image_seeds(label, missing)
        for start in range(0, missing, BATCH_SIZE):
            batch = seeds[start : start + BATCH_SIZE]
            samples = sampler.sample(len(batch), [label] * len(batch), guidance_scale=2.0, seeds=batch)
            for seed, sample in zip(batch, samples, strict=True):
                save_png(sample, output / names[label] / f"generated_{seed}.png")
        print(f"{names[label]}: {missing} images")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/dataset_augmentation.py CHECKPOINT DATA_FOLDER OUTPUT_FOLDER")
    try:
        main(*map(Path, sys.argv[1:]))
    except InputError as error:  # such as a folder that is balanced already
        sys.exit(f"Error: {error}")
