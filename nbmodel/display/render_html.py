"""Cards as HTML that stands alone: no script, no file from elsewhere, readable without CSS.

GitHub removes styles and classes: what is left are headings, tables with header cells,
``<code>``, ``<details>`` and pictures with their sizes, which still read. Colours come from
the theme (JupyterLab's variables, then VS Code's, then whatever surrounds the cell), and
those of our own are translucent, so that they suit light and dark.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
from collections.abc import Iterable
from functools import lru_cache

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
    Inline,
    Mono,
    Note,
    Picture,
    Swatch,
    Table,
)
from nbmodel.display.highlight import pieces
from nbmodel.display.printable import printable
from nbmodel.display.quantity import percent
from nbmodel.display.style import BAR_COLOUR, STYLE, TRACK_COLOUR

_BAR_SIZE = (140, 10)  # CSS pixels
_SWATCH = 10  # CSS pixels
_KINDS = {b"\x89PNG": "png", b"<svg": "svg+xml"}
_ONE_LINE = 28  # characters of a cell that is not broken
_CHIPS_LINE = 56  # characters of a row of chips that is not

_TO_TYPE = re.compile("`([^`<>]+)`")  # words between backticks, in text that is escaped


def render_html(card: Card) -> str:
    """The whole card in one ``<div>``, its style sheet included."""
    chips = " ".join(_chip(chip) for chip in card.chips)
    title = f'<strong class="nbm-title">{_text(card.title)}</strong>' if card.title else ""
    head = f'<div class="nbm-head">{title} {chips}</div>' if title or chips else ""
    blocks = "".join(map(block_html, card.blocks))
    label = _source(f"{card.kind} {card.title}".strip())
    return (
        f'<div class="nbm" role="group" aria-label="{label}"><style>{STYLE}</style>'
        f"{head}{blocks}</div>"
    )


def cell_html(cell: Cell) -> str:
    """A cell's contents."""
    if isinstance(cell, tuple):
        return " ".join(filter(None, map(_inline, cell)))
    return _inline(cell)


def block_html(block: Block) -> str:
    """One block."""
    if isinstance(block, Facts):
        return _facts(block)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Note):
        text = _TO_TYPE.sub(r'<code class="nbm-mono">\1</code>', cell_html(block.text))
        return f'<p class="nbm-note nbm-{block.tone}">{text}</p>'
    if isinstance(block, Code):
        return f'<pre class="nbm-code"><code>{_coloured(block)}</code></pre>'
    if isinstance(block, Picture):
        return _picture(block)
    if isinstance(block, Gallery):
        return _gallery(block)
    if isinstance(block, Beside):
        inner = "".join(f"<div>{block_html(part)}</div>" for part in block.blocks)
        return f'<div class="nbm-beside">{inner}</div>'
    assert isinstance(block, Fold)
    inner = "".join(map(block_html, block.blocks))
    return f"<details><summary>{_text(block.title)}</summary>{inner}</details>"


def _text(text: str) -> str:
    return _source(text).replace("\n", "<br>")


def _source(text: str) -> str:
    """Text with its line breaks, for attributes and ``<pre>``; the only way into the page."""
    return html.escape(printable(text, keep_lines=True), quote=True)


def _coloured(code: Code) -> str:
    return "".join(
        f'<span class="nbm-{kind}">{_source(text)}</span>' if kind else _source(text)
        for text, kind in pieces(code.text, code.language)
    )


def _inline(part: Inline) -> str:
    if isinstance(part, str):
        return _text(part)
    if isinstance(part, Chip):
        return _chip(part)
    if isinstance(part, Mono):
        title = f' title="{_source(part.full)}"' if part.full else ""
        return f'<code class="nbm-mono"{title}>{_text(part.text)}</code>' if part.text else ""
    if isinstance(part, Bar):
        return _bar(part.share)
    assert isinstance(part, Swatch)
    source = _data(_plain_png((_SWATCH, _SWATCH), 1.0, part.colour))
    return f'<img src="{source}" width="{_SWATCH}" height="{_SWATCH}" alt="">'


def _chip(chip: Chip) -> str:
    # On GitHub, <code> is what looks like a chip.
    return f'<code class="nbm-chip nbm-{chip.tone}">{_text(chip.text)}</code>'


def _bar(share: float) -> str:
    if not math.isfinite(share):
        return ""
    # Whole percent, so that equal bars are one cached picture.
    share = math.ceil(min(max(share, 0.0), 1.0) * 100) / 100
    source = _data(_plain_png(_BAR_SIZE, share, BAR_COLOUR))
    width, height = _BAR_SIZE
    return f'<img src="{source}" width="{width}" height="{height}" alt="bar of {percent(share)}">'


def _facts(facts: Facts) -> str:
    rows = [(name, cell_html(cell)) for name, cell in facts.rows]
    body = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{value}</td></tr>'
        for name, value in rows
        if value
    )
    return f'<table class="nbm-t nbm-facts"><tbody>{body}</tbody></table>' if body else ""


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    table = table.filled()
    right = [column.startswith(">") for column in table.columns]
    head = "".join(
        f'<th scope="col"{_align(is_right)}>{_text(column.removeprefix(">"))}</th>'
        for column, is_right in zip(table.columns, right, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_align(is_right)}{_short(cell)}>{cell_html(cell)}</td>"
            for cell, is_right in zip(row, right, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{_text(table.title)}</caption>" if table.title else ""
    return (
        f'<div class="nbm-scroll"><table class="nbm-t">{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{_left_out(table.left_out)}"
    )


def _align(is_right: bool) -> str:
    # The attribute, not only a class: it is what GitHub keeps.
    return ' align="right"' if is_right else ""


def _short(cell: Cell) -> str:
    """Dates, names, words and a few chips stay on one line; sentences may break."""
    if isinstance(cell, tuple):
        letters = sum(len(part.text) for part in cell if isinstance(part, Chip))
        is_short = 0 < letters <= _CHIPS_LINE
    else:
        is_short = isinstance(cell, str) and 0 < len(cell) <= _ONE_LINE
    return ' class="nbm-1"' if is_short else ""


def _left_out(rows: int) -> str:
    return f'<p class="nbm-note nbm-faint">… and {rows:,} more</p>' if rows else ""


def _picture(picture: Picture) -> str:
    # No height: where the width is cut to the page's, the proportions must stay.
    image = (
        f'<img src="{_data(picture.data)}" width="{picture.width}" alt="{_source(picture.alt)}">'
    )
    caption = cell_html(picture.caption)
    return f'<div class="nbm-pic">{image}{f"<br>{caption}" if caption else ""}</div>'


def _gallery(gallery: Gallery) -> str:
    cells = [f"<td>{_picture(picture)}</td>" for picture in gallery.pictures]
    rows = (
        "".join(cells[start : start + gallery.columns])
        for start in range(0, len(cells), gallery.columns)
    )
    return (
        f'<div class="nbm-scroll"><table class="nbm-t nbm-grid" role="presentation"><tbody>'
        f"{_rows(rows)}</tbody></table></div>{_left_out(gallery.left_out)}"
    )


def _rows(rows: Iterable[str]) -> str:
    return "".join(f"<tr>{row}</tr>" for row in rows)


def _data(data: bytes) -> str:
    kind = next((kind for start, kind in _KINDS.items() if data.startswith(start)), "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


@lru_cache(maxsize=512)
def _plain_png(size: tuple[int, int], share: float, colour: tuple[int, int, int]) -> bytes:
    """A bar, filled from the left.

    A picture of its full size, since some front ends keep an image's proportions
    whatever its attributes say.
    """
    from PIL import Image

    image = Image.new("P", size, 1)
    image.putpalette([*colour, *TRACK_COLOUR[:3]])
    image.paste(0, (0, 0, round(size[0] * share), size[1]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=bytes([255, TRACK_COLOUR[3]]), bits=1, optimize=True)
    return buffer.getvalue()
