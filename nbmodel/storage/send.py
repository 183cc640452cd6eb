"""Sending blobs to a server of the distribution API, whole or as patches, over lost connections.

A blob that another repository of the server has is mounted. A large one goes in several
requests, and after a lost connection, or the end of the process, from where the other side
has it. A blob whose chunk table the other side has goes as a patch of what it lacks, where
it can say what that is: see ``storage.distribution_server``.

Where an upload goes on is for the registry to say. The CNCF's signs what it has into that
address, so an upload that was cut in the midst of a request cannot be gone on with there:
the address that would do was in the answer that never came. It begins anew.

Source: OCI distribution specification 1.1, "Pushing blobs".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from json import loads
from typing import BinaryIO

import httpx

from nbmodel.core.chunks import Missing
from nbmodel.core.patch import Patch
from nbmodel.core.reference import check_repository
from nbmodel.errors import (
    AuthenticationError,
    DigestMismatchError,
    ManifestError,
    RemoteFaultError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.origin import Answer, Origin
from nbmodel.storage.patience import Patience
from nbmodel.storage.sessions import Session, UploadSessions

PIECE = 1024 * 1024  # bytes read from a file and sent at a time
CHUNK = 16 * 1024 * 1024  # bytes of one request when a blob goes in several
CHUNKED_FROM = CHUNK  # smaller blobs go in one request, which every registry takes
_MAX_ANSWER = 1024 * 1024  # bytes
_MAX_RANGES = 64 * 1024 * 1024  # bytes; the most ranges that can be asked for take 30
_WORTH_A_PATCH = 0.9  # share of the blob; above it, putting it together costs more than it saves
_SLOWEST_DISK = 4e6  # bytes/s that a device puts a blob together with: a worn SD card
_SLOWEST_CHECK = 50e6  # bytes/s with which a registry reads a blob again before it answers
# Of registries, and proxies before them, that take no chunks.
_NO_CHUNKS = frozenset({400, 404, 405, 411, 413, 415, 501})
_WORTH = 64 * 1024  # bytes more on the other side that make another try worth it
_LOST = frozenset({404, 416})  # the upload is not there, or not at that byte
#: A line that breaks again and again: so often in a row without a byte more on the other side.
PATIENCE = Patience(tries=4, first_s=0.25)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What pushing a version moved.

    Attributes:
        sent: Bytes that went over the network for blobs.
        present: Bytes of blobs that were there already, or in another repository of the
            registry, or in an upload that was gone on with.
        saved: Bytes of other blobs that were not sent, because chunks of them were there.
    """

    sent: int
    present: int
    saved: int = 0

    def __add__(self, other: Pushed) -> Pushed:
        return Pushed(
            self.sent + other.sent, self.present + other.present, self.saved + other.saved
        )


def send_blob(
    origin: Origin,
    name: str,
    storage: Storage,
    digest: str,
    *,
    table: str | None = None,
    progress: Progress | None = None,
    mount: str | None = None,
    sessions: UploadSessions | None = None,
) -> Pushed:
    """Send a blob unless it is there, and say what that took.

    Args:
        origin: The server.
        name: The repository.
        storage: Where the blob is.
        digest: Which one.
        table: Digest of its chunk table, which the repository has: only what the other
            side lacks is sent, where it can say so. None to send all of it.
        progress: Called with the bytes just sent, or found to be there; with less than
            nothing when they have to be sent again.
        mount: Another repository of the server that may have it; when it has, no byte goes.
        sessions: Uploads that are not over, which are gone on with; None to begin anew.

    Raises:
        BlobNotFoundError: The storage has no such blob.
        TargetUnreachableError: The connection was lost, and again and again.
        AuthenticationError: The server refuses the token, or wants one.
        DigestMismatchError: The blob is damaged here, or the server has something else now.
        StorageError: It refuses anything else.
        CancelledError: The origin was told to stop.
    """
    size = storage.size(digest)
    if has_blob(origin, name, digest):
        _report(progress, size)
        return Pushed(0, size)
    uploads = _Uploads(origin, name)
    opened = None
    if mount is not None and mount != name:
        opened = uploads.mount(digest, mount)
        if opened is None:
            _report(progress, size)
            return Pushed(0, size)
    whole = _Source.of_blob(storage, digest)
    try:
        if size < CHUNKED_FROM or sessions is None:
            return _send(uploads, whole, storage, opened, table, progress, None)
        with sessions.hold(str(origin.base), name, digest) as session:
            return _send(uploads, whole, storage, opened, table, progress, session)
    except StorageError:
        storage.check(digest)  # what was refused may be wrong here already
        raise


def _send(
    uploads: _Uploads,
    whole: _Source,
    storage: Storage,
    opened: _Opened | None,
    table: str | None,
    progress: Progress | None,
    session: Session | None,
) -> Pushed:
    """Send a blob that is not there: from where an earlier upload broke off, as a patch, or whole."""
    told, size, wasted = _Told(progress), whole.size, 0
    begun = uploads.resumed(session, size)
    if begun is None and table is not None:
        opened, patch = uploads.open_patch(whole.digest, table, size)
        if patch is not None:
            source = _Source.of_patch(storage, whole.digest, patch, table)
            if _Upload(uploads, source, opened, told).run():
                told.to(size)
                return Pushed(source.size, 0, size - source.size)
            told.to(0)
            opened, wasted = None, source.size
    at = begun or opened or uploads.open()
    _Upload(uploads, whole, at, told, session).run()
    return Pushed(wasted + size - at.start, at.start)


def has_blob(origin: Origin, name: str, digest: str) -> bool:
    """Whether a repository has a blob.

    Raises:
        TargetUnreachableError: The connection was lost, and again.
        AuthenticationError: The server refuses the token, or wants one.
        StorageError: It refuses anything else.
    """
    path = f"v2/{check_repository(name)}/blobs/{digest}"
    return request(origin, "HEAD", path, expect=(200, 307, 404)).status != 404


def request(
    origin: Origin,
    method: str,
    url: str | httpx.URL,
    *,
    expect: tuple[int, ...],
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
    limit: int = _MAX_ANSWER,
) -> Answer:
    """The answer to a request that may be made twice; a lost connection is tried once more.

    Args:
        origin: The server.
        method: The HTTP method.
        url: Below the server's base, or a whole URL.
        expect: The statuses that are taken.
        headers: Added to the request.
        content: Its body.
        limit: The most bytes that the answer may have.

    Raises:
        TargetUnreachableError: The connection was lost, and again.
        AuthenticationError: The server refuses the token, or wants one.
        StorageError: The status is any other.
    """
    return origin.twice(
        lambda: _once(
            origin, method, url, expect=expect, headers=headers, content=content, limit=limit
        )
    )


def _once(
    origin: Origin,
    method: str,
    url: str | httpx.URL,
    *,
    expect: tuple[int, ...],
    headers: Mapping[str, str] | None = None,
    content: bytes | Iterable[bytes] | None = None,
    patience_s: float = 0.0,
    limit: int = _MAX_ANSWER,
) -> Answer:
    target = origin.base.join(url)
    timeout = origin.client.timeout
    if patience_s and timeout.read is not None:
        timeout = httpx.Timeout(**{**timeout.as_dict(), "read": timeout.read + patience_s})
    # Compressed, a short answer could be a long one.
    given = {**(headers or {}), "Accept-Encoding": "identity"}
    # Whether something is there is quickly said; to take something in may last.
    head_s = origin.answer_s if method == "HEAD" else None
    with closing(
        origin.send(method, target, headers=given, content=content, timeout=timeout, head_s=head_s)
    ) as stream:
        answer = origin.whole(stream, limit=limit)
    if answer.status not in expect:
        raise origin.refused(answer.status, f"{method} {answer.url.path}", answer.body)
    return answer


@dataclass(frozen=True, slots=True)
class _Opened:
    """An upload, and how far it is.

    Attributes:
        location: Where the next bytes go.
        start: How many the other side has.
        least: How many a request has to have at least that is not the last.
    """

    location: httpx.URL
    start: int = 0
    least: int = 0


@dataclass(frozen=True, slots=True)
class _Uploads:
    """Uploads to one repository of a server."""

    origin: Origin
    name: str

    def open(self) -> _Opened:
        """A new one."""
        return self._opened(request(self.origin, "POST", self._path, expect=(202,)))

    def mount(self, digest: str, other: str) -> _Opened | None:
        """A new one; None when the other repository has the blob, and this one has it now."""
        query = httpx.QueryParams({"mount": digest, "from": check_repository(other)})
        try:
            answer = request(self.origin, "POST", f"{self._path}?{query}", expect=(201, 202))
        except (StorageError, AuthenticationError):
            return self.open()  # the other repository may be another's
        return None if answer.status == 201 else self._opened(answer)

    def open_patch(self, digest: str, table: str, size: int) -> tuple[_Opened, Patch | None]:
        """A new one, and the patch that is wanted; None for the whole blob."""
        query = httpx.QueryParams({"assemble": digest, "chunks": table})
        try:
            path = f"{self._path}?{query}"
            answer = request(self.origin, "POST", path, expect=(202,), limit=_MAX_RANGES)
        except StorageError:
            return self.open(), None  # a registry that is strict about parameters
        patch = _wanted(answer, size)
        if patch is not None and patch.size > size * _WORTH_A_PATCH:
            patch = None
        return self._opened(answer), patch

    def resumed(self, session: Session | None, size: int) -> _Opened | None:
        """An earlier one of a blob; None when there is none, or the registry forgot it."""
        location = None if session is None else session.location()
        if session is None or location is None:
            return None
        try:
            found = self.found(httpx.URL(location), size)
        except (httpx.InvalidURL, AuthenticationError):
            found = None
        if found is None:
            session.forget()
        return found

    def found(self, location: httpx.URL, size: int) -> _Opened | None:
        """How far one of that many bytes is; None when it cannot be gone on with.

        Raises:
            TargetUnreachableError: The server does not answer, and again and again.
            AuthenticationError: It refuses the token, or wants one.
        """
        for number in count(1):
            try:
                found = self._status(location)
            except (StorageError, TargetUnreachableError) as exc:
                # It comes up again; or has not seen the end of the connection yet, so that
                # the upload is in use.
                pause = PATIENCE.pause_s(number)
                if pause is not None:
                    self.origin.wait(pause)
                    continue
                if isinstance(exc, TargetUnreachableError):
                    raise
                found = None
            break
        return None if found is None or found.start > size else found

    def _status(self, location: httpx.URL) -> _Opened | None:
        answer = request(self.origin, "GET", location, expect=(202, 204, *_LOST))
        if answer.status in _LOST:
            if b"BLOB_UPLOAD_UNKNOWN" in answer.body:
                raise StorageError(f"{self.origin.host} knows of no such upload now")
            return None
        return _Opened(self.following(answer, location), _has(answer) or 0)

    def following(self, answer: Answer, before: httpx.URL | None = None) -> httpx.URL:
        """Where it goes on."""
        location = answer.headers.get("Location")
        if location is not None:
            return answer.join(location)
        if before is None:
            raise StorageError(f"{self.origin.host} opened an upload without saying where")
        return before

    def _opened(self, answer: Answer) -> _Opened:
        least = answer.headers.get("OCI-Chunk-Min-Length", "")
        known = int(least) if re.fullmatch("[0-9]{1,15}", least) else 0
        return _Opened(self.following(answer), least=known)

    @property
    def _path(self) -> str:
        return f"v2/{check_repository(self.name)}/blobs/uploads/"


class _Upload:
    """One upload, which goes on until the other side has all, or nothing helps any more.

    Args:
        uploads: Where new ones are opened.
        source: What is sent.
        opened: The one to begin with.
        told: Is told how far it is.
        session: Where it is kept for the next process; None: nowhere.
    """

    def __init__(
        self,
        uploads: _Uploads,
        source: _Source,
        opened: _Opened,
        told: _Told,
        session: Session | None = None,
    ) -> None:
        self._uploads = uploads
        self._origin = uploads.origin
        self._source = source
        self._told = told
        self._session = session
        self._at = opened
        self._furthest = opened.start  # that the other side ever had
        self._failures = 0  # since then
        self._takes_chunks = source.size >= CHUNKED_FROM

    def run(self) -> bool:
        """Send all of it; False when it was a patch that could not be used.

        Raises:
            TargetUnreachableError: The connection is lost again and again.
            StorageError: The server refuses it.
        """
        self._keep()
        while True:
            self._told.to(self._source.payload_before(self._at.start))
            end = self._at.start + max(CHUNK, self._at.least)
            is_last = not self._takes_chunks or end >= self._source.size
            try:
                if is_last:
                    done = self._put()
                    if done is not None:
                        return done
                else:
                    self._patch(end)
            except (httpx.TransportError, RemoteFaultError) as exc:
                self._failed(exc)
                # It may have arrived all the same, with only the answer lost.
                if is_last and self._is_there():
                    return True
                self._resume()

    def _patch(self, end: int) -> None:
        """Send a chunk."""
        start = self._at.start
        expect = (202, *(_NO_CHUNKS if start == 0 else _LOST))
        answer = self._send("PATCH", self._at.location, start, end, expect)
        if answer.status == 202:
            has = _has(answer) or end
            # It may have taken less than it was sent.
            has = has if start < has < end else end
            if has - start < min(_WORTH, end - start):  # byte by byte it would take for ever
                self._failed(None)
            self._reached(self._uploads.following(answer, self._at.location), has)
        elif start == 0:
            self._takes_chunks = False
            self._begin()
        else:
            self._failed(None)
            self._resume()

    def _put(self) -> bool | None:
        """Send what is left, and end it; None when it has to go on otherwise."""
        start, size = self._at.start, self._source.size
        is_patch = self._source.table is not None
        location = self._at.location.copy_merge_params(self._source.query)
        # What is put together or read again there is so before the answer comes.
        patience_s = self._source.result / (_SLOWEST_DISK if is_patch else _SLOWEST_CHECK)
        known = (409,) if is_patch else _LOST if start else ()
        expect = (201, 204, *known)
        answer = self._send("PUT", location, start, size, expect, patience_s=patience_s)
        if answer.status in _LOST:
            self._failed(None)
            self._resume()
            return None
        self._forget()
        if answer.status == 409:
            return False
        found = answer.headers.get("Docker-Content-Digest", self._source.digest)
        if found != self._source.digest:
            raise DigestMismatchError(
                f"blob pushed to {self._origin.host}", expected=self._source.digest, actual=found
            )
        return True

    def _send(
        self,
        method: str,
        location: httpx.URL,
        start: int,
        end: int,
        expect: tuple[int, ...],
        *,
        patience_s: float = 0.0,
    ) -> Answer:
        # A blob in one piece has no range; an empty range cannot be written.
        is_part = start < end and (method == "PATCH" or start > 0)
        headers = _chunk_headers if is_part else _body_headers
        body = _Body(self._origin, self._source, start, end, self._told)
        try:
            return _once(
                self._origin,
                method,
                location,
                expect=expect,
                headers=headers(start, end),
                content=body,
                patience_s=patience_s,
            )
        except RemoteFaultError:
            raise
        except StorageError:
            self._forget()  # it was refused, not lost
            raise

    def _failed(self, exc: httpx.TransportError | RemoteFaultError | None) -> None:
        """Wait before it goes on.

        Raises:
            TargetUnreachableError: The connection was lost too often.
            RemoteFaultError: The server broke down too often.
        """
        self._origin.check_cancelled()
        self._failures += 1
        pause = PATIENCE.pause_s(self._failures)
        if pause is None:
            if isinstance(exc, RemoteFaultError):
                raise exc
            if exc is not None:
                raise self._origin.unreachable(exc) from exc
            raise TargetUnreachableError(
                f"{self._origin.host} loses an upload again and again, the last time at "
                f"{self._at.start} of {self._source.size} bytes"
            )
        if self._failures > 1:  # the first is mostly a connection that was left open too long
            self._origin.wait(pause)

    def _resume(self) -> None:
        """Go on after a lost connection; with a new upload when the old one is lost too."""
        found = self._uploads.found(self._at.location, self._source.size)
        if found is None:
            self._begin()
        else:
            self._reached(found.location, found.start)

    def _begin(self) -> None:
        """Begin anew."""
        self._at = self._uploads.open()
        self._keep()

    def _is_there(self) -> bool:
        if not has_blob(self._origin, self._uploads.name, self._source.digest):
            return False
        self._told.to(self._source.payload)
        self._forget()
        return True

    def _reached(self, location: httpx.URL, start: int) -> None:
        self._at = _Opened(location, start, self._at.least)
        if start - self._furthest >= min(_WORTH, CHUNK):
            self._furthest, self._failures = start, 0
        self._keep()

    def _keep(self) -> None:
        if self._session is not None and self._source.table is None:
            self._session.keep(str(self._at.location))

    def _forget(self) -> None:
        if self._session is not None:
            self._session.forget()


class _Told:
    """How far progress was told that a blob is."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._at = 0

    def to(self, position: int) -> None:
        """So many bytes of it are there; fewer than before when they have to be sent again."""
        if position != self._at:
            _report(self._progress, position - self._at)
            self._at = position


@dataclass(frozen=True, slots=True)
class _Source:
    """What is sent: a blob, or a patch that makes it of others.

    Attributes:
        storage: Where the blob is.
        digest: Of the blob.
        ranges: The ranges of the blob that are sent.
        result: Bytes of the blob.
        head: Sent before them.
        table: Digest of the chunk table that a patch goes by; None for the blob itself.
    """

    storage: Storage
    digest: str
    ranges: tuple[Missing, ...]
    result: int
    head: bytes = b""
    table: str | None = None

    @classmethod
    def of_blob(cls, storage: Storage, digest: str) -> _Source:
        """The blob itself."""
        size = storage.size(digest)
        return cls(storage, digest, (Missing(0, size),), size)

    @classmethod
    def of_patch(cls, storage: Storage, digest: str, patch: Patch, table: str) -> _Source:
        """A patch that makes the blob."""
        size = storage.size(digest)
        return cls(storage, digest, patch.ranges, size, patch.head(), table)

    @property
    def payload(self) -> int:
        """How many bytes of the blob are sent."""
        return sum(length for _, length in self.ranges)

    @property
    def size(self) -> int:
        """How many bytes are sent."""
        return len(self.head) + self.payload

    @property
    def query(self) -> dict[str, str]:
        """Parameters of the request that ends the upload."""
        return {"digest": self.digest} | ({} if self.table is None else {"assemble": self.table})

    def payload_before(self, position: int) -> int:
        """How many bytes of the blob are among the first bytes that are sent."""
        return max(0, position - len(self.head))

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes that are sent, from ``start`` up to ``end``."""
        if start < len(self.head):
            yield self.head[start:end]
        at = len(self.head)
        with self.storage.open(self.digest) as file:
            for begin, length in self.ranges:
                skipped, stop = max(start - at, 0), min(end - at, length)
                if skipped < stop:
                    file.seek(begin + skipped)
                    yield from _read(file, stop - skipped, self.digest)
                at += length


def _read(file: BinaryIO, length: int, digest: str) -> Iterator[bytes]:
    while length > 0:
        piece = file.read(min(PIECE, length))
        if not piece:
            raise StorageError(f"blob {digest} is shorter than it was")
        yield piece
        length -= len(piece)


class _Body:
    """What a request sends, from the start each time that it is sent."""

    def __init__(self, origin: Origin, source: _Source, start: int, end: int, told: _Told) -> None:
        self._origin, self._source, self._told = origin, source, told
        self._start, self._end = start, end

    def __iter__(self) -> Iterator[bytes]:
        at = self._start
        self._told.to(self._source.payload_before(at))
        for piece in self._source.pieces(self._start, self._end):
            self._origin.check_cancelled()
            yield piece
            at += len(piece)
            self._told.to(self._source.payload_before(at))


def _has(answer: Answer) -> int | None:
    """How many bytes of an upload a server says that it has; None when it does not."""
    last = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", answer.headers.get("Range", ""))
    if last is None:
        return None
    # "0-0" says one byte or none; none is the one that happens.
    return int(last[1]) + 1 if last[1] != "0" else 0


def _wanted(answer: Answer, size: int) -> Patch | None:
    """The patch that a server asked for; None when it did not, or for one that cannot be."""
    try:
        ranges = [
            Missing(int(start), int(length)) for start, length in loads(answer.body)["missing"]
        ]
        patch = Patch(tuple(ranges))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, ManifestError):
        return None
    return patch if not ranges or sum(ranges[-1]) <= size else None


def _body_headers(start: int, end: int) -> dict[str, str]:
    return {"Content-Length": str(end - start), "Content-Type": "application/octet-stream"}


def _chunk_headers(start: int, end: int) -> dict[str, str]:
    return {**_body_headers(start, end), "Content-Range": f"{start}-{end - 1}"}


def _report(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)
