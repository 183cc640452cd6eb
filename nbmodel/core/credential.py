"""Who somebody is to a registry."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field

#: Environment variable with a bearer token for registries.
TOKEN_VARIABLE = "NBMODEL_REGISTRY_TOKEN"  # noqa: S105 # a name, no token


@dataclass(frozen=True, slots=True)
class Credential:
    """A name and a password, or an identity token in their place.

    Attributes:
        username: Empty with an identity token that has none.
        password: Never shown.
        identity_token: What a token service takes instead of them; None without one.
    """

    username: str
    password: str = field(default="", repr=False)
    identity_token: str | None = field(default=None, repr=False)

    @property
    def basic(self) -> str:
        """The value of an ``Authorization`` header.

        Source: RFC 7617, in UTF-8.
        """
        return "Basic " + b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        given = (self.password, self.identity_token or "", self.basic.partition(" ")[2])
        return tuple(secret for secret in given if secret)
