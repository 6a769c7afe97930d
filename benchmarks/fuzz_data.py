"""Damage data files in many ways, and look at what becomes of them.

    python benchmarks/fuzz_data.py [--count 500] [--seed 0]

Each case writes a small set of images in one format, damages one file of it, and reads the set twice: by the
library, and by ``snowmelt evaluate``. There are four outcomes:

    refused    one message with the file's name, and exit code 2
    the same   the damage hit bytes that nobody reads: images and labels are those that were written
    silent     other images or labels were read without a word
    escaped    anything else: a traceback, ``Aborted!``, a message without the file's name

The last two are defects. The exit code is 1 if there was one. A case is known by its number: ``--only 17``
repeats case 17 and shows its message.
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from typer.testing import CliRunner

from snowmelt.cli.main import app
from snowmelt.errors import InputError
from snowmelt.formats import WRITERS, ImageSource, open_images, write_labels

IMAGES, SIDE = 12, 6
GOOD = ("refused", "the same")

Damage = Callable[[random.Random, bytes], bytes]


def _span(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 4, 64, 600)))


def truncate(rng: random.Random, data: bytes) -> bytes:
    """Half a download."""
    return data[: rng.randrange(len(data))]


def flip(rng: random.Random, data: bytes) -> bytes:
    """A few flipped bits."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(rng: random.Random, data: bytes) -> bytes:
    """Noise in place of a part."""
    start, end = _span(rng, data)
    return data[:start] + rng.randbytes(end - start) + data[end:]


def blank(rng: random.Random, data: bytes) -> bytes:
    """Zeros in place of a part, as a crashed file system leaves."""
    start, end = _span(rng, data)
    return data[:start] + bytes(end - start) + data[end:]


def remove(rng: random.Random, data: bytes) -> bytes:
    """A part is missing."""
    start, end = _span(rng, data)
    return data[:start] + data[end:]


def insert(rng: random.Random, data: bytes) -> bytes:
    """There is something more in the middle."""
    start, end = _span(rng, data)
    return data[:start] + data[start:end] + data[start:]


def replace(rng: random.Random, data: bytes) -> bytes:
    """Something else under the name."""
    others = (
        b"",
        b"<!DOCTYPE html><html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\nsize 7\n",
    )
    return rng.choice((*others, bytes(len(data)), rng.randbytes(len(data))))


DAMAGES: tuple[Damage, ...] = (truncate, flip, overwrite, blank, remove, insert, replace)


def write(name: str, folder: Path) -> None:
    """Write a set of images in one format."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    labels = [index % 3 for index in range(IMAGES)]
    writer = WRITERS[name](folder, range(IMAGES), labels, shard_size=6, class_names=["a", "b", "c"])
    for shard in range(writer.shards):
        writer.write(shard, pixels[shard * writer.shard_size :][: writer.shard_size])
    writer.finish()
    write_labels(writer)


def contents(source: ImageSource) -> tuple[list[int], list[int]]:
    """Return all labels and all pixels, as values that can be compared."""
    pixels = torch.cat(list(source.batches(5)))
    return source.labels.tolist() if source.labels is not None else [], [*pixels.shape, *pixels.flatten()]


def outcome(number: int, seed: int, parent: Path) -> tuple[str, str, str]:
    """Run one case; return its format, its damage and its outcome with what was said."""
    rng = random.Random(f"{seed} {number}")
    name, damage = rng.choice(list(WRITERS)), rng.choice(DAMAGES)
    clean, folder = parent / name, parent / f"{name}-{number}"
    for each in (clean, folder):
        if not each.exists():
            write(name, each)
    suffixes = {".png", ".npz", ".tar", ".parquet"}
    victim = rng.choice(sorted(p for p in folder.rglob("*") if p.suffix in suffixes))
    victim.write_bytes(damage(rng, victim.read_bytes()))
    what = f"{damage.__name__} {victim.relative_to(parent)}"
    try:
        read = contents(open_images(folder))
        found = "the same" if read == contents(open_images(clean)) else "silent"
        said = ""
    except InputError as error:
        found, said = "refused" if victim.name in str(error) else "escaped", str(error)
    except Exception:
        found, said = "escaped", traceback.format_exc()
    if found != "refused":
        return name, what, f"{found} {said}"
    options = ("--extractor", "pixels", "--metrics", "fid", "--quiet", "--out", str(parent / "out"))
    result = CliRunner().invoke(app, ["evaluate", str(folder), "--real", str(clean), *options])
    if result.exit_code != 2 or victim.name not in result.output or "Aborted" in result.output:
        reason = "".join(traceback.format_exception(result.exception)) if result.exception else ""
        return name, what, f"escaped evaluate: exit code {result.exit_code}, {result.output}\n{reason}"
    return name, what, f"refused {said}"


def run(numbers: range, seed: int) -> list[tuple[int, str, str, str]]:
    """Run cases; return the number, format, damage and outcome of each."""
    with TemporaryDirectory() as parent:
        return [(number, *outcome(number, seed, Path(parent))) for number in numbers]


def main() -> int:
    """Run all cases, show a table of outcomes and every defect."""
    parser = argparse.ArgumentParser(description="Damage data files, and look at what becomes of them.")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case, with its message")
    options = parser.parse_args()
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    cases = run(numbers, options.seed)
    defects = [case for case in cases if not case[3].startswith(GOOD)]
    for number, _, what, found in cases if options.only is not None else defects:
        print(f"case {number}: {what}\n  {found}")
    counts = Counter((name, next(o for o in OUTCOMES if found.startswith(o))) for _, name, _, found in cases)
    print(f"{'format':15}" + "".join(f"{found:>10}" for found in OUTCOMES))
    for name in WRITERS:
        print(f"{name:15}" + "".join(f"{counts[name, found]:>10}" for found in OUTCOMES))
    return 1 if defects else 0


OUTCOMES = (*GOOD, "silent", "escaped")

if __name__ == "__main__":
    sys.exit(main())
