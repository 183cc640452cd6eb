"""Bring versions to runtimes: push the bytes, move the tags, change the config, wait.

Order matters: the config is tried without changing anything, then the bytes go, then the
tags that name them, then the config that wants them, so that a runtime never wants what it
cannot have, and a push that breaks off leaves the runtime as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nbmodel.backends import backends_for
from nbmodel.core.deployment import Deployment
from nbmodel.core.version import Version
from nbmodel.errors import (
    ConfigConflictError,
    DeployError,
    NbModelError,
    NoCompatibleBackendError,
)
from nbmodel.fleet import plan
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.registry import Registry
from nbmodel.storage import Progress
from nbmodel.storage.distribution_client import Pushed

READY_TIMEOUT_S = 120.0  # a big model on a slow card loads this long; status says more
CONFLICT_TRIES = 10  # of a config change; each loses to one that another client won
POLL_S = 0.02  # between looks at the status of a runtime that is changing


@dataclass(frozen=True, slots=True)
class Brought:
    """A service of a runtime that was brought up to date, or could not be.

    Attributes:
        runtime: Name of the runtime.
        service: Name of the service.
        version: The version that should be live there.
        error: Why it is not; None when it is.
        seconds: How long it took.
    """

    runtime: str
    service: str
    version: Version
    error: NbModelError | None
    seconds: float

    def __str__(self) -> str:
        where = f"{self.service}@{self.runtime}"
        if self.error is None:
            return f"{where} runs {self.version.reference} ({self.seconds:.2f} s)"
        hint = f" ({self.error.hint})" if self.error.hint else ""
        return f"{where} could not be brought to {self.version.reference}: {self.error}{hint}"


def choose_backend(version: Version, wanted: str | None) -> str:
    """The backend for a version: the one asked for, else the first that can run it.

    Raises:
        NoCompatibleBackendError: None can, or the one asked for cannot.
    """
    fitting = backends_for(version.framework)
    if wanted is None and fitting:
        return fitting[0]
    if wanted in fitting and wanted is not None:
        return wanted
    able = ", ".join(fitting) or "no backend"
    raise NoCompatibleBackendError(
        f"{version.reference} is a {version.framework} model: "
        f"{wanted or 'no known backend'} cannot run it",
        hint=f"{able} can" if fitting else None,
    )


def bring(
    registry: Registry,
    remote: RemoteRuntime,
    deployment: Deployment,
    *,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    progress: Progress | None = None,
) -> tuple[Version, Pushed]:
    """Make a runtime run what a deployment wants, whatever it runs before.

    Idempotent: what is there already is neither sent nor changed again.

    Args:
        registry: Where versions, aliases and pins are.
        remote: The runtime.
        deployment: Service, model and what it follows.
        change: A further change of the machine config, made in the same step.
        progress: Called with the bytes just sent, or found to be there.

    Returns:
        The version that should be live, and what was sent.

    Raises:
        VersionNotFoundError: What the deployment follows does not exist.
        DeployError: The runtime refused the config or the version, or cannot be reached.
    """
    version = registry.wanted(deployment.model, deployment.runtime, deployment.selector)
    held = _pin_of(registry, deployment)
    tags = [str(version.number), version.stamp]
    tags += [alias for alias in version.aliases if alias != "latest"]
    follows = deployment.selector
    if held == "runtime":
        follows = version.stamp
    elif held == "registry":
        tags.append("pinned")
    elif follows == "latest":
        tags.append("latest")

    def wish(config: Mapping[str, Any]) -> Mapping[str, Any]:
        return plan.with_package_version(
            change(config),
            deployment.service,
            package=plan.package_id(deployment.model),
            version=follows,
        )

    before, _ = remote.config()
    if wish(before) != before:
        # What the runtime would refuse is refused before a byte is sent.
        remote.put_config(wish(before), if_match=None, dry_run=True)
    pushed = remote.distribution.push(
        deployment.model, registry.storage, version.digest, tags=tags, progress=progress
    )
    if held != "registry":
        remote.distribution.delete_tag(deployment.model, "pinned")
    if not change_config(remote, wish):
        remote.reconcile()
    try:
        wait_live(remote, deployment.service, version)
    except DeployError:
        if not plan.service_entry(before, deployment.service):
            # Nothing ran under that name: what was refused is taken back.
            with suppress(NbModelError):
                change_config(remote, lambda now: plan.without_service(now, deployment.service))
        raise
    return version, pushed


def change_config(
    remote: RemoteRuntime, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> bool:
    """Change a runtime's config, again from the start when somebody else was faster.

    Args:
        remote: The runtime.
        change: Gives the wanted config for the one it is given; may be called again.

    Returns:
        Whether there was anything to change.

    Raises:
        ConfigConflictError: Others were faster each time.
        ConfigError: The runtime refuses the config.
    """
    tries_left = CONFLICT_TRIES
    while True:
        config, etag = remote.config()
        wanted = change(config)
        if wanted == config:
            return False
        tries_left -= 1
        try:
            remote.put_config(wanted, if_match=etag)
        except ConfigConflictError:
            if not tries_left:
                raise
        else:
            return True


def bring_all(
    registry: Registry, remotes: Mapping[str, RemoteRuntime], deployments: Iterable[Deployment]
) -> list[Brought]:
    """Bring services up to date; one's failure stops no other.

    Args:
        registry: Where versions, aliases and pins are.
        remotes: Runtime name → runtime.
        deployments: The services; those of runtimes that are not known are left out.
    """
    brought = []
    for deployment in deployments:
        remote = remotes.get(deployment.runtime)
        if remote is None:
            continue
        version = registry.wanted(deployment.model, deployment.runtime, deployment.selector)
        began = time.perf_counter()
        error = None
        try:
            bring(registry, remote, deployment)
        except NbModelError as exc:
            error = exc
        seconds = time.perf_counter() - began
        brought.append(Brought(deployment.runtime, deployment.service, version, error, seconds))
    return brought


def wait_live(
    remote: RemoteRuntime, service: str, version: Version, timeout_s: float = READY_TIMEOUT_S
) -> None:
    """Return when a service runs a version and is ready.

    Raises:
        DeployError: It refused the version (with its reason), or ``timeout_s`` passed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        status = remote.status()
        entry = service_status(status, service)
        if entry.get("digest") == version.digest and entry.get("state") == "ready":
            return
        if entry.get("error") and status.get("settled", True):
            live = entry.get("number")
            still = f"; version {live} keeps serving" if live else ""
            raise DeployError(
                f"{remote.name}: {service} refused {version.reference}: {entry['error']}{still}",
                hint=f"see `runtime logs {remote.name}`",
            )
        if entry.get("state") == "ready" and status.get("settled"):
            raise DeployError(
                f"{remote.name}: {service} runs {entry.get('package')} {entry.get('version')} "
                f"and does not want {version.reference}",
                hint=f"see its config: `runtime config {remote.name}`",
            )
        if time.monotonic() > deadline:
            raise DeployError(
                f"{remote.name}: {service} is still {entry.get('state', 'missing')} "
                f"after {timeout_s:.0f} s",
                hint=f"see `status {remote.name}`",
            )
        time.sleep(POLL_S)


def service_status(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a runtime's status says about one service; empty when it has none."""
    for entry in status.get("services", ()):
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry
            return found
    return {}


def _pin_of(registry: Registry, deployment: Deployment) -> str | None:
    """Who holds the model for this deployment: ``runtime``, ``registry`` or nobody."""
    holders = {pin.runtime for pin in registry.pins(deployment.model)}
    if deployment.runtime in holders:
        return "runtime"
    # An explicit version or alias is a wish of its own, which a registry pin overrides
    # only for what follows the name.
    return "registry" if None in holders and deployment.selector == "latest" else None
