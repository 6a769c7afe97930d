"""A studio in a process of its own, and a real browser that looks at it: `make test-studio`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import psutil
import pytest
from playwright.sync_api import Browser, Page, Playwright, ViewportSize, expect, sync_playwright

from snowmelt.studio.server import free_port

# Browsers that a system may have; without one, Playwright's own is used (`playwright install chromium`)
INSTALLED = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 1000 * int(os.environ.get("SNOWMELT_PATIENCE", "60"))  # milliseconds, for what takes a while
DESKTOP, PHONE = ViewportSize(width=1200, height=800), ViewportSize(width=360, height=740)
IMAGES = Path(__file__).parents[2] / "docs" / "images"


class Running(NamedTuple):
    """A studio that runs.

    Attributes:
        url: its address.
        seconds: from the start of the process to the first answer, and what of them it computed.
        folder: what it shows.
    """

    url: str
    seconds: tuple[float, float]
    folder: Path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the studio shows: SNOWMELT_STUDIO_PLACE, or the small network of the digits, trained here."""
    if given := os.environ.get("SNOWMELT_STUDIO_PLACE"):
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("studio")
    root = Path(__file__).parents[2]
    config = root / "configs" / "diffusion" / "digits.yaml"
    words = [sys.executable, "-m", "snowmelt", "train", str(config)]
    subprocess.run(
        [*words, f"output.base_dir={folder}/outputs/digits", "training.budget=2m"], check=True, cwd=root
    )
    return folder / "outputs"


@pytest.fixture(scope="session")
def running(folder: Path) -> Iterator[Running]:
    port = free_port(0)
    url = f"http://127.0.0.1:{port}/"
    words = ["-m", "snowmelt", "studio", folder.name, "--port", str(port), "--no-open"]
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, *words], cwd=folder.parent)
    try:
        while True:
            assert process.poll() is None, "the studio has ended"
            try:
                with urlopen(url, timeout=PATIENCE / 1000) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert time.monotonic() - began < PATIENCE / 1000
                time.sleep(0.02)
        computed = psutil.Process(process.pid).cpu_times()
        yield Running(url, (time.monotonic() - began, computed.user + computed.system), folder)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE / 1000) == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = start(playwright)
        yield browser
        browser.close()


def start(playwright: Playwright) -> Browser:
    """Start an installed Chromium, or else Playwright's own."""
    path = next((found for name in INSTALLED if (found := shutil.which(name))), None)
    sandbox = os.geteuid() != 0  # root has none
    return playwright.chromium.launch(executable_path=path, chromium_sandbox=sandbox)


class Hand:
    """Somebody who uses the page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def tab(self, name: str) -> None:
        """Go to a view; where it has no room, by the menu of the tabs."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        if not tab.is_visible():
            inside = self.page.locator(".overflow-dropdown button", has_text=name)
            menu = self.page.locator(".overflow-menu", has=inside).locator("visible=true").first
            menu.locator("> button").click()
            tab = menu.locator(inside)
        tab.click()

    def press(self, name: str) -> None:
        """Press a button of the view."""
        self.page.get_by_role("button", name=name, exact=True).locator("visible=true").click()

    def say(self, label: str, text: str) -> None:
        """Write into a field of the view."""
        field = self.page.get_by_label(label, exact=True).locator("visible=true")
        field.fill(text)
        field.press("Enter")

    def take_phone(self) -> None:
        """Look at the page on a phone."""
        self.page.set_viewport_size(PHONE)
        self.page.wait_for_timeout(300)

    def fits(self) -> bool:
        """Return whether nothing of the page is beside the screen."""
        width = self.page.evaluate("document.documentElement.scrollWidth")
        return bool(width <= self.page.viewport_size["width"])

    def picture(self, name: str, *, whole: bool = True) -> None:
        """Write a picture for the documents: of the whole page, or of what the screen shows."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=IMAGES / f"studio-{name}.png", full_page=whole)


@pytest.fixture
def hand(page: Page) -> Hand:
    return Hand(page)


@pytest.fixture
def page(browser: Browser, running: Running) -> Iterator[Page]:
    """The page; at the end, nothing may have been asked of another machine, and no script may have failed."""
    context = browser.new_context(viewport=DESKTOP, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    asked: list[str] = []
    failed: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(running.url)
    page.get_by_role("tab", name="Sample").wait_for()
    yield page
    context.close()
    local = re.compile(rf"{re.escape(running.url)}|data:|blob:")
    assert [url for url in asked if not local.match(url)] == []
    assert failed == []
