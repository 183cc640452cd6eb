"""Numbers here, once a remote has settled its own: the same ones, and the change is visible."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbmodel.core.claim import MAX_NUMBER, next_number
from nbmodel.core.remote import Remote
from nbmodel.core.version import now
from nbmodel.registry.index import touch_index

_MAX_TOLD = 3  # versions that a line names


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A version that has another number than before.

    Attributes:
        model: The model.
        old: The number that it had.
        new: The one that it got.
        remote: Whose numbers made it give way.
        at: When; UTC, ISO 8601.
        by_other: Whether another version has the old number there.
    """

    model: str
    old: int
    new: int
    remote: str
    at: str
    by_other: bool = True

    def __str__(self) -> str:
        what = f"{self.model}:{self.old} is {self.model}:{self.new} now: "
        if self.by_other:
            return f"{what}another {self.model}:{self.old} was pushed to {self.remote} first"
        return f"{what}that is its number on {self.remote}"

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        return {
            "model": self.model,
            "old": self.old,
            "new": self.new,
            "remote": self.remote,
            "at": self.at,
            "by_other": self.by_other,
        }


def plan_numbers(
    present: Mapping[int, int], wanted: Mapping[int, int], given: Iterable[int]
) -> dict[int, int]:
    """The numbers of versions when some of them are to have certain ones.

    Others keep theirs where nobody is to have it, else they get the next above all.

    Args:
        present: Version → its number; less than 1: it has none yet.
        wanted: Version → the number it is to have; no number twice, and each version present.
        given: Further numbers that were given out, and that nobody may have.

    Returns:
        Version → number, for every version present.
    """
    numbers = {**present, **wanted}
    taken = set(wanted.values())
    used = {*taken, *given, *(number for number in present.values() if number > 0)}
    for version, number in sorted(present.items(), key=lambda item: (item[1] < 1, abs(item[1]))):
        if version not in wanted and (number < 1 or number in taken):
            numbers[version] = next_number(used)
            while numbers[version] in used:
                numbers[version] += 1
            used.add(numbers[version])
    return numbers


def take_numbers(
    db: sqlite3.Connection, model_id: int, settled: Mapping[str, int], remote: Remote
) -> tuple[Renumbered, ...]:
    """Give the versions of a model the numbers that a remote settled.

    Aliases, pins and deployments are on versions and stay there; the history of aliases is
    told in the new numbers.

    Args:
        db: A transaction that writes.
        model_id: The model.
        settled: Digest → number; of versions that are not here, too.
        remote: Whose numbers they are.

    Returns:
        The versions that had another number before.
    """
    name, last = db.execute(
        "SELECT name, last_number FROM models WHERE id = ?", (model_id,)
    ).fetchone()
    rows = db.execute(
        "SELECT id, number, digest FROM versions WHERE model = ?", (model_id,)
    ).fetchall()
    present = {version: number for version, number, _ in rows}
    wanted = {version: settled[digest] for version, _, digest in rows if digest in settled}
    wanted = {version: number for version, number in wanted.items() if number <= MAX_NUMBER}
    given = (last, *settled.values()) if last else tuple(settled.values())
    numbers = plan_numbers(present, wanted, given)
    changed = {version: number for version, number in numbers.items() if number != present[version]}
    _write_numbers(db, changed)
    moved = {
        present[version]: number for version, number in changed.items() if present[version] > 0
    }
    _retell_moves(db, model_id, moved)
    db.execute(
        "UPDATE models SET last_number = ? WHERE id = ?",
        (max(last, next_number((*numbers.values(), *settled.values())) - 1), model_id),
    )
    at = now()
    db.executemany(
        "INSERT INTO renumbered (version, old, new, at, remote) VALUES (?, ?, ?, ?, ?)",
        [
            (version, present[version], number, at, str(remote))
            for version, number in changed.items()
            if present[version] > 0
        ],
    )
    if changed:
        touch_index(db)
    owners = {number: digest for digest, number in settled.items()}
    digests = {present[version]: digest for version, _, digest in rows}
    return tuple(
        Renumbered(name, old, new, remote.host, at, owners.get(old, digests[old]) != digests[old])
        for old, new in sorted(moved.items())
    )


def differing(place: str, numbers: Mapping[tuple[str, int], int | None]) -> tuple[str, ...]:
    """A line about versions whose number here is not the one that they have at a place.

    Args:
        place: A repository, as a person writes it.
        numbers: Model and number here → number there; None: it is not there.
    """
    told = [
        f"{model}:{here} is number {there} at {place}"
        for (model, here), there in sorted(numbers.items())
        if there is not None and there != here
    ]
    if len(told) > _MAX_TOLD:
        told = [*told[:_MAX_TOLD], f"and {len(told) - _MAX_TOLD} more have other numbers there"]
    return ("; ".join(told),) if told else ()


def renumbered_of(db: sqlite3.Connection, model_id: int) -> list[Renumbered]:
    """Every change of a number of a model's versions, newest first."""
    found = db.execute(
        "SELECT m.name, r.old, r.new, r.remote, r.at, EXISTS (SELECT 1 FROM versions o"
        " WHERE o.model = v.model AND o.number = r.old AND o.id != v.id) FROM renumbered r"
        " JOIN versions v ON v.id = r.version JOIN models m ON m.id = v.model"
        " WHERE v.model = ? ORDER BY r.id DESC",
        (model_id,),
    )
    return [
        Renumbered(name, old, new, Remote.parse(remote).host, at, bool(by_other))
        for name, old, new, remote, at, by_other in found
    ]


def _write_numbers(db: sqlite3.Connection, numbers: Mapping[int, int]) -> None:
    # Two versions that change places have one number for a moment, which the index forbids.
    db.executemany(
        "UPDATE versions SET number = ? WHERE id = ?",
        [(-version, version) for version in numbers],
    )
    db.executemany(
        "UPDATE versions SET number = ? WHERE id = ?",
        [(number, version) for version, number in numbers.items()],
    )


def _retell_moves(db: sqlite3.Connection, model_id: int, moved: Mapping[int, int]) -> None:
    """Tell the history of a model's aliases in the numbers that its versions have now."""
    if not moved:
        return
    moves = db.execute(
        "SELECT id, old, new FROM alias_moves WHERE model = ?", (model_id,)
    ).fetchall()
    db.executemany(
        "UPDATE alias_moves SET old = ?, new = ? WHERE id = ?",
        [(moved.get(old, old), moved.get(new, new), move) for move, old, new in moves],
    )
