"""One tensor ⇄ its bytes, as HTTP bodies, gRPC's raw contents and shared memory have them.

Little-endian and row-major, without padding; BOOL is one byte, an element of BYTES its
length in four bytes and then itself.

Source: Triton's binary tensor data extension; messages follow Triton's where it has one.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import FormatError, ShapeError
from nbmodel.protocol.datatypes import to_numpy

_LENGTH = struct.Struct("<I")


def decode_raw(name: str, datatype: str, shape: tuple[int, ...], data: memoryview) -> NDArray[Any]:
    """The tensor that bytes hold.

    Args:
        name: Of the tensor, for messages.
        datatype: OIP datatype.
        shape: Row-major, no variable dimension.
        data: All of its bytes.

    Returns:
        A view of ``data`` where its alignment allows, writable where ``data`` is; BYTES
        and BOOL are always new.

    Raises:
        DatatypeError: There is no such datatype.
        ShapeError: There are more or fewer bytes than the shape says.
        FormatError: An element of BYTES is cut off.
    """
    if datatype == "BYTES":
        return reshape(_elements(name, data, math.prod(shape)), shape, name)
    dtype = to_numpy(datatype)
    expected = math.prod(shape) * dtype.itemsize
    if expected != data.nbytes:
        raise ShapeError(
            f"byte size mismatch for tensor {name!r} of datatype {datatype} and shape "
            f"{list(shape)}. Expected {expected}, got {data.nbytes}"
        )
    if datatype == "BOOL":
        # Any byte but 0 is true on the wire; numpy's bool is undefined for all but 0 and 1.
        return reshape(np.frombuffer(data, dtype=np.uint8) != 0, shape, name)
    try:
        array: NDArray[Any] = np.ndarray(shape, dtype, data)
    except ValueError as exc:  # the size is right; numpy refuses [0, 2**62], for one
        raise _impossible(shape, name) from exc
    # Engines read through typed pointers, and not every CPU takes a misaligned one.
    return array if array.flags.aligned else array.copy()


def encode_raw(array: NDArray[Any]) -> bytes | memoryview:
    """The bytes of a tensor in the protocol's form (``to_tensor``); a view where it can be."""
    kind = array.dtype.kind
    if kind == "O":
        pack = _LENGTH.pack
        return b"".join([pack(len(item)) + item for item in array.reshape(-1)])
    if kind != "V" and array.size:  # what memoryview knows: neither BF16 nor nothing at all
        return array.data.cast("B")
    return array.reshape(-1).view(np.uint8).data


def reshape(array: NDArray[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """An array of the right count in its shape.

    Raises:
        ShapeError: numpy cannot have such a shape.
    """
    try:
        return array.reshape(shape)
    except ValueError as exc:
        raise _impossible(shape, name) from exc


def _impossible(shape: tuple[int, ...], name: str) -> ShapeError:
    return ShapeError(f"impossible shape {list(shape)} of {name}: numpy cannot have it")


def _elements(name: str, data: memoryview, count: int) -> NDArray[Any]:
    items: list[bytes] = []
    position, end = 0, data.nbytes
    content = bytes(data)  # slices of bytes are what the elements become anyway
    while position < end:
        if len(items) == count:
            raise ShapeError(f"expected {count} string elements for tensor {name!r}, got more")
        if end - position < _LENGTH.size:
            raise FormatError(
                f"incomplete string length indicator for tensor {name!r}, expecting "
                f"{_LENGTH.size} bytes but only {end - position} bytes available"
            )
        (length,) = _LENGTH.unpack_from(content, position)
        position += _LENGTH.size
        if end - position < length:
            raise FormatError(
                f"incomplete string data for tensor {name!r}, expecting string of length "
                f"{length} but only {end - position} bytes available"
            )
        items.append(content[position : position + length])
        position += length
    if len(items) != count:
        raise ShapeError(f"expected {count} string elements for tensor {name!r}, got {len(items)}")
    made = np.empty(count, dtype=np.object_)
    made[:] = items
    return made
