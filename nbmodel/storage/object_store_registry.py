"""A registry without a server: the objects of an S3-compatible store, or files of a folder.

::

    oci-layout                             {"imageLayoutVersion": "1.0.0"}
    index.json                             the tags that people use, for other OCI tools
    blobs/sha256/<hex>                     blobs and manifests, each once
    repositories/<name>/_tags/<tag>        a tag: the OCI descriptor of its manifest
    repositories/<name>/_referrers/<hex of the subject>/<hex>    what refers to a manifest
    writers/<id>, collectors/<id>          who is at work, see ``object_store_presence``

It is an OCI image layout: what copies the objects into a folder, or mounts them, can use it
with ``skopeo`` and its like as ``oci:<folder>:<name>:<tag>``. The objects of tags are what
counts; ``index.json`` follows them, without claims of numbers and stamps, and where a store
cannot write over one state only it may lack a tag that was set at the same time as another.

Two writers never lose a blob or a claim to each other: a blob's name is its digest, and a
claim's tag is one writer's alone. Nor do they lose one to a collector of garbage.

A blob is sent whole, also where another version differs little. A store puts nothing together
that it has: its only way is a copy of parts, of at least 5 MiB each but the last, where chunks
have 32 KiB, by requests that obstore does not have. Packed blobs, as on a local disk, would be
nothing that another tool could read.

Source: OCI image specification 1.1, "Image Layout", "Descriptors".
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from nbmodel.core.artifact import INDEX_TYPE
from nbmodel.core.claim import Claim
from nbmodel.core.digest import check_digest, digest_of, is_digest
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST, read_object
from nbmodel.core.reference import Reference, check_repository
from nbmodel.core.referrer import MAX_BUNDLE, MAX_REFERRERS, read_signature_manifest
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    FormatError,
    NbModelError,
    RefError,
    StorageError,
)
from nbmodel.storage.base import BlobWriter, Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.fetch import UPLOAD_PREFIX
from nbmodel.storage.manifests import blobs_of
from nbmodel.storage.object_store import Bucket, Item
from nbmodel.storage.object_store_garbage import Garbage, collect_garbage
from nbmodel.storage.object_store_presence import WRITERS, Presence, begin_to_write
from nbmodel.storage.room import check_room, room_told
from nbmodel.storage.send import Pushed
from nbmodel.storage.tags import check_tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_log = logging.getLogger(__name__)

_LAYOUT = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
_REF_NAME = "org.opencontainers.image.ref.name"
_PIECE = 1024 * 1024  # bytes read of a file at a time
_SMALL = 8 * 1024 * 1024  # bytes; a blob up to this goes in one request
_MAX_DESCRIPTOR = 64 * 1024  # bytes
_MAX_INDEX = 16 * 1024 * 1024  # bytes; some 60,000 tags
_MAX_TAGS = 100_000
_ATTEMPTS, _PAUSE_S = 12, 0.02  # to write what others write at the same time


class ObjectStoreRegistry:
    """Repositories in an object store; what its methods take and raise says ``RemoteRegistry``.

    Args:
        bucket: Where they are.
        cancelled: Asked while bytes move.
    """

    def __init__(self, bucket: Bucket, *, cancelled: Callable[[], bool] = lambda: False) -> None:
        self._bucket = bucket
        self._cancelled = cancelled
        self._presence = Presence(bucket, WRITERS)

    @property
    def host(self) -> str:
        """The address, for messages."""
        return self._bucket.url

    def close(self) -> None:
        """Be no writer any more; nothing stays open."""
        self._presence.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self) -> None:
        """Ask whether the store is there and takes the credential."""
        self._bucket.find("oci-layout")

    def collect(self, *, grace_s: float, dry_run: bool = False) -> Garbage:
        """Delete what no manifest refers to, unless somebody pushes."""
        self._presence.end()
        return collect_garbage(
            self._bucket, grace_s=grace_s, dry_run=dry_run, cancelled=self._cancelled
        )

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
        """Push a version, one blob after the other."""
        raw = storage.read(digest, limit=MAX_MANIFEST)
        pushed = Pushed(0, 0)
        for blob in blobs_of(raw):
            pushed += self.push_blob(name, storage, blob, progress=progress)
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
        """Pull a version, one blob after the other."""
        raw = self.manifest(name, reference)
        self.pull_blobs(name, storage, blobs_of(raw), progress=progress)
        return storage.add_bytes(raw)

    # Signatures

    def push_signatures(
        self, name: str, storage: Storage, subject: str, digests: Collection[str]
    ) -> int:
        """Push signatures, each as an object beside the version, which need not be there yet."""
        self._write()
        there = set(self._referrers(name, subject))
        missing = [digest for digest in digests if digest not in there]
        for digest in missing:
            raw = storage.read(digest, limit=MAX_MANIFEST)
            for blob in read_signature_manifest(raw, subject=subject):
                self.push_blob(name, storage, blob)
            key = _referrer_folder(name, subject) + _hex(digest)
            self._bucket.put(key, json.dumps(self._keep(raw)).encode())
        return len(missing)

    def pull_signatures(
        self, name: str, subject: str, storage: Storage, *, known: Collection[str] = ()
    ) -> tuple[str, ...]:
        """Pull signatures; what is no signature is left."""
        came: list[str] = []
        for digest in self._referrers(name, subject):
            if digest in known:
                continue
            if len(came) == MAX_REFERRERS:
                break
            try:
                self._pull_signature(name, subject, digest, storage)
            except (FormatError, BlobNotFoundError, DigestMismatchError) as exc:
                # Anybody who may write there can list anything: it must not stop the rest.
                _log.warning("a signature of %s in %s is left out: %s", subject, self.host, exc)
                continue
            came.append(digest)
        return tuple(came)

    # Blobs

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether there is a blob; it is there for all repositories."""
        check_repository(name)
        return self._bucket.find(_blob_key(digest)) is not None

    def push_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        table: str | None = None,  # noqa: ARG002 - a store puts nothing together
        progress: Progress | None = None,
    ) -> Pushed:
        """Push all of a blob, ``table`` or not; a damaged one never arrives."""
        check_repository(name)
        self._write()
        key, size = _blob_key(digest), storage.size(digest)
        there = self._bucket.find(key)
        if there is not None and there.size == size:
            _report(progress, size)
            return Pushed(0, size)
        if size <= _SMALL:
            self._bucket.put(key, storage.read(digest, limit=size))
            _report(progress, size)
        else:
            self._upload(key, storage, digest, progress)
        return Pushed(size, 0)

    def pull_blobs(
        self,
        name: str,
        storage: Storage,
        blobs: Mapping[str, int],
        *,
        progress: Progress | None = None,
    ) -> int:
        """Fetch blobs, one after the other."""
        missing = {blob: size for blob, size in blobs.items() if not storage.keep(blob)}
        came = sum(missing.values())
        check_room(storage, {_upload_of(blob): size for blob, size in missing.items()})
        _report(progress, sum(blobs.values()) - came)
        for blob, size in missing.items():
            self.pull_blob(name, storage, blob, size=size, progress=progress)
        return came

    def pull_blob(
        self,
        name: str,
        storage: Storage,
        digest: str,
        *,
        size: int,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a blob; what came before a cut is gone on with."""
        check_repository(name)
        item = self._bucket.find(_blob_key(digest))
        if item is None:
            raise BlobNotFoundError(f"{self.host} has no blob {digest}")
        if item.size != size:
            raise StorageError(
                f"{self.host} has {item.size} bytes as blob {digest}, expected {size}"
            )
        if not self._fetch(item, storage, digest, progress, resumed=True):
            self._fetch(item, storage, digest, progress, resumed=False)

    # Manifests and tags

    def manifest(self, name: str, reference: str) -> bytes:
        """The manifest of a tag or digest, whose bytes are checked here."""
        check_repository(name)
        digest = reference if is_digest(reference) else self._tagged(name, reference)
        _, raw = self._bucket.read(_blob_key(digest), limit=MAX_MANIFEST)
        actual = digest_of(raw)
        if actual != digest:
            what = f"manifest {name}:{reference} from {self.host}"
            raise DigestMismatchError(what, expected=digest, actual=actual)
        return raw

    def push_manifest(self, name: str, reference: str, raw: bytes) -> str:
        """Push a manifest; ``index.json`` follows its tag."""
        self._write()
        if not is_digest(reference):
            key = _tag_key(name, reference)
            descriptor = self._keep(raw)
            self._bucket.put(key, json.dumps(descriptor).encode())
            self._list(name, reference, descriptor)
        elif reference != digest_of(raw):
            raise DigestMismatchError("manifest", expected=reference, actual=digest_of(raw))
        else:
            self._keep(raw)
        return digest_of(raw)

    def move_tag(self, name: str, tag: str, raw: bytes, *, expected: str | None) -> bool:
        """Move a tag in one step with the look at it, except where a store cannot do that.

        A folder cannot when the tag is not new: there it is looked at just before.
        """
        key = _tag_key(name, tag)
        self._write()
        item, found = self._read_tag(name, tag)
        if found == digest_of(raw):
            return True
        if found != expected:
            return False
        descriptor = self._keep(raw)
        data = json.dumps(descriptor).encode()
        try:
            done = self._bucket.put(key, data, over=item, new=item is None)
        except NotImplementedError:
            done = self._bucket.put(key, data)
        if done:
            self._list(name, tag, descriptor)
        return done

    def tags(self, name: str) -> tuple[str, ...]:
        """The tags of a repository, sorted; none when there is no such repository."""
        folder = _tag_folder(name)
        found = (
            item.key.removeprefix(folder)
            for item in self._bucket.items(folder, at_most=_MAX_TAGS)
            if item.key.startswith(folder)
        )
        return tuple(sorted(tag for tag in found if _is_tag(tag)))

    def digest(self, name: str, tag: str) -> str | None:
        """The digest of the manifest that a tag is on; None when there is no such tag."""
        return self._read_tag(name, tag)[1]

    def repositories(self) -> tuple[str, ...]:
        """The repositories that have tags, sorted."""
        found = set()
        for item in self._bucket.items("repositories/"):
            name, tags, _ = item.key.removeprefix("repositories/").partition("/_tags/")
            if tags and _is_repository(name):
                found.add(name)
        return tuple(sorted(found))

    def delete_tag(self, name: str, tag: str) -> bool:
        """Take a tag away; whether it was there."""
        key = _tag_key(name, tag)
        if self._bucket.find(key) is None:
            return False
        self._bucket.delete(key)
        self._list(name, tag, None)
        return True

    # What they do

    def _write(self) -> None:
        """Be a writer, from before anything is looked for that is to stay."""
        begin_to_write(self._presence, cancelled=self._cancelled)

    def _pull_signature(self, name: str, subject: str, digest: str, storage: Storage) -> None:
        raw = self.manifest(name, digest)
        blobs = read_signature_manifest(raw, subject=subject)
        if max(blobs.values()) > MAX_BUNDLE:
            raise FormatError(f"signature {digest} is larger than a signature can be")
        self.pull_blobs(name, storage, blobs)
        storage.add_bytes(raw)

    def _referrers(self, name: str, subject: str) -> list[str]:
        """Digests of what refers to a manifest, signatures or not, sorted."""
        folder = _referrer_folder(name, subject)
        keys = (item.key for item in self._bucket.items(folder, at_most=_MAX_TAGS))
        found = sorted(f"sha256:{key.removeprefix(folder)}" for key in keys)
        return [digest for digest in found if is_digest(digest)]

    def _upload(self, key: str, storage: Storage, digest: str, progress: Progress | None) -> None:
        told = 0

        def pieces() -> Iterator[bytes]:
            nonlocal told
            state = hashlib.sha256()
            with storage.open(digest) as file:
                while piece := file.read(_PIECE):
                    if self._cancelled():
                        raise CancelledError
                    self._presence.go_on()
                    state.update(piece)
                    yield piece
                    told += len(piece)
                    _report(progress, len(piece))
            actual = f"sha256:{state.hexdigest()}"
            if actual != digest:  # raised before the end, so that nothing arrives
                raise DigestMismatchError(
                    "stored blob is damaged",
                    expected=digest,
                    actual=actual,
                    hint="`nbmodel verify` tells of which version, and what brings it back",
                )

        try:
            self._bucket.upload(key, pieces(), storage.size(digest))
        except BaseException:
            _report(progress, -told)
            raise

    def _fetch(
        self,
        item: Item,
        storage: Storage,
        digest: str,
        progress: Progress | None,
        *,
        resumed: bool,
    ) -> bool:
        """Bring a blob; False when it was wrong and part of it was from an earlier time."""
        with (
            _receive(storage, digest) as writer,
            room_told(storage, lambda: item.size - writer.offset),
        ):
            if writer.offset > item.size or (writer.offset and not resumed):
                writer.abort()
                return self._fetch(item, storage, digest, progress, resumed=False)
            begun = writer.offset
            _report(progress, begun)
            pieces = self._bucket.stream(item, start=begun, cancelled=self._cancelled)
            for piece in pieces:
                writer.write(piece)
                _report(progress, len(piece))
            try:
                writer.commit(digest)
            except DigestMismatchError:
                _report(progress, -item.size)
                if begun:
                    return False
                raise
            return True

    def _keep(self, raw: bytes) -> dict[str, Any]:
        """Have a manifest as a blob; its descriptor."""
        descriptor = _descriptor(raw)
        key = _blob_key(descriptor["digest"])
        there = self._bucket.find(key)
        if there is None or there.size != len(raw):
            if self._bucket.find("oci-layout") is None:
                self._bucket.put("oci-layout", _LAYOUT)
            self._bucket.put(key, raw)
        return descriptor

    def _tagged(self, name: str, tag: str) -> str:
        _, found = self._read_tag(name, tag)
        if found is None:
            raise BlobNotFoundError(f"{self.host} has no {name}:{tag}")
        return found

    def _read_tag(self, name: str, tag: str) -> tuple[Item | None, str | None]:
        """The object of a tag, and the digest of the manifest that it is on."""
        key = _tag_key(name, tag)
        try:
            item, raw = self._bucket.read(key, limit=_MAX_DESCRIPTOR)
        except BlobNotFoundError:
            return None, None
        data = read_object(raw, f"tag {name}:{tag}", _MAX_DESCRIPTOR)
        return item, check_digest(data.get("digest"), f"the manifest of {name}:{tag}")

    def _list(self, name: str, tag: str, descriptor: dict[str, Any] | None) -> None:
        """Bring ``index.json`` up to date with one tag, unless it is one that nobody types."""
        if Claim.parse(tag) is not None or _is_stamp(tag):
            return
        label = f"{name}:{tag}"
        entry = descriptor and {**descriptor, "annotations": {_REF_NAME: label}}
        for attempt in range(_ATTEMPTS):
            time.sleep(random.random() * _PAUSE_S * attempt)  # noqa: S311 - no secret
            old, index = self._index()
            listed = index["manifests"]
            others = [one for one in listed if _label(one) != label]
            wanted = [*others, entry] if entry else others
            if wanted == listed or entry in listed:
                return
            raw = json.dumps({**index, "manifests": wanted}).encode()
            if len(raw) > _MAX_INDEX:
                return
            try:
                if self._bucket.put("index.json", raw, over=old, new=old is None):
                    return
            except NotImplementedError:
                # Looked at again in the next round: another may have written it over.
                self._bucket.put("index.json", raw)

    def _index(self) -> tuple[Item | None, dict[str, Any]]:
        empty = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": []}
        try:
            item, raw = self._bucket.read("index.json", limit=_MAX_INDEX)
        except BlobNotFoundError:
            return None, empty
        try:
            index = read_object(raw, "index.json", _MAX_INDEX)
        except NbModelError:
            return item, empty
        return item, index if isinstance(index.get("manifests"), list) else empty


def _upload_of(digest: str) -> str:
    """The name under which a part of a blob waits for the rest."""
    return UPLOAD_PREFIX + digest.partition(":")[2][:48]


def _receive(storage: Storage, digest: str) -> BlobWriter:
    try:
        return storage.receive(name=_upload_of(digest))
    except StorageError:
        return storage.receive()  # somebody else fetches the same


def _hex(digest: str) -> str:
    return check_digest(digest, "a blob").partition(":")[2]


def _blob_key(digest: str) -> str:
    return f"blobs/sha256/{_hex(digest)}"


def _referrer_folder(name: str, subject: str) -> str:
    return f"repositories/{check_repository(name)}/_referrers/{_hex(subject)}/"


def _tag_folder(name: str) -> str:
    # No name has a part that begins with "_".
    return f"repositories/{check_repository(name)}/_tags/"


def _tag_key(name: str, tag: str) -> str:
    return _tag_folder(name) + check_tag(tag)


def _is_tag(text: str) -> bool:
    try:
        return bool(check_tag(text))
    except RefError:
        return False


def _is_repository(text: str) -> bool:
    try:
        return bool(check_repository(text))
    except RefError:
        return False


def _is_stamp(tag: str) -> bool:
    try:
        return Reference.parse(f"m:{tag}").stamp is not None
    except RefError:
        return False


def _descriptor(raw: bytes) -> dict[str, Any]:
    data = read_object(raw, "manifest", MAX_MANIFEST)
    found = {"mediaType": data.get("mediaType", MANIFEST_TYPE)}
    if "artifactType" in data:
        found["artifactType"] = data["artifactType"]
    return {**found, "digest": digest_of(raw), "size": len(raw)}


def _label(entry: object) -> object:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    return annotations.get(_REF_NAME) if isinstance(annotations, dict) else None


def _report(progress: Progress | None, count: int) -> None:
    if progress is not None and count:
        progress(count)
