from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nbmodel.core.benchmark import Benchmark, Level, percentile

MS = 1_000_000  # nanoseconds


@pytest.mark.parametrize("count", [1, 2, 3, 10, 99, 100, 101, 1000])
@pytest.mark.parametrize("share", [50, 90, 95, 99, 100])
def test_percentiles_are_numpys_of_the_inverted_distribution(count: int, share: int) -> None:
    values = np.sort(np.random.default_rng(count).integers(0, 10**9, count))
    expected = np.percentile(values, share, method="inverted_cdf")
    assert percentile(values.tolist(), share) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


def test_a_level_is_made_of_latencies_in_any_order() -> None:
    level = Level.of(4, 2.0, [3 * MS, 1 * MS, 2 * MS, 100 * MS], errors=1)
    assert (level.requests, level.errors, level.throughput) == (4, 1, 2.0)
    assert (level.p50_ms, level.p99_ms, level.max_ms) == (2.0, 100.0, 100.0)


def test_a_level_without_answers_is_json() -> None:
    level = Level.of(1, 0.0, [], errors=3)
    assert level.throughput == 0.0
    assert json.loads(json.dumps(level.to_json(), allow_nan=False))["p50_ms"] is None


def test_the_best_level_has_the_highest_throughput() -> None:
    slow, fast = Level.of(1, 1.0, [MS], errors=0), Level.of(2, 1.0, [MS, MS], errors=0)
    silent = Level.of(4, 1.0, [], errors=9)

    def found(*levels: Level) -> Benchmark:
        return Benchmark("t", "1", ("x FP32[1]",), True, None, None, levels)

    assert found(slow, fast, silent).best is fast
    assert found(silent).best is None
    assert json.dumps(found(slow, silent).to_json(), allow_nan=False)
