"""A version on its way to this device: what is missing of it, and bringing that here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nbmodel.core.chunks import Segment, segments
from nbmodel.core.manifest import MAX_CONFIG, MAX_MANIFEST
from nbmodel.errors import DigestMismatchError, FormatError, ManifestError, StorageError
from nbmodel.runtime.upstream import Named
from nbmodel.storage.assembly import chunk_index, read_table
from nbmodel.storage.base import Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.fetch import UPLOAD_PREFIX, BlobSource, Fetched, Pace, fetch_blob
from nbmodel.storage.manifests import blobs_of, chunked_blobs, parse_manifest
from nbmodel.storage.origin import Origin

_BLOCK = 4096  # bytes that a file system gives at a time


class Arrival:
    """A version that a registry names, and what of it is here.

    Args:
        named: The version.
        storage: Where it goes.

    Raises:
        ManifestError: It is no manifest, or its config is too large.
    """

    def __init__(self, named: Named, storage: Storage) -> None:
        self.named = named
        self._storage = storage
        #: Digest → size in bytes of all its blobs, the config first.
        self.blobs: Mapping[str, int] = blobs_of(named.raw)
        self._tables = chunked_blobs(named.raw)
        config, size = next(iter(self.blobs.items()))
        if size > MAX_CONFIG:
            raise ManifestError(f"config {config} of {size} bytes, expected at most {MAX_CONFIG}")

    @property
    def size(self) -> int:
        """Bytes of all its blobs."""
        return sum(self.blobs.values())

    def missing(self) -> dict[str, int]:
        """Digest → size in bytes of the blobs that are not here; small ones first."""
        missing = {
            one: size for one, size in self.blobs.items() if not _has(self._storage, one, size)
        }
        # Config and chunk tables are looked into before anything large is fetched.
        first = {next(iter(self.blobs)), *(table.digest for table in self._tables.values())}
        return dict(sorted(missing.items(), key=lambda item: item[0] not in first))

    def hold(self) -> None:
        """Have its blobs count as just written, so that a collector leaves them."""
        for digest in self.blobs:
            self._storage.keep(digest)

    def needed(self, missing: Mapping[str, int]) -> int:
        """Bytes of disk that fetching takes; what came another time is there already."""
        sizes = missing.items()
        parts = self._parts()
        return sum(max(0, size - parts.get(self._upload(one), 0)) + _BLOCK for one, size in sizes)

    def begun(self, missing: Mapping[str, int]) -> int:
        """Bytes of missing blobs that came another time, and are gone on with."""
        parts = self._parts()
        return sum(min(size, parts.get(self._upload(one), 0)) for one, size in missing.items())

    def _parts(self) -> dict[str, int]:
        """Unfinished uploads of fetched blobs, and how many bytes each has."""
        return {
            name: length
            for name, length in self._storage.abandoned(float("inf"))
            if name.startswith(UPLOAD_PREFIX)
        }

    def _upload(self, digest: str) -> str:
        return self._source(digest, self.blobs[digest]).upload

    def uploads(self) -> set[str]:
        """Names of the uploads that fetching it goes on with."""
        return {self._source(digest, size).upload for digest, size in self.blobs.items()}

    def fetch(
        self,
        origin: Origin,
        digest: str,
        *,
        neighbours: Collection[str],
        progress: Progress,
        reused: Progress,
        pace: Pace,
    ) -> Fetched:
        """Fetch one of its blobs, or what is missing of it.

        Args:
            origin: The registry.
            digest: Which blob; its chunk table, if it has one, is here.
            neighbours: Manifests whose files may have some of its bytes.
            progress: As for ``fetch_blob``.
            reused: As for ``fetch_blob``.
            pace: As for ``fetch_blob``.

        Raises:
            NbModelError: As ``fetch_blob`` does.
        """
        source = self._source(digest, self.blobs[digest], self._segments(digest, neighbours))
        return fetch_blob(
            origin, source, self._storage, kept=True, progress=progress, reused=reused, pace=pace
        )

    def check(self) -> str:
        """When it was made, UTC, ISO 8601; its config must be here.

        Raises:
            ManifestError: It is not a version of a model.
            SignatureError: Its signature has tensors that cannot be.
        """
        try:
            return parse_manifest(self._storage, self.named.raw).created
        except DigestMismatchError:
            self._storage.delete(next(iter(self.blobs)))  # damaged here; to be fetched anew
            raise

    def _source(self, digest: str, size: int, known: Iterable[Segment] = ()) -> BlobSource:
        return BlobSource(self.named.place, digest, size, tuple(known))

    def _segments(self, digest: str, neighbours: Collection[str]) -> tuple[Segment, ...]:
        """Where the bytes of a blob are; nothing when there is no telling."""
        entry = self._tables.get(digest)
        if entry is None or not neighbours:
            return ()
        try:
            table = read_table(self._storage, entry.digest, self.blobs[digest])
        except (FormatError, StorageError):
            return ()  # a table only ever saves bytes
        wanted = {chunk for _, chunk in table.chunks}
        return segments(table, chunk_index(self._storage, neighbours, wanted))


def is_here(storage: Storage, digest: str) -> bool:
    """Whether a version is here as a whole.

    Raises:
        StorageUnavailableError: The storage cannot be read.
    """
    try:
        blobs = blobs_of(storage.read(digest, limit=MAX_MANIFEST))
    except (FormatError, StorageError):
        return False
    return all(_has(storage, blob, size) for blob, size in blobs.items())


def _has(storage: Storage, digest: str, size: int) -> bool:
    """Whether a blob is here; one of another size is damaged, or promised wrongly."""
    return storage.has(digest) and storage.size(digest) == size
