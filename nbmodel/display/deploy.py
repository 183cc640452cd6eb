"""A deployment that was made, or that would be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nbmodel.core.setting import as_typed
from nbmodel.core.version import Version
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Code, Facts, Mono, Note
from nbmodel.display.conditions import probe_words, provisional_words
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

    @property
    def deployment(self) -> Mapping[str, Any]:
        """How the service takes up versions, as far as that was given."""


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
        saved: Bytes of changed files that were not sent, since the other side had them in
            other files.
        seconds: From asking until it was live; None for a dry run.
        registry: Address of the registry that it went to; None: to the runtime.
        status: What the runtime said of the service then.
        held: What the runtime waits for before it takes the version up; empty: nothing.
    """

    runtime: str
    url: str
    version: Version
    placement: Placed
    steps: Sequence[str] = ()
    sent: int = 0
    present: int = 0
    saved: int = 0
    seconds: float | None = None
    registry: str | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    held: str = ""

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
        facts = Facts(
            [
                ("target", Mono(self.target)),
                ("version", (Mono(self.version.reference), self.version.stamp)),
                ("follows", self.placement.version),
                ("backend", self._backend()),
                ("attributes", _attributes(self.placement.attributes)),
                ("deployment", _settings(self.placement.deployment)),
                ("runtime", Mono(self.url)),
                ("registry", Mono(self.registry or "")),
                ("sent", self._moved()),
                ("tried out", probe_words(self._trial())),
            ]
        )
        blocks: list[Block] = [facts]
        if not self.is_plan:
            blocks += [Note(text, "warn") for text in self._standing()]
        if self.version.deprecated is not None:
            blocks.insert(0, Note(f"deprecated: {self.version.deprecated}", "bad"))
        if self.is_plan:
            blocks.append(Code("\n".join(self.steps) or "nothing would change"))
        took = [] if self.seconds is None else [Chip(duration(self.seconds))]
        return Card(self.target, [*self._chips(), *took], blocks, kind="deployment")

    def _backend(self) -> str:
        """The backend, with what it runs on where there is a choice."""
        runs_on = self._trial().get("runs_on")
        return f"{self.placement.backend} on {runs_on}" if runs_on else self.placement.backend

    def _chips(self) -> list[Chip]:
        if self.is_plan:
            return [Chip("plan", "info")]
        if self.held:
            still = self.status.get("number")
            serves = [Chip(f"version {still} serves", "good")] if still else []
            return [Chip(f"version {self.version.number} waiting", "warn"), *serves]
        live = Chip(f"version {self.version.number} live", "good")
        return [live, Chip("provisional", "warn")] if self.status.get("provisional") else [live]

    def _trial(self) -> Mapping[str, Any]:
        """What the runtime said of the service, where that is about this version."""
        return {} if self.held else self.status

    def _standing(self) -> Iterator[str]:
        """What is still to come."""
        if self.held:
            still = self.status.get("number")
            serves = f"; version {still} serves meanwhile" if still else ""
            yield f"it is on the device; {self.held}{serves}"
        else:
            words = provisional_words(self.status)
            if words:
                yield f"version {self.version.number} is {words}"
            if self.status.get("note"):
                yield str(self.status["note"])

    def _moved(self) -> str:
        if self.is_plan:
            return ""
        saved = f"; {file_size(self.saved)} saved: only what changed was sent" if self.saved else ""
        return f"{file_size(self.sent)}{saved}; {file_size(self.present)} were there already"

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
            "saved": self.saved,
            "seconds": self.seconds,
            "deployment": dict(self.placement.deployment),
            "registry": self.registry,
            "held": self.held or None,
            "probe": self._trial().get("probe"),
            "provisional": self._trial().get("provisional"),
            "serves": self.status.get("number"),
        }

    __repr__ = Result.__str__


def _attributes(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={as_typed(value)}" for name, value in given.items())


def _settings(given: Mapping[str, Any]) -> str:
    words = {name: _plain(value) for name, value in given.items()}
    return ", ".join(f"{name}={value}" for name, value in words.items())


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return " + ".join(map(str, value)) or "always"
    return str(value)
