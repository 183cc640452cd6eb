"""Bundles: a signed statement, with what says whose signature it is. Nothing is checked here.

Source: Sigstore bundle format 0.3 (``sigstore_bundle.proto``); DSSE 1.0, "Protocol" (the
bytes that are signed) and "Envelope"; OpenSSF Model Signing specification 1.0, section 4.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.core.document import canonical_json, is_too_deep, unique_keys
from nbmodel.core.referrer import BUNDLE_TYPE, MAX_BUNDLE
from nbmodel.errors import TrustError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_CHAIN = 16  # certificates
MAX_CERTIFICATE = 64 * 1024  # bytes of one
_MAX_SIGNATURE = 1024  # bytes; one of P-521 has 139
_MAX_HINT = 256  # characters


@dataclass(frozen=True, slots=True)
class Bundle:
    """A signature, as bytes.

    Attributes:
        payload: The statement that is signed.
        signature: ECDSA, in DER.
        hint: Which key it says it is made with, hex digits; None where it does not say. Not
            signed, so it proves nothing.
        chain: Certificates, in DER: the signer's, then those of authorities. Empty for a
            signature by a key alone.
    """

    payload: bytes
    signature: bytes
    hint: str | None = None
    chain: tuple[bytes, ...] = ()

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is of: payload type and payload with their lengths."""
        return b"DSSEv1 %d %s %d %s" % (
            len(PAYLOAD_TYPE),
            PAYLOAD_TYPE.encode(),
            len(self.payload),
            self.payload,
        )

    @property
    def statement(self) -> Mapping[str, Any]:
        """The payload, as parsed JSON.

        Raises:
            TrustError: It is no JSON object.
        """
        return _object(self.payload, "the signed statement")

    def to_bytes(self) -> bytes:
        """The bundle as a file."""
        material: dict[str, Any]
        if self.chain:
            certificates = [{"rawBytes": _base64(one)} for one in self.chain]
            material = {"x509CertificateChain": {"certificates": certificates}}
        else:
            material = {"publicKey": {"hint": self.hint or ""}}
        return canonical_json(
            {
                "mediaType": BUNDLE_TYPE,
                "verificationMaterial": {**material, "tlogEntries": []},
                "dsseEnvelope": {
                    "payload": _base64(self.payload),
                    "payloadType": PAYLOAD_TYPE,
                    "signatures": [{"sig": _base64(self.signature), "keyid": ""}],
                },
            }
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Bundle:
        """Read a bundle that somebody sent.

        Raises:
            TrustError: It is too large, malformed, or of a kind that is not checked here.
        """
        if len(raw) > MAX_BUNDLE:
            raise TrustError(
                f"a signature of {len(raw)} bytes, expected at most {MAX_BUNDLE}",
                reason="Malformed",
            )
        data = _object(raw, "the signature")
        try:
            return _read(data)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise TrustError(
                f"the signature is no Sigstore bundle: {why(exc)}", reason="Malformed"
            ) from exc


def why(exc: Exception) -> str:
    """What was wrong with a document that could not be read, in short."""
    if isinstance(exc, KeyError):
        return f"{exc.args[0]!r:.80} is missing"
    return str(exc)[:200]


def _read(data: Mapping[str, Any]) -> Bundle:
    if data["mediaType"] != BUNDLE_TYPE:
        raise _unsupported(f"is of type {data['mediaType']!r:.100}, expected {BUNDLE_TYPE}")
    if "messageSignature" in data:
        raise _unsupported("is over a file, expected one over a statement (dsseEnvelope)")
    envelope = data["dsseEnvelope"]
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise _unsupported(f"is over {envelope['payloadType']!r:.100}, expected {PAYLOAD_TYPE}")
    (signature,) = envelope["signatures"]
    hint, chain = _material(data["verificationMaterial"])
    found = Bundle(
        payload=_bytes(envelope["payload"], MAX_BUNDLE),
        signature=_bytes(signature["sig"], _MAX_SIGNATURE),
        hint=hint,
        chain=chain,
    )
    if not found.signature:
        raise ValueError("it is empty")
    return found


def _material(material: Mapping[str, Any]) -> tuple[str | None, tuple[bytes, ...]]:
    """What says whose signature it is: a key's hint, or certificates; exactly one of them."""
    kinds = {"publicKey", "x509CertificateChain", "certificate"} & material.keys()
    if len(kinds) != 1:
        raise ValueError(f"{len(kinds)} kinds of verificationMaterial, expected one")
    if "certificate" in kinds:
        raise _unsupported(
            "is by Sigstore without a key, which needs its servers to be checked",
            hint="sign with a key or with a certificate of your own",
        )
    if "publicKey" in kinds:
        hint = material["publicKey"].get("hint")
        if hint is not None and (not isinstance(hint, str) or len(hint) > _MAX_HINT):
            raise ValueError(f"the hint of its key is no short text: {hint!r:.80}")
        return hint or None, ()
    chain = material["x509CertificateChain"]["certificates"]
    if not isinstance(chain, list) or not 0 < len(chain) <= MAX_CHAIN:
        raise ValueError(f"expected 1 to {MAX_CHAIN} certificates")
    return None, tuple(_bytes(one["rawBytes"], MAX_CERTIFICATE) for one in chain)


def _bytes(text: object, limit: int) -> bytes:
    if not isinstance(text, str) or len(text) > 2 * limit:
        raise ValueError(f"expected text of at most {2 * limit} characters in base64")
    try:
        # Either alphabet, as protobuf's JSON readers take it.
        plain = text.replace("-", "+").replace("_", "/")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as exc:
        raise ValueError(f"not base64: {exc}") from exc


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        data = json.loads(raw, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as exc:
        raise TrustError(f"{what} is not JSON: {exc!s:.200}", reason="Malformed") from exc
    if not isinstance(data, dict) or is_too_deep(data):
        raise TrustError(f"{what} is no JSON object of sane depth", reason="Malformed")
    return data


def _unsupported(what: str, *, hint: str | None = None) -> TrustError:
    return TrustError(f"the signature {what}", reason="NotSupported", hint=hint)
