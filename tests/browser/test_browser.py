"""The studio in a real browser: sample, compare and plans, by mouse, by keyboard and on a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from snowmelt.generation import inspect


def test_it_starts_in_six_seconds(running: Any) -> None:
    """Of the process itself: a machine may do other things at the same time."""
    wall, computed = running.seconds
    print(f"first answer after {wall:.1f} s, of which it computed {computed:.1f} s")
    assert computed < 6


def test_sample(page: Page, hand: Any, tmp_path: Path) -> None:
    hand.press("Sample")
    expect(page.get_by_text("16 images by")).to_be_visible()
    pictures = page.locator("#samples .picture")
    expect(pictures).to_have_count(16)
    pictures.nth(2).click()
    expect(page.locator(".about")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download with metadata").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert "snowmelt generate - generation.checkpoint=" in inspect(file).text
    hand.press("Film")
    expect(page.locator("img.film")).to_be_visible()
    hand.press("More like this")
    expect(page.get_by_text("8 variations.")).to_be_visible()
    hand.picture("sample")
    hand.take_phone()
    pictures.first.scroll_into_view_if_needed()
    hand.picture("phone", whole=False)


def test_what_is_wrong_is_a_sentence(page: Page, hand: Any) -> None:
    hand.say("Method", "dimm:20")
    hand.press("Sample")
    expect(page.get_by_role("alert").first).to_contain_text("did you mean 'ddim'?")


def test_slow_work_can_be_stopped_and_another_begun(page: Page, hand: Any) -> None:
    hand.say("Method", "ddim:900")
    hand.say("number input for Images", "64")
    hand.press("Sample")
    expect(page.get_by_text(re.compile("evaluation .* of 900")).first).to_be_visible()
    hand.press("Stop")
    expect(page.get_by_text("Stopped.")).to_be_visible()
    hand.say("Method", "ddim:2")
    hand.press("Sample")
    expect(page.get_by_text("64 images by ddim:2 in")).to_be_visible()


def test_compare(page: Page, hand: Any) -> None:
    hand.tab("Compare")
    hand.say("Method A", "dpmpp_2m")
    hand.say("Method B", "ddim")
    for count in ("4", "8", "16"):
        hand.say("number input for Evaluations (NFE)", count)
        hand.press("Compare")
        expect(page.get_by_role("cell", name=f"dpmpp_2m:{count}", exact=True)).to_be_visible()
    expect(page.locator("#compared-a .picture")).to_have_count(10)
    hand.picture("compare")


def test_plans(page: Page, hand: Any) -> None:
    hand.tab("Plans")
    hand.press("Draw")
    expect(page.locator("#plan-b img")).to_be_visible()
    hand.picture("plans")


@pytest.mark.parametrize("name", ["Sample", "Compare", "Plans"])
def test_every_view_fits_on_a_phone(page: Page, hand: Any, name: str) -> None:
    hand.take_phone()
    hand.tab(name)
    expect(
        page.get_by_role("button", name="The same without this page").locator("visible=true")
    ).to_be_visible()
    assert hand.fits()


def test_all_of_it_works_with_the_keyboard(page: Page, hand: Any) -> None:
    """From the first tab to a chosen picture, without a mouse."""
    page.get_by_role("tab", name="Sample", exact=True).focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == "Sample":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_text("16 images by")).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('picture')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator(".about")).to_be_visible()


def test_the_lines_can_be_seen(page: Page, hand: Any) -> None:
    page.get_by_role("button", name="The same without this page").first.click()
    expect(page.get_by_text("snowmelt sample").first).to_be_visible()
    assert hand.fits()
