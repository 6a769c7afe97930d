"""Pictures from a checkpoint file alone: no optimizer, no data, no trainer.

python examples/inference_from_checkpoint.py outputs/digits/checkpoints/latest.pth digits.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from snowmelt import DiffusionSampler
from snowmelt.images import save_grid


def main(checkpoint: Path, picture: Path) -> None:
    """Write a grid with eight samples of each class."""
    sampler = DiffusionSampler.from_pretrained(checkpoint)
    num_classes = sampler.model.num_classes
    if num_classes is None:
        samples = sampler.sample(num_samples=64, show_progress=True)
    else:
        samples, _ = sampler.sample_by_class(8, num_classes, guidance_scale=2.0, show_progress=True)
    save_grid(samples, picture, nrow=8)
    print(f"Wrote {picture}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/inference_from_checkpoint.py CHECKPOINT PICTURE")
    main(*map(Path, sys.argv[1:]))
