"""What came of running the cells of a version again: what is the same, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbmodel.core.diff import Change, Diff
from nbmodel.core.digest import is_digest
from nbmodel.core.lineage import Lineage


class Failed(NamedTuple):
    """A cell that ended with an error.

    Attributes:
        number: Its execution count when the version was made.
        error: Name and message.
    """

    number: int
    error: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A version made once more, beside the first.

    Attributes:
        reference: The first: ``digits:3``.
        diff: What differs between the two; None where the cells made no version.
        digests: Of paths and bytes, of the first and of the second; empty where there is none.
        signature_size: Tensors that were compared.
        metrics: Numbers that were compared, by name: the first's.
        failed: Cells that ended with an error, in order.
        cells: How many were run.
        left_out: How many were not, because they are private or were too much to keep.
        seconds: That it took.
        packages: Packages whose version differs, or that only one of the two had.
        machine: What differs of the machine, Python included.
        data: Fingerprints that differ, or that only one of the two has.
    """

    reference: str
    diff: Diff | None
    digests: tuple[str, str]
    signature_size: int = 0
    metrics: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    cells: int = 0
    left_out: int = 0
    seconds: float = 0.0
    packages: tuple[Change, ...] = ()
    machine: tuple[Change, ...] = ()
    data: tuple[Change, ...] = ()

    @property
    def same_digest(self) -> bool:
        """Whether all files are the same, byte for byte."""
        first, second = self.digests
        return is_digest(first) and first == second

    @property
    def same_signature(self) -> bool:
        """Whether inputs, outputs and labels are the same."""
        return self.diff is not None and not self.diff.signature and not self.diff.labels

    @property
    def same_metrics(self) -> bool:
        """Whether all metrics are equal numbers."""
        return self.diff is not None and not self.diff.metrics

    @property
    def is_same(self) -> bool:
        """Whether signature, metrics and digest are the same."""
        return self.same_digest and self.same_signature and self.same_metrics

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "reference": self.reference,
            "made": self.diff is not None,
            "same": self.is_same,
            "same_signature": self.same_signature,
            "same_metrics": self.same_metrics,
            "same_digest": self.same_digest,
            "digests": list(self.digests),
            "diff": None if self.diff is None else self.diff.to_json(),
            "failed": [one._asdict() for one in self.failed],
            "cells": self.cells,
            "left_out": self.left_out,
            "seconds": self.seconds,
            "packages": [one.to_json() for one in self.packages],
            "machine": [one.to_json() for one in self.machine],
            "data": [one.to_json() for one in self.data],
        }


def surroundings(
    first: Lineage, second: Lineage
) -> tuple[tuple[Change, ...], tuple[Change, ...], tuple[Change, ...]]:
    """What differs in packages, in the machine and in the data that two versions were made with."""
    machines, data = [], []
    for one in (first, second):
        made = one.provenance
        machines.append({} if made is None else made.machine.to_json())
        data.append({} if made is None else {key: of.digest for key, of in made.data.items()})
    return (
        _changes(first.packages, second.packages),
        _changes(machines[0], machines[1]),
        _changes(data[0], data[1]),
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    found = []
    for key in sorted(old.keys() | new.keys()):
        if key not in old:
            found.append(Change(key, "added", None, new[key]))
        elif key not in new:
            found.append(Change(key, "removed", old[key], None))
        elif old[key] != new[key]:
            found.append(Change(key, "changed", old[key], new[key]))
    return tuple(found)
