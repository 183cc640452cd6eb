"""What refers to a manifest in a registry, signatures first of all: listing, sending, fetching.

A registry that keeps no list of referrers leaves that to its clients: an image index under
the tag ``sha256-<hex of the subject>``, which they read, change and write. Two that do so at
a time would lose each other's entries, so every referrer also gets a tag that only it can
have (``sha256-<hex of the subject>.<16 digits of its own>``), before the index is read. Who
writes the index then looks whether it has all that have such a tag, and writes it again if
not: the last one to write always sees all tags, so nothing is lost.

Source: OCI distribution specification 1.1, "Listing Referrers", "Pushing Manifests with
Subject", "Referrers Tag Schema".
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Collection

from nbmodel.core.artifact import INDEX_TYPE
from nbmodel.core.digest import check_digest
from nbmodel.core.manifest import MAX_MANIFEST
from nbmodel.core.reference import check_repository
from nbmodel.core.referrer import (
    BUNDLE_TYPE,
    MAX_BUNDLE,
    MAX_REFERRERS,
    Referrer,
    fallback_tag,
    read_referrer_index,
    read_signature_manifest,
    referrer_index,
)
from nbmodel.errors import FormatError, StorageError, StorageUnavailableError
from nbmodel.storage.base import Storage
from nbmodel.storage.fetch import BlobSource, fetch_blob
from nbmodel.storage.origin import Origin
from nbmodel.storage.reading import manifest_path, read_manifest, read_tags
from nbmodel.storage.send import request, send_blob

_UNKNOWN = (400, 403, 404, 405, 406, 501)  # answers of registries that do not know the endpoint
_MAX_LISTED = 100_000  # of all types; a registry that pages for ever is left
_MAX_PAGES = 500
_OWN = 16  # hex digits of a referrer's own tag
_ROUNDS = 20  # of writing the index; each is lost to another writer only
_TRIES = 8  # of reading it
_PAUSE_S = 0.2  # between rounds, at most
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')

logger = logging.getLogger(__name__)


def read_referrers(
    origin: Origin, name: str, subject: str, *, artifact_type: str | None = None
) -> tuple[Referrer, ...]:
    """What refers to a manifest, at most ``MAX_REFERRERS`` of them; nothing when none does.

    Those of another type than the wanted one do not count towards that, and those that do not
    say their type come last: whoever may write there can list as many as they like.

    Args:
        origin: The registry.
        name: The repository.
        subject: Digest of the manifest; it need not be there.
        artifact_type: Only what is of this type, or does not say; None for all.

    Raises:
        TargetUnreachableError: The registry does not answer.
        AuthenticationError: It refuses the token, or wants one.
        ManifestError: It answers with what is no list of referrers.
        StorageError: It answers anything else.
    """
    found = _listed(origin, name, subject, artifact_type)
    if found is None:
        found = _read_fallback(origin, name, subject)
    wanted = [one for one in found if artifact_type in (None, one.artifact_type)]
    if artifact_type is not None:
        wanted += [one for one in found if not one.artifact_type]
    return tuple(wanted[:MAX_REFERRERS])


def send_signatures(
    origin: Origin, name: str, storage: Storage, subject: str, digests: Collection[str]
) -> int:
    """Send the signatures of a version that a repository lacks; how many that were.

    Args:
        origin: The registry, or a runtime.
        name: The repository, which has the version.
        storage: Where the signatures are.
        subject: Digest of the version's manifest.
        digests: Of the signatures' manifests.

    Raises:
        BlobNotFoundError: The storage lacks one.
        ManifestError: One is no signature of that version.
        TargetUnreachableError: The registry does not answer.
        AuthenticationError: It refuses the token, or wants one.
        StorageError: It refuses anything else.
    """
    if not digests:
        return 0
    listed = read_referrers(origin, name, subject, artifact_type=BUNDLE_TYPE)
    there = {one.digest for one in listed}
    missing = [digest for digest in digests if digest not in there]
    for digest in missing:
        _send(origin, name, storage, subject, digest)
    return len(missing)


def fetch_signatures(
    origin: Origin, name: str, subject: str, storage: Storage, *, known: Collection[str] = ()
) -> tuple[str, ...]:
    """Fetch the signatures that a repository has of a version; what is no signature is left.

    Whoever calls it notes that they refer to the version: without a note, a collector takes
    them away in time.

    Args:
        origin: The registry.
        name: The repository.
        subject: Digest of the version's manifest.
        storage: Where they go.
        known: Digests of the manifests of those that are here; they are not fetched.

    Returns:
        Digests of the manifests of those that were not here, sorted.

    Raises:
        TargetUnreachableError: The registry does not answer.
        AuthenticationError: It refuses the token, or wants one.
        StorageError: It answers anything else to the question which there are, or the
            storage takes nothing.
    """
    fetched = []
    for one in read_referrers(origin, name, subject, artifact_type=BUNDLE_TYPE):
        if one.digest in known:
            continue
        try:
            _fetch(origin, name, subject, one, storage)
        except StorageUnavailableError:
            raise
        except (FormatError, StorageError) as exc:
            # Anybody who may write there can list anything: it must not stop the rest.
            logger.warning("a signature of %s in %s is left out: %s", subject, origin.host, exc)
            continue
        fetched.append(one.digest)
    return tuple(sorted(fetched))


def _fetch(origin: Origin, name: str, subject: str, one: Referrer, storage: Storage) -> None:
    raw = read_manifest(origin, name, one.digest).raw
    for digest, size in read_signature_manifest(raw, subject=subject).items():
        if not storage.keep(digest):
            fetch_blob(origin, BlobSource(name, digest, size), storage)
        if storage.size(digest) > MAX_BUNDLE:
            raise FormatError(f"blob {digest} is larger than a signature can be")
    storage.add_bytes(raw)


def _send(origin: Origin, name: str, storage: Storage, subject: str, digest: str) -> None:
    raw = storage.read(digest, limit=MAX_MANIFEST)
    for blob in read_signature_manifest(raw, subject=subject):
        send_blob(origin, name, storage, blob)
    one = Referrer.of(raw)
    headers = {"Content-Type": one.media_type}
    path = manifest_path(name, digest)
    answer = request(origin, "PUT", path, expect=(201,), headers=headers, content=raw)
    if answer.headers.get("OCI-Subject") != subject:
        own = manifest_path(name, _own_tag(subject, digest))
        request(origin, "PUT", own, expect=(201,), headers=headers, content=raw)
        _complete_fallback(origin, name, subject)


def _listed(
    origin: Origin, name: str, subject: str, artifact_type: str | None
) -> list[Referrer] | None:
    """What the registry lists itself; None when it does not know how."""
    path: str | None = f"v2/{check_repository(name)}/referrers/{check_digest(subject, 'a subject')}"
    if artifact_type is not None:
        path = f"{path}?artifactType={artifact_type.replace('+', '%2B')}"
    found: dict[str, Referrer] = {}
    wanted = pages = 0
    while path is not None and wanted < MAX_REFERRERS and len(found) < _MAX_LISTED:
        pages += 1
        answer = origin.get(path, limit=MAX_MANIFEST, headers={"Accept": INDEX_TYPE})
        if answer.status in _UNKNOWN:
            return None
        if answer.status != 200:
            raise origin.refused(answer.status, f"GET {answer.url.path}", answer.body)
        page = read_referrer_index(answer.body)
        more = [one for one in page if one.digest not in found]
        found.update((one.digest, one) for one in more)
        wanted += sum(artifact_type in (None, one.artifact_type) for one in more)
        # A page that says what was told and has another one behind it never ends. One that
        # says nothing may be of other types only, which the registry has left out.
        goes_on = bool(more or not page) and pages < _MAX_PAGES
        following = _NEXT.search(answer.headers.get("Link", ""))
        path = str(answer.join(following[1])) if following and goes_on else None
    return list(found.values())


def _read_fallback(origin: Origin, name: str, subject: str) -> list[Referrer]:
    path = manifest_path(name, fallback_tag(subject))
    headers = {"Accept": INDEX_TYPE}
    for turn in range(_TRIES):
        _pause(turn)
        answer = origin.get(path, limit=MAX_MANIFEST, headers=headers)
        if answer.status < 500:  # docker-registry fails while another one moves the tag
            break
    if answer.status == 404:
        return []
    if answer.status != 200:
        raise origin.refused(answer.status, f"GET {answer.url.path}", answer.body)
    return list(read_referrer_index(answer.body))


def _complete_fallback(origin: Origin, name: str, subject: str) -> None:
    """Have the index under the fallback tag list all that have a tag of their own."""
    trouble: StorageError | None = None
    for turn in range(_ROUNDS):
        _pause(turn)
        try:
            if _is_complete(origin, name, subject):
                return
        except StorageError as exc:  # as while another one writes; it is looked at again
            trouble = exc
    raise trouble or StorageError(
        f"the list of signatures of {name}@{subject} in {origin.host} was overwritten "
        f"{_ROUNDS} times",
        hint="others are signing the same version: push again",
    )


def _is_complete(origin: Origin, name: str, subject: str) -> bool:
    """Whether the index lists all; False: it does so now, if nobody has written it since."""
    listed = _read_fallback(origin, name, subject)
    known = {_own_tag(subject, one.digest) for one in listed}
    own = [tag for tag in read_tags(origin, name) if tag.startswith(_own_tag(subject, ""))]
    missing = [tag for tag in own if tag not in known]
    if not missing:
        return True
    listed += [Referrer.of(read_manifest(origin, name, tag).raw) for tag in missing]
    request(
        origin,
        "PUT",
        manifest_path(name, fallback_tag(subject)),
        expect=(201,),
        headers={"Content-Type": INDEX_TYPE},
        content=referrer_index(listed),
    )
    return False


def _pause(turn: int) -> None:
    """Let others finish what they are at, before another turn."""
    if turn:
        time.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 # no secret


def _own_tag(subject: str, digest: str) -> str:
    return f"{fallback_tag(subject)}.{digest.partition(':')[2][:_OWN]}"
