"""Pictures are decoded, flattened and resized as Viam does it.

Digests and numbers come from a Go program: ``image.Decode``, ``resize.Resize`` of
``nfnt/resize`` with ``Bilinear``, and the upper bytes of ``At(x, y).RGBA()``.
"""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from nbmodel.errors import InputError
from nbmodel.vision.viam import picture
from nbmodel.vision.viam.picture import pixels_of, read_picture


def sample(mode: str, width: int, height: int) -> Image.Image:
    x, y, c = np.meshgrid(np.arange(width), np.arange(height), np.arange(4))
    levels = ((x * 37 + y * 91 + c * 53 + x * y % 7 * 11) % 256).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(levels[..., 0] % 8)
        image.putpalette([entry * 29 % 256 for entry in range(24)])
        return image
    if mode == "I;16":
        return Image.fromarray(levels[..., 0].astype(np.uint16) * 251)
    return Image.fromarray(levels[..., 0] if mode == "L" else levels[..., : len(mode)])


def file_of(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "size", "wanted", "digest"),
    [
        ("RGB", (7, 5), (3, 9), "dbc1bd6e011bee29"),
        ("RGB", (640, 480), (300, 300), "d13a63f9097a6935"),
        ("RGB", (33, 17), (33, 17), "8d6818909ff25ba0"),
        ("RGB", (300, 200), (17, 199), "c7d6c8f8e0888886"),
        ("RGBA", (7, 5), (3, 9), "09218332410c50e8"),
        ("RGBA", (640, 480), (300, 300), "c7bf37273b3557e9"),
        ("RGBA", (33, 17), (33, 17), "8b9bd7178df96316"),
        ("RGBA", (300, 200), (17, 199), "2a30b602f73d037f"),
        ("L", (7, 5), (3, 9), "717260b7cb00d73e"),
        ("L", (640, 480), (300, 300), "dbe3f91085f84bfe"),
        ("L", (33, 17), (33, 17), "e91a933f479dfcf2"),
        ("L", (300, 200), (17, 199), "7fc69619fc16af1e"),
        ("P", (7, 5), (3, 9), "9bb4e731d6617025"),
        ("P", (640, 480), (300, 300), "0dda58a9f6dcc3ea"),
        ("P", (33, 17), (33, 17), "cb560a3c570f027c"),
        ("P", (300, 200), (17, 199), "0f569acfd3302b9c"),
        ("I;16", (7, 5), (3, 9), "4b3b20cac54b7ae1"),
        ("I;16", (640, 480), (300, 300), "ce9bb8d91c566984"),
        ("I;16", (33, 17), (33, 17), "2b2a04d24321ef93"),
        ("I;16", (300, 200), (17, 199), "ed2afe6542c6190b"),
    ],
)
def test_a_png_has_the_pixels_that_it_has_in_viam(
    mode: str, size: tuple[int, int], wanted: tuple[int, int], digest: str
) -> None:
    image = read_picture(file_of(sample(mode, *size)))
    assert image.mode == mode
    pixels = pixels_of(image, *wanted)
    assert pixels.shape == (wanted[1], wanted[0], 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == digest


def test_values_are_cut_not_rounded_and_edges_repeated() -> None:
    image = sample("L", 4, 2)
    assert np.asarray(image).tolist() == [[0, 37, 74, 111], [91, 139, 187, 235]]
    expected = [[10, 55, 100], [56, 109, 160], [103, 163, 221]]
    assert pixels_of(image, 3, 3)[..., 1].tolist() == expected


def test_an_orientation_mark_is_not_followed() -> None:
    image, exif = Image.new("RGB", (8, 4)), Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    assert read_picture(file.getvalue()).size == (8, 4)


def test_floats_are_parts_of_white() -> None:
    image = Image.fromarray(np.array([[0, 0.5, 1, 7, np.nan]], np.float32))
    assert pixels_of(image, 5, 1)[0, :, 0].tolist() == [0, 127, 255, 255, 0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"", "not a picture that is read here", id="nothing"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture that is read here", id="EPS"),
        pytest.param(file_of(Image.new("L", (64, 64)))[:60], "damaged", id="cut off"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_picture(data)


def test_a_picture_that_is_too_large_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(picture, "MAX_PIXELS", 15)
    with pytest.raises(InputError, match=r"4×4: expected at most 15 pixels"):
        read_picture(file_of(Image.new("L", (4, 4))))
    with pytest.raises(InputError, match=r"4×4: expected at most 15 pixels"):
        pixels_of(Image.new("L", (4, 4)), 2, 2)


@pytest.mark.parametrize("side", [7_000, 10_000, 30_000], ids=["large", "a warning", "an error"])
def test_a_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(InputError, match="40,000,000 pixels"):
        read_picture(f"P6 {side} {side} 255\n".encode() + bytes(100))
