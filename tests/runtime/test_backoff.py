from __future__ import annotations

import pytest

from nbmodel.runtime.backoff import backoff_s


@pytest.mark.parametrize(
    ("failures", "longest"),
    [
        pytest.param(1, 1.0, id="the first wait is a second"),
        pytest.param(2, 2.0, id="it doubles"),
        pytest.param(5, 16.0, id="again and again"),
        pytest.param(10, 512.0, id="up to"),
        pytest.param(11, 600.0, id="ten minutes"),
        pytest.param(10_000, 600.0, id="and stays there"),
    ],
)
def test_waits_double_and_are_jittered(failures: int, longest: float) -> None:
    assert backoff_s(failures, 0.0) == longest
    assert backoff_s(failures, 1.0) == longest / 2
