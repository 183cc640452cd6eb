"""Bring versions to runtimes: push the bytes, move the tags, change the config, wait.

Order matters: the config is tried without changing anything, then the bytes go, then the
tags that name them, then the config that wants them, so that a runtime never wants what it
cannot have, and a push that breaks off leaves the runtime as it was.

Where a runtime fetches the package from a registry, as its config says, the bytes and tags
go to that registry instead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from nbmodel.backends import backends_for, load_backend
from nbmodel.core.address import is_store
from nbmodel.core.deployment import Deployment
from nbmodel.core.pin import Pin
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.core.remote import Remote
from nbmodel.core.summary import (
    entries,
    fetch_of,
    is_stuck,
    is_under_way,
    number_of,
    phase_of,
    progress_of,
)
from nbmodel.core.unpinned import EMPTY, is_unpinned, unpinned_manifest
from nbmodel.core.version import Version
from nbmodel.display.quantity import duration, file_size
from nbmodel.errors import (
    ConfigConflictError,
    DeployError,
    InputError,
    NbModelError,
    NoCompatibleBackendError,
    PluginError,
    StorageError,
    TargetUnreachableError,
)
from nbmodel.fleet import plan, triton_deploy
from nbmodel.fleet.kinds import Runtime
from nbmodel.fleet.remote import RemoteRuntime
from nbmodel.fleet.triton_runtime import TritonRuntime
from nbmodel.fleet.watch import Watch
from nbmodel.registry import Registry
from nbmodel.storage import MemoryStorage, Progress
from nbmodel.storage.access import Access
from nbmodel.storage.distribution_client import Distribution, Pushed

READY_TIMEOUT_S = 120.0  # a big model on a slow card loads this long; status says more
FETCH_TIMEOUT_S = 30.0  # until a runtime that was told to look has asked its registry
CONFLICT_TRIES = 10  # of a config change; each loses to one that another client won
PINNED = "pinned"  # the tag of a registry's pin; who follows the newest version prefers it
_BEGUN_S = 5.0  # a runtime that was told to look has begun anew by then
_LOOK_S = 0.1  # between looks at a runtime that does not tell of what it does
_OUTSIDE = "it waits for its maintenance window"


@dataclass(frozen=True, slots=True)
class Brought:
    """A service of a runtime that was brought up to date, or could not be.

    Attributes:
        runtime: Name of the runtime.
        service: Name of the service.
        version: The version that should be live there.
        seconds: How long it took.
        delivery: What became of it; None when it could not be brought there.
        error: Why not.
    """

    runtime: str
    service: str
    version: Version
    seconds: float
    delivery: Delivery | None
    error: NbModelError | None = None

    def __str__(self) -> str:
        where = f"{self.service}@{self.runtime}"
        if self.delivery is None:
            hint = f" ({self.error.hint})" if self.error is not None and self.error.hint else ""
            return f"{where} could not be brought to {self.version.reference}: {self.error}{hint}"
        if self.delivery.live.held:
            outcome = f"{where} has {self.version.reference}, and {self.delivery.live.held}"
        else:
            pushed = self.delivery.pushed
            took = [f"{self.seconds:.2f} s"]
            took += [f"{file_size(pushed.sent)} sent"] if pushed.sent else []
            took += [f"{file_size(pushed.saved)} saved"] if pushed.saved else []
            outcome = f"{where} runs {self.version.reference} ({', '.join(took)})"
        probe = self.delivery.live.status.get("probe")
        is_new = not self.delivery.live.held and isinstance(probe, Mapping)
        note = str(probe.get("note") or "") if is_new and isinstance(probe, Mapping) else ""
        return "; ".join(filter(None, [outcome, note, self.delivery.pins]))


@dataclass(frozen=True, slots=True)
class Live:
    """What became of a version on a runtime.

    Attributes:
        status: What the runtime says about the service.
        held: What it waits for before it takes the version up; empty: it serves.
    """

    status: Mapping[str, Any]
    held: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A version that reached a runtime.

    Attributes:
        version: The version.
        pushed: What that moved from here.
        registry: Address of the registry that it went by; None: it went directly.
        live: What became of it.
        policy: How the service takes up versions, as far as its config says that of it.
        attributes: Of its backend, as its config has them.
        pins: What a person should know of the model's pins in that registry; mostly nothing.
    """

    version: Version
    pushed: Pushed
    registry: str | None
    live: Live
    policy: Mapping[str, Any]
    attributes: Mapping[str, Any]
    pins: str = ""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A deployment that was not made.

    Attributes:
        steps: What it would change, a sentence each.
        policy: How the service would take up versions, as far as its config would say so.
        attributes: Of its backend, as its config would have them.
    """

    steps: tuple[str, ...]
    policy: Mapping[str, Any]
    attributes: Mapping[str, Any]


class RefusedError(DeployError):
    """The runtime has looked at the version and does not run it."""


def choose_backend(version: Version, wanted: str | None, on: Runtime | None = None) -> str:
    """The backend for a version: the one asked for, else the first that can run it.

    Args:
        version: What is to be run.
        wanted: The backend asked for, or None.
        on: Where; a bare Triton server has backends of its own.

    Raises:
        NoCompatibleBackendError: None can, or the one asked for cannot.
        PluginError: There is none of that name, or its extra is not installed.
    """
    if isinstance(on, TritonRuntime):
        return triton_deploy.choose_backend(on, version, wanted)
    fitting = backends_for(version.framework)
    if wanted is None and fitting:
        return fitting[0]
    if wanted in fitting and wanted is not None:
        return wanted
    if wanted is not None:
        load_backend(wanted)  # which tells of one that does not exist
    raise NoCompatibleBackendError(
        f"{wanted or 'no backend known here'} cannot run {version.reference}, "
        f"whose format is {version.framework}",
        hint=f"{', '.join(fitting)} can" if fitting else None,
    )


def hold_on(registry: Registry, model: str, runtime: str) -> Pin | None:
    """The pin that decides what a runtime runs of a model: its own, else the registry's."""
    pins = {pin.runtime: pin for pin in registry.pins(model)}
    return pins.get(runtime, pins.get(None))


def check_hold(registry: Registry, version: Version, runtime: str) -> None:
    """Refuse a version asked for by name where a pin holds the model at another.

    Raises:
        DeployError: So it is; with what lets go of the pin.
    """
    pin = hold_on(registry, version.model, runtime)
    if pin is not None and pin.number != version.number:
        raise DeployError(
            f"{pin.holding}, so {version.reference} was not deployed", hint=f"`{pin.release}`"
        )


def bring(
    registry: Registry,
    remote: Runtime,
    deployment: Deployment,
    *,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
    wished: Callable[[], None] = lambda: None,
    retry: bool = True,
) -> Delivery:
    """Make a runtime run what a deployment wants, whatever it runs before.

    Idempotent: what is there already is neither sent nor changed again.

    Args:
        registry: Where versions, aliases and pins are.
        remote: The runtime.
        deployment: Service, model and what it follows.
        change: A further change of the machine config, made in the same step.
        progress: Called with the bytes just sent, or found to be there.
        note: Called with what the runtime is at, while it is waited for.
        wished: Called when the runtime's config wants the version: from then on it goes on by
            itself, whether or not anybody waits.
        retry: Whether the runtime tries a version again that failed on it before: somebody
            asked for it by name.

    Returns:
        The version that is live or waits for its window, and what was sent.

    Raises:
        VersionNotFoundError: What the deployment follows does not exist.
        DeployError: The runtime refused the config or the version, or cannot be reached.
        StorageError: The registry that it fetches from refused the version.
    """
    version = registry.wanted(deployment.model, deployment.runtime, deployment.selector)
    registry.fetch(version)
    if isinstance(remote, TritonRuntime):
        return _bring_to_triton(registry, remote, deployment, version, change, progress, note)
    follows, tags = _names(registry, deployment, version)

    def wish(config: Mapping[str, Any]) -> Mapping[str, Any]:
        return plan.with_package_version(
            change(config),
            deployment.service,
            package=plan.package_id(deployment.model),
            version=follows,
        )

    try:
        before, _ = remote.config()
    except TargetUnreachableError as exc:
        if deployment.registry is None:
            raise
        _send(registry, remote, deployment.registry, version, tags, progress)
        raise TargetUnreachableError(
            f"{exc}; {version.reference} is on {deployment.registry} now",
            hint=f"{remote.name} fetches it from there as soon as it can",
        ) from exc
    wanted = wish(before)
    _check_model(wanted, deployment.service, version)
    if wanted != before:
        # What the runtime would refuse is refused before a byte is sent.
        remote.put_config(wanted, if_match=None, dry_run=True)
    source = plan.registry_of(wanted, deployment.service)
    pushed, pins = _send(registry, remote, source, version, tags, progress)
    watch = Watch(remote)
    if not change_config(remote, wish):
        remote.reconcile(retry=retry)
    wished()
    try:
        live = wait_live(
            remote,
            deployment.service,
            version,
            READY_TIMEOUT_S + _probe_timeout_s(wanted, deployment.service),
            watch=watch,
            note=note,
            asks_s=FETCH_TIMEOUT_S if source is not None else 0.0,
        )
    except RefusedError:
        if not plan.service_entry(before, deployment.service):
            # Nothing ran under that name: what was refused is taken back.
            with suppress(NbModelError):
                change_config(remote, lambda now: plan.without_service(now, deployment.service))
        raise
    policy = plan.policy_of(wanted, deployment.service)
    attributes = plan.attributes_of(wanted, deployment.service)
    return Delivery(version, pushed, source, live, policy, attributes, pins)


def rehearse(
    remote: Runtime,
    version: Version,
    service: str,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Rehearsal:
    """What a deployment would change; nothing is changed.

    Args:
        remote: The runtime.
        version: What would run.
        service: Under which name.
        change: Of the machine config.

    Raises:
        DeployError, ConfigError: The runtime would refuse it.
    """
    if isinstance(remote, TritonRuntime):
        config = triton_deploy.config_of(remote)
        wanted = change(config)
        task = triton_deploy.task_of(remote, wanted, service, version)
        triton_deploy.check(remote, task)
        attributes = task.attributes
    else:
        config, etag = remote.config()
        wanted = change(config)
        _check_model(wanted, service, version)
        remote.put_config(wanted, if_match=etag, dry_run=True)
        attributes = plan.attributes_of(wanted, service)
    return Rehearsal(plan.changes(config, wanted), plan.policy_of(wanted, service), attributes)


def _check_model(config: Mapping[str, Any], service: str, version: Version) -> None:
    """Refuse what a service is asked for and a version cannot have.

    Raises:
        ConfigError: So it is.
    """
    entry = plan.service_entry(config, service)
    try:
        backend = load_backend(str(entry["model"]))
    except (KeyError, PluginError):
        return  # the runtime may know more
    attributes = entry.get("attributes") or {}
    if not backend.check(attributes):
        backend.check_model(attributes, version.signature)


def take_away(registry: Registry, remote: Runtime, service: str) -> None:
    """Stop a service and take it out of its runtime.

    Raises:
        DeployError: There is no such service.
    """
    if isinstance(remote, TritonRuntime):
        known = registry.deployments(runtime=remote.name)
        is_recorded = any(one.service == service for one in known)
        triton_deploy.take_away(remote, service, is_recorded=is_recorded)
    else:
        change_config(remote, lambda config: plan.without_service(config, service))


def roll_back(registry: Registry, remote: Runtime, service: str) -> dict[str, Any]:
    """Take a service back to the version it ran before.

    Returns:
        ``service``, and the versions ``from`` and ``to``.

    Raises:
        TargetError: The runtime has no such service.
        DeployError: There is nothing to go back to.
    """
    if isinstance(remote, TritonRuntime):
        return triton_deploy.roll_back(registry, remote, service)
    return remote.rollback(service)


def follows(registry: Registry, remote: Runtime, status: Mapping[str, Any]) -> dict[str, Any]:
    """A status in which each service of a bare Triton says what it follows here.

    Triton knows which version it runs, and nothing of what may come.
    """
    if not isinstance(remote, TritonRuntime):
        return dict(status)
    known = {one.service: one for one in registry.deployments(runtime=remote.name)}
    services = [
        {**one, "follows": _held_or(registry, known[one["name"]])} if one["name"] in known else one
        for one in entries(status, "services")
    ]
    return {**status, "services": services}


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
    registry: Registry,
    remotes: Mapping[str, Runtime],
    deployments: Iterable[Deployment],
    *,
    retry: bool = False,
) -> list[Brought]:
    """Bring services up to date; one's failure stops no other.

    Args:
        registry: Where versions, aliases and pins are.
        remotes: Runtime name → runtime.
        deployments: The services; those of runtimes that are not known are left out.
        retry: Whether versions are tried again that failed before: somebody asked for it.
    """
    brought = []
    for deployment in deployments:
        remote = remotes.get(deployment.runtime)
        if remote is None:
            continue
        version = registry.wanted(deployment.model, deployment.runtime, deployment.selector)
        began = time.perf_counter()
        delivery, error = None, None
        try:
            delivery = bring(registry, remote, deployment, retry=retry)
        except NbModelError as exc:
            error = exc
        seconds = time.perf_counter() - began
        brought.append(
            Brought(deployment.runtime, deployment.service, version, seconds, delivery, error)
        )
    return brought


def registry_url(given: str | None) -> str | None:
    """The address of a registry as a machine config has it.

    Args:
        given: That, or ``host[:port][/namespace]``; ``plan.OFF`` and None stay as they are.

    Raises:
        InputError: It is none that a runtime can fetch from.
    """
    if given is None or given in (plan.OFF, ""):
        return given
    remote = Remote.parse(given)
    if is_store(remote.base_url):
        raise InputError(
            f"a runtime fetches from registries, not from {remote}",
            hint="push it to a registry; or leave --registry away: it is sent to the runtime",
        )
    return f"{remote.base_url}/{remote.namespace}".rstrip("/")


def wait_live(
    remote: RemoteRuntime,
    service: str,
    version: Version,
    timeout_s: float = READY_TIMEOUT_S,
    *,
    watch: Watch | None = None,
    note: Callable[[str], None] = lambda _: None,
    asks_s: float = 0.0,
) -> Live:
    """Return when a service runs a version and is ready, or has it and waits for its window.

    Args:
        remote: The runtime.
        service: Name of the service.
        version: What it shall run.
        timeout_s: Seconds without any progress after which nobody waits on.
        watch: Since before the runtime was asked for the version; None: made here.
        note: Called with what the service is at.
        asks_s: Seconds that the runtime may take to ask its registry what there is.

    Raises:
        RefusedError: It refused the version, with its reason, or does not want it.
        DeployError: ``timeout_s`` passed, or it cannot be fetched and is not tried again soon.
    """
    watch = Watch(remote) if watch is None else watch
    began = moved = time.monotonic()
    seen: object = None
    while True:
        status = remote.status()
        entry = service_status(status, service)
        live = _outcome(status, entry, version)
        if live is not None:
            return live
        now = time.monotonic()
        _check_refused(remote.name, service, status, version)
        if now - began >= asks_s:
            _check_wanted(remote.name, service, status, version)
        note(progress_of(status, entry))
        fetch = fetch_of(status, entry)
        at = (phase_of(entry), fetch.get("bytes"), fetch.get("attempt"))
        if at != seen:
            seen, moved = at, now
        if is_stuck(fetch) and now - began > _BEGUN_S:
            again = duration(number_of(fetch, "retry_in_s") or 0.0)
            raise DeployError(
                f"{remote.name}: {service} cannot fetch {version.reference}: {fetch['error']}",
                hint=f"{fetch.get('hint') or 'see to its registry'}; it is tried again in {again}, "
                "or at once with `deploy` again",
            )
        if now - moved > timeout_s:
            why = fetch.get("error")
            raise DeployError(
                f"{remote.name}: {service} is still {phase_of(entry) or 'missing'} "
                f"after {now - began:.0f} s{f': {why}' if why else ''}",
                hint=f"see `status {remote.name}`",
            )
        watch.wait(_LOOK_S)


def service_status(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a runtime's status says about one service; empty when it has none."""
    return next((one for one in entries(status, "services") if one.get("name") == name), {})


def _outcome(status: Mapping[str, Any], entry: Mapping[str, Any], version: Version) -> Live | None:
    """What became of the version, when that is decided."""
    if entry.get("digest") == version.digest and entry.get("state") == "ready":
        return Live(entry)
    conditions = {
        one.get("type"): one for one in entry.get("conditions") or () if isinstance(one, Mapping)
    }
    is_here = conditions.get("Fetched", {}).get("status") == "True"
    if phase_of(entry) == "waiting" and is_here and status.get("settled"):
        return Live(entry, str(conditions.get("Probed", {}).get("message") or _OUTSIDE))
    return None


def _check_refused(name: str, service: str, status: Mapping[str, Any], version: Version) -> None:
    """Raise when the runtime has looked at the version, and cannot run it.

    Raises:
        RefusedError: So it is; with the reason, and what serves on.
    """
    entry = service_status(status, service)
    fetch = fetch_of(status, entry)
    why = entry.get("error") or (fetch.get("error") if fetch.get("terminal") else None)
    if why and status.get("settled", True) and not is_under_way(fetch):
        live = entry.get("number")
        is_other = live is not None and entry.get("digest") != version.digest
        still = f"; version {live} keeps serving" if is_other else ""
        raise RefusedError(
            f"{name}: {service} refused {version.reference}: {why}{still}",
            hint=str(entry.get("hint") or f"see `runtime logs {name}`"),
        )


def _check_wanted(name: str, service: str, status: Mapping[str, Any], version: Version) -> None:
    """Raise when the runtime is content with another version.

    Raises:
        RefusedError: So it is.
    """
    entry = service_status(status, service)
    is_content = entry.get("state") == "ready" and phase_of(entry) in ("ready", "provisional")
    if is_content and status.get("settled") and not is_under_way(fetch_of(status, entry)):
        raise RefusedError(
            f"{name}: {service} runs {entry.get('package')} {entry.get('version')} "
            f"and does not want {version.reference}",
            hint=f"see its config: `runtime config {name}`",
        )


def _bring_to_triton(
    registry: Registry,
    runtime: TritonRuntime,
    deployment: Deployment,
    version: Version,
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    progress: Progress | None,
    note: Callable[[str], None],
) -> Delivery:
    config = change(triton_deploy.config_of(runtime))
    task = triton_deploy.task_of(runtime, config, deployment.service, version)
    try:
        outcome = triton_deploy.bring(registry, runtime, task, note=note)
    except triton_deploy.RefusedByTritonError as exc:
        raise RefusedError(str(exc), hint=exc.hint) from exc
    if progress is not None:
        progress(version.size)
    present = 0 if outcome.sent else version.size
    policy = plan.policy_of(config, deployment.service)
    pushed, live = Pushed(outcome.sent, present), Live(outcome.status)
    return Delivery(version, pushed, None, live, policy, task.attributes)


def _held_or(registry: Registry, deployment: Deployment) -> str:
    """What a deployment follows: the version of a pin on its runtime, or what it was made for."""
    version = registry.wanted(deployment.model, deployment.runtime, deployment.selector)
    held = _pin_of(registry, deployment)
    return version.stamp if held == "runtime" else deployment.selector


def _names(
    registry: Registry, deployment: Deployment, version: Version
) -> tuple[str, Sequence[str]]:
    """What the package follows, and the tags that go with the version."""
    held = _pin_of(registry, deployment)
    tags = [str(version.number), version.stamp]
    tags += [alias for alias in version.aliases if alias != "latest"]
    follows = deployment.selector
    if held == "runtime":
        follows = version.stamp
    elif held == "registry":
        tags.append(PINNED)
    elif follows == "latest":
        tags.append("latest")
    return follows, tags


def _send(
    registry: Registry,
    remote: RemoteRuntime,
    source: str | None,
    version: Version,
    tags: Sequence[str],
    progress: Progress | None,
) -> tuple[Pushed, str]:
    """Send a version into the runtime, or to the registry that it fetches from.

    Returns:
        What that moved, and what a person should know of its pins there; mostly nothing.
    """
    with _distribution(remote, source, version.model) as (distribution, repository):
        # Before the tags: a runtime that wants a signature has it when it sees the version.
        distribution.push_signatures(
            repository, registry.storage, version.digest, registry.signatures(version.digest)
        )
        pushed = distribution.push(
            repository, registry.storage, version.digest, tags=tags, progress=progress
        )
        if PINNED not in tags:
            note = _unpin(distribution, repository, is_foreign=source is not None)
        else:
            note = ""
    return pushed, note


@contextmanager
def _distribution(
    remote: RemoteRuntime, source: str | None, model: str
) -> Iterator[tuple[Distribution, str]]:
    """Where a version goes, the runtime or its registry, and what the model is called there."""
    if source is None:
        yield remote.distribution, model
        return
    place = Remote.parse(source)
    with Distribution(place.base_url, access=Access.of(os.environ)) as distribution:
        yield distribution, place.repository(model)


def _unpin(distribution: Distribution, model: str, *, is_foreign: bool) -> str:
    """Take the tag of a pin away, where there is one; or have it say that nothing is pinned.

    Args:
        distribution: Where it is.
        model: The repository.
        is_foreign: Whether it may be a registry that cannot take tags away.

    Returns:
        What a person should know of that; empty: nothing.
    """
    if not is_foreign:
        distribution.delete_tag(model, PINNED)
        return ""
    if PINNED not in distribution.tags(model):
        return ""
    if is_unpinned(distribution.manifest(model, PINNED)):
        return ""
    try:
        distribution.delete_tag(model, PINNED)
    except StorageError:
        storage = MemoryStorage()
        distribution.push_blob(model, storage, storage.add_bytes(EMPTY))
        distribution.push_manifest(model, PINNED, unpinned_manifest())
        return (
            f"{distribution.host} takes no tags away: {model}:{PINNED} stays there, and says now "
            "that nothing is pinned"
        )
    return ""


def _probe_timeout_s(config: Mapping[str, Any], service: str) -> float:
    """How long the runtime may try a version out, in seconds."""
    entry = plan.service_entry(config, service)
    settings = config.get("nbmodel")
    given = settings.get("deployment") if isinstance(settings, Mapping) else None
    usual, _ = DeploymentPolicy.read(given)
    policy, _ = DeploymentPolicy.read(entry.get("deployment"), usual)
    return policy.probe_timeout_s + _patience_s(entry)


def _patience_s(entry: Mapping[str, Any]) -> float:
    """What its backend takes besides, to make something before it loads."""
    try:
        return load_backend(str(entry["model"])).patience_s(entry.get("attributes", {}))
    except Exception:  # noqa: BLE001 # not known here, or a plug-in; the runtime knows
        return 0.0


def _pin_of(registry: Registry, deployment: Deployment) -> str | None:
    """Who holds the model for this deployment: ``runtime``, ``registry`` or nobody."""
    holders = {pin.runtime for pin in registry.pins(deployment.model)}
    if deployment.runtime in holders:
        return "runtime"
    # An explicit version or alias is a wish of its own, which a registry pin overrides
    # only for what follows the name.
    return "registry" if None in holders and deployment.selector == "latest" else None
