"""The packages of a config as they are on this device, and what services load from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbmodel.backends.python_environment import sweep_environments
from nbmodel.core.machine import MachineConfig, Package
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.errors import DeployError, NbModelError, RefError, StorageError
from nbmodel.formats import model_file
from nbmodel.runtime.code_gate import check_code
from nbmodel.runtime.collector import Collected, Collector
from nbmodel.runtime.desired import Found, Wish, model_package, wish_of
from nbmodel.runtime.packages import Installed, PackageFolder
from nbmodel.runtime.resolve import PackageVersion, resolve
from nbmodel.runtime.services import Source
from nbmodel.runtime.state import Record
from nbmodel.runtime.trust import TrustGate
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import load_manifest
from nbmodel.storage.referrer_store import ReferrerStore
from nbmodel.storage.tags import TagStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stock:
    """What of a config's packages is on the device.

    Attributes:
        packages: Local name → package of the config.
        found: Local name → what became of it.
        installed: Local name → its files, of those that have any.
        damaged: Local name → why its files cannot be laid out.
    """

    packages: Mapping[str, Package]
    found: Mapping[str, Found | NbModelError]
    installed: Mapping[str, Installed]
    damaged: Mapping[str, NbModelError] = field(default_factory=dict)


class Stockroom:
    """Finds versions on the device, and lays out their files.

    Args:
        storage: Where blobs are.
        tags: Where tags are.
        packages: Where packages are laid out.
        environment: Variables that placeholders may name.
        referrers: What refers to the versions, as signatures do; None: nothing does.
        trust: Whether versions may run; None: all may.
        allow_code: Whether models may be code of their own.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        tags: TagStore,
        packages: PackageFolder,
        environment: Mapping[str, str],
        engines: Path | None = None,
        referrers: ReferrerStore | None = None,
        trust: TrustGate | None = None,
        allow_code: bool = False,
    ) -> None:
        self._storage = storage
        self._tags = tags
        self._packages = packages
        self._collector = Collector(storage, tags, referrers=referrers)
        self._trust = trust
        self._allow_code = allow_code
        self._environment = environment
        self._engines = engines

    def look(self, config: MachineConfig) -> dict[str, Found | NbModelError]:
        """What becomes of each package of a config; nothing is written."""
        return {package.name: self._find(package) for package in config.packages}

    def fill(
        self, config: MachineConfig, unpacking: Callable[[str | None], None] = lambda _: None
    ) -> Stock:
        """Lay out the packages of a config that are here; what fails counts as not found.

        Args:
            config: The config.
            unpacking: Told the local name of the package that is being laid out; None at
                the end.
        """
        packages = {package.name: package for package in config.packages}
        used = {
            own.name
            for service in config.services
            if service.is_served and (own := model_package(service, packages)) is not None
        }
        found = self.look(config)
        installed: dict[str, Installed] = {}
        damaged: dict[str, NbModelError] = {}
        for package in config.packages:
            there = found[package.name]
            if isinstance(there, NbModelError):
                continue
            unpacking(package.name)
            try:
                # What a model service uses is pointed at when it serves.
                installed[package.name] = self._packages.install(
                    package, there.version, there.manifest, is_active=package.name not in used
                )
            except NbModelError as exc:
                found[package.name] = damaged[package.name] = exc
            except Exception as exc:  # whatever ails one package stays its own
                logger.exception("package %s cannot be laid out", package.name)
                found[package.name] = damaged[package.name] = _unforeseen(package, exc)
        unpacking(None)
        return Stock(packages, found, installed, damaged)

    def wishes(
        self, config: MachineConfig, found: Mapping[str, Found | NbModelError]
    ) -> dict[str, Wish | NbModelError]:
        """What each model service of a config should run, or why it cannot be had."""
        packages = {package.name: package for package in config.packages}
        wishes: dict[str, Wish | NbModelError] = {}
        for service in config.services:
            if service.is_served:
                try:
                    if not self._allow_code:
                        check_code(service.name, service.model)
                    if self._trust is not None:
                        self._trust.check_attributes(
                            f"service {service.name!r}",
                            service.model,
                            service.attributes,
                            packages,
                        )
                    wishes[service.name] = wish_of(service, packages, found, self._environment)
                except NbModelError as exc:
                    wishes[service.name] = exc
        return wishes

    def source(self, wish: Wish, stock: Stock) -> Source:
        """What a wish is loaded from."""
        own = None if wish.package is None else stock.installed[wish.package]
        return self._source(wish.service.model, wish.service.attributes, wish.key, own, stock)

    def former(self, record: Record, stock: Stock) -> Source:
        """What a version that ran before is loaded from, whatever the config says by now.

        Raises:
            NbModelError: It is not on the device any more, or needs what is not.
        """
        if not self._allow_code:  # it may have been allowed when it ran
            check_code(record.package, record.model)
        package = stock.packages.get(record.package) or Package(record.package, record.repository)
        version = PackageVersion(
            record.repository, record.digest, package.version, record.number, record.stamp
        )
        self._check_trust(version)
        packages = {**stock.packages, package.name: package}
        if self._trust is not None:  # it may have run before there was a policy
            self._trust.check_attributes(
                f"the service of {version.repository}:{record.label}",
                record.model,
                record.attributes,
                packages,
            )
        manifest = load_manifest(self._storage, record.digest)
        own = self._packages.install(package, version, manifest, is_active=False)
        there = Stock(
            packages,
            stock.found,
            {**stock.installed, package.name: own},
        )
        return self._source(record.model, record.attributes, record.key, own, there)

    def activate(self, package: str, installed: Installed) -> None:
        """Have a package's name lead to the files that serve.

        Raises:
            StorageUnavailableError: The disk does not take it.
        """
        self._packages.activate(package, installed)

    def drop_damaged(self, installed: Installed) -> StorageError | None:
        """Let go of what is damaged of a version on this device; what to say of it, or None.

        Raises:
            NbModelError, OSError: It cannot be read, or does not go.
        """
        return self._packages.drop_damaged(installed)

    @property
    def is_untidy(self) -> bool:
        """Whether the last sweep left something that a later one will let go of."""
        return self._collector.is_waiting

    def sweep(
        self, packages: Collection[Package], *, held: Collection[str], is_short: bool = False
    ) -> Collected:
        """Let go of what nothing needs.

        Args:
            packages: Those of the config; they stay, and what moving tags of their models name.
            held: Manifest digests of the versions that stay.
            is_short: Whether something had no room on the disk lately.

        Raises:
            StorageError, OSError: The disk does not let it go.
        """
        self._packages.sweep(names={package.name for package in packages}, digests=held)
        if self._engines is not None:
            sweep_environments(self._engines)
        models = {name for package in packages for name in package.repositories}
        return self._collector.collect(held, models=models, is_short=is_short)

    def _source(
        self,
        model: str,
        configured: Mapping[str, Any],
        key: str,
        own: Installed | None,
        stock: Stock,
    ) -> Source:
        def folder(package: Package) -> str:
            there = stock.installed.get(package.name)
            if there is None:
                raise DeployError(f"package {package.name!r} is not on this device")
            return str(there.folder)

        replaced = replace_placeholders(
            dict(configured), stock.packages, folder=folder, environment=self._environment
        )
        if replaced.problems:
            raise DeployError("; ".join(replaced.problems))
        attributes = dict(replaced.value)
        if own is not None and attributes.get("model_path") == str(own.folder):
            attributes["model_path"] = str(own.folder / model_file(own.manifest))
        return Source(model, attributes, key, own, self._engines)

    def _find(self, package: Package) -> Found | NbModelError:
        if not package.is_model:
            return DeployError(f"packages of type {package.type!r} are not installed here")
        try:
            version = resolve(package, self._tags_of(package))
            self._check_trust(version)
            return Found(version, load_manifest(self._storage, version.digest))
        except NbModelError as exc:
            return exc
        except Exception as exc:  # whatever ails one package stays its own
            logger.exception("package %s cannot be looked at", package.name)
            return _unforeseen(package, exc)

    def _check_trust(self, version: PackageVersion) -> None:
        """Before anything of a version is read but the names of its files.

        Raises:
            TrustError: It may not run.
        """
        if self._trust is not None:
            # As `nbmodel sign` takes it.
            name = version.label if version.number is None else version.number
            self._trust.check(version.repository, f"{version.repository}:{name}", version.digest)

    def _tags_of(self, package: Package) -> dict[str, dict[str, str]]:
        tags_of = {}
        for name in package.repositories:
            try:
                tags = self._tags.tags(name)
            except RefError:
                continue  # Viam's names may have letters that ours have not
            if tags:
                tags_of[name] = tags
        return tags_of


def _unforeseen(package: Package, exc: Exception) -> DeployError:
    return DeployError(f"package {package.name!r} failed: {type(exc).__name__}: {exc}")


def record_of(wish: Wish) -> Record | None:
    """What has to be remembered of a version that a service runs; None for a file by path."""
    if wish.package is None or wish.found is None:
        return None
    version = wish.found.version
    return Record(
        package=wish.package,
        repository=version.repository,
        digest=version.digest,
        number=version.number,
        stamp=version.stamp,
        key=wish.key,
        model=wish.service.model,
        attributes=wish.service.attributes,
    )
