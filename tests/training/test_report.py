"""The page of a run: its curves, its pictures in order, and advice that follows from the curves."""

from __future__ import annotations

import base64
import re

import pytest
import torch

from snowmelt.training.advice import advice
from snowmelt.training.logger import DiffusionLogger
from snowmelt.training.report import write_training_report

FALLING, FLAT = [1 / n for n in range(1, 41)], [0.5] * 40
VALLEY = [0.5 + (n / 40 - 0.4) ** 2 for n in range(40)]


def rows(**columns):
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ({"train_loss": FALLING}, "a longer one would learn more"),
        ({"train_loss": FALLING, "val_loss": VALLEY}, "lowest after 40 % of the run"),
        ({"train_loss": FALLING, "val_loss": FALLING}, "a longer one would learn more"),
        ({"train_loss": FLAT}, None),
        ({"train_loss": FALLING, "val_loss": FLAT}, None),
        ({"train_loss": FALLING[:5]}, None),  # no trend can be read from five numbers
    ],
)
def test_losses_are_read(losses, said):
    found = advice(rows(**losses))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


def test_a_falling_negative_loss_falls():
    below = [loss - 2 for loss in FALLING]
    assert "fell by 2 %" in advice(rows(train_loss=[-1 - n / 400 for n in range(40)]))[0]
    assert advice(rows(train_loss=[-loss for loss in FALLING], val_loss=below[::-1])) == []


def test_a_run_that_stopped_is_not_judged_by_its_end():
    assert advice(rows(train_loss=FALLING, learning_rate=FLAT), ended=False) == []


@pytest.mark.parametrize("schedule", ["linear", None])
def test_a_schedule_is_advised_where_it_would_be_another_one(schedule):
    assert advice(rows(learning_rate=FLAT), schedule=schedule) == []


def test_a_rising_training_loss_is_not_called_memorising():
    assert advice(rows(train_loss=VALLEY, val_loss=VALLEY)) == []


def test_a_learning_rate_that_did_not_fall_is_named():
    assert "training.scheduler.type=linear" in advice(rows(learning_rate=FLAT))[0]
    assert advice(rows(learning_rate=[*FLAT, 0.0])) == []


def test_the_page_shows_the_last_samples_first(tmp_path):
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        for step in range(1, 8):
            grid = logger.log_images(torch.full((4, 1, 8, 8), step / 10), "samples", step)
            logger.log_metrics({"train_loss": 1 / step, "eval_kid": 0.5 / step}, step, epoch=step)
        page = write_training_report(logger, "A < B", {"seen": "7 images"}, ["Look."]).read_text()
    pictures = [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", page)]
    shown = [re.sub(r"\s+", " ", text) for text in re.findall(r"<figcaption>(.*?)</figcaption>", page)]
    assert pictures[0] == grid.read_bytes()
    assert shown[0] == "After 7 steps: kid 0.07143"
    assert [int(re.findall(r"\d+", text)[0]) for text in shown[:4]] == [7, 5, 3, 1]
    assert len(pictures) == 5  # and the curves
    assert "A &lt; B" in page
    assert page.index("7 images") < page.index("Look.")


def test_a_page_of_nothing_is_a_page(tmp_path):
    with DiffusionLogger(tmp_path, tensorboard=False) as logger:
        page = write_training_report(logger, "Empty", {}, ["Look."]).read_text()
    assert "What to do next" in page
    assert "How it learned" not in page
