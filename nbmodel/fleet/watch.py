"""Watching a runtime: waiting for what happens there instead of asking again and again."""

from __future__ import annotations

import time

from nbmodel.core.event import Event
from nbmodel.errors import TargetError
from nbmodel.fleet.kinds import Runtime

POLL_S = 0.02  # between looks at a runtime that is too old to tell
_NEWEST = 999_999_999  # no log has as many; asked with it, a runtime tells its last number


class Watch:
    """What happens on a runtime from now on. For one thread.

    Args:
        remote: The runtime.
        since: Number of the last event that is known; None: of the newest there is.
    """

    def __init__(self, remote: Runtime, since: int | None = None) -> None:
        self._remote = remote
        self._tells = True
        self._last = 0
        if since is None:
            self._ask(_NEWEST, 0.0)
        else:
            self._last = since

    def wait(self, seconds: float) -> list[Event]:
        """Wait for events; those that came, or none when the time was over first.

        Of a runtime that cannot tell, nothing after a moment: look at it again.

        Args:
            seconds: 0..30.

        Raises:
            TargetUnreachableError, AuthenticationError: It does not answer, or wants another
                token.
        """
        events = self._ask(self._last, seconds) if self._tells else []
        if not self._tells:
            time.sleep(min(seconds, POLL_S))
        return events

    def _ask(self, since: int, seconds: float) -> list[Event]:
        try:
            events, last = self._remote.events(since, wait_s=seconds)
        except TargetError:
            self._tells = False
            return []
        is_anew = last < since != _NEWEST  # its log was lost: go on with the new one
        self._last = last
        return self._remote.events(0)[0] if is_anew else events
