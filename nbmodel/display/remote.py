"""What a remote has, as tables: models, or the versions of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbmodel.core.digest import short_digest
from nbmodel.display.base import Result
from nbmodel.display.card import Card, Chip, Mono, Note, Table
from nbmodel.display.chips import alias_chip
from nbmodel.display.quantity import count, moment
from nbmodel.registry.remote.listing import RemoteModel, RemoteVersion

_MAX_ROWS = 100


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
