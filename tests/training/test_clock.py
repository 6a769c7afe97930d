"""The clock says how long a run takes, after ten steps or after ten seconds."""

from __future__ import annotations

from itertools import count, islice

import pytest

from snowmelt.training import clock


@pytest.mark.parametrize(("seconds", "steps"), [(0.1, 10), (2.0, 6), (60.0, 3)])
def test_slow_steps_are_measured_less_often(monkeypatch, seconds, steps):
    ticks = count()
    monkeypatch.setattr(clock, "perf_counter", lambda: seconds * next(ticks))
    said = []
    measured = clock.StepClock(an_epoch=100, left=1000, wait=lambda: None, say=said.append)
    taken = [measured.is_done() for _ in islice(measured.over(iter(range(20))), 20)]
    assert taken.index(True) == steps - 1
    assert measured.seconds == pytest.approx(seconds)
    assert len(said) == 1
