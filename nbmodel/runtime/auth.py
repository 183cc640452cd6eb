"""Who may talk to a runtime. Rules only: the front end asks them for every request.

Two dangers are met. On a network, anyone could: a bearer token is wanted there. On
loopback, any web page open in this machine's browser could: it reaches local ports
through a name of its own that resolves to 127.0.0.1 (DNS rebinding), or posts without
being able to read the answer; both are told by the ``Host`` and ``Origin`` headers.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from nbmodel.core.address import is_loopback
from nbmodel.errors import ConfigError

TOKEN_FILE = "token"  # noqa: S105 # the file's name
#: What a load balancer or an orchestrator asks without credentials.
OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is turned away.

    Attributes:
        status: HTTP status.
        error: What is wrong.
        hint: What to do.
        headers: Further headers of the answer.
    """

    status: int
    error: str
    hint: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gate:
    """The rules of one runtime.

    Attributes:
        token: What every request must carry, but for ``OPEN_PATHS``; None: nothing.
        hosts: Names it may be called by, in lower case, besides those of loopback;
            None: any name, for a runtime that is bound to a network.
        what: What is guarded, for messages.
        challenge: What is offered to who shows no token; ``Basic`` first, for clients of
            container registries, which show it as a password and know no other bearer token
            than that of a token service.
    """

    token: str | None = field(repr=False)
    hosts: frozenset[str] | None
    what: str = "runtime"
    challenge: str = 'Basic realm="nbmodel runtime", Bearer'

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why a request is turned away, or None when it may pass.

        Args:
            method: In upper case.
            path: Without the query.
            headers: By lower-case name.
        """
        host = headers.get("host", "")
        if self.hosts is not None and not _is_called(host, self.hosts):
            return Refusal(
                403,
                f"this {self.what} is bound to loopback and not called {host!r}",
                "use http://127.0.0.1 or http://localhost with its port",
            )
        origin = headers.get("origin")
        is_ours = origin in (None, f"http://{host}", f"https://{host}")
        if not is_ours and method not in _SAFE_METHODS:
            return Refusal(
                403,
                f"a web page of {origin} may not change this {self.what}",
                "call it from a program instead",
            )
        if path in OPEN_PATHS:
            return None
        return self.token_refusal(headers.get("authorization"))

    def token_refusal(self, authorization: str | None) -> Refusal | None:
        """Why a call with this ``authorization`` is turned away, or None when it may pass.

        For front ends that a web page cannot reach; others ask for :meth:`refusal`.
        """
        if self.token is None or _is_shown(self.token, authorization):
            return None
        return Refusal(
            401,
            f"this {self.what} wants a token"
            if authorization is None
            else f"the token is not the {self.what}'s",
            "send the header 'Authorization: Bearer <token>', or the token as a password; the "
            f"{self.what} showed its token at its first start and keeps it in a file "
            f"{TOKEN_FILE!r}",
            {"WWW-Authenticate": self.challenge},
        )


@lru_cache(256)  # every request has one, and clients use few
def _is_called(netloc: str, names: frozenset[str]) -> bool:
    host = hostname(netloc)
    return is_loopback(host) or host in names


def hostname(netloc: str) -> str:
    """The host of ``host:port`` or ``[v6]:port``, in lower case; empty when malformed."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def ensure_token(home: Path) -> tuple[str, bool]:
    """The token of the runtime that lives in ``home``, made when there is none.

    Returns:
        The token, and whether it was made just now (so that it is shown once).

    Raises:
        ConfigError: The file can be read by others, is empty, or cannot be written.
    """
    return ensure_token_in(home / TOKEN_FILE, "this runtime")


def ensure_token_in(path: Path, whose: str) -> tuple[str, bool]:
    """The token in a file, made when there is none; as ``ensure_token``.

    Args:
        path: The file.
        whose: For messages.
    """
    try:
        return _make_token(path), True
    except FileExistsError:
        return _read_token(path, whose), False
    except OSError as exc:
        raise ConfigError(f"cannot write the token of {whose}: {exc}") from exc


def _make_token(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    # Exclusive and private from the first moment on: nobody reads it in between.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token


def _read_token(path: Path, whose: str) -> str:
    try:
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read the token of {whose}: {exc}") from exc
    if others and os.name == "posix":
        raise ConfigError(f"the token in {path} can be read by others", hint=f"chmod 600 {path}")
    if not token:
        raise ConfigError(
            f"the token in {path} is empty", hint="remove the file, and a token is made"
        )
    return token


def _is_shown(token: str, authorization: str | None) -> bool:
    """Whether a header shows the token: itself, or as the password of anybody."""
    scheme, _, given = (authorization or "").partition(" ")
    shown = given.strip().encode()
    if scheme.lower() == "basic":
        try:
            shown = base64.b64decode(shown, validate=True).partition(b":")[2]
        except ValueError:
            return False
    elif scheme.lower() != "bearer":
        return False
    # Bytes: compare_digest refuses text that is not ASCII, and a client may send such.
    return hmac.compare_digest(shown, token.encode())
