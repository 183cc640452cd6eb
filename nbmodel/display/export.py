"""What an export wrote, and where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Chip, Facts, Mono, Table
from nbmodel.display.quantity import count, file_size


class ExportCard(list[Path], Result):
    """The paths that an export wrote; a list that shows itself.

    Args:
        reference: The version.
        format: How it was written: ``viam``, ``triton`` …
        place: What it is called there; may be empty.
        paths: Files on this machine; none when it went elsewhere.
    """

    def __init__(self, reference: str, format: str, place: str, paths: Iterable[Path]) -> None:  # noqa: A002 - the word of the surface
        super().__init__(paths)
        self.reference = reference
        self.format = format
        self.place = place

    def card(self) -> Card:
        """Where it went, and a row a file."""
        rows = [
            (Mono(str(path)), file_size(path.stat().st_size) if path.is_file() else "")
            for path in self
        ]
        written = f" — {count(len(self), 'file')} written" if rows else ""
        return Card(
            f"{self.reference}{written}",
            [Chip(self.format, "info")],
            [
                Facts([("to", Mono(self.place) if self.place else "")]),
                *([Table(("path", ">size"), rows)] if rows else []),
            ],
            kind="export of",
        )

    def to_json(self) -> dict[str, Any]:
        """Reference, format, place and paths."""
        return {
            "reference": self.reference,
            "format": self.format,
            "place": self.place,
            "paths": [str(path) for path in self],
        }

    __repr__ = Result.__str__
