"""A model as a card, and models as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from nbmodel.core.version import Model, Version
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Facts, Mono, Note, Table
from nbmodel.display.chips import alias_chip, model_chips
from nbmodel.display.quantity import count, moment
from nbmodel.display.version import versions_block

_MAX_ROWS = 100


class ModelCard(Model, Result):
    """A model that shows itself, with its versions when they are given."""

    versions_shown: tuple[Version, ...] = ()

    @classmethod
    def of(cls, model: Model) -> ModelCard:
        """The card of a model; it is that model, too."""
        return cls(**{field.name: getattr(model, field.name) for field in fields(Model)})

    def with_versions(self, versions: Iterable[Version]) -> ModelCard:
        """A copy that shows these versions, in the order given."""
        return self._changed(versions_shown=tuple(versions))

    def card(self) -> Card:
        """Name, aliases, pin, and the versions."""
        blocks: list[Block] = []
        if self.deprecated is not None:
            blocks.append(Note(f"deprecated: {self.deprecated}", "bad"))
        if self.description:
            blocks.append(Note(self.description))
        if self.retired:
            numbers = "number 1 was" if self.retired == 1 else f"numbers 1–{self.retired} were"
            again = "is" if self.retired == 1 else "are"
            blocks.append(
                Note(f"{numbers} used before under this name and {again} not given again")
            )
        aliases = tuple(f"{alias} → {number}" for alias, number in sorted(self.aliases.items()))
        blocks.append(
            Facts(
                [
                    ("reference", Mono(self.name)),
                    ("latest", "none" if self.latest is None else f"version {self.latest}"),
                    ("aliases", ", ".join(aliases)),
                    ("pinned at", "" if self.pin is None else f"version {self.pin}"),
                    ("created", f"{moment(self.created)} UTC" if moment(self.created) else ""),
                ]
            )
        )
        shown = self.versions_shown[:_MAX_ROWS]
        if shown:
            blocks.append(versions_block(shown, left_out=len(self.versions_shown) - len(shown)))
        title = f"{self.name} — {count(self.versions, 'version')}"
        return Card(title, model_chips(self), blocks, kind="model")

    def to_json(self) -> dict[str, Any]:
        """The model, and every version that is shown."""
        data = Model.to_json(self)
        if self.versions_shown:
            data["version_list"] = [version.to_json() for version in self.versions_shown]
        return data

    __repr__ = Result.__str__


class ModelTable(list[Model], Result):
    """Models, in the order given; a list that shows itself."""

    def card(self) -> Card:
        """A row a model."""
        rows = [
            (
                Mono(model.name),
                model_chips(model),
                str(model.versions),
                "" if model.latest is None else str(model.latest),
                tuple(alias_chip(alias) for alias in sorted(model.aliases) if alias != "latest"),
                moment(model.created),
                model.description,
            )
            for model in self[:_MAX_ROWS]
        ]
        table = Table(
            ("model", "", ">versions", ">latest", "aliases", "created (UTC)", "description"),
            rows,
            left_out=len(self) - len(rows),
        )
        empty = Note("none yet: log or upload a model")
        return Card(count(len(self), "model"), blocks=[table if rows else empty], kind="table of")

    def to_json(self) -> list[dict[str, Any]]:
        """Every model, in full."""
        return [model.to_json() for model in self]

    __repr__ = Result.__str__
