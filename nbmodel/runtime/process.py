"""What a server asks of its process: open files, and an end that is told by signals."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


def allow_files(count: int) -> None:
    """Let the process have that many files and connections open, as far as it may."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Leave the block when the process is told to end, before uvicorn listens and after.

    While it runs, uvicorn has handlers of its own, drains, and raises the signal again.
    """

    def end(_signal: int, _frame: FrameType | None) -> None:
        for number in before:  # a second signal must not break off the tidying up
            signal.signal(number, signal.SIG_IGN)
        raise _EndedError

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    except _EndedError:
        logger.info("told to end")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _EndedError(Exception):
    """The process was told to end."""
