"""Who may talk to a runtime. Rules only: the front end asks them for every request.

Two dangers are met. On a network, anyone could: a bearer token is wanted there. On
loopback, any web page open in this machine's browser could: it reaches local ports
through a name of its own that resolves to 127.0.0.1 (DNS rebinding), or posts without
being able to read the answer; both are told by the ``Host`` and ``Origin`` headers.
"""

from __future__ import annotations

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
    """

    token: str | None = field(repr=False)
    hosts: frozenset[str] | None

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
                f"this runtime is bound to loopback and not called {host!r}",
                "use http://127.0.0.1 or http://localhost with its port",
            )
        origin = headers.get("origin")
        is_ours = origin in (None, f"http://{host}", f"https://{host}")
        if not is_ours and method not in _SAFE_METHODS:
            return Refusal(
                403,
                f"a web page of {origin} may not change this runtime",
                "call it from a program instead",
            )
        if path in OPEN_PATHS:
            return None
        return self.token_refusal(headers.get("authorization"))

    def token_refusal(self, authorization: str | None) -> Refusal | None:
        """Why a call with this ``authorization`` is turned away, or None when it may pass.

        For front ends that a web page cannot reach; others ask for :meth:`refusal`.
        """
        return None if self.token is None else _token_refusal(self.token, authorization)


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
    path = home / TOKEN_FILE
    try:
        return _make_token(path), True
    except FileExistsError:
        return _read_token(path), False
    except OSError as exc:
        raise ConfigError(f"cannot write the token of this runtime: {exc}") from exc


def _make_token(path: Path) -> str:
    token = secrets.token_urlsafe(32)
    # Exclusive and private from the first moment on: nobody reads it in between.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token


def _read_token(path: Path) -> str:
    try:
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read the token of this runtime: {exc}") from exc
    if others and os.name == "posix":
        raise ConfigError(f"the token in {path} can be read by others", hint=f"chmod 600 {path}")
    if not token:
        raise ConfigError(
            f"the token in {path} is empty", hint="remove the file, and a token is made"
        )
    return token


def _token_refusal(token: str, authorization: str | None) -> Refusal | None:
    scheme, _, given = (authorization or "").partition(" ")
    # Bytes: compare_digest refuses text that is not ASCII, and a client may send such.
    if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode()):
        return None
    return Refusal(
        401,
        "this runtime wants a token" if authorization is None else "the token is not the runtime's",
        "send the header 'Authorization: Bearer <token>'; the runtime showed its token at its "
        f"first start and keeps it in its home folder, file {TOKEN_FILE!r}",
        {"WWW-Authenticate": "Bearer"},
    )
