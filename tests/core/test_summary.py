"""A status in one line, from runtimes older and newer than this."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.summary import (
    brief,
    held_by,
    is_at_rest,
    is_decided,
    progress_of,
    summary,
    troubles,
    under_way,
)

READY = {"name": "a", "state": "ready", "phase": "ready"}
TRYING = {"name": "b", "state": "ready", "phase": "probing"}
FETCHING = {"name": "c", "state": "loading", "phase": "fetching", "package": "p"}
FAILED = {"name": "d", "state": "failed", "phase": "failed"}
OUTSIDE = {"type": "Probed", "status": "Unknown", "reason": "OutsideWindow", "message": "closed"}
HELD = {"name": "e", "state": "ready", "phase": "waiting", "conditions": [OUTSIDE]}
LATE = {"name": "f", "state": "ready", "phase": "fetching", "package": "p"}


def package(**fetch: Any) -> dict[str, Any]:
    return {"name": "p", "fetch": fetch}


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ({}, "no services"),
        ({"services": None}, "no services"),
        ({"services": [READY]}, "1 service ready"),
        ({"services": [READY, {"name": "e", "state": "ready"}]}, "2 services ready"),
        ({"services": [READY, TRYING]}, "2 services ready; b probing"),
        ({"services": [READY, FAILED]}, "1 of 2 services ready; d failed"),
        (
            {"services": [FETCHING], "packages": [package(state="fetching", percent=41.7)]},
            "0 of 1 service ready; c fetching 42 %",
        ),
        (
            {"services": [FETCHING], "packages": [package(state="fetching", percent="?")]},
            "0 of 1 service ready; c fetching",
        ),
        (
            {"services": [FAILED | {"name": str(n)} for n in range(8)]},
            "0 of 8 services ready; 0 failed, 1 failed, 2 failed, 3 failed, 4 failed, 3 more",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_status_in_one_line(status: dict[str, Any], line: str) -> None:
    assert summary(status) == line


@pytest.mark.parametrize(
    ("status", "rests"),
    [
        ({"services": [READY, FAILED]}, True),
        ({"services": [READY], "settled": True}, True),
        ({"services": [READY], "settled": False}, False),
        ({"services": [READY, TRYING]}, False),
        ({"services": [READY | {"phase": "provisional"}]}, False),
        ({"services": [READY], "packages": [package(state="done")]}, True),
        ({"services": [READY], "packages": [package(state="fetching")]}, False),
        ({"services": [READY], "packages": [package(state="failed")]}, False),
        ({"services": [READY], "packages": [package(state="failed", terminal=True)]}, True),
        ({"services": [READY], "packages": [{"name": "p", "fetch": None}]}, True),
        ({"services": [{"name": "old", "state": "ready"}]}, True),
        ({"services": [{"name": "old", "state": "loading"}]}, False),
    ],
    ids=[
        "all decided",
        "settled",
        "being looked at",
        "one is tried out",
        "one is provisional",
        "fetched",
        "being fetched",
        "fetched again later",
        "cannot be fetched",
        "pushed",
        "an older runtime",
        "an older runtime that loads",
    ],
)
def test_a_runtime_rests_when_nothing_goes_on_by_itself(status: Any, rests: bool) -> None:
    assert is_at_rest(status) is rests


def test_progress_is_told_only_of_what_moves() -> None:
    status = {"services": [FETCHING], "packages": [package(state="fetching", percent=150)]}
    assert progress_of(status, FETCHING) == "fetching 100 %"
    assert progress_of({}, TRYING) == "probing"
    assert progress_of({}, READY) == ""
    assert progress_of({}, {}) == ""


@pytest.mark.parametrize(
    ("status", "decided"),
    [
        ({"services": [READY, FAILED]}, True),
        ({"services": [HELD]}, True),
        ({"services": [HELD], "settled": False}, False),
        ({"services": [HELD | {"conditions": []}]}, False),
        ({"services": [HELD, TRYING]}, False),
        (
            {
                "services": [LATE],
                "packages": [package(state="waiting", error="away", retry_in_s=16.0)],
                "settled": False,
            },
            True,
        ),
        (
            {
                "services": [LATE],
                "packages": [package(state="waiting", error="away", retry_in_s=8.0)],
            },
            False,
        ),
        ({"services": [LATE], "packages": [package(state="fetching", retry_in_s=16.0)]}, False),
    ],
    ids=[
        "at rest",
        "a window is closed",
        "it is being looked at",
        "it waits for something else",
        "another is tried out",
        "a registry is away for long",
        "a registry is away for a moment",
        "being fetched again",
    ],
)
def test_who_waits_is_told_when_waiting_changes_nothing(status: Any, decided: bool) -> None:
    assert is_decided(status) is decided


def test_what_is_waited_for_is_told_by_name() -> None:
    away = {"services": [LATE], "packages": [package(state="waiting", error="away")]}
    assert under_way({"services": [HELD, TRYING]}) == ["b probing"]
    assert under_way(away) == ["f fetching"]
    assert under_way(away | {"services": [READY]}) == ["package p"]
    assert under_way({}) == ["what the runtime is at"]
    assert troubles(away) == ["p could not be fetched: away"]
    assert (held_by(HELD), held_by(READY | {"conditions": [OUTSIDE]})) == ("closed", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [("", ""), ("x" * 10, "x" * 10), ("x" * 11, f"{'x' * 9}…"), ("x" * 8 + "  yy", f"{'x' * 8}…")],
)
def test_a_long_reason_is_cut(text: str, told: str) -> None:
    assert brief(text, 10) == told
