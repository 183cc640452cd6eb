"""Charts drawn with Pillow, for results that are saved as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from nbmodel.display.quantity import percent
from nbmodel.display.style import BAR_COLOUR
from nbmodel.vision.draw import enlarged, fitted, font_for, one_line

_INK = (32, 33, 36)
_TRACK = (232, 234, 237)
_PAPER = (255, 255, 255)
_ROW = 34  # pixels; twice the size on the screen
_LETTERS = 20
_MARGIN = 16
_CELL = 128  # side of a picture on a contact sheet


def bar_chart(shares: Sequence[tuple[str, float]], width: int = 720) -> Image.Image:
    """Labels, bars and percentages, one a row, dark on white.

    Args:
        shares: Label and share of 1, in the order to show.
        width: Pixels.
    """
    image = Image.new("RGB", (width, max(1, len(shares)) * _ROW + 2 * _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)
    left, right = _MARGIN + width * 2 // 5, width - _MARGIN - 90
    for row, (label, share) in enumerate(shares):
        middle = _MARGIN + row * _ROW + _ROW / 2
        _write(draw, (_MARGIN, middle), label, left - 2 * _MARGIN)
        draw.rectangle((left, middle - 8, right, middle + 8), fill=_TRACK)
        share_shown = min(max(share, 0.0), 1.0) if math.isfinite(share) else 0.0
        filled = left + (right - left) * share_shown
        if filled - left >= 1:
            draw.rectangle((left, middle - 8, filled, middle + 8), fill=BAR_COLOUR)
        _write(draw, (right + 12, middle), percent(share), 90)
    return image


def beside(picture: Image.Image, chart: Image.Image) -> Image.Image:
    """A picture to the left of a chart, both in the middle of their height, on white."""
    shown = _sized(picture, max(chart.height - 2 * _MARGIN, 240))
    size = (shown.width + chart.width + _MARGIN, max(shown.height + 2 * _MARGIN, chart.height))
    sheet = Image.new("RGB", size, _PAPER)
    sheet.paste(shown, (_MARGIN, (size[1] - shown.height) // 2))
    sheet.paste(chart, (shown.width + _MARGIN, (size[1] - chart.height) // 2))
    return sheet


def contact_sheet(captioned: Sequence[tuple[Image.Image, str]], columns: int = 8) -> Image.Image:
    """Pictures in rows, each over its caption, dark on white."""
    columns = max(1, min(columns, len(captioned)))
    rows = -(-len(captioned) // columns)
    cell = (_CELL + _MARGIN, _CELL + _ROW + _MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + _MARGIN, rows * cell[1] + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (image, caption) in enumerate(captioned):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * cell[0], _MARGIN + row * cell[1]
        shown = _sized(image, _CELL)
        sheet.paste(shown, (left + (_CELL - shown.width) // 2, top))
        _write(draw, (left, top + _CELL + _ROW / 2), caption, _CELL, letters=16)
    return sheet


def _sized(image: Image.Image, side: int) -> Image.Image:
    picture = image.convert("RGB")
    return enlarged(picture, side) if max(picture.size) * 2 <= side else fitted(picture, side)


def _write(
    draw: ImageDraw.ImageDraw,
    where: tuple[float, float],
    text: str,
    room: float,
    *,
    letters: int = _LETTERS,
) -> None:
    """Text on one line from ``where`` (left, middle), cut to ``room`` pixels."""
    shown = text = one_line(text)
    font = font_for(text, letters)
    while text and draw.textlength(shown, font=font) > room:
        text = text[:-1].rstrip()
        shown = f"{text}..."
    draw.text((where[0], where[1] - letters / 2 - 1), shown, fill=_INK, font=font)
