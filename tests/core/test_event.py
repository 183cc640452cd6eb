"""Events as values: one line for people, one object for machines."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.event import MAX_TEXT, Event
from nbmodel.errors import FormatError

LIVE = Event(7, "2026-02-28T13:36:51.250000Z", "info", "digits", "Live", "version 3 is live")


def test_an_event_is_the_same_after_json() -> None:
    assert Event.from_json(LIVE.to_json()) == LIVE
    assert Event.from_json({**LIVE.to_json(), "service": None, "new": 1}).service is None
    assert LIVE.line == "2026-02-28T13:36:51.250000Z INFO version 3 is live"


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": 0},
        {"seq": True},
        {"seq": "7"},
        {"time": None},
        {"level": "fatal"},
        {"service": 5},
        {"type": None},
        {"text": ["x"]},
    ],
    ids=str,
)
def test_what_is_no_event_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=next(iter(changes))):
        Event.from_json({**LIVE.to_json(), **changes})


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(FormatError):
        Event.from_json(data)


def test_a_text_without_end_is_cut() -> None:
    assert len(Event.from_json({**LIVE.to_json(), "text": "x" * 10**6}).text) == MAX_TEXT
