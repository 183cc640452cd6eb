"""What a delete took away."""

from __future__ import annotations

from dataclasses import fields

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Chip, Facts
from nbmodel.display.quantity import count, file_size
from nbmodel.registry.removal import Deleted


class DeletedCard(Deleted, Result):
    """A deletion that shows itself."""

    @classmethod
    def of(cls, deleted: Deleted) -> DeletedCard:
        """The card of a deletion; it is that deletion, too."""
        return cls(**{field.name: getattr(deleted, field.name) for field in fields(Deleted)})

    def card(self) -> Card:
        """The versions, and the names that went with them."""
        one = self.numbers[0] if len(self.numbers) == 1 and not self.whole else None
        title = self.model if one is None else f"{self.model}:{one}"
        facts = Facts(
            [
                ("versions", _numbers(self.numbers) if one is None else ""),
                ("aliases", ", ".join(self.aliases)),
                ("pins of", ", ".join(self.pins)),
                ("still on", ", ".join(self.left_on)),
                ("to be freed", f"{file_size(self.freeable)}, by gc" if self.freeable else ""),
            ]
        )
        return Card(title, [Chip("deleted", "bad")], [facts], kind="deletion of")

    __repr__ = Result.__str__


def _numbers(numbers: tuple[int, ...]) -> str:
    if len(numbers) <= 10:
        return ", ".join(map(str, numbers)) or "none"
    return f"{count(len(numbers), 'version')}, {numbers[0]} to {numbers[-1]}"
