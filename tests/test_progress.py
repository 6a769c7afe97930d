"""How work shows itself: a bar in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import io
import time

import pytest

from snowmelt import progress as module
from snowmelt.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_is_overwritten(monkeypatch):
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    list(progress(range(1000), "Working"))
    assert terminal.getvalue().count("\r") > 1
    assert terminal.getvalue().count("\n") == 1


def test_a_log_gets_whole_lines_with_rate_and_remaining_time(monkeypatch, capsys):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.1)
    for _ in progress(range(50), "Working", unit="image"):
        time.sleep(0.01)
    written = capsys.readouterr().err
    assert "\r" not in written
    lines = written.splitlines()
    assert 4 <= len(lines) <= 8
    assert all(line.startswith("Working: ") and "image/s]" in line for line in lines)


@pytest.mark.parametrize("leave", [True, False])
def test_a_minute_without_end_is_one_line(capsys, leave):
    bar = progress(None, "Working", total=5000, leave=leave)
    for step in range(5000):
        bar.set_postfix(step=step, refresh=False)
        bar.update()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_is_shown_where_nothing_is_wanted(capsys):
    assert list(progress(range(3), "Working", show=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""
