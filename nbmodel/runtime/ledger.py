"""The state of a runtime in memory and on disk; what it means is ``trial``'s to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import replace

from nbmodel.core.version import now
from nbmodel.errors import NbModelError
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.state import History, State, StateFolder
from nbmodel.runtime.trial import CAUTIOUS_AFTER, ended, started


class Ledger:
    """How the services of a runtime came to run what they run. For use from any thread.

    From its making on, the disk says that the runtime runs; ``end`` says that it ended.

    Args:
        states: Where it is kept.
        journal: Told when the disk does not take it.
    """

    def __init__(self, states: StateFolder, journal: Journal) -> None:
        self._states = states
        self._journal = journal
        self._lock = threading.Lock()
        self._state = started(states.state(journal.warn), now())
        #: Whether the disk lacks something that ``write`` should try again.
        self.is_behind = False
        self._keep(self._state)

    @property
    def given(self) -> str | None:
        """Etag of the config file that the runtime was last started with."""
        return self._state.given

    @property
    def unclean(self) -> int:
        """How many times in a row the runtime ended without a word."""
        return self._state.unclean

    @property
    def is_cautious(self) -> bool:
        """Whether nothing may be loaded before it was probed."""
        return self._state.unclean >= CAUTIOUS_AFTER

    def of(self, name: str) -> History:
        """How a service came to run what it runs."""
        return self._state.services.get(name, History())

    def names(self) -> tuple[str, ...]:
        """Every service that something is known of."""
        return tuple(self._state.services)

    def write(self, name: str, history: History) -> None:
        """Remember how a service came to run what it runs; on disk when this returns.

        Raises:
            StorageUnavailableError: The disk does not take it; all is as before.
        """
        with self._lock:
            state = self._state.with_service(name, history)
            self._states.save_state(state)
            self._state, self.is_behind = state, False

    def note(self, name: str, history: History) -> None:
        """As ``write``; when the disk does not take it, it is remembered all the same."""
        if history != self.of(name):
            self._update(lambda state: state.with_service(name, history))

    def retain(self, names: Collection[str]) -> None:
        """Forget all other services."""
        kept = {name: past for name, past in self._state.services.items() if name in names}
        if kept.keys() != self._state.services.keys():
            self._update(lambda state: replace(state, services=kept))

    def remember_given(self, etag: str) -> None:
        """Keep the etag of the config file that the runtime was started with."""
        self._update(lambda state: replace(state, given=etag))

    def calm(self) -> None:
        """All went well for a while: earlier ends do not count any more."""
        if self._state.unclean:
            self._update(lambda state: replace(state, unclean=0))

    def catch_up(self) -> None:
        """Try again what the disk did not take."""
        if self.is_behind:
            self._update(lambda state: state)

    def end(self, serving: Collection[str] = ()) -> None:
        """The runtime ends as it was told to.

        Args:
            serving: Services whose provisional version served until now.
        """
        self._update(lambda state: ended(state, serving))

    def _update(self, change: Callable[[State], State]) -> None:
        with self._lock:
            state = change(self._state)
            self._keep(state)
            # Only now: what is told to others outlives a power cut.
            self._state = state

    def _keep(self, state: State) -> None:
        try:
            self._states.save_state(state)
        except NbModelError as exc:
            if not self.is_behind:
                self._journal.warn(f"what runs will not be remembered over a restart: {exc}")
            self.is_behind = True
        else:
            self.is_behind = False
