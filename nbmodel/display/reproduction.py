"""What came of making a version again, as a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from nbmodel.core.diff import Change
from nbmodel.core.digest import short_digest
from nbmodel.core.reproduction import Reproduction
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Mono, Note, Table
from nbmodel.display.diff import DiffCard
from nbmodel.display.quantity import count, duration, listed

_MAX_ROWS = 50


class ReproductionCard(Reproduction, Result):
    """A reproduction that shows itself: what is the same first, then what differs."""

    @classmethod
    def of(cls, found: Reproduction) -> ReproductionCard:
        """The card of a reproduction; it is that reproduction, too."""
        return cls(**{field.name: getattr(found, field.name) for field in fields(Reproduction)})

    def card(self) -> Card:
        """Signature, metrics and digest; then changes, failed cells and surroundings."""
        blocks: list[Block] = []
        if self.diff is None:
            blocks.append(Note(f"the cells made no version of {self.reference} again", "bad"))
        else:
            blocks.append(self._compared())
            blocks += DiffCard.of(self.diff).card().blocks if not self.is_same else []
        if self.failed:
            rows = [(Mono(f"[{one.number}]"), one.error) for one in self.failed[:_MAX_ROWS]]
            left_out = max(0, len(self.failed) - _MAX_ROWS)
            blocks.append(Table(("cell", "error"), rows, "cells that failed", left_out))
        if self.left_out:
            less = count(self.left_out, "cell")
            blocks.append(Note(f"{less} not run: private, or too much to keep", "warn"))
        for title, changes in (
            ("data", self.data),
            ("machine", self.machine),
            ("packages", self.packages),
        ):
            if changes:
                blocks.append(_surroundings(title, changes))
        ran = f"{count(self.cells, 'cell')} in {duration(self.seconds)}"
        blocks.append(Note(f"{ran}, in a fresh kernel and a home that is gone"))
        return Card(self.reference, [self._verdict()], blocks, kind="reproduction of")

    def _verdict(self) -> Chip:
        if self.diff is None:
            return Chip("not made again", "bad")
        return Chip("the same", "good") if self.is_same else Chip("differs", "warn")

    def _compared(self) -> Table:
        signature = count(self.signature_size, "tensor")
        metrics = listed(list(self.metrics)) if self.metrics else "none"
        first, second = (Mono(short_digest(one), one) for one in self.digests)
        files: Cell = first if self.same_digest else (first, "→", second)
        rows = [
            (_chip(self.same_signature), "signature", signature),
            (_chip(self.same_metrics), "metrics", metrics),
            (_chip(self.same_digest), "files", files),
        ]
        return Table(("", "", "compared"), rows)

    __repr__ = Result.__str__


def _chip(is_same: bool) -> Chip:
    return Chip("same", "good") if is_same else Chip("differs", "warn")


def _surroundings(title: str, changes: Sequence[Change]) -> Table:
    rows = [(one.name, _shown(one.old), _shown(one.new)) for one in changes[:_MAX_ROWS]]
    left_out = max(0, len(changes) - _MAX_ROWS)
    return Table((title, "then", "now"), rows, f"{title} that differ", left_out)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
