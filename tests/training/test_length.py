"""How long a run is, what follows that, and what a step is made of."""

from __future__ import annotations

import csv
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD

from snowmelt import DiffusionDataLoader, DiffusionLogger, DiffusionTrainer, create_ddpm
from snowmelt.config.training import Training
from snowmelt.errors import InputError
from snowmelt.models.checkpoint_file import read_contents
from snowmelt.training import RateSchedule
from snowmelt.training.length import UNITS, Epoch, Length
from snowmelt.training.state import Progress

RATE = 0.01


def make_trainer(batch_size: int = 120, val: str | None = None, **options) -> DiffusionTrainer:
    """A trainer of 360 images."""
    torch.manual_seed(0)
    model = create_ddpm(
        8, 1, 4, (1,), norm_groups=2, attention_head_dim=4, layers_per_block=1, num_timesteps=20
    )
    data = DiffusionDataLoader("digits:test", val, image_size=8, in_channels=1, batch_size=batch_size)
    return DiffusionTrainer(model, data, SGD(model.parameters(), lr=RATE), **options)


def same(one: DiffusionTrainer, other: DiffusionTrainer) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def rates_used(trainer: DiffusionTrainer) -> list[float]:
    """Return a list to which every step adds its rate."""
    used: list[float] = []
    trainer.optimizer.register_step_pre_hook(lambda made, *_: used.append(made.param_groups[0]["lr"]))
    return used


# -- a length ------------------------------------------------------------------------------------------


@given(
    unit=st.sampled_from(list(UNITS)),
    amount=st.integers(1, 60),
    batches=st.integers(1, 7),
    together=st.integers(1, 3),
)
def test_every_length_is_reached_and_knows_what_is_left(unit, amount, batches, together):
    """Walk a run of any length, of batches of 10 images, the last one of 3."""
    steps = -(-batches // together)
    epoch, done, length = Epoch(batches, 10 * (batches - 1) + 3, steps), Progress(), Length(amount, unit)
    shares, taken = [length.share(done, epoch)], 0
    foreseen = length.steps_left(done, epoch)
    while shares[-1] < 1:
        if done.batch == batches:
            done.end_epoch()
        now = min(together, batches - done.batch)
        last = done.batch + now == batches
        done.add_step(10 * now - 7 * last, torch.zeros(()), now)
        done.seconds += 1.0
        shares.append(length.share(done, epoch))
        taken += 1
    assert shares[0] == 0.0
    assert all(a < b for a, b in pairwise(shares))
    assert length.steps_left(done, epoch) == length.images_left(done, epoch) == 0
    # Before its first step, a run by the clock has no speed
    assert abs(foreseen - taken) <= {"images": steps, "seconds": amount}.get(unit, 0)
    if unit != "images":
        assert shares[-1] == 1.0


@pytest.mark.parametrize("given", [{}, {"epochs": 1, "steps": 5}, {"images": 0}], ids=str)
def test_a_run_has_one_length(given):
    with pytest.raises(InputError, match=r"give one, got|above 0, got 0 images"):
        Length.of(**given)


def test_a_file_states_one_length_or_none():
    assert Training().epochs == 100
    assert Training.model_validate({"steps": 5}).epochs is None
    stated = Training.model_validate({"images": 5, "epochs": None})
    assert Training.model_validate(stated.model_dump(mode="json")) == stated
    with pytest.raises(ValueError, match="null, since the run ends after epochs 5 already"):
        Training.model_validate({"epochs": 5, "steps": 5})


# -- a run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [{"num_steps": 4}, {"num_images": 361}], ids=str)
def test_a_run_that_ends_within_an_epoch_is_measured_saved_and_goes_on_to_the_bit(tmp_path, length):
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        short = make_trainer(val="digits:test", logger=logger, sample_images=True, sample_interval=100)
        metrics = short.train(checkpoint_dir=tmp_path, validate_frequency=5, save_frequency=5, **length)
    assert short.progress.position == {
        "images": 480,
        "global_step": 4,
        "epoch": 1,
        "batch": 1,
        "seconds": 0.0,
    }
    assert short.share >= 1
    assert metrics.keys() == {"train_loss", "val_loss"}
    assert read_contents(tmp_path / "latest.pth")["batch"] == 1
    assert not list(tmp_path.glob("epoch_*"))
    assert [path.name for path in (tmp_path / "samples").glob("samples*")] == ["samples_0000004.png"]
    again = make_trainer()
    again.load_checkpoint(tmp_path / "latest.pth")
    again.train(2)
    straight = make_trainer()
    straight.train(2)
    assert same(again, straight)


def test_what_is_trained_already_is_not_trained_again():
    trainer = make_trainer(batch_size=360)  # an epoch is a step
    trainer.train(num_steps=2)
    assert trainer.train(2) == {}
    assert trainer.train(num_images=720) == {}
    assert (trainer.epoch, trainer.global_step) == (2, 2)


# -- the learning rate ---------------------------------------------------------------------------------

SHARES = {
    "constant": (RateSchedule("constant"), lambda u: 1.0),
    "cosine": (RateSchedule("cosine", end=0.2), lambda u: 0.6 + 0.4 * math.cos(math.pi * u)),
    "linear": (RateSchedule("linear"), lambda u: 1 - u),
    "inverse_sqrt": (RateSchedule("inverse_sqrt", end=0.5), lambda u: (1 + 3 * u) ** -0.5),
    "tau": (RateSchedule("inverse_sqrt", {"tau": 240}), lambda u: (1 + 3 * u) ** -0.5),  # of 720 images
    "wsd": (RateSchedule("wsd", {"decay": 0.5}, end=0.1), lambda u: min(1.0, 1 - 0.9 * (2 * u - 1))),
    "over": (RateSchedule("linear", over=Length(1, "epochs")), lambda u: max(0.0, 1 - 2 * u)),
}


@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("length", [{"num_epochs": 2}, {"num_images": 720}, {"num_steps": 6}], ids=str)
def test_the_rate_of_each_step_follows_the_run_however_it_is_measured(name, length):
    schedule, share = SHARES[name]
    trainer = make_trainer(rate_schedule=schedule, use_ema=False)
    used = rates_used(trainer)
    trainer.train(**length)
    assert used == pytest.approx([RATE * share(step / 6) for step in range(6)], abs=1e-12)


def test_a_finished_run_that_is_made_longer_takes_the_rate_of_the_position(tmp_path):
    make_trainer(rate_schedule="linear").train(1, tmp_path)
    for reset, expected in ((False, [3 / 6, 2 / 6, 1 / 6]), (True, [3 / 3, 2 / 3, 1 / 3])):
        trainer = make_trainer(rate_schedule="linear")
        used = rates_used(trainer)
        trainer.load_checkpoint(tmp_path / "latest.pth", reset_scheduler=reset)
        trainer.train(2, tmp_path / str(reset))
        assert used == pytest.approx([RATE * share for share in expected])
        again = make_trainer(rate_schedule="linear")
        again.load_checkpoint(tmp_path / str(reset) / "latest.pth")
        assert again.rate.start == trainer.rate.start


def test_two_schedules_at_once_are_refused():
    model = create_ddpm(8, 1, 4, (1,), norm_groups=2, attention_head_dim=4)
    optimizer = SGD(model.parameters(), lr=RATE)
    data = DiffusionDataLoader("digits:test", image_size=8, in_channels=1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.raises(InputError, match="not both"):
        DiffusionTrainer(model, data, optimizer, scheduler=scheduler, rate_schedule="cosine")


# -- accumulation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [360, 180, 100])  # 100: three of them and one of 60
def test_small_batches_learn_as_one_large_batch_does(batch_size):
    """Also by the same noise: it belongs to an image of a step, and not to a batch."""
    large = make_trainer(batch_size=360)
    small = make_trainer(batch_size=batch_size, accumulation=4)
    first = large.train(2)["train_loss"], small.train(2)["train_loss"]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    assert small.global_step == 2
    assert small.progress.images == 720
    for one, other in zip(large.model.parameters(), small.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_last_step_of_an_epoch_has_the_batches_that_are_left(tmp_path):
    trainer = make_trainer(batch_size=60, accumulation=4)
    assert list(trainer.steps()) == [240, 120]
    assert trainer.an_epoch == Epoch(batches=6, images=360, steps=2)
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        make_trainer(batch_size=60, accumulation=4, logger=logger).train(num_steps=3)
    with (tmp_path / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "3"]


def test_a_step_of_no_batch_is_refused():
    with pytest.raises(InputError, match="accumulation must be a number of batches, at least 1, got 0"):
        make_trainer(accumulation=0)
