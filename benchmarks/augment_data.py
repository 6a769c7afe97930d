"""Data for ``make augment-digits`` and ``make augment-emoji``: unequal classes, as folders of images.

python benchmarks/augment_data.py digits FOLDER    two digits have 20 images to learn from, others 140
python benchmarks/augment_data.py emoji FOLDER     the categories as they are, from 5 to 386 images
"""

from __future__ import annotations

import argparse
from pathlib import Path

from eyes import emoji

from snowmelt.formats import ImageSource, open_images
from snowmelt.images import encode_png

RARE, FEW = ("3", "8"), 20  # two digits that are taken for each other


def digits() -> dict[str, ImageSource]:
    """Return the digits of scikit-learn: those to test with are complete."""
    train = open_images("digits:train")
    seen: dict[int, int] = {}
    kept = []
    assert train.labels is not None
    assert train.class_names is not None
    for index, label in enumerate(train.labels.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if train.class_names[label] not in RARE or seen[label] <= FEW:
            kept.append(index)
    return {"train": train.subset(kept), "test": open_images("digits:test")}


def write(source: ImageSource, folder: Path) -> None:
    """Write a folder for each class."""
    assert source.labels is not None
    names = source.class_names or []
    for index, label in enumerate(source.labels.tolist()):
        path = folder / names[label] / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(source.take([index])[0]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("digits", "emoji"))
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    if args.data == "digits":
        for part, source in digits().items():
            write(source, args.folder / part)
    else:
        write(emoji(), args.folder)
