"""Makes services run what the config wants: one pass at a time, each service on its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nbmodel.core.machine import MachineConfig, Package
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.errors import DeployError, InferenceError, NbModelError, RefError
from nbmodel.formats import model_file
from nbmodel.runtime.collector import collect
from nbmodel.runtime.desired import Found, Wish, wish_of
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.packages import Installed, PackageFolder
from nbmodel.runtime.plan import Running, Step, plan_steps
from nbmodel.runtime.resolve import PackageVersion, resolve
from nbmodel.runtime.services import LiveService, Source, load_service
from nbmodel.runtime.state import History, Record, State, StateFolder
from nbmodel.storage.base import Storage
from nbmodel.storage.manifests import load_manifest
from nbmodel.storage.tags import TagStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a service does not run what it should.

    Attributes:
        key: Of the wish that failed; None when there was not even a wish.
        version: Label of the version, or None.
        error: The reason.
    """

    key: str | None
    version: str | None
    error: NbModelError


class Reconciler:
    """The services that run, and the passes that bring them in line with a config.

    ``run`` is called by one thread at a time; everything else by any.

    Args:
        storage: Where blobs are.
        tags: Where tags are.
        packages: Where packages are laid out.
        states: Where the histories of services are kept.
        journal: Told of everything that changes.
        environment: Variables that placeholders may name.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        tags: TagStore,
        packages: PackageFolder,
        states: StateFolder,
        journal: Journal,
        environment: Mapping[str, str],
    ) -> None:
        self._storage = storage
        self._tags = tags
        self._packages = packages
        self._states = states
        self._journal = journal
        self._environment = environment
        self._lock = threading.Lock()
        self._state: State = states.state()
        self._live: dict[str, LiveService] = {}
        self._refusals: dict[str, Refusal] = {}
        self._found: dict[str, Found | NbModelError] = {}

    # What others may ask

    def live(self, name: str) -> LiveService | None:
        """What a service runs, or None."""
        with self._lock:
            return self._live.get(name)

    def sources(self) -> dict[str, Source]:
        """What the services that run were loaded from, by name."""
        with self._lock:
            return {name: live.source for name, live in self._live.items()}

    def refusal(self, name: str) -> Refusal | None:
        """Why a service does not run what it should, or None."""
        with self._lock:
            return self._refusals.get(name)

    def found(self, package: str) -> Found | NbModelError | None:
        """What became of a package in the last pass."""
        with self._lock:
            return self._found.get(package)

    def history(self, name: str) -> History:
        """What a service runs and ran."""
        with self._lock:
            return self._state.services.get(name, History())

    @property
    def given(self) -> str | None:
        """Etag of the config file that the runtime was last started with."""
        return self._state.given

    def remember_given(self, etag: str) -> None:
        """Keep the etag of the config file that the runtime was started with."""
        with self._lock:
            self._save(State(given=etag, services=self._state.services))

    def plan(self, config: MachineConfig) -> tuple[Step, ...]:
        """What a pass would do now; nothing is changed."""
        return plan_steps(self._wishes(config, self._look(config)), self._running())

    # A pass

    def run(self, config: MachineConfig, *, retry: bool, unloaded: Collection[str] = ()) -> None:
        """Bring the services in line with a config.

        Args:
            config: What is wanted.
            retry: Whether to try again what failed before and has not changed since.
            unloaded: Services of the config that shall not run; their history stays.
        """
        found = self._look(config)
        installed = self._install(config, found)
        wishes = {
            name: wish for name, wish in self._wishes(config, found).items() if name not in unloaded
        }
        with self._lock:
            self._found = found
        for step in plan_steps(wishes, self._running()):
            wish = wishes.get(step.service)
            if wish is None:
                self._stop(step.service)
            elif isinstance(wish, NbModelError):
                self._refuse(step.service, Refusal(None, None, wish))
            else:
                self._follow(step, wish, config, installed, retry=retry)
        self._clean(config, found)

    def stop(self) -> None:
        """Take no more requests; requests under way finish."""
        with self._lock:
            services, self._live = list(self._live.values()), {}
        for service in services:
            service.retire()

    def _look(self, config: MachineConfig) -> dict[str, Found | NbModelError]:
        return {package.name: self._find(package) for package in config.packages}

    def _find(self, package: Package) -> Found | NbModelError:
        if not package.is_model:
            return DeployError(f"packages of type {package.type!r} are not installed here")
        try:
            version = resolve(package, self._tags_of(package))
            return Found(version, load_manifest(self._storage, version.digest))
        except NbModelError as exc:
            return exc

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

    def _install(
        self, config: MachineConfig, found: dict[str, Found | NbModelError]
    ) -> dict[str, Installed]:
        """Lay out the packages that were found; one that fails counts as not found."""
        installed = {}
        for package in config.packages:
            there = found[package.name]
            if isinstance(there, NbModelError):
                continue
            try:
                installed[package.name] = self._packages.install(
                    package, there.version, there.manifest
                )
            except NbModelError as exc:
                found[package.name] = exc
        return installed

    def _wishes(
        self, config: MachineConfig, found: Mapping[str, Found | NbModelError]
    ) -> dict[str, Wish | NbModelError]:
        packages = {package.name: package for package in config.packages}
        wishes: dict[str, Wish | NbModelError] = {}
        for service in config.services:
            if service.is_served:
                try:
                    wishes[service.name] = wish_of(service, packages, found, self._environment)
                except NbModelError as exc:
                    wishes[service.name] = exc
        return wishes

    def _running(self) -> dict[str, Running]:
        with self._lock:
            return {
                name: Running(live.key, live.installed.version.digest if live.installed else None)
                for name, live in self._live.items()
            }

    def _follow(
        self,
        step: Step,
        wish: Wish,
        config: MachineConfig,
        installed: Mapping[str, Installed],
        *,
        retry: bool,
    ) -> None:
        name = step.service
        own = None if wish.package is None else installed[wish.package]
        if step.action in ("start", "replace"):
            before = self.refusal(name)
            if before is not None and before.key == wish.key and not retry:
                return
            error = self._switched(wish, config, installed)
            if error is not None:
                self._fall_back(wish, config, installed)
                self._refuse(name, Refusal(wish.key, step.version, error))
            return
        if step.action == "relabel" and own is not None:
            live = self.live(name)
            if live is not None:
                live.relabel(own)
            self._remember(name, wish)
            self._journal.note(f"{name}: now {step.why}")
        with self._lock:
            self._refusals.pop(name, None)

    def _switched(
        self, wish: Wish, config: MachineConfig, installed: Mapping[str, Installed]
    ) -> NbModelError | None:
        """Load what is wished for, and let it serve; or why it does not, and all is as before."""
        try:
            self._switch(wish, self._load(wish, config, installed))
        except NbModelError as exc:
            return exc
        except Exception as exc:  # a plug-in may raise anything; that stays its service's
            logger.exception("service %s cannot be loaded", wish.service.name)
            return InferenceError(f"{wish.backend} failed: {type(exc).__name__}: {exc}")
        return None

    def _fall_back(
        self, wish: Wish, config: MachineConfig, installed: Mapping[str, Installed]
    ) -> None:
        """Go on with what a service ran last, where it runs nothing.

        So a version that is refused stays without effect when the device is switched off and
        on again.
        """
        last = self.history(wish.service.name).live
        package = None if wish.package is None else config.package(wish.package)
        if package is None or last is None or last.package != package.name:
            return
        if (
            self.live(wish.service.name) is not None
            or last.digest == installed[package.name].version.digest
        ):
            return
        version = PackageVersion(
            last.repository, last.digest, package.version, last.number, last.stamp
        )
        try:
            manifest = load_manifest(self._storage, last.digest)
            there = {**installed, package.name: self._packages.install(package, version, manifest)}
            former = wish_of(
                wish.service,
                {one.name: one for one in config.packages},
                {name: Found(one.version, one.manifest) for name, one in there.items()},
                self._environment,
            )
        except NbModelError:
            return  # its files are gone, or the config asks for more than it had
        self._switched(former, config, there)

    def _load(
        self, wish: Wish, config: MachineConfig, installed: Mapping[str, Installed]
    ) -> LiveService:
        replaced = replace_placeholders(
            dict(wish.service.attributes),
            {package.name: package for package in config.packages},
            folder=lambda package: str(installed[package.name].folder),
            environment=self._environment,
        )
        own = None if wish.package is None else installed[wish.package]
        attributes = dict(replaced.value)
        if own is not None and attributes.get("model_path") == str(own.folder):
            attributes["model_path"] = str(own.folder / model_file(own.manifest))

        def note(text: str) -> None:
            self._journal.warn(f"{wish.service.name}: {text}")

        return load_service(Source(wish.service.model, attributes, wish.key, own), note)

    def _switch(self, wish: Wish, live: LiveService) -> None:
        name = wish.service.name
        with self._lock:
            old = self._live.get(name)
            self._live[name] = live
            self._refusals.pop(name, None)
        if old is not None:
            old.retire()
        self._remember(name, wish)
        what = f"version {wish.found.version.label}" if wish.found else "the file of its config"
        self._journal.note(f"{name}: {what} is live on {wish.backend}")

    def _stop(self, name: str) -> None:
        with self._lock:
            live = self._live.pop(name, None)
            self._refusals.pop(name, None)
        if live is not None:
            live.retire()
        self._journal.note(f"{name}: stopped")

    def _refuse(self, name: str, refusal: Refusal) -> None:
        with self._lock:
            before = self._refusals.get(name)
            self._refusals[name] = refusal
            still = "; what ran before goes on" if name in self._live else ""
        if before is None or str(before.error) != str(refusal.error):
            what = f"version {refusal.version}" if refusal.version else "what it should run"
            self._journal.warn(f"{name}: cannot run {what}: {refusal.error}{still}")

    # What is kept

    def _remember(self, name: str, wish: Wish) -> None:
        if wish.package is None or wish.found is None:
            return
        version = wish.found.version
        record = Record(
            package=wish.package,
            repository=version.repository,
            digest=version.digest,
            number=version.number,
            stamp=version.stamp,
        )
        with self._lock:
            history = self._state.services.get(name, History())
            self._save(self._state.with_service(name, history.moved(record)))

    def _save(self, state: State) -> None:
        self._state = state
        try:
            self._states.save_state(state)
        except NbModelError as exc:
            self._journal.warn(f"rollback will not outlive a restart: {exc}")

    def _clean(self, config: MachineConfig, found: Mapping[str, Found | NbModelError]) -> None:
        """Let go of what nothing needs; a disk that refuses keeps no model from running."""
        names = {service.name for service in config.services}
        with self._lock:
            kept = {name: past for name, past in self._state.services.items() if name in names}
            if kept.keys() != self._state.services.keys():
                self._save(State(given=self._state.given, services=kept))
            with_refusal = self._refusals.keys() - names
            for name in with_refusal:
                del self._refusals[name]
        held = {
            record.digest
            for past in kept.values()
            for record in (past.live, past.previous)
            if record is not None
        }
        held |= {there.version.digest for there in found.values() if isinstance(there, Found)}
        packages = {package.name for package in config.packages}
        try:
            self._packages.sweep(names=packages, digests=held)
            gone = collect(self._storage, self._tags, held=held)
        except (NbModelError, OSError) as exc:
            self._journal.warn(f"cannot clean up: {exc}")
            return
        if gone.blobs or gone.tags:
            self._journal.note(
                f"let go of {gone.blobs} blobs ({gone.size} bytes) and {gone.tags} tags"
            )
