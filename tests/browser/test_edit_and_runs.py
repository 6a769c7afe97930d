"""The studio in a real browser: edit pictures with a brush, and watch runs while they train."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from snowmelt.training import DiffusionLogger


def test_a_path_between_two_seeds_and_its_file(page: Page, hand: Any, tmp_path: Path) -> None:
    hand.tab("Edit")
    hand.say("Method", "ddim:8")
    hand.say("To seed", "7")
    hand.press("Interpolate")
    expect(page.get_by_text("9 images by ddim")).to_be_visible()
    expect(page.locator(".picture:visible")).to_have_count(9)
    with page.expect_download() as download:
        page.get_by_role("link", name="Save edited.png").click()
    download.value.save_as(tmp_path / "edited.png")
    assert (tmp_path / "edited.png").stat().st_size > 1000


def test_a_part_of_a_picture_is_brushed_over_and_painted_anew(page: Page, hand: Any) -> None:
    hand.tab("Edit")
    hand.say("Method", "ddim:8")
    hand.tab("Inpaint")
    hand.say("Or take the image of a seed", "3")
    expect(page.get_by_text("The image of seed 3")).to_be_visible()
    brush(page)
    hand.say("number input for Passes", "3")
    hand.press("Paint")
    expect(page.get_by_text("4 images by ddim")).to_be_visible()
    expect(page.get_by_role("link", name="Save mask.png")).to_be_visible()
    hand.picture("edit")


def brush(page: Page) -> None:
    """Draw a stroke across the middle of the canvas."""
    canvas = page.locator(".canvas canvas").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 60, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1000)


def test_without_a_stroke_it_says_what_is_missing(page: Page, hand: Any) -> None:
    hand.tab("Edit")
    hand.tab("Invert")
    hand.press("Invert")
    expect(page.get_by_role("alert").first).to_contain_text("there is no picture to edit")


@pytest.fixture
def run(folder: Path) -> Iterator[DiffusionLogger]:
    """A run that trains while the page is looked at."""
    logs = folder / "live" / "logs"
    with DiffusionLogger(logs, tensorboard=False) as logger:
        for step in (10, 20, 30):
            logger.log_metrics({"train_loss": 1 / step, "learning_rate": 0.1}, step)
        yield logger
    shutil.rmtree(logs.parent)


def test_a_run_is_watched_while_it_trains(page: Page, hand: Any, run: DiffusionLogger) -> None:
    hand.tab("Runs")
    expect(page.locator(".curves img").first).to_be_visible()
    row = page.get_by_role("row", name=re.compile("^live"))
    expect(row).to_contain_text("30")
    run.log_metrics({"train_loss": 0.01, "learning_rate": 0.1}, 12345)
    expect(row).to_contain_text("12,345")
    expect(page.locator(".over-time").first).to_be_visible()
    hand.picture("runs")


def test_the_report_of_a_run_is_shown(page: Page, hand: Any) -> None:
    hand.tab("Runs")
    hand.tab("Reports")
    report = page.frame_locator("iframe.report")
    expect(report.get_by_role("heading", level=1)).to_be_visible()


def test_the_digits_are_looked_at(page: Page, hand: Any) -> None:
    hand.tab("Runs")
    hand.tab("Data")
    hand.say("Images", "digits:test")
    hand.press("Look at the images")
    expect(page.get_by_text("360 images to train on")).to_be_visible()
    expect(page.locator(".picture:visible")).to_have_count(80)


@pytest.mark.parametrize(
    "names",
    [
        ("Edit",),
        *(("Edit", name) for name in ("Variations", "Swap class", "Inpaint", "Invert")),
        ("Runs",),
        ("Runs", "Reports"),
        ("Runs", "Data"),
    ],
    ids=" ".join,
)
def test_each_of_them_fits_on_a_phone(page: Page, hand: Any, names: tuple[str, ...]) -> None:
    hand.take_phone()
    for name in names:
        hand.tab(name)
    box = page.get_by_role("button", name="The same without this page").locator("visible=true")
    expect(box).to_be_visible()
    assert hand.fits()
