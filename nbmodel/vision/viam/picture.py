"""Pictures as Viam sees them: decoded, flattened to RGB, and resized.

Source: viamrobotics/rdk ``rimage/image_file.go``; the resize is that of the Go module
``nfnt/resize``, ``Bilinear``, with its 8-bit weights.
"""

from __future__ import annotations

import io
import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nbmodel.errors import InputError

#: Of one picture: above any camera's frame, and 120 MB decoded.
MAX_PIXELS = 40_000_000
#: What is decoded; Pillow's rarer readers, some of which start programs, are left out.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")


_Level = TypeVar("_Level", np.uint8, np.uint16)


def read_picture(data: bytes | bytearray | memoryview) -> Image.Image:
    """The picture in the bytes of a file, as it is: not turned upright, alpha kept.

    An orientation mark is not followed, as in Viam: boxes are places in the picture as
    it was sent.

    Args:
        data: A file in one of ``FORMATS``.

    Returns:
        A loaded image.

    Raises:
        InputError: It is no such file, is damaged, or has more than ``MAX_PIXELS`` pixels.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(image)
        image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InputError(f"the picture has more than {MAX_PIXELS:,} pixels") from exc
    except UnidentifiedImageError as exc:
        raise InputError(
            "the image is not a picture that is read here", hint=f"send {', '.join(FORMATS)}"
        ) from exc
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as exc:
        # Pillow's readers raise any of these for a damaged file.
        raise InputError(f"the picture is damaged: {exc}") from exc
    return image


def pixels_of(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    """A picture's pixels in RGB, resized.

    Grey is spread over the three channels; transparency is laid over black, which is what
    Go's premultiplied colours come to. Pixels of more than 8 bits keep their upper 8 in the
    end. Bit for bit as Viam for PNG files; of JPEG files Viam resizes luminance and chroma
    before it turns them to RGB, and decoders differ, so that values are a level off there
    on average.

    Args:
        image: Of any mode.
        width: Of the result, ≥ 1.
        height: Of the result, ≥ 1.

    Returns:
        An array [height, width, 3].

    Raises:
        InputError: The picture has more than ``MAX_PIXELS`` pixels, or none.
    """
    _check_size(image)
    is_same = image.size == (width, height)
    levels = _flat(image, is_same=is_same)
    if not is_same:
        levels = resize(levels, width, height)
    pixels: NDArray[np.uint8] = levels if levels.dtype == np.uint8 else (levels >> 8).astype("u1")
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def resize(pixels: NDArray[_Level], width: int, height: int) -> NDArray[_Level]:
    """Pixels resized as Go's ``resize.Resize(width, height, …, resize.Bilinear)`` does.

    A triangle filter, widened when the picture shrinks; first along rows, then along
    columns; each time with weights cut to 1/256 (1/65536 for 16 bits) and values cut, not
    rounded, to whole levels. Pixels beyond an edge count as the edge's.

    Args:
        pixels: Of shape [H, W, C], of 8 or 16 bits.
        width: Of the result, ≥ 1.
        height: Of the result, ≥ 1.

    Returns:
        An array [height, width, C].
    """
    # Whole rows are gathered far faster than single pixels: each pass runs along axis 0.
    columns = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    rows = np.ascontiguousarray(_shrunk(columns, width).transpose(1, 0, 2))
    return _shrunk(rows, height)


def _shrunk(values: NDArray[_Level], size: int) -> NDArray[_Level]:
    """Values resized along their first axis."""
    one, wide = (256, np.int32) if values.dtype == np.uint8 else (65536, np.int64)
    starts, weights = _weights(len(values), size, one)
    total = np.zeros((size, *values.shape[1:]), wide)
    last = len(values) - 1
    column = (size, *(1,) * (values.ndim - 1))
    for tap in range(weights.shape[1]):
        weight = weights[:, tap]
        if weight.any():
            taken = values[np.clip(starts + tap, 0, last)]
            total += np.multiply(taken, weight.reshape(column), dtype=wide)
    total //= weights.sum(axis=1, dtype=wide).reshape(column)
    return total.astype(values.dtype)


def _weights(before: int, after: int, one: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each place of the result: where its taps start [after], and their weights [after, taps].

    Args:
        before: Length of the axis.
        after: Length of the axis of the result.
        one: What a weight of 1 is.
    """
    scale = before / after
    taps = 2 * max(math.ceil(scale), 1)
    middles = scale * (np.arange(after) + 0.5) - 0.5
    starts = np.trunc(middles).astype(np.int64) - taps // 2 + 1
    distances = (middles - starts)[:, np.newaxis] - np.arange(taps)
    triangle = 1 - np.abs(distances * min(1 / scale, 1.0))
    weights: NDArray[np.int32] = (np.maximum(triangle, 0) * one).astype(np.int32)
    return starts, weights


def _check_size(image: Image.Image) -> None:
    if not image.width or not image.height:
        raise InputError(f"the picture is {image.width}×{image.height}: it has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"the picture is {image.width}×{image.height}: expected at most {MAX_PIXELS:,} pixels"
        )


def _flat(image: Image.Image, *, is_same: bool) -> NDArray[Any]:
    """Pixels [H, W, 1] or [H, W, 3] without transparency, of as many bits as Go gives them."""
    if image.mode == "L":
        return np.asarray(image)[..., np.newaxis]
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(np.asarray(image))[..., np.newaxis]
    has_alpha = image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info
    if image.mode in ("P", "PA") and not is_same:
        # Colours of a palette are resized in Go's own 16 bits.
        return _premultiplied(np.asarray(image.convert("RGBA")))
    if has_alpha:
        pixels = np.asarray(image.convert("RGBA"))
        return _premultiplied(pixels) if is_same else _premultiplied_bytes(pixels)
    if image.mode == "1":
        return np.asarray(image.convert("L"))[..., np.newaxis]
    return np.asarray(image.convert("RGB"))


def _premultiplied(pixels: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """RGBA over black, in Go's 16 bits a colour."""
    colours, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
    over: NDArray[np.uint16] = (colours * 257 * alpha // 255).astype(np.uint16)
    return over


def _premultiplied_bytes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGBA over black as the resize of 8-bit pictures has it."""
    over = pixels[..., :3].astype(np.uint16) * pixels[..., 3:] // 255
    return over.astype(np.uint8)


def _deep(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Greys of 16 bits, or floats in 0..1 as such."""
    if values.dtype.kind == "f":
        values = np.clip(np.nan_to_num(values), 0, 1) * 0xFFFF
    levels: NDArray[np.uint16] = np.clip(values, 0, 0xFFFF).astype(np.uint16)
    return levels
