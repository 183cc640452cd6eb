"""The runtimes that this machine knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Card, Mono, Note, Table
from nbmodel.display.chips import state_chip
from nbmodel.display.quantity import count


class RuntimeTable(list[Mapping[str, Any]], Result):
    """Runtimes; a list that shows itself.

    Each is a mapping with ``name``, ``url``, ``state`` (``ready``, ``unreachable`` …)
    and, where they are known, ``version``, ``services`` (names, or how many) and
    ``error``. A token is never shown.
    """

    def card(self) -> Card:
        """A row a runtime."""
        rows = [
            (
                Mono(str(entry.get("name", ""))),
                state_chip(str(entry.get("state") or "")),
                Mono(str(entry.get("url", ""))),
                str(entry.get("version") or ""),
                _services(entry.get("services")),
                str(entry.get("error") or ""),
            )
            for entry in self
        ]
        table = Table(("runtime", "", "address", "nbmodel", "services", "problem"), rows)
        empty = Note("none yet: start one here with `runtime start`, or add one with `runtime add`")
        return Card(count(len(self), "runtime"), blocks=[table if rows else empty], kind="table of")

    def to_json(self) -> list[dict[str, Any]]:
        """Every runtime, without its token."""
        return [{key: value for key, value in entry.items() if key != "token"} for entry in self]

    __repr__ = Result.__str__


def _services(services: object) -> str:
    if isinstance(services, list | tuple):
        return ", ".join(
            str(one.get("name", "")) if isinstance(one, Mapping) else str(one) for one in services
        )
    return "" if services is None else str(services)
