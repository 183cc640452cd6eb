"""What a verification of a registry found."""

from __future__ import annotations

from dataclasses import fields

from nbmodel.core.digest import short_digest
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Mono, Note, Table
from nbmodel.display.quantity import count, file_size
from nbmodel.registry.verify import Problem, VerifyReport

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
        if self.elsewhere:
            files = f"the files of {count(self.elsewhere, 'version')}"
            where = "are on a remote alone and were not read: `pull` brings them"
            if self.rebuilt is not None:
                where = "are not here: `sync` with their registry tells whether it has them"
            blocks.append(Note(f"{files} {where}", "warn"))
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
                            _short(problem),
                            Mono(short_digest(problem.digest), problem.digest)
                            if problem.digest
                            else "",
                        )
                        for problem in self.problems[:_MAX_ROWS]
                    ],
                    left_out=max(0, len(self.problems) - _MAX_ROWS),
                )
            )
            # A row has no room for what to do.
            hints = dict.fromkeys(one.hint for one in self.problems[:_MAX_ROWS] if one.hint)
            blocks += [Note(hint, "warn") for hint in hints]
        return Card("verified", self._chips(), blocks, kind="report")

    def _chips(self) -> list[Chip]:
        away = [Chip(f"{self.elsewhere} elsewhere", "warn")] if self.elsewhere else []
        if self.problems:
            return [Chip(count(len(self.problems), "problem"), "bad"), *away]
        if self.elsewhere == self.versions > 0:
            return away  # nothing is clean of which no file was read
        return [Chip("clean", "good"), *away]

    __repr__ = Result.__str__


def _short(problem: Problem) -> str:
    """What is wrong, without the blob that has a column of its own, and what that has instead."""
    what = problem.what
    if problem.digest is not None:
        what = what.removeprefix(f"blob {problem.digest} ")
    return what.partition(": its bytes have digest ")[0]
