"""Certificates: whether a chain leads from a signer to an authority that is trusted.

What is checked, in the words of RFC 5280, section 6.1: names and signatures of each link,
times of validity, basic constraints and the length of the path, key usage, and that nothing
critical is passed over. Name constraints and policies are not understood here, so a
certificate that has them as critical is refused. Revocation is not looked up: a device may
have no network, and a trust policy can be changed.

Source: RFC 5280; OpenSSF Model Signing specification 1.0, section 8.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from nbmodel.errors import InputError, TrustError
from nbmodel.signing.key import PublicKey, check_curve

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509Certificate
    from cryptography.x509 import ExtensionType

_E = TypeVar("_E", bound="ExtensionType")

_MAX_DEPTH = 8  # certificates of a path
_MAX_STEPS = 200  # links that are tried; certificates that sign each other lead round
_MIN_RSA = 2048  # bits


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate.

    Attributes:
        x509: The certificate itself.
    """

    x509: X509Certificate

    @property
    def subject(self) -> str:
        """Whose it is: ``CN=Release,O=Example``."""
        return self.x509.subject.rfc4514_string()

    @property
    def names(self) -> tuple[str, ...]:
        """The common name, e-mail addresses, URIs and host names that it is for."""
        from cryptography import x509

        found = [
            str(one.value)
            for one in self.x509.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        ]
        extension = _extension(self.x509, x509.SubjectAlternativeName)
        if extension is not None:
            for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
                found += extension.get_values_for_type(kind)
        return tuple(found)

    @property
    def fingerprint(self) -> str:
        """sha256 of it in DER, 64 hex digits."""
        from cryptography.hazmat.primitives import hashes

        return self.x509.fingerprint(hashes.SHA256()).hex()

    @property
    def der(self) -> bytes:
        """The certificate as bytes."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.x509.public_bytes(Encoding.DER)

    @property
    def is_root(self) -> bool:
        """Whether it says that it signed itself."""
        return self.x509.issuer == self.x509.subject

    @property
    def since(self) -> datetime:
        """From when on it is valid."""
        return self.x509.not_valid_before_utc

    @property
    def until(self) -> datetime:
        """Until when it is valid."""
        return self.x509.not_valid_after_utc


def read_certificates(pem: bytes, what: str) -> tuple[Certificate, ...]:
    """The certificates in a PEM file; at least one.

    Args:
        pem: Bytes of the file.
        what: Which file, for messages.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    from cryptography import x509

    try:
        found = tuple(Certificate(one) for one in x509.load_pem_x509_certificates(pem))
        for one in found:
            _touch(one)
    except _errors() as exc:
        said = (str(exc).splitlines() or [""])[0][:200]
        raise InputError(f"{what} has no certificate in PEM: {said}") from exc
    return found


def check_chain(
    chain: Sequence[bytes], trusted: Iterable[Certificate], at: datetime | None
) -> tuple[Certificate, PublicKey]:
    """The signer's certificate and key, when a chain leads to an authority that is trusted.

    Args:
        chain: In DER: the signer's certificate, then others that may be needed.
        trusted: Authorities; those that signed themselves are trusted, others may be needed.
        at: When the chain must be valid, aware; None: when the signer's certificate began to
            be, however long ago that is.

    Raises:
        TrustError: It does not, or something in it must not be.
    """
    try:
        given = [read_der(one, place) for place, one in enumerate(chain)]
        signer, others = given[0], given[1:]
        try:
            key = PublicKey(check_curve(signer.x509.public_key(), f"certificate {signer.subject}"))
        except InputError as exc:
            raise TrustError(str(exc), reason="NotSupported") from exc
        _check_may_sign(signer)
        known = tuple(trusted)
        anchors = [one for one in known if one.is_root]
        when = signer.since if at is None else at
        search = _Search(anchors, [*others, *known], when)
        _check_time(signer, when)
        if not search.leads(signer, 0):
            raise search.failure(signer)
    except _errors() as exc:
        raise TrustError(
            f"a certificate of the signature cannot be used: {str(exc)[:200] or exc!r}",
            reason="Malformed",
        ) from exc
    return signer, key


class _Search:
    """The way from a certificate up to an anchor."""

    def __init__(
        self, anchors: Sequence[Certificate], others: Sequence[Certificate], when: datetime
    ) -> None:
        self._anchors = anchors
        self._others = others
        self._when = when
        self._steps = 0
        self._trouble: TrustError | None = None

    def leads(self, below: Certificate, depth: int) -> bool:
        """Whether an anchor signed a certificate, or one that leads to it did.

        Args:
            below: The certificate.
            depth: How many authorities are below its issuer.
        """
        if depth >= _MAX_DEPTH:
            return False
        for anchor in self._issuers(self._anchors, below):
            if self._may_issue(anchor, depth):
                return True
        return any(
            self._may_issue(other, depth) and self.leads(other, depth + 1)
            for other in self._issuers(self._others, below)
            if not other.is_root
        )

    def failure(self, signer: Certificate) -> TrustError:
        """Why no way was found."""
        if self._trouble is not None:
            return self._trouble
        names = ", ".join(one.subject for one in self._anchors) or "none"
        return TrustError(
            f"signed with the certificate of {signer.subject}, which no trusted authority "
            f"vouches for (trusted: {names[:300]})",
            reason="OtherSigner",
            hint=None
            if self._anchors
            else "an authority is a certificate that signed itself: give the root",
        )

    def _issuers(
        self, candidates: Sequence[Certificate], below: Certificate
    ) -> Iterator[Certificate]:
        from cryptography.exceptions import InvalidSignature

        for one in candidates:
            if one.x509.subject != below.x509.issuer or self._steps >= _MAX_STEPS:
                continue
            self._steps += 1
            try:
                _check_strength(below, one)
                below.x509.verify_directly_issued_by(one.x509)
            except (ValueError, TypeError, InvalidSignature):
                continue  # another authority may have the same name
            except TrustError as exc:
                self._trouble = exc
                continue
            yield one

    def _may_issue(self, issuer: Certificate, depth: int) -> bool:
        try:
            _check_time(issuer, self._when)
            _check_authority(issuer, depth)
        except TrustError as exc:
            self._trouble = exc
            return False
        return True


def _check_time(one: Certificate, when: datetime) -> None:
    if not one.since <= when <= one.until:
        verb = "is not valid yet" if when < one.since else "has expired"
        raise TrustError(
            f"the certificate of {one.subject} {verb}: it is valid from {one.since:%Y-%m-%d} to "
            f"{one.until:%Y-%m-%d}, and the clock here says {when:%Y-%m-%d %H:%M} UTC",
            reason="NotValidNow",
            hint="is the clock right? Sign again with a certificate that is valid, or have "
            "expiry ignored where that is meant",
        )


def _check_authority(one: Certificate, depth: int) -> None:
    from cryptography import x509

    basic = _extension(one.x509, x509.BasicConstraints)
    usage = _extension(one.x509, x509.KeyUsage)
    if basic is None or not basic.ca or (usage is not None and not usage.key_cert_sign):
        raise TrustError(
            f"{one.subject} signed a certificate, and is no authority", reason="OtherSigner"
        )
    if basic.path_length is not None and basic.path_length < depth:
        raise TrustError(
            f"{one.subject} may have {basic.path_length} authorities below it, found {depth}",
            reason="OtherSigner",
        )
    _check_critical(one)


def _check_may_sign(one: Certificate) -> None:
    """A certificate says what its key is for; a web server's is not for signing models."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = _extension(one.x509, x509.KeyUsage)
    purposes = _extension(one.x509, x509.ExtendedKeyUsage)
    is_for_code = purposes is not None and bool(
        {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}.intersection(
            purposes
        )
    )
    may = (usage is None or usage.digital_signature) and (purposes is None or is_for_code)
    if not may or (usage is None and purposes is None):
        raise TrustError(
            f"the certificate of {one.subject} is not for signing: expected key usage "
            "'digital signature' and, if it names purposes, code signing",
            reason="OtherSigner",
        )
    _check_critical(one)


def _check_critical(one: Certificate) -> None:
    """Refuse what must not be passed over and is not understood here."""
    from cryptography import x509

    understood = (
        x509.BasicConstraints.oid,
        x509.KeyUsage.oid,
        x509.ExtendedKeyUsage.oid,
        x509.SubjectAlternativeName.oid,
        x509.SubjectKeyIdentifier.oid,
        x509.AuthorityKeyIdentifier.oid,
    )
    for extension in one.x509.extensions:
        if extension.critical and extension.oid not in understood:
            raise TrustError(
                f"the certificate of {one.subject} has a critical extension that is not "
                f"understood here: {extension.oid.dotted_string}",
                reason="NotSupported",
            )


def _check_strength(below: Certificate, issuer: Certificate) -> None:
    """Refuse signatures of certificates that can be forged."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    algorithm = below.x509.signature_hash_algorithm  # None for Ed25519 and Ed448
    key = issuer.x509.public_key()
    if algorithm is not None and algorithm.name not in ("sha256", "sha384", "sha512"):
        weak = f"with {algorithm.name}"
    elif isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA:
        weak = f"by an RSA key of {key.key_size} bits"
    else:
        return
    raise TrustError(
        f"the certificate of {below.subject} is signed {weak}, which can be forged",
        reason="NotSupported",
    )


def read_der(der: bytes, place: int) -> Certificate:
    """A certificate of a bundle.

    Args:
        der: Its bytes.
        place: Its place in the bundle, from 0, for messages.

    Raises:
        TrustError: It is malformed.
    """
    from cryptography import x509

    try:
        found = Certificate(x509.load_der_x509_certificate(der))
        _touch(found)
    except _errors() as exc:
        said = (str(exc).splitlines() or [""])[0][:200]
        raise TrustError(
            f"certificate {place + 1} of the signature cannot be read: {said}", reason="Malformed"
        ) from exc
    return found


def _touch(one: Certificate) -> None:
    """Read what is read late, so that what is malformed is told of here."""
    _ = one.x509.extensions, one.subject, one.x509.issuer, one.since, one.until
    _ = one.x509.public_key(), one.x509.signature_hash_algorithm


def _extension(one: X509Certificate, kind: type[_E]) -> _E | None:
    from cryptography import x509

    try:
        return one.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _errors() -> tuple[type[Exception], ...]:
    """What the library raises for certificates that are malformed or odd."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    return (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        x509.InvalidVersion,
    )
