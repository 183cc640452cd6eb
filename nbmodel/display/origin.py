"""Where a version was made, as one fact."""

from __future__ import annotations

from nbmodel.core.lineage import Conversion, Lineage
from nbmodel.core.origin import Origin
from nbmodel.display.card import Cell, Mono
from nbmodel.display.quantity import count, number


def origin(lineage: Lineage) -> tuple[str, Cell]:
    """The fact's name and content: ``made in`` a notebook, ``made by`` a person, ``imported from``."""
    if lineage.origin is not None:
        by = f"by {lineage.user}" if lineage.user else ""
        return "imported from", (*_source(lineage.origin), by)
    place = _place(lineage)
    if not place:
        return "made by", lineage.user or ""
    return "made in", (*place, f"by {lineage.user}" if lineage.user else "")


def short_origin(lineage: Lineage) -> Cell:
    """The same for a row of a table: where, or by whom when that is not known."""
    if lineage.origin is not None:
        return _source(lineage.origin)
    return _place(lineage) or (f"by {lineage.user}" if lineage.user else "")


def _source(source: Origin) -> tuple[str | Mono, ...]:
    place: tuple[str | Mono, ...] = (Mono(source.uri),)
    if not source.revision:
        return place
    is_commit = len(source.revision) >= 40 and source.revision.isalnum()
    shown = source.revision[:12] if is_commit else source.revision[:40]
    return (*place, "at", Mono(shown, source.revision))


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
