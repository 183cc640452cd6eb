"""Pictures as people have them, and as models take them.

Colours are RGB everywhere: an array from OpenCV is BGR and must be turned first
(``array[..., ::-1]``).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from nbmodel.core.signature import Normalization, Tensor, describe
from nbmodel.errors import DatatypeError, InputError, ShapeError, SignatureError

ImageLike: TypeAlias = "str | Path | bytes | Image.Image | NDArray[Any]"

# Below the size at which Pillow starts to warn of decompression bombs, above any
# ordinary camera's.
MAX_PIXELS = 80_000_000

_FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
_INTEGERS = {
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
}


def load_image(source: ImageLike) -> Image.Image:
    """The picture that ``source`` holds, upright, in mode RGB or L.

    Args:
        source: A path; the bytes of a picture file; a Pillow image; or an array
            [height, width], [height, width, 1], [height, width, 3] (RGB) or
            [height, width, 4] (RGBA) of ``uint8``, or of floats or booleans in 0..1.

    Returns:
        A loaded image: RGB, or L where the source is grey. A camera's orientation mark
        is applied, transparency dropped, 16-bit greys cut to their upper 8 bits.

    Raises:
        InputError: The file is missing or no picture, it has more than ``MAX_PIXELS``
            pixels, or an array's shape, datatype or range is none of the above.
    """
    if isinstance(source, Image.Image):
        return _upright(source, "the picture")
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), "the picture")
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.is_file():
            raise InputError(f"no such picture: {path}")
        try:
            with path.open("rb") as file:
                return _decode(file, str(path))
        except PermissionError as exc:
            raise InputError(f"cannot read {path}: {exc.strerror}") from exc
    raise InputError(
        f"cannot make a picture of {type(source).__name__}",
        hint="give a path, bytes, a Pillow image, or an RGB array",
    )


def _decode(file: Any, what: str) -> Image.Image:
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(file) as image:
            return _upright(image, what)
    except bombs as exc:
        raise InputError(f"{what} has more than {MAX_PIXELS:,} pixels") from exc
    except UnidentifiedImageError as exc:
        raise InputError(f"{what} is not a picture that Pillow reads") from exc
    except (OSError, SyntaxError, ValueError, EOFError) as exc:
        # Pillow's readers raise any of these for a damaged file.
        raise InputError(f"{what} is damaged: {exc}") from exc


def _upright(image: Image.Image, what: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(
            f"{what} is {image.width}×{image.height}: expected at most {MAX_PIXELS:,} pixels"
        )
    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("RGB", "L"):
        return turned
    if turned.mode.startswith("I") or turned.mode == "F":
        return _from_deep(np.asarray(turned), what)
    return turned.convert("L" if turned.mode in ("1", "LA", "La") else "RGB")


def _from_deep(values: NDArray[Any], what: str) -> Image.Image:
    """Greys of more than 8 bits, cut to 8."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(
            f"{what} has pixels of {values.dtype} in {values.min():g}..{values.max():g}",
            hint="scale it to uint8 first: (values * 255 / values.max()).astype('uint8')",
        )
    return Image.fromarray((values.astype(np.uint32) >> 8).astype(np.uint8))


def _from_array(array: NDArray[Any]) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (3, 4)) or not array.size:
        raise InputError(
            f"array of shape {list(shape)} is not a picture",
            hint="expected [height, width], [height, width, 3] or [height, width, 4], in RGB",
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(f"array of shape {list(shape)} has more than {MAX_PIXELS:,} pixels")
    pixels = _bytes_of(array)
    return Image.fromarray(np.ascontiguousarray(pixels if array.ndim == 2 else pixels[..., :3]))


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    pixels: NDArray[np.uint8]
    if array.dtype.kind == "b":
        pixels = array.astype(np.uint8) * np.uint8(255)
        return pixels
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        pixels = np.rint(array * 255).astype(np.uint8)
        return pixels
    raise InputError(
        f"pixels of {array.dtype} outside the expected range: integers in 0..255, floats in 0..1",
        hint="scale the array first, for example array / array.max()",
    )


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """Where a tensor has the axes of a picture.

    Attributes:
        batch: Whether there is a leading batch axis.
        channels: 3 for RGB, 1 for grey.
        axis: Of the channels in the *picture* (0 or 2), or None without a channel axis.
        height: Pixels, or −1 for any.
        width: Pixels, or −1 for any.
    """

    batch: bool
    channels: int
    axis: int | None
    height: int
    width: int


def image_layout(tensor: Tensor) -> ImageLayout | None:
    """How a tensor holds a picture, by its shape; None when it cannot hold one.

    ``[N,H,W,C]``, ``[N,C,H,W]``, ``[H,W,C]``, ``[C,H,W]``, ``[1,H,W]`` or ``[-1,H,W]``
    (a batch of greys) and ``[H,W]``, C being 1 or 3. Where both ends could be channels,
    3 is sooner a channel axis than 1, and the first sooner than the last, as in Viam.
    ``[-1,64]`` and ``[1,64]`` are rows of numbers, not pictures.
    """
    shape = tensor.shape
    if shape is None or tensor.datatype == "BYTES" or not 2 <= len(shape) <= 4:
        return None
    if len(shape) == 4:
        return _with_channels(shape[1:], batch=True)
    if len(shape) == 2:
        height, width = shape
        return ImageLayout(False, 1, None, height, width) if min(shape) > 1 else None
    if shape[0] in (1, -1) and shape[2] not in (1, 3):
        return ImageLayout(True, 1, None, shape[1], shape[2])
    return _with_channels(shape, batch=False)


def _with_channels(shape: tuple[int, ...], *, batch: bool) -> ImageLayout | None:
    for channels, axis in ((3, 0), (3, 2), (1, 2), (1, 0)):
        if shape[axis] == channels:
            height, width = shape[1:] if axis == 0 else shape[:2]
            return ImageLayout(batch, channels, axis, height, width)
    return None


def image_to_tensor(image: ImageLike, tensor: Tensor) -> NDArray[Any]:
    """The array that a model's input takes for one picture.

    Resized with a bilinear filter to the tensor's height and width (no letterbox; −1
    keeps the picture's own), grey (luminance) where the tensor has one channel or no
    channel axis. With pixels ``p`` in 0..255, by datatype:

    ========================  =======================================================
    UINT8 and wider integers  ``p``
    INT8                      ``p - 128``; with a normalisation and a quantisation
                              ``(p - mean) / std / scale + zero_point``, rounded
    FP16, FP32, FP64          ``(p - mean) / std`` with a normalisation, else ``p / 255``
    ========================  =======================================================

    Args:
        image: Whatever ``load_image`` takes.
        tensor: The input: shape, datatype, normalisation and quantisation count.

    Returns:
        A new array of the tensor's rank and datatype; a batch axis has length 1.

    Raises:
        InputError: As ``load_image``.
        ShapeError: The tensor's shape is not a picture's.
        DatatypeError: The tensor holds no numbers of the kinds above.
        SignatureError: The normalisation has neither one value nor one a channel.

    Source: the layouts are those of Viam's vision service ``mlmodel``; normalisation as
    in the TFLite metadata schema, ``NormalizationOptions``.
    """
    layout = image_layout(tensor)
    if layout is None:
        raise ShapeError(
            f"input {describe(tensor)} does not take a picture",
            hint="expected a shape like [1,H,W,3], [1,3,H,W], [1,H,W,1] or [H,W]; "
            "give an array instead",
        )
    pixels = _fitted(load_image(image), layout)
    values = _encoded(pixels, tensor)
    if layout.axis == 0:
        values = values.transpose(2, 0, 1)
    elif layout.axis is None:
        values = values[..., 0]
    return np.ascontiguousarray(values[np.newaxis] if layout.batch else values)


def _fitted(image: Image.Image, layout: ImageLayout) -> NDArray[np.uint8]:
    """Pixels [H, W, C] of the size that the layout asks for."""
    image = image.convert("RGB" if layout.channels == 3 else "L")
    width = image.width if layout.width < 0 else layout.width
    height = image.height if layout.height < 0 else layout.height
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, layout.channels)


def _encoded(pixels: NDArray[np.uint8], tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype in _FLOATS:
        return _normalized(pixels, tensor).astype(_FLOATS[tensor.datatype])
    if tensor.datatype in _INTEGERS:
        return pixels.astype(_INTEGERS[tensor.datatype])
    if tensor.datatype == "INT8":
        return _quantized(pixels, tensor)
    raise DatatypeError(
        f"input {describe(tensor)} does not take a picture",
        hint=f"expected one of {', '.join((*_INTEGERS, 'INT8', *_FLOATS))}",
    )


def _normalized(pixels: NDArray[np.uint8], tensor: Tensor) -> NDArray[np.float32]:
    if tensor.normalization is None:
        fractions: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
        return fractions
    mean, std = _per_channel(tensor.normalization, pixels.shape[-1], tensor)
    normal: NDArray[np.float32] = (pixels.astype(np.float32) - mean) / std
    return normal


def _per_channel(
    normalization: Normalization, channels: int, tensor: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = np.asarray(normalization.mean, np.float32)
    std = np.asarray(normalization.std, np.float32)
    if {mean.size, std.size} - {1, channels} or not np.all(std):
        raise SignatureError(
            f"normalisation of input {describe(tensor)} has {mean.size} means and {std.size} "
            f"deviations: expected 1 or {channels} of each, deviations not 0"
        )
    return mean, std


def _quantized(pixels: NDArray[np.uint8], tensor: Tensor) -> NDArray[np.int8]:
    if tensor.normalization is None or tensor.quantization is None:
        # Whatever real range a full-integer model was calibrated for, its int8 grid
        # spans the pixels' 0..255: (scale 1/255, zero -128), (1/127.5, -1), (1, -128).
        return (pixels.astype(np.int16) - 128).astype(np.int8)
    scale = np.float32(tensor.quantization.scale[0])
    steps = _normalized(pixels, tensor) / scale + tensor.quantization.zero_point[0]
    # Halves away from zero and saturated, as TFLite's quantiser does.
    rounded = np.trunc(steps + np.copysign(np.float32(0.5), steps))
    quantized: NDArray[np.int8] = np.clip(rounded, -128, 127).astype(np.int8)
    return quantized
