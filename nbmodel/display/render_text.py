"""Cards as plain text: aligned columns, no colours, nothing a terminal would obey."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from itertools import zip_longest

from nbmodel.display.card import (
    Bar,
    Beside,
    Block,
    Card,
    Cell,
    Chip,
    Code,
    Facts,
    Fold,
    Gallery,
    Mono,
    Note,
    Picture,
    Swatch,
    Table,
)
from nbmodel.display.printable import printable

_APART = (Table, Code, Picture, Gallery, Beside)  # blocks with a line of their own around them
_MAX_CELL = 72  # columns; two such cells fit a wide terminal
_BAR = 20  # columns of a whole bar
_EIGHTHS = " ▏▎▍▌▋▊▉"


def width(text: str) -> int:
    """How many columns of a terminal ``text`` takes: wide characters take two."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def cell_text(cell: Cell, *, limit: int | None = _MAX_CELL) -> str:
    """A cell on one line; words longer than ``limit`` columns are cut."""
    if isinstance(cell, tuple):
        return " ".join(filter(None, (cell_text(part, limit=limit) for part in cell)))
    if isinstance(cell, str):
        return printable(cell) if limit is None else _cut(printable(cell), limit)
    if isinstance(cell, Chip):
        return printable(cell.text)
    if isinstance(cell, Mono):
        return printable(cell.text)  # never cut: it is there to be copied
    if isinstance(cell, Bar):
        return _bar(cell.share)
    assert isinstance(cell, Swatch)
    return ""


def _cut(text: str, limit: int) -> str:
    if width(text) <= limit:
        return text
    kept = ""
    for char in text:
        if width(kept) + width(char) > limit - 1:
            break
        kept += char
    return kept.rstrip() + "…"


def _bar(share: float) -> str:
    if not math.isfinite(share):
        return ""
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    # A share that is not nothing leaves a mark.
    return bar or ("▏" if share > 0 else "")


def render_text(card: Card) -> str:
    """The whole card; the last line has no line break.

    A title alone, without blocks, is one line.
    """
    title = printable(card.title)
    chips = " · ".join(printable(chip.text) for chip in card.chips)
    parts = [f"{title}  {chips}".rstrip()] if title or chips else []
    previous: Block | None = None
    for block in card.blocks:
        text = block_text(block)
        if not text:
            continue
        # Facts and short remarks sit under the title; tables stand apart.
        apart = isinstance(block, _APART) or isinstance(previous, _APART)
        if parts and apart:
            parts.append("")
        parts.append(text)
        previous = block
    return "\n".join(parts)


def block_text(block: Block) -> str:
    """One block, on as many lines as it takes; empty when a terminal cannot show it."""
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Note):
        return cell_text(block.text, limit=None)
    if isinstance(block, Code):
        return printable(block.text, keep_lines=True)
    if isinstance(block, Picture):
        return printable(block.text, keep_lines=True)
    if isinstance(block, Gallery):
        return _gallery(block)
    if isinstance(block, Beside):
        return "\n\n".join(filter(None, map(block_text, block.blocks)))
    assert isinstance(block, Fold)
    return f"{printable(block.title)}: {printable(block.brief)}" if block.brief else ""


def _facts(facts: Facts) -> str:
    # Never cut: a fact is read, not compared with the row below.
    rows = [(printable(name), cell_text(cell, limit=None)) for name, cell in facts.rows]
    rows = [row for row in rows if row[1]]
    widest = max((width(name) for name, _ in rows), default=0)
    return "\n".join(f"  {_padded(name, widest)}  {value}" for name, value in rows)


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    table = table.filled()
    lines = aligned(
        [column.removeprefix(">") for column in table.columns],
        [[cell_text(cell) for cell in row] for row in table.rows],
        [column.startswith(">") for column in table.columns],
    )
    if table.title:
        lines.insert(0, printable(table.title))
    if table.left_out:
        lines.append(f"  … and {table.left_out:,} more")
    return "\n".join(lines)


def aligned(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]
) -> list[str]:
    """Lines of a table with a rule under its headers."""
    widths = [max(map(width, column)) for column in zip(headers, *rows, strict=True)]
    lines = [
        "  ".join(
            _padded(text, columns, right=is_right)
            for text, columns, is_right in zip(row, widths, right, strict=True)
        )
        for row in (headers, ["─" * columns for columns in widths], *rows)
    ]
    return [f"  {line}".rstrip() for line in lines]


def _padded(text: str, columns: int, *, right: bool = False) -> str:
    gap = " " * (columns - width(text))
    return gap + text if right else text + gap


def _gallery(gallery: Gallery) -> str:
    captions = [cell_text(picture.caption) for picture in gallery.pictures]
    if not any(captions):
        return ""
    rows = [
        captions[start : start + gallery.columns]
        for start in range(0, len(captions), gallery.columns)
    ]
    columns = list(zip_longest(*rows, fillvalue=""))
    widths = [max(map(width, column)) for column in columns]
    lines = [
        "  " + "  ".join(_padded(text, widths[place]) for place, text in enumerate(row)).rstrip()
        for row in rows
    ]
    if gallery.left_out:
        lines.append(f"  … and {gallery.left_out:,} more")
    return "\n".join(lines)
