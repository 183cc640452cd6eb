"""What a garbage collection freed."""

from __future__ import annotations

from dataclasses import fields

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Chip, Facts
from nbmodel.display.quantity import count, duration, file_size
from nbmodel.registry.gc import GcReport


class GcCard(GcReport, Result):
    """A collection report that shows itself."""

    @classmethod
    def of(cls, report: GcReport) -> GcCard:
        """The card of a report; it is that report, too."""
        return cls(**{field.name: getattr(report, field.name) for field in fields(GcReport)})

    def card(self) -> Card:
        """Bytes, blobs and unfinished uploads, and what was packed."""
        verb = "would free" if self.dry_run else "freed"
        what = f"{count(self.blobs, 'blob')}, {count(self.uploads, 'unfinished upload')}"
        chips = [Chip("dry run", "info")] if self.dry_run else []
        title = f"{verb} {file_size(self.freed + self.packed)}"
        facts = [("what", what)]
        if self.packed:
            facts.append(("packed", f"{file_size(self.packed)} of former versions"))
        if self.waiting:
            left = f"{file_size(self.waiting)}, written or used just now: `gc` takes them in"
            facts.append(("waits", f"{left} {duration(self.wait_s)}, `gc --grace 0` at once"))
        return Card(title, chips, [Facts(facts)], kind="report")

    __repr__ = Result.__str__
