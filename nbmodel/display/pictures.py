"""Pillow images as pictures of a card, in as few bytes as they need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbmodel.display.card import Cell, Picture
from nbmodel.vision.draw import encode_jpeg, encode_png, enlarged

if TYPE_CHECKING:
    from PIL.Image import Image

_SHARPNESS = 1.5  # pixels of the file for a CSS pixel: crisp on dense screens, not twice the bytes


def shown_picture(
    image: Image, *, alt: str, side: int, caption: Cell = "", max_bytes: int = 60_000
) -> Picture:
    """A picture whose longer side is shown at ``side`` CSS pixels.

    Pictures of very few pixels (digits of 8×8) are enlarged in sharp squares and kept
    without loss; all others become JPEG and are never enlarged.

    Args:
        image: Any size and mode.
        alt: What is to be seen.
        side: CSS pixels.
        caption: A line below.
        max_bytes: The file's size at most.
    """
    longer = max(image.size)
    if longer * 2 <= side and longer <= 64:
        big = enlarged(image, side)
        return Picture(encode_png(big), alt, big.width, caption)
    shown = min(1.0, side / longer)
    limit = side if side >= 640 else round(side * _SHARPNESS)
    data = encode_jpeg(image, limit, max_bytes=max_bytes)
    return Picture(data, alt, max(1, round(image.width * shown)), caption)
