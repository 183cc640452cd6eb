"""With what registries are entered: the one place that both ends of a registry go by.

A token in the environment goes before everything else. Without one the registry is asked
what it wants, and gets what ``docker login``, ``podman login`` or a cloud's helper left for
it; anybody may read from registries that let anybody read.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import httpx

from nbmodel.core.credential import TOKEN_VARIABLE, Credential
from nbmodel.errors import ConfigError
from nbmodel.storage.docker_config import find_credential

#: Environment variable with a PEM file of authorities that are believed beside the usual.
CA_VARIABLE = "NBMODEL_CA_FILE"
_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Access:
    """With what registries are entered.

    Attributes:
        token: A bearer token; None: each has its own credential.
        only: ``host[:port]`` of the registry that the token is for; None: for each of them.
        environment: Says where credentials are; see ``storage.docker_config``.
    """

    token: str | None = field(default=None, repr=False)
    only: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Access:
        """What an environment gives; the token may be ``host[:port]=token``, for that host alone.

        A runtime asks whatever registry its config names, so who may set the config could have
        a token for each of them sent to a host of his own.
        """
        host, equals, token = environment.get(TOKEN_VARIABLE, "").partition("=")
        # A token in base 64 may end in "=", with nothing but its like behind.
        if equals and token.strip("=") and _HOST.fullmatch(host):
            return cls(token, host.lower(), environment=dict(environment))
        return cls(environment.get(TOKEN_VARIABLE) or None, environment=dict(environment))

    def token_for(self, host: str) -> str | None:
        """The bearer token for one registry, ``host[:port]``; None without one for it."""
        return self.token if self.only in (None, host.lower()) else None

    def find(self, host: str, cancelled: Callable[[], bool]) -> Credential | None:
        """The credential for one registry, as ``find_credential`` does."""
        return find_credential(host, self.environment, cancelled=cancelled)


def authorities() -> ssl.SSLContext:
    """Whom to believe that a server is who it says; those whom httpx believes, for a start.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` stand in their place, also for servers on
    loopback, where nothing else of the environment counts; ``NBMODEL_CA_FILE`` adds to
    them. The environment of the process alone says so: a file in some folder must not.

    Raises:
        ConfigError: A file holds no certificates, or cannot be read.
    """
    added = os.environ.get(CA_VARIABLE)
    given = added or next(filter(None, map(os.environ.get, _CA_VARIABLES)), None)
    try:
        return _authorities(added, *map(_state, (CA_VARIABLE, *_CA_VARIABLES)))
    except OSError as exc:  # an SSLError is one too
        raise ConfigError(
            f"no certificates can be read from {given}: {exc.strerror or exc}",
            hint=f"it must be a PEM file; see {CA_VARIABLE} and SSL_CERT_FILE",
        ) from exc


@lru_cache(maxsize=4)
def _authorities(added: str | None, *_states: object) -> ssl.SSLContext:
    """Read once for what the environment names: it takes longer than a request does nearby."""
    context = httpx.create_ssl_context(trust_env=True)
    if added:
        context.load_verify_locations(cafile=added)
    return context


def _state(variable: str) -> tuple[str, int, int] | None:
    """What a variable names, and when that changed last; None without one."""
    path = os.environ.get(variable)
    if not path:
        return None
    status = Path(path).stat()
    return path, status.st_mtime_ns, status.st_size
