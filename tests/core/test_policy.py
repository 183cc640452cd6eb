from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from nbmodel.core.policy import DeploymentPolicy, Window

# 2026-11-16 is a Monday.
MONDAY, SATURDAY, SUNDAY = 16, 21, 22


@pytest.mark.parametrize(
    ("text", "day", "clock", "inside"),
    [
        pytest.param("02:00-04:00", MONDAY, "02:00", True, id="the first minute"),
        pytest.param("02:00-04:00", MONDAY, "03:59", True, id="the last minute"),
        pytest.param("02:00-04:00", MONDAY, "04:00", False, id="the end"),
        pytest.param("02:00-04:00", MONDAY, "01:59", False, id="before"),
        pytest.param("22:00-04:00", SUNDAY, "23:00", True, id="before midnight"),
        pytest.param("22:00-04:00", MONDAY, "03:00", True, id="after midnight"),
        pytest.param("22:00-04:00", MONDAY, "05:00", False, id="after the next morning"),
        pytest.param("Mon-Fri 02:00-04:00", SATURDAY, "03:00", False, id="not at the weekend"),
        pytest.param("Mon-Fri 02:00-04:00", MONDAY, "03:00", True, id="on a working day"),
        pytest.param("Fri 22:00-04:00", SATURDAY, "03:00", True, id="begun the day before"),
        pytest.param("Sat 22:00-04:00", SATURDAY, "03:00", False, id="the night before its day"),
        pytest.param("Fri-Mon 02:00-04:00", SUNDAY, "03:00", True, id="days over a week's end"),
        pytest.param("sat,SUN 02:00-04:00", SUNDAY, "03:00", True, id="a list in any case"),
        pytest.param("00:00-24:00", MONDAY, "23:59", True, id="all day"),
        pytest.param("12:00-11:00", MONDAY, "11:30", False, id="almost all day"),
    ],
)
def test_whether_a_moment_is_inside_a_window(text: str, day: int, clock: str, inside: bool) -> None:
    moment = datetime.fromisoformat(f"2026-11-{day} {clock}")
    assert Window.parse(text).contains(moment) is inside


def test_a_time_with_a_zone_counts_as_its_own_clock_says() -> None:
    assert Window.parse("02:00-04:00").contains(datetime.fromisoformat("2026-11-16T03:00+05:00"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("always", "expected a window as 'Mon-Fri 02:00-04:00'", id="no times"),
        pytest.param("2:00-4:00", "expected a window as", id="one digit"),
        pytest.param("24:00-04:00", "a window of no length", id="begins at the end of a day"),
        pytest.param("25:00-04:00", "expected a time from 00:00 to 24:00", id="no such hour"),
        pytest.param("02:60-04:00", "expected a time from 00:00 to 24:00", id="no such minute"),
        pytest.param("02:00-02:00", "a window of no length", id="empty"),
        pytest.param("Mon-Foo 02:00-04:00", "expected one of Mon, Tue", id="no such day"),
    ],
)
def test_what_is_no_window_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Window.parse(text)


def test_a_policy_is_read_whole() -> None:
    policy, problems = DeploymentPolicy.read(
        {
            "confirm_s": 30,
            "max_failure_rate": 0.05,
            "max_latency_ms": 20,
            "min_requests": 5,
            "probe_timeout_s": 3.5,
            "probe_memory_bytes": 1 << 20,
            "allow_non_finite": True,
            "windows": ["Mon-Fri 02:00-04:00"],
        }
    )
    assert problems == ()
    assert policy == DeploymentPolicy(
        30.0, 0.05, 20.0, 5, 3.5, 1 << 20, True, (Window(frozenset(range(5)), 120, 120),)
    )


def test_what_is_left_out_is_as_the_defaults_say() -> None:
    defaults = DeploymentPolicy(confirm_s=60.0, max_failure_rate=0.1)
    policy, problems = DeploymentPolicy.read(
        {"max_failure_rate": None, "min_requests": 3}, defaults
    )
    assert problems == ()
    assert policy == DeploymentPolicy(confirm_s=60.0, max_failure_rate=None, min_requests=3)
    assert DeploymentPolicy.read(None, defaults) == (defaults, ())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param([], "deployment: expected an object, found list", id="a list"),
        pytest.param(
            {"confirm": 3}, "deployment.confirm: unknown key; did you mean 'confirm_s'?", id="near"
        ),
        pytest.param(
            {"confirm_s": "3"}, "deployment.confirm_s: expected a number, found '3'", id="text"
        ),
        pytest.param(
            {"confirm_s": None}, "deployment.confirm_s: expected a number, found None", id="null"
        ),
        pytest.param(
            {"confirm_s": -1}, "deployment.confirm_s: expected 0 to 604800, found -1", id="negative"
        ),
        pytest.param(
            {"max_failure_rate": 2}, "deployment.max_failure_rate: expected 0 to 1, found 2", id="2"
        ),
        pytest.param(
            {"max_latency_ms": True},
            "deployment.max_latency_ms: expected a number, found True",
            id="a flag for a number",
        ),
        pytest.param(
            {"min_requests": 0},
            "deployment.min_requests: expected a whole number from 1, found 0",
            id="no requests",
        ),
        pytest.param(
            {"allow_non_finite": 1},
            "deployment.allow_non_finite: expected true or false, found 1",
            id="a number for a flag",
        ),
        pytest.param(
            {"windows": "02:00-04:00"},
            "deployment.windows: expected a list of windows as 'Mon-Fri 02:00-04:00', "
            "found '02:00-04:00'",
            id="one window",
        ),
        pytest.param(
            {"windows": ["02:00-02:00"]},
            "deployment.windows: a window of no length: '02:00-02:00'; all day is '00:00-24:00'",
            id="an empty window",
        ),
        pytest.param(
            {"windows": ["00:00-24:00"] * 51},
            "deployment.windows: expected at most 50 windows, found 51",
            id="too many windows",
        ),
    ],
)
def test_what_cannot_be_read_is_told(data: Any, problem: str) -> None:
    assert DeploymentPolicy.read(data) == (DeploymentPolicy(), (problem,))


def test_all_problems_are_told_at_once() -> None:
    _, problems = DeploymentPolicy.read({"confirm_s": "x", "zzz": 1})
    assert len(problems) == 2
    assert problems[1].startswith("deployment.zzz: unknown key; known: confirm_s, ")


def test_without_windows_any_time_will_do() -> None:
    moments = [datetime.fromisoformat(f"2026-11-16T0{hour}:00") for hour in (3, 5, 6)]
    assert all(DeploymentPolicy().is_open(moment) for moment in moments)
    policy, _ = DeploymentPolicy.read({"windows": ["02:00-04:00", "06:00-07:00"]})
    assert [policy.is_open(moment) for moment in moments] == [True, False, True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mon-Fri 02:00-04:00", "Mon-Fri 02:00-04:00"),
        ("22:00-00:00", "22:00-24:00"),
        ("00:00-24:00", "00:00-24:00"),
        ("sun,Sat 22:00-04:00", "Sat-Sun 22:00-04:00"),
        ("Fri-Mon,Wed 12:00-11:00", "Mon,Wed,Fri-Sun 12:00-11:00"),
    ],
)
def test_a_window_is_written_as_it_is_read(text: str, said: str) -> None:
    assert str(Window.parse(text)) == said
    assert Window.parse(said) == Window.parse(text)


@pytest.mark.parametrize(
    ("windows", "moment", "window", "opens"),
    [
        pytest.param([], "2026-11-16 12:00", None, None, id="there is none"),
        pytest.param(["00:00-24:00"], "2026-11-16 12:00", None, None, id="one is open"),
        pytest.param(
            ["02:00-04:00"], "2026-11-16 12:00", "02:00-04:00", "2026-11-17 02:00", id="tomorrow"
        ),
        pytest.param(
            ["Mon 02:00-04:00"],
            "2026-11-16 12:00",
            "Mon 02:00-04:00",
            "2026-11-23 02:00",
            id="in a week",
        ),
        pytest.param(
            ["Wed 02:00-04:00", "Tue 22:00-04:00", "Fri 01:00-02:00"],
            "2026-11-16 12:00",
            "Tue 22:00-04:00",
            "2026-11-17 22:00",
            id="the first of several",
        ),
    ],
)
def test_which_window_opens_next(
    windows: list[str], moment: str, window: str | None, opens: str | None
) -> None:
    policy, _ = DeploymentPolicy.read({"windows": windows})
    found = policy.opening(datetime.fromisoformat(moment))
    if window is None or opens is None:
        assert found is None
    else:
        assert found == (Window.parse(window), datetime.fromisoformat(opens))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"confirm_s": 60.0, "max_latency_ms": 30.0},
        {"windows": ["Mon-Fri 02:00-04:00", "22:00-24:00"], "allow_non_finite": True},
    ],
)
def test_what_differs_from_the_usual_is_told_as_it_is_read(given: dict[str, Any]) -> None:
    policy, _ = DeploymentPolicy.read(given)
    assert policy.to_json() == given
    assert DeploymentPolicy.read(policy.to_json()) == (policy, ())
