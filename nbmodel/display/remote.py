"""What a remote has, as tables: models, or the versions of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.core.remote import Remote
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Mono, Note, Table
from nbmodel.display.chips import alias_chip
from nbmodel.display.quantity import count, moment
from nbmodel.registry.remote.listing import RemoteModel, RemoteVersion
from nbmodel.registry.remote.uses import RemoteUse

_MAX_ROWS = 100


class RemoteTable(list[RemoteUse], Result):
    """The remotes that are known here, in the order given; a list that shows itself.

    Args:
        uses: What is shown.
        configured: The one that the environment or a file of settings names, which goes before
            the default.
    """

    def __init__(self, uses: Iterable[RemoteUse], configured: Remote | None = None) -> None:
        super().__init__(uses)
        self.configured = configured

    def card(self) -> Card:
        """A row a remote, with what makes it the one that is meant."""
        rows = [
            (
                Mono(str(use.remote)),
                self._chips(use),
                str(use.models),
                moment(use.used) if use.used else "",
            )
            for use in self[:_MAX_ROWS]
        ]
        blocks: list[Block] = []
        if self.configured is not None:
            meant = f"{self.configured} is meant where none is named: NBMODEL_REMOTE or a file of"
            blocks.append(Note(f"{meant} settings says so"))
        blocks += [
            Note(
                f"nothing was ever seen at {use.remote}: `list --remote {use.remote}` shows "
                "what is there",
                "warn",
            )
            for use in self
            if use.is_default and not use.used and not use.models
        ]
        table = Table(("remote", "", ">models", "used (UTC)"), rows, left_out=len(self) - len(rows))
        empty = Note("none yet: the first one that is pushed to or pulled from is the default")
        blocks.append(table if rows else empty)
        return Card(count(len(self), "remote"), blocks=blocks, kind="table of")

    def _chips(self, use: RemoteUse) -> tuple[Chip, ...]:
        if self.configured is not None:
            return (Chip("configured", "good"),) if use.remote == self.configured else ()
        return (Chip("default", "good"),) if use.is_default else ()

    def to_json(self) -> dict[str, Any]:
        """The remotes, and the configured one."""
        return {
            "configured": None if self.configured is None else str(self.configured),
            "remotes": [use.to_json() for use in self],
        }

    __repr__ = Result.__str__


class RemoteModelTable(list[RemoteModel], Result):
    """Models of a remote, in the order given; a list that shows itself.

    Args:
        remote: Where they are.
        models: What is shown.
    """

    def __init__(self, remote: str, models: Iterable[RemoteModel]) -> None:
        super().__init__(models)
        self.remote = remote

    def card(self) -> Card:
        """A row a model."""
        rows = [
            (
                Mono(model.name),
                str(model.versions),
                "" if model.latest is None else str(model.latest),
                str(model.here),
                tuple(map(alias_chip, model.aliases)),
                moment(model.pushed) if model.pushed else "",
            )
            for model in self[:_MAX_ROWS]
        ]
        table = Table(
            ("model", ">versions", ">latest", ">known here", "aliases", "pushed (UTC)"),
            rows,
            left_out=len(self) - len(rows),
        )
        title = f"{self.remote} — {count(len(self), 'model')}"
        return Card(title, blocks=[table if rows else Note("none yet")], kind="table of")

    def to_json(self) -> dict[str, Any]:
        """Remote and models."""
        return {"remote": self.remote, "models": [model.to_json() for model in self]}

    __repr__ = Result.__str__


class RemoteVersionTable(list[RemoteVersion], Result):
    """Versions of a model of a remote, in the order given; a list that shows itself.

    Args:
        remote: Where they are.
        model: The model.
        versions: What is shown.
    """

    def __init__(self, remote: str, model: str, versions: Iterable[RemoteVersion]) -> None:
        super().__init__(versions)
        self.remote = remote
        self.model = model

    def card(self) -> Card:
        """A row a version."""
        rows = [
            (
                "" if version.number is None else str(version.number),
                tuple(map(alias_chip, version.aliases)),
                Chip("not known here") if version.local is None else Mono(version.local),
                Mono(short_digest(version.digest), version.digest),
                moment(version.pushed) if version.pushed else "",
            )
            for version in self[:_MAX_ROWS]
        ]
        table = Table(
            (">version", "aliases", "here", "digest", "pushed (UTC)"),
            rows,
            left_out=len(self) - len(rows),
        )
        title = f"{self.model} on {self.remote} — {count(len(self), 'version')}"
        return Card(title, blocks=[table if rows else Note("none yet")], kind="table of")

    def to_json(self) -> dict[str, Any]:
        """Remote, model and versions."""
        return {
            "remote": self.remote,
            "model": self.model,
            "versions": [version.to_json() for version in self],
        }

    __repr__ = Result.__str__
