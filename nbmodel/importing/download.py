"""Downloading over HTTP from servers that nobody vouches for.

A download that breaks off is continued, in the same import and in the next one, where the
server can: with a range, on condition that it is still the same file. Sizes are limited,
redirects are followed by hand so that credentials stay with the server that they are for,
and never from ``https`` to ``http``.

Source: RFC 9110, 13.1.5 "If-Range", 14.2 "Range", 15.4 "Redirection".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from nbmodel.core.address import is_loopback
from nbmodel.errors import (
    AuthenticationError,
    DigestMismatchError,
    InputError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.importing.base import Import, shown
from nbmodel.importing.parts import part_file
from nbmodel.storage.access import CA_VARIABLE, authorities
from nbmodel.storage.base import translated
from nbmodel.storage.copying import pump
from nbmodel.storage.room import check_room_in, room_told

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self

_ATTEMPTS = 5
_PAUSES_S = (0.0, 0.2, 1.0, 3.0)  # before the second attempt, the third …
_REDIRECTS = 10
_MAX_ANSWER = 32 << 20  # bytes of a small answer
_AWAY = (408, 425, 429, 500, 502, 503, 504)  # statuses of a server that may do better later
_PIECE = 1 << 20
_SETTLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that came.

    Attributes:
        path: Where it is.
        name: What the server calls it: a plain file name, maybe empty.
        digest: ``sha256:…`` of its bytes.
        etag: What the server calls this very content, without quotes; may be empty.
    """

    path: Path
    name: str
    digest: str
    etag: str


class Web:
    """Servers, asked by one import; closed by whoever made it.

    Args:
        job: What the import is allowed.
        base: An address of the server that ``headers`` are for.
        headers: Added to requests to its host, by its scheme and port, and to nobody else, as
            a token.
    """

    def __init__(
        self, job: Import, base: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        import httpx

        self._job = job
        self._headers = dict(headers or {})
        self._httpx = httpx
        self._own = _place(self._url(base)) if base else None
        self._clients: dict[bool, httpx.Client] = {}

    def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def json(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """A small answer, which must be JSON.

        Raises:
            InputError: The server has no such thing.
            StorageError: It answers something else.
            TargetUnreachableError, AuthenticationError: It is away, or refuses.
        """
        content = None if body is None else json.dumps(body).encode()
        extra = {} if body is None else {"Content-Type": "application/vnd.git-lfs+json"}
        if body is not None:
            extra["Accept"] = "application/vnd.git-lfs+json"
        for attempt in range(_ATTEMPTS):
            self._pause(attempt)
            try:
                with self._open(method, url, extra, content) as answer:
                    if answer.status_code in _AWAY and attempt + 1 < _ATTEMPTS:
                        continue
                    self._check(answer)
                    return self._parsed(answer)
            except self._httpx.TransportError as exc:
                if attempt + 1 == _ATTEMPTS:
                    raise self._away(url, exc) from exc
        raise AssertionError

    def download(
        self,
        url: str,
        target: Path,
        *,
        sha256: str | None = None,
        size: int | None = None,
        headers: Mapping[str, str] | None = None,
        used: int | None = None,
    ) -> Downloaded:
        """Bring one file.

        Args:
            url: Where it is.
            target: Where it goes; not there yet.
            sha256: 64 hex digits that it must have; None: whatever comes.
            size: Bytes that it must have; None: what the server says.
            headers: Added for this host alone.
            used: Bytes that the import has brought already; None: it is this file alone.

        Raises:
            InputError: The server has no such file, or it is too large.
            DigestMismatchError: It is another file than ``sha256`` says.
            StorageError: The server answers what is no file.
            TargetUnreachableError, AuthenticationError: It is away, or refuses.
            CancelledError: Nobody wants to go on; what came is kept for the next time.
        """
        with part_file(self._job.parts, f"{url}\n{sha256 or ''}") as file:
            part = _Part(file, self._job.progress)
            name = self._bring(url, part, headers or {}, size, used)
            digest = part.finish(target, self._job)
        if sha256 is not None and digest != f"sha256:{sha256}":
            target.unlink(missing_ok=True)
            raise DigestMismatchError(
                f"what {shown(url)} sent",
                expected=f"sha256:{sha256}",
                actual=digest,
                hint="it is another file than the one that digest is of",
            )
        return Downloaded(target, name, digest, part.etag)

    def _bring(
        self, url: str, part: _Part, headers: Mapping[str, str], size: int | None, used: int | None
    ) -> str:
        """As ``_continue``, as often as it takes."""
        for attempt in range(_ATTEMPTS):
            self._pause(attempt)
            try:
                return self._continue(url, part, headers, size, used)
            except (self._httpx.TransportError, _Again) as exc:
                if attempt + 1 == _ATTEMPTS:
                    raise self._away(url, exc) from exc
        raise AssertionError

    def _continue(
        self, url: str, part: _Part, headers: Mapping[str, str], size: int | None, used: int | None
    ) -> str:
        """Bring what is missing of a file; what the server calls it."""
        have = part.size
        asked = dict(headers)
        if have and part.condition:
            asked |= {"Range": f"bytes={have}-", "If-Range": part.condition}
        else:
            have = 0
        with self._open("GET", url, asked, None) as answer:
            status = answer.status_code
            if status in _AWAY:
                raise _Again(f"it answered {status}")
            if status == 416:
                part.forget()
                raise _Again("it has less than it had")
            if status == 206 and _range_start(answer.headers) != have:
                part.forget()
                raise _Again("it sent another part than was asked for")
            if status not in (200, 206):
                self._check(answer)
                raise StorageError(f"{shown(url)} answered {status}, expected a file")
            if status == 200:
                have = 0
            length = _length(answer.headers)
            total = None if length is None else have + length
            if total is not None:
                self._job.check_size((used or 0) + total, shown(url))
                if used is None:
                    self._job.expect(total)
                if size is not None and total != size:
                    raise StorageError(f"{shown(url)} has {total:,} bytes, expected {size:,}")
            check_room_in(self._job.parts, (total or 0) - part.size)
            part.start(have, answer.headers)
            part.tell(have)
            with (
                room_told(self._job.parts, lambda: max(0, (total or size or 0) - have)),
                part.appending() as file,
            ):
                for piece in answer.iter_raw():  # as it comes: what a cut ends is kept
                    self._job.check()
                    have += len(piece)
                    self._job.check_size((used or 0) + have, shown(url))
                    with translated("keep what is imported"):
                        file.write(piece)
                    part.tell(have)
            wanted = size if total is None else total
            if wanted is not None and have != wanted:
                raise _Again(f"it ended after {have:,} of {wanted:,} bytes")
            return _file_name(answer.headers, str(answer.url))

    @contextmanager
    def _open(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> Iterator[httpx.Response]:
        """An answer whose body is not read; redirects are followed."""
        target = self._url(url)
        first = target
        for _ in range(_REDIRECTS):
            self._job.check()
            client = self._client(target.host)
            # Compressed on the way, the bytes would not be those of the digest.
            given = {"Accept-Encoding": "identity"}
            is_own = _place(target) == _place(first)
            if is_own:
                given |= headers
            else:
                given |= {
                    key: value
                    for key, value in headers.items()
                    if key in ("Range", "If-Range", "Accept", "Content-Type")
                }
            if is_own and _place(target) == self._own:
                given = self._headers | given
            request = client.build_request(method, target, headers=given, content=content)
            answer = client.send(request, stream=True)
            try:
                place = answer.headers.get("Location") if answer.is_redirect else None
                if place is None:
                    yield answer
                    return
                target = self._moved(target, place)
            finally:
                answer.close()
        raise StorageError(f"{shown(url)} redirects more than {_REDIRECTS} times")

    def _moved(self, url: httpx.URL, place: str) -> httpx.URL:
        try:
            target = url.join(place)
        except (self._httpx.InvalidURL, UnicodeError) as exc:
            raise StorageError(f"{url.host} redirects to what is no address") from exc
        if target.scheme not in ("http", "https") or not target.host:
            raise StorageError(f"{url.host} redirects to what is no address of the web")
        if url.scheme == "https" and target.scheme == "http":
            raise StorageError(f"{url.host} redirects from https to http, which is not followed")
        return target.copy_with(userinfo=url.userinfo if _place(target) == _place(url) else b"")

    def _url(self, url: str) -> httpx.URL:
        try:
            target = self._httpx.URL(url)
            if target.scheme in ("http", "https") and target.host:
                return target
        except (self._httpx.InvalidURL, UnicodeError):
            pass
        raise InputError(f"not an address of the web: {shown(url)!r}")

    def _client(self, host: str) -> httpx.Client:
        is_own = is_loopback(host)
        if is_own not in self._clients:
            client = self._httpx.Client(
                timeout=self._httpx.Timeout(60.0, connect=10.0),
                verify=authorities(),
                trust_env=not is_own,  # a proxy cannot reach this machine's own loopback
            )
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            self._clients[is_own] = client
        return self._clients[is_own]

    def _check(self, answer: httpx.Response) -> None:
        status, where = answer.status_code, shown(str(answer.request.url))
        if status < 300:
            return
        if status in (401, 403):
            raise AuthenticationError(
                f"{where} refused ({status})",
                hint="it wants a login or token, or has nothing of that name",
            )
        if status in (404, 410):
            raise InputError(f"nothing is at {where} ({status})")
        if status in _AWAY:
            raise TargetUnreachableError(f"{where} answered {status}", hint="try again later")
        raise StorageError(f"{where} answered {status}")

    def _parsed(self, answer: httpx.Response) -> Any:
        body = bytearray()
        for piece in answer.iter_raw(_PIECE):  # nothing compressed was asked for
            body += piece
            if len(body) > _MAX_ANSWER:
                raise StorageError(
                    f"{shown(str(answer.url))} answered more than {_MAX_ANSWER:,} bytes"
                )
        try:
            return json.loads(bytes(body))
        except (ValueError, RecursionError) as exc:
            raise StorageError(f"{shown(str(answer.url))} answered no JSON") from exc

    def _away(self, url: str, exc: Exception) -> TargetUnreachableError:
        reason = str(exc) or type(exc).__name__
        return TargetUnreachableError(
            f"{shown(url)} does not answer: {reason[:200]}",
            hint=f"{CA_VARIABLE} may name a PEM file with the authority that signed for it"
            if "CERTIFICATE_VERIFY_FAILED" in reason
            else "is the address right? What came of it is kept, and the same import goes on from there",
        )

    def _pause(self, attempt: int) -> None:
        """Wait before another attempt."""
        if not attempt:
            return
        end = time.monotonic() + _PAUSES_S[min(attempt, len(_PAUSES_S)) - 1]
        while time.monotonic() < end:
            self._job.check()
            time.sleep(0.05)


class _Again(Exception):  # noqa: N818 - says what happened, and is never seen
    """An answer that another attempt may do better than."""


class _Part:
    """A file of which some has come, what it is of, and how far progress was told of it."""

    def __init__(self, file: Path, progress: Callable[[int], None]) -> None:
        self._file = file
        self._progress = progress
        self._told = 0
        self._facts = file.with_suffix(".json")
        self.condition = ""
        self.etag = ""
        with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
            facts = json.loads(self._facts.read_text(encoding="utf-8"))
            self.condition, self.etag = str(facts["condition"]), str(facts["etag"])

    @property
    def size(self) -> int:
        """Bytes that are there."""
        with suppress(OSError):
            return self._file.stat().st_size
        return 0

    def start(self, have: int, headers: Mapping[str, str]) -> None:
        """Note what the answer says of the file, before bytes of it are kept."""
        etag = headers.get("ETag", "")
        self.condition = etag if etag.startswith('"') else _strong_time(headers)
        self.etag = etag.removeprefix("W/").strip('"')[:200]
        with translated("keep what is imported"):
            if not have:
                self._file.write_bytes(b"")
            facts = {"condition": self.condition, "etag": self.etag}
            self._facts.write_text(json.dumps(facts), encoding="utf-8")

    @contextmanager
    def appending(self) -> Iterator[Any]:
        """The file, open at its end."""
        with translated("keep what is imported"):
            file = self._file.open("ab", buffering=0)
        with file:
            yield file

    def tell(self, position: int) -> None:
        """So many bytes are there; fewer than before when they have to come again."""
        if position != self._told:
            self._progress(position - self._told)
            self._told = position

    def forget(self) -> None:
        """Begin anew."""
        self._file.unlink(missing_ok=True)
        self._facts.unlink(missing_ok=True)
        self.condition = ""

    def finish(self, target: Path, job: Import) -> str:
        """Put the whole file in its place; its digest."""

        def watched(_: memoryview) -> None:
            job.check()

        with translated("keep what is imported"):
            with self._file.open("rb", buffering=0) as file:
                digest = f"sha256:{pump(file, watched).hexdigest()}"
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file.replace(target)
        self._facts.unlink(missing_ok=True)
        return digest


def _strong_time(headers: Mapping[str, str]) -> str:
    """When the file changed, if nobody can have changed it again since unnoticed; or empty.

    A weak tag or a fresh time does not promise equal bytes: RFC 9110, 8.8.2.2 and 13.1.5.
    """
    changed, now = headers.get("Last-Modified", ""), headers.get("Date", "")
    try:
        age = parsedate_to_datetime(now) - parsedate_to_datetime(changed)
    except (TypeError, ValueError):
        return ""
    return changed if age.total_seconds() >= _SETTLED_S else ""


def _place(url: httpx.URL) -> tuple[str, bytes, int | None]:
    port = url.port if url.port is not None else {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.raw_host, port


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _range_start(headers: Mapping[str, str]) -> int | None:
    found = re.match(r"bytes (\d{1,18})-", headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _file_name(headers: Mapping[str, str], url: str) -> str:
    """What the server calls a file, else what the address does; a plain name or empty."""
    said = headers.get("Content-Disposition", "")
    found = re.search(r"filename\*=(?:UTF-8|utf-8)''([^;]+)", said)
    name = unquote(found[1]) if found else ""
    if not name:
        found = re.search(r'filename="?([^";]+)"?', said)
        name = found[1] if found else unquote(url.partition("?")[0].partition("#")[0])
    return safe_name(name)


def safe_name(name: str) -> str:
    """The last part of a path as a name of a file that any system takes; may be empty."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"[\x00-\x1f\x7f:*?\"<>|]", "_", last)[:200].strip().lstrip(".")
