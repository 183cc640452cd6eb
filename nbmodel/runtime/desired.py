"""What a machine config asks of this runtime. Rules only: nothing here does I/O.

A service asks for a backend, attributes and packages. Two wishes with one key are the
same to an engine, so nothing is loaded anew: the key has the *content* of packages, not
their version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from nbmodel.backends import backend_name, load_backend
from nbmodel.core.digest import digest_of
from nbmodel.core.document import canonical_json
from nbmodel.core.machine import MachineConfig, Package, Service, quoted, refuse
from nbmodel.core.manifest import Manifest
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import NbModelError, PluginError
from nbmodel.runtime.resolve import PackageVersion


@dataclass(frozen=True, slots=True)
class Found:
    """A package's version that is on the device.

    Attributes:
        version: Which one.
        manifest: What it is.
    """

    version: PackageVersion
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Wish:
    """What a service should run.

    Attributes:
        service: As configured.
        backend: Name of the backend table.
        package: Local name of the package that its model is in; None for a path.
        found: The version of that package, or None.
        key: Equal for wishes that an engine cannot tell apart.
    """

    service: Service
    backend: str
    package: str | None
    found: Found | None
    key: str


def read_config(data: object, environment: Mapping[str, str]) -> MachineConfig:
    """A machine config that this runtime can follow.

    Names, references and attributes are checked; whether packages and files are there is
    not, since they may come later.

    Args:
        data: The JSON document.
        environment: Variables that placeholders may name.

    Raises:
        ConfigError: It cannot be followed; ``problems`` lists everything wrong with it.
    """
    config, problems = MachineConfig.read(data)
    packages = {package.name: package for package in config.packages}
    for service in config.services:
        if service.is_served:
            found = _service_problems(service, packages, environment)
            problems += tuple(f"service {service.name!r}: {problem}" for problem in found)
        elif service.is_vision:
            found = _vision_problems(service, config, packages, environment)
            problems += tuple(f"service {service.name!r}: {problem}" for problem in found)
    refuse(problems)
    return config


def changed_services(before: MachineConfig, after: MachineConfig) -> frozenset[str]:
    """Names of model services that another config asks something else of.

    Those whose entry is new or differs, or a package that they use.
    """
    packages = {one.name: one for one in after.packages}
    former = {one.name: one for one in before.packages}
    others = {name for name, package in packages.items() if former.get(name) != package}
    known = {one.name: one for one in before.services if one.is_served}
    changed = set()
    for service in after.services:
        if service.is_served:
            used = replace_placeholders(
                dict(service.attributes), packages, folder=lambda _: "", environment={}
            ).packages
            if known.get(service.name) != service or others.intersection(used):
                changed.add(service.name)
    return frozenset(changed)


def wish_of(
    service: Service,
    packages: Mapping[str, Package],
    found: Mapping[str, Found | NbModelError],
    environment: Mapping[str, str],
) -> Wish:
    """What a service should run, with the packages that are on the device.

    Args:
        service: A model service.
        packages: Local name → package of the config.
        found: Local name → what became of it on this device.
        environment: Variables that placeholders may name.

    Raises:
        ConfigError: A placeholder means nothing.
        PluginError: There is no such backend.
        NbModelError: Whatever keeps a package that it uses from being there.
    """

    def content(package: Package) -> str:
        there = found[package.name]
        return "" if isinstance(there, NbModelError) else there.manifest.content

    backend = backend_name(service.model)
    replaced = replace_placeholders(
        dict(service.attributes), packages, folder=content, environment=environment
    )
    refuse(replaced.problems)
    for name in replaced.packages:
        there = found[name]
        if isinstance(there, NbModelError):
            raise there
    own = model_package(service, packages)
    version = None if own is None else found[own.name]
    return Wish(
        service=service,
        backend=backend,
        package=None if own is None else own.name,
        found=version if isinstance(version, Found) else None,
        key=digest_of(canonical_json({"backend": backend, "attributes": replaced.value})),
    )


def model_package(service: Service, packages: Mapping[str, Package]) -> Package | None:
    """The package that a service's model is in, whatever else it uses; None for a path.

    It decides which version the service runs, and whose golden sample it must answer.
    """
    path = service.attributes.get("model_path")
    used = replace_placeholders(path, packages, folder=lambda _: "", environment={}).packages
    return packages[used[0]] if used else None


def _service_problems(
    service: Service, packages: Mapping[str, Package], environment: Mapping[str, str]
) -> Iterable[str]:
    replaced = replace_placeholders(
        dict(service.attributes),
        packages,
        folder=lambda package: f"/packages/{package.name}",
        environment=environment,
    )
    yield from replaced.problems
    try:
        backend = load_backend(service.model)
    except PluginError as exc:
        yield f"{exc}" + (f" ({exc.hint})" if exc.hint else "")
        return
    attributes = dict(replaced.value)
    if attributes.get("model_path") in {f"/packages/{name}" for name in replaced.packages}:
        # The package alone stands for its model file, which only the version knows.
        suffix = next((one.suffix for one in backend.attributes if one.name == "model_path"), "")
        attributes["model_path"] += f"/model{suffix}"
    yield from backend.check(attributes)


def _vision_problems(
    service: Service,
    config: MachineConfig,
    packages: Mapping[str, Package],
    environment: Mapping[str, str],
) -> Iterable[str]:
    replaced = replace_placeholders(
        dict(service.attributes),
        packages,
        folder=lambda package: f"/packages/{package.name}",
        environment=environment,
    )
    yield from replaced.problems
    vision, problems = VisionConfig.read(replaced.value)
    yield from problems
    models = [one.name for one in config.services if one.is_served]
    if vision.model and vision.model not in models:
        near = get_close_matches(vision.model, models, n=1)
        known = f"the config has {', '.join(models)}" if models else "the config has none"
        advice = f"did you mean {near[0]!r}?" if near else known
        yield f"mlmodel_name: no model service is called {vision.model!r}; {advice}"
    if vision.camera and not _may_have_camera(config, vision.camera):
        yield f"could not find camera {quoted(vision.camera)}"


def _may_have_camera(config: MachineConfig, name: str) -> bool:
    """Whether the config has that camera, or has parts elsewhere that may have it."""
    document = config.document
    if document.get("remotes") or document.get("modules") or document.get("fragments"):
        return True
    components = document.get("components")
    return isinstance(components, list) and any(
        isinstance(entry, Mapping) and entry.get("name") == name for entry in components
    )
