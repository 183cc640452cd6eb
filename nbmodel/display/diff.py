"""What differs between two versions, as a card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from nbmodel.core.diff import Change, Diff
from nbmodel.core.digest import short_digest
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Mono, Note, Table, Tone
from nbmodel.display.quantity import count, file_size, number, signed

_MAX_ROWS = 50  # of one part
_MAX_LABELS = 12
_MAX_VALUE = 160  # characters of a JSON value
_TONES: dict[str, Tone] = {"added": "good", "removed": "bad", "changed": "calm"}


class DiffCard(Diff, Result):
    """A difference that shows itself, part by part."""

    @classmethod
    def of(cls, diff: Diff) -> DiffCard:
        """The card of a difference; it is that difference, too."""
        return cls(**{field.name: getattr(diff, field.name) for field in fields(Diff)})

    def card(self) -> Card:
        """A table a part, with the gain of every metric."""
        blocks: list[Block] = [
            _part(name, changes) for name, changes in self.parts.items() if changes
        ]
        if blocks and self.label_count:
            same = f"{count(self.label_count, 'label')}, equal"
            differ = f"{len(self.labels):,} of {count(self.label_count, 'label')} differ"
            blocks.append(Note(differ if self.labels else same))
        if not blocks:
            blocks = [Note("no difference in files, signature, labels, metadata or metrics")]
        return Card(f"{self.old} → {self.new}", blocks=blocks, kind="difference")

    __repr__ = Result.__str__


def _part(name: str, changes: Sequence[Change]) -> Table:
    most = _MAX_LABELS if name == "labels" else _MAX_ROWS
    rows = [
        (
            Chip(change.kind, _TONES[change.kind]),
            change.name,
            _shown(name, change.name, change.old),
            _shown(name, change.name, change.new),
            _gain(name, change),
        )
        for change in changes[:most]
    ]
    return Table(
        ("", "name", "before", "after", ">change"),
        rows,
        title=name,
        left_out=max(0, len(changes) - most),
    )


def _gain(part: str, change: Change) -> str:
    if change.delta is None:
        return ""
    if part == "facts" and change.name == "size":
        sign = "+" if change.delta > 0 else "−"
        return f"{sign}{file_size(abs(int(change.delta)))}"
    return signed(change.delta)


def _shown(part: str, name: str, value: Any) -> Cell:
    if value is None:
        return ""
    if part == "files" and isinstance(value, dict):
        digest = str(value["digest"])
        return file_size(int(value["size"])), Mono(short_digest(digest), digest)
    if part == "facts" and name == "size":
        return file_size(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    if part == "signature" and isinstance(value, dict) and "datatype" in value:
        facts = dict(value)
        kind = f"{facts.pop('datatype')} {facts.pop('shape', '')}"
        return _cut(f"{kind} {_json(facts)}" if facts else kind)
    return _cut(value if isinstance(value, str) else _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 1].rstrip()}…"
