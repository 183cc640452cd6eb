"""Following a runtime: what it is at and what happens there, until one has seen enough."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.core.event import Event
from nbmodel.core.summary import (
    entries,
    fetch_of,
    is_at_rest,
    is_decided,
    is_stuck,
    summary,
    troubles,
    under_way,
)
from nbmodel.display import LogLines, StatusCard
from nbmodel.display.live import View, followed
from nbmodel.errors import TargetUnreachableError
from nbmodel.fleet.kinds import Runtime
from nbmodel.fleet.watch import Watch

MOVING_S = 0.5  # between looks at a runtime where something goes on
RESTING_S = 20.0  # and where nothing does, unless something happens
AWAY_S = 1.0  # between tries to reach one that does not answer
EVENTS = 12  # shown below a status
LINES = 20  # of a log that are shown while it is followed: more would have to be scrolled
KEPT = 10_000  # lines of a log that are given in the end
INTERRUPTED = 130  # as a shell reports what Ctrl-C ended


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows one runtime.

    Attributes:
        remote: The runtime.
        view: Where it is seen.
        look: Gives its status.
    """

    remote: Runtime
    view: View
    look: Callable[[], Mapping[str, Any]]

    def status(self, *, until_settled: bool, timeout_s: float | None = None) -> StatusCard:
        """Show what it is at until waiting changes nothing any more, or until Ctrl-C.

        A runtime that does not answer meanwhile is waited for: it may be starting again.

        Args:
            until_settled: Whether to end when nothing goes on, or what goes on does not end
                soon: a version waits for its window, or its registry does not answer.
            timeout_s: Seconds after which to end in any case; None: never.

        Returns:
            The last status; its ``exit_code`` tells a program how a wait for rest ended.

        Raises:
            TargetUnreachableError, AuthenticationError: It does not answer at the start.
        """
        began = time.monotonic()
        events: deque[Event] = deque(maxlen=EVENTS)
        card, ending = self._card(events), "interrupted"
        try:
            watch = Watch(self.remote)
            while True:
                self.view.show(card, "; ".join([summary(card), *troubles(card)]))
                if until_settled and is_decided(card) and not card.missed:
                    ending = "settled"
                    break
                pause = RESTING_S if is_at_rest(card) else MOVING_S
                if timeout_s is not None:
                    left = began + timeout_s - time.monotonic()
                    if left <= 0:
                        ending = "still at work"
                        break
                    pause = min(pause, left)
                for event in self._wait(watch, pause):
                    events.append(event)
                    self.view.tell(event)
                card = self._card_again(card, events)
        except KeyboardInterrupt:
            pass  # how one ends it
        name, seconds = self.remote.name, time.monotonic() - began
        self.view.close(followed(name, seconds, ending=ending))
        last = card.without_events()
        if not until_settled:
            return last
        if ending == "still at work":
            waits = ", ".join([last.missed] if last.missed else under_way(last))
            return last.ending(1).with_notes([f"after {seconds:.0f} s it still waits for: {waits}"])
        if ending != "settled":
            return last.ending(INTERRUPTED)
        is_stuck_somewhere = any(is_stuck(fetch_of(last, one)) for one in entries(last, "services"))
        return last.ending(1 if last.failed or is_stuck_somewhere else 0)

    def logs(self, lines: int) -> LogLines:
        """Show what happens as it happens, until Ctrl-C.

        Args:
            lines: How many of before to begin with.

        Returns:
            The lines that were shown.

        Raises:
            TargetUnreachableError, AuthenticationError: It does not answer at the start.
            TargetError: It is of a version that cannot be followed.
        """
        began = time.monotonic()
        kept: deque[str] = deque(maxlen=KEPT)
        try:
            events, last = self.remote.events()
            watch = Watch(self.remote, since=last)
            new = events[-lines:]
            while True:
                for event in new:
                    kept.append(event.line)
                    self.view.tell(event)
                shown = LogLines(list(kept)[-LINES:])
                self.view.show(shown, f"{self.remote.name}: following, interrupt to end")
                new = self._wait(watch, RESTING_S)
        except KeyboardInterrupt:
            pass  # how one ends it
        told = followed(self.remote.name, time.monotonic() - began, ending="followed, ended")
        self.view.close(told)
        return LogLines(kept)

    def _wait(self, watch: Watch, seconds: float) -> list[Event]:
        try:
            return watch.wait(seconds)
        except TargetUnreachableError:
            time.sleep(AWAY_S)
            return []

    def _card(self, events: deque[Event]) -> StatusCard:
        return StatusCard(self.look()).named(self.remote.name).with_events(events)

    def _card_again(self, before: StatusCard, events: deque[Event]) -> StatusCard:
        try:
            return self._card(events)
        except TargetUnreachableError as exc:
            return before.away(str(exc))
