"""What a worker did, kept when its process dies: counts of a loaded model never decrease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nbmodel.runtime.statistics import ModelStatistics


class Tally:
    """What the processes of one worker, one after another, did for the models it serves now.

    A process tells when it is asked, so what it did after that is lost when it dies; what
    was told is not. A model that is replaced takes its counts with it. One thread at a time.
    """

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._told: dict[str, ModelStatistics] = {}  # by the process that runs
        self._before: dict[str, ModelStatistics] = {}  # by those that have died

    def follow(self, keys: Mapping[str, str]) -> None:
        """These models are served from now on.

        Args:
            keys: Name of a service → key of the source that it is loaded from.
        """
        for name in [name for name, key in self._keys.items() if keys.get(name) != key]:
            self._told.pop(name, None)
            self._before.pop(name, None)
        self._keys = dict(keys)

    def tell(self, key: str, counts: ModelStatistics) -> None:
        """What the process that runs did with a model; of another than is served: nothing.

        Args:
            key: Of the source that it was loaded from.
            counts: Since it was loaded in that process.
        """
        if self._keys.get(counts.name) == key:
            self._told[counts.name] = counts

    def end(self) -> None:
        """The process died; the next one counts from 0."""
        for name, counts in self._told.items():
            over = replace(counts, pending=0, under_way_ns=0)
            before = self._before.get(name)
            self._before[name] = over if before is None else before + over
        self._told = {}

    def counts(self) -> tuple[tuple[str, ModelStatistics], ...]:
        """What all of its processes did, as far as it was told: a model's key and its counts."""
        found = []
        for name, key in self._keys.items():
            parts = [one[name] for one in (self._told, self._before) if name in one]
            if parts:
                found.append((key, sum(parts[1:], parts[0])))
        return tuple(found)
