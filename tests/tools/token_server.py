"""A token service for a registry: gives signed tokens to whom it knows, and to anybody to read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

from tests.tools.certificate import Certificate, unpadded

if TYPE_CHECKING:
    from typing_extensions import Self

ISSUER = "test-issuer"
SERVICE = "test-registry"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a token.

    Attributes:
        method: GET or POST.
        authorization: The header.
        parameters: Of the query, or of the form.
    """

    method: str
    authorization: str | None
    parameters: dict[str, list[str]]


@dataclass(slots=True)
class TokenServer:
    """One on a free port of loopback.

    Attributes:
        certificate: What tokens are signed with.
        authorization: The ``Authorization`` of who may push.
        identity_token: What may be posted in its place.
        life_s: How long a token is good.
        answer: Status, headers and body in place of a token.
        asked: What came.
    """

    certificate: Certificate
    authorization: str
    identity_token: str | None = None
    life_s: int = 300
    answer: Callable[[Asked], tuple[int, dict[str, str], bytes] | None] = lambda _: None
    asked: list[Asked] = field(default_factory=list)
    _server: _Server | None = None

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tokens = self
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The realm."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}/token"

    @property
    def settings(self) -> dict[str, Any]:
        """As a registry's config has it."""
        return {
            "token": {
                "realm": self.url,
                "service": SERVICE,
                "issuer": ISSUER,
                "rootcertbundle": str(self.certificate.certificate),
            }
        }

    def take(self, asked: Asked) -> tuple[int, dict[str, str], bytes]:
        """The answer to a request."""
        self.asked.append(asked)
        given = self.answer(asked)
        if given is not None:
            return given
        posted = asked.parameters.get("refresh_token") == [self.identity_token]
        is_known = asked.authorization == self.authorization or posted
        if not is_known and (asked.authorization or asked.method == "POST"):
            return 401, {}, b'{"errors":[{"message":"incorrect username or password"}]}'
        actions = ("pull", "push", "delete") if is_known else ("pull",)
        name = "token" if asked.method == "GET" else "access_token"
        token = self.token(asked.parameters.get("scope", []), actions)
        return 200, {}, json.dumps({name: token, "expires_in": self.life_s}).encode()

    def token(self, scopes: list[str], allowed: tuple[str, ...]) -> str:
        """A token for what is allowed of what is asked for."""
        access = []
        for scope in " ".join(scopes).split():
            kind, name, actions = scope.split(":")
            granted = [one for one in actions.split(",") if one in allowed]
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate.encoded]}
        claims = {"iss": ISSUER, "sub": "x", "aud": SERVICE, "jti": "1", "access": access}
        claims |= {"iat": now, "nbf": now - 10, "exp": now + self.life_s}
        signed = ".".join(unpadded(json.dumps(part).encode()) for part in (head, claims))
        return f"{signed}.{unpadded(self.certificate.sign(signed.encode()))}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tokens: TokenServer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(parse_qs(urlsplit(self.path).query))

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer(parse_qs(self.rfile.read(length).decode()))

    def _answer(self, parameters: dict[str, list[str]]) -> None:
        tokens = cast("_Server", self.server).tokens
        asked = Asked(self.command, self.headers.get("Authorization"), parameters)
        status, headers, body = tokens.take(asked)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
