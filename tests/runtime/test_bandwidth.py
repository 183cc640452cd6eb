from __future__ import annotations

import pytest

from nbmodel.runtime.bandwidth import Bandwidth


def test_without_a_bound_nothing_waits() -> None:
    assert Bandwidth().delay_s(10**12, 0.0) == 0.0


def test_what_came_is_waited_for() -> None:
    line = Bandwidth(1000)
    assert line.delay_s(500, 10.0) == pytest.approx(0.5)
    assert line.delay_s(500, 10.0) == pytest.approx(1.0), "the first half is not paid yet"
    assert line.delay_s(500, 11.0) == pytest.approx(0.5), "whoever waited owes nothing"


def test_a_pause_is_not_saved_up_for_a_burst() -> None:
    line = Bandwidth(1000)
    line.delay_s(1000, 0.0)
    assert line.delay_s(1000, 3600.0) == pytest.approx(1.0)


def test_a_bound_may_change() -> None:
    line = Bandwidth(1000)
    line.bytes_per_s = 10
    assert line.delay_s(100, 5.0) == pytest.approx(10.0)
    line.bytes_per_s = None
    assert line.delay_s(100, 5.0) == 0.0
