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
from typing import TYPE_CHECKING

import httpx

from nbmodel.core.digest import digest_of
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.core.reference import check_name
from nbmodel.errors import (
    StorageError,
)
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.fetch import BlobSource, fetch_blob
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.origin import TIMEOUT, Origin
from nbmodel.storage.reading import manifest_path, read_manifest, read_tags

if TYPE_CHECKING:
    from typing_extensions import Self

PIECE = 1024 * 1024  # bytes read from a file and sent at a time
CHUNK = 32 * 1024 * 1024  # bytes of one request when a blob goes in several
CHUNKED_FROM = 2 * CHUNK  # smaller blobs go in one request, which every registry takes


@dataclass(frozen=True, slots=True)
class Pushed:
    """What pushing a version moved.

    Attributes:
        sent: Bytes of blobs that went over the network.
        present: Bytes of blobs that were there already.
    """

    sent: int
    present: int


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
            progress: Called with the bytes just sent, or found to be there.
        """
        raw = storage.read(digest, limit=MAX_MANIFEST)  # as stored: the digest is of these
        sent = present = 0
        for blob, size in blobs_of(raw).items():
            if self.push_blob(name, storage, blob, progress=progress):
                sent += size
            else:
                present += size
        for tag in tags or (digest,):
            self.push_manifest(name, tag, raw)
        return Pushed(sent, present)

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
        self, name: str, storage: Storage, digest: str, *, progress: Progress | None = None
    ) -> bool:
        """Push a blob unless it is there; whether it was sent.

        A large one goes in chunks, and after a lost connection from where the other side
        has it.
        """
        size = storage.size(digest)
        if self.has_blob(name, digest):
            _report(progress, size)
            return False
        source = _Source(name, storage, digest, size, progress)
        location, start = self._open_upload(name), 0
        if size >= CHUNKED_FROM:
            location, start = self._push_chunks(source, location)
        self._finish(source, location, start)
        return True

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
        answer = self._request("POST", f"v2/{check_name(name)}/blobs/uploads/", expect=(202,))
        return self._location(answer)

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

    def _finish(self, source: _Source, location: httpx.URL, start: int) -> None:
        try:
            self._put(source, location, start)
        except httpx.TransportError:
            # It may have arrived all the same, with only the answer lost.
            if self.has_blob(source.name, source.digest):
                return
            try:
                self._put(source, *self._resume(source.name, location))
            except httpx.TransportError as exc:
                raise self._origin.unreachable(exc) from exc

    def _put(self, source: _Source, location: httpx.URL, start: int) -> None:
        # A blob in one piece has no range; an empty range cannot be written.
        headers = _chunk_headers if 0 < start < source.size else _body_headers
        self._once(
            "PUT",
            location.copy_merge_params({"digest": source.digest}),
            expect=(201, 204),
            headers=headers(start, source.size),
            content=source.pieces(start, source.size),
        )

    # Requests

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
    ) -> httpx.Response:
        target = self._origin.base.join(url)
        answer = self._origin.client.request(
            method, target, headers=self._origin.headers(target, headers), content=content
        )
        if answer.status_code not in expect:
            what = f"{method} {answer.request.url.path}"
            raise self._origin.refused(answer.status_code, what, answer.content)
        return answer


@dataclass(frozen=True, slots=True)
class _Source:
    """A blob to be sent to a repository."""

    name: str
    storage: Storage
    digest: str
    size: int
    progress: Progress | None

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``end``."""
        with self.storage.open(self.digest) as file:
            file.seek(start)
            while start < end:
                piece = file.read(min(PIECE, end - start))
                if not piece:
                    raise StorageError(f"blob {self.digest} is shorter than it was")
                yield piece
                start += len(piece)
                _report(self.progress, len(piece))


def _body_headers(start: int, end: int) -> dict[str, str]:
    return {"Content-Length": str(end - start), "Content-Type": "application/octet-stream"}


def _chunk_headers(start: int, end: int) -> dict[str, str]:
    return {**_body_headers(start, end), "Content-Range": f"{start}-{end - 1}"}


def _report(progress: Progress | None, count: int) -> None:
    if progress is not None:
        progress(count)
