"""Viam's ML model messages: flat tensors to arrays and back, and what a model says of itself.

Rules only; calls, names of services and statuses are the runtime's. Tensors are read from
and written to the wire directly: what protobuf would turn into a Python float each stays
one block of memory.

A flat tensor is one of ten number types. Text, booleans and 16-bit floats are not among
them, so a tensor of those is refused by name.

Source: viamrobotics/api ``service/mlmodel/v1/mlmodel.proto``; ``viam/services/mlmodel/utils.py``
of the Python SDK and ``ml/ml.go`` of the rdk for 16-bit integers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import DatatypeError, FormatError, ShapeError
from nbmodel.protocol.tensor import MAX_RANK
from nbmodel.protocol.wire import BYTES, fields, fixed_list, key_of, text

MAX_NAME = 1024  # bytes of a tensor's or a service's name


@dataclass(frozen=True, slots=True)
class _Kind:
    """One member of the ``tensor`` oneof.

    Attributes:
        number: Of the field in ``FlatTensor``.
        dtype: Of the tensor.
        wire: Of one entry on the wire, little-endian; None: raw bytes.
    """

    number: int
    dtype: np.dtype[Any]
    wire: np.dtype[Any] | None


def _kind(number: int, dtype: str, wire: str | None) -> _Kind:
    return _Kind(number, np.dtype(dtype), None if wire is None else np.dtype(wire))


#: OIP datatype → how a flat tensor carries it.
_KINDS = {
    "INT8": _kind(2, "i1", None),
    "UINT8": _kind(3, "u1", None),
    "INT16": _kind(4, "<i2", "<u4"),
    "UINT16": _kind(5, "<u2", "<u4"),
    "INT32": _kind(6, "<i4", "<i4"),
    "UINT32": _kind(7, "<u4", "<u4"),
    "INT64": _kind(8, "<i8", "<i8"),
    "UINT64": _kind(9, "<u8", "<u8"),
    "FP32": _kind(10, "<f4", "<f4"),
    "FP64": _kind(11, "<f8", "<f8"),
}
_BY_NUMBER = {kind.number: kind for kind in _KINDS.values()}
_BY_DTYPE = {kind.dtype: kind for kind in _KINDS.values()}
#: OIP datatype → ``data_type`` of a TensorInfo, where it is not the datatype in lower case.
_WORDS = {
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
    "BYTES": "string",
}
#: Our model types → ``type`` of the metadata, where the proto has a word of its own.
_MODEL_TYPES = {
    "detection": "object_detector",
    "classification": "classifier",
    "multi_label_classification": "classifier",
}
_U8 = np.dtype("<u8")

Part: TypeAlias = "bytes | memoryview"


@dataclass(frozen=True, slots=True)
class ViamInferRequest:
    """One ``InferRequest``.

    Attributes:
        name: Of the service.
        inputs: Name → array; views of the message where alignment allows.
    """

    name: str
    inputs: Mapping[str, NDArray[Any]]


def decode_infer_request(data: bytes) -> ViamInferRequest:
    """Read a serialised ``InferRequest``; ``extra`` is not looked at.

    Raises:
        FormatError: It is no such message.
        DatatypeError, ShapeError: A tensor in it is not what it says; names the tensor.
    """
    name, inputs = "", dict[str, NDArray[Any]]()
    for number, kind, content in fields(memoryview(data), "InferRequest"):
        if kind != BYTES:
            continue
        if number == 1:
            name = _name(content, "the name in InferRequest")
        elif number == 3:
            inputs.update(decode_flat_tensors(content))
    return ViamInferRequest(name, inputs)


def encode_infer_response(outputs: Mapping[str, NDArray[Any]]) -> bytes:
    """A serialised ``InferResponse`` with these tensors.

    16-bit integers go one to a 32-bit entry, negative ones extended by their sign.

    Args:
        outputs: Name → array.

    Raises:
        DatatypeError: Flat tensors cannot carry one of them; names it.
    """
    return b"".join(_field(3, _flat_tensors(outputs)))


def decode_flat_tensors(data: memoryview) -> dict[str, NDArray[Any]]:
    """The inputs in a ``FlatTensors`` message, in its order.

    16-bit integers come one to a 32-bit entry, as every SDK sends them; also taken are two
    to an entry, low half first, as the comment in the proto has it, where the number of
    entries tells the two apart.

    Args:
        data: The message.

    Returns:
        Name → array; read-only views of ``data`` where alignment allows.

    Raises:
        FormatError: It is no such message.
        DatatypeError: A tensor has no data, or a 16-bit one an entry that is none.
        ShapeError: Shape and number of elements disagree.
    """
    tensors = {}
    for number, kind, entry in fields(data, "FlatTensors"):
        if number == 1 and kind == BYTES:
            name, content = _entry(entry)
            tensors[name] = _decode_tensor(content, f"input {name!r}")
    return tensors


def check_carried(signature: Signature, *, model: str) -> None:
    """Refuse a model with tensors that Viam's API cannot carry.

    Args:
        signature: Of the model.
        model: Its name, for the message.

    Raises:
        DatatypeError: At least one; all are named.
    """
    sides = (("input", signature.inputs), ("output", signature.outputs))
    foreign = [
        f"{side} {tensor.name!r} is {_word(tensor.datatype)}"
        for side, tensors in sides
        for tensor in tensors
        if tensor.datatype not in _KINDS
    ]
    if foreign:
        raise DatatypeError(
            f"model {model!r} cannot be run through Viam's API: {'; '.join(foreign)}, which "
            f"flat tensors cannot carry",
            hint="call it by the Open Inference Protocol, which carries every datatype",
        )


def named_as_model(
    inputs: Mapping[str, NDArray[Any]], signature: Signature
) -> Mapping[str, NDArray[Any]]:
    """The inputs under the model's own names, where there can be no doubt.

    A single tensor for a model with a single input is that input, whatever it is called:
    Viam's samples and vision service say ``image``, files say ``x`` or ``serving_default_…:0``.
    """
    if len(inputs) == 1 and len(signature.inputs) == 1:
        return {signature.inputs[0].name: next(iter(inputs.values()))}
    return inputs


def metadata(
    signature: Signature,
    *,
    name: str,
    model_type: str | None,
    description: str = "",
    label_path: str | None = None,
) -> dict[str, Any]:
    """A ``Metadata`` message as keyword arguments of its type.

    Tensors are in the model's own order. One that has labels says so with an associated
    file; ``extra.labels`` of every output is the path of the label file, from which Viam's
    vision service on the same machine reads it.

    Args:
        signature: Of the model.
        name: Of the service.
        model_type: One of ours, or None.
        description: Of the model.
        label_path: The label file on the runtime's machine, or None.
    """
    return {
        "name": name,
        "type": _MODEL_TYPES.get(model_type or "", model_type or ""),
        "description": description,
        "input_info": [_tensor_info(tensor, label_path, {}) for tensor in signature.inputs],
        "output_info": [
            _tensor_info(tensor, label_path, {"labels": label_path} if label_path else {})
            for tensor in signature.outputs
        ],
    }


def _tensor_info(
    tensor: Tensor, label_path: str | None, extra: Mapping[str, str]
) -> dict[str, Any]:
    info: dict[str, Any] = {
        "name": tensor.name,
        "description": tensor.description,
        "data_type": _word(tensor.datatype),
        # The field has 32 bits; what does not fit there is as good as unknown.
        "shape": [dim if dim < 2**31 else -1 for dim in tensor.shape or ()],
    }
    if tensor.labels:
        info["associated_files"] = [
            {
                "name": PurePath(label_path).name if label_path else "labels.txt",
                "description": f"names of the {len(tensor.labels)} classes, in index order",
                "label_type": 2 if tensor.label_kind == "axis" else 1,
            }
        ]
    if extra:
        info["extra"] = dict(extra)
    return info


def _word(datatype: str) -> str:
    return _WORDS.get(datatype, datatype.lower())


def _name(content: memoryview, what: str) -> str:
    if len(content) > MAX_NAME:
        raise FormatError(f"{what} has {len(content):,} bytes, expected at most {MAX_NAME:,}")
    return text(content, what)


def _entry(entry: memoryview) -> tuple[str, memoryview]:
    """Key and value of one entry of ``map<string, FlatTensor>``; either may be left out."""
    name, content = "", memoryview(b"")
    for number, kind, part in fields(entry, "FlatTensors.tensors"):
        if kind == BYTES and number == 1:
            name = _name(part, "the name of a tensor")
        elif kind == BYTES and number == 2:
            content = part
    return name, content


def _decode_tensor(content: memoryview, what: str) -> NDArray[Any]:
    found = None
    for number, kind, part in fields(content, what):
        if kind == BYTES and number in _BY_NUMBER:
            found = _BY_NUMBER[number], part  # of a oneof, the last one counts
    if found is None:
        raise DatatypeError(
            f"{what} has no data in any of the types that flat tensors carry: "
            f"expected one of {', '.join(map(_word, _KINDS))}"
        )
    shape = tuple(fixed_list(content, 1, _U8, what).tolist())
    if len(shape) > MAX_RANK:
        raise ShapeError(f"{what} has {len(shape)} dimensions, expected at most {MAX_RANK}")
    count = math.prod(shape)
    array = _elements(*found, count, what)
    if array.size != count:
        raise ShapeError(
            f"{what} has shape {list(shape)}, so {count:,} elements, found {array.size:,}"
        )
    # Engines read through typed pointers, and not every CPU takes a misaligned one.
    aligned = array if array.flags.aligned else array.copy()
    try:
        return aligned.reshape(shape)
    except (ValueError, OverflowError) as exc:  # nothing of it, by dimensions beyond any array
        raise ShapeError(f"{what} has a shape that no array has: {list(shape)}") from exc


def _elements(kind: _Kind, data: memoryview, count: int, what: str) -> NDArray[Any]:
    if kind.wire is None:
        content = memoryview(b"")
        for number, wire_type, part in fields(data, what):
            if number == 1 and wire_type == BYTES:
                content = part
        return np.frombuffer(content, kind.dtype)
    entries = fixed_list(data, 1, kind.wire, what)
    return (
        entries
        if kind.wire.itemsize == kind.dtype.itemsize
        else _narrow(entries, kind, count, what)
    )


def _narrow(entries: NDArray[Any], kind: _Kind, count: int, what: str) -> NDArray[Any]:
    """The 16-bit integers in 32-bit entries."""
    if entries.size != count and entries.size == (count + 1) // 2:
        return np.frombuffer(entries.tobytes(), kind.dtype)[:count]
    values = entries.astype(kind.dtype)
    # Encoders extend a negative number to 32 bits, or leave its upper half zero.
    extended = values.astype("<i4").view("<u4")
    wrong = (entries != extended) & (entries > 0xFFFF)
    if wrong.any():
        raise DatatypeError(
            f"{what} is {kind.dtype.name}, found the entry {int(entries[wrong][0]):,}, "
            f"which has more than 16 bits"
        )
    return values


def _flat_tensors(tensors: Mapping[str, NDArray[Any]]) -> list[Part]:
    parts: list[Part] = []
    for name, array in tensors.items():
        kind = _BY_DTYPE.get(array.dtype.newbyteorder("<"))
        if kind is None:
            raise DatatypeError(
                f"output {name!r} is {array.dtype.name}, which flat tensors cannot carry: "
                f"expected one of {', '.join(map(_word, _KINDS))}"
            )
        shape = np.array(array.shape, _U8).tobytes()
        tensor = _field(1, [shape]) if shape else []
        tensor += _field(kind.number, _field(1, [_bytes_of(array, kind)]) if array.size else [])
        parts += _field(1, [*_field(1, [name.encode()]), *_field(2, tensor)])
    return parts


def _bytes_of(array: NDArray[Any], kind: _Kind) -> memoryview:
    values = np.ascontiguousarray(array, kind.dtype)
    if kind.wire is not None and kind.wire.itemsize != kind.dtype.itemsize:
        values = values.astype("<i4")  # which extends the sign, as the SDKs do
    return values.reshape(-1).view(np.uint8).data


def _field(number: int, parts: list[Part]) -> list[Part]:
    """A length-delimited field, its content uncopied."""
    return [key_of(number, sum(map(len, parts))), *parts]
