"""Says how the services and packages of a runtime stand, and since when."""

from __future__ import annotations

import threading
from typing import Any

from nbmodel.core.machine import MachineConfig, Package, Service
from nbmodel.core.version import now
from nbmodel.runtime.board import Board
from nbmodel.runtime.conditions import Condition, conditions_of, kept, phase_of
from nbmodel.runtime.desired import model_package
from nbmodel.runtime.follow import Follower
from nbmodel.runtime.model_control import ModelControl
from nbmodel.runtime.passes import Passes
from nbmodel.runtime.report import facts_of, package_status, service_status, vision_status
from nbmodel.runtime.visions import Visions


class Teller:
    """Asks everyone who knows. For use from any thread.

    Args:
        board: How the model services stand.
        follower: Knows what is fetched.
        control: Knows what clients loaded and unloaded.
        visions: Knows vision services.
        passes: Knows whether something is left to look at.
    """

    def __init__(
        self,
        *,
        board: Board,
        follower: Follower,
        control: ModelControl,
        visions: Visions,
        passes: Passes,
    ) -> None:
        self._board = board
        self._follower = follower
        self._control = control
        self._visions = visions
        self._passes = passes
        self._lock = threading.Lock()
        self._conditions: dict[str, tuple[Condition, ...]] = {}

    def told(self, config: MachineConfig) -> dict[str, Any]:
        """What a status says of services and packages."""
        return {
            "services": [self._service(one, config) for one in self._control.served()],
            "vision": [self.vision(one) for one in config.services if one.is_vision],
            "packages": [self._package(one) for one in config.packages],
            "not_served": [
                {"name": one.name, "api": one.api, "why": "not a model service"}
                for one in config.services
                if not one.is_served and not one.is_vision
            ],
        }

    def look(self, config: MachineConfig) -> None:
        """Remember since when all is as it is."""
        names = set()
        for service in self._control.served():
            self._service(service, config)
            names.add(service.name)
        with self._lock:
            self._conditions = {n: one for n, one in self._conditions.items() if n in names}

    def vision(self, service: Service) -> dict[str, Any]:
        """How a vision service stands."""
        status = vision_status(
            service, vision=self._visions.get(service.name), error=self._visions.error(service.name)
        )
        return self._with_state(status, is_stopped=self._passes.is_closing)

    def _service(self, service: Service, config: MachineConfig) -> dict[str, Any]:
        package = model_package(service, {package.name: package for package in config.packages})
        local = None if package is None else package.name
        overlay = self._control.overlay
        account = self._board.account(service.name, local)
        fetch = None if local is None else self._follower.status(local)
        facts = facts_of(
            account,
            fetch=fetch,
            is_overridden=service.name in overlay.overrides,
            is_stopped=self._passes.is_closing or service.name in overlay.unloaded,
        )
        with self._lock:
            before = self._conditions.get(service.name, ())
            conditions = kept(before, conditions_of(facts, now()))
            self._conditions[service.name] = conditions
        status = service_status(
            service,
            account,
            package=package,
            found=None if local is None else self._board.found(local),
            fetch=fetch,
            phase=phase_of(facts),
            conditions=conditions,
        )
        return self._with_state(status, is_stopped=facts.stopped)

    def _with_state(self, status: dict[str, Any], *, is_stopped: bool) -> dict[str, Any]:
        if is_stopped:
            return {**status, "state": "stopped"}
        if status["state"] == "failed" and not self._passes.settled:
            return {**status, "state": "loading"}  # it is being tried again
        return status

    def _package(self, package: Package) -> dict[str, Any]:
        name = package.name
        return package_status(package, self._board.found(name), self._follower.status(name))
