"""Files that were copied out of a registry."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Mono, Table
from nbmodel.display.quantity import count, file_size


class PullCard(list[Path], Result):
    """The paths that a version's files were written to; a list that shows itself.

    Args:
        reference: The version.
        paths: Of the files.
    """

    def __init__(self, reference: str, paths: Iterable[Path]) -> None:
        super().__init__(paths)
        self.reference = reference

    def card(self) -> Card:
        """A row a file."""
        rows = [
            (Mono(str(path)), file_size(path.stat().st_size) if path.is_file() else "")
            for path in self
        ]
        title = f"{self.reference} — {count(len(self), 'file')} written"
        return Card(title, blocks=[Table(("path", ">size"), rows)], kind="pull of")

    def to_json(self) -> dict[str, Any]:
        """Reference and paths."""
        return {"reference": self.reference, "paths": [str(path) for path in self]}

    __repr__ = Result.__str__
