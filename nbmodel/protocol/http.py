"""Inference requests and answers ⇄ the bytes of an HTTP body: JSON and Triton's binary tensors.

Server and client use the same functions. What lives elsewhere: routes and statuses
(``nbmodel.runtime.oip``), sockets, compression, and whether a model takes the tensors
(``nbmodel.core.signature.check_inputs``).

A body is a JSON object, followed by the bytes of its binary tensors in their order; the
header ``Inference-Header-Content-Length`` says where the JSON ends. Tensors are
little-endian and row-major, as numpy has them on every platform nbmodel runs on. JSON
before binary tensors is padded with spaces to a multiple of eight bytes, so that the
receiver can use most tensors where they lie.

Source: Open Inference Protocol v2 (REST) and Triton's "Binary Tensor Data Extension";
messages follow Triton's ``http_server.cc`` where it has one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError, ShapeError
from nbmodel.protocol.datatypes import DATATYPE_TO_NUMPY, to_numpy
from nbmodel.protocol.inference import (
    InferRequest,
    InferResponse,
    Region,
    RequestedOutput,
    SharedTensor,
)
from nbmodel.protocol.json_head import (
    Entry,
    Head,
    parse_object,
    read_head,
    read_objects,
    read_parameters,
    read_string,
    read_tensors,
)
from nbmodel.protocol.json_tensor import from_json, to_json
from nbmodel.protocol.raw import decode_raw, encode_raw
from nbmodel.protocol.tensor import with_datatype

HEADER_LENGTH = "Inference-Header-Content-Length"
_SMALL = 4096  # bytes of JSON that are worth remembering
_ALIGNMENT = 8  # bytes; the size of the largest element
_dumps = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Body:
    """What to send.

    Attributes:
        parts: The bytes, in order; they may be views of the arrays that were encoded.
        header_length: Bytes of JSON before the binary tensors; None when all is JSON.
    """

    parts: tuple[bytes | memoryview, ...]
    header_length: int | None

    @property
    def headers(self) -> Mapping[str, str]:
        """Content type, and the length of the JSON where binary tensors follow it."""
        return _headers(self.header_length)

    def join(self) -> bytes:
        """All parts in one."""
        return b"".join(self.parts)


@lru_cache(maxsize=1024)  # lengths are few, and in every answer
def _headers(header_length: int | None) -> Mapping[str, str]:
    if header_length is None:
        return MappingProxyType({"Content-Type": "application/json"})
    return MappingProxyType(
        {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(header_length)}
    )


def encode_request(request: InferRequest) -> Body:
    """The body of a request, every input as binary.

    Raises:
        DatatypeError: An array holds what the protocol cannot carry.
    """
    head: dict[str, Any] = {"id": request.id} if request.id else {}
    parameters = dict(request.parameters)
    if request.binary_outputs:
        parameters["binary_data_output"] = True
    if parameters:
        head["parameters"] = parameters
    entries, parts = _encode_inputs(request.inputs)
    entries += [_encode_shared(name, tensor) for name, tensor in request.shared_inputs.items()]
    head["inputs"] = entries
    if request.outputs:
        head["outputs"] = [_encode_requested(output) for output in request.outputs]
    return _body(_dumps(head), parts)


def encode_response(response: InferResponse, request: InferRequest) -> Body:
    """The body of an answer, each output as the request wants it.

    NaN and infinities in JSON are written as Triton does: ``NaN``, ``Infinity``.

    Raises:
        DatatypeError: An output cannot be JSON and was not asked for as binary.
    """
    described = _described(response, request)
    if described is not None:
        tensors, parts = described
        return _binary_body(response, tensors, parts)
    head = f'{{"id":{_dumps(response.id)},' if response.id else "{"
    head += f'"model_name":{_quoted(response.model)},"model_version":{_quoted(response.version)},'
    if response.parameters:
        head += f'"parameters":{_dumps(dict(response.parameters))},'
    entries: list[str] = []
    parts = []
    for name in _order(response, request):
        if name in response.shared_outputs:
            shared = response.shared_outputs[name]
            entries.append(_opened(name, shared.datatype, shared.shape) + "}")
            continue
        entry, part = _encode_output_tensor(
            name, response.outputs[name], as_bytes=request.wants_binary(name)
        )
        entries.append(entry)
        if part is not None:
            parts.append(part)
    return _body(f'{head}"outputs":[{",".join(entries)}]}}', parts)


def decode_request(
    body: bytes | bytearray | memoryview,
    header_length: int | None,
    *,
    model: str,
    version: str = "",
) -> InferRequest:
    """Read the body of an inference request.

    Args:
        body: All of it.
        header_length: The value of ``Inference-Header-Content-Length``; None without one.
        model: Name from the path.
        version: Version from the path, or empty.

    Returns:
        The request. Binary tensors are views of ``body`` where their alignment allows.

    Raises:
        FormatError: The body is not the JSON the protocol says, nests deeper than
            ``MAX_DEPTH``, or is longer or shorter than its tensors.
        TensorNameError, DatatypeError, ShapeError: A tensor contradicts itself.
    """
    text, tail = _split(body, header_length)
    layout = _layout(text, tail.nbytes) if 0 < len(text) <= _SMALL and tail.nbytes else None
    if layout is None:
        head, form = read_head(text), None
        inputs = _arrays("input", head.tensors, tail, model)
    else:
        head, form = layout.head, layout
        inputs = layout.views(tail)
    return InferRequest(
        model,
        inputs,
        version,
        head.id,
        head.outputs,
        head.binary_outputs,
        head.parameters,
        head.shared,
        form,
    )


def decode_raw_request(
    body: bytes | bytearray | memoryview, signature: Signature, *, model: str, version: str = ""
) -> InferRequest:
    """Read a raw binary request: the whole body is the model's only input.

    An input of BYTES is one element, the body itself without a length before it. A variable
    leading dimension is 1 when another is variable too; the one dimension
    that is left variable follows from the size. All outputs are answered as binary.

    Raises:
        FormatError: The model does not have exactly one input, or the size of the body
            leaves its shape open.
        ShapeError: The body is not as long as the shape says.
    """
    if len(signature.inputs) != 1:
        raise FormatError(
            "Raw request must only have 1 input (found 1) to be deduced but got "
            f"{len(signature.inputs)} inputs in {model!r} model configuration"
        )
    tensor = signature.inputs[0]
    view = memoryview(body)
    shape = _raw_shape(tensor, view.nbytes)
    if tensor.datatype == "BYTES":
        array = np.empty(shape, dtype=np.object_)
        array.fill(view.tobytes())
    else:
        array = decode_raw(tensor.name, tensor.datatype, shape, view)
    return InferRequest(model, {tensor.name: array}, version=version, binary_outputs=True)


def decode_response(
    body: bytes | bytearray | memoryview, header_length: int | None
) -> InferResponse:
    """Read the body of an answer.

    Args:
        body: All of it; outputs are views of it where alignment allows, and writable
            where it is (hand over a ``bytearray`` to get writable arrays).
        header_length: The value of ``Inference-Header-Content-Length``; None without one.

    Raises:
        FormatError, TensorNameError, DatatypeError, ShapeError: The server does not
            answer as the protocol says.
    """
    text, tail = _split(body, header_length)
    data = parse_object(text, "response")
    model = read_string(data, "model_name", "the response")
    tensors, shared = read_tensors("output", read_objects(data, "outputs"), text)
    return InferResponse(
        model=model,
        version=read_string(data, "model_version", "the response"),
        outputs=_arrays("output", tensors, tail, model),
        id=read_string(data, "id", "the response"),
        parameters=read_parameters(data, "the response"),
        shared_outputs=shared,
    )


# --- writing ------------------------------------------------------------------------


def _body(head: str, parts: Sequence[bytes | memoryview]) -> Body:
    text = head.encode()
    if not any(map(len, parts)):
        return Body((text,), None)
    text += b" " * (-len(text) % _ALIGNMENT)
    return Body((text, *parts), len(text))


_Described = tuple[tuple[str, str, tuple[int, ...], int], ...]


def _described(
    response: InferResponse, request: InferRequest
) -> tuple[_Described, list[bytes | memoryview]] | None:
    """Name, datatype, shape and bytes of each output, and those bytes.

    None where the answer has more than an id and binary tensors with something in them.
    """
    if response.parameters or response.shared_outputs:
        return None
    if request.outputs:
        if not all(request.wants_binary(name) for name in response.outputs):
            return None
    elif not request.binary_outputs:
        return None
    tensors, parts, total = [], [], 0
    for name, given in response.outputs.items():
        array, datatype = with_datatype(given, what=f"output {name!r}")
        part = encode_raw(array)
        size = len(part)
        total += size
        parts.append(part)
        tensors.append((name, datatype, array.shape, size))
    return (tuple(tensors), parts) if total else None


def _binary_body(
    response: InferResponse, tensors: _Described, parts: Sequence[bytes | memoryview]
) -> Body:
    text = _binary_head(response.model, response.version, tensors)
    if response.id:
        text = f'{{"id":{_dumps(response.id)},'.encode() + text.rstrip(b" ")[1:]
        text += b" " * (-len(text) % _ALIGNMENT)
    return Body((text, *parts), len(text))


@lru_cache(maxsize=1024)  # most answers are like the one before
def _binary_head(model: str, version: str, tensors: _Described) -> bytes:
    entries = ",".join(
        f'{_opened(name, datatype, shape)},"parameters":{{"binary_data_size":{size}}}}}'
        for name, datatype, shape, size in tensors
    )
    text = (
        f'{{"model_name":{_quoted(model)},"model_version":{_quoted(version)},'
        f'"outputs":[{entries}]}}'
    ).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _encode_inputs(
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[list[dict[str, Any]], list[bytes | memoryview]]:
    entries: list[dict[str, Any]] = []
    parts: list[bytes | memoryview] = []
    for name, given in arrays.items():
        array, datatype = with_datatype(given, what=f"input {name!r}")
        part = encode_raw(array)
        entries.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(part)},
            }
        )
        parts.append(part)
    return entries, parts


def _encode_shared(name: str, tensor: SharedTensor) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": tensor.datatype,
        "shape": list(tensor.shape),
        "parameters": _encode_region(tensor.region),
    }


def _encode_requested(output: RequestedOutput) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if output.binary is not None:
        parameters["binary_data"] = output.binary
    if output.classification:
        parameters["classification"] = output.classification
    if output.region is not None:
        parameters |= _encode_region(output.region)
    return {"name": output.name, **({"parameters": parameters} if parameters else {})}


def _encode_region(region: Region) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "shared_memory_region": region.name,
        "shared_memory_byte_size": region.byte_size,
    }
    if region.offset:
        parameters["shared_memory_offset"] = region.offset
    return parameters


def _order(response: InferResponse, request: InferRequest) -> Iterable[str]:
    """Outputs as they were asked for; else as the model gives them."""
    if not response.shared_outputs:
        return response.outputs
    there = {**response.outputs, **response.shared_outputs}
    wanted = [output.name for output in request.outputs if output.name in there]
    return wanted or there


def _encode_output_tensor(
    name: str, given: NDArray[Any], *, as_bytes: bool
) -> tuple[str, bytes | memoryview | None]:
    what = f"output {name!r}"
    array, datatype = with_datatype(given, what=what)
    if as_bytes:
        part = encode_raw(array)
        size = f'"parameters":{{"binary_data_size":{len(part)}}}'
        return f"{_opened(name, datatype, array.shape)},{size}}}", part
    data = _dumps(to_json(what, datatype, array))
    return f'{_opened(name, datatype, array.shape)},"data":{data}}}', None


def _opened(name: str, datatype: str, shape: tuple[int, ...]) -> str:
    """The JSON of an output up to its data, its object still open."""
    dims = ",".join(map(str, shape))
    return f'{{"name":{_quoted(name)},"datatype":"{datatype}","shape":[{dims}]'


@lru_cache(maxsize=1024)  # names and versions: few, and in every answer
def _quoted(text: str) -> str:
    return _dumps(text)


# --- reading ------------------------------------------------------------------------


def _split(
    body: bytes | bytearray | memoryview, header_length: int | None
) -> tuple[bytes, memoryview]:
    view = memoryview(body)
    if header_length is None:
        header_length = view.nbytes
    if not 0 <= header_length <= view.nbytes:
        raise FormatError(
            f"inference header size should be in range (0, {view.nbytes}), got: {header_length}"
        )
    return bytes(view[:header_length]), view[header_length:]


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """Where the tensors of a request lie that says the same as one before."""

    head: Head
    tensors: tuple[tuple[str, tuple[int, ...], np.dtype[Any], int], ...]

    def views(self, tail: memoryview) -> dict[str, NDArray[Any]]:
        """The tensors, in what follows the JSON."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, shape, dtype, offset in self.tensors:
            array: NDArray[Any] = np.ndarray(shape, dtype, tail, offset)
            # Engines read through typed pointers, and not every CPU takes a misaligned one.
            arrays[name] = array if array.flags.aligned else array.copy()
        return arrays


@lru_cache(maxsize=256)
def _layout(text: bytes, size: int) -> _Layout | None:
    """The layout of a request of plain binary tensors; None for any other.

    Args:
        text: Its JSON.
        size: Bytes after that.

    Raises:
        FormatError, TensorNameError, ShapeError: As ``read_head``.
    """
    head = read_head(text)
    if head.shared or not head.tensors:
        return None
    tensors, offset = [], 0
    for entry in head.tensors:
        dtype = DATATYPE_TO_NUMPY.get(entry.datatype)
        if entry.size is None or dtype is None or dtype.kind in "bO":
            return None
        if entry.size != math.prod(entry.shape) * dtype.itemsize or not entry.size:
            return None
        tensors.append((entry.name, entry.shape, dtype, offset))
        offset += entry.size
    return _Layout(head, tuple(tensors)) if offset == size else None


def _arrays(
    kind: str, tensors: Iterable[Entry], tail: memoryview, model: str
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    start, end = 0, tail.nbytes
    for entry in tensors:
        size = entry.size
        if size is None:
            arrays[entry.name] = from_json(
                f"{kind} {entry.name!r}",
                entry.datatype,
                entry.shape,
                entry.data,
                may_be_infinite=entry.may_be_infinite,
            )
            continue
        if size > end - start:
            raise FormatError(
                f"unexpected size for {kind} {entry.name!r}, expecting {size - end + start} "
                f"additional bytes for model {model!r}"
            )
        arrays[entry.name] = decode_raw(
            entry.name, entry.datatype, entry.shape, tail[start : start + size]
        )
        start += size
    if start != end:
        raise FormatError(
            f"unexpected additional {kind} data for model {model!r}: {end - start} bytes"
        )
    return arrays


def _raw_shape(tensor: Tensor, size: int) -> tuple[int, ...]:
    if tensor.shape is None:
        raise FormatError(
            f"The shape of the raw input {tensor.name!r} can not be deduced because its number "
            "of dimensions is not known"
        )
    shape = list(tensor.shape)
    if shape.count(-1) > 1 and shape[0] == -1:
        shape[0] = 1
    if tensor.datatype == "BYTES":
        shape = [1 if dim == -1 else dim for dim in shape]
        if math.prod(shape) != 1:
            raise FormatError(
                f"For BYTE datatype raw input {tensor.name!r}, the model must have input shape "
                f"[1], found {list(tensor.shape)}"
            )
        return tuple(shape)
    if shape.count(-1) > 1:
        raise FormatError(
            f"The shape of the raw input {tensor.name!r} can not be deduced because there are "
            f"more than one variable-sized dimension: {list(tensor.shape)}"
        )
    if size == 0 and 0 not in shape:
        raise ShapeError(f"raw input {tensor.name!r} is empty, expected {list(tensor.shape)}")
    if -1 in shape:
        row = math.prod(dim for dim in shape if dim != -1) * to_numpy(tensor.datatype).itemsize
        shape[shape.index(-1)] = size // row if row else 0
    return tuple(shape)
