"""Where a version was made, as one fact."""

from __future__ import annotations

from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.display.card import Cell, Mono
from nbmodel.display.quantity import count, number


def origin(lineage: Lineage) -> tuple[str, Cell]:
    """Name and content of the fact: ``made in`` a notebook, ``made by`` a person."""
    place = _place(lineage)
    if not place:
        return "made by", lineage.user or ""
    return "made in", (*place, f"by {lineage.user}" if lineage.user else "")


def short_origin(lineage: Lineage) -> Cell:
    """The same for a row of a table: where, or by whom when that is not known."""
    return _place(lineage) or (f"by {lineage.user}" if lineage.user else "")


def _place(lineage: Lineage) -> tuple[str | Mono, ...]:
    cells: list[str | Mono] = []
    if lineage.notebook:
        cells.append(Mono(lineage.notebook))
    if lineage.cell is not None:
        cells.append(f"cell {lineage.cell}")
    if lineage.git_commit:
        cells.append("at commit" if cells else "commit")
        cells.append(Mono(lineage.git_commit[:10], lineage.git_commit))
        if lineage.git_dirty:
            cells.append("with local changes")
    return tuple(cells)


def converted(conversion: Conversion | None) -> str:
    """What a version was converted from, by what, and how much it differs."""
    if conversion is None:
        return ""
    return (
        f"from {conversion.source} by {conversion.tool}; differs by at most "
        f"{number(conversion.max_abs)} on {count(conversion.samples, 'row')}"
    )
