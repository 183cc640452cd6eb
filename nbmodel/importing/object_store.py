"""A model in an object store: S3 and its like, Google's, Azure's."""

from __future__ import annotations

from pathlib import Path

from nbmodel.core.address import STORES
from nbmodel.core.origin import Origin, without_credentials
from nbmodel.errors import InputError
from nbmodel.importing.base import (
    Fetched,
    Import,
    Importer,
    file_digest,
    name_from,
    safe_path,
    shown,
)
from nbmodel.importing.choice import chosen
from nbmodel.importing.download import safe_name
from nbmodel.importing.parts import part_file
from nbmodel.storage.base import translated
from nbmodel.storage.object_store import Bucket, Item, open_store


class ObjectStore(Importer):
    """``s3://BUCKET/KEY``, an object or all below it."""

    name = "object-store"
    form = "s3://BUCKET/KEY (gs://, az://)"

    def takes(self, uri: str) -> bool:
        """Whether it is of such a store."""
        scheme, found, _ = uri.partition("://")
        return bool(found) and scheme in STORES and scheme != "file"

    def fetch(self, uri: str, job: Import) -> Fetched:
        """The object, whose ETag is its revision; or those below the address."""
        above, _, last = uri.rstrip("/").rpartition("/")
        origin = Origin(self.name, without_credentials(uri))
        room = job.room("objects")
        if above.count("/") >= 2 and not uri.endswith("/"):
            bucket = open_store(above)
            item = bucket.find(last)
            if item is not None:
                return _single(bucket, item, room, origin, job)
        bucket = open_store(uri.rstrip("/"))
        items = {safe_path(one.key): one for one in bucket.items(at_most=100_000)}
        if not items:
            raise InputError(f"nothing is at {shown(uri)}")
        wanted = chosen({name: one.size for name, one in items.items()}, job, shown(uri))
        job.expect(sum(items[name].size for name in wanted))
        for name in wanted:
            job.note(name)
            _download(bucket, items[name], room / name, job)
        return Fetched(room, origin, name=name_from(last))


def _single(bucket: Bucket, item: Item, room: Path, origin: Origin, job: Import) -> Fetched:
    name = safe_name(item.key) or "model"
    job.check_size(item.size, name)
    job.expect(item.size)
    _download(bucket, item, room / name, job)
    digest = file_digest(room / name, job)
    revision = (item.etag or "").removeprefix("W/").strip('"')
    return Fetched(
        room / name, Origin(origin.kind, origin.uri, revision, digest), name=name_from(name)
    )


def _download(bucket: Bucket, item: Item, target: Path, job: Import) -> None:
    """Bring an object; what an earlier import brought of this state of it stays."""
    # Without an ETag nobody knows whether it is what it was.
    what = f"{bucket.url}\n{item.key}\n{item.etag}\n{item.size}" if item.etag else None
    with part_file(job.parts, what) as part:
        _append(bucket, item, part, job)
        with translated("keep what is imported"):
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)


def _append(bucket: Bucket, item: Item, part: Path, job: Import) -> None:
    with translated("keep what is imported"):
        file = part.open("ab", buffering=0)
    with file:
        have = file.tell()
        if have > item.size:
            file.truncate(0)
            have = 0
        job.progress(have)
        for piece in bucket.stream(item, start=have, cancelled=job.cancelled):
            with translated("keep what is imported"):
                file.write(piece)
            job.progress(len(piece))
