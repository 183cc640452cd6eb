"""Sockets to listen on, and why there is none."""

from __future__ import annotations

import errno
import os
import socket

from nbmodel.errors import InputError

_OF_THE_PORT = (errno.EADDRINUSE, errno.EACCES)


def listen(host: str, port: int, *, is_shared: bool = False, purpose: str = "") -> socket.socket:
    """Listen on an address.

    Args:
        host: Name or IP address of this machine.
        port: 0 for any free one.
        is_shared: Whether other processes may listen there too.
        purpose: For the message: what it is for, when that is not HTTP.

    Raises:
        InputError: It cannot be listened on; the message says why.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=is_shared)
    except OSError as exc:
        raise refusal(host, port, exc, purpose=purpose) from exc


def refusal(host: str, port: int, exc: OSError, *, purpose: str = "") -> InputError:
    """What is said of an address that cannot be listened on.

    Args:
        host: As it was given.
        port: As it was given.
        exc: Why.
        purpose: As for ``listen``.
    """
    is_name = isinstance(exc, socket.gaierror)
    reason = exc.strerror if is_name or exc.errno is None else os.strerror(exc.errno)
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if exc.errno in _OF_THE_PORT and not is_name:
        hint = "port 0 takes a free one"
    else:
        hint = "an address of this machine, or 0.0.0.0 for all its networks"
    return InputError(
        f"cannot listen on {where}{f' for {purpose}' if purpose else ''}: {reason or exc}",
        hint=hint,
    )


def host_for_others(host: str) -> str:
    """A name or address by which other machines may reach what listens on ``host``.

    Args:
        host: The address listened on; one of all networks gives this machine's own.
    """
    if host not in ("0.0.0.0", "::"):  # noqa: S104 # not bound here
        return host
    return _own_address() or socket.gethostname()


def _own_address() -> str | None:
    """The address that packets to other networks would come from; none is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address
