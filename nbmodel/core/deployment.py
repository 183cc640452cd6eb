"""Deployments: what was deployed where, as far as this registry was told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbmodel.core.reference import normal_stamp


@dataclass(frozen=True, slots=True)
class Deployment:
    """One service of one runtime that follows a model of this registry.

    Attributes:
        runtime: Name of the runtime.
        service: Name of the service on it.
        model: The model's present name.
        selector: What the service follows: ``latest``, an alias, a number or a stamp.
        package: Local name of the package on the runtime.
        at: When it was deployed; UTC, ISO 8601.
        registry: Where the runtime fetches it, as its config has it; None: it is sent there.
    """

    runtime: str
    service: str
    model: str
    selector: str
    package: str
    at: str
    registry: str | None = None

    @property
    def target(self) -> str:
        """``service@runtime``."""
        return f"{self.service}@{self.runtime}"

    @property
    def is_fixed(self) -> bool:
        """Whether it names one version, which no later one and no alias changes."""
        return self.selector.isdigit() or normal_stamp(self.selector) is not None

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "runtime": self.runtime,
            "service": self.service,
            "model": self.model,
            "selector": self.selector,
            "package": self.package,
            "at": self.at,
            "registry": self.registry,
        }
