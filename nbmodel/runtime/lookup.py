"""Which service a request is about: one rule for all front ends, in Triton's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nbmodel.errors import TargetError, UnavailableError

if TYPE_CHECKING:
    from nbmodel.runtime.services import ServiceView


class Services(Protocol):
    """Where services are looked up."""

    def service(self, name: str) -> ServiceView:
        """The service of that name, or TargetError."""


def find(services: Services, name: str, version: str) -> ServiceView:
    """The service of a name, ready or not.

    Args:
        services: Where to look.
        name: Of the service.
        version: That it must have, digits; empty: whichever it has.

    Raises:
        TargetError: It is not there, or in another version.
    """
    try:
        service = services.service(name)
    except TargetError as exc:
        raise unknown(name) from exc
    if version and int(version) != int(service.version):
        raise unknown(name, version)
    return service


def find_ready(services: Services, name: str, version: str) -> ServiceView:
    """The service of a name that can infer.

    Raises:
        TargetError: As ``find``; or it runs nothing.
        UnavailableError: Its model is loaded, and its engine is being brought back.
    """
    service = find(services, name, version)
    if service.reason and service.backend:
        raise UnavailableError(
            f"{name!r} cannot answer just now: {service.reason}",
            hint="it is being started again: try again in a moment",
        )
    if not service.ready:
        raise TargetError(f"Request for unknown model: {name!r} has no available versions")
    return service


def unknown(name: str, version: str = "", *, hint: str | None = None) -> TargetError:
    """The error for a service, or a version of it, that is not there."""
    which = f"{name!r} version {version}" if version else f"{name!r}"
    return TargetError(f"Request for unknown model: {which} is not found", hint=hint)
