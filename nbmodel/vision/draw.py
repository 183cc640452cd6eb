"""Detections onto pictures, and pictures into bytes that fit a notebook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

from nbmodel.vision.detect import Detection

Colour: TypeAlias = tuple[int, int, int]

#: Colours of classes, in turn: bright enough for a dark picture, far apart for neighbours.
COLOURS: Sequence[Colour] = (
    (255, 89, 94),
    (25, 160, 255),
    (255, 202, 58),
    (46, 204, 113),
    (190, 120, 255),
    (255, 146, 43),
    (0, 210, 211),
    (255, 120, 190),
    (163, 203, 56),
    (130, 150, 255),
    (240, 230, 140),
    (205, 133, 100),
)
MAX_SIDE = 960  # pixels of a picture in a notebook: wider than any output cell shows
# Pillow's own font has ASCII only; these are tried for the rest.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "arial.ttf",
)
_CJK_FONTS = ("NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "PingFang.ttc", "msyh.ttc")
_CJK_START = "\u2e80"  # first of the blocks that Latin fonts do not have

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


def class_colour(index: int) -> Colour:
    """The colour of a class: the same for the same index, in every picture."""
    return COLOURS[index % len(COLOURS)]


def ink_on(colour: Colour) -> Colour:
    """Black or white, whichever reads better on a colour.

    Source: WCAG 2.2, "relative luminance" and "contrast ratio".
    """
    channels = [value / 255 for value in colour]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # The contrast to black and to white is equal at sqrt(1.05 * 0.05) - 0.05.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def fitted(image: Image.Image, max_side: int = MAX_SIDE) -> Image.Image:
    """The picture, shrunk where its longer side is above ``max_side``; never enlarged."""
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # A gap of 1 averages whole pixels as far as that goes and filters only the rest: six
    # times as fast from 1080p, and no difference to be seen.
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0)


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side ``side`` pixels or a little less, in sharp squares."""
    factor = max(1, side // max(image.size))
    size = (image.width * factor, image.height * factor)
    return image.resize(size, Image.Resampling.NEAREST)


def draw_boxes(
    image: Image.Image, detections: Sequence[Detection], *, max_side: int | None = None
) -> Image.Image:
    """A copy of the picture with every detection's box, label and score on it.

    Lines and letters grow with the picture. The best detections are drawn last, so that
    they are on top.

    Args:
        image: The original picture, in whose pixels the boxes are.
        detections: Any number of them.
        max_side: Shrink the picture to this first, boxes with it, so that lines and
            letters stay crisp; None keeps its size.

    Returns:
        A new RGB image.
    """
    base = image if max_side is None else fitted(image, max_side)
    canvas = base.convert("RGB") if base.mode != "RGB" or base is not image else image.copy()
    scale = canvas.width / image.width, canvas.height / image.height
    brush = _Brush.of(canvas)
    for detection in sorted(detections, key=lambda detection: detection.score):
        left, top, right, bottom = (
            value * scale[place % 2] for place, value in enumerate(detection.xyxy)
        )
        colour = class_colour(detection.index)
        brush.box((left, top, max(left, right), max(top, bottom)), colour)
        brush.label((left, top), (detection.label, f"{detection.score:.2f}"), colour)
    return canvas


@dataclass(frozen=True, slots=True)
class _Brush:
    """Draws boxes and labels on one picture, in sizes that suit it."""

    canvas: Image.Image
    draw: ImageDraw.ImageDraw
    line: int
    letters: int

    @classmethod
    def of(cls, canvas: Image.Image) -> _Brush:
        longer = max(canvas.size)
        line = max(2, round(longer / 400))
        return cls(canvas, ImageDraw.Draw(canvas), line, min(32, max(11, longer // 64)))

    def box(self, corners: tuple[float, float, float, float], colour: Colour) -> None:
        self.draw.rectangle(corners, outline=colour, width=self.line)

    def label(self, corner: tuple[float, float], words: Sequence[str], colour: Colour) -> None:
        """Words on their class's colour, above ``corner`` where there is room, else below."""
        tiles = [_word(word, self.letters) for word in words]
        gap = self.letters // 4
        width = sum(tile.width + gap for tile in tiles) + 2 * self.line - gap + 2
        height = tiles[0].height + self.line
        left = max(0, min(round(corner[0]), self.canvas.width - width))
        above = round(corner[1]) - height
        below = max(0, min(round(corner[1]), self.canvas.height - height))
        top = above if above >= 0 else below
        self.draw.rectangle((left, top, left + width, top + height), fill=colour)
        left += self.line + 1
        for tile in tiles:
            self.canvas.paste(ink_on(colour), (left, top + self.line // 2 + 1), tile)
            left += tile.width + gap


@lru_cache(maxsize=1024)
def _word(text: str, letters: int) -> Image.Image:
    """A word as a mask, kept: labels and scores come again, and letters are slow to draw."""
    text = one_line(text)
    font = font_for(text, letters)
    # A line's height, whatever letters are in it, so that words stand on one line.
    room = ImageDraw.Draw(Image.new("L", (1, 1)))
    size = max(1, round(room.textlength(text, font=font))), round(letters * 1.25)
    tile = Image.new("L", size)
    draw = ImageDraw.Draw(tile)
    if isinstance(font, ImageFont.FreeTypeFont):
        draw.text((0, letters), text, fill=255, font=font, anchor="ls")
    else:  # a bitmap font has no anchors
        draw.text((0, 0), text, fill=255, font=font)
    return tile


def one_line(text: str) -> str:
    """Text as it can be drawn: without line breaks and control characters, not too long."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return flat if len(flat) <= 48 else flat[:20] + "..." + flat[-25:]


def font_for(text: str, size: int) -> Font:
    """A font that has the letters of a text, as far as this machine has one.

    Args:
        text: What is to be written.
        size: Height of the letters, in pixels.
    """
    return _font(size, _script(text))


def _script(text: str) -> str:
    if text.isascii():
        return "ascii"
    return "cjk" if any(char >= _CJK_START for char in text) else "other"


@lru_cache(maxsize=32)
def _font(size: int, script: str) -> Font:
    """A font for a script; Pillow's own where the system has none that fits."""
    names = {"ascii": (), "other": _FONTS, "cjk": (*_CJK_FONTS, *_FONTS)}[script]
    for name in names:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def encode_jpeg(
    image: Image.Image,
    max_side: int | None = MAX_SIDE,
    quality: int = 85,
    *,
    max_bytes: int | None = None,
) -> bytes:
    """A picture as JPEG.

    Args:
        image: Any mode; transparency is dropped.
        max_side: The longer side is shrunk to this; None keeps the size.
        quality: 1..95, as Pillow has it.
        max_bytes: Lower the quality, then the size, until the file is no longer than
            this; at least 2,000.

    Returns:
        A JPEG file.
    """
    picture = image.convert("RGB")
    if max_side is not None:
        picture = fitted(picture, max_side)
    data = _jpeg(picture, quality)
    while max_bytes is not None and len(data) > max_bytes and max(picture.size) > 16:
        if quality > 60:
            quality -= 15
        else:
            picture = fitted(picture, max(picture.size) * 2 // 3)
        data = _jpeg(picture, quality)
    return data


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """A picture as PNG: for charts, masks and pictures of few pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=image.width * image.height <= 65536)
    return buffer.getvalue()
