"""Lineage graphs: the versions that a version was made from, and those made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbmodel.core.deployment import Deployment
from nbmodel.core.digest import short_digest
from nbmodel.core.lineage import Conversion, Lineage


@dataclass(frozen=True, slots=True)
class Node:
    """One version in a lineage graph.

    Attributes:
        digest: Digest of the manifest; what parents are named by.
        reference: ``digits:3``, or None when this registry has no such version.
        aliases: Names on it, ``latest`` included, sorted.
        created: UTC, ISO 8601, or empty when the version is not here.
        deployments: Services that run it.
        lineage: Where it was made; None where that was not looked up.
        conversion: How its file was made from an object, if it was.
    """

    digest: str
    reference: str | None
    aliases: tuple[str, ...] = ()
    created: str = ""
    deployments: tuple[Deployment, ...] = ()
    lineage: Lineage | None = None
    conversion: Conversion | None = None

    @property
    def title(self) -> str:
        """For people: the reference, or the short digest of a version that is not here."""
        return self.reference or f"{short_digest(self.digest)} (not in this registry)"

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "digest": self.digest,
            "reference": self.reference,
            "aliases": list(self.aliases),
            "created": self.created,
            "deployments": [deployment.to_json() for deployment in self.deployments],
            "lineage": None if self.lineage is None else self.lineage.to_json(),
            "conversion": None if self.conversion is None else self.conversion.to_json(),
        }


@dataclass(frozen=True, slots=True)
class LineageGraph:
    """Everything a version descends from, and everything that descends from it.

    Attributes:
        root: Digest of the version that was asked for.
        nodes: The root first, then by distance from it; distinct digests.
        edges: (parent digest, child digest), both ends in ``nodes``.
    """

    root: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...] = ()

    def node(self, digest: str) -> Node:
        """The node of that digest.

        Raises:
            KeyError: The graph has no such node.
        """
        for node in self.nodes:
            if node.digest == digest:
                return node
        raise KeyError(digest)

    def parents(self, digest: str) -> tuple[Node, ...]:
        """The versions that a node was made from, in the order the edges list them."""
        return self._nodes([parent for parent, child in self.edges if child == digest])

    def children(self, digest: str) -> tuple[Node, ...]:
        """The versions that were made from a node."""
        return self._nodes([child for parent, child in self.edges if parent == digest])

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "root": self.root,
            "nodes": [node.to_json() for node in self.nodes],
            "edges": [{"parent": parent, "child": child} for parent, child in self.edges],
        }

    def _nodes(self, digests: Sequence[str]) -> tuple[Node, ...]:
        by_digest = {node.digest: node for node in self.nodes}
        return tuple(by_digest[digest] for digest in digests)
