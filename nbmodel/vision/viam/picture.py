"""Pictures as Viam sees them: decoded, flattened to RGB, and resized.

Source: viamrobotics/rdk ``rimage/image_file.go``; the resize is that of the Go module
``nfnt/resize``, ``Bilinear``, with its 8-bit weights.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nbmodel.errors import InputError

#: Of one picture: above any camera's frame, and 120 MB decoded.
MAX_PIXELS = 40_000_000
#: What is decoded; Pillow's rarer readers, some of which start programs, are left out.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
_ONE = 256  # what a weight of 1 is


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
    Go's premultiplied colours come to. Pixels of more than 8 bits keep their upper 8. Bit
    for bit as Viam for opaque and transparent PNG files of 8 bits; of JPEG files Viam
    resizes luminance and chroma before it turns them to RGB, and decoders differ, so that
    values may differ by a few levels there.

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
    pixels = _flat(image, is_same=is_same)
    if not is_same:
        pixels = resize(pixels, width, height)
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def resize(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Pixels resized as Go's ``resize.Resize(width, height, …, resize.Bilinear)`` does.

    A triangle filter, widened when the picture shrinks; first along rows, then along
    columns; each time with weights cut to 1/256 and values cut, not rounded, to whole
    levels. Pixels beyond an edge count as the edge's.

    Args:
        pixels: Of shape [H, W, C].
        width: Of the result, ≥ 1.
        height: Of the result, ≥ 1.

    Returns:
        An array [height, width, C].
    """
    # Whole rows are gathered far faster than single pixels: each pass runs along axis 0.
    columns = np.ascontiguousarray(pixels.transpose(1, 0, 2))
    rows = np.ascontiguousarray(_shrunk(columns, width).transpose(1, 0, 2))
    return _shrunk(rows, height)


def _shrunk(values: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Values resized along their first axis."""
    starts, weights = _weights(len(values), size)
    total = np.zeros((size, *values.shape[1:]), np.int32)
    last = len(values) - 1
    column = (size, *(1,) * (values.ndim - 1))
    for tap in range(weights.shape[1]):
        weight = weights[:, tap]
        if weight.any():
            taken = values[np.clip(starts + tap, 0, last)]
            total += np.multiply(taken, weight.reshape(column), dtype=np.int32)
    total //= weights.sum(axis=1, dtype=np.int32).reshape(column)
    return total.astype(np.uint8)


def _weights(before: int, after: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """For each place of the result: where its taps start [after], and their weights [after, taps]."""
    scale = before / after
    taps = 2 * max(math.ceil(scale), 1)
    middles = scale * (np.arange(after) + 0.5) - 0.5
    starts = np.trunc(middles).astype(np.int64) - taps // 2 + 1
    distances = (middles - starts)[:, np.newaxis] - np.arange(taps)
    triangle = 1 - np.abs(distances * min(1 / scale, 1.0))
    weights = (np.maximum(triangle, 0) * _ONE).astype(np.int32)
    return starts, weights


def _check_size(image: Image.Image) -> None:
    if not image.width or not image.height:
        raise InputError(f"the picture is {image.width}×{image.height}: it has no pixels")
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"the picture is {image.width}×{image.height}: expected at most {MAX_PIXELS:,} pixels"
        )


def _flat(image: Image.Image, *, is_same: bool) -> NDArray[np.uint8]:
    """Pixels [H, W, 1] or [H, W, 3] without transparency."""
    if image.mode == "L":
        return np.asarray(image)[..., np.newaxis]
    if image.mode.startswith("I") or image.mode == "F":
        return _deep(np.asarray(image))[..., np.newaxis]
    if image.mode in ("RGBA", "LA", "La", "PA", "RGBa") or "transparency" in image.info:
        return _premultiplied(np.asarray(image.convert("RGBA")), is_same=is_same)
    if image.mode == "1":
        return np.asarray(image.convert("L"))[..., np.newaxis]
    return np.asarray(image.convert("RGB"))


def _premultiplied(pixels: NDArray[np.uint8], *, is_same: bool) -> NDArray[np.uint8]:
    """RGBA over black; Go's colour model has 16 bits, and its resize 8."""
    colours, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
    deep = colours * 257 * alpha // 255 if is_same else colours * alpha // 255 * 256
    over: NDArray[np.uint8] = (deep // 256).astype(np.uint8)
    return over


def _deep(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Greys of 16 bits, or of floats in 0..1, cut to 8 bits."""
    if values.dtype.kind == "f":
        values = np.clip(np.nan_to_num(values), 0, 1) * 0xFFFF
    levels: NDArray[np.uint8] = (np.clip(values, 0, 0xFFFF) // 256).astype(np.uint8)
    return levels
