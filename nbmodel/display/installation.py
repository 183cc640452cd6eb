"""A runtime that is a service of its machine, or would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Code, Facts, Fold, Mono, Note, Tone

_TONES: Mapping[str, Tone] = {"running": "good", "removed": "calm"}


@dataclass(frozen=True, repr=False)
class InstallCard(Result):
    """A service of systemd.

    Attributes:
        name: Of the runtime.
        path: Of the unit file.
        unit: What is in it; empty when it was taken away.
        url: Where the runtime is reached from this machine.
        home: Where it keeps models and state; empty when nobody knows.
        is_user: Whether it is a service of the user, instead of the machine.
        state: ``running``, ``removed``, or empty when only the unit was asked for.
        lingers: Whether it runs while nobody is logged in.
        warnings: Why it could not run here, when only the unit was asked for.
    """

    name: str
    path: str
    unit: str
    url: str
    home: str
    is_user: bool
    state: str = ""
    lingers: bool = True
    warnings: tuple[str, ...] = ()

    def card(self) -> Card:
        """Where it is, how it is looked after, and how it is undone; or the unit alone."""
        if not self.state:
            return Card("", blocks=[Code(self.unit.rstrip("\n"))], kind="systemd unit")
        scope = "--user " if self.is_user else ""
        service = f"nbmodel-{self.name}"
        chips = [Chip(self.state, _TONES.get(self.state, "calm"))]
        if self.state == "removed":
            kept = Facts([("unit", Mono(self.path)), ("files kept in", Mono(self.home))])
            return Card(service, chips, [kept], kind="service")
        undo = f"nbmodel runtime uninstall {self.name}{' --user' if self.is_user else ''}"
        facts = Facts(
            [
                ("unit", Mono(self.path)),
                ("address", Mono(self.url)),
                ("home", Mono(self.home)),
                ("looks after it", Mono(f"systemctl {scope}status {service}")),
                ("says", Mono(f"journalctl {scope}-u {service}")),
                ("undo", Mono(undo)),
            ]
        )
        blocks: list[Block] = [
            facts,
            *self._remarks(),
            Fold("unit", [Code(self.unit.rstrip("\n"))]),
        ]
        return Card(service, chips, blocks, kind="service")

    def _remarks(self) -> list[Note]:
        if self.is_user:
            known = f"known here as {self.name}: nbmodel status {self.name}"
            asleep = (
                "it runs while you are logged in; `loginctl enable-linger` has it run from boot on"
            )
            return [Note(known)] if self.lingers else [Note(known), Note(asleep, "warn")]
        return [
            Note(
                f"make it known: nbmodel runtime add {self.name} {self.url}, where it wants a "
                f"token with --token and what is in {self.home}/token"
            )
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "name": self.name,
            "state": self.state or "printed",
            "unit_file": self.path,
            "unit": self.unit,
            "url": self.url,
            "home": self.home,
            "user": self.is_user,
            "lingers": self.lingers,
            "warnings": list(self.warnings),
        }

    __repr__ = Result.__str__
