"""The package entry of a machine config, to copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Code, Note


class PackageCard(dict[str, Any], Result):
    """A package entry as JSON: a dictionary that shows itself."""

    @classmethod
    def of(cls, package: Mapping[str, Any]) -> PackageCard:
        """The card of a package entry."""
        return cls(package)

    def card(self) -> Card:
        """The entry, as it goes into ``packages`` of a machine config."""
        return Card(
            f"package {self.get('name', '')}",
            blocks=[
                Code(json.dumps(self, indent=2, ensure_ascii=False)),
                Note("goes into the list “packages” of a machine config"),
            ],
            kind="package",
        )

    def to_json(self) -> dict[str, Any]:
        """The entry."""
        return dict(self)

    __repr__ = Result.__str__
