from __future__ import annotations

from dataclasses import replace

import pytest

from nbmodel.runtime.conditions import (
    Condition,
    Facts,
    Phase,
    Why,
    conditions_of,
    kept,
    phase_of,
)
from nbmodel.runtime.fetch_status import FetchStatus
from nbmodel.runtime.probe import ProbeReport

AT, LATER = "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"

NOT_HERE = Facts(missing=Why("NotOnDevice", "model 'a' is not on this device yet"))
FETCHING = replace(NOT_HERE, fetch=FetchStatus("fetching", bytes=250, total=1000, attempt=1))
UNFETCHED = replace(NOT_HERE, fetch=FetchStatus("failed", error="no route", attempt=3))
DAMAGED = Facts(unpacked=Why("UnpackFailed", "disk full"))
CLOSED = Facts("2", waits=Why("OutsideWindow", "it waits"), serves="version 1")
PROBING = Facts("2", activity="probing", serves="version 1")
REPORT = ProbeReport(0.1, 2.0, 1000, "answers its golden sample", "slowly")
LOADING = Facts("2", activity="loading", probe=REPORT, serves="version 1")
REFUSED = Facts("2", refused=Why("WrongAnswer", "it says 3"), serves="version 1")
GIVEN_UP = Facts(
    "2", probe=REPORT, refused=Why("TooSlow", "9 ms"), probed_well=True, serves="version 1"
)
ON_TRIAL = Facts("2", probe=REPORT, serves="version 2", is_live=True, remaining_s=7.4)
READY = Facts("2", serves="version 2", is_live=True, is_committed=True)
FORGOTTEN = replace(GIVEN_UP, probe=None)
BY_PATH = Facts(is_path=True, serves="the file of its config", is_live=True)
STOPPED = Facts("2", stopped=True)


@pytest.mark.parametrize(
    ("facts", "phase", "expected"),
    [
        pytest.param(
            NOT_HERE,
            "waiting",
            "NotOnDevice? NotFetched? Pending? NothingServes? NotLive?",
            id="it is not here",
        ),
        pytest.param(
            FETCHING,
            "fetching",
            "Fetching? NotFetched? Pending? NothingServes? NotLive?",
            id="it is fetched",
        ),
        pytest.param(
            replace(READY, fetch=FETCHING.fetch),
            "fetching",
            "Fetching? NotFetched? Pending? AnotherServes? NotLive?",
            id="the next one is fetched",
        ),
        pytest.param(
            UNFETCHED,
            "waiting",
            "FetchFailed? NotFetched? Pending? NothingServes? NotLive?",
            id="it cannot be fetched",
        ),
        pytest.param(
            DAMAGED,
            "failed",
            "OnDevice UnpackFailed? Pending? NothingServes? NotLive?",
            id="it cannot be laid out",
        ),
        pytest.param(
            CLOSED,
            "waiting",
            "OnDevice LaidOut OutsideWindow? AnotherServes? NotLive?",
            id="it waits for its window",
        ),
        pytest.param(
            PROBING,
            "probing",
            "OnDevice LaidOut Probing? AnotherServes? NotLive?",
            id="it is probed",
        ),
        pytest.param(
            LOADING,
            "loading",
            "OnDevice LaidOut Passed AnotherServes? NotLive?",
            id="it is loaded",
        ),
        pytest.param(
            REFUSED,
            "failed",
            "OnDevice LaidOut WrongAnswer? AnotherServes? WrongAnswer?",
            id="it is refused",
        ),
        pytest.param(
            GIVEN_UP,
            "failed",
            "OnDevice LaidOut Passed AnotherServes? TooSlow?",
            id="it is given up",
        ),
        pytest.param(
            FORGOTTEN,
            "failed",
            "OnDevice LaidOut Passed AnotherServes? TooSlow?",
            id="it was given up before this process began",
        ),
        pytest.param(
            ON_TRIAL,
            "provisional",
            "OnDevice LaidOut Passed Serving Provisional?",
            id="it is provisional",
        ),
        pytest.param(
            READY, "ready", "OnDevice LaidOut NotNeeded Serving Confirmed", id="it is committed"
        ),
        pytest.param(
            BY_PATH,
            "ready",
            "FileByPath FileByPath NotNeeded Serving NoTrial",
            id="a file by path",
        ),
        pytest.param(
            STOPPED, "stopped", "OnDevice LaidOut Pending? Stopped? NotLive?", id="it is stopped"
        ),
    ],
)
def test_how_far_a_service_is(facts: Facts, phase: Phase, expected: str) -> None:
    conditions = conditions_of(facts, AT)
    assert phase_of(facts) == phase
    assert [one.type for one in conditions] == [
        "Fetched",
        "Unpacked",
        "Probed",
        "Live",
        "Committed",
    ]
    # A question mark: it does not hold, or nobody knows.
    found = " ".join(one.reason + "?" * (one.status != "True") for one in conditions)
    assert found == expected


@pytest.mark.parametrize(
    ("facts", "kind", "message"),
    [
        pytest.param(FETCHING, "Fetched", "25 % of 1000 bytes are here", id="bytes"),
        pytest.param(CLOSED, "Probed", "it waits", id="what it waits for"),
        pytest.param(LOADING, "Probed", "answers its golden sample; slowly", id="a probe's note"),
        pytest.param(LOADING, "Live", "version 1 serves", id="what serves"),
        pytest.param(ON_TRIAL, "Committed", "7 s to go", id="the time left"),
        pytest.param(REFUSED, "Probed", "it says 3", id="what the probe found"),
        pytest.param(
            READY, "Probed", "it ran before, so it is not tried out again", id="why no probe"
        ),
        pytest.param(
            replace(READY, committed_after="after 3 requests"),
            "Committed",
            "after 3 requests",
            id="how much it was asked",
        ),
        pytest.param(
            FORGOTTEN, "Probed", "it passed before it was given up", id="what nobody remembers"
        ),
        pytest.param(UNFETCHED, "Fetched", "no route", id="why it cannot be fetched"),
        pytest.param(
            replace(
                UNFETCHED, fetch=FetchStatus("failed", bytes=350, total=1000, error="no route")
            ),
            "Fetched",
            "35 % of 1000 bytes are here; no route",
            id="how far it was when its registry went",
        ),
    ],
)
def test_people_are_told_why(facts: Facts, kind: str, message: str) -> None:
    (found,) = [one.message for one in conditions_of(facts, AT) if one.type == kind]
    assert found == message


def test_a_condition_is_since_its_status_changed() -> None:
    before = kept((), conditions_of(PROBING, AT))
    assert {one.since for one in before} == {AT}
    after = kept(before, conditions_of(ON_TRIAL, LATER))
    assert {one.type: one.since for one in after} == {
        "Fetched": AT,
        "Unpacked": AT,
        "Probed": LATER,
        "Live": LATER,
        "Committed": AT,
    }
    assert after[-1].reason == "Provisional", "the reason is the present one"


def test_a_condition_is_a_json_object() -> None:
    assert Condition("Live", "True", "Serving", "", AT).to_json() == {
        "type": "Live",
        "status": "True",
        "reason": "Serving",
        "message": "",
        "since": AT,
    }
