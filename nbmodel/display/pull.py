"""Files that were copied out of a registry, and versions that came from a remote."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Chip, Facts, Mono, Table
from nbmodel.display.push import changes
from nbmodel.display.quantity import count, duration, file_size
from nbmodel.registry.remote.pull import PullReport


class PullCard(list[Path], Result):
    """The paths that a version's files were written to; a list that shows itself.

    Args:
        reference: The version.
        paths: Of the files; none when it was only brought into the registry.
        report: What came from a remote; None when nothing was asked of one.
    """

    def __init__(
        self, reference: str, paths: Iterable[Path], report: PullReport | None = None
    ) -> None:
        super().__init__(paths)
        self.reference = reference
        self.report = report

    def card(self) -> Card:
        """Where it came from, and a row a file."""
        blocks: list[Block] = []
        chips: list[Chip] = []
        if self.report is not None:
            facts: list[tuple[str, Cell]] = [
                ("remote", Mono(self.report.remote)),
                ("received", _received(self.report)),
                ("alias", ", ".join(map(str, self.report.aliases))),
            ]
            blocks += [Facts(facts), *changes(self.report.renumbered, self.report.doubts)]
            chips.append(Chip(duration(self.report.seconds)))
        rows = [
            (Mono(str(path)), file_size(path.stat().st_size) if path.is_file() else "")
            for path in self
        ]
        if rows or self.report is None:
            blocks.append(Table(("path", ">size"), rows))
        return Card(self._title(), chips, blocks, kind="pull of")

    def _title(self) -> str:
        if self.report is not None and not self:
            return f"{self.reference} ← {self.report.remote}"
        return f"{self.reference} — {count(len(self), 'file')} written"

    def to_json(self) -> dict[str, Any]:
        """Reference and paths, and what came from where."""
        data = {"reference": self.reference, "paths": [str(path) for path in self]}
        return data if self.report is None else {**self.report.to_json(), **data}

    __repr__ = Result.__str__


def _received(report: PullReport) -> str:
    if not report.received:
        return "nothing: all of it was here"
    words = file_size(report.received)
    return f"{words}, {file_size(report.present)} here already" if report.present else words
