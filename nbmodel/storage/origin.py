"""Reading from a server of the distribution API: small answers as a whole, large ones as streams.

Everything that a server says is bounded here: the length of small answers, redirects, and
the time until a head or a small answer is there. What the bytes mean is the caller's.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from itertools import count
from json import loads
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from nbmodel.core.address import is_loopback
from nbmodel.core.challenge import Challenge, Scope, scope_of
from nbmodel.core.credential import TOKEN_VARIABLE, Credential
from nbmodel.errors import (
    AuthenticationError,
    BlobNotFoundError,
    InputError,
    RemoteFaultError,
    StorageError,
    StorageUnavailableError,
    TargetUnreachableError,
)
from nbmodel.storage.access import CA_VARIABLE, Access, authorities
from nbmodel.storage.login import Login
from nbmodel.storage.patience import IMPATIENT, LATER, Patience
from nbmodel.storage.token_service import MAX_ANSWER as MAX_TOKEN_ANSWER
from nbmodel.storage.token_service import Token, read_token, token_request

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT = httpx.Timeout(60.0, connect=5.0)  # seconds
_HEAD_S = 60.0  # for the head of what may be large: a store that is cold has to fetch it
_ANSWER_S = 20.0  # for all of a small answer, however steadily it drips
_MAX_REDIRECTS = 5
_MAX_ERROR = 64 * 1024  # bytes read of an answer that refuses
#: What OpenSSL says of answers that are not TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure")
#: What servers written in Go say, in the body of a 400.
_WANTS_TLS = b"HTTP request to an HTTPS server"
_NO_URL = (httpx.InvalidURL, UnicodeError)  # names of hosts are checked as characters
_LOOK_S = 0.1  # between two looks whether anybody still waits

_TOKEN_HINT = "give the token that the runtime showed when it was started"  # noqa: S105 # a hint
_ACCESS_HINT = f"`docker login {{host}}`, or set {TOKEN_VARIABLE}"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Answer:
    """A small answer.

    Attributes:
        status: The HTTP status.
        headers: Names in any case.
        body: All of it.
        url: Where it came from in the end.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: httpx.URL

    def join(self, reference: str) -> httpx.URL:
        """The address that a reference in this answer means.

        Raises:
            StorageError: It means none.
        """
        try:
            url = self.url.join(reference)
            has_host = bool(url.host)  # looked at when it is asked for
        except _NO_URL as exc:
            raise StorageError(f"{self.url.host} refers to what is no address") from exc
        if not has_host:
            raise StorageError(f"{self.url.host} refers to an address without a host")
        return url


class Origin:
    """A server, and the token or credential that it and nobody else gets.

    A credential goes to the server and to the token service that it names, when it asks.

    May be used by one thread at a time; ``abort`` by any.

    Args:
        base_url: ``http[s]://host[:port][/prefix]``, without ``/v2``.
        token: Bearer token, sent to that address only; None when it wants none.
        access: With what registries are entered, in the token's place; None for a server
            that knows tokens only.
        timeout: Seconds to wait for a connection and for each piece of an answer.
        transport: What carries requests; None for the network.
        cancelled: Asked before each request and while bytes come.
        hint: What to do when it refuses what it was shown, or wants something; None for what
            there is to say in general.
        patience: How long it is waited for when it says that it may do better later.
        beside: Another one of the same server, for another thread: they log in once.

    Raises:
        InputError: ``base_url`` cannot be one.
        ConfigError: The private authorities that the environment names cannot be read.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        access: Access | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        cancelled: Callable[[], bool] = lambda: False,
        hint: str | None = None,
        patience: Patience = IMPATIENT,
        beside: Origin | None = None,
    ) -> None:
        try:
            self.base = httpx.URL(base_url.rstrip("/") + "/")
            host = self.base.host
        except _NO_URL as exc:
            raise InputError(f"not the address of a server: {base_url[:200]!r} ({exc})") from exc
        self._token = token if access is None else access.token_for(self.host)
        self._access = access
        self._login: Login | None = None
        if access is not None and not self._token:
            shared = None if beside is None else beside._login  # noqa: SLF001 - another one of us
            self._login = shared or Login(self._credential, self._ask_token)
        self._cancelled = cancelled
        #: How long the server is waited for.
        self.patience = patience
        self._hint = hint or (
            _TOKEN_HINT if access is None else _ACCESS_HINT.format(host=self.host)
        )
        self._connections: list[socket.socket] = []
        #: For requests that only pushing makes.
        self.client = httpx.Client(
            timeout=timeout,
            transport=transport,
            verify=authorities(),
            # A proxy cannot reach this machine's own loopback.
            trust_env=not is_loopback(host),
        )
        # A registry has nothing to remember here; a hostile one would without bounds.
        self.client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    @property
    def host(self) -> str:
        """``host[:port]``, for messages."""
        return self.base.netloc.decode("ascii")

    @property
    def answer_s(self) -> float:
        """Seconds that a small answer may take."""
        return _ANSWER_S

    @property
    def is_anonymous(self) -> bool:
        """Whether it was shown neither a token nor a credential; known once it was asked."""
        return not self._token and (self._login is None or self._login.credential is None)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def abort(self) -> None:
        """Break off what is under way: whoever waits for it gets an error at once."""
        for connection in list(self._connections):
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)

    def check_cancelled(self) -> None:
        """Raise when nobody wants to go on.

        Raises:
            CancelledError: ``cancelled`` says so.
        """
        if self._cancelled():
            raise CancelledError

    def wait(self, seconds: float) -> None:
        """Wait, unless nobody wants to go on.

        Raises:
            CancelledError: Nobody does.
        """
        until = time.monotonic() + seconds
        self.check_cancelled()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            self.check_cancelled()

    def get(self, path: str, *, limit: int, headers: Mapping[str, str] | None = None) -> Answer:
        """A small answer, whatever its status; a lost connection is tried once more.

        Args:
            path: Below the base, or a whole URL.
            limit: The most bytes that its body may have.
            headers: Added to the request.

        Raises:
            TargetUnreachableError: It does not answer, or not in time.
            StorageError: The body is longer than ``limit``, or it redirects for ever.
            CancelledError: Nobody wants to go on.
        """

        def once() -> Answer:
            with self.stream(path, headers, head_s=_ANSWER_S) as answer:
                return self.whole(answer, limit=limit)

        return self.twice(once)

    @contextmanager
    def stream(
        self, path: str, headers: Mapping[str, str] | None = None, *, head_s: float | None = None
    ) -> Iterator[httpx.Response]:
        """An answer whose body is not read yet; redirects are followed.

        Use ``iter_raw`` on it: the bytes are asked for as they are stored.

        Args:
            path: Below the base, or a whole URL.
            headers: Added to the request.
            head_s: Seconds until the answer's head must be there; None for what may be large.

        Raises:
            StorageError: It redirects for ever.
            CancelledError: Nobody wants to go on.
            httpx.TransportError: It does not answer.
        """
        target = self.base.join(path)
        for _ in range(_MAX_REDIRECTS):
            self.check_cancelled()
            # Compressed on the way, the bytes would not be those of the digest.
            given = {**(headers or {}), "Accept-Encoding": "identity"}
            try:
                answer = self.send("GET", target, headers=given, head_s=head_s or _HEAD_S)
            except _NO_URL as exc:
                raise StorageError(f"{self.host} redirects to what is no address") from exc
            try:
                if answer.next_request is None:
                    yield answer
                    return
                target = answer.next_request.url
            finally:
                answer.close()
        raise StorageError(f"{self.host} redirects for ever")

    def whole(self, answer: httpx.Response, *, limit: int) -> Answer:
        """All of an answer whose body is not read yet.

        Raises:
            StorageError: The body is longer than ``limit`` bytes.
            httpx.TransportError: The connection was lost.
        """
        body = bytearray()
        with self._ended_after(_ANSWER_S):
            for piece in answer.iter_raw():
                body += piece
                if len(body) > limit:
                    raise StorageError(
                        f"{self.host} answered {answer.request.url.path} with more than "
                        f"the {limit} bytes that are taken"
                    )
        return Answer(answer.status_code, answer.headers, bytes(body), answer.request.url)

    def send(
        self,
        method: str,
        target: httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        timeout: httpx.Timeout | None = None,
        head_s: float | None = None,
    ) -> httpx.Response:
        """The answer to one request, with the token or credential when it goes to the server.

        A server that wants another one gets it, once; redirects are not followed. One that
        says "later" is asked again as patience has it. The body is not read yet; the caller
        closes it.

        Args:
            method: The HTTP method.
            target: Where to.
            headers: Added to the request.
            content: Its body; what gives pieces must give them anew when asked again.
            timeout: As of the client when it is None.
            head_s: Seconds until the answer's head must be there; None: as long as it takes.

        Raises:
            AuthenticationError: What the server wants cannot be had.
            TargetUnreachableError: Its token service does not answer.
            CancelledError: Nobody wants to go on.
            httpx.TransportError: It does not answer.
        """
        for number in count(1):
            answer = self._sent(
                method, target, headers=headers, content=content, timeout=timeout, head_s=head_s
            )
            if answer.status_code not in LATER:
                break
            pause = self.patience.pause_s(number, answer.headers.get("Retry-After"))
            if pause is None:
                break
            answer.close()
            self.wait(pause)
        return answer

    def _sent(
        self,
        method: str,
        target: httpx.URL,
        *,
        headers: Mapping[str, str] | None,
        content: bytes | Iterable[bytes] | None,
        timeout: httpx.Timeout | None,
        head_s: float | None,
    ) -> httpx.Response:
        """The answer to one request, made once more where another credential may help."""

        def once(authorization: str | None) -> httpx.Response:
            request = self.client.build_request(
                method,
                target,
                headers=_with(headers, authorization),
                content=content,
                timeout=self.client.timeout if timeout is None else timeout,
                extensions={"trace": self._trace},
            )
            with nullcontext() if head_s is None else self._ended_after(head_s):
                return self.client.send(request, stream=True)

        is_own = _place(target) == _place(self.base)
        if self._login is None or not is_own:
            return once(f"Bearer {self._token}" if self._token is not None and is_own else None)
        scope = scope_of(method, target.path.removeprefix(self.base.path))
        sent = self._login.header(scope)
        answer = once(sent)
        if answer.status_code != 401:
            return answer
        try:
            offered = answer.headers.get("WWW-Authenticate", "")
            better = self._login.answer(offered, scope, sent)
        except BaseException:
            answer.close()
            raise
        if better is None:
            return answer
        answer.close()
        self.check_cancelled()
        return once(better)

    def twice(self, action: Callable[[], _T]) -> _T:
        """Do something, and once more after a lost connection.

        Raises:
            TargetUnreachableError: The connection was lost both times.
        """
        try:
            return action()
        except httpx.TransportError:
            self.check_cancelled()
        try:
            return action()
        except httpx.TransportError as exc:
            raise self.unreachable(exc) from exc

    def unreachable(self, exc: httpx.TransportError) -> TargetUnreachableError:
        """What a lost connection means."""
        reason = str(exc) or type(exc).__name__
        if isinstance(exc, httpx.TimeoutException):
            seconds = self._limit_s(exc)
            within = "in time" if seconds is None else f"within {seconds:g} s"
            return TargetUnreachableError(
                f"{self.host} did not answer {within}",
                hint="it may hang, or be overloaded; or something before it lets nothing through",
            )
        return TargetUnreachableError(
            f"{self.host} does not answer: {reason}", hint=self._hint_of(reason)
        )

    def _limit_s(self, exc: httpx.TimeoutException) -> float | None:
        """How long it was waited for."""
        if isinstance(exc, _LateError):
            return exc.seconds
        timeout = self.client.timeout
        return timeout.connect if isinstance(exc, httpx.ConnectTimeout) else timeout.read

    def _hint_of(self, reason: str) -> str:
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return f"{CA_VARIABLE} may name a PEM file with the authority that signed for it"
        if any(mark in reason for mark in _NO_TLS):
            return f"it speaks no TLS: write http://{self.host}"
        if "disconnected without" in reason and self.base.scheme == "http":
            return f"is it running? Where it speaks TLS, write https://{self.host}"
        return "is it running, and is the address right?"

    def refused(
        self, status: int, what: str, body: bytes
    ) -> AuthenticationError | StorageError | TargetUnreachableError:
        """What a status that nobody wanted means.

        Args:
            status: The status.
            what: The request: its method and path.
            body: What the answer says, as far as it was read.
        """
        said = self._without_secrets(_said(body)) or httpx.codes.get_reason_phrase(status)
        if status in (401, 403):
            return AuthenticationError(
                f"{self.host} refused {self._shown}: {said}", hint=self._hint
            )
        message = f"{self.host} answered {status} to {what}: {said}"
        if status == 404:
            return BlobNotFoundError(message)
        if status == 507:
            return StorageUnavailableError(
                message, hint="undeploy what is not needed there, or free some space"
            )
        if status in LATER:
            return TargetUnreachableError(message)
        if status == 400 and _WANTS_TLS in body:
            return StorageError(
                f"{self.host} speaks TLS, and was asked without",
                hint=f"write https://{self.host}",
            )
        if status == 405:
            hint = "it may be read-only; one of `registry serve` takes pushes with --read-write"
            return StorageError(message, hint=hint)
        return RemoteFaultError(message) if status >= 500 else StorageError(message)

    def refused_stream(
        self, answer: httpx.Response
    ) -> AuthenticationError | StorageError | TargetUnreachableError:
        """As ``refused``, for an answer whose body is not read yet."""
        body = bytearray()
        with suppress(httpx.TransportError), self._ended_after(_ANSWER_S):
            for piece in answer.iter_raw():
                body += piece
                if len(body) > _MAX_ERROR:
                    break
        what = f"{answer.request.method} {answer.request.url.path}"
        return self.refused(answer.status_code, what, bytes(body))

    @property
    def _shown(self) -> str:
        """What it was shown."""
        if self._login is None:
            return "the token" if self._token else "a request without token"
        known = self._login.credential
        if known is None:
            return "a request without token or login"
        return f"the credential of {known.username}" if known.username else "the identity token"

    def _without_secrets(self, said: str) -> str:
        """What a server says, should it say what it was shown."""
        known = () if self._login is None else self._login.secrets
        for secret in filter(None, (*known, self._token)):
            said = said.replace(secret, "…")
        return said

    def _credential(self) -> Credential | None:
        return None if self._access is None else self._access.find(self.host, self._cancelled)

    def _ask_token(
        self, challenge: Challenge, scope: Scope | None, credential: Credential | None
    ) -> Token:
        """A token of the service that the server sends its clients to.

        Raises:
            AuthenticationError: The service refuses, or its answer is none.
            TargetUnreachableError: It does not answer.
        """
        asked = token_request(self.base, challenge, scope, credential)
        host = asked.url.netloc.decode("ascii")
        self.check_cancelled()
        request = self.client.build_request(
            asked.method,
            asked.url,
            headers={**asked.headers, "Accept-Encoding": "identity"},
            data=asked.form or None,
            extensions={"trace": self._trace},
        )
        body = bytearray()
        try:
            with self._ended_after(_ANSWER_S):
                answer = self.client.send(request, stream=True)
                with closing(answer):
                    for piece in answer.iter_raw():
                        body += piece
                        if len(body) > MAX_TOKEN_ANSWER:
                            break
        except httpx.TransportError as exc:
            self.check_cancelled()
            raise TargetUnreachableError(
                f"token service {host} of {self.host} does not answer: {str(exc) or type(exc).__name__}"
            ) from exc
        except _NO_URL as exc:
            raise AuthenticationError(f"token service of {self.host} is at no address") from exc
        if answer.status_code in LATER:
            raise TargetUnreachableError(f"token service {host} answered {answer.status_code}")
        if answer.status_code != 200:
            said = self._without_secrets(_said(bytes(body))) or answer.reason_phrase
            raise AuthenticationError(
                f"token service {host} of {self.host} refused {self._shown} "
                f"({answer.status_code}): {said}",
                hint=self._hint,
            )
        return read_token(bytes(body), host)

    @contextmanager
    def _ended_after(self, seconds: float) -> Iterator[None]:
        """Break off what is inside after so long; a timeout of each read never would.

        Raises:
            httpx.TransportError: It was lost; one that says so where it was broken off.
        """
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self.abort()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except httpx.TransportError as exc:
            if not is_late.is_set():
                raise
            raise _LateError(seconds) from exc
        finally:
            timer.cancel()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            connection = info["return_value"].get_extra_info("socket")
            there = [one for one in self._connections if one.fileno() != -1]
            self._connections = [*there, connection]


class _LateError(httpx.ReadTimeout):
    """An answer was not there in time.

    Args:
        seconds: How long it was waited for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s")
        self.seconds = seconds


def _with(headers: Mapping[str, str] | None, authorization: str | None) -> dict[str, str]:
    given = dict(headers or {})
    return given if authorization is None else {**given, "Authorization": authorization}


def _said(body: bytes) -> str:
    """What the body of an error says: the specification's form, ours, or nothing."""
    try:
        data: Any = loads(body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(data, dict):
        errors = data.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            return str(errors[0].get("message") or errors[0].get("code"))[:500]
        if "error" in data:
            return str(data["error"])[:500]
    return ""


def _place(url: httpx.URL) -> tuple[str, bytes, int | None]:
    """Scheme, host and port: what a token belongs to."""
    port = url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.raw_host, port
