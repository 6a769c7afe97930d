"""What `DiffusionLogger` promises: nothing logged is lost, and pictures and curves can be opened."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from snowmelt import DiffusionLogger
from snowmelt.errors import InputError
from snowmelt.training.trackers import TRACKERS, Tracker, check_trackers

NAMES = st.sampled_from(["train_loss", "val_loss", "learning_rate", 'odd, "name"'])
METRICS = st.dictionaries(NAMES, st.floats(), max_size=4)
EPOCHS = st.none() | st.integers(0, 100)


def table(folder: Path) -> list[dict[str, str]]:
    """The rows of the file, without empty cells."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def quiet(folder: Path) -> DiffusionLogger:
    return DiffusionLogger(folder, tensorboard=False)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def expected_row(step: int, epoch: int | None, metrics: dict[str, float]) -> dict[str, str]:
    epochs = {} if epoch is None else {"epoch": str(epoch)}
    return {"step": str(step), **epochs, **{name: str(value) for name, value in metrics.items()}}


# -- metrics -------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(calls=st.lists(st.tuples(METRICS, EPOCHS, st.booleans()), min_size=1, max_size=6))
def test_every_row_is_in_the_file_whatever_came_before(calls):
    """New columns, missing ones and reopening in between lose no row and move no cell."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        logger = quiet(folder)
        expected = []
        for step, (metrics, epoch, reopen) in enumerate(calls):
            logger = quiet(folder) if reopen else logger
            logger.log_metrics(metrics, step, epoch)
            expected.append(expected_row(step, epoch, metrics))
            assert table(folder) == expected


def test_a_line_that_a_kill_cut_off_is_dropped_and_the_rest_kept(tmp_path):
    logger = quiet(tmp_path)
    logger.log_metrics({"train_loss": 0.5}, step=1)
    whole = (tmp_path / "metrics.csv").read_text()
    logger.log_metrics({"train_loss": 0.25}, step=20)
    both = (tmp_path / "metrics.csv").read_text()
    for length in range(len(whole), len(both)):
        (tmp_path / "metrics.csv").write_text(both[:length])
        quiet(tmp_path).log_metrics({"train_loss": 0.125}, step=30)
        assert [row["step"] for row in table(tmp_path)] == ["1", "30"]


@pytest.mark.parametrize("content", ["", "step,train"])
def test_a_file_without_a_row_starts_anew(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    quiet(tmp_path).log_metrics({"train_loss": 1.0}, step=1)
    assert table(tmp_path) == [{"step": "1", "train_loss": "1.0"}]


def test_a_column_that_nothing_fills_keeps_its_place(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,epoch,train_loss\n1,,0.5\n")
    quiet(tmp_path).log_metrics({"train_loss": 0.25}, step=2)
    assert table(tmp_path) == [{"step": "1", "train_loss": "0.5"}, {"step": "2", "train_loss": "0.25"}]


@given(steps=st.lists(st.integers(0, 20), max_size=6), resume=st.integers(-1, 20), reopen=st.booleans())
@settings(max_examples=40)
def test_rewind_drops_what_came_after_the_step_and_nothing_else(steps, resume, reopen):
    with TemporaryDirectory() as name:
        folder = Path(name)
        logger = quiet(folder)
        for step in steps:
            logger.log_metrics({"train_loss": 1.0}, step)
        logger = quiet(folder) if reopen else logger
        logger.rewind(resume)
        logger.log_metrics({"val_loss": 2.0}, resume + 1)
        kept = [str(step) for step in steps if step <= resume]
        assert [row["step"] for row in table(folder)] == [*kept, str(resume + 1)]


@pytest.mark.parametrize("name", ["step", "epoch"])
def test_a_metric_cannot_take_the_place_of_step_or_epoch(tmp_path, name):
    with pytest.raises(ValueError, match=f"must not hold {name}"):
        quiet(tmp_path).log_metrics({name: 7.0}, step=1)
    assert not (tmp_path / "metrics.csv").exists()


# -- TensorBoard ---------------------------------------------------------------------------------------


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_tensorboard_gets_metrics_pictures_and_settings(tmp_path):
    with DiffusionLogger(tmp_path) as logger:
        logger.log_metrics({"train_loss": 0.5}, step=7)
        assert [(event.step, event.value) for event in events(tmp_path).Scalars("train_loss")] == [(7, 0.5)]
        logger.log_images(torch.zeros(2, 1, 4, 4), "samples", step=7)
        logger.log_hyperparameters({"epochs": 3})
    tags = events(tmp_path).Tags()
    assert any(tag.startswith("samples") for tag in tags["images"])
    assert any(tag.startswith("hyperparameters") for tag in tags["tensors"])


def test_tensorboard_forgets_what_a_resumed_run_repeats(tmp_path):
    with DiffusionLogger(tmp_path) as logger:
        for step in range(4):
            logger.log_metrics({"train_loss": 1.0}, step)
    with DiffusionLogger(tmp_path) as logger:
        logger.rewind(1)
        logger.log_metrics({"train_loss": 2.0}, 2)
    curve = [(event.step, event.value) for event in events(tmp_path).Scalars("train_loss")]
    assert curve == [(0, 1.0), (1, 1.0), (2, 2.0)]


class Notes(Tracker):
    """Notes what it gets, and where it was made."""

    def __init__(self, folder, run):
        self.seen = [("made", folder, run)]
        made.append(self)

    def numbers(self, row, step):
        self.seen.append((dict(row), step))

    def picture(self, name, path, step):
        with Image.open(path) as picture:  # whole already
            self.seen.append((name, picture.format, step))

    def settings(self, settings):
        self.seen.append(dict(settings))

    def rewind(self, step):
        self.seen.append(("rewind", step))

    def close(self):
        self.seen.append("closed")


made: list[Notes] = []


def test_every_tracker_gets_metrics_pictures_and_settings(tmp_path, monkeypatch):
    made.clear()
    for name in ("one", "other"):
        monkeypatch.setitem(TRACKERS, name, Notes)
    with DiffusionLogger(tmp_path, trackers=["one", "other"], run="owls") as logger:
        logger.log_hyperparameters({"epochs": 3})
        logger.log_metrics({"train_loss": 0.5}, step=7)
        logger.log_images(torch.zeros(2, 1, 4, 4), "samples", step=7)
        logger.log_film_strip([torch.zeros(2, 1, 4, 4)], "denoising", step=7)
        logger.plot_losses()
        logger.rewind(5)
    assert [tracker.seen for tracker in made] == 2 * [
        [
            ("made", tmp_path, "owls"),
            {"epochs": 3},
            ({"train_loss": 0.5}, 7),
            ("samples", "PNG", 7),
            ("denoising", "PNG", 7),
            ("losses", "PNG", 7),
            ("rewind", 5),
            "closed",
        ]
    ]


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    for name, extra in (("wandb", "wandb"), ("mlflow", "mlflow"), ("tensorboard", "train")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf"training.trackers needs {name}: .*snowmelt\[{extra}\]"):
            check_trackers([name])


def test_without_tensorboard_there_are_no_event_files(tmp_path):
    with quiet(tmp_path) as logger:
        logger.log_metrics({"train_loss": 0.5}, step=1)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


# -- files to look at ---------------------------------------------------------------------------------


def test_settings_can_be_read_back(tmp_path):
    settings = {"model": {"image_size": 8, "channels": [1, 2]}, "seed": 0, "ema": None}
    quiet(tmp_path).log_hyperparameters(settings)
    assert json.loads((tmp_path / "hyperparameters.json").read_text()) == settings


def test_a_grid_has_a_row_for_each_class(tmp_path):
    images = torch.rand(12, 3, 40, 40) * 2 - 1
    labels = [label for label in range(4) for _ in range(3)]
    path = quiet(tmp_path).log_images(images, "samples", step=5, class_labels=labels)
    assert path.parent == tmp_path / "samples"
    width, height = size(path)
    assert 3 * 40 <= width < 4 * 40
    assert height >= 4 * 40


def test_a_grid_without_classes_is_about_square(tmp_path):
    path = quiet(tmp_path).log_images(torch.zeros(9, 1, 40, 40), "samples", step=5)
    width, height = size(path)
    assert width == height


def test_a_film_strip_runs_from_left_to_right(tmp_path):
    states = [torch.full((2, 1, 40, 40), value) for value in (-1.0, 0.0, 1.0)]
    path = quiet(tmp_path).log_film_strip(states, "denoising", step=5)
    picture = Image.open(path).convert("L")
    width, height = picture.size
    assert width > height
    shades = [picture.getpixel((width * third // 6, height // 4)) for third in (1, 3, 5)]
    assert shades == [0, 128, 255]


def test_pictures_of_later_steps_leave_the_earlier_ones(tmp_path):
    logger = DiffusionLogger(tmp_path / "logs", tmp_path / "pictures", tensorboard=False)
    paths = [logger.log_images(torch.zeros(1, 1, 8, 8), "samples", step) for step in (1, 2)]
    assert sorted((tmp_path / "pictures").iterdir()) == sorted(paths)


def test_a_loss_curve_is_drawn_from_an_earlier_runs_file_too(tmp_path):
    logger = quiet(tmp_path)
    for step in range(1, 4):
        logger.log_metrics({"train_loss": 1 / step}, step)
    first = logger.plot_losses()
    assert first == tmp_path / "losses.png"
    before = first.read_bytes()
    logger = quiet(tmp_path)
    logger.plot_losses()
    assert first.read_bytes() == before
    logger.log_metrics({"val_loss": 0.7, "learning_rate": 1e-3}, 3)
    logger.plot_losses()
    assert first.read_bytes() != before
    assert size(first)[0] > 400


def test_without_a_loss_there_is_no_curve(tmp_path):
    logger = quiet(tmp_path)
    logger.log_metrics({"learning_rate": 1e-3}, step=1)
    assert logger.plot_losses() is None
    assert not (tmp_path / "losses.png").exists()


def test_drawing_leaves_the_callers_figures_alone(tmp_path):
    import matplotlib.pyplot as plt

    logger = quiet(tmp_path)
    logger.log_metrics({"train_loss": 1.0}, step=1)
    backend, figures = plt.get_backend(), plt.get_fignums()
    logger.plot_losses()
    assert (plt.get_backend(), plt.get_fignums()) == (backend, figures)
