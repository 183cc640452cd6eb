"""What a result shows, said once: blocks that have a text and an HTML form.

A card says *what* is there; ``render_text`` and ``render_html`` say how it looks. Strings
here are plain text from anywhere, labels and error texts included: the renderers make
them harmless, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from nbmodel.display.highlight import Language

Tone = Literal["calm", "info", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Chip:
    """A word about a thing: its framework, an alias, a state."""

    text: str
    tone: Tone = "calm"


@dataclass(frozen=True, slots=True)
class Mono:
    """Something to copy or to compare by the letter: a reference, a digest, a path.

    Attributes:
        text: What is shown.
        full: What it stands for, shown on hover, when ``text`` is a short form.
    """

    text: str
    full: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of a whole, drawn as a bar.

    Attributes:
        share: In 0..1; NaN draws nothing.
    """

    share: float


@dataclass(frozen=True, slots=True)
class Swatch:
    """A small square of a colour: the key to what is drawn on a picture.

    Attributes:
        colour: Red, green, blue; 0..255.
    """

    colour: tuple[int, int, int]


Inline: TypeAlias = "str | Chip | Mono | Bar | Swatch"
Cell: TypeAlias = "Inline | tuple[Inline, ...]"


def is_empty(cell: Cell) -> bool:
    """Whether a cell shows nothing."""
    if isinstance(cell, tuple):
        return all(map(is_empty, cell))
    return not (cell if isinstance(cell, str) else getattr(cell, "text", "drawn"))


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they are; a fact whose cell is empty is left out."""

    rows: Sequence[tuple[str, Cell]]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headers.

    Attributes:
        columns: Headers; one that starts with ``>`` is of a column aligned right.
        rows: As many cells as columns each.
        title: A line above, or nothing.
        left_out: How many further rows there are.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    left_out: int = 0

    def filled(self) -> Table:
        """The same table without the columns in which no row has anything."""
        kept = [
            place
            for place in range(len(self.columns))
            if not all(is_empty(row[place]) for row in self.rows)
        ]
        rows = [[row[place] for place in kept] for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in kept], rows=rows)


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence."""

    text: Cell
    tone: Tone = "calm"


@dataclass(frozen=True, slots=True)
class Code:
    """Text to copy, every character as it is.

    Attributes:
        text: What is shown.
        language: What it is written in, for colours: ``python``, ``diff`` or nothing.
    """

    text: str
    language: Language = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file.

    Attributes:
        data: PNG or JPEG bytes, or an ``<svg>`` element made by this package.
        alt: What is to be seen on it, for those who cannot.
        width: On the screen, in CSS pixels, where there is room for it.
        caption: A line below, or nothing.
        text: What a terminal shows in its place, or nothing.
    """

    data: bytes
    alt: str
    width: int
    caption: Cell = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Small pictures with captions, in rows.

    Attributes:
        pictures: All of one size or nearly so.
        columns: How many side by side.
        left_out: How many further pictures there are.
    """

    pictures: Sequence[Picture]
    columns: int = 8
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class Beside:
    """Blocks side by side where there is room."""

    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks that are out of sight until asked for.

    Attributes:
        title: What is in there.
        blocks: What is shown when it is opened.
        brief: What a terminal shows in their place.
    """

    title: str
    blocks: Sequence[Block]
    brief: str = ""


Block: TypeAlias = "Facts | Table | Note | Code | Picture | Gallery | Beside | Fold"


@dataclass(frozen=True, slots=True)
class Card:
    """A titled result.

    Attributes:
        title: The thing's own name, such as its reference.
        chips: Words about it, most telling first.
        blocks: What there is to say, top to bottom.
        kind: What the thing is, for those who cannot see the layout: ``model version``.
    """

    title: str
    chips: Sequence[Chip] = ()
    blocks: Sequence[Block] = ()
    kind: str = "result"
