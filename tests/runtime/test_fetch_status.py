from __future__ import annotations

import time

import pytest

from nbmodel.runtime.fetch_status import FetchStatus


@pytest.mark.parametrize(
    ("status", "percent"),
    [
        pytest.param(FetchStatus(), 0.0, id="nothing is known yet"),
        pytest.param(FetchStatus(bytes=1, total=3), 33.3, id="rounded down"),
        pytest.param(FetchStatus(bytes=9999, total=10000), 99.9, id="not all is never 100"),
        pytest.param(FetchStatus(bytes=5, total=5), 100.0, id="all"),
        pytest.param(FetchStatus(state="done"), 100.0, id="a version of nothing"),
    ],
)
def test_percent(status: FetchStatus, percent: float) -> None:
    assert status.percent == percent
    assert status.to_json()["percent"] == percent


def test_the_time_until_the_next_attempt_is_never_below_nothing() -> None:
    assert FetchStatus().retry_in_s is None
    assert FetchStatus(retry_at=time.monotonic() - 5).to_json()["retry_in_s"] == 0.0
    left = FetchStatus(retry_at=time.monotonic() + 5).retry_in_s
    assert left is not None
    assert 4 < left <= 5
