"""Fetching a blob: from where it broke off, only what is missing, and never on trust.

The bytes of a blob come in order, from the network and from blobs that are here already. A
server may lie about everything: what is written is never more than the blob's size, and it
counts only when its digest is right. One that does ranges badly costs savings, no more:
several ranges in one request fall back to one range each, and those to the whole.

Source: RFC 9110 §13.1.5 "If-Range", §14 "Range Requests"; OCI distribution specification
1.1 "Pulling blobs".
"""

from __future__ import annotations

import enum
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import httpx

from nbmodel.core.chunks import Local, Missing, Segment
from nbmodel.core.digest import check_digest, short_digest
from nbmodel.core.reference import check_repository
from nbmodel.errors import (
    DigestMismatchError,
    FormatError,
    ManifestError,
    StorageError,
    StorageUnavailableError,
    TargetUnreachableError,
)
from nbmodel.storage.base import BlobWriter, Storage
from nbmodel.storage.byteranges import ContentRange, Parts, boundary_of
from nbmodel.storage.copying import Progress
from nbmodel.storage.origin import Origin
from nbmodel.storage.room import room_told

#: Called with the number of bytes that just came from the network; may wait.
Pace: TypeAlias = Callable[[int], object]

UPLOAD_PREFIX = "fetch-"  # of the names of uploads that a later fetch goes on with
_PIECE = 1024 * 1024  # bytes read of a file at a time
_TELL_S = 0.2  # how long bytes are gathered at most before they are written and told of
_HUNG_S = 60.0  # without a byte of a blob from whoever fetches it: it may have been stopped
_STALL_S, _STALL_BYTES = 30.0, 30 * 1024  # less in that time is no connection
_WORTH = 64 * 1024  # bytes that make a lost connection worth to be gone on with at once
_MAX_RANGES = 64  # in one request: servers bound how long a head may be
_GAP = 128 * 1024  # bytes that are here, but cost less to fetch than a request of their own
_MAX_CHANGES = 2  # after so many other ETags of one blob they are not believed


@dataclass(frozen=True, slots=True)
class Fetched:
    """What fetching a blob took.

    Attributes:
        received: Bytes of it that came over the network.
        reused: Bytes of it that were in other blobs here.
    """

    received: int
    reused: int


@dataclass(frozen=True, slots=True)
class BlobSource:
    """A blob, and where its bytes are.

    Attributes:
        name: The repository that has it.
        digest: What its bytes must have.
        size: How many they are.
        segments: Where they are: in blobs here, or missing; they cover the blob in order.
            Empty: all are missing.

    Raises:
        ManifestError: ``name`` or ``digest`` is malformed, ``size`` is negative, or the
            segments are not the blob's.
    """

    name: str
    digest: str
    size: int
    segments: Sequence[Segment] = ()

    def __post_init__(self) -> None:
        check_digest(self.digest, "a blob")
        end = 0
        for segment in self.segments:
            end = segment.start + segment.length if segment.start == end else -1
        if self.size < 0 or (self.segments and end != self.size):
            raise ManifestError(f"blob {self.digest}: not its size, or not its segments")

    @property
    def path(self) -> str:
        """Where the registry has it."""
        return f"v2/{check_repository(self.name)}/blobs/{self.digest}"

    @property
    def upload(self) -> str:
        """The name under which a part of it waits for the rest."""
        return UPLOAD_PREFIX + self.digest.partition(":")[2][:48]


def fetch_blob(
    origin: Origin,
    source: BlobSource,
    storage: Storage,
    *,
    kept: bool = False,
    waits: bool = False,
    progress: Progress | None = None,
    reused: Progress | None = None,
    pace: Pace | None = None,
) -> Fetched:
    """Fetch a blob into a storage.

    A lost connection is gone on with at once where that seems worth it.

    Args:
        origin: The registry.
        source: Which blob.
        storage: What it is added to, and where its segments are.
        kept: Whether what came stays when this fails, for the next time; it is thrown
            away in any case when its digest turns out wrong.
        waits: Whether to wait while somebody else fetches the blob, for it to be there; no
            longer than it grows.
        progress: Called with the bytes just added, those of an earlier time first; with
            less than nothing when they are thrown away.
        reused: Called with those among them that did not go over the network.
        pace: Called with what just came from the network; makes it slower by waiting.

    Raises:
        BlobNotFoundError: The repository has no such blob.
        DigestMismatchError: What came is something else; nothing was added.
        TargetUnreachableError: The connection was lost, and again.
        AuthenticationError: The registry refuses the token, or wants one.
        StorageError: The registry answers anything else than the blob.
        StorageUnavailableError: The storage does not take it.
        CancelledError: The origin was told to stop.
    """
    told = _Told(progress, reused)
    fresh = False  # whether every byte was asked of the registry this time
    changes = 0
    whole = BlobSource(source.name, source.digest, source.size)
    while True:
        fetching = _Fetching(
            origin,
            whole if fresh else source,
            storage,
            told,
            pace,
            believes_etags=changes < _MAX_CHANGES,
        )
        received = _received_by(origin, source, storage, kept=kept, waits=waits)
        if received is None:
            told.appended(source.size)
            return Fetched(0, 0)
        with received as writer:
            begun = writer.offset
            if begun > source.size or (begun and fresh):
                writer.abort()
                continue
            told.appended(begun)
            fresh = fresh or not (begun or source.segments)
            try:
                with room_told(storage, lambda: source.size - writer.offset):
                    fetching.run(writer)
                    writer.commit(source.digest)
            except _ChangedError:
                changes += 1
                writer.abort()
            except DigestMismatchError as exc:
                # An older part, or the blobs here, may be what is damaged.
                if fresh:
                    told.back()
                    raise DigestMismatchError(
                        f"a file of {source.name} on {origin.host} is damaged there",
                        expected=exc.expected,
                        actual=exc.actual,
                        hint=f"whoever runs {origin.host} removes it there (`verify` and `delete`, "
                        "where nbmodel serves it); then push the version again",
                    ) from exc
                fresh = True
            else:
                return Fetched(source.size - begun - told.local, told.local)
        told.back()


def _received_by(
    origin: Origin, source: BlobSource, storage: Storage, *, kept: bool, waits: bool
) -> BlobWriter | None:
    """What takes the blob; None when somebody else has brought it meanwhile."""
    begun, since = -1, 0.0  # what somebody else has of it, and since when
    while True:
        try:
            writer = storage.receive(name=source.upload if kept else None)
        except StorageUnavailableError:
            raise
        except StorageError:
            if not waits:
                raise
            size, now = storage.begun(source.upload), time.monotonic()
            if size != begun:
                begun, since = size, now
            if now - since < _HUNG_S:
                origin.wait(_TELL_S)
                continue
            writer = storage.receive()
        if waits and storage.keep(source.digest):  # just now
            writer.abort()
            return None
        return writer


class _Told:
    """What was said of progress, so that it can be taken back."""

    def __init__(self, progress: Progress | None, reused: Progress | None) -> None:
        self._progress = progress
        self._reused = reused
        self._done = 0
        self.local = 0

    def appended(self, count: int) -> None:
        self._done += count
        if self._progress is not None and count:
            self._progress(count)

    def found(self, count: int) -> None:
        self.local += count
        if self._reused is not None and count:
            self._reused(count)

    def back(self) -> None:
        self.found(-self.local)
        self.appended(-self._done)


class _Ranges(enum.IntEnum):
    """What a server is believed to do."""

    NONE = 0  # it sends the whole
    ONE = 1  # one range in a request
    MANY = 2  # several


class _FewerRangesError(Exception):
    """The server does not do the ranges that it was asked for."""

    def __init__(self, ranges: _Ranges) -> None:
        super().__init__(ranges.name)
        self.ranges = ranges


class _ChangedError(Exception):
    """The blob has another ETag than before."""


class _LostError(Exception):
    """Bytes that should be in a blob here cannot be read."""

    def __init__(self, blob: str) -> None:
        super().__init__(blob)
        self.blob = blob


class _Fetching:
    """Brings the bytes of one blob, in order, into a writer."""

    def __init__(
        self,
        origin: Origin,
        source: BlobSource,
        storage: Storage,
        told: _Told,
        pace: Pace | None,
        *,
        believes_etags: bool,
    ) -> None:
        self._origin = origin
        self._source = source
        self._storage = storage
        self._told = told
        self._pace = pace
        self._segments = tuple(source.segments) or (Missing(0, source.size),)
        self._ranges = _Ranges.MANY
        self._etag: str | None = None
        self._believes_etags = believes_etags

    def run(self, writer: BlobWriter) -> None:
        """Append what is missing.

        Raises:
            _ChangedError: What the writer has is of another blob.
        """
        size, quiet = self._source.size, 0
        while writer.offset < size:
            before = writer.offset
            with closing(_Body(self._pieces(before))) as body:
                writer.fill(body, progress=self._told.appended)
            match body.error:
                case None:
                    continue  # a server that sent less is an error
                case _FewerRangesError() as error:
                    self._ranges = error.ranges
                case _LostError() as error:
                    self._segments = _without(self._segments, error.blob)
                case httpx.TransportError() as error:
                    quiet = 0 if writer.offset - before >= _WORTH else quiet + 1
                    self._origin.check_cancelled()
                    if quiet > 1 and writer.offset < size:
                        pause = self._origin.patience.pause_s(quiet - 1)
                        if pause is None:
                            raise self._broken(writer.offset, error) from error
                        self._origin.wait(pause)
                case error:
                    raise error

    def _broken(self, offset: int, error: httpx.TransportError) -> TargetUnreachableError:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return self._origin.unreachable(error)
        return TargetUnreachableError(
            f"{self._origin.host} broke off blob {short_digest(self._source.digest)} at "
            f"{offset} of {self._source.size} bytes: {str(error) or type(error).__name__}"
        )

    def _pieces(self, start: int) -> Generator[bytes, None, None]:
        """The bytes of the blob from ``start`` on."""
        rest = _after(self._segments, start)
        if self._ranges is _Ranges.MANY:
            return self._many(rest)
        if self._ranges is _Ranges.ONE:
            return self._each(_joined(rest))
        return self._whole(start)

    def _many(self, segments: Sequence[Segment]) -> Generator[bytes, None, None]:
        """Several missing ranges with each request."""
        rest = deque(segments)
        while rest:
            ranges = list(islice((one for one in rest if isinstance(one, Missing)), _MAX_RANGES))
            if len(ranges) < 2:
                yield from self._each(rest)
                return
            with self._answer(ranges) as answer:
                boundary = boundary_of(answer.headers.get("Content-Type"))
                if answer.status_code != 206 or boundary is None:
                    raise _FewerRangesError(_Ranges.ONE)
                pieces = self._received(answer)
                parts = Parts(pieces, boundary)
                while ranges:
                    segment = rest.popleft()
                    if isinstance(segment, Local):
                        yield from self._read(segment)
                        continue
                    ranges.pop(0)
                    yield from self._part(parts, segment)
                _finish(pieces)

    def _part(self, parts: Parts, wanted: Missing) -> Iterator[bytes]:
        try:
            if not self._is(parts.following(), wanted.start, wanted.start + wanted.length):
                raise _FewerRangesError(_Ranges.ONE)
            yield from parts.take(wanted.length)
        except FormatError as exc:
            raise _FewerRangesError(_Ranges.ONE) from exc

    def _each(self, segments: Sequence[Segment]) -> Generator[bytes, None, None]:
        """A request for each missing range."""
        for segment in segments:
            if isinstance(segment, Local):
                yield from self._read(segment)
                continue
            at, end = segment.start, segment.start + segment.length
            if (at, end) == (0, self._source.size):
                yield from self._whole(0)
                continue
            while at < end:
                with self._answer([Missing(at, end - at)]) as answer:
                    if answer.status_code == 200:
                        # All that is left, whatever of it is here: the server has no ranges.
                        self._ranges = _Ranges.NONE
                        yield from self._from(answer, at)
                        return
                    found = ContentRange.parse(answer.headers.get("Content-Range"))
                    if found is None or not self._is(found, at, min(end, found.end)):
                        raise _FewerRangesError(_Ranges.NONE)
                    if found.end < min(end, at + _WORTH):  # byte by byte it would take for ever
                        raise _FewerRangesError(_Ranges.NONE)
                    pieces = self._received(answer)
                    yield from _exactly(pieces, found.end - at)
                    _finish(pieces)
                    at = found.end

    def _whole(self, start: int) -> Generator[bytes, None, None]:
        """All bytes in one answer, those before ``start`` left out."""
        with self._answer([]) as answer:
            if answer.status_code != 200:
                raise StorageError(
                    f"{self._origin.host} answered {answer.status_code} to a request for a whole "
                    f"blob, expected 200"
                )
            yield from self._from(answer, start)

    def _from(self, answer: httpx.Response, start: int) -> Iterator[bytes]:
        """The bytes from ``start`` on, of an answer that has all."""
        skip, left = start, self._source.size - start
        pieces = self._received(answer)
        for piece in pieces:
            left -= max(0, len(piece) - skip)
            if left < 0:
                raise StorageError(
                    f"{self._origin.host} sent more than the {self._source.size} bytes of "
                    f"blob {self._source.digest}"
                )
            yield piece[skip:]
            skip = max(0, skip - len(piece))
        if left > 0:
            raise _truncated()

    @contextmanager
    def _answer(self, ranges: Sequence[Missing]) -> Iterator[httpx.Response]:
        headers = {}
        if ranges:
            headers["Range"] = "bytes=" + ",".join(self._range(one) for one in ranges)
            if self._etag is not None:
                headers["If-Range"] = self._etag
        with self._origin.stream(self._source.path, headers) as answer:
            status = answer.status_code
            if len(ranges) > 1 and status in (400, 413, 416, 431):
                raise _FewerRangesError(_Ranges.ONE)
            if ranges and status == 416:
                raise _FewerRangesError(_Ranges.NONE)
            if status not in (200, 206):
                raise self._origin.refused_stream(answer)
            encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                raise StorageError(
                    f"{self._origin.host} sent a blob with encoding {encoding!r}, expected none"
                )
            self._check_unchanged(answer.headers.get("ETag"))
            yield answer

    def _range(self, missing: Missing) -> str:
        end = missing.start + missing.length
        return f"{missing.start}-" + ("" if end == self._source.size else str(end - 1))

    def _check_unchanged(self, etag: str | None) -> None:
        if etag is None or etag.startswith("W/") or not self._believes_etags:
            return
        if self._etag not in (None, etag):
            raise _ChangedError
        self._etag = etag

    def _is(self, found: ContentRange | None, start: int, end: int) -> bool:
        total = self._source.size
        return found in ((start, end, total), (start, end, None))

    def _received(self, answer: httpx.Response) -> Iterator[bytes]:
        """The body of an answer as it comes; a line that hardly drips counts as lost."""
        pieces = answer.iter_raw()
        waited, count = 0.0, 0
        while True:
            before = time.monotonic()
            piece = next(pieces, None)
            waited += time.monotonic() - before
            if piece is None:
                return
            self._origin.check_cancelled()
            if self._pace is not None:
                self._pace(len(piece))
            yield piece
            count += len(piece)
            if waited > _STALL_S:
                if count < _STALL_BYTES:
                    raise httpx.ReadTimeout(f"{count} bytes in {waited:.0f} s")
                waited, count = 0.0, 0

    def _read(self, segment: Local) -> Iterator[bytes]:
        """Bytes that a blob here has."""
        left = segment.length
        try:
            with self._storage.open(segment.blob) as file:
                file.seek(segment.offset)
                while left:
                    self._origin.check_cancelled()
                    piece = file.read(min(left, _PIECE))
                    if not piece:
                        raise _LostError(segment.blob)
                    left -= len(piece)
                    self._told.found(len(piece))
                    yield piece
        except (OSError, StorageError) as exc:
            raise _LostError(segment.blob) from exc


class _Body:
    """Pieces of bytes as a file to read from.

    It ends at an error, which is in ``error``: what came before is not lost, and its hash
    goes on.
    """

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self.error: Exception | None = None
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readinto(self, buffer: bytearray) -> int:
        view, count = memoryview(buffer), 0
        began = time.monotonic()
        while count < len(view) and self.error is None:
            if not self._rest:
                self._advance()
                if not self._rest:
                    break
            piece = self._rest[: len(view) - count]
            view[count : count + len(piece)] = piece
            self._rest = self._rest[len(piece) :]
            count += len(piece)
            if time.monotonic() - began > _TELL_S:
                break
        return count

    def close(self) -> None:
        with suppress(httpx.HTTPError):
            self._pieces.close()

    def _advance(self) -> None:
        try:
            for piece in self._pieces:
                if piece:
                    self._rest = memoryview(piece)
                    return
        except Exception as exc:  # noqa: BLE001 - whoever reads looks at it
            self.error = exc


def _after(segments: Sequence[Segment], start: int) -> tuple[Segment, ...]:
    """The segments from ``start`` on, the first one cut where that is inside it."""
    rest: list[Segment] = []
    for segment in segments:
        skip = max(0, start - segment.start)
        if skip >= segment.length:
            continue
        cut = segment._replace(start=segment.start + skip, length=segment.length - skip)
        rest.append(cut._replace(offset=cut.offset + skip) if isinstance(cut, Local) else cut)
    return tuple(rest)


def _joined(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments with missing ranges joined across what is not worth a request."""
    joined: list[Segment] = []
    for segment in segments:
        if isinstance(segment, Missing) and len(joined) > 1:
            gap, before = joined[-1], joined[-2]
            if isinstance(before, Missing) and isinstance(gap, Local) and gap.length <= _GAP:
                end = segment.start + segment.length
                joined[-2:] = [Missing(before.start, end - before.start)]
                continue
        joined.append(segment)
    return tuple(joined)


def _without(segments: Sequence[Segment], blob: str) -> tuple[Segment, ...]:
    """The segments with everything missing that a blob should have."""
    return tuple(
        Missing(one.start, one.length) if isinstance(one, Local) and one.blob == blob else one
        for one in segments
    )


def _exactly(pieces: Iterator[bytes], length: int) -> Iterator[bytes]:
    """The first bytes of an answer; the rest is left."""
    for piece in pieces:
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return
    raise _truncated()


def _finish(pieces: Iterator[bytes]) -> None:
    """Read the end of an answer, so that its connection can be used again."""
    with suppress(httpx.TransportError):
        deque(islice(pieces, 4), maxlen=0)  # more would be nothing that was asked for


def _truncated() -> httpx.RemoteProtocolError:
    return httpx.RemoteProtocolError("the answer ended before")
