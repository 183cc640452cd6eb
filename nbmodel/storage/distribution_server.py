"""The OCI distribution API over a storage and its repositories.

It makes a device a registry, and a registry one for others. Push and pull as any OCI client
does them. An upload that goes over several requests is remembered by the storage alone, so
it outlives a restart. Authentication, ``GET /v2/`` and the server around it belong to the
application that mounts these routes.

Repositories share blobs: mounting one from another repository takes no more than that it is
here. Blobs are not deleted one by one: what no manifest needs is a collector's.

Beyond the specification, a blob whose chunk table is here can be sent as a patch, which has
only what no blob here has:

- ``POST …/blobs/uploads/?assemble=<blob digest>&chunks=<table digest>`` opens an upload as
  ever, and says which ranges of the blob are missing here: ``{"missing": [[start, length],
  …]}``. An answer without them, as a registry gives that does not know the parameters or
  cannot use the table, asks for the whole blob.
- The upload's bytes are then a patch of ``core.patch``, sent as any upload is, and ended by
  ``PUT …?digest=<blob digest>&assemble=<table digest>``. When a chunk that the patch relies
  on turns out to be gone or damaged the answer is 409, and the upload is over.

Source: OCI distribution specification 1.1 (its endpoint table, end-2 … end-13);
``/v2/_catalog`` is of Docker's HTTP API V2.
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nbmodel.core.artifact import INDEX_TYPE, Artifact
from nbmodel.core.chunks import (
    ChunkTable,
    Have,
    Local,
    Missing,
    max_table,
    missing_ranges,
    segments,
)
from nbmodel.core.digest import digest_of, is_digest
from nbmodel.core.manifest import ARTIFACT_TYPE, MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.core.reference import check_name, check_repository
from nbmodel.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    FormatError,
    ManifestError,
    ModelNotFoundError,
    NbModelError,
    RefError,
    RegistryError,
    SignatureError,
    StorageError,
    StorageUnavailableError,
    UnsupportedError,
    VersionNotFoundError,
)
from nbmodel.storage.assembly import assemble, chunk_index
from nbmodel.storage.base import BlobWriter, Storage
from nbmodel.storage.blob_answer import answer_blob
from nbmodel.storage.manifests import parse_manifest
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.repositories import Repositories, TaggedRepositories
from nbmodel.storage.tags import TagStore, check_tag

MAX_BLOB = 16 * 1024**3  # bytes
_BUFFER = 1024 * 1024  # bytes gathered before a thread writes them
_LOOKS, _LOOK_S = 10, 0.005  # for an upload that seems to be written to
_CATALOG_PAGE = 1000  # names in one answer
_REFERRERS_PAGE = 200  # each is read for its descriptor
_CONTENT_RANGE = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?")

_T = TypeVar("_T")


def distribution_routes(
    storage: Storage,
    tags: TagStore,
    *,
    referrers: ReferrerStore | None = None,
    max_blob: int = MAX_BLOB,
    on_change: Callable[[str], None] = lambda _name: None,
) -> list[Route]:
    """Routes under ``/v2/`` of a device.

    Args:
        storage: Where blobs and manifests are.
        tags: Where tags are.
        referrers: Where it is noted what refers to them; in ``referrers`` beside the tags
            when not given.
        max_blob: Largest blob that is taken, in bytes.
        on_change: Called with a repository's name after its tags changed, or what refers
            to its manifests.
    """
    if referrers is None:
        referrers = ReferrerStore(tags.root.with_name("referrers"))
    repositories = TaggedRepositories(storage, tags, referrers)
    return repository_routes(storage, repositories, max_blob=max_blob, on_change=on_change)


def repository_routes(
    storage: Storage,
    repositories: Repositories,
    *,
    max_blob: int = MAX_BLOB,
    read_only: bool = False,
    on_change: Callable[[str], None] = lambda _name: None,
) -> list[Route]:
    """Routes under ``/v2/``: ``/v2/_catalog``, and blobs, manifests, tags and referrers.

    Args:
        storage: Where blobs and manifests are.
        repositories: Under which names and tags.
        max_blob: Largest blob that is taken, in bytes.
        read_only: Whether whatever would change something is refused.
        on_change: Called with a repository's name after its tags changed, or what refers
            to its manifests.

    A blob that a client was told of counts as just written: the client may rely on it, and
    a collector with a grace period leaves it.
    """
    server = _Server(storage, repositories, max_blob, on_change)
    table: list[tuple[str, dict[str, _Handler]]] = [
        ("blobs/uploads/", {"POST": server.start_upload}),
        (
            "blobs/uploads/{upload}",
            {
                "GET": server.upload_status,
                "PATCH": server.continue_upload,
                "PUT": server.finish_upload,
                "DELETE": server.cancel_upload,
            },
        ),
        ("blobs/{digest}", {"GET": server.blob, "DELETE": server.delete_blob}),
        (
            "manifests/{reference}",
            {
                "GET": server.manifest,
                "PUT": server.put_manifest,
                "DELETE": server.delete_manifest,
            },
        ),
        ("tags/list", {"GET": server.list_tags}),
        ("referrers/{digest}", {"GET": server.list_referrers}),
    ]
    return [
        Route("/v2/_catalog", _endpoint({"GET": server.catalog}), methods=["GET"]),
        *(
            Route(
                f"/v2/{{name:path}}/{path}",
                _endpoint(_reading(handlers) if read_only else handlers),
                methods=list(handlers),
            )
            for path, handlers in table
        ),
    ]


_Handler = Callable[[Request, str], Awaitable[Response]]


class _RefusedError(Exception):
    """An answer of the specification's error form."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


#: Error class → status and code, most specific first; codes are the specification's
#: where it has one.
_STATUSES: tuple[tuple[type[NbModelError], int, str], ...] = (
    (BlobNotFoundError, 404, "BLOB_UNKNOWN"),
    (DigestMismatchError, 400, "DIGEST_INVALID"),
    (ManifestError, 400, "MANIFEST_INVALID"),
    (SignatureError, 400, "MANIFEST_INVALID"),
    (RefError, 400, "NAME_INVALID"),
    (ModelNotFoundError, 404, "NAME_UNKNOWN"),
    (VersionNotFoundError, 404, "MANIFEST_UNKNOWN"),
    (RegistryError, 409, "DENIED"),
    (UnsupportedError, 405, "UNSUPPORTED"),
    (StorageUnavailableError, 507, "INSUFFICIENT_STORAGE"),
    (NbModelError, 500, "UNKNOWN"),
)


def _endpoint(handlers: dict[str, _Handler]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        try:
            name = request.path_params.get("name")
            return await handlers[method](request, "" if name is None else _name(name, method))
        except _RefusedError as exc:
            return error_response(exc.status, exc.code, str(exc), exc.headers)
        except ClientDisconnect:
            return Response(status_code=400)  # for the log: nobody reads it
        except NbModelError as exc:
            status, code = next(
                (status, code) for kind, status, code in _STATUSES if isinstance(exc, kind)
            )
            return error_response(status, code, str(exc) + (f" ({exc.hint})" if exc.hint else ""))

    return endpoint


def _name(name: str, method: str) -> str:
    """A repository's name.

    Raises:
        RefError: No model can be called that. Who reads is told that there is none: clients
            look for models in places where others have them.
    """
    try:
        return check_name(name)
    except RefError:
        if method != "GET":
            raise
        check_repository(name)
        raise _RefusedError(404, "NAME_UNKNOWN", f"no repository {name!r} here") from None


def _reading(handlers: dict[str, _Handler]) -> dict[str, _Handler]:
    """The handlers of a registry that takes nothing."""

    async def refuse(_request: Request, _name: str) -> Response:
        raise _RefusedError(405, "UNSUPPORTED", "this registry is read-only")

    return {method: own if method == "GET" else refuse for method, own in handlers.items()}


def error_response(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer of the specification's error form.

    Args:
        status: HTTP status.
        code: A word of the specification's table of error codes.
        message: For people.
        headers: Further headers.
    """
    body = {"errors": [{"code": code, "message": message, "detail": None}]}
    return JSONResponse(body, status_code=status, headers=headers)


class _Server:
    def __init__(
        self,
        storage: Storage,
        repositories: Repositories,
        max_blob: int,
        on_change: Callable[[str], None],
    ) -> None:
        self._storage = storage
        self._repositories = repositories
        self._max_blob = max_blob
        self._on_change = on_change

    # Blobs

    async def blob(self, request: Request, _name: str) -> Response:
        digest = _digest(request.path_params["digest"])
        if not await _threaded(self._storage.keep, digest):
            raise BlobNotFoundError(f"no blob {digest} here")
        if request.method != "HEAD":
            return answer_blob(request, await _threaded(self._storage.open, digest), digest)
        size = await _threaded(self._storage.size, digest)
        headers = {
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
            "Content-Length": str(size),
            "Accept-Ranges": "bytes",
        }
        return Response(headers=headers, media_type="application/octet-stream")

    async def delete_blob(self, request: Request, _name: str) -> Response:
        digest = _digest(request.path_params["digest"])
        if not await _threaded(self._storage.has, digest):
            raise BlobNotFoundError(f"no blob {digest} here")
        raise UnsupportedError(
            "blobs are not deleted one by one: delete the manifests that need it"
        )

    async def start_upload(self, request: Request, name: str) -> Response:
        mount, whole = request.query_params.get("mount"), request.query_params.get("digest")
        if mount is not None and await _threaded(self._storage.keep, _digest(mount)):
            return _created(name, mount)
        if whole is None:
            key = uuid.uuid4().hex
            missing = await self._missing(request, name)
            async with self._writer(key):
                headers = _upload_headers(name, key, 0)
                if missing is None:
                    return Response(status_code=202, headers=headers)
                return JSONResponse({"missing": missing}, status_code=202, headers=headers)
        _digest(whole)
        async with self._writer(None) as writer:
            await self._receive(request, writer)
            await _threaded(writer.commit, whole)
        return _created(name, whole)

    async def upload_status(self, request: Request, name: str) -> Response:
        async with self._upload(request) as (key, writer):
            return Response(status_code=204, headers=_upload_headers(name, key, writer.offset))

    async def continue_upload(self, request: Request, name: str) -> Response:
        async with self._upload(request) as (key, writer):
            _check_range(request, name, key, writer.offset)
            await self._receive(request, writer)
            return Response(status_code=202, headers=_upload_headers(name, key, writer.offset))

    async def finish_upload(self, request: Request, name: str) -> Response:
        async with self._upload(request) as (key, writer):
            digest = _digest(request.query_params.get("digest", ""))
            _check_range(request, name, key, writer.offset)
            await self._receive(request, writer)
            table = request.query_params.get("assemble")
            if table is None:
                await _threaded(writer.commit, digest)
            else:
                await _threaded(self._assemble, writer, name, digest, _digest(table))
            return _created(name, digest)

    async def cancel_upload(self, request: Request, _name: str) -> Response:
        async with self._upload(request) as (_, writer):
            await _threaded(writer.abort)
        return Response(status_code=204)

    @asynccontextmanager
    async def _upload(self, request: Request) -> AsyncIterator[tuple[str, BlobWriter]]:
        """The upload that a request goes on with; nothing but the disk remembers it."""
        key = request.path_params["upload"]
        if not await _threaded(self._is_waiting, key):
            raise _RefusedError(404, "BLOB_UPLOAD_UNKNOWN", f"no upload {key[:40]!r} is open")
        async with self._writer(key) as writer:
            yield key, writer

    @asynccontextmanager
    async def _writer(self, key: str | None) -> AsyncIterator[BlobWriter]:
        writer = await _threaded(partial(self._storage.receive, name=key))
        try:
            yield writer
        except (_RefusedError, StorageUnavailableError) as exc:
            # What cannot be finished must not fill the disk until a collector comes.
            if not isinstance(exc, _RefusedError) or exc.status == 413:
                await _threaded(writer.abort)
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await _threaded(writer.close)

    async def _missing(self, request: Request, name: str) -> list[Missing] | None:
        """What a patch of the blob has to have; None to have the whole blob sent."""
        table = request.query_params.get("chunks")
        if table is None or "assemble" not in request.query_params:
            return None
        _digest(request.query_params["assemble"])
        return await _threaded(self._missing_ranges, name, _digest(table))

    def _missing_ranges(self, name: str, table: str) -> list[Missing] | None:
        try:
            chunks = self._table(table)
        except (FormatError, StorageError):
            return None
        found = segments(chunks, self._have(name, chunks))
        for blob in {segment.blob for segment in found if isinstance(segment, Local)}:
            self._storage.keep(blob)  # until the patch is here
        return list(missing_ranges(found))

    def _assemble(self, writer: BlobWriter, name: str, digest: str, table: str) -> None:
        """Make a blob of the patch that was uploaded; the upload is over in any case."""
        try:
            if self._storage.keep(digest):
                return  # somebody else was faster
            chunks = self._table(table)
            with writer.read_back() as patch:
                assemble(self._storage, digest, patch, chunks, self._have(name, chunks))
        except (BlobNotFoundError, DigestMismatchError) as exc:
            raise _RefusedError(
                409, "BLOB_UPLOAD_INVALID", f"cannot make blob {digest} of a patch: {exc}"
            ) from exc
        finally:
            writer.abort()

    def _table(self, digest: str) -> ChunkTable:
        table = ChunkTable.from_bytes(self._storage.read(digest, limit=max_table(self._max_blob)))
        self._check_size(table.size)
        return table

    def _have(self, name: str, table: ChunkTable) -> Have:
        """Where the chunks of a file are, by the versions that are like a repository's."""
        wanted = {digest for _, digest in table.chunks}
        return chunk_index(self._storage, self._repositories.similar(name), wanted)

    def _is_waiting(self, key: str) -> bool:
        for _ in range(_LOOKS):  # one that somebody looks at just now seems to be written to
            if any(name == key for name, _ in self._storage.abandoned(math.inf)):
                return True  # whatever clock wrote it
            time.sleep(_LOOK_S)
        return False

    async def _receive(self, request: Request, writer: BlobWriter) -> None:
        """Append the body; what arrived before a client went away is kept."""
        self._check_size(writer.offset + int(request.headers.get("Content-Length", 0)))
        buffer = bytearray()
        try:
            async for chunk in request.stream():
                buffer += chunk
                if len(buffer) >= _BUFFER:
                    await self._append(writer, buffer)
        finally:
            with anyio.CancelScope(shield=True):
                await self._append(writer, buffer)

    async def _append(self, writer: BlobWriter, buffer: bytearray) -> None:
        self._check_size(writer.offset + len(buffer))
        data = bytes(buffer)
        buffer.clear()
        await _threaded(writer.write, data)

    def _check_size(self, size: int) -> None:
        if size > self._max_blob:
            raise _RefusedError(
                413, "SIZE_INVALID", f"blob of {size} bytes, expected at most {self._max_blob}"
            )

    # Manifests

    async def manifest(self, request: Request, name: str) -> Response:
        reference = request.path_params["reference"]
        digest = await _threaded(self._find, name, reference)
        raw = await _threaded(partial(self._storage.read, digest, limit=MAX_MANIFEST))
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        if request.headers.get("If-None-Match") in (digest, f'"{digest}"'):
            return Response(status_code=304, headers=headers)
        return Response(raw, media_type=_media_type(raw, reference), headers=headers)

    async def put_manifest(self, request: Request, name: str) -> Response:
        reference = request.path_params["reference"]
        raw = await self._manifest_body(request)
        digest, subject = await _threaded(self._store_manifest, name, reference, raw)
        self._on_change(name)
        return Response(
            status_code=201,
            headers={
                "Location": f"/v2/{name}/manifests/{digest}",
                "Docker-Content-Digest": digest,
            }
            | ({} if subject is None else {"OCI-Subject": subject}),
        )

    async def delete_manifest(self, request: Request, name: str) -> Response:
        await _threaded(self._delete, name, request.path_params["reference"])
        self._on_change(name)
        return Response(status_code=202)

    async def list_tags(self, request: Request, name: str) -> Response:
        tags = sorted(await _threaded(self._repositories.tags, name))
        if not tags:
            raise _RefusedError(404, "NAME_UNKNOWN", f"no repository {name!r} here")
        page, headers = _page(request, f"/v2/{name}/tags/list", tags)
        return JSONResponse({"name": name, "tags": page}, headers=headers)

    async def catalog(self, request: Request, _name: str) -> Response:
        names = sorted(await _threaded(self._repositories.names))
        page, headers = _page(request, "/v2/_catalog", names, default=_CATALOG_PAGE)
        return JSONResponse({"repositories": page}, headers=headers)

    async def list_referrers(self, request: Request, name: str) -> Response:
        subject = _digest(request.path_params["digest"])
        wanted = request.query_params.get("artifactType")
        known = await _threaded(self._repositories.referrers, name, subject)
        path = f"/v2/{name}/referrers/{subject}"
        if wanted is not None:
            path += f"?artifactType={quote(wanted, safe='')}"
        page, headers = _page(request, path, known, default=_REFERRERS_PAGE)
        if wanted is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
        found = await _threaded(self._describe, page)
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [one for one in found if wanted in (None, one["artifactType"])],
        }
        return JSONResponse(index, media_type=INDEX_TYPE, headers=headers)

    def _describe(self, digests: Sequence[str]) -> list[dict[str, Any]]:
        """The descriptors of manifests, as a list of referrers has them."""
        found = []
        for digest in digests:
            try:
                raw = self._storage.read(digest, limit=MAX_MANIFEST)
                artifact = Artifact.from_bytes(raw)
            except (StorageError, FormatError):
                continue  # collected, or damaged: nobody could fetch it
            entry: dict[str, Any] = {
                "mediaType": artifact.media_type,
                "digest": digest,
                "size": len(raw),
                "artifactType": artifact.artifact_type,
            }
            if artifact.annotations:
                entry["annotations"] = dict(artifact.annotations)
            found.append(entry)
        return found

    async def _manifest_body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_MANIFEST:
                raise _RefusedError(
                    413, "SIZE_INVALID", f"manifest of more than {MAX_MANIFEST} bytes"
                )
        return bytes(body)

    def _find(self, name: str, reference: str) -> str:
        digest = reference if is_digest(reference) else self._repositories.get(name, reference)
        is_here = digest is not None and self._repositories.has(name, digest)
        if digest is None or not is_here:
            raise _RefusedError(404, "MANIFEST_UNKNOWN", f"no manifest {name}:{reference} here")
        return digest

    def _store_manifest(self, name: str, reference: str, raw: bytes) -> tuple[str, str | None]:
        """Keep a manifest under a tag or digest; its digest, and that of its subject."""
        digest = digest_of(raw)
        if is_digest(reference) and reference != digest:
            raise DigestMismatchError("manifest", expected=reference, actual=digest)
        tag = None if is_digest(reference) else check_tag(reference)
        artifact = Artifact.from_bytes(raw)
        for blob, size in artifact.blobs.items():
            if not self._storage.keep(blob):
                raise _RefusedError(
                    404, "MANIFEST_BLOB_UNKNOWN", f"push blob {blob} before its manifest"
                )
            if self._storage.size(blob) != size:
                raise ManifestError(
                    f"manifest: blob {blob} has {self._storage.size(blob)} bytes, not {size}"
                )
        subject = None if artifact.subject is None else artifact.subject.digest
        if subject is None or artifact.artifact_type == ARTIFACT_TYPE:
            parse_manifest(self._storage, raw)
        elif tag is not None:
            raise ManifestError(
                "manifest: what refers to another one has no tag", hint="push it by its digest"
            )
        self._storage.add_bytes(raw)
        if subject is not None:
            self._repositories.refer(name, subject, digest)
        if tag is not None:
            self._repositories.put(name, tag, digest)
        return digest, subject

    def _delete(self, name: str, reference: str) -> None:
        digest = self._find(name, reference)
        if is_digest(reference):
            self._repositories.forget(name, digest)
        else:
            self._repositories.untag(name, reference)


def _created(name: str, digest: str) -> Response:
    return Response(
        status_code=201,
        headers={"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest},
    )


def _upload_headers(name: str, key: str, offset: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{name}/blobs/uploads/{key}",
        # The last byte that is here; the specification has no word for "none".
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": key,
    }


def _check_range(request: Request, name: str, key: str, offset: int) -> None:
    header = request.headers.get("Content-Range")
    if header is None:
        return
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise _RefusedError(400, "BLOB_UPLOAD_INVALID", f"expected <start>-<end>, found {header!r}")
    start, end = int(match[1]), int(match[2])
    if start != offset:
        raise _RefusedError(
            416,
            "BLOB_UPLOAD_INVALID",
            f"expected a chunk from byte {offset}, found one from {start}",
            _upload_headers(name, key, offset),
        )
    length = request.headers.get("Content-Length")
    if length is not None and int(length) != end - start + 1:
        raise _RefusedError(400, "SIZE_INVALID", f"{length} bytes are not the range {header!r}")


def _digest(text: str) -> str:
    if not is_digest(text):
        raise _RefusedError(
            400, "DIGEST_INVALID", f"expected sha256:<64 hex digits>, found {text[:80]!r}"
        )
    return text


def _media_type(raw: bytes, reference: str) -> str:
    try:
        data: Any = json.loads(raw)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or "layers" not in data:  # any blob can be asked for
        raise _RefusedError(404, "MANIFEST_UNKNOWN", f"{reference[:80]} is not a manifest")
    return str(data.get("mediaType", MANIFEST_TYPE))


def _page(
    request: Request, path: str, names: Sequence[str], *, default: int | None = None
) -> tuple[Sequence[str], dict[str, str]]:
    """The part of a sorted list that a request asks for, with a link to the next.

    Args:
        request: May have ``n`` and ``last``.
        path: Of the list.
        names: All of it.
        default: Most in one answer; None for no bound.
    """
    last = request.query_params.get("last")
    if last is not None:
        names = [name for name in names if name > last]
    limits = [limit for limit in (_page_size(request), default) if limit is not None]
    limit = min(limits, default=len(names))
    page = names[:limit]
    if not page or limit >= len(names):
        return page, {}
    mark = "&" if "?" in path else "?"
    link = f"{path}{mark}n={limit}&last={quote(page[-1], safe='')}"
    return page, {"Link": f'<{link}>; rel="next"'}


def _page_size(request: Request) -> int | None:
    text = request.query_params.get("n")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise _RefusedError(
            400, "PAGINATION_NUMBER_INVALID", f"expected a number under n, found {text[:40]!r}"
        )
    return int(text)


async def _threaded(function: Callable[..., _T], *args: Any) -> _T:
    """Run what touches the disk beside the event loop."""
    return await to_thread.run_sync(function, *args)
