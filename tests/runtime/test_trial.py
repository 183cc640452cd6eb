from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from nbmodel.core.policy import DeploymentPolicy
from nbmodel.errors import (
    BlobNotFoundError,
    ConfigError,
    GoldenSampleError,
    InferenceError,
    NbModelError,
    PluginError,
    ProbeError,
    UnavailableError,
)
from nbmodel.runtime.state import Failed, History, Provisional, Record, State
from nbmodel.runtime.trial import (
    MAX_ATTEMPTS,
    Served,
    Standing,
    check_slowness,
    ended,
    failure_of,
    is_verdict,
    judge,
    seen_words,
    slowness,
    standing,
    started,
    waiting_words,
)

AT, LATER = "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"


def record(number: int, key: str | None = None) -> Record:
    return Record(
        package="scale",
        repository="scale",
        digest="sha256:" + str(number) * 64,
        number=number,
        stamp=None,
        key=key or f"key {number}",
        model="onnx_cpu",
        attributes={},
    )


def failed(number: int, key: str | None = None) -> Failed:
    one = record(number, key)
    return Failed(one.digest, one.key, one.label, "Crashed", "it crashed", AT)


ONE, TWO, THREE = record(1), record(2), record(3)
HISTORY = History(current=TWO, provisional=Provisional(THREE, 1, AT), rollback=ONE)


@pytest.mark.parametrize(
    ("history", "wanted", "expected"),
    [
        pytest.param(History(), ONE, "new", id="nothing is known"),
        pytest.param(HISTORY, TWO, "committed", id="it is current"),
        pytest.param(HISTORY, THREE, "provisional", id="it is on trial"),
        pytest.param(HISTORY, ONE, "known", id="it was committed before"),
        pytest.param(HISTORY, record(4), "new", id="another version"),
        pytest.param(HISTORY, record(2, "other"), "new", id="other settings"),
        pytest.param(HISTORY, record(4, "key 2"), "committed", id="the same content"),
        pytest.param(History(failed=(failed(1),)), ONE, "failed", id="it failed"),
        pytest.param(
            History(failed=(failed(1),)), record(1, "other"), "new", id="with other settings"
        ),
        pytest.param(History(failed=(failed(1),)), record(2, "key 1"), "new", id="its content did"),
    ],
)
def test_what_is_known_of_a_version(history: History, wanted: Record, expected: Standing) -> None:
    assert standing(history, wanted.key, wanted.digest) == expected


@pytest.mark.parametrize(
    ("policy", "age_s", "served", "action", "cause"),
    [
        pytest.param({}, 9.9, Served(), "wait", "", id="too young"),
        pytest.param({}, 10.0, Served(), "commit", "", id="old enough, though nobody asked"),
        pytest.param({"confirm_s": 0}, 0.0, Served(), "commit", "", id="at once"),
        pytest.param({}, 99, Served(0, 99), "commit", "", id="failures without a bound"),
        pytest.param(
            {"max_failure_rate": 0.1},
            1.0,
            Served(89, 11),
            "roll back",
            "TooManyFailures",
            id="too many failures",
        ),
        pytest.param(
            {"max_failure_rate": 0.1}, 1.0, Served(90, 10), "wait", "", id="just few enough"
        ),
        pytest.param(
            {"max_failure_rate": 0.0}, 1.0, Served(0, 19), "wait", "", id="too few to tell"
        ),
        pytest.param(
            {"max_failure_rate": 0.0},
            1.0,
            Served(0, 20),
            "roll back",
            "TooManyFailures",
            id="just enough to tell",
        ),
        pytest.param(
            {"max_failure_rate": 0.0, "min_requests": 1},
            1.0,
            Served(0, 1),
            "roll back",
            "TooManyFailures",
            id="one is enough where it is said so",
        ),
        pytest.param(
            {"max_latency_ms": 5},
            99.0,
            Served(20, 0, 5.1),
            "roll back",
            "TooSlow",
            id="too slow, however old",
        ),
        pytest.param({"max_latency_ms": 5}, 1.0, Served(20, 0, 5.0), "wait", "", id="just fast"),
        pytest.param(
            {"max_latency_ms": 5}, 1.0, Served(0, 20, None), "wait", "", id="no answer to measure"
        ),
        pytest.param(
            {}, 99.0, Served(deaths=1), "roll back", "ProcessDied", id="a process died of it"
        ),
        pytest.param({}, 10.0, Served(under_way_s=0.1), "wait", "", id="it never answered yet"),
        pytest.param(
            {}, 10.0, Served(9, under_way_s=6.0), "wait", "", id="one request gets no answer"
        ),
        pytest.param({}, 10.0, Served(9, under_way_s=4.0), "commit", "", id="one that came lately"),
        pytest.param({}, 120.0, Served(9, under_way_s=119.0), "wait", "", id="it may still answer"),
        pytest.param({}, 122.0, Served(9, under_way_s=121.0), "roll back", "Stuck", id="it hangs"),
        pytest.param(
            {"max_latency_ms": 5, "min_requests": 20},
            1.0,
            Served(3, 0, 1.0, under_way_s=0.101),
            "roll back",
            "TooSlow",
            id="slower than all that the bound allows twenty",
        ),
        pytest.param(
            {"max_latency_ms": 5, "min_requests": 20},
            1.0,
            Served(3, 0, 1.0, under_way_s=0.1),
            "wait",
            "",
            id="a slow one may be one of many",
        ),
    ],
)
def test_what_becomes_of_a_version_on_trial(
    policy: dict[str, Any], age_s: float, served: Served, action: str, cause: str
) -> None:
    read, problems = DeploymentPolicy.read(policy)
    assert problems == ()
    verdict = judge(read, age_s, served)
    assert (verdict.action, verdict.cause) == (action, cause)
    assert bool(verdict.reason) is (action == "roll back")


def test_a_verdict_says_what_was_expected_and_found() -> None:
    policy = DeploymentPolicy(max_failure_rate=0.05, max_latency_ms=20)
    assert judge(policy, 1, Served(15, 5, 1.0)).reason == (
        "5 of 20 requests failed (25%), expected at most 5%"
    )
    assert judge(policy, 1, Served(20, 0, 31.25)).reason == (
        "an answer takes 31.2 ms on average of 20, expected at most 20 ms"
    )


def running(history: History, unclean: int = 0) -> State:
    return State(given="x", running=True, unclean=unclean, services={"scaler": history})


def test_a_version_that_was_provisional_when_the_runtime_died_is_to_blame() -> None:
    state = started(running(HISTORY), LATER)
    assert (state.running, state.unclean, state.given) == (True, 1, "x")
    after = state.services["scaler"]
    assert (after.current, after.provisional, after.rollback) == (TWO, None, ONE)
    (blamed,) = after.failed
    assert (blamed.digest, blamed.key, blamed.version) == (THREE.digest, THREE.key, "3")
    assert (blamed.reason, blamed.at) == ("the runtime ended while it was provisional", LATER)


def test_what_was_committed_is_not_to_blame() -> None:
    history = History(current=TWO, rollback=ONE)
    assert started(running(history), LATER).services["scaler"] == history


def test_with_nothing_to_go_back_to_it_is_tried_three_times() -> None:
    history = History()
    for attempt in range(1, MAX_ATTEMPTS):
        history = history.tried(ONE, AT, attempts=attempt)
        history = started(running(history), LATER).services["scaler"]
        assert history.provisional == Provisional(ONE, attempt, AT)
    history = started(running(history.tried(ONE, AT, attempts=MAX_ATTEMPTS)), LATER).services[
        "scaler"
    ]
    assert history.provisional is None
    assert history.failed[0].reason == "the runtime ended 3 times in a row while it was provisional"


def test_nobody_is_blamed_for_a_clean_end() -> None:
    state = started(ended(running(HISTORY, unclean=1)), LATER)
    assert state.services["scaler"] == History(current=TWO, rollback=ONE)
    assert (state.running, state.unclean) == (True, 0)


@pytest.mark.parametrize(
    ("history", "current"),
    [
        pytest.param(History(provisional=Provisional(ONE, 1, AT)), ONE, id="the only one there is"),
        pytest.param(HISTORY, TWO, id="a committed one is better"),
    ],
)
def test_what_served_until_a_clean_end_is_better_than_nothing(
    history: History, current: Record
) -> None:
    after = ended(running(history), serving=["scaler"]).services["scaler"]
    assert (after.current, after.provisional) == (current, None)


def test_ends_without_a_word_are_counted_in_a_row() -> None:
    state = State()
    for count in (0, 1, 2):
        state = started(state, AT)
        assert state.unclean == count
    assert started(ended(state), AT).unclean == 0


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(ProbeError("it hangs", reason="TimedOut"), True, id="the probe's"),
        pytest.param(InferenceError("no such operator"), True, id="the engine's"),
        pytest.param(GoldenSampleError("wrong"), True, id="a wrong answer"),
        pytest.param(UnavailableError("no process can be started"), False, id="not now"),
        pytest.param(BlobNotFoundError("gone"), False, id="the disk's"),
        pytest.param(ConfigError("no file"), False, id="the config's"),
        pytest.param(PluginError("not installed"), False, id="a missing extra"),
    ],
)
def test_which_errors_say_something_about_a_version(error: NbModelError, expected: bool) -> None:
    assert is_verdict(error) is expected


def test_a_failure_keeps_what_the_probe_found() -> None:
    error = ProbeError("no answer in 3 s", reason="TimedOut", hint="raise probe_timeout_s")
    found = failure_of(error, replace(ONE, stamp="2026-02-28T13-36-51"), at=AT)
    assert found == Failed(
        ONE.digest,
        ONE.key,
        "2026-02-28T13-36-51",
        "TimedOut",
        "no answer in 3 s",
        AT,
        "raise probe_timeout_s",
        number=1,
    )


@pytest.mark.parametrize(
    ("bound_ms", "latency_ms", "said", "is_refused"),
    [
        pytest.param(None, 9000.0, "", False, id="no limit"),
        pytest.param(30.0, None, "", False, id="nothing was measured"),
        pytest.param(30.0, 30.0, "", False, id="as fast as it may be"),
        pytest.param(
            30.0,
            40.0,
            "slower than the limit in its trial (40 ms, limit 30 ms)",
            False,
            id="a little slower",
        ),
        pytest.param(
            30.0,
            150.0,
            "slower than the limit in its trial (150 ms, limit 30 ms)",
            False,
            id="five times",
        ),
        pytest.param(
            30.0,
            1500.0,
            "slower than the limit in its trial (1.5 s, limit 30 ms)",
            True,
            id="fifty times",
        ),
    ],
)
def test_a_version_that_is_slow_in_its_probe(
    bound_ms: float | None, latency_ms: float | None, said: str, is_refused: bool
) -> None:
    policy = DeploymentPolicy(max_latency_ms=bound_ms)
    assert slowness(policy, latency_ms) == said
    if not is_refused:
        check_slowness(policy, latency_ms)
        return
    with pytest.raises(ProbeError, match=r"1\.5 s, limit 30 ms\), more than 5 times") as caught:
        check_slowness(policy, latency_ms)
    assert caught.value.reason == "SlowTrial"


@pytest.mark.parametrize(
    ("policy", "served", "said"),
    [
        pytest.param(DeploymentPolicy(), None, "at once: confirm_s is 0", id="at once"),
        pytest.param(DeploymentPolicy(), Served(), "after 0 requests", id="nobody asked"),
        pytest.param(DeploymentPolicy(), Served(answered=1), "after 1 request", id="one"),
        pytest.param(
            DeploymentPolicy(max_latency_ms=9), Served(20, 5), "after 25 requests", id="enough"
        ),
        pytest.param(
            DeploymentPolicy(max_failure_rate=0.1),
            Served(answered=2, failed=1),
            "after 3 requests, too few to judge it by (min_requests is 20)",
            id="too few",
        ),
    ],
)
def test_how_much_a_version_was_asked(
    policy: DeploymentPolicy, served: Served | None, said: str
) -> None:
    assert seen_words(policy, served) == said


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        # 2026-11-21 is a Saturday.
        ("2026-11-21 21:00:00", "Mon 02:00 local time (CET), in 29 h"),
        ("2026-11-20 12:00:00", "Mon 02:00 local time (CET), in 3 days"),
        ("2026-11-23 01:59:30", "Mon 02:00 local time (CET), in 1 min"),
        ("2026-11-23 04:00:00", "Tue 02:00 local time (CET), in 22 h"),
    ],
)
def test_people_are_told_when_a_window_opens(moment: str, said: str) -> None:
    policy, _ = DeploymentPolicy.read({"windows": ["Mon-Fri 02:00-04:00"]})
    zone = timezone(timedelta(hours=1), "CET")
    assert waiting_words(policy, datetime.fromisoformat(moment).replace(tzinfo=zone)) == (
        f"it waits for its maintenance window Mon-Fri 02:00-04:00: that opens {said}"
    )
