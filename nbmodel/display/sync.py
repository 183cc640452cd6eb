"""What a synchronisation with a remote brought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Mono, Note, Table
from nbmodel.display.push import changes
from nbmodel.display.quantity import count, duration, listed
from nbmodel.registry.remote.sync import SyncedModel, SyncReport

_MAX_ROWS = 100


class SyncCard(SyncReport, Result):
    """A synchronisation that shows itself."""

    @classmethod
    def of(cls, report: SyncReport) -> SyncCard:
        """The card of a report; it is that report, too."""
        return cls(**{field.name: getattr(report, field.name) for field in fields(SyncReport)})

    def card(self) -> Card:
        """A row a model, and a line for everything that changed or is odd."""
        new = sum(len(model.new) for model in self.models)
        blocks: list[Block] = []
        if self.models:
            blocks.append(
                Table(
                    ("model", ">there", "new here", "aliases moved", "not pushed"),
                    [_row(model) for model in self.models[:_MAX_ROWS]],
                    left_out=max(0, len(self.models) - _MAX_ROWS),
                )
            )
        else:
            blocks.append(Note("no model there that is known here, or was pushed by nbmodel"))
        if self.left_out:
            further = f"{count(self.left_out, 'further name')} there not looked at"
            blocks.append(Note(f"{further}: sync MODEL looks at one", "warn"))
        if self.others:
            names = listed(self.others, 60)
            blocks.append(
                Note(
                    f"not pushed there by nbmodel, and left alone: {names}; "
                    f"`pull {self.remote}/{self.others[0]}` brings one"
                )
            )
        for model in self.models:
            blocks += changes(model.renumbered, model.doubts)
        chips = [Chip(f"{new} new", "good")] if new else []
        signatures = sum(model.signatures for model in self.models)
        if signatures:
            chips.append(Chip(count(signatures, "signature"), "good"))
        if self._moves:
            chips.append(Chip(count(self._moves, "alias move"), "info"))
        chips = chips or [Chip("nothing new")]
        title = f"{self.remote} — {count(len(self.models), 'model')}"
        return Card(title, [*chips, Chip(duration(self.seconds))], blocks, kind="sync of")

    @property
    def _moves(self) -> int:
        return sum(len(model.aliases) for model in self.models)

    @property
    def changed(self) -> Iterator[SyncedModel]:
        """The models of which anything here is different now."""
        return (model for model in self.models if model.is_changed)

    __repr__ = Result.__str__


def _row(model: SyncedModel) -> tuple[Cell, ...]:
    return (
        Mono(model.model),
        str(model.there),
        listed(model.new, 60),
        ", ".join(map(str, model.aliases)),
        f"{count(model.unpushed, 'version')}" if model.unpushed else "",
    )
