"""A pin that was set or taken away."""

from __future__ import annotations

from dataclasses import fields

from nbmodel.core.pin import Pin
from nbmodel.display.base import Result
from nbmodel.display.card import Card, Chip, Facts, Mono
from nbmodel.display.quantity import moment


class PinCard(Pin, Result):
    """A pin that shows itself.

    Attributes:
        removed: Whether it was just taken away.
    """

    removed: bool = False

    @classmethod
    def of(cls, pin: Pin, *, removed: bool = False) -> PinCard:
        """The card of a pin; it is that pin, too."""
        card = cls(**{field.name: getattr(pin, field.name) for field in fields(Pin)})
        return card._changed(removed=removed)

    def card(self) -> Card:
        """What is held where, since when and why."""
        if self.removed:
            title = f"{self.model} follows again"
            chip = Chip("unpinned")
            says = f"{self.scope} no longer holds it at version {self.number}"
        else:
            title = self.reference
            chip = Chip("pinned", "warn")
            says = f"{self.scope} stays at version {self.number} until it is unpinned"
        return Card(
            title,
            [chip],
            [
                Facts(
                    [
                        ("where", says),
                        ("reference", Mono(self.reference)),
                        ("since", f"{moment(self.at)} UTC, by {self.who}"),
                        ("why", self.why),
                    ]
                )
            ],
            kind="pin",
        )

    __repr__ = Result.__str__
