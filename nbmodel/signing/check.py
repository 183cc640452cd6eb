"""Making a signature, and checking one against keys and authorities that are trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.errors import InputError, TrustError
from nbmodel.signing.bundle import Bundle
from nbmodel.signing.certificate import Certificate, check_chain, read_der
from nbmodel.signing.key import PrivateKey, PublicKey
from nbmodel.signing.statement import Statement

_SHOWN = 4  # keys named in a message


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Whose signature it is.

    Attributes:
        key: What bundles call the key, 64 hex digits; empty where the signature does not say.
        subject: Whose certificate it is made with; None: with a key alone.
    """

    key: str
    subject: str | None = None

    def __str__(self) -> str:
        if self.subject is not None:
            return f"the certificate of {self.subject}"
        return f"key {self.key[:12]}" if self.key else "a key that it does not name"

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {"key": self.key or None, "subject": self.subject}


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that was checked.

    Attributes:
        statement: What it says.
        by: Who says so.
    """

    statement: Statement
    by: SignedBy


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key that is trusted.

    Attributes:
        name: What people call it: its file.
        key: The key.
    """

    name: str
    key: PublicKey

    def __str__(self) -> str:
        return f"key {self.key.short} ({self.name})"


@dataclass(frozen=True, slots=True)
class Trusted:
    """Whose signatures count.

    Attributes:
        keys: Keys.
        roots: Authorities, whose certificates count; others among them may be needed on the way.
        signers: Patterns of names, one of which a certificate must have; empty: any name.
        ignores_expiry: Whether certificates count that were valid once.
    """

    keys: tuple[TrustedKey, ...] = ()
    roots: tuple[Certificate, ...] = ()
    signers: tuple[str, ...] = ()
    ignores_expiry: bool = False

    def __str__(self) -> str:
        named = [str(one) for one in self.keys[:_SHOWN]]
        named += [f"a certificate from {one.subject}" for one in self.roots if one.is_root][:_SHOWN]
        more = len(self.keys) + sum(one.is_root for one in self.roots) - len(named)
        return " or ".join(named) + (f" or one of {more} more" if more > 0 else "")


def sign(statement: Statement, key: PrivateKey, chain: Sequence[Certificate] = ()) -> Bundle:
    """Sign a statement.

    Args:
        statement: What is said.
        key: Whose signature it is.
        chain: The certificate of that key, then those of authorities that whoever checks it
            may lack; empty: the key stands for itself.

    Raises:
        InputError: The certificate is not the key's.
    """
    if chain:
        own = chain[0].x509.public_key()
        if own != key.key.public_key():
            raise InputError(f"the certificate of {chain[0].subject} is not of the key given")
    unsigned = Bundle(
        statement.to_bytes(),
        b"",
        hint=None if chain else key.public.hint,
        chain=tuple(one.der for one in chain),
    )
    return Bundle(unsigned.payload, key.sign(unsigned.signed), unsigned.hint, unsigned.chain)


def check(bundle: Bundle, trusted: Trusted, *, at: datetime) -> Signed:
    """What a bundle says, when somebody who is trusted signed it.

    Args:
        bundle: The signature.
        trusted: Whose signatures count.
        at: The present time, aware; certificates must be valid then.

    Raises:
        TrustError: Nobody who is trusted signed it, or it cannot be read.
    """
    by = _check_certificate(bundle, trusted, at) if bundle.chain else _check_key(bundle, trusted)
    return Signed(Statement.from_json(bundle.statement), by)


def claimed(bundle: Bundle) -> SignedBy:
    """Who a bundle says that it is by: nothing of that is checked.

    Raises:
        TrustError: Its certificate cannot be read.
    """
    if not bundle.chain:
        return SignedBy(bundle.hint or "")
    return SignedBy("", read_der(bundle.chain[0], 0).subject)


def check_version(
    bundle: Bundle,
    trusted: Trusted,
    *,
    digest: str,
    files: Mapping[str, str],
    at: datetime,
) -> Signed:
    """As ``check``, when what is said is of a version.

    Args:
        bundle: The signature.
        trusted: Whose signatures count.
        digest: Of the version's manifest.
        files: Path → sha256 of each file of the version, 64 hex digits.
        at: The present time, aware.

    Raises:
        TrustError: Nobody who is trusted signed it, or signed something else.
    """
    found = check(bundle, trusted, at=at)
    statement = found.statement
    if statement.manifest not in (None, digest):
        raise TrustError(
            f"signed by {found.by}, but it is the signature of another version: "
            f"{statement.model} {short_digest(statement.manifest or '')}, "
            f"expected {short_digest(digest)}",
            reason="OtherVersion",
        )
    difference = statement.difference(files)
    if difference is not None:
        raise TrustError(
            f"signed by {found.by} over other files: the version is {difference}",
            reason="OtherFiles",
        )
    return found


def _check_key(bundle: Bundle, trusted: Trusted) -> SignedBy:
    for one in trusted.keys:
        # Whatever key it names: makers of bundles work the name out in different ways.
        if one.key.signed(bundle.signature, bundle.signed):
            return SignedBy(one.key.hint)
    named = next((one for one in trusted.keys if one.key.hint == bundle.hint), None)
    if named is not None:
        raise TrustError(
            f"it names {named}, but is not a signature of that key over what it says",
            reason="WrongSignature",
            hint="it was changed on the way, or forged: sign the version again",
        )
    raise TrustError(f"signed by {claimed(bundle)}, expected {trusted}", reason="OtherSigner")


def _check_certificate(bundle: Bundle, trusted: Trusted, at: datetime) -> SignedBy:
    if not trusted.roots:
        raise TrustError(f"signed by {claimed(bundle)}, expected {trusted}", reason="OtherSigner")
    when = None if trusted.ignores_expiry else at
    signer, key = check_chain(bundle.chain, trusted.roots, when)
    if not key.signed(bundle.signature, bundle.signed):
        raise TrustError(
            f"it has the certificate of {signer.subject}, but is not a signature of its key over "
            "what it says",
            reason="WrongSignature",
            hint="it was changed on the way, or forged: sign the version again",
        )
    names = signer.names
    if trusted.signers and not any(
        fnmatchcase(name, pattern) for name in names for pattern in trusted.signers
    ):
        raise TrustError(
            f"signed with the certificate of {signer.subject} "
            f"({', '.join(names)[:200] or 'no names'}), expected one for "
            f"{' or '.join(trusted.signers)[:200]}",
            reason="OtherSigner",
        )
    return SignedBy(key.hint, signer.subject)
