"""Where a version comes from and what became of it, as a tree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from nbmodel.core.digest import short_digest
from nbmodel.core.graph import LineageGraph, Node
from nbmodel.display.base import Result
from nbmodel.display.card import Block, Card, Chip, Facts, Mono, Note, Table
from nbmodel.display.chips import alias_chip
from nbmodel.display.made_with import made_facts
from nbmodel.display.origin import converted, origin, short_origin
from nbmodel.display.quantity import moment

_MAX_ROWS = 100


class LineageCard(LineageGraph, Result):
    """A lineage graph that shows itself: ancestors above, descendants below."""

    @classmethod
    def of(cls, graph: LineageGraph) -> LineageCard:
        """The card of a lineage graph; it is that graph, too."""
        return cls(**{field.name: getattr(graph, field.name) for field in fields(LineageGraph)})

    def card(self) -> Card:
        """One table a direction, indented by distance."""
        root = self.node(self.root)
        above = _walk(root, self.parents)
        below = _walk(root, self.children)
        blocks: list[Block] = [
            _tree(title, rows) for title, rows in (("made from", above), ("became", below)) if rows
        ]
        if root.lineage is not None:
            made = [origin(root.lineage), ("converted", converted(root.conversion))]
            made += made_facts(root.lineage)
            blocks.insert(0, Facts(made))
        if root.deployments:
            runs = ", ".join(deployment.target for deployment in root.deployments)
            blocks.insert(0, Note(f"runs as {runs}"))
        if not above and not below:
            blocks.append(Note("no parents and no descendants"))
        chips = [alias_chip(alias) for alias in root.aliases]
        return Card(root.title, chips, blocks, kind="lineage")

    __repr__ = Result.__str__


def _walk(root: Node, neighbours: Callable[[str], tuple[Node, ...]]) -> list[tuple[int, Node]]:
    """Distance and node, depth first; a version is told once, however it is reached."""
    found: list[tuple[int, Node]] = []
    seen = {root.digest}
    stack = [(1, node) for node in reversed(neighbours(root.digest))]
    while stack:
        depth, node = stack.pop()
        if node.digest in seen:
            continue
        seen.add(node.digest)
        found.append((depth, node))
        stack += [(depth + 1, further) for further in reversed(neighbours(node.digest))]
    return found


def _tree(title: str, rows: list[tuple[int, Node]]) -> Table:
    return Table(
        ("version", "", "uploaded (UTC)", "made in", "converted", "runs as"),
        [
            (
                # No-break spaces: HTML would drop plain ones.
                ("\u00a0\u00a0" * (depth - 1) + "└", _name(node)),
                tuple(alias_chip(alias) for alias in node.aliases),
                moment(node.created),
                short_origin(node.lineage) if node.lineage is not None else "",
                node.conversion.tool if node.conversion is not None else "",
                ", ".join(deployment.target for deployment in node.deployments),
            )
            for depth, node in rows[:_MAX_ROWS]
        ],
        title=title,
        left_out=max(0, len(rows) - _MAX_ROWS),
    )


def _name(node: Node) -> Mono | Chip:
    if node.reference is not None:
        return Mono(node.reference, node.digest)
    return Chip(f"{short_digest(node.digest)}, not in this registry")
