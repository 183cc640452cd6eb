"""Digests: ``sha256:<64 lower-case hex digits>``, the identity of all bytes.

Source: OCI image specification, "Digests" (https://github.com/opencontainers/image-spec).
"""

from __future__ import annotations

import hashlib
import re

from nbmodel.errors import ManifestError

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether ``text`` is a well-formed sha256 digest."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: object, what: str) -> str:
    """Return ``text`` unchanged when it is a well-formed digest.

    Args:
        text: What should be a digest.
        what: What it is the digest of, for the message.

    Raises:
        ManifestError: It is not ``sha256:`` and 64 lower-case hex digits.
    """
    if not isinstance(text, str) or not is_digest(text):
        raise ManifestError(
            f"malformed digest for {what}: expected sha256:<64 hex digits>, found {text!r}"
        )
    return text


def digest_of(data: bytes | bytearray | memoryview) -> str:
    """The sha256 digest of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def short_digest(digest: str) -> str:
    """The first 12 hex digits, for people: ``ab12cd34ef56``."""
    return digest.partition(":")[2][:12]
