"""The machine config of a runtime, to read and to copy."""

from __future__ import annotations

import json
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Code


class ConfigCard(dict[str, Any], Result):
    """A machine config as JSON: a dictionary that shows itself."""

    def card(self) -> Card:
        """The whole config."""
        text = json.dumps(self, indent=2, ensure_ascii=False)
        return Card("machine config", blocks=[Code(text)], kind="")

    def text(self) -> str:
        """The config alone, so that a file it is printed to is one that can be set again."""
        # In ASCII, without the one control character that JSON leaves: no terminal obeys it.
        return json.dumps(self, indent=2).replace("\x7f", "\\u007f")

    def to_json(self) -> dict[str, Any]:
        """The config."""
        return dict(self)

    __repr__ = Result.__str__
