"""How one registry is entered: the header that goes with a request, and what a 401 changes.

No I/O of its own: credentials and tokens come from whom it is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nbmodel.core.challenge import Challenge, Scope, parse_challenges
from nbmodel.core.credential import Credential
from nbmodel.storage.token_service import Token

_MAX_KEPT = 1000  # tokens; one for each repository, or two


@dataclass(frozen=True, slots=True)
class _Kept:
    """A token, and how to get the next one."""

    token: Token = field(repr=False)
    ends: float  # by the monotonic clock
    challenge: Challenge


class Login:
    """What one server gets to see, by any thread.

    Nothing is sent before the server asks. A name and password then go with every request;
    tokens are kept for each repository until they end.

    Args:
        find: Looks up the credential; None when there is none. Asked again after a refusal,
            since logins of clouds change while a process lives.
        ask: Gets a token for a challenge.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        find: Callable[[], Credential | None],
        ask: Callable[[Challenge, Scope | None, Credential | None], Token],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._ask = ask
        self._clock = clock
        self._basic: str | None = None
        self._kept: dict[Scope | None, _Kept] = {}
        self._lock = threading.RLock()
        #: What was used last; for messages.
        self.credential: Credential | None = None

    def header(self, scope: Scope | None) -> str | None:
        """What goes as ``Authorization`` with a request; None for nothing yet.

        Raises:
            AuthenticationError: A token has ended, and there is no new one.
        """
        with self._lock:
            return self._header(scope)

    def _header(self, scope: Scope | None) -> str | None:
        if self._basic is not None:
            return self._basic
        kept = self._kept.get(scope)
        if kept is None and scope is not None and not scope.writes:
            kept = self._kept.get(Scope(scope.repository, writes=True))  # reads as well
        if kept is None:
            return None
        if self._clock() >= kept.ends:
            return self._renew(scope, kept.challenge)
        return f"Bearer {kept.token.value}"

    def answer(self, offered: str, scope: Scope | None, sent: str | None) -> str | None:
        """What to send after a 401 in place of what was sent; None when nothing may help.

        Args:
            offered: The ``WWW-Authenticate`` of the refusal.
            scope: What the request is about.
            sent: The header that was refused.

        Raises:
            AuthenticationError: There is a credential, but it cannot be used.
        """
        with self._lock:
            known = self._header(scope)
            if known not in (None, sent):
                return known  # another thread has got it meanwhile
            return self._answer(offered, scope, sent)

    def _answer(self, offered: str, scope: Scope | None, sent: str | None) -> str | None:
        challenges = parse_challenges(offered)
        for challenge in challenges:
            if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                return self._renew(scope, challenge)
        if any(challenge.scheme == "basic" for challenge in challenges):
            self.credential = self._find()
            usable = self.credential is not None and self.credential.identity_token is None
            header = self.credential.basic if usable and self.credential is not None else None
            self._basic = header
            return None if header == sent else header
        return None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        with self._lock:
            known = () if self.credential is None else self.credential.secrets
            return (*known, *(kept.token.value for kept in self._kept.values()))

    def _renew(self, scope: Scope | None, challenge: Challenge) -> str:
        self._basic = None
        self._kept.pop(scope, None)
        began = self._clock()
        self.credential = self._find()
        token = self._ask(challenge, scope, self.credential)
        if len(self._kept) >= _MAX_KEPT:
            self._kept.clear()
        self._kept[scope] = _Kept(token, began + token.life_s, challenge)
        return f"Bearer {token.value}"
