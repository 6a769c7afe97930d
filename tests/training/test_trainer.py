"""What `DiffusionTrainer` promises: it learns, it resumes to the bit, and it does not sample."""

from __future__ import annotations

import csv
import math
import os
import signal
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from snowmelt import DiffusionDataLoader, DiffusionLogger, DiffusionSampler, DiffusionTrainer, create_ddpm
from snowmelt.core import PARAMETERIZATIONS, DiscreteSchedule, RectifiedFlow, make_betas
from snowmelt.models import DiffusionModel
from snowmelt.models.checkpoint_file import read_contents, write_contents
from snowmelt.models.weights import CheckpointError
from snowmelt.training.draws import draw
from snowmelt.training.loss import denoising_loss, labels_to_learn
from snowmelt.training.times import Times


def digits(**options) -> DiffusionDataLoader:
    options = {"image_size": 8, "batch_size": 120, "in_channels": 1, **options}
    return DiffusionDataLoader("digits:test", **options)


def make_trainer(
    data: DiffusionDataLoader | None = None,
    seed: int = 0,
    lr: float = 2e-3,
    augment_channels: int = 0,
    **options,
) -> DiffusionTrainer:
    """A trainer of three steps an epoch."""
    torch.manual_seed(seed)
    model = create_ddpm(
        image_size=8,
        in_channels=1,
        model_channels=4,
        channel_multipliers=(1,),
        num_classes=10,
        num_timesteps=20,
        beta_end=0.3,
        norm_groups=2,
        attention_head_dim=4,
        layers_per_block=1,
        dropout=0.1,
        augment_channels=augment_channels,
    )
    optimizer = AdamW(model.parameters(), lr=lr)
    options.setdefault("scheduler", CosineAnnealingLR(optimizer, T_max=4))
    return DiffusionTrainer(model, data or digits(), optimizer, gradient_clip_norm=1.0, **options)


@cache
def straight(epochs: int) -> tuple[DiffusionTrainer, dict[str, float]]:
    """A trainer that nothing has stopped, which is only looked at, and its last metrics."""
    trainer = make_trainer()
    return trainer, trainer.train(epochs)


def weights(trainer: DiffusionTrainer) -> list[torch.Tensor]:
    assert trainer.ema is not None
    return [*trainer.model.state_dict().values(), *trainer.ema.state_dict()["shadow"].values()]


def same(one: DiffusionTrainer, other: DiffusionTrainer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


# -- the objective -------------------------------------------------------------------------------------


def model_of(network, schedule, parameterization, **options) -> DiffusionModel:
    options = {"image_shape": (1, 2, 2), **options}
    return DiffusionModel(network, schedule, parameterization, **options)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_the_loss_is_zero_for_a_network_that_knows_the_answer(name):
    """All images equal: then x_t determines eps, and the target is a function of what the network sees."""
    parameterization = PARAMETERIZATIONS[name]
    schedule = DiscreteSchedule(make_betas())
    x0 = torch.full((32, 1, 2, 2), 0.3, dtype=torch.float64)

    def network(x, time, class_labels):
        level = schedule((time.double() + 1) / 1000)
        level = type(level)(*(number.view(-1, 1, 1, 1) for number in level))
        eps = (x / parameterization.input_scale(level) - level.alpha * x0) / level.sigma
        return parameterization.target(x0, eps, level)

    loss = denoising_loss(model_of(network, schedule, name), x0)
    assert loss.item() == pytest.approx(0.0, abs=1e-8)


def test_the_loss_of_a_silent_network_is_the_targets_variance():
    silent = lambda x, time, class_labels: torch.zeros_like(x)  # noqa: E731
    x0 = torch.zeros(4000, 1, 2, 2)
    # eps has variance 1; flow's eps - x0 on black images too
    for name in ("eps", "flow"):
        loss = denoising_loss(model_of(silent, RectifiedFlow(), name), x0)
        assert loss.item() == pytest.approx(1.0, abs=0.05)


def test_labels_are_dropped_as_often_as_asked():
    model = create_ddpm(8, 1, 4, norm_groups=2, num_classes=10, class_dropout_prob=0.2, attention_head_dim=4)
    labels = torch.arange(10).repeat(2000)
    learned = labels_to_learn(model, labels, draw(model, Times(), len(labels), 0).dropped)
    assert (learned == 10).float().mean().item() == pytest.approx(0.2, abs=0.015)
    kept = learned != 10
    assert torch.equal(learned[kept], labels[kept])
    assert torch.equal(labels_to_learn(model, labels), labels)


# -- training ------------------------------------------------------------------------------------------


def test_training_learns():
    trainer = make_trainer(digits(batch_size=20), lr=1e-2, scheduler=None)
    first = trainer.train_epoch()["loss"]
    for _ in range(2):
        last = trainer.train_epoch()["loss"]
    assert last < 0.6 * first
    assert trainer.epoch == 3
    assert trainer.global_step == 3 * 18


def test_the_trainer_trains_and_the_sampler_samples():
    trainer = make_trainer()
    assert not hasattr(trainer, "generate_samples")
    assert trainer.sampler.model is trainer.model
    assert trainer.sampler.ema is trainer.ema
    assert trainer.sampler.sample(2, [0, 1]).shape == (2, 1, 8, 8)


def test_the_average_takes_in_the_weights_that_a_step_has_made():
    """With decay 0, it is the latest weights."""
    trainer = make_trainer(ema_decay=0.0)
    for _ in islice(trainer.steps(), 2):
        live = dict(trainer.model.named_parameters())
        assert all(torch.equal(value, live[name]) for name, value in trainer.ema.shadow.items())


@pytest.mark.parametrize("use_ema", [True, False])
def test_validation_is_repeatable_and_leaves_no_trace(use_ema):
    data = digits(val_path="digits:train")
    trainer = make_trainer(data, use_ema=use_ema)
    before = torch.get_rng_state(), [v.clone() for v in trainer.model.state_dict().values()]
    losses = {trainer.validate_epoch()["loss"] for _ in range(3)}
    assert len(losses) == 1
    assert torch.equal(before[0], torch.get_rng_state())
    after = trainer.model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before[1], after, strict=True))


def test_the_loss_of_validation_does_not_depend_on_its_batches():
    trainer = make_trainer(digits(val_path="digits:test"))
    whole = trainer.validate_epoch()["loss"]
    trainer.dataloader.batch_size = 7
    assert trainer.validate_epoch()["loss"] == pytest.approx(whole, rel=1e-5)


def test_without_validation_data_there_is_no_validation():
    assert make_trainer().validate_epoch() == {}


@pytest.mark.parametrize("num_classes", [10, None])
def test_the_network_gets_the_class_only_if_it_has_classes(num_classes):
    model = create_ddpm(
        8, 1, 8, (1, 2), num_classes=num_classes, class_dropout_prob=0.5, norm_groups=4, num_timesteps=20
    )
    trainer = DiffusionTrainer(model, digits(), AdamW(model.parameters()))
    seen = []
    model.network.register_forward_pre_hook(lambda module, args: seen.append(args[2]))
    trainer.train_epoch()
    if num_classes is None:
        assert all(labels is None for labels in seen)
    else:
        labels = torch.cat(seen)
        assert (labels == 10).float().mean().item() == pytest.approx(0.5, abs=0.1)


# -- resuming ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("conditioned", [False, True])
def test_resumed_equals_straight_to_the_bit(tmp_path, workers, conditioned):
    changes = {"horizontal_flip": True, "rotation_degrees": 10.0, "conditioned": conditioned}
    options = {**changes, "num_workers": workers}
    channels = {"augment_channels": 3 if conditioned else 0}
    whole = make_trainer(digits(**options), **channels)
    whole.train(3)

    first = make_trainer(digits(**options), **channels)
    first.train(1, tmp_path)
    resumed = make_trainer(digits(**options), seed=99, **channels)
    resumed.load_checkpoint(tmp_path / "latest.pth")
    resumed.train(3)

    assert same(whole, resumed)
    assert resumed.global_step == whole.global_step
    assert resumed.optimizer.param_groups[0]["lr"] == whole.optimizer.param_groups[0]["lr"]


def press_ctrl_c(trainer: DiffusionTrainer, step: int) -> None:
    """Press Ctrl-C while the given step is half done."""
    calls = []

    def count(module, args):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)

    trainer.model.network.register_forward_pre_hook(count)


@pytest.mark.parametrize("stop_after", [2, 3, 4])  # inside an epoch, at its end, and just after it
def test_ctrl_c_saves_and_a_resumed_run_ends_with_the_same_bits(tmp_path, stop_after):
    whole, metrics = straight(2)
    stopped, before = make_trainer(), signal.getsignal(signal.SIGINT)
    press_ctrl_c(stopped, stop_after)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(2, tmp_path, save_frequency=100)
    assert stopped.global_step == stop_after
    assert signal.getsignal(signal.SIGINT) is before

    resumed = make_trainer(seed=99)
    resumed.load_checkpoint(tmp_path / "latest.pth")
    assert resumed.progress.state_dict() == stopped.progress.state_dict()
    assert resumed.train(2) == metrics
    assert same(whole, resumed)


def test_a_second_ctrl_c_interrupts_at_once_and_saves_no_half_step(tmp_path):
    trainer = make_trainer()
    press_ctrl_c(trainer, 3)
    press_ctrl_c(trainer, 3)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(3, tmp_path, save_frequency=100)
    assert trainer.global_step == 2
    assert not list(tmp_path.iterdir())


def test_ctrl_c_does_not_save_what_a_loss_that_is_not_finite_has_spoilt(tmp_path):
    trainer = make_trainer()
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(math.nan)
    press_ctrl_c(trainer, 2)
    with pytest.raises(FloatingPointError, match="in epoch 1: lower the learning rate"):
        trainer.train(2, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_may_stop_and_go_on_between_any_two_steps():
    """`steps` is the loop itself: it can be left and entered again anywhere."""
    in_pieces = make_trainer()
    seen = []
    while in_pieces.epoch < 2:
        seen += islice(in_pieces.steps(), 2)
        if in_pieces.progress.batch == 3:
            in_pieces.train_epoch()  # nothing is left of it
    whole, _ = straight(2)
    assert in_pieces.progress.images == sum(seen) == whole.progress.images == 720
    assert same(whole, in_pieces)


def test_a_file_from_before_images_were_counted_resumes_to_the_same_bits(tmp_path):
    first = make_trainer()
    assert list(islice(first.steps(), 2)) == [120, 120]
    first.save_checkpoint(tmp_path / "new.pth")
    checkpoint = read_contents(tmp_path / "new.pth")
    assert checkpoint.pop("images") == 240
    write_contents(checkpoint, tmp_path / "old.pth")
    resumed = make_trainer(seed=99)
    resumed.load_checkpoint(tmp_path / "old.pth")
    assert resumed.progress.images == 240
    resumed.train(2)
    assert same(straight(2)[0], resumed)


def test_checkpoints_have_the_documented_keys(tmp_path):
    trainer = make_trainer(config={"experiment": "x"})
    trainer.train(1, tmp_path)
    checkpoint = read_contents(tmp_path / "latest.pth")
    expected = {
        "format_version", "snowmelt_version", "model_config", "model_state_dict", "ema_state_dict",
        "optimizer_state_dict", "scheduler_state_dict", "num_classes", "epoch", "global_step", "rng_state",
        "config",
    }  # fmt: skip
    assert expected <= checkpoint.keys()
    assert checkpoint["num_classes"] == 10
    assert checkpoint["epoch"] == 1


def test_which_files_are_written(tmp_path):
    data = digits(val_path="digits:test")
    make_trainer(data).train(3, tmp_path / "all", save_frequency=2)
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == [
        "best_model.pth", "epoch_0002.pth", "epoch_0003.pth", "latest.pth",
    ]  # fmt: skip
    make_trainer(data).train(2, tmp_path / "few", save_best_only=True, save_optimizer=False)
    assert sorted(p.name for p in (tmp_path / "few").iterdir()) == ["best_model.pth", "latest.pth"]
    assert "optimizer_state_dict" not in read_contents(tmp_path / "few" / "latest.pth")


def test_the_best_model_is_the_one_with_the_lowest_watched_loss(tmp_path):
    trainer = make_trainer()
    losses = iter([3.0, 1.0, 2.0])
    trainer.validate_epoch = lambda: {"loss": next(losses)}
    trainer.train(3, tmp_path)
    assert read_contents(tmp_path / "best_model.pth")["epoch"] == 2
    assert trainer.progress.best_metric == 1.0


@pytest.mark.parametrize(("maximize", "best"), [(False, 4), (True, 2)])
def test_the_best_model_may_be_chosen_by_what_it_generates(tmp_path, maximize, best):
    figures = {2: 5.0, 4: 3.0, 5: 4.0}  # every second epoch, and the last one
    trainer = make_trainer(evaluate=lambda sampler: {"fid": figures[trainer.epoch]})
    options = {"evaluate_frequency": 2, "watch": "fid", "maximize": maximize}
    metrics = trainer.train(5, tmp_path, **options)
    assert metrics["eval_fid"] == 4.0
    assert read_contents(tmp_path / "best_model.pth")["epoch"] == best
    resumed = make_trainer(evaluate=trainer.evaluate)
    resumed.load_checkpoint(tmp_path / "latest.pth")
    assert (resumed.progress.watched, resumed.progress.best_metric) == ("fid", figures[best])


def test_another_watched_metric_starts_anew(tmp_path):
    trainer = make_trainer(evaluate=lambda sampler: {"recall": 0.1})
    trainer.train(1, tmp_path)
    assert trainer.progress.best_metric > 0.1
    trainer.train(2, tmp_path, evaluate_frequency=1, watch="recall", maximize=True)
    assert trainer.progress.best_metric == 0.1
    assert read_contents(tmp_path / "best_model.pth")["epoch"] == 2


def test_a_checkpoint_without_optimizer_can_be_resumed_only_on_request(tmp_path):
    make_trainer().train(1, tmp_path, save_optimizer=False)
    trainer = make_trainer(seed=5)
    before = [value.clone() for value in weights(trainer)]
    with pytest.raises(CheckpointError, match="lacks optimizer_state_dict, scheduler_state_dict"):
        trainer.load_checkpoint(tmp_path / "latest.pth")
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))
    trainer.load_checkpoint(tmp_path / "latest.pth", reset_optimizer=True, reset_scheduler=True)
    assert trainer.epoch == 1


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainer = make_trainer()
    checkpoint = {"model_state_dict": {"weight": torch.zeros(1)}, "epoch": 1, "global_step": 1}
    checkpoint |= {"optimizer_state_dict": {}, "scheduler_state_dict": {}, "rng_state": {}}
    write_contents(checkpoint, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        trainer.load_checkpoint(tmp_path / "other.pth")
    assert trainer.epoch == 0


def test_a_checkpoint_without_ema_warns_and_starts_the_average_anew(tmp_path):
    make_trainer(use_ema=False).train(1, tmp_path)
    trainer = make_trainer(seed=5)
    with pytest.warns(UserWarning, match="holds no EMA weights"):
        trainer.load_checkpoint(tmp_path / "latest.pth")
    assert trainer.ema is not None
    assert trainer.sampler.ema is trainer.ema
    live = dict(trainer.model.named_parameters())
    assert all(torch.equal(value, live[name]) for name, value in trainer.ema.shadow.items())


def test_a_loss_that_is_not_finite_stops_before_anything_is_overwritten(tmp_path):
    trainer = make_trainer()
    trainer.train(1, tmp_path)
    before = (tmp_path / "latest.pth").read_bytes()
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(math.nan)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer.train(2, tmp_path)
    assert (tmp_path / "latest.pth").read_bytes() == before


# -- what it leaves behind -----------------------------------------------------------------------------


def test_metrics_grids_and_film_strips_are_logged(tmp_path):
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        data = digits(val_path="digits:test")
        trainer = make_trainer(
            data,
            logger=logger,
            sample_images=True,
            sample_interval=2,
            samples_per_class=1,
            guidance_scale=2.0,
        )
        trainer.train(3)
        logger.plot_losses()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"train_loss", "val_loss", "learning_rate"} <= rows[0].keys()
    pictures = sorted(path.name for path in Path(trainer.logger.samples_dir).glob("*.png"))
    steps = (6, 9)  # every second epoch, and the end
    assert pictures == [f"{kind}_{step:07d}.png" for kind in ("denoising", "samples") for step in steps]
    assert (tmp_path / "losses.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_samples": 4}, [0, 2, 5, 7]),  # fewer than the classes: spread over them
        ({"num_samples": 12}, [0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]),
        ({"samples_per_class": 2}, [label for label in range(10) for _ in range(2)]),
    ],
)
def test_a_sample_grid_has_the_number_of_images_that_is_asked_for(tmp_path, monkeypatch, options, expected):
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        drawn = {}
        monkeypatch.setattr(
            logger, "log_images", lambda images, *_, class_labels: drawn.update({len(images): class_labels})
        )
        make_trainer(logger=logger, sample_images=True, **options).train(1)
    assert drawn == {len(expected): expected}


def test_evaluation_is_a_curve_and_does_not_disturb_training(tmp_path):
    def evaluate(sampler: DiffusionSampler) -> dict[str, float]:
        assert sampler is judged.sampler
        return {"fid": float(sampler.sample(2, [0, 1], seeds=[0, 1]).std())}

    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        judged = make_trainer(logger=logger, evaluate=evaluate)
        judged.train(3, evaluate_frequency=2)
    assert same(straight(3)[0], judged)
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["eval_fid"]) for row in rows] == [False, True, True]


def test_sample_grids_do_not_disturb_training(tmp_path):
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        drawing = make_trainer(logger=logger, sample_images=True, samples_per_class=1)
        drawing.train(2)
    assert same(straight(2)[0], drawing)


def test_progress_is_shown_on_demand(capsys):
    make_trainer(show_progress=True).train(1)
    assert "Training" in capsys.readouterr().err
    make_trainer().train(1)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no CUDA device is there"):
        make_trainer(device="cuda")
