"""Numbers, sizes and times as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nbmodel.display.quantity import (
    count,
    duration,
    file_size,
    moment,
    number,
    percent,
    signed,
)


@pytest.mark.parametrize(
    ("function", "value", "expected"),
    [
        (file_size, 0, "0 B"),
        (file_size, 999, "999 B"),
        (file_size, 1000, "1.0 kB"),
        (file_size, 14_234_567, "14.2 MB"),
        (file_size, 999_950, "1.0 MB"),
        (file_size, 350_000_000, "350 MB"),
        (file_size, 5 * 10**15, "5000 TB"),
        (number, 3, "3"),
        (number, 3.0, "3.0"),
        (number, 0.98712, "0.9871"),
        (number, 1.5e-5, "1.5e-05"),
        (number, 123456.0, "123456"),
        (number, math.nan, "nan"),
        (number, math.inf, "inf"),
        (signed, 0.012, "+0.012"),
        (signed, -3, "−3"),
        (signed, 0.0, "0.0"),
        (percent, 0.984, "98.4 %"),
        (percent, 1.0, "100.0 %"),
        (percent, 0.99999, "99.9 %"),
        (percent, 0.00001, "< 0.1 %"),
        (percent, 0.0, "0.0 %"),
        (percent, math.nan, "–"),
        (duration, 0.0004, "0.4 ms"),
        (duration, 0.043, "43 ms"),
        (duration, 3.21, "3.2 s"),
        (duration, 125, "2 min 5 s"),
        (duration, 3 * 3600 + 12 * 60, "3 h 12 min"),
        (moment, "2026-02-28T13:36:51.250000Z", "2026-02-28 13:36:51"),
        (moment, "", ""),
        (moment, "some time", ""),
        (moment, datetime(2026, 2, 28, 13, 36, 51, tzinfo=timezone.utc), "2026-02-28 13:36:51"),
        (
            moment,
            datetime(2026, 2, 28, 13, 36, 51, tzinfo=timezone(timedelta(hours=2))),
            "2026-02-28 11:36:51",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_shown_as(function: Callable[[Any], str], value: Any, expected: str) -> None:
    assert function(value) == expected


def test_one_is_not_many() -> None:
    assert count(1, "version") == "1 version"
    assert count(10_000, "version") == "10,000 versions"
