"""From what is asked for and what runs to the steps between. Rules only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nbmodel.errors import NbModelError
from nbmodel.runtime.desired import Wish

Action = Literal["start", "replace", "relabel", "keep", "stop", "refuse"]


@dataclass(frozen=True, slots=True)
class Running:
    """What a service runs now.

    Attributes:
        key: Of the wish that it was loaded for.
        digest: Of its version's manifest; None when it runs a file by path.
    """

    key: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """What happens to one service.

    Attributes:
        action: ``start`` (nothing runs yet), ``replace`` (load beside it, then switch),
            ``relabel`` (another version with the same content: nothing is loaded),
            ``keep``, ``stop``, or ``refuse`` (it cannot be had; what runs goes on).
        service: Its name.
        version: The version's label; None for a file by path.
        why: One line for people.
    """

    action: Action
    service: str
    version: str | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "action": self.action,
            "service": self.service,
            "version": self.version,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a machine config does to a runtime.

    Attributes:
        etag: Of the config.
        changed: Whether it differs from the one before.
        steps: One for each service, in the config's order; stops come first.
    """

    etag: str
    changed: bool
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "etag": self.etag,
            "changed": self.changed,
            "steps": [step.to_json() for step in self.steps],
        }

    def __str__(self) -> str:
        lines = [f"{step.action} {step.service}: {step.why}" for step in self.steps]
        return "\n".join(lines) or "no services"


def plan_steps(
    wishes: Mapping[str, Wish | NbModelError], running: Mapping[str, Running]
) -> tuple[Step, ...]:
    """The steps from what runs to what is wished for.

    Args:
        wishes: Service → what it should run, or why it cannot.
        running: Service → what it runs.
    """
    stops = [
        Step("stop", name, None, "it is not in the config")
        for name in running
        if name not in wishes
    ]
    return (*stops, *(_step(name, wish, running.get(name)) for name, wish in wishes.items()))


def _step(name: str, wish: Wish | NbModelError, running: Running | None) -> Step:
    if isinstance(wish, NbModelError):
        return Step("refuse", name, None, str(wish))
    version = wish.found.version if wish.found else None
    label = version.label if version else None
    what = f"version {label}" if version else "the file of its config"
    if running is None:
        return Step("start", name, label, what)
    if running.key != wish.key:
        return Step("replace", name, label, what)
    if version is not None and running.digest != version.digest:
        return Step("relabel", name, label, f"{what} has the same content")
    return Step("keep", name, label, what)
