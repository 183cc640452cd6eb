"""How tensors travel between a runtime and the process of a Python model, over a Unix socket.

A message is the length of its head (4 bytes, little-endian), the head (JSON), and one after
another the bytes of the tensors that the head tells under ``tensors``. Texts of BYTES tensors
have their length before them, as in the Open Inference Protocol's binary form. No code travels:
there is no pickle.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DTYPES: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}
MAX_HEAD = 16 << 20  # bytes
MAX_TENSORS = 4 << 30  # bytes of all tensors of a message
_LENGTH = struct.Struct("<I")
_NAMES = {np.dtype(code): name for name, code in DTYPES.items()}


class WireError(Exception):
    """The other side has gone, or says what cannot be understood."""


def send(
    connection: socket.socket,
    head: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    deadline: float | None = None,
) -> None:
    """Send a message.

    Args:
        connection: A stream socket.
        head: JSON values.
        tensors: By name; BYTES as object arrays of ``bytes`` or texts.
        deadline: ``time.monotonic()`` seconds until it must be sent; None: any time.

    Raises:
        WireError: A tensor is of a kind that does not travel.
        TimeoutError: The deadline passed.
        OSError: The other side has gone.
    """
    told, parts = [], []
    for name, array in tensors.items():
        datatype, data = _encoded(name, array)
        parts.append(data)
        told.append({"name": name, "datatype": datatype, "shape": array.shape, "size": data.nbytes})
    text = json.dumps({**head, "tensors": told}).encode()
    whole: list[bytes | memoryview] = [_LENGTH.pack(len(text)) + text, *parts]
    for part in whole:
        _settle(connection, deadline)
        connection.sendall(part)


def receive(
    connection: socket.socket, deadline: float | None = None
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Receive a message: its head, and its tensors by name, which can be written to.

    Args:
        connection: A stream socket.
        deadline: ``time.monotonic()`` seconds until it must be here; None: any time.

    Raises:
        WireError: The other side has gone, or the message cannot be understood.
        TimeoutError: The deadline passed.
        OSError: The connection broke.
    """
    (length,) = _LENGTH.unpack(_read(connection, _LENGTH.size, deadline).data)
    if length > MAX_HEAD:
        raise WireError(f"a head of {length} bytes, expected at most {MAX_HEAD}")
    try:
        head = json.loads(_read(connection, length, deadline).tobytes())
        told = [
            (
                str(one["name"]),
                str(one["datatype"]),
                tuple(map(int, one["shape"])),
                int(one["size"]),
            )
            for one in head["tensors"]
        ]
    except (ValueError, KeyError, TypeError) as exc:
        raise WireError(f"a message that cannot be read: {exc}") from exc
    sizes = [size for *_, size in told]
    if any(size < 0 for size in sizes) or sum(sizes) > MAX_TENSORS:
        raise WireError(f"tensors of {sum(sizes)} bytes, expected at most {MAX_TENSORS}")
    tensors = {}
    for name, datatype, shape, size in told:
        tensors[name] = _decoded(name, datatype, shape, _read(connection, size, deadline))
    return head, tensors


def _encoded(name: str, array: NDArray[Any]) -> tuple[str, memoryview]:
    if array.dtype.kind in "OSU":
        return "BYTES", memoryview(encode_bytes(array))
    datatype = _NAMES.get(array.dtype.newbyteorder("="))
    if datatype is None:
        raise WireError(f"tensor {name!r} is an array of {array.dtype}, which does not travel")
    whole = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return datatype, whole.reshape(-1).view(np.uint8).data


def _decoded(
    name: str, datatype: str, shape: tuple[int, ...], data: NDArray[np.uint8]
) -> NDArray[Any]:
    if any(dimension < 0 for dimension in shape):
        raise WireError(f"tensor {name!r} has shape {list(shape)}")
    if datatype == "BYTES":
        flat = decode_bytes(data.data)
    elif datatype in DTYPES and data.nbytes % np.dtype(DTYPES[datatype]).itemsize == 0:
        flat = data.view(DTYPES[datatype])
    else:
        raise WireError(f"tensor {name!r} of {data.nbytes} bytes cannot be {datatype}")
    if flat.size != math.prod(shape):
        raise WireError(f"tensor {name!r} has {flat.size} elements, not those of {list(shape)}")
    return flat.reshape(shape)


def encode_bytes(array: NDArray[Any]) -> bytes:
    """Texts and bytes, each with its length (4 bytes, little-endian) before it."""
    parts = []
    for item in array.reshape(-1).tolist():
        data = item if isinstance(item, bytes) else str(item).encode()
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def decode_bytes(data: memoryview | bytes) -> NDArray[Any]:
    """What ``encode_bytes`` was given, as a flat object array of ``bytes``.

    Raises:
        WireError: It is cut short.
    """
    items, place, view = [], 0, memoryview(data)
    while place < len(view):
        if place + _LENGTH.size > len(view):
            raise WireError("a text is cut short")
        (length,) = _LENGTH.unpack_from(view, place)
        place += _LENGTH.size
        if place + length > len(view):
            raise WireError("a text is cut short")
        items.append(bytes(view[place : place + length]))
        place += length
    found = np.empty(len(items), dtype=object)
    found[:] = items
    return found


def _read(connection: socket.socket, size: int, deadline: float | None) -> NDArray[np.uint8]:
    data = np.empty(size, np.uint8)
    view = data.data
    while view:
        _settle(connection, deadline)
        count = connection.recv_into(view)
        if not count:
            raise WireError("the other side has gone")
        view = view[count:]
    return data


def _settle(connection: socket.socket, deadline: float | None) -> None:
    """Have the next call on a connection end by the deadline."""
    if deadline is not None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
