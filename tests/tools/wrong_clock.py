"""A runtime whose clock is wrong, and may be set while it runs; the monotonic one is right.

``python -m tests.tools.wrong_clock FILE …`` runs ``nbmodel`` with the rest of the arguments.
FILE has the seconds by which the clock is fast. Times of files are the right ones all the
same, so they are from the future, or long ago.
"""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Callable
from pathlib import Path

_right = time.time


def set_wrong(fast_by: Callable[[], float]) -> None:
    """Have Python's wall clocks be wrong, for modules that are imported from now on."""

    class WrongDatetime(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> WrongDatetime:
            return cls.fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> WrongDatetime:
            return cls.now(dt.timezone.utc).replace(tzinfo=None)

    time.time = lambda: _right() + fast_by()
    time.time_ns = lambda: int(time.time() * 1e9)
    dt.datetime = WrongDatetime  # type: ignore[misc]


def main() -> None:
    file, *arguments = sys.argv[1:]
    set_wrong(lambda: float(Path(file).read_text() or 0))
    sys.argv = ["nbmodel", *arguments]
    from nbmodel.cli import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
