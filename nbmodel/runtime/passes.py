"""The thread that aligns a runtime with its config, again and again, one pass at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nbmodel.runtime.journal import Journal

AGAIN_S = 30.0  # after which a pass that failed is made again

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Errand:
    """What a pass is made for.

    Attributes:
        retry: Services that try again what failed before.
        urgent: Services that wait for no maintenance window.
        abandoned: Services whose provisional version a person gave up.
        visions: Whether vision services try again what failed before.
        is_asked: Whether anybody asked; else it is only time to look.
    """

    retry: frozenset[str] = frozenset()
    urgent: frozenset[str] = frozenset()
    abandoned: frozenset[str] = frozenset()
    visions: bool = False
    is_asked: bool = False

    def __add__(self, other: Errand) -> Errand:
        """Both at once."""
        return Errand(
            self.retry | other.retry,
            self.urgent | other.urgent,
            self.abandoned | other.abandoned,
            self.visions or other.visions,
            self.is_asked or other.is_asked,
        )


class Passes:
    """Makes a pass when somebody asks for one, and when it is time.

    Whoever asks while a pass is under way is in the next one. For use from any thread.

    Args:
        turn: Makes one; what it raises is logged, and it is made again after ``AGAIN_S``.
        pause_s: How long there is nothing to do unless somebody asks, in seconds; None: for
            ever.
        is_busy: Whether something goes on in the background that will ask for a pass.
        journal: Told of passes that failed.
    """

    def __init__(
        self,
        turn: Callable[[Errand], None],
        *,
        pause_s: Callable[[], float | None],
        is_busy: Callable[[], bool],
        journal: Journal,
    ) -> None:
        self._turn = turn
        self._pause_s = pause_s
        self._is_busy = is_busy
        self._journal = journal
        self._wake = threading.Condition()
        self._errand = Errand()
        self._failed: Errand | None = None  # what the pass that failed was made for
        self._again = 0.0  # when that is tried again, time.monotonic() seconds
        self._under_way = False
        self._closing = False
        self._made = 0
        self._settled_once = False
        self._thread = threading.Thread(target=self._loop, name="nbmodel-reconcile", daemon=True)

    def start(self) -> None:
        """Begin with a first pass."""
        self.ask(Errand())
        self._thread.start()

    def ask(self, errand: Errand) -> int:
        """Have a pass made soon; which one it is, for ``wait_made``."""
        with self._wake:
            self._errand = self._errand + replace(errand, is_asked=True)
            self._wake.notify_all()
            return self._made + (2 if self._under_way else 1)

    def close(self) -> None:
        """Make no pass any more, and wait for the one under way."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join()

    @property
    def is_closing(self) -> bool:
        """Whether no pass will be made any more."""
        return self._closing

    @property
    def is_alive(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    @property
    def was_made(self) -> bool:
        """Whether there was a pass."""
        return self._made > 0

    @property
    def was_settled(self) -> bool:
        """Whether there ever was nothing left to look at."""
        return self._settled_once

    @property
    def settled(self) -> bool:
        """Whether there is nothing left to look at."""
        with self._wake:
            return self._is_settled()

    def wait_settled(self, timeout_s: float) -> bool:
        """Wait until there is nothing left to look at; whether that was in time.

        What is closed looks at nothing any more, and is not waited for.
        """
        with self._wake:
            self._wake.wait_for(lambda: self._closing or self._is_settled(), timeout_s)
            return self._is_settled()

    def wait_made(
        self, number: int, timeout_s: float, *, goes_on: Callable[[], bool] = lambda: False
    ) -> bool:
        """Wait until a pass was made; whether that was in time.

        What is closed makes none any more, and is not waited for.

        Args:
            number: Of the pass, as ``ask`` gave it.
            timeout_s: How long, in seconds.
            goes_on: Whether what it was made for goes on in the background; that is waited
                for, too.
        """
        with self._wake:
            self._wake.wait_for(
                lambda: self._closing or (self._made >= number and not goes_on()), timeout_s
            )
            return self._made >= number and not goes_on()

    def _is_settled(self) -> bool:
        """With the lock held."""
        return not self._errand.is_asked and not self._under_way and not self._is_busy()

    def _loop(self) -> None:
        while (errand := self._next()) is not None:
            try:
                self._turn(errand)
            except Exception as exc:
                # The thread must live: the next config may well be better.
                logger.exception("a pass of the reconciler failed")
                self._journal.warn(f"cannot follow the config: {type(exc).__name__}: {exc}")
                self._try_again(errand)
            with self._wake:
                self._under_way = False
                self._made += 1
                self._settled_once = self._settled_once or not self._is_busy()
                self._wake.notify_all()

    def _try_again(self, errand: Errand) -> None:
        """Have another pass like one that failed, in a while: nobody may ask for one."""
        if self._failed is None:
            self._again = time.monotonic() + AGAIN_S
            self._failed = Errand()
        # Whoever gave a version up was told that it did not work: that is not done later.
        self._failed += replace(errand, abandoned=frozenset(), is_asked=True)

    def _next(self) -> Errand | None:
        """What to do next, when it is time; None at the end."""
        with self._wake:
            pauses = [self._pause_s()]
            if self._failed is not None:
                pauses.append(max(0.0, self._again - time.monotonic()))
            pause = min((one for one in pauses if one is not None), default=None)
            self._wake.wait_for(lambda: self._errand.is_asked or self._closing, pause)
            if self._closing:
                return None
            errand, self._errand, self._under_way = self._errand, Errand(), True
            if self._failed is not None and (errand.is_asked or time.monotonic() >= self._again):
                errand, self._failed = errand + self._failed, None
            return errand
