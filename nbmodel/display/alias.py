"""Moves of aliases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from nbmodel.core.version import AliasMove
from nbmodel.display.base import Result
from nbmodel.display.card import Card, Facts, Mono, Note, Table
from nbmodel.display.chips import alias_chip
from nbmodel.display.quantity import count, moment

_MAX_ROWS = 100


class AliasCard(AliasMove, Result):
    """One move of an alias that shows itself.

    Attributes:
        model: The model whose alias moved.
    """

    model: str = ""

    @classmethod
    def of(cls, model: str, move: AliasMove) -> AliasCard:
        """The card of a move; it is that move, too."""
        card = cls(**{field.name: getattr(move, field.name) for field in fields(AliasMove)})
        return card._changed(model=model)

    def card(self) -> Card:
        """What is where now, and where it was."""
        if self.new is None:
            title, facts = f"{self.model}: {self.alias} removed", []
        else:
            title = f"{self.model}:{self.alias} → version {self.new}"
            facts = [("reference", Mono(f"{self.model}:{self.alias}"))]
        was = "nowhere" if self.old is None else f"version {self.old}"
        blocks = [Facts([*facts, ("before", was), ("why", self.why)])]
        return Card(title, blocks=blocks, kind="alias")

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {"model": self.model, **_move_json(self)}

    __repr__ = Result.__str__


class AliasHistory(list[AliasMove], Result):
    """Every move of a model's aliases, in the order given.

    Args:
        model: Name of the model.
        moves: What moved.
    """

    def __init__(self, model: str, moves: Iterable[AliasMove]) -> None:
        super().__init__(moves)
        self.model = model

    def card(self) -> Card:
        """A row a move."""
        rows = [
            (
                alias_chip(move.alias),
                "" if move.old is None else str(move.old),
                "removed" if move.new is None else str(move.new),
                moment(move.at),
                move.who,
                move.why,
            )
            for move in self[:_MAX_ROWS]
        ]
        table = Table(
            ("alias", ">from", ">to", "when (UTC)", "who", "why"),
            rows,
            left_out=len(self) - len(rows),
        )
        title = f"{self.model} — {count(len(self), 'alias move')}"
        return Card(title, blocks=[table if rows else Note("none yet")], kind="alias history of")

    def to_json(self) -> list[dict[str, Any]]:
        """Every move, as a JSON object."""
        return [{"model": self.model, **_move_json(move)} for move in self]

    __repr__ = Result.__str__


def _move_json(move: AliasMove) -> dict[str, Any]:
    return {field.name: getattr(move, field.name) for field in fields(AliasMove)}
