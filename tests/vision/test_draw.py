"""Boxes are drawn where they are, readable, on a copy; pictures fit their bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nbmodel.vision.detect import Detection
from nbmodel.vision.draw import (
    COLOURS,
    class_colour,
    draw_boxes,
    encode_jpeg,
    encode_png,
    enlarged,
    fitted,
    ink_on,
)


def detection(index: int = 0, xyxy: tuple[float, ...] = (100, 100, 300, 200)) -> Detection:
    left, top, right, bottom = xyxy
    return Detection(f"class {index}", index, 0.5, (left, top, right, bottom))


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """WCAG 2.2 contrast ratio, 1..21."""

    def luminance(colour: tuple[int, ...]) -> float:
        values = [value / 255 for value in colour]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_labels_on_every_colour_read_well(colour: tuple[int, int, int]) -> None:
    assert contrast(colour, ink_on(colour)) >= 4.5  # WCAG level AA


def test_colours_of_neighbouring_classes_differ_and_stay() -> None:
    assert len(set(COLOURS)) == len(COLOURS)
    assert class_colour(3) == class_colour(3 + len(COLOURS))
    assert class_colour(-1) in COLOURS


def test_the_box_is_where_the_detection_says_and_the_original_is_untouched() -> None:
    image = Image.new("RGB", (400, 300))
    drawn = draw_boxes(image, [detection()])
    assert not np.asarray(image).any()
    pixels = np.asarray(drawn)
    for x, y in ((100, 150), (300, 150), (200, 200), (200, 100)):
        assert tuple(pixels[y, x]) == COLOURS[0]
    assert not pixels[150, 200].any(), "the inside stays"
    assert not pixels[250:].any()
    assert not pixels[:, 310:].any()


def test_boxes_shrink_with_the_picture() -> None:
    image = Image.new("RGB", (800, 600))
    drawn = draw_boxes(image, [detection(xyxy=(200, 200, 600, 400))], max_side=400)
    assert drawn.size == (400, 300)
    pixels = np.asarray(drawn)
    assert tuple(pixels[150, 100]) == COLOURS[0]
    assert tuple(pixels[150, 300]) == COLOURS[0]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (640, 3)], ids=str)
def test_any_picture_takes_any_box(mode: str, size: tuple[int, int]) -> None:
    image = Image.new(mode, size)
    hostile = Detection("a\nb\x1b[31m" * 40, 10**6, float("nan"), (-5.0, -5.0, 9e3, 9e3))
    drawn = draw_boxes(image, [hostile, detection(), detection(xyxy=(3, 3, 3, 3))])
    assert drawn.size == size
    assert drawn.mode == "RGB"


@pytest.mark.parametrize("label", ["é und ß", "кошка", "猫", "🐱", ""])
def test_labels_of_any_script_are_drawn(label: str) -> None:
    found = Detection(label, 1, 0.5, (10.0, 40.0, 90.0, 90.0))
    assert np.asarray(draw_boxes(Image.new("RGB", (100, 100)), [found])).any()


def test_jpeg_keeps_proportions_and_never_enlarges() -> None:
    image = Image.new("RGB", (1920, 1080))
    assert Image.open(io.BytesIO(encode_jpeg(image))).size == (960, 540)
    assert Image.open(io.BytesIO(encode_jpeg(image, None))).size == (1920, 1080)
    small = Image.new("RGBA", (20, 10))
    assert Image.open(io.BytesIO(encode_jpeg(small))).size == (20, 10)


@pytest.mark.parametrize("limit", [150_000, 20_000, 3_000])
def test_even_noise_fits_its_bytes(limit: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (540, 960, 3), np.uint8)
    assert len(encode_jpeg(Image.fromarray(noise), max_bytes=limit)) <= limit


def test_fifty_boxes_at_1080p_stay_below_200_kib() -> None:
    # A photograph's statistics: smooth areas with fine grain.
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (9, 16, 3), np.uint8))
    smooth = np.asarray(coarse.resize((1920, 1080), Image.Resampling.BICUBIC)).astype(np.int16)
    grain = random.integers(-12, 13, smooth.shape)
    image = Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))
    corners = random.uniform(0, 1, (50, 4)) * (1600, 900, 320, 180)
    found = [
        Detection(f"class {place}", place, 0.5, (x, y, x + w, y + h))
        for place, (x, y, w, h) in enumerate(corners.tolist())
    ]
    assert len(encode_jpeg(draw_boxes(image, found, max_side=960))) <= 200 * 1024


def test_small_pictures_are_enlarged_in_squares() -> None:
    digit = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2))
    big = enlarged(digit, 9)
    assert big.size == (8, 8)
    assert np.asarray(big)[:4, :4].max() == 0
    assert fitted(big, 100) is big


def test_png_is_lossless() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    decoded = Image.open(io.BytesIO(encode_png(Image.fromarray(noise))))
    assert np.array_equal(np.asarray(decoded), noise)
