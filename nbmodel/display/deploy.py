"""A deployment that was made, or that would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nbmodel.core.version import Version
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Code, Facts, Mono, Note
from nbmodel.display.quantity import duration, file_size


class Placed(Protocol):
    """What a deployment put into a machine config."""

    @property
    def service(self) -> str:
        """Name of the service."""

    @property
    def package(self) -> str:
        """``<model_id>/<name>``."""

    @property
    def version(self) -> str:
        """What the package follows: ``latest``, an alias, or a version id."""

    @property
    def backend(self) -> str:
        """What runs it."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The backend's attributes."""


@dataclass(frozen=True, repr=False)
class DeployCard(Result):
    """A version on a runtime.

    Attributes:
        runtime: Name of the runtime.
        url: Its address.
        version: What is live there, or would be.
        placement: How it is asked for.
        steps: What would change, a sentence each; only of a dry run.
        sent: Bytes that went over the network.
        present: Bytes that the runtime had already.
        seconds: From asking until it was live; None for a dry run.
    """

    runtime: str
    url: str
    version: Version
    placement: Placed
    steps: Sequence[str] = ()
    sent: int = 0
    present: int = 0
    seconds: float | None = None

    @property
    def target(self) -> str:
        """``service@runtime``: what ``infer`` takes."""
        return f"{self.placement.service}@{self.runtime}"

    @property
    def is_plan(self) -> bool:
        """Whether nothing was changed."""
        return self.seconds is None

    def card(self) -> Card:
        """What runs where, what it follows, and what it cost."""
        attributes = self.placement.attributes
        facts = Facts(
            [
                ("target", Mono(self.target)),
                ("version", (Mono(self.version.reference), self.version.stamp)),
                ("follows", self.placement.version),
                ("backend", self.placement.backend),
                ("attributes", ", ".join(f"{name}={value}" for name, value in attributes.items())),
                ("runtime", Mono(self.url)),
                ("sent", self._moved()),
            ]
        )
        blocks: list[Block] = [facts]
        if self.version.deprecated is not None:
            blocks.insert(0, Note(f"deprecated: {self.version.deprecated}", "bad"))
        if self.is_plan:
            blocks.append(Code("\n".join(self.steps) or "nothing would change"))
        chip = Chip("plan", "info") if self.is_plan else Chip("live", "good")
        took = [] if self.seconds is None else [Chip(duration(self.seconds))]
        return Card(self.target, [chip, *took], blocks, kind="deployment")

    def _moved(self) -> str:
        if self.is_plan:
            return ""
        return f"{file_size(self.sent)}; {file_size(self.present)} were there already"

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "target": self.target,
            "runtime": self.runtime,
            "url": self.url,
            "service": self.placement.service,
            "package": self.placement.package,
            "follows": self.placement.version,
            "backend": self.placement.backend,
            "attributes": dict(self.placement.attributes),
            "reference": self.version.reference,
            "stamp": self.version.stamp,
            "digest": self.version.digest,
            "is_plan": self.is_plan,
            "steps": list(self.steps),
            "sent": self.sent,
            "present": self.present,
            "seconds": self.seconds,
        }

    __repr__ = Result.__str__
