"""The bytes of a gRPC request for inference, read into a value.

Tensors never become protobuf objects: the bytes of a request are walked once, raw contents
stay where they lie, and only the small rest is parsed; most requests of a client have the
same rest, which is then not parsed again.

Source: Open Inference Protocol v2 (gRPC) with Triton's extensions; protobuf's encoding;
checks and texts follow Triton's ``infer_handler.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nbmodel.errors import DatatypeError, FormatError, ShapeError, TensorNameError
from nbmodel.protocol.datatypes import DATATYPE_TO_NUMPY, to_numpy
from nbmodel.protocol.inference import (
    InferRequest,
    Region,
    RequestedOutput,
    SharedTensor,
)
from nbmodel.protocol.messages import parse
from nbmodel.protocol.raw import decode_raw, reshape
from nbmodel.protocol.tensor import MAX_RANK

REQUEST = "inference.ModelInferRequest"
_MAX_INT64 = 2**63 - 1
_CACHED = 4096  # bytes of a rest that is worth remembering
_MAX_LAYOUTS = 256
_KEY = 32  # bytes: the model's name, mostly
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_ID = 3 << 3 | _BYTES
_RAW_INPUT = 7 << 3 | _BYTES
_TRITON_PARAMETER = "triton_enable_empty_final_response"
#: Datatype → the field that holds its elements. FP16 and BF16 have none.
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_CONTENT_DATATYPES = {
    "bool_contents": "BOOL",
    "int_contents": "INT32",
    "int64_contents": "INT64",
    "uint_contents": "UINT32",
    "uint64_contents": "UINT64",
    "fp32_contents": "FP32",
    "fp64_contents": "FP64",
    "bytes_contents": "BYTES",
}


def decode_request(data: bytes) -> InferRequest:
    """Read a ``ModelInferRequest``.

    Args:
        data: All of it.

    Returns:
        The request. Raw tensors are views of ``data`` where their alignment allows.

    Raises:
        FormatError: It is no such message, or contradicts itself.
        TensorNameError, DatatypeError, ShapeError: A tensor contradicts itself.
    """
    layout = _layouts.get((len(data), data[:_KEY]))
    if layout is not None and layout.is_of(data):
        return _request(layout.head, layout.id, layout.views(data), layout)
    rest, id_, raws = _split(data)
    head = _cached_head(rest) if len(rest) <= _CACHED else _head(rest)
    inputs = _inputs(head, data, raws)
    if len(rest) + len(id_) <= _CACHED:
        _keep_layout(head, id_, data, raws)
    return _request(head, id_, inputs)


def request_id(data: bytes) -> str:
    """The id of a ``ModelInferRequest``; empty when there is none to be found."""
    try:
        return _split(data)[1]
    except FormatError:
        return ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An input that is not in shared memory; ``contents`` as parsed, None when raw."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    contents: Any


@dataclass(frozen=True, slots=True)
class _Head:
    """What a request says besides its id and raw contents."""

    model: str
    version: str
    parameters: Mapping[str, Any]
    inputs: tuple[_Entry, ...]
    shared: Mapping[str, SharedTensor]
    outputs: tuple[RequestedOutput, ...]


def _request(
    head: _Head, id_: str, inputs: Mapping[str, NDArray[Any]], form: object = None
) -> InferRequest:
    return InferRequest(
        model=head.model,
        inputs=inputs,
        version=head.version,
        id=id_,
        outputs=head.outputs,
        binary_outputs=True,
        parameters=head.parameters,
        shared_inputs=head.shared,
        form=form,
    )


def _inputs(
    head: _Head, data: bytes, raws: Sequence[tuple[int, int]]
) -> Mapping[str, NDArray[Any]]:
    """The inputs that are not in shared memory."""
    view = memoryview(data)
    inputs: dict[str, NDArray[Any]] = {}
    index, count = 0, len(raws)
    for entry in head.inputs:
        if entry.contents is not None:
            if count:
                raise FormatError(
                    "contents field must not be specified when using raw_input_contents for "
                    f"{entry.name!r} for model {head.model!r}"
                )
            inputs[entry.name] = _from_contents(entry, head.model)
        elif index < count:
            start, stop = raws[index]
            inputs[entry.name] = decode_raw(
                entry.name, entry.datatype, entry.shape, view[start:stop]
            )
            index += 1
        else:
            raise FormatError(
                f"unable to find data for input tensor {entry.name!r} for model "
                f"{head.model!r} in request."
            )
    if index != count:
        raise FormatError(
            f"unexpected additional raw_input_contents for model {head.model!r}: expected "
            f"{index}, got {count}"
        )
    return inputs


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A request that was read: what another says that differs from it in tensors only.

    Attributes:
        head: What it says.
        id: Its id.
        between: What is before, between and behind its raw contents, each with its place.
        tensors: Of each input its name, dtype, elements, place and shape.
    """

    head: _Head
    id: str
    between: tuple[tuple[int, bytes], ...]
    tensors: tuple[tuple[str, np.dtype[Any], int, int, tuple[int, ...]], ...]

    def is_of(self, data: bytes) -> bool:
        """Whether a request of the same length is like this one."""
        for start, part in self.between:  # noqa: SIM110 # a generator costs more than it saves
            if not data.startswith(part, start):
                return False
        return True

    def views(self, data: bytes) -> Mapping[str, NDArray[Any]]:
        """The inputs of a request like this one."""
        inputs: dict[str, NDArray[Any]] = {}
        for name, dtype, count, start, shape in self.tensors:
            array = np.frombuffer(data, dtype, count, start)
            # Engines read through typed pointers, and not every CPU takes a misaligned one.
            inputs[name] = (array if array.flags.aligned else array.copy()).reshape(shape)
        return inputs


_layouts: dict[tuple[int, bytes], _Layout] = {}


def _keep_layout(head: _Head, id_: str, data: bytes, raws: Sequence[tuple[int, int]]) -> None:
    """Keep the layout of a good request for the next one; most clients send the same again.

    Where an input is more than the bytes of its elements, nothing is kept.
    """
    dtypes = [DATATYPE_TO_NUMPY.get(entry.datatype) for entry in head.inputs]
    plain = [dtype for dtype in dtypes if dtype is not None and dtype.kind in "iuf"]
    if not raws or len(plain) != len(raws) or any(start == stop for start, stop in raws):
        return
    begins = (0, *(stop for _, stop in raws))
    ends = (*(start for start, _ in raws), len(data))
    layout = _Layout(
        head,
        id_,
        tuple([(i, data[i:j]) for i, j in zip(begins, ends, strict=True) if i < j]),
        tuple(
            [
                (entry.name, dtype, (stop - start) // dtype.itemsize, start, entry.shape)
                for entry, dtype, (start, stop) in zip(head.inputs, plain, raws, strict=True)
            ]
        ),
    )
    if len(_layouts) >= _MAX_LAYOUTS:
        _layouts.clear()
    _layouts[len(data), data[:_KEY]] = layout


def _split(data: bytes) -> tuple[bytes, str, list[tuple[int, int]]]:
    """A request without id and raw contents, its id, and where its raw contents are."""
    position, end = 0, len(data)
    kept, begin = [], 0  # what is left over so far, and where what follows it begins
    raws: list[tuple[int, int]] = []
    id_ = ""
    try:
        while position < end:
            start = position
            tag = data[position]  # most numbers are of one byte, which costs no call
            position += 1
            if tag >= 0x80:
                tag, position = _read_varint(data, start)
            if tag & 7 == _BYTES:
                length = data[position]
                position += 1
                if length >= 0x80:
                    length, position = _read_varint(data, position - 1)
                stop = position + length
            else:
                stop = _skip(data, tag & 7, position)
            if stop > end:
                raise FormatError(f"the request is not a {REQUEST}: it is cut off")
            if tag in (_RAW_INPUT, _ID):
                kept.append(data[begin:start])
                begin = stop
                if tag == _RAW_INPUT:
                    raws.append((position, stop))
                else:
                    id_ = _text(data[position:stop])
            position = stop
    except IndexError as exc:
        raise FormatError(f"the request is not a {REQUEST}: it is cut off") from exc
    kept.append(data[begin:])
    return b"".join(kept), id_, raws


def _skip(data: bytes, wire_type: int, position: int) -> int:
    """Where a field ends that is not bytes."""
    if wire_type == _VARINT:
        return _read_varint(data, position)[1]
    if wire_type == _FIXED64:
        return position + 8
    if wire_type == _FIXED32:
        return position + 4
    raise FormatError(f"the request is not a {REQUEST}: wire type {wire_type}")


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise FormatError(f"the request is not a {REQUEST}: a number has no end")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as exc:
        raise FormatError(f"the request is not a {REQUEST}: its id is no text") from exc


def _head(rest: bytes) -> _Head:
    request = parse(REQUEST, rest)
    model: str = request.model_name
    inputs: list[_Entry] = []
    shared: dict[str, SharedTensor] = {}
    names: set[str] = set()
    for tensor in request.inputs:
        name, shape = tensor.name, _shape(tensor)
        if name in names:
            raise TensorNameError(f"input {name!r} already exists in request")
        names.add(name)
        region = _region(tensor)
        contents = tensor.contents if tensor.HasField("contents") else None
        if region is None:
            inputs.append(_Entry(name, tensor.datatype, shape, contents))
            continue
        if contents is not None:
            raise FormatError(
                "unexpected 'content' provided when using shared memory for input tensor "
                f"{name!r} for model {model!r}"
            )
        shared[name] = SharedTensor(tensor.datatype, shape, region)
    return _Head(
        model=model,
        version=request.model_version,
        parameters=_parameters(request),
        inputs=tuple(inputs),
        shared=shared,
        outputs=tuple([_requested(output) for output in request.outputs]),
    )


_cached_head = lru_cache(maxsize=256)(_head)


def _shape(tensor: Any) -> tuple[int, ...]:
    shape = tuple(tensor.shape)
    if len(shape) > MAX_RANK:
        raise ShapeError(
            f"input {tensor.name!r} has {len(shape)} dimensions, expected at most {MAX_RANK}"
        )
    for dim in shape:
        if dim < 0:
            raise ShapeError(
                f"Unable to parse 'shape' of input {tensor.name!r}: expected unsigned "
                f"integers, found {dim}"
            )
    if math.prod(shape) > _MAX_INT64:
        raise ShapeError(
            f"invalid shape for input {tensor.name!r}: shape {list(shape)} causes total "
            f"element count to exceed maximum size of {_MAX_INT64}"
        )
    return shape


def _choice(parameter: Any) -> tuple[str | None, Any]:
    """Which kind of value a parameter has, and the value."""
    kind = parameter.WhichOneof("parameter_choice")
    return kind, None if kind is None else getattr(parameter, kind)


#: Parameters with a meaning in the protocol → the kinds of value that they may have.
_RESERVED: Mapping[str, tuple[str, ...]] = {
    "sequence_id": ("int64_param", "string_param"),
    "sequence_start": ("bool_param",),
    "sequence_end": ("bool_param",),
    "priority": ("int64_param", "uint64_param"),
    "timeout": ("int64_param",),
    _TRITON_PARAMETER: ("bool_param",),
}


def _parameters(request: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, parameter in request.parameters.items():
        kind, value = _choice(parameter)
        expected = _RESERVED.get(name)
        if expected is not None and kind not in expected:
            raise FormatError(
                f"invalid value type for {name!r} parameter, expected {' or '.join(expected)}."
            )
        if kind is None:
            raise FormatError(
                f"invalid value type for {name!r} parameter, expected int64_param, bool_param, "
                "or string_param."
            )
        if name in ("priority", "timeout") and value < 0:
            raise FormatError(f"invalid value for {name!r}, expected value >= 0.")
        if name == _TRITON_PARAMETER:
            continue  # every answer here is a final one, and none is empty
        if name.startswith("triton_"):
            raise FormatError(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the "
                f"following keys starting with 'triton_' are allowed: {_TRITON_PARAMETER}"
            )
        parameters[name] = value
    return parameters


def _requested(output: Any) -> RequestedOutput:
    region = _region(output)
    classes = _integer(output, "classification")
    if classes is not None and classes <= 0:
        raise FormatError("invalid value for 'classification' parameter, expected >= 0")
    if classes is not None and region is not None:
        raise FormatError("output can't set both 'shared_memory_region' and 'classification'")
    return RequestedOutput(output.name, True, classification=classes or 0, region=region)


def _region(tensor: Any) -> Region | None:
    parameters = tensor.parameters
    if not parameters:
        return None
    offset = _integer(tensor, "shared_memory_offset")
    byte_size = _integer(tensor, "shared_memory_byte_size")
    if "shared_memory_region" not in parameters:
        for name, value in (
            ("shared_memory_offset", offset),
            ("shared_memory_byte_size", byte_size),
        ):
            if value is not None:
                raise FormatError(
                    f"{name!r} can not be specified without 'shared_memory_region' parameter "
                    f"for tensor {tensor.name!r}"
                )
        return None
    kind, region = _choice(parameters["shared_memory_region"])
    if kind != "string_param":
        raise FormatError(
            "invalid value type for 'shared_memory_region' parameter for tensor "
            f"{tensor.name!r}, expected string_param."
        )
    if byte_size is None:
        raise FormatError(
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' "
            f"parameter for tensor {tensor.name!r}"
        )
    if byte_size < 0 or (offset or 0) < 0:
        raise FormatError(
            f"shared memory of tensor {tensor.name!r}: expected an offset and a size >= 0, "
            f"found {offset or 0} and {byte_size}"
        )
    return Region(region, byte_size, offset or 0)


def _integer(tensor: Any, name: str) -> int | None:
    """A parameter of a tensor; None when there is none of that name."""
    if name not in tensor.parameters:
        return None
    kind, value = _choice(tensor.parameters[name])
    if kind != "int64_param":
        raise FormatError(
            f"invalid value type for {name!r} parameter for tensor {tensor.name!r}, expected "
            "int64_param."
        )
    number: int = value
    return number


def _from_contents(entry: _Entry, model: str) -> NDArray[Any]:
    what = f"explicit tensor data for input tensor {entry.name!r} for model {model!r}"
    dtype = to_numpy(entry.datatype)
    given = [field.name for field, _ in entry.contents.ListFields()]
    if len(given) > 1:
        raise FormatError(f"unexpected {what}, binary data was already supplied.")
    expected = _CONTENTS.get(entry.datatype)
    if given and given[0] != expected:
        raise FormatError(
            f"unexpected {what} of type {_CONTENT_DATATYPES[given[0]]!r}, expected datatype "
            f"{entry.datatype!r}"
        )
    values: Sequence[Any] = getattr(entry.contents, given[0]) if given else ()
    if len(values) != math.prod(entry.shape):
        raise ShapeError(
            f"unexpected {what}: shape {list(entry.shape)} has {math.prod(entry.shape)} "
            f"elements, got {len(values)}"
        )
    if dtype.kind == "O":
        flat: NDArray[Any] = np.empty(len(values), dtype=np.object_)
        flat[:] = values
        return reshape(flat, entry.shape, entry.name)
    if dtype.kind in "iu" and dtype.itemsize < 4 and values:
        limits = np.iinfo(dtype)
        for value in (min(values), max(values)):
            if not limits.min <= value <= limits.max:
                raise DatatypeError(f"unexpected {what}: {value} is no {entry.datatype}")
    return reshape(np.fromiter(values, dtype, len(values)), entry.shape, entry.name)
