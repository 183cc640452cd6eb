"""How long a server is waited for."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from nbmodel.storage.patience import IMPATIENT, Patience

NOW = datetime(2026, 2, 28, 13, 36, 51, tzinfo=timezone.utc)
PATIENCE = Patience(tries=5, first_s=0.5, longest_s=30)


def pause(number: int, asked: str | None = None, chance: float = 1.0) -> float | None:
    return PATIENCE.pause_s(number, asked, now=lambda: NOW, chance=lambda: chance)


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause(number) for number in range(1, 7)] == [0.5, 1, 2, 4, 8, None]
    assert Patience(tries=99, longest_s=3).pause_s(50, chance=lambda: 1) == 3


def test_many_clients_do_not_come_back_at_once() -> None:
    assert [pause(3, chance=chance) for chance in (0, 0.5, 1)] == [1, 1.5, 2]


def test_who_has_no_patience_never_waits() -> None:
    assert IMPATIENT.pause_s(1) is None


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        pytest.param("7", 7, id="seconds"),
        pytest.param(" 0 ", 0.5, id="less than it would be"),
        pytest.param("30", 30, id="the longest"),
        pytest.param("31", None, id="too long"),
        pytest.param("999999999", None, id="for ever"),
        pytest.param("Sat, 28 Feb 2026 13:37:01 GMT", 10, id="a date"),
        pytest.param("Sat, 28 Feb 2026 13:37:01 -0000", 10, id="a date that says no place"),
        pytest.param("Sat, 28 Feb 2026 14:37:01 GMT", None, id="a date too far away"),
        pytest.param("Sat, 28 Feb 2026 13:36:01 GMT", 0.5, id="a date that has passed"),
        pytest.param("soon", 0.5, id="neither"),
        pytest.param("-1", 0.5, id="less than nothing"),
        pytest.param("", 0.5, id="nothing"),
        pytest.param("Sat, 99 Feb 99999999 99:99:99 GMT", 0.5, id="no date"),
    ],
)
def test_what_a_server_asks_for(asked: str, seconds: float | None) -> None:
    assert pause(1, asked) == seconds
