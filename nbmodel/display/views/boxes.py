"""Detections on the picture, with a table that is its legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbmodel.display.card import Bar, Block, Note, Swatch, Table
from nbmodel.display.pictures import shown_picture
from nbmodel.display.quantity import count, number, percent
from nbmodel.display.views.base import View
from nbmodel.vision.detect import Detection
from nbmodel.vision.draw import MAX_SIDE, class_colour, draw_boxes

if TYPE_CHECKING:
    from PIL.Image import Image

    from nbmodel.display.inference import InferenceResult

_MAX_ROWS = 20
_PICTURE_BYTES = 140_000  # of all pictures together; a cell of 250 KB holds them in base64
_MAX_PICTURES = 4


class BoxesView(View):
    """Boxes, labels and scores drawn on each picture, and listed below."""

    def blocks(self, result: InferenceResult) -> Sequence[Block]:
        """A picture and a table for each input."""
        pictures = max(1, min(len(result.images), _MAX_PICTURES))
        blocks: list[Block] = []
        for row in range(pictures):
            found = result.boxes(row=row)
            if result.images:
                drawn = draw_boxes(result.images[row], found, max_side=MAX_SIDE)
                blocks.append(
                    shown_picture(
                        drawn, alt=_alt(found), side=MAX_SIDE, max_bytes=_PICTURE_BYTES // pictures
                    )
                )
            blocks.append(_legend(found, result.lowest_score))
        if len(result.images) > pictures:
            blocks.append(Note(f"… and {len(result.images) - pictures} more pictures"))
        return blocks

    def picture(self, result: InferenceResult) -> Image | None:
        """The first input with its boxes, at its own size."""
        return draw_boxes(result.images[0], result.boxes()) if result.images else None


def _alt(found: Sequence[Detection]) -> str:
    labels = [detection.label for detection in found]
    counted = ", ".join(f"{labels.count(label)} {label}" for label in dict.fromkeys(labels))
    return f"picture with {count(len(found), 'detection')}: {counted or 'nothing found'}"


def _legend(found: Sequence[Detection], threshold: float) -> Block:
    if not found:
        return Note(f"no detection scores {number(threshold)} or more")
    return Table(
        ("", "class", "", ">score", ">left", ">top", ">right", ">bottom"),
        [
            (
                Swatch(class_colour(detection.index)),
                detection.label,
                Bar(detection.score),
                percent(detection.score),
                *(str(round(value)) for value in detection.xyxy),
            )
            for detection in found[:_MAX_ROWS]
        ],
        left_out=max(0, len(found) - _MAX_ROWS),
    )
