"""The vision services of a runtime, kept in line with its config and its model services."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nbmodel.core.machine import MachineConfig, Package, Service
from nbmodel.core.placeholder import replace_placeholders
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import ConfigError, InferenceError, InputError, NbModelError, UnavailableError
from nbmodel.label_file import read_label_file
from nbmodel.runtime.board import Board
from nbmodel.runtime.journal import Journal
from nbmodel.runtime.plan import Action, Step

if TYPE_CHECKING:
    from nbmodel.runtime.vision_service import Infer, Served, TryOut, VisionService

logger = logging.getLogger(__name__)


class Visions:
    """Every vision service of the config, working or not.

    ``follow`` is called by one thread at a time; everything else by any.

    Args:
        infer: Runs a request on a model service.
        try_out: Runs one that nobody sent, and that does not count.
        board: How the model services stand.
        why_not: Why a model service runs nothing.
        folder: Where a package of that local name has its files.
        environment: Variables that placeholders may name.
        journal: Told of everything that changes.
    """

    def __init__(
        self,
        *,
        infer: Infer,
        try_out: TryOut,
        board: Board,
        why_not: Callable[[str], str],
        folder: Callable[[str], Path],
        environment: Mapping[str, str],
        journal: Journal,
    ) -> None:
        self._infer = infer
        self._try_out = try_out
        self._board = board
        self._why_not = why_not
        self._folder = folder
        self._environment = environment
        self._journal = journal
        self._lock = threading.Lock()
        self._services: dict[str, VisionService] = {}
        self._errors: dict[str, NbModelError] = {}
        self._given: dict[str, Service] = {}

    def get(self, name: str) -> VisionService | None:
        """A service of that name that was set up, or None."""
        with self._lock:
            return self._services.get(name)

    def error(self, name: str) -> NbModelError | None:
        """Why a service does not work, or None."""
        with self._lock:
            return self._errors.get(name)

    def plan(self, config: MachineConfig) -> tuple[Step, ...]:
        """What ``follow`` would do with a config; nothing is changed."""
        wanted = {service.name: service for service in config.services if service.is_vision}
        with self._lock:
            running = {name: service.config.model for name, service in self._services.items()}
            given = dict(self._given)
        stops = [
            Step("stop", name, None, "it is not in the config")
            for name in running
            if name not in wanted
        ]
        steps = []
        for name, service in wanted.items():
            why = f"a vision service over {service.attributes.get('mlmodel_name')}"
            action: Action = "start" if name not in running else "replace"
            if name in running and given.get(name) == service:
                action = "keep"
            steps.append(Step(action, name, None, why))
        return (*stops, *steps)

    def follow(self, config: MachineConfig, *, retry: bool = False) -> None:
        """Set up what the config asks for, and try it on what the model services run now.

        Args:
            config: What is wanted.
            retry: Whether to try again what failed before and has not changed since.
        """
        wanted = {service.name: service for service in config.services if service.is_vision}
        with self._lock:
            gone = self._services.keys() - wanted.keys()
            self._services = {n: s for n, s in self._services.items() if n in wanted}
            self._errors = {n: e for n, e in self._errors.items() if n in wanted}
            self._given = wanted
        for name in sorted(gone):
            self._journal.note(f"{name}: stopped")
        packages = {package.name: package for package in config.packages}
        for service in wanted.values():
            self._bring_up(service, packages, retry=retry)

    def _bring_up(self, service: Service, packages: Mapping[str, Package], *, retry: bool) -> None:
        name = service.name
        try:
            ours = self._set_up(service, packages)
            before = ours.since
            ours.fit(retry=retry)
            able = ours.properties()
        except NbModelError as exc:
            self._fail(name, exc)
            return
        except Exception as exc:  # one service's trouble stays its own
            logger.exception("vision service %s cannot be set up", name)
            self._fail(name, InferenceError(f"{type(exc).__name__}: {exc}"))
            return
        with self._lock:
            self._errors.pop(name, None)
        if ours.since != before:
            tasks = [
                *(["classifier"] if able.classifications_supported else []),
                *(["detector"] if able.detections_supported else []),
            ]
            self._journal.note(f"{name}: {ours.config.model} is used as {' and '.join(tasks)}")

    def _set_up(self, service: Service, packages: Mapping[str, Package]) -> VisionService:
        """The service as the config asks for it: the one that is there, or a new one."""
        # Imaging is loaded for runtimes that look at pictures only.
        from nbmodel.runtime.vision_service import VisionService

        try:
            config, labels = self._read(service, packages)
        except NbModelError:
            with self._lock:
                self._services.pop(service.name, None)
            raise
        ours = self.get(service.name)
        if ours is not None and (ours.config, ours.labels) == (config, labels):
            return ours

        def served() -> Served:
            return self._served(config.model)

        ours = VisionService(
            service.name,
            config,
            labels,
            infer=self._infer,
            try_out=self._try_out,
            served=served,
        )
        with self._lock:
            self._services[service.name] = ours
        return ours

    def _served(self, model: str) -> Served:
        from nbmodel.runtime.vision_service import Served

        live = self._board.live(model)
        if live is None:
            raise UnavailableError(f"model service {model!r} is not ready: {self._why_not(model)}")
        digest = live.installed.version.digest if live.installed is not None else None
        return Served((live.key, live.since, digest), live.signature, live.metadata)

    def _read(
        self, service: Service, packages: Mapping[str, Package]
    ) -> tuple[VisionConfig, tuple[str, ...]]:
        replaced = replace_placeholders(
            dict(service.attributes),
            packages,
            folder=lambda package: str(self._folder(package.name)),
            environment=self._environment,
        )
        config, problems = VisionConfig.read(replaced.value)
        problems = (*replaced.problems, *problems)
        if problems:
            raise ConfigError("; ".join(problems), problems=problems)
        return config, read_labels(Path(config.label_path)) if config.label_path else ()

    def _fail(self, name: str, error: NbModelError) -> None:
        with self._lock:
            before = self._errors.get(name)
            self._errors[name] = error
        if before is None or str(before) != str(error):
            self._journal.warn(f"{name}: {error}")


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in a file.

    A blank line is a label without a name, so that the others keep their indices. (Viam
    skips it, and shifts all that follow.)

    Raises:
        ConfigError: It cannot be read, or is no label file.
    """
    try:
        return read_label_file(path)
    except InputError as exc:
        raise ConfigError(f"failed to read file {path}: {exc}", hint=exc.hint) from exc
