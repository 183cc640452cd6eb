"""What a deployment changes in a machine config. Rules only: nothing here does I/O.

The config is Viam's JSON; everything in it that is not the deployment's stays untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from nbmodel.backends import backend_name
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.core.setting import as_typed
from nbmodel.core.version import Version
from nbmodel.errors import ConfigError, DeployError, TargetError

MODEL_NAMESPACE = "local"  # Viam's <model_id> for models that have no namespace
API = "rdk:service:mlmodel"
OFF = "off"  # in place of the address of a registry: from none


@dataclass(frozen=True, slots=True)
class Placement:
    """One service of a runtime, as a machine config asks for it.

    Attributes:
        service: Name of the service and of its package on the runtime.
        package: ``<model_id>/<name>``.
        version: What the package follows: ``latest``, an alias, or a timestamp id.
        backend: Name of the backend table.
        attributes: The backend's attributes.
        deployment: How the service takes up versions, as ``core.policy`` reads it; what it
            does not say stays as it is.
        registry: Address of the registry that the runtime fetches the package from; ``OFF``
            for none of its own, None to leave it as it is.
        reset: Keys of ``deployment`` that go back to what is usual on the runtime.
    """

    service: str
    package: str
    version: str
    backend: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    deployment: Mapping[str, Any] = field(default_factory=dict)
    registry: str | None = None
    reset: tuple[str, ...] = ()


def package_id(model: str) -> str:
    """The ``<model_id>/<name>`` of a model: its namespace, or ``local``."""
    return model if "/" in model else f"{MODEL_NAMESPACE}/{model}"


def package_json(model: str, version: str) -> dict[str, str]:
    """The package entry of a machine config, as Viam's "Copy package JSON" gives it."""
    return {
        "package": package_id(model),
        "version": version,
        "name": local_name(model),
        "type": "ml_model",
    }


def local_name(model: str) -> str:
    """A name for service and package that Viam's rules allow: no ``/`` and no ``.``."""
    return model.replace("/", "-").replace(".", "_")


def place_version(
    version: Version,
    *,
    service: str,
    backend: str,
    follows: str,
    threads: int | None = None,
    attributes: Mapping[str, Any] = MappingProxyType({}),
    deployment: Mapping[str, Any] = MappingProxyType({}),
    registry: str | None = None,
    reset: Iterable[str] = (),
) -> Placement:
    """The placement of a version under a service name.

    The model path is the package's folder: each version says itself which of its files
    is the model, so the service follows on when the next version's is called otherwise.

    Args:
        version: What to deploy.
        service: Name of the service.
        backend: What runs it.
        follows: ``latest``, an alias, or a timestamp id.
        threads: CPU threads of one inference, ≥ 1; None leaves the backend's default.
        attributes: Further ones of the backend.
        deployment: How the service takes up versions.
        registry: Where the runtime fetches it from, ``OFF``, or None.
        reset: Options of ``deployment`` that go back to what is usual, or ``all``; dashes
            in place of underscores will do.

    Raises:
        ConfigError: There is no such option, or a value of ``deployment`` that cannot be.
    """
    _, problems = DeploymentPolicy.read(deployment)
    if problems:
        told = [problem.removeprefix("deployment.") for problem in problems]
        raise ConfigError("; ".join(told), problems=tuple(told))
    asked: dict[str, Any] = {**attributes, "model_path": f"${{packages.ml_model.{service}}}"}
    if threads is not None:
        asked["num_threads"] = threads
    return Placement(
        service,
        package_id(version.model),
        follows,
        backend,
        asked,
        deployment=dict(deployment),
        registry=registry,
        reset=_policy_keys(reset),
    )


def with_placement(config: Mapping[str, Any], placement: Placement) -> dict[str, Any]:
    """The config with a placement in it, in place of a service of the same name.

    What that service says beyond its model (threads, keys of others) stays, unless it is
    for another backend.

    Raises:
        DeployError: The name belongs to a service of another kind.
    """
    before = service_entry(config, placement.service)
    if before.get("api", API) != API or before.get("type", "mlmodel") != "mlmodel":
        raise DeployError(
            f"service {placement.service!r} exists and is not an ML model service",
            hint="deploy with --service and another name",
        )
    package = {
        "name": placement.service,
        "package": placement.package,
        "version": placement.version,
        "type": "ml_model",
    }
    registry = placement.registry
    if registry is None:
        registry = _named(config, "packages", placement.service).get("registry")
    if registry in (OFF, "") and usual_registry(config) is not None:
        package["registry"] = ""  # says no to the usual one
    elif registry not in (OFF, "", None):
        package["registry"] = registry
    model = f"nbmodel:mlmodel:{placement.backend}"
    kept = {}
    if backend_name(str(before.get("model", model))) == placement.backend:
        # The labels come with the version, as the model does.
        about_model = ("model_path", "label_path")
        attributes = before.get("attributes") or {}
        kept = {key: value for key, value in attributes.items() if key not in about_model}
    service = {
        **before,
        "name": placement.service,
        "api": API,
        "model": model,
        "attributes": {**kept, **placement.attributes},
    }
    policy = {
        key: value
        for key, value in (before.get("deployment") or {}).items()
        if key not in placement.reset
    } | dict(placement.deployment)
    if policy:
        service["deployment"] = policy
    else:
        service.pop("deployment", None)
    return {
        **config,
        "packages": _replaced(_entries(config, "packages"), package),
        "services": _replaced(_entries(config, "services"), service),
    }


def policy_of(config: Mapping[str, Any], service: str) -> dict[str, Any]:
    """How a service takes up versions, as far as a config says that of it alone."""
    return dict(service_entry(config, service).get("deployment") or {})


def attributes_of(config: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The backend's attributes of a service, as a config has them."""
    return dict(service_entry(config, service).get("attributes") or {})


def service_entry(config: Mapping[str, Any], service: str) -> Mapping[str, Any]:
    """What a config says about a service; empty when it has none of that name."""
    return _named(config, "services", service)


def registry_of(config: Mapping[str, Any], package: str) -> str | None:
    """Address of the registry that a package of a config is fetched from, or None."""
    own = _named(config, "packages", package).get("registry")
    if own is not None:
        return str(own) or None
    return usual_registry(config)


def usual_registry(config: Mapping[str, Any]) -> str | None:
    """Address of the registry for packages of a config that name none, or None."""
    settings = config.get("nbmodel")
    usual = settings.get("registry") if isinstance(settings, Mapping) else None
    return None if usual is None else str(usual)


def without_service(config: Mapping[str, Any], service: str) -> dict[str, Any]:
    """The config without a service, and without its package where nothing else uses it.

    Raises:
        TargetError: There is no such service.
    """
    services = _entries(config, "services")
    left = [entry for entry in services if entry.get("name") != service]
    if len(left) == len(services):
        names = ", ".join(str(entry.get("name")) for entry in services) or "none"
        raise TargetError(f"no service {service!r}", hint=f"services there: {names}")
    packages = [
        entry
        for entry in _entries(config, "packages")
        if entry.get("name") != service or _mentions(left, service)
    ]
    return {**config, "packages": packages, "services": left}


def with_package_version(
    config: Mapping[str, Any], name: str, *, package: str, version: str
) -> dict[str, Any]:
    """The config with one package at another version, and under its model's present name.

    Args:
        config: The machine config.
        name: Local name of the package.
        package: ``<model_id>/<name>`` of the model.
        version: What the package follows.
    """
    packages = [
        {**entry, "package": package, "version": version} if entry.get("name") == name else entry
        for entry in _entries(config, "packages")
    ]
    return {**config, "packages": packages}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two configs, a sentence each, for people."""
    lines = []
    for kind in ("packages", "services"):
        old = {entry.get("name"): entry for entry in _entries(before, kind)}
        new = {entry.get("name"): entry for entry in _entries(after, kind)}
        noun = kind[:-1]
        lines += [f"add {noun} {_described(kind, new[name])}" for name in new if name not in old]
        lines += [f"remove {noun} {name}" for name in old if name not in new]
        lines += [
            f"change {noun} {_described(kind, old[name])} to {_described(kind, new[name])}"
            for name in new
            if name in old and new[name] != old[name]
        ]
    return tuple(lines)


def _described(kind: str, entry: Mapping[str, Any]) -> str:
    if kind == "packages":
        source = f" from {entry['registry']}" if entry.get("registry") else ""
        return f"{entry.get('name')} ({entry.get('package')} at {entry.get('version')}{source})"
    attributes = entry.get("attributes") or {}
    facts = [str(entry.get("model")).rpartition(":")[2]]
    facts += [f"{name}={as_typed(value)}" for name, value in attributes.items()]
    deployment = entry.get("deployment")
    if isinstance(deployment, Mapping):
        facts += [f"{name}={as_typed(value)}" for name, value in deployment.items()]
    return f"{entry.get('name')} ({', '.join(facts)})"


def _entries(config: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    entries = config.get(kind) or ()
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _named(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    """The entry of that name; empty when there is none."""
    return next((entry for entry in _entries(config, kind) if entry.get("name") == name), {})


def _replaced(
    entries: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """``entries`` with the one of the same name replaced in its place, or appended."""
    names = [existing.get("name") for existing in entries]
    if entry["name"] not in names:
        return [*entries, entry]
    return [entry if existing.get("name") == entry["name"] else existing for existing in entries]


def _mentions(services: Sequence[Mapping[str, Any]], package: str) -> bool:
    return any(
        f"${{packages.ml_model.{package}}}" in str(service)
        or f"${{packages.{package}}}" in str(service)
        for service in services
    )


def _policy_keys(options: Iterable[str]) -> tuple[str, ...]:
    known = tuple(one.name for one in fields(DeploymentPolicy))
    named = [option.lstrip("-").replace("-", "_") for option in options]
    if "all" in named:
        return known
    for option in named:
        if option not in known:
            raise ConfigError(
                f"deployments have no option {option!r}",
                hint=f"one of: {', '.join(known)}; or all",
            )
    return tuple(named)
