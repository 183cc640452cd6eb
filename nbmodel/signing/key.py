"""Keys: elliptic curves P-256, P-384 and P-521, read from PEM files.

Which hash a signature has follows from the curve of the key that is trusted, never from
what a bundle says.

Source: OpenSSF Model Signing specification 1.0, algorithm registry; FIPS 186-5.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbmodel.errors import InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        ECDSA,
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

#: Curve → name of the hash that goes with it.
CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_NAMES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_EXPECTED = "expected one on the elliptic curve P-256, P-384 or P-521"
MAX_PEM = 1024 * 1024  # bytes of a file with keys or certificates


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        key: The key itself.
    """

    key: EllipticCurvePublicKey

    @property
    def hint(self) -> str:
        """What bundles call it: sha256 of its PEM form, 64 hex digits."""
        return hashlib.sha256(self.pem).hexdigest()

    @property
    def short(self) -> str:
        """The first 12 digits of that, for people."""
        return self.hint[:12]

    @property
    def curve(self) -> str:
        """``P-256``."""
        return _NAMES[self.key.curve.name]

    @property
    def pem(self) -> bytes:
        """The key as a file."""
        from cryptography.hazmat.primitives import serialization

        return self.key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def signed(self, signature: bytes, data: bytes) -> bool:
        """Whether a signature is this key's, of these bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, data, _ecdsa(self.key.curve.name))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key that signatures are made with. Its text form does not show it.

    Attributes:
        key: The key itself.
    """

    key: EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        """The key that checks what this one signs."""
        return PublicKey(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """A signature of bytes, in DER."""
        return self.key.sign(data, _ecdsa(self.key.curve.name))

    def pem(self, password: bytes | None) -> bytes:
        """The key as a file, encrypted where there is a password."""
        from cryptography.hazmat.primitives import serialization

        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password),
        )


def make_key() -> PrivateKey:
    """A key that nobody has had before, on P-256."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


def read_public_key(pem: bytes, what: str) -> PublicKey:
    """The public key in a PEM file.

    Args:
        pem: Bytes of the file.
        what: Which file, for messages.

    Raises:
        InputError: There is none, or of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    if b"PRIVATE KEY" in pem:
        stem = what.removesuffix(".pem")
        raise InputError(
            f"{what} has a private key, expected the public one that goes with it",
            hint=f"`sign --make-key` put it beside, as {stem}.pub.pem; of another key: "
            f"openssl pkey -in {what} -pubout -out {stem}.pub.pem",
        )
    try:
        key: Any = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InputError(f"{what} has no public key in PEM: {_said(exc)}") from exc
    return PublicKey(check_curve(key, what))


def read_private_key(pem: bytes, password: bytes | None, what: str) -> PrivateKey:
    """The private key in a PEM file.

    Args:
        pem: Bytes of the file.
        password: What it is encrypted with; None: it is not.
        what: Which file, for messages.

    Raises:
        InputError: There is none, it is of another kind, or the password is not its own.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        key: Any = serialization.load_pem_private_key(pem, password)
    except TypeError as exc:  # a password for a key that is not encrypted, or none for one
        wants = password is None
        raise InputError(
            f"the key in {what} is encrypted" if wants else f"the key in {what} is not encrypted",
            hint="name the variable that has its password: --password-env VAR"
            if wants
            else "leave the password out",
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        is_encrypted = password is not None and b"ENCRYPTED" in pem
        raise InputError(
            f"the password does not open the key in {what}"
            if is_encrypted
            else f"{what} has no private key in PEM: {_said(exc)}"
        ) from exc
    check_curve(key.public_key(), what)
    return PrivateKey(key)


def check_curve(key: Any, what: str) -> EllipticCurvePublicKey:
    """A public key of any kind, which must be on one of the three curves.

    Raises:
        InputError: It is not.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    if not isinstance(key, EllipticCurvePublicKey):
        kind = type(key).__name__.lstrip("_").removesuffix("PublicKey")
        raise InputError(f"{what} has a key of kind {kind}, {_EXPECTED}")
    if key.curve.name not in CURVES:
        raise InputError(f"{what} has a key on curve {key.curve.name}, {_EXPECTED}")
    return key


def _ecdsa(curve: str) -> ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, CURVES[curve])())


def _said(exc: Exception) -> str:
    """The first line of what a library says, which may be long."""
    return (str(exc).splitlines() or [type(exc).__name__])[0][:200]
