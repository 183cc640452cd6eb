"""Which server is talked to, what it is called in messages, and how it is reached."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from nbmodel.core.address import is_loopback
from nbmodel.errors import InputError
from nbmodel.inference.http1 import field_lines

CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 60.0  # a slow model on a slow card
_MODEL = re.compile(
    r"(?P<url>https?://[^/]+(?:/[^/]+)*?)(?:/v2/models)?/(?P<model>[^/?#]+)"
    r"(?:/versions/(?P<version>[0-9]+))?"
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the inference protocol, by its address.

    Attributes:
        url: ``http[s]://host[:port][/path]``, without a slash at the end.
        token: What it wants to be shown, or None.
        label: What it is called in messages.
        if_away: What to do when it does not answer, or None.
        if_refused: What to do when it wants another token, or None.

    Raises:
        InputError: ``url`` is not the address of a server, or ``token`` cannot be sent.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    label: str = ""
    if_away: str | None = None
    if_refused: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        if not self.label:
            object.__setattr__(self, "label", self.url)
        field_lines(self.headers)

    @property
    def host(self) -> str:
        """Name or address, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port; that of the scheme when the address has none."""
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def path(self) -> str:
        """What comes before ``/v2``, percent-encoded; may be empty."""
        return quote(urlsplit(self.url).path, safe="/%:@!$&'()*+,;=~")

    @property
    def headers(self) -> Mapping[str, str]:
        """What every request carries."""
        return {"Host": urlsplit(self.url).netloc, **self.credentials}

    @property
    def credentials(self) -> Mapping[str, str]:
        """The header that shows the token; none without a token."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine; a proxy could not reach it."""
        return is_loopback(self.host)

    def is_direct(self) -> bool:
        """Whether a plain connection reaches it: no TLS, and no proxy from the environment."""
        if urlsplit(self.url).scheme != "http":
            return False
        if self.is_local:
            return True
        proxies = getproxies()
        return not (proxies.get("http") or proxies.get("all")) or bool(proxy_bypass(self.host))


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """A model of any server, in one address.

    Attributes:
        url: The server's.
        model: Name of the model there.
        version: Of the model; empty: the server's choice.
    """

    url: str
    model: str
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelAddress:
        """``http://host:8000/digits`` or ``…/v2/models/digits[/versions/3]``.

        Raises:
            InputError: It is neither.
        """
        found = _MODEL.fullmatch(text.rstrip("/"))
        if found is None:
            raise InputError(
                f"no model in the address {text!r}", hint="for example http://triton:8000/digits"
            )
        return cls(check_url(found["url"]), unquote(found["model"]), found["version"] or "")


def check_timeout(seconds: float) -> float:
    """Seconds to wait for an answer.

    Raises:
        InputError: They are not more than 0.
    """
    if not seconds > 0:
        raise InputError(f"timeout_s: expected more than 0 seconds, found {seconds!r}")
    return seconds


def check_url(text: str, what: str = "server") -> str:
    """An address in full: ``pi:8000`` becomes ``http://pi:8000``.

    Args:
        text: As a person gave it.
        what: Whose address it is, for messages.

    Raises:
        InputError: It is not an address, or holds a user, a query or a fragment.
    """
    if text.lower().startswith(("grpc://", "grpcs://")):
        host = text.partition("://")[2].partition(":")[0]
        triton = f"; of a bare Triton server, triton+{text}" if what == "runtime" else ""
        raise InputError(
            f"{what} {text!r}: HTTP is spoken here, not gRPC",
            hint=f"its HTTP address, for example http://{host}:8080{triton}",
        )
    url = (text if "://" in text else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(url)
        is_fine = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_fine = False
    if not is_fine or parts.scheme not in _PORTS or "@" in parts.netloc:
        raise InputError(
            f"not the address of a {what}: {text!r}", hint="for example http://raspberrypi:8080"
        )
    if parts.query or parts.fragment:
        raise InputError(f"the address of a {what} has no query or fragment, found {text!r}")
    return url
