"""What is asked of the service that a registry sends its clients to for tokens, and answers.

Rules only: ``storage.origin`` carries the requests.

Sources: distribution project, "Token Authentication Specification" and "Oauth2 Token
Authentication".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from json import loads
from typing import Any

import httpx

from nbmodel.core.challenge import Challenge, Scope
from nbmodel.core.credential import Credential
from nbmodel.errors import AuthenticationError

MAX_ANSWER = 256 * 1024  # bytes
_SHORTEST_S = 60.0  # what a token lives that does not say; the specification's
_LONGEST_S = 3600.0  # then it is asked again, whatever the first answer said
_MARGIN = 0.1  # of its life before the end of which a token is not sent any more
_MAX_TOKEN = 32 * 1024  # characters
_MAX_SCOPES = 16
_VISIBLE = re.compile(r"[\x21-\x7e]+")  # what a header may hold


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request for a token; it is not sent on where it is redirected.

    Attributes:
        url: Of the service.
        method: ``GET``, or ``POST`` for an identity token.
        headers: With the credential, unless it is in the form.
        form: What is posted.
    """

    url: httpx.URL
    method: str
    headers: Mapping[str, str] = field(repr=False)
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """What a service gave.

    Attributes:
        value: The bearer token.
        life_s: Seconds from the request on for which it is used.
    """

    value: str = field(repr=False)
    life_s: float


def token_request(
    registry: httpx.URL,
    challenge: Challenge,
    scope: Scope | None,
    credential: Credential | None,
) -> TokenRequest:
    """How a token is asked for.

    Args:
        registry: Who challenged.
        challenge: With that: ``realm``, mostly ``service``, sometimes ``scope``.
        scope: What the token is for when the challenge does not say.
        credential: Whose token it shall be; None for anybody's.

    Raises:
        AuthenticationError: The realm is no address that a credential may go to.
    """
    realm = _realm(registry, challenge)
    scopes = challenge.parameters.get("scope", "").split()[:_MAX_SCOPES]
    if not scopes and scope is not None:
        scopes = [str(scope)]
    service = challenge.parameters.get("service", "")
    if credential is not None and credential.identity_token is not None:
        form = {
            "grant_type": "refresh_token",
            "client_id": "nbmodel",
            "service": service,
            "scope": " ".join(scopes),
            "refresh_token": credential.identity_token,
        }
        return TokenRequest(realm, "POST", {}, form)
    for name, values in (("service", [service] if service else []), ("scope", scopes)):
        for value in values:
            realm = realm.copy_add_param(name, value)
    headers = {} if credential is None else {"Authorization": credential.basic}
    return TokenRequest(realm, "GET", headers, {})


def read_token(body: bytes, host: str) -> Token:
    """The token in a service's answer.

    Args:
        body: Of the answer.
        host: Of the service, for messages.

    Raises:
        AuthenticationError: There is none in it.
    """
    try:
        data: Any = loads(body)
        value = data.get("token") or data.get("access_token")
        life = data.get("expires_in") or _SHORTEST_S
    except (ValueError, AttributeError, RecursionError):
        value = life = None
    if (
        not isinstance(value, str)
        or len(value) > _MAX_TOKEN
        or _VISIBLE.fullmatch(value) is None
        or isinstance(life, bool)
        or not isinstance(life, int | float)
    ):
        raise AuthenticationError(f"token service {host} answered with no token")
    return Token(value, min(max(life, 0.0), _LONGEST_S) * (1 - _MARGIN))


def _realm(registry: httpx.URL, challenge: Challenge) -> httpx.URL:
    text = challenge.parameters.get("realm", "")
    try:
        realm = httpx.URL(text)
        host = realm.host
    except (httpx.InvalidURL, UnicodeError):
        host = ""
    if not host or realm.scheme not in ("http", "https") or realm.userinfo:
        raise AuthenticationError(
            f"{registry.host} names a token service that is no address: {text[:200]!r}"
        )
    if registry.scheme == "https" and realm.scheme != "https":
        raise AuthenticationError(
            f"{registry.host} names a token service without TLS, {realm.host}; expected https"
        )
    return realm
