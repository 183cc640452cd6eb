"""What a runtime says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.core.event import Event
from nbmodel.core.summary import entries, fetch_of, number_of, phase_of
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Code, Facts, Fold, Mono, Note, Table
from nbmodel.display.chips import state_chip
from nbmodel.display.conditions import (
    Standing,
    conditions_table,
    entry,
    fetch_problem,
    fetched_words,
    is_quiet,
    said,
    settings_words,
    steps_table,
)
from nbmodel.display.device import device_facts
from nbmodel.display.quantity import count, file_size, moment


class StatusCard(dict[str, Any], Result):
    """The status of a runtime: a dictionary that shows itself.

    Unknown keys are kept and not shown; a runtime may be newer than this. Where it is
    reached, ``url`` and ``grpc``, is put there by who asked it.

    Attributes:
        known_as: Name it has here; empty: the one it gives itself.
        events: What happened last, shown below; oldest first.
        missed: Why it does not answer any more, so that this is old; empty: it does.
        exit_code: What a program ends with that shows this.
    """

    known_as: str = ""
    events: tuple[Event, ...] | None = None
    missed: str = ""
    exit_code: int = 0

    def named(self, name: str) -> StatusCard:
        """A copy headed by the name that the runtime has here."""
        return self._changed(known_as=name)

    def with_events(self, events: Iterable[Event]) -> StatusCard:
        """A copy that is looked at while it changes, with what happened last."""
        return self._changed(events=tuple(events))

    def without_events(self) -> StatusCard:
        """A copy that nobody looks at while it changes."""
        return self._changed(events=None)

    def away(self, why: str) -> StatusCard:
        """A copy of a runtime that does not answer any more."""
        return self._changed(missed=why)

    def ending(self, exit_code: int) -> StatusCard:
        """A copy with which a program ends so."""
        return self._changed(exit_code=exit_code)

    @property
    def failed(self) -> bool:
        """Whether a service does not run what it should, or cannot get it."""
        services = [*entries(self, "services"), *entries(self, "vision")]
        return any(
            phase_of(one) == "failed" or one.get("error") or fetch_of(self, one).get("terminal")
            for one in services
        )

    def card(self) -> Card:
        """Its services with their versions and what is to say of them, then its packages."""
        services, packages = entries(self, "services"), entries(self, "packages")
        own = said(self, "runtime")
        chips = [Chip(count(len(services), "service"))]
        if self.get("settled") is False:
            chips.append(Chip("changing", "warn"))
        blocks: list[Block] = []
        if self.missed:
            chips.append(Chip("does not answer", "bad"))
            blocks.append(Note(f"this is old: {self.missed}", "bad"))
        notes = self.get("warnings")
        if isinstance(notes, list):
            blocks += [Note(str(note), "warn") for note in notes]
        blocks += [self._facts(own), *self._services(services)]
        vision = entries(self, "vision")
        if vision:
            blocks.append(_vision(vision))
            blocks += [Note(_problem(one), "bad") for one in vision if said(one, "error")]
        blocks += self._conditions(services)
        counted = [one for one in services if entry(one, "statistics")]
        if counted:
            blocks.append(_statistics(counted))
        if packages:
            brief = ", ".join(said(entry, "name") for entry in packages)
            blocks.append(Fold(count(len(packages), "package"), [_packages(packages)], brief))
        left = [said(entry, "name") for entry in entries(self, "not_served")]
        if left:
            blocks.append(Note(f"not model services, left alone: {', '.join(left)}"))
        others = ", ".join(_other(one) for one in entries(self, "others"))
        if others:
            blocks.append(Note(f"not deployed by nbmodel, left alone: {others}"))
        trials = self.get("trials")
        if isinstance(trials, list) and trials:
            names = ", ".join(map(str, trials))
            blocks.append(Note(f"being tried out, or left by a trial that was broken off: {names}"))
        if self.events:
            blocks.append(Code("\n".join(event.line for event in self.events)))
        return Card(self.known_as or own or "runtime", chips, blocks, kind="runtime")

    def _facts(self, own: str) -> Facts:
        return Facts(
            [
                ("names itself", own if self.known_as and own != self.known_as else ""),
                ("address", Mono(said(self, "url"))),
                ("gRPC", Mono(said(self, "grpc"))),
                ("nbmodel", said(self, "version")),
                ("server", said(self, "server")),
                ("started", moment(said(self, "started"))),
                ("config", Mono(short_digest(said(self, "config")), said(self, "config"))),
                *device_facts(entry(self, "device")),
            ]
        )

    def _services(self, services: list[Mapping[str, Any]]) -> Iterator[Block]:
        if not services:
            yield Note("no services: deploy a version")
            return
        standings = [Standing(self, service) for service in services]
        yield _services(standings)
        for standing in standings:
            yield from standing.notes()
        settings = [(one.name, settings_words(one.service)) for one in standings]
        if any(words for _, words in settings):
            yield Facts([(f"deployment of {name}", words) for name, words in settings])

    def _conditions(self, services: list[Mapping[str, Any]]) -> Iterator[Block]:
        """How far services are that are not where they should be; all conditions folded away."""
        table = steps_table([one for one in services if not is_quiet(one)])
        if table is not None:
            yield table
        table = conditions_table(services)
        if table is not None:
            yield Fold("conditions", [table])

    def to_json(self) -> dict[str, Any]:
        """The status as the runtime gave it."""
        return dict(self)

    __repr__ = Result.__str__


def _services(standings: list[Standing]) -> Table:
    return Table(
        ("service", "", "runs", "fetched", "follows", "backend", ">inferences", "since (UTC)"),
        [
            (
                Mono(one.name),
                one.chips(),
                _running(one.service),
                one.fetch_cell(),
                said(one.service, "follows"),
                _backend(one.service),
                said(one.service, "inferences"),
                moment(said(one.service, "since")),
            )
            for one in standings
        ],
    )


def _backend(service: Mapping[str, Any]) -> str:
    """The backend, with what it runs on where there is a choice."""
    name, runs_on = said(service, "backend").rpartition(":")[2], said(service, "runs_on")
    return f"{name} on {runs_on}" if runs_on else name


def _statistics(services: list[Mapping[str, Any]]) -> Table:
    """What a Triton server counted since it loaded each service; milliseconds a request."""
    columns = ("service", ">answered", ">failed", ">mean, ms", ">waiting, ms", ">computing, ms")
    return Table(columns, [_counted(one) for one in services])


def _counted(service: Mapping[str, Any]) -> tuple[Cell, ...]:
    told = entry(entry(service, "statistics"), "inference_stats")
    count = number_of(entry(told, "success"), "count")

    def mean(what: str) -> str:
        spent = number_of(entry(told, what), "ns")
        return f"{spent / 1e6 / count:.3g}" if count and spent is not None else ""

    return (
        Mono(said(service, "name")),
        said(entry(told, "success"), "count"),
        said(entry(told, "fail"), "count"),
        mean("success"),
        mean("queue"),
        mean("compute_infer"),
    )


def _other(model: Mapping[str, Any]) -> str:
    """A model of a Triton server that is none of ours."""
    why = f": {said(model, 'error')}" if said(model, "error") else ""
    return f"{said(model, 'name')} ({said(model, 'state')}{why})"


def _vision(services: list[Mapping[str, Any]]) -> Table:
    return Table(
        ("vision service", "", "looks through", "finds", ">pictures", "since (UTC)"),
        [
            (
                Mono(said(entry, "name")),
                state_chip(said(entry, "state")),
                said(entry, "mlmodel_name"),
                ", ".join(what for what in ("classifications", "detections") if entry.get(what)),
                said(entry, "inferences"),
                moment(said(entry, "since")),
            )
            for entry in services
        ],
    )


def _problem(service: Mapping[str, Any]) -> str:
    """Why a vision service is not what it should be."""
    hint = f" ({said(service, 'hint')})" if said(service, "hint") else ""
    return f"{said(service, 'name')}: {said(service, 'error')}{hint}"


def _fetched(package: Mapping[str, Any]) -> str:
    """How far a package is that comes from a registry."""
    fetch = entry(package, "fetch")
    return fetch_problem(fetch) or fetched_words(fetch)


def _running(entry: Mapping[str, Any]) -> Cell:
    """What a service runs: the version, or the package that has none yet."""
    model, number, digest = said(entry, "model"), said(entry, "number"), said(entry, "digest")
    name = f"{model}:{number}" if model and number else said(entry, "version")
    if not digest:
        return name
    return Mono(name), Mono(short_digest(digest), digest)


def _packages(packages: list[Mapping[str, Any]]) -> Table:
    return Table(
        ("package", "", "wanted", "has", ">size", "from", "fetched", "error"),
        [
            (
                Mono(said(one, "package") or said(one, "name")),
                state_chip(said(one, "state")),
                said(one, "wanted"),
                said(one, "version"),
                file_size(int(one["bytes"])) if isinstance(one.get("bytes"), int) else "",
                said(one, "registry"),
                _fetched(one),
                said(one, "error"),
            )
            for one in packages
        ],
    )
