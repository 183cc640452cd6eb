"""What a runtime says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Facts, Fold, Mono, Note, Table
from nbmodel.display.chips import state_chip
from nbmodel.display.quantity import count, file_size, moment


class StatusCard(dict[str, Any], Result):
    """The status of a runtime: a dictionary that shows itself.

    Unknown keys are kept and not shown; a runtime may be newer than this. Where it is
    reached, ``url`` and ``grpc``, is put there by who asked it.

    Attributes:
        known_as: Name it has here; empty: the one it gives itself.
    """

    known_as: str = ""

    def named(self, name: str) -> StatusCard:
        """A copy headed by the name that the runtime has here."""
        return self._changed(known_as=name)

    def card(self) -> Card:
        """Its services with their versions and errors, those for vision, then its packages."""
        services, packages = _entries(self, "services"), _entries(self, "packages")
        own = _said(self, "runtime")
        facts = Facts(
            [
                ("names itself", own if self.known_as and own != self.known_as else ""),
                ("address", Mono(_said(self, "url"))),
                ("gRPC", Mono(_said(self, "grpc"))),
                ("nbmodel", _said(self, "version")),
                ("started", moment(_said(self, "started"))),
                ("config", Mono(short_digest(_said(self, "config")), _said(self, "config"))),
            ]
        )
        blocks: list[Block] = [facts]
        if services:
            blocks.append(_services(services))
            blocks += [Note(_problem(entry), "bad") for entry in services if _said(entry, "error")]
        else:
            blocks.append(Note("no services: deploy a version"))
        vision = _entries(self, "vision")
        if vision:
            blocks.append(_vision(vision))
            blocks += [Note(_problem(entry), "bad") for entry in vision if _said(entry, "error")]
        if packages:
            brief = ", ".join(_said(entry, "name") for entry in packages)
            blocks.append(Fold(count(len(packages), "package"), [_packages(packages)], brief))
        left = [_said(entry, "name") for entry in _entries(self, "not_served")]
        if left:
            blocks.append(Note(f"not model services, left alone: {', '.join(left)}"))
        chips = [Chip(count(len(services), "service"))]
        if self.get("settled") is False:
            chips.append(Chip("changing", "warn"))
        return Card(self.known_as or own or "runtime", chips, blocks, kind="runtime")

    def to_json(self) -> dict[str, Any]:
        """The status as the runtime gave it."""
        return dict(self)

    __repr__ = Result.__str__


def _entries(status: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [entry for entry in status.get(kind) or () if isinstance(entry, Mapping)]


def _said(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return "" if value is None else str(value)


def _services(services: list[Mapping[str, Any]]) -> Table:
    return Table(
        ("service", "", "runs", "follows", "backend", ">inferences", "since (UTC)"),
        [
            (
                Mono(_said(entry, "name")),
                state_chip(_said(entry, "state")),
                _running(entry),
                _said(entry, "follows"),
                _said(entry, "backend").rpartition(":")[2],
                _said(entry, "inferences"),
                moment(_said(entry, "since")),
            )
            for entry in services
        ],
    )


def _vision(services: list[Mapping[str, Any]]) -> Table:
    return Table(
        ("vision service", "", "looks through", "finds", ">pictures", "since (UTC)"),
        [
            (
                Mono(_said(entry, "name")),
                state_chip(_said(entry, "state")),
                _said(entry, "mlmodel_name"),
                ", ".join(what for what in ("classifications", "detections") if entry.get(what)),
                _said(entry, "inferences"),
                moment(_said(entry, "since")),
            )
            for entry in services
        ],
    )


def _problem(entry: Mapping[str, Any]) -> str:
    """Why a service is not what it should be, and what still serves."""
    number = _said(entry, "number")
    still = f"; version {number} keeps serving" if number else ""
    hint = f" ({_said(entry, 'hint')})" if _said(entry, "hint") else ""
    return f"{_said(entry, 'name')}: {_said(entry, 'error')}{still}{hint}"


def _running(entry: Mapping[str, Any]) -> Cell:
    """What a service runs: the version, or the package that has none yet."""
    model, number, digest = _said(entry, "model"), _said(entry, "number"), _said(entry, "digest")
    name = f"{model}:{number}" if model and number else _said(entry, "version")
    if not digest:
        return name
    return Mono(name), Mono(short_digest(digest), digest)


def _packages(packages: list[Mapping[str, Any]]) -> Table:
    return Table(
        ("package", "", "wanted", "has", ">size", "error"),
        [
            (
                Mono(_said(entry, "package") or _said(entry, "name")),
                state_chip(_said(entry, "state")),
                _said(entry, "wanted"),
                _said(entry, "version"),
                file_size(int(entry["bytes"])) if isinstance(entry.get("bytes"), int) else "",
                _said(entry, "error"),
            )
            for entry in packages
        ],
    )
