"""The answer to a gRPC request for inference, as the bytes of its message.

Written by hand, with raw contents for every output, since that is all that tritonclient
reads, and without a copy of them but the one that joins the message.

Source: Open Inference Protocol v2 (gRPC) with Triton's extensions; protobuf's encoding.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Any

import numpy as np

from nbmodel.protocol.datatypes import from_numpy
from nbmodel.protocol.inference import InferResponse
from nbmodel.protocol.raw import encode_raw
from nbmodel.protocol.tensor import datatype_of, to_tensor
from nbmodel.protocol.wire import key_of, varint

_MAX_INT64 = 2**63 - 1


def encode_response(response: InferResponse) -> bytes:
    """A ``ModelInferResponse``, every output as raw contents.

    An output in shared memory has raw contents of no bytes: clients count them.

    Raises:
        DatatypeError: An output holds what the protocol cannot carry.
    """
    return b"".join(_response_parts(response))


def encode_stream_response(response: InferResponse) -> bytes:
    """A ``ModelStreamInferResponse`` with an answer.

    Raises:
        DatatypeError: As ``encode_response``.
    """
    parts = _response_parts(response)
    size = sum(memoryview(part).nbytes for part in parts)
    return b"".join((b"\x12", varint(size), *parts))


def encode_stream_error(message: str, id_: str) -> bytes:
    """A ``ModelStreamInferResponse`` with an error.

    Args:
        message: What went wrong.
        id_: Of the request.
    """
    return _field(1, message.encode()) + _field(2, _field(3, id_.encode()) if id_ else b"")


def _response_parts(response: InferResponse) -> list[bytes | memoryview]:
    entries: list[bytes | memoryview] = []
    raws: list[bytes | memoryview] = []
    for name, given in response.outputs.items():
        form = _plain_output(name, given.dtype, given.shape)
        if form is not None and given.flags.c_contiguous:
            entries.append(form[0])
            raws += (form[1], given.data)
            continue
        what = f"output {name!r}"
        array = to_tensor(given, what=what)
        raw = encode_raw(array)
        entries.append(_output(name, datatype_of(array, what=what), array.shape))
        raws += (b"\x32", varint(len(raw)), raw)
    for name, tensor in response.shared_outputs.items():
        entries.append(_output(name, tensor.datatype, tensor.shape))
        raws.append(b"\x32\x00")
    head = [_named(response.model, response.version)]
    if response.id:
        head.append(_field(3, response.id.encode()))
    head += [
        _field(4, _field(1, name.encode()) + _field(2, _parameter(value)))
        for name, value in response.parameters.items()
    ]
    return [*head, *entries, *raws]


@lru_cache(maxsize=256)
def _named(model: str, version: str) -> bytes:
    return _field(1, model.encode()) + _field(2, version.encode())


@lru_cache(maxsize=1024)  # names, and the shapes of their batches
def _plain_output(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> tuple[bytes, bytes] | None:
    """An output's entry, and what comes before its raw contents.

    None where those are not the array's own bytes.
    """
    if dtype.kind not in "biuf" or not dtype.isnative:
        return None
    size = dtype.itemsize * math.prod(shape)
    return _output(name, from_numpy(dtype, what=f"output {name!r}"), shape), b"\x32" + varint(size)


def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(map(varint, shape))
    tensor = _field(1, name.encode()) + _field(2, datatype.encode())
    return _field(5, tensor + (_field(3, dims) if dims else b""))


def _parameter(value: object) -> bytes:
    """An ``InferParameter``."""
    if isinstance(value, bool):
        return b"\x08\x01" if value else b"\x08\x00"
    if isinstance(value, int):
        if value > _MAX_INT64:
            return b"\x28" + varint(value)
        return b"\x10" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    return _field(3, str(value).encode())


def _field(number: int, content: bytes) -> bytes:
    return key_of(number, len(content)) + content
