"""Manifests and tags as a registry tells them, checked and bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from json import loads

from nbmodel.core.digest import digest_of, is_digest
from nbmodel.core.manifest import MANIFEST_TYPE, MAX_MANIFEST
from nbmodel.core.reference import check_repository
from nbmodel.errors import AuthenticationError, DigestMismatchError, StorageError
from nbmodel.storage.origin import Answer, Origin
from nbmodel.storage.tags import check_tag

TAG_PAGE = 1000
_MAX_PAGE = 4 * 1024 * 1024  # bytes
_MAX_TAGS = 100_000  # a registry that pages for ever is left
_MAX_REPOSITORIES = 100_000
_REFUSED = (401, 403)
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class RemoteManifest:
    """A manifest that a registry has under a tag or digest.

    Attributes:
        digest: Of ``raw``.
        raw: Its bytes, not read yet.
        etag: What a registry calls this state of the tag; None when it does not.
    """

    digest: str
    raw: bytes
    etag: str | None


def manifest_path(name: str, reference: str) -> str:
    """Where a registry has the manifest that a tag or digest names.

    Raises:
        RefError: Either is malformed.
    """
    known = reference if is_digest(reference) else check_tag(reference)
    return f"v2/{check_repository(name)}/manifests/{known}"


def read_manifest(origin: Origin, name: str, reference: str) -> RemoteManifest:
    """The manifest that a tag or digest names.

    Raises:
        BlobNotFoundError: There is none.
        DigestMismatchError: Its bytes are not those of the digest that was asked for, or
            that the registry says.
        TargetUnreachableError: The registry does not answer.
        AuthenticationError: It refuses the token, or wants one.
        StorageError: It answers anything else, or more than a manifest can be.
    """
    return _read(origin, name, reference, _ask(origin, name, reference, None))


def read_manifest_unless(
    origin: Origin, name: str, reference: str, etag: str
) -> RemoteManifest | None:
    """As ``read_manifest``; None when it is still the one of that ETag."""
    answer = _ask(origin, name, reference, etag)
    return None if answer.status == 304 else _read(origin, name, reference, answer)


def read_tags(origin: Origin, name: str, *, at_most: int = _MAX_TAGS) -> tuple[str, ...]:
    """The tags of a repository, sorted; none when there is no such repository.

    Args:
        origin: The registry.
        name: The repository.
        at_most: After so many no further page is asked for.

    Raises:
        TargetUnreachableError: The registry does not answer.
        AuthenticationError: It refuses the token, or wants one.
        StorageError: It answers anything else.
    """
    path: str | None = f"v2/{check_repository(name)}/tags/list?n={TAG_PAGE}"
    tags: list[str] = []
    while path is not None and len(tags) < at_most:
        answer = origin.get(path, limit=_MAX_PAGE)
        if answer.status == 404:
            break
        if answer.status != 200:
            raise origin.refused(answer.status, f"GET {answer.url.path}", answer.body)
        page = _words(answer.body, "tags", origin.host)
        following = _NEXT.search(answer.headers.get("Link", ""))
        # A page of nothing that has another one behind it never ends.
        path = str(answer.join(following[1])) if following and page else None
        tags += page
    return tuple(sorted(tags))


def read_repositories(
    origin: Origin, *, at_most: int = _MAX_REPOSITORIES
) -> tuple[str, ...] | None:
    """The repositories of a registry, sorted; None where it does not tell.

    Large registries of many tenants do not, and others only to some.

    Args:
        origin: The registry.
        at_most: After so many no further page is asked for.

    Raises:
        TargetUnreachableError: The registry does not answer.
        AuthenticationError: It refuses everything that it is asked, not this list alone.
        StorageError: It says something that is no list.

    Source: Docker Registry HTTP API V2, "Listing Repositories".
    """
    path: str | None = f"v2/_catalog?n={TAG_PAGE}"
    names: list[str] = []
    while path is not None and len(names) < at_most:
        try:
            answer = origin.get(path, limit=_MAX_PAGE)
        except AuthenticationError:
            _check_entered(origin)
            return None
        if answer.status in _REFUSED:
            _check_entered(origin)
        if answer.status != 200:
            return None
        page = _words(answer.body, "repositories", origin.host)
        following = _NEXT.search(answer.headers.get("Link", ""))
        path = str(answer.join(following[1])) if following and page else None
        names += page
    return tuple(sorted(set(names)))


def _check_entered(origin: Origin) -> None:
    """Ask whether a registry takes what it is shown, which its list may want more than.

    Without a credential, one of a token service may still have repositories that are open.

    Raises:
        AuthenticationError: It does not.
    """
    try:
        answer = origin.get("v2/", limit=_MAX_PAGE)
    except AuthenticationError:
        if origin.is_anonymous:
            return
        raise
    has_service = answer.headers.get("WWW-Authenticate", "").lower().startswith("bearer")
    if answer.status in _REFUSED and not (origin.is_anonymous and has_service):
        raise origin.refused(answer.status, "GET /v2/", answer.body)


def _ask(origin: Origin, name: str, reference: str, etag: str | None) -> Answer:
    headers = {"Accept": MANIFEST_TYPE}
    if etag is not None:
        headers["If-None-Match"] = etag
    return origin.get(manifest_path(name, reference), limit=MAX_MANIFEST, headers=headers)


def _read(origin: Origin, name: str, reference: str, answer: Answer) -> RemoteManifest:
    if answer.status != 200:
        raise origin.refused(answer.status, f"GET {answer.url.path}", answer.body)
    actual = digest_of(answer.body)
    promised = answer.headers.get("Docker-Content-Digest", actual)
    expected = reference if is_digest(reference) else promised
    if actual != expected:
        raise DigestMismatchError(
            f"manifest {name}:{reference} from {origin.host}", expected=expected, actual=actual
        )
    etag = answer.headers.get("ETag")
    return RemoteManifest(actual, answer.body, etag if etag and len(etag) <= 1000 else None)


def _words(body: bytes, key: str, host: str) -> list[str]:
    try:
        words = loads(body)[key] or []
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise StorageError(f"{host} sent a list of {key} that cannot be read: {exc!r}") from exc
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise StorageError(f"{host} sent a list of {key} that is no list of words")
    return words
