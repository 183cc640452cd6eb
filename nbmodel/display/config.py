"""The machine config of a runtime, to read and to copy, and what another one changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Code, Mono, Note, Table, Tone

#: What happens to a service → how much of a change it is.
_ACTIONS: Mapping[str, Tone] = {
    "start": "good",
    "replace": "warn",
    "relabel": "info",
    "keep": "calm",
    "stop": "warn",
    "refuse": "bad",
}


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


class ConfigPlan(dict[str, Any], Result):
    """What a machine config does to a runtime: its answer, which shows itself.

    ``changed`` tells whether the config is another one; each of ``steps`` has ``service``,
    ``action`` (``start``, ``replace``, ``relabel``, ``keep``, ``stop`` or ``refuse``),
    ``version`` and ``why``.

    Attributes:
        runtime: Name of the runtime.
        is_dry: Whether nothing was changed.
    """

    runtime: str = ""
    is_dry: bool = False

    def of(self, runtime: str, *, is_dry: bool) -> ConfigPlan:
        """A copy that tells of which runtime it is, and whether it was only asked for."""
        return self._changed(runtime=runtime, is_dry=is_dry)

    def card(self) -> Card:
        """A row for each service."""
        chips = [Chip("plan", "info") if self.is_dry else Chip("set", "good")]
        if not self.get("changed"):
            chips.append(Chip("same config"))
        rows = [
            (
                Mono(str(step.get("service") or "")),
                Chip(str(step.get("action")), _ACTIONS.get(str(step.get("action")), "calm")),
                str(step.get("why") or ""),
            )
            for step in self.get("steps") or ()
        ]
        block: Block = Table(("service", "", "runs"), rows) if rows else Note("no services")
        title = f"machine config of {self.runtime}" if self.runtime else "machine config"
        return Card(title, chips, [block], kind="")

    def to_json(self) -> dict[str, Any]:
        """What the runtime answered, and whether it changed anything."""
        return {**self, "dry_run": self.is_dry}

    __repr__ = Result.__str__
