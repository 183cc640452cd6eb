"""Services that do not run what they should follow, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.core.deployment import Deployment
from nbmodel.core.summary import brief, entries, fetch_of, held_by, is_under_way, progress_of
from nbmodel.core.version import Version
from nbmodel.fleet.deploy import service_status
from nbmodel.fleet.kinds import Runtime
from nbmodel.fleet.triton_runtime import TritonRuntime
from nbmodel.registry import Registry


@dataclass(frozen=True, slots=True)
class Behind:
    """A service that does not run what it should.

    Attributes:
        line: That, why, and what to do.
        is_held: Whether all is well, and it waits for its maintenance window.
    """

    line: str
    is_held: bool = False


def behind(registry: Registry, remote: Runtime, status: Mapping[str, Any]) -> Iterator[Behind]:
    """The services that were deployed from here and do not run what they should.

    Args:
        registry: Where versions, aliases and pins are.
        remote: The runtime.
        status: What it says of itself.
    """
    for one in registry.deployments(runtime=remote.name):
        wanted = registry.wanted(one.model, remote.name, one.selector)
        entry = service_status(status, one.service)
        if not entry and isinstance(remote, TritonRuntime):
            yield Behind(
                f"{one.service} is not there any more: Triton was started again, or somebody "
                f"unloaded it; `deploy --on {one.runtime}` brings back all that it ran"
            )
        if entry and entry.get("digest") != wanted.digest:
            yield _behind(one, wanted, status, entry)


def _behind(
    one: Deployment, wanted: Version, status: Mapping[str, Any], entry: Mapping[str, Any]
) -> Behind:
    should = f"{one.service} should run {wanted.reference}"
    failed = entry.get("failed")
    if isinstance(failed, Mapping) and failed.get("digest") == wanted.digest:
        reason = brief(str(failed.get("reason")))  # the status has all of it
        return Behind(f"{should}, which was given up there: {reason}")
    held = held_by(entry)
    if held and wanted.stamp in _here(status, entry):
        return Behind(f"{should}: it is on the device; {held}", is_held=True)
    fetch = fetch_of(status, entry)
    if fetch.get("error"):
        return Behind(f"{should}, which could not be fetched: {fetch['error']}")
    doing = progress_of(status, entry)
    if doing and (is_under_way(fetch) or status.get("settled") is False):
        return Behind(f"{should}: it is {doing}")
    if entry.get("error"):
        return Behind(f"{should}: {brief(str(entry['error']))}")
    return Behind(f"{should}: `deploy --on {one.runtime}` brings it")


def _here(status: Mapping[str, Any], entry: Mapping[str, Any]) -> set[str]:
    """The version of a service's package that is on the device."""
    packages = entries(status, "packages")
    return {str(one.get("version")) for one in packages if one.get("name") == entry.get("package")}
