"""What a push did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from nbmodel.core.digest import short_digest
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Facts, Mono, Note, Table
from nbmodel.display.quantity import count, duration, file_size
from nbmodel.registry.remote.numbering import Renumbered
from nbmodel.registry.remote.push import PushedVersion, PushReport

_MAX_ROWS = 100


class PushCard(PushReport, Result):
    """A push that shows itself."""

    @classmethod
    def of(cls, report: PushReport) -> PushCard:
        """The card of a report; it is that report, too."""
        given = {field.name: getattr(report, field.name) for field in fields(PushReport)}
        return cls(**given)

    def card(self) -> Card:
        """What is where under which number, what was sent, and what changed."""
        new = [version for version in self.versions if not version.was_there]
        facts = Facts(
            [
                ("remote", Mono(self.remote)),
                ("sent", self._sent(any_new=bool(new))),
                ("aliases", ", ".join(self.aliases)),
                ("aliases taken away", ", ".join(self.removed)),
            ]
        )
        blocks: list[Block] = [facts, *changes(self.renumbered, self.doubts)]
        blocks.append(
            Table(
                ("version", "there", "digest", "", ">sent"),
                [_row(version) for version in self.versions[:_MAX_ROWS]],
                left_out=max(0, len(self.versions) - _MAX_ROWS),
            )
        )
        return Card(
            self._title(),
            [*self._chips(len(new)), Chip(duration(self.seconds))],
            blocks,
            kind="push",
        )

    def _sent(self, *, any_new: bool) -> str:
        words = [moved(self.sent, self.present, self.saved)] if any_new else []
        words += [count(self.signatures, "signature")] if self.signatures else []
        return ", ".join(words) or "nothing"

    def _chips(self, new: int) -> list[Chip]:
        chips = [Chip(f"{new} new", "good")] if new else []
        if self.signatures:
            chips.append(Chip(count(self.signatures, "signature"), "good"))
        changed = len(self.aliases) + len(self.removed)
        if changed:
            chips.append(Chip(count(changed, "alias move"), "info"))
        return chips or [Chip("nothing new")]

    def _title(self) -> str:
        one = self.versions[0].reference if len(self.versions) == 1 else None
        return f"{one or count(len(self.versions), 'version')} → {self.remote}"

    __repr__ = Result.__str__


def moved(sent: int, present: int, saved: int = 0) -> str:
    """``24 MB, 3 MB there already``."""
    words = [file_size(sent)]
    if present:
        words.append(f"{file_size(present)} there already")
    if saved:
        words.append(f"{file_size(saved)} put together there")
    return ", ".join(words)


def changes(renumbered: Iterable[Renumbered], doubts: Iterable[str]) -> list[Block]:
    """A line for each number that changed here, and for each thing that is odd."""
    lines: list[Block] = [Note(str(one), "warn") for one in renumbered]
    return [*lines, *(Note(doubt, "warn") for doubt in doubts)]


def _row(version: PushedVersion) -> tuple[str | Mono | Chip, ...]:
    return (
        Mono(version.reference),
        str(version.number),
        Mono(short_digest(version.digest), version.digest),
        _state(version),
        "" if version.was_there else file_size(version.sent),
    )


def _state(version: PushedVersion) -> Chip:
    if not version.was_there:
        return Chip("new", "good")
    return Chip("signature sent", "good") if version.signatures else Chip("there before")
