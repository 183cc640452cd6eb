"""Signing the versions of a registry, and checking who signed them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nbmodel.core.reference import Reference
from nbmodel.core.version import Version
from nbmodel.errors import InputError, TrustError
from nbmodel.registry.catalog import Catalog
from nbmodel.registry.signatures import add_signature, kept_signatures
from nbmodel.registry.versions import resolve
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.certificate import Certificate
from nbmodel.signing.check import Signed, SignedBy, Trusted, check_version, claimed, sign
from nbmodel.signing.key import PrivateKey
from nbmodel.signing.statement import Statement, files_of, statement_of


@dataclass(frozen=True, slots=True)
class ClaimedSignature:
    """A signature of a version by what it says itself; nothing of that is checked.

    Attributes:
        digest: Of the manifest that refers to the version.
        created: When it was made, UTC, ISO 8601; may be empty.
        by: Whose it says it is; None where it cannot be read.
        problem: Why it cannot be read; None where it can.
    """

    digest: str
    created: str
    by: SignedBy | None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "digest": self.digest,
            "created": self.created,
            "by": None if self.by is None else self.by.to_json(),
            "problem": self.problem,
        }


def sign_version(
    catalog: Catalog,
    ref: Reference | str,
    key: PrivateKey,
    chain: Sequence[Certificate] = (),
) -> tuple[Version, Bundle]:
    """Sign a version, and keep the signature with it.

    No file is read: their digests are in the version's manifest.

    Args:
        catalog: The registry.
        ref: The version.
        key: Whose signature it is.
        chain: As for ``signing.check.sign``.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        InputError: The certificate is not the key's; or its files are on a remote alone, and
            were never read here.
        StorageUnavailableError: The registry's folder takes nothing.
    """
    version = resolve(catalog, ref)
    if version.files_on is not None:
        raise InputError(
            f"the files of {version.reference} are on {version.files_on} and were never read here, "
            "expected to sign what is known",
            hint=f"`pull {version.reference}` reads them",
        )
    bundle = sign(statement_of(version.model, version.digest, version.manifest), key, chain)
    add_signature(catalog, version.digest, bundle.to_bytes())
    return version, bundle


def attach(catalog: Catalog, ref: Reference | str, bundle: bytes) -> tuple[Version, Bundle]:
    """Keep a signature that was made elsewhere with the version that it is of.

    Whose it is is not checked, but that it is of this version's files.

    Raises:
        ModelNotFoundError, VersionNotFoundError: There is no such version.
        TrustError: It cannot be read, or is of other files.
        StorageUnavailableError: The registry's folder takes nothing.
    """
    version = resolve(catalog, ref)
    read = Bundle.from_bytes(bundle)
    difference = Statement.from_json(read.statement).difference(files_of(version.manifest))
    if difference is not None:
        raise TrustError(
            f"the signature is of other files than {version.reference}: it is {difference}",
            reason="OtherFiles",
        )
    add_signature(catalog, version.digest, bundle)
    return version, read


def claims(catalog: Catalog, digest: str) -> tuple[ClaimedSignature, ...]:
    """The signatures of a version by what they say, newest first.

    Args:
        catalog: The registry.
        digest: Of the version's manifest.

    Raises:
        StorageUnavailableError: The registry's folder cannot be read.
    """
    found = []
    for kept in kept_signatures(catalog, digest):
        try:
            by, problem = claimed(Bundle.from_bytes(kept.bundle or b"")), None
        except TrustError as exc:
            by, problem = None, str(exc)
        found.append(ClaimedSignature(kept.digest, kept.created, by, problem))
    return tuple(found)


def check_signatures(
    catalog: Catalog,
    version: Version,
    trusted: Trusted,
    *,
    at: datetime,
    bundles: Iterable[bytes] | None = None,
) -> tuple[Signed, ...]:
    """The signatures of a version that count, at least one.

    Args:
        catalog: The registry.
        version: The version.
        trusted: Whose count.
        at: The present time, aware.
        bundles: Signatures to look at in place of those that are kept with it.

    Raises:
        TrustError: None counts.
        StorageUnavailableError: The registry's folder cannot be read.
    """
    if bundles is None:
        kept = kept_signatures(catalog, version.digest)
        bundles = [one.bundle for one in kept if one.bundle is not None]
    files = files_of(version.manifest)
    counting, troubles = [], []
    for raw in bundles:
        try:
            bundle = Bundle.from_bytes(raw)
            counting.append(
                check_version(bundle, trusted, digest=version.digest, files=files, at=at)
            )
        except TrustError as exc:
            troubles.append(exc)
    if counting:
        return tuple(counting)
    if not troubles:
        raise TrustError(
            f"{version.reference} is not signed, expected a signature by {trusted}",
            reason="Unsigned",
            hint="one that was made elsewhere since comes with `sync` and `pull`; "
            f"else `sign {version.reference} --key KEY.pem`",
        )
    told = "; ".join(dict.fromkeys(map(str, troubles)))
    raise TrustError(
        f"{version.reference} has {len(troubles)} "
        f"{'signature, which does' if len(troubles) == 1 else 'signatures, which do'} "
        f"not count: {told[:1000]}",
        reason=troubles[0].reason,
        hint=troubles[0].hint,
    )
