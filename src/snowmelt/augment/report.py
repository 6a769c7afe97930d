"""The report of a job: the answer first, then every seed, the images, and how all of it came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snowmelt.augment.division import PARTS
from snowmelt.augment.job import AugmentJob
from snowmelt.evaluation.answers.usefulness import Usefulness, usefulness_chapter
from snowmelt.evaluation.drawing import draw_side_by_side
from snowmelt.report import (
    ACCENT,
    INK,
    PALE,
    Chapter,
    Picture,
    Table,
    panels,
    save_figure,
    write_html_report,
)
from snowmelt.text import counted

__all__ = ["answer", "write_report"]

KNOWN = 0.95  # share of a class that is recognised, above which little can be gained
WEAK = 0.8  # of the accuracy of real images, below which generated ones do not show the classes


def answer(result: Usefulness) -> list[str]:
    """Return in plain sentences whether the images help; if not, why, and what would."""
    return [result.answer(), *_why(result)]


def _why(result: Usefulness) -> Iterator[str]:
    gain = result.gain.balanced_accuracy
    if gain.low > 0:
        return
    if (needed := result.needed()) is not None:
        yield f"{needed}."
    baseline, rarest = result.tested(result.baseline), result.rarest
    if (known := baseline.recall[rarest].value) >= KNOWN:
        yield f"Without generated images, {known:.0%} of class {rarest} are recognised: little can be gained."
    alone = result.tested(result.alone).balanced_accuracy.value
    real = baseline.balanced_accuracy.value
    if all(result.generated_images.values()) and alone < WEAK * real:
        yield (
            f"A classifier that sees generated images alone reaches {alone:.0%}, and {real:.0%} with real "
            f"ones: they do not show the classes well. {_BETTER}"
        )
    elif gain.value <= 0 and known < KNOWN:
        yield f"What would help are images that are nearer to real ones. {_BETTER}"


_BETTER = (
    "Give a longer --budget, more real images, or a start from what others have trained "
    "(train.training.init)."
)


def write_report(job: AugmentJob, result: Usefulness) -> None:
    """Write ``report.html`` and its pictures into the folder of the job."""
    from snowmelt.augment.stages import STAGES  # the stage `judge`, which is one of them, comes here

    folder, tune, selected, data = job.folder, job.read("tune"), job.read("select"), job.read("look")
    _draw_answer(result, folder / "answer.png")
    chosen = job.generated.subset(selected["sets"][result.added])
    draw_side_by_side(chosen, job.part("train"), folder / "images.png")
    kept = f"{counted(selected['copies'], 'image')} as close to a training image as a copy were left out."
    chapters = [
        Chapter("The answer", [*answer(result), Picture.read(folder / "answer.png", _SEEDS)]),
        Chapter("Every seed", [_seeds(result)]),
        Chapter(
            "The images",
            [
                Picture.read(folder / "images.png", "Generated images to the left, real ones to the right."),
                kept,
            ],
        ),
        usefulness_chapter(result),
        Chapter("How the sampler was chosen", [_guidance(tune)]),
        Chapter(
            "The data",
            [
                *data["warnings"],
                _counts(job),
                Picture.read(folder / "data.png", "Images as the model sees them."),
            ],
        ),
        Chapter(
            "Step by step",
            [
                Table(
                    "What each stage does",
                    ["stage", "it makes", "by hand"],
                    [[name, stage.does, stage.command(job)] for name, stage in STAGES.items()],
                )
            ],
        ),
    ]
    model = job.checkpoint
    facts = {
        "data": job.config.data,
        "model": f"{model.model().num_parameters:,} parameters, digest {str(model.digest)[:12]}",
        "images": f"{result.added}, with {tune['chosen']}",
        "tested": f"once, on {counted(sum(result.tested_images.values()), 'image')} that chose nothing",
    }
    write_html_report(folder / "report.html", "Do generated images help?", chapters, facts)


_SEEDS = (
    "To the left, a line for each seed: balanced accuracy on the test images without and with generated "
    "images. To the right, the gain in recall of each class with its 95 % interval."
)


def _draw_answer(result: Usefulness, path: Path) -> None:
    """Draw the paired seeds, and the gain of each class, the rarest on top."""
    gains = result.gain.recall
    names = sorted(gains, key=lambda name: result.real_images[name])
    figure, (left, right) = panels(2, 2, (3.4, 1.6 + 0.22 * len(names)), (0.0, 0.4))
    for each in result.paired():
        left.plot([0, 1], [each.without, each.with_generated], "o-", color=INK, markersize=3, alpha=0.6)
    left.set_xticks([0, 1], ["without", "with generated"], fontsize=8)
    left.set_xlim(-0.3, 1.3)
    left.set_title("balanced accuracy, each seed", fontsize=9, color=INK)
    right.axvline(0, color=PALE)
    for place, name in enumerate(names):
        right.plot([gains[name].low, gains[name].high], [place, place], color=ACCENT)
        right.plot(gains[name].value, place, "o", color=ACCENT, markersize=4)
    labels = [f"{name} ({result.real_images[name]:,})" for name in names]
    right.set_yticks(range(len(names)), labels, fontsize=7)
    right.invert_yaxis()
    right.set_title("gain in recall (real images to train)", fontsize=9, color=INK)
    for panel in (left, right):
        panel.tick_params(labelsize=7)
    save_figure(figure, path)


def _seeds(result: Usefulness) -> Table:
    rows = [
        [
            str(each.seed),
            f"{100 * each.without:.1f}",
            f"{100 * each.with_generated:.1f}",
            f"{100 * each.gain:+.1f}",
        ]
        for each in result.paired()
    ]
    return Table(
        "Balanced accuracy on the test images in percent",
        ["seed", "without generated images", "with them", "gain"],
        rows,
    )


def _guidance(tune: Mapping[str, Any]) -> Table:
    rows = [[name, f"{value:.4f}"] for name, value in (tune["kid"] | tune["scale"]).items()]
    marked = list(tune["kid"]).index(tune["chosen"])
    return Table("KID beside the validation images", ["images", "KID"], rows, [marked])


def _counts(job: AugmentJob) -> Table:
    parts = {part: job.counts(part) for part in PARTS}
    rows = [
        [name, *(f"{counts[label]:,}" for counts in parts.values())]
        for label, name in enumerate(job.class_names)
    ]
    return Table("Real images of each class", ["class", *parts], rows)
