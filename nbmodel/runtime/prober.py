"""Probes in the background: one at a time, so that a device has memory for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

from nbmodel.errors import NbModelError, ProbeError, UnavailableError
from nbmodel.runtime.probe import ProbeLimits, ProbeReport, probe
from nbmodel.runtime.services import Source

logger = logging.getLogger(__name__)

Outcome = ProbeReport | NbModelError


class Prober:
    """Tries versions out beside what serves; whoever asks is told to ask again.

    ``ask`` and ``keep`` are called by one thread at a time; everything else by any.

    Args:
        done: Called, from a thread of the prober's, when an outcome is there.
        tell: Called, from such a thread, with a service and how far trying it out is, in
            words, where that takes long; with no words when it is over.
    """

    def __init__(
        self,
        done: Callable[[], None],
        tell: Callable[[str, str], None] = lambda _name, _doing: None,
    ) -> None:
        self._done = done
        self._tell = tell
        self._lock = threading.Lock()
        self._running: _Probe | None = None
        self._over: dict[str, _Probe] = {}

    @property
    def busy(self) -> bool:
        """Whether a probe is under way, or its outcome was not asked for yet."""
        with self._lock:
            return self._running is not None or bool(self._over)

    def knows(self, name: str, source: Source) -> bool:
        """Whether a source is being tried out for a service, or was, and nobody asked."""
        with self._lock:
            return any(
                one is not None and one.name == name and one.is_about(source)
                for one in (self._running, self._over.get(name))
            )

    def ask(self, name: str, source: Source, limits: ProbeLimits) -> Outcome | None:
        """What came of trying a source out, once; None: ask again after ``done``.

        Args:
            name: Of the service; one probe of each at a time.
            source: What it should be loaded from.
            limits: What the probe may take.
        """
        with self._lock:
            over = self._over.pop(name, None)
            if over is not None and over.is_about(source):
                return over.outcome
            running = self._running
            if running is None:
                one = _Probe(name, source, limits)
                try:
                    threading.Thread(
                        target=self._run, args=(one,), name="nbmodel-probe", daemon=True
                    ).start()
                except RuntimeError as exc:  # another time there may be memory for it
                    return UnavailableError(f"no thread can be started: {exc}")
                self._running = one
            elif running.name == name and not running.is_about(source):
                running.cancelled.set()  # its end has everyone ask again
            return None

    def keep(self, names: Collection[str]) -> None:
        """Only these services want to know any more."""
        with self._lock:
            self._over = {name: over for name, over in self._over.items() if name in names}
            if self._running is not None and self._running.name not in names:
                self._running.cancelled.set()

    def close(self, timeout_s: float = 5.0) -> None:
        """Break off what is under way, and wait for its process to be gone."""
        with self._lock:
            running = self._running
        if running is not None:
            running.cancelled.set()
            running.ended.wait(timeout_s)

    def _run(self, one: _Probe) -> None:
        try:
            one.outcome = probe(
                one.source,
                one.limits,
                cancelled=one.cancelled.is_set,
                tell=lambda doing: self._tell(one.name, doing),
            )
        except NbModelError as exc:
            one.outcome = exc
        except Exception as exc:  # somebody waits, whatever went wrong
            logger.exception("the probe of %s failed", one.name)
            one.outcome = ProbeError(f"the probe failed: {type(exc).__name__}: {exc}")
        self._tell(one.name, "")
        with self._lock:
            self._running = None
            self._over[one.name] = one  # one that was broken off, too: it is over when asked
        one.ended.set()
        self._done()


class _Probe:
    """One probe, under way or over."""

    def __init__(self, name: str, source: Source, limits: ProbeLimits) -> None:
        self.name = name
        self.subject = _subject(source)
        self.source = source
        self.limits = limits
        self.outcome: Outcome | None = None
        self.cancelled = threading.Event()
        self.ended = threading.Event()

    def is_about(self, source: Source) -> bool:
        """Whether its outcome is about a source."""
        return self.subject == _subject(source) and not self.cancelled.is_set()


def _subject(source: Source) -> tuple[str, str | None]:
    """Which version with which settings a source is."""
    return (source.key, source.installed.version.digest if source.installed else None)
