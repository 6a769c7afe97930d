"""What a run will do and need, from a few of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from snowmelt.config.training import Training
from snowmelt.sampling.memory import used_bytes
from snowmelt.text import counted, listed
from snowmelt.training.bar import make_clock

if TYPE_CHECKING:
    from snowmelt.training.run import TrainingRun

__all__ = ["forecast"]


def forecast(run: TrainingRun) -> str:
    """Take a few steps, write nothing, and return what the run does, how long it takes and what it needs."""
    trainer = run.trainer
    trainer.dataloader.prepare(write=False)
    clock = make_clock(trainer, run.length)
    clock.say = None
    for _ in clock.over(trainer.steps()):
        if clock.is_done():
            break
    device = trainer.accelerator.device
    lines = [
        run.summary(),
        clock.sentence(),
        f"Memory at the peak of these steps: {used_bytes(device) / 2**20:,.0f} MiB on {device}",
        *_plan(run.config.training, validates=trainer.dataloader.val_loader() is not None),
        f"Everything goes below {run.config.output.base_dir}",
    ]
    return "\n".join(lines)


def _plan(training: Training, *, validates: bool) -> Iterator[str]:
    """Yield how the run learns, and what comes between its steps."""
    optimizer, scheduler, ema = training.optimizer, training.scheduler, training.ema
    warmup = f"after {counted(scheduler.warmup, 'image')} of warm-up" if scheduler.warmup else "at once"
    average = f"a decay of {ema.decay:g}" if ema.decay is not None else f"{ema.width:g} of the run"
    yield (
        f"{optimizer.type}, {scheduler.type} from a rate of {optimizer.learning_rate:g} {warmup}; "
        + (f"averaged over {average}" if ema.enabled else "not averaged")
    )
    saves = training.checkpointing
    often = {
        "validation": training.validation.frequency if validates else 0,
        "evaluation": training.evaluation.frequency if training.evaluation.enabled else 0,
        "samples": training.visualization.interval if training.visualization.enabled else 0,
        "a checkpoint": saves.save_frequency,
    }
    between = [f"{what} every {_epochs(epochs)}" for what, epochs in often.items() if epochs]
    between += [f"a save every {saves.minutes:g} minutes"] if saves.minutes is not None else []
    between += [f"a save every {counted(saves.images, 'image')}"] if saves.images is not None else []
    yield f"Between the steps: {listed(between)}"


def _epochs(number: int) -> str:
    return "epoch" if number == 1 else f"{number:,} epochs"
