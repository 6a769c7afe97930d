"""Which checkpoints a run writes, and that none of them is lost or others than those of a run undisturbed."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW

from snowmelt import DiffusionDataLoader, DiffusionTrainer, create_ddpm
from snowmelt.models.checkpoint_file import read_contents
from snowmelt.training import saving
from snowmelt.training.length import Length
from snowmelt.training.resume import newest_first

STEPS = 6  # of an epoch


def make_trainer(**options) -> DiffusionTrainer:
    """A trainer of six steps of 60 images an epoch."""
    torch.manual_seed(0)
    shape = {"norm_groups": 2, "attention_head_dim": 4, "layers_per_block": 1, "dropout": 0.1}
    model = create_ddpm(8, 1, 4, (1,), num_timesteps=20, **shape)
    data = DiffusionDataLoader("digits:test", "digits:test", image_size=8, in_channels=1, batch_size=60)
    return DiffusionTrainer(model, data, AdamW(model.parameters(), lr=1e-3), **options)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def saved_steps(trainer: DiffusionTrainer) -> list[int]:
    """Return a list to which every save adds its step."""
    steps: list[int] = []
    save = trainer.save_checkpoint

    def noted(path, **options):
        steps.append(trainer.global_step)
        save(path, **options)

    trainer.save_checkpoint = noted
    return steps


# -- when ----------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second whenever it is read."""
    ticks = count()
    monkeypatch.setattr(saving, "perf_counter", lambda: float(next(ticks)))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("minutes", "dearest", "steps"), [(2 / 60, 1, [2, 4]), (2 / 60, 0.25, [2]), (None, 1, [])]
)
def test_time_saves_and_saves_take_no_more_than_their_share_of_it(
    monkeypatch, tmp_path, minutes, dearest, steps
):
    """A step takes a second, and a save too."""
    monkeypatch.setattr(saving, "DEAREST", dearest)
    trainer = make_trainer()
    saved = saved_steps(trainer)
    trainer.train(num_steps=6, checkpoint_dir=tmp_path, save_minutes=minutes)
    assert saved == [*steps, 6]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("seconds", "due"), [(95.0, True), (97.0, False)])
def test_a_save_by_time_ends_before_a_run_by_the_clock_does(tmp_path, seconds, due):
    """The save before took 1 s, and what follows the last step takes 3 s."""
    trainer = make_trainer()
    trainer.length, trainer.progress.ending, trainer.progress.seconds = Length.of(seconds=100.0), 3.0, seconds
    by_time = saving.Saving(trainer, tmp_path, 1 / 60, None, None, True, "loss", False, True)
    by_time.save()
    assert [by_time.is_due() for _ in range(100)][-1] == due


def test_images_save_files_of_their_own_and_the_last_ones_stay(tmp_path):
    make_trainer().train(2, tmp_path, save_images=100, keep_last=2, save_frequency=1)
    assert names(tmp_path) == [
        "best_model.pth", "epoch_0001.pth", "epoch_0002.pth", "images_0000000600.pth",
        "images_0000000720.pth", "latest.pth",
    ]  # fmt: skip
    assert read_contents(tmp_path / "images_0000000600.pth")["images"] == 600
    first, *kept, last = newest_first(tmp_path)
    assert (first.name, kept[0].name, last.name) == ("latest.pth", "epoch_0002.pth", "best_model.pth")


def test_without_validation_the_training_loss_chooses_among_the_epochs_that_are_saved(tmp_path):
    trainer = make_trainer()
    trainer.dataloader._val = None
    saved = saved_steps(trainer)
    trainer.train(4, tmp_path, save_frequency=2)
    assert saved == [2 * STEPS, 4 * STEPS]


# -- killed --------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("write", [1, 2, 3, 4])
def test_killed_before_any_write_a_run_ends_with_the_same_bytes(tmp_path, monkeypatch, write):
    options = {"save_images": 200, "keep_last": 1, "save_frequency": 1}
    make_trainer(snapshots=2).train(2, tmp_path / "whole", **options)
    with monkeypatch.context() as patch:
        left = iter(range(write))

        def dies(path, *others):
            if next(left, None) is None:
                raise Killed
            return copied(path, *others)

        copied = saving.atomic_copy
        patch.setattr(saving, "atomic_copy", dies)
        with pytest.raises(Killed):
            make_trainer(snapshots=2).train(2, tmp_path / "killed", **options)
    resumed = make_trainer(snapshots=2)
    resumed.load_checkpoint(tmp_path / "killed" / "latest.pth")
    resumed.train(2, tmp_path / "killed", **options)
    files = {
        folder: {p.name: p.read_bytes() for p in (tmp_path / folder).rglob("*") if p.is_file()}
        for folder in ("whole", "killed")
    }
    assert files["whole"] == files["killed"]
