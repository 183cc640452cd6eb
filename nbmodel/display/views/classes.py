"""Classes as bars, beside the picture they were seen in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbmodel.display.card import Bar, Beside, Block, Gallery, Picture, Table
from nbmodel.display.pictures import shown_picture
from nbmodel.display.quantity import percent
from nbmodel.display.views.base import View
from nbmodel.vision.classify import Classification

if TYPE_CHECKING:
    from PIL.Image import Image

    from nbmodel.display.inference import InferenceResult

_TOP = 5  # classes of one input, when there are many
_ALL = 12  # classes that are shown to the last
_MAX_ROWS = 48  # of a batch


class ClassesView(View):
    """One input: its best classes as bars. A batch: the best class of each row."""

    def blocks(self, result: InferenceResult) -> Sequence[Block]:
        """Bars, or a grid of pictures, or a table of rows."""
        rows = result.rows(_ALL + 1)
        if len(rows) == 1:
            return [_single(rows[0], result.images)]
        if result.images:
            return [_grid(rows, result.images)]
        return [_list(rows)]

    def picture(self, result: InferenceResult) -> Image | None:
        """The picture and its bars side by side; a contact sheet for a batch."""
        from nbmodel.display.chart import bar_chart, beside, contact_sheet

        rows = result.rows(_ALL + 1)
        if len(rows) == 1:
            best = _best(rows[0])
            chart = bar_chart([(found.label, found.score) for found in best])
            return beside(result.images[0], chart) if result.images else chart
        if not result.images:
            return None
        pairs = zip(result.images[:_MAX_ROWS], rows, strict=False)
        return contact_sheet([(image, _caption(row)) for image, row in pairs])


def _best(row: Sequence[Classification]) -> Sequence[Classification]:
    """Every class of a few, the top of many; those without any score say nothing then."""
    if len(row) <= _ALL:
        return row
    return [found for found in row[:_TOP] if found.score > 0] or row[:1]


def _single(row: Sequence[Classification], images: Sequence[Image]) -> Block:
    best = _best(row)
    bars = Table(
        ("class", "", ">score"),
        [(found.label, Bar(found.score), percent(found.score)) for found in best],
    )
    if not images:
        return bars
    alt = f"input picture, seen as {best[0].label}" if best else "input picture"
    return Beside([shown_picture(images[0], alt=alt, side=220), bars])


def _grid(rows: Sequence[Sequence[Classification]], images: Sequence[Image]) -> Gallery:
    pairs = list(zip(images, rows, strict=False))
    pictures: list[Picture] = [
        shown_picture(
            image,
            alt=f"input {place}, seen as {_caption(row)}",
            side=72,
            caption=_caption(row),
            max_bytes=2500,
        )
        for place, (image, row) in enumerate(pairs[:_MAX_ROWS])
    ]
    return Gallery(pictures, columns=8, left_out=max(0, len(pairs) - _MAX_ROWS))


def _list(rows: Sequence[Sequence[Classification]]) -> Table:
    return Table(
        (">row", "class", "", ">score", "next best"),
        [
            (
                str(place),
                row[0].label,
                Bar(row[0].score),
                percent(row[0].score),
                f"{row[1].label} · {percent(row[1].score)}" if len(row) > 1 else "",
            )
            for place, row in enumerate(rows[:_MAX_ROWS])
            if row
        ],
        left_out=max(0, len(rows) - _MAX_ROWS),
    )


def _caption(row: Sequence[Classification]) -> str:
    return f"{row[0].label} · {percent(row[0].score)}" if row else "nothing"
