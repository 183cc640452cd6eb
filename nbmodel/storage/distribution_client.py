"""Client of the OCI distribution API: pushing to and pulling from runtimes and registries.

One client for both, because a runtime is a registry. Bytes go from and to files with
constant memory, and every blob that arrives is checked by its digest. Tokens are plain
bearer tokens; the token services of foreign registries are not spoken to.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import httpx

from nbmodel.core.chunks import Missing
from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.core.patch import Patch
from nbmodel.core.reference import check_name
from nbmodel.errors import ManifestError, StorageError
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.fetch import BlobSource, fetch_blob
from nbmodel.storage.manifests import blobs_of, chunked_blobs
from nbmodel.storage.origin import TIMEOUT, Origin
from nbmodel.storage.reading import manifest_path, read_manifest, read_tags

if TYPE_CHECKING:
    from typing_extensions import Self

PIECE = 1024 * 1024  # bytes read from a file and sent at a time
CHUNK = 32 * 1024 * 1024  # bytes of one request when a blob goes in several
CHUNKED_FROM = 2 * CHUNK  # smaller blobs go in one request, which every registry takes
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


class Distribution:
    """A registry or runtime that speaks the distribution API.

    Every method raises TargetUnreachableError when the other side does not answer,
    AuthenticationError when it refuses the token, and StorageError for anything else
    that it refuses, each with its address. A lost connection is tried once more. May be
    used by one thread at a time.

    Args:
        base_url: ``http[s]://host[:port]``, without ``/v2``.
        token: Bearer token, sent to that address only; None when it wants none.
        timeout: Seconds to wait for a connection and for each answer.
        transport: What carries requests; None for the network.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._origin = Origin(base_url, token=token, timeout=timeout, transport=transport)

    @property
    def host(self) -> str:
        """``host[:port]``, for messages."""
        return self._origin.host

    def close(self) -> None:
        """Close the connections."""
        self._origin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Ask whether it speaks the distribution API and takes the token."""
        self._request("GET", "v2/", expect=(200,))

    # Whole versions

    def push(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        tags: Sequence[str],
        progress: Progress | None = None,
    ) -> Pushed:
        """Push a version: the blobs that are not there yet, its manifest, its tags.

        Args:
            name: The repository.
            storage: Where the blobs are.
            digest: Of the manifest.
            tags: Tags to put on it, in that order: a reader that follows a movable tag
                finds the version's own ones set when they come first. Without any, the
                manifest is pushed by digest.
            progress: Called with the bytes just sent, or found to be there; with less than
                nothing when they have to be sent again.
        """
        raw = storage.read(digest, limit=MAX_MANIFEST)  # as stored: the digest is of these
        tables = {blob: entry.digest for blob, entry in chunked_blobs(raw).items()}
        pushed = Pushed(0, 0)
        # A table is there before the file that it is of, which then goes as a patch.
        for blob in sorted(blobs_of(raw), key=lambda blob: blob not in tables.values()):
            pushed += self.push_blob(name, storage, blob, table=tables.get(blob), progress=progress)
        for tag in tags or (digest,):
            self.push_manifest(name, tag, raw)
        return pushed

    def pull(
        self,
        name: str,
        reference: str,
        storage: Storage,
        *,
        progress: Progress | None = None,
    ) -> str:
        """Pull a version's blobs and manifest into a storage.

        Args:
            name: The repository.
            reference: A tag or digest.
            storage: What they are added to; blobs it has are not fetched.
            progress: Called with the bytes just received, or found to be there.

        Returns:
            Digest of the manifest.
        """
        raw = self.manifest(name, reference)
        for blob, size in blobs_of(raw).items():
            if storage.has(blob):
                _report(progress, size)
            else:
                self.pull_blob(name, storage, blob, size=size, progress=progress)
        return storage.add_bytes(raw)

    # Blobs

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether the repository has a blob."""
        answer = self._request("HEAD", self._blob(name, digest), expect=(200, 307, 404))
        return answer.status_code != 404

    def push_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        table: str | None = None,
        progress: Progress | None = None,
    ) -> Pushed:
        """Push a blob unless it is there, and say what that took.

        A large one goes in pieces, and after a lost connection from where the other side
        has it.

        Args:
            name: The repository.
            storage: Where the blob is.
            digest: Which one.
            table: Digest of its chunk table, which the repository has: only what the other
                side lacks is sent, where it can say so. None to send all of it.
            progress: Called with the bytes just sent, or found to be there; with less than
                nothing when they have to be sent again.
        """
        size = storage.size(digest)
        if self.has_blob(name, digest):
            _report(progress, size)
            return Pushed(0, size)
        whole = _Source.of_blob(name, storage, digest, progress)
        if table is None:
            self._upload(whole, self._open_upload(name))
            return Pushed(size, 0)
        location, patch = self._open_patch(name, digest, table, size)
        wasted = 0
        if patch is not None:
            source = _Source.of_patch(name, storage, digest, progress, patch, table)
            if self._upload(source, location):
                _report(progress, size - source.payload)
                return Pushed(source.size, 0, size - source.size)
            _report(progress, -source.payload)
            location, wasted = self._open_upload(name), source.size
        self._upload(whole, location)
        return Pushed(wasted + size, 0)

    def pull_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a blob into a storage, as ``fetch_blob`` does.

        Args:
            name: The repository.
            storage: What it is added to.
            digest: What the bytes must have.
            size: What their number must be.
            progress: Called with the bytes just received.

        Raises:
            BlobNotFoundError: The repository has no such blob.
            DigestMismatchError: What came is something else; nothing was added.
        """
        source = BlobSource(name, digest, size)
        fetch_blob(self._origin, source, storage, progress=progress)

    # Manifests and tags

    def manifest(self, name: str, reference: str) -> bytes:
        """The manifest that a tag or digest names.

        Raises:
            BlobNotFoundError: There is none.
            DigestMismatchError: Its bytes are not those of the digest asked for, or told.
        """
        return read_manifest(self._origin, name, reference).raw

    def push_manifest(self, name: str, reference: str, raw: bytes) -> str:
        """Push a manifest whose blobs are there, by tag or digest; its digest."""
        self._request(
            "PUT",
            manifest_path(name, reference),
            expect=(201,),
            headers={"Content-Type": MANIFEST_TYPE},
            content=raw,
        )
        return digest_of(raw)

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags of a repository, sorted; none when there is no such repository."""
        return read_tags(self._origin, name)

    def delete_tag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""
        answer = self._request("DELETE", manifest_path(name, tag), expect=(200, 202, 404))
        return answer.status_code != 404

    # Uploads in pieces

    def _upload(self, source: _Source, location: httpx.URL) -> bool:
        """Send all of it; False when it was a patch that could not be used."""
        start = 0
        if source.size >= CHUNKED_FROM:
            location, start = self._push_chunks(source, location)
        return self._finish(source, location, start)

    def _push_chunks(self, source: _Source, location: httpx.URL) -> tuple[httpx.URL, int]:
        """Send all but the last chunk; where to go on, and from which byte."""
        start, failures = 0, 0
        while source.size - start > CHUNK:
            end = start + CHUNK
            try:
                answer = self._once(
                    "PATCH",
                    location,
                    expect=(202,),
                    headers=_chunk_headers(start, end),
                    content=source.pieces(start, end),
                )
                location, start, failures = self._location(answer), end, 0
            except httpx.TransportError as exc:
                failures += 1
                if failures > 1:
                    raise self._origin.unreachable(exc) from exc
                location, start = self._resume(source.name, location)
        return location, start

    def _open_upload(self, name: str) -> httpx.URL:
        answer = self._request("POST", self._uploads(name), expect=(202,))
        return self._location(answer)

    def _open_patch(
        self, name: str, digest: str, table: str, size: int
    ) -> tuple[httpx.URL, Patch | None]:
        """An upload, and the patch that it wants; None when it wants the whole blob."""
        query = httpx.QueryParams({"assemble": digest, "chunks": table})
        try:
            answer = self._request("POST", f"{self._uploads(name)}?{query}", expect=(202,))
        except StorageError:
            return self._open_upload(name), None  # a registry that is strict about parameters
        patch = _wanted(answer, size)
        if patch is not None and patch.size > size * _WORTH_A_PATCH:
            patch = None
        return self._location(answer), patch

    def _resume(self, name: str, location: httpx.URL) -> tuple[httpx.URL, int]:
        """Where to go on after a lost connection; a new upload when the old one is lost too."""
        try:
            return self._upload_status(location)
        except StorageError:
            # Some registries sign what they have into the location, and the answer with
            # the signature for these bytes may be what was lost.
            return self._open_upload(name), 0

    def _upload_status(self, location: httpx.URL) -> tuple[httpx.URL, int]:
        answer = self._request("GET", location, expect=(202, 204))
        last = answer.headers.get("Range", "0-0").rpartition("-")[2]
        # "0-0" says one byte or none; none is the one that happens.
        start = int(last) + 1 if re.fullmatch("[0-9]{1,18}", last) and last != "0" else 0
        return self._location(answer, default=location), start

    def _finish(self, source: _Source, location: httpx.URL, start: int) -> bool:
        try:
            return self._put(source, location, start)
        except httpx.TransportError:
            # It may have arrived all the same, with only the answer lost.
            if self.has_blob(source.name, source.digest):
                return True
            try:
                return self._put(source, *self._resume(source.name, location))
            except httpx.TransportError as exc:
                raise self._origin.unreachable(exc) from exc

    def _put(self, source: _Source, location: httpx.URL, start: int) -> bool:
        # A blob in one piece has no range; an empty range cannot be written.
        headers = _chunk_headers if 0 < start < source.size else _body_headers
        answer = self._once(
            "PUT",
            location.copy_merge_params(source.query),
            expect=(201, 204) if source.table is None else (201, 204, 409),
            headers=headers(start, source.size),
            content=source.pieces(start, source.size),
            # What is put together there is read and written before the answer comes.
            patience_s=0.0 if source.table is None else source.result / _SLOWEST_DISK,
        )
        return answer.status_code != 409

    # Requests

    def _uploads(self, name: str) -> str:
        return f"v2/{check_name(name)}/blobs/uploads/"

    def _blob(self, name: str, digest: str) -> str:
        return f"v2/{check_name(name)}/blobs/{digest}"

    def _location(self, answer: httpx.Response, *, default: httpx.URL | None = None) -> httpx.URL:
        location = answer.headers.get("Location")
        if location is not None:
            return answer.request.url.join(location)
        if default is None:
            raise StorageError(f"{self.host} opened an upload without saying where")
        return default

    def _request(
        self,
        method: str,
        url: str | httpx.URL,
        *,
        expect: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        return self._origin.twice(
            lambda: self._once(method, url, expect=expect, headers=headers, content=content)
        )

    def _once(
        self,
        method: str,
        url: str | httpx.URL,
        *,
        expect: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterator[bytes] | None = None,
        patience_s: float = 0.0,
    ) -> httpx.Response:
        target = self._origin.base.join(url)
        timeout = self._origin.client.timeout
        if patience_s and timeout.read is not None:
            times = {**timeout.as_dict(), "read": timeout.read + patience_s}
            timeout = httpx.Timeout(**times)
        answer = self._origin.client.request(
            method,
            target,
            headers=self._origin.headers(target, headers),
            content=content,
            timeout=timeout,
        )
        if answer.status_code not in expect:
            what = f"{method} {answer.request.url.path}"
            raise self._origin.refused(answer.status_code, what, answer.content)
        return answer


@dataclass(frozen=True, slots=True)
class _Source:
    """What is sent to a repository: a blob, or a patch that makes it of others.

    Attributes:
        name: The repository.
        storage: Where the blob is.
        digest: Of the blob.
        progress: Told of the blob's bytes as they are sent.
        ranges: The ranges of the blob that are sent.
        result: Bytes of the blob.
        head: Sent before them.
        table: Digest of the chunk table that a patch goes by; None for the blob itself.
    """

    name: str
    storage: Storage
    digest: str
    progress: Progress | None
    ranges: tuple[Missing, ...]
    result: int
    head: bytes = b""
    table: str | None = None

    @classmethod
    def of_blob(
        cls, name: str, storage: Storage, digest: str, progress: Progress | None
    ) -> _Source:
        """The blob itself."""
        size = storage.size(digest)
        return cls(name, storage, digest, progress, (Missing(0, size),), size)

    @classmethod
    def of_patch(
        cls,
        name: str,
        storage: Storage,
        digest: str,
        progress: Progress | None,
        patch: Patch,
        table: str,
    ) -> _Source:
        """A patch that makes the blob."""
        size = storage.size(digest)
        return cls(name, storage, digest, progress, patch.ranges, size, patch.head(), table)

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
                    yield from self._read(file, stop - skipped)
                at += length

    def _read(self, file: BinaryIO, length: int) -> Iterator[bytes]:
        while length > 0:
            piece = file.read(min(PIECE, length))
            if not piece:
                raise StorageError(f"blob {self.digest} is shorter than it was")
            yield piece
            length -= len(piece)
            _report(self.progress, len(piece))


def _wanted(answer: httpx.Response, size: int) -> Patch | None:
    """The patch that a server asked for; None when it did not, or for one that cannot be."""
    try:
        ranges = [Missing(int(start), int(length)) for start, length in answer.json()["missing"]]
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
