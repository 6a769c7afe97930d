"""What resuming promises: this run's rates, the meaning of the weights, and no image twice."""

from __future__ import annotations

import csv
import math
import os
import signal
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)

from snowmelt import DiffusionDataLoader, DiffusionLogger, DiffusionTrainer, create_ddpm
from snowmelt.models.checkpoint_file import read_contents, write_contents
from snowmelt.models.weights import CheckpointError
from snowmelt.training.interrupt import Interrupted, Interruption
from snowmelt.training.learning_rate import LearningRate
from snowmelt.training.length import Epoch, Length
from snowmelt.training.processes import own_stream
from snowmelt.training.state import Progress

TINY = {
    "image_size": 8,
    "in_channels": 1,
    "model_channels": 4,
    "channel_multipliers": (1,),
    "norm_groups": 2,
    "attention_head_dim": 4,
}
RATES = (0.1, 0.02)
EPOCHS = 5


def make_trainer(scheduler=None, *, data=None, model=None, adam=False, **options) -> DiffusionTrainer:
    """A trainer of three steps an epoch, with two groups of parameters."""
    torch.manual_seed(0)
    options_of_model = {
        "layers_per_block": 1,
        "num_classes": 10,
        "num_timesteps": 20,
        **TINY,
        **(model or {}),
    }
    network = create_ddpm(**options_of_model)
    first, *others = network.parameters()
    groups = [{"params": [first], "lr": RATES[0]}, {"params": others, "lr": RATES[1]}]
    optimizer = AdamW(groups) if adam else SGD(groups)
    loader = DiffusionDataLoader(
        "digits:test",
        options.pop("val", None),
        **{"image_size": 8, "in_channels": 1, "batch_size": 120, **(data or {})},
    )
    made = scheduler(optimizer) if scheduler is not None else None
    return DiffusionTrainer(network, loader, optimizer, scheduler=made, gradient_clip_norm=1.0, **options)


# -- learning rate -------------------------------------------------------------------------------------


def cosine(over: int):
    return (
        lambda optimizer: CosineAnnealingLR(optimizer, T_max=over),
        lambda n: (1 + math.cos(math.pi * n / over)) / 2,
    )


def sequence(optimizer) -> LRScheduler:
    parts = [LinearLR(optimizer, 0.5, total_iters=2), ExponentialLR(optimizer, 0.5)]
    return SequentialLR(optimizer, parts, milestones=[2])


SCHEDULES = {
    "none": (None, lambda n: 1.0),
    "cosine": cosine(2 * EPOCHS),
    "finished cosine": cosine(3),
    "linear": (lambda optimizer: LinearLR(optimizer, 1.0, 0.0, 8), lambda n: 1 - n / 8),
    "steps": (lambda optimizer: StepLR(optimizer, 2, 0.5), lambda n: 0.5 ** (n // 2)),
    "lambda": (lambda optimizer: LambdaLR(optimizer, lambda n: 1 / (n + 1)), lambda n: 1 / (n + 1)),
    "sequence": (sequence, lambda n: (0.5 + n / 4) if n < 2 else 0.5 ** (n - 2)),
}


def rates(trainer: DiffusionTrainer) -> list[float]:
    return [group["lr"] for group in trainer.optimizer.param_groups]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, Path]:
    """The checkpoints of runs whose rate has come down to 0."""
    folder = tmp_path_factory.mktemp("finished")
    for name in ("none", "finished cosine", "linear"):
        trainer = make_trainer(SCHEDULES[name][0])
        trainer.progress.epoch = 3
        trainer.rate.go_to(3)
        trainer.save_checkpoint(folder / f"{name}.pth")
    return {name: folder / f"{name}.pth" for name in ("none", "finished cosine", "linear")}


@pytest.mark.parametrize(
    ("before", "now", "reset_optimizer"),
    [
        *(("none", now, False) for now in SCHEDULES),
        *(("finished cosine", now, True) for now in SCHEDULES),
        *(("linear", now, False) for now in ("none", "cosine", "linear")),
    ],
)
def test_the_rate_after_a_resume_is_this_schedules_closed_form(finished, before, now, reset_optimizer):
    schedule, share = SCHEDULES[now]
    trainer = make_trainer(schedule)
    types = {name: type(part).__name__ for name, part in make_trainer(SCHEDULES[before][0]).parts.items()}
    other = schedule is not None and types.get("scheduler", "") not in ("", type(trainer.scheduler).__name__)
    trainer.load_checkpoint(finished[before], reset_optimizer=reset_optimizer, reset_scheduler=other)
    begin = 0 if other else 3
    for position in range(begin, begin + 3):
        assert rates(trainer) == pytest.approx([rate * share(position) for rate in RATES], abs=1e-12)
        trainer.rate.end_epoch()


def test_the_rate_that_is_logged_is_the_one_that_was_used(tmp_path):
    make_trainer(SCHEDULES["finished cosine"][0]).train(3, tmp_path)
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        trainer = make_trainer(SCHEDULES["cosine"][0], logger=logger)
        trainer.load_checkpoint(tmp_path / "latest.pth")
        used = []
        step = trainer.optimizer.step
        trainer.optimizer.step = lambda *args: used.append(rates(trainer)[0]) or step(*args)
        trainer.train(5)
    with (tmp_path / "metrics.csv").open() as file:
        logged = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    expected = [RATES[0] * SCHEDULES["cosine"][1](n) for n in (3, 4)]
    assert logged == pytest.approx(expected)
    assert sorted(set(used), reverse=True) == pytest.approx(expected)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warm_up_is_linear_in_front_of_every_schedule(name):
    schedule, share = SCHEDULES[name]
    optimizer = SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES])
    rate = LearningRate(optimizer, warmup=500, scheduler=schedule(optimizer) if schedule else None)
    for position in range(9):
        rate.set(Progress(images=100 * position), Epoch(1, 100, 1), None, 100)
        used = [group["lr"] for group in optimizer.param_groups]
        part = share(position) * min(1.0, 100 * (position + 1) / 500)
        assert used == pytest.approx([rate * part for rate in RATES], abs=1e-12)
        rate.end_epoch()


@pytest.mark.parametrize("images", [192, 6000])
def test_an_unstated_warm_up_is_a_fiftieth_of_the_run(images):
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rate, length, epoch = LearningRate(optimizer, warmup=None), Length.of(images=images), Epoch(2, 32, 2)
    for seen in range(0, images, 16):
        rate.set(Progress(images=seen), epoch, length, 16)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(min(1.0, 50 * (seen + 16) / images))


def test_a_run_by_the_clock_warms_up_from_its_first_step_on():
    rate = LearningRate(SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), warmup=None)
    rate.start.seconds = 20.0  # passed before it
    positions = [Progress(seconds=second) for second in (20, 21, 22, 60)]
    shares = [rate.share(position, Epoch(1, 1, 1), Length.of(seconds=120)) for position in positions]
    assert shares == pytest.approx([0.0, 0.5, 1.0, 1.0])


@pytest.mark.parametrize(("name", "reset_scheduler"), [("cosine", False), ("cosine", True), ("none", True)])
def test_a_warm_up_goes_on_where_it_was(tmp_path, name, reset_scheduler):
    """Three steps of 120 images an epoch; a warm-up of 1200 images ends in the fourth epoch."""
    schedule, share = SCHEDULES[name]
    used = []

    def make(warmup: int) -> DiffusionTrainer:
        trainer = make_trainer(schedule, warmup=warmup, use_ema=False)
        trainer.optimizer.register_step_pre_hook(lambda *_: used.append(rates(trainer)))
        return trainer

    first = make(500)  # another one, which leaves no trace
    first.train(1)
    assert len(list(islice(first.steps(), 2))) == 2
    first.save_checkpoint(tmp_path / "half.pth")
    trainer = make(1200)
    trainer.load_checkpoint(tmp_path / "half.pth", reset_scheduler=reset_scheduler)
    begin, epoch = (600, 1) if reset_scheduler else (0, 0)
    used.clear()
    trainer.train(3)
    trainer.save_checkpoint(tmp_path / "again.pth")
    trainer = make(1200)
    trainer.load_checkpoint(tmp_path / "again.pth")
    trainer.train(5)
    ends = [120 * step for step in range(6, 16)]
    parts = [share((end - 1) // 360 - epoch) * min(1.0, (end - begin) / 1200) for end in ends]
    assert used == [pytest.approx([rate * part for rate in RATES], abs=1e-12) for part in parts]


def test_the_best_loss_of_another_objective_is_forgotten(tmp_path):
    first = make_trainer()
    first.train(1)
    first.progress.best_metric = 0.0
    first.save_checkpoint(tmp_path / "one.pth")
    for options, kept in (({}, True), ({"weighting": "min_snr"}, False), ({"times": "log_normal"}, False)):
        trainer = make_trainer(**options)
        trainer.load_checkpoint(tmp_path / "one.pth")
        trainer.train(2)
        assert (trainer.progress.best_metric == 0.0) == kept


def test_options_are_this_runs_and_moments_the_checkpoints(tmp_path):
    first = make_trainer(adam=True, ema_decay=0.9)
    first.train(1, tmp_path)
    trainer = make_trainer(adam=True, ema_decay=0.5)
    for group in trainer.optimizer.param_groups:
        group["betas"] = (0.5, 0.6)
    trainer.load_checkpoint(tmp_path / "latest.pth")
    assert {group["betas"] for group in trainer.optimizer.param_groups} == {(0.5, 0.6)}
    assert trainer.ema.decay == 0.5
    there, here = (one.optimizer.state_dict()["state"] for one in (first, trainer))
    assert all(torch.equal(there[n]["exp_avg"], here[n]["exp_avg"]) for n in there)


# -- what the weights mean -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def epoch_and_a_half(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("half") / "half.pth"
    trainer = make_trainer()
    trainer.train(1)
    assert len(list(islice(trainer.steps(), 2))) == 2
    trainer.save_checkpoint(path)
    return path


@pytest.mark.parametrize(
    "model",
    [
        {"parameterization": "v"},
        {"beta_schedule": "cosine"},
        {"num_timesteps": 30},
        {"attention_head_dim": 2},
        {"norm_groups": 1},
    ],
    ids=str,
)
def test_what_changes_the_meaning_of_the_weights_is_refused(epoch_and_a_half, model):
    trainer = make_trainer(model=model)
    before = [value.clone() for value in trainer.model.state_dict().values()]
    with pytest.raises(
        CheckpointError, match=f"does not fit the model .*{next(iter(model)).removeprefix('beta_')}"
    ):
        trainer.load_checkpoint(epoch_and_a_half)
    assert all(map(torch.equal, before, trainer.model.state_dict().values()))
    assert trainer.progress.global_step == 0


def test_another_dropout_does_not_change_what_the_weights_mean(epoch_and_a_half):
    trainer = make_trainer(model={"dropout": 0.5, "class_dropout_prob": 0.5})
    trainer.load_checkpoint(epoch_and_a_half)
    assert trainer.global_step == 5


@pytest.mark.parametrize(
    ("names", "refused"),
    [(["1", "0"], True), (["0"], False), ([*map(str, range(10)), "10"], False), (["zero"], True)],
    ids=str,
)
def test_classes_that_mean_something_else_are_refused(epoch_and_a_half, names, refused):
    trainer = make_trainer()
    trainer.dataloader.class_names = names
    if not refused:
        trainer.load_checkpoint(epoch_and_a_half)
        return
    with pytest.raises(CheckpointError, match=f"class 0: 0 there, {names[0]} now"):
        trainer.load_checkpoint(epoch_and_a_half)


@pytest.mark.parametrize(
    "data", [{"batch_size": 90}, {"batch_size": 360}, {"seed": 1}, {"shuffle_train": False}], ids=str
)
def test_inside_an_epoch_another_order_of_images_is_refused_and_at_its_end_taken(
    tmp_path, epoch_and_a_half, data
):
    with pytest.raises(CheckpointError, match=rf"inside epoch 2.*{next(iter(data))}.*epoch_0001\.pth"):
        make_trainer(data=data).load_checkpoint(epoch_and_a_half)
    make_trainer().train(1, tmp_path)
    trainer = make_trainer(data=data)
    trainer.load_checkpoint(tmp_path / "latest.pth")
    assert trainer.train(2)["train_loss"] > 0


def test_inside_the_first_epoch_no_earlier_file_is_advised(tmp_path):
    trainer = make_trainer()
    next(trainer.steps())
    trainer.save_checkpoint(tmp_path / "first.pth")
    with pytest.raises(CheckpointError, match=r"inside epoch 1.* until the epoch ends, or train anew$"):
        make_trainer(data={"batch_size": 90}).load_checkpoint(tmp_path / "first.pth")


def test_an_older_file_inside_an_epoch_with_too_many_batches_is_refused(tmp_path, epoch_and_a_half):
    contents = read_contents(epoch_and_a_half)
    del contents["data_order"]
    write_contents(contents, tmp_path / "old.pth")
    with pytest.raises(CheckpointError, match="2 batches done there, 1 in an epoch now"):
        make_trainer(data={"batch_size": 360}).load_checkpoint(tmp_path / "old.pth")


# -- numbers that are not finite -----------------------------------------------------------------------


def spoil(trainer: DiffusionTrainer, step: int) -> None:
    """Let a gradient overflow in the given step."""
    calls: list[int] = []

    def overflow(gradient):
        calls.append(1)
        return gradient * math.inf if len(calls) == step else gradient

    next(trainer.model.parameters()).register_hook(overflow)


@pytest.mark.parametrize("step", [5, 6])
@pytest.mark.parametrize("val", [None, "digits:test"])
def test_no_good_checkpoint_is_replaced_by_one_that_is_not_finite(tmp_path, step, val):
    """Step 6 is the last one of an epoch, whose loss is finite."""
    trainer = make_trainer(val=val)
    spoil(trainer, step)
    with pytest.raises(FloatingPointError, match="in epoch 2: lower the learning rate"):
        trainer.train(3, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"latest.pth", "best_model.pth", "epoch_0001.pth"}
    assert {read_contents(path)["epoch"] for path in tmp_path.iterdir()} == {1}
    with pytest.raises(FloatingPointError, match=r"not finite|loss is nan"):
        trainer.save_checkpoint(tmp_path / "latest.pth")


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path, epoch_and_a_half):
    for key in ("model_state_dict", "ema_state_dict"):
        contents = read_contents(epoch_and_a_half)
        weights = contents[key].get("shadow", contents[key])
        name = next(iter(weights))
        weights[name] = torch.full_like(weights[name], math.nan)
        write_contents(contents, tmp_path / "spoilt.pth")
        with pytest.raises(CheckpointError, match=r"not finite .*diverged"):
            make_trainer().load_checkpoint(tmp_path / "spoilt.pth")


# -- signals -------------------------------------------------------------------------------------------


def send(trainer: DiffusionTrainer, signum: int, step: int) -> None:
    calls: list[int] = []

    def count(module, args):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signum)

    trainer.model.network.register_forward_pre_hook(count)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_saves_and_leaves_no_state_behind(tmp_path, signum):
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    trainer = make_trainer()
    send(trainer, signum, 4)
    with pytest.raises(Interrupted) as stopped:
        trainer.train(3, tmp_path, save_frequency=100)
    assert stopped.value.signum == signum
    assert read_contents(tmp_path / "latest.pth")["global_step"] == 4
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == handlers
    trainer.train(3)  # as in a notebook: the same trainer goes on to the end
    assert (trainer.epoch, trainer.global_step) == (3, 9)
    straight = make_trainer()
    straight.train(3)
    assert all(map(torch.equal, straight.model.state_dict().values(), trainer.model.state_dict().values()))


@pytest.mark.parametrize(("epochs", "steps"), [(3, None), (None, 2)])  # 2: the run ends within an epoch
def test_a_signal_while_images_are_measured_stops_at_once_and_the_next_run_measures_them(
    tmp_path, epochs, steps
):
    left, length = [], {"num_epochs": epochs, "num_steps": steps, "evaluate_frequency": 1}

    def evaluate(sampler):
        os.kill(os.getpid(), signal.SIGTERM)
        left.append("never")

    trainer = make_trainer(SCHEDULES["cosine"][0], evaluate=evaluate)
    with pytest.raises(Interrupted):
        trainer.train(checkpoint_dir=tmp_path, **length)
    assert not left
    state = read_contents(tmp_path / "latest.pth")
    assert (state["epoch"], state["batch"]) == (0, steps or 3)
    assert rates(trainer) == pytest.approx(RATES)  # that of the first epoch
    measured = []
    resumed = make_trainer(SCHEDULES["cosine"][0], evaluate=lambda sampler: measured.append(1) or {})
    resumed.load_checkpoint(tmp_path / "latest.pth")
    assert resumed.train(**length)["train_loss"] > 0
    assert len(measured) == (epochs or 1)
    assert resumed.global_step == (steps or 9)
    straight = make_trainer(SCHEDULES["cosine"][0])
    straight.train(epochs, num_steps=steps)
    assert all(map(torch.equal, straight.model.state_dict().values(), resumed.model.state_dict().values()))


def test_torchrun_sends_each_signal_twice_and_the_second_does_not_count(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.signum == signal.SIGINT


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.signum == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# -- the best model ------------------------------------------------------------------------------------


def test_between_validations_the_training_loss_chooses_no_best_model(tmp_path):
    trainer = make_trainer(val="digits:test")
    losses = iter([3.0, 2.0, 2.5])
    trainer.validate_epoch = lambda: {"loss": next(losses)}
    trainer.train(9, tmp_path, validate_frequency=3)
    assert read_contents(tmp_path / "best_model.pth")["epoch"] == 6
    assert trainer.progress.best_metric == 2.0


# -- several processes ---------------------------------------------------------------------------------


class Process:
    """Stands for an accelerator."""

    def __init__(self, rank: int) -> None:
        self.process_index = rank


def test_each_process_draws_numbers_of_its_own_that_follow_from_the_seed():
    def draws(rank: int, step: int) -> tuple[float, ...]:
        torch.manual_seed(7)
        own_stream(Process(rank), step)
        return tuple(torch.rand(3).tolist())

    streams = [draws(rank, step) for rank in range(3) for step in range(2)]
    assert streams == [draws(rank, step) for rank in range(3) for step in range(2)]
    assert len(set(streams)) == 5  # the first process keeps the stream that it would have alone
    torch.manual_seed(7)
    assert streams[0] == streams[1] == tuple(torch.rand(3).tolist())


# -- the words of snowmelt's forerunner ----------------------------------------------------------------


def test_old_words_are_named_with_the_new_ones(tmp_path):
    trainer = make_trainer()
    with pytest.raises(TypeError, match="takes no checkpoint_frequency: it is save_frequency now"):
        trainer.train(1, checkpoint_frequency=1)
    with pytest.raises(TypeError, match=r"takes no save_best: best_model\.pth is always written"):
        trainer.train(1, save_best=True)
    with pytest.raises(TypeError, match=r"takes no epoch: .*; takes no metrics: "):
        trainer.save_checkpoint(tmp_path / "x.pth", epoch=1, metrics={})
    assert trainer.use_ema is True
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        trainer._generate_samples(logger, step=7)
    assert (tmp_path / "samples" / "samples_0000007.png").exists()
    assert trainer.train(1, validate_frequency=0)["train_loss"] > 0
