"""Talking to one server, in a thread that waits: inference fast, all else by httpx.

Also inference goes by httpx where a plain connection does not reach: to ``https`` and
through a proxy. Errors of both are told in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from nbmodel.errors import FormatError
from nbmodel.inference import refusal
from nbmodel.inference.connection import Connection, NoConnectionInTimeError, Pool
from nbmodel.inference.http1 import MAX_BODY, Answer, field_lines, request_head
from nbmodel.inference.server import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, Server, check_timeout
from nbmodel.protocol.http import Body

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_TOLD = 64 * 1024 * 1024  # bytes of an answer with no tensors in it; also unpacked
_HEADS_KEPT = 256  # by model and size; a program has a few


class Channel:
    """A way to one server. May be used by several threads at once.

    Every method raises TargetUnreachableError when the server does not answer,
    AuthenticationError when it wants another token, and otherwise the error that the
    server's answer means.

    Args:
        server: Which one.
        timeout_s: Seconds to wait for an answer.
    """

    def __init__(self, server: Server, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self.server = server
        self._timeout_s = check_timeout(timeout_s)
        self._heads = Heads(server)
        self._client = httpx.Client(**client_options(server, timeout_s))
        self._pool = (
            Pool(server.host, server.port, connect_timeout_s=CONNECT_TIMEOUT_S)
            if server.is_direct()
            else None
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._pool is not None:
            self._pool.close()

    def request(self, method: str, path: str, *, is_claim: bool = False, **options: Any) -> Answer:
        """Ask something that is no inference; an answer is at most ``MAX_TOLD`` bytes.

        Args:
            method: In upper case.
            path: From the server's address on.
            is_claim: Whether a refusal is an answer as well, but for one of the token.
            options: Those of ``httpx.Client.request``.
        """
        self._check_open()
        answer = self._by_httpx(method, path, self._timeout_s, MAX_TOLD, options)
        check_answer(self.server, answer, is_claim=is_claim)
        return answer

    def post(
        self,
        path: str,
        body: Body,
        *,
        headers: Mapping[str, str],
        timeout_s: float | None,
        may_repeat: bool,
    ) -> Answer:
        """Send a request for inference.

        Args:
            path: From the server's address on, percent-encoded.
            body: What to send; its parts may be views of arrays.
            headers: Further ones.
            timeout_s: Seconds to wait; None: the channel's.
            may_repeat: Whether it may be sent again when a kept connection was closed
                before anything of an answer came.
        """
        self._check_open()
        timeout_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        if self._pool is None:
            answer = self._by_httpx(
                "POST", path, timeout_s, MAX_BODY, infer_options(body, headers, timeout_s)
            )
        else:
            head = self._heads.post(path, body, headers)
            try:
                answer = self._pool.exchange((head, *body.parts), timeout_s, may_repeat=may_repeat)
            except (OSError, FormatError) as exc:
                raise told(self.server, exc, timeout_s) from exc
        if answer.status != 200:
            raise refusal.refusal(self.server, answer.status, answer.reason, answer.body)
        return answer

    def repeat(self, path: str, body: Body, *, headers: Mapping[str, str]) -> Repeat:
        """A request for inference that one thread sends many times."""
        size = sum(map(len, body.parts))
        if self._pool is None:
            post = partial(self.post, path, body, headers=headers, timeout_s=None, may_repeat=False)
            return Repeat(post, size)
        parts = (self._heads.post(path, body, headers), *body.parts)
        line = _Line(self.server, self._pool, parts, self._timeout_s)
        return Repeat(line.exchange, size, line.close)

    def _check_open(self) -> None:
        if self._client.is_closed:
            raise refusal.closed(self.server)

    def _by_httpx(
        self, method: str, path: str, timeout_s: float, most: int, options: Mapping[str, Any]
    ) -> Answer:
        with (
            told_by_httpx(self.server, timeout_s),
            self._client.stream(method, path, **options) as answer,
        ):
            received = bytearray()  # so that the arrays which view it can be written to
            for piece in answer.iter_bytes():
                received += piece
                if len(received) > most:
                    raise refusal.too_long(self.server, most)
        return to_answer(answer, received)


class Repeat:
    """One request, sent with each call; its answers are received, and not looked into.

    Raises what ``Channel.post`` does.

    Args:
        send: Sends it and waits for the answer.
        size: Bytes of its body.
        close: Ends it, also while it waits.

    Attributes:
        size: Bytes of its body.
    """

    def __init__(
        self, send: Callable[[], Answer], size: int, close: Callable[[], None] = lambda: None
    ) -> None:
        self.size = size
        self.close = close
        self._send = send

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self) -> int:
        """Send it and wait for the answer; bytes of the answer's body."""
        return self._send().body.nbytes


class _Line:
    """A connection of its own for one request; another one when the server closes it."""

    def __init__(
        self, server: Server, pool: Pool, parts: Sequence[bytes | memoryview], timeout_s: float
    ) -> None:
        self._server = server
        self._pool = pool
        self._parts = parts
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._is_closed = False

    def exchange(self) -> Answer:
        try:
            connection = self._connection
            if connection is None or not connection.keeps_alive:
                if connection is not None:
                    connection.close()
                connection = self._connection = self._pool.open()
            if self._is_closed:  # meanwhile, by another thread
                connection.close()
            answer = connection.exchange(self._parts, self._timeout_s)
        except (OSError, FormatError) as exc:
            raise told(self._server, exc, self._timeout_s) from exc
        if answer.status != 200:
            raise refusal.refusal(self._server, answer.status, answer.reason, answer.body)
        return answer

    def close(self) -> None:
        self._is_closed = True
        if self._connection is not None:
            self._connection.close()


def client_options(server: Server, timeout_s: float) -> dict[str, Any]:
    """How an httpx client for a server is made, whether it waits or awaits."""
    return {
        "base_url": server.url,
        "headers": server.credentials,
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        # A proxy cannot reach this machine's own loopback.
        "trust_env": not server.is_local,
    }


def infer_options(body: Body, headers: Mapping[str, str], timeout_s: float) -> dict[str, Any]:
    """How httpx sends a request for inference, whether it waits or awaits."""
    return {
        "content": body.join(),
        # Tensors are not worth compressing, as httpx would ask for.
        "headers": {"Accept-Encoding": "identity", **body.headers, **headers},
        "timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
    }


def to_answer(answer: httpx.Response, body: bytearray) -> Answer:
    """An answer of httpx in the form of our own connections."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status_code, answer.reason_phrase, headers, memoryview(body))


def check_answer(server: Server, answer: Answer, *, is_claim: bool = False) -> None:
    """Raise what an answer means that is not the one hoped for."""
    if 200 <= answer.status < 300 or (is_claim and answer.status not in (401, 403)):
        return
    raise refusal.refusal(server, answer.status, answer.reason, answer.body)


@contextmanager
def told_by_httpx(server: Server, timeout_s: float) -> Iterator[None]:
    """Inside, what httpx raises about a connection becomes an error of nbmodel."""
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise refusal.no_connection_in_time(server) from exc
    except httpx.TimeoutException as exc:
        raise refusal.no_answer_in_time(server, timeout_s) from exc
    except httpx.RemoteProtocolError as exc:
        raise refusal.no_http(server, str(exc)) from exc
    except (httpx.TransportError, httpx.DecodingError) as exc:
        raise refusal.unreachable(server, str(exc) or type(exc).__name__) from exc


def told(server: Server, exc: OSError | FormatError, timeout_s: float) -> Exception:
    """The error of nbmodel for what a connection of our own raised."""
    if isinstance(exc, FormatError):
        return refusal.unreadable(server, exc)
    if isinstance(exc, NoConnectionInTimeError):
        return refusal.no_connection_in_time(server)
    if isinstance(exc, TimeoutError):
        return refusal.no_answer_in_time(server, timeout_s)
    return refusal.unreachable(server, str(exc) or type(exc).__name__)


class Heads:
    """Heads of requests for inference to one server, for connections of our own.

    Args:
        server: Which one.
    """

    def __init__(self, server: Server) -> None:
        self._path = server.path
        self._common = field_lines({**server.headers, "Accept-Encoding": "identity"})
        self._made: dict[tuple[str, int | None, int], bytes] = {}

    def post(self, path: str, body: Body, headers: Mapping[str, str]) -> bytes:
        """The head that goes before a body.

        Args:
            path: From the server's address on, percent-encoded.
            body: What follows.
            headers: Further ones.

        Raises:
            InputError: A header cannot be sent.
        """
        length = sum(map(len, body.parts))
        if headers:
            return self._make(path, body, headers, length)
        key = path, body.header_length, length
        head = self._made.get(key)
        if head is None:
            if len(self._made) >= _HEADS_KEPT:
                self._made.clear()
            head = self._made[key] = self._make(path, body, headers, length)
        return head

    def _make(self, path: str, body: Body, headers: Mapping[str, str], length: int) -> bytes:
        lines = field_lines({**body.headers, **headers})
        return request_head("POST", self._path + path, self._common + lines, length)
