"""Machine configs: Viam's JSON of packages and services, the desired state of a runtime.

What nbmodel does not know (components, modules, services of other kinds, fields of its
own ones) is kept as it was written. Placeholders are in ``core.placeholder``; whether a
backend takes a service's attributes is the runtime's to ask.

Source: viamrobotics/rdk ``config/config.go`` (``PackageConfig``), ``resource/config.go``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from nbmodel.core.digest import digest_of
from nbmodel.core.document import MAX_DEPTH, canonical_json, is_too_deep
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.core.remote import Remote
from nbmodel.errors import ConfigError, InputError

MLMODEL_API = "rdk:service:mlmodel"
VISION_API = "rdk:service:vision"
#: What a vision service over a model service is called; its other kinds are left alone.
VISION_MODELS = ("mlmodel", "rdk:builtin:mlmodel", "viam:vision:mlmodel")
ML_MODEL = "ml_model"
PACKAGE_TYPES = (ML_MODEL, "module", "slam_map", "archive")
MAX_PACKAGE_NAME = 200  # characters
MAX_PACKAGE_ID = 206  # characters: "local/" and the longest name of a model
MAX_SERVICE_NAME = 60  # characters
MAX_URL = 2000  # characters
MAX_NUMBER = 2.0**53  # settings beyond it are no whole numbers in JSON
_NAME = re.compile(r"[a-zA-Z0-9][-\w]*", re.ASCII)
_PACKAGE_ID = re.compile(r"[A-Za-z0-9_-]+(?:/[A-Za-z0-9._-]+){0,2}")


@dataclass(frozen=True, slots=True)
class Package:
    """One entry under ``packages``.

    Attributes:
        name: What placeholders call it.
        package: ``<model id>/<name of the model>``; the model id is ``local`` or an
            organisation's.
        version: ``latest``, a timestamp id, a version number or an alias.
        type: One of ``PACKAGE_TYPES``.
        registry: URL of the registry that it is fetched from; None: others push it here. An
            empty one in the document means none, also where there is a usual one.
    """

    name: str
    package: str
    version: str = "latest"
    type: str = ML_MODEL
    registry: str | None = None

    @property
    def repositories(self) -> tuple[str, ...]:
        """What its model may be called, best first.

        Before the slash stands the model's own namespace (``team/fruit``), or an
        organisation or ``local``, which are no part of the model's name.
        """
        name = self.package.partition("/")[2]
        return (self.package, name) if name else (self.package,)

    @property
    def is_model(self) -> bool:
        """Whether it holds a model; packages of other types are kept and left alone."""
        return self.type == ML_MODEL


@dataclass(frozen=True, slots=True)
class Service:
    """One entry under ``services``.

    Attributes:
        name: Unique among the services of its API.
        api: ``rdk:service:mlmodel`` for a model service.
        model: What implements it: ``viam:mlmodel:onnx-cpu``, ``onnx_cpu``.
        attributes: Its settings, placeholders not yet replaced.
        depends_on: Names of resources it needs.
        deployment: How it takes up new versions.
    """

    name: str
    api: str
    model: str
    attributes: Mapping[str, Any]
    depends_on: tuple[str, ...] = ()
    deployment: DeploymentPolicy = field(default_factory=DeploymentPolicy)

    @property
    def is_served(self) -> bool:
        """Whether it is a model service; others, vision apart, are kept and left alone."""
        return self.api == MLMODEL_API

    @property
    def is_vision(self) -> bool:
        """Whether it is a vision service over a model service."""
        return self.api == VISION_API and self.model in VISION_MODELS


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """What a machine config says about the runtime itself, under ``nbmodel``.

    Attributes:
        registry: URL of the registry for packages that name none; None: they are pushed.
        poll_s: How often registries are asked for new versions, in seconds.
        max_bytes_per_s: What fetching may take of the line; None: all of it.
        min_free_bytes: What fetching leaves free on the disk.
        deployment: How services take up new versions that do not say it themselves.
    """

    registry: str | None = None
    poll_s: float = 60.0
    max_bytes_per_s: int | None = None
    min_free_bytes: int = 64 << 20
    deployment: DeploymentPolicy = field(default_factory=DeploymentPolicy)


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """The desired state of one machine.

    Attributes:
        packages: In the order of the document.
        services: In the order of the document.
        document: All of it as it was written, read-only.
        settings: Of the runtime itself.
    """

    packages: tuple[Package, ...]
    services: tuple[Service, ...]
    document: Mapping[str, Any]
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)

    @classmethod
    def from_json(cls, data: object) -> MachineConfig:
        """Read a machine config; ``to_json`` gives the document back.

        Raises:
            ConfigError: It cannot be used; ``problems`` lists everything wrong with it.
        """
        config, problems = cls.read(data)
        refuse(problems)
        return config

    @classmethod
    def read(cls, data: object) -> tuple[MachineConfig, tuple[str, ...]]:
        """The entries that can be read, and everything wrong with the others.

        For callers that have more to check and want to report all of it at once.
        """
        if not isinstance(data, Mapping):
            return cls((), (), {}), (f"expected a JSON object, found {type(data).__name__}",)
        if is_too_deep(data):
            return cls((), (), {}), (f"nested deeper than {MAX_DEPTH} levels",)
        reader = _Reader()
        settings = reader.settings(data.get("nbmodel"))
        packages = tuple(reader.packages(data.get("packages"), settings))
        services = tuple(reader.services(data.get("services"), settings))
        try:
            canonical_json(data)  # as strict as the etag will be
            document = json.loads(json.dumps(data))
        except (TypeError, ValueError) as exc:
            return cls((), (), {}), (*reader.problems, f"not a JSON document: {exc}")
        return cls(packages, services, document, settings), tuple(reader.problems)

    def to_json(self) -> dict[str, Any]:
        """A copy of the whole document, unknown fields included."""
        return copy.deepcopy(dict(self.document))

    @property
    def etag(self) -> str:
        """The sha256 digest of the document in canonical form."""
        return digest_of(canonical_json(self.document))

    def package(self, name: str) -> Package | None:
        """The package that placeholders call ``name``."""
        return next((package for package in self.packages if package.name == name), None)

    def with_version(self, name: str, version: str) -> MachineConfig:
        """The same config with the package called ``name`` at another version.

        Raises:
            ConfigError: There is no such package.
        """
        document = self.to_json()
        for entry in document.get("packages") or ():
            if entry.get("name") == name:
                entry["version"] = version
                return MachineConfig.from_json(document)
        raise ConfigError(f"no package called {name!r} in the machine config")


def refuse(problems: Iterable[str]) -> None:
    """Raise when there are problems, all of them in one error.

    Raises:
        ConfigError: There is at least one.
    """
    found = tuple(problems)
    if found:
        count = "a problem" if len(found) == 1 else f"{len(found)} problems"
        raise ConfigError(
            f"invalid machine config, {count}: " + "; ".join(found),
            problems=found,
            hint="nothing was changed",
        )


class _Reader:
    """Reads entries, and collects what is wrong instead of stopping at it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def settings(self, entry: object) -> RuntimeSettings:
        where = "nbmodel"
        if entry is None:
            return RuntimeSettings()
        if not isinstance(entry, Mapping):
            self.problems.append(f"{where}: expected an object, found {type(entry).__name__}")
            return RuntimeSettings()
        usual = RuntimeSettings()
        limit = entry.get("max_bytes_per_s")
        known = [one.name for one in fields(RuntimeSettings)]
        for key in entry:
            if key not in known:
                near = get_close_matches(str(key), known, n=1)
                advice = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                self.problems.append(f"{where}.{key}: unknown key; {advice}")
        return RuntimeSettings(
            registry=self._registry(where, entry),
            poll_s=self._number(where, entry, "poll_s", usual.poll_s, low=1),
            max_bytes_per_s=(
                None if limit is None else int(self._number(where, entry, "max_bytes_per_s", 0, 1))
            ),
            min_free_bytes=int(
                self._number(where, entry, "min_free_bytes", usual.min_free_bytes, 0)
            ),
            deployment=self._policy(where, entry, usual.deployment),
        )

    def packages(self, entries: object, settings: RuntimeSettings) -> Iterable[Package]:
        names: set[str] = set()
        for where, entry in self._entries("packages", entries):
            package = self._package(where, entry, settings)
            if package is None:
                continue
            if package.name in names:
                self.problems.append(f"{where}: two packages are called {package.name!r}")
                continue
            names.add(package.name)
            yield package

    def services(self, entries: object, settings: RuntimeSettings) -> Iterable[Service]:
        names: set[tuple[str, str]] = set()
        for where, entry in self._entries("services", entries):
            service = self._service(where, entry, settings)
            if service is None:
                continue
            if (service.api, service.name) in names:
                self.problems.append(f"{where}: two services are called {service.name!r}")
                continue
            names.add((service.api, service.name))
            yield service

    def _entries(self, key: str, entries: object) -> Iterable[tuple[str, Mapping[str, Any]]]:
        if entries is None:
            return
        if not isinstance(entries, list):
            self.problems.append(f"{key}: expected a list, found {type(entries).__name__}")
            return
        for index, entry in enumerate(entries):
            where = f"{key}.{index}"
            if isinstance(entry, Mapping):
                yield where, entry
            else:
                self.problems.append(f"{where}: expected an object, found {type(entry).__name__}")

    def _package(
        self, where: str, entry: Mapping[str, Any], settings: RuntimeSettings
    ) -> Package | None:
        before = len(self.problems)
        name = self._text(where, entry, "name")
        package = self._text(where, entry, "package")
        version = self._version(where, entry)
        # Configs written before packages had types mean models.
        kind = self._text(where, entry, "type") or ML_MODEL
        if not name:
            self.problems.append(f"{where}: empty package name")
        else:
            self._check_name(where, "package", name, MAX_PACKAGE_NAME)
        if not package:
            self.problems.append(f"{where}: empty package id")
        elif len(package) > MAX_PACKAGE_ID:
            self.problems.append(
                f"{where}: package id of {len(package)} characters, "
                f"expected at most {MAX_PACKAGE_ID}"
            )
        elif kind == ML_MODEL and _PACKAGE_ID.fullmatch(package) is None:
            self.problems.append(
                f"{where}: expected <model id>/<name> as package id, found {package!r}"
            )
        if kind not in PACKAGE_TYPES:
            self.problems.append(
                f"{where}: unsupported package type {quoted(kind)}. "
                f"Must be one of: [{' '.join(PACKAGE_TYPES)}]"
            )
        own = self._registry(where, entry) if kind == ML_MODEL else None
        if len(self.problems) > before:
            return None
        source = own if "registry" in entry else settings.registry
        return Package(name, package, version, kind, source)

    def _service(
        self, where: str, entry: Mapping[str, Any], settings: RuntimeSettings
    ) -> Service | None:
        before = len(self.problems)
        name = self._text(where, entry, "name")
        if not name:
            self.problems.append(f"{where}: empty service name")
        else:
            self._check_name(where, "service", name, MAX_SERVICE_NAME)
        api = self._api(where, entry)
        model = self._text(where, entry, "model")
        if api == MLMODEL_API and not model:
            self.problems.append(f"{where}: model service {name!r} has no model")
        attributes = entry.get("attributes")
        if attributes is not None and not isinstance(attributes, Mapping):
            self.problems.append(
                f"{where}: expected an object under attributes, found {type(attributes).__name__}"
            )
        depends_on = entry.get("depends_on") or []
        if not isinstance(depends_on, list) or not all(isinstance(on, str) for on in depends_on):
            self.problems.append(f"{where}: expected a list of names under depends_on")
        policy = DeploymentPolicy()
        if api == MLMODEL_API:
            policy = self._policy(where, entry, settings.deployment)
        if len(self.problems) > before:
            return None
        return Service(name, api, model, dict(attributes or {}), tuple(depends_on), policy)

    def _policy(
        self, where: str, entry: Mapping[str, Any], defaults: DeploymentPolicy
    ) -> DeploymentPolicy:
        policy, problems = DeploymentPolicy.read(entry.get("deployment"), defaults)
        self.problems += [f"{where}.{problem}" for problem in problems]
        return policy

    def _registry(self, where: str, entry: Mapping[str, Any]) -> str | None:
        url = self._text(where, entry, "registry")
        if url and not _is_registry(url):
            self.problems.append(
                f"{where}: expected http[s]://host[:port][/namespace] under registry, "
                f"found {quoted(url[:MAX_URL])}"
            )
        return url.rstrip("/") or None

    def _number(
        self, where: str, entry: Mapping[str, Any], key: str, usual: float, low: float
    ) -> float:
        value = entry.get(key, usual)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.problems.append(f"{where}.{key}: expected a number, found {value!r}")
            return usual
        if not low <= value <= MAX_NUMBER:
            self.problems.append(
                f"{where}.{key}: expected {low:g} to {MAX_NUMBER:g}, found {value!r}"
            )
            return usual
        return value

    def _api(self, where: str, entry: Mapping[str, Any]) -> str:
        """``api``, or what ``namespace`` and ``type`` of older configs say."""
        api = self._text(where, entry, "api")
        kind = self._text(where, entry, "type")
        if kind and ":" not in kind:
            kind = f"{self._text(where, entry, 'namespace') or 'rdk'}:service:{kind}"
        if api and kind and api != kind:
            self.problems.append(f"{where}: api {api!r} and type {kind!r} contradict each other")
        if not api and not kind:
            self.problems.append(f"{where}: expected an api, for example {MLMODEL_API!r}")
        return api or kind

    def _version(self, where: str, entry: Mapping[str, Any]) -> str:
        version = entry.get("version")
        if isinstance(version, int) and not isinstance(version, bool) and version > 0:
            return str(version)  # a number written without quotes
        return self._text(where, entry, "version") or "latest"

    def _text(self, where: str, entry: Mapping[str, Any], key: str) -> str:
        value = entry.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.problems.append(f"{where}: expected text under {key}, found {value!r}")
            return ""
        return value

    def _check_name(self, where: str, what: str, name: str, limit: int) -> None:
        if len(name) > limit or _NAME.fullmatch(name) is None:
            self.problems.append(
                f"{where}: not a {what} name: {quoted(name[:limit])}; expected at most {limit} "
                "letters, digits, '-' and '_', the first a letter or digit"
            )


def _is_registry(url: str) -> bool:
    """Whether a URL names a registry: no user, no query; those would be lost or leaked."""
    plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL
    if not plain or not url.startswith(("http://", "https://")):
        return False
    try:
        Remote.parse(url)
    except InputError:
        return False
    return True


def quoted(text: str) -> str:
    """``text`` as Viam quotes it in messages: ``"text"``."""
    return json.dumps(text, ensure_ascii=False)
