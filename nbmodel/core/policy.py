"""How a service takes up new versions: when, after which checks, and what sends it back.

Read from ``deployment`` of a service's entry in a machine config, with the machine's own
defaults under it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, time, timedelta
from difflib import get_close_matches
from typing import Any

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MAX_WINDOWS = 50
MAX_CONFIRM_S = 7 * 24 * 3600.0
MAX_PROBE_S = 24 * 3600.0
_WINDOW = re.compile(
    r"(?:(?P<days>[A-Za-z]{3}(?:-[A-Za-z]{3})?(?:,[A-Za-z]{3}(?:-[A-Za-z]{3})?)*) +)?"
    r"(?P<start>\d{2}:\d{2})-(?P<end>\d{2}:\d{2})"
)


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week, in local time, in which a version may be taken up.

    Attributes:
        days: The days on which it begins: 0 Monday to 6 Sunday.
        start: Its first minute, in minutes after midnight.
        minutes: How long it is: 1 to 1440. It may go on past midnight.
    """

    days: frozenset[int]
    start: int
    minutes: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read ``Mon-Fri 02:00-04:00``, ``Sat,Sun 22:00-04:00`` or ``02:00-04:00`` (any day).

        The end may be ``24:00``; an end before the start is on the next day.

        Raises:
            ValueError: It is none; the message says what is wrong.
        """
        match = _WINDOW.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"expected a window as 'Mon-Fri 02:00-04:00', found {text!r}")
        start, end = _minute(match["start"]), _minute(match["end"])
        if start in (24 * 60, end):
            raise ValueError(f"a window of no length: {text!r}; all day is '00:00-24:00'")
        days = range(7) if match["days"] is None else _days(match["days"])
        return cls(frozenset(days), start, (end - start) % (24 * 60) or 24 * 60)

    def __str__(self) -> str:
        days = "" if len(self.days) == 7 else f"{_named(self.days)} "
        return f"{days}{_clock(self.start)}-{_clock(self._end)}"

    @property
    def _end(self) -> int:
        """The minute after its last, 1 to 1440."""
        return (self.start + self.minutes - 1) % (24 * 60) + 1

    def opens(self, moment: datetime) -> datetime:
        """When it begins next, after a moment in local time."""
        for ahead in range(8):
            begin = datetime.combine(moment.date() + timedelta(days=ahead), time())
            begin = (begin + timedelta(minutes=self.start)).replace(tzinfo=moment.tzinfo)
            if begin.weekday() in self.days and begin > moment:
                return begin
        raise AssertionError("a window begins on some day of the week")

    def contains(self, moment: datetime) -> bool:
        """Whether a moment, in local time, is inside; the start is, the end is not."""
        for ago in (0, 1):  # it may have begun yesterday
            day = moment.date() - timedelta(days=ago)
            begin = datetime.combine(day, time()) + timedelta(minutes=self.start)
            since = moment.replace(tzinfo=None) - begin
            if day.weekday() in self.days and (
                timedelta() <= since < timedelta(minutes=self.minutes)
            ):
                return True
        return False


@dataclass(frozen=True, slots=True)
class DeploymentPolicy:
    """How one service takes up new versions.

    Attributes:
        confirm_s: How long a new version is provisional, in seconds; 0: it is committed
            as soon as it serves.
        max_failure_rate: Share of requests, 0..1, that may fail in the engine while a
            version is provisional; None: any.
        max_latency_ms: What an answer may take on average while a version is provisional,
            in milliseconds; None: any time. One that took more than five times as long for
            the warm answers of its trial run is refused then; up to that it is told of, since
            it ran on other inputs than it will be asked.
        min_requests: How many requests there must be before those two count. With fewer, a
            version that stays up is committed all the same, which the log says.
        probe_timeout_s: What a trial run before the switch may take, in seconds.
        probe_memory_bytes: What it may take of memory; None: what the machine has free.
        allow_non_finite: Whether NaN and infinity are answers like others.
        windows: When a version may be taken up; empty: always.
    """

    confirm_s: float = 10.0
    max_failure_rate: float | None = None
    max_latency_ms: float | None = None
    min_requests: int = 20
    probe_timeout_s: float = 120.0
    probe_memory_bytes: int | None = None
    allow_non_finite: bool = False
    windows: tuple[Window, ...] = ()

    @classmethod
    def read(
        cls, data: object, defaults: DeploymentPolicy | None = None
    ) -> tuple[DeploymentPolicy, tuple[str, ...]]:
        """What a JSON object says, and everything wrong with it, one sentence each.

        Args:
            data: The value of ``deployment``; None is as good as an empty object.
            defaults: What counts where it says nothing; None: those of this class. A key
                of null takes a bound of the defaults away.
        """
        policy = cls() if defaults is None else defaults
        if data is None:
            return policy, ()
        if not isinstance(data, Mapping):
            return policy, (f"deployment: expected an object, found {type(data).__name__}",)
        found: dict[str, Any] = {}
        problems: list[str] = []
        for key, value in data.items():
            try:
                found[key] = _reader(key)(value)
            except (TypeError, ValueError) as exc:
                problems.append(f"deployment.{key}: {exc}")
        if problems:
            return policy, tuple(problems)
        return replace(policy, **found), ()

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults of this class, as ``read`` takes it."""
        usual = DeploymentPolicy()
        differing = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) != getattr(usual, one.name)
        }
        if "windows" in differing:
            differing["windows"] = [str(window) for window in self.windows]
        return differing

    def opening(self, moment: datetime) -> tuple[Window, datetime] | None:
        """The window that opens next, and when; None when one is open or there are none.

        Args:
            moment: Now, in local time.
        """
        if self.is_open(moment):
            return None
        opens = ((window.opens(moment), at) for at, window in enumerate(self.windows))
        when, at = min(opens)
        return self.windows[at], when

    def is_open(self, moment: datetime) -> bool:
        """Whether a version may be taken up at a moment in local time."""
        return not self.windows or any(window.contains(moment) for window in self.windows)


def _reader(key: object) -> Callable[[object], Any]:
    known = [one.name for one in fields(DeploymentPolicy)]
    if key in _READERS:
        return _READERS[str(key)]
    near = get_close_matches(str(key), known, n=1)
    raise ValueError(
        "unknown key; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
    )


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"expected a number, found {value!r}")
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"expected {low:g} to {high:g}, found {value!r}")
        return float(value)

    return read


def _count(low: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"expected a whole number from {low}, found {value!r}")
        return value

    return read


def _optional(inner: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda value: None if value is None else inner(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false, found {value!r}")
    return value


def _windows(value: object) -> tuple[Window, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"expected a list of windows as 'Mon-Fri 02:00-04:00', found {value!r}")
    if len(value) > MAX_WINDOWS:
        raise ValueError(f"expected at most {MAX_WINDOWS} windows, found {len(value)}")
    return tuple(Window.parse(one) for one in value)


_READERS: dict[str, Callable[[object], Any]] = {
    "confirm_s": _number(0, MAX_CONFIRM_S),
    "max_failure_rate": _optional(_number(0, 1)),
    "max_latency_ms": _optional(_number(0, MAX_CONFIRM_S * 1000)),
    "min_requests": _count(1),
    "probe_timeout_s": _number(0.001, MAX_PROBE_S),
    "probe_memory_bytes": _optional(_count(1)),
    "allow_non_finite": _flag,
    "windows": _windows,
}


def _minute(clock: str) -> int:
    hours, minutes = int(clock[:2]), int(clock[3:])
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(f"expected a time from 00:00 to 24:00, found {clock!r}")
    return hours * 60 + minutes


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _named(days: frozenset[int]) -> str:
    """Days as ``_days`` reads them: ``Mon-Fri``, ``Mon,Wed``."""
    listed = sorted(days)
    runs: list[list[int]] = []
    for day in listed:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(
        DAYS[run[0]] if len(run) == 1 else f"{DAYS[run[0]]}-{DAYS[run[-1]]}" for run in runs
    )


def _days(text: str) -> set[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = _day(first), _day(last or first)
        days.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return days


def _day(name: str) -> int:
    if name.capitalize() not in DAYS:
        raise ValueError(f"expected one of {', '.join(DAYS)}, found {name!r}")
    return DAYS.index(name.capitalize())
