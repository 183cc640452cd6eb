"""Lines of a runtime's log."""

from __future__ import annotations

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Code, Note

_MAX_BYTES = 120_000  # of a cell; the list itself has every line


class LogLines(list[str], Result):
    """Log lines, oldest first; a list that shows itself."""

    def card(self) -> Card:
        """The lines, the newest of them where there are too many."""
        text = "\n".join(self)
        if not self:
            return Card("", blocks=[Note("no log lines")], kind="log")
        if len(text) > _MAX_BYTES:
            text = "…" + text[-_MAX_BYTES:]
        return Card("", blocks=[Code(text)], kind="log")

    def to_json(self) -> list[str]:
        """The lines."""
        return list(self)

    __repr__ = Result.__str__
