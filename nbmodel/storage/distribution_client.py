"""Client of the OCI distribution API: pushing to and pulling from runtimes and registries.

One client for both, because a runtime is a registry. Bytes go from and to files with
constant memory, several blobs at a time, and every blob that arrives is checked by its digest.
What broke off is gone on with, by this process or the next one: partial blobs wait in the
storage that they come to, uploads at the registry, with their addresses in a folder here.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import httpx

from nbmodel.core.digest import digest_of, is_digest
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.storage.access import Access
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.fetch import BlobSource, fetch_blob
from nbmodel.storage.lanes import Lanes
from nbmodel.storage.manifests import blobs_of, chunked_blobs
from nbmodel.storage.origin import TIMEOUT, Origin
from nbmodel.storage.patience import Patience
from nbmodel.storage.places import WORTH, BlobPlaces
from nbmodel.storage.reading import manifest_path, read_manifest, read_repositories, read_tags
from nbmodel.storage.referrers import fetch_signatures, send_signatures
from nbmodel.storage.room import check_room
from nbmodel.storage.send import Pushed, has_blob, request, send_blob
from nbmodel.storage.sessions import UploadSessions

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Distribution", "Pushed"]

LANES = 4  # blobs at a time; each takes up to 10 MiB of memory
_FEW = 8  # blobs that are asked for one after the other, before another connection is worth it

_REDIRECTS = (301, 302, 303, 307, 308)


class Distribution:
    """A registry or runtime that speaks the distribution API.

    What its methods take and raise says ``RemoteRegistry``. A lost connection is tried again,
    and so is what it says will go later.

    Args:
        base_url: ``http[s]://host[:port]``, without ``/v2``.
        token: Bearer token, sent to that address only; None when it wants none.
        access: With what registries are entered, in the token's place; None for a runtime.
        timeout: Seconds to wait for a connection and for each answer.
        transport: What carries requests, one at a time; None for the network.
        cancelled: Asked before each request and while bytes move; once it says yes, whatever
            is under way raises CancelledError.
        sessions: Folder that remembers uploads that are not over and which repositories have
            what, for its owner alone; None: each begins anew.
        patience: How long it is waited for when it says that it may do better later.

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
        sessions: Path | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        def origin(beside: Origin | None = None) -> Origin:
            return Origin(
                base_url,
                token=token,
                access=access,
                timeout=timeout,
                transport=transport,
                cancelled=lambda: cancelled() or self._lanes.is_over(),
                patience=patience,
                beside=beside,
            )

        self._origin = origin()
        self._lanes = Lanes(
            self._origin, lambda: origin(self._origin), LANES if transport is None else 1
        )
        self._places = BlobPlaces(sessions, str(self._origin.base))
        self._sessions = None if sessions is None else UploadSessions(sessions)

    @property
    def host(self) -> str:
        """``host[:port]``, for messages."""
        return self._origin.host

    def close(self) -> None:
        """Close the connections."""
        self._lanes.close()
        self._origin.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Ask whether it speaks the distribution API and takes the token."""
        request(self._origin, "GET", "v2/", expect=(200,))

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
        """Push a version, several blobs at a time; ``progress`` is told by one thread at a time.

        Blobs that were pushed to, or seen in, another repository are taken from there without
        a byte being sent.
        """
        raw = storage.read(digest, limit=MAX_MANIFEST)  # as stored: the digest is of these
        tables = {blob: entry.digest for blob, entry in chunked_blobs(raw).items()}
        told = _one_at_a_time(progress)

        def is_there(origin: Origin, blob: str) -> bool:
            return has_blob(origin, name, blob)

        def send(origin: Origin, blob: str) -> Pushed:
            return send_blob(
                origin,
                name,
                storage,
                blob,
                table=tables.get(blob),
                progress=told,
                mount=self._places.find(blob),
                sessions=self._sessions,
            )

        # A table is there before the file that it is of, which then goes as a patch.
        needed = set(tables.values())
        blobs = list(blobs_of(raw))
        there = self._few(is_there, blobs)
        missing = [blob for blob, found in zip(blobs, there, strict=True) if not found]
        present = [blob for blob, found in zip(blobs, there, strict=True) if found]
        pushed = Pushed(0, sum(map(storage.size, present)))
        _report(progress, pushed.present)
        for group in (
            [blob for blob in missing if blob in needed],
            [blob for blob in missing if blob not in needed],
        ):
            pushed = sum(self._lanes.each(send, group), pushed)
        self._places.note((blob for blob in blobs if storage.size(blob) >= WORTH), name)
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
        """Pull a version, several blobs at a time; ``progress`` is told by one thread at a time."""
        raw = self.manifest(name, reference)
        self.pull_blobs(name, storage, blobs_of(raw), progress=progress)
        return storage.add_bytes(raw)

    # Signatures

    def push_signatures(
        self, name: str, storage: Storage, subject: str, digests: Collection[str]
    ) -> int:
        """Push signatures, as ``send_signatures`` does."""
        return send_signatures(self._origin, name, storage, subject, digests)

    def pull_signatures(
        self, name: str, subject: str, storage: Storage, *, known: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Pull signatures, as ``fetch_signatures`` does."""
        return fetch_signatures(self._origin, name, subject, storage, known=known)

    # Blobs

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether the repository has a blob."""
        return has_blob(self._origin, name, digest)

    def push_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        table: str | None = None,
        progress: Progress | None = None,
    ) -> Pushed:
        """Push a blob, a large one in pieces; after a cut, from where the other side has it."""
        return send_blob(
            self._origin,
            name,
            storage,
            digest,
            table=table,
            progress=progress,
            sessions=self._sessions,
        )

    def pull_blobs(
        self,
        name: str,
        storage: Storage,
        blobs: Mapping[str, int],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Fetch blobs, several at a time."""
        told = _one_at_a_time(progress)

        def fetch(origin: Origin, source: BlobSource) -> int:
            return fetch_blob(
                origin, source, storage, kept=True, waits=True, progress=told
            ).received

        missing = [blob for blob in blobs if not storage.keep(blob)]
        left = sum(blobs[blob] for blob in missing)
        coming = [BlobSource(name, blob, blobs[blob]) for blob in missing]
        check_room(storage, {source.upload: source.size for source in coming})
        _report(progress, sum(blobs.values()) - left)
        return sum(self._lanes.each(fetch, coming))

    def pull_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a blob, going on with what an earlier time left there."""
        source = BlobSource(name, digest, size)
        is_new = not storage.has(digest)  # else it is to come anew, whoever else brings it
        fetch_blob(self._origin, source, storage, kept=True, waits=is_new, progress=progress)

    # Manifests and tags

    def manifest(self, name: str, reference: str) -> bytes:
        """The manifest of a tag or digest, checked against the digest asked for, or told."""
        return read_manifest(self._origin, name, reference).raw

    def push_manifest(self, name: str, reference: str, raw: bytes) -> str:
        """Push a manifest whose blobs are there, by tag or digest; its digest."""
        request(
            self._origin,
            "PUT",
            manifest_path(name, reference),
            expect=(201,),
            headers={"Content-Type": MANIFEST_TYPE},
            content=raw,
        )
        return digest_of(raw)

    def move_tag(self, name: str, tag: str, raw: bytes, *, expected: str | None) -> bool:
        """Move a tag that was looked at just before: the API has no compare and set."""
        if self.digest(name, tag) not in (expected, digest_of(raw)):
            return False
        self.push_manifest(name, tag, raw)
        return True

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags of a repository, sorted; none when there is no such repository."""
        return read_tags(self._origin, name)

    def digest(self, name: str, tag: str) -> str | None:
        """The digest of the manifest that a tag is on; None when there is no such tag."""
        path = manifest_path(name, tag)
        expect = (200, 404, *_REDIRECTS)  # reading it follows, and forgets the token
        answer = request(
            self._origin, "HEAD", path, expect=expect, headers={"Accept": MANIFEST_TYPE}
        )
        if answer.status == 404:
            return None
        told = answer.headers.get("Docker-Content-Digest", "")
        return told if is_digest(told) else read_manifest(self._origin, name, tag).digest

    def repositories(self) -> tuple[str, ...] | None:
        """The repositories, sorted; None where the registry does not tell."""
        return read_repositories(self._origin)

    def delete_tag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""
        answer = request(self._origin, "DELETE", manifest_path(name, tag), expect=(200, 202, 404))
        return answer.status != 404

    def _few(self, action: Callable[[Origin, str], bool], blobs: Sequence[str]) -> list[bool]:
        """What a short question gives for each blob."""
        if len(blobs) > _FEW:
            return self._lanes.each(action, blobs)
        return [action(self._origin, blob) for blob in blobs]


def _one_at_a_time(progress: Progress | None) -> Progress | None:
    """For several threads."""
    if progress is None:
        return None
    told, lock = progress, Lock()

    def tell(count: int) -> None:
        with lock:
            told(count)

    return tell


def _report(progress: Progress | None, count: int) -> None:
    if progress is not None and count:
        progress(count)
