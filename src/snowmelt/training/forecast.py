"""What a run will do and need, from a few of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from snowmelt.config.training import Training
from snowmelt.json_files import Account
from snowmelt.sampling.memory import used_bytes
from snowmelt.text import counted, listed
from snowmelt.training.bar import make_clock
from snowmelt.training.length import Length
from snowmelt.training.state import Progress

if TYPE_CHECKING:
    from snowmelt.training.run import TrainingRun
    from snowmelt.training.trainer import DiffusionTrainer

__all__ = ["forecast"]

LOOKS = 1000  # at the learning rate, evenly over the run


def forecast(run: TrainingRun) -> Account:
    """Take a few steps, write nothing, and tell what the run does, how long it takes and what it needs."""
    trainer = run.trainer
    trainer.dataloader.prepare(write=False)
    clock = make_clock(trainer, run.length)
    clock.say = None
    for _ in clock.over(trainer.steps()):
        if clock.is_done():
            break
    device = trainer.accelerator.device
    steps = run.length.amount / clock.seconds if clock.left is None else clock.left
    highest = run.config.training.optimizer.learning_rate * _highest_share(trainer, run.length, steps)
    memory, folder = used_bytes(device), run.config.output.base_dir
    lines = [
        run.summary(),
        clock.sentence(),
        f"Memory at the peak of these steps: {memory / 2**20:,.0f} MiB on {device}",
        *_plan(run.config.training, highest, validates=trainer.dataloader.val_loader() is not None),
        f"Everything goes below {folder}",
    ]
    figures = {
        "parameters": trainer.model.num_parameters,
        "images": trainer.dataloader.num_train_images,
        "steps": int(steps),
        "seconds_a_step": clock.seconds,
        "seconds": steps * clock.seconds,
        "bytes": memory,
        "device": str(device),
        "folder": folder,
    }
    return Account("\n".join(lines), figures)


def _highest_share(trainer: DiffusionTrainer, length: Length, steps: float) -> float:
    """Return the highest share of its learning rate that a run of so many steps reaches."""
    epoch = trainer.an_epoch
    images = max(1, epoch.images // epoch.steps)

    def at(u: float) -> Progress:
        epochs, step = divmod(int(u * steps), epoch.steps)
        seen, batch = epochs * epoch.images + step * images, step * epoch.batches // epoch.steps
        return Progress(seen, int(u * steps), epochs, batch, seconds=u * length.amount)

    return max(trainer.rate.share(at(i / LOOKS), epoch, length, images) for i in range(LOOKS))


def _plan(training: Training, highest: float, *, validates: bool) -> Iterator[str]:
    """Yield how the run learns, and what comes between its steps."""
    optimizer, scheduler, ema = training.optimizer, training.scheduler, training.ema
    over = "a fiftieth of the run" if scheduler.warmup is None else counted(scheduler.warmup, "image")
    gradually = f"after a warm-up of {over}, {highest:.2g} at its highest"
    warmup = "at once" if scheduler.warmup == 0 else gradually
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
