"""Sending blobs to a server of the distribution API, whole or as patches, over lost connections.

A large blob goes in several requests, and after a lost connection from where the other side
has it. A blob whose chunk table the other side has goes as a patch of what it lacks, where
it can say what that is: see ``storage.distribution_server``.

Source: OCI distribution specification 1.1, "Pushing blobs".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from json import loads
from typing import BinaryIO

import httpx

from nbmodel.core.chunks import Missing
from nbmodel.core.patch import Patch
from nbmodel.core.reference import check_repository
from nbmodel.errors import ManifestError, StorageError
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.origin import Answer, Origin

PIECE = 1024 * 1024  # bytes read from a file and sent at a time
CHUNK = 32 * 1024 * 1024  # bytes of one request when a blob goes in several
CHUNKED_FROM = 2 * CHUNK  # smaller blobs go in one request, which every registry takes
_MAX_ANSWER = 64 * 1024 * 1024  # bytes; the most ranges that can be asked for take 30
_WORTH_A_PATCH = 0.9  # share of the blob; above it, putting it together costs more than it saves
_SLOWEST_DISK = 4e6  # bytes/s that a device puts a blob together with: a worn SD card


@dataclass(frozen=True, slots=True)
class Pushed:
    """What pushing a version moved.

    Attributes:
        sent: Bytes that went over the network for blobs.
        present: Bytes of blobs that were there already.
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

    Raises:
        BlobNotFoundError: The storage has no such blob.
        TargetUnreachableError: The connection was lost, and again.
        AuthenticationError: The server refuses the token, or wants one.
        StorageError: It refuses anything else.
    """
    size = storage.size(digest)
    if has_blob(origin, name, digest):
        _report(progress, size)
        return Pushed(0, size)
    sender = _Sender(origin, name)
    whole = _Source.of_blob(storage, digest, progress)
    if table is None:
        sender.send(whole, sender.open())
        return Pushed(size, 0)
    location, patch = sender.open_patch(digest, table, size)
    wasted = 0
    if patch is not None:
        source = _Source.of_patch(storage, digest, progress, patch, table)
        if sender.send(source, location):
            _report(progress, size - source.payload)
            return Pushed(source.size, 0, size - source.size)
        _report(progress, -source.payload)
        location, wasted = sender.open(), source.size
    sender.send(whole, location)
    return Pushed(wasted + size, 0)


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
) -> Answer:
    """The answer to a request that may be made twice; a lost connection is tried once more.

    Args:
        origin: The server.
        method: The HTTP method.
        url: Below the server's base, or a whole URL.
        expect: The statuses that are taken.
        headers: Added to the request.
        content: Its body.

    Raises:
        TargetUnreachableError: The connection was lost, and again.
        AuthenticationError: The server refuses the token, or wants one.
        StorageError: The status is any other.
    """
    return origin.twice(
        lambda: _once(origin, method, url, expect=expect, headers=headers, content=content)
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
) -> Answer:
    target = origin.base.join(url)
    timeout = origin.client.timeout
    if patience_s and timeout.read is not None:
        timeout = httpx.Timeout(**{**timeout.as_dict(), "read": timeout.read + patience_s})
    # Compressed, a short answer could be a long one.
    given = {**(headers or {}), "Accept-Encoding": "identity"}
    with closing(
        origin.send(method, target, headers=given, content=content, timeout=timeout)
    ) as stream:
        answer = origin.whole(stream, limit=_MAX_ANSWER)
    if answer.status not in expect:
        raise origin.refused(answer.status, f"{method} {answer.url.path}", answer.body)
    return answer


@dataclass(frozen=True, slots=True)
class _Sender:
    """Uploads to one repository of a server."""

    origin: Origin
    name: str

    def send(self, source: _Source, location: httpx.URL) -> bool:
        """Send all of it; False when it was a patch that could not be used."""
        start = 0
        if source.size >= CHUNKED_FROM:
            location, start = self._send_chunks(source, location)
        return self._finish(source, location, start)

    def _send_chunks(self, source: _Source, location: httpx.URL) -> tuple[httpx.URL, int]:
        """Send all but the last chunk; where to go on, and from which byte."""
        start, failures = 0, 0
        while source.size - start > CHUNK:
            end = start + CHUNK
            try:
                answer = _once(
                    self.origin,
                    "PATCH",
                    location,
                    expect=(202,),
                    headers=_chunk_headers(start, end),
                    content=_Body(source, start, end),
                )
                location, start, failures = self._location(answer), end, 0
            except httpx.TransportError as exc:
                failures += 1
                if failures > 1:
                    raise self.origin.unreachable(exc) from exc
                location, start = self._resume(location)
        return location, start

    def open(self) -> httpx.URL:
        """Where to send a blob."""
        return self._location(request(self.origin, "POST", self._uploads, expect=(202,)))

    def open_patch(self, digest: str, table: str, size: int) -> tuple[httpx.URL, Patch | None]:
        """Where to send a blob, and the patch that is wanted; None for the whole blob."""
        query = httpx.QueryParams({"assemble": digest, "chunks": table})
        try:
            answer = request(self.origin, "POST", f"{self._uploads}?{query}", expect=(202,))
        except StorageError:
            return self.open(), None  # a registry that is strict about parameters
        patch = _wanted(answer, size)
        if patch is not None and patch.size > size * _WORTH_A_PATCH:
            patch = None
        return self._location(answer), patch

    def _resume(self, location: httpx.URL) -> tuple[httpx.URL, int]:
        """Where to go on after a lost connection; a new upload when the old one is lost too."""
        try:
            return self._upload_status(location)
        except StorageError:
            # Some registries sign what they have into the location, and the answer with
            # the signature for these bytes may be what was lost.
            return self.open(), 0

    def _upload_status(self, location: httpx.URL) -> tuple[httpx.URL, int]:
        answer = request(self.origin, "GET", location, expect=(202, 204))
        last = answer.headers.get("Range", "0-0").rpartition("-")[2]
        # "0-0" says one byte or none; none is the one that happens.
        start = int(last) + 1 if re.fullmatch("[0-9]{1,18}", last) and last != "0" else 0
        return self._location(answer, default=location), start

    def _finish(self, source: _Source, location: httpx.URL, start: int) -> bool:
        try:
            return self._put(source, location, start)
        except httpx.TransportError:
            # It may have arrived all the same, with only the answer lost.
            if has_blob(self.origin, self.name, source.digest):
                return True
            try:
                return self._put(source, *self._resume(location))
            except httpx.TransportError as exc:
                raise self.origin.unreachable(exc) from exc

    def _put(self, source: _Source, location: httpx.URL, start: int) -> bool:
        # A blob in one piece has no range; an empty range cannot be written.
        headers = _chunk_headers if 0 < start < source.size else _body_headers
        answer = _once(
            self.origin,
            "PUT",
            location.copy_merge_params(source.query),
            expect=(201, 204) if source.table is None else (201, 204, 409),
            headers=headers(start, source.size),
            content=_Body(source, start, source.size),
            # What is put together there is read and written before the answer comes.
            patience_s=0.0 if source.table is None else source.result / _SLOWEST_DISK,
        )
        return answer.status != 409

    @property
    def _uploads(self) -> str:
        return f"v2/{check_repository(self.name)}/blobs/uploads/"

    def _location(self, answer: Answer, *, default: httpx.URL | None = None) -> httpx.URL:
        location = answer.headers.get("Location")
        if location is not None:
            return answer.join(location)
        if default is None:
            raise StorageError(f"{self.origin.host} opened an upload without saying where")
        return default


@dataclass(frozen=True, slots=True)
class _Source:
    """What is sent: a blob, or a patch that makes it of others.

    Attributes:
        storage: Where the blob is.
        digest: Of the blob.
        progress: Told of the blob's bytes as they are sent.
        ranges: The ranges of the blob that are sent.
        result: Bytes of the blob.
        head: Sent before them.
        table: Digest of the chunk table that a patch goes by; None for the blob itself.
    """

    storage: Storage
    digest: str
    progress: Progress | None
    ranges: tuple[Missing, ...]
    result: int
    head: bytes = b""
    table: str | None = None

    @classmethod
    def of_blob(cls, storage: Storage, digest: str, progress: Progress | None) -> _Source:
        """The blob itself."""
        size = storage.size(digest)
        return cls(storage, digest, progress, (Missing(0, size),), size)

    @classmethod
    def of_patch(
        cls,
        storage: Storage,
        digest: str,
        progress: Progress | None,
        patch: Patch,
        table: str,
    ) -> _Source:
        """A patch that makes the blob."""
        size = storage.size(digest)
        return cls(storage, digest, progress, patch.ranges, size, patch.head(), table)

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

    def pieces(self, start: int, end: int, report: Progress) -> Iterator[bytes]:
        """The bytes that are sent, from ``start`` up to ``end``; those of the blob are told."""
        if start < len(self.head):
            yield self.head[start:end]
        at = len(self.head)
        with self.storage.open(self.digest) as file:
            for begin, length in self.ranges:
                skipped, stop = max(start - at, 0), min(end - at, length)
                if skipped < stop:
                    file.seek(begin + skipped)
                    yield from _read(file, stop - skipped, self.digest, report)
                at += length


def _read(file: BinaryIO, length: int, digest: str, report: Progress) -> Iterator[bytes]:
    while length > 0:
        piece = file.read(min(PIECE, length))
        if not piece:
            raise StorageError(f"blob {digest} is shorter than it was")
        yield piece
        length -= len(piece)
        report(len(piece))


class _Body:
    """What a request sends, from the start each time that it is sent."""

    def __init__(self, source: _Source, start: int, end: int) -> None:
        self._source, self._start, self._end = source, start, end
        self._told = 0  # bytes that progress was told of

    def __iter__(self) -> Iterator[bytes]:
        if self._told:
            _report(self._source.progress, -self._told)
            self._told = 0
        yield from self._source.pieces(self._start, self._end, self._report)

    def _report(self, count: int) -> None:
        self._told += count
        _report(self._source.progress, count)


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
