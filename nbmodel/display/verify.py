"""What a verification of a registry found."""

from __future__ import annotations

from dataclasses import fields

from nbmodel.core.digest import short_digest
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Mono, Note, Table
from nbmodel.display.quantity import count, file_size
from nbmodel.registry.verify import VerifyReport

_MAX_ROWS = 100


class VerifyCard(VerifyReport, Result):
    """A verification report that shows itself."""

    @classmethod
    def of(cls, report: VerifyReport) -> VerifyCard:
        """The card of a report; it is that report, too."""
        return cls(**{field.name: getattr(report, field.name) for field in fields(VerifyReport)})

    def card(self) -> Card:
        """How much was read, and a row for everything that is wrong."""
        read = (
            f"read {count(self.blobs, 'blob')} ({file_size(self.bytes)}) "
            f"of {count(self.versions, 'version')}"
        )
        blocks: list[Block] = [Note(read)]
        if self.rebuilt is not None:
            made = f"the index was made anew of {count(self.rebuilt, 'version')}"
            blocks.insert(0, Note(f"{made}; aliases, pins and tags have to be set again"))
        if self.problems:
            blocks.append(
                Table(
                    ("version", "file", "problem", "blob"),
                    [
                        (
                            ", ".join(problem.versions),
                            ", ".join(problem.paths),
                            problem.what,
                            Mono(short_digest(problem.digest), problem.digest)
                            if problem.digest
                            else "",
                        )
                        for problem in self.problems[:_MAX_ROWS]
                    ],
                    left_out=max(0, len(self.problems) - _MAX_ROWS),
                )
            )
        chip = (
            Chip("clean", "good")
            if self.is_clean
            else Chip(count(len(self.problems), "problem"), "bad")
        )
        return Card("verified", [chip], blocks, kind="report")

    __repr__ = Result.__str__
