"""A model in an object store: S3 and its like, Google's, Azure's."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from nbmodel.core.address import STORES
from nbmodel.core.origin import Origin, without_credentials
from nbmodel.errors import DigestMismatchError, InputError
from nbmodel.importing.base import Fetched, Importer, Job, file_digest, name_from, safe_path, shown
from nbmodel.importing.choice import chosen
from nbmodel.importing.download import plain_name, sweep
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

    def fetch(self, uri: str, job: Job) -> Fetched:
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
        if job.sha256 is not None:
            raise InputError(f"{shown(uri)} is a folder: --sha256 is about a single file")
        wanted = chosen({name: one.size for name, one in items.items()}, job, shown(uri))
        for name in wanted:
            job.note(name)
            _download(bucket, items[name], room / name, job)
        return Fetched(room, origin, name=name_from(last))


def _single(bucket: Bucket, item: Item, room: Path, origin: Origin, job: Job) -> Fetched:
    name = plain_name(item.key) or "model"
    job.check_size(item.size, name)
    _download(bucket, item, room / name, job)
    digest = file_digest(room / name, job)
    if job.sha256 is not None and digest != f"sha256:{job.sha256}":
        raise DigestMismatchError(name, expected=f"sha256:{job.sha256}", actual=digest)
    revision = (item.etag or "").removeprefix("W/").strip('"')
    return Fetched(
        room / name, Origin(origin.kind, origin.uri, revision, digest), name=name_from(name)
    )


def _download(bucket: Bucket, item: Item, target: Path, job: Job) -> None:
    """Bring an object; what an earlier import brought of this state of it stays."""
    key = hashlib.sha256(f"{bucket.url}\n{item.key}\n{item.etag}\n{item.size}".encode()).hexdigest()
    part = job.parts / f"{key[:32]}.part"
    with translated("keep what is imported"):
        job.parts.mkdir(parents=True, exist_ok=True)
        sweep(job.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        have = 0
        with suppress(FileNotFoundError):
            have = part.stat().st_size if item.etag else 0
        file = part.open("ab" if have else "wb", buffering=0)
    with file:
        job.progress(have)
        for piece in bucket.stream(item, start=min(have, item.size), cancelled=job.cancelled):
            with translated("keep what is imported"):
                file.write(piece)
            job.progress(len(piece))
    with translated("keep what is imported"):
        if part.stat().st_size != item.size:
            part.unlink()
            raise InputError(
                f"{item.key}: what was left of an earlier import did not fit; try again"
            )
        part.replace(target)
