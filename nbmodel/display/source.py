"""The code behind a version: the cells in the order in which they were run, and local changes."""

from __future__ import annotations

from typing import Any

from nbmodel.core.lineage import Lineage
from nbmodel.core.provenance import PRIVATE, CodeCell, Provenance, Source
from nbmodel.core.version import Version
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Code, Facts, Fold, Mono, Note
from nbmodel.display.made_with import made_facts
from nbmodel.display.origin import origin
from nbmodel.display.quantity import count

_MAX_CELLS = 200  # that are shown


class SourceCard(Result):
    """The cells behind a version, and what differed from the git commit.

    Attributes:
        reference: The version.
        source: The cells and the difference.
        lineage: Where it was made.
    """

    def __init__(self, reference: str, source: Source, lineage: Lineage) -> None:
        self.reference = reference
        self.source = source
        self.lineage = lineage

    @classmethod
    def of(cls, version: Version) -> SourceCard:
        """The card of a version.

        Raises:
            ManifestError: What is kept with the version cannot be read.
        """
        lineage = version.manifest.lineage
        return cls(version.reference, (lineage.provenance or Provenance()).source(), lineage)

    def card(self) -> Card:
        """Where it was made, then cell by cell."""
        source = self.source
        shown = source.cells[-_MAX_CELLS:]
        blocks: list[Block] = [Facts([origin(self.lineage), *made_facts(self.lineage)])]
        if source.left_out:
            blocks.append(Note(f"{count(source.left_out, 'cell')} before these: too much to keep"))
        if len(shown) < len(source.cells):
            further = count(len(source.cells) - len(shown), "further cell")
            blocks.append(Note(f"{further} before these: `--json` has all"))
        for cell in shown:
            blocks += _cell(cell)
        if not source.cells:
            blocks.append(Note("no cells are kept with it"))
        if source.diff:
            title = "local changes" + (", the beginning" if source.is_diff_cut else "")
            code = Code(source.diff.rstrip("\n"), "diff")
            lines = count(len(source.diff.splitlines()), "line")
            blocks.append(Fold(title, [code], f"{lines} of git diff, `--json` has them"))
        return Card(self.reference, blocks=blocks, kind="source of")

    def to_json(self) -> dict[str, Any]:
        """All cells and the difference, as they are kept."""
        return {"reference": self.reference, **self.source.to_json()}

    __repr__ = Result.__str__


def _cell(cell: CodeCell) -> list[Block]:
    head = Note((Mono(f"# [{cell.number}]"), _about(cell)))
    return [head] if cell.is_private else [head, Code(cell.code, "python")]


def _about(cell: CodeCell) -> str:
    if cell.is_private:
        return f"private: it has the line {PRIVATE!r}"
    return "its beginning: it is too long to keep" if cell.is_cut else ""
