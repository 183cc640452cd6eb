"""Network addresses as text: rules that ask no name server."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from nbmodel.errors import InputError

STORES = ("s3", "gs", "az", "file")  # schemes of object stores
_FORMS = "forms: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///folder"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MAX_STORE = 1000  # characters


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_store(address: str) -> bool:
    """Whether an address is of an object store, by its scheme."""
    scheme, colon, _ = address.partition("://")
    return bool(colon) and scheme.lower() in STORES


def store_address(text: str) -> str:
    """The address of an object store: scheme, bucket and prefix, without a slash at the end.

    Args:
        text: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix`` or
            ``file:///folder``.

    Raises:
        InputError: It is no such address, or has a credential in it.
    """
    try:
        parts = urlsplit(text)
    except ValueError as exc:
        raise InputError("not the address of an object store", hint=_FORMS) from exc
    scheme = parts.scheme.lower()
    if "@" in parts.netloc or parts.query or parts.fragment:
        # An address may carry a password: it is not shown.
        raise InputError(
            "the address of an object store has a bucket and a prefix, found more",
            hint="credentials of the store come from the environment",
        )
    segments = [unquote(one) for one in parts.path.split("/") if one]
    bad = any(one in (".", "..") or not one.isprintable() for one in segments)
    placed = (
        bool(segments) and not parts.netloc
        if scheme == "file"
        else _BUCKET.fullmatch(parts.netloc) is not None
    )
    if scheme not in STORES or bad or not placed or len(text) > _MAX_STORE:
        raise InputError(
            f"not the address of an object store: {text[:200]!r}",
            hint=_FORMS,
        )
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}"
