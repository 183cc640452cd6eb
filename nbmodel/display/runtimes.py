"""The runtimes that this machine knows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Cell, Facts, Mono, Note, Table
from nbmodel.display.chips import state_chip
from nbmodel.display.quantity import count


class RuntimeTable(list[Mapping[str, Any]], Result):
    """Runtimes; a list that shows itself.

    Each is a mapping with ``name``, ``url``, ``state`` (``ready``, ``stopped``,
    ``unreachable`` …) and, where they are known, ``grpc`` (its address), ``version``,
    ``services`` (names, or how many), ``loading`` and ``failed`` (names), ``asked`` (of
    how many), ``error``, ``home`` (its folder) and ``token_file``. A ``token`` is never
    shown; ``new_token`` is, since it was made just now.
    """

    def card(self) -> Card:
        """A row a runtime; of one alone, where it keeps its files too."""
        rows = [
            (
                Mono(str(entry.get("name", ""))),
                state_chip(str(entry.get("state") or "")),
                Mono(str(entry.get("url", ""))),
                Mono(str(entry.get("grpc") or "")),
                str(entry.get("version") or ""),
                _services(entry.get("services")),
                _problem(entry),
            )
            for entry in self
        ]
        columns = ("runtime", "", "address", "gRPC", "nbmodel", "services", "problem")
        empty = Note("none yet: start one here with `runtime start`, or add one with `runtime add`")
        blocks: list[Block] = [Table(columns, rows) if rows else empty]
        if len(self) == 1 and self[0].get("state") != "removed":
            blocks.append(_kept(self[0]))
        return Card(count(len(self), "runtime"), blocks=blocks, kind="table of")

    def to_json(self) -> list[dict[str, Any]]:
        """Every runtime, without its token; one made just now is ``new_token``."""
        return [{key: value for key, value in entry.items() if key != "token"} for entry in self]

    __repr__ = Result.__str__


def _kept(entry: Mapping[str, Any]) -> Facts:
    new, file = str(entry.get("new_token") or ""), str(entry.get("token_file") or "")
    token: Cell = ""
    if new:
        token = (Mono(new), "shown this once; kept in", Mono(file))
    elif file:
        token = ("in", Mono(file))
    reused = Mono(shlex.join(map(str, entry.get("reused") or ())))
    return Facts(
        [("as before", reused), ("home", Mono(str(entry.get("home") or ""))), ("token", token)]
    )


def _problem(entry: Mapping[str, Any]) -> str:
    if entry.get("error"):
        return str(entry["error"])
    failed, loading = entry.get("failed") or (), entry.get("loading") or ()
    asked = entry.get("asked") or len(failed) + len(loading)
    told = [f"{len(failed)} of {asked} failed"] if failed else []
    told += [f"{len(loading)} of {asked} loading"] if loading else []
    return f"{', '.join(told)}: see `status {entry.get('name', '')}`" if told else ""


def _services(services: object) -> str:
    if isinstance(services, list | tuple):
        return ", ".join(
            str(one.get("name", "")) if isinstance(one, Mapping) else str(one) for one in services
        )
    return "" if services is None else str(services)
