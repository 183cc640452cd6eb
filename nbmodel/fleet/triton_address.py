"""Addresses of Triton servers that are runtimes of their own: ``triton+grpc://jetson:8001``."""

from __future__ import annotations

from nbmodel.backends.triton_client import Endpoint
from nbmodel.errors import ConfigError, InputError

PREFIX = "triton+"


def is_triton(url: str) -> bool:
    """Whether an address is, or was meant to be, that of a Triton server."""
    return url.partition("://")[0].startswith("triton")


def endpoint_of(url: str) -> Endpoint:
    """Where the server of an address listens.

    Args:
        url: ``triton+grpc://host:8001`` or ``triton+http://host:8000``; ``grpcs`` and ``https``
            for TLS.

    Raises:
        InputError: It is something else.
    """
    try:
        return Endpoint.parse(url.removeprefix(PREFIX) if url.startswith(PREFIX) else "")
    except ConfigError:
        raise InputError(
            f"not the address of a Triton server: {url[:200]!r}",
            hint="triton+grpc://host:8001, or triton+http://host:8000",
        ) from None


def check_triton_url(url: str) -> str:
    """The address in its one form, with a port.

    Raises:
        InputError: It is not that of a Triton server.
    """
    return f"{PREFIX}{endpoint_of(url)}"
